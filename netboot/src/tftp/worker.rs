//! A thread that plays sessions: what comes by its engine goes to them, and what their deadlines say is done in time.
//!
//! It knows no protocol and no port 69. It sleeps when nothing happens; where clients answer within microseconds it looks for
//! their answers a moment before it does, as long as that pays.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use rustix::event::{EventfdFlags, eventfd};

use super::engine::{Arrivals, Engine};
use super::flight::{Flight, Room};
use super::pages::Call;
use super::session::{GoesOn, Job, Session, Shared, Ways};

/// A client that is not far away answers within this time.
const SPIN: Duration = Duration::from_micros(100);
/// So many answers in a row that came later, and it is of no use to look for them.
const LATE: u32 = 8;
/// After so many sleeps it is tried again.
const TRY_AGAIN: u32 = 64;
/// Without anything to do it wakes up this often.
const LONGEST: Duration = Duration::from_mins(1);

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Play this.
    Play(Box<Job>),
    /// A packet for a session that has no socket of its own.
    Packet(u64, SocketAddr, Vec<u8>),
    /// Something that a session waited for may be there.
    Look(u64),
    /// End this session in favour of another, and say why.
    End(u64, &'static str),
    /// End all of them, and then yourself.
    Stop,
}

/// What a worker tells of its sessions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    /// The client has answered.
    Heard(u64),
    /// It is over, and its socket closed.
    Over(u64),
}

/// A worker, for others.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    sender: Sender<Message>,
    wake: Arc<OwnedFd>,
}

impl Mailbox {
    /// Tells it. When it has ended nobody hears it.
    pub(super) fn tell(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        }
    }
}

/// What runs things that wait for a disk.
pub(super) type Spawn = Arc<dyn Fn(Call) + Send + Sync>;

/// A session, and when it is to be looked after.
struct Slot {
    session: Session,
    next: Instant,
}

/// What sessions need of their thread.
struct Common {
    shared: Arc<Shared>,
    spawn: Spawn,
    mailbox: Mailbox,
    tell: Box<dyn Fn(Told) + Send>,
    flight: RefCell<Flight>,
}

impl Common {
    fn ways<T>(&self, work: impl FnOnce(&Ways<'_>) -> T) -> T {
        let call = |id| -> Call {
            let mailbox = self.mailbox.clone();
            Box::new(move || mailbox.tell(Message::Look(id)))
        };
        let heard = |id| (self.tell)(Told::Heard(id));
        work(&Ways {
            shared: &self.shared,
            spawn: &*self.spawn,
            call: &call,
            heard: &heard,
            flight: &self.flight,
        })
    }
}

/// A worker.
pub(super) struct Worker<E: Engine> {
    engine: E,
    messages: Receiver<Message>,
    common: Common,
    sessions: HashMap<u64, Slot, RandomState>,
    /// When to look after which session. What is not the time of its slot is nothing any more.
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    spin: Spin,
}

impl<E: Engine + 'static> Worker<E> {
    /// Starts a thread; `spins`: it may look for answers before it sleeps; `room`: what all share for what is on its way;
    /// `tell` hears of its sessions.
    ///
    /// # Errors
    /// When the engine cannot be had, or no thread.
    pub(super) fn start(
        shared: Arc<Shared>,
        spawn: Spawn,
        spins: bool,
        room: Arc<Room>,
        tell: Box<dyn Fn(Told) + Send>,
    ) -> io::Result<Mailbox> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (sender, messages) = mpsc::channel();
        let mailbox = Mailbox { sender, wake: Arc::clone(&wake) };
        let (own, (ready, is_ready)) = (mailbox.clone(), mpsc::sync_channel(1));
        std::thread::Builder::new().name("tftp-worker".to_owned()).spawn(move || {
            let engine = match E::new(wake) {
                Ok(engine) => engine,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            let _ = ready.send(Ok(()));
            let (sessions, timers, spin) = (HashMap::default(), BinaryHeap::new(), Spin::new(spins));
            let flight = RefCell::new(Flight::new(room));
            let common = Common { shared, spawn, mailbox: own, tell, flight };
            Self { engine, messages, common, sessions, timers, spin }.run();
        })?;
        is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread broke off")))?;
        Ok(mailbox)
    }

    fn run(mut self) {
        let mut arrivals = Arrivals::default();
        loop {
            while let Ok(message) = self.messages.try_recv() {
                if !self.message(message) {
                    return;
                }
            }
            self.time();
            self.turns();
            let time = self.until_next();
            let spin = self.spin.time(self.sessions.is_empty()).min(time);
            let begun = Instant::now();
            if let Err(error) = self.engine.wait(time, spin, &mut arrivals) {
                // Memory is short, most likely: not a reason to end, and not to spin either.
                tracing::warn!(%error, "TFTP cannot receive");
                std::thread::park_timeout(Duration::from_millis(50));
            }
            self.spin.learn(spin, begun.elapsed(), !arrivals.is_empty());
            self.arrivals(&arrivals);
            arrivals.clear();
        }
    }

    /// How long nothing has to be done.
    fn until_next(&self) -> Duration {
        let next = self.timers.peek().map(|Reverse((at, _))| *at);
        next.map_or(LONGEST, |at| at.saturating_duration_since(Instant::now()).min(LONGEST))
    }

