use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use netboot_ebpf::Reason;
use netboot_ebpf::verdict::message::{ACK, DECLINE, INFORM, NAK, OFFER, RELEASE, REQUEST};

use super::{Addressed, Change, Outcome, Route, Subnet, View, decide};
use crate::config::options::Custom;
use crate::config::{self, Unknown};
use crate::config::{Boot, Range};
use crate::dhcp::lease::Lease;
use crate::dhcp::leases::{DECLINE_SECS, Leases, OFFER_SECS};
use crate::dhcp::options::LARGEST;
use crate::dhcp::packets::{Packet, value};
use crate::dhcp::wire;
use crate::inventory::{Host, Snapshot};
use crate::mac::Mac;

mod histories;
mod kinds;
mod leases;
mod relays;

const NOW: u64 = 1_800_000_000;
const SERVER: Ipv4Addr = addr(2);
/// Has the reservation of `addr(11)`.
const BLADE: Mac = mac(0xb1);

const fn addr(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 90, last)
}

const fn mac(last: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, last])
}

pub(super) fn subnet() -> Subnet {
    Subnet {
        server: SERVER,
        prefix: "192.168.90.0/24".parse().unwrap(),
        lease_secs: 3600,
        routers: vec![SERVER],
        dns: vec![],
        domain: None,
        boot: Boot::default(),
        http_port: 8080,
        menu: None,
        custom: Custom::default(),
        rapid_commit: false,
        mtu: 1500,
    }
}

fn blade(mac: Mac, addr: Ipv4Addr) -> Host {
    let (hostname, channel) = ("blade-1".into(), "stable".into());
    Host {
        mac,
        addr,
        hostname,
        channel,
        template: None,
        marks: None,
        boot: Boot::default(),
        variables: BTreeMap::new(),
        ignition: None,
    }
}

fn pool(first: u8, last: u8) -> Vec<Range> {
    vec![Range { first: addr(first), last: addr(last) }]
}

/// A server at one moment.
struct World {
    subnet: Subnet,
    snapshot: Snapshot,
    leases: Leases,
    settings: config::Dhcp,
    on_link: bool,
    now: u64,
}

impl World {
    /// One reserved blade, a pool of .10 to .20 and one machine, `mac(1)`, that has a lease of `addr(15)`.
    fn new() -> Self {
        let lease = Lease::new(addr(15), mac(1), NOW + 1800);
        Self {
            subnet: subnet(),
            snapshot: Snapshot::new(BTreeMap::new(), vec![blade(BLADE, addr(11))]),
            leases: Leases::new(&pool(10, 20), [lease]),
            settings: config::Dhcp::default(),
            on_link: true,
            now: NOW,
        }
    }

    fn ask_as(&self, packet: &Packet, addressed: Addressed) -> Outcome {
        let request = wire::decode(&packet.bytes()).unwrap();
        let Self { subnet, snapshot, leases, settings, on_link, now } = self;
        let view = View { subnet, on_link: *on_link, snapshot, leases, settings, now: *now };
        decide(&request, addressed, &view)
    }

    fn ask(&self, packet: &Packet) -> Outcome {
        self.ask_as(packet, Addressed::Broadcast)
    }
}

/// What a case expects, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Offer(Ipv4Addr),
    Ack(Ipv4Addr),
    Nak,
    Ignore(Reason),
}

fn short(outcome: &Outcome) -> Want {
    match outcome {
        Outcome::Reply(reply, _) => match reply.message {
            OFFER => Want::Offer(reply.addr),
            ACK => Want::Ack(reply.addr),
            NAK => Want::Nak,
            other => panic!("message {other}"),
        },
        Outcome::Ignore(reason, _) => Want::Ignore(*reason),
    }
}

fn discover(mac: Mac) -> Packet {
    Packet::new(mac)
}

fn request(mac: Mac) -> Packet {
    Packet::new(mac).message(REQUEST)
}

/// SELECTING our offer.
fn select(mac: Mac, addr: Ipv4Addr) -> Packet {
    request(mac).server_id(SERVER).requested(addr)
}

