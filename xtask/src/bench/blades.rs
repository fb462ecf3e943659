//! Virtual blades, each in a closed loop: DISCOVER, OFFER, REQUEST, ACK, and the next machine begins.
//!
//! Pure: frames and times come in, frames go out. Every reply is held against what the blade asked for; one that a
//! client could not use is counted, and the blade goes on waiting. A blade that waits too long counts as lost.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::random::Random;
use super::wire::{Chosen, Heard, Mac, Reply, message, read, request};

/// How long a blade waits: RFC 2131 4.1 would have it ask again then.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// The slot of a blade is in the low byte of its xid.
pub(super) const MOST: usize = 256;

/// Who the machines are, and which address each must get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// How many there are.
    pub(super) hosts: u32,
    /// The server, as option 54 has it.
    pub(super) server: Ipv4Addr,
    /// The first reserved address; `None`: they come from the pool.
    pub(super) reserved: Option<Ipv4Addr>,
    /// First and last address of the pool.
    pub(super) pool: (Ipv4Addr, Ipv4Addr),
}

impl Plan {
    /// The Ethernet address of a machine, locally administered.
    pub(super) fn mac(host: u32) -> Mac {
        let [a, b, c, d] = host.to_be_bytes();
        [0x52, 0x54, a, b, c, d]
    }

    /// The address that is reserved for a machine.
    pub(super) fn reservation(&self, host: u32) -> Option<Ipv4Addr> {
        self.reserved.map(|first| Ipv4Addr::from(u32::from(first) + host))
    }

    /// Whether a machine can use the reply, be it a second time: its own, from the server, with the right address, which
    /// is the one that it was offered.
    pub(super) fn fits(&self, owners: &Owners, host: u32, offered: Ipv4Addr, reply: &Reply) -> bool {
        let right = match self.reservation(host) {
            Some(addr) => reply.yiaddr == addr,
            None => (self.pool.0..=self.pool.1).contains(&reply.yiaddr),
        };
        // Leases last longer than a run, so an address has one owner for all of it.
        let free = owners.get(&reply.yiaddr).is_none_or(|owner| *owner == host);
        [message::OFFER, message::ACK].contains(&reply.message)
            && reply.mac == Self::mac(host)
            && reply.server == self.server
            && reply.yiaddr == offered
            && right
            && free
    }
}

/// Who was given which address.
pub(super) type Owners = HashMap<Ipv4Addr, u32>;

/// What has happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Whole exchanges.
    pub(super) done: u64,
    /// Microseconds from DISCOVER to OFFER, and from REQUEST to ACK.
    pub(super) offers: Vec<u32>,
    pub(super) acks: Vec<u32>,
    /// Replies that a client could not use: broken, refused, another's, with another address.
    pub(super) invalid: u64,
    /// Right replies that came a second time or after the blade had given up.
    pub(super) stray: u64,
    /// Requests that got no answer in time.
    pub(super) lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Blade {
    /// Where it is in the order.
    place: u32,
    host: u32,
    xid: u32,
    sent: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    Discovering,
    Requesting(Ipv4Addr),
}

/// All machines of one server.
#[derive(Debug)]
pub(super) struct Blades {
    plan: Plan,
    /// The machines, as they ask one after the other.
    order: Vec<u32>,
    slots: Vec<Blade>,
    /// Exchanges begun, over all runs: a late reply is never taken for another's.
    begun: u32,
    owners: Owners,
    frame: Vec<u8>,
    pub(super) tally: Tally,
}

impl Blades {
    /// The machines of this plan, all switched off.
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            order: (0..plan.hosts).collect(),
            slots: Vec::new(),
            begun: 0,
            owners: Owners::new(),
            frame: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// The same in no order, so that what the server knows of the next one is in none of the processor's caches by chance.
    pub(super) fn shuffled(plan: Plan) -> Self {
        Self { order: Random::new(u64::from(plan.hosts)).shuffled(plan.hosts), ..Self::new(plan) }
    }

    /// Begins a run: so many at once, counted from nothing.
    pub(super) fn reset(&mut self, clients: usize, now: Instant) {
        let clients = clients.min(MOST);
        let off = |place| Blade { place, host: 0, xid: 0, sent: now, state: State::Off };
        self.slots = (0..u32::try_from(clients).unwrap_or_default()).map(off).collect();
        self.tally = Tally::default();
    }

