//! Random histories: clients that ask anything in any order, a store that is slow and fails, probes that somebody
//! answers, clocks that go on and are set, reservations that come and go. Whatever happens, the invariants hold.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;

use netboot_ebpf::verdict::message::{ACK, DECLINE, INFORM, NAK, OFFER, RELEASE, REQUEST};
use proptest::prelude::*;

use super::{NOW, SERVER, addr, blade, mac, pool, subnet};
use crate::config::{self, Identity};
use crate::dhcp::lease::{Lease, Owner};
use crate::dhcp::leases::Leases;
use crate::dhcp::options::{LARGEST, SMALLEST};
use crate::dhcp::packets::{Packet, options};
use crate::dhcp::policy::{Addressed, Change, Outcome, Reply, Subnet, View, decide, is_void, owner};
use crate::dhcp::wire;
use crate::inventory::Snapshot;
use crate::mac::Mac;

#[derive(Clone, Debug)]
enum Event {
    Packet {
        client: u8,
        /// 0: the client sends no identifier.
        id: u8,
        kind: u8,
        requested: u8,
        ciaddr: u8,
        server: u8,
        lease_secs: u32,
        unicast: bool,
    },
    /// The oldest write ends, well or not.
    Written(bool),
    /// The oldest probe ends: somebody has the address, or nobody.
    Probed(bool),
    Later(u16),
    /// The wall clock is set.
    Clock(i64),
    Reserve {
        client: u8,
        last: u8,
    },
    Restart,
}

fn events() -> impl Strategy<Value = Event> {
    let place = || prop_oneof![2 => Just(0_u8), 5 => 8_u8..17];
    let asked = (place(), place(), 0_u8..4, prop_oneof![2 => Just(0), 1 => 1_u32..10_000]);
    let packet = (0_u8..6, 0_u8..3, 0_u8..8, asked, any::<bool>()).prop_map(
        |(client, id, kind, (requested, ciaddr, server, lease_secs), unicast)| Event::Packet {
            client,
            id,
            kind,
            requested,
            ciaddr,
            server,
            lease_secs,
            unicast,
        },
    );
    prop_oneof![
        12 => packet,
        5 => prop::bool::weighted(0.8).prop_map(Event::Written),
        5 => prop::bool::weighted(0.2).prop_map(Event::Probed),
        2 => (1_u16..2000).prop_map(Event::Later),
        1 => (-5000_i64..100_000).prop_map(Event::Clock),
        1 => (0_u8..6, 9_u8..16).prop_map(|(client, last)| Event::Reserve { client, last }),
        1 => Just(Event::Restart),
    ]
}

/// What a client was last told it has.
#[derive(Clone, Copy, Debug)]
struct Told {
    addr: Ipv4Addr,
    /// By the clock that nobody sets.
    until: u64,
    /// By reservation, which is in no store.
    reserved: bool,
}

/// The server as the effects would run it, with a store that is a map.
struct Server {
    leases: Leases,
    snapshot: Snapshot,
    settings: config::Dhcp,
    now: u64,
    /// Seconds since the beginning.
    steady: u64,
    disk: HashMap<Ipv4Addr, Lease>,
    queue: VecDeque<(Job, Option<Reply>)>,
    parked: VecDeque<(Packet, Addressed, Owner, Reply)>,
    told: HashMap<Owner, Told>,
}

/// One is the other, or what that was before it sent an identifier.
fn was(one: &Owner, other: &Owner) -> bool {
    one == other || (one.id.is_none() && one.mac == other.mac)
}

#[derive(Clone)]
enum Job {
    /// And the address whose record is deleted with it.
    Put(Lease, Option<Ipv4Addr>),
    /// Nobody waits for it.
    End(Lease),
}

impl Server {
    fn new(settings: config::Dhcp) -> Self {
        Self {
            leases: Leases::new(&pool(10, 14), []),
            snapshot: Snapshot::default(),
            settings,
            now: NOW,
            steady: 0,
            disk: HashMap::new(),
            queue: VecDeque::new(),
            parked: VecDeque::new(),
            told: HashMap::new(),
        }
    }

