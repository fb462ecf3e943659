//! What was one frame for the kernel, as the frames that are on the wire.
//!
//! The server sends many TFTP blocks in one piece, which the kernel or the card cuts up behind the place where a capture
//! sees it (UDP segmentation offload); and what is still to be cut has no checksum yet. Bytes only.

use super::wire::{self, Kind, Part};
use crate::net::frames::sum;

const UDP: usize = 8;

/// The frames into which a frame of TFTP data is cut: blocks of so many bytes, numbered one after the other. `None` when it
/// is one block, or not what it should be.
pub(super) fn cut(bytes: &[u8], block: usize) -> Option<Vec<Vec<u8>>> {
    let frame = wire::frame(bytes);
    let Kind::Ip(ip) = frame.kind else { return None };
    let Part::Udp(udp) = ip.part else { return None };
    let size = block.checked_add(4)?;
    let [0, 3, high, low, ..] = *udp.payload else { return None };
    if udp.payload.len() <= size || ip.more {
        return None;
    }
    let head = bytes.get(..frame.ip_at + ip.header + UDP)?;
    let mut number = u16::from_be_bytes([high, low]);
    let mut id = ip.id;
    let mut frames = Vec::new();
    for data in udp.payload.chunks(size) {
        let [high, low] = number.to_be_bytes();
        if !data.starts_with(&[0, 3, high, low]) {
            return None;
        }
        let mut segment = [head, data].concat();
        let length = u16::try_from(ip.header + UDP + data.len()).ok()?;
        put(&mut segment, frame.ip_at + 2, length);
        put(&mut segment, frame.ip_at + 4, id);
        let header = frame.ip_at..frame.ip_at + ip.header;
        put(&mut segment, frame.ip_at + 10, 0);
        let checksum = !sum(0, segment.get(header)?);
        put(&mut segment, frame.ip_at + 10, checksum);
        let udp_length = u16::try_from(UDP + data.len()).ok()?;
        put(&mut segment, frame.ip_at + ip.header + 4, udp_length);
        complete(&mut segment);
        frames.push(segment);
        (number, id) = (number.wrapping_add(1), id.wrapping_add(1));
    }
    Some(frames)
}

/// Completes the checksum of a UDP datagram that is whole; leaves everything else as it is.
pub(super) fn complete(bytes: &mut [u8]) {
    let frame = wire::frame(bytes);
    let Kind::Ip(ip) = frame.kind else { return };
    if !matches!(ip.part, Part::Udp(_)) || ip.more {
        return;
    }
    let udp_at = frame.ip_at + ip.header;
    let addresses = [ip.from.octets(), ip.to.octets()].concat();
    let Some(length) = bytes.get(udp_at + 4..).and_then(<[u8]>::first_chunk::<2>).copied() else { return };
    let whole = udp_at..udp_at + usize::from(u16::from_be_bytes(length));
    if bytes.len() < whole.end {
        return;
    }
    put(bytes, udp_at + 6, 0);
    let Some(datagram) = bytes.get(whole) else { return };
    let pseudo = sum(sum(17, &addresses), &length);
    let checksum = match !sum(pseudo, datagram) {
        // 0 would say that there is none (RFC 768).
        0 => u16::MAX,
        other => other,
    };
    put(bytes, udp_at + 6, checksum);
}

fn put(bytes: &mut [u8], at: usize, number: u16) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = number.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use super::{complete, cut};
    use crate::mac::Mac;
    use crate::net::frames::{Datagram, frame};

    fn datagram(payload: &[u8]) -> Vec<u8> {
        frame(&Datagram {
            from_mac: Mac([2, 0, 0, 0, 0, 1]),
            to_mac: Mac([2, 0, 0, 0, 0, 2]),
            from: SocketAddrV4::new([192, 168, 90, 2].into(), 4000),
            to: SocketAddrV4::new([192, 168, 90, 11].into(), 2000),
            payload,
        })
        .unwrap()
    }

    fn data(number: u16, bytes: &[u8]) -> Vec<u8> {
        [&[0, 3], number.to_be_bytes().as_slice(), bytes].concat()
    }

    /// With the checksum left to the card: it has another value.
    fn unsummed(mut frame: Vec<u8>) -> Vec<u8> {
        frame[40..42].copy_from_slice(&[0x12, 0x34]);
        frame
    }

    #[test]
    fn blocks_in_one_piece_become_the_frames_on_the_wire() {
        // Over the end of the numbers, and with a last block that is shorter.
        let blocks = [data(65_534, &[1; 600]), data(65_535, &[2; 600]), data(0, &[3; 600]), data(1, b"end")];
        for tag in [&[][..], &[0x81, 0, 0, 90]] {
            let tagged = |frame: Vec<u8>| [&frame[..12], tag, &frame[12..]].concat();
            let one = tagged(unsummed(datagram(&blocks.concat())));
            let frames = cut(&one, 600).unwrap();
            assert_eq!(frames.len(), 4);
            for (number, (cut, block)) in (0..).zip(frames.into_iter().zip(&blocks)) {
                // Numbered as the kernel does, so that is all that differs from a datagram sent alone.
                let mut expected = datagram(block);
                expected[19] = number;
                expected[25] -= number;
                assert_eq!(cut, tagged(expected), "{number}");
            }
        }
    }

    #[test]
    fn what_is_no_such_piece_stays_whole() {
        let two = [data(1, &[1; 600]), data(2, &[2; 600])].concat();
        assert!(cut(&datagram(&two), 600).is_some());
        // Another block size; a number left out; one block; no data.
        assert_eq!(cut(&datagram(&two), 512), None);
        assert_eq!(cut(&datagram(&[data(1, &[1; 600]), data(3, &[2; 600])].concat()), 600), None);
        assert_eq!(cut(&datagram(&data(1, &[1; 600])), 600), None);
        assert_eq!(cut(&datagram(&[0, 4, 0, 1]), 0), None);
        assert_eq!(cut(&datagram(&two)[..100], usize::MAX), None);
    }

    #[test]
    fn a_checksum_is_completed_and_all_else_left_alone() {
        for payload in [&b""[..], b"odd", b"even", &[0xff; 1400]] {
            let mut frame = unsummed(datagram(payload));
            complete(&mut frame);
            assert_eq!(frame, datagram(payload));
        }
        for length in 0..60 {
            let mut stump = datagram(&[7; 100])[..length].to_vec();
            let before = stump.clone();
            complete(&mut stump);
            assert_eq!(stump, before);
        }
        let mut other = datagram(b"tcp");
        other[23] = 6;
        let before = other.clone();
        complete(&mut other);
        assert_eq!(other, before);
    }
}
