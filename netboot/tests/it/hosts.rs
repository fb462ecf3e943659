//! Machines without a reservation: held, denied or given an address of the pool, and approved by the operator.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::Path;
use std::process::Command;

use netboot_ebpf::verdict::message::DISCOVER;
use serde_json::{Value, json};
use xtask::lab::{Lab, Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, client, data, lab, udhcpc, value};
use crate::relay::{Relay, packet};

/// As an operator keeps it.
const HOSTS: &str = r#"// The rack in room 3.
{
    "common": {},
    "hosts": {
        // first shelf
        "192.168.90.10": { "macaddr": "52:54:00:00:00:03", "$hostname": "node", "channel": "beta" }, // new board
        /* "192.168.90.99": broken */
    },
}
"#;

/// What a command said on standard output and standard error, and its exit code.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(mut command: Command, arguments: &[&str], data: &Path) -> Said {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NETBOOT_")) {
        command.env_remove(name);
    }
    let output = command.arg("hosts").args(arguments).arg("--data").arg(data).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// `netboot hosts …` on the server of a lab.
fn hosts(lab: &Lab, arguments: &[&str], data: &Path) -> Said {
    run(lab.server.command(NETBOOT), arguments, data)
}

fn start(lab: &Lab, data: &Path, unknown: &str, xdp: &str) -> Server {
    fs::write(data.join("netboot.json"), json!({ "dhcp": { "unknown": unknown } }).to_string()).unwrap();
    Server::start(lab, Path::new(NETBOOT), data, &["--xdp", xdp]).unwrap()
}

fn waiting(lab: &Lab, data: &Path) -> Value {
    let said = hosts(lab, &["--waiting", "--json"], data);
    assert_eq!(said.code, Some(0), "{}", said.err);
    serde_json::from_str(&said.out).unwrap()
}

/// Asks until the running netboot has read what was approved.
fn gets(machine: &xtask::lab::Namespace, addr: &str) -> String {
    let mut told = String::new();
    let got = wait_for(SOON, || {
        told = udhcpc(machine, 3, &[]);
        value(&told, "ip") == addr
    });
    assert!(got, "no {addr}: {told}");
    told
}

