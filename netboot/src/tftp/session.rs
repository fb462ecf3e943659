//! One request played to its end: opens the file, agrees on options, does what [`Transfer`] says on a socket of its own.
//!
//! What is sent when is decided there; here are only the effects, the packets of strangers, and the steps for the timeline.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::blocks::Blocks;
use super::engine::Socket;
use super::files::{Content, Files};
use super::options::{Agreed, Limits, negotiate};
use super::transfer::{Action, End, Event, Transfer};
use super::wire::{self, Packet, Request, code};
use crate::beneath::Refused;
use crate::timeline::{Step, Timeline};

/// Room for a packet of a client: an ACK or an ERROR.
const PACKET: usize = 1024;

/// What all sessions of a server have in common.
pub(super) struct Shared {
    pub(super) files: Files,
    pub(super) limits: Limits,
    pub(super) timeline: Timeline,
    /// The server's address: clients take DATA from no other.
    pub(super) addr: IpAddr,
    pub(super) stop: CancellationToken,
    /// The kernel cuts sends into packets; off once it has refused to.
    pub(super) segmenting: Cell<bool>,
}

/// A client's port while it is served: by this a request that comes twice is known.
pub(super) struct Claim {
    request: Vec<u8>,
    began: Instant,
    transfer: RefCell<Option<Transfer>>,
    replaced: CancellationToken,
}

impl Claim {
    pub(super) fn new(request: &[u8]) -> Self {
        let (transfer, replaced) = (RefCell::new(None), CancellationToken::new());
        Self { request: request.to_vec(), began: Instant::now(), transfer, replaced }
    }

    /// Whether a request from the same port is the one that is being served.
    pub(super) fn owns(&self, request: &[u8]) -> bool {
        let same = self.request == request;
        self.transfer.borrow().as_ref().map_or(same, |transfer| transfer.owns(same, self.began.elapsed()))
    }

    /// Ends it in favour of another request.
    pub(super) fn replace(&self) {
        self.replaced.cancel();
    }

    fn on(&self, event: &Event) -> Action {
        let mut transfer = self.transfer.borrow_mut();
        transfer.as_mut().map_or(Action::Nothing, |transfer| transfer.on(event, self.began.elapsed()))
    }

    fn ask<T: Default>(&self, question: impl FnOnce(&Transfer) -> T) -> T {
        self.transfer.borrow().as_ref().map(question).unwrap_or_default()
    }
}

/// A session of one client.
pub(super) struct Session {
    pub(super) shared: Rc<Shared>,
    pub(super) claim: Rc<Claim>,
    pub(super) peer: SocketAddr,
}

impl Session {
    /// Plays the request to its end.
    pub(super) async fn play<S: Socket>(self) {
        let Ok(Packet::Read(request)) = wire::parse(&self.claim.request) else { return };
        if let Err(why) = self.serve::<S>(&request).await {
            self.record_failure(&request, why);
        }
    }

    fn record_failure(&self, request: &Request<'_>, why: String) {
        self.shared.timeline.record(&Step::TftpFailed { peer: self.peer, file: shown(request.name), why });
    }

    async fn serve<S: Socket>(&self, request: &Request<'_>) -> Result<(), String> {
        let socket = UdpSocket::bind((self.shared.addr, 0)).and_then(S::adopt);
        let socket = socket.map_err(|error| format!("no socket for it: {error}"))?;
        let content = match self.open(request.name).await {
            Ok(content) => content,
            Err(why) => {
                let number = match why {
                    Refused::NotFound => code::NOT_FOUND,
                    Refused::Io(_) => code::UNDEFINED,
                    _ => code::ACCESS,
                };
                self.send_error(&socket, number, &why.to_string()).await;
                return Err(why.to_string());
            }
        };
        let size = content.size();
        let agreed = negotiate(&request.options, size, self.shared.limits);
        let (transfer, first) = Transfer::begin(&agreed, size, self.claim.began.elapsed());
        *self.claim.transfer.borrow_mut() = Some(transfer);
        let mut blocks = Blocks::new(content, agreed.blksize);
        match self.converse::<S>(&socket, request, &agreed, &mut blocks, size, first).await {
            Ok(End::Done) => {
                let (took, resent) = (self.claim.began.elapsed(), self.claim.ask(Transfer::resent));
                let (peer, file) = (self.peer, shown(request.name));
                self.shared.timeline.record(&Step::TftpDone { peer, file, bytes: size, took, resent });
                Ok(())
            }
            Ok(End::Probe) => {
                self.shared.timeline.count("tftp", "size-probe");
                tracing::debug!(peer = %self.peer, file = shown(request.name), size, "TFTP size probe");
                Ok(())
            }
            Ok(End::Refused(why)) => Err(why),
            Ok(End::Silent { block, retries }) => {
                // Somebody who never answered may not know that he asked.
                if self.claim.ask(Transfer::heard) {
                    self.send_error(&socket, code::UNDEFINED, "no acknowledgement for too long").await;
                }
                Err(format!("no ACK of block {block} after {retries} retries"))
            }
            Err(why) => {
                self.send_error(&socket, code::UNDEFINED, &why).await;
                Err(format!("{why}, at block {}", self.claim.ask(Transfer::block)))
            }
        }
    }