#[test]
fn nobody_gets_the_address_of_this_server() {
    let mut world = World::new();
    world.snapshot = Snapshot::new(BTreeMap::new(), vec![blade(BLADE, SERVER)]);
    let Want::Offer(offered) = short(&world.ask(&discover(BLADE))) else { panic!("no offer") };
    assert!((10..=20).contains(&offered.octets()[3]), "{offered} is not of the pool");
    assert_eq!(short(&world.ask(&select(BLADE, SERVER))), Want::Nak);
    assert_eq!(short(&world.ask(&request(BLADE).requested(SERVER))), Want::Nak);
}

#[test]
fn a_reserved_machine() {
    let world = World::new();
    let table = [
        ("discover", discover(BLADE), Want::Offer(addr(11))),
        ("discover that wishes for another", discover(BLADE).requested(addr(12)), Want::Offer(addr(11))),
        ("selecting", select(BLADE, addr(11)), Want::Ack(addr(11))),
        ("selecting another address", select(BLADE, addr(12)), Want::Nak),
        (
            "selecting another server",
            select(BLADE, addr(12)).server_id(addr(3)),
            Want::Ignore(Reason::OtherServer),
        ),
        ("init-reboot", request(BLADE).requested(addr(11)), Want::Ack(addr(11))),
        ("init-reboot, another address", request(BLADE).requested(addr(12)), Want::Nak),
        ("init-reboot, another network", request(BLADE).requested([10, 0, 0, 1].into()), Want::Nak),
        ("renew", request(BLADE).ciaddr(addr(11)), Want::Ack(addr(11))),
        ("renew, another address", request(BLADE).ciaddr(addr(15)), Want::Nak),
        ("no address at all", request(BLADE), Want::Ignore(Reason::OddRequest)),
        (
            "release",
            Packet::new(BLADE).message(RELEASE).server_id(SERVER).ciaddr(addr(11)),
            Want::Ignore(Reason::NoLease),
        ),
        ("through a relay", discover(BLADE).at(24, &[192, 168, 90, 1]), Want::Offer(addr(11))),
        ("option 82 of a switch", discover(BLADE).with(82, [1, 1, 7]), Want::Offer(addr(11))),
        ("an offer", Packet::new(BLADE).message(OFFER), Want::Ignore(Reason::MessageType)),
        ("leasequery", Packet::new(BLADE).message(10), Want::Ignore(Reason::MessageType)),
    ];
    for (name, packet, want) in table {
        let outcome = world.ask(&packet);
        assert_eq!(short(&outcome), want, "{name}");
        let (Outcome::Reply(_, change) | Outcome::Ignore(_, change)) = outcome;
        assert!(matches!(change, Change::None | Change::Forget), "{name}: a reservation needs no lease");
    }
}

#[test]
fn a_machine_with_a_lease() {
    let world = World::new();
    let table = [
        ("discover", discover(mac(1)), Want::Offer(addr(15))),
        ("discover that wishes for another", discover(mac(1)).requested(addr(16)), Want::Offer(addr(15))),
        ("selecting", select(mac(1), addr(15)), Want::Ack(addr(15))),
        ("init-reboot", request(mac(1)).requested(addr(15)), Want::Ack(addr(15))),
        ("init-reboot, another address", request(mac(1)).requested(addr(16)), Want::Nak),
        ("renew", request(mac(1)).ciaddr(addr(15)), Want::Ack(addr(15))),
        (
            "both addresses, the same",
            request(mac(1)).ciaddr(addr(15)).requested(addr(15)),
            Want::Ack(addr(15)),
        ),
        (
            "both addresses, different",
            request(mac(1)).ciaddr(addr(15)).requested(addr(16)),
            Want::Ignore(Reason::OddRequest),
        ),
        ("another's lease", request(mac(2)).ciaddr(addr(15)), Want::Nak),
        ("another's lease, selecting", select(mac(2), addr(15)), Want::Nak),
    ];
    for (name, packet, want) in table {
        assert_eq!(short(&world.ask(&packet)), want, "{name}");
    }
}

