//! The DHCP server: moves packets between the wire, the policy, the store and the timeline. Decides nothing itself.
//!
//! One task owns the leases and handles one packet after the other, reserved machines first; nothing in it waits for a
//! disk or for the wire. A lease is handed to the writing thread, and its ACK is sent when the thread reports that it is
//! on disk (RFC 2131 3.1, step 4). An address of the pool is looked for on the wire before its OFFER is sent; meanwhile
//! everybody else is answered.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use netboot_ebpf::verdict::message;
use netboot_ebpf::{Class, Reason};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cards::Cards;
use super::clock::Clock;
use super::lease::News;
use super::options::Subnet;
use super::parked::{Parked, Parking};
use super::policy::{self, Addressed, Change, Outcome, Reply, Route, View};
use super::queue::{Queue, Sender};
use super::segments::{self, Segment};
use super::select::{self, Place};
use super::sockets::{self, Sockets};
use super::waiting::Waiting;
use super::wire::Request;
use super::{missing, proxy, record, wire};
use crate::config::{self, Identity, Mode, Unknown};
use crate::inventory::Snapshot;
use crate::mac::Mac;
use crate::net::arp::Prober;
use crate::net::link::Link;
use crate::store::{self, Store, Writer, Written};
use crate::timeline::{By, Step, Timeline};

mod identity;
mod leasing;
mod probing;

use leasing::Job;
use probing::answered;

/// Leases that wait for the disk; a client that finds the queue full asks again.
const QUEUE: usize = 4096;
/// As much as is read of a packet: more than a client can put into a frame. Thousands of longer ones take neither the
/// memory nor the time of those who wait.
const LARGEST_DATAGRAM: usize = 4096;
/// Packets handled in one go.
const HANDLED_AT_ONCE: usize = 64;
/// Receive errors in a row after which the sockets are given up.
const RECEIVE_ERRORS: u32 = 64;

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sockets could not be had, or no longer work.
    #[error(transparent)]
    Sockets(#[from] sockets::Error),
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
    /// The machines without a reservation that asked; HTTP shows them.
    waiting: Arc<Mutex<Waiting>>,
    sockets: Sockets,
    /// `None`: addresses are offered unseen.
    prober: Option<Prober>,
    /// Other cards of reserved machines.
    cards: Cards,
    queue: Queue<(Addressed, Request)>,
    parking: Parking,
    clock: Clock,
    writer: Writer<Job>,
    written: mpsc::UnboundedReceiver<Written<Job>>,
    /// Who follows the leases.
    news: Option<mpsc::UnboundedSender<News>>,
}

/// A reply, with what the timeline wants to know.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) mac: Mac,
    pub(super) class: Class,
    /// The relay agent through which it asked.
    pub(super) relay: Option<Ipv4Addr>,
    /// It has a reservation.
    pub(super) reserved: bool,
    pub(super) reply: Reply,
}

impl Server {
    /// Opens the sockets on this interface and loads the leases. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When port 67 or 4011 is taken, the privileges are missing or the leases cannot be read.
    pub fn bind(
        link: &Link,
        subnet: &Subnet,
        mode: Mode,
        settings: &config::Dhcp,
        store: impl Store,
    ) -> Result<Self, Error> {
        let entries = store.list()?;
        let segments = segments::all(subnet, mode, settings, record::read_all(&entries));
        let cards = Cards::read(&entries, |key| {
            tracing::error!("the record {key} of the store cannot be read; it is left out");
        });
        for Segment { subnet, leases, .. } in &segments {
            if mode == Mode::Full && leases.is_empty_pool() {
                tracing::warn!(prefix = %subnet.prefix, "no pool in {}: only machines with a reservation get an address there", subnet.prefix);
            }
        }
        let places = segments.iter().map(|segment| segment.place).collect();
        let sockets = Sockets::open(link)?;
        let prober = if settings.probe && mode == Mode::Full { Some(sockets::prober(link)?) } else { None };
        // The last: where it fails the store is closed already, and can be opened again at once.
        let (writer, written) = Writer::start(store, QUEUE).map_err(Error::Thread)?;
        Ok(Self {
            link: link.clone(),
            mode,
            settings: settings.clone(),
            segments,
            places,
            waiting: Arc::default(),
            sockets,
            prober,
            cards,
            queue: Queue::default(),
            parking: Parking::default(),
            clock: Clock::new(wall(), steady()),
            writer,
            written,
            news: None,
        })
    }

