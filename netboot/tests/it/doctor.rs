//! `netboot doctor` in labs that are healthy and in labs that are not.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use xtask::lab::{Lab, Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, data, lab};
use crate::proxy::Foreign;

/// A switch notices a moment later that something is plugged in, and would lose what is sent before.
fn plugged(lab: &Lab, ports: usize) {
    let links = || lab.switch.ip("-d link show master br0").unwrap();
    let carries = || links().matches("bridge_slave state forwarding").count() == ports;
    assert!(wait_for(SOON, carries), "{}", links());
}

/// A data directory about which nothing is said.
fn directory() -> TempDir {
    let data = data(BLADE);
    for file in ["pxelinux.0", "grubx64.efi"] {
        std::fs::write(data.path().join("tftp").join(file), "x").unwrap();
    }
    data
}

fn doctor(mut command: Command, data: &TempDir, arguments: &[&str]) -> Output {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"NETBOOT_") {
            command.env_remove(name);
        }
    }
    command.arg("doctor").arg("--data").arg(data.path()).args(arguments).output().unwrap()
}

/// The screen and the exit code, as root in the server's namespace.
fn screen(lab: &Lab, data: &TempDir, arguments: &[&str]) -> (String, Option<i32>) {
    let output = doctor(lab.server.command(NETBOOT), data, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&output.stderr), "");
    (text(&output.stdout), output.status.code())
}

/// The line of the screen that begins so.
fn line<'a>(screen: &'a str, state: &str, check: &str) -> &'a str {
    let begins = format!("{state:<8} {check} ");
    screen.lines().find(|line| line.starts_with(&begins)).unwrap_or_else(|| panic!("no {begins}: {screen}"))
}

#[test]
fn in_a_healthy_lab_nothing_is_wrong() {
    let (lab, data) = (lab(), directory());
    plugged(&lab, 1);
    let (text, code) = screen(&lab, &data, &["--interface", "pxe0"]);
    assert_eq!(code, Some(0), "{text}");
    for (check, message) in [
        ("interface", "pxe0 is up and has 192.168.90.2/24"),
        ("capabilities", "all"),
        ("kernel", "takes the XDP program"),
        ("xdp", "generic: pxe0 is a veth interface"),
        ("mtu", "1500"),
        ("port", "67/udp (DHCP) is free"),
        ("other-dhcp", "no other DHCP server"),
        ("rp_filter", "strict"),
        ("disk", "MiB free"),
    ] {
        assert!(line(&text, "ok", check).contains(message), "{check}: {text}");
    }
    assert!(text.lines().last().unwrap().starts_with("0 wrong, "), "{text}");
    assert!(!text.contains('\x1b'), "no colours where there is no terminal");
    assert!(!data.path().join("state").exists(), "it makes nothing");
    assert!(!lab.server.ip("link show pxe0").unwrap().contains("xdp"), "and attaches nothing");
}

