//! The whole program in a lab, asked by real clients, edited, signalled and killed.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use xtask::lab::{Child, Lab, Namespace, Server, wait_for};

use crate::wire::uninterrupted;

pub(crate) const NETBOOT: &str = env!("CARGO_BIN_EXE_netboot");
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What udhcpc calls with each event: prints what it was told.
const SCRIPT: &str = "#!/bin/sh\necho \"event=$1\"\nenv | grep -E '^(ip|mask|broadcast|router|dns|hostname|domain|siaddr|boot_file|serverid|lease|renewaltime|rebindtime)=' || true\n";

/// A data directory with the two files that an operator has, and `tftp/`.
pub(crate) fn data(hosts: &str) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir(data.path().join("tftp")).unwrap();
    fs::write(data.path().join("pxe_hosts.json"), hosts).unwrap();
    fs::write(data.path().join("default.yaml"), "#cloud-config\nhostname: $hostname\naddr: $private_ipv4\n")
        .unwrap();
    data
}

/// One reserved machine, with the trailing commas that operators write.
pub(crate) const BLADE: &str = r#"{
  "common": {},
  "hosts": {
    "192.168.90.77": { "macaddr": "52:54:00:00:00:77", "$hostname": "blade77", "channel": "beta", },
  },
}"#;

pub(crate) fn lab() -> Lab {
    xtask::lab::remove_leftovers().unwrap();
    Lab::new().unwrap()
}

/// A client with this Ethernet address.
pub(crate) fn client(lab: &Lab, mac: &str) -> Namespace {
    let client = lab.client("client").unwrap();
    client.ip(&format!("link set eth0 down address {mac}")).unwrap();
    client.ip("link set eth0 up").unwrap();
    client
}

/// Asks with udhcpc and returns what it was told; empty when it got no lease. `asks`: how often it tries.
pub(crate) fn udhcpc(client: &Namespace, asks: u32, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    fs::write(&script, SCRIPT).unwrap();
    let mut command = client.command("udhcpc");
    command.args(["-i", "eth0", "-f", "-n", "-q", "-A", "1", "-T", "1", "-t", &asks.to_string(), "-s"]);
    let runs = Command::new("chmod").arg("+x").arg(&script).status().unwrap();
    assert!(runs.success());
    let output = command.arg(&script).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("event=bound") { text } else { String::new() }
}

/// The value of `name=` in what a client printed.
pub(crate) fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}=");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default()
}

pub(crate) fn status(lab: &Lab) -> serde_json::Value {
    let text = lab.server.shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/status").unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_reserved_machine_gets_its_own_address_and_options() {
    for xdp in ["generic", "off"] {
        let (lab, data) = (lab(), data(BLADE));
        let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", xdp]).unwrap();
        let told = udhcpc(&client(&lab, "52:54:00:00:00:77"), 5, &[]);
        for (name, expected) in [
            ("ip", "192.168.90.77"),
            ("mask", "24"),
            ("hostname", "blade77"),
            ("router", "192.168.90.2"),
            ("broadcast", "192.168.90.255"),
            ("serverid", "192.168.90.2"),
            ("siaddr", "192.168.90.2"),
            ("boot_file", "pxelinux.0"),
            ("lease", "3600"),
        ] {
            assert_eq!(value(&told, name), expected, "{name} with --xdp {xdp}: {told}");
        }
        let by = if xdp == "off" { "daemon" } else { "xdp" };
        let replied = |reply: &str| {
            let steps = server.steps();
            steps.iter().any(|step| step.text("reply") == reply && step.text("by") == by)
        };
        assert!(
            wait_for(SOON, || replied("offer") && replied("ack")),
            "--xdp {xdp}: {}",
            server.child().output()
        );
        server.stop().unwrap();
    }
}

