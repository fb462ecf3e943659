use std::collections::BTreeMap;
use std::path::Path;

use super::{Custom, HostKey, Layers, Options, Place, Profile, hosts, profiles, read};
use crate::config::Boot;
use crate::config::json::{Reader, Source};
use crate::inventory::Host;
use crate::mac::Mac;

/// What `parse` makes of the value of `x`, or the problems.
fn parsed<T>(
    text: &str,
    parse: impl FnOnce(&mut Reader<'_>, &jsonc_parser::ast::Value<'_>) -> T,
) -> Result<T, String> {
    let text = format!("{{\"x\": {text}}}");
    let source = Source::new(Path::new("f"), &text);
    let object = source.object().unwrap();
    let mut reader = Reader::new(&source);
    let parsed = parse(&mut reader, &object.properties[0].value);
    let problems: Vec<String> = reader.problems.iter().map(ToString::to_string).collect();
    if problems.is_empty() { Ok(parsed) } else { Err(problems.join("\n")) }
}

fn options_at(text: &str, place: Place) -> Result<Options, String> {
    parsed(text, |reader, value| read(reader, "x", value, place))
}

fn options(text: &str) -> Result<Options, String> {
    options_at(text, Place::Narrower)
}

#[test]
fn every_type_as_the_rfcs_encode_it() {
    let table: &[(&str, u8, &[u8])] = &[
        (r#""2": -3600"#, 2, &[0xff, 0xff, 0xf1, 0xf0]),
        (r#""26": 1450"#, 26, &[5, 0xaa]),
        (r#""23": 64"#, 23, &[64]),
        (r#""211": 60"#, 211, &[0, 0, 0, 60]),
        (r#""27": true"#, 27, &[1]),
        (r#""42": ["192.168.90.1", "192.168.90.2"]"#, 42, &[192, 168, 90, 1, 192, 168, 90, 2]),
        (r#""42": "192.168.90.1""#, 42, &[192, 168, 90, 1]),
        (r#""150": ["10.0.0.1", "10.0.0.2"]"#, 150, &[10, 0, 0, 1, 10, 0, 0, 2]),
        (r#""100": "CET-1""#, 100, b"CET-1"),
        (r#""210": "/boot/""#, 210, b"/boot/"),
        (r#""43": "01:04:0A0000ff""#, 43, &[1, 4, 10, 0, 0, 255]),
        (r#""208": true"#, 208, &[0xf1, 0, 0x74, 0x7e]),
        (r#""25": [68, 1500]"#, 25, &[0, 68, 5, 0xdc]),
        (r#""119": ["a.example", "b_c.example."]"#, 119, b"\x01a\x07example\x00\x03b_c\x07example\x00"),
        // The examples of RFC 3442, page 4.
        (r#""121": ["default via 10.0.0.1"]"#, 121, &[0, 10, 0, 0, 1]),
        (r#""121": "10.0.0.0/8 via 10.0.0.1""#, 121, &[8, 10, 10, 0, 0, 1]),
        (r#""121": "10.17.0.0/16 via 10.0.0.1""#, 121, &[16, 10, 17, 10, 0, 0, 1]),
        (r#""121": "10.27.129.0/24 via 10.0.0.1""#, 121, &[24, 10, 27, 129, 10, 0, 0, 1]),
        (r#""121": "10.229.0.128/25 via 10.0.0.1""#, 121, &[25, 10, 229, 0, 128, 10, 0, 0, 1]),
        (r#""121": "10.198.122.47/32 via 10.0.0.1""#, 121, &[32, 10, 198, 122, 47, 10, 0, 0, 1]),
        (
            r#""249": ["0.0.0.0/0 via 10.0.0.1", "10.0.0.0/7 via 0.0.0.0"]"#,
            249,
            &[0, 10, 0, 0, 1, 7, 10, 0, 0, 0, 0],
        ),
        (r#""199": {"type": "text", "value": "x"}"#, 199, b"x"),
        (r#""199": {"type": "u16", "value": [1, 2]}"#, 199, &[0, 1, 0, 2]),
        // The built-in type is a suggestion.
        (r#""43": {"type": "text", "value": "x"}"#, 43, b"x"),
        (r#""121": {"type": "hex", "value": "00 0a 00 00 01"}"#, 121, &[0, 10, 0, 0, 1]),
        (r#""3": ["10.0.0.1"]"#, 3, &[10, 0, 0, 1]),
    ];
    for (text, code, bytes) in table {
        let options = options(&format!("{{{text}}}")).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        let value = options.get(*code).flatten().unwrap_or_else(|| panic!("{text}: not there"));
        assert_eq!(value.bytes(), *bytes, "{text}");
        assert!(!value.on_request(), "{text}");
    }
    let asked = options(r#"{"42": {"value": "10.0.0.1", "on_request": true}}"#).unwrap();
    assert!(asked.get(42).flatten().unwrap().on_request());
    for none in ["null", "\"\"", "[]", r#"{"value": null}"#, r#"{"type": "text", "value": ""}"#] {
        assert_eq!(options(&format!(r#"{{"42": {none}}}"#)).unwrap().get(42), Some(None), "{none}");
    }
    let routes = options(
        r#"{"121": ["10.0.0.0/9 via 10.0.0.1", "default via 10.0.0.1"], "249": "10.0.0.0/8 via 10.0.0.1"}"#,
    );
    let routes = routes.unwrap();
    assert!(routes.get(121).flatten().unwrap().has_default_route());
    assert!(!routes.get(249).flatten().unwrap().has_default_route());
}

#[test]
fn every_mistake_has_its_place_and_a_remedy() {
    let label = "a".repeat(64);
    let long = format!(r#"{{"100": "{}"}}"#, "x".repeat(256));
    let label = format!(r#"{{"119": "{label}.example"}}"#);
    let table = [
        ("[]", "f:1:7: `x` is a list, not an object; write \"x\": { … }"),
        (r#"{"ntp": 1}"#, "f:1:8: `x.ntp` is no option; write the number of a DHCP option, as in \"42\""),
        (r#"{"042": 1}"#, "f:1:8: `x.042` is no option"),
        (r#"{"256": 1}"#, "f:1:8: `x.256` is no option"),
        (r#"{"42": 1, "42": 2}"#, "f:1:17: `42` is here a second time"),
        (
            r#"{"42": "10.0.0"}"#,
            "f:1:14: `x.42` has \"10.0.0\"; write an IPv4 address, as in \"192.168.90.1\"",
        ),
        (r#"{"42": ["10.0.0.1", 7]}"#, "f:1:27: `x.42` has 7; write an IPv4 address"),
        (r#"{"16": ["10.0.0.1", "10.0.0.2"]}"#, "f:1:14: `x.16` has 2 values; write one"),
        (
            r#"{"26": 65536}"#,
            "f:1:14: `x.26` has 65536; write a whole number from 0 to 65535, without quotes",
        ),
        (r#"{"26": "1500"}"#, "f:1:14: `x.26` has \"1500\"; write a whole number"),
        (r#"{"23": -1}"#, "f:1:14: `x.23` has -1; write a whole number from 0 to 255"),
        (r#"{"2": 1.5}"#, "f:1:13: `x.2` has 1.5"),
        (r#"{"27": 1}"#, "f:1:14: `x.27` has 1; write true or false, without quotes"),
        (
            r#"{"208": false}"#,
            "f:1:15: `x.208` has true or false; write true: this option has one value only",
        ),
        (r#"{"100": "a\u0000b"}"#, "f:1:15: `x.100` has \"a\u{0}b\"; write a text"),
        (r#"{"43": "1"}"#, "f:1:14: `x.43` has \"1\"; write bytes as pairs of hexadecimal digits"),
        (r#"{"43": "01:"}"#, "f:1:14: `x.43` has \"01:\""),
        (r#"{"43": "0g"}"#, "f:1:14: `x.43` has \"0g\""),
        (r#"{"119": "a..b"}"#, "f:1:15: `x.119` has \"a..b\"; write domain names"),
        (&label, "f:1:15: `x.119` has"),
        (
            r#"{"121": "10.0.0.1/8 via 10.0.0.1"}"#,
            "f:1:15: `x.121` has \"10.0.0.1/8 via 10.0.0.1\"; write routes",
        ),
        (r#"{"121": "10.0.0.0/33 via 10.0.0.1"}"#, "f:1:15: `x.121` has"),
        (r#"{"121": "10.0.0.0/8 10.0.0.1"}"#, "f:1:15: `x.121` has"),
        (r#"{"121": "10.0.0.0/8 via 10.0.0.1 dev eth0"}"#, "f:1:15: `x.121` has"),
        (&long, "f:1:15: `x.100` has 256 bytes; write at most 255"),
        (
            r#"{"199": "x"}"#,
            "f:1:15: the type of option 199 is not built in; write { \"type\": …, \"value\": … } with one of these types: u8, u16",
        ),
        (r#"{"199": {"type": "float", "value": 1}}"#, "f:1:24: `x.199.type` is \"float\"; write one of: u8"),
        (r#"{"199": {"type": "u8"}}"#, "f:1:15: `x.199` has no value; write \"value\": …"),
        (r#"{"42": {"val": 1}}"#, "f:1:15: `x.42.val` is not a setting; use one of: type, value, on_request"),
        (
            r#"{"42": {"value": "10.0.0.1", "on_request": 1}}"#,
            "f:1:50: `x.42.on_request` is a number; write true or false",
        ),
    ];
    for (text, expected) in table {
        let problem = options(text).map(drop).expect_err(text);
        assert!(problem.starts_with(expected), "{text}\n{problem}\n{expected}");
    }
}

#[test]
fn what_the_server_decides_is_refused_with_what_to_write() {
    let help = |code: u8, place| options_at(&format!(r#"{{"{code}": "01"}}"#), place).map(drop);
    for code in
        [0, 1, 12, 28, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 66, 67, 80, 82, 93, 94, 97, 118, 255]
    {
        for place in [Place::Everybody, Place::Narrower] {
            let problem = help(code, place).expect_err("refused");
            assert!(problem.starts_with(&format!("f:1:8: `x.{code}` cannot be set here; ")), "{problem}");
        }
    }
    let table = [(3, "dhcp.router"), (6, "dhcp.dns"), (15, "dhcp.domain")];
    for (code, setting) in table {
        assert!(help(code, Place::Everybody).unwrap_err().ends_with(&format!("write `{setting}`")));
        let here = options_at(&format!(r#"{{"{code}": null}}"#), Place::Narrower).unwrap();
        assert_eq!(here.get(code), Some(None));
    }
    assert!(help(67, Place::Narrower).unwrap_err().contains("write `boot`"));
    assert!(help(51, Place::Everybody).unwrap_err().contains("write `dhcp.lease_secs`"));
}

fn host(last: u8, channel: &str) -> Host {
    Host {
        mac: Mac([2, 0, 0, 0, 0, last]),
        addr: [10, 0, 0, last].into(),
        hostname: "n".into(),
        channel: channel.into(),
        template: None,
        boot: Boot::default(),
        variables: BTreeMap::new(),
        ignition: None,
    }
}

fn texts(layers: &Layers<'_>) -> Vec<(u8, String)> {
    let values = layers.settled().into_iter().filter_map(|(code, value)| Some((code, value?)));
    values.map(|(code, value)| (code, String::from_utf8(value.bytes().to_vec()).unwrap())).collect()
}

#[test]
fn the_narrower_place_wins_code_by_code() {
    let network =
        options(r#"{"100": "network", "101": "network", "114": "network", "17": "network"}"#).unwrap();
    let subnet = options(r#"{"17": "subnet", "18": "subnet"}"#).unwrap();
    let profiles = parsed(
        r#"{"stable": {"options": {"101": "profile", "114": "profile", "18": null}, "boot": {"bios": "x.0"}}, "beta": {}}"#,
        |reader, value| profiles(reader, "x", value),
    );
    let hosts = parsed(
        r#"{"10.0.0.1": {"options": {"114": "address", "100": ""}}, "02:00:00:00:00:01": {"options": {"114": "MAC"}}}"#,
        |reader, value| hosts(reader, "x", value),
    );
    let custom =
        Custom { options: network.with(&subnet), profiles: profiles.unwrap(), hosts: hosts.unwrap() };
    let all = |pairs: &[(u8, &str)]| {
        pairs.iter().map(|(code, text)| (*code, (*text).to_owned())).collect::<Vec<_>>()
    };
    let of = |host: &Host| texts(&custom.of(Some(host)));
    let everybody = [(17, "subnet"), (18, "subnet"), (100, "network"), (101, "network"), (114, "network")];
    assert_eq!(texts(&custom.of(None)), all(&everybody));
    assert_eq!(of(&host(2, "beta")), all(&everybody));
    let profile = [(17, "subnet"), (100, "network"), (101, "profile"), (114, "profile")];
    assert_eq!(of(&host(2, "stable")), all(&profile));
    assert_eq!(of(&host(1, "stable")), all(&[(17, "subnet"), (101, "profile"), (114, "MAC")]));
    assert_eq!(
        custom.boot(Some(&host(2, "stable"))).and_then(|boot| boot.get(netboot_ebpf::Class::Bios)),
        Some("x.0")
    );
    assert_eq!(custom.boot(Some(&host(2, "other"))), None);
    assert!(!custom.of(None).on_request());
    let asked = options(r#"{"100": {"value": "x", "on_request": true}}"#).unwrap();
    assert!(Custom { options: asked, ..Custom::default() }.of(None).on_request());
    assert!(HostKey::Addr([10, 0, 0, 1].into()).names(&host(1, "x")));
}

#[test]
fn mistakes_in_profiles_and_hosts() {
    let profiles =
        |text: &str| parsed(text, |reader, value| profiles(reader, "x", value)).map(drop).unwrap_err();
    let hosts = |text: &str| parsed(text, |reader, value| hosts(reader, "x", value)).map(drop).unwrap_err();
    let table = [
        (profiles(r#"{"a/b": {}}"#), "f:1:8: `x.a/b` names no channel; write the name of a file"),
        (profiles(r#"{"a": []}"#), "f:1:13: `x.a` is a list, not an object"),
        (
            profiles(r#"{"a": {"opts": {}}}"#),
            "f:1:14: `x.a.opts` is not a setting; use one of: options, boot",
        ),
        (
            profiles(r#"{"a": {"boot": {"efi": "x"}}}"#),
            "f:1:23: `x.a.boot.efi` is not a setting; use one of: bios",
        ),
        (
            profiles(r#"{"a": {"boot": {"ipxe": "ipxe.efi"}}}"#),
            "f:1:31: `x.a.boot.ipxe` is \"ipxe.efi\"; write a script",
        ),
        (profiles(r#"{"a": {"options": {"66": "x"}}}"#), "f:1:26: `x.a.options.66` cannot be set here"),
        (hosts(r#"{"blade-1": {}}"#), "f:1:8: `x.blade-1` names no machine; write the MAC or the address"),
        (
            hosts(r#"{"10.0.0.1": {"boot": {}}}"#),
            "f:1:21: `x.10.0.0.1.boot` is not a setting; use one of: options",
        ),
        (
            hosts(r#"{"02:00:00:00:00:0a": {}, "2:0:0:0:0:A": {}}"#),
            "f:1:33: `x` has 02:00:00:00:00:0a a second time; keep one of the two",
        ),
    ];
    for (problem, expected) in table {
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
}

#[test]
fn what_counts_is_shown() {
    let custom = Custom {
        options: options(r#"{"42": {"value": ["10.0.0.1"], "on_request": true}, "26": null}"#).unwrap(),
        profiles: BTreeMap::from([("stable".to_owned(), Profile::default())]),
        hosts: BTreeMap::from([(HostKey::Mac(Mac([2, 0, 0, 0, 0, 1])), Options::default())]),
    };
    let want = serde_json::json!({
        "options": { "26": null, "42": { "type": "address", "value": ["10.0.0.1"], "bytes": "0a:00:00:01", "on_request": true } },
        "profiles": { "stable": { "options": {}, "boot": {} } },
        "hosts": { "02:00:00:00:00:01": {} },
    });
    assert_eq!(serde_json::to_value(&custom).unwrap(), want);
}
