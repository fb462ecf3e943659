//! Windows on their way: the packets of many blocks in one system call. A packet is four bytes of header, which are here, and
//! a block, which lies where the file does; the kernel puts them together and cuts the whole into packets (udp(7),
//! `UDP_SEGMENT`).

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;

use rustix::io::Errno;
use socket2::{MsgHdr, SockAddr, SockRef};

use super::pages::Bytes;
use super::transfer::Rollover;
use super::wire::data_header;

/// The most the kernel cuts into packets in one send: segments and bytes.
const SEGMENTS: usize = 64;
const SEND_BYTES: usize = 65_000;

/// How many packets with blocks of so many bytes one send takes.
pub(super) fn per_send(blksize: u16) -> u64 {
    let packet = usize::from(blksize) + 4;
    (SEND_BYTES / packet).clamp(1, SEGMENTS) as u64
}

/// Why blocks were not sent.
#[derive(Debug)]
pub(super) enum Failure {
    /// The file is shorter than it was when it was opened, or cannot be read.
    Unreadable,
    /// The kernel does not cut here.
    Whole(io::Error),
    /// Anything else.
    Io(io::Error),
}

/// Sends these blocks, the first of a file is 1; [`per_send`] of them at most, or one where the kernel does not cut.
///
/// # Errors
/// Why they were not sent.
pub(super) fn blocks(
    socket: &UdpSocket,
    peer: &SockAddr,
    bytes: &Bytes,
    blksize: u16,
    rollover: Rollover,
    blocks: Range<u64>,
) -> Result<(), Failure> {
    let mut headers = [[0; 4]; SEGMENTS];
    let mut parts = [IoSlice::new(&[]); 2 * SEGMENTS];
    let (mut number, size) = (0, bytes.size());
    for ((block, header), part) in blocks.zip(&mut headers).zip(parts.chunks_exact_mut(2)) {
        *header = data_header(rollover.number(block));
        let at = block.saturating_sub(1).saturating_mul(blksize.into()).min(size);
        let length = usize::try_from((size - at).min(blksize.into())).unwrap_or_default();
        let place = bytes.place(at, length).ok_or(Failure::Unreadable)?;
        // SAFETY: so many bytes are mapped there as long as `bytes` lives. They may change meanwhile, so nothing here
        // looks at them: the kernel copies them, and says so (EFAULT) where the file has none any more.
        let data = unsafe { std::slice::from_raw_parts(place, length) };
        let header: &[u8] = header;
        if let [one, other] = part {
            (*one, *other) = (IoSlice::new(header), IoSlice::new(data));
        }
        number += 1;
    }
    let cut = (number > 1).then(|| segment_control(blksize.saturating_add(4)));
    let parts = parts.get(..2 * number).unwrap_or_default();
    let mut message = MsgHdr::new().with_addr(peer).with_buffers(parts);
    if let Some(control) = &cut {
        message = message.with_control(control);
    }
    match SockRef::from(socket).sendmsg(&message, libc::MSG_DONTWAIT) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::FAULT.raw_os_error()) => Err(Failure::Unreadable),
        Err(error) if number > 1 && !passing(&error) => Err(Failure::Whole(error)),
        Err(error) => Err(Failure::Io(error)),
    }
}

/// Sends one packet.
///
/// # Errors
/// When the kernel does not take it.
pub(super) fn packet(socket: &UdpSocket, peer: SocketAddr, packet: &[u8]) -> io::Result<()> {
    let message_to = SockAddr::from(peer);
    let parts = [IoSlice::new(packet)];
    let message = MsgHdr::new().with_addr(&message_to).with_buffers(&parts);
    SockRef::from(socket).sendmsg(&message, libc::MSG_DONTWAIT).map(drop)
}

/// For want of memory or of room in the socket: a packet that was not sent then is a lost packet.
pub(super) fn passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::OutOfMemory
    ) || error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}

/// The control message that makes the kernel cut a buffer into packets (udp(7), `UDP_SEGMENT`).
fn segment_control(segment: u16) -> [u8; CONTROL] {
    const SOL_UDP: i32 = 17;
    const UDP_SEGMENT: i32 = 103;
    // struct cmsghdr, cmsg(3): length with header, level, type; then the data, padded to a machine word.
    let mut control = [0; CONTROL];
    let parts: [&[u8]; 4] = [
        &(CONTROL_HEADER + size_of::<u16>()).to_ne_bytes(),
        &SOL_UDP.to_ne_bytes(),
        &UDP_SEGMENT.to_ne_bytes(),
        &segment.to_ne_bytes(),
    ];
    for (place, byte) in control.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    control
}

const CONTROL_HEADER: usize = size_of::<usize>() + 2 * size_of::<i32>();
const CONTROL: usize = CONTROL_HEADER + size_of::<usize>();

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::Arc;

    use socket2::SockAddr;

    use super::{Failure, Rollover, blocks, per_send};
    use crate::tftp::files::Content;
    use crate::tftp::pages::Store;

    #[test]
    fn a_send_holds_what_the_kernel_cuts() {
        for (blksize, packets) in
            [(8, 64), (512, 64), (1011, 64), (1012, 63), (1468, 44), (8192, 7), (65464, 1)]
        {
            assert_eq!(per_send(blksize), packets, "{blksize}");
            assert!(packets * (u64::from(blksize) + 4) <= 65_507);
        }
    }

    #[test]
    fn many_blocks_leave_at_once_each_with_its_number_the_last_one_short() {
        let content: Vec<u8> = (0..=u8::MAX).cycle().take(512 * 9 + 7).collect();
        let bytes = Arc::new(Store::new(0)).bytes(Content::Generated(content.clone())).unwrap();
        let (server, client) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let peer = SockAddr::from(client.local_addr().unwrap());
        let receive = |numbers: std::ops::Range<u16>| {
            for number in numbers {
                let mut packet = [0; 600];
                let (length, _) = client.recv_from(&mut packet).unwrap();
                let at = 512 * usize::from(number - 1);
                let expected =
                    [&[0, 3], &number.to_be_bytes()[..], &content[at..content.len().min(at + 512)]].concat();
                assert_eq!(packet[..length], expected, "{number}");
            }
        };
        blocks(&server, &peer, &bytes, 512, Rollover::Zero, 1..11).unwrap();
        receive(1..11);
        assert!(
            matches!(blocks(&server, &peer, &bytes, 512, Rollover::Zero, 11..12), Ok(())),
            "an empty one"
        );
        receive(11..11);

        // A socket without checksums is one that the kernel does not cut for.
        let off: libc::c_int = 1;
        // SAFETY: an int, as long as is said.
        let set = unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&server),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                (&raw const off).cast(),
                4,
            )
        };
        assert_eq!(set, 0);
        let mut rest = [0; 600];
        let _ = client.recv_from(&mut rest);
        assert!(matches!(blocks(&server, &peer, &bytes, 512, Rollover::Zero, 3..5), Err(Failure::Whole(_))));
        blocks(&server, &peer, &bytes, 512, Rollover::Zero, 3..4).unwrap();
        receive(3..4);
    }
}
