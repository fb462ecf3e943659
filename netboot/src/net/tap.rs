//! All that passes an interface, in both directions, as a packet socket sees it: with its time, for whom it is, and the VLAN
//! tag that the kernel has taken off put back.
//!
//! Receives only, and changes nothing about the interface. Which kinds of traffic there are to see is the `filter`'s; what
//! an XDP program answers never comes here.

mod filter;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use socket2::{MaybeUninitSlice, MsgHdrMut, SockAddr, SockAddrStorage, Socket};

use super::frames::{self, LinkLayer};
use super::sockopt::{self, SOL_PACKET};

/// `ETH_P_ALL`: every protocol, and what is sent too.
const EVERYTHING: u16 = 0x0003;
/// Longest frame that is received whole: the kernel hands over many of one transfer as one of up to 64 KiB.
const LONGEST: usize = 128 << 10;
/// Before the frame, for its tag.
const TAG: usize = 4;
/// Both Ethernet addresses.
const ADDRESSES: usize = 12;
/// Room for what comes while nobody looks.
const RECEIVE_BUFFER: usize = 32 << 20;
/// Room for the control messages: a time of 16 bytes, `struct tpacket_auxdata` of 20, and their heads.
const CONTROL: usize = 128;

const SOL_SOCKET: i32 = 1;
const SO_TIMESTAMPNS: i32 = 35;
const PACKET_STATISTICS: i32 = 6;
const PACKET_AUXDATA: i32 = 8;

/// For whom a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// For this machine.
    ToUs,
    /// For everybody.
    Broadcast,
    /// For a group.
    Multicast,
    /// For somebody else.
    ToOthers,
    /// From this machine.
    Sent,
}

/// A frame that passed.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The frame.
    pub bytes: &'a [u8],
    /// How long it was, if more than that.
    pub length: usize,
    /// When, nanoseconds since 1970.
    pub at_ns: u64,
    /// For whom.
    pub way: Way,
    /// Its checksum is half of one: the network card was to complete it, or there was none between here and its sender.
    pub unsummed: bool,
}

/// A packet socket that hears everything the filter lets pass.
#[derive(Debug)]
pub struct Tap {
    socket: Socket,
    room: Vec<MaybeUninit<u8>>,
    received: u64,
    dropped: u64,
}

impl Tap {
    /// Opens it on the interface with this index: ARP, UDP and ICMP over IPv4, and TCP from or to a port. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// When it may not, the interface is gone, or it is no Ethernet.
    pub fn open(index: u32, tcp_port: Option<u16>) -> io::Result<Self> {
        const ETHERNET: u16 = 1;
        const LOOPBACK: u16 = 772;
        let socket = frames::socket(index, EVERYTHING, &filter::of(tcp_port))?;
        let hardware = LinkLayer::read(socket.local_addr()?).hardware;
        if hardware != ETHERNET && hardware != LOOPBACK {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it is not an Ethernet interface"));
        }
        sockopt::set(&socket, SOL_PACKET, PACKET_AUXDATA, &1i32.to_ne_bytes())?;
        sockopt::set(&socket, SOL_SOCKET, SO_TIMESTAMPNS, &1i32.to_ne_bytes())?;
        // Without CAP_NET_ADMIN it is what net.core.rmem_max allows.
        set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
            .or_else(|_| set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER))?;
        Ok(Self { socket, room: vec![MaybeUninit::new(0); TAG + LONGEST], received: 0, dropped: 0 })
    }

    /// The next frame; `None` when there is none now.
    ///
    /// # Errors
    /// When the socket fails, as it does once when the interface goes down.
    pub fn hear(&mut self) -> io::Result<Option<Seen<'_>>> {
        // The whole length is returned, and not what had room.
        const MSG_TRUNC: i32 = 0x20;
        let mut addr = from();
        let mut control = [MaybeUninit::new(0); CONTROL];
        let (length, control_length) = {
            let Some(place) = self.room.get_mut(TAG..) else { return Ok(None) };
            let mut place = [MaybeUninitSlice::new(place)];
            let header = MsgHdrMut::new().with_addr(&mut addr).with_buffers(&mut place);
            let mut header = header.with_control(&mut control);
            match self.socket.recvmsg(&mut header, MSG_TRUNC) {
                Ok(length) => (length, header.control_len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        let (room, control) = (bytes_mut(&mut self.room), bytes_mut(&mut control));
        let Facts { at_ns, tag, unsummed } = Facts::read(control.get(..control_length).unwrap_or_default());
        let end = TAG + length.min(LONGEST);
        let mut start = TAG;
        if let Some([kind, number]) = tag
            && length >= ADDRESSES
        {
            start = 0;
            room.copy_within(TAG..TAG + ADDRESSES, 0);
            for (place, byte) in
                room.iter_mut().skip(ADDRESSES).zip([kind.to_be_bytes(), number.to_be_bytes()].concat())
            {
                *place = byte;
            }
        }
        let length = length + TAG - start;
        let way = way(LinkLayer::read(addr).kind);
        Ok(Some(Seen { bytes: room.get(start..end).unwrap_or_default(), length, at_ns, way, unsummed }))
    }

    /// How many frames have passed the filter so far, and how many of these found no room.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn counts(&mut self) -> io::Result<(u64, u64)> {
        // `struct tpacket_stats`, which begins anew each time it is read.
        let [r0, r1, r2, r3, d0, d1, d2, d3] = sockopt::get(&self.socket, SOL_PACKET, PACKET_STATISTICS)?;
        self.received += u64::from(u32::from_ne_bytes([r0, r1, r2, r3]));
        self.dropped += u64::from(u32::from_ne_bytes([d0, d1, d2, d3]));
        Ok((self.received, self.dropped))
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Room for the address that comes with a frame.
fn from() -> SockAddr {
    let storage = SockAddrStorage::zeroed();
    let length = storage.size_of();
    // SAFETY: zeros are an address of no family, and the length is the storage's own.
    unsafe { SockAddr::new(storage, length) }
}

/// Bytes that were written once, and since then by the kernel.
fn bytes_mut(bytes: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    // SAFETY: all of them were initialised when they were made, and the kernel writes bytes only.
    unsafe { bytes.assume_init_mut() }
}

/// `PACKET_HOST` and the like of linux/if_packet.h.
fn way(kind: u8) -> Way {
    match kind {
        1 => Way::Broadcast,
        2 => Way::Multicast,
        3 => Way::ToOthers,
        4 => Way::Sent,
        _ => Way::ToUs,
    }
}

/// What the control messages say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    at_ns: u64,
    /// Its `EtherType`, and priority and number.
    tag: Option<[u16; 2]>,
    unsummed: bool,
}

impl Facts {
    /// Reads the control messages: each a length with its head, level and type, padded to a word.
    fn read(mut control: &[u8]) -> Self {
        const WORD: usize = size_of::<usize>();
        const HEAD: usize = WORD + 8;
        let mut facts = Self::default();
        while let Some((head, _)) = control.split_first_chunk::<WORD>() {
            let length = usize::from_ne_bytes(*head);
            let Some(message) = control.get(WORD..length) else { break };
            let number = |at: usize| Some(i32::from_ne_bytes(*message.get(at..)?.first_chunk()?));
            let data = message.get(8..).unwrap_or_default();
            match (number(0), number(4)) {
                (Some(SOL_SOCKET), Some(SO_TIMESTAMPNS)) => facts.at_ns = time(data).unwrap_or_default(),
                (Some(SOL_PACKET), Some(PACKET_AUXDATA)) => facts.auxiliary(data),
                _ => {}
            }
            control = control.get(length.max(HEAD).next_multiple_of(WORD)..).unwrap_or_default();
        }
        facts
    }

    /// `struct tpacket_auxdata`.
    fn auxiliary(&mut self, data: &[u8]) {
        const NOT_SUMMED: u32 = 1 << 3;
        const HAS_TAG: u32 = 1 << 4;
        const HAS_KIND: u32 = 1 << 6;
        let status = data.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        let half = |at| data.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_ne_bytes(*bytes));
        self.unsummed = status & NOT_SUMMED != 0;
        if status & HAS_TAG != 0 {
            let kind = half(18).filter(|_| status & HAS_KIND != 0).unwrap_or(0x8100);
            self.tag = half(16).map(|number| [kind, number]);
        }
    }
}

