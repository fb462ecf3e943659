//! A server to test, and a client written by hand to do what real ones would not.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use netboot::config::Engine;
use netboot::inventory::Snapshot;
use netboot::tftp::files::Files;
use netboot::tftp::server::{Config, Handle, start};
use netboot::tftp::transfer::Rollover;
use netboot::tftp::wire::{self, Mode, Packet, Request};
use netboot::timeline::Timeline;
use tokio_util::sync::CancellationToken;
use xtask::lab::wait_for;

use super::WITHIN;
use crate::wire::uninterrupted;

/// A server on a port of its own, with a data directory of its own; both end with the value.
pub(super) struct Server {
    pub(super) dir: tempfile::TempDir,
    pub(super) handle: Handle,
    timeline: Timeline,
    pub(super) stop: CancellationToken,
}

impl Server {
    pub(super) fn new(engine: Engine) -> Self {
        Self::with(engine, |_| {})
    }

    pub(super) fn with(engine: Engine, change: impl FnOnce(&mut Config)) -> Self {
        // An address of its own: a late packet of another test must not find a port that has changed hands.
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tftp")).unwrap();
        let inventory = Arc::new(ArcSwap::from_pointee(Snapshot::new(BTreeMap::new(), vec![])));
        let files = Files::new(dir.path(), inventory, Ipv4Addr::LOCALHOST, 8080);
        let bind = (Ipv4Addr::new(127, 1, 0, NUMBER.fetch_add(1, Ordering::Relaxed)), 0).into();
        let clients = vec!["127.0.0.0/8".parse().unwrap()];
        let mut config = Config {
            bind,
            clients,
            files,
            max_transfers: 256,
            max_window: 64,
            mtu: 1500,
            engine,
            rollover: Rollover::Zero,
            single_port: false,
            threads: 2,
            cache_bytes: 256 << 20,
            in_flight_bytes: 16 << 20,
            client_in_flight_bytes: 4 << 20,
        };
        change(&mut config);
        let (timeline, stop) = (Timeline::default(), CancellationToken::new());
        let handle = start(config, timeline.clone(), stop.clone()).unwrap();
        Self { dir, handle, timeline, stop }
    }

    pub(super) fn file(&self, name: &str, content: &[u8]) {
        std::fs::write(self.dir.path().join("tftp").join(name), content).unwrap();
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    pub(super) fn host(&self) -> String {
        self.addr().ip().to_string()
    }

    pub(super) fn port(&self) -> String {
        self.addr().port().to_string()
    }

    pub(super) fn count(&self, name: &str) -> u64 {
        self.timeline.counters().get("tftp").and_then(|tftp| tftp.get(name).copied()).unwrap_or(0)
    }

    pub(super) fn wait_count(&self, name: &str, number: u64) {
        assert!(wait_for(WITHIN, || self.count(name) == number), "{name}: {:?}", self.timeline.counters());
    }

    /// A client's socket that has sent this request.
    pub(super) fn ask(&self, name: &str, options: &[(&str, &str)]) -> Client {
        let client = Client::new(self.addr());
        client.request(name, options);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A client's socket. What it does is for the test to say.
pub(super) struct Client {
    pub(super) socket: UdpSocket,
    pub(super) server: SocketAddr,
}

impl Client {
    pub(super) fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(WITHIN)).unwrap();
        Self { socket, server }
    }

    pub(super) fn request(&self, name: &str, options: &[(&str, &str)]) {
        self.socket.send_to(&request(name, options), self.server).unwrap();
    }

    pub(super) fn send(&self, packet: &Packet<'_>, to: SocketAddr) {
        self.socket.send_to(&packet.encode(), to).unwrap();
    }

    pub(super) fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 70_000];
        let (length, from) = uninterrupted(|| self.socket.recv_from(&mut buffer)).unwrap();
        buffer.truncate(length);
        (buffer, from)
    }

    /// The next block and its bytes. An OACK that comes again was slow in being answered.
    pub(super) fn data(&self) -> (u16, Vec<u8>, SocketAddr) {
        loop {
            let (packet, from) = self.receive();
            match wire::parse(&packet) {
                Ok(Packet::Data { block, bytes }) => return (block, bytes.to_vec(), from),
                Ok(Packet::Oack(_)) => {}
                other => panic!("not DATA: {other:?}"),
            }
        }
    }

    /// The next ERROR, whatever was sent before it.
    pub(super) fn error(&self) -> (u16, String) {
        loop {
            let (packet, _) = self.receive();
            match wire::parse(&packet) {
                Ok(Packet::Error { code, text }) => return (code, text),
                Ok(Packet::Data { .. } | Packet::Oack(_)) => {}
                other => panic!("not ERROR: {other:?}"),
            }
        }
    }

    /// The next OACK's options, as `name=value name=value`.
    pub(super) fn oack(&self) -> (String, SocketAddr) {
        let (packet, from) = self.receive();
        match wire::parse(&packet) {
            Ok(Packet::Oack(options)) => {
                let options: Vec<_> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
                (options.join(" "), from)
            }
            other => panic!("not OACK: {other:?}"),
        }
    }

    pub(super) fn is_silent(&self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let silent = uninterrupted(|| self.socket.recv_from(&mut [0; 2048])).is_err();
        self.socket.set_read_timeout(Some(WITHIN)).unwrap();
        silent
    }

    /// Asks for a file and reads it to its end, as a client that keeps RFC 1350 and 7440 does.
    pub(super) fn read(&self, name: &str, options: &[(&str, &str)]) -> Vec<u8> {
        self.request(name, options);
        self.read_on(options, |_| {})
    }

    /// Reads to the end what was asked for with these options; `at` hears of each new block before it is acknowledged.
    pub(super) fn read_on(&self, options: &[(&str, &str)], mut at: impl FnMut(u64)) -> Vec<u8> {
        let asked =
            |name| options.iter().find(|option| option.0 == name).map(|option| option.1.parse().unwrap());
        let (blksize, windowsize) = (asked("blksize").unwrap_or(512), asked("windowsize").unwrap_or(1));
        if !options.is_empty() {
            let (_, from) = self.oack();
            self.send(&Packet::Ack(0), from);
        }
        let (mut content, mut last, mut in_window) = (Vec::new(), 0_u64, 0);
        let low = |block: u64| u16::try_from(block & 0xffff).unwrap();
        loop {
            let (block, bytes, from) = self.data();
            let new = block == low(last + 1);
            if new {
                last += 1;
                in_window += 1;
                content.extend_from_slice(&bytes);
                at(last);
            }
            if !new || in_window == windowsize || bytes.len() < blksize {
                in_window = 0;
                self.send(&Packet::Ack(low(last)), from);
            }
            if new && bytes.len() < blksize {
                return content;
            }
        }
    }
}

/// A read request's bytes.
pub(super) fn request(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
    Packet::Read(Request { name, mode: Mode::Octet, options: options.to_vec() }).encode()
}
