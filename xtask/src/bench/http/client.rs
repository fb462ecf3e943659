//! Clients that ask over HTTP/1.1, all on one thread. Every byte that comes is compared.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::site::{LARGE, Large, addr};
use crate::bench::drive::own_cpu;

/// How often it is looked whether somebody wants it to stop.
const ROUND: Duration = Duration::from_millis(50);
/// So many answers that are none end a measurement.
const MOST_ERRORS: u64 = 100;
/// Bytes that are taken at once.
const ROOM: usize = 256 << 10;
/// Larger heads are none.
const LARGEST_HEAD: usize = 16 << 10;

/// What must come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected<'a> {
    /// To each client its own text.
    Own(&'a [Vec<u8>]),
    /// To all the first client's.
    First(&'a [Vec<u8>]),
    Large(&'a Large),
}

impl Expected<'_> {
    fn text(&self, client: usize) -> &[u8] {
        let text = match self {
            Self::Own(texts) => texts.get(client % texts.len().max(1)),
            Self::First(texts) => texts.first(),
            Self::Large(_) => None,
        };
        text.map(Vec::as_slice).unwrap_or_default()
    }

    fn length(&self, client: usize) -> u64 {
        if let Self::Large(_) = self { LARGE } else { self.text(client).len() as u64 }
    }

    fn is(&self, client: usize, offset: u64, bytes: &[u8]) -> bool {
        if let Self::Large(large) = self {
            return large.has(offset, bytes);
        }
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        self.text(client).get(at..).is_some_and(|rest| rest.starts_with(bytes))
    }
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load<'a> {
    pub(super) server: SocketAddrV4,
    pub(super) path: &'a str,
    pub(super) expected: Expected<'a>,
    pub(super) connections: usize,
    /// A connection has many requests, or one.
    pub(super) keeps: bool,
    pub(super) time: Duration,
    /// It is over after so many answers, too.
    pub(super) most: u64,
}

/// What has come of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) took: Duration,
    pub(super) done: u64,
    pub(super) bytes: u64,
    /// Of each answer, in tenths of a microsecond, from the request, or from the first packet of its connection.
    pub(super) times: Vec<u32>,
    pub(super) errors: u64,
    pub(super) error: Option<String>,
    pub(super) cpu: Duration,
}

#[derive(Debug)]
enum State {
    Connecting,
    Head(Vec<u8>),
    Body,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    state: State,
    begun: Instant,
    /// Bytes of the body.
    got: u64,
    /// The server wants to close it afterwards.
    closes: bool,
}

struct Crowd<'a> {
    load: Load<'a>,
    request: Vec<u8>,
    poll: OwnedFd,
    clients: Vec<Client>,
    room: Vec<u8>,
    outcome: Outcome,
}

/// What became of what a client has read.
enum Next {
    More,
    Done,
}

