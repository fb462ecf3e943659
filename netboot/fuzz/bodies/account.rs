//! A reply held against its request: every byte of it is accounted for (RFC 2131 2 and table 3, RFC 2132, RFC 3046, RFC
//! 6842; RFC 951 and 1497 for BOOTP). Written without netboot's own builder of replies.

use std::net::Ipv4Addr;

use netboot::dhcp::policy::{Reply, Route};
use netboot_ebpf::verdict::message::{ACK, BOOTP, DISCOVER, NAK, OFFER};

use super::tlv;

/// The smallest reply, an old BOOTP message.
const SMALLEST: usize = 300;
/// The largest IP packet that every client must take.
const TAKEN: usize = 576;
/// The largest that the interface takes.
const MTU: usize = 1500;

/// Panics where a client would stumble over the reply, or something stands in it that nobody asked for. A boot service
/// gives no addresses.
pub(crate) fn check(packet: &[u8], reply: &Reply, server: Ipv4Addr, service: bool) {
    let bytes = reply.bytes.as_slice();
    let length = bytes.len();
    let asked = |code| tlv::value(packet, code).filter(|value| !value.is_empty());
    let takes = match asked(57).as_deref() {
        Some([high, low]) if [*high, *low] != [0, 0] => {
            usize::from(u16::from_be_bytes([*high, *low])).min(MTU)
        }
        _ => TAKEN,
    };
    assert!(length >= SMALLEST && length + 28 <= takes, "{length} bytes to who takes {takes}");
    header(packet, bytes, reply, server, service);
    if reply.message == BOOTP {
        return bootp(packet, bytes);
    }

    let (options, behind) = tlv::area(&bytes[tlv::HEADER..]).expect("options that every client can read");
    assert!(behind.iter().all(|byte| *byte == 0), "bytes behind END");
    let told = |code| {
        let mut values = options.iter().filter(|(other, _)| *other == code).map(|(_, value)| value.to_vec());
        values.next().map(|first| values.fold(first, |joined, part| [joined, part].concat()))
    };
    assert_eq!(options.first(), Some(&(53, &[reply.message][..])), "the type is first");
    let name = if service { server.octets().into() } else { server_id(packet, server) };
    assert_eq!(told(54), Some(name), "who answers is in every reply");
    for code in [61, 82] {
        assert_eq!(told(code), asked(code), "option {code} comes back as it was sent");
    }
    let selected = asked(118).filter(|subnet| subnet.len() == 4 && subnet != &[0; 4] && reply.message != NAK);
    assert_eq!(told(118), selected, "option 118 comes back as it was sent");
    let rapid = reply.message == ACK && asked(53) == Some(vec![DISCOVER]);
    assert_eq!(told(80), rapid.then(Vec::new), "an ACK to a DISCOVER says so");
    if reply.message == NAK {
        let extra: Vec<u8> = options.iter().map(|(code, _)| *code).collect();
        assert!(extra.iter().all(|code| [53, 54, 56, 61, 82].contains(code)), "a NAK with {extra:?}");
    } else {
        assert_eq!(told(97), asked(97), "option 97 comes back as it was sent");
    }
    if asked(82).is_some() {
        assert_eq!(options.last().map(|(code, _)| *code), Some(82), "option 82 is last");
    }
    for (at, (code, value)) in options.iter().enumerate() {
        assert!((!value.is_empty() || *code == 80) && ![0, 255].contains(code), "option {code} says nothing");
        // What is longer than one option is split, and the parts stand together.
        let again = options.iter().skip(at + 2).any(|(other, _)| other == code);
        assert!(!again || options.get(at + 1).is_some_and(|(next, _)| next == code), "option {code} twice");
        let fits = match code {
            1 | 28 | 51 | 54 | 58 | 59 => value.len() == 4,
            3 | 6 | 42 => value.len().is_multiple_of(4),
            53 => value.len() == 1,
            12 | 15 | 56 | 60 | 66 | 67 | 209 | 210 => value.iter().all(|byte| (0x20..0x7f).contains(byte)),
            _ => true,
        };
        assert!(fits, "option {code} is {value:?}");
    }
    let lease = told(51).is_some();
    match reply.message {
        OFFER | ACK if service => assert!(!lease && bytes[16..20] == [0; 4], "an address of a boot service"),
        OFFER => assert!(lease, "an OFFER without a time"),
        ACK => assert_eq!(lease, bytes[16..20] != [0; 4], "an address and its time belong together"),
        NAK => assert!(!lease),
        other => panic!("a reply of type {other}"),
    }
}

