//! A packet(7) socket: the blades' common network card. Whole frames in and out, never blocking.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::netdevice::name_to_index;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
    sockopt,
};

/// `ETH_P_IP`: with it the kernel delivers what comes in; with `ETH_P_ALL` also what goes out.
const ETH_P_IP: u16 = 0x0800;
/// Room for the replies to all blades at once.
const BUFFER: usize = 4 << 20;

/// `sockaddr_ll`.
#[repr(C)]
struct LinkLayer {
    family: u16,
    protocol: u16,
    index: i32,
    hardware: u16,
    kind: u8,
    length: u8,
    addr: [u8; 8],
}

// SAFETY: the pointer is to the whole value, which is laid out as the kernel's `sockaddr_ll` and has no padding; the
// length is its own.
unsafe impl SocketAddrArg for LinkLayer {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        let length = SocketAddrLen::try_from(size_of::<Self>()).unwrap_or_default();
        f(std::ptr::from_ref(self).cast(), length)
    }
}

/// The most frames in one system call.
pub(super) const BATCH: usize = 64;
/// Room for one of them.
const ROOM: usize = 2048;

/// Frames that are sent or received by one system call.
pub(super) struct Batch {
    bytes: Vec<u8>,
    lengths: [usize; BATCH],
    /// How many of the frames are any.
    count: usize,
    vectors: [libc::iovec; BATCH],
    headers: [libc::mmsghdr; BATCH],
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Batch").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Batch {
    /// No frames.
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH * ROOM],
            lengths: [0; BATCH],
            count: 0,
            vectors: [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH],
            // SAFETY: integers and pointers; null and 0 say that there is none.
            headers: unsafe { std::mem::zeroed() },
        }
    }

    /// The rooms of so many frames of this length, which hold what they held before.
    pub(super) fn rooms(&mut self, count: usize, length: usize) -> impl Iterator<Item = &mut [u8]> {
        self.count = count.min(BATCH);
        self.lengths = [length.min(ROOM); BATCH];
        self.bytes.chunks_exact_mut(ROOM).take(self.count)
    }

    /// The frames.
    pub(super) fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let rooms = self.bytes.chunks_exact(ROOM).zip(self.lengths).take(self.count);
        rooms.map(|(room, length)| room.get(..length).unwrap_or_default())
    }

    /// What the kernel reads and writes: a header and a vector for each of the first rooms.
    fn headers(&mut self, count: usize) -> &mut [libc::mmsghdr] {
        let parts = self.headers.iter_mut().zip(&mut self.vectors);
        let rooms = self.bytes.chunks_exact_mut(ROOM).zip(self.lengths);
        for ((header, vector), (room, length)) in parts.zip(rooms).take(count) {
            *vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: length };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        self.headers.get_mut(..count).unwrap_or_default()
    }
}

/// The socket.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Opens it on an interface of this thread's network namespace. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// When it may not, or there is no such interface.
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let protocol = Protocol::from_raw(u32::from(ETH_P_IP.to_be()).try_into().map_err(io::Error::other)?);
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(protocol))?;
        let address = LinkLayer {
            family: AddressFamily::PACKET.as_raw(),
            protocol: ETH_P_IP.to_be(),
            index: name_to_index(&socket, interface)?.try_into().map_err(io::Error::other)?,
            hardware: 0,
            kind: 0,
            length: 0,
            addr: [0; 8],
        };
        bind(&socket, &address)?;
        sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
        Ok(Self(socket))
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.0, frame, SendFlags::empty())?;
        Ok(())
    }

    /// The length of the next frame, `None` when there is none yet.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(super) fn receive(&self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        match recv(&self.0, frame, RecvFlags::empty()) {
            Ok((_, length)) => Ok(Some(length)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends as many frames of a batch as the kernel takes; returns how many that are.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(super) fn send_some(&self, batch: &mut Batch) -> io::Result<usize> {
        let headers = batch.headers(batch.count);
        let count = u32::try_from(headers.len()).unwrap_or_default();
        // SAFETY: so many headers, each with one vector that lies within the batch; all outlive the call.
        counted(unsafe { libc::sendmmsg(self.0.as_raw_fd(), headers.as_mut_ptr(), count, 0) })
    }

    /// Receives into a batch what is there; returns how many frames that are.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(super) fn receive_all(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.lengths = [ROOM; BATCH];
        let headers = batch.headers(BATCH);
        let count = u32::try_from(headers.len()).unwrap_or_default();
        // SAFETY: as for sending; the vectors may be written to.
        let received = unsafe {
            libc::recvmmsg(self.0.as_raw_fd(), headers.as_mut_ptr(), count, 0, std::ptr::null_mut())
        };
        batch.count = counted(received)?;
        for (length, header) in batch.lengths.iter_mut().zip(&batch.headers).take(batch.count) {
            *length = usize::try_from(header.msg_len).unwrap_or_default().min(ROOM);
        }
        Ok(batch.count)
    }

    /// Sleeps until there is a frame or the time is up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn wait(&self, within: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(within).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The number of messages that a call returned. A frame for which there is no room now is none.
fn counted(result: i32) -> io::Result<usize> {
    if let Ok(count) = usize::try_from(result) {
        return Ok(count);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => Ok(0),
        _ => Err(error),
    }
}