/// Asks on this thread, in its network namespace.
///
/// # Errors
/// When the kernel refuses something, or a signal stops it. That an answer is wrong is part of the outcome.
pub(super) fn ask(load: Load<'_>, stop: &AtomicBool) -> Result<Outcome> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?;
    let connection = if load.keeps { "keep-alive" } else { "close" };
    let request =
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n", load.path, load.server);
    let (room, clients, outcome) = (vec![0; ROOM], Vec::new(), Outcome::default());
    let mut crowd = Crowd { load, request: request.into_bytes(), poll, clients, room, outcome };
    let (cpu, start) = (own_cpu()?, Instant::now());
    for number in 0..load.connections {
        let client = crowd.begin(number)?;
        crowd.clients.push(client);
    }
    let timeout = Timespec::try_from(ROUND).context("a timeout")?;
    let none = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
    let (mut events, mut now) = ([none; 64], start);
    while now - start < load.time && crowd.outcome.done < load.most && crowd.outcome.errors < MOST_ERRORS {
        anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
        let count = match epoll::wait(&crowd.poll, &mut events, Some(&timeout)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        for event in events.iter().take(count) {
            let data = event.data;
            crowd.turn(usize::try_from(data.u64()).unwrap_or(usize::MAX))?;
        }
        now = Instant::now();
    }
    crowd.outcome.took = now - start;
    crowd.outcome.cpu = own_cpu()?.saturating_sub(cpu);
    Ok(crowd.outcome)
}

/// Begins a connection that does not block.
fn open(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrV4::new(from, 0))?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

impl Crowd<'_> {
    fn begin(&self, number: usize) -> Result<Client> {
        let begun = Instant::now();
        let stream = open(addr(number), self.load.server).context("open a connection")?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.poll, &stream, data, epoll::EventFlags::OUT).context("epoll_ctl")?;
        Ok(Client { stream, state: State::Connecting, begun, got: 0, closes: false })
    }

    /// Goes on with a client that something has happened to.
    fn turn(&mut self, number: usize) -> Result<()> {
        let next = match self.step(number) {
            Ok(Next::More) => return Ok(()),
            Ok(Next::Done) => Ok(()),
            Err(error) => Err(error),
        };
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        let mut again = !self.load.keeps || client.closes;
        match next {
            Ok(()) => {
                let tenths = client.begun.elapsed().as_nanos() / 100;
                self.outcome.times.push(u32::try_from(tenths).unwrap_or(u32::MAX));
                self.outcome.done += 1;
            }
            Err(error) => {
                self.outcome.errors += 1;
                self.outcome.error.get_or_insert_with(|| error.to_string());
                again = true;
            }
        }
        if again {
            let next = self.begin(number)?;
            if let Some(client) = self.clients.get_mut(number) {
                *client = next;
            }
            return Ok(());
        }
        (client.begun, client.got, client.state) = (Instant::now(), 0, State::Head(Vec::new()));
        // A whole request goes into an empty socket.
        client.stream.write_all(&self.request).context("send a request")
    }

    fn step(&mut self, number: usize) -> io::Result<Next> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(Next::More) };
        if let State::Connecting = client.state {
            if let Some(error) = client.stream.take_error()? {
                return Err(error);
            }
            client.stream.write_all(&self.request)?;
            client.state = State::Head(Vec::new());
            let data = epoll::EventData::new_u64(number as u64);
            epoll::modify(&self.poll, &client.stream, data, epoll::EventFlags::IN)?;
            return Ok(Next::More);
        }
        let length = match client.stream.read(&mut self.room) {
            Ok(0) => return Err(wrong("the connection ended early")),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Next::More),
            Err(error) => return Err(error),
        };
        let mut bytes = self.room.get(..length).unwrap_or_default();
        let expected = self.load.expected.length(number);
        if let State::Head(head) = &mut client.state {
            let before = head.len();
            head.extend_from_slice(bytes);
            let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
                return if head.len() < LARGEST_HEAD {
                    Ok(Next::More)
                } else {
                    Err(wrong("no end of the head"))
                };
            };
            client.closes = check(head.get(..end).unwrap_or_default(), expected)?;
            bytes = bytes.get((end + 4).saturating_sub(before)..).unwrap_or_default();
            client.state = State::Body;
        }
        if !bytes.is_empty() && !self.load.expected.is(number, client.got, bytes) {
            return Err(wrong(&format!("other bytes than expected after {}", client.got)));
        }
        client.got += bytes.len() as u64;
        self.outcome.bytes += bytes.len() as u64;
        Ok(if client.got == expected { Next::Done } else { Next::More })
    }
}

/// Looks at a head; tells whether the server will close the connection.
fn check(head: &[u8], length: u64) -> io::Result<bool> {
    let head = std::str::from_utf8(head).map_err(|_| wrong("the head is no text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let (version, code) = (status.get(..8), status.get(9..12));
    if code != Some("200") {
        return Err(wrong(&format!("not 200: {status}")));
    }
    let value = |name: &str| {
        let mut lines = lines.clone().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    if value("content-length").and_then(|value| value.parse().ok()) != Some(length) {
        return Err(wrong(&format!("another length than {length}: {head}")));
    }
    let connection = value("connection").unwrap_or(if version == Some("HTTP/1.0") { "close" } else { "" });
    Ok(connection.eq_ignore_ascii_case("close"))
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::{Expected, Load, check, open};

    #[test]
    fn heads() {
        let good = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nX: y";
        assert!(!check(good, 7).unwrap());
        assert!(check(b"HTTP/1.0 200 OK\r\nContent-Length: 7", 7).unwrap());
        assert!(check(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close", 7).unwrap());
        for (head, length) in
            [(&good[..], 8), (b"HTTP/1.1 404 Not\r\nContent-Length: 7", 7), (b"HTTP/1.1 200 OK", 7), (b"", 0)]
        {
            assert!(check(head, length).is_err());
        }
    }

    #[test]
    fn a_wrong_byte_is_an_error() {
        // The clients' own addresses are not on this machine: only the reading is tried, over loopback.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(server) = listener.local_addr().unwrap() else { panic!("not IPv4") };
        let stream = open([127, 0, 0, 1].into(), server).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let texts = vec![b"hello".to_vec()];
        let (time, expected) = (Duration::from_secs(1), Expected::Own(&texts));
        let load = Load { server, path: "/", expected, connections: 0, keeps: true, time, most: 1 };
        assert_eq!(super::ask(load, &AtomicBool::new(false)).unwrap().done, 0);
        peer.write_all(b"x").unwrap();
        stream.set_nonblocking(false).unwrap();
        (&stream).read_exact(&mut [0]).unwrap();
        assert!(expected.is(0, 1, b"ello") && !expected.is(0, 1, b"elko") && !expected.is(0, 4, b"oo"));
    }
}
