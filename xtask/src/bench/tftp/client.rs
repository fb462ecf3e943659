//! Clients that fetch a file, all on one thread: a socket for each transfer, and what comes is checked as it comes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::content::Source;
use super::datagrams::{BATCH, Datagrams, open};
use super::transfer::{Step, Tally, Transfer};
use super::wire::{ABORT, Ask, Granted, PORT, ack, request};
use crate::bench::contestant::SERVER;
use crate::bench::drive::own_cpu;
use crate::bench::random::Random;

/// The addresses from which they ask, in turns: a server may have a limit for each.
pub(super) const ADDRS: u8 = 16;
/// Nothing has come for so long: the thread sleeps. It spins before, since waking takes longer than a block does.
const SPIN: Duration = Duration::from_micros(200);
/// How often it is looked for transfers that hear nothing.
const ROUND: Duration = Duration::from_millis(50);
/// So many failed transfers end a measurement.
const MOST_ERRORS: u64 = 1000;

/// The address of a client, by its number.
pub(super) fn addr(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 90, 64, 1 + number % ADDRS)
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load<'a> {
    pub(super) file: &'a str,
    pub(super) source: Source<'a>,
    pub(super) ask: Ask,
    pub(super) clients: usize,
    pub(super) end: End,
    /// Of a thousand packets of a transfer so many are lost, each way, the same ones in each run.
    pub(super) loss: u16,
}

/// When it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After this time, whatever is under way; who has the whole file asks for it anew.
    Time(Duration),
    /// When each client has had the file once, or has failed; after this time at the latest.
    Whole(Duration),
}

/// What has come of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) took: Duration,
    pub(super) tally: Tally,
    /// Bytes that each client has got.
    pub(super) bytes: Vec<u64>,
    /// Whole files.
    pub(super) done: u64,
    /// When the first and the last of them was whole.
    pub(super) first_done: Option<Duration>,
    pub(super) last_done: Option<Duration>,
    /// Transfers that failed, and why the first did.
    pub(super) errors: u64,
    pub(super) error: Option<String>,
    /// What the last server to answer has granted.
    pub(super) granted: Option<Granted>,
    /// Processor time of the thread, and what of it was no more than waiting.
    pub(super) cpu: Duration,
    pub(super) spun: Duration,
}

/// A client: one transfer after the other, or one alone.
#[derive(Debug)]
struct Client<'a> {
    socket: UdpSocket,
    transfer: Transfer<'a>,
    /// Bytes of the transfers before this one.
    before: u64,
    has_ended: bool,
    dice: Random,
}

/// All of them.
struct Crowd<'a> {
    load: Load<'a>,
    poll: OwnedFd,
    clients: Vec<Client<'a>>,
    /// Those that have not ended.
    left: usize,
    datagrams: Datagrams,
    started: Instant,
    outcome: Outcome,
}

/// Fetches on this thread, in its network namespace.
///
/// # Errors
/// When the kernel refuses something, or a signal stops it. That a transfer fails is part of the outcome.
pub(super) fn fetch(load: Load<'_>, stop: &AtomicBool) -> Result<Outcome> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?;
    // One byte more than a block, so that a block that is too long is seen.
    let datagrams = Datagrams::new(usize::from(load.ask.blksize).max(512) + 5);
    let (cpu, start) = (own_cpu()?, Instant::now());
    let (clients, outcome) = (Vec::new(), Outcome::default());
    let mut crowd = Crowd { load, poll, clients, left: load.clients, datagrams, started: start, outcome };
    for number in 0..load.clients {
        crowd.clients.push(crowd.begin(number, start)?);
    }
    let (mut now, mut heard_at, mut looked_at) = (start, start, start);
    // The processor time at the last attempt that found nothing, if the last one did not.
    let mut idle_at = None;
    let (End::Time(most) | End::Whole(most)) = load.end;
    while now - start < most && crowd.left > 0 && crowd.outcome.errors < MOST_ERRORS {
        if now - looked_at >= ROUND {
            looked_at = now;
            crowd.tick(now)?;
            anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
        }
        let heard = crowd.turn(now)?;
        now = Instant::now();
        if heard > 0 {
            (heard_at, idle_at) = (now, None);
            continue;
        }
        let idle = own_cpu()?;
        crowd.outcome.spun += idle_at.map_or(Duration::ZERO, |before| idle.saturating_sub(before));
        idle_at = Some(idle);
        if now - heard_at < SPIN {
            // The server may be waiting for this processor.
            std::thread::yield_now();
            continue;
        }
        crowd.sleep()?;
        now = Instant::now();
        (heard_at, idle_at) = (now, None);
    }
    crowd.outcome.took = now - start;
    crowd.outcome.cpu = own_cpu()?.saturating_sub(cpu);
    crowd.abort();
    Ok(crowd.outcome)
}

