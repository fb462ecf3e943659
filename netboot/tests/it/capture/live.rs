//! What XDP answers, captured beside a daemon whose program answers.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use xtask::lab::{Server, wait_for};

use super::{BLADE_MAC, Capture, Packet, boot, fetch, tshark};
use crate::daemon::{BLADE, NETBOOT, SOON, data, lab};

#[test]
fn what_xdp_answers_is_captured_in_order_and_once() {
    let (lab, data) = (lab(), data(BLADE));
    fs::write(data.path().join("tftp/kernel"), "small").unwrap();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "generic"]).unwrap();
    let capture = Capture::start(&lab, &["--mac", BLADE_MAC]);
    assert!(capture.child.output().contains("what the XDP program answers is captured too"));
    let (client, addr) = boot(&lab, BLADE_MAC);
    fetch(&client, "kernel", false);
    assert!(wait_for(SOON, || capture.has(4, |packet| packet.dhcp().is_some())));
    let (directory, file, sum) = capture.end("INT");

    let steps = server.steps();
    let by_xdp = |reply| steps.iter().any(|step| step.text("reply") == reply && step.text("by") == "xdp");
    assert!(by_xdp("offer") && by_xdp("ack"), "{steps:?}");
    assert_eq!(file.interfaces, ["pxe0", "pxe0 (XDP)"]);
    let dhcp: Vec<&Packet> = file.packets.iter().filter(|packet| packet.dhcp().is_some()).collect();
    let seen: Vec<_> =
        dhcp.iter().map(|packet| (packet.dhcp().unwrap(), packet.interface, packet.direction)).collect();
    assert_eq!(seen, [(1, 1, 1), (2, 1, 2), (3, 1, 1), (5, 1, 2)]);
    assert!(dhcp.iter().all(|packet| packet.comment.contains("XDP program")));
    assert_eq!(dhcp[3].udp().unwrap().2[16..20], addr.octets());
    assert!(sum.contains("4 of them by XDP"), "{sum}");

    // The file the machine then fetched is of the other source, and comes behind.
    assert!(file.packets.is_sorted_by_key(|packet| packet.at_ns));
    let is_tftp = |packet: &&Packet| packet.udp().is_some_and(|(_, (_, port), _)| port == 69);
    let request = file.packets.iter().find(is_tftp).unwrap();
    assert!(request.interface == 0 && request.at_ns > dhcp[3].at_ns);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let ago = now.saturating_sub(Duration::from_nanos(dhcp[0].at_ns));
    assert!(ago > Duration::ZERO && ago < 2 * SOON, "{ago:?}");

    let fields = ["-T", "fields", "-Y", "dhcp", "-e", "dhcp.option.dhcp", "-e", "frame.interface_name"];
    let table = "1\tpxe0 (XDP)\n2\tpxe0 (XDP)\n3\tpxe0 (XDP)\n5\tpxe0 (XDP)\n";
    assert_eq!(tshark(&directory.path().join("file"), &fields), table);
    server.stop().unwrap();

    // What no XDP program answers is of the other source alone.
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    let capture = Capture::start(&lab, &[]);
    client.ip("addr flush dev eth0").unwrap();
    crate::daemon::udhcpc(&client, 5, &[]);
    assert!(wait_for(SOON, || capture.has(4, |packet| packet.dhcp().is_some())));
    let (_, file, _) = capture.end("INT");
    assert_eq!(file.interfaces, ["pxe0"]);
    server.stop().unwrap();
}
