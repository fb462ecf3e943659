//! Frames as a capture looks at them: who sends what to whom. Bytes only.
//!
//! Whatever is not understood is [`Kind::Other`], and never an error: a capture shows what there is.

use std::net::Ipv4Addr;

use crate::mac::Mac;

const ADDRESSES: usize = 12;
const IPV4: [u8; 2] = [8, 0];
const ARP: [u8; 2] = [8, 6];

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Ethernet source and destination.
    pub macs: [Mac; 2],
    /// Where its IPv4 header begins, if it has one.
    pub ip_at: usize,
    /// What is inside.
    pub kind: Kind<'a>,
}

/// What is inside of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// ARP.
    Arp {
        /// Ethernet addresses of sender and target.
        macs: [Mac; 2],
        /// Addresses of sender and target.
        addrs: [Ipv4Addr; 2],
    },
    /// IPv4.
    Ip(Ip<'a>),
    /// Anything else.
    Other,
}

/// An IPv4 packet, or a fragment of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip<'a> {
    /// Source.
    pub from: Ipv4Addr,
    /// Destination.
    pub to: Ipv4Addr,
    /// Identification: the same in all fragments of a packet.
    pub id: u16,
    /// More fragments of it follow.
    pub more: bool,
    /// Length of the header.
    pub header: usize,
    /// What is inside.
    pub part: Part<'a>,
}

/// What is inside of an IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// UDP; of a fragmented packet the first fragment.
    Udp(Udp<'a>),
    /// TCP, from and to a port.
    Tcp([u16; 2]),
    /// ICMP, and the packet that it is about.
    Icmp(Option<Quoted>),
    /// A later fragment: whose it is, the first one says.
    Later,
    /// Anything else.
    Other,
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp<'a> {
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// What is inside, as far as it is in this frame.
    pub payload: &'a [u8],
}

/// The UDP datagram that an ICMP error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Source.
    pub from: (Ipv4Addr, u16),
    /// Destination.
    pub to: (Ipv4Addr, u16),
}

/// Looks at a frame.
pub fn frame(bytes: &[u8]) -> Frame<'_> {
    let nobody = Frame { macs: [Mac([0; 6]); 2], ip_at: 0, kind: Kind::Other };
    let (Some(to), Some(from)) = (array(bytes, 0), array(bytes, 6)) else { return nobody };
    let mut frame = Frame { macs: [Mac(from), Mac(to)], ..nobody };
    // Up to two tags.
    for tags in 0..=2 {
        let at = ADDRESSES + 4 * tags;
        let inside = bytes.get(at + 2..).unwrap_or_default();
        match array(bytes, at) {
            Some(IPV4) => {
                frame.ip_at = at + 2;
                frame.kind = ip(inside).map_or(Kind::Other, Kind::Ip);
            }
            Some(ARP) => frame.kind = arp(inside).unwrap_or(Kind::Other),
            Some([0x81, 0] | [0x88, 0xa8]) => continue,
            _ => {}
        }
        break;
    }
    frame
}

fn arp(bytes: &[u8]) -> Option<Kind<'_>> {
    // Ethernet, IPv4, six and four bytes (RFC 826).
    if array(bytes, 0)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let (sender, sender_addr): (_, [u8; 4]) = (array(bytes, 8)?, array(bytes, 14)?);
    let (target, target_addr): (_, [u8; 4]) = (array(bytes, 18)?, array(bytes, 24)?);
    Some(Kind::Arp { macs: [Mac(sender), Mac(target)], addrs: [sender_addr.into(), target_addr.into()] })
}

fn ip(bytes: &[u8]) -> Option<Ip<'_>> {
    let [first, ..]: [u8; 20] = array(bytes, 0)?;
    let header = usize::from(first & 0xf) * 4;
    let length = usize::from(half(bytes, 2)?);
    if first >> 4 != 4 || header < 20 || length < header {
        return None;
    }
    let place = half(bytes, 6)?;
    // A small packet is padded behind its end.
    let inside = bytes.get(header..length.min(bytes.len()))?;
    let [protocol] = array(bytes, 9)?;
    let part = match protocol {
        _ if place & 0x1fff != 0 => Part::Later,
        17 => udp(inside).map_or(Part::Other, Part::Udp),
        6 => ports(inside).map_or(Part::Other, Part::Tcp),
        1 => Part::Icmp(quoted(inside)),
        _ => Part::Other,
    };
    let [from, to]: [[u8; 4]; 2] = [array(bytes, 12)?, array(bytes, 16)?];
    Some(Ip {
        from: from.into(),
        to: to.into(),
        id: half(bytes, 4)?,
        more: place & 0x2000 != 0,
        header,
        part,
    })
}

fn ports(bytes: &[u8]) -> Option<[u16; 2]> {
    Some([half(bytes, 0)?, half(bytes, 2)?])
}

