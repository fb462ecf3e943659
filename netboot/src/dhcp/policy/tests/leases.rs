//! Whose a lease is, how long it lasts, and what keeps an address from others.

use netboot_ebpf::Reason;
use netboot_ebpf::verdict::message::DECLINE;

use super::{BLADE, NOW, SERVER, Want, World, addr, discover, mac, request, select, short};
use crate::config::Identity;
use crate::dhcp::lease::{Lease, Owner};
use crate::dhcp::leases::{DECLINE_SECS, MOST_DECLINES, OFFER_SECS};
use crate::dhcp::packets::{Packet, value};
use crate::dhcp::policy::{Change, Outcome, owner};
use crate::dhcp::wire;

#[test]
fn a_client_can_ask_for_a_shorter_or_longer_lease_within_the_limits() {
    let mut world = World::new();
    world.settings.max_lease_secs = 7200;
    for (wish, want) in
        [(None, 3600), (Some(600), 600), (Some(1), 120), (Some(7000), 7000), (Some(u32::MAX), 7200)]
    {
        let with = |packet: Packet| match wish {
            Some(wish) => packet.with(51, u32::to_be_bytes(wish)),
            None => packet,
        };
        for packet in [with(discover(mac(2)).requested(addr(17))), with(select(mac(2), addr(17)))] {
            let Outcome::Reply(reply, change) = world.ask(&packet) else { panic!("{wish:?}") };
            let told = |code| u32::from_be_bytes(value(&reply.bytes, code).unwrap().try_into().unwrap());
            assert_eq!((told(51), told(58), told(59)), (want, want / 2, want - want / 8), "{wish:?}");
            if let Change::Lease { secs, .. } = change {
                assert_eq!(secs, want, "what is told is what is stored");
            }
        }
        // A reservation does not end; its replies come from the XDP program too, and are the same for every wish.
        let Outcome::Reply(reply, _) = world.ask(&with(discover(BLADE))) else { panic!("{wish:?}") };
        assert_eq!(value(&reply.bytes, 51), Some(3600_u32.to_be_bytes().to_vec()));
    }
}

#[test]
fn clients_are_known_by_their_address_or_where_it_is_set_by_their_identifier() {
    let mut world = World::new();
    let rom = discover(mac(2)).with(61, [0; 17]);
    let system = discover(mac(2)).with(61, [1, 2, 3]);
    let offered = |world: &mut World, packet: &Packet| {
        let request = wire::decode(&packet.bytes()).unwrap();
        let owner = owner(&request, world.settings.identity);
        let Outcome::Reply(reply, Change::Offer(addr)) = world.ask(packet) else { panic!("no offer") };
        assert_eq!(value(&reply.bytes, 61), Some(packet.options.last().unwrap().1.clone()), "RFC 6842");
        world.leases.offer(addr, owner, NOW);
        addr
    };
    let (one, other) = (offered(&mut world, &rom), offered(&mut world, &system));
    assert_eq!(one, other, "one machine, one address");

    let mut world = World::new();
    world.settings.identity = Identity::ClientId;
    let (one, other) = (offered(&mut world, &rom), offered(&mut world, &system));
    assert_ne!(one, other);
    assert_eq!(
        offered(&mut world, &discover(mac(3)).with(61, [0; 17])),
        one,
        "another card of the same machine"
    );
    // A lease of the time when addresses counted goes on.
    assert_eq!(offered(&mut world, &discover(mac(1)).with(61, [7])), addr(15));
    let renewal = request(mac(1)).ciaddr(addr(15)).with(61, [7]);
    assert_eq!(short(&world.ask(&renewal)), Want::Ack(addr(15)));
    let id: Owner = owner(&wire::decode(&renewal.bytes()).unwrap(), Identity::ClientId);
    let renewed = Lease::new(addr(15), id.clone(), NOW + 3600);
    assert_eq!(world.leases.writing(&renewed), None);
    world.leases.written(renewed);
    assert_eq!(world.leases.of(&id).map(|lease| lease.addr), Some(addr(15)));
    assert_eq!(world.leases.of(&mac(1).into()), None);
    // Whatever its identifier, a reserved machine is one.
    assert_eq!(short(&world.ask(&discover(BLADE).with(61, [9]))), Want::Offer(addr(11)));
}

