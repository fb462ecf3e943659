//! Whole Ethernet frames, for clients that cannot answer ARP because they have no address yet (RFC 2131 4.1).
//!
//! Sends only; knows nothing of DHCP. The checksums are complete: what leaves with half a checksum is dropped by
//! clients behind a veth or a bridge.

use std::io;
use std::mem::size_of;
use std::net::SocketAddrV4;

use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

use crate::mac::Mac;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;

/// A UDP datagram with all its envelopes.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Ethernet source.
    pub from_mac: Mac,
    /// Ethernet destination.
    pub to_mac: Mac,
    /// IP and UDP source.
    pub from: SocketAddrV4,
    /// IP and UDP destination.
    pub to: SocketAddrV4,
    /// What is inside.
    pub payload: &'a [u8],
}

/// Builds the frame: TTL 64, identification, flags and type of service 0, both checksums.
/// `None` when the payload does not fit into an IPv4 packet.
pub fn frame(datagram: &Datagram<'_>) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(UDP + datagram.payload.len()).ok()?;
    let ip_length = u16::try_from(IPV4 + UDP + datagram.payload.len()).ok()?;
    let addresses = [datagram.from.ip().octets(), datagram.to.ip().octets()].concat();

    let mut ip = vec![0x45, 0];
    ip.extend(ip_length.to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(&addresses);
    let checksum = !sum(0, &ip);

    let mut udp = Vec::with_capacity(udp_length.into());
    udp.extend(datagram.from.port().to_be_bytes());
    udp.extend(datagram.to.port().to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(datagram.payload);
    let pseudo = sum(sum(17, &addresses), &udp_length.to_be_bytes());
    let udp_checksum = match !sum(pseudo, &udp) {
        // 0 would say that there is none (RFC 768).
        0 => u16::MAX,
        other => other,
    };

    let mut frame = Vec::with_capacity(ETHERNET + usize::from(ip_length));
    frame.extend(datagram.to_mac.0);
    frame.extend(datagram.from_mac.0);
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(udp);
    frame.get_mut(ETHERNET + 10..ETHERNET + 12)?.copy_from_slice(&checksum.to_be_bytes());
    frame.get_mut(ETHERNET + IPV4 + 6..ETHERNET + IPV4 + 8)?.copy_from_slice(&udp_checksum.to_be_bytes());
    Some(frame)
}

/// The one's complement sum (RFC 1071), continued from an earlier one over an even number of bytes.
pub(crate) fn sum(start: u16, bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u16::from_be_bytes([high, low]),
        [high] => u16::from_be_bytes([high, 0]),
        _ => 0,
    });
    words.fold(start, |sum, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// A packet socket on the interface with this index, for the frames of this `EtherType` that the filter lets pass.
/// Without an `EtherType`, 0, the kernel delivers nothing to it.
///
/// # Errors
/// When it may not, or the interface is gone.
pub(super) fn socket(index: u32, ethertype: u16, filter: &[SockFilter]) -> io::Result<Socket> {
    // Nothing arrives before it is bound, and then through the filter.
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
    if !filter.is_empty() {
        socket.attach_filter(filter)?;
    }
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage is large and aligned enough for every kind of socket address, and `LinkLayer` is
    // laid out as the kernel's `sockaddr_ll`; zeros are valid in all its fields.
    let addr = unsafe { storage.view_as::<LinkLayer>() };
    // Both constants are small numbers.
    addr.family = u16::try_from(i32::from(Domain::PACKET)).unwrap_or_default();
    addr.protocol = ethertype.to_be();
    addr.index = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    let length = u32::try_from(size_of::<LinkLayer>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: family, protocol and index were written above, the rest is zero, and the length is the type's own.
    socket.bind(&unsafe { SockAddr::new(storage, length) })?;
    Ok(socket)
}

/// A socket that puts frames on one interface. It receives nothing.
#[derive(Debug)]
pub struct Frames(Socket);

/// `sockaddr_ll` of packet(7).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LinkLayer {
    family: u16,
    protocol: u16,
    index: i32,
    /// What kind of interface it is (`ARPHRD_…`).
    pub(super) hardware: u16,
    /// For whom a frame is, or that it was sent (`PACKET_…`).
    pub(super) kind: u8,
    length: u8,
    addr: [u8; 8],
}

impl LinkLayer {
    /// What the kernel has written into a packet socket's address.
    pub(super) fn read(addr: SockAddr) -> Self {
        let mut storage = addr.as_storage();
        // SAFETY: the storage is large and aligned enough for every kind of socket address and wholly initialised; any
        // bytes are valid in these integers.
        *unsafe { storage.view_as::<Self>() }
    }
}

impl Frames {
    /// Opens the socket on the interface with this index. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// When it may not, or the interface is gone.
    pub fn open(index: u32) -> io::Result<Self> {
        // Protocol 0: the kernel delivers nothing to it.
        let socket = socket(index, 0, &[])?;
        // One storm's replies at a time.
        socket.set_send_buffer_size(1 << 20)?;
        Ok(Self(socket))
    }

    /// Puts a frame on the wire.
    ///
    /// # Errors
    /// When the interface is down or its queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::{Datagram, frame};
    use crate::mac::Mac;

    fn sample(payload: &[u8]) -> Vec<u8> {
        frame(&Datagram {
            from_mac: Mac([2, 0, 0, 0, 0, 1]),
            to_mac: Mac([2, 0, 0, 0, 0, 2]),
            from: SocketAddrV4::new(Ipv4Addr::new(192, 168, 90, 2), 67),
            to: SocketAddrV4::new(Ipv4Addr::new(192, 168, 90, 11), 68),
            payload,
        })
        .unwrap()
    }

    /// RFC 1071 the long way: 32 bits, folded at the end.
    fn folded(bytes: &[u8]) -> u32 {
        let mut sum: u32 =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    }

    #[test]
    fn every_byte_of_the_envelopes() {
        let frame = sample(b"abc");
        #[rustfmt::skip]
        let want = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
            0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0x45, 0x70, 192, 168, 90, 2, 192, 168, 90, 11,
            0, 67, 0, 68, 0, 11,
        ];
        assert_eq!(frame[..40], want);
        assert_eq!(&frame[42..], b"abc");
    }

    #[test]
    fn checksums_hold_for_odd_and_even_payloads() {
        for length in 0..600 {
            let payload: Vec<u8> = (0..=250).cycle().skip(length).step_by(7).take(length).collect();
            let frame = sample(&payload);
            assert_eq!(folded(&frame[14..34]), 0xffff, "IP, {length} bytes");
            let mut udp = frame[26..34].to_vec();
            udp.extend([0, 17]);
            udp.extend(&frame[38..40]);
            udp.extend(&frame[34..]);
            assert_eq!(folded(&udp), 0xffff, "UDP, {length} bytes");
            assert_ne!(frame[40..42], [0, 0]);
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        // The payload is what makes the sum come out as 0xffff.
        let empty = sample(&[0, 0]);
        let checksum = [empty[40], empty[41]];
        let frame = sample(&checksum);
        assert_eq!(frame[40..42], [0xff, 0xff]);
    }

    #[test]
    fn too_long_is_no_frame() {
        let addr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        let mac = Mac([0; 6]);
        let payload = vec![0; 65_508];
        let datagram = Datagram { from_mac: mac, to_mac: mac, from: addr, to: addr, payload: &payload };
        assert!(frame(&datagram).is_none());
        assert!(frame(&Datagram { payload: &payload[1..], ..datagram }).is_some());
    }
}
