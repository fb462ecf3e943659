//! Ethernet, one 802.1Q tag, IPv4 and UDP, by offset: is it a client's DHCP request, and the headers of the reply.
//!
//! RFC 791, RFC 768, RFC 2131 4.1. Nothing here knows DHCP beyond its ports.

use crate::csum;
use crate::verdict::Reason;

/// IPv4
pub const IPV4: u16 = 0x0800;
/// A frame with one 802.1Q tag.
pub const TAGGED: u16 = 0x8100;
/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Length of an Ethernet header with one tag.
pub const ETHERNET_TAGGED: usize = 18;
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

/// Reads the IPv4 and UDP headers of a client's request to this server and returns the length of the UDP data.
/// `available` is what the frame has from the IPv4 header on; Ethernet may have padded it.
///
/// # Errors
/// Why it is none.
#[inline(always)]
pub fn request(headers: &[u8; IP_UDP], available: usize, server: u32) -> Result<usize, Reason> {
    let [vihl] = field(headers, 0);
    let [protocol] = field(headers, 9);
    if vihl >> 4 != 4 || protocol != 17 {
        return Err(Reason::NotDhcp);
    }
    // More fragments, or not the first: the ports may not even be here.
    if vihl != 0x45 || u16::from_be_bytes(field(headers, 6)) & 0x3fff != 0 {
        return Err(Reason::OddIp);
    }
    if u16::from_be_bytes(field(headers, 22)) != 67 {
        return Err(Reason::NotDhcp);
    }
    match u16::from_be_bytes(field(headers, 20)) {
        68 => {}
        67 => return Err(Reason::Relayed),
        _ => return Err(Reason::NotDhcp),
    }
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
    Ok(total - IP_UDP)
}

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Ethernet
    pub mac: [u8; 6],
    /// IPv4, host order.
    pub addr: u32,
}

/// The Ethernet header of a reply, with the tag of the request behind it if that had one, at the end of the room.
#[inline(always)]
pub fn ethernet(room: &mut [u8; 20], to: [u8; 6], from: [u8; 6], tag: Option<[u8; 2]>) {
    put(room, 18, IPV4.to_be_bytes());
    let at = match tag {
        None => 20 - ETHERNET,
        Some(tag) => {
            put(room, 14, TAGGED.to_be_bytes());
            put(room, 16, tag);
            20 - ETHERNET_TAGGED
        }
    };
    put(room, at, to);
    put(room, at + 6, from);
}

/// The IPv4 header of a reply: TTL 64, no identification, no flags.
#[inline(always)]
pub fn ipv4(from: u32, to: u32, data: u16) -> [u8; 20] {
    let [l0, l1] = (20 + data).to_be_bytes();
    let [s0, s1, s2, s3] = from.to_be_bytes();
    let [d0, d1, d2, d3] = to.to_be_bytes();
    let mut header = [0x45, 0, l0, l1, 0, 0, 0, 0, 64, 17, 0, 0, s0, s1, s2, s3, d0, d1, d2, d3];
    let checksum = csum::ipv4(&header);
    put(&mut header, 10, checksum.to_ne_bytes());
    header
}

/// The UDP header of a reply, its checksum still zero.
#[inline(always)]
pub fn udp(length: u16) -> [u8; 8] {
    let [l0, l1] = length.to_be_bytes();
    [0, 67, 0, 68, l0, l1, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::{IP_UDP, ethernet, for_us, ipv4, request};
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

    #[test]
    fn requests_and_others() {
        type Change = fn(&mut [u8; IP_UDP]);
        let table: [(&str, Change, Result<usize, Reason>); 15] = [
            ("broadcast", |_| {}, Ok(300)),
            ("to us", |h| h[16..20].copy_from_slice(&SERVER.to_be_bytes()), Ok(300)),
            ("don't fragment", |h| h[6] = 0x40, Ok(300)),
            ("to another", |h| h[19] = 9, Err(Reason::NotForUs)),
            ("IPv6", |h| h[0] = 0x65, Err(Reason::NotDhcp)),
            ("TCP", |h| h[9] = 6, Err(Reason::NotDhcp)),
            ("IP options", |h| h[0] = 0x46, Err(Reason::OddIp)),
            ("first fragment", |h| h[6] = 0x20, Err(Reason::OddIp)),
            ("later fragment", |h| h[7] = 1, Err(Reason::OddIp)),
            ("to another port", |h| h[23] = 68, Err(Reason::NotDhcp)),
            ("from another port", |h| h[21] = 99, Err(Reason::NotDhcp)),
            ("from a relay", |h| h[21] = 67, Err(Reason::Relayed)),
            ("IP length too large", |h| h[2] = 2, Err(Reason::BadLength)),
            ("IP length too small", |h| h[2..4].copy_from_slice(&[0, 27]), Err(Reason::BadLength)),
            ("UDP length wrong", |h| h[25] -= 1, Err(Reason::BadLength)),
        ];
        for (name, change, expected) in table {
            assert_eq!(request(&headers(change), 330, SERVER), expected, "{name}");
        }
        let mut damaged = headers(|_| {});
        damaged[10] ^= 1;
        assert_eq!(request(&damaged, 330, SERVER), Err(Reason::OddIp));
        assert_eq!(request(&headers(|_| {}), 327, SERVER), Err(Reason::BadLength), "cut off");
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
    fn the_tag_stands_behind_the_addresses() {
        let mut room = [7; 20];
        ethernet(&mut room, [1; 6], [2; 6], None);
        assert_eq!(room[6..], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0]);
        ethernet(&mut room, [1; 6], [2; 6], Some([0x60, 90]));
        assert_eq!(room[2..], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x81, 0, 0x60, 90, 8, 0]);
    }
}
