//! What the XDP program is to answer: from a snapshot of the machines to what it is given, a template for all that are alike
//! and a small part of each machine's own.
//!
//! Pure. The templates come from the builder of the daemon's own replies. Whatever is left out here is answered by
//! the daemon, so leaving out is always right.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnetwork::Ipv4Network;
use netboot_ebpf::Class;
use netboot_ebpf::abi::{NAME_MAX, TEMPLATE_MAX};

use crate::config;
use crate::config::options::HostKey;
use crate::dhcp::options::{Client, Subnet, template};
use crate::inventory::{Host, Snapshot};
use crate::mac::Mac;

/// The smallest MTU with which a reply may have the size that every client takes (RFC 2132 9.10).
const SMALLEST_MTU: u32 = 576;

/// The subnets that machines boot in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// What their clients are told: the interface's own, then those behind relay agents. The place in the list is the
    /// number of the segment.
    pub subnets: Vec<Subnet>,
    /// By which prefix a relay agent's address tells its segment; the longest that fits counts.
    pub relays: Vec<(Ipv4Network, u32)>,
}

impl Site {
    /// The interface's own subnet and those that are set.
    pub fn new(own: &Subnet, settings: &config::Dhcp) -> Self {
        let behind = settings.subnets.iter().map(|subnet| own.behind_relay(subnet));
        let subnets: Vec<_> = std::iter::once(own.clone()).chain(behind).collect();
        let mut relays: Vec<(Ipv4Network, u32)> = Vec::new();
        let agents = settings.subnets.iter().map(|subnet| subnet.relay.map(Ipv4Network::from));
        for (segment, agent) in (1..).zip(agents) {
            // Of two subnets that name one agent the first has it, as in `dhcp::select`.
            relays.extend(
                agent
                    .filter(|agent| !relays.iter().any(|(other, _)| other == agent))
                    .map(|agent| (agent, segment)),
            );
        }
        for (segment, subnet) in (0..).zip(&subnets) {
            if !relays.iter().any(|(other, _)| *other == subnet.prefix) {
                relays.push((subnet.prefix, segment));
            }
        }
        Self { subnets, relays }
    }

    /// The subnet that an address is of.
    fn of(&self, addr: Ipv4Addr) -> Option<(u16, &Subnet)> {
        (0..).zip(&self.subnets).find(|(_, subnet)| subnet.prefix.contains(addr))
    }
}

/// What machines that are alike are told, but for `yiaddr` and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The number of their segment.
    pub segment: u16,
    /// The template of each class, by its number; `None`: the daemon answers that class.
    pub templates: Vec<Option<Arc<[u8]>>>,
}

/// A machine's name as option 12, with code and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its length; 0: it has none.
    pub len: u8,
    /// It, then zeros.
    pub bytes: [u8; NAME_MAX],
}

impl Name {
    /// The name as it stands in a template; `None`: it is too long for the program.
    fn of(hostname: &str) -> Option<Self> {
        let mut name = Self { len: 0, bytes: [0; NAME_MAX] };
        if !hostname.is_empty() {
            let length = u8::try_from(hostname.len()).ok()?;
            let (head, value) = name.bytes.split_first_chunk_mut()?;
            *head = [12, length];
            value.get_mut(..hostname.len())?.copy_from_slice(hostname.as_bytes());
            name.len = length + 2;
        }
        Some(name)
    }
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its address.
    pub addr: Ipv4Addr,
    /// The place of its group in the list.
    pub group: usize,
    /// Its name.
    pub name: Name,
    /// When its lease ends, in nanoseconds of the monotonic clock; 0: it has a reservation.
    pub valid_until_ns: u64,
}

/// A lease of the pool that is on disk. The program offers its address and leaves the rest to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The address.
    pub addr: Ipv4Addr,
    /// The number of its segment.
    pub segment: u16,
    /// When it ends, in nanoseconds of the monotonic clock.
    pub valid_until_ns: u64,
}

/// Everything that the program is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// What is said to many.
    pub groups: Vec<Group>,
    /// The machines, in the order of their Ethernet addresses.
    pub machines: Vec<Machine>,
    /// The place of the group of those who have a lease of the pool, by segment; `None`: the daemon answers them.
    pub pool: Vec<Option<usize>>,
}

/// A machine that the program leaves to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Why.
    pub why: &'static str,
}

const TOO_LONG: &str = "its reply is too long for the XDP program";