    /// What becomes of the leases from now on, and first all that there are. Nothing where leases are not what XDP could
    /// offer: beside another server, where machines without a reservation get no address, or are told apart by more than their
    /// Ethernet address.
    pub fn follow_leases(&mut self) -> mpsc::UnboundedReceiver<News> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let settings = &self.settings;
        let by_mac = settings.identity == Identity::Mac && settings.unknown == Unknown::Pool;
        if self.mode == Mode::Full && by_mac {
            let now = wall();
            for (segment, Segment { leases, .. }) in (0..).zip(&self.segments) {
                for lease in leases.all_live(now) {
                    // Whoever follows holds the other end.
                    let _ = sender.send(News::Bound { segment, lease: lease.clone() });
                }
            }
            self.news = Some(sender);
        }
        receiver
    }

    /// The machines without a reservation that have asked.
    pub fn waiting(&self) -> Arc<Mutex<Waiting>> {
        Arc::clone(&self.waiting)
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
                    break Err(sockets::Error::refused("receive DHCP", &self.link, source).into());
                }
                Err(error) => {
                    errors += 1;
                    tracing::warn!(interface = self.link.name, %error, "receive DHCP");
                }
            }
            for _ in 0..HANDLED_AT_ONCE {
                let Some((addressed, request)) = self.queue.pop() else { break };
                let snapshot = snapshots.load();
                self.note(&request, &snapshot);
                self.decide(request, addressed, &snapshot, &timeline);
            }
            while let Ok(done) = self.written.try_recv() {
                self.finish(done, &snapshots.load(), &timeline);
            }
            // Before offers go out, however much else there is to do.
            self.hear(&snapshots.load(), &timeline);
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
                    Some(done) => self.finish(done, &snapshots.load(), &timeline),
                    None => break Err(Error::Writer),
                },
                // What it was woken for is seen above; an error too.
                () = self.sockets.readable() => {}
                () = answered(self.prober.as_ref()) => {}
                () = at(self.parking.next()) => {}
            }
        };
        self.writer.close();
        // Ends when the thread has written all it was given and closed the store.
        while let Some(done) = self.written.recv().await {
            self.finish(done, &snapshots.load(), &timeline);
        }
        result
    }

    /// Takes what has arrived into the queue. Returns how much that was.
    fn take(&mut self, buffer: &mut [u8], snapshot: &Snapshot, timeline: &Timeline) -> io::Result<usize> {
        let Self { queue, cards, writer, .. } = self;
        self.sockets.take(buffer, |addressed, packet| {
            let mut request = match wire::decode(packet) {
                Ok(request) => request,
                Err(reason) => return ignored(wire::sender(packet), reason, timeline),
            };
            identity::recognise(&mut request, cards, writer, snapshot);
            let relay = Some(request.giaddr).filter(|giaddr| !giaddr.is_unspecified());
            let reserved = snapshot.by_mac(request.mac).is_some();
            let sender = Sender { mac: request.mac, relay, reserved };
            // Only counted: a line for each would be more work than an answer.
            if let Some(reason) = queue.push(sender, (addressed, request)) {
                timeline.count("dhcp", reason.name());
            }
        })
    }

    /// Remembers a machine without a reservation for the operator.
    fn note(&self, request: &Request, snapshot: &Snapshot) {
        if request.card() != request.mac {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).forget(request.card());
        }
        // Beside another server nobody is of interest who does not boot.
        let boots = self.mode == Mode::Full || request.class != Class::Plain;
        let asks = boots && matches!(request.message, message::DISCOVER | message::REQUEST);
        if self.settings.unknown == Unknown::Deny || !asks || snapshot.by_mac(request.mac).is_some() {
            return;
        }
        let new = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).note(request, wall());
        if new && self.settings.unknown == Unknown::Hold {
            let mac = request.mac;
            tracing::info!(%mac, "{mac} has no reservation and waits: `netboot hosts approve {mac}` gives it one");
        }
    }

    fn decide(&mut self, request: Request, addressed: Addressed, snapshot: &Snapshot, timeline: &Timeline) {
        let (mac, class, now) = (request.mac, request.class, self.now());
        let number = match select::select(&request, addressed, &self.places) {
            Ok(number) => number,
            Err(reason) => return ignored(Some(mac), reason, timeline),
        };
        let Some(Segment { subnet, leases, .. }) = self.segments.get_mut(number) else { return };
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
                    missing::tell(&subnet.boot, &subnet.custom, snapshot, mac, class, timeline);
                }
                let relay = Some(request.giaddr).filter(|giaddr| !giaddr.is_unspecified());
                let reserved = snapshot.by_mac(mac).is_some();
                let answer = Answer { mac, class, relay, reserved, reply };
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
                    missing::tell(&subnet.boot, &subnet.custom, snapshot, mac, class, timeline);
                }
                if reason == Reason::AddressInUse {
                    tracing::warn!(%mac, "somebody else uses the address that is reserved for {mac}: it cannot boot until that one is gone");
                }
                self.change(number, owner, change, now, None, timeline);
            }
        }
    }

    fn send(&self, answer: &Answer, timeline: &Timeline) {
        let Answer { mac, class, relay, reserved, reply } = answer;
        if let Err(error) = self.sockets.send(reply) {
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
            relay: *relay,
            reserved: *reserved,
        });
    }
}

/// Waits for this moment, for ever if there is none.
async fn at(moment: Option<std::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
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
