//! Which address a machine gets that is to be reserved: one of the subnet that is nobody's.
//!
//! Pure. Who has an address by reservation or lease is asked of the caller; what the subnet itself needs is known here.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::options::Subnet;
use super::pool;
use crate::config::{self, Range};

/// What of a network can be given to machines.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Network {
    /// The subnet.
    pub prefix: Ipv4Network,
    /// This server's address.
    pub server: Ipv4Addr,
    /// Default gateways.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The pool, where the operator has set one, and what is excluded from it. A pool that is derived from the prefix is
    /// most of it, and machines with a reservation may be in it.
    pub pool: Vec<Range>,
}

impl Network {
    /// What can be given on the interface's subnet.
    pub fn new(subnet: &Subnet, settings: &config::Dhcp) -> Self {
        let Subnet { server, prefix, routers, dns, .. } = subnet.clone();
        Self { prefix, server, routers, dns, pool: [&*settings.pool, &settings.exclude].concat() }
    }

    /// What can be given in a subnet behind a relay agent.
    #[must_use]
    pub fn behind_relay(&self, subnet: &config::Subnet) -> Self {
        let config::Subnet { prefix, relay, pool, exclude, router, dns, .. } = subnet;
        Self {
            prefix: *prefix,
            server: self.server,
            routers: relay.iter().chain(router.iter().flatten()).copied().collect(),
            dns: dns.clone().unwrap_or_else(|| self.dns.clone()),
            pool: [pool.as_slice(), exclude].concat(),
        }
    }

    /// Why an address cannot be any machine's, if it cannot.
    pub fn refuses(&self, addr: Ipv4Addr) -> Option<&'static str> {
        let Self { prefix, server, routers, dns, pool: _ } = self;
        if !prefix.contains(addr) {
            Some("outside the subnet")
        } else if addr == prefix.network() || addr == prefix.broadcast() {
            Some("the network or broadcast address of its subnet")
        } else if addr == *server {
            Some("this server's own")
        } else if routers.contains(&addr) {
            Some("the router's")
        } else if dns.contains(&addr) {
            Some("the name server's")
        } else {
            None
        }
    }

    /// The addresses for new reservations, the lowest first: of the share of the prefix that a derived pool would have,
    /// then the others. Below and above it are the routers and servers that netboot is not told of.
    pub fn vacant(&self, taken: impl Fn(Ipv4Addr) -> bool) -> impl Iterator<Item = Ipv4Addr> {
        let (low, high) = (self.prefix.network(), self.prefix.broadcast());
        let share = pool::ranges(self.prefix, &[], &[]);
        let share = share.first().copied().unwrap_or(Range { first: low, last: high });
        let below = Range { first: low, last: Ipv4Addr::from(u32::from(share.first).saturating_sub(1)) };
        let above = Range { first: Ipv4Addr::from(u32::from(share.last).saturating_add(1)), last: high };
        let each = [share, below, above].into_iter().flat_map(|range| self.outside_the_pool(range));
        each.filter(move |addr| self.refuses(*addr).is_none() && !taken(*addr))
    }

    /// The addresses of a range that are not in the pool; a large pool is passed in one step.
    fn outside_the_pool(&self, range: Range) -> impl Iterator<Item = Ipv4Addr> {
        let mut next = Some(range.first);
        let after = |addr: Ipv4Addr| u32::from(addr).checked_add(1).map(Ipv4Addr::from);
        std::iter::from_fn(move || {
            while let Some(inside) =
                self.pool.iter().find(|pool| next.is_some_and(|addr| pool.contains(addr)))
            {
                next = after(inside.last);
            }
            let addr = next.filter(|addr| *addr <= range.last)?;
            next = after(addr);
            Some(addr)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::Network;
    use crate::config;

    fn network(prefix: &str, pool: &[&str]) -> Network {
        let prefix: ipnetwork::Ipv4Network = prefix.parse().unwrap();
        let at = |n: u32| Ipv4Addr::from(u32::from(prefix.network()) + n);
        let pool = pool.iter().map(|range| range.parse().unwrap()).collect();
        Network { prefix, server: at(2), routers: vec![at(1)], dns: vec![at(4)], pool }
    }

    fn first(network: &Network, taken: &[&str]) -> Vec<String> {
        let taken: Vec<Ipv4Addr> = taken.iter().map(|addr| addr.parse().unwrap()).collect();
        network.vacant(|addr| taken.contains(&addr)).take(3).map(|addr| addr.to_string()).collect()
    }

    #[test]
    fn the_lowest_that_is_nobodys_above_where_routers_are() {
        let net = Network { dns: vec![[10, 1, 0, 11].into()], ..network("10.1.0.0/24", &[]) };
        assert_eq!(first(&net, &[]), ["10.1.0.10", "10.1.0.12", "10.1.0.13"]);
        assert_eq!(first(&net, &["10.1.0.10", "10.1.0.13"]), ["10.1.0.12", "10.1.0.14", "10.1.0.15"]);
        let pool = network("10.1.0.0/24", &["10.1.0.13-10.1.0.250", "10.1.0.11-10.1.0.11"]);
        assert_eq!(first(&pool, &[]), ["10.1.0.10", "10.1.0.12", "10.1.0.3"]);
        let all: Vec<_> = pool.vacant(|_| false).collect();
        assert_eq!((all.len(), all.last().copied()), (2 + 6 + 4, Some([10, 1, 0, 254].into())));
    }

    #[test]
    fn none_is_left_and_large_networks_are_no_wait() {
        assert!(first(&network("10.1.0.0/24", &["10.1.0.1-10.1.0.254"]), &[]).is_empty());
        assert!(first(&network("10.1.0.0/24", &["10.0.0.1-10.1.1.254"]), &[]).is_empty());
        assert!(first(&network("10.1.0.0/30", &[]), &[]).is_empty());
        assert!(first(&network("10.1.0.0/32", &[]), &[]).is_empty());
        assert_eq!(first(&network("10.0.0.0/8", &["10.0.0.1-10.240.0.0"]), &[])[0], "10.240.0.1");
        let all = network("0.0.0.0/0", &["0.0.0.1-255.255.255.255"]);
        assert!(first(&all, &[]).is_empty());
    }

    #[test]
    fn behind_a_relay_agent_it_is_that_subnet() {
        let subnet = config::Subnet {
            prefix: "10.2.0.0/24".parse().unwrap(),
            relay: Some([10, 2, 0, 10].into()),
            pool: vec![],
            exclude: vec!["10.2.0.12-10.2.0.13".parse().unwrap()],
            lease_secs: None,
            router: Some(vec![[10, 2, 0, 11].into()]),
            dns: None,
            domain: None,
            options: config::options::Options::default(),
        };
        let behind = network("10.1.0.0/24", &["10.1.0.1-10.1.0.254"]).behind_relay(&subnet);
        assert_eq!(first(&behind, &[]), ["10.2.0.14", "10.2.0.15", "10.2.0.16"]);
    }

    #[test]
    fn says_why_not() {
        let net = network("10.1.0.0/24", &[]);
        for (addr, why) in [
            ("10.2.0.3", Some("outside the subnet")),
            ("10.1.0.255", Some("the network or broadcast address of its subnet")),
            ("10.1.0.2", Some("this server's own")),
            ("10.1.0.1", Some("the router's")),
            ("10.1.0.4", Some("the name server's")),
            ("10.1.0.5", None),
        ] {
            assert_eq!(net.refuses(addr.parse().unwrap()), why, "{addr}");
        }
    }
}
