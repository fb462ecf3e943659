//! One transfer on the thread that plays it: does what [`Transfer`] says on a socket of its own.
//!
//! What is sent when is decided there; here are only the effects, the packets of strangers, and the steps for the timeline.
//! Nothing here waits.

use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockAddr;

use super::flight::Flight;
use super::options::Agreed;
use super::pages::{Bytes, Call, Presence};
use super::send::{self, Failure};
use super::transfer::{Action, End, Event, Transfer};
use super::wire::{self, Packet, code};
use crate::mac::Mac;
use crate::timeline::{Sent, Step, Timeline};

/// A session that waits for the disk is looked after this often.
const DISK: Duration = Duration::from_millis(20);

/// What all sessions have in common.
pub(super) struct Shared {
    pub(super) timeline: Timeline,
    /// The kernel cuts sends into packets; off once it has refused to.
    pub(super) segmenting: AtomicBool,
}

/// A client's port while it is served: by this a request that comes twice is known.
#[derive(Debug)]
pub(super) struct Claim {
    request: Vec<u8>,
    began: Instant,
    transfer: Mutex<Option<Transfer>>,
}

impl Claim {
    pub(super) fn new(request: &[u8]) -> Self {
        Self { request: request.to_vec(), began: Instant::now(), transfer: Mutex::new(None) }
    }

    /// The request.
    pub(super) fn request(&self) -> &[u8] {
        &self.request
    }

    /// Since it came.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether a request from the same port is the one that is being served.
    pub(super) fn owns(&self, request: &[u8]) -> bool {
        let same = self.request == request;
        self.transfer().as_ref().map_or(same, |transfer| transfer.owns(same, self.age()))
    }

    /// Whether its client has answered.
    pub(super) fn heard(&self) -> bool {
        self.ask(Transfer::heard)
    }

    /// When its client said last that it has something new, or asked.
    pub(super) fn heard_at(&self) -> Instant {
        self.began + self.ask(Transfer::progress_at)
    }

    /// Begins the transfer; what is to be done first.
    pub(super) fn begin(&self, agreed: &Agreed, size: u64) -> Action {
        let (transfer, first) = Transfer::begin(agreed, size, self.age());
        *self.transfer() = Some(transfer);
        first
    }

    fn on(&self, event: &Event) -> Action {
        self.transfer().as_mut().map_or(Action::Nothing, |transfer| transfer.on(event, self.age()))
    }

    /// What was to be sent is sent only now.
    fn postpone(&self) {
        if let Some(transfer) = self.transfer().as_mut() {
            transfer.postpone(self.age());
        }
    }

    fn ask<T: Default>(&self, question: impl FnOnce(&Transfer) -> T) -> T {
        self.transfer().as_ref().map(question).unwrap_or_default()
    }

    fn transfer(&self) -> MutexGuard<'_, Option<Transfer>> {
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be played.
#[derive(Debug)]
pub(super) struct Job {
    /// No other ever had it.
    pub(super) id: u64,
    pub(super) claim: Arc<Claim>,
    /// The machine, if it is known.
    pub(super) mac: Option<Mac>,
    pub(super) peer: SocketAddr,
    pub(super) socket: Arc<UdpSocket>,
    /// It is this client's alone. Else what comes for it is handed over.
    pub(super) own_socket: bool,
    /// The file, as it can stand in a log.
    pub(super) file: String,
    pub(super) agreed: Agreed,
    pub(super) bytes: Bytes,
    /// What is done first.
    pub(super) first: Action,
}

/// A session.
pub(super) struct Session {
    job: Job,
    to: SockAddr,
    started: bool,
    /// Blocks that are to be sent as soon as they can be read.
    waiting: Option<Range<u64>>,
    /// Blocks of a window that are to be sent a moment after the others, and when.
    rest: Option<(Instant, Range<u64>)>,
    /// A window that waits until others have arrived.
    held: Option<Range<u64>>,
    /// Bytes of the window that is on its way.
    flying: u64,
}

/// What a session needs of the thread that it is on: how to have something done that waits for a disk.
pub(super) struct Ways<'t> {
    pub(super) shared: &'t Shared,
    /// Runs it elsewhere.
    pub(super) spawn: &'t dyn Fn(Call),
    /// Makes the thread look at this session again.
    pub(super) call: &'t dyn Fn(u64) -> Call,
    /// Tells that this session's client has answered.
    pub(super) heard: &'t dyn Fn(u64),
    /// What is on its way.
    pub(super) flight: &'t RefCell<Flight>,
}

/// A session goes on.
pub(super) type GoesOn = bool;

impl Session {
    /// Begins it: sends what is first.
    pub(super) fn begin(mut job: Job, ways: &Ways<'_>) -> Option<Self> {
        let (to, first) = (SockAddr::from(job.peer), std::mem::replace(&mut job.first, Action::Nothing));
        let mut session = Self { job, to, started: false, waiting: None, rest: None, held: None, flying: 0 };
        if session.act(first, ways) {
            return Some(session);
        }
        session.land(ways);
        None
    }

    pub(super) fn job(&self) -> &Job {
        &self.job
    }