#[test]
fn a_held_machine_waits_until_it_is_approved() {
    for xdp in ["generic", "off"] {
        let (lab, data) = (lab(), data(HOSTS));
        let server = start(&lab, data.path(), "hold", xdp);
        assert_eq!(waiting(&lab, data.path()), json!([]));
        let machine = client(&lab, "52:54:00:00:0a:01");
        let guid = "0x61:0033221100554477668899aabbccddeeff";
        let asks =
            ["-V", "PXEClient:Arch:00007\u{1b}[2J", "-x", "0x5d:0007", "-x", guid, "-x", "hostname:node"];
        assert_eq!(udhcpc(&machine, 2, &asks), "", "held with --xdp {xdp}");
        assert_eq!(udhcpc(&machine, 1, &["-r", "192.168.90.20"]), "");

        let list = waiting(&lab, data.path());
        let row = &list[0];
        assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
        for (field, expected) in [
            ("mac", json!("52:54:00:00:0a:01")),
            ("state", json!("held")),
            ("addr", Value::Null),
            ("vendor_class", json!("PXEClient:Arch:00007\\x1b[2J")),
            ("class", json!("efi64")),
            ("arch", json!(7)),
            ("guid", json!("00112233-4455-6677-8899-aabbccddeeff")),
            ("hostname", json!("node")),
            ("relay", Value::Null),
        ] {
            assert_eq!(row[field], expected, "{field}: {list}");
        }
        let number = |field: &str| row[field].as_u64().unwrap();
        assert!(number("times") >= 3 && number("first_seen") <= number("last_seen"), "{list}");
        let table = hosts(&lab, &[], data.path());
        assert!(table.out.contains("192.168.90.10  52:54:00:00:00:03  node  beta"), "{}", table.out);
        assert!(table.out.contains("52:54:00:00:0a:01  held   -        efi64  7     node"), "{}", table.out);
        assert!(!table.out.contains('\u{1b}'), "{}", table.out);

        // First what would be written, then written: the lowest free address, and a name that nobody has.
        let dry = hosts(&lab, &["approve", "52:54:00:00:0a:01", "--dry-run"], data.path());
        assert_eq!(dry.code, Some(0), "{}", dry.err);
        assert!(dry.out.contains("\"192.168.90.11\": {"), "{}", dry.out);
        assert_eq!(fs::read_to_string(data.path().join("pxe_hosts.json")).unwrap(), HOSTS);
        let done = hosts(&lab, &["approve", "52:54:00:00:0a:01"], data.path());
        assert_eq!(done.code, Some(0), "{}", done.err);
        let told =
            "pxe_hosts.json: 1 machine added\n192.168.90.11    52:54:00:00:0a:01  blade-000a01  stable\n";
        assert!(done.out.ends_with(told), "{}", done.out);
        let added = "    },\n}\n";
        let line = "        \"192.168.90.11\": { \"macaddr\": \"52:54:00:00:0a:01\", \"$hostname\": \"blade-000a01\", \"channel\": \"stable\" },\n";
        let expected = HOSTS.replace(added, &format!("{line}{added}"));
        assert_eq!(fs::read_to_string(data.path().join("pxe_hosts.json")).unwrap(), expected, "nothing else");
        let told = gets(&machine, "192.168.90.11");
        assert_eq!(value(&told, "hostname"), "blade-000a01");
        assert_eq!(waiting(&lab, data.path()), json!([]), "it waits no more");

        let again = hosts(&lab, &["approve", "52:54:00:00:0a:01"], data.path());
        assert_eq!(again.code, Some(2));
        let place =
            "pxe_hosts.json:8:9: 52:54:00:00:0a:01 has a reservation already: 192.168.90.11 (blade-000a01);";
        assert!(again.err.contains(place), "{}", again.err);

        // A machine that was never seen, and several at once: each its own.
        let macs = ["approve", "52:54:00:00:0a:02", "52-54-00-00-0A-03", "--channel", "beta"];
        let two = hosts(&lab, &macs, data.path());
        assert_eq!(two.code, Some(0), "{}", two.err);
        for line in [
            "192.168.90.12    52:54:00:00:0a:02  blade-000a02  beta\n",
            "192.168.90.13    52:54:00:00:0a:03  blade-000a03  beta\n",
        ] {
            assert!(two.out.contains(line), "{}", two.out);
        }
        gets(&client(&lab, "52:54:00:00:0a:03"), "192.168.90.13");
        let log = server.stop().unwrap();
        assert_eq!(log.matches("`netboot hosts approve 52:54:00:00:0a:01` gives it one").count(), 1, "{log}");
    }
}

#[test]
fn a_denied_machine_is_counted_and_not_listed() {
    let (lab, data) = (lab(), data(BLADE));
    let server = start(&lab, data.path(), "deny", "generic");
    assert_eq!(udhcpc(&client(&lab, "52:54:00:00:0a:01"), 3, &[]), "");
    let denied = || {
        let text = lab.server.shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/status").unwrap();
        let status: Value = serde_json::from_str(&text).unwrap();
        status["counters"]["dhcp"]["denied"].as_u64().unwrap_or(0)
    };
    assert!(wait_for(SOON, || denied() >= 3), "{}", server.child().output());
    assert_eq!(waiting(&lab, data.path()), json!([]));
    assert_eq!(value(&udhcpc(&client(&lab, "52:54:00:00:00:77"), 5, &[]), "ip"), "192.168.90.77");
    server.stop().unwrap();
}

#[test]
fn a_machine_on_a_pool_address_is_listed_and_can_be_approved() {
    let (lab, data) = (lab(), data(BLADE));
    let server = start(&lab, data.path(), "pool", "generic");
    let machine = client(&lab, "52:54:00:00:0a:01");
    let addr = value(&udhcpc(&machine, 5, &["-x", "hostname:kitchen"]), "ip").to_owned();
    let list = waiting(&lab, data.path());
    assert_eq!((&list[0]["state"], &list[0]["addr"]), (&json!("pool"), &json!(addr)), "{list}");
    // Its name is nobody else's yet.
    let done = hosts(&lab, &["approve", "52:54:00:00:0a:01"], data.path());
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("192.168.90.10    52:54:00:00:0a:01  kitchen  stable\n"), "{}", done.out);
    gets(&machine, "192.168.90.10");

    // The machines learn nothing of each other.
    machine.ip("addr add 192.168.90.10/24 dev eth0").unwrap();
    let asked =
        machine.shell("curl -s -m 5 -w '%{http_code}' http://192.168.90.2:8080/api/v1/hosts").unwrap();
    assert_eq!(asked, "not for this address\n403");
    server.stop().unwrap();
}

