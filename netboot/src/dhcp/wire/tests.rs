use std::net::Ipv4Addr;

use netboot_ebpf::verdict::message;
use netboot_ebpf::{Class, Reason};
use proptest::prelude::*;

use super::{Request, decode, sender};
use crate::dhcp::packets::{Packet, option};
use crate::mac::Mac;

const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

fn packet() -> Packet {
    Packet::new(MAC)
}

fn read(packet: &Packet) -> Request {
    decode(&packet.bytes()).unwrap()
}

#[test]
fn every_field_and_option() {
    let request = read(
        &packet()
            .bios()
            .message(message::REQUEST)
            .at(3, &[1])
            .at(10, &[0x80, 1])
            .ciaddr([10, 0, 0, 3].into())
            .at(24, &[10, 0, 0, 4])
            .requested([10, 0, 0, 5].into())
            .server_id([10, 0, 0, 6].into())
            .with(57, [2, 64])
            .with(61, [1, 2, 3])
            .with(82, [1, 1, 9])
            .with(97, [7; 17]),
    );
    assert_eq!(request.message, message::REQUEST);
    assert_eq!(request.mac, MAC);
    assert_eq!(request.ciaddr, Ipv4Addr::new(10, 0, 0, 3));
    assert_eq!(request.giaddr, Ipv4Addr::new(10, 0, 0, 4));
    assert_eq!(request.requested, Ipv4Addr::new(10, 0, 0, 5));
    assert_eq!(request.server_id, Ipv4Addr::new(10, 0, 0, 6));
    assert_eq!(request.max_size, 576);
    assert_eq!(request.class, Class::Bios);
    assert!(request.broadcast());
    let echo = request.echo(message::ACK);
    assert_eq!((&echo.xid, echo.secs, echo.flags), (b"xid!", [0, 4], [0x80, 1]));
    assert_eq!((echo.ciaddr, echo.giaddr), ([10, 0, 0, 3], [10, 0, 0, 4]));
    assert_eq!(echo.chaddr, [0x52, 0x54, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(echo.guid, Some([7; 17].as_slice()));
    assert_eq!(echo.client_id, Some([1, 2, 3].as_slice()));
    assert_eq!(echo.relay_info, Some([1, 1, 9].as_slice()));
    assert_eq!(request.echo(message::OFFER).ciaddr, [0; 4], "an ACK alone repeats it");
}

#[test]
fn what_is_absent() {
    let request = read(&packet());
    assert!(request.requested.is_unspecified() && request.server_id.is_unspecified());
    assert_eq!((request.max_size, request.class, request.broadcast()), (0, Class::Plain, false));
    let echo = request.echo(message::OFFER);
    assert_eq!((echo.guid, echo.client_id, echo.relay_info), (None, None, None));
}

#[test]
fn what_a_client_would_like() {
    let request = read(
        &packet()
            .with(43, [6, 1, 8, 255])
            .with(51, 7200_u32.to_be_bytes())
            .with(55, [1, 3, 119])
            .with(60, b"udhcp \xff".as_slice())
            .with(61, [1, 2, 3])
            .with(80, [])
            .with(93, [0, 99, 0, 7])
            .with(97, [0, 1])
            .with(118, [10, 1, 0, 0]),
    );
    assert_eq!((request.lease_secs, request.rapid_commit, request.arch), (7200, true, Some(99)));
    assert_eq!(request.subnet_selection, Ipv4Addr::new(10, 1, 0, 0));
    // RFC 3011 2: a client that sends it takes no OFFER and no ACK without.
    for (kind, goes_back) in [(message::OFFER, true), (message::ACK, true), (message::NAK, false)] {
        assert_eq!(request.echo(kind).subnet_selection.is_some(), goes_back, "{kind}");
    }
    assert_eq!(request.parameters(), Some([1, 3, 119].as_slice()));
    assert_eq!(request.vendor_class().as_deref(), Some("udhcp \u{fffd}"));
    assert_eq!(request.vendor_options(), Some([6, 1, 8, 255].as_slice()));
    assert_eq!(request.client_id(), Some([1, 2, 3].as_slice()));
    assert_eq!(request.machine(), None);

    let bare = read(&packet());
    assert_eq!((bare.lease_secs, bare.rapid_commit, bare.arch), (0, false, None));
    assert!(bare.subnet_selection.is_unspecified());
    assert_eq!((bare.parameters(), bare.vendor_class(), bare.vendor_options()), (None, None, None));
    assert_eq!((bare.client_id(), bare.machine(), bare.circuit_id()), (None, None, None));
    // A wish that cannot be read is none: it is no reason to leave a machine without an address.
    let odd = read(&packet().with(51, [1, 2, 3]).with(55, []).with(93, [7]).with(118, [10, 1]));
    assert_eq!((odd.lease_secs, odd.arch, odd.parameters()), (0, None, None));
    assert!(odd.subnet_selection.is_unspecified());
}

#[test]
fn what_a_relay_agent_says() {
    let agent = |info: &[u8]| read(&packet().with(82, info));
    let all = agent(&[1, 2, 7, 8, 2, 1, 9, 5, 4, 10, 1, 0, 0, 151, 0, 11, 4, 10, 1, 0, 1]);
    assert_eq!((all.circuit_id(), all.remote_id()), (Some([7, 8].as_slice()), Some([9].as_slice())));
    assert_eq!(all.link_selection(), Some([10, 1, 0, 0].into()));
    assert_eq!(all.server_id_override(), Some([10, 1, 0, 1].into()));
    let bad: [&[u8]; 6] = [
        &[1, 2, 7, 8, 5, 4, 10, 1, 0, 0, 11, 5, 10, 1, 0, 1],
        &[1, 2, 7, 8, 5],
        &[5, 200],
        &[5, 3, 10, 1, 0, 1, 0, 11, 2, 1, 1],
        &[5, 4, 0, 0, 0, 0, 1, 0],
        &[0, 5, 4, 10, 1, 0, 0, 255],
    ];
    for info in bad {
        let request = agent(info);
        assert_eq!((request.link_selection(), request.server_id_override()), (None, None), "{info:?}");
        assert_eq!(request.circuit_id(), None, "{info:?}");
        assert_eq!(request.echo(message::ACK).relay_info, Some(info), "goes back as it came");
    }
}

#[test]
fn classes() {
    type Case = (&'static str, &'static [(u8, &'static [u8])], Class);
    let table: &[Case] = &[
        ("ROM", &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])], Class::Bios),
        ("ia32", &[(60, b"PXEClient:Arch:00006:UNDI:003000"), (93, &[0, 6])], Class::Efi32),
        ("x64", &[(60, b"PXEClient:Arch:00007:UNDI:003000"), (93, &[0, 7])], Class::Efi64),
        ("x64 that says 9", &[(60, b"PXEClient:Arch:00009:UNDI:003000"), (93, &[0, 9])], Class::Efi64),
        ("ARM", &[(60, b"PXEClient:Arch:00010:UNDI:003000"), (93, &[0, 10])], Class::Efiarm32),
        ("ARM 64", &[(60, b"PXEClient:Arch:00011:UNDI:003000"), (93, &[0, 11])], Class::Efiarm64),
        ("Raspberry Pi", &[(60, b"PXEClient:Arch:00041:UNDI:002001"), (93, &[0, 41])], Class::Rpi),
        ("unknown", &[(60, b"PXEClient:Arch:00027"), (93, &[0, 27])], Class::Other),
        ("a list, the first counts", &[(60, b"PXEClient"), (93, &[0, 7, 0, 0])], Class::Efi64),
        (
            "a list, the first known counts",
            &[(60, b"PXEClient"), (93, &[0, 99, 0, 11, 0, 0])],
            Class::Efiarm64,
        ),
        ("a list of nothing known", &[(60, b"PXEClient"), (93, &[0, 99, 0, 98])], Class::Other),
        ("a list that is cut", &[(60, b"PXEClient"), (93, &[0, 7, 0])], Class::Efi64),
        ("no option 93", &[(60, b"PXEClient:Arch:00007:UNDI")], Class::Efi64),
        ("no option 93, text cut short", &[(60, b"PXEClient:Arch:0000")], Class::Bios),
        ("no option 93, text is no number", &[(60, b"PXEClient:Arch:0x007")], Class::Bios),
        ("short option 93", &[(60, b"PXEClient"), (93, &[7])], Class::Bios),
        ("no 55, 94 or 97", &[(60, b"PXEClient"), (93, &[0, 7])], Class::Efi64),
        ("94, and a short 97", &[(60, b"PXEClient"), (93, &[0, 7]), (94, &[1]), (97, &[0, 1])], Class::Efi64),
        ("iPXE, raw", &[(60, b"PXEClient"), (93, &[0, 0]), (77, b"iPXE")], Class::Ipxe),
        ("iPXE, with length", &[(77, b"\x04iPXE")], Class::Ipxe),
        ("iPXE, by its own option", &[(60, b"PXEClient"), (175, &[1, 1, 1])], Class::Ipxe),
        ("iPXE after UEFI", &[(60, b"PXEClient:Arch:00007"), (93, &[0, 7]), (77, b"iPXE")], Class::Ipxe),
        ("iPXE after HTTP boot", &[(60, b"HTTPClient:Arch:00016"), (93, &[0, 16]), (175, &[1])], Class::Ipxe),
        ("another user class", &[(77, b"iPXE-like")], Class::Plain),
        ("HTTP, ia32", &[(60, b"HTTPClient:Arch:00015"), (93, &[0, 15])], Class::Http32),
        ("HTTP, x64", &[(60, b"HTTPClient:Arch:00016"), (93, &[0, 16])], Class::Http64),
        ("HTTP, ARM", &[(60, b"HTTPClient:Arch:00018"), (93, &[0, 18])], Class::Httparm32),
        ("HTTP, ARM 64", &[(60, b"HTTPClient:Arch:00019"), (93, &[0, 19])], Class::Httparm64),
        ("HTTP, by text", &[(60, b"HTTPClient:Arch:00019:UNDI:003001")], Class::Httparm64),
        ("HTTP, with the number of PXE", &[(60, b"HTTPClient"), (93, &[0, 11])], Class::Httparm64),
        ("HTTP, nothing said", &[(60, b"HTTPClient")], Class::Http64),
        ("an operating system", &[(60, b"udhcp 1.35.0"), (93, &[0, 7])], Class::Plain),
    ];
    for (name, options, class) in table {
        let packet = options.iter().fold(packet(), |packet, (code, value)| packet.with(*code, *value));
        assert_eq!(read(&packet).class, *class, "{name}");
    }
}

#[test]
fn parts_are_joined() {
    let mut split = packet();
    split.options.push((61, vec![1, 2]));
    split.options.push((61, vec![3]));
    split.options.push((12, b"between".to_vec()));
    split.options.push((61, vec![4; 255]));
    let want = [&[1, 2, 3][..], &[4; 255]].concat();
    assert_eq!(read(&split).echo(message::OFFER).client_id, Some(want.as_slice()));
    // Half an address here, half there.
    let mut split = packet();
    split.options.push((50, vec![10, 0]));
    split.options.push((50, vec![0, 9]));
    assert_eq!(read(&split).requested, Ipv4Addr::new(10, 0, 0, 9));
}

#[test]
fn options_go_on_in_file_and_sname() {
    let address = option(50, &[10, 0, 0, 9]);
    let in_file = packet().with(52, [1]).at(108, &address).at(114, &[255]);
    assert_eq!(read(&in_file).requested, Ipv4Addr::new(10, 0, 0, 9));
    let in_sname = packet().with(52, [2]).at(44, &address).at(50, &[255]);
    assert_eq!(read(&in_sname).requested, Ipv4Addr::new(10, 0, 0, 9));
    // RFC 3396 5: first the options field, then file, then sname.
    let both = packet().with(61, [1]).with(52, [3]).at(108, &[61, 1, 2, 255]).at(44, &[61, 1, 3, 255]);
    assert_eq!(read(&both).echo(message::OFFER).client_id, Some([1, 2, 3].as_slice()));
    let not_told = packet().at(108, &address).at(114, &[255]);
    assert!(read(&not_told).requested.is_unspecified(), "a boot file's name is no option");
    // It cannot lead back to itself.
    let again = packet().with(52, [1]).at(108, &[52, 1, 3, 255]);
    assert!(decode(&again.bytes()).is_ok());
}

#[test]
fn every_fault_has_its_reason() {
    let good = packet().bytes();
    let cases: [(&str, Vec<u8>, Reason); 22] = [
        ("nothing", vec![], Reason::Truncated),
        ("header only", good[..239].to_vec(), Reason::Truncated),
        ("a reply", packet().at(0, &[2]).bytes(), Reason::NotRequest),
        ("neither", packet().at(0, &[9]).bytes(), Reason::NotRequest),
        ("not Ethernet", packet().at(1, &[32]).bytes(), Reason::BadHardware),
        ("hlen 255", packet().at(2, &[255]).bytes(), Reason::BadHardware),
        ("hlen 17", packet().at(2, &[17]).bytes(), Reason::BadHardware),
        ("hlen 0", packet().at(2, &[0]).bytes(), Reason::BadHardware),
        ("nobody's address", Packet::new(Mac([0; 6])).bytes(), Reason::BadHardware),
        ("everybody's address", Packet::new(Mac::BROADCAST).bytes(), Reason::BadHardware),
        ("cookie", [&good[..239], &[100], &good[240..]].concat(), Reason::BadCookie),
        ("no END", good[..good.len() - 1].to_vec(), Reason::BadOptions),
        ("no length", [&good[..good.len() - 1], &[12]].concat(), Reason::BadOptions),
        ("past the end", [&good[..good.len() - 1], &[12, 4, 1, 255]].concat(), Reason::BadOptions),
        ("no END in file", packet().with(52, [1]).bytes(), Reason::BadOptions),
        ("past the end of sname", packet().with(52, [2]).at(44, &[12, 63]).bytes(), Reason::BadOptions),
        ("overload 0", packet().with(52, [0]).bytes(), Reason::Overload),
        ("overload of two bytes", packet().with(52, [1, 1]).bytes(), Reason::BadOptionLength),
        ("53 of no bytes", packet().with(53, []).bytes(), Reason::BadOptionLength),
        ("50 of three bytes", packet().with(50, [1, 2, 3]).bytes(), Reason::BadOptionLength),
        ("57 of no bytes", packet().with(57, []).bytes(), Reason::BadOptionLength),
        ("message 0", packet().message(0).bytes(), Reason::MessageType),
    ];
    for (name, bytes, reason) in cases {
        assert_eq!(decode(&bytes), Err(reason), "{name}");
    }
}

#[test]
fn bootp_is_what_has_no_message_type() {
    let bootp = Packet { options: vec![], ..packet() };
    let request = read(&bootp.clone().with(12, b"blade".as_slice()).with(61, [1, 2]).with(82, [1, 0]));
    assert_eq!((request.message, request.reads_options), (message::BOOTP, true));
    let echo = request.echo(message::BOOTP);
    assert_eq!((echo.guid, echo.client_id, echo.relay_info), (None, None, Some([1, 0].as_slice())));
    // RFC 951: a vendor area of 64 bytes, which nobody need fill.
    let empty = decode(&[bootp.header.as_slice(), &[0; 64]].concat()).unwrap();
    assert_eq!((empty.message, empty.reads_options, empty.class), (message::BOOTP, false, Class::Plain));
    let odd = [bootp.header.as_slice(), &[0; 63], &[1]].concat();
    assert_eq!(decode(&odd), Err(Reason::BadCookie));
}

#[test]
fn truncated_at_every_length() {
    let whole = packet().bios().with(61, [1; 30]).bytes();
    for length in 0..whole.len() {
        let reason = decode(&whole[..length]).unwrap_err();
        assert_eq!(reason, if length < 240 { Reason::Truncated } else { Reason::BadOptions }, "{length}");
    }
}

#[test]
fn empty_options_say_nothing() {
    let request =
        read(&packet().with(60, []).with(61, []).with(77, []).with(82, []).with(93, []).with(97, []));
    let echo = request.echo(message::OFFER);
    assert_eq!((echo.client_id, echo.relay_info, echo.guid), (None, None, None));
    assert_eq!(request.class, Class::Plain);
}

#[test]
fn the_sender_of_a_bad_packet_is_known_where_it_can_be() {
    assert_eq!(sender(&packet().with(53, []).bytes()), Some(MAC));
    assert_eq!(sender(&packet().at(2, &[255]).bytes()), None);
    assert_eq!(sender(&packet().bytes()[..100]), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let _ = (decode(&bytes), sender(&bytes));
    }

    /// Close to a real packet, so that the reading gets far.
    #[test]
    fn mutations_of_a_request_are_read_or_refused(
        options in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        overload in 0_u8..5,
        places in prop::collection::vec((0_usize..400, any::<u8>()), 0..8),
        length in 200_usize..600,
    ) {
        let mut sample = packet().with(52, [overload]).at(44, &[12, 1, 1, 255]).at(108, &[50, 4, 1, 2, 3, 4, 255]);
        sample.options.extend(options);
        let mut bytes = sample.bytes();
        for (at, byte) in places {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(length);
        if let Ok(request) = decode(&bytes) {
            prop_assert_eq!(sender(&bytes), Some(request.mac));
        }
    }
}

#[test]
fn which_machine_it_is() {
    let uuid = |text: &str| text.parse::<crate::uuid::Uuid>().unwrap();
    let wire =
        [0, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    let request = read(&packet().with(97, wire));
    let as_dmidecode_shows_it = uuid("33221100-5544-7766-8899-aabbccddeeff");
    let as_some_firmware_means_it = uuid("00112233-4455-6677-8899-aabbccddeeff");
    assert_eq!(request.machine(), Some([as_dmidecode_shows_it, as_some_firmware_means_it]));
    assert_eq!(request.card(), MAC);
    let another_type = [&[1][..], &wire[1..]].concat();
    let nobodys = [[&[0][..], &[0; 16]].concat(), [&[0][..], &[0xff; 16]].concat()];
    let odd = [vec![], vec![0], wire[..16].to_vec(), [&wire[..], &[0]].concat(), another_type];
    for none in odd.into_iter().chain(nobodys) {
        assert_eq!(read(&packet().with(97, none.clone())).machine(), None, "{none:?}");
    }
}