/// What makes machines alike.
#[derive(PartialEq, Eq, Hash)]
struct Alike<'a> {
    segment: u16,
    channel: &'a str,
    boot: Vec<(Class, &'a str)>,
    /// It has options of its own, and so is like no other.
    alone: Option<Mac>,
}

/// Builds what the program is given for all machines of a snapshot.
pub fn build(snapshot: &Snapshot, site: &Site) -> (Entries, Vec<LeftOut>) {
    let mut entries = Entries::default();
    let mut left_out = Vec::new();
    let mut known: HashMap<Alike<'_>, Result<usize, &'static str>> = HashMap::new();
    for host in snapshot.hosts() {
        let mut leave = |why| left_out.push(LeftOut { mac: host.mac, why });
        if !is(snapshot.by_mac(host.mac), host) || !is(snapshot.by_addr(host.addr), host) {
            leave("another machine has its MAC or its address");
            continue;
        }
        let Some((segment, subnet)) = site.of(host.addr).filter(|(_, subnet)| host.addr != subnet.server)
        else {
            leave("its address is none of a subnet's clients");
            continue;
        };
        let own = |key| subnet.custom.hosts.contains_key(&key);
        let alone = own(HostKey::Addr(host.addr)) || own(HostKey::Mac(host.mac));
        let alike = Alike {
            segment,
            channel: &host.channel,
            boot: host.boot.iter().collect(),
            alone: alone.then_some(host.mac),
        };
        let group = *known.entry(alike).or_insert_with(|| {
            let group = group(snapshot, segment, subnet, Some(host))?;
            entries.groups.push(group);
            Ok(entries.groups.len() - 1)
        });
        match group.and_then(|group| machine(host, group, &mut entries.groups)) {
            Ok(machine) => entries.machines.push(machine),
            Err(why) => leave(why),
        }
    }
    entries.machines.sort_unstable_by_key(|machine| machine.mac);
    (entries, left_out)
}

/// Whether the program may offer a machine the address of its lease: the daemon would, unless the machine or the address is
/// reserved by now.
pub fn may_offer(snapshot: &Snapshot, site: &Site, mac: Mac, leased: &Leased) -> bool {
    let subnet = site.subnets.get(usize::from(leased.segment));
    let fits = subnet.is_some_and(|Subnet { server, prefix, routers, dns, .. }| {
        let addr = &leased.addr;
        prefix.contains(*addr) && addr != server && !routers.contains(addr) && !dns.contains(addr)
    });
    fits && snapshot.by_mac(mac).is_none() && snapshot.by_addr(leased.addr).is_none()
}

/// Adds those who have a lease of the pool.
pub fn add_leases<'a>(
    entries: &mut Entries,
    snapshot: &Snapshot,
    site: &Site,
    leases: impl Iterator<Item = (&'a Mac, &'a Leased)>,
) {
    for (segment, subnet) in (0..).zip(&site.subnets) {
        let group = group(snapshot, segment, subnet, None).ok().map(|group| {
            entries.groups.push(group);
            entries.groups.len() - 1
        });
        entries.pool.push(group);
    }
    let may = leases.filter(|(mac, leased)| may_offer(snapshot, site, **mac, leased));
    let pool = &entries.pool;
    let machines = may.filter_map(|(mac, leased)| {
        let group = pool.get(usize::from(leased.segment)).copied().flatten()?;
        Some(self::leased(*mac, leased, group))
    });
    entries.machines.extend(machines);
    entries.machines.sort_unstable_by_key(|machine| machine.mac);
}

/// The part of a machine with a lease.
pub fn leased(mac: Mac, leased: &Leased, group: usize) -> Machine {
    let name = Name { len: 0, bytes: [0; NAME_MAX] };
    Machine { mac, addr: leased.addr, group, name, valid_until_ns: leased.valid_until_ns }
}

/// The templates of all machines that are like this one; of all without a reservation where there is none.
fn group(
    snapshot: &Snapshot,
    segment: u16,
    subnet: &Subnet,
    host: Option<&Host>,
) -> Result<Group, &'static str> {
    if subnet.mtu < SMALLEST_MTU {
        return Err("the interface's MTU is smaller than what every client takes");
    }
    if subnet.custom.of(host).on_request() {
        return Err("it has options that are sent on request only, which the XDP program does not look at");
    }
    let templates = Class::ALL.iter().map(|class| {
        let client = Client::new(subnet, snapshot, Ipv4Addr::UNSPECIFIED, host, *class);
        let template = template(subnet, &Client { hostname: None, ..client });
        // The daemon leaves nothing out for clients that take more.
        template.left_out().is_empty().then(|| template.before_name().into())
    });
    Ok(Group { segment, templates: templates.collect() })
}

