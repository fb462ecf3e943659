//! Who has which address: the leases that are on disk, and what is promised but not written yet.
//!
//! A *lease* is exactly what the store has. A *hold* is in memory alone: an offer, a lease that is being written,
//! or an address that a client declined. Nothing here reads a clock, a packet or a disk. Bounded by the pool:
//! there is at most one lease and one hold for an address, and offers are made for addresses of the pool alone.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;

use super::pool;
use crate::config::Range;
use crate::mac::Mac;

/// Seconds for which an offered address is kept for the client.
pub const OFFER_SECS: u64 = 60;
/// Seconds for which an address is left alone after a client found it in use (RFC 2131 3.1, step 5).
pub const DECLINE_SECS: u64 = 600;

/// An address that a client has, or had, until some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Lease {
    /// The address.
    pub addr: Ipv4Addr,
    /// Whose it is.
    pub mac: Mac,
    /// When it ends, seconds since 1970.
    pub expires: u64,
}

/// Why an address is kept from others, without being leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Offered; the client has not asked for it yet.
    Offered { mac: Mac, until: u64 },
    /// On its way to the disk, however long that takes.
    Writing { mac: Mac },
    /// Somebody else uses it.
    Declined { until: u64 },
}

impl Hold {
    const fn mac(self) -> Option<Mac> {
        match self {
            Self::Offered { mac, .. } | Self::Writing { mac } => Some(mac),
            Self::Declined { .. } => None,
        }
    }

