//! A machine with a `uuid` boots with cards that nobody has reserved anything for: hand-made frames with option 97, and
//! systems without it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use netboot::mac::Mac;
use netboot::uuid::Uuid;
use tempfile::TempDir;
use xtask::lab::{Lab, SERVER_ADDR, Server, wait_for};

use crate::daemon::{NETBOOT, SOON, client, data, lab, udhcpc, value};
use crate::proxy::Foreign;
use crate::wire::{ACK, Ask, DISCOVER, OFFER, REQUEST, Wire, option};

const BLADE: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x77]);
const BLADE_ADDR: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 77);
/// Another card of the blade.
const CARD: Mac = Mac([0x52, 0x54, 0, 0, 9, 1]);
const UUID: Uuid =
    Uuid([0x4c, 0x4c, 0x45, 0x44, 0, 0x42, 0x35, 0x10, 0x80, 0x58, 0xb9, 0xc0, 0x4f, 0x4a, 0x33, 0x33]);
const OTHER: Uuid = Uuid([0x99; 16]);

/// A blade with a `uuid` and a boot file of its own.
fn blade(settings: &str) -> TempDir {
    let data = data(&format!(
        r#"{{ "hosts": {{ "{BLADE_ADDR}": {{ "macaddr": "{BLADE}", "$hostname": "blade77", "channel": "beta",
            "boot": "own.0", "uuid": "{UUID}" }} }} }}"#
    ));
    fs::create_dir(data.path().join("secrets")).unwrap();
    fs::write(data.path().join("tftp/own.0"), "x").unwrap();
    fs::write(data.path().join("tftp/pxelinux.0"), "x").unwrap();
    fs::write(data.path().join("netboot.json"), settings).unwrap();
    data
}

fn start(lab: &Lab, data: &TempDir, arguments: &[&str]) -> Server {
    Server::start(lab, Path::new(NETBOOT), data.path(), arguments).unwrap()
}

fn wire(lab: &Lab) -> (xtask::lab::Namespace, Wire) {
    let machines = lab.client("machines").unwrap();
    let wire = Wire::open(lab, &machines);
    (machines, wire)
}

/// As a BIOS PXE ROM asks, with the identifier as it stands in option 97.
fn rom(ask: Ask, wire: Uuid) -> Ask {
    let id = [&[0][..], &wire.0].concat();
    ask.with(60, b"PXEClient:Arch:00000:UNDI:002001").with(93, &[0, 0]).with(97, &id)
}

/// In the order of RFC 4578 2.3.
fn says(ask: Ask, uuid: Uuid) -> Ask {
    rom(ask, uuid.swapped())
}

/// A card is answered as the blade: its address, file, name and channel, in a frame to the card.
fn is_the_blade(wire: &Wire, ask: &Ask, message: u8) {
    let (reply, bytes) = wire.ask_all(ask, SOON).unwrap_or_else(|| panic!("no answer to {ask:?}"));
    assert_eq!((reply.message, reply.yiaddr, reply.mac), (message, BLADE_ADDR, ask.mac), "{ask:?}");
    if ask.unicast || !ask.ciaddr.is_unspecified() {
        assert_eq!(reply.to, ask.mac, "{ask:?}");
    }
    assert_eq!(option(&bytes, 12), Some(&b"blade77"[..]), "{ask:?}");
    assert!(bytes[108..].starts_with(b"own.0\0") || option(&bytes, 67) == Some(b"own.0"), "{ask:?}");
    assert_eq!(option(&bytes, 209), Some(&b"pxelinux.cfg/beta"[..]), "{ask:?}");
}

fn is_a_stranger(wire: &Wire, ask: &Ask) -> Ipv4Addr {
    let (reply, bytes) = wire.ask_all(ask, SOON).unwrap_or_else(|| panic!("no answer to {ask:?}"));
    assert_eq!((reply.message, reply.mac), (OFFER, ask.mac), "{ask:?}");
    assert_ne!(reply.yiaddr, BLADE_ADDR, "{ask:?}");
    assert_eq!(option(&bytes, 12), None, "{ask:?}");
    reply.yiaddr
}