#[test]
fn an_unknown_machine_gets_one_pool_address_and_keeps_it() {
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let machine = client(&lab, "52:54:00:00:01:01");
    let told = udhcpc(&machine, 5, &[]);
    let address: std::net::Ipv4Addr = value(&told, "ip").parse().unwrap();
    assert!((10..=250).contains(&address.octets()[3]), "{told}");
    // Another client identifier, as the ROM, the loader and the system of one machine have: still one lease.
    let again = udhcpc(&machine, 5, &["-x", "0x3d:00112233445566"]);
    assert_eq!(value(&again, "ip"), address.to_string());
    let other = udhcpc(&client(&lab, "52:54:00:00:01:02"), 5, &[]);
    assert_ne!(value(&other, "ip"), address.to_string());
    server.stop().unwrap();
}

#[test]
fn dhclient_is_served_as_well() {
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    let machine = client(&lab, "52:54:00:00:00:77");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let line = format!(
        "timeout 30 dhclient -1 -v -d -sf /bin/true -cf /dev/null -lf {path}/leases -pf {path}/pid eth0 2>&1 & \
         for i in $(seq 100); do grep -q fixed-address {path}/leases 2>/dev/null && break; sleep 0.2; done; \
         kill $(cat {path}/pid); cat {path}/leases"
    );
    let leases = machine.shell(&line).unwrap();
    assert!(leases.contains("fixed-address 192.168.90.77;"), "{leases}");
    assert!(leases.contains("option dhcp-server-identifier 192.168.90.2;"), "{leases}");
    server.stop().unwrap();
}

#[test]
fn a_lease_survives_kill_9() {
    let (lab, data) = (lab(), data(BLADE));
    let mut addresses = Vec::new();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let machines: Vec<Namespace> = (0..4).map(|n| client(&lab, &format!("52:54:00:00:02:0{n}"))).collect();
    for machine in &machines[..3] {
        addresses.push(value(&udhcpc(machine, 5, &[]), "ip").to_owned());
    }
    server.child().signal("KILL").unwrap();
    drop(server);
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    // A newcomer must not get an address that was acknowledged before the crash. It asks for each: one that nobody has
    // a lease of would be its own …
    for address in &addresses {
        let newcomer = value(&udhcpc(&machines[3], 5, &["-r", address]), "ip").to_owned();
        assert!(!newcomer.is_empty() && !addresses.contains(&newcomer), "{newcomer} of {addresses:?}");
    }
    // … and each machine that had one keeps it.
    for (machine, address) in machines.iter().zip(&addresses) {
        assert_eq!(value(&udhcpc(machine, 5, &["-r", address]), "ip"), address);
    }
    server.stop().unwrap();
}

