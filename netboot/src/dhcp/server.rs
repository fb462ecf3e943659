//! The DHCP server: moves packets between the wire, the policy, the store and the timeline. Decides nothing itself.
//!
//! One task owns the leases and handles one packet after the other; nothing in it waits for a disk. A lease is handed to
//! the writing thread, and its ACK is sent when the thread reports that it is on disk (RFC 2131 3.1, step 4);
//! meanwhile everybody else is answered.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use netboot_ebpf::verdict::message;
use netboot_ebpf::{Class, Reason};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::leases::{Lease, Leases};
use super::options::Subnet;
use super::policy::{self, Addressed, Change, Outcome, Reply, Route, View};
use super::{boot, pool, record, wire};
use crate::config;
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::net::frames::{self, Datagram, Frames};
use crate::net::link::Link;
use crate::net::ports::{self, Proto};
use crate::store::{self, Store, Writer, Written};
use crate::timeline::{By, Step, Timeline};

/// RFC 2131 4.1: servers listen here, clients there.
const SERVER_PORT: u16 = 67;
/// See [`SERVER_PORT`].
const CLIENT_PORT: u16 = 68;
/// Room for requests that arrive while others are handled: a rack that is switched on at once.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Leases that wait for the disk; a client that finds the queue full asks again.
const QUEUE: usize = 4096;
/// No UDP payload is longer.
const LARGEST_DATAGRAM: usize = 65_536;
/// Receive errors in a row after which the sockets are given up.
const RECEIVE_ERRORS: u32 = 64;

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else serves DHCP here.
    #[error("serve DHCP on {interface}: {why}")]
    Taken {
        /// The interface.
        interface: String,
        /// Who, and what to do.
        why: String,
    },
    /// A socket could not be had.
    #[error("{what} on {interface}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// The interface.
        interface: String,
        /// Why not.
        source: io::Error,
    },
    /// The leases could not be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The writing thread could not be started.
    #[error("start the thread that writes the leases: {0}")]
    Thread(io::Error),
    /// The writing thread is gone.
    #[error("the thread that writes the leases has ended")]
    Writer,
}

/// A server with its sockets open and its leases loaded.
#[derive(Debug)]
pub struct Server {
    link: Link,
    subnet: Subnet,
    authoritative: bool,
    /// What is sent to everybody. With [`Self::unicasts`] it says how a packet was addressed, and the kernel keeps
    /// away what is for another host or came in by another interface.
    broadcasts: UdpSocket,
    /// What is sent to this server's address.
    unicasts: UdpSocket,
    frames: Frames,
    leases: Leases,
    writer: Writer<Job>,
    written: mpsc::UnboundedReceiver<Written<Job>>,
}

/// What comes back from the writing thread.
#[derive(Debug)]
struct Job {
    /// The lease that was written, if a record was not just deleted.
    lease: Option<Lease>,
    /// The reply that waits for it.
    answer: Option<Answer>,
}

/// A reply, with what the timeline wants to know.
#[derive(Debug)]
struct Answer {
    mac: Mac,
    class: Class,
    reply: Reply,
}

impl Server {
    /// Opens the sockets on this interface and loads the leases. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When port 67 is taken, the privileges are missing or the leases cannot be read.
    pub fn bind(
        link: &Link,
        subnet: Subnet,
        settings: &config::Dhcp,
        store: impl Store,
    ) -> Result<Self, Error> {
        let stored = record::read_all(&store.list()?);
        let ranges = pool::ranges(subnet.prefix, &settings.pool);
        if ranges.is_empty() {
            tracing::warn!(prefix = %subnet.prefix, "no pool: only machines with a reservation get an address");
        }
        let failed = |what| move |source| Error::Socket { what, interface: link.name.clone(), source };
        let (broadcasts, unicasts) = (socket(link, Ipv4Addr::BROADCAST)?, socket(link, link.addr)?);
        let frames = Frames::open(link.index).map_err(failed("open a raw socket"))?;
        // The last: where it fails the store is closed already, and can be opened again at once.
        let (writer, written) = Writer::start(store, QUEUE).map_err(Error::Thread)?;
        Ok(Self {
            link: link.clone(),
            authoritative: settings.authoritative,
            broadcasts,
            unicasts,
            frames,
            leases: Leases::new(&ranges, stored),
            subnet,
            writer,
            written,
        })
    }

