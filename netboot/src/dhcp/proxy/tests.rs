use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use netboot_ebpf::verdict::message::{ACK, DECLINE, DISCOVER, INFORM, OFFER, RELEASE, REQUEST};
use netboot_ebpf::{Class, Reason};
use proptest::prelude::*;

use super::{Addressed, Change, Outcome, Reply, Route, View, decide};
use crate::config::options::Custom;
use crate::config::{Boot, Dhcp, Menu, Unknown};
use crate::dhcp::leases::Leases;
use crate::dhcp::options::{LARGEST, SMALLEST, Subnet};
use crate::dhcp::packets::{Packet, options, value};
use crate::dhcp::{menu, wire};
use crate::inventory::{Host, Loaders, Snapshot};
use crate::mac::Mac;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 2);
const ADDR: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 77);
/// Reserved, with the channel `beta`.
const BLADE: Mac = Mac([0x52, 0x54, 0, 0, 0, 0xb1]);
const STRANGER: Mac = Mac([0x52, 0x54, 0, 0, 0, 0xc1]);
const LOAD: &[u8] = &[6, 1, 8, 255];
/// Port 67, and port 4011 asked from there.
const OFFERS: Addressed = Addressed::Broadcast;
const CLIENT: SocketAddrV4 = SocketAddrV4::new(ADDR, 4011);
const BOOTS: Addressed = Addressed::BootService(CLIENT);

/// A server beside another one.
struct World {
    subnet: Subnet,
    snapshot: Snapshot,
    settings: Dhcp,
}

fn world() -> World {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("tftp")).unwrap();
    for file in ["pxelinux.0", "grubx64.efi", "boot.ipxe"] {
        std::fs::write(data.path().join("tftp").join(file), "x").unwrap();
    }
    let host = Host {
        mac: BLADE,
        addr: [192, 168, 90, 11].into(),
        hostname: "blade-1".into(),
        channel: "beta".into(),
        template: None,
        boot: Boot::default(),
        variables: BTreeMap::new(),
        ignition: None,
    };
    let subnet = Subnet {
        server: SERVER,
        prefix: "192.168.90.0/24".parse().unwrap(),
        lease_secs: 3600,
        routers: vec![SERVER],
        dns: vec![SERVER],
        domain: Some("rack.example".into()),
        boot: Boot::default(),
        http_port: 8080,
        menu: None,
        custom: Custom::default(),
        rapid_commit: false,
        mtu: 1500,
    };
    let snapshot = Snapshot::new(BTreeMap::new(), vec![host]).with_loaders(Loaders::find(data.path()));
    World { subnet, snapshot, settings: Dhcp::default() }
}

fn with_menu() -> World {
    let mut world = world();
    let items = ["local", "stable", "beta"].map(str::to_owned).into();
    world.subnet.menu = Some(Menu { prompt: "F8?".into(), timeout_secs: 5, items });
    world
}

impl World {
    fn ask(&self, packet: &Packet, addressed: Addressed) -> Outcome {
        let request = wire::decode(&packet.bytes()).unwrap();
        let leases = Leases::default();
        let view = View {
            subnet: &self.subnet,
            snapshot: &self.snapshot,
            leases: &leases,
            on_link: true,
            settings: &self.settings,
            now: 1_800_000_000,
        };
        decide(&request, addressed, &view)
    }

    /// The reply, which changes no lease in any case and gives no address.
    fn reply(&self, packet: &Packet, addressed: Addressed) -> Reply {
        let Outcome::Reply(reply, Change::None) = self.ask(packet, addressed) else {
            panic!("{:?}", self.ask(packet, addressed));
        };
        // Who says that it takes more may get more.
        let said = packet.options.iter().find(|(code, value)| *code == 57 && *value != [0, 0]);
        let largest = said.map_or(LARGEST, |(_, value)| {
            let size = u16::from_be_bytes(value.as_slice().try_into().unwrap());
            usize::from(size.min(1500)) - 28
        });
        assert!((SMALLEST..=largest).contains(&reply.bytes.len()));
        assert_eq!(reply.bytes[16..20], [0; 4], "yiaddr");
        for code in [1, 3, 6, 12, 15, 28, 51, 58, 59] {
            assert_eq!(value(&reply.bytes, code), None, "option {code} goes with an address");
        }
        assert_eq!(reply.bytes[20..24], SERVER.octets(), "siaddr");
        assert_eq!(value(&reply.bytes, 54).unwrap(), SERVER.octets());
        reply
    }

