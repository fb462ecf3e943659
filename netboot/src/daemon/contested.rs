//! Which reserved addresses others still have a lease of, as the store says; the operator is told once a snapshot.
//!
//! Decides nothing: `dhcp::taken` does. XDP is not to give these addresses away; DHCP looks at its own table.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::dhcp::record;
use crate::dhcp::taken::{Taken, taken};
use crate::inventory::Snapshot;
use crate::store::Reader;

/// The addresses that are reserved for one machine and leased to another.
pub(super) struct Contested {
    leases: Reader,
    taken: BTreeSet<Ipv4Addr>,
}

impl Contested {
    pub(super) fn new(leases: Reader) -> Self {
        Self { leases, taken: BTreeSet::new() }
    }

    /// What the last look found.
    pub(super) fn taken(&self) -> &BTreeSet<Ipv4Addr> {
        &self.taken
    }

    /// Reads the leases (blocking) and returns whether it is another set than before. `new`: nobody was told yet of what
    /// is wrong with this snapshot.
    pub(super) fn look(&mut self, snapshot: &Snapshot, new: bool) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let found = match self.leases.list() {
            Ok(entries) => {
                let found = taken(snapshot, &record::read_all(&entries), now);
                if new {
                    for taken in &found {
                        tell(snapshot, taken, now);
                    }
                }
                found.into_iter().map(|taken| taken.addr).collect()
            }
            // Nobody knows: then DHCP answers all of them.
            Err(error) => {
                if new {
                    tracing::warn!(
                        "the leases cannot be read, so XDP answers nobody until they can: {error}"
                    );
                }
                snapshot.hosts().map(|host| host.addr).collect()
            }
        };
        let changed = found != self.taken;
        self.taken = found;
        changed
    }
}

fn tell(snapshot: &Snapshot, taken: &Taken, now: u64) {
    let Taken { addr, reserved_for, lease } = taken;
    let name = snapshot.by_addr(*addr).map_or("", |host| host.hostname.as_str());
    let (owner, secs) = (lease.owner.mac, lease.expires.saturating_sub(now));
    tracing::warn!(
        mac = %reserved_for, %addr, %owner, secs,
        "{addr} is reserved for {name} ({reserved_for}), and leased to {owner} for {secs} s more: until that one has given it up {name} gets an address of the pool"
    );
}