    async fn open(&self, name: &str) -> Result<Content, Refused> {
        let (files, name) = (self.shared.files.clone(), name.to_owned());
        let opened = tokio::task::spawn_blocking(move || files.open(&name)).await;
        opened.unwrap_or_else(|error| Err(Refused::Io(io::Error::other(error))))
    }

    async fn converse<S: Socket>(
        &self,
        socket: &S,
        request: &Request<'_>,
        agreed: &Agreed,
        blocks: &mut Blocks<S>,
        size: u64,
        first: Action,
    ) -> Result<End, String> {
        let mut recv = pin!(socket.recv(Vec::with_capacity(PACKET)));
        let mut action = first;
        let mut started = false;
        loop {
            match action {
                Action::Nothing => {}
                Action::Oack => {
                    let options =
                        agreed.oack.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    self.sent(socket.send(Packet::Oack(options).encode(), None, self.peer).await)?;
                }
                Action::Send(range) => self.send_blocks(socket, blocks, range).await?,
                Action::End(end) => return Ok(end),
            }
            let deadline = self.claim.began + self.claim.ask(Transfer::deadline);
            // A packet that means nothing is an occasion to look at the clock: a flood of them must not stop it.
            let mut event = Event::Timeout;
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return Err("the server is stopping".to_owned()),
                () = self.claim.replaced.cancelled() => return Err("the client began anew from the same port".to_owned()),
                (from, packet) = &mut recv => {
                    let from = from.map_err(|error| format!("cannot receive: {error}"))?;
                    event = self.event(socket, from, &packet).await.unwrap_or(event);
                    recv.set(socket.recv(packet));
                }
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            action = self.claim.on(&event);
            if !started && self.claim.ask(Transfer::heard) {
                started = true;
                let (peer, file) = (self.peer, shown(request.name));
                let Agreed { blksize, windowsize, .. } = *agreed;
                self.shared.timeline.record(&Step::TftpStart { peer, file, size, blksize, windowsize });
            }
        }
    }

    /// What a packet means to the transfer, if anything.
    async fn event<S: Socket>(&self, socket: &S, from: SocketAddr, packet: &[u8]) -> Option<Event> {
        let packet = wire::parse(packet);
        if from != self.peer {
            self.shared.timeline.count("tftp", "wrong-port");
            // An ERROR is never answered: two servers would talk for ever.
            if !matches!(packet, Ok(Packet::Error { .. })) {
                let error = Packet::Error { code: code::UNKNOWN_TID, text: "not your transfer".to_owned() };
                let _ = socket.send(error.encode(), None, from).await;
            }
            return None;
        }
        match packet {
            Ok(Packet::Ack(block)) => Some(Event::Ack(block)),
            Ok(Packet::Error { code, text }) => Some(Event::Error { code, text }),
            Ok(_) => {
                self.shared.timeline.count("tftp", "stray");
                None
            }
            Err(reason) => {
                self.shared.timeline.count("tftp", reason.name());
                None
            }
        }
    }

    async fn send_blocks<S: Socket>(
        &self,
        socket: &S,
        blocks: &mut Blocks<S>,
        range: Range<u64>,
    ) -> Result<(), String> {
        let mut next = range.start;
        while next < range.end {
            let most = if self.shared.segmenting.get() { blocks.per_send() } else { 1 };
            let end = next.saturating_add(most).min(range.end);
            let packets = blocks.packets(next..end).await.map_err(|error| format!("cannot read: {error}"))?;
            let many = end - next > 1;
            let result = socket.send(packets, many.then(|| blocks.packet_len()), self.peer).await;
            if let Err(error) = &result
                && many
                && !passing(error)
            {
                tracing::info!(%error, "the kernel does not cut TFTP windows into packets here: sending one by one");
                self.shared.segmenting.set(false);
                continue;
            }
            self.sent(result)?;
            next = end;
        }
        Ok(())
    }

    /// A packet that could not be sent for want of memory is a lost packet: it is sent again when its time is up.
    fn sent(&self, result: io::Result<()>) -> Result<(), String> {
        match result {
            Err(error) if passing(&error) => {
                self.shared.timeline.count("tftp", "send-dropped");
                Ok(())
            }
            other => other.map_err(|error| format!("cannot send: {error}")),
        }
    }

    async fn send_error<S: Socket>(&self, socket: &S, code: u16, text: &str) {
        let packet = Packet::Error { code, text: text.to_owned() }.encode();
        if let Err(error) = socket.send(packet, None, self.peer).await {
            tracing::debug!(%error, peer = %self.peer, "an ERROR could not be sent");
        }
    }
}

/// A client's text as it can stand in a log.
pub(super) fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}

fn passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::OutOfMemory
    ) || error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
