//! Ethernet, VLAN tags, IPv4 and UDP, by offset: is it a client's DHCP request, and the headers of the reply.
//!
//! IEEE 802.1Q (one tag, or two of them), RFC 791, RFC 768, RFC 2131 4.1. Nothing here knows DHCP beyond its ports.

use crate::csum;
use crate::route::{CLIENT_PORT, SERVER_PORT};
use crate::verdict::Reason;

/// IPv4
pub const IPV4: u16 = 0x0800;
/// An 802.1Q tag follows.
pub const TAGGED: u16 = 0x8100;
/// An outer tag follows (802.1ad), and what came before that became a standard.
const OUTER: [u16; 2] = [0x88a8, 0x9100];
/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Length of a tag.
pub const TAG: usize = 4;
/// Length of an Ethernet header with the most tags.
pub const ETHERNET_MOST: usize = ETHERNET + 2 * TAG;
/// Room for the Ethernet header of a reply, so that what is behind it stands at a multiple of 8 with IP and UDP headers.
pub const ETHERNET_ROOM: usize = 28;
/// Length of an IPv4 header without options and a UDP header.
pub const IP_UDP: usize = 28;

/// A field at a place that the compiler knows, so that no check is left of it; zeros outside.
#[inline(always)]
pub fn field<const N: usize, const M: usize>(bytes: &[u8; N], at: usize) -> [u8; M] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; M])
}

/// Writes a field at a place that the compiler knows; nothing outside.
#[inline(always)]
pub fn put<const N: usize, const M: usize>(bytes: &mut [u8; N], at: usize, field: [u8; M]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = field;
    }
}

/// Is the frame for this host? Broadcast, or its own address.
#[inline(always)]
pub fn for_us(ethernet: &[u8; ETHERNET], mac: &[u8; 6]) -> bool {
    let to: [u8; 6] = field(ethernet, 0);
    to == [0xff; 6] || to == *mac
}

/// Does a tag follow this `EtherType`?
#[inline(always)]
pub fn is_tag(kind: u16) -> bool {
    kind == TAGGED || kind == OUTER[0] || kind == OUTER[1]
}

/// The VLAN tags of a frame as they stand there, each with the `EtherType` before it; zeros: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// How many there are.
    pub count: u8,
    /// The outer or only one.
    pub first: [u8; TAG],
    /// The inner one.
    pub second: [u8; TAG],
}

impl Tags {
    /// Whether the frame is of the PXE network: of exactly these VLANs, the outer first; where the network has no tags, of
    /// none, or with a tag that says a priority and no VLAN (802.1Q, VID 0).
    #[inline(always)]
    pub fn are(&self, count: u8, vlan: [u16; 2]) -> bool {
        let (first, second) = (vid(self.first), vid(self.second));
        match count {
            0 => self.count == 0 || (self.count == 1 && first == 0),
            1 => self.count == 1 && first == vlan[0],
            _ => self.count == 2 && first == vlan[0] && second == vlan[1],
        }
    }
}

/// The VLAN of a tag.
#[inline(always)]
fn vid(tag: [u8; TAG]) -> u16 {
    u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff
}

/// What IPv4 and UDP headers at a glance may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To a DHCP server.
    ToServer,
    /// From a DHCP server to a client.
    ToClient,
}

/// Tells DHCP from other people's traffic, as soon as can be.
///
/// # Errors
/// When it is none.
#[inline(always)]
pub fn kind(headers: &[u8; IP_UDP]) -> Result<Kind, Reason> {
    let [vihl] = field(headers, 0);
    let [protocol] = field(headers, 9);
    if vihl >> 4 != 4 || protocol != 17 {
        return Err(Reason::NotDhcp);
    }
    // More fragments, or not the first: the ports may not even be here.
    if vihl != 0x45 || u16::from_be_bytes(field(headers, 6)) & 0x3fff != 0 {
        return Err(Reason::OddIp);
    }
    let from = u16::from_be_bytes(field(headers, 20));
    match u16::from_be_bytes(field(headers, 22)) {
        SERVER_PORT if from == CLIENT_PORT || from == SERVER_PORT => Ok(Kind::ToServer),
        CLIENT_PORT if from == SERVER_PORT => Ok(Kind::ToClient),
        _ => Err(Reason::NotDhcp),
    }
}

