//! The DHCP server: moves packets between the wire, the policy, the store and the timeline. Decides nothing itself.
//!
//! One task owns the leases and handles one packet after the other, reserved machines first; nothing in it waits for a
//! disk or for the wire. A lease is handed to the writing thread, and its ACK is sent when the thread reports that it is
//! on disk (RFC 2131 3.1, step 4). An address of the pool is looked for on the wire before its OFFER is sent; meanwhile
//! everybody else is answered.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use netboot_ebpf::verdict::message;
use netboot_ebpf::{Class, Reason};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::lease::{Lease, Owner};
use super::leases::Leases;
use super::options::Subnet;
use super::parked::{Parked, Parking};
use super::policy::{self, Addressed, Change, Outcome, Reply, Route, View};
use super::queue::{Queue, Sender};
use super::select::{self, Place};
use super::wire::Request;
use super::{boot, pool, proxy, record, wire};
use crate::config::{self, Identity, Mode, Range};
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::net::arp::Prober;
use crate::net::frames::{self, Datagram, Frames};
use crate::net::link::Link;
use crate::net::ports::{self, Proto};
use crate::store::{self, Store, Writer, Written};
use crate::timeline::{By, Step, Timeline};

/// RFC 2131 4.1: servers listen here, clients there.
const SERVER_PORT: u16 = 67;
/// See [`SERVER_PORT`].
const CLIENT_PORT: u16 = 68;
/// Firmware asks here what to boot when it has its address (PXE 2.1, 2.2).
const BOOT_SERVICE_PORT: u16 = 4011;
/// Room for requests that arrive while others are handled: a rack that is switched on at once.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Leases that wait for the disk; a client that finds the queue full asks again.
const QUEUE: usize = 4096;
/// No UDP payload is longer.
const LARGEST_DATAGRAM: usize = 65_536;
/// Packets taken from a socket in one go, so that the others and the stop signal are seen in between.
const TAKEN_AT_ONCE: usize = 512;
/// Packets handled in one go.
const HANDLED_AT_ONCE: usize = 64;
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
    mode: Mode,
    settings: config::Dhcp,
    /// The interface's own subnet, then those behind relay agents.
    segments: Vec<Segment>,
    /// As the segments, for the selection.
    places: Vec<Place>,
    /// What is sent to everybody. With [`Self::unicasts`] it says how a packet was addressed, and the kernel keeps
    /// away what is for another host or came in by another interface.
    broadcasts: UdpSocket,
    /// What is sent to this server's address. Replies to relay agents, and to clients behind routers, leave by it.
    unicasts: UdpSocket,
    /// What is sent to the boot service; its replies go out here as well.
    boot_service: UdpSocket,
    frames: Frames,
    /// `None`: addresses are offered unseen.
    prober: Option<Prober>,
    queue: Queue<(Addressed, Request)>,
    parking: Parking,
    clock: Clock,
    writer: Writer<Job>,
    written: mpsc::UnboundedReceiver<Written<Job>>,
}

/// A subnet and who has its addresses.
#[derive(Debug)]
struct Segment {
    subnet: Subnet,
    leases: Leases,
}

impl Segment {
    fn new(subnet: Subnet, pool: &[Range], excluded: &[Range], stored: &[Lease]) -> Self {
        let ranges = pool::ranges(subnet.prefix, pool, excluded);
        if ranges.is_empty() {
            tracing::warn!(prefix = %subnet.prefix, "no pool in {}: only machines with a reservation get an address there", subnet.prefix);
        }
        let here = stored.iter().filter(|lease| subnet.prefix.contains(lease.addr));
        let leases = Leases::new(&ranges, here.cloned());
        Self { subnet, leases }
    }
}

/// What comes back from the writing thread.
#[derive(Debug)]
struct Job {
    /// Whose leases it belongs to.
    segment: usize,
    /// The lease that was written, if a record was not just deleted.
    lease: Option<Lease>,
    /// The reply that waits for it.
    answer: Option<Answer>,
}

/// A reply, with what the timeline wants to know.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) mac: Mac,
    pub(super) class: Class,
    pub(super) reply: Reply,
}

