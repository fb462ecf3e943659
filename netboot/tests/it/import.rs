//! `netboot import` and `netboot leases`: the real binary, on files of other servers and beside a running netboot.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use netboot::inventory::{Networks, load};
use tempfile::TempDir;
use xtask::lab::{Server, wait_for};

use crate::daemon::{BLADE, NETBOOT, SOON, client, data, lab, udhcpc, value};

/// What a command said on standard output and standard error, and its exit code.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn said(command: &mut Command) -> Said {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NETBOOT_")) {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn netboot(arguments: &[&str], data: &Path) -> Said {
    said(Command::new(NETBOOT).args(arguments).arg("--data").arg(data))
}

/// A file of another server's.
fn foreign(directory: &TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("foreign");
    fs::write(&path, text).unwrap();
    path
}

fn import(from: &str, file: &Path, data: &Path, more: &[&str]) -> Said {
    netboot(&[&["import", from, file.to_str().unwrap()], more].concat(), data)
}

const LATER: u64 = 4_000_000_000;

#[test]
fn leases_of_dnsmasq_go_on_and_come_back() {
    let (lab, data, directory) = (lab(), data(BLADE), tempfile::tempdir().unwrap());
    let file = foreign(
        &directory,
        &format!(
            "{LATER} 52:54:00:00:07:01 192.168.90.201 one 01:52:54:00:00:07:01\n\
             1600000000 52:54:00:00:07:02 192.168.90.202 * *\n\
             {LATER} 52:54:00:00:07:03 192.168.90.77 three *\n\
             {LATER} 52:54:00:00:00:77 192.168.90.203 * *\n"
        ),
    );
    let done = import("dnsmasq-leases", &file, data.path(), &[]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.ends_with("state: 2 leases imported, 1 of them ended, kept so that the machine gets its address again, 2 left out\n"), "{}", done.out);
    for part in ["foreign:3:1: warning: 192.168.90.77 of", "foreign:4:1: warning: 192.168.90.203 of"] {
        assert!(done.err.contains(part), "{}", done.err);
    }
    let again = import("dnsmasq-leases", &file, data.path(), &[]);
    assert!(again.out.contains("0 leases imported, 2 there already, 2 left out"), "{}", again.out);

    let server = Server::start(&lab, Path::new(NETBOOT), data.path(), &["--xdp", "off"]).unwrap();
    for (mac, address) in [("52:54:00:00:07:01", "192.168.90.201"), ("52:54:00:00:07:02", "192.168.90.202")] {
        assert_eq!(value(&udhcpc(&client(&lab, mac), 5, &[]), "ip"), address);
    }
    // While it runs, it tells, and nobody else writes.
    let ask = |arguments: &[&str]| {
        said(lab.server.command(NETBOOT).arg("leases").args(arguments).arg("--data").arg(data.path()))
    };
    let table = ask(&[]);
    assert_eq!(table.code, Some(0), "{}", table.err);
    assert!(table.out.contains("\n192.168.90.202   52:54:00:00:07:02  in "), "{}", table.out);
    let json: serde_json::Value = serde_json::from_str(&ask(&["--json"]).out).unwrap();
    assert_eq!(
        (json[0]["addr"].as_str(), json[1]["mac"].as_str()),
        (Some("192.168.90.201"), Some("52:54:00:00:07:02"))
    );
    assert_eq!(json.as_array().unwrap().len(), 2);
    let refused = import("dnsmasq-leases", &file, data.path(), &[]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("leases.redb is in use by another netboot"), "{}", refused.err);
    // Asked elsewhere than it listens.
    let lost = ask(&["--http-port", "9"]);
    assert_eq!(lost.code, Some(1));
    assert!(lost.err.contains("cannot be asked on TCP port 9 (--http-port)"), "{}", lost.err);
    // Another netboot's leases are not shown as this one's.
    let other = tempfile::tempdir().unwrap();
    assert_eq!(import("dnsmasq-leases", &foreign(&directory, ""), other.path(), &[]).code, Some(0));
    let _taken = netboot::store::Redb::open(&other.path().join("state")).unwrap();
    let stranger = said(lab.server.command(NETBOOT).args(["leases", "--data"]).arg(other.path()));
    assert_eq!((stranger.code, stranger.out.as_str()), (Some(1), ""));
    assert!(stranger.err.contains("there is a netboot with other leases"), "{}", stranger.err);
    // A blade learns nothing of the others.
    let blade = client(&lab, "52:54:00:00:07:09");
    blade.ip("addr add 192.168.90.240/24 dev eth0").unwrap();
    let asked = || {
        blade
            .shell("curl -s -m 5 -w '%{http_code}' http://192.168.90.2:8080/api/v1/leases")
            .unwrap_or_default()
    };
    assert!(wait_for(SOON, || asked() == "not for this address\n403"), "{}", asked());
    let live = ask(&["--format", "dnsmasq"]).out;
    server.stop().unwrap();

    // Stopped, its file says the same, and another netboot takes it over.
    let export = netboot(&["leases", "--format", "dnsmasq"], data.path());
    assert_eq!((export.code, &export.out), (Some(0), &live), "{}", export.err);
    assert_eq!(export.out.lines().count(), 2);
    assert!(export.out.lines().all(|line| line.ends_with(" * *")), "{}", export.out);
    let other = tempfile::tempdir().unwrap();
    let file = foreign(&directory, &export.out);
    assert_eq!(import("dnsmasq-leases", &file, other.path(), &[]).code, Some(0));
    assert_eq!(netboot(&["leases", "--format", "dnsmasq"], other.path()).out, export.out);
}

