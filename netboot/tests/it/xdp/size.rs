//! How much memory the maps of a large site take, as the kernel counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::time::Instant;

use netboot::dhcp::options::Subnet;
use netboot::fastpath::entries::{self, Site};
use netboot::fastpath::sync::apply;
use netboot::inventory::{Host, Snapshot};
use netboot::mac::Mac;
use netboot_ebpf::verdict::message::DISCOVER;
use netboot_ebpf::{Answer, Class};

use super::packets::Request;
use super::rig::{Rig, monotonic};
use super::{blade, subnet};

const MACHINES: u32 = 100_000;
const MOST_BYTES: u64 = 64 << 20;

/// Machines of twenty profiles with names of their own, and the sample machine.
fn site() -> (Snapshot, Site) {
    let first = u32::from(Ipv4Addr::new(192, 160, 0, 0));
    let machine = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        Host {
            mac: Mac([2, 1, a, b, c, d]),
            addr: Ipv4Addr::from(first + 256 + number),
            hostname: format!("rack-{}-node-{number}.example.net", number / 40),
            channel: format!("channel-{}", number % 20),
            ..blade()
        }
    };
    let hosts = (0..MACHINES - 1).map(machine).chain([blade()]).collect();
    let subnet = Subnet { prefix: "192.160.0.0/12".parse().unwrap(), ..subnet() };
    let relays = vec![(subnet.prefix, 0)];
    (Snapshot::new(BTreeMap::new(), hosts), Site { subnets: vec![subnet], relays })
}

/// Bytes of the maps that the loaded program uses.
fn map_bytes(rig: &mut Rig) -> u64 {
    let info = rig.loaded.program().unwrap().info().unwrap();
    let wanted: BTreeSet<u32> = info.map_ids().unwrap().unwrap().into_iter().collect();
    let mut bytes = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        // Other tests open and close files meanwhile.
        let Ok(text) = fs::read_to_string(entry.unwrap().path()) else { continue };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(memory)) = (field("map_id:"), field("memlock:")) {
            bytes.insert(u32::try_from(id).unwrap(), memory);
        }
    }
    bytes.retain(|id, _| wanted.contains(id));
    // All but the scratch memory and the like, which nobody outside has open.
    assert!(bytes.len() >= 8, "{bytes:?} of {wanted:?}");
    bytes.values().sum()
}

#[test]
fn a_hundred_thousand_machines_stay_below_64_mb_of_maps() {
    let (snapshot, site) = site();
    let mut rig = Rig::on(&Snapshot::new(BTreeMap::new(), vec![]), &site, |_| {});
    let begun = Instant::now();
    let (wanted, left_out) = entries::build(&snapshot, &site);
    let built = begun.elapsed();
    assert_eq!((wanted.machines.len(), wanted.groups.len(), left_out.len()), (100_000, 21, 0));
    let begun = Instant::now();
    let changed = apply(&mut rig.loaded, &mut rig.held, &wanted).unwrap();
    let written = begun.elapsed();
    assert_eq!(changed.added, 100_000);
    let bytes = map_bytes(&mut rig);
    println!(
        "{MACHINES} machines: {bytes} bytes of maps; built in {built:?}, written in {written:?} (not a release build)"
    );
    assert!(bytes < MOST_BYTES, "{bytes}");

    // One of them changes: one write, and it is answered as before.
    let mut hosts: Vec<_> = snapshot.hosts().cloned().collect();
    hosts[7].hostname = "other".to_owned();
    let (wanted, _) = entries::build(&Snapshot::new(BTreeMap::new(), hosts), &site);
    let changed = apply(&mut rig.loaded, &mut rig.held, &wanted).unwrap();
    assert_eq!((changed.added, changed.replaced, changed.removed, changed.templates), (0, 1, 0, 0));
    let request = Request::new(DISCOVER, Class::Efi64);
    let reply = request.reply_of(&site.subnets[0], &blade(), Answer::Offer, Class::Efi64, {
        let (mac, addr) = Request::HOME;
        (mac, addr, 68)
    });
    rig.beat(monotonic());
    rig.answers("one of many", &request, Answer::Offer, Class::Efi64, &reply);
}