#[test]
fn a_machine_nobody_knows() {
    let world = World::new();
    let table = [
        ("wishes for a free address", discover(mac(2)).requested(addr(17)), Want::Offer(addr(17))),
        // The offer was lost with the process that made it.
        ("selecting a free address", select(mac(2), addr(17)), Want::Ack(addr(17))),
        ("selecting a reserved address", select(mac(2), addr(11)), Want::Nak),
        ("selecting outside the pool", select(mac(2), addr(99)), Want::Nak),
        ("init-reboot, free", request(mac(2)).requested(addr(17)), Want::Ack(addr(17))),
        ("init-reboot, outside the pool", request(mac(2)).requested(addr(99)), Want::Nak),
        ("renew, free", request(mac(2)).ciaddr(addr(17)), Want::Ack(addr(17))),
        ("renew from another network", request(mac(2)).ciaddr([10, 0, 0, 1].into()), Want::Nak),
    ];
    for (name, packet, want) in table {
        assert_eq!(short(&world.ask(&packet)), want, "{name}");
    }
}

#[test]
fn beside_another_server_it_is_silent_about_what_it_did_not_give() {
    let mut world = World::new();
    world.settings.authoritative = false;
    let table = [
        ("init-reboot, free", request(mac(2)).requested(addr(17)), Want::Ignore(Reason::NoLease)),
        ("init-reboot, outside the pool", request(mac(2)).requested(addr(99)), Want::Ignore(Reason::NoLease)),
        ("rebind", request(mac(2)).ciaddr(addr(17)), Want::Ignore(Reason::NoLease)),
        ("reserved, another address", request(BLADE).requested(addr(12)), Want::Ignore(Reason::WrongAddress)),
        ("leased, another address", request(mac(1)).requested(addr(12)), Want::Ignore(Reason::WrongAddress)),
        // Who names this server is answered by it.
        ("selecting another's", select(mac(2), addr(15)), Want::Nak),
        ("selecting", select(mac(2), addr(17)), Want::Ack(addr(17))),
        ("init-reboot of its own", request(mac(1)).requested(addr(15)), Want::Ack(addr(15))),
    ];
    for (name, packet, want) in table {
        assert_eq!(short(&world.ask(&packet)), want, "{name}");
    }
    // A RENEW is unicast: the client had its lease from here.
    let renew = request(mac(2)).ciaddr(addr(17));
    assert_eq!(short(&world.ask_as(&renew, Addressed::Server)), Want::Ack(addr(17)));
    let renew = request(mac(2)).ciaddr(addr(15));
    assert_eq!(short(&world.ask_as(&renew, Addressed::Server)), Want::Nak);
}

#[test]
fn beside_another_server_a_relay_agent_is_no_client_that_turns_to_this_one() {
    let mut world = World::new();
    world.settings.authoritative = false;
    // It sends what it hears to every server that it knows.
    let via = |packet: Packet| packet.at(24, &[192, 168, 90, 1]);
    let table = [
        ("init-reboot, free", request(mac(2)).requested(addr(17)), Want::Ignore(Reason::NoLease)),
        ("init-reboot, outside the pool", request(mac(2)).requested(addr(99)), Want::Ignore(Reason::NoLease)),
        ("rebind", request(mac(2)).ciaddr(addr(17)), Want::Ignore(Reason::NoLease)),
        ("leased, another address", request(mac(1)).requested(addr(12)), Want::Ignore(Reason::WrongAddress)),
        ("rebind of its own", request(mac(1)).ciaddr(addr(15)), Want::Ack(addr(15))),
        ("selecting", select(mac(2), addr(17)), Want::Ack(addr(17))),
        ("selecting another's", select(mac(2), addr(15)), Want::Nak),
    ];
    for (name, packet, want) in table {
        assert_eq!(short(&world.ask_as(&via(packet), Addressed::Server)), want, "{name}");
    }
}

#[test]
fn a_relay_agent_keeps_its_own_address() {
    let mut world = World::new();
    world.leases = Leases::new(&pool(17, 18), []);
    let via = |packet: Packet| packet.at(24, &addr(17).octets());
    assert_eq!(short(&world.ask(&via(discover(mac(2)).requested(addr(17))))), Want::Offer(addr(18)));
    assert_eq!(short(&world.ask(&via(select(mac(2), addr(17))))), Want::Nak);
    world.leases.offer(addr(18), mac(3).into(), NOW);
    assert_eq!(short(&world.ask(&via(discover(mac(2))))), Want::Ignore(Reason::PoolExhausted));
}