/// Waits until the server has said that this is the blade's card: then it is on disk.
fn on_disk(server: &Server, card: Mac) {
    let line = format!("{card} is another card of blade77 (uuid {UUID})");
    assert!(wait_for(SOON, || server.child().output().contains(&line)), "{}", server.child().output());
    let told = server.child().output().matches(&line).count();
    assert_eq!(told, 1, "{}", server.child().output());
}

#[test]
fn a_strange_card_with_the_uuid_is_its_machine_and_stays_it_without_and_after_a_kill() {
    for xdp in ["generic", "off"] {
        let (lab, data) = (lab(), blade("{}"));
        let server = start(&lab, &data, &["--xdp", xdp]);
        let (_machines, wire) = wire(&lab);
        // A strange machine, a card that says nothing, and what is nobody's: as ever.
        let strange = Mac([0x52, 0x54, 0, 0, 9, 8]);
        is_a_stranger(&wire, &says(Ask::new(strange, 1, DISCOVER), OTHER));
        let silent = Ask::new(CARD, 2, DISCOVER);
        let before = is_a_stranger(&wire, &silent);
        is_a_stranger(&wire, &rom(Ask::new(strange, 3, DISCOVER), Uuid([0; 16])));

        is_the_blade(&wire, &says(Ask::new(CARD, 4, DISCOVER), UUID).unicast(), OFFER);
        let request = says(Ask::new(CARD, 5, REQUEST), UUID).requested(BLADE_ADDR).server(SERVER_ADDR);
        is_the_blade(&wire, &request.unicast(), ACK);
        on_disk(&server, CARD);
        // The system that runs then, which says nothing of it.
        is_the_blade(&wire, &Ask::new(CARD, 6, DISCOVER).unicast(), OFFER);
        is_the_blade(&wire, &Ask::new(CARD, 7, REQUEST).ciaddr(BLADE_ADDR), ACK);
        // The other way round, as some firmware says it.
        let odd = Mac([0x52, 0x54, 0, 0, 9, 2]);
        is_the_blade(&wire, &rom(Ask::new(odd, 8, DISCOVER), UUID), OFFER);
        on_disk(&server, odd);
        // Its own card is who it was.
        is_the_blade(&wire, &Ask::new(BLADE, 9, DISCOVER).unicast(), OFFER);
        let steps = server.steps();
        let of = |mac: Mac| steps.iter().filter(|step| step.text("mac") == mac.to_string()).count();
        assert!(of(BLADE) >= 5 && of(odd) == 0, "one machine on the timeline: {steps:?}");

        server.child().signal("KILL").unwrap();
        drop(server);
        let server = start(&lab, &data, &["--xdp", xdp]);
        is_the_blade(&wire, &Ask::new(CARD, 10, REQUEST).ciaddr(BLADE_ADDR), ACK);
        is_the_blade(&wire, &Ask::new(CARD, 11, REQUEST).requested(BLADE_ADDR), ACK);
        is_the_blade(&wire, &Ask::new(odd, 12, DISCOVER), OFFER);
        assert!(!server.child().output().contains("is another card"), "{}", server.child().output());

        // Taken out of the file, it is nobody's card; with another machine's identifier neither.
        is_a_stranger(&wire, &says(Ask::new(odd, 13, DISCOVER), OTHER));
        is_a_stranger(&wire, &Ask::new(odd, 14, DISCOVER));
        fs::write(data.path().join("pxe_hosts.json"), crate::daemon::BLADE).unwrap();
        let again = |xid| wire.ask(&Ask::new(CARD, xid, DISCOVER), SOON).map(|offer| offer.yiaddr);
        assert!(wait_for(SOON, || again(15).is_some_and(|addr| addr != BLADE_ADDR)), "{before}");
        server.stop().unwrap();
    }
}