/// The machine's own part. Where its name makes some of its group's templates too long it has a group of its own.
fn machine(host: &Host, mut group: usize, groups: &mut Vec<Group>) -> Result<Machine, &'static str> {
    let name = Name::of(&host.hostname).ok_or(TOO_LONG)?;
    let templates = groups.get(group).map(|group| group.templates.as_slice()).unwrap_or_default();
    let fits = |template: &Arc<[u8]>| template.len() + usize::from(name.len) <= TEMPLATE_MAX;
    if templates.iter().flatten().any(|template| !fits(template)) {
        let segment = groups.get(group).map_or(0, |group| group.segment);
        let templates: Vec<_> = templates
            .iter()
            .map(|template| template.as_ref().filter(|template| fits(template)).cloned())
            .collect();
        groups.push(Group { segment, templates });
        group = groups.len() - 1;
    }
    if groups.get(group).is_none_or(|group| group.templates.iter().flatten().next().is_none()) {
        return Err(TOO_LONG);
    }
    Ok(Machine { mac: host.mac, addr: host.addr, group, name, valid_until_ns: 0 })
}

impl Entries {
    /// Leaves out machines with one of these addresses: somebody else still has it.
    #[must_use]
    pub fn without(mut self, taken: &BTreeSet<Ipv4Addr>) -> Self {
        if !taken.is_empty() {
            self.machines.retain(|machine| !taken.contains(&machine.addr));
        }
        self
    }
}

