//! A VLAN interface in user space, for kernels that cannot make one (`ip link add link pxe0 name pxe0.90 type vlan id 90`).
//!
//! Frames of the VLAN on the trunk, a packet(7) socket, come out of a tap without their tags; what is sent into the tap goes
//! out on the trunk with them. With the tap as a port of a switch it is the other end: what gives tags to machines that
//! know of none. Each frame goes straight through; what cannot be taken is lost, as on a wire.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::from_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read, write};
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::netdevice::name_to_index;
use rustix::net::{
    AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, bind, send, socket_with, sockopt,
};

use super::namespace::Namespace;
use super::tags::{pop, push};

/// `ETH_P_ALL`
const EVERYTHING: u16 = 0x0003;
/// Room for what comes while this thread waits for its turn.
const BUFFER: usize = 4 << 20;
/// No frame is longer here: taps have no offloads unless they are asked for.
const LONGEST: usize = 1 << 16;
/// Frames of one side before the other has its turn.
const AT_ONCE: usize = 64;

/// A VLAN interface; gone with this value.
#[derive(Debug)]
pub struct Vlan {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
    others: AtomicU64,
}

impl Vlan {
    /// Makes the tap of this name, up and without an address, and moves frames with these tags (one, or two with the outer
    /// first) between it and the interface `trunk`, both in this namespace. Needs root.
    ///
    /// # Errors
    /// When there is no `/dev/net/tun`, or the kernel refuses the tap or the socket.
    pub fn start(namespace: &Namespace, trunk: &str, tap: &str, tags: &[u16]) -> Result<Self> {
        if tags.len() > 1 {
            // The kernel has room for one tag over the MTU, and for no second one.
            namespace.ip(&format!("link set {trunk} mtu 1508"))?;
        }
        let (socket, device) = namespace
            .inside(|| open_trunk(trunk).and_then(|socket| Ok((socket, open_tap(tap)?))))?
            .with_context(|| format!("make the VLAN interface {tap} on {trunk} in {}", namespace.name()))?;
        namespace.ip(&format!("link set {tap} up"))?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let counts = Arc::new(Counts::default());
        let moving = Moving { socket, device, tags: tags.to_vec(), counts: Arc::clone(&counts) };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name(tap.to_owned()).spawn(move || moving.run(&stopped))?;
        Ok(Self { stop, thread: Some(thread), counts })
    }

    /// Frames of the VLAN that came from the trunk.
    pub fn received(&self) -> u64 {
        self.counts.received.load(Ordering::Relaxed)
    }

    /// Frames that went out on the trunk.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// Frames that came from the trunk with other tags or none.
    pub fn others(&self) -> u64 {
        self.counts.others.load(Ordering::Relaxed)
    }
}

