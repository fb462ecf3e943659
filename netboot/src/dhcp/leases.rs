//! Who has which address: the leases that are on disk, and what is promised but not written yet.
//!
//! A *lease* is exactly what the store has. A *hold* is in memory alone: an offer or what comes before it, a lease that
//! is being written, or an address that somebody else was found at. Nothing here reads a clock, a packet or a disk.
//! Bounded by the pool: there is at most one lease and one hold for an address, and offers are made for addresses of the
//! pool alone.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;

use super::lease::{Lease, Owner};
use super::pool;
use crate::config::Range;

/// Seconds for which an offered address is kept for the client.
pub const OFFER_SECS: u64 = 60;
/// Seconds for which an address is left alone after a client found it in use (RFC 2131 3.1, step 5).
pub const DECLINE_SECS: u64 = 24 * 3600;
/// Addresses that one client can have left alone at a time: it might decline whatever it is given, until nothing is left.
pub const MOST_DECLINES: usize = 4;
/// Seconds for which an address is left alone that answered a probe. It is probed again before it is offered.
pub const CONFLICT_SECS: u64 = 600;

/// Why an address is kept from others, without being leased.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    /// Looked for on the wire, before it is offered to this client.
    Probing { owner: Owner },
    /// Offered; the client has not asked for it yet.
    Offered { owner: Owner, until: u64 },
    /// On its way to the disk, however long that takes. It ends then by the record, and at `ends` by the clock, which may
    /// be set meanwhile.
    Writing { owner: Owner, expires: u64, ends: u64 },
    /// Somebody else uses it: this client said so, or a probe was answered.
    InUse { by: Option<Owner>, until: u64 },
}

