//! A TFTP client of our own that keeps RFC 1350, 2347 and 7440 on any wire. It shares no code with the server.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::wire::uninterrupted;

/// As much as fits into an Ethernet frame.
pub(super) const BLKSIZE: usize = 1428;
/// How long it waits before it says again what it has.
const AGAIN: Duration = Duration::from_millis(400);

/// Room for the largest window, twice: what is lost is lost on the cable.
const BUFFER: usize = 1 << 20;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Data(u16, Vec<u8>),
    Oack(String),
    Error(u16, String),
}

/// A client's port.
pub(super) struct Client {
    pub(super) socket: UdpSocket,
    server: SocketAddr,
}

impl Client {
    /// At this address; for a server there.
    pub(super) fn bind(addr: Ipv4Addr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((addr, 0)).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap();
        Self { socket, server }
    }

    /// Asks for a file.
    pub(super) fn ask(&self, name: &str, options: &[(&str, &str)]) {
        self.socket.send_to(&request(name, options), self.server).unwrap();
    }

    pub(super) fn ack(&self, block: u16, to: SocketAddr) {
        self.socket.send_to(&[[0, 4], block.to_be_bytes()].concat(), to).unwrap();
    }

    pub(super) fn error(&self, code: u8, to: SocketAddr) {
        self.socket.send_to(&[0, 5, 0, code, b'n', b'o', 0], to).unwrap();
    }

    /// What is said next, if something is within the time.
    pub(super) fn hear(&self, within: Duration) -> Option<(Said, SocketAddr)> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 2048];
        let (length, from) = uninterrupted(|| self.socket.recv_from(&mut buffer)).ok()?;
        Some((read(&buffer[..length]), from))
    }

    /// Hears so many blocks, in order from `first`; their bytes and who sent them.
    pub(super) fn blocks(&self, first: u16, number: u16, within: Duration) -> (Vec<u8>, SocketAddr) {
        let (mut content, mut tid) = (Vec::new(), None);
        for expected in first..first + number {
            let (said, from) = self.hear(within).expect("a block");
            let Said::Data(block, bytes) = said else { panic!("{said:?}") };
            assert_eq!(block, expected);
            content.extend(bytes);
            tid = Some(from);
        }
        (content, tid.unwrap())
    }

    /// Fetches a file: one ACK for each window, one for each gap, and one when nothing came for a while. Stays until the
    /// last block is acknowledged once; [`Client::dally`] is for what comes after.
    /// `more`: options besides these two.
    pub(super) fn fetch(
        &self,
        name: &str,
        window: u16,
        more: &[(&str, &str)],
        within: Duration,
    ) -> Result<Vec<u8>, String> {
        let (deadline, window_text) = (Instant::now() + within, window.to_string());
        let mut options = vec![("blksize", "1428")];
        if window > 1 {
            options.push(("windowsize", &window_text));
        }
        options.extend(more);
        let mut reading = Reading::default();
        self.ask(name, &options);
        while !reading.ended {
            if Instant::now() > deadline {
                return Err(format!("no end within {within:?}: {} blocks", reading.last));
            }
            let Some((said, from)) = self.hear(AGAIN) else {
                match reading.tid {
                    None => self.ask(name, &options),
                    Some(tid) => self.ack(reading.again(), tid),
                }
                continue;
            };
            let tid = *reading.tid.get_or_insert(from);
            if from != tid {
                // RFC 1350 section 4. An ERROR is never answered.
                if !matches!(said, Said::Error(..)) {
                    self.error(5, from);
                }
                continue;
            }
            match said {
                Said::Error(code, text) => return Err(format!("error {code}: {text}")),
                Said::Oack(granted) => {
                    let asked: Vec<_> =
                        options.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    if granted != asked.join(" ") {
                        return Err(format!("asked for {options:?}, was granted {granted}"));
                    }
                    // After the first block it is an old one, doubled on the way.
                    if reading.last == 0 {
                        self.ack(reading.again(), tid);
                    }
                }
                Said::Data(block, bytes) => {
                    if let Some(ack) = reading.data(block, &bytes, window) {
                        self.ack(ack, tid);
                    }
                }
            }
        }
        Ok(reading.content)
    }

    /// Says again that it has the last block as long as the server sends it (RFC 1350 section 6), until the server has ended.
    pub(super) fn dally(&self, last: u16, has_ended: impl Fn() -> bool) {
        while !has_ended() {
            if let Some((Said::Data(..), from)) = self.hear(Duration::from_millis(100)) {
                self.ack(last, from);
            }
        }
    }
}

/// A file half read.
#[derive(Default)]
struct Reading {
    tid: Option<SocketAddr>,
    /// All blocks up to this one are here.
    last: u64,
    in_window: u16,
    gap_told: bool,
    ended: bool,
    content: Vec<u8>,
}

impl Reading {
    /// A block came: what is to be acknowledged.
    fn data(&mut self, block: u16, bytes: &[u8], window: u16) -> Option<u16> {
        // How far it is before or behind the next one, whatever the block numbers have rolled over.
        let ahead = block.wrapping_sub(low16(self.last + 1)).cast_signed();
        if ahead > 0 {
            // A gap: told once. What is still on its way from this window is no new one.
            return (!std::mem::replace(&mut self.gap_told, true)).then(|| self.again());
        }
        if ahead < 0 {
            // The end of a window that was acknowledged: that ACK was lost.
            return (block == low16(self.last) && self.in_window == 0).then(|| low16(self.last));
        }
        self.content.extend_from_slice(bytes);
        self.last += 1;
        self.in_window += 1;
        self.gap_told = false;
        self.ended = bytes.len() < BLKSIZE;
        (self.ended || self.in_window == window).then(|| self.again())
    }

    /// The ACK of all that is here; a new window begins after it.
    fn again(&mut self) -> u16 {
        self.in_window = 0;
        low16(self.last)
    }
}

/// The number of a block on the wire.
pub(super) fn low16(block: u64) -> u16 {
    u16::try_from(block & 0xffff).unwrap()
}

/// A request to read.
pub(super) fn request(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = vec![0, 1];
    for text in [name, "octet"].into_iter().chain(options.iter().flat_map(|(name, value)| [*name, *value])) {
        packet.extend(text.as_bytes());
        packet.push(0);
    }
    packet
}

/// What a packet of a server says; anything else is a fault of its own.
pub(super) fn read(packet: &[u8]) -> Said {
    let [0, code, rest @ ..] = packet else { panic!("{packet:?}") };
    match (code, rest) {
        (3, [high, low, bytes @ ..]) => Said::Data(u16::from_be_bytes([*high, *low]), bytes.to_vec()),
        (5, [high, low, text @ .., 0]) => {
            Said::Error(u16::from_be_bytes([*high, *low]), String::from_utf8(text.to_vec()).unwrap())
        }
        (6, [texts @ .., 0]) => {
            let texts: Vec<_> = texts.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            let options: Vec<_> = texts.chunks(2).map(|pair| pair.join("=")).collect();
            Said::Oack(options.join(" "))
        }
        _ => panic!("{packet:?}"),
    }
}
