//! What other DHCP servers got wrong, asked of the real daemon from outside: forged farewells, requests from networks that
//! there are not, a rack at once, old memory in a reply.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use netboot::mac::Mac;
use tempfile::TempDir;
use xtask::lab::{Lab, Namespace, SERVER_ADDR, Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, data, lab, status};
use crate::wire::{ACK, Ask, DISCOVER, NAK, NOWHERE, OFFER, RELEASE, REQUEST, Wire};

const DECLINE: u8 = 4;
const INFORM: u8 = 8;
/// The machine of [`BLADE`].
const RESERVED: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x77]);
/// Nobody's address here.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

/// A server, and many machines behind one port.
struct House {
    server: Server,
    wire: Wire,
    _machines: Namespace,
    _data: TempDir,
    lab: Lab,
}

impl House {
    fn new(arguments: &[&str]) -> Self {
        let (lab, data) = (lab(), data(BLADE));
        let server = Server::start(&lab, Path::new(NETBOOT), data.path(), arguments).unwrap();
        let machines = lab.client("machines").unwrap();
        Self { wire: Wire::open(&lab, &machines), server, _machines: machines, _data: data, lab }
    }

    /// How often each thing has happened.
    fn counters(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(status(&self.lab)["counters"]["dhcp"].clone()).unwrap_or_default()
    }

    fn count(&self, name: &str) -> u64 {
        self.counters().get(name).copied().unwrap_or_default()
    }

    /// How many packets were refused or ignored, whatever the reason.
    fn ignored(&self) -> u64 {
        let answers = ["offer", "ack", "nak", "release", "decline"];
        self.counters()
            .iter()
            .filter(|(name, _)| !answers.contains(&name.as_str()))
            .map(|(_, count)| count)
            .sum()
    }

    fn wait_ignored(&self, count: u64) {
        assert!(wait_for(SOON, || self.ignored() >= count), "{count}: {:?}", self.counters());
    }
}

fn machine(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 6, number])
}

#[test]
fn a_farewell_counts_only_from_whom_it_is_and_for_this_server() {
    let house = House::new(&["--xdp", "off"]);
    let (owner, thief) = (machine(1), machine(2));
    let addr = house.wire.obtain(owner, 1, SOON).unwrap();
    let other = Ipv4Addr::new(192, 168, 90, 3);
    let forged = [
        Ask::new(thief, 10, RELEASE).ciaddr(addr).server(SERVER_ADDR),
        Ask::new(owner, 11, RELEASE).ciaddr(addr).server(other),
        Ask::new(thief, 12, RELEASE).ciaddr(addr),
        Ask::new(thief, 13, DECLINE).requested(addr).server(SERVER_ADDR),
        Ask::new(owner, 14, DECLINE).requested(addr).server(other),
        // Not its own, and the one that is reserved for another.
        Ask::new(owner, 15, RELEASE).ciaddr(Ipv4Addr::new(192, 168, 90, 200)).server(SERVER_ADDR),
        Ask::new(owner, 16, DECLINE).requested(Ipv4Addr::new(192, 168, 90, 77)).server(SERVER_ADDR),
    ];
    for (number, ask) in (1..).zip(&forged) {
        house.wire.send(ask);
        house.wait_ignored(number);
    }
    assert_eq!((house.count("release"), house.count("decline")), (0, 0));
    let wish = |xid| house.wire.ask(&Ask::new(thief, xid, REQUEST).requested(addr), SOON).unwrap();
    assert_eq!(wish(20).message, NAK, "it is still another's");
    let again = house.wire.ask(&Ask::new(owner, 21, REQUEST).requested(addr), SOON).unwrap();
    assert_eq!((again.message, again.yiaddr), (ACK, addr));

    // And the true one does count.
    house.wire.send(&Ask::new(owner, 22, RELEASE).ciaddr(addr).server(SERVER_ADDR));
    assert!(wait_for(SOON, || house.count("release") == 1), "{:?}", house.counters());
    assert_eq!((wish(23).message, wish(24).yiaddr), (ACK, addr));
    house.server.stop().unwrap();
}

#[test]
fn who_writes_from_a_network_that_there_is_not_gets_nothing_and_hurts_nobody() {
    let house = House::new(&["--xdp", "off"]);
    // A forged source that the kernel would else drop as one that cannot be.
    house.lab.server.ip("route add 10.9.9.0/24 dev pxe0").unwrap();
    let stranger = machine(9);
    let mut relayed = Ask::new(stranger, 5, DISCOVER).bytes();
    relayed[24..28].copy_from_slice(&ELSEWHERE.octets());
    let mut own_relay = Ask::new(RESERVED, 6, DISCOVER).bytes();
    own_relay[24..28].copy_from_slice(&ELSEWHERE.octets());
    let packets = [
        Ask::new(stranger, 1, REQUEST).ciaddr(ELSEWHERE).bytes(),
        Ask::new(stranger, 2, INFORM).ciaddr(ELSEWHERE).bytes(),
        Ask::new(stranger, 3, RELEASE).ciaddr(ELSEWHERE).server(SERVER_ADDR).bytes(),
        Ask::new(stranger, 4, REQUEST).requested(ELSEWHERE).server(SERVER_ADDR).bytes(),
        relayed,
        own_relay,
    ];
    let handled = || house.ignored() + house.count("nak");
    for (number, packet) in (1..).zip(&packets) {
        house.wire.send_to(stranger, packet, ELSEWHERE, Mac::BROADCAST, SERVER_ADDR);
        assert!(wait_for(SOON, || handled() >= number), "packet {number}: {:?}", house.counters());
    }
    assert_eq!((house.count("offer"), house.count("ack")), (0, 0), "{:?}", house.counters());
    assert_eq!(house.wire.obtain(RESERVED, 40, SOON), Some(Ipv4Addr::new(192, 168, 90, 77)));
    assert!(house.wire.obtain(stranger, 50, SOON).is_some());
    house.server.stop().unwrap();
}

