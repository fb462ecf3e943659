//! Whole frames with lengths and checksums, made plainly: nothing of netboot's own is used here.

use std::net::Ipv4Addr;

use netboot::mac::Mac;

/// What a datagram travels in.
#[derive(Clone)]
pub(crate) struct Envelope {
    /// Ethernet destination.
    pub(crate) to: Mac,
    /// Ethernet source.
    pub(crate) from: Mac,
    /// VLAN tags as they stand there, the outer first.
    pub(crate) tags: Vec<[u8; 4]>,
    /// IP and UDP source.
    pub(crate) src: (Ipv4Addr, u16),
    /// IP and UDP destination.
    pub(crate) dst: (Ipv4Addr, u16),
}

/// The frame.
pub(crate) fn frame(envelope: &Envelope, data: &[u8]) -> Vec<u8> {
    let Envelope { to, from, tags, src, dst } = envelope;
    let mut udp = [src.1.to_be_bytes(), dst.1.to_be_bytes(), number(8 + data.len()), [0, 0]].concat();
    udp.extend(data);
    let pseudo = [&src.0.octets()[..], &dst.0.octets(), &[0, 17], &number(udp.len()), &udp].concat();
    let sum = match checksum(&pseudo) {
        0 => [0xff; 2],
        sum => sum.to_be_bytes(),
    };
    udp[6..8].copy_from_slice(&sum);

    let mut ip = [[0x45, 0], number(20 + udp.len()), [0, 0], [0, 0], [64, 17], [0, 0]].concat();
    ip.extend([src.0.octets(), dst.0.octets()].concat());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&to.0[..], &from.0, &tags.concat(), &[8, 0], &ip, &udp].concat()
}

/// Gives the IPv4 header of a frame a right checksum again, if there is one.
pub(crate) fn correct(frame: &mut [u8]) {
    let at = (12..=20).step_by(4).find(|at| frame.get(*at..at + 2) == Some(&[8, 0])).map(|at| at + 2);
    if let Some(header) = at.and_then(|at| frame.get_mut(at..at + 20)) {
        header[10..12].fill(0);
        let sum = checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

fn number(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("an IP packet").to_be_bytes()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}