impl<'a> Crowd<'a> {
    /// Opens a socket and asks.
    fn begin(&self, number: usize, now: Instant) -> Result<Client<'a>> {
        let from = addr(u8::try_from(number % usize::from(ADDRS)).unwrap_or_default());
        let socket = open(SocketAddrV4::new(from, 0)).context("open a client's socket")?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.poll, &socket, data, epoll::EventFlags::IN).context("epoll_ctl")?;
        let transfer = Transfer::new(self.load.ask, self.load.source, now);
        let dice = Random::new(number as u64);
        let client = Client { socket, transfer, before: 0, has_ended: false, dice };
        client.ask(&self.load);
        Ok(client)
    }

    /// Takes what has come for whoever something has come for; returns how many packets that were.
    fn turn(&mut self, now: Instant) -> Result<usize> {
        if self.clients.len() == 1 {
            return self.hear(0, now);
        }
        let none = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [none; 128];
        let count = match epoll::wait(&self.poll, &mut events, Some(&Timespec::default())) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        let mut heard = 0;
        for event in events.iter().take(count) {
            let data = event.data;
            // A packet at least, or else an error.
            heard += 1 + self.hear(usize::try_from(data.u64()).unwrap_or(usize::MAX), now)?;
        }
        Ok(heard)
    }

    /// Takes what has come for one of them.
    fn hear(&mut self, number: usize, now: Instant) -> Result<usize> {
        let Some(client) = self.clients.get_mut(number).filter(|client| !client.has_ended) else {
            return Ok(0);
        };
        let Some(granted) = client.transfer.granted() else {
            // The first packet says which port the server has taken for it.
            let mut room = vec![0; usize::from(self.load.ask.blksize).max(512) + 5];
            let (length, from) = match client.socket.recv_from(&mut room) {
                Ok(received) => received,
                Err(error) if is_nothing(&error) => return Ok(0),
                Err(error) => return self.step(number, &Step::Failed(error.to_string()), now).map(|()| 1),
            };
            client.socket.connect(from).context("connect to the server's port")?;
            let step = client.transfer.hear(room.get(..length).unwrap_or_default(), now);
            self.outcome.granted = client.transfer.granted();
            return self.step(number, &step, now).map(|()| 1);
        };
        // Not more than a window: to ask for one that is not there costs a little, too.
        let most = usize::from(granted.window).min(BATCH);
        let heard = match self.datagrams.receive(&client.socket, most) {
            Ok(heard) => heard,
            Err(error) => return self.step(number, &Step::Failed(error.to_string()), now).map(|()| 1),
        };
        let mut last = Step::Wait;
        for packet in self.datagrams.each() {
            if client.loses(self.load.loss) {
                continue;
            }
            match client.transfer.hear(packet, now) {
                Step::Wait => {}
                Step::Ack(block) => client.say(&ack(block), self.load.loss),
                step => {
                    last = step;
                    break;
                }
            }
        }
        self.step(number, &last, now)?;
        Ok(heard)
    }

    /// Does what a transfer says.
    fn step(&mut self, number: usize, step: &Step, now: Instant) -> Result<()> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        match step {
            Step::Wait => return Ok(()),
            Step::Ask => {
                client.ask(&self.load);
                return Ok(());
            }
            Step::Ack(block) => {
                client.say(&ack(*block), self.load.loss);
                return Ok(());
            }
            Step::Done(block) => {
                client.send(&ack(*block));
                self.outcome.done += 1;
                let after = now.saturating_duration_since(self.started);
                self.outcome.first_done.get_or_insert(after);
                self.outcome.last_done = Some(after);
            }
            Step::Failed(why) => {
                client.send(ABORT);
                self.outcome.errors += 1;
                self.outcome.error.get_or_insert_with(|| why.clone());
            }
        }
        self.outcome.tally.add(&client.transfer.tally);
        client.before += client.transfer.tally.bytes;
        client.transfer.tally = Tally::default();
        client.has_ended = true;
        if matches!(self.load.end, End::Whole(_)) {
            self.left -= 1;
            // What comes late would be reported for ever.
            return epoll::delete(&self.poll, &client.socket).context("epoll_ctl");
        }
        let before = client.before;
        let next = self.begin(number, now)?;
        if let Some(client) = self.clients.get_mut(number) {
            *client = Client { before, dice: client.dice.clone(), ..next };
        }
        Ok(())
    }

    /// Looks for those that hear nothing.
    fn tick(&mut self, now: Instant) -> Result<()> {
        for number in 0..self.clients.len() {
            let client = self.clients.get_mut(number).filter(|client| !client.has_ended);
            let Some(step) = client.map(|client| client.transfer.tick(now)) else { continue };
            self.step(number, &step, now)?;
        }
        Ok(())
    }

    /// Sleeps until something comes, for a while at most.
    fn sleep(&self) -> Result<()> {
        let none = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let timeout = Timespec::try_from(ROUND / 2).context("a timeout")?;
        match epoll::wait(&self.poll, &mut [none], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("epoll_wait"),
        }
    }

    /// Ends what is under way, and adds it up.
    fn abort(&mut self) {
        for client in &self.clients {
            if !client.has_ended && client.transfer.granted().is_some() {
                client.send(ABORT);
            }
            self.outcome.tally.add(&client.transfer.tally);
            self.outcome.bytes.push(client.before + client.transfer.tally.bytes);
        }
    }
}

impl Client<'_> {
    fn ask(&self, load: &Load<'_>) {
        let server = SocketAddr::from((SERVER, PORT));
        // One that is lost is sent again.
        let _ = self.socket.send_to(&request(load.file, load.ask), server);
    }

    /// Whether the next packet is lost.
    fn loses(&mut self, of_thousand: u16) -> bool {
        of_thousand > 0 && self.dice.below(1000) < of_thousand.into()
    }

    /// Sends, unless it is lost.
    fn say(&mut self, packet: &[u8], loss: u16) {
        if !self.loses(loss) {
            self.send(packet);
        }
    }

    /// Sends to the port that the server has taken. What is lost, or refused because the server has gone, shows as silence.
    fn send(&self, packet: &[u8]) {
        let _ = self.socket.send(packet);
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
