//! Reserved addresses that another machine still has a lease of: a reservation that came after the lease. Until that one has
//! gone its way the address is given to nobody.
//!
//! Pure. What the machine gets meanwhile is said by `policy`.

use std::net::Ipv4Addr;

use super::lease::Lease;
use crate::inventory::Snapshot;
use crate::mac::Mac;

/// An address with a reservation and a lease, of two machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The address.
    pub addr: Ipv4Addr,
    /// For whom it is reserved.
    pub reserved_for: Mac,
    /// Who has it.
    pub lease: Lease,
}

/// The reserved addresses that others have, by these leases at this time (seconds since 1970), in their order.
pub fn taken(snapshot: &Snapshot, leases: &[Lease], now: u64) -> Vec<Taken> {
    let by_other = |lease: &Lease| {
        let host =
            snapshot.by_addr(lease.addr).filter(|host| host.mac != lease.owner.mac && lease.expires > now)?;
        Some(Taken { addr: host.addr, reserved_for: host.mac, lease: lease.clone() })
    };
    let mut taken: Vec<_> = leases.iter().filter_map(by_other).collect();
    taken.sort_by_key(|taken| taken.addr);
    taken
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Taken, taken};
    use crate::config::Boot;
    use crate::dhcp::lease::Lease;
    use crate::inventory::{Host, Snapshot};
    use crate::mac::Mac;

    const fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn only_live_leases_of_others_count() {
        let host = |last: u8| Host {
            mac: mac(last),
            addr: [10, 0, 0, last].into(),
            hostname: "b".to_owned(),
            channel: "stable".to_owned(),
            template: None,
            boot: Boot::default(),
            variables: BTreeMap::new(),
            ignition: None,
        };
        let snapshot = Snapshot::new(BTreeMap::new(), (1..=4).map(host).collect());
        let lease = |last: u8, whose, expires| Lease::new([10, 0, 0, last].into(), mac(whose), expires);
        let leases =
            [lease(9, 9, 200), lease(4, 8, 101), lease(3, 7, 100), lease(2, 2, 200), lease(1, 2, 200)];
        let expected = [(1, leases[4].clone()), (4, leases[1].clone())];
        let expected =
            expected.map(|(last, lease)| Taken { addr: lease.addr, reserved_for: mac(last), lease });
        assert_eq!(taken(&snapshot, &leases, 100), expected);
    }
}
