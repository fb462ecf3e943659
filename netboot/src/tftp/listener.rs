//! The well-known port: answers what is no transfer, starts a session for what is one.
//!
//! A request that comes twice is one transfer (RFC 1350 section 4 leaves it open, every lost packet asks for it); the number
//! of transfers is capped, in all and for each address. Nothing here waits for a disk.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::engine::Socket;
use super::options::Limits;
use super::server::Config;
use super::session::{Claim, Session, Shared, shown};
use super::wire::{self, Mode, Packet, code};
use crate::timeline::{Step, Timeline};

/// Room for a request: RFC 2347 allows 512 bytes.
const REQUEST: usize = 2048;
/// Transfers of one address at once.
const PER_ADDRESS: usize = 128;
/// How long running transfers may take to say that they end.
const FAREWELL: Duration = Duration::from_secs(2);

/// The clients' ports that are being served.
type Running = Rc<RefCell<HashMap<SocketAddr, Rc<Claim>>>>;

/// What listens on the port.
pub(super) struct Listener {
    shared: Rc<Shared>,
    max_transfers: usize,
    clients: Vec<Ipv4Network>,
    running: Running,
    sessions: RefCell<JoinSet<()>>,
}

/// Gives a client's port free when its session ends, however it ends.
struct Place {
    running: Running,
    peer: SocketAddr,
    claim: Rc<Claim>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.running.borrow_mut();
        if running.get(&self.peer).is_some_and(|claim| Rc::ptr_eq(claim, &self.claim)) {
            running.remove(&self.peer);
        }
    }
}

impl Listener {
    /// With its own copy of everything; `config.bind` says which address DATA comes from.
    pub(super) fn new(config: Config, timeline: Timeline, stop: CancellationToken) -> Self {
        let limits = Limits { mtu: config.mtu, max_window: config.max_window };
        let (addr, files, segmenting) = (config.bind.ip(), config.files, Cell::new(true));
        Self {
            shared: Rc::new(Shared { files, limits, timeline, addr, stop, segmenting }),
            max_transfers: config.max_transfers,
            clients: config.clients,
            running: Running::default(),
            sessions: RefCell::default(),
        }
    }

    /// Serves until the token says stop and the sessions have taken their leave.
    pub(super) async fn run<S: Socket>(self, socket: UdpSocket) -> io::Result<()> {
        let socket = S::adopt(socket)?;
        let mut recv = pin!(socket.recv(Vec::with_capacity(REQUEST)));
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => break,
                (from, packet) = &mut recv => {
                    match from {
                        Ok(from) => {
                            if let Some((code, text)) = self.packet::<S>(from, &packet) {
                                let error = Packet::Error { code, text: text.to_owned() };
                                let _ = socket.send(error.encode(), None, from).await;
                            }
                        }
                        Err(error) => {
                            // Memory is short, most likely: not a reason to end, and not to spin either.
                            tracing::warn!(%error, "TFTP cannot receive");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                    recv.set(socket.recv(packet));
                    self.reap();
                }
            }
        }
        let mut sessions = self.sessions.take();
        if tokio::time::timeout(FAREWELL, async { while sessions.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            sessions.abort_all();
        }
        Ok(())
    }

    fn reap(&self) {
        while let Some(ended) = self.sessions.borrow_mut().try_join_next() {
            if let Err(error) = ended {
                self.shared.timeline.count("tftp", "session-broken");
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
    fn packet<S: Socket>(&self, from: SocketAddr, packet: &[u8]) -> Option<(u16, &'static str)> {
        let timeline = &self.shared.timeline;
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
                timeline.count("tftp", "stray");
                return None;
            }
            Err(reason) => {
                timeline.count("tftp", reason.name());
                let request = matches!(packet, [0, 1 | 2, ..]);
                return request.then_some((code::ILLEGAL, "the request cannot be read"));
            }
        };
        match request.mode {
            Mode::Octet => {}
            Mode::Netascii => {
                return refuse(
                    request.name,
                    code::ILLEGAL,
                    "netascii is not served: use octet (binary) mode",
                );
            }
            Mode::Other => {
                return refuse(request.name, code::ILLEGAL, "unknown mode: use octet (binary) mode");
            }
        }
        if let Some(claim) = self.running.borrow().get(&from) {
            if claim.owns(packet) {
                timeline.count("tftp", "repeated-request");
                return None;
            }
            claim.replace();
        }
        self.reap();
        if self.sessions.borrow().len() >= self.max_transfers {
            timeline.count("tftp", "too-many-transfers");
            return refuse(request.name, code::UNDEFINED, "too many transfers at once: try again");
        }
        if self.running.borrow().keys().filter(|peer| peer.ip() == from.ip()).count() >= PER_ADDRESS {
            timeline.count("tftp", "too-many-of-one-address");
            return refuse(request.name, code::UNDEFINED, "too many transfers to your address: try again");
        }
        let claim = Rc::new(Claim::new(packet));
        self.running.borrow_mut().insert(from, Rc::clone(&claim));
        let place = Place { running: Rc::clone(&self.running), peer: from, claim: Rc::clone(&claim) };
        let session = Session { shared: Rc::clone(&self.shared), claim, peer: from };
        self.sessions.borrow_mut().spawn_local(async move {
            let _place = place;
            session.play::<S>().await;
        });
        None
    }
}
