//! The well-known port: answers what is no transfer, opens the file for what is one, and gives it to a worker.
//!
//! A request that comes twice is one transfer (RFC 1350 section 4 leaves it open, every lost packet asks for it); the number
//! of transfers is capped, in all and for each address. Nothing here waits for a disk.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::Ipv4Network;
use rustix::net::sockopt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::asked::{self, Unserved};
use super::files::{Caller, Files};
use super::options::{Limits, negotiate};
use super::pages::Store;
use super::refusals::Refusals;
use super::running::Running;
use super::server::Config;
use super::session::{Claim, Job};
use super::wire::{self, Mode, Packet, code};
use super::worker::{Mailbox, Message, Told};
use crate::beneath::Refused;
use crate::loader::Road;
use crate::net::way;
use crate::timeline::{Step, Timeline};

/// Room for a request: RFC 2347 allows 512 bytes.
const REQUEST: usize = 2048;
/// Transfers of one address at once.
const PER_ADDRESS: usize = 128;
/// Transfers that nobody has answered yet, of all addresses: whoever means what he asks answers at once.
const UNHEARD: usize = 1024;
/// Packets that are taken between two looks at what else there is to do.
const BATCH: usize = 32;
/// How long running transfers may take to say that they end.
const FAREWELL: Duration = Duration::from_secs(2);
/// Who means what he asks has answered within this time. Where places are short nobody else keeps one for longer.
const ANSWER: Duration = Duration::from_millis(250);
/// Who was silent for so long makes room for another.
const IDLE: Duration = Duration::from_secs(5);

/// What all requests share.
struct Common {
    files: Files,
    limits: Limits,
    timeline: Timeline,
    /// The server's address: clients take DATA from no other.
    addr: IpAddr,
    store: Arc<Store>,
    /// The well-known port's, where all transfers use it.
    only: Option<Arc<UdpSocket>>,
    workers: Vec<Mailbox>,
    running: RefCell<Running>,
    refusals: RefCell<Refusals>,
}

/// What listens on the port.
pub(super) struct Listener {
    common: Rc<Common>,
    max_transfers: usize,
    clients: Vec<Ipv4Network>,
    opening: RefCell<JoinSet<()>>,
}

impl Listener {
    /// With its own copy of everything; `config.bind` says which address DATA comes from.
    /// `only`: the socket of the port, if all transfers are to use it.
    pub(super) fn new(
        config: Config,
        timeline: Timeline,
        store: Arc<Store>,
        only: Option<UdpSocket>,
        workers: Vec<Mailbox>,
    ) -> Self {
        let limits = Limits {
            mtu: config.mtu,
            max_window: config.max_window,
            rollover: config.rollover,
            in_flight: config.client_in_flight_bytes,
        };
        let common = Rc::new(Common {
            files: config.files,
            limits,
            timeline,
            addr: config.bind.ip(),
            store,
            only: only.map(Arc::new),
            running: RefCell::new(Running::new(workers.len())),
            refusals: RefCell::new(Refusals::new(Instant::now())),
            workers,
        });
        let (max_transfers, clients) = (config.max_transfers, config.clients);
        Self { common, max_transfers, clients, opening: RefCell::default() }
    }

    /// Serves until the token says stop and the sessions have taken their leave, of which `told` tells.
    pub(super) async fn run(
        self,
        socket: UdpSocket,
        mut told: UnboundedReceiver<Told>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let mut packet = vec![0; REQUEST];
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(told) = told.recv() => self.told(told),
                ready = socket.readable() => {
                    if let Err(error) = ready.and_then(|()| self.batch(&socket, &mut packet)) {
                        // Memory is short, most likely: not a reason to end, and not to spin either.
                        tracing::warn!(%error, "TFTP cannot receive");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    self.reap();
                }
            }
        }
        self.opening.take().abort_all();
        for worker in &self.common.workers {
            worker.tell(Message::Stop);
        }
        // Each has said so when it was told of the last of its sessions, and let go of its end.
        let farewell = async { while told.recv().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        Ok(())
    }

    fn told(&self, told: Told) {
        let mut running = self.common.running.borrow_mut();
        match told {
            Told::Heard(id) => running.heard(id),
            Told::Over(id) => running.over(id),
        }
    }

