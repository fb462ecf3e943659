//! Options by number, BOOTP and rapid commit: the whole program, real clients and hand-made packets; and what `check`
//! says of the settings.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use xtask::lab::{Namespace, Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, client, data, lab, value};
use crate::wire::uninterrupted;

const ADDR: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 77);
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x77];

fn with(settings: &str) -> TempDir {
    let data = data(BLADE);
    fs::write(data.path().join("netboot.json"), settings).unwrap();
    data
}

/// Asks with udhcpc for these options and returns all that it was told.
fn udhcpc(client: &Namespace, asks: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    fs::write(&script, "#!/bin/sh\nenv | grep -E '^(ip|ntpsrv|search|staticroutes|mtu|boot_file)='\n")
        .unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&script).status().unwrap().success());
    let mut command = client.command("udhcpc");
    command.args(["-i", "eth0", "-f", "-n", "-q", "-T", "1", "-t", "8", "-s"]).arg(&script);
    for option in asks {
        command.args(["-O", option]);
    }
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

#[test]
fn a_real_client_gets_the_options_that_are_set() {
    let data = with(
        r#"{ "dhcp": { "options": { "42": ["192.168.90.5", "192.168.90.6"], "119": ["blades.example"], "121": "default via 192.168.90.1" },
             "profiles": { "beta": { "options": { "26": 1400 }, "boot": { "bios": "beta.0" } } },
             "hosts": { "52:54:00:00:00:77": { "options": { "42": "192.168.90.7" } } } } }"#,
    );
    let names = ["ntpsrv", "search", "staticroutes", "mtu"];
    for xdp in ["generic", "off"] {
        let lab = lab();
        let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", xdp]).unwrap();
        let told = udhcpc(&client(&lab, "52:54:00:00:00:77"), &names);
        let table = [
            ("ip", "192.168.90.77"),
            ("ntpsrv", "192.168.90.7"),
            ("search", "blades.example"),
            ("staticroutes", "0.0.0.0/0 192.168.90.1"),
            ("mtu", "1400"),
            ("boot_file", "beta.0"),
        ];
        for (name, expected) in table {
            assert_eq!(value(&told, name), expected, "{name} with --xdp {xdp}: {told}");
        }
        let other = udhcpc(&client(&lab, "52:54:00:00:01:01"), &names);
        assert_eq!(value(&other, "ntpsrv"), "192.168.90.5 192.168.90.6", "{other}");
        assert_eq!((value(&other, "mtu"), value(&other, "boot_file")), ("", "pxelinux.0"), "{other}");
        let by = if xdp == "off" { "daemon" } else { "xdp" };
        let acked = || server.steps().iter().any(|step| step.text("reply") == "ack" && step.text("by") == by);
        assert!(wait_for(SOON, acked), "--xdp {xdp}: {}", server.child().output());
        server.stop().unwrap();
    }
}

#[test]
fn an_option_on_request_is_for_those_who_ask() {
    let data = with(r#"{ "dhcp": { "options": { "26": { "value": 1400, "on_request": true } } } }"#);
    let lab = lab();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "generic"]).unwrap();
    let machine = client(&lab, "52:54:00:00:00:77");
    let told = udhcpc(&machine, &["mtu"]);
    assert_eq!((value(&told, "ip"), value(&told, "mtu")), ("192.168.90.77", "1400"), "{told}");
    let told = udhcpc(&machine, &["search"]);
    assert_eq!((value(&told, "ip"), value(&told, "mtu")), ("192.168.90.77", ""), "{told}");
    server.stop().unwrap();
}

/// A request from everybody's address that wants its answer broadcast.
fn packet(xid: u8, mac: [u8; 6], options: &[u8]) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0, 1, 2, 3, xid, 0, 0, 0x80, 0];
    packet.resize(28, 0);
    packet.extend(mac);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99]);
    packet.extend(options);
    packet.push(255);
    packet.resize(packet.len().max(300), 0);
    packet
}

fn socket(client: &Namespace) -> UdpSocket {
    let open = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.bind_device(Some(b"eth0")).unwrap();
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        UdpSocket::from(socket)
    };
    client.inside(open).unwrap()
}

/// Asks until there is an answer: a switch does not carry at once what is new to it.
fn ask(socket: &UdpSocket, packet: &[u8]) -> Vec<u8> {
    let (mut reply, mut length) = (vec![0; 1500], 0);
    let answered = wait_for(SOON, || {
        assert_eq!(socket.send_to(packet, (Ipv4Addr::BROADCAST, 67)).unwrap(), packet.len());
        while let Ok(received) = uninterrupted(|| socket.recv(&mut reply)) {
            length = received;
            // Of this request, and not of one before that was sent again.
            if reply[4..8] == packet[4..8] {
                return true;
            }
        }
        false
    });
    assert!(answered, "no answer to {packet:?}");
    reply.truncate(length);
    reply
}

