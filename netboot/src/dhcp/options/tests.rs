use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use netboot_ebpf::Class;
use netboot_ebpf::abi::TEMPLATE_MAX;
use netboot_ebpf::verdict::message;
use proptest::prelude::*;

use super::{
    Client, Echo, HEADER, LARGEST, MESSAGE_AT, SMALLEST, Subnet, finish, inform, refusal, template,
    template_within,
};
use crate::config::options::{Custom, Layers};
use crate::config::{Boot, Menu, menu};
use crate::dhcp::packets::{options, value};
use crate::inventory::orders::When;
use crate::inventory::{Host, Order, Snapshot};
use crate::mac::Mac;

const ADDR: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 11);

pub(super) fn subnet() -> Subnet {
    Subnet {
        server: [192, 168, 90, 2].into(),
        prefix: "192.168.90.0/24".parse().unwrap(),
        lease_secs: 3600,
        routers: vec![[192, 168, 90, 2].into()],
        dns: vec![[192, 168, 90, 3].into(), [192, 168, 90, 4].into()],
        domain: Some("rack.example".into()),
        boot: Boot::default(),
        http_port: 8080,
        menu: None,
        custom: Custom::default(),
        rapid_commit: false,
        mtu: 1500,
    }
}

pub(super) fn client(class: Class) -> Client<'static> {
    let file = Some("pxelinux.0");
    Client {
        addr: ADDR,
        hostname: Some("blade-1"),
        channel: Some("stable"),
        lease_secs: 3600,
        class,
        file,
        custom: Layers::default(),
        asks: &[],
    }
}

pub(super) const ECHO: Echo<'_> = Echo {
    xid: [1, 2, 3, 4],
    secs: [5, 6],
    flags: [0x80, 7],
    ciaddr: [8, 9, 10, 11],
    giaddr: [12, 13, 14, 15],
    chaddr: [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31],
    guid: Some(&[0x97; 17]),
    client_id: Some(&[0x61; 7]),
    subnet_selection: None,
    rapid_commit: false,
    relay_info: Some(&[1, 2, 0x82, 0x82]),
};

#[test]
fn every_field_and_option_for_a_rom() {
    let reply = finish(&template(&subnet(), &client(Class::Bios)), message::ACK, &ECHO);
    assert_eq!(reply[..12], [2, 1, 6, 0, 1, 2, 3, 4, 5, 6, 0x80, 7]);
    assert_eq!(reply[12..28], [8, 9, 10, 11, 192, 168, 90, 11, 192, 168, 90, 2, 12, 13, 14, 15]);
    assert_eq!(reply[28..44], ECHO.chaddr);
    let field = |text: &str, length: usize| [text.as_bytes(), &vec![0; length - text.len()]].concat();
    assert_eq!(reply[44..108], field("192.168.90.2", 64));
    assert_eq!(reply[108..236], field("pxelinux.0", 128));
    assert_eq!(reply[MESSAGE_AT - 2..=MESSAGE_AT], [53, 1, message::ACK], "first");
    let want: Vec<(u8, Vec<u8>)> = vec![
        (53, vec![message::ACK]),
        (54, vec![192, 168, 90, 2]),
        (51, 3600_u32.to_be_bytes().to_vec()),
        (58, 1800_u32.to_be_bytes().to_vec()),
        (59, 3150_u32.to_be_bytes().to_vec()),
        (1, vec![255, 255, 255, 0]),
        (28, vec![192, 168, 90, 255]),
        (3, vec![192, 168, 90, 2]),
        (6, vec![192, 168, 90, 3, 192, 168, 90, 4]),
        (15, b"rack.example".to_vec()),
        (66, b"192.168.90.2".to_vec()),
        (67, b"pxelinux.0".to_vec()),
        (209, b"pxelinux.cfg/stable".to_vec()),
        (60, b"PXEClient".to_vec()),
        (43, vec![6, 1, 8, 255]),
        (12, b"blade-1".to_vec()),
        (97, vec![0x97; 17]),
        (61, vec![0x61; 7]),
        (82, vec![1, 2, 0x82, 0x82]),
    ];
    let (options, rest) = options(&reply);
    assert_eq!(options, want);
    assert!(rest.iter().all(|byte| *byte == 0), "nothing after END");
}

