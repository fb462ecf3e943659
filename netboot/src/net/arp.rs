//! Looks whether somebody uses an address: ARP probes (RFC 5227 2.1.1), sent and their answers heard.
//!
//! Decides nothing and waits for nothing. A probe has no sender's address, so it changes no neighbour's table.

use std::io::{self, Read};
use std::net::Ipv4Addr;

use socket2::{SockFilter, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::frames;
use super::link::Link;
use crate::mac::Mac;

/// `EtherType` of ARP.
const ETHERTYPE: u16 = 0x0806;
/// Ethernet, IPv4, six and four bytes (RFC 826).
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// An ARP packet with its Ethernet header.
const LENGTH: usize = 42;

/// Probes on one interface.
#[derive(Debug)]
pub struct Prober {
    socket: AsyncFd<Socket>,
    mac: Mac,
}

impl Prober {
    /// Opens the socket. Must be called within a tokio runtime; needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// When it may not, or the interface is gone.
    pub fn open(link: &Link) -> io::Result<Self> {
        let socket = frames::socket(link.index, ETHERTYPE, &replies())?;
        // SAFETY: a `Socket` owns its descriptor, always names the same one, and closes it when it is dropped with this.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, mac: link.mac })
    }

    /// Asks who has an address.
    ///
    /// # Errors
    /// When the interface is down or its queue is full.
    pub fn send(&self, addr: Ipv4Addr) -> io::Result<()> {
        self.socket.get_ref().send(&probe(self.mac, addr)).map(drop)
    }

    /// Waits until [`Self::try_answer`] has something to say. Can be given up at any time.
    ///
    /// # Errors
    /// When the socket cannot be waited for.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(drop)
    }

    /// What the next packet says: that somebody has an address, and who; none if it says nothing of the kind.
    ///
    /// # Errors
    /// `WouldBlock` when there is no packet; others when the socket fails, as when the interface is gone.
    pub fn try_answer(&self) -> io::Result<Option<(Ipv4Addr, Mac)>> {
        let mut frame = [0; 64];
        let read = |mut socket: &Socket| socket.read(&mut frame);
        let length = self.socket.try_io(Interest::READABLE, read)?;
        Ok(owner(frame.get(..length).unwrap_or_default()).filter(|(_, mac)| *mac != self.mac))
    }
}

/// The frame that asks who has an address.
fn probe(mac: Mac, addr: Ipv4Addr) -> Vec<u8> {
    let parts: [&[u8]; 8] = [
        &Mac::BROADCAST.0,
        &mac.0,
        &ETHERTYPE.to_be_bytes(),
        &KIND,
        // A request; from nobody's address.
        &[0, 1],
        &mac.0,
        &[0; 10],
        &addr.octets(),
    ];
    parts.concat()
}

/// The sender's address and Ethernet address of an ARP reply.
fn owner(frame: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let arp = frame.get(14..LENGTH)?;
    let (kind, arp) = arp.split_first_chunk::<6>()?;
    let (operation, arp) = arp.split_first_chunk::<2>()?;
    let (mac, arp) = arp.split_first_chunk::<6>()?;
    let addr = arp.first_chunk::<4>()?;
    (*kind == KIND && *operation == [0, 2]).then_some((Ipv4Addr::from(*addr), Mac(*mac)))
}

/// Lets pass ARP replies (classic BPF; a jump is the number of instructions to leave out). The `EtherType` is the
/// socket's.
fn replies() -> [SockFilter; 4] {
    // BPF_LD | BPF_H | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K of linux/bpf_common.h
    const HALF: u16 = 0x28;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const OPERATION: u32 = 20;
    [
        SockFilter::new(HALF, 0, 0, OPERATION),
        SockFilter::new(IF_EQUAL, 0, 1, 2),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{LENGTH, owner, probe};
    use crate::mac::Mac;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const ADDR: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 17);

    #[test]
    fn a_probe_names_no_sender() {
        let frame = probe(MAC, ADDR);
        assert_eq!(frame.len(), LENGTH);
        assert_eq!(frame[..14], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6]);
        assert_eq!(frame[14..28], [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(frame[28..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 168, 90, 17]);
    }

    #[test]
    fn who_answers_is_read_and_nothing_else() {
        let mut frame = probe(MAC, ADDR);
        assert_eq!(owner(&frame), None, "a request");
        frame[21] = 2;
        frame[28..32].copy_from_slice(&ADDR.octets());
        frame.resize(60, 0);
        assert_eq!(owner(&frame), Some((ADDR, MAC)));
        for length in 0..LENGTH {
            assert_eq!(owner(&frame[..length]), None, "{length}");
        }
        frame[15] = 6;
        assert_eq!(owner(&frame), None, "another kind of network");
    }
}