#[test]
fn addresses_that_are_nobodys_to_lease() {
    let mut world = World::new();
    world.subnet.routers = vec![addr(12)];
    world.subnet.dns = vec![addr(13)];
    world.subnet.server = addr(14);
    world.leases = Leases::new(&pool(0, 255), []);
    for last in [0, 11, 12, 13, 14, 255] {
        let outcome = world.ask(&discover(mac(2)).requested(addr(last)));
        let Outcome::Reply(reply, _) = &outcome else { panic!("{last}: {outcome:?}") };
        assert_ne!(reply.addr, addr(last));
        let select = request(mac(2)).server_id(addr(14)).requested(addr(last));
        assert_eq!(short(&world.ask(&select)), Want::Nak, "{last}");
    }
    // Not even when there is nothing else.
    world.leases = Leases::new(&pool(11, 14), []);
    assert_eq!(short(&world.ask(&discover(mac(2)))), Want::Ignore(Reason::PoolExhausted));
}

#[test]
fn a_reservation_waits_until_the_lease_of_its_address_has_ended() {
    let mut world = World::new();
    world.snapshot = Snapshot::new(BTreeMap::new(), vec![blade(BLADE, addr(15))]);
    let Outcome::Reply(reply, Change::Offer(meanwhile)) = world.ask(&discover(BLADE)) else {
        panic!("no offer")
    };
    assert_ne!(meanwhile, addr(15));
    assert_eq!(value(&reply.bytes, 12).as_deref(), Some(&b"blade-1"[..]), "its own name all the same");
    assert_eq!(value(&reply.bytes, 209).as_deref(), Some(&b"pxelinux.cfg/stable"[..]));
    assert_eq!(short(&world.ask(&select(BLADE, addr(15)))), Want::Nak);
    world.leases.offer(meanwhile, BLADE.into(), NOW);
    assert_eq!(short(&world.ask(&select(BLADE, meanwhile))), Want::Ack(meanwhile));

    // Its present owner is refused at its next renewal. Whether it has heard that, its next lease shows.
    let outcome = world.ask(&request(mac(1)).ciaddr(addr(15)));
    assert!(matches!(outcome, Outcome::Reply(_, Change::Forget)), "{outcome:?}");
    assert_eq!(short(&outcome), Want::Nak);
    assert_eq!(short(&world.ask(&request(mac(1)).ciaddr(addr(15)))), Want::Nak);
    let Want::Offer(other) = short(&world.ask(&discover(mac(1)))) else { panic!("no offer") };
    assert_ne!(other, addr(15));
    let next = Lease::new(other, mac(1), NOW + 3600);
    assert_eq!(world.leases.writing(&next), Some(addr(15)), "its record goes with the same commit");
    assert_eq!(short(&world.ask(&select(BLADE, addr(15)))), Want::Nak);
    world.leases.written(next);
    // What it was offered a moment ago it still gets; no boot that has begun is refused.
    assert_eq!(short(&world.ask(&select(BLADE, meanwhile))), Want::Ack(meanwhile));
    assert_eq!(short(&world.ask(&discover(BLADE))), Want::Offer(addr(15)));
    world.leases.forget(&BLADE.into());
    assert_eq!(short(&world.ask(&select(BLADE, addr(15)))), Want::Ack(addr(15)));
    assert_eq!(short(&world.ask(&request(BLADE).ciaddr(meanwhile))), Want::Nak);
}

#[test]
fn thirty_at_once_get_thirty_addresses_and_keep_them() {
    let mut world = World::new();
    world.leases = Leases::new(&pool(100, 129), []);
    let mut offered = BTreeMap::new();
    for number in 0..30 {
        let Outcome::Reply(reply, Change::Offer(address)) = world.ask(&discover(mac(number))) else {
            panic!("no offer for {number}")
        };
        assert_eq!(reply.addr, address);
        world.leases.offer(address, mac(number).into(), NOW);
        assert_eq!(offered.insert(address, number), None, "{address} twice");
    }
    assert_eq!(short(&world.ask(&discover(mac(99)))), Want::Ignore(Reason::PoolExhausted));
    for (address, number) in &offered {
        // ROM, iPXE and OS use different client identifiers; the machine is the same.
        for id in [vec![], vec![0; 17], vec![1, 2, 3]] {
            assert_eq!(short(&world.ask(&discover(mac(*number)).with(61, id))), Want::Offer(*address));
        }
    }
    world.now += OFFER_SECS;
    world.leases.sweep(world.now);
    assert!(matches!(short(&world.ask(&discover(mac(99)))), Want::Offer(_)), "offers do not last");
}