#[test]
fn thirty_machines_that_ask_at_once_get_thirty_addresses() {
    let house = House::new(&["--xdp", "off"]);
    let xid = |number: u8, message: u8| u32::from(number) << 8 | u32::from(message);
    let all = || (0..30).map(machine);
    let answered = |asks: &mut dyn FnMut(&Wire), wanted: u8| {
        let mut answers: BTreeMap<Mac, Ipv4Addr> = BTreeMap::new();
        let deadline = Instant::now() + SOON;
        while answers.len() < 30 && Instant::now() < deadline {
            asks(&house.wire);
            while let Some(reply) = house.wire.hear(Duration::from_millis(500)) {
                if reply.message == wanted {
                    let before = answers.insert(reply.mac, reply.yiaddr);
                    assert!(before.is_none_or(|before| before == reply.yiaddr), "two for one: {reply:?}");
                }
                if answers.len() == 30 {
                    break;
                }
            }
        }
        answers
    };
    let mut discover = |wire: &Wire| {
        for (number, mac) in (0..).zip(all()) {
            wire.send(&Ask::new(mac, xid(number, DISCOVER), DISCOVER));
        }
    };
    let offers = answered(&mut discover, OFFER);
    let mut request = |wire: &Wire| {
        for (number, mac) in (0..).zip(all()) {
            wire.send(
                &Ask::new(mac, xid(number, REQUEST), REQUEST).requested(offers[&mac]).server(SERVER_ADDR),
            );
        }
    };
    let leases = answered(&mut request, ACK);
    assert_eq!(leases, offers);
    assert_eq!(leases.values().collect::<BTreeSet<_>>().len(), 30, "{leases:?}");
    house.server.stop().unwrap();
}

/// The byte that nobody sends here but the one who is looked for.
const POISON: u8 = 0xa5;

/// A request with poison wherever a request may have something that no reply repeats.
fn poisoned(ask: &Ask) -> Vec<u8> {
    let mut bytes = ask.bytes();
    let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
    bytes.truncate(end);
    for (code, length) in [(60, 255), (200, 255), (43, 100)] {
        bytes.extend([code, length]);
        bytes.resize(bytes.len() + usize::from(length), POISON);
    }
    bytes.push(255);
    bytes.resize(1400, POISON);
    // yiaddr, siaddr, sname, file.
    bytes[16..24].fill(POISON);
    bytes[44..236].fill(POISON);
    bytes
}

#[test]
fn no_reply_has_a_byte_of_another_request() {
    for xdp in ["generic", "off"] {
        let house = House::new(&["--xdp", xdp]);
        let server_mac = Mac::BROADCAST;
        for (number, mac) in (1..).zip([RESERVED, machine(1), RESERVED, machine(2)]) {
            // Poison from the machine itself and from others, and then a plain question of its own.
            let ask = Ask::new(mac, number << 8, DISCOVER);
            for sender in [mac, machine(7), RESERVED] {
                let poison = poisoned(&Ask::new(sender, 0x7777, DISCOVER));
                house.wire.send_to(sender, &poison, NOWHERE, server_mac, Ipv4Addr::BROADCAST);
            }
            let deadline = Instant::now() + SOON;
            let mut heard = false;
            while !heard && Instant::now() < deadline {
                house.wire.send(&ask);
                while let Some((reply, bytes)) = house.wire.hear_all(Duration::from_millis(500)) {
                    assert!(
                        !bytes.windows(2).any(|pair| pair == [POISON; 2]),
                        "--xdp {xdp}, {mac}: {reply:?} {bytes:02x?}"
                    );
                    let end = options_end(&bytes);
                    assert!(bytes[end..].iter().all(|byte| *byte == 0), "after END: {bytes:02x?}");
                    heard |= (reply.mac, reply.xid) == (mac, ask.xid);
                    if heard {
                        break;
                    }
                }
            }
            assert!(heard, "--xdp {xdp}, {mac}: {}", house.server.child().output());
        }
        house.server.stop().unwrap();
    }
}

/// Where the options of a reply are over, END included.
fn options_end(bytes: &[u8]) -> usize {
    let mut at = 240;
    while bytes[at] != 255 {
        at += if bytes[at] == 0 { 1 } else { 2 + usize::from(bytes[at + 1]) };
    }
    at + 1
}
