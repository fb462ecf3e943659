//! What the program and the daemon exchange through BPF maps: names, capacities, keys and values.
//!
//! Integers only, `repr(C)`, every byte a named field, sizes asserted: the two sides are compiled apart and
//! see nothing of each other but these bytes. Addresses and transaction numbers are host-order numbers.

use crate::class::Class;
use crate::guard::Limits;
use crate::verdict::Reason;

/// The names of the maps, as the loader asks for them.
pub mod map {
    /// [`HostKey`](super::HostKey) to [`Host`](super::Host).
    pub const HOSTS: &str = "HOSTS";
    /// [`Template`](super::Template)s, by slot.
    pub const TEMPLATES: &str = "TEMPLATES";
    /// Prefixes of relay agents' addresses to the number of their segment, a `u32`.
    pub const RELAYS: &str = "RELAYS";
    /// One [`Server`](super::Server).
    pub const SERVER: &str = "SERVER";
    /// One `u64`: when the daemon was last seen alive, in nanoseconds of the monotonic clock; 0: never.
    pub const BEAT: &str = "BEAT";
    /// A `u64` for each CPU and each [`counter_name`](super::counter_name).
    pub const COUNTERS: &str = "COUNTERS";
    /// The ring buffer of [`Event`](super::Event)s.
    pub const EVENTS: &str = "EVENTS";
    /// [`GuardKey`](super::GuardKey) to [`Bucket`](crate::guard::Bucket), the least recently used go.
    pub const GUARD: &str = "GUARD";
    /// One `u64`: until when answered packets are copied into `CAPTURED`, in nanoseconds of the monotonic clock.
    pub const CAPTURE: &str = "CAPTURE";
    /// The ring buffer of answered packets: [`Captured`](super::Captured), then the frame.
    pub const CAPTURED: &str = "CAPTURED";
}

/// The name of the program in its object file.
pub const PROGRAM: &str = "netboot";
/// The most machines.
pub const HOSTS_CAPACITY: u32 = 131_072;
/// The most templates, of all profiles and classes.
pub const TEMPLATES_CAPACITY: u32 = 16_384;
/// The most subnets behind relay agents, each with a prefix and an agent.
pub const RELAYS_CAPACITY: u32 = 8192;
/// The most clients and relay agents whose rate is limited; the least recently seen go.
pub const GUARD_CAPACITY: u32 = 65_536;
/// Size of the ring buffer of events in bytes: about six thousand that nobody has read yet.
pub const EVENTS_BYTES: u32 = 256 * 1024;
/// Size of the ring buffer of captured packets in bytes.
pub const CAPTURED_BYTES: u32 = 1024 * 1024;
/// The longest template with the machine's name that the program takes; a longer one is left to the daemon.
pub const TEMPLATE_MAX: usize = 508;
/// The longest name of a machine, as a whole option 12; machines with a longer one are left to the daemon.
pub const NAME_MAX: usize = 72;
/// The most bytes of a frame that are captured.
pub const CAPTURE_MAX: usize = 1536;
/// A slot that is none: machines of this class are left to the daemon.
pub const NO_SLOT: u16 = u16::MAX;

/// Whose entry it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostKey {
    /// The machine's Ethernet address.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
}

/// What is said to one machine: its own part of the reply, and which templates the rest is in.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// A number that no other value ever written to the map has: by it the program sees that a value was
    /// replaced, or a template that it names, while it read them.
    pub stamp: u64,
    /// The end of its lease, in nanoseconds of the monotonic clock; 0: it has a reservation, which does not end.
    pub valid_until_ns: u64,
    /// Its address.
    pub addr: u32,
    /// The number of the subnet that it belongs to; 0 is the interface's own.
    pub segment: u16,
    /// Length of its name; 0: it has none.
    pub name_len: u8,
    /// Zero.
    pub pad: u8,
    /// The slot of the template, by the number of the [`Class`]; [`NO_SLOT`]: the daemon's.
    pub slots: [u16; 16],
    /// Its name as option 12, with code and length, then zeros.
    pub name: [u8; NAME_MAX],
}

