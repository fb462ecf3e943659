//! The server: owns the port, answers what is no transfer, starts a session for what is one.
//!
//! It runs on a thread of its own with one of the two engines, so that nothing else in the daemon can delay it. Requests
//! that come twice are one transfer; the number of transfers is capped, in all and for each address.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, Socket};
use super::files::Files;
use super::options::Limits;
use super::plain::Plain;
use super::ring::Ring;
use super::session::{Claim, Session, Shared, shown};
use super::wire::{self, Mode, Packet, code};
use crate::config;
use crate::timeline::{Step, Timeline};

/// Room for a request: RFC 2347 allows 512 bytes.
const REQUEST: usize = 2048;
/// Requests of a rack that is switched on at once must wait in the socket while the first are served.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Transfers of one address at once.
const PER_ADDRESS: usize = 128;
/// How long running transfers may take to say that they end.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's address and port 69. Transfers use other ports of the same address.
    pub bind: SocketAddr,
    /// What is served.
    pub files: Files,
    /// Transfers at once; who comes after gets an ERROR that says so.
    pub max_transfers: usize,
    /// Largest window granted.
    pub max_window: u16,
    /// Largest packet of the link, bytes.
    pub mtu: u32,
    /// How packets are moved.
    pub engine: config::Engine,
}

/// Why the server could not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port cannot be had.
    #[error("bind UDP {addr} for TFTP")]
    Bind {
        /// Address and port.
        addr: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The engine cannot be set up.
    #[error("start TFTP on {engine}")]
    Engine {
        /// The engine.
        engine: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The server's thread broke off.
    #[error("the TFTP thread broke off")]
    Broken,
}

/// A running server. It ends by its stop token, not by dropping this.
#[derive(Debug)]
pub struct Handle {
    addr: SocketAddr,
    engine: &'static str,
    done: oneshot::Receiver<()>,
    ended: Option<bool>,
}

impl Handle {
    /// The address and port it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The engine that moves its packets: `io_uring` or `plain sockets`.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// Waits until the server has ended: its transfers have got an ERROR and its port is free.
    ///
    /// # Errors
    /// When its thread broke off.
    pub async fn ended(&mut self) -> Result<(), Error> {
        let clean = match self.ended {
            Some(clean) => clean,
            None => (&mut self.done).await.is_ok(),
        };
        self.ended = Some(clean);
        if clean { Ok(()) } else { Err(Error::Broken) }
    }
}

/// Binds the port and starts the server on a thread of its own.
///
/// # Errors
/// When the port cannot be had or the engine that was asked for does not start.
pub fn start(config: Config, timeline: Timeline, stop: CancellationToken) -> Result<Handle, Error> {
    let bind = |source| Error::Bind { addr: config.bind, source };
    let socket = UdpSocket::bind(config.bind).map_err(bind)?;
    let addr = socket.local_addr().map_err(bind)?;
    raise_receive_buffer(&socket);
    raise_open_files(config.max_transfers);
    let (engine, done) = choose(config.engine, |ring| {
        let (config, timeline, stop) = (config.clone(), timeline.clone(), stop.clone());
        let socket = socket.try_clone()?;
        if ring {
            launch::<Ring>(socket, config, timeline, stop)
        } else {
            launch::<Plain>(socket, config, timeline, stop)
        }
    })?;
    tracing::info!(%addr, engine, "TFTP on {addr} by {engine}");
    Ok(Handle { addr, engine, done, ended: None })
}

/// Starts the engine of the setting by `start(ring)`; `auto` falls back to the plain one and says why.
fn choose<T>(
    setting: config::Engine,
    mut start: impl FnMut(bool) -> io::Result<T>,
) -> Result<(&'static str, T), Error> {
    let failed = |engine| move |source| Error::Engine { engine, source };
    if setting != config::Engine::Plain {
        match start(true) {
            Ok(started) => return Ok((Ring::NAME, started)),
            Err(source) if setting == config::Engine::Uring => return Err(failed(Ring::NAME)(source)),
            Err(error) => tracing::warn!(%error, "no io_uring here: TFTP uses plain sockets"),
        }
    }
    start(false).map(|started| (Plain::NAME, started)).map_err(failed(Plain::NAME))
}

fn launch<E: Engine>(
    socket: UdpSocket,
    config: Config,
    timeline: Timeline,
    stop: CancellationToken,
) -> io::Result<oneshot::Receiver<()>> {
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let (finished, done) = oneshot::channel();
    std::thread::Builder::new().name("tftp".to_owned()).spawn(move || {
        let engine = match E::new(config.max_transfers) {
            Ok(engine) => engine,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        let server = Server::new(config, timeline, stop);
        if let Err(error) = engine.block_on(server.listen::<E::Socket>(socket)) {
            tracing::error!(%error, "TFTP cannot use its socket");
            return;
        }
        let _ = finished.send(());
    })?;
    is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread broke off")))?;
    Ok(done)
}

type Running = Rc<RefCell<HashMap<SocketAddr, Rc<Claim>>>>;

struct Server {
    shared: Rc<Shared>,
    max_transfers: usize,
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

impl Server {
    fn new(config: Config, timeline: Timeline, stop: CancellationToken) -> Self {
        let limits = Limits { mtu: config.mtu, max_window: config.max_window };
        let (addr, files, segmenting) = (config.bind.ip(), config.files, Cell::new(true));
        Self {
            shared: Rc::new(Shared { files, limits, timeline, addr, stop, segmenting }),
            max_transfers: config.max_transfers,
            running: Running::default(),
            sessions: RefCell::default(),
        }
    }

    async fn listen<S: Socket>(self, socket: UdpSocket) -> io::Result<()> {
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

    /// Deals with a packet to the well-known port; returns the ERROR to answer with, if one is due.
    fn packet<S: Socket>(&self, from: SocketAddr, packet: &[u8]) -> Option<(u16, &'static str)> {
        let timeline = &self.shared.timeline;
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

fn raise_receive_buffer(socket: &UdpSocket) {
    // Past the system's limit with CAP_NET_ADMIN, else up to it.
    if sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER).is_err()
        && let Err(error) = sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER)
    {
        tracing::debug!(%error, "TFTP keeps the default receive buffer");
    }
}

/// Each transfer has a socket and a file open; the usual soft limit is 1024.
fn raise_open_files(transfers: usize) {
    let wanted = (transfers as u64).saturating_mul(2).saturating_add(512);
    let Rlimit { current: Some(current), maximum } = getrlimit(Resource::Nofile) else { return };
    let wanted = wanted.min(maximum.unwrap_or(u64::MAX));
    if wanted > current
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        tracing::debug!(%error, "TFTP keeps the limit of {current} open files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_back_to_plain_sockets_only_where_it_may() {
        let no_ring = |ring| if ring { Err(io::Error::from_raw_os_error(38)) } else { Ok(()) };
        assert_eq!(choose(config::Engine::Auto, no_ring).unwrap().0, "plain sockets");
        assert_eq!(choose(config::Engine::Auto, |_| Ok(())).unwrap().0, "io_uring");
        assert_eq!(choose(config::Engine::Plain, |_| Ok(())).unwrap().0, "plain sockets");
        let error = choose(config::Engine::Uring, no_ring).unwrap_err();
        assert!(matches!(error, Error::Engine { engine: "io_uring", .. }), "{error}");
    }
}