#[test]
fn what_cannot_be_approved_is_said_and_changes_nothing() {
    let (lab, data) = (lab(), data(HOSTS));
    let server = start(&lab, data.path(), "pool", "off");
    let leased = value(&udhcpc(&client(&lab, "52:54:00:00:0a:01"), 5, &[]), "ip").to_owned();
    let new = "52:54:00:00:0a:09";
    let other = format!("{leased} is leased to 52:54:00:00:0a:01 for ");
    let table: [(&[&str], i32, &str); 12] = [
        (&["nobody"], 2, "`nobody` is not a MAC address; write six hexadecimal pairs"),
        (&["ff:ff:ff:ff:ff:ff"], 2, "not the address of one machine"),
        (&[], 2, "required"),
        (&[new, new], 2, "52:54:00:00:0a:09 is there twice"),
        (
            &[new, "52:54:00:00:0a:08", "--addr", "192.168.90.9"],
            2,
            "--addr and --hostname are for one machine",
        ),
        (
            &[new, "--addr", "192.168.90.10"],
            2,
            "pxe_hosts.json:6:9: 192.168.90.10 is reserved for 52:54:00:00:00:03 (node);",
        ),
        (&[new, "--addr", "192.168.90.2"], 2, "192.168.90.2 is this server's own"),
        (&[new, "--addr", "192.168.90.255"], 2, "network or broadcast address"),
        (&[new, "--addr", "10.1.1.1"], 2, "10.1.1.1 is outside the subnet"),
        (&[new, "--addr", &leased], 2, &other),
        (&[new, "--hostname", "Node"], 2, "Node is the name of 52:54:00:00:00:03"),
        (&[new, "--hostname", "a b"], 2, "write 1 to 63 letters"),
    ];
    for (arguments, code, expected) in table {
        let said = hosts(&lab, &[&["approve"], arguments].concat(), data.path());
        assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{arguments:?}: {}", said.err);
        assert!(said.err.contains(expected), "{arguments:?}: {}", said.err);
    }
    server.stop().unwrap();
    assert_eq!(fs::read_to_string(data.path().join("pxe_hosts.json")).unwrap(), HOSTS);

    // Stopped: no address can be found, but one can be given, if nobody has it.
    let offline = |arguments: &[&str]| run(Command::new(NETBOOT), arguments, data.path());
    let lost = offline(&["approve", new, "--http-port", "9"]);
    assert_eq!(lost.code, Some(1));
    assert!(
        lost.err.contains("give one with --addr, or start netboot: there is no netboot to ask on TCP port 9"),
        "{}",
        lost.err
    );
    let taken = offline(&["approve", new, "--addr", &leased, "--http-port", "9"]);
    assert_eq!(taken.code, Some(2));
    assert!(taken.err.contains(&other), "{}", taken.err);
    let given = offline(&["approve", new, "--addr", "192.168.90.9", "--http-port", "9"]);
    assert_eq!(given.code, Some(0), "{}", given.err);
    let listed = offline(&["--http-port", "9"]);
    assert_eq!(listed.code, Some(0));
    assert!(
        listed.out.contains("\n192.168.90.9   52:54:00:00:0a:09  blade-000a09  stable"),
        "{}",
        listed.out
    );
    assert!(listed.err.contains("who waits for a reservation is not known"), "{}", listed.err);
    assert_eq!(offline(&["--waiting", "--http-port", "9"]).code, Some(1));
}