#[test]
fn one_client_cannot_decline_the_whole_pool() {
    let mut world = World::new();
    for number in 0..=MOST_DECLINES {
        let Want::Offer(given) = short(&world.ask(&discover(mac(2)))) else { panic!("no offer") };
        let lease = Lease::new(given, mac(2), NOW + 3600);
        world.leases.writing(&lease);
        world.leases.written(lease);
        let decline = Packet::new(mac(2)).message(DECLINE).server_id(SERVER).requested(given);
        let want = if number < MOST_DECLINES {
            Outcome::Ignore(Reason::MessageType, Change::Decline(given))
        } else {
            Outcome::Ignore(Reason::DeclineLimit, Change::None)
        };
        assert_eq!(world.ask(&decline), want, "{number}");
        if number < MOST_DECLINES {
            world.leases.decline(given, &mac(2).into(), NOW);
        } else {
            assert_eq!(short(&world.ask(&discover(mac(2)))), Want::Offer(given));
        }
    }
    world.leases.sweep(NOW + DECLINE_SECS);
    assert_eq!(world.leases.declines(&mac(2).into()), 0);
}

#[test]
fn an_address_is_looked_for_on_the_wire_unless_the_client_has_it() {
    let mut world = World::new();
    let leases = &mut world.leases;
    let (old, new) = (Owner::from(mac(1)), Owner::from(mac(2)));
    assert!(!leases.wants_probe(addr(15), &old, NOW), "it has it");
    assert!(leases.wants_probe(addr(15), &old, NOW + 1800), "it had it");
    assert!(leases.wants_probe(addr(17), &new, NOW));
    leases.probe(addr(17), new.clone());
    assert_eq!(short(&world.ask(&discover(mac(2)))), Want::Ignore(Reason::Pending));
    assert_ne!(short(&world.ask(&discover(mac(3)).requested(addr(17)))), Want::Offer(addr(17)));
    // The client has chosen another server meanwhile.
    let outcome = world.ask(&select(mac(2), addr(40)).server_id(addr(3)));
    assert_eq!(outcome, Outcome::Ignore(Reason::OtherServer, Change::Forget));
    world.leases.forget(&new);
    assert!(!world.leases.is_probing(&new));
    // Whose lease is on its way to the disk is answered at once.
    let lease = Lease::new(addr(17), new.clone(), NOW + 3600);
    world.leases.writing(&lease);
    assert!(!world.leases.wants_probe(addr(17), &new, NOW));
    world.leases.unwritten(&lease, NOW);
    // Nobody answered: for a while that is known.
    world.leases.offer(addr(17), new.clone(), NOW);
    assert!(!world.leases.wants_probe(addr(17), &new, NOW + OFFER_SECS - 1));
    // Somebody did.
    world.leases.probe(addr(17), new);
    world.leases.conflict(addr(17), NOW);
    let Want::Offer(other) = short(&world.ask(&discover(mac(2)).requested(addr(17)))) else {
        panic!("no offer")
    };
    assert_ne!(other, addr(17));
}

#[test]
fn a_clock_that_is_set_takes_no_lease_away() {
    let mut world = World::new();
    // Booted with a clock that was years behind; then it was put right.
    let early = 1_000;
    let lease = Lease::new(addr(12), mac(2), early + 600);
    world.leases.written(lease);
    world.leases.decline(addr(13), &mac(3).into(), early);
    let mut moved = world.leases.clock_moved(early + 60, NOW, 3600);
    moved.sort_by_key(|lease| lease.addr);
    assert_eq!(moved, [Lease::new(addr(12), mac(2), NOW + 540), Lease::new(addr(15), mac(1), NOW + 3600)]);
    assert!(!world.leases.available(addr(12), &mac(9).into(), NOW + 539));
    assert!(world.leases.available(addr(12), &mac(9).into(), NOW + 540));
    world.leases.sweep(NOW + DECLINE_SECS - 61);
    assert_eq!(world.leases.declines(&mac(3).into()), 1);
    world.leases.sweep(NOW + DECLINE_SECS - 60);
    assert_eq!(world.leases.declines(&mac(3).into()), 0);
    // So has what was on its way to the disk, and what the write gave up goes once more.
    let mut world = World::new();
    let lease = Lease::new(addr(16), mac(1), NOW + 3600);
    assert_eq!(world.leases.writing(&lease), Some(addr(15)));
    let given_up = Lease::new(addr(15), mac(1), NOW + 101_800);
    assert_eq!(world.leases.clock_moved(NOW, NOW + 100_000, 3600), [given_up]);
    let moved = Lease { expires: NOW + 103_600, ..lease.clone() };
    assert_eq!(world.leases.written(lease), Some((moved.clone(), Some(addr(15)))));
    assert_eq!(world.leases.of(&mac(1).into()), Some(&moved));
    // Set back from a time that was far ahead: nobody was told to have an address for years.
    let mut world = World::new();
    let ahead = NOW + 500_000_000;
    world.leases.written(Lease::new(addr(12), mac(2), ahead + 600));
    assert_eq!(world.leases.clock_moved(ahead, NOW, 3600), [Lease::new(addr(12), mac(2), NOW + 3600)]);
    // Set back a little, leases only last longer.
    let mut world = World::new();
    assert_eq!(world.leases.clock_moved(NOW, NOW - 600, 3600), []);
    assert!(!world.leases.available(addr(15), &mac(9).into(), NOW + 1799));
}