/// `struct timespec` in nanoseconds since 1970.
fn time(data: &[u8]) -> Option<u64> {
    let (secs, rest) = data.split_first_chunk()?;
    let secs = u64::try_from(i64::from_ne_bytes(*secs)).ok()?;
    let nanos = u32::try_from(i64::from_ne_bytes(*rest.first_chunk()?)).ok()?;
    u64::try_from(Duration::new(secs, nanos).as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::Facts;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let head = [&(16 + data.len()).to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes()];
        let mut message = [head.concat(), data.to_vec()].concat();
        message.resize(message.len().next_multiple_of(8), 0);
        message
    }

    fn auxiliary(status: u32, tag: u16, kind: u16) -> Vec<u8> {
        let parts = [&status.to_ne_bytes()[..], &[0; 12], &tag.to_ne_bytes(), &kind.to_ne_bytes()];
        message(263, 8, &parts.concat())
    }

    #[test]
    fn time_tag_and_checksum_are_found() {
        let time = message(1, 35, &[5i64.to_ne_bytes(), 7i64.to_ne_bytes()].concat());
        let at_ns = 5_000_000_007;
        let table = [
            (auxiliary(0, 0, 0), None, false),
            (auxiliary(1 << 3, 0, 0), None, true),
            (auxiliary(1 << 4 | 1 << 6, 90, 0x88a8), Some([0x88a8, 90]), false),
            (auxiliary(1 << 4, 0x2005, 0), Some([0x8100, 0x2005]), false),
        ];
        for (auxiliary, tag, unsummed) in table {
            let expected = Facts { at_ns, tag, unsummed };
            for order in [[time.clone(), auxiliary.clone()], [auxiliary, time.clone()]] {
                assert_eq!(Facts::read(&order.concat()), expected);
                assert_eq!(Facts::read(&[message(9, 9, b"other"), order.concat()].concat()), expected);
            }
        }
    }

    #[test]
    fn any_bytes_are_read() {
        let whole = [auxiliary(1 << 4, 90, 0), message(1, 35, &[0xff; 16])].concat();
        for length in 0..whole.len() {
            Facts::read(&whole[..length]);
        }
        for length in [0, 1, 15, 17, usize::MAX] {
            Facts::read(&[length.to_ne_bytes().as_slice(), &[0xff; 32]].concat());
        }
    }
}
