//! Configurations of kea-dhcp4 as they are found in the field.

use std::path::Path;

use proptest::prelude::*;

use super::{hosts, without_hashes};

fn read(text: &str) -> (Vec<String>, Vec<String>) {
    let found = hosts(Path::new("f"), text);
    let host = |host: &crate::import::Host| {
        format!("{} {} {}", host.mac, host.addr, host.hostname.as_deref().unwrap_or("-"))
    };
    (found.hosts.iter().map(host).collect(), found.problems.iter().map(ToString::to_string).collect())
}

const CONFIGURATION: &str = r##"# the rack's "server"
{
// DHCPv4
"Dhcp4": {
    "interfaces-config": { "interfaces": [ "eth1" ] }, # not "eth0
    /* global # ones */
    "reservations": [
        { "hw-address": "52:54:00:00:00:02", "ip-address": "10.0.0.2", "hostname": "blade#2" },
    ],
    "hosts-database": { "type": "mysql" }, "user-context": { "note": "a \"#1\" rack" },
    "subnet4": [
        {
            "id": 1, "subnet": "10.0.0.0/24",
            "pools": [ { "pool": "10.0.0.100 - 10.0.0.199" } ],
            "reservations": [
                {   // in the subnet
                    "boot-file-name": "x.0", "client-classes": [ ], "next-server": "0.0.0.0",
                    "hw-address": "525400ABCD03",
                    "ip-address": "10.0.0.3",
                    "hostname": "",
                    "option-data": [ { "name": "domain-name-servers", "data": "10.1.1.1" } ]
                },
                { "duid": "01:02:03", "ip-address": "10.0.0.4" },
                { "hw-address": "52-54-00-00-00-05", "hostname": "pool.example" },
                { "hw-address": "52:54:00:00:00:06", "ip-address": "10.0.0.6", "hostname": "b6.example", "boot-file-name": "y" }
            ]
        },
        { "subnet": "10.0.1.0/24" }
    ],
    "shared-networks": [
        { "name": "n", "subnet4": [ { "reservations": [ { "hw-address": "52:54:00:00:00:07", "ip-address": "10.2.0.7" } ] } ] }
    ]
} }
"##;

#[test]
fn reads_a_configuration() {
    let (hosts, said) = read(CONFIGURATION);
    assert_eq!(
        hosts,
        [
            "52:54:00:00:00:02 10.0.0.2 blade#2",
            "52:54:00:ab:cd:03 10.0.0.3 -",
            "52:54:00:00:00:06 10.0.0.6 b6.example",
            "52:54:00:00:00:07 10.2.0.7 -",
        ]
    );
    let expected = [
        "f:10:5: warning: reservations in a database are not read;",
        "f:23:17: warning: this machine is left out: it has no `hw-address`;",
        "f:24:17: warning: this machine is left out: it has no `ip-address`;",
        "f:17:21: warning: `boot-file-name` of a machine is not taken over (2 times in this file);",
        "f:21:21: warning: `option-data` of a machine is not taken over (once in this file);",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\nis not\n{expected}");
    }
}

#[test]
fn mistakes_have_their_place() {
    let reservations = |inner: &str| format!("# x\n{{\"Dhcp4\": {{\"reservations\": [{inner}]}}}}");
    let table = [
        (String::new(), "f:1:1: the file is empty;"),
        ("{ \"Dhcp6\": {} }".to_owned(), "f:1:1: `Dhcp4` is missing;"),
        ("{ \"Dhcp4\": [] }".to_owned(), "f:1:12: this in `Dhcp4` is a list, not an object;"),
        ("{ \"Dhcp4\": { \"subnet4\": {} } }".to_owned(), "f:1:25: `subnet4` is an object, not a list;"),
        ("# \"\n{ \"Dhcp4\": { \"a\" 1 } }".to_owned(), "f:2:18: not JSON: expected colon"),
        ("{ \"Dhcp4\": {\n <?include \"/x\"?> } }".to_owned(), "f:2:2: `<?include` is not followed;"),
        (reservations("5"), "f:2:29: this in `reservations` is a number"),
        (reservations("{\"hw-address\": 5}"), "f:2:44: `hw-address` is a number, not a string;"),
        (reservations("{\"hw-address\": \"x\"}"), "f:2:44: `x` is not a MAC address;"),
        (reservations("{\"hw-address\": \"52540000000\"}"), "f:2:44: `52540000000` is not a MAC address;"),
        (
            reservations("{\"hw-address\": \"525400000001\", \"ip-address\": \"x\"}"),
            "f:2:74: `x` is not an IPv4 address;",
        ),
    ];
    for (text, expected) in table {
        let (hosts, said) = read(&text);
        assert!(hosts.is_empty(), "{text}");
        assert!(said.len() == 1 && said[0].starts_with(expected), "{text}: {said:?}");
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let (_, said) = read(&("{\"Dhcp4\":".to_owned() + &"[".repeat(100_000)));
    assert_eq!(said.len(), 1);
}

proptest! {
    #[test]
    fn hashes_go_and_every_byte_stays_in_its_place(text in "([{}#\"/*\\\\ é\n<a]|/[*]|[*]/|//){0,40}") {
        if let Ok(plain) = without_hashes(&text) {
            prop_assert_eq!(plain.len(), text.len());
            prop_assert_eq!(plain.matches('\n').count(), text.matches('\n').count());
            prop_assert_eq!(without_hashes(&plain), Ok(plain.clone()));
        }
    }

    #[test]
    fn never_panics(text in any::<String>()) {
        let _ = hosts(Path::new("f"), &text);
        let _ = hosts(Path::new("f"), &format!("{{\"Dhcp4\": {{\"reservations\": [{{{text}}}]}}}}"));
    }
}
