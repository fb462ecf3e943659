//! What the program and the daemon exchange through BPF maps: names, capacities, keys and values.
//!
//! Integers only, `repr(C)`, every byte a named field, sizes asserted: the two sides are compiled apart and
//! see nothing of each other but these bytes. Addresses and transaction numbers are host-order numbers.

use crate::verdict::Reason;

/// The names of the maps, as the loader asks for them.
pub mod map {
    /// [`ReplyKey`](super::ReplyKey) to [`Reply`](super::Reply).
    pub const REPLIES: &str = "REPLIES";
    /// One [`Server`](super::Server).
    pub const SERVER: &str = "SERVER";
    /// One `u64`: when the daemon was last seen alive, in nanoseconds of the monotonic clock; 0: never.
    pub const BEAT: &str = "BEAT";
    /// A `u64` for each CPU and each [`counter_name`](super::counter_name).
    pub const COUNTERS: &str = "COUNTERS";
    /// The ring buffer of [`Event`](super::Event)s.
    pub const EVENTS: &str = "EVENTS";
}

/// The name of the program in its object file.
pub const PROGRAM: &str = "netboot";
/// The most replies: 16,384 machines in three classes, and room to spare.
pub const REPLIES_CAPACITY: u32 = 65_536;
/// Size of the ring buffer in bytes: about eight thousand answers that nobody has read yet.
pub const EVENTS_BYTES: u32 = 256 * 1024;
/// The longest template that the program takes; a longer one is left to the daemon.
pub const TEMPLATE_MAX: usize = 508;

/// Whose reply it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyKey {
    /// The machine's Ethernet address.
    pub mac: [u8; 6],
    /// The number of its [`Class`](crate::Class).
    pub class: u8,
    /// Zero.
    pub pad: u8,
}

/// A reply template and what the program has to know of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// A number that no other value ever written to the map has: by it the program sees that a value was
    /// replaced while it read it.
    pub stamp: u64,
    /// The reserved address.
    pub addr: u32,
    /// Length of the template, a multiple of 4.
    pub len: u32,
    /// The template, then zeros.
    pub bytes: [u8; 512],
}

impl Reply {
    /// The value for a template; `None` when it is too long for the program.
    pub fn new(stamp: u64, addr: u32, template: &[u8]) -> Option<Self> {
        if template.len() > TEMPLATE_MAX || !template.len().is_multiple_of(4) {
            return None;
        }
        let mut bytes = [0; 512];
        bytes.get_mut(..template.len())?.copy_from_slice(template);
        Some(Self { stamp, addr, len: u32::try_from(template.len()).ok()?, bytes })
    }
}

/// Who answers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// A heartbeat older than this is stale, nanoseconds.
    pub grace_ns: u64,
    /// The server's address.
    pub addr: u32,
    /// The interface's Ethernet address.
    pub mac: [u8; 6],
    /// 1: the daemon answers a DISCOVER with option 80 by an ACK (RFC 4039).
    pub rapid_commit: u8,
    /// Zero.
    pub pad: [u8; 5],
}

/// One answer, as told to the daemon.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds of the monotonic clock.
    pub at_ns: u64,
    /// The address that was given.
    pub addr: u32,
    /// The transaction.
    pub xid: u32,
    /// The machine's Ethernet address.
    pub mac: [u8; 6],
    /// The number of its [`Class`](crate::Class).
    pub class: u8,
    /// The message type of the reply (RFC 2132 9.6).
    pub answer: u8,
}

impl Event {
    /// Reads a record of the ring buffer; `None` when it is too short to be one.
    pub fn from_bytes(record: &[u8]) -> Option<Self> {
        let (at_ns, rest) = record.split_first_chunk()?;
        let (addr, rest) = rest.split_first_chunk()?;
        let (xid, rest) = rest.split_first_chunk()?;
        let (mac, rest) = rest.split_first_chunk()?;
        let [class, answer] = *rest.first_chunk()?;
        Some(Self {
            at_ns: u64::from_ne_bytes(*at_ns),
            addr: u32::from_ne_bytes(*addr),
            xid: u32::from_ne_bytes(*xid),
            mac: *mac,
            class,
            answer,
        })
    }
}

const _: () = {
    assert!(size_of::<ReplyKey>() == 8);
    assert!(size_of::<Reply>() == 8 + 4 + 4 + 512);
    assert!(size_of::<Server>() == 24);
    assert!(size_of::<Event>() == 24);
    assert!(TEMPLATE_MAX.is_multiple_of(4) && TEMPLATE_MAX < 512);
};

/// The counter of OFFERs; below it a counter for each [`Reason`], by its number.
#[allow(clippy::cast_possible_truncation, reason = "some thirty reasons")]
pub const OFFERS: u32 = Reason::ALL.len() as u32;
/// The counter of ACKs.
pub const ACKS: u32 = OFFERS + 1;
/// The counter of answers whose event found the ring buffer full.
pub const EVENTS_LOST: u32 = OFFERS + 2;
/// How many counters there are.
pub const COUNTERS: u32 = OFFERS + 3;

/// The name that operators see of a counter.
pub fn counter_name(index: u32) -> Option<&'static str> {
    match index {
        OFFERS => Some("offer"),
        ACKS => Some("ack"),
        EVENTS_LOST => Some("event-lost"),
        _ => Reason::ALL.get(index as usize).map(|reason| reason.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNTERS, Event, Reply, TEMPLATE_MAX, counter_name};

    #[test]
    fn a_template_fits_or_is_refused() {
        let reply = Reply::new(7, 1, &[9; TEMPLATE_MAX]).expect("the longest");
        assert_eq!(
            (reply.len as usize, reply.bytes[TEMPLATE_MAX - 1], reply.bytes[TEMPLATE_MAX]),
            (TEMPLATE_MAX, 9, 0)
        );
        assert_eq!(Reply::new(7, 1, &[9; TEMPLATE_MAX + 4]), None);
        assert_eq!(Reply::new(7, 1, &[9; 242]), None, "not padded to 4");
    }

    #[test]
    fn an_event_is_read_field_by_field() {
        let mut record = Vec::new();
        record.extend_from_slice(&5u64.to_ne_bytes());
        record.extend_from_slice(&6u32.to_ne_bytes());
        record.extend_from_slice(&7u32.to_ne_bytes());
        record.extend_from_slice(&[1, 2, 3, 4, 5, 6, 2, 5]);
        let event = Event { at_ns: 5, addr: 6, xid: 7, mac: [1, 2, 3, 4, 5, 6], class: 2, answer: 5 };
        assert_eq!(Event::from_bytes(&record), Some(event));
        for length in 0..record.len() {
            assert_eq!(Event::from_bytes(&record[..length]), None);
        }
    }

    #[test]
    fn every_counter_has_its_own_name() {
        let names: std::collections::BTreeSet<_> = (0..COUNTERS).map(counter_name).collect();
        assert_eq!(names.len(), COUNTERS as usize);
        assert!(!names.contains(&None));
        assert_eq!(counter_name(COUNTERS), None);
    }
}
