//! What a virtual blade puts on the wire, and what it reads there: whole Ethernet frames (RFC 2131 2, RFC 2132, RFC 4578).
//!
//! Bytes only: whether a reply is the right one is decided in `blades`. Written without netboot's own code, which is
//! what is measured.

use std::net::Ipv4Addr;

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// Option 53.
pub(super) mod message {
    pub(crate) const DISCOVER: u8 = 1;
    pub(crate) const OFFER: u8 = 2;
    pub(crate) const REQUEST: u8 = 3;
    pub(crate) const ACK: u8 = 5;
}

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
/// Where the DHCP message begins in a frame without IP options.
const DHCP: usize = ETHERNET + IPV4 + UDP;
/// The fixed fields of a DHCP message; the cookie follows.
const HEADER: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Old BOOTP servers take no shorter message.
const SHORTEST: usize = 300;

/// What the blade asks for in its REQUEST: the address that it was offered, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) addr: Ipv4Addr,
    pub(super) server: Ipv4Addr,
}

/// Writes the frame of a BIOS PXE ROM into the buffer: a DISCOVER, or a REQUEST for what it has chosen. The broadcast
/// flag is set: no server then has to find a way around ARP, and the neighbour table stays empty.
pub(super) fn request(frame: &mut Vec<u8>, mac: Mac, xid: u32, chosen: Option<Chosen>) {
    frame.clear();
    frame.extend([0xff; 6]);
    frame.extend(mac);
    frame.extend([8, 0]);
    // Lengths and checksums are filled in below. 0.0.0.0:68 to 255.255.255.255:67.
    frame.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    frame.extend([0, 68, 0, 67, 0, 0, 0, 0]);

    frame.extend([1, 1, 6, 0]);
    frame.extend(xid.to_be_bytes());
    frame.extend([0, 4, 0x80, 0]);
    frame.extend([0; 16]);
    frame.extend(mac);
    frame.resize(DHCP + HEADER, 0);
    frame.extend(COOKIE);
    frame.extend([53, 1, if chosen.is_some() { message::REQUEST } else { message::DISCOVER }]);
    if let Some(Chosen { addr, server }) = chosen {
        frame.extend([50, 4]);
        frame.extend(addr.octets());
        frame.extend([54, 4]);
        frame.extend(server.octets());
    }
    // Largest message 1472; wanted options; BIOS, UNDI 2.1; a GUID that ends in the address.
    frame.extend([57, 2, 5, 192]);
    frame.extend([55, 13, 1, 3, 6, 12, 15, 28, 43, 51, 54, 60, 66, 67, 97]);
    let vendor = b"PXEClient:Arch:00000:UNDI:002001";
    frame.extend([60, 32]);
    frame.extend(vendor);
    frame.extend([93, 2, 0, 0, 94, 3, 1, 2, 1, 97, 17, 0]);
    frame.extend([0x42; 10]);
    frame.extend(mac);
    frame.push(255);
    frame.resize(frame.len().max(DHCP + SHORTEST), 0);

    let length = |from: usize| u16::try_from(frame.len() - from).unwrap_or(u16::MAX).to_be_bytes();
    let (ip, udp) = (length(ETHERNET), length(ETHERNET + IPV4));
    put(frame, ETHERNET + 2, ip);
    put(frame, ETHERNET + IPV4 + 4, udp);
    let header = !sum(frame.get(ETHERNET..ETHERNET + IPV4).unwrap_or_default(), 0);
    put(frame, ETHERNET + 10, header.to_be_bytes());
    let datagram = match !datagram_sum(frame) {
        // 0 would say that there is none (RFC 768).
        0 => u16::MAX,
        other => other,
    };
    put(frame, ETHERNET + IPV4 + 6, datagram.to_be_bytes());
}

fn put(frame: &mut [u8], at: usize, bytes: [u8; 2]) {
    if let Some(place) = frame.get_mut(at..at + 2) {
        place.copy_from_slice(&bytes);
    }
}

/// What was heard on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Something that is not for a DHCP client.
    Other,
    /// For a DHCP client, and no client could take it: a wrong length or checksum, or no DHCP.
    Broken,
    /// A reply.
    Reply(Reply),
}

/// A reply, as far as a blade checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) xid: u32,
    pub(super) mac: Mac,
    pub(super) yiaddr: Ipv4Addr,
    /// Option 53, 0 when absent.
    pub(super) message: u8,
    /// Option 54, unspecified when absent.
    pub(super) server: Ipv4Addr,
}

/// Reads a frame.
pub(super) fn read(frame: &[u8]) -> Heard {
    let to_client = frame.get(12..14) == Some(&[8, 0])
        && frame.get(ETHERNET + 9) == Some(&17)
        && frame.get(ETHERNET + IPV4 + 2..ETHERNET + IPV4 + 4) == Some(&[0, 68]);
    if !to_client {
        return Heard::Other;
    }
    reply(frame).map_or(Heard::Broken, Heard::Reply)
}