#[cfg(feature = "fastpath")]
#[test]
fn a_lease_of_the_pool_does_not_keep_xdp_from_seeing_whose_card_it_is() {
    let (lab, data) = (lab(), blade(r#"{ "dhcp": { "probe": false } }"#));
    let hosts = data.path().join("pxe_hosts.json");
    let with_uuid = fs::read_to_string(&hosts).unwrap();
    fs::write(&hosts, crate::daemon::BLADE).unwrap();
    let server = start(&lab, &data, &["--xdp", "generic"]);
    let (_machines, wire) = wire(&lab);
    let leased = wire.obtain(CARD, 1, SOON).unwrap();
    assert_ne!(leased, BLADE_ADDR);
    let says_so = |xid| says(Ask::new(CARD, xid, DISCOVER), UUID);
    let by_xdp = |mac: Mac| {
        let steps = server.steps();
        steps.iter().filter(|step| step.text("by") == "xdp" && step.text("mac") == mac.to_string()).count()
    };
    assert!(wait_for(SOON, || {
        assert_eq!(wire.ask(&says_so(3), SOON).map(|offer| offer.yiaddr), Some(leased));
        by_xdp(CARD) > 0
    }));
    fs::write(&hosts, with_uuid).unwrap();
    assert!(wait_for(SOON, || wire.ask(&says_so(4), SOON).is_some_and(|offer| offer.yiaddr == BLADE_ADDR)));

    // A lease that comes now is not the program's either; it would be a moment after the ACK.
    let strange = Mac([0x52, 0x54, 0, 0, 9, 8]);
    for round in 0..20 {
        let addr = wire.obtain(strange, 100 + 2 * round, SOON);
        assert!(addr.is_some_and(|addr| addr != BLADE_ADDR), "{addr:?}");
    }
    assert_eq!(by_xdp(strange), 0, "{:?}", server.steps());
    // The blade's own card is still the program's.
    assert!(wait_for(SOON, || {
        is_the_blade(&wire, &Ask::new(BLADE, 5, DISCOVER), OFFER);
        by_xdp(BLADE) > 0
    }));
    server.stop().unwrap();
}

/// The machines that are listed as without a reservation.
fn waiting(lab: &Lab) -> Vec<String> {
    let hosts = lab.server.shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/hosts").unwrap();
    let hosts: serde_json::Value = serde_json::from_str(&hosts).unwrap();
    let machines = hosts["waiting"].as_array().unwrap();
    machines.iter().map(|machine| machine["mac"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn nobody_waits_for_approval_with_another_card() {
    for unknown in ["hold", "deny"] {
        let (lab, data) = (lab(), blade(&format!(r#"{{ "dhcp": {{ "unknown": "{unknown}" }} }}"#)));
        let hosts = data.path().join("pxe_hosts.json");
        let with_uuid = fs::read_to_string(&hosts).unwrap();
        fs::write(&hosts, crate::daemon::BLADE).unwrap();
        let server = start(&lab, &data, &["--xdp", "generic"]);
        let (machines, wire) = wire(&lab);
        // It waits until its UUID is written down; another says nothing of it yet.
        let silent = Mac([0x52, 0x54, 0, 0, 9, 2]);
        let held = if unknown == "hold" { vec![CARD, silent] } else { vec![] };
        assert!(wait_for(SOON, || {
            wire.send(&says(Ask::new(CARD, 1, DISCOVER), UUID));
            wire.send(&Ask::new(silent, 1, DISCOVER));
            waiting(&lab).len() == held.len()
        }));
        fs::write(&hosts, with_uuid).unwrap();
        let left = held.get(1).map(Mac::to_string);
        assert!(wait_for(SOON, || waiting(&lab) == Vec::from_iter(left.clone())), "{:?}", waiting(&lab));
        is_the_blade(&wire, &says(Ask::new(silent, 1, DISCOVER), UUID), OFFER);
        assert!(wait_for(SOON, || waiting(&lab).is_empty()), "{:?}", waiting(&lab));
        is_the_blade(&wire, &says(Ask::new(CARD, 2, DISCOVER), UUID), OFFER);
        let request = says(Ask::new(CARD, 3, REQUEST), UUID).requested(BLADE_ADDR).server(SERVER_ADDR);
        is_the_blade(&wire, &request, ACK);
        is_the_blade(&wire, &Ask::new(CARD, 4, DISCOVER), OFFER);
        drop((wire, machines));
        let told = udhcpc(&client(&lab, &CARD.to_string()), 5, &[]);
        assert_eq!((value(&told, "ip"), value(&told, "hostname")), ("192.168.90.77", "blade77"), "{told}");
        server.stop().unwrap();
    }
}

#[test]
fn beside_a_foreign_server_another_card_has_the_machines_boot_file() {
    let (lab, data) = (lab(), blade("{}"));
    let server = start(&lab, &data, &["--mode", "proxy"]);
    let _foreign = Foreign::start(&lab, &[]);
    let (_machines, wire) = wire(&lab);
    for (xid, id, file) in [(1, UUID.swapped(), "own.0"), (2, UUID, "own.0"), (3, OTHER, "pxelinux.0")] {
        let card = Mac([0x52, 0x54, 0, 0, 9, u8::try_from(xid).unwrap()]);
        let ours = || {
            wire.send(&rom(Ask::new(card, xid, DISCOVER), id));
            while let Some((reply, bytes)) = wire.hear_all(std::time::Duration::from_millis(500)) {
                if reply.xid == xid && option(&bytes, 54) == Some(&SERVER_ADDR.octets()[..]) {
                    return Some(bytes);
                }
            }
            None
        };
        let mut told = None;
        assert!(wait_for(SOON, || {
            told = ours();
            told.is_some()
        }));
        assert_eq!(option(&told.unwrap(), 67), Some(file.as_bytes()), "{xid}");
    }
    server.stop().unwrap();
}

#[test]
fn another_card_is_told_what_is_its_machines_alone() {
    let (lab, data) = (lab(), blade("{}"));
    fs::write(data.path().join("default.yaml"), "#cloud-config\npassword: $secret_pw\nname: $hostname\n")
        .unwrap();
    fs::write(data.path().join("secrets/pw"), "for the blade\n").unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(data.path().join("secrets/pw"), closed).unwrap();
    let server = start(&lab, &data, &[]);
    let (machines, wire) = wire(&lab);
    // It has asked before, and is not one of those who wait for a reservation.
    is_a_stranger(&wire, &Ask::new(CARD, 1, DISCOVER));
    is_the_blade(&wire, &says(Ask::new(CARD, 2, DISCOVER), UUID), OFFER);
    let request = says(Ask::new(CARD, 3, REQUEST), UUID).requested(BLADE_ADDR).server(SERVER_ADDR);
    is_the_blade(&wire, &request, ACK);
    drop((wire, machines));

    let machine = client(&lab, &CARD.to_string());
    machine.ip(&format!("addr add {BLADE_ADDR}/24 dev eth0")).unwrap();
    let get = |path: &str| {
        machine.shell(&format!("curl -s --max-time 5 'http://{SERVER_ADDR}:8080{path}'")).unwrap()
    };
    let own = "#cloud-config\npassword: for the blade\nname: blade77\n";
    for path in ["/".to_owned(), format!("/?mac={CARD}"), format!("/nocloud/{CARD}/user-data")] {
        assert_eq!(get(&path), own, "{path}");
    }
    assert!(!server.child().output().contains("may not see"), "{}", server.child().output());
    let card = CARD.to_string().replace(':', "-");
    let config = get(&format!("/tftp/pxelinux.cfg/01-{card}"));
    assert!(config.contains("coreos_beta_pxe.vmlinuz"), "{config}");
    let hosts = lab.server.shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/hosts").unwrap();
    let hosts: serde_json::Value = serde_json::from_str(&hosts).unwrap();
    assert_eq!(hosts["hosts"][0]["seen"]["reply"], "ack", "{hosts}");
    assert_eq!(hosts["waiting"], serde_json::json!([]), "{hosts}");
    let leases = lab.server.shell("curl -s --max-time 5 http://127.0.0.1:8080/api/v1/leases").unwrap();
    assert_eq!(leases, "[]");
    server.stop().unwrap();
}
