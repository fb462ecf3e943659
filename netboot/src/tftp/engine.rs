//! What an engine is: something that brings packets of many sockets to one thread. No protocol here.
//!
//! Sending needs none: a window is one system call, whoever makes it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Room for a packet of a client: an ACK or an ERROR.
pub(super) const PACKET: usize = 512;

/// Brings packets.
pub(super) trait Engine: Sized {
    /// What it is called in the log.
    const NAME: &'static str;

    /// For this thread. `wake` is an eventfd: when it is written to, a wait ends.
    ///
    /// # Errors
    /// Why the kernel does not let it.
    fn new(wake: Arc<OwnedFd>) -> io::Result<Self>;

    /// Brings the packets of a socket from now on, under this number, which no other ever had.
    ///
    /// # Errors
    /// When the kernel has no room for it.
    fn add(&mut self, id: u64, socket: &Arc<UdpSocket>) -> io::Result<()>;

    /// Brings them no longer. Some may still come.
    fn remove(&mut self, id: u64);

    /// Waits until there is something, somebody wakes it or the time is over, and takes what is there. It looks without
    /// sleeping for as long as `spin`: who sleeps is late for who answers within microseconds.
    ///
    /// # Errors
    /// When it cannot wait.
    fn wait(&mut self, time: Duration, spin: Duration, arrivals: &mut Arrivals) -> io::Result<()>;
}

/// Packets that have arrived. Kept from one wait to the next, so that nothing is allocated.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    bytes: Vec<u8>,
    list: Vec<Arrival>,
    /// Sockets that can bring no more, and why.
    pub(super) broken: Vec<(u64, io::Error)>,
}

#[derive(Debug)]
struct Arrival {
    id: u64,
    from: SocketAddr,
    bytes: Range<usize>,
}

impl Arrivals {
    /// Adds a packet of a socket.
    pub(super) fn put(&mut self, id: u64, from: SocketAddr, packet: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        self.list.push(Arrival { id, from, bytes: start..self.bytes.len() });
    }

    /// There is none.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.broken.is_empty()
    }

    /// In the order in which they came: the socket's number, who sent it, the packet.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, SocketAddr, &[u8])> {
        let packet = |bytes: &Range<usize>| self.bytes.get(bytes.clone()).unwrap_or_default();
        self.list.iter().map(move |arrival| (arrival.id, arrival.from, packet(&arrival.bytes)))
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
        self.broken.clear();
    }
}
