//! Requests that are not a DHCP exchange of four: BOOTP, and rapid commit.

use netboot_ebpf::Reason;
use netboot_ebpf::verdict::message::{ACK, BOOTP, OFFER};

use super::{BLADE, NOW, SERVER, Want, World, addr, blade, discover, mac, reply, request, short};
use crate::dhcp::lease::Lease;
use crate::dhcp::options::SMALLEST;
use crate::dhcp::packets::{Packet, options, value};
use crate::dhcp::policy::{Addressed, Change, Outcome, Route, View, decide};
use crate::dhcp::wire;
use crate::inventory::Snapshot;

/// RFC 951 with the options of RFC 1497.
fn bootp(mac: crate::mac::Mac) -> Packet {
    Packet { options: vec![], ..Packet::new(mac) }
}

#[test]
fn bootp_is_for_reserved_machines_and_has_nothing_of_dhcp() {
    let world = World::new();
    let Outcome::Reply(answer, change) = world.ask(&bootp(BLADE)) else { panic!("no answer") };
    assert_eq!((answer.message, answer.addr, change), (BOOTP, addr(11), Change::None));
    assert_eq!(answer.route, Route::Unicast { mac: BLADE, addr: addr(11) });
    let bytes = &answer.bytes;
    assert_eq!(bytes.len(), SMALLEST, "a vendor area of 64 bytes");
    assert_eq!(bytes[..10], [2, 1, 6, 0, b'x', b'i', b'd', b'!', 0, 4]);
    assert_eq!(bytes[16..24], [addr(11).octets(), SERVER.octets()].concat(), "yiaddr, siaddr");
    assert!(bytes[44..].starts_with(b"192.168.90.2\0") && bytes[108..].starts_with(b"pxelinux.0\0"));
    let (said, rest) = options(bytes);
    let codes: Vec<u8> = said.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [1, 3, 12]);
    assert!(rest.iter().all(|byte| *byte == 0));

    assert_eq!(world.ask(&bootp(mac(9))), Outcome::Ignore(Reason::BootpUnknown, Change::None));
    assert_eq!(
        world.ask(&bootp(mac(1))),
        Outcome::Ignore(Reason::BootpUnknown, Change::None),
        "a lease is none"
    );
    let elsewhere = bootp(BLADE).ciaddr(addr(12));
    assert_eq!(world.ask(&elsewhere), Outcome::Ignore(Reason::WrongAddress, Change::None));
    let Outcome::Reply(known, _) = world.ask(&bootp(BLADE).ciaddr(addr(11)).broadcast()) else {
        panic!("no answer")
    };
    assert_eq!(
        (known.route, &known.bytes[12..16]),
        (Route::Unicast { mac: BLADE, addr: addr(11) }, &addr(11).octets()[..])
    );
    let Outcome::Reply(loud, _) = world.ask(&bootp(BLADE).broadcast()) else { panic!("no answer") };
    assert_eq!(loud.route, Route::Broadcast);
}

#[test]
fn a_bootp_client_without_the_cookie_gets_no_options() {
    let world = World::new();
    let packet = [bootp(BLADE).header.as_slice(), &[0; 64]].concat();
    let request = wire::decode(&packet).unwrap();
    let World { subnet, snapshot, leases, settings, on_link, now } = &world;
    let view = View { subnet, on_link: *on_link, snapshot, leases, settings, now: *now };
    let Outcome::Reply(answer, _) = decide(&request, Addressed::Broadcast, &view) else {
        panic!("no answer")
    };
    assert_eq!(answer.bytes.len(), SMALLEST);
    assert_eq!(answer.bytes[16..20], addr(11).octets());
    assert_eq!(answer.bytes[236..], [0; 64]);
}

#[test]
fn what_does_not_fit_into_a_vendor_area_is_left_out_whole() {
    let mut world = World::new();
    world.subnet.routers = vec![addr(1); 8];
    world.subnet.dns = vec![addr(3)];
    world.subnet.domain = Some("d".repeat(60));
    let host = crate::inventory::Host { hostname: "abcd".into(), ..blade(BLADE, addr(11)) };
    world.snapshot = Snapshot::new(std::collections::BTreeMap::new(), vec![host]);
    let bytes = reply(&world, &bootp(BLADE));
    let (said, _) = options(&bytes);
    let lengths: Vec<_> = said.iter().map(|(code, value)| (*code, value.len())).collect();
    assert_eq!(lengths, [(1, 4), (3, 32), (6, 4), (12, 4)]);
    assert_eq!(bytes.len(), SMALLEST);
    // To the last byte: 4 of the cookie, 6 + 34 + 6 of the others, 13 for the name, END.
    let name = |length: usize| {
        let host = crate::inventory::Host { hostname: "n".repeat(length), ..blade(BLADE, addr(11)) };
        let snapshot = Snapshot::new(std::collections::BTreeMap::new(), vec![host]);
        value(&reply(&World { snapshot, subnet: world.subnet.clone(), ..World::new() }, &bootp(BLADE)), 12)
    };
    assert_eq!(name(11), Some(vec![b'n'; 11]));
    assert_eq!(name(12), None);
    // A relay agent's option comes back all the same, last.
    let relayed = reply(&world, &bootp(BLADE).with(82, [1, 1, 7]));
    assert_eq!(options(&relayed).0.last(), Some(&(82, vec![1, 1, 7])));
}

#[test]
fn rapid_commit_is_an_ack_at_once() {
    let mut world = World::new();
    let ask = |mac| discover(mac).with(80, []);
    assert_eq!(short(&world.ask(&ask(BLADE))), Want::Offer(addr(11)), "not unless it is set");
    assert_eq!(value(&reply(&world, &ask(BLADE)), 80), None);
    world.subnet.rapid_commit = true;
    let Outcome::Reply(answer, change) = world.ask(&ask(BLADE)) else { panic!("no answer") };
    assert_eq!((answer.message, answer.addr, change), (ACK, addr(11), Change::None));
    assert_eq!((value(&answer.bytes, 80), value(&answer.bytes, 53)), (Some(vec![]), Some(vec![ACK])));
    assert!(value(&answer.bytes, 51).is_some());
    // The address of a pool is leased, so the ACK waits for the disk.
    let Outcome::Reply(answer, change) = world.ask(&ask(mac(1)).with(51, 1200_u32.to_be_bytes())) else {
        panic!("no answer")
    };
    assert_eq!((answer.message, change), (ACK, Change::Lease { addr: addr(15), secs: 1200 }));
    world.leases.writing(&Lease::new(addr(15), mac(1), NOW + 3600));
    assert_eq!(world.ask(&ask(mac(1))), Outcome::Ignore(Reason::Pending, Change::None), "one is on its way");
    // One that is to be looked for on the wire first is offered.
    assert!(matches!(short(&world.ask(&ask(mac(7)))), Want::Offer(_)));
    world.settings.probe = false;
    assert!(matches!(short(&world.ask(&ask(mac(7)))), Want::Ack(_)));
    // Who does not ask for it goes the long way.
    let Outcome::Reply(answer, _) = world.ask(&discover(BLADE)) else { panic!("no answer") };
    assert_eq!((answer.message, value(&answer.bytes, 80)), (OFFER, None));
    let Outcome::Reply(answer, _) = world.ask(&request(BLADE).requested(addr(11)).with(80, [])) else {
        panic!("no answer")
    };
    assert_eq!((answer.message, value(&answer.bytes, 80)), (ACK, None), "for a DISCOVER alone");
}