/// What an old client can read: a vendor area of 64 bytes, or nothing in it; behind it a relay agent's own alone.
fn bootp(packet: &[u8], bytes: &[u8]) {
    if packet[236..240] != tlv::COOKIE {
        assert!(bytes[236..].iter().all(|byte| *byte == 0), "options to who reads none");
        return;
    }
    let (options, behind) = tlv::area(&bytes[tlv::HEADER..]).expect("options that every client can read");
    assert!(behind.iter().all(|byte| *byte == 0), "bytes behind END");
    let (agents, own): (Vec<_>, Vec<_>) = options.iter().partition(|(code, _)| *code == 82);
    let agents: Vec<u8> = agents.iter().flat_map(|(_, part)| part.to_vec()).collect();
    assert_eq!(agents, tlv::value(packet, 82).unwrap_or_default(), "option 82 comes back as it was sent");
    let length: usize = own.iter().map(|(_, value)| 2 + value.len()).sum();
    assert!(length < 64 - 4, "{length} bytes of options");
    for (code, value) in own {
        assert!(![0, 50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 97].contains(&code), "option {code} in BOOTP");
        assert!(!value.is_empty(), "option {code} says nothing");
    }
}

/// Whether a relay agent has sent the request.
fn is_relayed(packet: &[u8]) -> bool {
    packet[24..28] != [0; 4]
}

/// The server's name in option 54: the one that a relay agent wants to see (RFC 5107), else its address.
fn server_id(packet: &[u8], server: Ipv4Addr) -> Vec<u8> {
    // Who has chosen the server by its address hears that again.
    if tlv::value(packet, 54).is_some_and(|chosen| chosen == server.octets()) {
        return server.octets().into();
    }
    let info = tlv::value(packet, 82).filter(|_| is_relayed(packet)).unwrap_or_default();
    let mut rest = info.as_slice();
    let mut found = None;
    while let [code, length, more @ ..] = rest {
        let Some((value, more)) = more.split_at_checked(usize::from(*length)) else { break };
        if *code == 11 && value.len() == 4 && found.is_none() {
            found = Some(value.to_vec());
        }
        rest = more;
    }
    found.unwrap_or_else(|| server.octets().into())
}

/// The fixed fields: constants, what the request said, and what is given.
fn header(packet: &[u8], bytes: &[u8], reply: &Reply, server: Ipv4Addr, service: bool) {
    assert_eq!(bytes[..4], [2, 1, 6, 0], "op, htype, hlen, hops");
    for repeated in [4..8, 8..10, 11..12, 24..28, 28..44] {
        assert_eq!(bytes[repeated.clone()], packet[repeated.clone()], "header bytes {repeated:?}");
    }
    // A relay agent is to tell everybody of a NAK (RFC 2131 4.3.2), and of a reply without an address.
    let loud = if (reply.message == NAK || service) && is_relayed(packet) { 0x80 } else { 0 };
    assert_eq!(bytes[10], packet[10] | loud, "the broadcast flag");
    let relay = Ipv4Addr::from([packet[24], packet[25], packet[26], packet[27]]);
    assert_eq!(reply.route == Route::Relay(relay), is_relayed(packet), "to {:?}", reply.route);
    if [ACK, BOOTP].contains(&reply.message) {
        assert_eq!(bytes[12..16], packet[12..16], "ciaddr");
    } else {
        assert_eq!(bytes[12..16], [0; 4], "ciaddr");
    }
    let yiaddr: [u8; 4] = bytes[16..20].try_into().expect("four bytes");
    let given = reply.message != NAK && yiaddr == reply.addr.octets();
    assert!(given || yiaddr == [0; 4], "yiaddr {yiaddr:?} is not {}", reply.addr);
    assert!(bytes[20..24] == server.octets() || bytes[20..24] == [0; 4], "siaddr");
    for field in [44..108, 108..236] {
        let text = &bytes[field.clone()];
        let end = text.iter().position(|byte| *byte == 0).expect("a NUL at the end");
        assert!(text[..end].iter().all(|byte| (0x20..0x7f).contains(byte)), "text in {field:?}");
        assert!(text[end..].iter().all(|byte| *byte == 0), "bytes behind the text in {field:?}");
    }
    let reads_options = packet[236..240] == tlv::COOKIE;
    assert_eq!(bytes[236..240], if reads_options { tlv::COOKIE } else { [0; 4] });
}