#[test]
fn a_lease_file_with_mistakes_changes_nothing() {
    let (data, directory) = (data(BLADE), tempfile::tempdir().unwrap());
    let file = foreign(&directory, &format!("{LATER} 52:54:00:00:07:01 192.168.90.201 one *\nsoon x y\n"));
    let done = import("dnsmasq-leases", &file, data.path(), &[]);
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""));
    assert!(done.err.contains("foreign:2:1: `soon x y` is not a lease;"), "{}", done.err);
    assert!(!data.path().join("state").exists());
    // Nothing to list makes nothing, either.
    let none = netboot(&["leases"], data.path());
    assert_eq!((none.code, none.out.lines().count()), (Some(0), 1));
    assert!(!data.path().join("state").exists());

    let gone = import("dnsmasq-leases", &directory.path().join("none"), data.path(), &[]);
    assert_eq!(gone.code, Some(2));
    assert!(gone.err.contains("none: there is no such file;"), "{}", gone.err);
    for arguments in [["leases", "--json"].as_slice(), &["import", "dnsmasq-leases", file.to_str().unwrap()]]
    {
        let nowhere = netboot(arguments, &directory.path().join("nowhere"));
        assert_eq!(nowhere.code, Some(2));
        assert!(nowhere.err.contains("nowhere: there is no such directory;"), "{}", nowhere.err);
    }
}

#[test]
fn a_damaged_store_is_neither_listed_nor_moved() {
    let data = data(BLADE);
    let store = data.path().join("state/leases.redb");
    fs::create_dir(store.parent().unwrap()).unwrap();
    fs::write(&store, [0x5a; 9000]).unwrap();
    let file = foreign(&data, "");
    for done in [netboot(&["leases"], data.path()), import("dnsmasq-leases", &file, data.path(), &[])] {
        assert_eq!(done.code, Some(1));
        assert!(done.err.contains("leases.redb"), "{}", done.err);
    }
    assert_eq!(fs::read(&store).unwrap(), [0x5a; 9000]);
    assert_eq!(fs::read_dir(store.parent().unwrap()).unwrap().count(), 1);
}

const KEA: &str = r#"{ "Dhcp4": { # the rack
  "subnet4": [ { "reservations": [
    { "hw-address": "52:54:00:00:00:11", "ip-address": "192.168.90.11", "hostname": "b11.rack.example" },
    { "hw-address": "52:54:00:00:00:12", "ip-address": "192.168.90.12" },
    { "client-id": "01:02", "ip-address": "192.168.90.13" } ] } ] } }"#;
const ISC: &str = "group { next-server 192.168.90.1; # the rack
  host b11 { hardware ethernet 52:54:00:00:00:11; fixed-address 192.168.90.11; }
  host b12 { hardware ethernet 52:54:00:00:00:12; fixed-address 192.168.90.12; option host-name \"host-192-168-90-12\"; }
}
";
const DNSMASQ: &str =
    "dhcp-host=52:54:00:00:00:11,b11,192.168.90.11\n# the rack\ndhcp-host=52:54:00:00:00:12,192.168.90.12\n";

/// What the three files say, as it is found again.
const FOUND: [&str; 2] =
    ["192.168.90.11 52:54:00:00:00:11 b11 beta", "192.168.90.12 52:54:00:00:00:12 host-192-168-90-12 beta"];

