//! Random histories: clients that ask anything in any order, a store that is slow and fails, clocks that go on,
//! reservations that come and go. Whatever happens, the invariants hold.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;

use netboot_ebpf::verdict::message::{ACK, DECLINE, INFORM, NAK, OFFER, RELEASE, REQUEST};
use proptest::prelude::*;

use super::{NOW, SERVER, addr, blade, mac, pool, subnet};
use crate::dhcp::leases::{Lease, Leases};
use crate::dhcp::options::{LARGEST, SMALLEST};
use crate::dhcp::packets::{Packet, options};
use crate::dhcp::policy::{Addressed, Change, Outcome, Reply, Subnet, View, decide};
use crate::dhcp::wire;
use crate::inventory::Snapshot;
use crate::mac::Mac;

#[derive(Clone, Debug)]
enum Event {
    Packet {
        client: u8,
        kind: u8,
        requested: u8,
        ciaddr: u8,
        server: u8,
        unicast: bool,
    },
    /// The oldest write ends, well or not.
    Written(bool),
    Later(u16),
    Reserve {
        client: u8,
        last: u8,
    },
    Restart,
}

fn events() -> impl Strategy<Value = Event> {
    let place = || prop_oneof![2 => Just(0_u8), 5 => 8_u8..17];
    let packet = (0_u8..6, 0_u8..7, place(), place(), 0_u8..4, any::<bool>()).prop_map(
        |(client, kind, requested, ciaddr, server, unicast)| Event::Packet {
            client,
            kind,
            requested,
            ciaddr,
            server,
            unicast,
        },
    );
    prop_oneof![
        12 => packet,
        5 => prop::bool::weighted(0.8).prop_map(Event::Written),
        2 => (1_u16..2000).prop_map(Event::Later),
        1 => (0_u8..6, 9_u8..16).prop_map(|(client, last)| Event::Reserve { client, last }),
        1 => Just(Event::Restart),
    ]
}

/// The server as the effects would run it, with a store that is a map.
struct Server {
    leases: Leases,
    snapshot: Snapshot,
    now: u64,
    disk: HashMap<Ipv4Addr, Lease>,
    queue: VecDeque<(Job, Option<Reply>)>,
    /// What each client was last told it has, and until when.
    told: HashMap<Mac, (Ipv4Addr, u64)>,
    authoritative: bool,
    rapid_commit: bool,
}

#[derive(Clone, Copy)]
enum Job {
    /// And the address whose record is deleted with it.
    Put(Lease, Option<Ipv4Addr>),
    Delete(Ipv4Addr),
}

impl Server {
    fn handle(&mut self, packet: &Packet, addressed: Addressed) {
        let request = wire::decode(&packet.bytes()).unwrap();
        let subnet = Subnet { rapid_commit: self.rapid_commit, ..subnet() };
        let (mac, now) = (request.mac, self.now);
        self.leases.sweep(now);
        let (snapshot, leases) = (&self.snapshot, &self.leases);
        let view = View { subnet: &subnet, snapshot, leases, authoritative: self.authoritative, now };
        let (reply, change) = match decide(&request, addressed, &view) {
            Outcome::Reply(reply, change) => (Some(reply), change),
            Outcome::Ignore(_, change) => (None, change),
        };
        let reserved = self.snapshot.by_mac(mac).is_some();
        match change {
            Change::Lease(addr) | Change::Release(addr) => {
                assert!(!reserved || reply.is_none(), "a reservation needs no lease");
                let ends = if reply.is_some() { now + u64::from(subnet.lease_secs) } else { now };
                let lease = Lease { addr, mac, expires: ends };
                if reply.is_none() {
                    self.told.remove(&mac);
                }
                let before = self.leases.writing(&lease);
                self.queue.push_back((Job::Put(lease, before), reply));
                return;
            }
            Change::Decline(addr) => {
                self.leases.decline(addr, now);
                self.told.remove(&mac);
                self.queue.push_back((Job::Delete(addr), None));
                // So long a client waits before it begins again (RFC 2131 3.1, 5).
                self.now += 10;
            }
            Change::Offer(addr) => self.leases.offer(addr, mac, now),
            Change::Forget => self.leases.forget(mac),
            Change::None => {}
        }
        if let Some(reply) = reply {
            self.sent(mac, &reply);
        }
    }

    fn written(&mut self, stored: bool) {
        let Some((job, reply)) = self.queue.pop_front() else { return };
        match job {
            Job::Delete(addr) if stored => drop(self.disk.remove(&addr)),
            Job::Put(lease, before) if stored => {
                self.disk.insert(lease.addr, lease);
                before.map(|addr| self.disk.remove(&addr));
                self.leases.written(lease);
                if let Some(reply) = reply {
                    self.sent(lease.mac, &reply);
                }
            }
            Job::Put(lease, _) => self.leases.unwritten(&lease, self.now),
            Job::Delete(_) => {}
        }
    }

