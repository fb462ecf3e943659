//! Any text as one of the operator's files: it is read, or what is wrong with it is said, with its place.

use std::collections::BTreeSet;
use std::path::Path;

use netboot::config::problem::Problem;
use netboot::config::{FILE, Given, resolve};
use netboot::inventory::{HOSTS_FILE, Networks, load};
use netboot::loader::{Loader, Request, Road, Site, Whose};

use super::world;

/// Reads the bytes as `pxe_hosts.json`, as a profile, and as `netboot.json`.
pub(crate) fn run(data: &[u8]) {
    world::with_directory(|directory| {
        hosts(directory, data);
        profile(directory, data);
        settings(directory, data);
    });
}

fn hosts(directory: &Path, data: &[u8]) {
    let path = directory.join(HOSTS_FILE);
    std::fs::write(&path, data).expect("write the file");
    let own = Networks::of("192.168.90.2/24".parse().expect("a subnet"));
    for networks in [Networks::default(), own] {
        let loaded = load(directory, &networks);
        told(&loaded.problems, data);
        let Some(snapshot) = loaded.snapshot else {
            assert!(loaded.problems.iter().any(Problem::is_error), "refused without a word");
            continue;
        };
        let (mut macs, mut addrs) = (BTreeSet::new(), BTreeSet::new());
        for host in snapshot.hosts() {
            assert!(macs.insert(host.mac), "{} twice", host.mac);
            assert!(addrs.insert(host.addr), "{} twice", host.addr);
            assert!(
                networks.own.is_none_or(|subnet| subnet.contains(host.addr)),
                "{} is elsewhere",
                host.addr
            );
            assert!(!host.hostname.contains(['\0', '\n']) && host.hostname.len() <= 255);
            assert_eq!(snapshot.by_mac(host.mac).map(|found| found.addr), Some(host.addr));
        }
    }
    std::fs::remove_file(&path).expect("remove the file");
}

fn profile(directory: &Path, data: &[u8]) {
    let profiles = directory.join("profiles");
    std::fs::create_dir_all(&profiles).expect("make the directory");
    let path = profiles.join("any.json");
    std::fs::write(&path, data).expect("write the file");
    let loaded = load(directory, &Networks::default());
    let problems: Vec<_> = loaded.problems.into_iter().filter(|problem| problem.file == path).collect();
    told(&problems, data);
    let Some(snapshot) = loaded.snapshot else {
        assert!(problems.iter().any(Problem::is_error), "refused without a word");
        return std::fs::remove_file(&path).expect("remove the file");
    };
    let site = Site { server: [192, 168, 90, 2].into(), http_port: 8080 };
    for there in [true, false] {
        let addr = Some([192, 168, 90, 11].into());
        let request = Request { snapshot: &snapshot, addr, site, there: &|_| there };
        let Some(plan) = request.plan(Whose::Named("any")) else { continue };
        for loader in [Loader::Pxelinux, Loader::Grub, Loader::Ipxe] {
            let text = plan.text(loader, "name", site, Road::Tftp);
            assert!(!text.contains(|c: char| c.is_control() && !"\n\t".contains(c)), "{text:?}");
        }
    }
    std::fs::remove_file(&path).expect("remove the file");
}

fn settings(directory: &Path, data: &[u8]) {
    let path = directory.join(FILE);
    std::fs::write(&path, data).expect("write the file");
    match resolve(directory, Given::default()) {
        Ok(settings) => assert!((60..=31_536_000).contains(&settings.dhcp.lease_secs)),
        Err(problems) => {
            assert!(problems.0.iter().any(Problem::is_error), "refused without a word");
            told(&problems.0, data);
        }
    }
    std::fs::remove_file(&path).expect("remove the file");
}

/// Every problem can be shown, and its place is in the file.
pub(super) fn told(problems: &[Problem], data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').count();
    // Each is shown with the text around it; a file full of mistakes would take its time.
    for problem in problems.iter().take(8) {
        assert!(!problem.message.is_empty() && !problem.help.is_empty(), "{problem}");
        let shown = (problem.to_string(), problem.graphical(false));
        assert!(!shown.0.is_empty() && !shown.1.is_empty());
        if let Some(place) = problem.place {
            assert!((1..=lines).contains(&place.line), "{problem}: the file has {lines} lines");
            assert!(place.column >= 1, "{problem}");
        }
    }
}
