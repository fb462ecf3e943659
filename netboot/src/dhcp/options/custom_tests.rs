//! The options that people set by number, in replies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use netboot_ebpf::Class;
use netboot_ebpf::verdict::message;
use proptest::prelude::*;

use super::tests::{ECHO, client, subnet};
use super::{Client, HEADER, LARGEST, Subnet, boot_service, finish, inform, template_within};
use crate::config;
use crate::config::json::{Reader, Source};
use crate::config::options::{Custom, Options, Place, read};
use crate::dhcp::menu;
use crate::dhcp::packets::{options, value};
use crate::inventory::Snapshot;

fn set(text: &str) -> Options {
    let text = format!("{{\"x\": {text}}}");
    let source = Source::new(Path::new("f"), &text);
    let object = source.object().unwrap();
    let mut reader = Reader::new(&source);
    let options = read(&mut reader, "x", &object.properties[0].value, Place::Narrower);
    assert!(reader.problems.is_empty(), "{:?}", reader.problems);
    options
}

/// Nobody is reserved, and there is no profile.
static NOTHING: LazyLock<Snapshot> = LazyLock::new(Snapshot::default);

fn with(text: &str) -> Subnet {
    Subnet { custom: Custom { options: set(text), ..Custom::default() }, ..subnet() }
}

/// The reply with all the room that it wants.
fn reply(subnet: &Subnet, class: Class, asks: &[u8]) -> Vec<u8> {
    let client = Client { custom: subnet.custom.of(&NOTHING, None), asks, ..client(class) };
    finish(&template_within(subnet, &client, usize::MAX), message::ACK, &ECHO)
}

fn codes(reply: &[u8]) -> Vec<u8> {
    options(reply).0.iter().map(|(code, _)| *code).collect()
}

const LOADER: &str = r#"{"208": true, "209": "own.cfg", "210": "http://192.0.2.1/", "211": 60}"#;

#[test]
fn they_are_what_the_rfcs_say() {
    let subnet = with(
        r#"{"119": "blades.example", "121": "default via 192.168.90.1", "150": ["10.0.0.1", "10.0.0.2"], "42": "10.0.0.3"}"#,
    );
    let reply = reply(&subnet, Class::Bios, &[]);
    assert_eq!(value(&reply, 42), Some(vec![10, 0, 0, 3]));
    assert_eq!(value(&reply, 119), Some(b"\x06blades\x07example\0".to_vec()));
    assert_eq!(value(&reply, 121), Some(vec![0, 192, 168, 90, 1]));
    assert_eq!(value(&reply, 150), Some(vec![10, 0, 0, 1, 10, 0, 0, 2]));
    let plain =
        codes(&super::finish(&super::template(&super::tests::subnet(), &client(Class::Bios)), 5, &ECHO));
    let (behind, name_and_echo) = plain.split_at(plain.len() - 4);
    let want = [behind, &[42, 119, 121, 150], name_and_echo].concat();
    assert_eq!(codes(&reply), want, "behind the server's own, before the name and what is repeated");
}

