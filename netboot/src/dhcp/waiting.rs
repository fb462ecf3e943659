//! The machines without a reservation that have asked: what an operator knows one by, since when, and how often.
//!
//! Pure: the request and the time come in. Decides nothing: who is answered is said by `policy`. All text came from the
//! network (options 12 and 60, RFC 2132), so it is cut and escaped here, once: printable ASCII alone goes on to logs,
//! tables and pages.
//!
//! Bounded. For a newcomer the machine goes that was silent longest, of those that asked once if there are any: a
//! flood of made-up addresses pushes out itself, and not machines that came back.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use super::wire::Request;
use crate::mac::Mac;
use crate::uuid::Uuid;

/// The most machines that are remembered.
pub const LARGEST: usize = 4096;
/// The most bytes that are kept of a text.
const LONGEST: usize = 64;

/// A machine that has asked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Machine {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Option 60, escaped.
    pub vendor_class: Option<String>,
    /// The kind of client.
    pub class: &'static str,
    /// Option 93: the first architecture.
    pub arch: Option<u16>,
    /// Option 97, as the machine's own setup shows it.
    pub guid: Option<Uuid>,
    /// Option 12, escaped: the name that it calls itself.
    pub hostname: Option<String>,
    /// The relay agent through which it asked.
    pub relay: Option<Ipv4Addr>,
    /// When it asked first, seconds since 1970.
    pub first_seen: u64,
    /// When it asked last, seconds since 1970.
    pub last_seen: u64,
    /// How often it asked.
    pub times: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Waiting {
    machines: HashMap<Mac, (Machine, Turn)>,
    /// Those that asked once, the one that is silent longest first.
    once: BTreeMap<Turn, Mac>,
    /// Those that came back, in the same order.
    again: BTreeMap<Turn, Mac>,
    turn: Turn,
}

/// Counts the requests: an order that no clock disturbs.
type Turn = u64;

impl Waiting {
    /// Notes a request of a machine without a reservation; `true` when the machine is new here.
    pub fn note(&mut self, request: &Request, now: u64) -> bool {
        self.turn += 1;
        if let Some((machine, turn)) = self.machines.get_mut(&request.mac) {
            self.once.remove(turn);
            self.again.remove(turn);
            *turn = self.turn;
            machine.update(request, now);
            self.again.insert(self.turn, request.mac);
            return false;
        }
        if self.machines.len() >= LARGEST
            && let Some((_, mac)) = self.once.pop_first().or_else(|| self.again.pop_first())
        {
            self.machines.remove(&mac);
        }
        self.machines.insert(request.mac, (Machine::new(request, now), self.turn));
        self.once.insert(self.turn, request.mac);
        true
    }

    /// The card of a machine that has a reservation, as it turns out.
    pub fn forget(&mut self, card: Mac) {
        if let Some((_, turn)) = self.machines.remove(&card) {
            self.once.remove(&turn);
            self.again.remove(&turn);
        }
    }

    /// The machines, the one that asked last first.
    pub fn machines(&self) -> Vec<Machine> {
        let mut all: Vec<_> = self.machines.values().collect();
        all.sort_by_key(|(_, turn)| std::cmp::Reverse(*turn));
        all.into_iter().map(|(machine, _)| machine.clone()).collect()
    }
}

impl Machine {
    fn new(request: &Request, now: u64) -> Self {
        let mut machine = Self {
            mac: request.mac,
            vendor_class: None,
            class: request.class.name(),
            arch: None,
            guid: None,
            hostname: None,
            relay: None,
            first_seen: now,
            last_seen: now,
            times: 0,
        };
        machine.update(request, now);
        machine
    }

    /// What a request says counts from now on, what it does not say stays. Firmware outweighs the system that runs
    /// later: it is what will boot.
    fn update(&mut self, request: &Request, now: u64) {
        if request.arch.is_some() || self.arch.is_none() {
            self.class = request.class.name();
            self.arch = request.arch;
            self.vendor_class = request
                .vendor_class()
                .and_then(|text| shown(text.as_bytes()))
                .or_else(|| self.vendor_class.take());
        }
        self.guid = request.machine().map(|[uuid, _]| uuid).or(self.guid);
        self.hostname = shown(&request.hostname).or_else(|| self.hostname.take());
        self.relay = Some(request.giaddr).filter(|addr| !addr.is_unspecified());
        self.last_seen = now;
        self.times += 1;
    }
}

