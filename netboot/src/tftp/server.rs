//! The server's life: binds the port, chooses the engine, runs on a thread of its own, ends by its token.
//!
//! One thread has the port, others play the transfers, so that nothing else in the daemon can delay them. What is answered to
//! whom is the listener's.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use ipnetwork::Ipv4Network;
use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::files::Files;
use super::flight::Room;
use super::listener::{Listener, ready};
use super::pages::Store;
use super::plain::Plain;
use super::ring::Ring;
use super::session::Shared;
use super::transfer::Rollover;
use super::worker::{Spawn, Worker};
use crate::config;
use crate::timeline::Timeline;

/// Requests of a rack that is switched on at once must wait in the socket while the first are served.
const RECEIVE_BUFFER: usize = 4 << 20;

/// More threads than this are of no use.
const MOST_THREADS: usize = 64;

/// Threads that wait for disks: a rack that asks at once asks for the same files.
const DISK_THREADS: usize = 16;

/// What the server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's address and port 69. Transfers use other ports of the same address.
    pub bind: SocketAddr,
    /// Who is served, besides this machine; an answer is larger than its request and must not be sent to anybody.
    pub clients: Vec<Ipv4Network>,
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
    /// What comes behind block 65,535.
    pub rollover: Rollover,
    /// DATA leaves from the well-known port as well, for clients behind what translates addresses.
    pub single_port: bool,
    /// Threads that play transfers; 0: one for each processor.
    pub threads: usize,
    /// Bytes of files that are kept mapped.
    pub cache_bytes: u64,
    /// Bytes of all windows that are on their way at once.
    pub in_flight_bytes: u64,
    /// The same for the transfers of one address.
    pub client_in_flight_bytes: u64,
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

/// Binds the port and starts the server on threads of its own.
///
/// # Errors
/// When the port cannot be had or the engine that was asked for does not start.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the server keeps them; a clone for the second engine is a detail"
)]
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

fn launch<E: Engine + 'static>(
    socket: UdpSocket,
    config: Config,
    timeline: Timeline,
    stop: CancellationToken,
) -> io::Result<oneshot::Receiver<()>> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(DISK_THREADS).build()?;
    let handle = runtime.handle().clone();
    let spawn: Spawn = Arc::new(move |work| drop(handle.spawn_blocking(work)));
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let number = if config.threads == 0 { processors } else { config.threads };
    let shared = Arc::new(Shared { timeline: timeline.clone(), segmenting: AtomicBool::new(true) });
    let only = config.single_port.then(|| socket.try_clone().and_then(ready)).transpose()?;
    let (sender, told) = mpsc::unbounded_channel();
    let number = number.clamp(1, MOST_THREADS);
    let room = Arc::new(Room::new(config.in_flight_bytes));
    let workers = (0..number).map(|_| {
        let sender = sender.clone();
        let tell = Box::new(move |told| {
            let _ = sender.send(told);
        });
        Worker::<E>::start(Arc::clone(&shared), Arc::clone(&spawn), processors > 1, Arc::clone(&room), tell)
    });
    let workers = workers.collect::<io::Result<Vec<_>>>()?;
    drop(sender);
    let (finished, done) = oneshot::channel();
    thread::Builder::new().name("tftp".to_owned()).spawn(move || {
        let store = Arc::new(Store::new(config.cache_bytes));
        let listener = Listener::new(config, timeline, store, only, workers);
        if let Err(error) = LocalSet::new().block_on(&runtime, listener.run(socket, told, stop)) {
            tracing::error!(%error, "TFTP cannot use its socket");
            return;
        }
        // What still waits for a disk must not hold up the end.
        runtime.shutdown_background();
        let _ = finished.send(());
    })?;
    Ok(done)
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