#[test]
fn a_client_with_a_lease_has_no_other_record() {
    let old = Owner::from(mac(1));
    let next = |world: &World| Lease::new(addr(16), mac(1), world.now + 120);
    let taken_over = || {
        let mut world = World::new();
        world.now += 1800;
        let theirs = Lease::new(addr(15), mac(2), world.now + 3600);
        assert_eq!(world.leases.writing(&theirs), None);
        // It may look, but not have another before it is known what its record becomes.
        assert!(matches!(short(&world.ask(&discover(mac(1)))), Want::Offer(_)));
        assert_eq!(short(&world.ask(&select(mac(1), addr(16)))), Want::Ignore(Reason::Pending));
        assert_eq!(short(&world.ask(&select(mac(3), addr(16)))), Want::Ack(addr(16)), "others need not wait");
        (world, theirs)
    };
    let (mut world, theirs) = taken_over();
    world.leases.written(theirs);
    assert_eq!(short(&world.ask(&select(mac(1), addr(16)))), Want::Ack(addr(16)));
    assert_eq!(world.leases.writing(&next(&world)), None, "it has been overwritten");
    let (mut world, theirs) = taken_over();
    world.leases.unwritten(&theirs, world.now);
    assert_eq!(world.leases.held_for(&mac(2).into()), Some(addr(15)));
    assert_eq!(short(&world.ask(&select(mac(1), addr(16)))), Want::Ack(addr(16)));
    assert_eq!(world.leases.writing(&next(&world)), Some(addr(15)), "an offer takes no record's place");
    // Nor is one forgotten that may still be there.
    let mut world = World::new();
    assert_eq!(world.leases.decline(addr(15), &old, NOW), Lease::new(addr(15), mac(1), NOW));
    assert!(world.leases.live(addr(15), NOW).is_none());
    assert_eq!(world.leases.writing(&next(&world)), Some(addr(15)));
}

#[test]
fn a_lease_that_must_not_be_acknowledged_leaves_the_client_what_it_had() {
    let id = Owner { mac: mac(1), id: Some([7].into()) };
    let had = Lease::new(addr(15), mac(1), NOW + 1800);
    let table = [
        ("it was renewing", Lease::new(addr(15), mac(1), NOW + 3600), NOW, Some(had.clone())),
        ("under its identifier", Lease::new(addr(15), id, NOW + 3600), NOW, Some(had)),
        ("it has ended meanwhile", Lease::new(addr(15), mac(1), NOW + 3600), NOW + 1800, None),
        ("it had another", Lease::new(addr(16), mac(1), NOW + 3600), NOW, None),
    ];
    for (name, lease, now, kept) in table {
        let mut world = World::new();
        world.leases.writing(&lease);
        let back = kept.clone().unwrap_or_else(|| Lease { expires: now, ..lease.clone() });
        assert_eq!(world.leases.voided(&lease, now), back, "{name}");
        assert_eq!(world.leases.live(lease.addr, now), kept.as_ref(), "{name}");
        assert!(!world.leases.is_writing(&lease.owner), "{name}");
    }
}