    /// Serves until told to stop; then what is on its way to the disk is finished and answered, and the store closed.
    ///
    /// # Errors
    /// When the sockets no longer work, as when the interface is gone.
    pub async fn run(
        mut self,
        snapshots: Arc<ArcSwap<Snapshot>>,
        timeline: Timeline,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let (mut to_all, mut to_us) = (vec![0; LARGEST_DATAGRAM], vec![0; LARGEST_DATAGRAM]);
        let mut errors = 0;
        let result = loop {
            let received = tokio::select! {
                () = stop.cancelled() => break Ok(()),
                done = self.written.recv() => match done {
                    Some(done) => {
                        self.finish(done, &timeline);
                        continue;
                    }
                    None => break Err(Error::Writer),
                },
                got = self.unicasts.recv(&mut to_us) => got.map(|length| (Addressed::Server, to_us.get(..length))),
                got = self.broadcasts.recv(&mut to_all) => got.map(|length| (Addressed::Broadcast, to_all.get(..length))),
            };
            match received {
                Ok((addressed, packet)) => {
                    errors = 0;
                    self.handle(packet.unwrap_or_default(), addressed, &snapshots.load(), &timeline);
                }
                // One comes when the link goes down for a moment; without end they come when it is gone.
                Err(source) if errors == RECEIVE_ERRORS => {
                    break Err(Error::Socket {
                        what: "receive DHCP",
                        interface: self.link.name.clone(),
                        source,
                    });
                }
                Err(error) => {
                    errors += 1;
                    tracing::warn!(interface = self.link.name, %error, "receive DHCP");
                }
            }
        };
        self.writer.close();
        // Ends when the thread has written all it was given and closed the store.
        while let Some(done) = self.written.recv().await {
            self.finish(done, &timeline);
        }
        result
    }

    fn handle(&mut self, packet: &[u8], addressed: Addressed, snapshot: &Snapshot, timeline: &Timeline) {
        let request = match wire::decode(packet) {
            Ok(request) => request,
            Err(reason) => return ignored(wire::sender(packet), reason, timeline),
        };
        let (mac, class, now) = (request.mac, request.class, now());
        self.leases.sweep(now);
        let (subnet, leases, authoritative) = (&self.subnet, &self.leases, self.authoritative);
        let view = View { subnet, snapshot, leases, authoritative, now };
        match policy::decide(&request, addressed, &view) {
            Outcome::Reply(reply, change) => {
                if reply.message == message::OFFER && boot::lacks_file(subnet, snapshot, mac, class) {
                    let (class, help) = (class.name(), boot::remedy(class));
                    tracing::warn!(%mac, class, help, "there is no boot file for this machine");
                }
                self.change(mac, change, now, Some(Answer { mac, class, reply }), timeline);
            }
            Outcome::Ignore(reason, change) => {
                match change {
                    Change::Release(addr) => {
                        timeline.count("dhcp", "release");
                        tracing::info!(%mac, %addr, "the machine has given back its address");
                    }
                    Change::Decline(addr) => {
                        timeline.count("dhcp", "decline");
                        tracing::warn!(%mac, %addr, "somebody else uses an address of the pool; it is left alone for a while");
                    }
                    _ => ignored(Some(mac), reason, timeline),
                }
                if reason == Reason::AddressInUse {
                    tracing::warn!(%mac, "somebody else uses the address that is reserved for {mac}: it cannot boot until that one is gone");
                }
                self.change(mac, change, now, None, timeline);
            }
        }
    }

