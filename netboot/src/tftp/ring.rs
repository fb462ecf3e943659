//! The io_uring engine: the only file that knows that crate, and the memory that it shares with the kernel.
//!
//! Each socket has one receive that goes on (multishot): a packet that arrives is put into one of the ring's buffers and told
//! by a completion, without a system call. One needs Linux 6.0 for that; whether it is so is tried once.

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{BufRingEntry, Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::engine::{Arrivals, Engine, PACKET};

/// `IORING_ENTER_GETEVENTS`
const GET_EVENTS: u32 = 1;
/// Completions that are nobody's packet.
const WAKE: u64 = u64::MAX;
const CANCELLED: u64 = u64::MAX - 1;
/// Buffers; a packet that finds none waits in its socket.
const BUFFERS: u16 = 512;
/// A buffer: what the kernel says of a packet, its sender, and the packet.
const BUFFER: usize = 64 + PACKET;
const GROUP: u16 = 0;

/// A thread's ring.
pub(super) struct Ring {
    // Goes before the memory that the kernel knows from it.
    uring: IoUring,
    buffers: Buffers,
    /// How much of a sender's address the kernel is to say. It reads this when a receive begins.
    shape: Box<libc::msghdr>,
    wake: Arc<OwnedFd>,
}

// SAFETY: the addresses in `shape` are null, and the memory of `buffers` is its own.
unsafe impl Send for Ring {}

impl Engine for Ring {
    const NAME: &'static str = "io_uring";

    fn new(wake: Arc<OwnedFd>) -> io::Result<Self> {
        let mut ring = Self::without_trial(wake)?;
        ring.try_it()?;
        ring.watch_wake()?;
        Ok(ring)
    }

    fn add(&mut self, id: u64, socket: &Arc<UdpSocket>) -> io::Result<()> {
        let receive = opcode::RecvMsgMulti::new(Fd(socket.as_raw_fd()), &raw const *self.shape, GROUP);
        self.push(&receive.build().user_data(id))?;
        // Now: when it completes for the first time the socket is the ring's own, too.
        self.uring.submit().map(drop)
    }

    fn remove(&mut self, id: u64) {
        let cancel = opcode::AsyncCancel::new(id).build().user_data(CANCELLED);
        // Only then is the port free.
        if self.push(&cancel).and_then(|()| self.uring.submit().map(drop)).is_err() {
            tracing::debug!("a TFTP port is given back when the daemon ends");
        }
    }

    fn wait(&mut self, time: Duration, spin: Duration, arrivals: &mut Arrivals) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            let woken = self.take(arrivals)?;
            let spent = begun.elapsed();
            if woken || !arrivals.is_empty() || (spin.is_zero() && spent >= time) {
                return Ok(());
            }
            if spent < spin {
                // SAFETY: without arguments; it only makes the kernel put down what has arrived.
                let looked =
                    unsafe { self.uring.submitter().enter::<libc::sigset_t>(0, 0, GET_EVENTS, None) };
                looked.map(drop).or_else(unless_passing)?;
                if self.uring.completion().is_empty() {
                    // Whoever else can run does: it may be a client.
                    std::thread::yield_now();
                }
                continue;
            }
            let left = Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos());
            let arguments = SubmitArgs::new().timespec(&left);
            self.uring.submitter().submit_with_args(1, &arguments).map(drop).or_else(unless_passing)?;
            return self.take(arrivals).map(drop);
        }
    }
}

/// That the time is over, a signal came, or completions wait for room is no failure: it is looked for what is there.
fn unless_passing(error: io::Error) -> io::Result<()> {
    let passing = [libc::ETIME, libc::EINTR, libc::EBUSY].map(Some).contains(&error.raw_os_error());
    if passing { Ok(()) } else { Err(error) }
}