#[test]
fn the_hosts_file_is_read_again_when_it_is_saved() {
    let (lab, data) = (lab(), data(r#"{ "hosts": {} }"#));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let machine = client(&lab, "52:54:00:00:00:77");
    assert_ne!(value(&udhcpc(&machine, 5, &[]), "ip"), "192.168.90.77");

    let file = data.path().join("pxe_hosts.json");
    let hosts = |expected: u64| wait_for(SOON, || status(&lab)["inventory"]["hosts"] == expected);
    fs::write(&file, BLADE).unwrap();
    assert!(hosts(1), "{}", server.child().output());
    assert_eq!(value(&udhcpc(&machine, 5, &[]), "ip"), "192.168.90.77");

    // A broken file changes nothing and is named with line and column.
    fs::write(&file, "{ \"hosts\": {\n  oops\n").unwrap();
    assert!(
        wait_for(SOON, || server.child().output().contains("pxe_hosts.json:2:3")),
        "{}",
        server.child().output()
    );
    assert_eq!(value(&udhcpc(&machine, 5, &[]), "ip"), "192.168.90.77");
    server.stop().unwrap();
}

/// A link that leads out of the data directory is not watched: only the signal can tell.
#[test]
fn sighup_reads_the_hosts_file_again() {
    let (lab, data) = (lab(), data("{}"));
    let elsewhere = tempfile::tempdir().unwrap();
    let (file, link) = (elsewhere.path().join("hosts.json"), data.path().join("pxe_hosts.json"));
    fs::write(&file, r#"{ "hosts": {} }"#).unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    fs::write(&file, BLADE).unwrap();
    assert_eq!(status(&lab)["inventory"]["hosts"], 0);
    server.child().signal("HUP").unwrap();
    assert!(wait_for(SOON, || status(&lab)["inventory"]["hosts"] == 1), "{}", server.child().output());
    assert!(server.is_running());
    server.stop().unwrap();
}

#[test]
fn waits_for_the_interface_and_its_address() {
    let (lab, data) = (lab(), data(BLADE));
    let mut command = lab.server.command(NETBOOT);
    command.args(["serve", "--interface", "late0", "--log-format", "json", "--data"]).arg(data.path());
    let server = Child::spawn(command).unwrap();
    server.wait_line("interface late0 does not exist", SOON).unwrap();
    lab.server.ip("link add late0 type veth peer name late1").unwrap();
    server.wait_line("interface late0 is down", SOON).unwrap();
    lab.server.ip("link set late0 up").unwrap();
    server.wait_line("interface late0 has no IPv4 address", SOON).unwrap();
    lab.server.ip("addr add 192.168.90.3/24 dev late0").unwrap();
    server.wait_line("\"message\":\"ready\"", SOON).unwrap();
    // Another address: it serves with that one.
    lab.server.ip("addr del 192.168.90.3/24 dev late0").unwrap();
    server.wait_line("interface late0 has no IPv4 address", SOON).unwrap();
    lab.server.ip("addr add 192.168.90.4/25 dev late0").unwrap();
    server.wait_line("\"message\":\"ready\"", SOON).unwrap();
}

#[test]
fn an_interface_that_comes_and_goes_is_no_end() {
    let (lab, data) = (lab(), data(BLADE));
    let mut server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    // As fast as it goes, so that the address is gone in the middle of a start, too.
    lab.server
        .shell(
            "for turn in $(seq 60); do ip addr flush dev pxe0; ip addr add 192.168.90.4/24 dev pxe0; done; \
             ip addr flush dev pxe0; ip addr add 192.168.90.5/24 dev pxe0",
        )
        .unwrap();
    server
        .child()
        .wait_line("serving 192.168.90.0/24 on pxe0\",\"interface\":\"pxe0\",\"addr\":\"192.168.90.5\"", SOON)
        .unwrap();
    server.child().wait_line("\"message\":\"ready\"", SOON).unwrap();
    assert!(server.is_running());
    server.stop().unwrap();
}

#[test]
fn an_address_that_does_not_fit_the_hosts_is_waited_out() {
    let (lab, data) = (lab(), data(BLADE));
    let mut server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    lab.server.ip("addr flush dev pxe0").unwrap();
    lab.server.ip("addr add 10.9.9.2/24 dev pxe0").unwrap();
    server.child().wait_line("hosts or settings do not fit 10.9.9.0/24", SOON).unwrap();
    assert!(server.is_running());
    // Either mends it: the hosts …
    let file = data.path().join("pxe_hosts.json");
    fs::write(&file, BLADE.replace("192.168.90.77", "10.9.9.77")).unwrap();
    server.child().wait_line("\"message\":\"ready\"", SOON).unwrap();
    // … or the interface.
    lab.server.ip("addr flush dev pxe0").unwrap();
    lab.server.ip("addr add 192.168.90.2/24 dev pxe0").unwrap();
    server.child().wait_line("hosts or settings do not fit 192.168.90.0/24", SOON).unwrap();
    lab.server.ip("addr flush dev pxe0").unwrap();
    lab.server.ip("addr add 10.9.9.2/24 dev pxe0").unwrap();
    server.child().wait_line("\"message\":\"ready\"", SOON).unwrap();
    server.stop().unwrap();
}

#[test]
fn an_address_that_does_not_fit_the_pool_is_waited_out_in_peace() {
    let (lab, data) = (lab(), data(r#"{ "hosts": {} }"#));
    let pool = ["--xdp", "off", "--pool", "192.168.90.10-192.168.90.20"];
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &pool).unwrap();
    lab.server.ip("addr flush dev pxe0").unwrap();
    lab.server.ip("addr add 10.9.9.2/24 dev pxe0").unwrap();
    server.child().wait_line("hosts or settings do not fit 10.9.9.0/24", SOON).unwrap();
    // Each change of the files and of the interface may be looked at, and nothing else.
    fs::write(data.path().join("pxe_hosts.json"), BLADE).unwrap();
    server.child().wait_line("inventory: ", SOON).unwrap();
    lab.server.ip("addr flush dev pxe0").unwrap();
    lab.server.ip("addr add 192.168.90.2/24 dev pxe0").unwrap();
    server.child().wait_line("\"message\":\"ready\"", SOON).unwrap();
    let said = server.child().output();
    let told = said.matches("hosts or settings do not fit").count();
    assert!(told < 9, "{told} times");
    server.stop().unwrap();
}

#[test]
fn a_pool_that_does_not_fit_is_exit_code_2() {
    let (lab, data) = (lab(), data(BLADE));
    let serve = || {
        let mut command = lab.server.command(NETBOOT);
        command.args(["serve", "--interface", "pxe0", "--xdp", "off", "--data"]).arg(data.path());
        let mut server = Child::spawn(command).unwrap();
        let code = server.wait(SOON).unwrap().code();
        (code, server.output())
    };
    let check = || {
        lab.server
            .command(NETBOOT)
            .arg("check")
            .arg(data.path())
            .args(["--interface", "pxe0"])
            .output()
            .unwrap()
    };
    let table = [
        ("10.0.0.5-10.0.0.9", "the pool 10.0.0.5-10.0.0.9 is not inside the subnet 192.168.90.0/24"),
        ("192.168.90.70-192.168.90.80", "192.168.90.77 is in the pool 192.168.90.70-192.168.90.80"),
    ];
    for (pool, expected) in table {
        let settings = format!("{{\n  \"dhcp\": {{ \"pool\": [\"{pool}\"] }} }}");
        fs::write(data.path().join("netboot.json"), settings).unwrap();
        let (code, said) = serve();
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
        let checked = check();
        assert_eq!(checked.status.code(), Some(2));
        let text =
            String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
        assert!(text.contains(expected), "{text}");
    }
    fs::write(
        data.path().join("netboot.json"),
        r#"{ "dhcp": { "pool": ["192.168.90.70-192.168.90.80"], "exclude": ["192.168.90.77"] } }"#,
    )
    .unwrap();
    assert_eq!(check().status.code(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_named_with_its_process() {
    let (lab, data) = (lab(), data(BLADE));
    let _first = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    // An interface on which DHCP is nobody's yet.
    lab.server.ip("link add other0 type veth peer name other1").unwrap();
    lab.server.ip("addr add 192.168.90.3/24 dev other0").unwrap();
    lab.server.ip("link set other0 up").unwrap();
    let taken = |interface: &str, port: &str| {
        let mut command = lab.server.command(NETBOOT);
        command.args(["serve", "--interface", interface, "--xdp", "off", "--http-port", port, "--data"]);
        command.arg(data.path()).arg("--state").arg(data.path().join(interface));
        let mut second = Child::spawn(command).unwrap();
        assert_eq!(second.wait(SOON).unwrap().code(), Some(1), "{}", second.output());
        second.output()
    };
    for (interface, port) in [("pxe0", "67/udp"), ("other0", "8080/tcp")] {
        let output = taken(interface, "8080");
        assert!(output.contains(&format!("port {port} is taken by netboot (pid ")), "{output}");
    }
    let _tftp = lab.server.inside(|| UdpSocket::bind(("192.168.90.3", 69)).unwrap()).unwrap();
    let output = taken("other0", "8081");
    let me = format!("(pid {})", std::process::id());
    assert!(output.contains("port 69/udp is taken by ") && output.contains(&me), "{output}");
}

#[test]
fn two_servers_do_not_share_a_state_directory() {
    let (lab, data) = (lab(), data(BLADE));
    let _first = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    let other = lab.client("other").unwrap();
    other.ip("addr add 192.168.90.9/24 dev eth0").unwrap();
    let mut command = other.command(NETBOOT);
    command.args(["serve", "--interface", "eth0", "--xdp", "off", "--data"]).arg(data.path());
    let mut second = Child::spawn(command).unwrap();
    assert_eq!(second.wait(SOON).unwrap().code(), Some(1));
    assert!(second.output().contains("leases.redb"), "{}", second.output());
}

#[test]
fn a_cause_is_told_once() {
    let (lab, data) = (lab(), data(BLADE));
    // A link that leads nowhere cannot be made a directory.
    std::os::unix::fs::symlink("nowhere", data.path().join("state")).unwrap();
    let mut command = lab.server.command(NETBOOT);
    command.args(["serve", "--interface", "pxe0", "--xdp", "off", "--data"]).arg(data.path());
    let mut server = Child::spawn(command).unwrap();
    assert_eq!(server.wait(SOON).unwrap().code(), Some(1));
    let output = server.output();
    assert!(output.contains("state") && output.matches("os error").count() == 1, "{output}");
}

#[test]
fn a_broken_hosts_file_at_the_start_is_exit_code_2() {
    let (lab, data) = (lab(), data("{ \"hosts\": {\n  oops\n"));
    let mut command = lab.server.command(NETBOOT);
    command.args(["serve", "--interface", "pxe0", "--data"]).arg(data.path());
    let mut server = Child::spawn(command).unwrap();
    assert_eq!(server.wait(SOON).unwrap().code(), Some(2));
    assert!(server.output().contains("pxe_hosts.json:2:3"), "{}", server.output());
}

#[test]
fn a_host_outside_the_subnet_is_refused_at_the_start() {
    let (lab, data) = (lab(), data(&BLADE.replace("192.168.90.77", "10.9.9.9")));
    let mut command = lab.server.command(NETBOOT);
    command.args(["serve", "--interface", "pxe0", "--data"]).arg(data.path());
    let mut server = Child::spawn(command).unwrap();
    assert_eq!(server.wait(SOON).unwrap().code(), Some(2));
    let output = server.output();
    assert!(output.contains("10.9.9.9") && output.contains("192.168.90.0/24"), "{output}");
}

#[test]
fn odd_packets_are_counted_by_reason_and_hurt_nobody() {
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    let sender = client(&lab, "52:54:00:00:03:01");
    sender.ip("addr add 192.168.90.240/24 dev eth0").unwrap();
    let socket = sender.inside(|| UdpSocket::bind(("192.168.90.240", 68)).unwrap()).unwrap();
    // A BOOTP header with this hlen, then the cookie and the options.
    let packet = |hlen: u8, cookie: [u8; 4], options: &[u8]| {
        let mut packet = vec![1, 1, hlen, 0];
        packet.resize(236, 0);
        packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 3, 1]);
        packet.extend(cookie);
        packet.extend(options);
        packet
    };
    let cookie = [99, 130, 83, 99];
    for (packet, reason) in [
        (vec![1, 1], "truncated"),
        (packet(255, cookie, &[53, 1, 1, 255]), "bad-hardware-address"),
        (packet(6, [0; 4], &[53, 1, 1, 255]), "bad-cookie"),
        (packet(6, cookie, &[53, 255, 1]), "bad-options"),
        (packet(6, cookie, &[53, 0, 255]), "bad-option-length"),
        (packet(6, cookie, &[53, 1, 0, 255]), "message-type"),
        (packet(6, cookie, &[255]), "bootp-unknown"),
    ] {
        socket.send_to(&packet, "192.168.90.2:67").unwrap();
        let counted = || status(&lab)["counters"]["dhcp"][reason].as_u64() >= Some(1);
        assert!(wait_for(SOON, counted), "{reason}: {}", status(&lab));
    }
    assert_eq!(value(&udhcpc(&client(&lab, "52:54:00:00:00:77"), 5, &[]), "ip"), "192.168.90.77");
    server.stop().unwrap();
}

#[test]
fn tftp_answers_the_pxe_network_alone() {
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    lab.server.ip("route add 10.7.0.0/24 dev pxe0").unwrap();
    let machine = client(&lab, "52:54:00:00:03:02");
    machine.ip("addr add 192.168.90.241/24 dev eth0").unwrap();
    machine.ip("addr add 10.7.0.1/24 dev eth0").unwrap();
    let ask = |from: &str| {
        let socket = machine.inside(|| UdpSocket::bind((from, 0)).unwrap()).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send_to(b"\0\x01file\0octet\0", "192.168.90.2:69").unwrap();
        socket
    };
    let outside = ask("10.7.0.1");
    let counted = || status(&lab)["counters"]["tftp"]["outside-subnet"] == 1;
    assert!(wait_for(SOON, counted), "{}", status(&lab));
    let mut packet = [0; 100];
    let inside = ask("192.168.90.241");
    let length = uninterrupted(|| inside.recv(&mut packet)).unwrap();
    assert_eq!(packet[..4], [0, 5, 0, 1], "not found: {:?}", &packet[..length]);
    outside.set_nonblocking(true).unwrap();
    assert_eq!(outside.recv(&mut packet).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    server.stop().unwrap();
}

#[test]
fn without_the_capabilities_for_xdp_the_daemon_answers() {
    let (lab, data) = (lab(), data(BLADE));
    let mut command = lab.server.command("setpriv");
    command.args(["--bounding-set", "-all,+net_admin,+net_raw,+net_bind_service,+dac_override", NETBOOT]);
    command.args(["serve", "--interface", "pxe0", "--log-format", "json", "--data"]).arg(data.path());
    let server = Child::spawn(command).unwrap();
    let line = server.wait_line("no XDP, the daemon answers everything", SOON).unwrap();
    assert!(line.contains("CAP_BPF"), "{line}");
    server.wait_line("\"message\":\"ready\"", SOON).unwrap();
    let told = udhcpc(&client(&lab, "52:54:00:00:00:77"), 5, &[]);
    assert_eq!(value(&told, "ip"), "192.168.90.77");
    server.wait_line("\"by\":\"daemon\"", SOON).unwrap();
}

#[test]
fn stopping_detaches_the_program() {
    let (lab, data) = (lab(), data(BLADE));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "generic"]).unwrap();
    assert!(lab.server.ip("link show pxe0").unwrap().contains("xdp"));
    server.stop().unwrap();
    assert!(!lab.server.ip("link show pxe0").unwrap().contains("xdp"));
    // Killed, it cannot: the program stays, as `life` has it, until the next netboot ends.
    let mut server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "generic"]).unwrap();
    server.child().signal("KILL").unwrap();
    assert!(wait_for(SOON, || !server.is_running()));
    assert!(lab.server.ip("link show pxe0").unwrap().contains("xdp"));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "generic"]).unwrap();
    server.stop().unwrap();
    assert!(!lab.server.ip("link show pxe0").unwrap().contains("xdp"));
}