impl Server {
    /// Opens the sockets on this interface and loads the leases. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When port 67 or 4011 is taken, the privileges are missing or the leases cannot be read.
    pub fn bind(
        link: &Link,
        subnet: Subnet,
        mode: Mode,
        settings: &config::Dhcp,
        store: impl Store,
    ) -> Result<Self, Error> {
        let mut stored = record::read_all(&store.list()?);
        if settings.identity == Identity::Mac {
            // What was leased to identifiers before is found by address now.
            stored.iter_mut().for_each(|lease| lease.owner.id = None);
        }
        let segment = |subnet: Subnet, pool: &[Range], excluded: &[Range]| match mode {
            Mode::Full => Segment::new(subnet, pool, excluded, &stored),
            // The addresses are another server's.
            Mode::Proxy => Segment { subnet, leases: Leases::default() },
        };
        let behind = settings.subnets.iter().map(|behind| {
            let relay = behind.relay.map(|relay| Range { first: relay, last: relay });
            let excluded: Vec<Range> = behind.exclude.iter().copied().chain(relay).collect();
            segment(subnet.behind_relay(behind), &behind.pool, &excluded)
        });
        let own = segment(subnet.clone(), &settings.pool, &settings.exclude);
        let segments: Vec<Segment> = std::iter::once(own).chain(behind).collect();
        let relays = std::iter::once(None).chain(settings.subnets.iter().map(|behind| behind.relay));
        let place = |(segment, relay): (&Segment, _)| Place { prefix: segment.subnet.prefix, relay };
        let places = segments.iter().zip(relays).map(place).collect();

        let failed = |what| move |source| Error::Socket { what, interface: link.name.clone(), source };
        let broadcasts = socket(link, Ipv4Addr::BROADCAST, SERVER_PORT)?;
        let unicasts = socket(link, link.addr, SERVER_PORT)?;
        let boot_service = socket(link, link.addr, BOOT_SERVICE_PORT)?;
        let frames = Frames::open(link.index).map_err(failed("open a raw socket"))?;
        let prober = if settings.probe && mode == Mode::Full {
            Some(Prober::open(link).map_err(failed("open a socket for ARP"))?)
        } else {
            None
        };
        // The last: where it fails the store is closed already, and can be opened again at once.
        let (writer, written) = Writer::start(store, QUEUE).map_err(Error::Thread)?;
        Ok(Self {
            link: link.clone(),
            mode,
            settings: settings.clone(),
            segments,
            places,
            broadcasts,
            unicasts,
            boot_service,
            frames,
            prober,
            queue: Queue::default(),
            parking: Parking::default(),
            clock: Clock::new(wall(), steady()),
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
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        let mut errors = 0;
        let result = loop {
            let taken = self.take(&mut buffer, &snapshots.load(), &timeline);
            match taken {
                Ok(0) => {}
                Ok(_) => errors = 0,
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
            self.look_at_the_clock();
            for _ in 0..HANDLED_AT_ONCE {
                let Some((addressed, request)) = self.queue.pop() else { break };
                self.decide(request, addressed, &snapshots.load(), &timeline);
            }
            while let Ok(done) = self.written.try_recv() {
                self.finish(done, &timeline);
            }
            self.probed(&timeline);
            if !self.queue.is_empty() {
                if stop.is_cancelled() {
                    break Ok(());
                }
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                done = self.written.recv() => match done {
                    Some(done) => self.finish(done, &timeline),
                    None => break Err(Error::Writer),
                },
                // What it was woken for is seen above; an error too.
                _ = self.unicasts.readable() => {}
                _ = self.broadcasts.readable() => {}
                _ = self.boot_service.readable() => {}
                answer = answered(self.prober.as_ref()) => match answer {
                    Ok((addr, mac)) => self.in_use(addr, mac, &snapshots.load(), &timeline),
                    Err(error) => {
                        tracing::warn!(interface = self.link.name, %error, "receive ARP; addresses are offered unseen now");
                        self.prober = None;
                    }
                },
                () = at(self.parking.next()) => {}
            }
        };
        self.writer.close();
        // Ends when the thread has written all it was given and closed the store.
        while let Some(done) = self.written.recv().await {
            self.finish(done, &timeline);
        }
        result
    }

    /// Takes what has arrived into the queue. Returns how much that was.
    fn take(&mut self, buffer: &mut [u8], snapshot: &Snapshot, timeline: &Timeline) -> io::Result<usize> {
        let mut taken = 0;
        let sockets: [(&UdpSocket, fn(SocketAddrV4) -> Addressed); 3] = [
            (&self.unicasts, |_| Addressed::Server),
            (&self.broadcasts, |_| Addressed::Broadcast),
            (&self.boot_service, Addressed::BootService),
        ];
        for (socket, addressed) in sockets {
            for _ in 0..TAKEN_AT_ONCE {
                let (packet, addressed) = match socket.try_recv_from(buffer) {
                    Ok((length, from)) => (buffer.get(..length).unwrap_or_default(), addressed(v4(from))),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                taken += 1;
                let request = match wire::decode(packet) {
                    Ok(request) => request,
                    Err(reason) => {
                        ignored(wire::sender(packet), reason, timeline);
                        continue;
                    }
                };
                let relay = Some(request.giaddr).filter(|giaddr| !giaddr.is_unspecified());
                let reserved = snapshot.by_mac(request.mac).is_some();
                let sender = Sender { mac: request.mac, relay, reserved };
                // Only counted: a line for each would be more work than an answer.
                if let Some(reason) = self.queue.push(sender, (addressed, request)) {
                    timeline.count("dhcp", reason.name());
                }
            }
        }
        Ok(taken)
    }

    /// Leases end by the wall clock; when that is set nobody loses one.
    fn look_at_the_clock(&mut self) {
        let Some(step) = self.clock.tick(wall(), steady()) else { return };
        tracing::warn!(
            "the clock was set from {} to {} (seconds since 1970); leases go on for as long as their clients were told",
            step.from,
            step.to
        );
        let longest = u64::from(self.settings.max_lease_secs);
        for (number, segment) in self.segments.iter_mut().enumerate() {
            let longest = longest.max(segment.subnet.lease_secs.into());
            let moved = segment.leases.clock_moved(step.from, step.to, longest);
            if !moved.is_empty() {
                let changes = moved.iter().map(record::put).collect();
                // If it cannot be queued, each is written when its client renews it.
                let _ = self.writer.submit(changes, Job { segment: number, lease: None, answer: None });
            }
        }
    }

    fn decide(&mut self, request: Request, addressed: Addressed, snapshot: &Snapshot, timeline: &Timeline) {
        let (mac, class, now) = (request.mac, request.class, wall());
        let number = match select::select(&request, addressed, &self.places) {
            Ok(number) => number,
            Err(reason) => return ignored(Some(mac), reason, timeline),
        };
        let Some(Segment { subnet, leases }) = self.segments.get_mut(number) else { return };
        leases.sweep(now);
        let (settings, on_link) = (&self.settings, number == 0);
        let view = View { subnet, on_link, snapshot, leases, settings, now };
        let owner = policy::owner(&request, settings.identity);
        let outcome = match (self.mode, addressed) {
            (Mode::Proxy, _) | (_, Addressed::BootService(_)) => proxy::decide(&request, addressed, &view),
            (Mode::Full, _) => policy::decide(&request, addressed, &view),
        };
        match outcome {
            Outcome::Reply(reply, change) => {
                if reply.message == message::OFFER {
                    warn_of_no_file(subnet, snapshot, mac, class);
                }
                let answer = Answer { mac, class, reply };
                match change {
                    Change::Offer(addr)
                        if on_link && self.prober.is_some() && leases.wants_probe(addr, &owner, now) =>
                    {
                        self.probe(Parked { request, addressed, addr, owner, answer }, timeline);
                    }
                    _ => self.change(number, owner, change, now, Some(answer), timeline),
                }
            }
            Outcome::Ignore(reason, change) => {
                match change {
                    Change::Release(addr) => {
                        timeline.count("dhcp", "release");
                        tracing::info!(%mac, %addr, "the machine has given back its address");
                    }
                    Change::Decline(addr) => {
                        timeline.count("dhcp", "decline");
                        tracing::warn!(%mac, %addr, "somebody else uses {addr} of the pool, says {mac}; it is left alone for a day");
                    }
                    _ => ignored(Some(mac), reason, timeline),
                }
                if reason == Reason::NoBootFile {
                    warn_of_no_file(subnet, snapshot, mac, class);
                }
                if reason == Reason::AddressInUse {
                    tracing::warn!(%mac, "somebody else uses the address that is reserved for {mac}: it cannot boot until that one is gone");
                }
                self.change(number, owner, change, now, None, timeline);
            }
        }
    }

    /// Looks whether somebody uses an address of the interface's subnet before it is offered.
    fn probe(&mut self, parked: Parked, timeline: &Timeline) {
        let (Some(prober), Some(own)) = (&self.prober, self.segments.first_mut()) else { return };
        if self.parking.is_full() {
            return ignored(Some(parked.answer.mac), Reason::QueueFull, timeline);
        }
        if let Err(error) = prober.send(parked.addr) {
            tracing::warn!(interface = self.link.name, addr = %parked.addr, %error, "send an ARP probe");
        }
        own.leases.probe(parked.addr, parked.owner.clone());
        self.parking.park(parked, tokio::time::Instant::now().into_std());
    }

    /// Sends the offers of which the probe has found nobody.
    fn probed(&mut self, timeline: &Timeline) {
        let (now, time) = (wall(), tokio::time::Instant::now().into_std());
        while let Some(addr) = self.parking.again(time) {
            if let Some(prober) = &self.prober {
                // The first one is enough if this one does not leave.
                let _ = prober.send(addr);
            }
        }
        while let Some(Parked { addr, owner, answer, .. }) = self.parking.due(time) {
            let waits = self.segments.first().is_some_and(|own| {
                own.leases.is_probing(&owner) && own.leases.held_for(&owner) == Some(addr)
            });
            // Meanwhile it may have chosen another server.
            if waits {
                self.change(0, owner, Change::Offer(addr), now, Some(answer), timeline);
            }
        }
    }

    /// Somebody says that an address is his.
    fn in_use(&mut self, addr: Ipv4Addr, by: Mac, snapshot: &Snapshot, timeline: &Timeline) {
        let Some(parked) = self.parking.take(addr) else { return };
        let Parked { request, addressed, owner, answer, .. } = parked;
        if answer.mac == by {
            // The machine itself, from an earlier life.
            return self.change(0, owner, Change::Offer(addr), wall(), Some(answer), timeline);
        }
        timeline.count("dhcp", "conflict");
        tracing::warn!(%addr, mac = %by, "{by} uses {addr} of the pool, which nobody gave it; the address is left alone for a while");
        if let Some(own) = self.segments.first_mut() {
            own.leases.conflict(addr, wall());
        }
        self.decide(request, addressed, snapshot, timeline);
    }

    /// Makes the change in the leases and sends the answer, at once or when the change is on disk.
    fn change(
        &mut self,
        segment: usize,
        owner: Owner,
        change: Change,
        now: u64,
        answer: Option<Answer>,
        timeline: &Timeline,
    ) {
        let Some(Segment { leases, .. }) = self.segments.get_mut(segment) else { return };
        match change {
            Change::Lease { addr, secs } => {
                let lease = Lease { addr, owner, expires: now + u64::from(secs) };
                return self.write(segment, lease, now, answer, timeline);
            }
            // Kept as one that has ended, so that the client finds its address free when it comes back.
            Change::Release(addr) => {
                return self.write(segment, Lease { addr, owner, expires: now }, now, answer, timeline);
            }
            Change::Decline(addr) => {
                leases.decline(addr, &owner, now);
                // If it cannot be queued, the client finds its record again after a restart: no harm to others.
                let job = Job { segment, lease: None, answer: None };
                let _ = self.writer.submit(vec![record::delete(addr)], job);
            }
            Change::Offer(addr) => leases.offer(addr, owner, now),
            Change::Forget => leases.forget(&owner),
            Change::None => {}
        }
        if let Some(answer) = answer {
            self.send(&answer, timeline);
        }
    }

    fn write(&mut self, segment: usize, lease: Lease, now: u64, answer: Option<Answer>, timeline: &Timeline) {
        let Some(Segment { leases, .. }) = self.segments.get_mut(segment) else { return };
        let before = leases.writing(&lease);
        let changes = [record::put(&lease)].into_iter().chain(before.map(record::delete)).collect();
        if let Err(job) = self.writer.submit(changes, Job { segment, lease: Some(lease), answer })
            && let Some(lease) = job.lease
        {
            leases.unwritten(&lease, now);
            if job.answer.is_some() {
                ignored(Some(lease.owner.mac), Reason::QueueFull, timeline);
            }
        }
    }

    /// What was handed to the writing thread is on disk, or is not.
    fn finish(&mut self, done: Written<Job>, timeline: &Timeline) {
        for Job { segment, lease, answer } in done.tokens {
            let (Some(lease), Some(Segment { leases, .. })) = (lease, self.segments.get_mut(segment)) else {
                continue;
            };
            if done.stored {
                leases.written(lease);
                if let Some(answer) = answer {
                    self.send(&answer, timeline);
                }
            } else {
                leases.unwritten(&lease, wall());
                if answer.is_some() {
                    ignored(Some(lease.owner.mac), Reason::StoreFailed, timeline);
                }
            }
        }
    }

    fn send(&self, answer: &Answer, timeline: &Timeline) {
        let Answer { mac, class, reply } = answer;
        let sent = match reply.route {
            Route::Unicast { mac, addr } => self.send_frame(mac, addr, &reply.bytes),
            Route::Broadcast => self.send_frame(Mac::BROADCAST, Ipv4Addr::BROADCAST, &reply.bytes),
            Route::Relay(agent) => self.send_datagram(agent, SERVER_PORT, &reply.bytes),
            Route::Routed(addr) => self.send_datagram(addr, CLIENT_PORT, &reply.bytes),
            // Never waits: a client that does not answer ARP is nobody else's trouble.
            Route::BootService(to) => self.boot_service.try_send_to(&reply.bytes, to.into()).map(drop),
        };
        if let Err(error) = sent {
            tracing::warn!(interface = self.link.name, %mac, %error, "send DHCP");
            return ignored(Some(*mac), Reason::SendFailed, timeline);
        }
        let name = match (reply.message, reply.route) {
            (_, Route::BootService(_)) => "boot-ack",
            (message::OFFER, _) if reply.addr.is_unspecified() => "boot-offer",
            (message::OFFER, _) => "offer",
            (message::ACK, _) => "ack",
            (message::BOOTP, _) => "bootp",
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

    /// For clients on the link, which may have no address to answer ARP with.
    fn send_frame(&self, to_mac: Mac, to: Ipv4Addr, payload: &[u8]) -> io::Result<()> {
        let frame = frames::frame(&Datagram {
            from_mac: self.link.mac,
            to_mac,
            from: SocketAddrV4::new(self.link.addr, SERVER_PORT),
            to: SocketAddrV4::new(to, CLIENT_PORT),
            payload,
        });
        self.frames.send(&frame.unwrap_or_default())
    }

    /// For whoever is behind a router, which the kernel finds.
    fn send_datagram(&self, to: Ipv4Addr, port: u16, payload: &[u8]) -> io::Result<()> {
        self.unicasts.try_send_to(payload, SocketAddrV4::new(to, port).into()).map(drop)
    }
}

/// The next answer to a probe; none ever without a prober.
async fn answered(prober: Option<&Prober>) -> io::Result<(Ipv4Addr, Mac)> {
    match prober {
        Some(prober) => prober.answer().await,
        None => std::future::pending().await,
    }
}

/// Waits for this moment, for ever if there is none.
async fn at(moment: Option<std::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Says what to do so that a machine has something to boot, unless it is meant to have nothing.
fn warn_of_no_file(subnet: &Subnet, snapshot: &Snapshot, mac: Mac, class: Class) {
    if boot::lacks_file(subnet, snapshot, mac, class) {
        let (class, help) = (class.name(), boot::remedy(class));
        tracing::warn!(%mac, class, help, "there is no boot file for this machine");
    }
}

/// The sender of a datagram; the sockets know IPv4 alone.
fn v4(from: SocketAddr) -> SocketAddrV4 {
    match from {
        SocketAddr::V4(from) => from,
        SocketAddr::V6(from) => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, from.port()),
    }
}

/// Notes that a packet gets no answer.
fn ignored(mac: Option<Mac>, reason: Reason, timeline: &Timeline) {
    match mac {
        Some(mac) => timeline.record(&Step::DhcpIgnored { mac, reason }),
        None => timeline.count("dhcp", reason.name()),
    }
}

/// Seconds since 1970. Leases end by the wall clock, which goes on while the appliance is off.
fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Seconds by the clock that nobody sets, and that goes on while the machine is suspended.
fn steady() -> u64 {
    u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or_default()
}

/// A UDP socket on the interface for what is sent to `addr` and `port`. Without `SO_REUSEADDR`: a second server on this
/// port is refused here, not left to take every other packet.
fn socket(link: &Link, addr: Ipv4Addr, port: u16) -> Result<UdpSocket, Error> {
    let failed = |what| move |source| Error::Socket { what, interface: link.name.clone(), source };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))
        .map_err(failed("open a UDP socket"))?;
    socket.bind_device(Some(link.name.as_bytes())).map_err(failed("bind a socket to the interface"))?;
    // Without CAP_NET_ADMIN as much as the system allows.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(failed("set the receive buffer"))?;
    }
    socket.bind(&SocketAddrV4::new(addr, port).into()).map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            // On whichever address: netboot binds two.
            let why = ports::taken(Proto::Udp, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
            return Error::Taken { interface: link.name.clone(), why };
        }
        failed(if port == SERVER_PORT { "bind UDP port 67" } else { "bind UDP port 4011" })(source)
    })?;
    UdpSocket::from_std(socket.into()).map_err(failed("register a UDP socket"))
}