#[test]
fn a_flood_of_newcomers_costs_no_more_than_the_pool() {
    let mut world = World::new();
    world.leases = Leases::new(&pool(100, 129), []);
    let mut offers = 0;
    for number in 0..20_000_u32 {
        let [_, _, high, low] = number.to_be_bytes();
        let newcomer = Mac([0x52, 0x54, 1, 0, high, low]);
        match world.ask(&discover(newcomer)) {
            Outcome::Reply(_, Change::Offer(address)) => {
                world.leases.offer(address, newcomer.into(), NOW);
                offers += 1;
            }
            outcome => assert_eq!(outcome, Outcome::Ignore(Reason::PoolExhausted, Change::None)),
        }
    }
    assert_eq!(offers, 30);
    assert_eq!(short(&world.ask(&discover(BLADE))), Want::Offer(addr(11)), "a reservation is safe");
}

#[test]
fn an_expired_lease_is_given_away_last_and_the_oldest_first() {
    let mut world = World::new();
    let lease = |last: u8, expires| Lease::new(addr(last), mac(last), expires);
    world.leases =
        Leases::new(&pool(12, 15), [lease(12, NOW - 10), lease(13, NOW - 20), lease(14, NOW + 10)]);
    assert_eq!(
        short(&world.ask(&discover(mac(12)))),
        Want::Offer(addr(12)),
        "it is still there for its old client"
    );
    assert_eq!(short(&world.ask(&discover(mac(99)))), Want::Offer(addr(15)), "never used");
    for (number, want) in [(99, 15), (98, 13), (97, 12)] {
        let Outcome::Reply(_, Change::Offer(address)) = world.ask(&discover(mac(number))) else {
            panic!("{number}")
        };
        assert_eq!(address, addr(want));
        let lease = Lease::new(address, mac(number), NOW + 3600);
        assert_eq!(world.leases.writing(&lease), None);
        world.leases.written(lease);
    }
    assert_eq!(short(&world.ask(&discover(mac(96)))), Want::Ignore(Reason::PoolExhausted));
    assert_eq!(
        short(&world.ask(&discover(mac(12)))),
        Want::Ignore(Reason::PoolExhausted),
        "its address has gone"
    );
}

#[test]
fn release_and_decline_count_only_from_whom_they_may() {
    let mut world = World::new();
    let release = Packet::new(mac(1)).message(RELEASE).server_id(SERVER).ciaddr(addr(15));
    let decline = Packet::new(mac(1)).message(DECLINE).server_id(SERVER).requested(addr(15));
    let quiet = |reason| Outcome::Ignore(reason, Change::None);
    let table = [
        (release.clone(), Outcome::Ignore(Reason::MessageType, Change::Release(addr(15)))),
        (release.clone().server_id(addr(3)), quiet(Reason::OtherServer)),
        (Packet { options: vec![(53, vec![RELEASE])], ..release.clone() }, quiet(Reason::OtherServer)),
        (release.clone().ciaddr(addr(16)), quiet(Reason::NoLease)),
        (Packet::new(mac(2)).message(RELEASE).server_id(SERVER).ciaddr(addr(15)), quiet(Reason::NoLease)),
        (decline.clone(), Outcome::Ignore(Reason::MessageType, Change::Decline(addr(15)))),
        (decline.clone().server_id(addr(3)), quiet(Reason::OtherServer)),
        (decline.clone().requested(addr(16)), quiet(Reason::NoLease)),
        (Packet::new(mac(2)).message(DECLINE).server_id(SERVER).requested(addr(15)), quiet(Reason::NoLease)),
        (
            Packet::new(BLADE).message(DECLINE).server_id(SERVER).requested(addr(11)),
            quiet(Reason::AddressInUse),
        ),
        (Packet::new(BLADE).message(DECLINE).server_id(SERVER).requested(addr(15)), quiet(Reason::NoLease)),
    ];
    for (packet, want) in table {
        assert_eq!(world.ask(&packet), want, "{packet:?}");
    }
    // One that names no server must have been sent to this one alone.
    let nameless = Packet { options: vec![(53, vec![RELEASE])], ..release.clone() };
    let counts = Outcome::Ignore(Reason::MessageType, Change::Release(addr(15)));
    assert_eq!(world.ask_as(&nameless, Addressed::Server), counts);
    let forged = Packet { options: vec![(53, vec![RELEASE])], ..Packet::new(mac(2)).ciaddr(addr(15)) };
    assert_eq!(world.ask_as(&forged, Addressed::Server), quiet(Reason::NoLease));
    let refused = Packet { options: vec![(53, vec![DECLINE])], ..decline.clone() };
    assert_eq!(world.ask_as(&refused, Addressed::Server), quiet(Reason::OtherServer));
    // Given to somebody else who has not finished yet: the old owner's word no longer counts.
    world.now = NOW + 1800;
    world.leases.writing(&Lease::new(addr(15), mac(2), world.now + 3600));
    assert_eq!(world.ask(&release), quiet(Reason::NoLease));
    assert_eq!(world.ask(&decline), quiet(Reason::NoLease));
}