    fn handle(&mut self, packet: &Packet, addressed: Addressed) {
        let request = wire::decode(&packet.bytes()).unwrap();
        let subnet = Subnet { rapid_commit: self.settings.rapid_commit, ..subnet() };
        let (mac, now) = (request.mac, self.now);
        self.leases.sweep(now);
        let (snapshot, leases, settings) = (&self.snapshot, &self.leases, &self.settings);
        let view = View { subnet: &subnet, on_link: true, snapshot, leases, settings, now };
        let owner = owner(&request, settings.identity);
        let (reply, change) = match decide(&request, addressed, &view) {
            Outcome::Reply(reply, change) => (Some(reply), change),
            Outcome::Ignore(_, change) => (None, change),
        };
        match (change, reply) {
            (Change::Lease { addr, secs }, reply) => {
                assert!(reply.is_some());
                self.write(Lease::new(addr, owner, now + u64::from(secs)), reply);
            }
            (Change::Release(addr), reply) => {
                self.gave_up(&owner, addr);
                self.write(Lease::new(addr, owner, now), reply);
            }
            (Change::Decline(addr), _) => {
                let ended = self.leases.decline(addr, &owner, now);
                self.gave_up(&owner, addr);
                self.queue.push_back((Job::End(ended), None));
            }
            (Change::Offer(addr), Some(reply))
                if self.settings.probe && self.leases.wants_probe(addr, &owner, now) =>
            {
                self.leases.probe(addr, owner.clone());
                self.parked.push_back((packet.clone(), addressed, owner, reply));
            }
            (change, reply) => {
                match change {
                    Change::Offer(addr) => self.leases.offer(addr, owner.clone(), now),
                    Change::Forget => self.leases.forget(&owner),
                    _ => {}
                }
                if let Some(reply) = reply {
                    self.sent(&owner, mac, &reply);
                }
            }
        }
    }

    /// The client has an address no more, also as what it was before it sent an identifier.
    fn gave_up(&mut self, owner: &Owner, addr: Ipv4Addr) {
        self.told.retain(|other, told| !was(other, owner) || told.addr != addr);
    }

    fn write(&mut self, lease: Lease, reply: Option<Reply>) {
        let before = self.leases.writing(&lease);
        self.queue.push_back((Job::Put(lease, before), reply));
    }

    fn written(&mut self, stored: bool) {
        let Some((job, reply)) = self.queue.pop_front() else { return };
        match job {
            Job::End(lease) if stored => drop(self.disk.insert(lease.addr, lease)),
            Job::Put(lease, before) if stored => {
                self.disk.insert(lease.addr, lease.clone());
                before.map(|addr| self.disk.remove(&addr));
                let acknowledges = reply.as_ref().is_some_and(|reply| reply.message == ACK);
                if acknowledges && is_void(&lease, &self.snapshot) {
                    // A client that has chosen an offer has no other address (RFC 2131 figure 5).
                    self.told.retain(|other, told| *other != lease.owner || told.addr == lease.addr);
                    let back = self.leases.voided(&lease, self.now);
                    if back.expires > self.now {
                        self.disk.insert(back.addr, back);
                        return;
                    }
                    return self.write(back, None);
                }
                if let Some((moved, before)) = self.leases.written(lease.clone()) {
                    before.map(|addr| self.disk.remove(&addr));
                    self.disk.insert(moved.addr, moved);
                }
                if let Some(reply) = reply {
                    self.sent(&lease.owner, lease.owner.mac, &reply);
                }
            }
            Job::Put(lease, _) => self.leases.unwritten(&lease, self.now),
            Job::End(_) => {}
        }
    }

    fn probed(&mut self, answered: bool) {
        let Some((packet, addressed, owner, reply)) = self.parked.pop_front() else { return };
        let waits = self.leases.is_probing(&owner) && self.leases.held_for(&owner) == Some(reply.addr);
        if answered {
            if waits {
                self.leases.conflict(reply.addr, self.now);
                self.handle(&packet, addressed);
            }
        } else if waits {
            self.leases.offer(reply.addr, owner.clone(), self.now);
            self.sent(&owner, owner.mac, &reply);
        }
    }

    /// Every reply passes here, as it would on its way to the wire.
    fn sent(&mut self, owner: &Owner, mac: Mac, reply: &Reply) {
        assert!((SMALLEST..=LARGEST).contains(&reply.bytes.len()));
        let (options, rest) = options(&reply.bytes);
        assert!(rest.iter().all(|byte| *byte == 0));
        assert_eq!(options[0], (53, vec![reply.message]));
        assert_eq!(options[1], (54, SERVER.octets().to_vec()), "in every reply");
        let lease = options.iter().find(|(code, _)| *code == 51);
        let secs = lease.map(|(_, secs)| u64::from(u32::from_be_bytes(secs.as_slice().try_into().unwrap())));
        match (reply.message, secs) {
            (NAK, secs) => {
                assert_eq!(secs, None);
                self.told.remove(owner);
            }
            (OFFER, _) => self.nobody_elses(owner, mac, reply.addr),
            // An INFORM is acknowledged without a lease.
            (ACK, Some(secs)) => {
                let reserved = self.snapshot.by_mac(mac).is_some_and(|host| host.addr == reply.addr);
                if !reserved {
                    let stored = self.disk.get(&reply.addr).expect("no ACK before the disk has it");
                    assert_eq!(stored.owner, *owner, "no ACK for another's lease");
                    assert!((120..=3600).contains(&secs), "{secs}");
                    assert!(stored.expires <= self.now + secs, "what is told is what is stored");
                }
                self.nobody_elses(owner, mac, reply.addr);
                self.gave_up(owner, reply.addr);
                // A client counts from when it asked (RFC 2131 4.4.1), however slow the disk was.
                let waited = self.disk.get(&reply.addr).filter(|_| !reserved);
                let left = waited.map_or(secs, |stored| stored.expires.saturating_sub(self.now));
                let told = Told { addr: reply.addr, until: self.steady + left, reserved };
                self.told.insert(owner.clone(), told);
            }
            _ => {}
        }
    }