    /// When it wants to be asked for the time.
    pub(super) fn deadline(&self) -> Instant {
        let deadline = self.job.claim.began + self.job.claim.ask(Transfer::deadline);
        match &self.rest {
            // While it is the disk or other clients that are waited for this one is not to blame.
            _ if self.waiting.is_some() || self.held.is_some() => deadline.max(Instant::now() + DISK),
            Some((at, _)) => deadline.min(*at),
            None => deadline,
        }
    }

    /// A packet has come.
    pub(super) fn packet(&mut self, from: SocketAddr, packet: &[u8], ways: &Ways<'_>) -> GoesOn {
        let timeline = &ways.shared.timeline;
        let parsed = wire::parse(packet);
        if from != self.job.peer {
            timeline.count("tftp", "wrong-port");
            // An ERROR is never answered: two servers would talk for ever.
            if !matches!(parsed, Ok(Packet::Error { .. })) {
                let error = Packet::Error { code: code::UNKNOWN_TID, text: "not your transfer".to_owned() };
                let _ = send::packet(&self.job.socket, from, &error.encode());
            }
            return true;
        }
        let event = match parsed {
            Ok(Packet::Ack(block)) => Event::Ack(block),
            Ok(Packet::Error { code, text }) => Event::Error { code, text },
            Ok(_) => {
                timeline.count("tftp", "stray");
                return true;
            }
            Err(reason) => {
                timeline.count("tftp", reason.name());
                return true;
            }
        };
        self.event(&event, ways)
    }

    /// Time has passed.
    pub(super) fn time(&mut self, ways: &Ways<'_>) -> GoesOn {
        match self.rest.take() {
            Some((_, blocks)) => self.send(blocks, ways),
            None => self.event(&Event::Timeout, ways),
        }
    }

    /// Something that it waited for may be there.
    pub(super) fn look(&mut self, ways: &Ways<'_>) -> GoesOn {
        let Some(blocks) = self.waiting.take() else { return true };
        self.job.claim.postpone();
        self.send(blocks, ways)
    }

    /// The bytes of the window that waits until others have arrived.
    pub(super) fn held(&self) -> Option<u64> {
        self.held.as_ref().map(|blocks| self.size(blocks))
    }

    /// Others have arrived: what was held is counted as on its way and leaves.
    pub(super) fn leave(&mut self, ways: &Ways<'_>) -> GoesOn {
        let Some(blocks) = self.held.take() else { return true };
        self.flying = self.size(&blocks);
        self.job.claim.postpone();
        self.send(blocks, ways)
    }

    /// What was on its way is not any more.
    pub(super) fn land(&mut self, ways: &Ways<'_>) {
        ways.flight.borrow_mut().land(std::mem::take(&mut self.flying));
    }

    /// Ends it in favour of another. Somebody who never answered may not know that he asked, and is told nothing.
    pub(super) fn give_way(&self, why: &str, shared: &Shared) {
        if self.job.claim.heard() {
            return self.end(why, shared);
        }
        failed(&self.job, why.to_owned(), shared);
    }

    /// Ends it, with an ERROR to the client.
    pub(super) fn end(&self, why: &str, shared: &Shared) {
        send_error(&self.job, why);
        let why = format!("{why}, at block {}", self.job.claim.ask(Transfer::block));
        failed(&self.job, why, shared);
    }

    /// Ends what cannot begin, with an ERROR to the client.
    pub(super) fn refuse(job: &Job, why: &str, shared: &Shared) {
        send_error(job, why);
        failed(job, why.to_owned(), shared);
    }

    fn event(&mut self, event: &Event, ways: &Ways<'_>) -> GoesOn {
        let action = self.job.claim.on(event);
        if !self.started && self.job.claim.ask(Transfer::heard) {
            self.started = true;
            (ways.heard)(self.job.id);
            let Job { peer, ref file, ref bytes, ref agreed, .. } = self.job;
            let Agreed { blksize, windowsize, .. } = *agreed;
            let (file, size) = (file.clone(), bytes.size());
            ways.shared.timeline.record(&Step::TftpStart { peer, file, size, blksize, windowsize });
        }
        self.act(action, ways)
    }

    fn act(&mut self, action: Action, ways: &Ways<'_>) -> GoesOn {
        match action {
            Action::Nothing => true,
            Action::Oack => {
                let options = &self.job.agreed.oack;
                let options = options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let sent = send::packet(&self.job.socket, self.job.peer, &Packet::Oack(options).encode());
                self.sent(sent.map_err(Failure::Io), ways.shared)
            }
            Action::Send(blocks) => self.window(blocks, ways),
            Action::End(end) => {
                self.ended(end, ways.shared);
                false
            }
        }
    }

    /// A new window, or one again: what was on its way before has arrived or is lost.
    fn window(&mut self, blocks: Range<u64>, ways: &Ways<'_>) -> GoesOn {
        self.land(ways);
        let bytes = self.size(&blocks);
        if !ways.flight.borrow_mut().leave(self.job.id, bytes) {
            (self.held, self.waiting, self.rest) = (Some(blocks), None, None);
            return true;
        }
        (self.held, self.flying) = (None, bytes);
        self.send(blocks, ways)
    }

