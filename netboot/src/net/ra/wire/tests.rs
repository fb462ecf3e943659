use std::net::Ipv6Addr;

use super::{ALL_NODES, ALL_ROUTERS, MESSAGE, Malformed, Message, checksum, frame, multicast, parse};
use crate::mac::Mac;

const BLADE: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const SERVER: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A message from a blade to all routers.
fn from_blade(addr: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    frame((BLADE, addr), (multicast(ALL_ROUTERS), ALL_ROUTERS), &mut message.to_vec())
}

fn solicitation(options: &[u8]) -> Vec<u8> {
    from_blade(super::link_local(BLADE), &[&[133, 0, 0, 0, 0, 0, 0, 0], options].concat())
}

fn advertisement(lifetime_secs: u16, options: &[u8]) -> Vec<u8> {
    let [high, low] = lifetime_secs.to_be_bytes();
    let head = [134, 0, 0, 0, 64, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
    from_blade(super::link_local(BLADE), &[&head, options].concat())
}

const ASKED: Result<Message, Malformed> = Ok(Message::Solicitation {
    mac: BLADE,
    addr: Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3456),
    to: ALL_ROUTERS,
});

#[test]
fn the_answer_byte_for_byte() {
    let to = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3456);
    #[rustfmt::skip]
    let want = [
        0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
        0x60, 0, 0, 0, 0, 16, 58, 255,
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 1,
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0x12, 0x34, 0x56,
        134, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let mut sent = super::advertisement(SERVER, BLADE, to);
    // RFC 1071 the long way: with the checksum in place all words add up to 0xffff.
    let mut sum: u32 = sent[22..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    sum += 16 + 58;
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    sent[56..58].fill(0xff);
    assert_eq!(sent, want);
}

#[test]
fn to_everybody_by_the_groups_ethernet_address() {
    let sent = super::advertisement(SERVER, multicast(ALL_NODES), ALL_NODES);
    assert_eq!(sent[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(sent[38..54], ALL_NODES.octets());
}

#[test]
fn what_is_sent_is_read_again() {
    let mac = SERVER;
    let (addr, to) = (super::link_local(mac), ALL_ROUTERS);
    let advertisement = parse(&super::advertisement(mac, multicast(ALL_NODES), ALL_NODES));
    assert_eq!(advertisement, Ok(Message::Advertisement { mac, addr, lifetime_secs: 0 }));
    let solicitation = parse(&super::solicitation(mac));
    assert_eq!(solicitation, Ok(Message::Solicitation { mac, addr: Ipv6Addr::UNSPECIFIED, to }));
}

#[test]
fn what_ipxe_sends() {
    #[rustfmt::skip]
    let frame = [
        0x33, 0x33, 0, 0, 0, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x86, 0xdd,
        0x60, 0, 0, 0, 0, 16, 58, 255,
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0x12, 0x34, 0x56,
        0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        133, 0, 0x71, 0xb5, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56,
    ];
    assert_eq!(parse(&frame), ASKED);
    assert_eq!(solicitation(&[1, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56]), frame);
    // Filling up to the shortest Ethernet frame, and options that nobody knows.
    assert_eq!(parse(&[&frame[..], &[0; 9]].concat()), ASKED);
    assert_eq!(parse(&solicitation(&[253, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), ASKED);
}

#[test]
fn a_router_with_a_prefix() {
    let mut prefix = [0; 32];
    prefix[..4].copy_from_slice(&[3, 4, 64, 0xc0]);
    let addr = super::link_local(BLADE);
    let expected = Ok(Message::Advertisement { mac: BLADE, addr, lifetime_secs: 1800 });
    assert_eq!(parse(&advertisement(1800, &prefix)), expected);
}

#[test]
fn malformed_solicitations_are_none() {
    // Each breaks one rule of RFC 4861 6.1.1 or is not such a frame at all.
    let change = |at: usize, to: u8| {
        let mut frame = solicitation(&[]);
        frame[at] = to;
        // Only the change itself is wrong: the checksum holds.
        frame[56..58].fill(0);
        let addresses = |from: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[from..from + 16]).unwrap());
        let sum = checksum(addresses(22), addresses(38), &frame[MESSAGE..]);
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    assert_eq!(parse(&change(58, 1)), ASKED, "a change that is none of theirs");
    let unspecified =
        |options: &[u8]| from_blade(Ipv6Addr::UNSPECIFIED, &[&[133, 0, 0, 0, 0, 0, 0, 0], options].concat());
    assert!(parse(&unspecified(&[])).is_ok());
    let mut checksum = solicitation(&[]);
    checksum[57] ^= 1;
    let mut longer = solicitation(&[]);
    longer[19] += 8;
    let loopback = from_blade(Ipv6Addr::LOCALHOST, &[133, 0, 0, 0, 0, 0, 0, 0]);
    let table = [
        ("hop limit 254", change(21, 254)),
        ("code 1", change(55, 1)),
        ("checksum", checksum),
        ("7 bytes", from_blade(super::link_local(BLADE), &[133, 0, 0, 0, 0, 0, 0])),
        ("less than its length says", longer),
        ("an option of length 0", solicitation(&[1, 0, 0, 0, 0, 0, 0, 0])),
        ("an option cut off", solicitation(&[1, 2, 0, 0, 0, 0, 0, 0])),
        ("one byte of an option", solicitation(&[1])),
        ("an Ethernet address from nowhere", unspecified(&[1, 1, 0, 0, 0, 0, 0, 0])),
        ("from a group", change(22, 0xff)),
        ("from ::1", loopback),
        ("from an Ethernet group", change(6, 0x53)),
        ("IPv4", change(14, 0x40)),
        ("EtherType", change(13, 0)),
        ("UDP", change(20, 17)),
        ("a fragment", change(20, 44)),
        ("a neighbour solicitation", change(54, 135)),
    ];
    for (what, frame) in table {
        assert_eq!(parse(&frame), Err(Malformed), "{what}");
    }
    let mut nobody = solicitation(&[]);
    nobody[6..12].fill(0);
    assert_eq!(parse(&nobody), Err(Malformed));
}

#[test]
fn malformed_advertisements_are_none() {
    let head = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let table = [
        ("from no link-local address", from_blade("2001:db8::1".parse().unwrap(), &head)),
        ("from nowhere", from_blade(Ipv6Addr::UNSPECIFIED, &head)),
        ("15 bytes", from_blade(super::link_local(BLADE), &head[..15])),
        ("an option of length 0", advertisement(1800, &[3, 0])),
    ];
    for (what, frame) in table {
        assert_eq!(parse(&frame), Err(Malformed), "{what}");
    }
}

#[test]
fn no_cut_and_no_changed_byte_is_a_panic() {
    let whole = advertisement(1800, &[3, 4, 0, 0, 0, 0, 0, 0]);
    for length in 0..whole.len() {
        assert_eq!(parse(&whole[..length]), Err(Malformed), "{length}");
    }
    for at in 0..whole.len() {
        for value in 0..=255 {
            let mut frame = whole.clone();
            frame[at] = value;
            let _ = parse(&frame);
        }
    }
}

#[test]
fn addresses_from_addresses() {
    assert_eq!(super::link_local(BLADE).to_string(), "fe80::5054:ff:fe12:3456");
    assert_eq!(multicast(ALL_ROUTERS).to_string(), "33:33:00:00:00:02");
}