impl Hold {
    const fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Probing { owner } | Self::Offered { owner, .. } | Self::Writing { owner, .. } => {
                Some(owner)
            }
            Self::InUse { .. } => None,
        }
    }

    const fn until(&self) -> u64 {
        match self {
            Self::Offered { until, .. } | Self::InUse { until, .. } => *until,
            Self::Probing { .. } | Self::Writing { .. } => u64::MAX,
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
    leased_to: HashMap<Owner, Ipv4Addr>,
    expiring: BTreeSet<(u64, Ipv4Addr)>,
    holds: HashMap<Ipv4Addr, Hold>,
    held_for: HashMap<Owner, Ipv4Addr>,
    held_until: BTreeSet<(u64, Ipv4Addr)>,
    /// How many addresses are left alone because of a client's word.
    declines: HashMap<Owner, usize>,
}

impl Leases {
    /// Begins with what the store has.
    pub fn new(pool: &[Range], records: impl IntoIterator<Item = Lease>) -> Self {
        let pool: BTreeSet<_> = pool::addresses(pool).collect();
        let mut leases = Self { free: pool.clone(), pool, ..Self::default() };
        for lease in records {
            // A crash between two writes can leave a client with two; the later one is the one it uses.
            let other = leases.leased_to.get(&lease.owner).and_then(|addr| leases.stored.get(addr));
            if other.is_none_or(|other| other.expires <= lease.expires) {
                leases.insert(lease);
            }
        }
        leases
    }

    /// There is nothing to lease.
    pub fn is_empty_pool(&self) -> bool {
        self.pool.is_empty()
    }

    /// The lease of a client, expired or not. A client that is known by its identifier now and was known by its Ethernet
    /// address before has that one.
    pub fn of(&self, owner: &Owner) -> Option<&Lease> {
        let before = || self.leased_to.get(&Owner::from(owner.mac));
        self.stored.get(self.leased_to.get(owner).or_else(before)?)
    }

    /// The lease of an address that has not ended.
    pub fn live(&self, addr: Ipv4Addr, now: u64) -> Option<&Lease> {
        self.stored.get(&addr).filter(|lease| lease.expires > now)
    }

    /// All that have not ended and whose addresses are of the pool.
    pub fn all_live(&self, now: u64) -> impl Iterator<Item = &Lease> {
        self.stored.values().filter(move |lease| lease.expires > now && self.pool.contains(&lease.addr))
    }

    /// It is of the pool.
    pub fn in_pool(&self, addr: Ipv4Addr) -> bool {
        self.pool.contains(&addr)
    }

    /// The address that is offered to a client or being written for it.
    pub fn held_for(&self, owner: &Owner) -> Option<Ipv4Addr> {
        self.held_for.get(owner).copied()
    }

    fn hold_of(&self, owner: &Owner) -> Option<&Hold> {
        self.holds.get(self.held_for.get(owner)?)
    }

    /// A lease of this client is on its way to the disk; its answer follows.
    pub fn is_writing(&self, owner: &Owner) -> bool {
        matches!(self.hold_of(owner), Some(Hold::Writing { .. }))
    }

    /// Somebody else's lease of the address in this client's record is on its way to the disk. Until it is there, or is not,
    /// nobody knows whether that record must be deleted when the client takes another address.
    pub fn is_unsettled(&self, owner: &Owner) -> bool {
        let recorded = self.leased_to.get(owner).and_then(|addr| self.holds.get(addr));
        matches!(recorded, Some(Hold::Writing { owner: other, .. }) if other != owner)
    }

    /// An address is being probed for this client; its answer follows.
    pub fn is_probing(&self, owner: &Owner) -> bool {
        matches!(self.hold_of(owner), Some(Hold::Probing { .. }))
    }

    /// Whether the client may have this address: of the pool, and nobody else has it or has been promised it.
    pub fn available(&self, addr: Ipv4Addr, owner: &Owner, now: u64) -> bool {
        let own = |lease: &Lease| {
            lease.owner == *owner || (lease.owner.id.is_none() && lease.owner.mac == owner.mac)
        };
        self.pool.contains(&addr)
            && self.stored.get(&addr).is_none_or(|lease| own(lease) || lease.expires <= now)
            && self.holds.get(&addr).is_none_or(|hold| hold.owner() == Some(owner) || hold.until() <= now)
    }

    /// Whether an address must be looked for on the wire before it is offered to this client: not if the client has it
    /// now, or was promised it a moment ago.
    pub fn wants_probe(&self, addr: Ipv4Addr, owner: &Owner, now: u64) -> bool {
        let has = self.live(addr, now).is_some();
        let promised = match self.holds.get(&addr) {
            Some(Hold::Offered { until, .. }) => *until > now,
            Some(Hold::Writing { .. }) => true,
            _ => false,
        };
        self.available(addr, owner, now) && !has && !promised
    }

    /// How many addresses are left alone because of this client's word.
    pub fn declines(&self, owner: &Owner) -> usize {
        self.declines.get(owner).copied().unwrap_or_default()
    }

    /// Addresses for a client that has none, best first: those that nobody ever had, beginning at a place that
    /// depends on the client; then expired leases, the oldest first.
    pub fn candidates(&self, owner: &Owner, now: u64) -> impl Iterator<Item = Ipv4Addr> {
        let start = self.home(owner);
        let unused = self.free.range(start..).chain(self.free.range(..start)).copied();
        let expired = self.expiring.iter().take_while(move |(expires, _)| *expires <= now);
        unused.chain(expired.map(|(_, addr)| *addr).filter(move |addr| self.available(*addr, owner, now)))
    }

    /// Where the search for a client's address begins: the same place each time, so that it gets the same
    /// address even when its lease was lost, and another place than its neighbours'.
    fn home(&self, owner: &Owner) -> Ipv4Addr {
        let (Some(first), Some(last)) = (self.pool.first(), self.pool.last()) else {
            return Ipv4Addr::UNSPECIFIED;
        };
        let mut hasher = DefaultHasher::new();
        owner.hash(&mut hasher);
        let (first, last) = (u32::from(*first), u32::from(*last));
        let offset = hasher.finish() % (u64::from(last - first) + 1);
        Ipv4Addr::from(first + u32::try_from(offset).unwrap_or_default())
    }

    /// Keeps an address for a client while it is looked for on the wire.
    pub fn probe(&mut self, addr: Ipv4Addr, owner: Owner) {
        if !self.is_writing(&owner) {
            self.forget(&owner);
            self.hold(addr, Hold::Probing { owner });
        }
    }

    /// Keeps an address for a client. What it was offered before is given back.
    pub fn offer(&mut self, addr: Ipv4Addr, owner: Owner, now: u64) {
        // A write on its way is not called back by a new DISCOVER.
        if !self.is_writing(&owner) {
            self.forget(&owner);
            self.hold(addr, Hold::Offered { owner, until: now + OFFER_SECS });
        }
    }

    /// Gives back what a client was offered.
    pub fn forget(&mut self, owner: &Owner) {
        if !self.is_writing(owner)
            && let Some(addr) = self.held_for(owner)
        {
            self.unhold(addr);
        }
    }

    /// Keeps an address while its lease is being written. Returns the address that the client gives up with it: its
    /// record is to be deleted in the same commit. Not while another lease of the client is on its way, or it is unsettled
    /// which address it gives up.
    pub fn writing(&mut self, lease: &Lease) -> Option<Ipv4Addr> {
        self.forget(&lease.owner);
        let Lease { addr, owner, expires } = lease.clone();
        self.hold(addr, Hold::Writing { owner, expires, ends: expires });
        self.given_up(lease)
    }

    /// The lease is on disk. If the clock was set meanwhile, returned is what must be written in its place, and the address
    /// whose record must be deleted once more with it.
    pub fn written(&mut self, mut lease: Lease) -> Option<(Lease, Option<Ipv4Addr>)> {
        let told = lease.expires;
        if let Some(Hold::Writing { expires, ends, .. }) = self.holds.get(&lease.addr)
            && *expires == told
        {
            lease.expires = *ends;
        }
        self.unhold(lease.addr);
        let before = self.given_up(&lease);
        self.insert(lease.clone());
        (lease.expires != told).then_some((lease, before))
    }

    /// The address of the record that a lease leaves its client without. Where somebody else's lease is on its way, that takes
    /// the record's place. A mere offer to somebody else does not.
    fn given_up(&self, lease: &Lease) -> Option<Ipv4Addr> {
        let before = *self.leased_to.get(&lease.owner)?;
        let replaced = matches!(self.holds.get(&before), Some(Hold::Writing { .. }));
        (before != lease.addr && !replaced).then_some(before)
    }

    /// The lease could not be written: the client keeps what it had, and the offer.
    pub fn unwritten(&mut self, lease: &Lease, now: u64) {
        self.unhold(lease.addr);
        self.offer(lease.addr, lease.owner.clone(), now);
    }

    /// The lease is on disk, and its client is not to have it. Returned is what must be written in its place: the one that the
    /// client has of this address and goes on with until it ends, else one that has ended.
    pub fn voided(&mut self, lease: &Lease, now: u64) -> Lease {
        let had = self.live(lease.addr, now).cloned();
        let back = had.unwrap_or_else(|| Lease { expires: now, ..lease.clone() });
        self.written(back.clone());
        back
    }

    /// Leaves an address alone for [`DECLINE_SECS`] because the client that has it found somebody else there. Returned is what
    /// must be written: its lease, which has ended. Were that forgotten and its record still there, as its deletion failed, the
    /// client's next one would not take its place.
    pub fn decline(&mut self, addr: Ipv4Addr, owner: &Owner, now: u64) -> Lease {
        let ended = Lease::new(addr, owner.clone(), now);
        self.insert(ended.clone());
        self.hold(addr, Hold::InUse { by: Some(owner.clone()), until: now + DECLINE_SECS });
        ended
    }

    /// Leaves an address alone for [`CONFLICT_SECS`] because somebody answered for it.
    pub fn conflict(&mut self, addr: Ipv4Addr, now: u64) {
        self.hold(addr, Hold::InUse { by: None, until: now + CONFLICT_SECS });
    }

    /// Ends the holds whose time is over.
    pub fn sweep(&mut self, now: u64) {
        while let Some((until, addr)) = self.held_until.first().copied()
            && until <= now
        {
            self.unhold(addr);
        }
    }

    /// The wall clock was moved. Who had a lease before has it for as long as it was told; an end that was written by
    /// another clock than the present one counts for `longest` seconds at most. Holds go on as they were. Returns the leases
    /// that end at another time now.
    pub fn clock_moved(&mut self, from: u64, to: u64, longest: u64) -> Vec<Lease> {
        let mut moved = Vec::new();
        for lease in self.stored.values_mut() {
            let left = lease.expires.saturating_sub(from);
            let ends = if to < from {
                // Else what was leased by a clock that was years ahead would be gone for years.
                lease.expires.min(to + left.max(longest))
            } else if left > 0 {
                lease.expires.max(to + left.min(longest))
            } else {
                lease.expires
            };
            if ends != lease.expires {
                self.expiring.remove(&(lease.expires, lease.addr));
                self.expiring.insert((ends, lease.addr));
                lease.expires = ends;
                moved.push(lease.clone());
            }
        }
        self.held_until.clear();
        for (addr, hold) in &mut self.holds {
            if let Hold::Offered { until: end, .. }
            | Hold::InUse { until: end, .. }
            | Hold::Writing { ends: end, .. } = hold
            {
                *end = to + end.saturating_sub(from);
            }
            self.held_until.insert((hold.until(), *addr));
        }
        moved
    }

    fn insert(&mut self, lease: Lease) {
        self.remove(lease.addr);
        if let Some(before) = self.leased_to.get(&lease.owner).copied() {
            self.remove(before);
        }
        self.leased_to.insert(lease.owner.clone(), lease.addr);
        self.expiring.insert((lease.expires, lease.addr));
        self.free.remove(&lease.addr);
        self.stored.insert(lease.addr, lease);
    }

    fn remove(&mut self, addr: Ipv4Addr) {
        if let Some(lease) = self.stored.remove(&addr) {
            self.expiring.remove(&(lease.expires, addr));
            self.leased_to.remove(&lease.owner);
            self.give_back(addr);
        }
    }

    fn hold(&mut self, addr: Ipv4Addr, hold: Hold) {
        self.unhold(addr);
        self.held_until.insert((hold.until(), addr));
        self.free.remove(&addr);
        if let Some(owner) = hold.owner() {
            self.held_for.insert(owner.clone(), addr);
        }
        if let Hold::InUse { by: Some(owner), .. } = &hold {
            *self.declines.entry(owner.clone()).or_default() += 1;
        }
        self.holds.insert(addr, hold);
    }

    fn unhold(&mut self, addr: Ipv4Addr) {
        let Some(hold) = self.holds.remove(&addr) else { return };
        self.held_until.remove(&(hold.until(), addr));
        if let Some(owner) = hold.owner()
            && self.held_for.get(owner) == Some(&addr)
        {
            self.held_for.remove(owner);
        }
        if let Hold::InUse { by: Some(owner), .. } = &hold
            && let Some(declines) = self.declines.get_mut(owner)
        {
            *declines -= 1;
            if *declines == 0 {
                self.declines.remove(owner);
            }
        }
        self.give_back(addr);
    }

    fn give_back(&mut self, addr: Ipv4Addr) {
        let taken = self.stored.contains_key(&addr) || self.holds.contains_key(&addr);
        if !taken && self.pool.contains(&addr) {
            self.free.insert(addr);
        }
    }
}
