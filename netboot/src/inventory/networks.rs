//! The networks that the machines' addresses are held against.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::rendering::Server;
use crate::config::{Dhcp, Range};

/// Where machines can be, and the pools that are for others. By default nothing is known, and everything fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// The PXE interface's subnet, with this server's own address in the place of the network's where that is known.
    pub own: Option<Ipv4Network>,
    /// Those behind relay agents.
    pub relayed: Vec<Ipv4Network>,
    /// The ranges that were set as pools. Of one that was not, reserved addresses are left out without a word.
    pub pool: Vec<Range>,
    /// What is in no pool.
    pub excluded: Vec<Range>,
}

impl Networks {
    /// What the settings say, and the interface's subnet if it is known.
    pub fn new(own: Option<Ipv4Network>, dhcp: &Dhcp) -> Self {
        let all = |first: &[Range], more: fn(&crate::config::Subnet) -> &Vec<Range>| {
            first.iter().chain(dhcp.subnets.iter().flat_map(more)).copied().collect()
        };
        Self {
            own,
            relayed: dhcp.subnets.iter().map(|subnet| subnet.prefix).collect(),
            pool: all(&dhcp.pool, |subnet| &subnet.pool),
            excluded: all(&dhcp.exclude, |subnet| &subnet.exclude),
        }
    }

    /// Only the interface's subnet.
    pub fn of(own: Ipv4Network) -> Self {
        Self { own: Some(own), ..Self::default() }
    }

    /// This server as templates are checked with it. Where its address is not known, one will do that is nobody's (RFC 5737).
    pub(super) fn server(&self) -> Server {
        let addr = self.own.map_or(Ipv4Addr::new(192, 0, 2, 1), Ipv4Network::ip);
        Server { addr, http_port: 8080 }
    }

    /// The pool that an address is of.
    pub(super) fn pool_of(&self, addr: Ipv4Addr) -> Option<Range> {
        let of = |ranges: &[Range]| ranges.iter().copied().find(|range| range.contains(addr));
        of(&self.pool).filter(|_| of(&self.excluded).is_none())
    }
}