    /// How many are waiting for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.slots.iter().filter(|blade| blade.state != State::Off).count()
    }

    /// Switches on the next machine of this slot; its DISCOVER is to be sent.
    pub(super) fn begin(&mut self, slot: usize, now: Instant) -> Option<&[u8]> {
        let clients = u32::try_from(self.slots.len()).ok()?;
        let blade = self.slots.get_mut(slot)?;
        // Each slot has machines of its own: no machine runs twice at a time, however slow one slot is.
        let next = blade.place + clients;
        let first = u32::try_from(slot).ok()?;
        let place = if next < self.plan.hosts { next } else { first };
        let host = *self.order.get(usize::try_from(place).ok()?)?;
        self.begun = self.begun.wrapping_add(1);
        let xid = (self.begun << 8) | first;
        *blade = Blade { place, host, xid, sent: now, state: State::Discovering };
        request(&mut self.frame, Plan::mac(host), xid, None);
        Some(&self.frame)
    }

    /// Takes a frame. Returns the slot to begin anew when an exchange is whole, or the REQUEST to be sent.
    pub(super) fn hear(&mut self, frame: &[u8], now: Instant) -> Next<'_> {
        let reply = match read(frame) {
            Heard::Other => return Next::Nothing,
            Heard::Broken => {
                self.tally.invalid += 1;
                return Next::Nothing;
            }
            Heard::Reply(reply) => reply,
        };
        let slot = usize::from(reply.xid.to_be_bytes()[3]);
        let Some(blade) = self.slots.get(slot).copied().filter(|blade| blade.xid == reply.xid) else {
            // Of an exchange that has ended, or of none that ever was.
            let ended = reply.xid >> 8 != 0 && reply.xid >> 8 <= self.begun;
            *if ended { &mut self.tally.stray } else { &mut self.tally.invalid } += 1;
            return Next::Nothing;
        };
        let wanted = match blade.state {
            State::Discovering => message::OFFER,
            State::Requesting(_) => message::ACK,
            State::Off => 0,
        };
        let offered = match blade.state {
            State::Requesting(addr) if reply.message == message::ACK => addr,
            _ => reply.yiaddr,
        };
        if !self.plan.fits(&self.owners, blade.host, offered, &reply) {
            self.tally.invalid += 1;
            return Next::Nothing;
        }
        if reply.message != wanted {
            self.tally.stray += 1;
            return Next::Nothing;
        }
        let took = u32::try_from(now.duration_since(blade.sent).as_micros()).unwrap_or(u32::MAX);
        let Some(blade) = self.slots.get_mut(slot) else { return Next::Nothing };
        blade.sent = now;
        if wanted == message::OFFER {
            self.tally.offers.push(took);
            blade.state = State::Requesting(reply.yiaddr);
            let chosen = Chosen { addr: reply.yiaddr, server: reply.server };
            request(&mut self.frame, reply.mac, reply.xid, Some(chosen));
            return Next::Send(&self.frame);
        }
        self.tally.acks.push(took);
        self.tally.done += 1;
        blade.state = State::Off;
        self.owners.insert(reply.yiaddr, blade.host);
        Next::Done(slot)
    }

    /// Gives up the first blade that has waited too long, and returns its slot.
    pub(super) fn give_up(&mut self, now: Instant) -> Option<usize> {
        let late = |blade: &Blade| blade.state != State::Off && now.duration_since(blade.sent) > PATIENCE;
        let slot = self.slots.iter().position(late)?;
        self.tally.lost += 1;
        self.slots.get_mut(slot)?.state = State::Off;
        Some(slot)
    }
}