fn reply(frame: &[u8]) -> Option<Reply> {
    let number = |at: usize| Some(usize::from(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?)));
    let (ip, udp) = (number(ETHERNET + 2)?, number(ETHERNET + IPV4 + 4)?);
    // Ethernet may have padded the frame.
    let frame = frame.get(..ETHERNET + ip)?;
    let sound = frame.get(ETHERNET) == Some(&0x45)
        && udp + IPV4 == ip
        && sum(frame.get(ETHERNET..ETHERNET + IPV4)?, 0) == u16::MAX
        && (number(ETHERNET + IPV4 + 6)? == 0 || datagram_sum(frame) == u16::MAX);
    let dhcp = frame.get(DHCP..)?;
    if !sound || !dhcp.starts_with(&[2, 1, 6]) || dhcp.get(HEADER..HEADER + 4)? != COOKIE {
        return None;
    }
    let addr = |at: &[u8]| Some(Ipv4Addr::from(*at.first_chunk::<4>()?));
    let mut reply = Reply {
        xid: u32::from_be_bytes(*dhcp.get(4..)?.first_chunk()?),
        mac: *dhcp.get(28..)?.first_chunk()?,
        yiaddr: addr(dhcp.get(16..)?)?,
        message: 0,
        server: Ipv4Addr::UNSPECIFIED,
    };
    let mut options = dhcp.get(HEADER + 4..)?;
    loop {
        match *options {
            [255, ..] => return Some(reply),
            [0, ref rest @ ..] => options = rest,
            [code, length, ref rest @ ..] => {
                let (value, rest) = rest.split_at_checked(length.into())?;
                match code {
                    53 => reply.message = *value.first()?,
                    54 => reply.server = addr(value)?,
                    _ => {}
                }
                options = rest;
            }
            // No END.
            _ => return None,
        }
    }
}

/// The sum over the UDP datagram and its pseudo header.
fn datagram_sum(frame: &[u8]) -> u16 {
    let udp = frame.get(ETHERNET + IPV4..).unwrap_or_default();
    let addresses = frame.get(ETHERNET + 12..ETHERNET + IPV4).unwrap_or_default();
    sum(udp, sum(addresses, 17 + u64::try_from(udp.len()).unwrap_or_default()).into())
}

/// The one's complement sum (RFC 1071).
fn sum(bytes: &[u8], start: u64) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        [high] => u64::from(high) << 8,
        _ => 0,
    });
    let mut sum = start + words.sum::<u64>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Chosen, DHCP, ETHERNET, Heard, IPV4, Mac, Reply, datagram_sum, message, put, read, request};

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    /// A server's answer, made from a request: turned round and filled in.
    pub(in crate::bench) fn answer(
        mac: Mac,
        xid: u32,
        message: u8,
        yiaddr: [u8; 4],
        server: [u8; 4],
    ) -> Vec<u8> {
        let mut frame = Vec::new();
        request(&mut frame, mac, xid, Some(Chosen { addr: server.into(), server: server.into() }));
        frame[ETHERNET + IPV4..ETHERNET + IPV4 + 4].copy_from_slice(&[0, 67, 0, 68]);
        frame[DHCP] = 2;
        frame[DHCP + 16..DHCP + 20].copy_from_slice(&yiaddr);
        let option = DHCP + 240;
        assert_eq!(frame[option..option + 2], [53, 1]);
        frame[option + 2] = message;
        put(&mut frame, ETHERNET + IPV4 + 6, [0, 0]);
        let sum = !datagram_sum(&frame);
        put(&mut frame, ETHERNET + IPV4 + 6, sum.to_be_bytes());
        frame
    }

    /// Whether the checksum of the datagram is right.
    pub(in crate::bench) fn is_sound(frame: &[u8]) -> bool {
        datagram_sum(frame) == u16::MAX
    }

    #[test]
    fn requests_are_not_heard_as_replies() {
        let mut frame = Vec::new();
        request(&mut frame, MAC, 9, None);
        assert_eq!(frame.len(), DHCP + 325, "the options take it past the least length");
        assert_eq!(read(&frame), Heard::Other);
    }

    #[test]
    fn a_reply_is_read() {
        let mut frame = answer(MAC, 9, message::OFFER, [10, 90, 0, 9], [10, 90, 0, 1]);
        let reply = Reply {
            xid: 9,
            mac: MAC,
            yiaddr: [10, 90, 0, 9].into(),
            message: message::OFFER,
            server: [10, 90, 0, 1].into(),
        };
        assert_eq!(read(&frame), Heard::Reply(reply));
        frame.extend([0; 9]);
        assert_eq!(read(&frame), Heard::Reply(reply), "padding of Ethernet is not part of it");
    }

    #[test]
    fn what_no_client_takes_is_broken() {
        let good = answer(MAC, 9, message::OFFER, [10, 90, 0, 9], [10, 90, 0, 1]);
        // A byte of each header and of each part of the message: a checksum is wrong then.
        for at in [ETHERNET, ETHERNET + 4, ETHERNET + IPV4 + 1, DHCP, DHCP + 30, good.len() - 1] {
            let mut frame = good.clone();
            frame[at] ^= 1;
            assert_eq!(read(&frame), Heard::Broken, "byte {at}");
        }
        assert_eq!(read(&good[..good.len() - 1]), Heard::Broken);
    }
}
