//! Asks everybody on the wire by DHCP and hears who answers: whole frames, so that no port is taken for it.
//!
//! Knows nothing of what is asked or answered, and bounds both what it hears and how long.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockFilter;

use super::frames::{self, Datagram, Frames};
use super::link::Link;
use crate::mac::Mac;

/// `EtherType` of IPv4.
const ETHERTYPE: u16 = 0x0800;
/// Ethernet, IPv4 without options, UDP.
const HEADERS: usize = 14 + 20 + 8;
/// More frames than all servers of a network send to their clients in that time.
const MOST: usize = 10_000;

/// Broadcasts `payload` from port 68 to port 67, and gives all that is sent to port 68 within `wait` to `heard`: who sent
/// it, and what. What this machine sends itself is not heard. `heard` says whether that was what is looked for: then `more`
/// is left for others.
///
/// # Errors
/// Without `CAP_NET_RAW`, or when the interface goes down.
pub fn ask(
    link: &Link,
    payload: &[u8],
    wait: Duration,
    more: Duration,
    mut heard: impl FnMut(Ipv4Addr, &[u8]) -> bool,
) -> io::Result<()> {
    let mut socket = frames::socket(link.index, ETHERTYPE, &to_clients())?;
    let frame = frames::frame(&Datagram {
        from_mac: link.mac,
        to_mac: Mac::BROADCAST,
        from: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        to: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
        payload,
    });
    Frames::open(link.index)?.send(&frame.ok_or(io::ErrorKind::InvalidInput)?)?;
    let mut end = Instant::now() + wait;
    let mut buffer = vec![0; 65_536];
    for _ in 0..MOST {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let length = match socket.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if let Some((from, payload)) = inside(buffer.get(..length).unwrap_or_default())
            && heard(from, payload)
        {
            end = end.min(Instant::now() + more);
        }
    }
    Ok(())
}

/// The sender's address and the payload of a frame that the filter let pass.
fn inside(frame: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let from = frame.get(26..30)?.first_chunk::<4>()?;
    Some((Ipv4Addr::from(*from), frame.get(HEADERS..)?))
}

/// Lets pass UDP to port 68 in whole IPv4 packets without options (classic BPF; a jump is the number of instructions to
/// leave out). The `EtherType` is the socket's.
fn to_clients() -> [SockFilter; 10] {
    // BPF_LD | BPF_B or BPF_H | BPF_ABS, BPF_JMP | BPF_JEQ or BPF_JSET | BPF_K, BPF_RET | BPF_K of linux/bpf_common.h
    const BYTE: u16 = 0x30;
    const HALF: u16 = 0x28;
    const IF_EQUAL: u16 = 0x15;
    const IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(BYTE, 0, 0, 14),
        SockFilter::new(IF_EQUAL, 0, 7, 0x45),
        SockFilter::new(BYTE, 0, 0, 23),
        SockFilter::new(IF_EQUAL, 0, 5, 17),
        // Neither more fragments nor an offset.
        SockFilter::new(HALF, 0, 0, 20),
        SockFilter::new(IF_SET, 3, 0, 0x3fff),
        SockFilter::new(HALF, 0, 0, 36),
        SockFilter::new(IF_EQUAL, 0, 1, 68),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::inside;
    use crate::mac::Mac;
    use crate::net::frames::{Datagram, frame};

    #[test]
    fn the_sender_and_its_words_are_found() {
        let datagram = Datagram {
            from_mac: Mac([2, 0, 0, 0, 0, 1]),
            to_mac: Mac::BROADCAST,
            from: SocketAddrV4::new([192, 168, 90, 3].into(), 67),
            to: SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
            payload: b"offer",
        };
        let frame = frame(&datagram).unwrap();
        assert_eq!(inside(&frame), Some(([192, 168, 90, 3].into(), &b"offer"[..])));
        for length in 0..42 {
            assert_eq!(inside(&frame[..length]), None, "{length}");
        }
    }
}
