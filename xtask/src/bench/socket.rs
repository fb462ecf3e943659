//! A packet(7) socket: the blades' common network card. Whole frames in and out, never blocking.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
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