#[test]
fn more_machines_than_the_program_holds_are_no_end_of_it() {
    let lab = lab();
    lab.server.ip("addr flush dev pxe0").unwrap();
    lab.server.ip("addr add 172.20.255.2/16 dev pxe0").unwrap();
    // Two replies of its own each: some thousand more than the program has templates.
    let host = |n: u16| {
        let [a, b] = n.to_be_bytes();
        format!(
            "\"172.20.{a}.{b}\": {{\"macaddr\": \"52:54:00:01:{a:02x}:{b:02x}\", \"$hostname\": \"b{n}\", \"channel\": \"stable\", \"boot\": {{\"bios\": \"{n}.0\"}}}},"
        )
    };
    let data = data(&format!("{{\"hosts\": {{{}}}}}", (1..=9_000).map(host).collect::<String>()));
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "generic"]).unwrap();
    assert!(lab.server.ip("link show pxe0").unwrap().contains("xdp"), "{}", server.child().output());
    // The templates are filled in the order of the file.
    for (mac, addr, by) in
        [("52:54:00:01:00:01", "172.20.0.1", "xdp"), ("52:54:00:01:23:28", "172.20.35.40", "daemon")]
    {
        assert_eq!(value(&udhcpc(&client(&lab, mac), 5, &[]), "ip"), addr);
        let replied = |server: &Server| {
            server.steps().iter().any(|step| step.text("mac") == mac && step.text("by") == by)
        };
        assert!(wait_for(SOON, || replied(&server)), "{mac} by {by}");
    }
    let log = server.stop().unwrap();
    assert!(log.contains("have no room in the XDP program and are sent by the daemon"), "{log}");
}
