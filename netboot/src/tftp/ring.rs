//! The io_uring engine (tokio-uring): the only file that knows that crate.
//!
//! Two of its habits matter here. An operation outlives its dropped future, and holds the socket open with it: a socket
//! that is dropped is shut down first, which ends a waiting receive. And completing a receive without a sender's address
//! panics, so nothing may be received from a socket after that.

use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr, UdpSocket};

use super::engine::{Engine, Socket, segment_control};

/// A thread's ring.
pub(super) struct Ring(tokio_uring::Runtime);

/// A socket on the ring.
pub(super) struct RingSocket(tokio_uring::net::UdpSocket);

impl Engine for Ring {
    const NAME: &'static str = "io_uring";
    type Socket = RingSocket;

    fn new(sockets: usize) -> io::Result<Self> {
        // Each socket has a receive waiting and at times a send: room for all of them to complete at once.
        let completions = u32::try_from(sockets.saturating_mul(2)).unwrap_or(u32::MAX).clamp(1024, 32768);
        let mut ring = tokio_uring::uring_builder();
        ring.setup_cqsize(completions.next_power_of_two());
        tokio_uring::Runtime::new(tokio_uring::builder().entries(512).uring_builder(&ring)).map(Self)
    }

    fn block_on<F: Future>(self, future: F) -> F::Output {
        self.0.block_on(future)
    }
}

impl Socket for RingSocket {
    type File = tokio_uring::fs::File;

    fn adopt(socket: UdpSocket) -> io::Result<Self> {
        // A non-blocking socket would make the kernel answer EAGAIN where it should wait.
        socket.set_nonblocking(false)?;
        Ok(Self(tokio_uring::net::UdpSocket::from_std(socket)))
    }

    fn file(file: File) -> Self::File {
        tokio_uring::fs::File::from_std(file)
    }

    async fn recv(&self, mut buffer: Vec<u8>) -> (io::Result<SocketAddr>, Vec<u8>) {
        buffer.clear();
        let (result, buffer) = self.0.recv_from(buffer).await;
        (result.map(|(_, peer)| peer), buffer)
    }

    async fn send(&self, packets: Vec<u8>, segment: Option<u16>, peer: SocketAddr) -> io::Result<()> {
        match segment {
            None => self.0.send_to(packets, peer).await.0.map(drop),
            Some(segment) => {
                self.0.sendmsg(vec![packets], Some(peer), Some(segment_control(segment))).await.0.map(drop)
            }
        }
    }

    async fn read(file: &Self::File, mut buffer: Vec<u8>, at: u64) -> (io::Result<()>, Vec<u8>) {
        buffer.clear();
        let (result, buffer) = file.read_at(buffer, at).await;
        (result.map(drop), buffer)
    }
}

impl Drop for RingSocket {
    fn drop(&mut self) {
        // It says "not connected", and wakes the waiting receive all the same.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