#[test]
fn a_foreign_server_and_who_has_port_67_are_named() {
    let (lab, data) = (lab(), directory());
    let _port = lab.server.inside(|| UdpSocket::bind("0.0.0.0:67").unwrap()).unwrap();
    let _foreign = Foreign::start(&lab, &[]);
    plugged(&lab, 2);
    let (text, code) = screen(&lab, &data, &["--interface", "pxe0"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        line(&text, "WRONG", "other-dhcp").contains("another DHCP server answers here: 192.168.90.3"),
        "{text}"
    );
    let me = format!("(pid {})", std::process::id());
    let taken = line(&text, "WRONG", "port");
    assert!(taken.contains("67/udp (DHCP) is taken by ") && taken.contains(&me), "{text}");
    assert!(text.contains(&format!("kill {}", std::process::id())), "{text}");
    // Beside it is another matter.
    let (text, _) = screen(&lab, &data, &["--interface", "pxe0", "--mode", "proxy"]);
    assert!(line(&text, "ok", "other-dhcp").contains("the addresses come from 192.168.90.3"), "{text}");
}

#[test]
fn an_interface_that_is_not_there_or_not_usable_is_wrong() {
    let (lab, data) = (lab(), directory());
    for (arguments, message, fix) in [
        (&[][..], "no interface is named", "--interface IF"),
        (&["--interface", "nosuch0"], "nosuch0 does not exist", "ip link"),
        (&["--interface", "lo"], "lo has no IPv4 address", "ip address add"),
    ] {
        let (text, code) = screen(&lab, &data, arguments);
        assert_eq!(code, Some(1), "{text}");
        assert!(line(&text, "WRONG", "interface").contains(message), "{text}");
        assert!(
            text.contains(&format!("> netboot doctor {fix}")) || text.contains(&format!("> {fix}")),
            "{text}"
        );
        line(&text, "skipped", "other-dhcp");
    }
    lab.server.ip("link set pxe0 down").unwrap();
    let (text, _) = screen(&lab, &data, &["--interface", "pxe0"]);
    assert!(line(&text, "WRONG", "interface").contains("pxe0 is down"), "{text}");
    assert!(text.contains("> ip link set pxe0 up"), "{text}");
}

#[test]
fn an_interface_that_belongs_to_a_bridge_is_wrong_and_its_offload_is_seen() {
    let (lab, data) = (lab(), directory());
    lab.server.ip("link add br9 type bridge").unwrap();
    lab.server.ip("link set pxe0 master br9").unwrap();
    let (text, code) = screen(&lab, &data, &["--interface", "pxe0", "--quiet-wire"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(line(&text, "WRONG", "master").contains("a part of br9 (bridge)"), "{text}");
    assert!(line(&text, "ok", "rxvlan").contains("are taken off"), "{text}");
    lab.server.shell("ethtool -K pxe0 rxvlan off").unwrap();
    let (text, _) = screen(&lab, &data, &["--interface", "pxe0", "--quiet-wire"]);
    assert!(line(&text, "ok", "rxvlan").contains("stay on"), "{text}");
    assert!(line(&text, "skipped", "other-dhcp").contains("--quiet-wire"), "{text}");
}

#[test]
fn a_running_netboot_is_nothing_wrong() {
    let (lab, data) = (lab(), directory());
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let (text, code) = screen(&lab, &data, &["--interface", "pxe0", "--quiet-wire"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches("belongs to the running netboot").count(), 4, "{text}");
    assert!(line(&text, "ok", "xdp").contains("the running netboot says: generic"), "{text}");
    // One that has another state directory is.
    let (other, code) = screen(&lab, &directory(), &["--interface", "pxe0", "--quiet-wire"]);
    assert_eq!(code, Some(1), "{other}");
    let taken = format!("67/udp (DHCP) is taken by netboot (pid {})", server.child().pid());
    assert!(other.contains(&taken), "{other}");
    server.stop().unwrap();
}

#[test]
fn what_a_killed_netboot_has_left_is_nothing_wrong() {
    let (lab, data) = (lab(), directory());
    let mut server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "generic"]).unwrap();
    server.child().signal("KILL").unwrap();
    assert!(wait_for(SOON, || !server.is_running()));
    let (text, code) = screen(&lab, &data, &["--interface", "pxe0", "--quiet-wire"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        line(&text, "ok", "xdp").contains("left its program on pxe0; the next one takes it over"),
        "{text}"
    );
    line(&text, "ok", "bpffs");
}

#[test]
fn without_capabilities_it_says_what_it_could_not_see_and_does_not_fail() {
    let (lab, data) = (lab(), directory());
    let mut command = lab.server.command("setpriv");
    command.args(["--inh-caps=-all", "--bounding-set=-all", NETBOOT]);
    let output = doctor(command, &data, &["--interface", "pxe0"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(line(&text, "warning", "capabilities").contains("CAP_NET_RAW"), "{text}");
    for check in ["kernel", "port", "other-dhcp"] {
        line(&text, "skipped", check);
    }
    assert!(text.contains("> sudo netboot doctor"), "{text}");
}

#[test]
fn json_is_a_list_with_state_and_fix() {
    let (lab, data) = (lab(), directory());
    let (text, code) = screen(&lab, &data, &["--interface", "nosuch0", "--json"]);
    assert_eq!(code, Some(1), "{text}");
    let findings: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let of = |check: &str| findings.iter().find(|finding| finding["check"] == check).unwrap();
    assert_eq!(
        (of("interface")["state"].as_str(), of("interface")["fix"].as_str()),
        (Some("wrong"), Some("ip link"))
    );
    assert_eq!((of("data")["state"].as_str(), of("data")["fix"].as_str()), (Some("ok"), None));
    // Settings that cannot be read are no finding: nothing could be judged.
    std::fs::write(data.path().join("netboot.json"), "{").unwrap();
    let output = doctor(lab.server.command(NETBOOT), &data, &["--json"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_taken_http_port_and_bad_data_are_wrong() {
    let (lab, data) = (lab(), directory());
    std::fs::write(data.path().join("pxe_hosts.json"), "{").unwrap();
    let addr = SocketAddr::from(([0, 0, 0, 0], 8080));
    let _port = lab.server.inside(|| std::net::TcpListener::bind(addr).unwrap()).unwrap();
    let (text, code) = screen(&lab, &data, &["--interface", "pxe0", "--quiet-wire"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(line(&text, "WRONG", "port").contains("8080/tcp (HTTP) is taken by "), "{text}");
    line(&text, "WRONG", "data");
    assert!(text.contains(&format!("> netboot check {}", data.path().display())), "{text}");
}
