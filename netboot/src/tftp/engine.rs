//! What an engine is: something that moves packets and reads files for sessions. No protocol here.
//!
//! An engine has one thread of its own and everything of its sessions stays there, so nothing needs to be `Send`.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// An engine: the runtime of its thread.
pub(super) trait Engine: Sized + 'static {
    /// What it is called in the log.
    const NAME: &'static str;
    /// Its sockets.
    type Socket: Socket;

    /// Sets the engine up on this thread, for so many sockets.
    fn new(sockets: usize) -> io::Result<Self>;

    /// Runs to the end of `future` and drops what is left.
    fn block_on<F: Future>(self, future: F) -> F::Output;
}

/// A socket of an engine, and how the engine reads files. Dropping it closes the port at once.
pub(super) trait Socket: Sized + 'static {
    /// An open file.
    type File: 'static;

    /// Takes over a bound socket.
    fn adopt(socket: UdpSocket) -> io::Result<Self>;

    /// Takes over an open file.
    fn file(file: File) -> Self::File;

    /// Receives one packet into `buffer`, at most up to its capacity. The future may be kept across other events; when
    /// it is dropped a packet may be lost.
    async fn recv(&self, buffer: Vec<u8>) -> (io::Result<SocketAddr>, Vec<u8>);

    /// Sends `packets` to `peer`: one packet, or with `segment` as many as there are segments of so many bytes, the
    /// last perhaps shorter.
    async fn send(&self, packets: Vec<u8>, segment: Option<u16>, peer: SocketAddr) -> io::Result<()>;

    /// Reads once at `at`, at most up to the buffer's capacity.
    async fn read(file: &Self::File, buffer: Vec<u8>, at: u64) -> (io::Result<()>, Vec<u8>);
}

/// The control message that makes the kernel cut a buffer into packets (udp(7), `UDP_SEGMENT`).
pub(super) fn segment_control(segment: u16) -> Vec<u8> {
    const SOL_UDP: i32 = 17;
    const UDP_SEGMENT: i32 = 103;
    // struct cmsghdr, cmsg(3): length with header, level, type; then the data, padded to a machine word.
    let header = size_of::<usize>() + 2 * size_of::<i32>();
    let mut control = Vec::with_capacity(header + size_of::<usize>());
    control.extend((header + size_of::<u16>()).to_ne_bytes());
    control.extend(SOL_UDP.to_ne_bytes());
    control.extend(UDP_SEGMENT.to_ne_bytes());
    control.extend(segment.to_ne_bytes());
    control.resize(header + size_of::<usize>(), 0);
    control
}
