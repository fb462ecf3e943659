//! What the program is given against what the daemon makes of each machine itself.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use netboot_ebpf::Class;
use netboot_ebpf::abi::TEMPLATE_MAX;

use super::{Client, Entries, Leased, Machine, Site, add_leases, build};
use crate::config::options::Custom;
use crate::config::{self, Boot};
use crate::dhcp::options::{Subnet, template};
use crate::inventory::orders::When;
use crate::inventory::{Host, Marks, Order, Snapshot};
use crate::mac::Mac;
use crate::uuid::Uuid;

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
        marks: None,
        boot: Boot::default(),
        variables: BTreeMap::new(),
        ignition: None,
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
    let own = Host { boot: [(Class::Efi64, "own.efi")].into_iter().collect(), ..host(4, [192, 168, 90, 14]) };
    let hosts = vec![
        host(1, [192, 168, 90, 11]),
        Host { hostname: "a-longer-name.example.net".into(), ..host(2, [192, 168, 90, 12]) },
        beta(3, [192, 168, 90, 13]),
        own,
        Host { hostname: String::new(), ..host(5, [192, 168, 90, 15]) },
        host(6, [192, 168, 90, 16]),
    ];
    // What it boots usually, ordered for once: the script is made for it all the same.
    let order = Order { profile: "stable".into(), when: When::Once };
    let orders = BTreeMap::from([(Mac([2, 0, 0, 0, 0, 6]), order)]);
    let snapshot = Snapshot::new(BTreeMap::new(), hosts.clone()).with_orders(Arc::new(orders));
    let subnet = subnet();
    let (entries, left_out) = build(&snapshot, &site(subnet.clone()));
    assert_eq!((entries.machines.len(), entries.groups.len(), left_out.len()), (6, 4, 0));
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
    let relays: Vec<_> = site.relays.iter().map(|(prefix, segment)| (prefix.to_string(), *segment)).collect();
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
fn where_a_machine_has_a_uuid_leases_of_the_pool_are_left_to_the_daemon() {
    let uuid = Some(Box::new(Marks { uuid: Some(Uuid([7; 16])), ..Marks::default() }));
    let leased = Leased { addr: [192, 168, 90, 99].into(), segment: 0, valid_until_ns: 1 };
    for (marks, machines) in [(None, vec![1, 9]), (uuid, vec![1])] {
        let hosts = vec![Host { marks, ..host(1, [192, 168, 90, 11]) }];
        let (snapshot, site) = (Snapshot::new(BTreeMap::new(), hosts), site(subnet()));
        let (mut entries, _) = build(&snapshot, &site);
        add_leases(&mut entries, &snapshot, &site, [(&Mac([2, 0, 0, 0, 0, 9]), &leased)].into_iter());
        let macs: Vec<_> = entries.machines.iter().map(|machine| machine.mac.0[5]).collect();
        assert_eq!(macs, machines);
    }
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