impl Drop for Vlan {
    fn drop(&mut self) {
        let _ = write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Moving {
    socket: OwnedFd,
    device: OwnedFd,
    tags: Vec<u16>,
    counts: Arc<Counts>,
}

impl Moving {
    /// Until `stop` can be read, or one of the two sides is gone.
    fn run(self, stop: &OwnedFd) {
        let mut buffer = vec![0; LONGEST];
        loop {
            let mut waited = [
                PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.device.as_fd(), PollFlags::IN),
            ];
            match poll(&mut waited, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            let [stopped, ..] = waited;
            if !stopped.revents().is_empty() {
                return;
            }
            for turn in [Self::inbound, Self::outbound] {
                if !goes_on(turn(&self, &mut buffer)) {
                    return;
                }
            }
        }
    }

    fn inbound(&self, buffer: &mut [u8]) -> Result<(), Errno> {
        for _ in 0..AT_ONCE {
            let (length, stripped) = receive(&self.socket, buffer)?;
            let frame = buffer.get(..length).unwrap_or_default();
            let count = match pop(frame, stripped, &self.tags) {
                Some(frame) => {
                    let _ = write(&self.device, &frame);
                    &self.counts.received
                }
                None => &self.counts.others,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn outbound(&self, buffer: &mut [u8]) -> Result<(), Errno> {
        for _ in 0..AT_ONCE {
            let length = read(&self.device, &mut *buffer)?;
            let frame = push(buffer.get(..length).unwrap_or_default(), &self.tags);
            if send(&self.socket, &frame, SendFlags::empty()).is_ok() {
                self.counts.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// Whether that was all for now and the interface is still there; one that is down may come up again.
fn goes_on(turn: Result<(), Errno>) -> bool {
    matches!(turn, Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN))
}

/// `sockaddr_ll`
#[repr(transparent)]
struct LinkLayer(libc::sockaddr_ll);

// SAFETY: the pointer is to the whole value, and the length is its own.
unsafe impl SocketAddrArg for LinkLayer {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        let length = SocketAddrLen::try_from(size_of::<Self>()).unwrap_or_default();
        f(std::ptr::from_ref(self).cast(), length)
    }
}

/// A packet socket that hears everything on an interface but what is sent there, and is told of tags that the kernel took out.
fn open_trunk(interface: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let protocol = Protocol::from_raw(u32::from(EVERYTHING.to_be()).try_into().map_err(io::Error::other)?);
    // Without a protocol until it is bound: nothing of another interface comes.
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    for option in [libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
        let on: libc::c_int = 1;
        let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
        // SAFETY: both take an integer, which lives until the call has returned; the length is its own.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                std::ptr::from_ref(&on).cast(),
                length,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
    let address = LinkLayer(libc::sockaddr_ll {
        sll_family: AddressFamily::PACKET.as_raw(),
        sll_protocol: u16::try_from(protocol.as_raw().get()).map_err(io::Error::other)?,
        sll_ifindex: name_to_index(&socket, interface)?.try_into().map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    });
    bind(&socket, &address)?;
    Ok(socket)
}

/// The length of the next frame, and the tag that the kernel has taken out of it.
fn receive(socket: &OwnedFd, frame: &mut [u8]) -> Result<(usize, Option<u16>), Errno> {
    /// Aligned for a `cmsghdr`, and larger than the one that comes.
    #[repr(align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: zeros are good in all of it.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = from_mut(&mut part);
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: the message points to the caller's frame and to `control`, with their lengths; both outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), from_mut(&mut message), 0) };
    let Ok(length) = usize::try_from(length) else {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
    };
    // SAFETY: the kernel has filled in `message`, whose control buffer is there still.
    let header = unsafe { libc::CMSG_FIRSTHDR(from_mut(&mut message)) };
    // SAFETY: null or a header within the buffer, which is aligned for it.
    let Some(header) = (unsafe { header.as_ref() }) else { return Ok((length, None)) };
    if header.cmsg_level != libc::SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
        return Ok((length, None));
    }
    // SAFETY: this kind has a `tpacket_auxdata` behind its header, within the buffer; read wherever it stands.
    let aux: libc::tpacket_auxdata =
        unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    let stripped = aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    Ok((length, stripped.then_some(aux.tp_vlan_tci)))
}

/// A tap of this name. It is gone when closed.
fn open_tap(name: &str) -> io::Result<OwnedFd> {
    /// `struct ifreq` of linux/if.h with its flags.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    /// `_IOW('T', 202, int)`
    const TUNSETIFF: Opcode = 0x4004_54ca;
    /// `IFF_TAP | IFF_NO_PI`: Ethernet frames and nothing before them.
    const TAP: u16 = 0x1002;
    let device = open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut request = Request { name: [0; 16], flags: TAP, rest: [0; 22] };
    // The last byte stays 0.
    let place = request.name.get_mut(..name.len()).filter(|place| place.len() < 16);
    place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which this is laid out as; it lives until the call has returned.
    unsafe { ioctl(&device, Updater::<'_, TUNSETIFF, Request>::new(&mut request)) }?;
    Ok(device)
}