/// A client's or relay agent's datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Length of the UDP data.
    pub length: usize,
    /// It was sent to this server's address, not to everybody.
    pub unicast: bool,
}

/// Reads the IPv4 and UDP headers of a request to this server, which [`kind`] has found. `available` is what the frame has
/// from the IPv4 header on; Ethernet may have padded it.
///
/// # Errors
/// Why it is none.
#[inline(always)]
pub fn request(headers: &[u8; IP_UDP], available: usize, server: u32) -> Result<Datagram, Reason> {
    if csum::ipv4(&field(headers, 0)) != 0 {
        return Err(Reason::OddIp);
    }
    let total = usize::from(u16::from_be_bytes(field(headers, 2)));
    let udp = usize::from(u16::from_be_bytes(field(headers, 24)));
    if total < IP_UDP || total > available || udp + 20 != total {
        return Err(Reason::BadLength);
    }
    let dst = u32::from_be_bytes(field(headers, 16));
    if dst != u32::MAX && dst != server {
        return Err(Reason::NotForUs);
    }
    Ok(Datagram { length: total - IP_UDP, unicast: dst == server })
}

/// The UDP checksum of a datagram, what it would be if a network card was to finish it, and the length of UDP.
#[inline(always)]
pub fn checksums(headers: &[u8; IP_UDP]) -> (u16, u16, u16) {
    let length: [u8; 2] = field(headers, 24);
    let addresses: [u8; 8] = field(headers, 12);
    let unfinished = csum::fold(csum::sum(&addresses) + csum::sum(&[0, 17]) + csum::sum(&length));
    (u16::from_ne_bytes(field(headers, 26)), unfinished, u16::from_be_bytes(length))
}

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Ethernet
    pub mac: [u8; 6],
    /// IPv4, host order.
    pub addr: u32,
    /// UDP
    pub port: u16,
}

/// The IPv4 header of a reply: TTL 64, no identification, no flags.
#[inline(always)]
pub fn ipv4(from: u32, to: u32, data: u16) -> [u8; 20] {
    let length = 20 + data;
    // What stands in it, in 16-bit words: version and length, TTL and protocol, then what differs.
    let sum = 0x4500 + 0x4011 + u64::from(length) + halves(from) + halves(to);
    let [l0, l1] = length.to_be_bytes();
    let [c0, c1] = (!csum::fold(sum)).to_be_bytes();
    let [s0, s1, s2, s3] = from.to_be_bytes();
    let [d0, d1, d2, d3] = to.to_be_bytes();
    [0x45, 0, l0, l1, 0, 0, 0, 0, 64, 17, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3]
}

/// The sum of the halves of an address.
#[inline(always)]
fn halves(addr: u32) -> u64 {
    u64::from(addr >> 16) + u64::from(addr & 0xffff)
}