/// What many machines are told alike: a reply without `yiaddr` and name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its length.
    pub len: u32,
    /// Zero.
    pub pad: u32,
    /// The template, then zeros.
    pub bytes: [u8; 512],
}

impl Template {
    /// The value for a template; `None` when it is too long for the program.
    pub fn new(template: &[u8]) -> Option<Self> {
        if template.len() > TEMPLATE_MAX {
            return None;
        }
        let mut bytes = [0; 512];
        bytes.get_mut(..template.len())?.copy_from_slice(template);
        Some(Self { len: u32::try_from(template.len()).ok()?, pad: 0, bytes })
    }
}

/// Who answers, and on what conditions.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// A heartbeat older than this is stale, nanoseconds.
    pub grace_ns: u64,
    /// What is dropped before it is looked at.
    pub limits: Limits,
    /// The server's address.
    pub addr: u32,
    /// The interface's Ethernet address.
    pub mac: [u8; 6],
    /// 1: the daemon answers a DISCOVER with option 80 by an ACK (RFC 4039).
    pub rapid_commit: u8,
    /// How many VLAN tags the PXE network has here; 0: none, or one of priority alone.
    pub tags: u8,
    /// The VLANs of these tags, the outer first.
    pub vlan: [u16; 2],
    /// 1: packets that other DHCP servers send to clients are told.
    pub watch: u8,
    /// Zero.
    pub pad: [u8; 7],
}

/// Whose rate is limited.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardKey {
    /// An Ethernet address, or the address of a relay agent and zeros.
    pub who: [u8; 6],
    /// 0: an Ethernet address; 1: a relay agent.
    pub relay: u8,
    /// Zero.
    pub pad: u8,
}

/// What an event tells of.
pub mod what {
    /// The program has answered; `detail` is the message type of the reply (RFC 2132 9.6).
    pub const ANSWERED: u8 = 1;
    /// It has passed a request up; `detail` is the number of the reason. Not each is told.
    pub const PASSED: u8 = 2;
    /// It has dropped a request; `detail` is the number of the reason. Not each is told.
    pub const DROPPED: u8 = 3;
    /// Another server speaks to clients; `addr` and `mac` are that server's. Not each is told.
    pub const FOREIGN: u8 = 4;
}

/// What the program tells the daemon.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds of the monotonic clock.
    pub at_ns: u64,
    /// The address that was given.
    pub addr: u32,
    /// The transaction.
    pub xid: u32,
    /// The relay agent; 0: none.
    pub giaddr: u32,
    /// The machine's Ethernet address.
    pub mac: [u8; 6],
    /// The number of its [`Class`], of an answer.
    pub class: u8,
    /// One of [`what`].
    pub what: u8,
    /// See there.
    pub detail: u8,
    /// Zero.
    pub pad: [u8; 3],
}

impl Event {
    /// Reads a record of the ring buffer; `None` when it is too short to be one.
    pub fn from_bytes(record: &[u8]) -> Option<Self> {
        let (at_ns, rest) = record.split_first_chunk()?;
        let (addr, rest) = rest.split_first_chunk()?;
        let (xid, rest) = rest.split_first_chunk()?;
        let (giaddr, rest) = rest.split_first_chunk()?;
        let (mac, rest) = rest.split_first_chunk()?;
        let [class, what, detail, _, _, _] = *rest.first_chunk()?;
        Some(Self {
            at_ns: u64::from_ne_bytes(*at_ns),
            addr: u32::from_ne_bytes(*addr),
            xid: u32::from_ne_bytes(*xid),
            giaddr: u32::from_ne_bytes(*giaddr),
            mac: *mac,
            class,
            what,
            detail,
            pad: [0; 3],
        })
    }
}

/// What stands before each captured frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When, in nanoseconds of the monotonic clock.
    pub at_ns: u64,
    /// Length of the frame behind this, bytes.
    pub length: u16,
    /// 0: received; 1: sent.
    pub sent: u8,
    /// Zero.
    pub pad: [u8; 5],
}