#[test]
fn what_is_repeated_stands_in_its_order() {
    let echo = Echo { subnet_selection: Some([10, 1, 0, 0].into()), rapid_commit: true, ..ECHO };
    let template = template(&subnet(), &client(Class::Plain));
    let reply = finish(&template, message::ACK, &echo);
    let (all, _) = options(&reply);
    let last: Vec<_> = all.iter().skip(all.len() - 5).map(|(code, value)| (*code, value.len())).collect();
    assert_eq!(last, [(97, 17), (61, 7), (118, 4), (80, 0), (82, 4)]);
    assert_eq!(value(&reply, 118), Some(vec![10, 1, 0, 0]));
    let unpadded = reply.len() - template.bytes().len();
    assert_eq!(echo.leaves(400), 400 - unpadded, "with END");
}

#[test]
fn the_class_decides_the_boot_part() {
    type Case = (Class, Option<&'static str>, Option<&'static str>, bool, Option<&'static [u8]>);
    const LOAD: Option<&[u8]> = Some(&[6, 1, 8, 255]);
    let url = "http://192.0.2.1/menu";
    // Class, its file, option 60, whether it is told its channel, option 43.
    let table: [Case; 15] = [
        (Class::Plain, Some("pxelinux.0"), None, true, None),
        (Class::Bios, Some("pxelinux.0"), Some("PXEClient"), true, LOAD),
        (Class::Ipxe, Some("boot.ipxe"), None, true, None),
        (Class::Ipxe, Some(url), None, true, None),
        (Class::Efi32, Some("grubia32.efi"), Some("PXEClient"), true, LOAD),
        (Class::Efi64, Some("grubx64.efi"), Some("PXEClient"), true, LOAD),
        (Class::Efiarm32, Some("grubarm.efi"), Some("PXEClient"), true, LOAD),
        (Class::Efiarm64, Some("grubaa64.efi"), Some("PXEClient"), true, LOAD),
        (Class::Http64, Some(url), Some("HTTPClient"), false, None),
        // Nothing to boot: an address, and no word of a PXE service that would not be there.
        (Class::Bios, None, None, false, None),
        (Class::Ipxe, None, None, false, None),
        (Class::Efi64, None, None, false, None),
        (Class::Http64, None, None, false, None),
        (Class::Other, None, None, false, None),
        (Class::Plain, None, None, false, None),
    ];
    for (class, file, vendor, channel, pxe) in table {
        let reply = finish(&template(&subnet(), &Client { file, ..client(class) }), message::OFFER, &ECHO);
        let text = |code| value(&reply, code).map(|value| String::from_utf8(value).unwrap());
        assert_eq!(text(67).as_deref(), file, "{class:?}");
        assert_eq!(text(66).is_some(), file.is_some(), "{class:?}");
        assert_eq!(text(209).is_some(), channel, "{class:?}");
        assert_eq!(text(60).as_deref(), vendor, "{class:?}");
        assert_eq!(value(&reply, 43).as_deref(), pxe, "{class:?}");
        let name = reply[108..236].split(|byte| *byte == 0).next().unwrap();
        assert_eq!(name, file.unwrap_or_default().as_bytes(), "{class:?}");
        assert_eq!(reply[44] != 0, file.is_some(), "sname, {class:?}");
        assert_eq!(reply[20..24], [192, 168, 90, 2], "siaddr in every reply");
        for code in [54, 97, 61, 82] {
            assert!(value(&reply, code).is_some(), "{code}, {class:?}");
        }
    }
}

#[test]
fn http_boot_gets_a_whole_url() {
    let table = [
        ("grubx64.efi", "http://192.168.90.2:8080/tftp/grubx64.efi"),
        ("/efi/grubx64.efi", "http://192.168.90.2:8080/tftp/efi/grubx64.efi"),
        ("https://192.0.2.1/x.efi", "https://192.0.2.1/x.efi"),
    ];
    for class in Class::ALL.iter().filter(|class| class.is_http()) {
        for (file, url) in table {
            let client = Client { file: Some(file), ..client(*class) };
            let reply = finish(&template(&subnet(), &client), message::ACK, &ECHO);
            assert_eq!(value(&reply, 67).unwrap(), url.as_bytes(), "{class:?}");
            assert_eq!(reply[108..108 + url.len()], *url.as_bytes(), "{class:?}");
            assert_eq!(value(&reply, 60).unwrap(), b"HTTPClient", "{class:?}");
        }
    }
}

/// As of [`Client::new`]: for the daemon and for XDP.
#[test]
fn what_was_ordered_is_fetched_as_the_script_of_this_server_is() {
    let own = |boot: &[(Class, &str)]| Host {
        mac: Mac([2, 0, 0, 0, 0, 1]),
        addr: ADDR,
        hostname: "blade-1".into(),
        channel: "stable".into(),
        template: None,
        marks: None,
        boot: boot.iter().copied().collect(),
        variables: BTreeMap::new(),
        ignition: None,
    };
    let host = own(&[]);
    let order = Order { profile: "stable".into(), when: When::Once };
    let ordered = Snapshot::new(BTreeMap::new(), vec![host.clone()])
        .with_orders(Arc::new(BTreeMap::from([(host.mac, order)])));
    let (script, url) = ("boot.ipxe", "http://192.168.90.2:8080/ipxe");
    let table = [
        (url, url),
        ("http://192.168.90.2:8080/tftp/boot.ipxe", "http://192.168.90.2:8080/tftp/boot.ipxe"),
        ("http://192.168.90.2:8080/tftp/menu.ipxe", script),
        ("http://192.0.2.1:8080/ipxe", script),
        ("menu.ipxe", script),
        ("", script),
    ];
    for (setting, expected) in table {
        let subnet = Subnet { boot: [(Class::Ipxe, setting)].into_iter().collect(), ..subnet() };
        let file = |snapshot: &Snapshot, host: &Host| {
            let client = Client::new(&subnet, snapshot, ADDR, Some(host), Class::Ipxe);
            client.file.map(str::to_owned)
        };
        assert_eq!(file(&ordered, &host).as_deref(), Some(expected), "{setting}");
        let usual = Some(setting).filter(|setting| !setting.is_empty());
        assert_eq!(file(&Snapshot::default(), &host).as_deref(), usual, "{setting}: nothing was ordered");
        // A path of the machine's own: its iPXE knows no HTTP.
        let own = own(&[(Class::Ipxe, script)]);
        assert_eq!(file(&ordered, &own).as_deref(), Some(script), "{setting}");
    }
}

#[test]
fn a_raspberry_pi_finds_its_menu() {
    for file in [None, Some("bootcode.bin")] {
        let reply =
            finish(&template(&subnet(), &Client { file, ..client(Class::Rpi) }), message::OFFER, &ECHO);
        assert_eq!(value(&reply, 60).unwrap(), b"PXEClient");
        assert_eq!(value(&reply, 66).unwrap(), b"192.168.90.2");
        assert_eq!(value(&reply, 67), file.map(|file| file.as_bytes().to_vec()));
        let start = HEADER + 4;
        let met: usize = options(&reply).0.iter().map(|(_, value)| 2 + value.len()).sum();
        assert_eq!(reply[start + met], 255, "no padding between the options");
        // Sub-options of option 43, each whole, END last (PXE 2.1, table 2-6).
        let menu = value(&reply, 43).unwrap();
        let mut rest = menu.as_slice();
        let mut parts = Vec::new();
        while let [code, length, after @ ..] = rest {
            let (part, after) = after.split_at(usize::from(*length));
            parts.push((*code, part));
            rest = after;
        }
        assert_eq!(rest, [255]);
        let item = b"\0\0\x11Raspberry Pi Boot";
        assert_eq!(parts, [(6, &[3][..]), (10, &b"\0PXE"[..]), (9, &item[..])]);
    }
}

#[test]
fn a_reply_that_is_too_long_loses_what_the_header_says_too() {
    let file = "f".repeat(127);
    let channel = "c".repeat(64);
    let client = Client { file: Some(&file), channel: Some(&channel), ..client(Class::Bios) };
    let codes = |subnet: &Subnet, longest| {
        let ended = [template_within(subnet, &client, longest).bytes(), &[255]].concat();
        options(&ended).0.iter().map(|(code, _)| *code).collect::<Vec<_>>()
    };
    let whole = codes(&subnet(), usize::MAX);
    let mut left = whole.clone();
    let mut lengths: Vec<usize> = (0..=600).collect();
    lengths.reverse();
    let mut gone: Vec<u8> = Vec::new();
    for longest in lengths {
        let now = codes(&subnet(), longest);
        gone.extend(left.iter().filter(|code| !now.contains(code)));
        left = now;
    }
    assert_eq!(gone, [66, 67, 28, 59, 58, 15], "one after the other, and no more");
    let reply = finish(&template(&subnet(), &client), message::ACK, &ECHO);
    assert!(reply.len() <= LARGEST, "{}", reply.len());
    assert_eq!(value(&reply, 67), None);
    assert_eq!(reply[108..235], *file.as_bytes(), "it is in the header");
    assert_eq!(reply[44..56], *b"192.168.90.2");
}

/// The worst that settings, inventory and clients with whom PXE works can ask for.
#[test]
fn no_legal_settings_make_a_reply_too_long() {
    let (hostname, channel, domain) = ("h".repeat(63), "c".repeat(64), "d".repeat(128));
    let many = vec![Ipv4Addr::new(192, 168, 100, 100); 8];
    let subnet = Subnet {
        server: [192, 168, 100, 100].into(),
        routers: many.clone(),
        dns: many,
        domain: Some(domain),
        http_port: 65535,
        menu: Some(longest_menu()),
        ..subnet()
    };
    for class in Class::ALL {
        let longest = if class.is_http() { 93 } else { 127 };
        let mut file = "f".repeat(longest);
        if *class == Class::Other {
            file.clear();
        } else {
            assert_eq!(
                crate::config::boot::rule(if *class == Class::Plain { Class::Bios } else { *class }, &file),
                Ok(())
            );
        }
        let client = Client {
            hostname: Some(&hostname),
            channel: Some(&channel),
            file: Some(&file),
            ..client(*class)
        };
        let template = template(&subnet, &client);
        assert!(template.bytes().len() <= TEMPLATE_MAX, "{class:?}: {}", template.bytes().len());
        // GUID and a client identifier made from it.
        let echo = Echo { guid: Some(&[1; 17]), client_id: Some(&[0; 17]), relay_info: None, ..ECHO };
        let reply = finish(&template, message::ACK, &echo);
        assert!(reply.len() <= LARGEST, "{class:?}: {}", reply.len());
        let shows = class.is_pxe() && *class != Class::Rpi;
        let menu = value(&reply, 43).is_some_and(|option| option.len() == menu::LONGEST);
        assert_eq!(menu, shows, "it is all there, {class:?}");
    }
}

/// As long as the settings allow.
fn longest_menu() -> Menu {
    let items = vec!["local".to_owned(), "a".repeat(64), "b".repeat(64)];
    let menu = Menu { prompt: "p".repeat(28), timeout_secs: 5, items };
    assert_eq!(menu.length(), menu::LONGEST);
    menu
}

#[test]
fn what_is_not_set_is_left_out() {
    let subnet = Subnet { routers: vec![], dns: vec![], domain: None, ..subnet() };
    let client = Client { hostname: None, channel: None, file: None, ..client(Class::Other) };
    let reply = finish(&template(&subnet, &client), message::OFFER, &Echo::default());
    for code in [3, 6, 12, 15, 209, 60, 43, 97, 61, 82] {
        assert_eq!(value(&reply, code), None, "{code}");
    }
    assert_eq!(reply.len(), SMALLEST);
}

#[test]
fn an_inform_is_answered_without_a_lease() {
    let reply = finish(&inform(&subnet(), &client(Class::Plain), TEMPLATE_MAX), message::ACK, &ECHO);
    assert_eq!(reply[16..20], [0; 4], "yiaddr");
    for code in [51, 58, 59] {
        assert_eq!(value(&reply, code), None, "{code}");
    }
    for code in [1, 3, 6, 12, 54, 67, 209] {
        assert!(value(&reply, code).is_some(), "{code}");
    }
}

/// As EDK II does it in its copy of the packet (`PxeBcParseDhcp4Packet`).
#[test]
fn a_nul_behind_the_boot_file_hits_no_option() {
    for class in Class::ALL.iter().filter(|class| **class != Class::Rpi) {
        let mut reply = finish(&template(&subnet(), &client(*class)), message::OFFER, &ECHO);
        let before = options(&reply).0;
        let name = value(&reply, 67).unwrap();
        let at = (HEADER..reply.len()).find(|at| reply[*at..].starts_with(&name)).unwrap();
        reply[at + name.len()] = 0;
        assert_eq!(options(&reply).0, before, "{class:?}");
    }
}

#[test]
fn a_refusal_has_nothing_to_be_taken_for_a_lease() {
    let echo = Echo { ciaddr: [0; 4], guid: None, ..ECHO };
    let reply = finish(&refusal([192, 168, 90, 2].into(), "no"), message::NAK, &echo);
    assert_eq!(reply[12..24], [0; 12], "ciaddr, yiaddr, siaddr");
    assert_eq!(reply[44..HEADER], [0; HEADER - 44], "sname, file");
    let codes: Vec<u8> = options(&reply).0.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 54, 56, 61, 82]);
    assert_eq!(value(&reply, 53), Some(vec![message::NAK]));
    assert_eq!(reply.len(), SMALLEST);
}

