//! The DHCP server as its effects run it, with a store that is a map and a wire that is a list; and what must hold
//! whatever it is asked.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use netboot::config::{self, Mode, Range, Settings};
use netboot::dhcp::lease::{Lease, Owner};
use netboot::dhcp::leases::Leases;
use netboot::dhcp::options::Subnet;
use netboot::dhcp::policy::{self, Addressed, Change, Outcome, Reply, View, owner};
use netboot::dhcp::select::{Place, select};
use netboot::dhcp::{pool, proxy, wire};
use netboot::inventory::Snapshot;
use netboot::mac::Mac;
use netboot_ebpf::Reason;
use netboot_ebpf::verdict::message::{ACK, BOOTP, NAK, OFFER};

use super::{account, tlv, world};

/// A subnet and who has its addresses.
struct Segment {
    subnet: Subnet,
    ranges: Vec<Range>,
    leases: Leases,
}

/// What a client was last told it has in a subnet.
struct Told {
    addr: Ipv4Addr,
    /// By the clock that nobody sets.
    until: u64,
    /// By reservation, which is in no store.
    reserved: bool,
}

/// A request and the reply to it, which waits.
struct Answer {
    segment: usize,
    owner: Owner,
    packet: Vec<u8>,
    addressed: Addressed,
    reply: Reply,
}

/// What is on its way to the disk.
enum Job {
    /// And the address whose record is deleted with it.
    Put { segment: usize, lease: Lease, before: Option<Ipv4Addr>, answer: Option<Answer> },
    /// Nobody waits for it.
    End(Lease),
}

/// The server.
pub(crate) struct Server {
    mode: Mode,
    settings: config::Dhcp,
    segments: Vec<Segment>,
    places: Vec<Place>,
    snapshot: Snapshot,
    /// Seconds since 1970, as the clock says.
    now: u64,
    /// Seconds since the beginning.
    steady: u64,
    disk: HashMap<Ipv4Addr, Lease>,
    queue: VecDeque<Job>,
    parked: VecDeque<Answer>,
    told: HashMap<(usize, Owner), Told>,
}

impl Server {
    /// With these settings and machines, and nothing in its store.
    pub(crate) fn new(settings: &Settings, snapshot: Snapshot) -> Self {
        Self::at(&world::subnet(settings), settings, snapshot)
    }

    /// The same on another link.
    pub(crate) fn at(own: &Subnet, settings: &Settings, snapshot: Snapshot) -> Self {
        let dhcp = settings.dhcp.clone();
        let mut segments = vec![(own.clone(), pool::ranges(own.prefix, &dhcp.pool, &dhcp.exclude), None)];
        for behind in &dhcp.subnets {
            let subnet = own.behind_relay(behind);
            let relay = behind.relay.map(|relay| Range { first: relay, last: relay });
            let excluded: Vec<Range> = behind.exclude.iter().copied().chain(relay).collect();
            let ranges = pool::ranges(subnet.prefix, &behind.pool, &excluded);
            segments.push((subnet, ranges, behind.relay));
        }
        let places = segments.iter().map(|(subnet, _, relay)| Place { prefix: subnet.prefix, relay: *relay });
        let places = places.collect();
        let segment = |(subnet, ranges, _): (Subnet, Vec<Range>, _)| {
            let leases = Leases::new(&ranges, []);
            Segment { subnet, ranges, leases }
        };
        Self {
            mode: settings.mode,
            settings: dhcp,
            segments: segments.into_iter().map(segment).collect(),
            places,
            snapshot,
            now: 1_800_000_000,
            steady: 0,
            disk: HashMap::new(),
            queue: VecDeque::new(),
            parked: VecDeque::new(),
            told: HashMap::new(),
        }
    }

    /// What is decided about a packet, not looked at any further.
    ///
    /// # Errors
    /// Why there is nothing.
    pub(crate) fn outcome(&self, packet: &[u8], addressed: Addressed) -> Result<Outcome, Reason> {
        let request = wire::decode(packet)?;
        let number = select(&request, addressed, &self.places)?;
        Ok(policy::decide(&request, addressed, &self.view(number)))
    }

    /// Somebody has this lease.
    pub(crate) fn has_lease(&mut self, lease: Lease) {
        self.disk.insert(lease.addr, lease);
        self.restart();
    }

    /// This machine was offered this address a moment ago.
    pub(crate) fn has_offered(&mut self, client: Mac, addr: Ipv4Addr) {
        let of = |segment: &&mut Segment| segment.subnet.prefix.contains(addr);
        if let Some(segment) = self.segments.iter_mut().find(of) {
            segment.leases.offer(addr, client.into(), self.now);
        }
    }