impl Captured {
    /// Reads a record of the ring buffer: this and the frame; `None` when it is none.
    pub fn from_bytes(record: &[u8]) -> Option<(Self, &[u8])> {
        let (at_ns, rest) = record.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let ([sent, _, _, _, _, _], rest) = rest.split_first_chunk()?;
        let length = u16::from_ne_bytes(*length);
        let captured = Self { at_ns: u64::from_ne_bytes(*at_ns), length, sent: *sent, pad: [0; 5] };
        Some((captured, rest.get(..length.into())?))
    }
}

const _: () = {
    assert!(size_of::<HostKey>() == 8);
    assert!(size_of::<Host>() == 8 + 8 + 4 + 2 + 2 + 32 + NAME_MAX);
    assert!(size_of::<Template>() == 8 + 512);
    assert!(size_of::<Server>() == 8 + size_of::<Limits>() + 4 + 6 + 2 + 4 + 8);
    assert!(size_of::<GuardKey>() == 8);
    assert!(size_of::<Event>() == 32);
    assert!(size_of::<Captured>() == 16);
    assert!(TEMPLATE_MAX < 512 && TEMPLATES_CAPACITY < NO_SLOT as u32);
    assert!(Class::ALL.len() <= 16);
};

/// The counter of OFFERs; below it a counter for each [`Reason`], by its number.
#[allow(clippy::cast_possible_truncation, reason = "some fifty reasons")]
pub const OFFERS: u32 = Reason::ALL.len() as u32;
/// The counter of ACKs.
pub const ACKS: u32 = OFFERS + 1;
/// The counter of events that found the ring buffer full.
pub const EVENTS_LOST: u32 = OFFERS + 2;
/// The counter of packets that were to be captured and found the ring buffer full.
pub const CAPTURED_LOST: u32 = OFFERS + 3;
/// How many counters there are.
pub const COUNTERS: u32 = OFFERS + 4;

/// The name that operators see of a counter.
pub fn counter_name(index: u32) -> Option<&'static str> {
    match index {
        OFFERS => Some("offer"),
        ACKS => Some("ack"),
        EVENTS_LOST => Some("event-lost"),
        CAPTURED_LOST => Some("captured-lost"),
        _ => Reason::ALL.get(index as usize).map(|reason| reason.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNTERS, Captured, Event, TEMPLATE_MAX, Template, counter_name, what};

    #[test]
    fn a_template_fits_or_is_refused() {
        let template = Template::new(&[9; TEMPLATE_MAX]).expect("the longest");
        assert_eq!(
            (template.len as usize, template.bytes[TEMPLATE_MAX - 1], template.bytes[TEMPLATE_MAX]),
            (TEMPLATE_MAX, 9, 0)
        );
        assert_eq!(Template::new(&[9; TEMPLATE_MAX + 1]), None);
    }

    #[test]
    fn an_event_is_read_field_by_field() {
        let mut record = Vec::new();
        record.extend_from_slice(&5u64.to_ne_bytes());
        record.extend_from_slice(&6u32.to_ne_bytes());
        record.extend_from_slice(&7u32.to_ne_bytes());
        record.extend_from_slice(&8u32.to_ne_bytes());
        record.extend_from_slice(&[1, 2, 3, 4, 5, 6, 2, what::ANSWERED, 5, 0, 0, 0]);
        let event = Event {
            at_ns: 5,
            addr: 6,
            xid: 7,
            giaddr: 8,
            mac: [1, 2, 3, 4, 5, 6],
            class: 2,
            what: what::ANSWERED,
            detail: 5,
            pad: [0; 3],
        };
        assert_eq!(Event::from_bytes(&record), Some(event));
        for length in 0..record.len() {
            assert_eq!(Event::from_bytes(&record[..length]), None);
        }
    }

    #[test]
    fn a_captured_frame_is_as_long_as_it_says() {
        let mut record = Vec::new();
        record.extend_from_slice(&5u64.to_ne_bytes());
        record.extend_from_slice(&3u16.to_ne_bytes());
        record.extend_from_slice(&[1, 0, 0, 0, 0, 0, 7, 8, 9, 99]);
        let captured = Captured { at_ns: 5, length: 3, sent: 1, pad: [0; 5] };
        assert_eq!(Captured::from_bytes(&record), Some((captured, &[7, 8, 9][..])));
        for length in 0..record.len() - 1 {
            assert_eq!(Captured::from_bytes(&record[..length]), None);
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