fn udp(bytes: &[u8]) -> Option<Udp<'_>> {
    let [from, to] = ports(bytes)?;
    Some(Udp { from, to, payload: bytes.get(8..)? })
}

/// What an ICMP error is about (RFC 792): its types are those that quote a packet.
fn quoted(bytes: &[u8]) -> Option<Quoted> {
    let [kind] = array(bytes, 0)?;
    if ![3, 4, 5, 11, 12].contains(&kind) {
        return None;
    }
    let packet = bytes.get(8..)?;
    let [first] = array(packet, 0)?;
    if first >> 4 != 4 || array(packet, 9)? != [17] || half(packet, 6)? & 0x1fff != 0 {
        return None;
    }
    // Errors quote eight bytes behind the header: the ports, and no more of it for sure.
    let [from_port, to_port] = ports(packet.get(usize::from(first & 0xf) * 4..)?)?;
    let [from, to]: [[u8; 4]; 2] = [array(packet, 12)?, array(packet, 16)?];
    Some(Quoted { from: (from.into(), from_port), to: (to.into(), to_port) })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::{Frame, Kind, Part, Quoted, Udp, frame};
    use crate::mac::Mac;
    use crate::net::frames::{self, Datagram};

    const FROM: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const TO: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn datagram(payload: &[u8]) -> Vec<u8> {
        let addr = |last| Ipv4Addr::new(192, 168, 90, last);
        frames::frame(&Datagram {
            from_mac: FROM,
            to_mac: TO,
            from: SocketAddrV4::new(addr(11), 2000),
            to: SocketAddrV4::new(addr(2), 69),
            payload,
        })
        .unwrap()
    }

    fn part<'a>(frame: &Frame<'a>) -> Part<'a> {
        let Kind::Ip(ip) = frame.kind else { panic!("{frame:?}") };
        assert_eq!((ip.from, ip.to), ([192, 168, 90, 11].into(), [192, 168, 90, 2].into()));
        ip.part
    }

    #[test]
    fn a_datagram_behind_tags_and_before_padding() {
        let whole = datagram(b"abc");
        for tags in [&[][..], &[0x81, 0, 0, 90], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 90]] {
            let bytes = [&whole[..12], tags, &whole[12..], &[0; 20]].concat();
            let seen = frame(&bytes);
            assert_eq!((seen.macs, seen.ip_at), ([FROM, TO], 14 + tags.len()));
            assert_eq!(part(&seen), Part::Udp(Udp { from: 2000, to: 69, payload: b"abc" }));
        }
        let three = [&whole[..12], &[0x81, 0, 0, 1].repeat(3), &whole[12..]].concat();
        assert_eq!(frame(&three).kind, Kind::Other);
    }

    #[test]
    fn fragments_are_told_apart() {
        let mut bytes = datagram(b"abc");
        bytes[20] = 0x20;
        let Kind::Ip(ip) = frame(&bytes).kind else { panic!() };
        assert!(ip.more && matches!(ip.part, Part::Udp(_)));
        bytes[21] = 5;
        assert_eq!(part(&frame(&bytes)), Part::Later);
    }

    #[test]
    fn an_icmp_error_says_what_it_is_about() {
        let quoted = datagram(b"");
        let mut bytes = [&quoted[..34], &[3, 3, 0, 0, 0, 0, 0, 0], &quoted[14..]].concat();
        bytes[23] = 1;
        bytes[17] = u8::try_from(bytes.len() - 14).unwrap();
        let about = Quoted { from: ([192, 168, 90, 11].into(), 2000), to: ([192, 168, 90, 2].into(), 69) };
        assert_eq!(part(&frame(&bytes)), Part::Icmp(Some(about)));
        // An echo quotes nothing.
        bytes[34] = 8;
        assert_eq!(part(&frame(&bytes)), Part::Icmp(None));
    }

    #[test]
    fn arp_names_both() {
        let bytes = [
            &TO.0[..],
            &FROM.0,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &FROM.0,
            &[192, 168, 90, 11],
            &TO.0,
            &[192, 168, 90, 2],
            &[0; 18],
        ];
        let addrs = [[192, 168, 90, 11].into(), [192, 168, 90, 2].into()];
        assert_eq!(frame(&bytes.concat()).kind, Kind::Arp { macs: [FROM, TO], addrs });
    }

    #[test]
    fn stumps_and_noise_are_something_else() {
        let whole = datagram(b"");
        for length in 0..whole.len() {
            let seen = frame(&whole[..length]);
            assert!(!matches!(seen.kind, Kind::Ip(ip) if matches!(ip.part, Part::Udp(_))), "{length}");
        }
        proptest::proptest!(|(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100))| {
            frame(&[&whole[..14], &bytes].concat());
            frame(&bytes);
        });
    }
}