#[test]
fn a_declined_address_is_left_alone_for_a_while() {
    let mut world = World::new();
    world.leases.decline(addr(15), &mac(1).into(), NOW);
    assert_ne!(short(&world.ask(&discover(mac(1)).requested(addr(15)))), Want::Offer(addr(15)));
    assert_eq!(short(&world.ask(&select(mac(1), addr(15)))), Want::Nak);
    world.now += DECLINE_SECS;
    world.leases.sweep(world.now);
    assert_eq!(short(&world.ask(&discover(mac(1)).requested(addr(15)))), Want::Offer(addr(15)));
}

#[test]
fn while_the_disk_is_busy_a_client_waits_for_its_answer() {
    let mut world = World::new();
    let lease = Lease::new(addr(17), mac(1), NOW + 3600);
    assert_eq!(world.leases.writing(&lease), Some(addr(15)), "it gives up the one it had");
    let release = Packet::new(mac(1)).message(RELEASE).server_id(SERVER).ciaddr(addr(15));
    for packet in [select(mac(1), addr(17)), request(mac(1)).ciaddr(addr(15)), release] {
        assert_eq!(short(&world.ask(&packet)), Want::Ignore(Reason::Pending));
    }
    assert_eq!(short(&world.ask(&select(mac(2), addr(17)))), Want::Nak);
    assert_eq!(short(&world.ask(&select(mac(2), addr(15)))), Want::Nak, "not before it has the other");
    world.leases.written(lease.clone());
    assert_eq!(short(&world.ask(&request(mac(1)).ciaddr(addr(17)))), Want::Ack(addr(17)));
    assert_eq!(short(&world.ask(&select(mac(2), addr(15)))), Want::Ack(addr(15)));
    // What could not be written leaves everything as it was.
    let other = Lease { addr: addr(16), ..lease.clone() };
    world.leases.writing(&other);
    world.leases.unwritten(&other, NOW);
    assert_eq!(world.leases.of(&mac(1).into()), Some(&lease));
    assert_eq!(world.leases.held_for(&mac(1).into()), Some(addr(16)));
}

#[test]
fn another_servers_client_gives_our_offer_back() {
    let mut world = World::new();
    world.leases.offer(addr(17), mac(2).into(), NOW);
    let outcome = world.ask(&select(mac(2), addr(40)).server_id(addr(3)));
    assert_eq!(outcome, Outcome::Ignore(Reason::OtherServer, Change::Forget));
}

#[test]
fn an_inform_gets_settings_and_no_lease() {
    let world = World::new();
    for (client, hostname) in [(mac(2), None), (BLADE, Some(b"blade-1".to_vec()))] {
        let Outcome::Reply(reply, Change::None) =
            world.ask(&Packet::new(client).message(INFORM).ciaddr(addr(99)))
        else {
            panic!("no answer")
        };
        assert_eq!((reply.message, reply.addr), (ACK, addr(99)));
        assert_eq!(reply.bytes[12..20], [192, 168, 90, 99, 0, 0, 0, 0], "ciaddr and no yiaddr");
        assert_eq!((value(&reply.bytes, 51), value(&reply.bytes, 12)), (None, hostname));
        assert_eq!(reply.route, Route::Unicast { mac: client, addr: addr(99) });
    }
    let inform = Packet::new(mac(2)).message(INFORM);
    assert_eq!(short(&world.ask(&inform)), Want::Ignore(Reason::OddRequest));
    assert_eq!(short(&world.ask(&inform.ciaddr([10, 0, 0, 1].into()))), Want::Ignore(Reason::WrongAddress));
}

