//! Reads a pcapng file as the specification has it, without the code that wrote it.

use std::net::Ipv4Addr;

/// Address and port.
pub(super) type End = (Ipv4Addr, u16);

/// A packet of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) interface: u32,
    pub(super) at_ns: u64,
    /// 1: received, 2: sent.
    pub(super) direction: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) length: u32,
    pub(super) comment: String,
}

/// What a whole file says.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Names of the interfaces.
    pub(super) interfaces: Vec<String>,
    pub(super) packets: Vec<Packet>,
    /// How many interfaces have sums.
    pub(super) sums: usize,
}

impl Packet {
    /// Source, destination and payload of a UDP datagram in an untagged frame.
    pub(super) fn udp(&self) -> Option<(End, End, &[u8])> {
        let bytes = self.bytes.as_slice();
        if bytes.get(12..14)? != [8, 0] || *bytes.get(23)? != 17 {
            return None;
        }
        let addr = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
        let half = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let payload = bytes.get(42..34 + usize::from(half(38)?))?;
        Some(((addr(26)?, half(34)?), (addr(30)?, half(36)?), payload))
    }

    /// The message type of a DHCP packet.
    pub(super) fn dhcp(&self) -> Option<u8> {
        let (from, to, payload) = self.udp()?;
        if ![67, 68].contains(&from.1) && ![67, 68].contains(&to.1) {
            return None;
        }
        let mut options = payload.get(240..)?;
        while let [code, length, rest @ ..] = options {
            match code {
                53 => return rest.first().copied(),
                0 => options = &options[1..],
                _ => options = rest.get(usize::from(*length)..)?,
            }
        }
        None
    }
}

/// Reads it all. It must be whole to its last byte.
pub(super) fn read(bytes: &[u8]) -> File {
    let mut file = File::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = word(rest, 4) as usize;
        assert!(
            length >= 12 && length.is_multiple_of(4) && length <= rest.len(),
            "a block of {length} bytes"
        );
        assert_eq!(word(rest, length - 4) as usize, length);
        let body = &rest[8..length - 4];
        match word(rest, 0) {
            0x0a0d_0d0a => {
                assert_eq!(rest.len(), bytes.len(), "it comes first");
                assert_eq!((word(body, 0), &body[4..8]), (0x1a2b_3c4d, &[1, 0, 0, 0][..]));
            }
            1 => {
                assert_eq!(&body[..4], [1, 0, 0, 0]);
                assert_eq!(option(&body[8..], 9), Some(vec![9]), "nanoseconds");
                file.interfaces.push(String::from_utf8(option(&body[8..], 2).unwrap()).unwrap());
            }
            6 => file.packets.push(packet(body)),
            5 => file.sums += 1,
            other => panic!("a block of type {other}"),
        }
        rest = &rest[length..];
    }
    for packet in &file.packets {
        assert!((packet.interface as usize) < file.interfaces.len());
    }
    file
}

fn packet(body: &[u8]) -> Packet {
    let length = word(body, 12) as usize;
    let options = &body[20 + length.next_multiple_of(4)..];
    let comment = option(options, 1).unwrap_or_default();
    Packet {
        interface: word(body, 0),
        at_ns: u64::from(word(body, 4)) << 32 | u64::from(word(body, 8)),
        direction: word(&option(options, 2).unwrap(), 0) & 0b11,
        bytes: body[20..20 + length].to_vec(),
        length: word(body, 16),
        comment: String::from_utf8(comment).unwrap(),
    }
}

fn option(mut options: &[u8], wanted: u16) -> Option<Vec<u8>> {
    while let [c0, c1, l0, l1, rest @ ..] = options {
        let (code, length) = (u16::from_le_bytes([*c0, *c1]), usize::from(u16::from_le_bytes([*l0, *l1])));
        if code == wanted {
            return Some(rest[..length].to_vec());
        }
        options = &rest[length.next_multiple_of(4)..];
    }
    None
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