/// A text as it may be printed anywhere; `None` when there is none.
fn shown(text: &[u8]) -> Option<String> {
    // Some clients end it with a NUL.
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    let text = text.get(..LONGEST).unwrap_or(text);
    (!text.is_empty()).then(|| text.escape_ascii().to_string())
}

#[cfg(test)]
mod tests {
    use netboot_ebpf::verdict::message;

    use super::{LARGEST, LONGEST, Waiting};
    use crate::dhcp::packets::Packet;
    use crate::dhcp::wire::{Request, decode};
    use crate::mac::Mac;

    fn mac(number: u32) -> Mac {
        let [a, b, c, d] = number.to_be_bytes();
        Mac([0x52, 0x54, a, b, c, d])
    }

    fn request(packet: &Packet) -> Request {
        decode(&packet.bytes()).unwrap()
    }

    fn asks(number: u32) -> Request {
        request(&Packet::new(mac(number)))
    }

    #[test]
    fn what_a_machine_says_is_kept() {
        let mut waiting = Waiting::default();
        let id: Vec<u8> = (0..17).collect();
        let rom = Packet::new(mac(1)).bios().with(97, id).at(24, &[10, 9, 0, 1]);
        assert!(waiting.note(&request(&rom), 100));
        let system =
            Packet::new(mac(1)).message(message::REQUEST).with(60, "udhcp 1.35").with(12, "node\x1b[31m\0");
        assert!(!waiting.note(&request(&system), 160));
        waiting.note(&asks(2), 170);

        waiting.note(&asks(3), 180);
        waiting.forget(mac(3));
        let machines = waiting.machines();
        assert_eq!((machines.len(), machines[0].mac), (2, mac(2)), "the last first");
        assert_eq!((waiting.once.len(), waiting.again.len()), (1, 1));
        let machine = &machines[1];
        assert_eq!(machine.vendor_class.as_deref(), Some("PXEClient:Arch:00000:UNDI:002001"));
        assert_eq!((machine.class, machine.arch), ("bios", Some(0)), "the firmware's");
        assert_eq!(machine.guid, "04030201-0605-0807-090a-0b0c0d0e0f10".parse().ok());
        assert_eq!(machine.hostname.as_deref(), Some(r"node\x1b[31m"), "escaped");
        assert_eq!(machine.relay, None, "it asked without the relay at last");
        assert_eq!((machine.first_seen, machine.last_seen, machine.times), (100, 160, 2));
        let other = &machines[0];
        assert_eq!((other.class, other.arch, &other.guid, &other.hostname), ("plain", None, &None, &None));
    }

    #[test]
    fn long_texts_are_cut() {
        let mut waiting = Waiting::default();
        waiting.note(&request(&Packet::new(mac(1)).with(60, [0xff; 255]).with(12, "\0")), 1);
        let machine = waiting.machines().remove(0);
        assert_eq!(machine.vendor_class.map(|text| text.len()), Some(4 * LONGEST));
        assert_eq!(machine.hostname, None);
    }

    #[test]
    fn a_million_made_up_machines_push_out_none_that_came_back() {
        let mut waiting = Waiting::default();
        for number in 0..100 {
            waiting.note(&asks(number), 1);
            waiting.note(&asks(number), 5);
        }
        let mut flood = asks(0);
        for number in 0..1_000_000 {
            flood.mac = mac(1000 + number);
            waiting.note(&flood, 10);
        }
        assert_eq!(waiting.machines.len(), LARGEST);
        assert_eq!((waiting.once.len(), waiting.again.len()), (LARGEST - 100, 100));
        let machines = waiting.machines();
        assert_eq!(machines[0].mac, mac(1000 + 999_999), "the newest is there");
        assert!((0..100).all(|number| machines.iter().any(|machine| machine.mac == mac(number))));
        // Where all came back, the one that was silent longest goes.
        for machine in machines {
            flood.mac = machine.mac;
            waiting.note(&flood, 20);
        }
        let first = waiting.machines().last().unwrap().mac;
        flood.mac = mac(7);
        assert!(!waiting.note(&flood, 30));
        flood.mac = mac(500);
        assert!(waiting.note(&flood, 30));
        assert_eq!(waiting.machines.len(), LARGEST);
        assert!(waiting.machines().iter().all(|machine| machine.mac != first));
    }
}