    /// Every reply passes here, as it would on its way to the wire.
    fn sent(&mut self, mac: Mac, reply: &Reply) {
        assert!((SMALLEST..=LARGEST).contains(&reply.bytes.len()));
        let (options, rest) = options(&reply.bytes);
        assert!(rest.iter().all(|byte| *byte == 0));
        assert_eq!(options[0], (53, vec![reply.message]));
        assert_eq!(options[1], (54, SERVER.octets().to_vec()), "in every reply");
        let leases = options.iter().any(|(code, _)| *code == 51);
        match reply.message {
            NAK => {
                assert!(!leases);
                self.told.remove(&mac);
            }
            OFFER => self.nobody_elses(mac, reply.addr),
            // An INFORM is acknowledged without a lease.
            ACK if leases => {
                // A client counts from when it asked (RFC 2131 4.4.1), however slow the disk was.
                let mut until = self.now + 3600;
                if self.snapshot.by_mac(mac).is_none() {
                    let stored = self.disk.get(&reply.addr).expect("no ACK before the disk has it");
                    assert_eq!(stored.mac, mac, "no ACK for another's lease");
                    until = stored.expires;
                }
                self.nobody_elses(mac, reply.addr);
                self.told.insert(mac, (reply.addr, until));
            }
            _ => {}
        }
    }

    /// No address has two owners, but for what the operator took away from one by a reservation.
    fn nobody_elses(&self, mac: Mac, addr: Ipv4Addr) {
        let reserved = self.snapshot.by_addr(addr).map(|host| host.mac);
        if reserved == Some(mac) {
            return;
        }
        assert_eq!(reserved, None, "{addr} is reserved");
        for (other, (theirs, until)) in &self.told {
            assert!(
                *other == mac || *theirs != addr || *until <= self.now,
                "{addr} is {other}'s, not {mac}'s"
            );
        }
    }

    /// Killed and started again: what was not written is gone.
    fn restart(&mut self) {
        self.queue.clear();
        self.leases = Leases::new(&pool(10, 14), self.disk.values().copied());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]
    #[test]
    fn the_invariants_hold(events in prop::collection::vec(events(), 1..80), authoritative in any::<bool>(), rapid_commit in any::<bool>()) {
        let mut server = Server {
            leases: Leases::new(&pool(10, 14), []),
            snapshot: Snapshot::default(),
            now: NOW,
            disk: HashMap::new(),
            queue: VecDeque::new(),
            told: HashMap::new(),
            authoritative,
            rapid_commit,
        };
        for event in events {
            match event {
                Event::Packet { client, kind, requested, ciaddr, server: id, unicast } => {
                    let message = [1, 1, REQUEST, REQUEST, RELEASE, DECLINE, INFORM][usize::from(kind)];
                    let mut packet = Packet::new(mac(client)).message(message);
                    if kind == 1 {
                        packet = packet.with(80, []);
                    }
                    if requested != 0 {
                        packet = packet.requested(addr(requested));
                    }
                    if ciaddr != 0 {
                        packet = packet.ciaddr(addr(ciaddr));
                    }
                    if id > 0 {
                        packet = packet.server_id(if id == 3 { addr(3) } else { SERVER });
                    }
                    let addressed = if unicast { Addressed::Server } else { Addressed::Broadcast };
                    server.handle(&packet, addressed);
                }
                Event::Written(stored) => server.written(stored),
                Event::Later(secs) => server.now += u64::from(secs),
                Event::Reserve { client, last } => {
                    let host = blade(mac(client), addr(last));
                    // What was decided by the old snapshot is as good as sent before.
                    while !server.queue.is_empty() {
                        server.written(true);
                    }
                    // The operator's word: what others had of the address is void, and what the reservation
                    // that is taken back had given.
                    let before: Vec<Ipv4Addr> = server.snapshot.hosts().iter().map(|host| host.addr).collect();
                    server.snapshot = Snapshot::new(BTreeMap::new(), vec![host]);
                    server.told.retain(|_, (theirs, _)| *theirs != addr(last) && !before.contains(theirs));
                }
                Event::Restart => server.restart(),
            }
        }
        // Nothing that was acknowledged is lost.
        while !server.queue.is_empty() {
            server.written(true);
        }
        server.restart();
        for (mac, (addr, until)) in &server.told {
            let kept = server.leases.of(*mac).map(|lease| lease.addr) == Some(*addr);
            let reserved = server.snapshot.by_addr(*addr).is_some() || server.snapshot.by_mac(*mac).is_some();
            prop_assert!(kept || reserved || *until <= server.now, "{addr} of {mac} is lost");
        }
    }
}