    fn silent(&self, packet: &Packet, addressed: Addressed) -> Reason {
        match self.ask(packet, addressed) {
            Outcome::Ignore(reason, Change::None) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn text(reply: &Reply, code: u8) -> Option<String> {
    value(&reply.bytes, code).map(|value| String::from_utf8(value).unwrap())
}

fn client(mac: Mac, vendor: &str, arch: u8) -> Packet {
    Packet::new(mac).with(60, vendor).with(93, [0, arch])
}

fn bios(mac: Mac) -> Packet {
    Packet::new(mac).bios()
}

fn efi(mac: Mac) -> Packet {
    client(mac, "PXEClient:Arch:00007:UNDI:003016", 7)
}

fn ipxe(mac: Mac) -> Packet {
    client(mac, "PXEClient:Arch:00000:UNDI:002001", 0).with(77, "iPXE").with(175, [1, 1, 1])
}

fn http(mac: Mac) -> Packet {
    client(mac, "HTTPClient:Arch:00016:UNDI:003001", 16)
}

fn pi(mac: Mac) -> Packet {
    client(mac, "PXEClient:Arch:00041:UNDI:002001", 41)
}

/// A REQUEST to port 4011 by who has an address.
fn asks(packet: Packet) -> Packet {
    packet.message(REQUEST).ciaddr(ADDR)
}

/// The same with an item of the menu.
fn chooses(packet: Packet, kind: [u8; 2]) -> Packet {
    asks(packet).with(43, [&[71, 4], kind.as_slice(), &[0, 0, 255]].concat())
}

#[test]
fn who_boots_is_told_what_and_gets_no_address() {
    let url = "http://192.168.90.2:8080/tftp/grubx64.efi";
    let pxe = Some("PXEClient");
    // Class, option 60, boot file, whether it is told its channel, option 43.
    let table = [
        (bios(BLADE), pxe, Some("pxelinux.0"), true, Some(LOAD)),
        (efi(BLADE), pxe, Some("grubx64.efi"), true, Some(LOAD)),
        (http(BLADE), Some("HTTPClient"), Some(url), false, None),
        // No option 43, or its script would not be fetched.
        (ipxe(BLADE), pxe, Some("boot.ipxe"), true, None),
    ];
    for (packet, vendor, file, channel, how) in table {
        let offer = world().reply(&packet, OFFERS);
        assert_eq!((offer.message, offer.route), (OFFER, Route::Broadcast), "it has no address to send to");
        assert_eq!(offer.bytes[12..16], [0; 4], "ciaddr");
        let ack = world().reply(&asks(packet.clone()), BOOTS);
        assert_eq!((ack.message, ack.route, ack.addr), (ACK, Route::BootService(CLIENT), ADDR));
        assert_eq!(ack.bytes[12..16], ADDR.octets(), "ciaddr");
        for reply in [offer, ack] {
            assert_eq!(text(&reply, 60).as_deref(), vendor, "{packet:?}");
            assert_eq!(text(&reply, 67).as_deref(), file, "{packet:?}");
            assert_eq!(text(&reply, 66).as_deref(), Some("192.168.90.2"));
            let name = reply.bytes[108..236].split(|byte| *byte == 0).next().unwrap();
            assert_eq!(name, file.unwrap_or_default().as_bytes(), "{packet:?}");
            assert_eq!(reply.bytes[44..56], *b"192.168.90.2", "sname");
            assert_eq!(value(&reply.bytes, 43).as_deref(), how, "{packet:?}");
            let told = channel.then_some("pxelinux.cfg/beta");
            assert_eq!(text(&reply, 209).as_deref(), told, "{packet:?}");
        }
        let stranger = Packet { header: Packet::new(STRANGER).header, ..packet };
        let offer = world().reply(&stranger, OFFERS);
        assert_eq!(text(&offer, 67).as_deref(), file, "without a reservation, too");
        assert_eq!(text(&offer, 209), None);
    }
    let guid = world().reply(&bios(BLADE).with(61, [1, 2, 3]), OFFERS);
    let codes: Vec<u8> = options(&guid.bytes).0.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 54, 66, 67, 209, 60, 43, 97, 61]);
    let pi = world().reply(&pi(BLADE), OFFERS);
    assert!(value(&pi.bytes, 43).is_some_and(|how| how.ends_with(b"Raspberry Pi Boot\xff")));
}

#[test]
fn ipxe_is_never_told_to_load_ipxe() {
    let mut world = world();
    world.subnet.boot = Boot::from_iter([(Class::Bios, "undionly.kpxe")]);
    world.snapshot = world.snapshot.with_loaders(Loaders::default());
    assert_eq!(text(&world.reply(&bios(BLADE), OFFERS), 67).as_deref(), Some("undionly.kpxe"));
    assert_eq!(world.silent(&ipxe(BLADE), OFFERS), Reason::NoBootFile);
    assert_eq!(world.silent(&asks(ipxe(BLADE)), BOOTS), Reason::NoBootFile);
}

#[test]
fn what_is_the_other_servers_is_left_to_it() {
    let other = [192, 168, 90, 3].into();
    let far = Addressed::BootService("10.0.0.1:68".parse().unwrap());
    let table = [
        ("a system", Packet::new(BLADE), OFFERS, Reason::NotBootClient),
        ("a system by unicast", Packet::new(BLADE), Addressed::Server, Reason::NotBootClient),
        (
            "unknown firmware",
            client(BLADE, "PXEClient:Arch:00002:UNDI:002001", 2),
            OFFERS,
            Reason::NoBootFile,
        ),
        (
            "selecting",
            bios(BLADE).message(REQUEST).requested(ADDR).server_id(other),
            OFFERS,
            Reason::OtherServer,
        ),
        (
            "selecting us",
            bios(BLADE).message(REQUEST).requested(ADDR).server_id(SERVER),
            OFFERS,
            Reason::OtherServer,
        ),
        (
            "renewing",
            Packet::new(BLADE).message(REQUEST).ciaddr(ADDR),
            Addressed::Server,
            Reason::OtherServer,
        ),
        ("rebooting", Packet::new(STRANGER).message(REQUEST).requested(ADDR), OFFERS, Reason::OtherServer),
        ("releasing", bios(BLADE).message(RELEASE).ciaddr(ADDR), OFFERS, Reason::OtherServer),
        ("declining", bios(BLADE).message(DECLINE).requested(ADDR), OFFERS, Reason::OtherServer),
        ("informing", bios(BLADE).message(INFORM).ciaddr(ADDR), OFFERS, Reason::OtherServer),
        ("a relay agent at 4011", asks(bios(BLADE)).at(24, &[192, 168, 90, 1]), BOOTS, Reason::Relayed),
        ("a reply", bios(BLADE).message(OFFER), OFFERS, Reason::MessageType),
        ("a system at 4011", asks(Packet::new(BLADE)), BOOTS, Reason::NotBootClient),
        ("looking at 4011", bios(BLADE).message(DISCOVER), BOOTS, Reason::MessageType),
        ("from elsewhere", asks(bios(BLADE)), far, Reason::WrongAddress),
        (
            "as ourselves",
            asks(bios(BLADE)),
            Addressed::BootService(SocketAddrV4::new(SERVER, 68)),
            Reason::WrongAddress,
        ),
    ];
    for (name, packet, addressed, reason) in table {
        assert_eq!(world().silent(&packet, addressed), reason, "{name}");
    }
}

#[test]
fn behind_a_relay_agent_the_offer_goes_to_it_and_then_to_everybody() {
    let agent = [192, 168, 90, 1];
    let reply = world().reply(&bios(BLADE).at(24, &agent).with(82, [11, 4, 10, 0, 0, 1]), Addressed::Server);
    assert_eq!((reply.message, reply.route), (OFFER, Route::Relay(agent.into())));
    assert_eq!(reply.bytes[10], 0x80, "it has no address that the agent could send it to");
    assert_eq!(reply.bytes[24..28], agent, "giaddr");
    assert_eq!(value(&reply.bytes, 82).unwrap(), [11, 4, 10, 0, 0, 1]);
    // Not the agent's, as it would like: port 4011 is here.
    assert_eq!(value(&reply.bytes, 54).unwrap(), SERVER.octets());
}

#[test]
fn port_4011_answers_where_the_question_came_from() {
    let inform = world().reply(&asks(efi(BLADE)).message(INFORM), BOOTS);
    assert_eq!(
        (inform.message, inform.route),
        (ACK, Route::BootService(CLIENT)),
        "some firmware says INFORM"
    );
    // Firmware that does not fill in its address anywhere but in the message, or not even there.
    let unnamed = Addressed::BootService(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68));
    let reply = world().reply(&asks(bios(BLADE)), unnamed);
    assert_eq!(reply.route, Route::BootService(SocketAddrV4::new(ADDR, 68)));
    assert_eq!(world().silent(&bios(BLADE).message(REQUEST), unnamed), Reason::WrongAddress);
    let reply = world().reply(&bios(BLADE).message(REQUEST), BOOTS);
    assert_eq!(reply.route, Route::BootService(CLIENT));
}