#[test]
fn a_reservation_of_a_leased_address_waits_for_its_owner_with_xdp_and_without() {
    for xdp in ["generic", "off"] {
        let (lab, data) = (lab(), data(r#"{ "hosts": {} }"#));
        let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", xdp]).unwrap();
        let (owner, blade) = (client(&lab, "52:54:00:00:0b:01"), client(&lab, "52:54:00:00:00:77"));
        let wish = ["-r", "192.168.90.77"];
        assert_eq!(value(&udhcpc(&owner, 5, &wish), "ip"), "192.168.90.77");
        fs::write(data.path().join("pxe_hosts.json"), BLADE).unwrap();
        let warning = "192.168.90.77 is reserved for blade77 (52:54:00:00:00:77), and leased to 52:54:00:00:0b:01 for 3";
        server.child().wait_line(warning, SOON).unwrap();

        // The blade boots as itself, on an address of the pool.
        for _ in 0..2 {
            let told = udhcpc(&blade, 5, &wish);
            assert_eq!(
                (value(&told, "hostname"), value(&told, "boot_file")),
                ("blade77", "pxelinux.0"),
                "{told}"
            );
            assert!(!value(&told, "ip").is_empty() && value(&told, "ip") != "192.168.90.77", "{told}");
        }
        let listed = hosts(&lab, &[], data.path());
        assert!(listed.out.contains("stable") || listed.out.contains("beta"), "{}", listed.out);
        assert!(listed.out.contains("52:54:00:00:0b:01 has its address for "), "{}", listed.out);
        let given = |by: &str| {
            let steps = server.steps();
            let to_blade = |step: &&xtask::lab::Step| step.text("mac") == "52:54:00:00:00:77";
            let replies = ["offer", "ack"];
            steps
                .iter()
                .filter(to_blade)
                .filter(|step| step.text("addr") == "192.168.90.77" && replies.contains(&step.text("reply")))
                .any(|step| by.is_empty() || step.text("by") == by)
        };
        assert!(!given(""), "two have one address: {}", server.child().output());

        // Its owner is sent elsewhere when it asks again; then the address is the blade's, whoever answers.
        let elsewhere = udhcpc(&owner, 5, &wish);
        assert!(
            !value(&elsewhere, "ip").is_empty() && value(&elsewhere, "ip") != "192.168.90.77",
            "{elsewhere}"
        );
        gets(&blade, "192.168.90.77");
        let by = if xdp == "off" { "daemon" } else { "xdp" };
        let answered = wait_for(SOON, || {
            udhcpc(&blade, 3, &[]);
            given(by)
        });
        assert!(answered, "not by {by}: {}", server.child().output());
        let log = server.stop().unwrap();
        assert_eq!(log.matches(warning).count(), 1, "once a snapshot: {log}");
    }
}

#[test]
fn a_held_machine_behind_a_relay_agent_gets_an_address_of_its_subnet() {
    let (lab, data) = (lab(), data(BLADE));
    let settings = r#"{ "dhcp": { "unknown": "hold",
        "subnets": [{ "prefix": "10.2.0.0/24", "relay": "192.168.90.5", "router": "10.2.0.1" }] } }"#;
    fs::write(data.path().join("netboot.json"), settings).unwrap();
    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &[]).unwrap();
    let (agent, relay) = ([192, 168, 90, 5], Relay::new(&lab, [192, 168, 90, 5].into()));
    relay.send(&packet(0x42, agent, DISCOVER, &[]));
    assert!(wait_for(SOON, || waiting(&lab, data.path())[0]["relay"] == "192.168.90.5"));

    let wrong = hosts(&lab, &["approve", "52:54:00:00:00:42", "--addr", "10.2.0.1"], data.path());
    assert!(wrong.code == Some(2) && wrong.err.contains("10.2.0.1 is the router's"), "{}", wrong.err);
    let done = hosts(&lab, &["approve", "52:54:00:00:00:42"], data.path());
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("10.2.0.10        52:54:00:00:00:42  blade-000042"), "{}", done.out);
    assert!(wait_for(SOON, || waiting(&lab, data.path()) == json!([])));
    assert_eq!(relay.ask(0x42, agent, DISCOVER, &[]).yiaddr().to_string(), "10.2.0.10");
    // An address of that subnet can be given by hand, too.
    let given = hosts(&lab, &["approve", "52:54:00:00:00:43", "--addr", "10.2.0.99"], data.path());
    assert_eq!(given.code, Some(0), "{}", given.err);
    server.stop().unwrap();
}