#[test]
fn another_card_of_a_machine_gets_what_is_the_machines_at_its_own_address() {
    let World { subnet, snapshot, leases, settings, .. } = &World::new();
    let card = mac(9);
    for message in [discover(card), request(card).ciaddr(addr(11))] {
        let mut request = wire::decode(&message.bytes()).unwrap();
        request.mac = BLADE;
        let view = View { subnet, on_link: true, snapshot, leases, settings, now: NOW };
        let Outcome::Reply(reply, Change::None) = decide(&request, Addressed::Broadcast, &view) else {
            panic!("{message:?}")
        };
        assert_eq!(reply.route, Route::Unicast { mac: card, addr: addr(11) });
        assert_eq!(reply.bytes[28..34], card.0);
    }
}

#[test]
fn where_a_reply_goes() {
    let world = World::new();
    let unicast = Route::Unicast { mac: BLADE, addr: addr(11) };
    let table = [
        ("no address yet", discover(BLADE), unicast),
        ("cannot take unicast", discover(BLADE).broadcast(), Route::Broadcast),
        ("renewing", request(BLADE).ciaddr(addr(11)), unicast),
        ("renewing, flag set all the same", request(BLADE).ciaddr(addr(11)).broadcast(), unicast),
        ("refused", request(BLADE).requested(addr(12)), Route::Broadcast),
        ("refused, renewing", request(BLADE).ciaddr(addr(12)), Route::Broadcast),
    ];
    for (name, packet, route) in table {
        let Outcome::Reply(reply, _) = world.ask(&packet) else { panic!("{name}") };
        assert_eq!(reply.route, route, "{name}");
    }
}

#[test]
fn the_reply_itself() {
    let world = World::new();
    let ask = discover(BLADE).bios().with(61, [0, 1, 2]).with(82, [1, 1, 7]).broadcast();
    let Outcome::Reply(reply, _) = world.ask(&ask) else { panic!("no offer") };
    assert_eq!(reply.bytes[4..12], *b"xid!\x00\x04\x80\x00");
    assert_eq!(reply.bytes[16..20], addr(11).octets());
    let text = |code| value(&reply.bytes, code).map(|value| String::from_utf8(value).unwrap());
    assert_eq!(text(12).as_deref(), Some("blade-1"));
    assert_eq!(text(209).as_deref(), Some("pxelinux.cfg/stable"));
    assert_eq!(text(60).as_deref(), Some("PXEClient"));
    assert_eq!(value(&reply.bytes, 97), Some(vec![0; 17]));
    assert_eq!(value(&reply.bytes, 61), Some(vec![0, 1, 2]));
    assert_eq!(value(&reply.bytes, 82), Some(vec![1, 1, 7]));

    let Outcome::Reply(nak, _) = world.ask(&ask.message(REQUEST).requested(addr(12))) else {
        panic!("no NAK")
    };
    assert_eq!(value(&nak.bytes, 97), None, "a NAK has nothing but the client's identifier");
    assert_eq!(value(&nak.bytes, 61), Some(vec![0, 1, 2]));
}

#[test]
fn a_reply_is_never_larger_than_the_client_takes() {
    let mut world = World::new();
    let ask = |size: u16| discover(BLADE).with(57, size.to_be_bytes()).with(82, [1; 60]);
    let length = |world: &World, packet: &Packet| match world.ask(packet) {
        Outcome::Reply(reply, _) => Some(reply.bytes.len()),
        Outcome::Ignore(reason, _) => {
            assert_eq!(reason, Reason::TooSmall);
            None
        }
    };
    let whole = length(&world, &ask(576)).unwrap();
    let size = |bytes: usize| u16::try_from(bytes + 28).unwrap();
    assert_eq!(length(&world, &ask(size(whole))), Some(whole));
    let less = length(&world, &ask(size(whole - 1))).unwrap();
    assert!(less < whole, "what the header says too is left out");
    assert_eq!(length(&world, &ask(300)), None);
    assert_eq!(length(&world, &ask(1)), None);
    assert_eq!(length(&world, &ask(1500)), Some(whole));
    // Who says nothing takes 576 bytes, who takes more gets more, and nobody gets fragments.
    world.subnet.domain = Some("d".repeat(LARGEST));
    let silent = length(&world, &discover(BLADE).with(82, [1; 60])).unwrap();
    assert!(silent < whole, "a host name is good without its domain");
    let most = length(&world, &ask(1500)).unwrap();
    assert!((LARGEST + 1..=1500 - 28).contains(&most), "{most}");
    assert_eq!(length(&world, &ask(u16::MAX)), Some(most));
    world.subnet.mtu = u32::try_from(most + 27).unwrap();
    assert!(length(&world, &ask(1500)).unwrap() < most, "a byte too many for the interface");
    world.subnet.mtu = 1500;
    world.subnet.domain = Some("d".repeat(200));
    let long = discover(BLADE).bios().with(82, [1; 200]);
    assert!(length(&world, &long).unwrap() <= LARGEST);
    assert_eq!(value(&reply(&world, &long), 82), Some(vec![1; 200]), "whole");
    assert_eq!(length(&world, &long.with(61, [1; 250])), None);
    let long = discover(mac(2)).with(82, [1; 250]).with(61, [1; 250]);
    assert_eq!(world.ask(&long), Outcome::Ignore(Reason::TooSmall, Change::None));
}