#[test]
fn what_pxelinux_is_told() {
    for class in Class::ALL {
        let reply = reply(&with(LOADER), *class, &[]);
        assert_eq!(value(&reply, 208), Some(vec![0xf1, 0, 0x74, 0x7e]), "{class:?}");
        assert_eq!(value(&reply, 209), Some(b"own.cfg".to_vec()), "{class:?}: instead of the channel's");
        assert_eq!(value(&reply, 210), Some(b"http://192.0.2.1/".to_vec()), "{class:?}");
        assert_eq!(value(&reply, 211), Some(vec![0, 0, 0, 60]), "{class:?}");
    }
    let none = with(r#"{"209": null}"#);
    assert_eq!(value(&reply(&none, Class::Bios, &[]), 209), None);
}

#[test]
fn no_firmware_is_led_astray() {
    let subnet = with(r#"{"43": "01:02:03:04"}"#);
    for class in Class::ALL {
        let (now, before) = (reply(&subnet, *class, &[43]), reply(&super::tests::subnet(), *class, &[43]));
        if *class == Class::Plain {
            assert_eq!(value(&now, 43), Some(vec![1, 2, 3, 4]));
        } else {
            assert_eq!(now, before, "{class:?}");
        }
    }
    let gone = reply(&with(r#"{"43": null}"#), Class::Bios, &[]);
    assert_eq!(value(&gone, 43), Some(vec![6, 1, 8, 255]), "nor is what it needs taken away");
}

#[test]
fn the_servers_own_give_way() {
    let subnet = with(r#"{"3": "192.168.90.254", "6": null, "15": "other.example"}"#);
    for reply in [
        reply(&subnet, Class::Plain, &[]),
        finish(
            &inform(
                &subnet,
                &Client { custom: subnet.custom.of(&NOTHING, None), ..client(Class::Plain) },
                500,
            ),
            5,
            &ECHO,
        ),
    ] {
        assert_eq!(value(&reply, 3), Some(vec![192, 168, 90, 254]));
        assert_eq!(value(&reply, 6), None);
        assert_eq!(value(&reply, 15), Some(b"other.example".to_vec()));
    }
}

#[test]
fn some_are_for_those_who_ask() {
    let subnet = with(
        r#"{"42": {"value": "10.0.0.1", "on_request": true}, "3": {"value": "10.0.0.2", "on_request": true}, "100": "x"}"#,
    );
    let table: [(&[u8], bool, bool); 4] =
        [(&[], false, false), (&[1, 42], true, false), (&[3], false, true), (&[3, 42], true, true)];
    for (asks, ntp, router) in table {
        let reply = reply(&subnet, Class::Plain, asks);
        assert_eq!(value(&reply, 42), ntp.then_some(vec![10, 0, 0, 1]), "{asks:?}");
        assert_eq!(value(&reply, 3), router.then_some(vec![10, 0, 0, 2]), "{asks:?}");
        assert_eq!(value(&reply, 100), Some(b"x".to_vec()), "{asks:?}");
    }
}

#[test]
fn what_does_not_fit_goes_whole_and_in_order() {
    let subnet = with(
        r#"{"17": "always", "100": {"value": "asked", "on_request": true}, "114": "always", "160": {"value": "asked", "on_request": true}}"#,
    );
    let client =
        Client { custom: subnet.custom.of(&NOTHING, None), asks: &[100, 160], ..client(Class::Bios) };
    let all = template_within(&subnet, &client, usize::MAX);
    assert!(all.left_out().is_empty());
    let order = [160, 100, 114, 17, 66, 67, 28, 59, 58, 15];
    let mut left = 0;
    for longest in (HEADER..=all.bytes().len()).rev() {
        let template = template_within(&subnet, &client, longest);
        assert_eq!(template.left_out(), &order[..template.left_out().len()]);
        assert!(template.left_out().len() >= left, "less room, less said");
        left = template.left_out().len();
        assert!(template.bytes().len() <= longest || left == order.len());
        let ended = [template.bytes(), &[255]].concat();
        let said = options(&ended).0;
        for (code, value) in &options(&[all.bytes(), &[255]].concat()).0 {
            let here = said.iter().find(|(other, _)| other == code).map(|(_, value)| value);
            let gone = template.left_out().contains(code);
            assert_eq!(here, (!gone).then_some(value), "{code}: whole or not at all");
        }
    }
    assert_eq!(left, order.len());
}

#[test]
fn what_takes_the_place_of_the_servers_own_goes_last() {
    let long = "x".repeat(255);
    let subnet = with(&format!(r#"{{"209": "{long}", "42": "10.0.0.1"}}"#));
    let client = Client { custom: subnet.custom.of(&NOTHING, None), ..client(Class::Bios) };
    let template = template_within(&subnet, &client, ECHO.leaves(LARGEST));
    assert_eq!(template.left_out(), [42, 66, 67, 28, 59, 58, 15, 209]);
    assert!(finish(&template, message::OFFER, &ECHO).len() <= LARGEST);
}

#[test]
fn the_boot_service_tells_what_is_about_booting_alone() {
    let subnet = with(
        r#"{"3": "10.0.0.1", "42": "10.0.0.1", "43": "01", "150": "10.0.0.2", "209": "own.cfg", "210": "/x/", "119": "a.example"}"#,
    );
    let client = Client { custom: subnet.custom.of(&NOTHING, None), ..client(Class::Bios) };
    let set = |choice| {
        let reply = finish(&boot_service(&subnet, &client, choice, 500), message::ACK, &ECHO);
        codes(&reply)
            .into_iter()
            .filter(|code| [3, 42, 119, 150, 209, 210].contains(code))
            .collect::<Vec<_>>()
    };
    assert_eq!(set(None), [209, 150, 210]);
    let reply = finish(&boot_service(&subnet, &client, None, 500), message::ACK, &ECHO);
    assert_eq!(value(&reply, 209), Some(b"own.cfg".to_vec()));
    assert_eq!(value(&reply, 43), Some(vec![6, 1, 8, 255]));
    // What was chosen from the menu stands.
    let chosen = menu::choice(&[71, 4, 0x80, 1, 0, 0, 255]);
    assert!(chosen.is_some());
    let reply = finish(&boot_service(&subnet, &client, chosen, 500), message::ACK, &ECHO);
    assert_eq!(value(&reply, 209), Some(b"pxelinux.cfg/stable".to_vec()));
}

#[test]
fn room_is_what_client_and_interface_take() {
    let table = [
        (0, 1500, LARGEST),
        (576, 1500, LARGEST),
        (1472, 1500, 1444),
        (9000, 1500, 1472),
        (0, 400, 372),
        (10, 1500, 0),
    ];
    for (said, mtu, room) in table {
        assert_eq!(Subnet { mtu, ..subnet() }.room(said), room, "{said} {mtu}");
    }
}

#[test]
fn those_of_a_subnet_stand_over_those_of_everybody() {
    let behind = config::Subnet {
        prefix: "10.1.0.0/16".parse().unwrap(),
        relay: None,
        pool: vec![],
        exclude: vec![],
        lease_secs: None,
        router: None,
        dns: None,
        domain: None,
        options: set(r#"{"42": "10.1.0.1", "3": "10.1.0.2"}"#),
    };
    let subnet = with(r#"{"42": "192.168.90.1", "100": "x"}"#).behind_relay(&behind);
    let reply = reply(&subnet, Class::Plain, &[]);
    assert_eq!(value(&reply, 42), Some(vec![10, 1, 0, 1]));
    assert_eq!(value(&reply, 3), Some(vec![10, 1, 0, 2]));
    assert_eq!(value(&reply, 100), Some(b"x".to_vec()));
}

#[test]
fn a_removed_option_is_nothing_to_send() {
    let custom =
        Custom { options: set(r#"{"42": "10.0.0.1"}"#), profiles: BTreeMap::new(), hosts: BTreeMap::new() };
    let narrower = Custom { options: custom.options.with(&set(r#"{"42": ""}"#)), ..custom };
    let subnet = Subnet { custom: narrower, ..subnet() };
    assert_eq!(value(&reply(&subnet, Class::Plain, &[42]), 42), None);
}

/// Any codes but those that are refused, as bytes.
fn any_options() -> impl Strategy<Value = Vec<(u8, Vec<u8>, bool)>> {
    let code = prop_oneof![
        Just(3_u8),
        Just(15),
        Just(43),
        Just(209),
        16_u8..28,
        29_u8..50,
        68_u8..80,
        98_u8..118,
        119_u8..255
    ];
    let code = code.prop_filter("the server's own", |code| ![80, 97, 118].contains(code));
    prop::collection::vec((code, prop::collection::vec(any::<u8>(), 1..60), any::<bool>()), 0..12)
}

proptest! {
    #[test]
    fn whatever_is_set_the_reply_keeps_its_size_and_its_options_are_whole(
        mut wanted in any_options(), asks in prop::collection::vec(any::<u8>(), 0..20), class in 0_u8..13, room in 400_usize..1472,
    ) {
        wanted.sort();
        wanted.dedup_by_key(|(code, _, _)| *code);
        let hex = |bytes: &[u8]| {
            let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            pairs.join(":")
        };
        let written: Vec<String> = wanted
            .iter()
            .map(|(code, bytes, on_request)| {
                let bytes = hex(bytes);
                format!(r#""{code}": {{"type": "hex", "value": "{bytes}", "on_request": {on_request}}}"#)
            })
            .collect();
        let subnet = with(&format!("{{{}}}", written.join(", ")));
        let class = Class::from_number(class).unwrap();
        let client = Client { custom: subnet.custom.of(&NOTHING, None), asks: &asks, ..client(class) };
        let template = template_within(&subnet, &client, ECHO.leaves(room));
        let reply = finish(&template, message::ACK, &ECHO);
        prop_assert!(reply.len() <= room, "{} of {room}", reply.len());
        let (met, rest) = options(&reply);
        prop_assert!(rest.iter().all(|byte| *byte == 0));
        let mut codes: Vec<u8> = met.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        let all = codes.len();
        codes.dedup();
        prop_assert_eq!(codes.len(), all, "each once");
        prop_assert_eq!(&met.last().unwrap().0, &82);
        for (code, bytes, on_request) in &wanted {
            let said = met.iter().find(|(other, _)| other == code).map(|(_, value)| value);
            let due = (*code != 43 || class == Class::Plain) && (!on_request || asks.contains(code));
            if due && !template.left_out().contains(code) {
                prop_assert_eq!(said, Some(bytes));
            } else {
                prop_assert!(said != Some(bytes), "{code} was not to be sent");
            }
        }
    }
}
