//! The plain engine: tokio's sockets and threads for the disk, for kernels that do not allow io_uring.

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use socket2::{MsgHdr, SockAddr, SockRef};
use tokio::io::Interest;
use tokio::task::LocalSet;

use super::engine::{Engine, Socket, segment_control};

/// A thread's runtime.
pub(super) struct Plain(tokio::runtime::Runtime);

impl Engine for Plain {
    const NAME: &'static str = "plain sockets";
    type Socket = tokio::net::UdpSocket;

    fn new(_: usize) -> io::Result<Self> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().map(Self)
    }

    fn block_on<F: Future>(self, future: F) -> F::Output {
        LocalSet::new().block_on(&self.0, future)
    }
}

impl Socket for tokio::net::UdpSocket {
    type File = Arc<File>;

    fn adopt(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::from_std(socket)
    }

    fn file(file: File) -> Self::File {
        Arc::new(file)
    }

    async fn recv(&self, mut buffer: Vec<u8>) -> (io::Result<SocketAddr>, Vec<u8>) {
        buffer.clear();
        let result = self.recv_buf_from(&mut buffer).await;
        (result.map(|(_, peer)| peer), buffer)
    }

    async fn send(&self, packets: Vec<u8>, segment: Option<u16>, peer: SocketAddr) -> io::Result<()> {
        let Some(segment) = segment else {
            return self.send_to(&packets, peer).await.map(drop);
        };
        let (peer, buffers, control) =
            (SockAddr::from(peer), [IoSlice::new(&packets)], segment_control(segment));
        let message = MsgHdr::new().with_addr(&peer).with_buffers(&buffers).with_control(&control);
        self.async_io(Interest::WRITABLE, || SockRef::from(self).sendmsg(&message, 0)).await.map(drop)
    }

    async fn read(file: &Self::File, mut buffer: Vec<u8>, at: u64) -> (io::Result<()>, Vec<u8>) {
        let file = Arc::clone(file);
        let read = tokio::task::spawn_blocking(move || {
            buffer.resize(buffer.capacity(), 0);
            let result = file.read_at(&mut buffer, at);
            buffer.truncate(*result.as_ref().unwrap_or(&0));
            (result.map(drop), buffer)
        });
        read.await.unwrap_or_else(|error| (Err(io::Error::other(error)), Vec::new()))
    }
}
