//! Bytes as a history: what clients ask, how the disk does, what the operator changes, when the server is killed. No address
//! has two owners, nothing is acknowledged that is not on disk, and every reply is one that a client can use.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use netboot::dhcp::leases::{Lease, Leases};
use netboot::dhcp::options::Subnet;
use netboot::dhcp::policy::{Addressed, Change, Outcome, Reply, View, decide};
use netboot::dhcp::{pool, wire};
use netboot::inventory::Snapshot;
use netboot::mac::Mac;
use netboot_ebpf::verdict::message::{ACK, DECLINE, DISCOVER, INFORM, NAK, OFFER, RELEASE, REQUEST};

use super::{account, tlv, world};

/// Clients there are.
const CLIENTS: u8 = 6;

/// The bytes, one after the other; zeros when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn below(&mut self, end: u8) -> u8 {
        self.next() % end
    }

    fn take(&mut self, most: u8) -> Vec<u8> {
        let length = usize::from(self.below(most)).min(self.0.len());
        self.0.split_off(..length).unwrap_or_default().to_vec()
    }
}

/// The server as its effects run it, with a store that is a map.
struct Server {
    subnet: Subnet,
    ranges: Vec<netboot::config::Range>,
    authoritative: bool,
    leases: Leases,
    snapshot: Snapshot,
    now: u64,
    disk: HashMap<Ipv4Addr, Lease>,
    queue: VecDeque<Job>,
    /// What each client was last told it has, and until when.
    told: HashMap<Mac, (Ipv4Addr, u64)>,
}

/// What is on its way to the disk, and the packet and the reply that wait for it.
enum Job {
    /// And the address whose record is deleted with it.
    Put(Lease, Option<Ipv4Addr>, Option<(Vec<u8>, Reply)>),
    Delete(Ipv4Addr),
}

/// Plays the history.
pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let settings = world::setting(bytes.next());
    let subnet = world::subnet(&settings);
    let ranges = pool::ranges(subnet.prefix, &settings.dhcp.pool);
    let mut server = Server {
        leases: Leases::new(&ranges, []),
        subnet,
        ranges,
        authoritative: settings.dhcp.authoritative,
        snapshot: world::snapshot(bytes.next()),
        now: 1_800_000_000,
        disk: HashMap::new(),
        queue: VecDeque::new(),
        told: HashMap::new(),
    };
    for _ in 0..400 {
        if bytes.0.is_empty() {
            break;
        }
        match bytes.below(16) {
            0..9 => {
                let unicast = bytes.next() & 1 == 1;
                let packet = packet(&mut bytes);
                server.handle(&packet, if unicast { Addressed::Server } else { Addressed::Broadcast });
            }
            9 | 10 => server.written(true),
            11 => server.written(false),
            12 | 13 => server.now += u64::from(bytes.next()) * 16,
            14 => server.edited(world::snapshot(bytes.next())),
            _ => server.restart(),
        }
    }
    server.ended();
}

impl Server {
    fn handle(&mut self, packet: &[u8], addressed: Addressed) {
        let Ok(request) = wire::decode(packet) else { return };
        let (mac, now) = (request.mac, self.now);
        self.leases.sweep(now);
        let view = View {
            subnet: &self.subnet,
            snapshot: &self.snapshot,
            leases: &self.leases,
            authoritative: self.authoritative,
            now,
        };
        let outcome = decide(&request, addressed, &view);
        let poisoned = wire::decode(&tlv::poison(packet, 0xa5)).expect("it is the same request");
        assert_eq!(
            decide(&poisoned, addressed, &view),
            outcome,
            "the answer depends on what nobody may look at"
        );

        let (reply, change) = match outcome {
            Outcome::Reply(reply, change) => (Some(reply), change),
            Outcome::Ignore(_, change) => (None, change),
        };
        match change {
            Change::Lease(addr) | Change::Release(addr) => {
                let reserved = self.snapshot.by_mac(mac).is_some_and(|host| host.addr != world::SERVER);
                assert!(!reserved || reply.is_none(), "a reservation needs no lease");
                let ends = if reply.is_some() { now + u64::from(self.subnet.lease_secs) } else { now };
                if reply.is_none() {
                    self.told.remove(&mac);
                }
                let lease = Lease { addr, mac, expires: ends };
                let before = self.leases.writing(&lease);
                let waits = reply.map(|reply| (packet.to_vec(), reply));
                self.queue.push_back(Job::Put(lease, before, waits));
                return;
            }
            Change::Decline(addr) => {
                self.leases.decline(addr, now);
                self.told.remove(&mac);
                self.queue.push_back(Job::Delete(addr));
            }
            Change::Offer(addr) => self.leases.offer(addr, mac, now),
            Change::Forget => self.leases.forget(mac),
            Change::None => {}
        }
        if let Some(reply) = reply {
            self.sent(mac, packet, &reply);
        }
    }

    /// The oldest write ends, well or not.
    fn written(&mut self, stored: bool) {
        match self.queue.pop_front() {
            Some(Job::Delete(addr)) if stored => drop(self.disk.remove(&addr)),
            Some(Job::Put(lease, before, waits)) if stored => {
                self.disk.insert(lease.addr, lease);
                before.map(|addr| self.disk.remove(&addr));
                self.leases.written(lease);
                if let Some((packet, reply)) = waits {
                    self.sent(lease.mac, &packet, &reply);
                }
            }
            Some(Job::Put(lease, ..)) => self.leases.unwritten(&lease, self.now),
            Some(Job::Delete(_)) | None => {}
        }
    }

