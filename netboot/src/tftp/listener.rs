//! The well-known port: answers what is no transfer, opens the file for what is one, and gives it to a worker.
//!
//! A request that comes twice is one transfer (RFC 1350 section 4 leaves it open, every lost packet asks for it); the number
//! of transfers is capped, in all and for each address. Nothing here waits for a disk.

use std::cell::RefCell;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use rustix::net::sockopt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::files::{Caller, Content, Files};
use super::netascii;
use super::options::{Limits, negotiate};
use super::pages::Store;
use super::running::Running;
use super::server::Config;
use super::session::{Claim, Job};
use super::wire::{self, Mode, Packet, code};
use super::worker::{Mailbox, Message};
use crate::beneath::Refused;
use crate::loader::Road;
use crate::net::way;
use crate::timeline::{Step, Timeline};

/// Room for a request: RFC 2347 allows 512 bytes.
const REQUEST: usize = 2048;
/// Transfers of one address at once.
const PER_ADDRESS: usize = 128;
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
        let limits = Limits { mtu: config.mtu, max_window: config.max_window, rollover: config.rollover };
        let common = Rc::new(Common {
            files: config.files,
            limits,
            timeline,
            addr: config.bind.ip(),
            store,
            only: only.map(Arc::new),
            running: RefCell::new(Running::new(workers.len())),
            workers,
        });
        let (max_transfers, clients) = (config.max_transfers, config.clients);
        Self { common, max_transfers, clients, opening: RefCell::default() }
    }

    /// Serves until the token says stop and the sessions have taken their leave; `over` tells which have ended.
    pub(super) async fn run(
        self,
        socket: UdpSocket,
        mut over: UnboundedReceiver<u64>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let mut packet = vec![0; REQUEST];
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(id) = over.recv() => self.common.running.borrow_mut().over(id),
                received = socket.recv_from(&mut packet) => {
                    match received {
                        Ok((length, from)) => {
                            let packet = packet.get(..length).unwrap_or_default();
                            if let Some((code, text)) = self.packet(from, packet) {
                                let error = Packet::Error { code, text: text.to_owned() };
                                let _ = socket.try_send_to(&error.encode(), from);
                            }
                        }
                        Err(error) => {
                            // Memory is short, most likely: not a reason to end, and not to spin either.
                            tracing::warn!(%error, "TFTP cannot receive");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
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
        let farewell = async { while over.recv().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        Ok(())
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

    /// Deals with a packet to the well-known port; returns the ERROR to answer with, if one is due.
    fn packet(&self, from: SocketAddr, packet: &[u8]) -> Option<(u16, &'static str)> {
        let timeline = &self.common.timeline;
        if !self.serves(from.ip()) {
            timeline.count("tftp", "outside-subnet");
            return None;
        }
        let refuse = |name: &str, code, why: &'static str| {
            timeline.record(&Step::TftpFailed { peer: from, file: shown(name), why: why.to_owned() });
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
        let unheard = self.common.running.borrow_mut().unheard();
        if let Some((id, _)) = unheard.filter(|(_, since)| since.elapsed() >= ANSWER) {
            self.common.end(id, "the client never answered, and others need the place");
            return true;
        }
        let idlest = self.common.running.borrow().idlest();
        let Some((id, _)) = idlest.filter(|(_, heard_at)| heard_at.elapsed() >= IDLE) else { return false };
        self.common.end(id, "the client was silent, and others need the place");
        true
    }
}

impl Common {
    /// Opens the file and gives the transfer to the worker that has the fewest.
    async fn open(&self, id: u64, claim: Arc<Claim>, peer: SocketAddr) {
        let Ok(Packet::Read(request)) = wire::parse(claim.request()) else { return };
        let failed = |why: String| {
            self.timeline.record(&Step::TftpFailed { peer, file: shown(request.name), why });
            self.running.borrow_mut().over(id);
        };
        let own = || UdpSocket::bind((self.addr, 0)).and_then(|socket| ready(socket).map(Arc::new));
        let socket = self.only.clone().map_or_else(own, Ok);
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => return failed(format!("no socket for it: {error}")),
        };
        let (files, store, name) = (self.files.clone(), Arc::clone(&self.store), request.name.to_owned());
        let netascii = request.mode == Mode::Netascii;
        let opened = tokio::task::spawn_blocking(move || {
            let content = files.open(&name, Caller::new(peer.ip(), Road::Tftp))?;
            let content = if netascii { converted(content)? } else { content };
            Ok(store.bytes(content).map_err(Refused::Io)?)
        });
        let bytes =
            match opened.await.unwrap_or_else(|error| Err(Refused::Io(io::Error::other(error)).into())) {
                Ok(bytes) => bytes,
                Err(Unserved { code, why }) => {
                    let error = Packet::Error { code, text: why.clone() }.encode();
                    let _ = socket.send_to(&error, peer);
                    return failed(why);
                }
            };
        let Limits { mtu, .. } = self.limits;
        // Behind a tunnel the way is narrower than the link.
        let mtu = way::mtu(self.addr, peer).map_or(mtu, |way| way.min(mtu));
        let agreed = negotiate(&request.options, bytes.size(), Limits { mtu, ..self.limits });
        let first = claim.begin(&agreed, bytes.size());
        // Meanwhile it may have been ended in favour of another.
        let assigned = self.running.borrow_mut().assign(id);
        let Some(worker) = assigned else { return self.running.borrow_mut().over(id) };
        let (file, claim) = (shown(request.name), Arc::clone(&claim));
        let job =
            Job { id, claim, peer, socket, own_socket: self.only.is_none(), file, agreed, bytes, first };
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

/// Why a file is not served, and the code of the ERROR that says so.
struct Unserved {
    code: u16,
    why: String,
}

impl From<Refused> for Unserved {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::NotFound => code::NOT_FOUND,
            Refused::Io(_) => code::UNDEFINED,
            _ => code::ACCESS,
        };
        Self { code, why: refused.to_string() }
    }
}

/// The largest text that is converted, bytes.
const LONGEST_TEXT: u64 = 1 << 20;

/// A text as netascii (blocking).
fn converted(content: Content) -> Result<Content, Unserved> {
    let mut text = Vec::new();
    match content {
        Content::Disk(opened) => {
            let length = opened.file.take(LONGEST_TEXT + 1).read_to_end(&mut text);
            length.map_err(Refused::Io)?;
        }
        Content::Generated(bytes) => text = bytes,
    }
    if text.len() as u64 > LONGEST_TEXT {
        let why = "too long for netascii: use octet (binary) mode".to_owned();
        return Err(Unserved { code: code::ILLEGAL, why });
    }
    Ok(Content::Generated(netascii::encode(&text)))
}

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
