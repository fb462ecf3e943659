//! What the XDP program is to answer: from a snapshot of the machines to one template for each machine and class.
//!
//! Pure. The templates come from the builder of the daemon's own replies. Whatever is left out here is answered by
//! the daemon, so leaving out is always right.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use netboot_ebpf::Class;
use netboot_ebpf::abi::{ReplyKey, TEMPLATE_MAX};

use crate::dhcp::options::{Client, Subnet, Template, template};
use crate::inventory::{Host, Snapshot};
use crate::mac::Mac;

/// The classes that the program answers.
pub const CLASSES: [Class; 3] = [Class::Plain, Class::Bios, Class::Ipxe];

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The reserved address.
    pub addr: Ipv4Addr,
    /// What is sent, before the request is seen.
    pub template: Template,
}

/// Every answer, by its key.
pub type Entries = BTreeMap<ReplyKey, Entry>;

/// A machine that the program leaves to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Why.
    pub why: &'static str,
}

/// The map's key of a machine in a class.
pub fn key(mac: Mac, class: Class) -> ReplyKey {
    ReplyKey { mac: mac.0, class: class as u8, pad: 0 }
}

/// Builds the answers for all machines of a snapshot.
pub fn build(snapshot: &Snapshot, subnet: &Subnet) -> (Entries, Vec<LeftOut>) {
    let mut entries = Entries::new();
    let mut left_out = Vec::new();
    for host in snapshot.hosts() {
        let mut leave = |why| left_out.push(LeftOut { mac: host.mac, why });
        if !is(snapshot.by_mac(host.mac), host) || !is(snapshot.by_addr(host.addr), host) {
            leave("another machine has its MAC or its address");
            continue;
        }
        if !subnet.prefix.contains(host.addr) || host.addr == subnet.server {
            leave("its address is none of this subnet's clients");
            continue;
        }
        if subnet.custom.of(Some(host)).on_request() {
            leave("it has options that are sent on request only, which the XDP program does not look at");
            continue;
        }
        for class in CLASSES {
            let template = template(subnet, &Client::new(subnet, snapshot, host.addr, Some(host), class));
            // The daemon leaves nothing out for clients that take more.
            if template.bytes().len() > TEMPLATE_MAX || !template.left_out().is_empty() {
                leave("its reply is too long for the XDP program");
            } else {
                entries.insert(key(host.mac, class), Entry { addr: host.addr, template });
            }
        }
    }
    (entries, left_out)
}

/// The answers without those that give one of these addresses: somebody else still has it.
#[must_use]
pub fn without(mut entries: Entries, taken: &BTreeSet<Ipv4Addr>) -> Entries {
    entries.retain(|_, entry| !taken.contains(&entry.addr));
    entries
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

    use super::{CLASSES, Client, build, key, without};
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

    #[test]
    fn each_machine_has_a_template_for_each_class() {
        let hosts = vec![host(1, [192, 168, 90, 11]), host(2, [192, 168, 90, 12])];
        let (snapshot, subnet) = (Snapshot::new(BTreeMap::new(), hosts.clone()), subnet());
        let (entries, left_out) = build(&snapshot, &subnet);
        assert_eq!((entries.len(), left_out.len()), (6, 0));
        assert!(Class::ALL.iter().all(|class| class.in_kernel() == CLASSES.contains(class)));
        for host in &hosts {
            for class in CLASSES {
                let entry = &entries[&key(host.mac, class)];
                assert_eq!(entry.addr, host.addr);
                let client = Client::new(&subnet, &snapshot, host.addr, Some(host), class);
                assert_eq!(entry.template, template(&subnet, &client));
            }
        }
    }

    /// The options, as `netboot.json` has them below `dhcp`.
    fn custom(text: &str) -> Custom {
        let data = tempfile::tempdir().expect("a directory");
        let file = data.path().join(config::FILE);
        std::fs::write(file, format!("{{\"dhcp\": {text}}}")).expect("written");
        config::resolve(data.path(), config::Given::default()).expect("good").dhcp.custom
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
            build(&Snapshot::new(BTreeMap::new(), hosts), &Subnet { custom, ..subnet() });
        let left: Vec<_> = left_out.iter().map(|left| (left.mac.0[5], left.why)).collect();
        let why = "it has options that are sent on request only, which the XDP program does not look at";
        assert_eq!(left, [(2, why)]);
        let has = |number, part: &[u8]| {
            let entry = &entries[&key(Mac([2, 0, 0, 0, 0, number]), Class::Bios)];
            entry.template.bytes().windows(part.len()).any(|window| window == part)
        };
        assert!(has(1, b"\x64\x05CET-1") && has(1, b"beta.0") && has(1, &[42, 4, 192, 168, 90, 1]));
        assert!(!has(3, b"CET-1") && has(3, b"\xfc\x01y") && has(3, &[42, 4, 192, 168, 90, 1]));
    }

    #[test]
    fn a_machine_whose_options_do_not_fit_is_left_to_the_daemon() {
        let long = "x".repeat(200);
        let custom =
            custom(&format!(r#"{{"hosts": {{"192.168.90.11": {{"options": {{"114": "{long}"}}}}}}}}"#));
        let hosts = vec![host(1, [192, 168, 90, 11]), host(2, [192, 168, 90, 12])];
        let (entries, left_out) =
            build(&Snapshot::new(BTreeMap::new(), hosts), &Subnet { custom, ..subnet() });
        assert_eq!(entries.len(), 3);
        assert!(
            left_out.iter().all(|left| left.mac.0[5] == 1 && left.why.contains("too long")),
            "{left_out:?}"
        );
        assert_eq!(left_out.len(), 3);
    }

    #[test]
    fn an_address_that_somebody_else_has_is_not_given() {
        let hosts = vec![host(1, [192, 168, 90, 11]), host(2, [192, 168, 90, 12])];
        let (entries, _) = build(&Snapshot::new(BTreeMap::new(), hosts), &subnet());
        let rest = without(entries.clone(), &[[192, 168, 90, 11].into(), [192, 168, 90, 99].into()].into());
        let macs: Vec<_> = rest.keys().map(|key| key.mac[5]).collect();
        assert_eq!(macs, [2; 3]);
        assert_eq!(without(entries.clone(), &[].into()), entries);
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
        let (entries, left_out) = build(&Snapshot::new(BTreeMap::new(), hosts), &subnet());
        let macs: Vec<u8> = left_out.iter().map(|left| left.mac.0[5]).collect();
        assert_eq!(macs, [1, 2, 3, 4, 5, 5, 5]);
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[&key(Mac([2, 0, 0, 0, 0, 1]), Class::Bios)].addr, Ipv4Addr::new(192, 168, 90, 11));
    }
}