    fn view(&self, number: usize) -> View<'_> {
        let segment = &self.segments[number];
        View {
            subnet: &segment.subnet,
            on_link: number == 0,
            snapshot: &self.snapshot,
            leases: &segment.leases,
            settings: &self.settings,
            now: self.now,
        }
    }

    /// What is decided about a packet: the subnet by its number, the client, and the decision.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn decide(
        &mut self,
        packet: &[u8],
        addressed: Addressed,
    ) -> Result<(usize, Owner, Outcome), Reason> {
        let request = wire::decode(packet)?;
        let number = select(&request, addressed, &self.places)?;
        self.segments[number].leases.sweep(self.now);
        let view = self.view(number);
        let service = self.mode == Mode::Proxy || matches!(addressed, Addressed::BootService(_));
        let decide = if service { proxy::decide } else { policy::decide };
        let outcome = decide(&request, addressed, &view);
        let poisoned = wire::decode(&tlv::poison(packet, 0xa5)).expect("it is the same request");
        assert_eq!(decide(&poisoned, addressed, &view), outcome, "it depends on what nobody may look at");
        if let Outcome::Reply(reply, change) = &outcome {
            account::check(packet, reply, view.subnet.server, service);
            assert!(!service || *change == Change::None, "a boot service gives no addresses");
        }
        Ok((number, owner(&request, self.settings.identity), outcome))
    }

    /// A packet arrives.
    pub(super) fn handle(&mut self, packet: &[u8], addressed: Addressed) {
        let Ok((number, owner, outcome)) = self.decide(packet, addressed) else { return };
        let now = self.now;
        let (reply, change) = match outcome {
            Outcome::Reply(reply, change) => (Some(reply), change),
            Outcome::Ignore(_, change) => (None, change),
        };
        if self.mode == Mode::Proxy || matches!(addressed, Addressed::BootService(_)) {
            return;
        }
        let packet = packet.to_vec();
        let answer =
            reply.map(|reply| Answer { segment: number, owner: owner.clone(), packet, addressed, reply });
        let leases = &mut self.segments[number].leases;
        match (change, answer) {
            (Change::Lease { addr, secs }, answer) => {
                assert!(answer.is_some(), "a lease that nobody is told of");
                self.write(number, Lease::new(addr, owner, now + u64::from(secs)), answer);
            }
            (Change::Release(addr), answer) => {
                self.gave_up(number, &owner, addr);
                self.write(number, Lease::new(addr, owner, now), answer);
            }
            (Change::Decline(addr), _) => {
                let ended = leases.decline(addr, &owner, now);
                self.gave_up(number, &owner, addr);
                self.queue.push_back(Job::End(ended));
            }
            (Change::Offer(addr), Some(answer)) if number == 0 && leases.wants_probe(addr, &owner, now) => {
                leases.probe(addr, owner);
                self.parked.push_back(answer);
            }
            (change, answer) => {
                match change {
                    Change::Offer(addr) => leases.offer(addr, owner, now),
                    Change::Forget => leases.forget(&owner),
                    _ => {}
                }
                if let Some(answer) = answer {
                    self.sent(&answer);
                }
            }
        }
    }

    /// The client has an address no more, also as what it was before it sent an identifier.
    fn gave_up(&mut self, number: usize, owner: &Owner, addr: Ipv4Addr) {
        let same = |other: &Owner| other == owner || (other.id.is_none() && other.mac == owner.mac);
        self.told.retain(|(of, other), told| *of != number || !same(other) || told.addr != addr);
    }

    fn write(&mut self, segment: usize, lease: Lease, answer: Option<Answer>) {
        let before = self.segments[segment].leases.writing(&lease);
        self.queue.push_back(Job::Put { segment, lease, before, answer });
    }

    /// The oldest write ends, well or not.
    pub(super) fn written(&mut self, stored: bool) {
        match self.queue.pop_front() {
            Some(Job::End(lease)) if stored => drop(self.disk.insert(lease.addr, lease)),
            Some(Job::Put { segment, lease, before, answer }) if stored => {
                self.disk.insert(lease.addr, lease.clone());
                before.map(|addr| self.disk.remove(&addr));
                if let Some((moved, before)) = self.segments[segment].leases.written(lease) {
                    before.map(|addr| self.disk.remove(&addr));
                    self.disk.insert(moved.addr, moved);
                }
                if let Some(answer) = answer {
                    self.sent(&answer);
                }
            }
            Some(Job::Put { segment, lease, .. }) => {
                self.segments[segment].leases.unwritten(&lease, self.now);
            }
            Some(Job::End(_)) | None => {}
        }
    }

    /// The oldest probe ends: somebody has the address, or nobody.
    pub(super) fn probed(&mut self, answered: bool) {
        let Some(parked) = self.parked.pop_front() else { return };
        let (leases, addr) = (&mut self.segments[parked.segment].leases, parked.reply.addr);
        // Meanwhile it may have chosen another server.
        if !leases.is_probing(&parked.owner) || leases.held_for(&parked.owner) != Some(addr) {
            return;
        }
        if answered {
            leases.conflict(addr, self.now);
            self.handle(&parked.packet, parked.addressed);
        } else {
            leases.offer(addr, parked.owner.clone(), self.now);
            self.sent(&parked);
        }
    }

    /// Every reply passes here on its way to the wire.
    fn sent(&mut self, answer: &Answer) {
        let Answer { segment: number, owner, reply, .. } = answer;
        if reply.message == BOOTP {
            return;
        }
        let subnet = &self.segments[*number].subnet;
        let (options, _) = tlv::area(&reply.bytes[tlv::HEADER..]).expect("checked");
        let secs = options.iter().find(|(code, _)| *code == 51);
        let secs =
            secs.map(|(_, secs)| u64::from(u32::from_be_bytes(secs[..4].try_into().expect("checked"))));
        match (reply.message, secs) {
            (NAK, _) => drop(self.told.remove(&(*number, owner.clone()))),
            (OFFER, _) => self.nobody_elses(*number, owner, reply.addr),
            // An INFORM is acknowledged without a lease.
            (ACK, Some(secs)) => {
                assert!(secs <= self.settings.max_lease_secs.max(subnet.lease_secs).into(), "{secs} s");
                let reserved = self.reservation(owner.mac) == Some(reply.addr);
                let mut left = secs;
                if !reserved {
                    let stored = self.disk.get(&reply.addr).expect("no ACK before the disk has it");
                    assert_eq!(stored.owner, *owner, "no ACK for another's lease");
                    // A client counts from when it asked (RFC 2131 4.4.1), however slow the disk was.
                    left = stored.expires.saturating_sub(self.now);
                    assert!(left <= secs, "{left} s are stored, {secs} s are told");
                }
                self.nobody_elses(*number, owner, reply.addr);
                self.gave_up(*number, owner, reply.addr);
                let told = Told { addr: reply.addr, until: self.steady + left, reserved };
                self.told.insert((*number, owner.clone()), told);
            }
            _ => {}
        }
    }

    fn reservation(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.snapshot.by_mac(mac).map(|host| host.addr)
    }

    /// No address has two owners, and none that is not a client's is given to one.
    fn nobody_elses(&self, number: usize, owner: &Owner, addr: Ipv4Addr) {
        let segment = &self.segments[number];
        assert!(addr != world::SERVER && segment.subnet.prefix.contains(addr), "{addr} is no client's");
        let reserved = self.snapshot.by_addr(addr).map(|host| host.mac);
        assert!(reserved.is_none_or(|theirs| theirs == owner.mac), "{addr} is reserved");
        if reserved.is_none() {
            assert!(segment.ranges.iter().any(|range| range.contains(addr)), "{addr} is not of the pool");
        }
        for ((_, other), told) in &self.told {
            let before = other.id.is_none() || told.reserved || reserved == Some(owner.mac);
            let same = other == owner || (other.mac == owner.mac && before);
            let free = same || told.addr != addr || told.until <= self.steady;
            assert!(free, "{addr} is {other:?}'s, not {owner:?}'s");
        }
    }

    /// Time goes by.
    pub(super) fn later(&mut self, secs: u64) {
        self.now += secs;
        self.steady += secs;
    }

    /// Somebody sets the clock.
    pub(super) fn clock(&mut self, by: i64) {
        let to = self.now.saturating_add_signed(by);
        for segment in &mut self.segments {
            let longest = self.settings.max_lease_secs.max(segment.subnet.lease_secs);
            for lease in segment.leases.clock_moved(self.now, to, longest.into()) {
                self.disk.insert(lease.addr, lease);
            }
        }
        self.now = to;
    }

    /// The operator saves other machines: what a reservation had given is void with it, a lease is not.
    pub(super) fn edited(&mut self, snapshot: Snapshot) {
        // What was decided by the old snapshot is as good as sent before.
        while !self.queue.is_empty() {
            self.written(true);
        }
        self.parked.clear();
        self.told.retain(|_, told| !told.reserved);
        self.snapshot = snapshot;
    }

    /// Killed and started again: what was not written is gone.
    pub(super) fn restart(&mut self) {
        self.queue.clear();
        self.parked.clear();
        for segment in &mut self.segments {
            let here = self.disk.values().filter(|lease| segment.subnet.prefix.contains(lease.addr));
            segment.leases = Leases::new(&segment.ranges, here.cloned());
        }
    }

    /// Nothing that was acknowledged is lost.
    pub(super) fn ended(&mut self) {
        while !self.queue.is_empty() {
            self.written(true);
        }
        self.restart();
        for ((number, owner), told) in self.told.iter().filter(|(_, told)| !told.reserved) {
            let live = self.segments[*number].leases.live(told.addr, self.now);
            let kept = live.is_some_and(|lease| lease.owner == *owner);
            assert!(kept || told.until <= self.steady, "{} of {owner:?} is lost", told.addr);
        }
    }
}
