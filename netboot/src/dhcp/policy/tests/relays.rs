//! Machines behind relay agents and routers, and in another subnet than their reservation.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use netboot_ebpf::Reason;
use netboot_ebpf::verdict::message::{ACK, INFORM, NAK, RELEASE};

use super::{BLADE, SERVER, Want, World, addr, blade, discover, mac, request, select, short};
use crate::dhcp::packets::{Packet, value};
use crate::dhcp::policy::{Addressed, Change, Outcome, Route};
use crate::inventory::Snapshot;

#[test]
fn a_relay_agent_gets_the_reply() {
    let world = World::new();
    let relay = Ipv4Addr::new(192, 168, 90, 1);
    let via = |packet: Packet| packet.at(24, &relay.octets()).with(82, [1, 1, 7]);
    let reply = |outcome: Outcome| match outcome {
        Outcome::Reply(reply, _) => reply,
        Outcome::Ignore(reason, _) => panic!("{reason:?}"),
    };
    for (packet, broadcast) in [
        (discover(BLADE), 0),
        (discover(BLADE).broadcast(), 0x80),
        (request(BLADE).ciaddr(addr(11)), 0),
        // The relay agent is to tell everybody.
        (select(BLADE, addr(12)), 0x80),
    ] {
        let reply = reply(world.ask(&via(packet.clone())));
        assert_eq!(reply.route, Route::Relay(relay), "{packet:?}");
        assert_eq!(reply.bytes[24..28], relay.octets());
        assert_eq!(reply.bytes[10], broadcast, "{packet:?}");
        assert_eq!(value(&reply.bytes, 82).as_deref(), Some(&[1, 1, 7][..]));
        assert_eq!(value(&reply.bytes, 54).as_deref(), Some(&SERVER.octets()[..]));
    }
    // It wants to be taken for the server, so that it sees the renewals (RFC 5107). Another agent may have brought the
    // offer, which wants nothing.
    let named = |packet: Packet| via(packet).with(82, [&[11, 4][..], &relay.octets()].concat());
    let offer = reply(world.ask(&named(discover(BLADE))));
    assert_eq!(value(&offer.bytes, 54).as_deref(), Some(&relay.octets()[..]));
    assert_eq!(short(&world.ask(&named(select(BLADE, addr(11)).server_id(relay)))), Want::Ack(addr(11)));
    assert_eq!(short(&world.ask(&named(select(mac(2), addr(17)).server_id(relay)))), Want::Ack(addr(17)));
    assert_eq!(short(&world.ask(&named(select(BLADE, addr(11))))), Want::Ack(addr(11)));
    assert_eq!(short(&world.ask(&named(select(mac(2), addr(17))))), Want::Ack(addr(17)));
    let release = Packet::new(mac(1)).message(RELEASE).server_id(relay).ciaddr(addr(15));
    assert_eq!(
        world.ask(&named(release.clone())),
        Outcome::Ignore(Reason::MessageType, Change::Release(addr(15)))
    );
    assert_eq!(
        short(&world.ask(&release)),
        Want::Ignore(Reason::OtherServer),
        "the name counts through the relay alone"
    );
    assert_eq!(
        short(&world.ask(&via(select(BLADE, addr(11)).server_id(relay)))),
        Want::Ignore(Reason::OtherServer)
    );
}

#[test]
fn a_client_behind_a_router_is_reached_through_it() {
    let mut world = World::new();
    world.on_link = false;
    let route = |outcome: Outcome| match outcome {
        Outcome::Reply(reply, _) => reply.route,
        Outcome::Ignore(reason, _) => panic!("{reason:?}"),
    };
    for (claims, message) in [(addr(15), ACK), (addr(16), NAK)] {
        let Outcome::Reply(reply, _) = world.ask_as(&request(mac(1)).ciaddr(claims), Addressed::Server)
        else {
            panic!()
        };
        assert_eq!((reply.message, reply.route), (message, Route::Routed(claims)));
    }
    let inform = Packet::new(mac(9)).message(INFORM).ciaddr(addr(40));
    assert_eq!(route(world.ask_as(&inform, Addressed::Server)), Route::Routed(addr(40)));
}

#[test]
fn a_machine_in_another_subnet_than_its_reservation_has_an_address_of_that_one() {
    let mut world = World::new();
    world.snapshot = Snapshot::new(BTreeMap::new(), vec![blade(BLADE, [10, 1, 0, 5].into())]);
    let Outcome::Reply(reply, Change::Offer(offered)) = world.ask(&discover(BLADE)) else {
        panic!("no offer")
    };
    assert!((10..=20).contains(&offered.octets()[3]), "{offered}");
    assert_eq!(value(&reply.bytes, 12).as_deref(), Some(&b"blade-1"[..]));
    assert_eq!(short(&world.ask(&select(BLADE, [10, 1, 0, 5].into()))), Want::Nak);
}