impl Ring {
    fn without_trial(wake: Arc<OwnedFd>) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(4 * u32::from(BUFFERS));
        // Linux 6.1: what has arrived is put down when this thread asks for it, and nothing interrupts it before.
        let deferred = builder.clone().setup_single_issuer().setup_defer_taskrun().build(256);
        let uring = deferred.or_else(|_| builder.build(256))?;
        let buffers = Buffers::new()?;
        // SAFETY: the memory is mapped as long as the ring lives: `uring` is dropped before it.
        unsafe { uring.submitter().register_buf_ring(buffers.entries.as_ptr() as u64, BUFFERS, GROUP) }?;
        // SAFETY: null pointers and zeros are a good one.
        let mut shape: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        shape.msg_namelen = u32::try_from(size_of::<libc::sockaddr_in>()).unwrap_or_default();
        Ok(Self { uring, buffers, shape, wake })
    }

    /// Sends itself a packet: an old kernel takes the request and does not know what it means.
    fn try_it(&mut self) -> io::Result<()> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        let addr = socket.local_addr()?;
        self.add(0, &socket)?;
        socket.send_to(b"?", addr)?;
        let (mut arrivals, begun) = (Arrivals::default(), Instant::now());
        while arrivals.is_empty() && begun.elapsed() < Duration::from_secs(1) {
            self.wait(Duration::from_millis(10), Duration::ZERO, &mut arrivals)?;
        }
        self.remove(0);
        if let Some((_, error)) = arrivals.broken.pop() {
            return Err(error);
        }
        if !arrivals.iter().any(|(_, from, packet)| from == addr && packet == b"?") {
            return Err(io::Error::other("a packet did not come through the ring"));
        }
        Ok(())
    }

    fn watch_wake(&mut self) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(self.wake.as_raw_fd()), libc::POLLIN as u32).multi(true);
        self.push(&poll.build().user_data(WAKE))?;
        self.uring.submit().map(drop)
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what the entries name lives as long as the ring: `shape`, and file descriptors, which the kernel
        // looks up when the entry is submitted; each caller submits at once, its socket still open.
        if unsafe { self.uring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.uring.submit()?;
        // SAFETY: as above.
        unsafe { self.uring.submission().push(entry) }.map_err(io::Error::other)
    }

    /// Takes the completions that are there; whether somebody has woken this thread.
    fn take(&mut self, arrivals: &mut Arrivals) -> io::Result<bool> {
        let (mut woken, mut poll_again) = (false, false);
        let Self { uring, buffers, shape, wake } = self;
        for done in uring.completion() {
            let (id, flags) = (done.user_data(), done.flags());
            match id {
                CANCELLED => continue,
                WAKE => {
                    let _ = rustix::io::read(&**wake, &mut [0; 8]);
                    woken = true;
                    poll_again |= !cqueue::more(flags);
                    continue;
                }
                _ => {}
            }
            if let Some(number) = cqueue::buffer_select(flags) {
                let packet = buffers.get(number, done.result());
                if let Ok(packet) = RecvMsgOut::parse(packet, shape)
                    && let Some(from) = address(packet.name_data())
                {
                    arrivals.put(id, from, packet.payload_data());
                }
                buffers.give_back(number);
            }
            if !cqueue::more(flags) && done.result() != -libc::ECANCELED {
                let error = match done.result() {
                    // For want of buffers or of room for completions.
                    result if result >= 0 || result == -libc::ENOBUFS => Errno::NOBUFS.into(),
                    result => io::Error::from_raw_os_error(-result),
                };
                arrivals.broken.push((id, error));
            }
        }
        if poll_again {
            self.watch_wake()?;
        }
        Ok(woken)
    }
}

/// A sender, out of a `sockaddr_in`.
fn address(name: &[u8]) -> Option<SocketAddr> {
    let [_, _, p0, p1, a, b, c, d, ..] = *name else { return None };
    Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p0, p1])).into())
}

/// Buffers that the kernel puts packets into, and the list by which it is told which are free.
struct Buffers {
    /// First the list, then the buffers.
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    length: usize,
    tail: u16,
}

impl Buffers {
    fn new() -> io::Result<Self> {
        let list = (usize::from(BUFFERS) * size_of::<BufRingEntry>()).next_multiple_of(4096);
        let length = list + usize::from(BUFFERS) * BUFFER;
        // SAFETY: new memory at a place that the kernel chooses; it is aligned to a page, as the list has to be.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        // SAFETY: within the mapping.
        let memory = unsafe { start.add(list) };
        let mut buffers = Self { entries: start.cast(), memory, length, tail: 0 };
        (0..BUFFERS).for_each(|number| buffers.give_back(number));
        Ok(buffers)
    }

    /// What the kernel has put into a buffer.
    fn get(&self, number: u16, result: i32) -> &[u8] {
        let length = usize::try_from(result).unwrap_or_default().min(BUFFER);
        let number = usize::from(number.min(BUFFERS - 1));
        // SAFETY: within the mapping; the kernel does not touch a buffer until it is given back.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(number * BUFFER), length) }
    }

    fn give_back(&mut self, number: u16) {
        let place = usize::from(self.tail % BUFFERS);
        // SAFETY: `place` is in the list, whose end only we move; the kernel reads an entry when the end is behind it.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(place);
            entry.set_addr(self.memory.as_ptr().add(usize::from(number) * BUFFER) as u64);
            entry.set_len(u32::try_from(BUFFER).unwrap_or_default());
            entry.set_bid(number);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the first entry is there, and the end of the list is in it, aligned; the kernel only reads it.
        let end = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        end.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: mapped with this length; the ring, which alone knows of it, is gone.
        let _ = unsafe { rustix::mm::munmap(self.entries.as_ptr().cast(), self.length) };
    }
}