    fn message(&mut self, message: Message) -> bool {
        match message {
            Message::Play(job) => self.play(*job),
            Message::Packet(id, from, packet) => {
                self.with(id, |session, ways| session.packet(from, &packet, ways));
            }
            Message::Look(id) => self.with(id, Session::look),
            Message::End(id, why) => self.with(id, |session, ways| {
                session.give_way(why, ways.shared);
                false
            }),
            Message::Stop => {
                for (id, slot) in self.sessions.drain() {
                    slot.session.end("the server is stopping", &self.common.shared);
                    self.engine.remove(id);
                    (self.common.tell)(Told::Over(id));
                }
                return false;
            }
        }
        true
    }

    fn play(&mut self, job: Job) {
        let id = job.id;
        if job.own_socket
            && let Err(error) = self.engine.add(id, &job.socket)
        {
            tracing::warn!(%error, "TFTP has no room for a transfer");
            Session::refuse(&job, "no room for it", &self.common.shared);
            return (self.common.tell)(Told::Over(id));
        }
        match self.common.ways(|ways| Session::begin(job, ways)) {
            Some(session) => {
                let next = session.deadline();
                self.timers.push(Reverse((next, id)));
                self.sessions.insert(id, Slot { session, next });
            }
            None => self.over(id),
        }
    }

    /// Does something with a session, if it is still there.
    fn with(&mut self, id: u64, work: impl FnOnce(&mut Session, &Ways<'_>) -> GoesOn) {
        let Self { sessions, common, timers, .. } = self;
        let Some(slot) = sessions.get_mut(&id) else { return };
        if !common.ways(|ways| work(&mut slot.session, ways)) {
            common.ways(|ways| slot.session.land(ways));
            sessions.remove(&id);
            return self.over(id);
        }
        // Mostly it is later than before, which is found out when the time has come.
        let deadline = slot.session.deadline();
        if deadline < slot.next {
            slot.next = deadline;
            timers.push(Reverse((deadline, id)));
        }
    }

    fn over(&mut self, id: u64) {
        self.engine.remove(id);
        (self.common.tell)(Told::Over(id));
    }

    fn arrivals(&mut self, arrivals: &Arrivals) {
        for (id, from, packet) in arrivals.iter() {
            self.with(id, |session, ways| session.packet(from, packet, ways));
        }
        for (id, error) in &arrivals.broken {
            let Some(socket) = self.sessions.get(id).map(|slot| Arc::clone(&slot.session.job().socket))
            else {
                continue;
            };
            // One that had no room goes on.
            let no_room = error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error());
            if !no_room || self.engine.add(*id, &socket).is_err() {
                tracing::debug!(%error, "a TFTP socket cannot receive");
                self.with(*id, |session, ways| {
                    session.end("cannot receive", ways.shared);
                    false
                });
            }
        }
    }

    /// Lets those leave who waited for others to arrive.
    fn turns(&mut self) {
        loop {
            let window = |id| self.sessions.get(&id)?.session.held();
            let Some(id) = self.common.flight.borrow_mut().next(window) else { return };
            self.with(id, Session::leave);
        }
    }

    /// Does what is due.
    fn time(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(slot) = self.sessions.get_mut(&id).filter(|slot| slot.next == at) else { continue };
            if slot.session.deadline() <= now {
                // So that it is not pushed meanwhile.
                slot.next = now;
                self.with(id, Session::time);
            }
            if let Some(slot) = self.sessions.get_mut(&id) {
                slot.next = slot.session.deadline();
                self.timers.push(Reverse((slot.next, id)));
            }
        }
    }
}

/// Whether to look for answers before it sleeps.
struct Spin {
    /// There is more than one processor: on one the client would have to wait for the server to sleep.
    may: bool,
    late: u32,
    slept: u32,
}

impl Spin {
    fn new(may: bool) -> Self {
        Self { may, late: 0, slept: 0 }
    }

    fn time(&self, idle: bool) -> Duration {
        let pays = self.late < LATE || self.slept >= TRY_AGAIN;
        if self.may && !idle && pays { SPIN } else { Duration::ZERO }
    }

    fn learn(&mut self, spun: Duration, took: Duration, came: bool) {
        if spun.is_zero() {
            self.slept = self.slept.saturating_add(1);
        } else if came && took <= spun {
            (self.late, self.slept) = (0, 0);
        } else {
            self.late = self.late.saturating_add(1);
            self.slept = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LATE, SPIN, Spin, TRY_AGAIN};

    #[test]
    fn it_looks_for_answers_as_long_as_they_come_soon() {
        let mut spin = Spin::new(true);
        assert_eq!(spin.time(true), Duration::ZERO, "idle");
        for _ in 0..LATE {
            assert_eq!(spin.time(false), SPIN);
            spin.learn(SPIN, 10 * SPIN, true);
        }
        for _ in 0..TRY_AGAIN {
            assert_eq!(spin.time(false), Duration::ZERO, "all were late");
            spin.learn(Duration::ZERO, SPIN, true);
        }
        assert_eq!(spin.time(false), SPIN, "tried again");
        spin.learn(SPIN, SPIN / 2, true);
        for _ in 0..LATE - 1 {
            spin.learn(SPIN, 10 * SPIN, false);
            assert_eq!(spin.time(false), SPIN, "the one that was soon counts");
        }
        assert_eq!(Spin::new(false).time(false), Duration::ZERO, "one processor");
    }
}