    const fn until(self) -> u64 {
        match self {
            Self::Offered { until, .. } | Self::Declined { until } => until,
            Self::Writing { .. } => u64::MAX,
        }
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct Leases {
    pool: BTreeSet<Ipv4Addr>,
    /// Addresses of the pool without a lease, even an expired one, and without a hold.
    free: BTreeSet<Ipv4Addr>,
    stored: HashMap<Ipv4Addr, Lease>,
    leased_to: HashMap<Mac, Ipv4Addr>,
    expiring: BTreeSet<(u64, Ipv4Addr)>,
    holds: HashMap<Ipv4Addr, Hold>,
    held_for: HashMap<Mac, Ipv4Addr>,
    held_until: BTreeSet<(u64, Ipv4Addr)>,
}

impl Leases {
    /// Begins with what the store has.
    pub fn new(pool: &[Range], records: impl IntoIterator<Item = Lease>) -> Self {
        let pool: BTreeSet<_> = pool::addresses(pool).collect();
        let mut leases = Self { free: pool.clone(), pool, ..Self::default() };
        for lease in records {
            // A crash between two writes can leave a client with two; the later one is the one it uses.
            if leases.of(lease.mac).is_none_or(|other| other.expires <= lease.expires) {
                leases.insert(lease);
            }
        }
        leases
    }

    /// The lease of a client, expired or not.
    pub fn of(&self, mac: Mac) -> Option<&Lease> {
        self.stored.get(self.leased_to.get(&mac)?)
    }

    /// The lease of an address that has not ended.
    pub fn owner(&self, addr: Ipv4Addr, now: u64) -> Option<&Lease> {
        self.stored.get(&addr).filter(|lease| lease.expires > now)
    }

    /// The address that is offered to a client or being written for it.
    pub fn held_for(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.held_for.get(&mac).copied()
    }

    /// A lease of this client is on its way to the disk; its answer follows.
    pub fn is_writing(&self, mac: Mac) -> bool {
        let hold = self.held_for(mac).and_then(|addr| self.holds.get(&addr));
        matches!(hold, Some(Hold::Writing { .. }))
    }

    /// Whether the client may have this address: of the pool, and nobody else has it or has been promised it.
    pub fn available(&self, addr: Ipv4Addr, mac: Mac, now: u64) -> bool {
        self.pool.contains(&addr)
            && self.stored.get(&addr).is_none_or(|lease| lease.mac == mac || lease.expires <= now)
            && self.holds.get(&addr).is_none_or(|hold| hold.mac() == Some(mac) || hold.until() <= now)
    }

    /// Addresses for a client that has none, best first: those that nobody ever had, beginning at a place that
    /// depends on the client; then expired leases, the oldest first.
    pub fn candidates(&self, mac: Mac, now: u64) -> impl Iterator<Item = Ipv4Addr> {
        let start = self.home(mac);
        let unused = self.free.range(start..).chain(self.free.range(..start)).copied();
        let expired = self.expiring.iter().take_while(move |(expires, _)| *expires <= now);
        unused.chain(expired.map(|(_, addr)| *addr).filter(move |addr| self.available(*addr, mac, now)))
    }

    /// Where the search for a client's address begins: the same place each time, so that it gets the same
    /// address even when its lease was lost, and another place than its neighbours'.
    fn home(&self, mac: Mac) -> Ipv4Addr {
        let (Some(first), Some(last)) = (self.pool.first(), self.pool.last()) else {
            return Ipv4Addr::UNSPECIFIED;
        };
        let mut hasher = DefaultHasher::new();
        mac.hash(&mut hasher);
        let (first, last) = (u32::from(*first), u32::from(*last));
        let offset = hasher.finish() % (u64::from(last - first) + 1);
        Ipv4Addr::from(first + u32::try_from(offset).unwrap_or_default())
    }

    /// Keeps an address for a client. What it was offered before is given back.
    pub fn offer(&mut self, addr: Ipv4Addr, mac: Mac, now: u64) {
        // A write on its way is not called back by a new DISCOVER.
        if !self.is_writing(mac) {
            self.forget(mac);
            self.hold(addr, Hold::Offered { mac, until: now + OFFER_SECS });
        }
    }

    /// Gives back what a client was offered.
    pub fn forget(&mut self, mac: Mac) {
        if !self.is_writing(mac)
            && let Some(addr) = self.held_for(mac)
        {
            self.unhold(addr);
        }
    }

    /// Keeps an address while its lease is being written. Returns the address that the client gives up with it: its
    /// record is to be deleted in the same commit. Not while another lease of the client is on its way.
    pub fn writing(&mut self, lease: &Lease) -> Option<Ipv4Addr> {
        self.forget(lease.mac);
        self.hold(lease.addr, Hold::Writing { mac: lease.mac });
        let before = self.of(lease.mac)?.addr;
        // Where somebody else's lease is on its way, that takes the record's place.
        (before != lease.addr && !self.holds.contains_key(&before)).then_some(before)
    }

    /// The lease is on disk.
    pub fn written(&mut self, lease: Lease) {
        self.unhold(lease.addr);
        self.insert(lease);
    }

    /// The lease could not be written: the client keeps what it had, and the offer.
    pub fn unwritten(&mut self, lease: &Lease, now: u64) {
        self.unhold(lease.addr);
        self.offer(lease.addr, lease.mac, now);
    }

    /// Leaves an address alone for a while; whoever had it has it no more.
    pub fn decline(&mut self, addr: Ipv4Addr, now: u64) {
        self.remove(addr);
        self.hold(addr, Hold::Declined { until: now + DECLINE_SECS });
    }

    /// Ends the holds whose time is over.
    pub fn sweep(&mut self, now: u64) {
        while let Some((until, addr)) = self.held_until.first().copied()
            && until <= now
        {
            self.unhold(addr);
        }
    }

    fn insert(&mut self, lease: Lease) {
        self.remove(lease.addr);
        if let Some(before) = self.leased_to.get(&lease.mac).copied() {
            self.remove(before);
        }
        self.leased_to.insert(lease.mac, lease.addr);
        self.stored.insert(lease.addr, lease);
        self.expiring.insert((lease.expires, lease.addr));
        self.free.remove(&lease.addr);
    }

    fn remove(&mut self, addr: Ipv4Addr) {
        if let Some(lease) = self.stored.remove(&addr) {
            self.expiring.remove(&(lease.expires, addr));
            self.leased_to.remove(&lease.mac);
            self.give_back(addr);
        }
    }

    fn hold(&mut self, addr: Ipv4Addr, hold: Hold) {
        self.unhold(addr);
        self.holds.insert(addr, hold);
        self.held_until.insert((hold.until(), addr));
        self.free.remove(&addr);
        if let Some(mac) = hold.mac() {
            self.held_for.insert(mac, addr);
        }
    }

    fn unhold(&mut self, addr: Ipv4Addr) {
        if let Some(hold) = self.holds.remove(&addr) {
            self.held_until.remove(&(hold.until(), addr));
            if let Some(mac) = hold.mac()
                && self.held_for.get(&mac) == Some(&addr)
            {
                self.held_for.remove(&mac);
            }
            self.give_back(addr);
        }
    }

    fn give_back(&mut self, addr: Ipv4Addr) {
        let taken = self.stored.contains_key(&addr) || self.holds.contains_key(&addr);
        if !taken && self.pool.contains(&addr) {
            self.free.insert(addr);
        }
    }
}