/// The machines of a data directory, without the one of `BLADE`.
fn machines(data: &Path) -> Vec<String> {
    let snapshot = load(data, &Networks::default()).snapshot.unwrap();
    let hosts = snapshot.hosts().filter(|host| host.addr.octets()[3] != 77);
    hosts.map(|host| format!("{} {} {} {}", host.addr, host.mac, host.hostname, host.channel)).collect()
}

#[test]
fn machines_of_three_servers_are_printed_or_written() {
    for (from, text) in [("kea", KEA), ("isc", ISC), ("dnsmasq-hosts", DNSMASQ)] {
        let directory = tempfile::tempdir().unwrap();
        let file = foreign(&directory, text);
        // Printed it is a whole file; the data directory need not be there yet.
        let printed = import(from, &file, &directory.path().join("none"), &["--channel", "beta"]);
        assert_eq!(printed.code, Some(0), "{from}: {}", printed.err);
        let fresh = data(&printed.out);
        assert_eq!(machines(fresh.path()), FOUND, "{from}");

        let data = data(BLADE);
        let hosts = data.path().join("pxe_hosts.json");
        let only_looked = import(from, &file, data.path(), &[]);
        assert_eq!(only_looked.code, Some(0));
        assert_eq!(fs::read_to_string(&hosts).unwrap(), BLADE);
        let written = import(from, &file, data.path(), &["--channel", "beta", "--write"]);
        assert_eq!(written.code, Some(0), "{from}: {}", written.err);
        assert!(written.out.ends_with("pxe_hosts.json: 2 machines added\n"), "{}", written.out);
        assert_eq!(machines(data.path()), FOUND, "{from}");
        let new = fs::read_to_string(&hosts).unwrap();
        let (before, after) = BLADE.split_at(BLADE.find("\n  },\n}").unwrap());
        assert!(new.starts_with(before) && new.ends_with(after), "{new}");

        // The same again adds nothing and is no mistake.
        let again = import(from, &file, data.path(), &["--channel", "beta", "--write"]);
        assert_eq!(again.code, Some(0));
        assert!(again.out.ends_with("0 machines added\n") && again.err.contains("already"), "{}", again.err);
        assert_eq!(fs::read_to_string(&hosts).unwrap(), new);
    }
}

#[test]
fn what_is_left_out_is_told() {
    let (data, directory) = (data(BLADE), tempfile::tempdir().unwrap());
    let done = import("kea", &foreign(&directory, KEA), data.path(), &[]);
    assert!(
        done.err.contains("foreign:5:5: warning: this machine is left out: it has no `hw-address`;"),
        "{}",
        done.err
    );
    assert!(done.err.contains("foreign:4:5: warning: 192.168.90.12 has no name;"), "{}", done.err);
}

#[test]
fn a_clash_or_a_mistake_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let clash = DNSMASQ.to_owned()
        + "dhcp-host=52:54:00:00:00:77,192.168.90.14\ndhcp-host=52:54:00:00:00:15,192.168.90.77\n";
    let table = [
        (
            "dnsmasq-hosts",
            clash.as_str(),
            "foreign:4:11: 52:54:00:00:00:77 is the MAC of 192.168.90.77 in pxe_hosts.json too;",
        ),
        (
            "dnsmasq-hosts",
            clash.as_str(),
            "foreign:5:11: 192.168.90.77 is the address of 52:54:00:00:00:77 in pxe_hosts.json too;",
        ),
        ("isc", "host a { hardware ethernet 5; }", "foreign:1:28: `5` is not a MAC address;"),
        ("kea", "{ \"Dhcp4\": { \"reservations\": [ {]", "foreign:1:"),
    ];
    for (from, text, expected) in table {
        let data = data(BLADE);
        for more in [[].as_slice(), &["--write"]] {
            let done = import(from, &foreign(&directory, text), data.path(), more);
            assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{from}");
            assert!(done.err.contains(expected), "{}", done.err);
        }
        assert_eq!(fs::read_to_string(data.path().join("pxe_hosts.json")).unwrap(), BLADE);
    }
    let usage = import("kea", &foreign(&directory, KEA), directory.path(), &["--channel", "../x"]);
    assert_eq!(usage.code, Some(2));
    assert!(usage.err.contains("pxelinux.cfg/"), "{}", usage.err);
}
