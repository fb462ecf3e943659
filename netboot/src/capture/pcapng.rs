//! Blocks of a pcapng file, as Wireshark reads it (draft-ietf-opsawg-pcapng): section header, interface description,
//! enhanced packet, interface statistics. Bytes only, little-endian.
//!
//! Our own, for what is written here is four small blocks.

use std::time::Duration;

/// Link type of Ethernet frames.
const ETHERNET: u16 = 1;
/// Longest packet that Wireshark takes.
pub const LONGEST: u32 = 262_144;

/// Which way a packet went, as `epb_flags` has it: its direction, and for whom it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Received, not known for whom.
    pub const INBOUND: Self = Self::received(0);
    /// Sent.
    pub const OUTBOUND: Self = Self(0b10);
    /// Received, for this machine alone.
    pub const UNICAST: Self = Self::received(1);
    /// Received, for a group.
    pub const MULTICAST: Self = Self::received(2);
    /// Received, for everybody.
    pub const BROADCAST: Self = Self::received(3);
    /// Received, for somebody else.
    pub const PROMISCUOUS: Self = Self::received(4);

    /// The direction is in the lowest two bits, for whom it was in the next three.
    const fn received(by: u32) -> Self {
        Self(by << 2 | 0b01)
    }
}

/// A packet of an interface, the interfaces being numbered from 0 in the order of their blocks.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The interface.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub at_ns: u64,
    /// Which way it went.
    pub flags: Flags,
    /// Its bytes, as far as they are kept.
    pub bytes: &'a [u8],
    /// How many it had.
    pub length: usize,
    /// What there is to say about it.
    pub comment: Option<&'a str>,
}

/// The block at the beginning.
pub fn section(program: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend([1, 0, 0, 0]);
    // The length of the section is not known.
    body.extend(u64::MAX.to_le_bytes());
    option(&mut body, 4, program.as_bytes());
    end(&mut body);
    block(0x0a0d_0d0a, &body)
}

/// An interface, its times in nanoseconds.
pub fn interface(name: &str, description: &str, longest: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(ETHERNET.to_le_bytes());
    body.extend([0, 0]);
    body.extend(longest.to_le_bytes());
    option(&mut body, 2, name.as_bytes());
    option(&mut body, 3, description.as_bytes());
    option(&mut body, 9, &[9]);
    end(&mut body);
    block(1, &body)
}

/// A packet.
pub fn packet(packet: &Packet<'_>) -> Vec<u8> {
    let mut body = Vec::with_capacity(packet.bytes.len() + 64);
    body.extend(packet.interface.to_le_bytes());
    time(&mut body, packet.at_ns);
    body.extend(number(packet.bytes.len()).to_le_bytes());
    body.extend(number(packet.length).to_le_bytes());
    body.extend(packet.bytes);
    pad(&mut body);
    option(&mut body, 2, &packet.flags.0.to_le_bytes());
    if let Some(comment) = packet.comment {
        option(&mut body, 1, comment.as_bytes());
    }
    end(&mut body);
    block(6, &body)
}

/// What an interface came to between two times: packets that were seen, and packets that were lost for want of room.
pub fn statistics(interface: u32, between_ns: [u64; 2], received: u64, dropped: u64) -> Vec<u8> {
    let [start_ns, end_ns] = between_ns;
    let mut body = Vec::new();
    body.extend(interface.to_le_bytes());
    time(&mut body, end_ns);
    for (code, at_ns) in [(2, start_ns), (3, end_ns)] {
        let mut at = Vec::new();
        time(&mut at, at_ns);
        option(&mut body, code, &at);
    }
    option(&mut body, 4, &received.to_le_bytes());
    // What the operating system lost.
    option(&mut body, 7, &dropped.to_le_bytes());
    end(&mut body);
    block(5, &body)
}

/// Nanoseconds of a time as the file has them; after the year 2554 the last that there is.
pub fn nanos(since_1970: Duration) -> u64 {
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

/// The type, the length at both ends, and between them what is in it, which is padded.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = number(body.len() + 12).to_le_bytes();
    [&kind.to_le_bytes(), &length, body, &length].concat()
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..value.len().min(u16::MAX.into())).unwrap_or_default();
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
    body.extend(value);
    pad(body);
}

/// The option that ends a list of them.
fn end(body: &mut Vec<u8>) {
    option(body, 0, &[]);
}

/// The upper half of a time comes first, whatever the order of bytes.
fn time(body: &mut Vec<u8>, at_ns: u64) {
    for half in [at_ns >> 32, at_ns & 0xffff_ffff] {
        body.extend(u32::try_from(half).unwrap_or_default().to_le_bytes());
    }
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Flags, Packet, interface, packet, section, statistics};

    /// A block's type and body; its two lengths must agree.
    fn open(block: &[u8]) -> (u32, &[u8]) {
        let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
        let length = block.len();
        assert!(length.is_multiple_of(4) && word(4) == word(length - 4));
        assert_eq!(word(4) as usize, length);
        (word(0), &block[8..length - 4])
    }

    #[test]
    fn each_block_byte_by_byte() {
        let (kind, body) = open_owned(&section("n 1"));
        assert_eq!(kind, 0x0a0d_0d0a);
        let magic = [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
        assert_eq!(body, [&magic[..], &[0xff; 8], b"\x04\0\x03\0n 1\0", &[0; 4]].concat());

        let (kind, body) = open_owned(&interface("eth1", "all", 65_535));
        assert_eq!(kind, 1);
        let options = b"\x02\0\x04\0eth1\x03\0\x03\0all\0\x09\0\x01\0\x09\0\0\0\0\0\0\0";
        assert_eq!(body, [&[1, 0, 0, 0, 0xff, 0xff, 0, 0][..], options].concat());

        let (kind, body) = open_owned(&statistics(1, [2, 3 << 32 | 4], 5, 6));
        assert_eq!(kind, 5);
        #[rustfmt::skip]
        let expected = [
            1, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0,
            2, 0, 8, 0, 0, 0, 0, 0, 2, 0, 0, 0,
            3, 0, 8, 0, 3, 0, 0, 0, 4, 0, 0, 0,
            4, 0, 8, 0, 5, 0, 0, 0, 0, 0, 0, 0,
            7, 0, 8, 0, 6, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0,
        ];
        assert_eq!(body, expected);
    }

    #[test]
    fn a_packet_is_padded_and_says_which_way_it_went() {
        for length in 0..9 {
            let bytes = vec![7; length];
            for comment in [None, Some("by XDP")] {
                let (interface, at_ns, flags) = (1, 0x1_0000_0002, Flags::BROADCAST);
                let block = packet(&Packet { interface, at_ns, flags, bytes: &bytes, length: 99, comment });
                let (kind, body) = open(&block);
                assert_eq!(kind, 6);
                let head =
                    [1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, u8::try_from(length).unwrap(), 0, 0, 0, 99, 0, 0, 0];
                let padding = vec![0; length.next_multiple_of(4) - length];
                let said: &[u8] = if comment.is_some() { b"\x01\0\x06\0by XDP\0\0" } else { b"" };
                let flags = [2, 0, 4, 0, 0b1101, 0, 0, 0];
                assert_eq!(body, [&head[..], &bytes, &padding, &flags, said, &[0; 4]].concat());
            }
        }
    }

    fn open_owned(block: &[u8]) -> (u32, Vec<u8>) {
        let (kind, body) = open(block);
        (kind, body.to_vec())
    }
}
