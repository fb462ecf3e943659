//! The subnets that are served, each with who has its addresses.
//!
//! Made from the settings and the stored leases; no I/O.

use super::lease::Lease;
use super::leases::Leases;
use super::options::Subnet;
use super::pool;
use super::select::Place;
use crate::config::{self, Identity, Mode, Range};

/// A subnet and who has its addresses.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) subnet: Subnet,
    pub(super) leases: Leases,
    /// By what a request of it is known.
    pub(super) place: Place,
}

/// The interface's own subnet, then those behind relay agents.
pub(super) fn all(own: &Subnet, mode: Mode, settings: &config::Dhcp, mut stored: Vec<Lease>) -> Vec<Segment> {
    if settings.identity == Identity::Mac {
        // What was leased to identifiers before is found by address now.
        for lease in &mut stored {
            lease.owner.id = None;
        }
    }
    let segment = |subnet: Subnet, relay, pool: &[Range], excluded: &[Range]| {
        let place = Place { prefix: subnet.prefix, relay };
        let leases = match mode {
            Mode::Full => leases(&subnet, pool, excluded, &stored),
            // The addresses are another server's.
            Mode::Proxy => Leases::default(),
        };
        Segment { subnet, leases, place }
    };
    let behind = settings.subnets.iter().map(|behind| {
        let relay = behind.relay.map(|relay| Range { first: relay, last: relay });
        let excluded: Vec<Range> = behind.exclude.iter().copied().chain(relay).collect();
        segment(own.behind_relay(behind), behind.relay, &behind.pool, &excluded)
    });
    std::iter::once(segment(own.clone(), None, &settings.pool, &settings.exclude)).chain(behind).collect()
}

fn leases(subnet: &Subnet, pool: &[Range], excluded: &[Range], stored: &[Lease]) -> Leases {
    let ranges = pool::ranges(subnet.prefix, pool, excluded);
    let here = stored.iter().filter(|lease| subnet.prefix.contains(lease.addr));
    Leases::new(&ranges, here.cloned())
}