fn reply(world: &World, packet: &Packet) -> Vec<u8> {
    match world.ask(packet) {
        Outcome::Reply(reply, _) => reply.bytes,
        Outcome::Ignore(reason, _) => panic!("{reason:?}"),
    }
}

#[test]
fn machines_without_a_reservation_may_be_held_or_denied() {
    let asks = [
        ("discover", discover(mac(1))),
        ("discover of a newcomer", discover(mac(2))),
        ("selecting", select(mac(1), addr(15))),
        ("selecting what nobody offered", select(mac(2), addr(11))),
        ("init-reboot", request(mac(1)).requested(addr(15))),
        ("renewing a lease from before", request(mac(1)).ciaddr(addr(15))),
        ("inform", Packet::new(mac(1)).message(INFORM).ciaddr(addr(99))),
    ];
    for (unknown, reason) in [(Unknown::Hold, Reason::Held), (Unknown::Deny, Reason::Denied)] {
        let mut world = World::new();
        world.settings.unknown = unknown;
        for (what, packet) in &asks {
            for addressed in [Addressed::Broadcast, Addressed::Server] {
                let outcome = world.ask_as(packet, addressed);
                assert_eq!(outcome, Outcome::Ignore(reason, Change::None), "{what}");
            }
        }
        assert_eq!(short(&world.ask(&discover(BLADE))), Want::Offer(addr(11)), "a reserved one is served");
        assert_eq!(short(&world.ask(&select(BLADE, addr(11)))), Want::Ack(addr(11)));
        // What it has, it can give back.
        let release = Packet::new(mac(1)).message(RELEASE).server_id(SERVER).ciaddr(addr(15));
        let given = Outcome::Ignore(Reason::MessageType, Change::Release(addr(15)));
        assert_eq!(world.ask(&release), given);
    }
}

#[test]
fn a_machine_that_is_reserved_between_offer_and_request_is_not_refused() {
    let mut world = World::new();
    let new = mac(0x20);
    world.leases.offer(addr(18), new.into(), NOW);
    world.snapshot = Snapshot::new(BTreeMap::new(), vec![blade(new, addr(30))]);
    let outcome = world.ask(&select(new, addr(18)));
    let taken_up = |change| matches!(change, Change::Lease { addr: leased, .. } if leased == addr(18));
    assert!(matches!(outcome, Outcome::Reply(_, change) if taken_up(change)), "{outcome:?}");
    assert_eq!(short(&world.ask(&discover(new))), Want::Offer(addr(30)));
    assert_eq!(short(&world.ask(&select(new, addr(30)))), Want::Ack(addr(30)));
    assert_eq!(short(&world.ask(&select(new, addr(19)))), Want::Nak, "only what it was offered");
    // What it was offered is what is reserved for it now, as when it was approved meanwhile.
    world.snapshot = Snapshot::new(BTreeMap::new(), vec![blade(new, addr(18))]);
    let outcome = world.ask(&select(new, addr(18)));
    assert_eq!(short(&outcome), Want::Ack(addr(18)));
    assert!(matches!(outcome, Outcome::Reply(_, Change::None)), "by its reservation: {outcome:?}");
}
