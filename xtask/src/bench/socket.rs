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
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    lengths: [usize; BATCH],
}

impl Batch {
    /// Empty frames.
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BATCH * ROOM], lengths: [0; BATCH] }
    }

    /// The rooms of all frames.
    pub(super) fn rooms(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_exact_mut(ROOM)
    }

    /// The first frames.
    pub(super) fn frames(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        let rooms = self.bytes.chunks_exact(ROOM).zip(self.lengths).take(count);
        rooms.map(|(room, length)| room.get(..length).unwrap_or_default())
    }

    /// What the kernel reads and writes: a header and a vector for each of the first frames.
    fn with<R>(&mut self, count: usize, length: usize, call: impl FnOnce(&mut [libc::mmsghdr]) -> R) -> R {
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: length.min(ROOM) }; BATCH];
        // SAFETY: integers and pointers; null and 0 say that there is none.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let rooms = self.bytes.chunks_exact_mut(ROOM);
        for ((header, vector), room) in headers.iter_mut().zip(&mut vectors).zip(rooms) {
            vector.iov_base = room.as_mut_ptr().cast();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        let result = call(headers.get_mut(..count.min(BATCH)).unwrap_or_default());
        for (length, header) in self.lengths.iter_mut().zip(&headers) {
            *length = usize::try_from(header.msg_len).unwrap_or_default().min(ROOM);
        }
        result
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

    /// Sends the first frames of a batch, all of this length; returns how many the kernel took.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(super) fn send_all(&self, batch: &mut Batch, count: usize, length: usize) -> io::Result<usize> {
        let sent = batch.with(count, length, |headers| {
            let count = u32::try_from(headers.len()).unwrap_or_default();
            // SAFETY: so many headers, each with one vector that lies within the batch; all outlive the call.
            unsafe { libc::sendmmsg(self.0.as_raw_fd(), headers.as_mut_ptr(), count, 0) }
        });
        counted(sent)
    }

    /// Receives into a batch what is there; returns how many frames that are.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(super) fn receive_all(&self, batch: &mut Batch) -> io::Result<usize> {
        let received = batch.with(BATCH, ROOM, |headers| {
            let count = u32::try_from(headers.len()).unwrap_or_default();
            // SAFETY: as for sending; the vectors may be written to.
            unsafe {
                libc::recvmmsg(self.0.as_raw_fd(), headers.as_mut_ptr(), count, 0, std::ptr::null_mut())
            }
        });
        counted(received)
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