    /// Every reply passes here on its way to the wire.
    fn sent(&mut self, mac: Mac, packet: &[u8], reply: &Reply) {
        account::check(packet, reply, self.subnet.server);
        let (options, _) = tlv::area(&reply.bytes[tlv::HEADER..]).expect("checked");
        let lease = options.iter().any(|(code, _)| *code == 51);
        match reply.message {
            NAK => drop(self.told.remove(&mac)),
            OFFER => self.nobody_elses(mac, reply.addr),
            // An INFORM is acknowledged without a lease.
            ACK if lease => {
                // A client counts from when it asked (RFC 2131 4.4.1), however slow the disk was.
                let mut until = self.now + u64::from(self.subnet.lease_secs);
                if self.reservation(mac) != Some(reply.addr) {
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

    fn reservation(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.snapshot.by_mac(mac).map(|host| host.addr)
    }

    /// No address has two owners, and none that is not a client's is given to one.
    fn nobody_elses(&self, mac: Mac, addr: Ipv4Addr) {
        assert_ne!(addr, self.subnet.server, "the server's own address");
        let reserved = self.snapshot.by_addr(addr).map(|host| host.mac);
        if reserved == Some(mac) {
            return;
        }
        assert_eq!(reserved, None, "{addr} is reserved");
        assert!(self.ranges.iter().any(|range| range.contains(addr)), "{addr} is not of the pool");
        for (other, (theirs, until)) in &self.told {
            let free = *other == mac || *theirs != addr || *until <= self.now;
            assert!(free, "{addr} is {other}'s, not {mac}'s");
        }
    }

    /// The operator saves other machines: what was given of their addresses, and by the old ones, is void.
    fn edited(&mut self, snapshot: Snapshot) {
        // What was decided by the old snapshot is as good as sent before.
        while !self.queue.is_empty() {
            self.written(true);
        }
        let hosts = self.snapshot.hosts().iter().chain(snapshot.hosts());
        let void: Vec<Ipv4Addr> = hosts.map(|host| host.addr).collect();
        self.told.retain(|_, (addr, _)| !void.contains(addr));
        self.snapshot = snapshot;
    }

    /// Killed and started again: what was not written is gone.
    fn restart(&mut self) {
        self.queue.clear();
        self.leases = Leases::new(&self.ranges, self.disk.values().copied());
    }

    /// Nothing that was acknowledged is lost.
    fn ended(&mut self) {
        while !self.queue.is_empty() {
            self.written(true);
        }
        self.restart();
        for (mac, (addr, until)) in &self.told {
            let kept = self.leases.of(*mac).map(|lease| lease.addr) == Some(*addr);
            let reserved = self.reservation(*mac).is_some() || self.snapshot.by_addr(*addr).is_some();
            assert!(kept || reserved || *until <= self.now, "{addr} of {mac} is lost");
        }
    }
}

/// A request, mostly well-formed, of one of the clients.
fn packet(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut packet = vec![0; tlv::HEADER - 4];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[4..8].copy_from_slice(b"xid!");
    packet[10] = bytes.next() & 0x80;
    packet[28..34].copy_from_slice(&world::mac(bytes.below(CLIENTS)).0);
    packet.extend(tlv::COOKIE);
    let kinds = [DISCOVER, DISCOVER, REQUEST, REQUEST, REQUEST, RELEASE, DECLINE, INFORM, 9];
    option(&mut packet, 53, &[kinds[usize::from(bytes.below(9))]]);
    let addr = |last| [192, 168, 90, last];
    match bytes.below(24) {
        0..4 => {}
        place => option(&mut packet, 50, &addr(place)),
    }
    match bytes.below(24) {
        0..8 => {}
        place => packet[12..16].copy_from_slice(&addr(place)),
    }
    match bytes.below(4) {
        0 => {}
        1 => option(&mut packet, 54, &addr(3)),
        _ => option(&mut packet, 54, &world::SERVER.octets()),
    }
    let has = bytes.next();
    if has & 1 != 0 {
        class(&mut packet, bytes);
    }
    if has & 2 != 0 {
        option(&mut packet, 57, &[bytes.below(6), bytes.next()]);
    }
    for (bit, code) in [(4, 61), (8, 97), (16, 82)] {
        if has & bit != 0 {
            option(&mut packet, code, &bytes.take(255));
        }
    }
    if has & 32 != 0 {
        // In the middle of it anything.
        packet.extend(bytes.take(64));
    }
    if has & 64 != 0 {
        option(&mut packet, 52, &[bytes.below(5)]);
        let value = bytes.take(20);
        let mut spilled = Vec::new();
        option(&mut spilled, 61, &value);
        spilled.push(255);
        packet[44..44 + spilled.len()].copy_from_slice(&spilled);
        packet[108] = 255;
    }
    if has & 128 != 0 && bytes.below(4) == 0 {
        packet[24..28].copy_from_slice(&addr(bytes.next()));
    }
    packet.push(255);
    packet
}

/// The options that tell a client's class.
fn class(packet: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let vendors: [&[u8]; 4] =
        [b"PXEClient:Arch:00000:UNDI:002001", b"PXEClient", b"HTTPClient:Arch:00016", b"udhcp"];
    option(packet, 60, vendors[usize::from(bytes.below(4))]);
    match bytes.below(6) {
        0 => option(packet, 77, b"iPXE"),
        1 => option(packet, 175, &[1, 1, 1]),
        2 => {}
        _ => option(packet, 93, &[0, bytes.below(44)]),
    }
}

fn option(packet: &mut Vec<u8>, code: u8, value: &[u8]) {
    if let Ok(length) = u8::try_from(value.len()) {
        packet.extend([code, length]);
        packet.extend(value);
    }
}