    /// No address has two owners.
    fn nobody_elses(&self, owner: &Owner, mac: Mac, addr: Ipv4Addr) {
        let reserved = self.snapshot.by_addr(addr).map(|host| host.mac);
        assert!(reserved.is_none_or(|theirs| theirs == mac), "{addr} is reserved");
        for (other, told) in &self.told {
            let before = other.id.is_none() || told.reserved || reserved == Some(mac);
            let same = other == owner || (other.mac == mac && before);
            assert!(
                same || told.addr != addr || told.until <= self.steady,
                "{addr} is {other:?}'s, not {owner:?}'s"
            );
        }
    }

    fn clock(&mut self, by: i64) {
        let to = self.now.saturating_add_signed(by);
        for lease in self.leases.clock_moved(self.now, to, 3600) {
            self.disk.insert(lease.addr, lease);
        }
        self.now = to;
    }

    fn reserve(&mut self, client: u8, last: u8) {
        self.parked.clear();
        self.snapshot = Snapshot::new(BTreeMap::new(), vec![blade(mac(client), addr(last))]);
        // The operator's word: what a reservation had given is void with it. A lease is not.
        self.told.retain(|_, told| !told.reserved);
    }

    /// Killed and started again: what was not written is gone.
    fn restart(&mut self) {
        self.queue.clear();
        self.parked.clear();
        self.leases = Leases::new(&pool(10, 14), self.disk.values().cloned());
    }

    fn packet(&mut self, event: &Event) {
        let Event::Packet { client, id, kind, requested, ciaddr, server, lease_secs, unicast } = *event
        else {
            return;
        };
        let message = [1, 1, 1, REQUEST, REQUEST, RELEASE, DECLINE, INFORM][usize::from(kind)];
        let mut packet = Packet::new(mac(client)).message(message);
        if kind == 1 {
            packet = packet.with(80, []);
        }
        if id != 0 {
            packet = packet.with(61, [id, client]);
        }
        if lease_secs != 0 {
            packet = packet.with(51, lease_secs.to_be_bytes());
        }
        if requested != 0 {
            packet = packet.requested(addr(requested));
        }
        if ciaddr != 0 {
            packet = packet.ciaddr(addr(ciaddr));
        }
        if server > 0 {
            packet = packet.server_id(if server == 3 { addr(3) } else { SERVER });
        }
        self.handle(&packet, if unicast { Addressed::Server } else { Addressed::Broadcast });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]
    #[test]
    fn the_invariants_hold(
        events in prop::collection::vec(events(), 1..80),
        authoritative in any::<bool>(),
        by_id in any::<bool>(),
        rapid_commit in any::<bool>(),
        probe in any::<bool>(),
    ) {
        let identity = if by_id { Identity::ClientId } else { Identity::Mac };
        let mut server = Server::new(config::Dhcp { identity, probe, authoritative, rapid_commit, ..config::Dhcp::default() });
        for event in events {
            match event {
                Event::Packet { .. } => server.packet(&event),
                Event::Written(stored) => server.written(stored),
                Event::Probed(answered) => server.probed(answered),
                Event::Later(secs) => {
                    server.now += u64::from(secs);
                    server.steady += u64::from(secs);
                }
                Event::Clock(by) => server.clock(by),
                Event::Reserve { client, last } => server.reserve(client, last),
                Event::Restart => server.restart(),
            }
        }
        // Nothing that was acknowledged is lost.
        while !server.queue.is_empty() {
            server.written(true);
        }
        // Had a client two records, a restart would have to guess which is the one that it was told.
        for (owner, told) in server.told.iter().filter(|(_, told)| !told.reserved) {
            let other = server.disk.values().find(|lease| lease.owner == *owner && lease.addr != told.addr);
            prop_assert!(other.is_none() || told.until <= server.steady, "{told:?}, and {other:?}");
        }
        server.restart();
        for (owner, told) in server.told.iter().filter(|(_, told)| !told.reserved) {
            // A crash may come between the record of what the client is now and the ACK that tells it so.
            let kept = server.leases.live(told.addr, server.now).is_some_and(|lease| was(owner, &lease.owner));
            prop_assert!(kept || told.until <= server.steady, "{told:?} of {owner:?} is lost");
        }
    }
}
