//! Lease files and `dhcp-host=` lines as they are found in the field.

use std::path::Path;

use proptest::prelude::*;

use super::{NEVER, hosts, leases, line};
use crate::dhcp::lease::Lease;
use crate::mac::Mac;

fn read(text: &str) -> (Vec<Lease>, Vec<String>) {
    let found = leases(Path::new("f"), text);
    let said = found.problems.iter().map(ToString::to_string).collect();
    (found.leases.into_iter().map(|(_, lease)| lease).collect(), said)
}

const LEASES: &str = "\
1700000000 52:54:00:12:34:56 192.168.90.101 blade1 01:52:54:00:12:34:56
0 52:54:00:12:34:57 192.168.90.102 * *
1700000300 06-00:11:22:33:44:55 192.168.90.103 * ff:00:11

1700000600 01-52:54:00:12:34:58 192.168.90.104 blade 4 *
duid 00:01:00:01:2c:5f:33:11:52:54:00:12:34:56
1700000900 1234567 fd00::1234 blade1 00:01:00:01
";

#[test]
fn reads_a_lease_file() {
    let (leases, said) = read(LEASES);
    let lease = |last, mac, expires| {
        Lease::new([192, 168, 90, last].into(), Mac([0x52, 0x54, 0, 0x12, 0x34, mac]), expires)
    };
    assert_eq!(
        leases,
        [lease(101, 0x56, 1_700_000_000), lease(102, 0x57, NEVER), lease(104, 0x58, 1_700_000_600)]
    );
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("f:3:1: warning: this lease is left out"), "{said:?}");
}

#[test]
fn a_lease_comes_back_as_it_was_written() {
    let one = Lease::new([10, 0, 0, 1].into(), Mac([2, 0, 0, 0, 0, 1]), 1_700_000_000);
    assert_eq!(line(&one), "1700000000 02:00:00:00:00:01 10.0.0.1 * *");
    let never = Lease { expires: NEVER, ..one.clone() };
    assert_eq!(line(&never), "0 02:00:00:00:00:01 10.0.0.1 * *");
    assert_eq!(read(&format!("{}\n{}", line(&one), line(&never))), (vec![one, never], vec![]));
}

#[test]
fn every_bad_line_is_told_with_its_place() {
    let table = [
        ("x 52:54:00:12:34:56 10.0.0.1 * *", "f:1:1: `x` is not a time;"),
        ("-1 52:54:00:12:34:56 10.0.0.1 * *", "f:1:1: `-1` is not a time;"),
        ("\n 5  52:54:00:12:34 10.0.0.1 * *", "f:2:5: `52:54:00:12:34` is not a MAC address;"),
        ("5 52:54:00:12:34:56 10.0.0 * *", "f:1:21: `10.0.0` is not an IPv4 address;"),
        ("5 52:54:00:12:34:56 10.0.0.1 *", "f:1:1: `5 52:54:00:12:34:56 10.0.0.1 *` is not a lease;"),
        ("lease 10.0.0.1 {", "f:1:1: `lease 10.0.0.1 {` is not a lease;"),
    ];
    for (text, expected) in table {
        let (leases, said) = read(text);
        assert!(leases.is_empty());
        assert!(said.len() == 1 && said[0].starts_with(expected), "{text}: {said:?}");
    }
    assert_eq!(read("a\nb\n").1.len(), 2);
}

fn machines(text: &str) -> (Vec<String>, Vec<String>) {
    let found = hosts(Path::new("f"), text);
    let host = |host: &crate::import::Host| {
        format!("{} {} {}", host.mac, host.addr, host.hostname.as_deref().unwrap_or("-"))
    };
    (found.hosts.iter().map(host).collect(), found.problems.iter().map(ToString::to_string).collect())
}

#[test]
fn reads_a_configuration() {
    let text = "\
# dhcp-host=52:54:00:00:00:01,10.0.0.1
interface=eth1
dhcp-range=10.0.0.10,10.0.0.250,1h
dhcp-host=52:54:00:00:00:02,10.0.0.2,blade2   # the second
  dhcp-host = 52:54:00:00:00:03 , set:beta, blade3 , 10.0.0.3, 45m
dhcp-host=52-54-00-00-00-04,10.0.0.4,infinite
dhcp-host=id:01:52:54:00:00:00:05,10.0.0.5
dhcp-host=52:54:00:00:00:*,10.0.0.6
dhcp-host=52:54:00:00:00:07,52:54:00:00:01:07,blade7,10.0.0.7
dhcp-host=52:54:00:00:00:08,ignore
dhcp-host=52:54:00:00:00:09,blade9
dhcp-host=52:54:00:00:00:0a,id:*,[fd00::a],10.0.0.12,set:beta,set:gamma
dhcp-host=06-00:11:22:33:44:55,10.0.0.13
";
    let (hosts, said) = machines(text);
    assert_eq!(
        hosts,
        [
            "52:54:00:00:00:02 10.0.0.2 blade2",
            "52:54:00:00:00:03 10.0.0.3 blade3",
            "52:54:00:00:00:04 10.0.0.4 -",
            "52:54:00:00:00:07 10.0.0.7 blade7",
            "52:54:00:00:00:0a 10.0.0.12 -",
        ]
    );
    let expected = [
        "f:7:11: warning: this machine is left out: it has no MAC;",
        "f:8:11: warning: this machine is left out: its MAC has a wildcard;",
        "f:10:11: warning: this machine is left out: dnsmasq was told to ignore it;",
        "f:11:11: warning: this machine is left out: it has no IPv4 address;",
        "f:13:11: warning: this machine is left out: it is no Ethernet machine;",
        "f:7:11: warning: `id:` of a machine is not taken over (2 times in this file);",
        "f:5:64: warning: `lease time` of a machine is not taken over (2 times",
        "f:9:11: warning: `second MAC` of a machine is not taken over (once",
        "f:5:35: warning: `set:` of a machine is not taken over (3 times",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\nis not\n{expected}");
    }
}

#[test]
fn reads_a_hosts_file() {
    let (hosts, said) =
        machines("52:54:00:00:00:02,set:stable,10.0.0.2,blade2\n\n#x\n52:54:00:00:00:03,10.0.0.3\n");
    assert_eq!(hosts, ["52:54:00:00:00:02 10.0.0.2 blade2", "52:54:00:00:00:03 10.0.0.3 -"]);
    assert_eq!(said.len(), 1);
}

#[test]
fn a_bad_mac_has_its_place() {
    let (hosts, said) = machines("dhcp-host=set:a,52:54:0g:00:00:02,10.0.0.2\n");
    assert!(hosts.is_empty());
    assert!(said[0].starts_with("f:1:17: `52:54:0g:00:00:02` is not a MAC address; write six"), "{said:?}");
}

proptest! {
    #[test]
    fn never_panics(text in any::<String>()) {
        let _ = leases(Path::new("f"), &text);
        let _ = hosts(Path::new("f"), &text);
    }

    #[test]
    fn never_panics_near_the_truth(
        text in "((dhcp-host *=|duid|id:|[*]|[0-9a-f]{1,2}|5[24]:|10[.]0|[-:., #é\t\n=]|infinite|set:|[\\[\\]]){0,12}\n){0,8}"
    ) {
        let _ = leases(Path::new("f"), &text);
        let _ = hosts(Path::new("f"), &text);
    }
}
