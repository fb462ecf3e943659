//! Any text as a file of another DHCP server: it is read, or what is wrong with it is said, with its place.

use std::path::Path;

use netboot::config::json::Source;
use netboot::import::{Found, dnsmasq, hosts, isc, kea, leases};
use netboot::inventory::Snapshot;

use super::files::told;

/// Reads the bytes, as far as they are text, as each kind of file.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, text) = (Path::new("a file"), text.as_ref());
    let (source, nobody) = (Source::new(path, text), Snapshot::default());
    for read in [dnsmasq::hosts as fn(&Path, &str) -> Found, isc::hosts, kea::hosts] {
        let found = read(path, text);
        told(&found.problems, text.as_bytes());
        for host in &found.hosts {
            assert!(source.text().get(host.at.clone()).is_some(), "{:?} is not in the file", host.at);
        }
        told(&hosts::added(&source, &found.hosts, &nobody, "stable").problems, text.as_bytes());
    }
    let found = dnsmasq::leases(path, text);
    told(&found.problems, text.as_bytes());
    let merged = leases::merge(&source, &found.leases, &[], &nobody, 1_800_000_000);
    let mut addrs: Vec<_> = merged.put.iter().map(|lease| lease.addr).collect();
    addrs.sort_unstable();
    assert!(addrs.windows(2).all(|pair| pair[0] != pair[1]), "an address with two owners");
    for lease in &merged.put {
        // Written and read again it is the same.
        let again = dnsmasq::leases(path, &format!("{}\n", dnsmasq::line(lease)));
        let again = again.leases.first().map(|(_, lease)| (lease.addr, lease.owner.mac));
        assert_eq!(again, Some((lease.addr, lease.owner.mac)));
    }
}
