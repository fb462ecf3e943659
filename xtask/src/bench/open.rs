//! Virtual blades in an open loop: exchanges begin when their time has come, whether the server keeps up or not.
//!
//! Pure: frames and times come in, frames go out. All that begin have to end, each answer within [`BOUND`].

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::blades::{Owners, Plan};
use super::wire::{Chosen, Heard, message, read, request};

/// How long an answer may take. Much less than a step of the search lasts, so that a server cannot hide in a queue what
/// it does not get done.
pub(super) const BOUND: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
struct Exchange {
    host: u32,
    sent: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Discovering,
    Requesting(Ipv4Addr),
    Done,
}

/// The machines of one server, and what they have begun.
#[derive(Debug)]
pub(super) struct Open {
    plan: Plan,
    /// The xid of the first exchange of this step; no other step has the same.
    first: u32,
    exchanges: Vec<Exchange>,
    /// All before this one have ended.
    oldest: usize,
    /// Machines that ask nothing at the moment, the one that has been longest idle first.
    idle: VecDeque<u32>,
    owners: Owners,
    /// Exchanges that have not ended.
    waiting: usize,
    /// Replies that a client could not use.
    pub(super) invalid: u64,
    frame: Vec<u8>,
}

/// What is to be done after a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then<'a> {
    Nothing,
    Send(&'a [u8]),
    /// The answer took longer than [`BOUND`].
    Late,
}

impl Open {
    /// The machines of this plan.
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            first: 1,
            exchanges: Vec::new(),
            oldest: 0,
            idle: VecDeque::new(),
            owners: Owners::new(),
            waiting: 0,
            invalid: 0,
            frame: Vec::new(),
        }
    }

    /// Begins a step: what an earlier one has left unanswered is forgotten.
    pub(super) fn reset(&mut self) {
        self.first = self.first.wrapping_add(u32::try_from(self.exchanges.len()).unwrap_or(u32::MAX));
        self.exchanges.clear();
        self.oldest = 0;
        self.idle = (0..self.plan.hosts).collect();
        self.waiting = 0;
        self.invalid = 0;
    }

    /// How many exchanges have begun.
    pub(super) fn begun(&self) -> usize {
        self.exchanges.len()
    }

    /// How many have not ended.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The DISCOVER of the next machine; `None` when all of them wait for an answer.
    pub(super) fn begin(&mut self, now: Instant) -> Option<&[u8]> {
        let host = self.idle.pop_front()?;
        let xid = self.first.wrapping_add(u32::try_from(self.exchanges.len()).ok()?);
        self.exchanges.push(Exchange { host, sent: now, state: State::Discovering });
        self.waiting += 1;
        request(&mut self.frame, Plan::mac(host), xid, None);
        Some(&self.frame)
    }

    /// Takes a frame.
    pub(super) fn hear(&mut self, frame: &[u8], now: Instant) -> Then<'_> {
        let reply = match read(frame) {
            Heard::Other => return Then::Nothing,
            Heard::Broken => {
                self.invalid += 1;
                return Then::Nothing;
            }
            Heard::Reply(reply) => reply,
        };
        let number = usize::try_from(reply.xid.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        // One that is not of this step came too late for an earlier one.
        let Some(exchange) = self.exchanges.get_mut(number) else { return Then::Nothing };
        let (wanted, offered) = match exchange.state {
            State::Discovering => (message::OFFER, reply.yiaddr),
            State::Requesting(addr) => (message::ACK, addr),
            // A second answer.
            State::Done => return Then::Nothing,
        };
        if reply.message != wanted {
            return Then::Nothing;
        }
        if !self.plan.fits(&self.owners, exchange.host, offered, &reply) {
            self.invalid += 1;
            return Then::Nothing;
        }
        if now.duration_since(exchange.sent) > BOUND {
            return Then::Late;
        }
        exchange.sent = now;
        if wanted == message::OFFER {
            exchange.state = State::Requesting(reply.yiaddr);
            let chosen = Chosen { addr: reply.yiaddr, server: reply.server };
            request(&mut self.frame, reply.mac, reply.xid, Some(chosen));
            return Then::Send(&self.frame);
        }
        exchange.state = State::Done;
        self.waiting -= 1;
        self.owners.insert(reply.yiaddr, exchange.host);
        self.idle.push_back(exchange.host);
        Then::Nothing
    }

    /// Whether somebody has waited longer than [`BOUND`].
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let late =
            |exchange: &Exchange| exchange.state != State::Done && now.duration_since(exchange.sent) > BOUND;
        self.waiting > 0 && self.exchanges.iter().any(late)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{BOUND, Open, Then};
    use crate::bench::blades::Plan;
    use crate::bench::wire::message::{ACK, OFFER};
    use crate::bench::wire::tests::answer;

    const SERVER: [u8; 4] = [10, 90, 0, 1];

    fn open(hosts: u32) -> Open {
        let plan = Plan {
            hosts,
            server: SERVER.into(),
            reserved: Some([10, 90, 16, 0].into()),
            pool: ([10, 90, 128, 0].into(), [10, 90, 128, 9].into()),
        };
        let mut open = Open::new(plan);
        open.reset();
        open
    }

    fn xid(frame: &[u8]) -> u32 {
        u32::from_be_bytes(frame[46..50].try_into().unwrap())
    }

    #[test]
    fn each_machine_asks_once_at_a_time() {
        let (mut open, now) = (open(2), Instant::now());
        let first = xid(open.begin(now).unwrap());
        let second = xid(open.begin(now).unwrap());
        assert_eq!(open.begin(now), None, "both wait");
        let offer = answer(Plan::mac(0), first, OFFER, [10, 90, 16, 0], SERVER);
        assert!(matches!(open.hear(&offer, now), Then::Send(_)));
        assert_eq!(open.hear(&offer, now), Then::Nothing, "a second time");
        assert_eq!(open.waiting(), 2);
        let ack = answer(Plan::mac(0), first, ACK, [10, 90, 16, 0], SERVER);
        assert_eq!(open.hear(&ack, now), Then::Nothing);
        assert_eq!((open.begun(), open.waiting(), open.invalid), (2, 1, 0));
        assert!(open.begin(now).is_some(), "the one that has ended begins again");
        open.reset();
        assert!(xid(open.begin(now).unwrap()) > second + 1, "no xid comes twice");
        assert_eq!(open.hear(&ack, now), Then::Nothing, "an answer of the step before");
        assert_eq!((open.waiting(), open.invalid), (1, 0));
    }

    #[test]
    fn late_and_wrong_answers_are_noticed() {
        let (mut open, now) = (open(2), Instant::now());
        let first = xid(open.begin(now).unwrap());
        let wrong = answer(Plan::mac(0), first, OFFER, [10, 90, 16, 1], SERVER);
        assert_eq!(open.hear(&wrong, now), Then::Nothing);
        assert_eq!(open.invalid, 1);
        assert!(!open.is_late(now + BOUND));
        let later = now + BOUND + Duration::from_millis(1);
        assert!(open.is_late(later));
        let offer = answer(Plan::mac(0), first, OFFER, [10, 90, 16, 0], SERVER);
        assert_eq!(open.hear(&offer, later), Then::Late);
    }
}
