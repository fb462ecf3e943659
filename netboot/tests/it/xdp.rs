//! The XDP program: packets in, verdict and packets out.
//!
//! `table` and `roads` run the loaded program on made packets (`BPF_PROG_TEST_RUN`, in `rig`), `live` on frames between two network
//! namespaces, `left` when its daemon has gone, `odd` on packets as no client should send them, `equal` on any at any site,
//! `refused` where it cannot be attached; `budget` is what it
//! costs, `object` what its object file says of that, `rare` what it says in words. The expected replies are the daemon's own
//! (`dhcp::options::finish`), with headers and checksums computed here once more.
#![allow(clippy::unwrap_used, reason = "tests")]

mod budget;
mod equal;
mod leased;
mod left;
mod live;
mod object;
mod odd;
mod packets;
mod rare;
mod refused;
mod rig;
mod roads;
mod size;
mod table;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use netboot::config::options::Custom;
use netboot::config::{self, Boot, Menu};
use netboot::dhcp::options::Subnet;
use netboot::fastpath::entries::Site;
use netboot::inventory::{Host, Snapshot};
use netboot::mac::Mac;
use netboot_ebpf::Class;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 2);
const BLADE: Mac = Mac([0x52, 0x54, 0, 0, 0, 11]);
const BLADE_ADDR: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 11);

fn subnet() -> Subnet {
    Subnet {
        server: SERVER,
        prefix: "192.168.90.0/24".parse().unwrap(),
        lease_secs: 3600,
        routers: vec![SERVER],
        dns: vec![SERVER, Ipv4Addr::new(192, 168, 90, 3)],
        domain: Some("example.net".to_owned()),
        boot: [(Class::Ipxe, "boot/loader.ipxe")].into_iter().collect(),
        http_port: 8080,
        menu: Some(Menu {
            prompt: "F8?".to_owned(),
            timeout_secs: 5,
            items: vec!["local".to_owned(), "stable".to_owned()],
        }),
        custom: custom(),
        rapid_commit: false,
        mtu: 1500,
    }
}

/// That subnet alone.
fn site() -> Site {
    Site { subnets: vec![subnet()], relays: vec![(subnet().prefix, 0)] }
}

/// Options that are set by number, some in the place of the server's own, and one that plain clients alone get.
fn custom() -> Custom {
    let data = tempfile::tempdir().unwrap();
    let text = r#"{ "dhcp": { "options": { "42": ["192.168.90.1"], "43": "01:02", "119": "blades.example" },
        "profiles": { "stable": { "options": { "209": "own.cfg", "3": "192.168.90.1" }, "boot": { "bios": "lpxelinux.0" } } },
        "hosts": { "192.168.90.11": { "options": { "211": 60, "119": null } } } } }"#;
    std::fs::write(data.path().join(config::FILE), text).unwrap();
    config::resolve(data.path(), config::Given::default()).unwrap().dhcp.custom
}

fn blade() -> Host {
    Host {
        mac: BLADE,
        addr: BLADE_ADDR,
        hostname: "node11".to_owned(),
        channel: "stable".to_owned(),
        template: None,
        boot: Boot::default(),
        variables: BTreeMap::new(),
        ignition: None,
    }
}

fn snapshot() -> Snapshot {
    let other = Host { mac: Mac([0x52, 0x54, 0, 0, 0, 12]), addr: [192, 168, 90, 12].into(), ..blade() };
    Snapshot::new(BTreeMap::new(), vec![blade(), other])
}