/// Is it this very machine?
fn is(found: Option<&Host>, host: &Host) -> bool {
    found.is_some_and(|found| std::ptr::eq(found, host))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use netboot_ebpf::Class;
    use netboot_ebpf::abi::TEMPLATE_MAX;

    use super::{Client, Entries, Machine, Site, build};
    use crate::config::options::Custom;
    use crate::config::{self, Boot};
    use crate::dhcp::options::{Subnet, template};
    use crate::inventory::{Host, Snapshot};
    use crate::mac::Mac;

    fn subnet() -> Subnet {
        Subnet {
            server: Ipv4Addr::new(192, 168, 90, 2),
            prefix: "192.168.90.0/24".parse().expect("a prefix"),
            lease_secs: 3600,
            routers: vec![Ipv4Addr::new(192, 168, 90, 2)],
            dns: vec![],
            domain: None,
            boot: Boot::default(),
            http_port: 8080,
            menu: None,
            custom: Custom::default(),
            rapid_commit: false,
            mtu: 1500,
        }
    }

    fn host(number: u8, addr: [u8; 4]) -> Host {
        Host {
            mac: Mac([2, 0, 0, 0, 0, number]),
            addr: addr.into(),
            hostname: format!("node{number}"),
            channel: "stable".to_owned(),
            template: None,
            boot: Boot::default(),
            variables: BTreeMap::new(),
        }
    }

    fn site(subnet: Subnet) -> Site {
        let relays = vec![(subnet.prefix, 0)];
        Site { subnets: vec![subnet], relays }
    }

    fn machine(entries: &Entries, number: u8) -> &Machine {
        entries.machines.iter().find(|machine| machine.mac.0[5] == number).expect("it is there")
    }

    /// What the program has of a machine in a class, put together.
    fn whole(entries: &Entries, number: u8, class: Class) -> Option<Vec<u8>> {
        let machine = machine(entries, number);
        let template = entries.groups[machine.group].templates[class as usize].as_deref()?;
        let name = &machine.name.bytes[..usize::from(machine.name.len)];
        assert!(machine.name.bytes[name.len()..].iter().all(|byte| *byte == 0));
        let mut bytes = [template, name].concat();
        bytes[16..20].copy_from_slice(&machine.addr.octets());
        Some(bytes)
    }

    #[test]
    fn template_and_name_are_what_the_daemon_makes_of_each_machine_in_each_class() {
        let beta = |number, addr| Host { channel: "beta".into(), ..host(number, addr) };
        let own =
            Host { boot: [(Class::Efi64, "own.efi")].into_iter().collect(), ..host(4, [192, 168, 90, 14]) };
        let hosts = vec![
            host(1, [192, 168, 90, 11]),
            Host { hostname: "a-longer-name.example.net".into(), ..host(2, [192, 168, 90, 12]) },
            beta(3, [192, 168, 90, 13]),
            own,
            Host { hostname: String::new(), ..host(5, [192, 168, 90, 15]) },
        ];
        let (snapshot, subnet) = (Snapshot::new(BTreeMap::new(), hosts.clone()), subnet());
        let (entries, left_out) = build(&snapshot, &site(subnet.clone()));
        assert_eq!((entries.machines.len(), entries.groups.len(), left_out.len()), (5, 3, 0));
        assert_eq!(machine(&entries, 1).group, machine(&entries, 2).group, "alike, but for name and address");
        assert!(entries.machines.is_sorted_by_key(|machine| machine.mac));
        for (number, host) in (1..).zip(&hosts) {
            for class in Class::ALL {
                let client = Client::new(&subnet, &snapshot, host.addr, Some(host), *class);
                let expected = template(&subnet, &client);
                assert_eq!(
                    whole(&entries, number, *class).as_deref(),
                    Some(expected.bytes()),
                    "{number} {class:?}"
                );
            }
        }
    }

    /// The options, as `netboot.json` has them below `dhcp`.
    fn custom(text: &str) -> Custom {
        settings(text).custom
    }

    fn settings(text: &str) -> config::Dhcp {
        let data = tempfile::tempdir().expect("a directory");
        let file = data.path().join(config::FILE);
        std::fs::write(file, format!("{{\"dhcp\": {text}}}")).expect("written");
        config::resolve(data.path(), config::Given::default()).expect("good").dhcp
    }

    #[test]
    fn options_of_everybody_profile_and_machine_are_in_the_templates() {
        let custom = custom(
            r#"{ "options": {"42": "192.168.90.1", "100": "CET-1"}, "profiles": {"beta": {"boot": {"bios": "beta.0"}}},
                 "hosts": {"02:00:00:00:00:02": {"options": {"42": {"value": "192.168.90.1", "on_request": true}}},
                           "192.168.90.13": {"options": {"17": "/", "114": "x", "252": "y", "100": null}}} }"#,
        );
        let hosts = vec![
            Host { channel: "beta".into(), ..host(1, [192, 168, 90, 11]) },
            host(2, [192, 168, 90, 12]),
            host(3, [192, 168, 90, 13]),
        ];
        let (entries, left_out) =
            build(&Snapshot::new(BTreeMap::new(), hosts), &site(Subnet { custom, ..subnet() }));
        let left: Vec<_> = left_out.iter().map(|left| (left.mac.0[5], left.why)).collect();
        let why = "it has options that are sent on request only, which the XDP program does not look at";
        assert_eq!(left, [(2, why)]);
        let has = |number, part: &[u8]| {
            let bytes = whole(&entries, number, Class::Bios).expect("a template");
            bytes.windows(part.len()).any(|window| window == part)
        };
        assert!(has(1, b"\x64\x05CET-1") && has(1, b"beta.0") && has(1, &[42, 4, 192, 168, 90, 1]));
        assert!(!has(3, b"CET-1") && has(3, b"\xfc\x01y") && has(3, &[42, 4, 192, 168, 90, 1]));
    }

    #[test]
    fn a_machine_whose_options_do_not_fit_is_left_to_the_daemon() {
        let long = "x".repeat(200);
        let custom = custom(&format!(
            r#"{{"hosts": {{"192.168.90.11": {{"options": {{"114": "{long}", "252": "{long}"}}}}}}}}"#
        ));
        let hosts = vec![host(1, [192, 168, 90, 11]), host(2, [192, 168, 90, 12])];
        let (entries, left_out) =
            build(&Snapshot::new(BTreeMap::new(), hosts), &site(Subnet { custom, ..subnet() }));
        assert_eq!(entries.machines.len(), 1);
        let left: Vec<_> = left_out.iter().map(|left| left.mac.0[5]).collect();
        assert_eq!(left, [1]);
        assert!(left_out[0].why.contains("too long"), "{left_out:?}");
    }

    #[test]
    fn a_long_name_leaves_those_classes_to_the_daemon_whose_templates_are_long() {
        let file = "f".repeat(100);
        let hosts: Vec<_> = [1, 60, 70, 71]
            .into_iter()
            .zip(1..)
            .map(|(length, number)| Host {
                hostname: "n".repeat(length),
                ..host(number, [192, 168, 90, 10 + number])
            })
            .collect();
        let subnet = Subnet {
            boot: [(Class::Efi64, file)].into_iter().collect(),
            domain: Some("d".repeat(20)),
            ..subnet()
        };
        let snapshot = Snapshot::new(BTreeMap::new(), hosts.clone());
        let (entries, left_out) = build(&snapshot, &site(subnet.clone()));
        assert_eq!(left_out.len(), 1, "71 are more than the program takes");
        let mut left_to_the_daemon = 0;
        for (number, host) in (1..).zip(hosts.iter().take(3)) {
            for class in Class::ALL {
                let client = Client::new(&subnet, &snapshot, host.addr, Some(host), *class);
                let expected = template(&subnet, &client);
                match whole(&entries, number, *class) {
                    Some(bytes) => assert_eq!(bytes, expected.bytes()),
                    None => left_to_the_daemon += 1,
                }
                assert_eq!(whole(&entries, number, *class).is_some(), expected.left_out().is_empty());
                assert!(expected.bytes().len() <= TEMPLATE_MAX);
            }
        }
        assert!(left_to_the_daemon > 0, "the test has a long one");
    }

    #[test]
    fn machines_behind_relay_agents_have_what_their_subnet_says() {
        let settings = settings(
            r#"{ "subnets": [ { "prefix": "10.1.0.0/16", "relay": "192.168.90.9", "lease_secs": 300 },
                              { "prefix": "10.2.0.0/16", "relay": "192.168.90.9" } ] }"#,
        );
        let hosts = vec![host(1, [192, 168, 90, 11]), host(2, [10, 2, 0, 12]), host(3, [10, 1, 0, 13])];
        let site = Site::new(&subnet(), &settings);
        let (entries, left_out) = build(&Snapshot::new(BTreeMap::new(), hosts), &site);
        assert_eq!(left_out, []);
        let segments: Vec<_> =
            entries.machines.iter().map(|machine| entries.groups[machine.group].segment).collect();
        assert_eq!(segments, [0, 2, 1]);
        let lease = |number| {
            let bytes = whole(&entries, number, Class::Plain).expect("a template");
            let at = bytes.windows(2).position(|code| code == [51, 4]).expect("option 51");
            u32::from_be_bytes(bytes[at + 2..at + 6].try_into().expect("4 bytes"))
        };
        assert_eq!([lease(1), lease(2), lease(3)], [3600, 3600, 300]);
        let relays: Vec<_> =
            site.relays.iter().map(|(prefix, segment)| (prefix.to_string(), *segment)).collect();
        let want = [("192.168.90.9/32", 1), ("192.168.90.0/24", 0), ("10.1.0.0/16", 1), ("10.2.0.0/16", 2)];
        assert_eq!(relays, want.map(|(prefix, segment)| (prefix.to_owned(), segment)));
    }

    #[test]
    fn an_address_that_somebody_else_has_is_not_given() {
        let hosts = vec![host(1, [192, 168, 90, 11]), host(2, [192, 168, 90, 12])];
        let (entries, _) = build(&Snapshot::new(BTreeMap::new(), hosts), &site(subnet()));
        let rest = entries.clone().without(&[[192, 168, 90, 11].into(), [192, 168, 90, 99].into()].into());
        let macs: Vec<_> = rest.machines.iter().map(|machine| machine.mac.0[5]).collect();
        assert_eq!(macs, [2]);
        assert_eq!(entries.clone().without(&[].into()), entries);
    }

    #[test]
    fn doubtful_machines_are_left_to_the_daemon() {
        let long = Host { hostname: "n".repeat(255), ..host(5, [192, 168, 90, 15]) };
        let twice = Host { addr: [192, 168, 90, 99].into(), ..host(1, [0; 4]) };
        let hosts = vec![
            host(1, [192, 168, 90, 11]),
            twice,
            host(2, [192, 168, 90, 11]),
            host(3, [10, 0, 0, 1]),
            host(4, [192, 168, 90, 2]),
            long,
        ];
        let snapshot = Snapshot::new(BTreeMap::new(), hosts);
        let (entries, left_out) = build(&snapshot, &site(subnet()));
        let macs: Vec<u8> = left_out.iter().map(|left| left.mac.0[5]).collect();
        assert_eq!(macs, [1, 2, 3, 4, 5]);
        assert_eq!(entries.machines.len(), 1);
        assert_eq!(machine(&entries, 1).addr, Ipv4Addr::new(192, 168, 90, 11));
        let (entries, left_out) = build(&snapshot, &site(Subnet { mtu: 575, ..subnet() }));
        assert_eq!(entries.machines.len(), 0);
        assert!(left_out.iter().any(|left| left.why.contains("MTU")));
    }
}