#[test]
fn bootp_and_rapid_commit_with_xdp_and_without() {
    let data = with(r#"{ "dhcp": { "rapid_commit": true, "probe": false } }"#);
    for xdp in ["generic", "off"] {
        let lab = lab();
        let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", xdp]).unwrap();
        let socket = socket(&client(&lab, "52:54:00:00:00:77"));

        let reply = ask(&socket, &packet(1, MAC, &[]));
        assert_eq!((reply.len(), &reply[16..20]), (300, &ADDR.octets()[..]), "--xdp {xdp}");
        assert!(reply[108..].starts_with(b"pxelinux.0\0"));
        assert_eq!(reply[240..246], [1, 4, 255, 255, 255, 0], "no message type");

        let reply = ask(&socket, &packet(2, MAC, &[53, 1, 1, 80, 0]));
        assert_eq!((&reply[16..20], &reply[240..243]), (&ADDR.octets()[..], &[53, 1, 5][..]), "--xdp {xdp}");
        assert!(reply.ends_with(&[80, 0, 255]) || reply.windows(4).any(|part| part == [80, 0, 255, 0]));

        let stranger = [0x52, 0x54, 0, 0, 1, 9];
        assert_eq!(
            socket.send_to(&packet(3, [0x52, 0x54, 0, 0, 1, 8], &[]), (Ipv4Addr::BROADCAST, 67)).unwrap(),
            300
        );
        let reply = ask(&socket, &packet(4, stranger, &[53, 1, 1, 80, 0]));
        assert_eq!(reply[28..34], stranger);
        assert_eq!(reply[240..243], [53, 1, 5], "the first answer that it gets is the ACK");
        let leases = lab.server.shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/leases").unwrap();
        assert!(leases.contains("52:54:00:00:01:09"), "{leases}");
        let status = lab.server.shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/status").unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        for (name, least) in [("bootp", 1), ("bootp-unknown", 1), ("ack", 2)] {
            let count = status["counters"]["dhcp"][name].as_u64();
            assert!(count >= Some(least), "{name}: {status}");
        }
        server.stop().unwrap();
    }
}

/// What `check` says, paths shortened, and its exit code.
fn check(data: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(NETBOOT).arg("check").arg(data).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&format!("{}/", data.display()), "");
    (output.status.code(), text(&output.stderr), text(&output.stdout))
}

#[test]
fn check_finds_options_that_cannot_be() {
    let data =
        with("{ \"dhcp\": { \"options\": {\n  \"42\": \"nobody\",\n  \"67\": \"x\",\n  \"199\": 1 } } }");
    let (code, said, _) = check(data.path(), &[]);
    assert_eq!(code, Some(2), "{said}");
    for part in [
        "netboot.json:2:9: `dhcp.options.42` has \"nobody\"; write an IPv4 address, as in \"192.168.90.1\"",
        "netboot.json:3:3: `dhcp.options.67` cannot be set here; write `boot`",
        "netboot.json:4:10: the type of option 199 is not built in; write { \"type\"",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let mut serve = Command::new(NETBOOT);
    serve.args(["serve", "--interface", "nowhere0", "--data"]).arg(data.path());
    let output = serve.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("netboot.json:2:9: `dhcp.options.42` has"));
}

#[test]
fn check_warns_of_options_that_do_less_than_it_seems() {
    let long = "x".repeat(200);
    let data = with(&format!(
        r#"{{ "dhcp": {{ "options": {{ "121": "10.0.0.0/8 via 192.168.90.1" }},
             "profiles": {{ "beta": {{ "options": {{ "17": "/" }} }}, "betta": {{ "boot": {{ "efi64": "no.efi" }} }} }},
             "hosts": {{ "192.168.90.78": {{}}, "192.168.90.77": {{ "options": {{ "114": "{long}", "121": null }} }} }} }} }}"#
    ));
    let (code, said, _) = check(data.path(), &[]);
    assert_eq!(code, Some(0), "{said}");
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("netboot.json: warning: ")).collect();
    let expected = [
        "`dhcp.profiles.betta.boot.efi64` is \"no.efi\", which is not in tftp/",
        "`dhcp.options.121` has no default route, and clients that take it ignore the router of option 3",
        "`dhcp.profiles.betta` is for nobody: no machine has the profile or channel \"betta\"",
        "`dhcp.hosts.192.168.90.78` is for nobody",
        "the reply to 192.168.90.77 (blade77) has more than 548 bytes: without option 57 it loses 114",
    ];
    for (warning, part) in warnings.iter().zip(expected) {
        assert!(warning.contains(part), "{part}\n{warning}");
    }
    assert_eq!(warnings.len(), expected.len(), "{said}");
}

#[test]
fn check_prints_what_counts() {
    let data = with(
        r#"{ "dhcp": { "options": { "42": "192.168.90.1", "100": { "value": "CET-1", "on_request": true } },
             "profiles": { "beta": { "options": { "17": "/" } } },
             "hosts": { "192.168.90.77": { "options": { "42": "" } } } } }"#,
    );
    let (code, said, printed) = check(data.path(), &["--print"]);
    assert_eq!(code, Some(0), "{said}");
    let settings: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let dhcp = &settings["dhcp"];
    let ntp = serde_json::json!({"type": "address", "value": ["192.168.90.1"], "bytes": "c0:a8:5a:01", "on_request": false});
    assert_eq!((&dhcp["options"]["42"], &dhcp["rapid_commit"]), (&ntp, &false.into()), "{printed}");
    assert_eq!(dhcp["options"]["100"]["on_request"], true);
    let beta = &dhcp["profiles"]["beta"]["options"];
    assert_eq!((&beta["42"], &beta["17"]["bytes"]), (&ntp, &"2f".into()), "with what it inherits: {printed}");
    let host = &dhcp["hosts"]["192.168.90.77"];
    assert_eq!((&host["42"], &host["17"]["value"][0]), (&serde_json::Value::Null, &"/".into()), "{printed}");
}
