//! UDP sockets of the client and of the null responder, and many datagrams by one system call.

use std::io;
use std::mem::zeroed;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use rustix::net::sockopt;

/// The most datagrams in one system call.
pub(super) const BATCH: usize = 64;
/// Room for the windows that are on their way.
const BUFFER: usize = 8 << 20;

/// A socket that never blocks and has room. Needs `CAP_NET_ADMIN`.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn open(addr: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(addr)?;
    socket.set_nonblocking(true)?;
    sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
    sockopt::set_socket_send_buffer_size_force(&socket, BUFFER)?;
    Ok(socket)
}

/// Lets the kernel cut what is sent into datagrams of so many bytes (`UDP_SEGMENT`).
///
/// # Errors
/// When it cannot.
pub(super) fn segment(socket: &UdpSocket, bytes: u16) -> io::Result<()> {
    let value = libc::c_int::from(bytes);
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: the pointer is to an integer that outlives the call, and the length is its own.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            std::ptr::from_ref(&value).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams that are received by one system call.
pub(super) struct Datagrams {
    /// A room for each. Its bytes stay where they are: the vectors point to them.
    bytes: Vec<u8>,
    room: usize,
    headers: Vec<libc::mmsghdr>,
    count: usize,
    /// The headers point to these.
    _vectors: Vec<libc::iovec>,
}

impl Datagrams {
    /// Room for datagrams of so many bytes; one that is longer is cut, and has this length.
    pub(super) fn new(room: usize) -> Self {
        let mut bytes = vec![0; room * BATCH];
        let mut vectors: Vec<libc::iovec> = bytes
            .chunks_exact_mut(room)
            .map(|room| libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() })
            .collect();
        let header = |vector: &mut libc::iovec| {
            // SAFETY: integers and pointers; null and 0 say that there is none.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        };
        let headers = vectors.iter_mut().map(header).collect();
        Self { bytes, room, headers, count: 0, _vectors: vectors }
    }

    /// Receives what is there, so many at most; returns how many that are.
    ///
    /// # Errors
    /// When nobody listens at the other end any more, or the kernel refuses.
    pub(super) fn receive(&mut self, socket: &UdpSocket, most: usize) -> io::Result<usize> {
        let most = u32::try_from(most.min(self.headers.len())).unwrap_or_default();
        self.count = 0;
        // SAFETY: there are so many headers, each with one vector, each of which is to a room of its own in `bytes`; none
        // of the three is moved or made longer as long as this lives, and nothing else uses them during the call.
        let received = unsafe {
            let headers = self.headers.as_mut_ptr();
            libc::recvmmsg(socket.as_raw_fd(), headers, most, 0, std::ptr::null_mut())
        };
        let Ok(count) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            let is_nothing = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if is_nothing { Ok(0) } else { Err(error) };
        };
        self.count = count;
        Ok(count)
    }

    /// Those that were received last.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u8]> {
        let parts = self.bytes.chunks_exact(self.room).zip(&self.headers).take(self.count);
        parts.map(|(room, header)| {
            let length = usize::try_from(header.msg_len).unwrap_or_default();
            room.get(..length).unwrap_or(room)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::{BATCH, Datagrams, segment};

    /// Two sockets on the loopback, joined.
    fn pair() -> (UdpSocket, UdpSocket) {
        let one = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        one.connect(other.local_addr().unwrap()).unwrap();
        other.connect(one.local_addr().unwrap()).unwrap();
        other.set_nonblocking(true).unwrap();
        (one, other)
    }

    #[test]
    fn many_by_one_call() {
        let (one, other) = pair();
        for text in ["a", "", "four", "too long"] {
            one.send(text.as_bytes()).unwrap();
        }
        let mut datagrams = Datagrams::new(5);
        assert_eq!(datagrams.receive(&other, 1).unwrap(), 1);
        assert_eq!(datagrams.each().collect::<Vec<_>>(), [b"a"]);
        assert_eq!(datagrams.receive(&other, BATCH).unwrap(), 3);
        assert_eq!(datagrams.each().collect::<Vec<_>>(), [&b""[..], b"four", b"too l"]);
        assert_eq!(datagrams.receive(&other, BATCH).unwrap(), 0);
        assert_eq!(datagrams.each().count(), 0);
    }

    #[test]
    fn one_send_is_many_datagrams() {
        let (one, other) = pair();
        segment(&one, 4).unwrap();
        one.send(b"aaaabbbbcc").unwrap();
        let mut datagrams = Datagrams::new(8);
        assert_eq!(datagrams.receive(&other, BATCH).unwrap(), 3);
        assert_eq!(datagrams.each().collect::<Vec<_>>(), [&b"aaaa"[..], b"bbbb", b"cc"]);
    }
}