    /// Makes the change in the leases and sends the answer, at once or when the change is on disk.
    fn change(&mut self, mac: Mac, change: Change, now: u64, answer: Option<Answer>, timeline: &Timeline) {
        let secs = u64::from(self.subnet.lease_secs);
        match change {
            Change::Lease(addr) => {
                return self.write(Lease { addr, mac, expires: now + secs }, now, answer, timeline);
            }
            // Kept as one that has ended, so that the client finds its address free when it comes back.
            Change::Release(addr) => {
                return self.write(Lease { addr, mac, expires: now }, now, answer, timeline);
            }
            Change::Decline(addr) => {
                self.leases.decline(addr, now);
                // If it cannot be queued, the client finds its record again after a restart: no harm to others.
                let _ = self.writer.submit(vec![record::delete(addr)], Job { lease: None, answer: None });
            }
            Change::Offer(addr) => self.leases.offer(addr, mac, now),
            Change::Forget => self.leases.forget(mac),
            Change::None => {}
        }
        if let Some(answer) = answer {
            self.send(&answer, timeline);
        }
    }

    fn write(&mut self, lease: Lease, now: u64, answer: Option<Answer>, timeline: &Timeline) {
        let before = self.leases.writing(&lease);
        let changes = [record::put(&lease)].into_iter().chain(before.map(record::delete)).collect();
        if let Err(job) = self.writer.submit(changes, Job { lease: Some(lease), answer }) {
            self.leases.unwritten(&lease, now);
            if job.answer.is_some() {
                ignored(Some(lease.mac), Reason::QueueFull, timeline);
            }
        }
    }

    /// What was handed to the writing thread is on disk, or is not.
    fn finish(&mut self, done: Written<Job>, timeline: &Timeline) {
        for Job { lease, answer } in done.tokens {
            let Some(lease) = lease else { continue };
            if done.stored {
                self.leases.written(lease);
                if let Some(answer) = answer {
                    self.send(&answer, timeline);
                }
            } else {
                self.leases.unwritten(&lease, now());
                if answer.is_some() {
                    ignored(Some(lease.mac), Reason::StoreFailed, timeline);
                }
            }
        }
    }

    fn send(&self, answer: &Answer, timeline: &Timeline) {
        let Answer { mac, class, reply } = answer;
        let (to_mac, to) = match reply.route {
            Route::Unicast { mac, addr } => (mac, addr),
            Route::Broadcast => (Mac::BROADCAST, Ipv4Addr::BROADCAST),
        };
        let frame = frames::frame(&Datagram {
            from_mac: self.link.mac,
            to_mac,
            from: SocketAddrV4::new(self.subnet.server, SERVER_PORT),
            to: SocketAddrV4::new(to, CLIENT_PORT),
            payload: &reply.bytes,
        });
        if let Err(error) = self.frames.send(&frame.unwrap_or_default()) {
            tracing::warn!(interface = self.link.name, %mac, %error, "send DHCP");
            return ignored(Some(*mac), Reason::SendFailed, timeline);
        }
        let name = match reply.message {
            message::OFFER => "offer",
            message::ACK => "ack",
            message::BOOTP => "bootp",
            _ => "nak",
        };
        timeline.record(&Step::Dhcp {
            mac: *mac,
            addr: reply.addr,
            reply: name,
            class: *class,
            by: By::Daemon,
        });
    }
}

/// Notes that a packet gets no answer.
fn ignored(mac: Option<Mac>, reason: Reason, timeline: &Timeline) {
    match mac {
        Some(mac) => timeline.record(&Step::DhcpIgnored { mac, reason }),
        None => timeline.count("dhcp", reason.name()),
    }
}

/// Leases end by the wall clock, which goes on while the appliance is off.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A UDP socket on the interface for what is sent to `addr`. Without `SO_REUSEADDR`: a second server on this
/// port is refused here, not left to take every other packet.
fn socket(link: &Link, addr: Ipv4Addr) -> Result<UdpSocket, Error> {
    let failed = |what| move |source| Error::Socket { what, interface: link.name.clone(), source };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))
        .map_err(failed("open a UDP socket"))?;
    socket.bind_device(Some(link.name.as_bytes())).map_err(failed("bind a socket to the interface"))?;
    // Without CAP_NET_ADMIN as much as the system allows.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(failed("set the receive buffer"))?;
    }
    socket.bind(&SocketAddrV4::new(addr, SERVER_PORT).into()).map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            let why = ports::taken(Proto::Udp, SERVER_PORT);
            return Error::Taken { interface: link.name.clone(), why };
        }
        failed("bind UDP port 67")(source)
    })?;
    UdpSocket::from_std(socket.into()).map_err(failed("register a UDP socket"))
}
