//! Packets that have arrived and wait for their turn: bounded, reserved machines first, the oldest dropped when there is
//! no room.
//!
//! Pure. The limits count what *waits*, so they are felt under load alone: while the server keeps up nobody is ever
//! refused. One machine, or all behind one relay agent, cannot fill the queue: of theirs the oldest goes, since whoever
//! asks again has given the earlier question up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::net::Ipv4Addr;

use netboot_ebpf::Reason;

use crate::mac::Mac;

/// Packets that wait in each of the two lanes.
pub const CAPACITY: usize = 4096;
/// Packets of one machine that wait: a DISCOVER and the REQUEST after it.
pub const MOST_OF_ONE_MAC: usize = 2;
/// Packets that wait of all the machines behind one relay agent.
pub const MOST_OF_ONE_RELAY: usize = CAPACITY / 4;

/// Who sent a packet, as far as the limits need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// `chaddr`.
    pub mac: Mac,
    /// `giaddr`, if it came through a relay agent.
    pub relay: Option<Ipv4Addr>,
    /// The machine has a reservation.
    pub reserved: bool,
}

/// The packets that wait.
#[derive(Debug)]
pub struct Queue<T> {
    reserved: Lane<T>,
    others: Lane<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { reserved: Lane::default(), others: Lane::default() }
    }
}

impl<T> Queue<T> {
    /// Appends a packet. If another had to go for it, returns why.
    pub fn push(&mut self, sender: Sender, packet: T) -> Option<Reason> {
        if sender.reserved { self.reserved.push(sender, packet) } else { self.others.push(sender, packet) }
    }

    /// The next packet: the oldest of a reserved machine, else the oldest.
    pub fn pop(&mut self) -> Option<T> {
        self.reserved.pop().or_else(|| self.others.pop())
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.reserved.waiting.is_empty() && self.others.waiting.is_empty()
    }
}

/// Packets in the order in which they came.
#[derive(Debug)]
struct Lane<T> {
    waiting: BTreeMap<u64, (Sender, T)>,
    next: u64,
    by_mac: HashMap<Mac, VecDeque<u64>>,
    by_relay: HashMap<Ipv4Addr, VecDeque<u64>>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), next: 0, by_mac: HashMap::new(), by_relay: HashMap::new() }
    }
}

impl<T> Lane<T> {
    fn push(&mut self, sender: Sender, packet: T) -> Option<Reason> {
        let of_mac = oldest(&self.by_mac, &sender.mac, MOST_OF_ONE_MAC);
        let of_relay = || oldest(&self.by_relay, &sender.relay?, MOST_OF_ONE_RELAY);
        let of_all = || self.waiting.keys().next().copied().filter(|_| self.waiting.len() >= CAPACITY);
        let (place, reason) = match (of_mac, of_relay()) {
            (Some(place), _) => (Some(place), Reason::AskedAgain),
            (None, Some(place)) => (Some(place), Reason::RelayLimit),
            (None, None) => (of_all(), Reason::QueueFull),
        };
        let dropped = place.and_then(|place| self.take(place)).map(|_| reason);
        self.by_mac.entry(sender.mac).or_default().push_back(self.next);
        if let Some(relay) = sender.relay {
            self.by_relay.entry(relay).or_default().push_back(self.next);
        }
        self.waiting.insert(self.next, (sender, packet));
        self.next += 1;
        dropped
    }

    fn pop(&mut self) -> Option<T> {
        let place = *self.waiting.keys().next()?;
        self.take(place).map(|(_, packet)| packet)
    }

    /// Takes a packet out. It is the oldest of its sender, and of its relay unless it went for its sender's sake.
    fn take(&mut self, place: u64) -> Option<(Sender, T)> {
        let (sender, packet) = self.waiting.remove(&place)?;
        forget(&mut self.by_mac, &sender.mac, place);
        if let Some(relay) = sender.relay {
            forget(&mut self.by_relay, &relay, place);
        }
        Some((sender, packet))
    }
}

/// The oldest packet of one sender, if it has as many as it may.
fn oldest<K: Hash + Eq>(index: &HashMap<K, VecDeque<u64>>, key: &K, most: usize) -> Option<u64> {
    index.get(key).filter(|places| places.len() >= most)?.front().copied()
}

fn forget<K: Hash + Eq>(index: &mut HashMap<K, VecDeque<u64>>, key: &K, place: u64) {
    if let Some(places) = index.get_mut(key) {
        // Nearly always the first.
        if let Some(at) = places.iter().position(|other| *other == place) {
            places.remove(at);
        }
        if places.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use netboot_ebpf::Reason;

    use super::{CAPACITY, MOST_OF_ONE_MAC, MOST_OF_ONE_RELAY, Queue, Sender};
    use crate::mac::Mac;

    fn mac(number: usize) -> Mac {
        let [.., a, b, c] = number.to_be_bytes();
        Mac([2, 0, 0, a, b, c])
    }

    fn sender(number: usize) -> Sender {
        Sender { mac: mac(number), relay: None, reserved: false }
    }

    #[test]
    fn reserved_machines_come_first_and_each_in_its_order() {
        let mut queue = Queue::default();
        assert!(queue.is_empty());
        for number in 0..6 {
            let reserved = number % 2 == 1;
            assert_eq!(queue.push(Sender { reserved, ..sender(number) }, number), None);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [1, 3, 5, 0, 2, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn when_it_is_full_the_oldest_goes_and_never_a_reserved_machines() {
        let mut queue = Queue::default();
        queue.push(Sender { reserved: true, ..sender(1) }, 1);
        for number in 0..CAPACITY {
            assert_eq!(queue.push(sender(100 + number), 100 + number), None);
        }
        for number in CAPACITY..CAPACITY + 10_000 {
            assert_eq!(queue.push(sender(100 + number), 100 + number), Some(Reason::QueueFull));
        }
        assert_eq!(queue.pop(), Some(1));
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let last = 100 + CAPACITY + 10_000;
        assert_eq!(left, (last - CAPACITY..last).collect::<Vec<_>>());
        assert!(queue.others.by_mac.is_empty() && queue.others.by_relay.is_empty(), "nothing stays behind");
    }

    #[test]
    fn who_asks_again_and_again_waits_with_its_last_words_alone() {
        let mut queue = Queue::default();
        queue.push(sender(1), 1);
        for number in 0..100 {
            let want = (number >= MOST_OF_ONE_MAC).then_some(Reason::AskedAgain);
            assert_eq!(queue.push(sender(2), 100 + number), want);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [1, 198, 199]);
    }

    #[test]
    fn one_relay_agent_has_its_share() {
        let relay = |last| Some(Ipv4Addr::new(10, 0, 0, last));
        let mut queue = Queue::default();
        for number in 0..2 * MOST_OF_ONE_RELAY {
            let want = (number >= MOST_OF_ONE_RELAY).then_some(Reason::RelayLimit);
            assert_eq!(queue.push(Sender { relay: relay(1), ..sender(number) }, number), want);
        }
        assert_eq!(queue.push(Sender { relay: relay(2), ..sender(9_000_000) }, 7), None);
        assert_eq!(queue.push(sender(9_000_001), 8), None);
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(left.len(), MOST_OF_ONE_RELAY + 2);
        assert_eq!(left.first(), Some(&MOST_OF_ONE_RELAY), "the oldest went");
    }
}