    /// The bytes of these blocks, were they full.
    fn size(&self, blocks: &Range<u64>) -> u64 {
        blocks.end.saturating_sub(blocks.start).saturating_mul(self.job.agreed.blksize.into())
    }

    fn send(&mut self, mut blocks: Range<u64>, ways: &Ways<'_>) -> GoesOn {
        (self.waiting, self.rest) = (None, None);
        let (burst, pause) = self.job.claim.ask(|transfer| (transfer.burst(), transfer.pause()));
        let end = blocks.start.saturating_add(burst.max(1));
        if end < blocks.end && !pause.is_zero() {
            self.rest = Some((Instant::now() + pause, end..blocks.end));
            blocks.end = end;
        }
        let Job { id, ref bytes, ref agreed, ref socket, .. } = self.job;
        let blksize = agreed.blksize;
        let place = |block: u64| block.saturating_mul(blksize.into());
        let (at, end) = (place(blocks.start.saturating_sub(1)), place(blocks.end.saturating_sub(1)));
        match bytes.presence(at, end.min(bytes.size()), ways.spawn, || (ways.call)(id)) {
            Presence::Here => {}
            Presence::Later => {
                // With what was to come later: then it is late enough.
                let end = self.rest.take().map_or(blocks.end, |(_, rest)| rest.end);
                self.waiting = Some(blocks.start..end);
                return true;
            }
            Presence::Failed => return self.sent(Err(Failure::Unreadable), ways.shared),
        }
        // The last one makes the client believe that it has the file.
        if end > bytes.size() && bytes.changed().is_some() {
            return self.sent(Err(Failure::Unreadable), ways.shared);
        }
        let mut next = blocks.start;
        while next < blocks.end {
            let cuts = ways.shared.segmenting.load(Ordering::Relaxed);
            let most = if cuts { send::per_send(blksize) } else { 1 };
            let part = next..next.saturating_add(most).min(blocks.end);
            let end = part.end;
            match send::blocks(socket, &self.to, bytes, blksize, agreed.rollover, part) {
                Err(Failure::Whole(error)) => {
                    tracing::info!(%error, "the kernel does not cut TFTP windows into packets here: sending one by one");
                    ways.shared.segmenting.store(false, Ordering::Relaxed);
                }
                Ok(()) => next = end,
                failed => return self.sent(failed, ways.shared),
            }
        }
        true
    }

    /// A packet that could not be sent for want of memory is a lost packet: it is sent again when its time is up.
    fn sent(&self, result: Result<(), Failure>, shared: &Shared) -> GoesOn {
        let why = match result {
            Ok(()) => return true,
            Err(Failure::Io(error) | Failure::Whole(error)) if send::passing(&error) => {
                shared.timeline.count("tftp", "send-dropped");
                return true;
            }
            Err(Failure::Io(error) | Failure::Whole(error)) => format!("cannot send: {error}"),
            Err(Failure::Unreadable) => {
                format!("cannot read: {}", self.job.bytes.changed().unwrap_or("its disk failed"))
            }
        };
        self.end(&why, shared);
        false
    }

    fn ended(&self, end: End, shared: &Shared) {
        let Job { peer, ref file, ref bytes, ref claim, .. } = self.job;
        let (file, size) = (file.clone(), bytes.size());
        match end {
            End::Done => {
                let sent = Sent { bytes: size, ..sent(&self.job) };
                shared.timeline.record(&Step::TftpDone { peer, file, sent });
            }
            End::Probe => {
                shared.timeline.count("tftp", "size-probe");
                tracing::debug!(%peer, file, size, "TFTP size probe");
            }
            End::Refused(why) => failed(&self.job, why, shared),
            End::Silent { block, retries } => {
                // Somebody who never answered may not know that he asked.
                if claim.ask(Transfer::heard) {
                    send_error(&self.job, "no acknowledgement for too long");
                }
                failed(&self.job, format!("no ACK of block {block} after {retries} retries"), shared);
            }
        }
    }
}

fn failed(job: &Job, why: String, shared: &Shared) {
    let (peer, file, sent) = (job.peer, job.file.clone(), Some(sent(job)));
    shared.timeline.record(&Step::TftpFailed { peer, file, why, sent });
}

fn sent(job: &Job) -> Sent {
    let Job { mac, ref claim, ref agreed, .. } = *job;
    let Agreed { blksize, windowsize, .. } = *agreed;
    let acked = claim.ask(Transfer::block).saturating_sub(1).saturating_mul(blksize.into());
    let bytes = acked.min(job.bytes.size());
    let (resent, took) = (claim.ask(Transfer::resent), claim.age());
    Sent { mac, bytes, blksize, windowsize, resent, took }
}

fn send_error(job: &Job, text: &str) {
    let packet = Packet::Error { code: code::UNDEFINED, text: text.to_owned() }.encode();
    if let Err(error) = send::packet(&job.socket, job.peer, &packet) {
        tracing::debug!(%error, peer = %job.peer, "an ERROR could not be sent");
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