#[test]
fn an_empty_boot_file_turns_it_off_for_a_class_or_a_machine() {
    let mut world = world();
    world.subnet.boot = Boot::from_iter([(Class::Efi64, ""), (Class::Rpi, ""), (Class::Ipxe, "")]);
    for packet in [efi(STRANGER), pi(STRANGER), ipxe(STRANGER)] {
        assert_eq!(world.silent(&packet, OFFERS), Reason::NoBootFile);
        assert_eq!(world.silent(&asks(packet), BOOTS), Reason::NoBootFile);
    }
    assert_eq!(text(&world.reply(&bios(STRANGER), OFFERS), 67).as_deref(), Some("pxelinux.0"));
    let own = |file: &str| {
        let host = world.snapshot.by_mac(BLADE).unwrap();
        let host =
            Host { boot: Boot::from_iter([(Class::Bios, file), (Class::Efi64, "own.efi")]), ..host.clone() };
        let (subnet, snapshot) = (world.subnet.clone(), Snapshot::new(BTreeMap::new(), vec![host]));
        World { subnet, snapshot, settings: Dhcp::default() }
    };
    assert_eq!(own("").silent(&bios(BLADE), OFFERS), Reason::NoBootFile);
    assert_eq!(text(&own("memtest.0").reply(&bios(BLADE), OFFERS), 67).as_deref(), Some("memtest.0"));
    assert_eq!(text(&own("").reply(&efi(BLADE), OFFERS), 67).as_deref(), Some("own.efi"));
}