    /// Deals with what has arrived, up to so many packets.
    fn batch(&self, socket: &tokio::net::UdpSocket, packet: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            match socket.try_recv_from(packet) {
                Ok((length, from)) => self.answer(socket, from, packet.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Deals with a packet to the well-known port.
    fn answer(&self, socket: &tokio::net::UdpSocket, from: SocketAddr, packet: &[u8]) {
        let Some((code, text)) = self.packet(from, packet) else { return };
        if self.common.may_refuse(from.ip()) {
            let error = Packet::Error { code, text: text.to_owned() };
            let _ = socket.try_send_to(&error.encode(), from);
        }
    }

    fn reap(&self) {
        while let Some(ended) = self.opening.borrow_mut().try_join_next() {
            if let Err(error) = ended {
                self.common.timeline.count("tftp", "session-broken");
                tracing::error!(%error, "a TFTP session broke off");
            }
        }
    }

    /// Whether it is a client of the PXE networks, or this machine. Whoever writes another's address on a packet would
    /// make this server flood that one.
    fn serves(&self, client: IpAddr) -> bool {
        match client {
            IpAddr::V4(addr) => addr.is_loopback() || self.clients.iter().any(|subnet| subnet.contains(addr)),
            IpAddr::V6(_) => false,
        }
    }

    /// What a packet to the well-known port means; returns the ERROR to answer with, if one is due.
    fn packet(&self, from: SocketAddr, packet: &[u8]) -> Option<(u16, &'static str)> {
        let timeline = &self.common.timeline;
        if !self.serves(from.ip()) {
            timeline.count("tftp", "outside-subnet");
            return None;
        }
        let refuse = |name: &str, code, why: &'static str| {
            timeline.record(&Step::TftpFailed {
                peer: from,
                file: shown(name),
                why: why.to_owned(),
                sent: None,
            });
            Some((code, why))
        };
        let request = match wire::parse(packet) {
            Ok(Packet::Read(request)) => request,
            Ok(Packet::Write(request)) => {
                return refuse(request.name, code::ACCESS, "this server is read-only");
            }
            Ok(_) => {
                if !self.common.hand_over(from, packet) {
                    timeline.count("tftp", "stray");
                }
                return None;
            }
            Err(reason) => {
                timeline.count("tftp", reason.name());
                let request = matches!(packet, [0, 1 | 2, ..]);
                return request.then_some((code::ILLEGAL, "the request cannot be read"));
            }
        };
        if request.mode == Mode::Other {
            return refuse(request.name, code::ILLEGAL, "unknown mode: use octet (binary) mode");
        }
        let served = self.common.running.borrow().get(from).cloned();
        if let Some(served) = served {
            if served.claim.owns(packet) {
                timeline.count("tftp", "repeated-request");
                return None;
            }
            self.common.end(served.id, "the client began anew from the same port");
        }
        if self.common.running.borrow().len() >= self.max_transfers && !self.make_room() {
            timeline.count("tftp", "too-many-transfers");
            return refuse(request.name, code::UNDEFINED, "too many transfers at once: try again");
        }
        if self.common.running.borrow().of(from.ip()) >= PER_ADDRESS {
            timeline.count("tftp", "too-many-of-one-address");
            return refuse(request.name, code::UNDEFINED, "too many transfers to your address: try again");
        }
        if !self.room_for_unheard(from.ip()) {
            // Who means it asks again. An answer would go to whoever is named.
            timeline.count("tftp", "too-many-unanswered");
            return None;
        }
        let claim = Arc::new(Claim::new(packet));
        let id = self.common.running.borrow_mut().begin(from, Arc::clone(&claim));
        let common = Rc::clone(&self.common);
        self.opening.borrow_mut().spawn_local(async move { common.open(id, claim, from).await });
        None
    }

    /// Ends a transfer whose client should have answered by now and never did, else the one whose client was silent for longest,
    /// if that is long.
    fn make_room(&self) -> bool {
        // Their sockets are open still, and there are no more of these than may be.
        if self.common.running.borrow().leaving() > self.max_transfers / 4 {
            return false;
        }
        if self.end_unheard() {
            return true;
        }
        let idlest = self.common.running.borrow().idlest();
        let Some((id, _)) = idlest.filter(|(_, heard_at)| heard_at.elapsed() >= IDLE) else { return false };
        self.common.end(id, "the client was silent, and others need the place");
        true
    }

    /// Ends the oldest transfer whose client should have answered by now.
    fn end_unheard(&self) -> bool {
        let oldest = self.common.running.borrow().oldest_unheard();
        let Some((id, _)) = oldest.filter(|(_, since)| since.elapsed() >= ANSWER) else { return false };
        self.common.end(id, UNANSWERED);
        true
    }

    /// Whether there is room for a transfer of an address that may not know that it asks. In a flood of these the address
    /// that has the most makes room for one that has fewer, so that whoever asks for itself is served.
    fn room_for_unheard(&self, addr: IpAddr) -> bool {
        let (all, own) = self.common.running.borrow().unheard(addr);
        if all < UNHEARD {
            return true;
        }
        let crowded_out = self.common.running.borrow().crowded_out(own + 1);
        match crowded_out.filter(|_| self.common.running.borrow().leaving() <= self.max_transfers / 4) {
            Some(id) => self.common.end(id, UNANSWERED),
            None => return own == 0 && self.end_unheard(),
        }
        true
    }
}

impl Common {
    /// Whether an address may be sent an ERROR that it may not have asked for.
    fn may_refuse(&self, addr: IpAddr) -> bool {
        let may = self.refusals.borrow_mut().may(addr, Instant::now());
        if !may {
            self.timeline.count("tftp", "error-withheld");
        }
        may
    }

    /// Opens the file and gives the transfer to the worker that has the fewest.
    async fn open(&self, id: u64, claim: Arc<Claim>, peer: SocketAddr) {
        let Ok(Packet::Read(request)) = wire::parse(claim.request()) else { return };
        let failed = |why: String| {
            self.timeline.record(&Step::TftpFailed { peer, file: shown(request.name), why, sent: None });
            self.running.borrow_mut().over(id);
        };
        let own = || UdpSocket::bind((self.addr, 0)).and_then(|socket| ready(socket).map(Arc::new));
        let socket = self.only.clone().map_or_else(own, Ok);
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => return failed(format!("no socket for it: {error}")),
        };
        let (files, store, name) = (self.files.clone(), Arc::clone(&self.store), request.name.to_owned());
        let mode = request.mode;
        let caller = Caller::new(peer.ip(), Road::Tftp);
        let opened = tokio::task::spawn_blocking(move || asked::bytes(&files, &store, &name, mode, caller));
        let bytes =
            match opened.await.unwrap_or_else(|error| Err(Refused::Io(io::Error::other(error)).into())) {
                Ok(bytes) => bytes,
                Err(Unserved { code, why }) => {
                    if self.may_refuse(peer.ip()) {
                        let error = Packet::Error { code, text: why.clone() }.encode();
                        let _ = socket.send_to(&error, peer);
                    }
                    return failed(why);
                }
            };
        let Limits { mtu, .. } = self.limits;
        // Behind a tunnel the way is narrower than the link.
        let mtu = way::mtu(self.addr, peer).map_or(mtu, |way| way.min(mtu));
        let in_flight = self.limits.in_flight.saturating_sub(self.running.borrow().granted(peer.ip()));
        let agreed = negotiate(&request.options, bytes.size(), Limits { mtu, in_flight, ..self.limits });
        self.running.borrow_mut().grant(id, u64::from(agreed.blksize) * u64::from(agreed.windowsize));
        let first = claim.begin(&agreed, bytes.size());
        // Meanwhile it may have been ended in favour of another.
        let assigned = self.running.borrow_mut().assign(id);
        let Some(worker) = assigned else { return self.running.borrow_mut().over(id) };
        let (file, claim) = (shown(request.name), Arc::clone(&claim));
        let job = Job {
            id,
            claim,
            mac: self.files.machine(peer.ip()),
            peer,
            socket,
            own_socket: self.only.is_none(),
            file,
            agreed,
            bytes,
            first,
        };
        if let Some(worker) = self.workers.get(worker) {
            worker.tell(Message::Play(Box::new(job)));
        }
    }

    /// Gives a packet to the transfer that it is for, where these have no ports of their own.
    fn hand_over(&self, from: SocketAddr, packet: &[u8]) -> bool {
        let running = self.running.borrow();
        let worker = || {
            let served = self.only.as_ref().and_then(|_| running.get(from))?;
            Some((served.id, self.workers.get(served.worker?)?))
        };
        let Some((id, worker)) = worker() else { return false };
        worker.tell(Message::Packet(id, from, packet.to_vec()));
        true
    }

    /// Ends a transfer; its client's port is free for another at once.
    fn end(&self, id: u64, why: &'static str) {
        let Some(served) = self.running.borrow_mut().give_way(id) else { return };
        if let Some(worker) = served.worker.and_then(|worker| self.workers.get(worker)) {
            worker.tell(Message::End(id, why));
        }
    }
}

const UNANSWERED: &str = "the client never answered, and others need the place";

/// A window must find room in a socket while the last one still leaves it.
const SEND_BUFFER: usize = 1 << 20;

/// Makes a socket fit for windows.
pub(super) fn ready(socket: UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    // Without CAP_NET_ADMIN as much as the system allows.
    if sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER).is_err() {
        tracing::debug!("a TFTP socket keeps its send buffer");
    }
    Ok(socket)
}

/// A client's text as it can stand in a log.
fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}