/// The UDP header of a reply, its checksum still zero.
#[inline(always)]
pub fn udp(port: u16, length: u16) -> [u8; 8] {
    let ([p0, p1], [l0, l1]) = (port.to_be_bytes(), length.to_be_bytes());
    [0, 67, p0, p1, l0, l1, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::{Datagram, IP_UDP, Kind, Tags, checksums, for_us, ipv4, is_tag, kind, request};
    use crate::csum;
    use crate::verdict::Reason;

    const SERVER: u32 = 0xc0a8_5a02;

    /// Headers of a request with 300 bytes of data, changed and given a right checksum again.
    fn headers(change: impl Fn(&mut [u8; IP_UDP])) -> [u8; IP_UDP] {
        let mut bytes = [0; IP_UDP];
        bytes[..20].copy_from_slice(&ipv4(0, u32::MAX, 308));
        bytes[20..].copy_from_slice(&[0, 68, 0, 67, 1, 52, 0, 0]);
        change(&mut bytes);
        bytes[10..12].fill(0);
        let checksum = csum::ipv4(bytes.first_chunk().expect("20 bytes"));
        bytes[10..12].copy_from_slice(&checksum.to_ne_bytes());
        bytes
    }

    fn read(headers: &[u8; IP_UDP], available: usize) -> Result<Datagram, Reason> {
        assert_eq!(kind(headers)?, Kind::ToServer);
        request(headers, available, SERVER)
    }

    #[test]
    fn requests_and_others() {
        type Change = fn(&mut [u8; IP_UDP]);
        let whole = Datagram { length: 300, unicast: false };
        let table: [(&str, Change, Result<Datagram, Reason>); 15] = [
            ("broadcast", |_| {}, Ok(whole)),
            (
                "to us",
                |h| h[16..20].copy_from_slice(&SERVER.to_be_bytes()),
                Ok(Datagram { unicast: true, ..whole }),
            ),
            ("don't fragment", |h| h[6] = 0x40, Ok(whole)),
            ("from a relay agent", |h| h[21] = 67, Ok(whole)),
            ("to another", |h| h[19] = 9, Err(Reason::NotForUs)),
            ("IPv6", |h| h[0] = 0x65, Err(Reason::NotDhcp)),
            ("TCP", |h| h[9] = 6, Err(Reason::NotDhcp)),
            ("IP options", |h| h[0] = 0x46, Err(Reason::OddIp)),
            ("first fragment", |h| h[6] = 0x20, Err(Reason::OddIp)),
            ("later fragment", |h| h[7] = 1, Err(Reason::OddIp)),
            ("to another port", |h| h[23] = 69, Err(Reason::NotDhcp)),
            ("from another port", |h| h[21] = 99, Err(Reason::NotDhcp)),
            ("IP length too large", |h| h[2] = 2, Err(Reason::BadLength)),
            ("IP length too small", |h| h[2..4].copy_from_slice(&[0, 27]), Err(Reason::BadLength)),
            ("UDP length wrong", |h| h[25] -= 1, Err(Reason::BadLength)),
        ];
        for (name, change, expected) in table {
            assert_eq!(read(&headers(change), 330), expected, "{name}");
        }
        let mut damaged = headers(|_| {});
        damaged[10] ^= 1;
        assert_eq!(read(&damaged, 330), Err(Reason::OddIp));
        assert_eq!(read(&headers(|_| {}), 327), Err(Reason::BadLength), "cut off");
        let answer = headers(|h| h[20..24].copy_from_slice(&[0, 67, 0, 68]));
        assert_eq!(kind(&answer), Ok(Kind::ToClient));
    }

    #[test]
    fn a_checksum_that_a_card_was_to_finish_is_known() {
        let (is, unfinished, length) = checksums(&headers(|h| h[26] = 7));
        assert_eq!((is.to_ne_bytes(), length), ([7, 0], 308));
        // The pseudo-header by hand: 255.255.255.255 adds nothing, 0.0.0.0, 17, 308.
        assert_eq!(unfinished.to_ne_bytes(), (17u16 + 308).to_be_bytes());
    }

    #[test]
    fn frames_for_us() {
        let mac = [2, 0, 0, 0, 0, 1];
        let mut frame = [0; 14];
        assert!(!for_us(&frame, &mac));
        frame[..6].copy_from_slice(&mac);
        assert!(for_us(&frame, &mac));
        frame[..6].fill(0xff);
        assert!(for_us(&frame, &mac));
    }

    #[test]
    fn tags_are_known_by_their_type() {
        assert!(is_tag(0x8100) && is_tag(0x88a8) && is_tag(0x9100) && !is_tag(0x0800));
    }

    #[test]
    fn a_frame_is_of_the_network_whose_tags_it_has() {
        let tag = |vid: u8| [0x81, 0, 0xe0, vid];
        let none = Tags::default();
        let one = |vid| Tags { count: 1, first: tag(vid), second: [0; 4] };
        let two = |outer, inner| Tags { count: 2, first: tag(outer), second: tag(inner) };
        let table = [
            (none, [true, false, false]),
            (one(0), [true, false, false]),
            (one(90), [false, true, false]),
            (one(91), [false, false, false]),
            (two(90, 7), [false, false, true]),
            (two(90, 8), [false, false, false]),
            (two(7, 90), [false, false, false]),
            (two(0, 0), [false, false, false]),
        ];
        for (tags, want) in table {
            let is = [tags.are(0, [0, 0]), tags.are(1, [90, 0]), tags.are(2, [90, 7])];
            assert_eq!(is, want, "{tags:?}");
        }
    }
}