#[test]
fn firmware_sees_the_menu_and_ipxe_does_not() {
    let world = with_menu();
    let shown = menu::shown(world.subnet.menu.as_ref().unwrap(), SERVER);
    for packet in [bios(BLADE), efi(BLADE), bios(STRANGER)] {
        assert_eq!(value(&world.reply(&packet, OFFERS).bytes, 43).unwrap(), shown);
        assert_eq!(value(&world.reply(&asks(packet), BOOTS).bytes, 43).unwrap(), shown);
    }
    for packet in [ipxe(BLADE), http(BLADE)] {
        assert_eq!(value(&world.reply(&packet, OFFERS).bytes, 43), None);
        assert_eq!(value(&world.reply(&asks(packet), BOOTS).bytes, 43), None);
    }
    let pi = world.reply(&pi(BLADE), OFFERS);
    assert!(value(&pi.bytes, 43).is_some_and(|how| how.ends_with(b"Raspberry Pi Boot\xff")));
}

#[test]
fn what_was_chosen_is_what_is_booted() {
    let world = with_menu();
    let table = [
        (BLADE, [0x80, 1], "pxelinux.cfg/stable"),
        (BLADE, [0x80, 2], "pxelinux.cfg/beta"),
        (STRANGER, [0x80, 1], "pxelinux.cfg/stable"),
        // The boot file of this server, whatever it is.
        (BLADE, [0, 0], "pxelinux.cfg/beta"),
    ];
    for (mac, kind, channel) in table {
        for packet in [bios(mac), efi(mac)] {
            let reply = world.reply(&chooses(packet, kind), BOOTS);
            assert_eq!(text(&reply, 209).as_deref(), Some(channel), "{kind:?}");
            assert_eq!(value(&reply.bytes, 43).unwrap(), [71, 4, kind[0], kind[1], 0, 0, 255]);
            assert!(text(&reply, 67).is_some());
        }
    }
    for kind in [[0x80, 0], [0x80, 3], [0, 1]] {
        assert_eq!(world.silent(&chooses(bios(BLADE), kind), BOOTS), Reason::NoMenuItem, "{kind:?}");
    }
    let none = self::world();
    assert_eq!(none.silent(&chooses(bios(BLADE), [0x80, 1]), BOOTS), Reason::NoMenuItem, "no menu any more");
    assert_eq!(
        text(&none.reply(&chooses(bios(BLADE), [0, 0]), BOOTS), 209).as_deref(),
        Some("pxelinux.cfg/beta")
    );
}