/// What is to be done after a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    Nothing,
    Send(&'a [u8]),
    /// The blade of this slot has its address.
    Done(usize),
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use super::{Blades, Next, PATIENCE, Plan};
    use crate::bench::wire::message::{ACK, DISCOVER, OFFER, REQUEST};
    use crate::bench::wire::tests::answer;

    const SERVER: [u8; 4] = [10, 90, 0, 1];
    const NAK: u8 = 6;

    fn blades(reserved: bool, clients: usize, now: Instant) -> Blades {
        let plan = Plan {
            hosts: 4,
            server: SERVER.into(),
            reserved: reserved.then_some(Ipv4Addr::new(10, 90, 16, 0)),
            pool: ([10, 90, 128, 0].into(), [10, 90, 128, 9].into()),
        };
        let mut blades = Blades::new(plan);
        blades.reset(clients, now);
        blades
    }

    /// Message type, host and xid of a request.
    fn asked(frame: &[u8]) -> (u8, u8, u32) {
        (frame[42 + 242], frame[11], u32::from_be_bytes(frame[46..50].try_into().unwrap()))
    }

    #[test]
    fn an_exchange_runs_to_its_end_and_the_next_machine_begins() {
        let now = Instant::now();
        let mut blades = blades(true, 2, now);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (kind, host, xid) = asked(blades.begin(1, now).unwrap());
            assert_eq!(kind, DISCOVER);
            seen.push(host);
            let mac = Plan::mac(host.into());
            let addr = [10, 90, 16, host];
            let later = now + Duration::from_micros(70);
            let Next::Send(frame) = blades.hear(&answer(mac, xid, OFFER, addr, SERVER), later) else {
                panic!()
            };
            assert_eq!(asked(frame), (REQUEST, host, xid));
            assert_eq!(blades.waiting(), 1);
            assert_eq!(blades.hear(&answer(mac, xid, ACK, addr, SERVER), later), Next::Done(1));
            assert_eq!(blades.hear(&answer(mac, xid, ACK, addr, SERVER), later), Next::Nothing);
        }
        assert_eq!(seen, [3, 1, 3], "the machines of slot 1 of 2, in turn");
        let tally = &blades.tally;
        assert_eq!((tally.done, tally.invalid, tally.stray, tally.lost), (3, 0, 3, 0));
        assert_eq!((tally.offers.as_slice(), tally.acks.as_slice()), (&[70; 3][..], &[0; 3][..]));
    }

    #[test]
    fn a_wrong_reply_is_counted_and_changes_nothing() {
        let now = Instant::now();
        let mut blades = blades(true, 1, now);
        let (_, host, xid) = asked(blades.begin(0, now).unwrap());
        let (mac, addr) = (Plan::mac(host.into()), [10, 90, 16, host]);
        let mut broken = answer(mac, xid, OFFER, addr, SERVER);
        broken[100] ^= 1;
        let wrong = [
            answer(Plan::mac(99), xid, OFFER, addr, SERVER),
            answer(mac, xid + (7 << 8), OFFER, addr, SERVER),
            answer(mac, xid, OFFER, [10, 90, 16, 99], SERVER),
            answer(mac, xid, OFFER, addr, [10, 90, 0, 99]),
            answer(mac, xid, NAK, addr, SERVER),
            broken,
        ];
        for (number, frame) in wrong.iter().enumerate() {
            assert_eq!(blades.hear(frame, now), Next::Nothing);
            assert_eq!(blades.tally.invalid, number as u64 + 1, "reply {number}");
        }
        assert_eq!(blades.hear(&answer(mac, xid, ACK, addr, SERVER), now), Next::Nothing);
        assert_eq!(blades.tally.stray, 1, "an ACK before the REQUEST");
        assert!(matches!(blades.hear(&answer(mac, xid, OFFER, addr, SERVER), now), Next::Send(_)));
    }

    #[test]
    fn an_address_of_the_pool_has_one_owner() {
        let now = Instant::now();
        let mut blades = blades(false, 1, now);
        let addr = [10, 90, 128, 3];
        let (_, host, xid) = asked(blades.begin(0, now).unwrap());
        let mac = Plan::mac(host.into());
        blades.hear(&answer(mac, xid, OFFER, addr, SERVER), now);
        blades.hear(&answer(mac, xid, ACK, [10, 90, 128, 4], SERVER), now);
        assert_eq!(blades.tally.invalid, 1, "not what was offered");
        assert_eq!(blades.hear(&answer(mac, xid, ACK, addr, SERVER), now), Next::Done(0));
        let (_, host, xid) = asked(blades.begin(0, now).unwrap());
        let mac = Plan::mac(host.into());
        blades.hear(&answer(mac, xid, OFFER, addr, SERVER), now);
        assert_eq!(blades.tally.invalid, 2, "another's");
        blades.hear(&answer(mac, xid, OFFER, [10, 90, 128, 10], SERVER), now);
        assert_eq!(blades.tally.invalid, 3, "outside the pool");
    }

    #[test]
    fn a_blade_that_gets_no_answer_is_lost() {
        let now = Instant::now();
        let mut blades = blades(true, 2, now);
        blades.begin(0, now);
        blades.begin(1, now + Duration::from_secs(1));
        assert_eq!(blades.give_up(now + PATIENCE), None);
        let late = now + PATIENCE + Duration::from_millis(1);
        assert_eq!(blades.give_up(late), Some(0));
        assert_eq!(blades.give_up(late), None);
        assert_eq!((blades.tally.lost, blades.waiting()), (1, 1));
    }
}
