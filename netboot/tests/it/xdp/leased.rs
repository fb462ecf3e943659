//! Machines with a lease of the pool: XDP offers what is on disk, and the daemon alone makes a lease longer.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::net::Ipv4Addr;
use std::path::Path;

use netboot::mac::Mac;
use xtask::lab::{SERVER_ADDR, Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, data, lab};
use crate::wire::{ACK, Ask, DISCOVER, OFFER, RELEASE, REQUEST, Wire};

const STRANGER: Mac = Mac([0x52, 0x54, 0, 0, 9, 1]);

/// How many replies of this kind the machine without a reservation got from XDP or the daemon, as the log has it.
fn told(server: &Server, reply: &str, by: &str) -> usize {
    told_of(STRANGER, server, reply, by)
}

fn told_of(mac: Mac, server: &Server, reply: &str, by: &str) -> usize {
    let mac = mac.to_string();
    let steps = server.steps();
    let is = |step: &&xtask::lab::Step| {
        step.text("mac") == mac && step.text("reply") == reply && step.text("by") == by
    };
    steps.iter().filter(is).count()
}

/// Asks until this one has offered this address.
fn offered_by(wire: &Wire, server: &Server, by: &str, addr: Option<Ipv4Addr>) -> Ipv4Addr {
    let mut last = None;
    let offered = wait_for(SOON, || {
        let before = told(server, "offer", by);
        let offer = wire.ask(&Ask::new(STRANGER, 7, DISCOVER), SOON).filter(|reply| reply.message == OFFER);
        let offer = offer.unwrap_or_else(|| panic!("no offer"));
        assert!(addr.is_none_or(|addr| addr == offer.yiaddr), "{offer:?} and not {addr:?}");
        last = Some(offer.yiaddr);
        // What XDP has answered the daemon tells a moment later.
        wait_for(std::time::Duration::from_millis(500), || told(server, "offer", by) > before)
    });
    assert!(offered, "{by} does not offer it");
    last.unwrap()
}

#[test]
fn a_lease_on_disk_is_offered_by_xdp_and_made_longer_by_the_daemon() {
    let (lab, data) = (lab(), data(BLADE));
    let start = || Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "generic"]).unwrap();
    let server = start();
    let machines = lab.client("machines").unwrap();
    let wire = Wire::open(&lab, &machines);

    let addr = wire.obtain(STRANGER, 1, SOON).unwrap();
    assert_eq!((told(&server, "offer", "xdp"), told(&server, "ack", "xdp")), (0, 0));
    offered_by(&wire, &server, "xdp", Some(addr));
    let acks = told(&server, "ack", "daemon");
    let request = Ask::new(STRANGER, 8, REQUEST).requested(addr).server(SERVER_ADDR);
    assert_eq!(wire.ask(&request, SOON).map(|ack| (ack.message, ack.yiaddr)), Some((ACK, addr)));
    let renew = Ask::new(STRANGER, 9, REQUEST).ciaddr(addr);
    assert_eq!(wire.ask(&renew, SOON).map(|ack| ack.message), Some(ACK));
    assert!(wait_for(SOON, || told(&server, "ack", "daemon") >= acks + 2), "{:?}", server.steps());
    assert_eq!(told(&server, "ack", "xdp"), 0);

    // A restart reads it from the disk.
    server.stop().unwrap();
    let server = start();
    offered_by(&wire, &server, "xdp", Some(addr));

    // Given back, it is nothing that XDP knows of.
    wire.send(&Ask::new(STRANGER, 10, RELEASE).ciaddr(addr).server(SERVER_ADDR));
    offered_by(&wire, &server, "daemon", None);
    let passed = told(&server, "offer", "xdp");
    offered_by(&wire, &server, "daemon", None);
    assert_eq!(told(&server, "offer", "xdp"), passed);
    server.stop().unwrap();
}

#[test]
fn a_lease_of_an_address_that_was_reserved_meanwhile_is_not_offered() {
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "generic"]).unwrap();
    let machines = lab.client("machines").unwrap();
    let wire = Wire::open(&lab, &machines);
    let addr = wire.obtain(STRANGER, 1, SOON).unwrap();
    offered_by(&wire, &server, "xdp", Some(addr));
    let hosts = format!(
        r#"{{ "hosts": {{ "{addr}": {{ "macaddr": "52:54:00:00:0a:0a", "$hostname": "other", "channel": "stable" }} }} }}"#
    );
    std::fs::write(data.path().join("pxe_hosts.json"), hosts).unwrap();
    let other = wait_for(SOON, || {
        let offer = wire.ask(&Ask::new(STRANGER, 2, DISCOVER), SOON);
        offer.is_some_and(|offer| offer.yiaddr != addr)
    });
    assert!(other, "the address is another's now");
    let by_xdp = told(&server, "offer", "xdp");
    offered_by(&wire, &server, "daemon", None);
    assert_eq!(told(&server, "offer", "xdp"), by_xdp);
    server.stop().unwrap();
}

#[test]
fn a_reserved_address_that_becomes_free_is_answered_by_xdp_however_many_leases_are_told_of() {
    const RESERVED: Mac = Mac([0x52, 0x54, 0, 0, 10, 10]);
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "generic"]).unwrap();
    let machines = lab.client("machines").unwrap();
    let wire = Wire::open(&lab, &machines);
    let addr = wire.obtain(STRANGER, 1, SOON).unwrap();
    let busy = Mac([0x52, 0x54, 0, 0, 9, 2]);
    let busy_addr = wire.obtain(busy, 2, SOON).unwrap();
    let hosts = format!(
        r#"{{ "hosts": {{ "{addr}": {{ "macaddr": "{RESERVED}", "$hostname": "other", "channel": "stable" }} }} }}"#
    );
    std::fs::write(data.path().join("pxe_hosts.json"), hosts).unwrap();
    let ask = |xid| wire.ask(&Ask::new(RESERVED, xid, DISCOVER), SOON).map(|offer| offer.yiaddr);
    // Its boot file says that the machine is known; its address has to wait.
    assert!(wait_for(SOON, || server.child().output().contains("is reserved for")));
    assert!(ask(3).is_some_and(|offered| offered != addr));

    wire.send(&Ask::new(STRANGER, 4, RELEASE).ciaddr(addr).server(SERVER_ADDR));
    assert!(wait_for(SOON, || ask(5) == Some(addr)), "the daemon offers it at once");
    // Another's lease is made longer several times in each second, and XDP is told of that. It looks every ten.
    let by_xdp = wait_for(SOON, || {
        let renewed = wire.ask(&Ask::new(busy, 6, REQUEST).ciaddr(busy_addr), SOON);
        assert_eq!(renewed.map(|ack| ack.message), Some(ACK));
        assert_eq!(ask(7), Some(addr));
        told_of(RESERVED, &server, "offer", "xdp") > 0
    });
    assert!(by_xdp, "XDP has not been told that the address is free");
    server.stop().unwrap();
}