#[test]
fn a_client_that_takes_little_gets_little_or_nothing() {
    let world = with_menu();
    let short = world.reply(&bios(BLADE).with(57, [1, 164]), OFFERS);
    assert!(short.bytes.len() <= 420 - 28);
    assert_eq!(short.bytes[108..118], *b"pxelinux.0", "it is in the header");
    assert!(value(&short.bytes, 43).is_some());
    assert_eq!(world.silent(&bios(BLADE).with(57, [1, 0]), OFFERS), Reason::TooSmall);
}

#[test]
fn machines_without_a_reservation_may_be_held_or_denied_here_too() {
    for (unknown, reason) in [(Unknown::Hold, Reason::Held), (Unknown::Deny, Reason::Denied)] {
        let mut world = world();
        world.settings.unknown = unknown;
        assert_eq!(world.silent(&bios(STRANGER), OFFERS), reason);
        assert_eq!(world.silent(&asks(bios(STRANGER)), BOOTS), reason);
        assert_eq!(world.silent(&Packet::new(STRANGER), OFFERS), Reason::NotBootClient);
        assert_eq!(world.reply(&bios(BLADE), OFFERS).message, OFFER);
        assert_eq!(world.reply(&asks(bios(BLADE)), BOOTS).message, ACK);
    }
}

proptest! {
    #[test]
    fn nobody_is_given_or_refused_an_address_whatever_he_asks(
        message in 0_u8..10, vendor in prop::sample::select(vec!["", "PXEClient", "PXEClient:Arch:00007", "HTTPClient"]),
        arch in 0_u8..45, ipxe in any::<bool>(), reserved in any::<bool>(), menu in any::<bool>(),
        ciaddr in prop::sample::select(vec![[0; 4], ADDR.octets(), [10, 0, 0, 1]]),
        giaddr in prop::sample::select(vec![[0; 4], [192, 168, 90, 1]]),
        option in prop::collection::vec(any::<u8>(), 1..20), room in 0_u16..1500,
        from in prop::option::of(prop::sample::select(vec![[0; 4], ADDR.octets(), [10, 0, 0, 1]])),
        echo in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let world = if menu { with_menu() } else { world() };
        let mut packet = Packet::new(if reserved { BLADE } else { STRANGER })
            .message(message).with(93, [0, arch]).with(43, option).with(57, room.to_be_bytes())
            .with(61, echo).at(12, &ciaddr).at(24, &giaddr);
        if !vendor.is_empty() {
            packet = packet.with(60, vendor);
        }
        if ipxe {
            packet = packet.with(77, "iPXE");
        }
        let Ok(_) = wire::decode(&packet.bytes()) else { return Ok(()) };
        let from = from.map(|from| Addressed::BootService(SocketAddrV4::new(from.into(), 68)));
        let addressed = from.unwrap_or(OFFERS);
        match world.ask(&packet, addressed) {
            Outcome::Ignore(_, change) => prop_assert_eq!(change, Change::None),
            Outcome::Reply(..) => {
                let reply = world.reply(&packet, addressed);
                prop_assert_eq!(reply.message, if addressed == OFFERS { OFFER } else { ACK });
                prop_assert!(room == 0 || reply.bytes.len() + 28 <= usize::from(room));
                let vendor = value(&reply.bytes, 60).unwrap();
                prop_assert!(vendor == b"PXEClient" || vendor == b"HTTPClient");
                prop_assert!(!ipxe || value(&reply.bytes, 43).is_none_or(|option| option[0] == 71));
            }
        }
    }
}