#[test]
fn long_names_stay_whole() {
    let file = "d/".repeat(100);
    let client = Client { file: Some(&file), ..client(Class::Bios) };
    let reply = finish(&template(&subnet(), &client), message::ACK, &ECHO);
    assert_eq!(value(&reply, 67).unwrap(), "d/".repeat(100).as_bytes());
    assert_eq!(reply[108..236], [0; 128], "a name that does not fit is not cut");
    let long = [7; 300];
    let echo = Echo { client_id: Some(&long), ..ECHO };
    let reply = finish(&template(&subnet(), &client), message::ACK, &echo);
    let parts: Vec<usize> =
        options(&reply).0.iter().filter(|(code, _)| *code == 61).map(|(_, part)| part.len()).collect();
    assert_eq!(parts, [255, 45]);
}

proptest! {
    #[test]
    fn templates_and_replies_keep_the_rule(
        hostname in "[a-z0-9-]{0,63}", channel in "[a-z]{0,20}", file in "[a-z/.]{0,127}", domain in "[a-z.]{0,80}",
        dns in prop::collection::vec(any::<u32>(), 0..5),
        guid in prop::collection::vec(any::<u8>(), 0..20), client_id in prop::collection::vec(any::<u8>(), 0..40),
        class in 0_u8..13, message in 1_u8..=8, room in 300_usize..600,
    ) {
        let dns: Vec<Ipv4Addr> = dns.into_iter().map(Ipv4Addr::from).collect();
        let subnet = Subnet { domain: Some(domain), dns, ..subnet() };
        let class = Class::from_number(class).unwrap();
        let mut file = file;
        if class.is_http() {
            file.truncate(93);
        }
        let client = Client { hostname: Some(&hostname), channel: Some(&channel), file: Some(&file), ..client(class) };
        let template = template(&subnet, &client);
        let bytes = template.bytes();
        prop_assert_eq!([template.before_name(), template.name()].concat(), bytes);
        if template.left_out().is_empty() {
            let nameless = super::template(&subnet, &Client { hostname: None, ..client });
            prop_assert_eq!(template.before_name(), nameless.bytes(), "what machines that are alike have in common");
            let length = u8::try_from(hostname.len()).unwrap();
            let name = [&[12, length], hostname.as_bytes()].concat();
            prop_assert_eq!(template.name(), if hostname.is_empty() { &[][..] } else { &name });
        }
        prop_assert_eq!(&bytes[HEADER + 4..=MESSAGE_AT], &[53, 1, 0]);
        // No END in the template: with one put behind it, all of it is read.
        let ended = [bytes, &[255]].concat();
        let (_, rest) = options(&ended);
        prop_assert!(rest.is_empty());
        prop_assert!(bytes.len() <= TEMPLATE_MAX);

        let echo = Echo { guid: Some(&guid), client_id: Some(&client_id), ..ECHO };
        let reply = finish(&template, message, &echo);
        prop_assert!(reply.len() >= SMALLEST);
        let (met, rest) = options(&reply);
        prop_assert!(rest.iter().all(|byte| *byte == 0));
        prop_assert_eq!(&met[0], &(53, vec![message]));
        prop_assert_eq!(met.last().unwrap().0, 82);

        // Made to fit: what the XDP program sends is what the daemon sends, wherever that fits.
        let fitted = template_within(&subnet, &client, echo.leaves(room));
        if reply.len() <= room && template.left_out().is_empty() {
            prop_assert_eq!(&fitted, &template);
        }
        let more = template.left_out().iter().filter(|code| !fitted.left_out().contains(code)).count();
        prop_assert!(fitted.bytes().len() <= template.bytes().len() || more > 0);
    }
}
