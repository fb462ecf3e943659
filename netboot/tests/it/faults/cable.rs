//! A cable that loses, doubles, delays and overtakes frames: two packet sockets on two ports, and a thread for each direction.
//!
//! What happens to a frame follows from the seed, the client's address, the direction and how many frames of that client went
//! that way before: the same whoever else is on the cable. Only IPv4 passes; both ends know each other without ARP.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::Socket;
use xtask::lab::Namespace;

use crate::wire::listen;

/// How exactly time is kept, and how soon the cable is gone when unplugged.
const TICK: Duration = Duration::from_millis(2);
/// How much later a late frame comes.
const LATE: Duration = Duration::from_millis(50);
/// How long a frame waits at most for those that are to overtake it.
const OVERTAKEN: Duration = Duration::from_millis(10);
/// The most that follows an Ethernet header on this wire.
const MTU: usize = 1500;
/// In an IPv4 header.
const UDP: u8 = 17;

/// What happens to how many of a thousand frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// One to three later frames come first.
    pub(super) overtaken: u64,
    /// Comes 50 ms later than the others.
    pub(super) late: u64,
}

/// What went in at one end.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// With UDP in them.
    pub(super) frames: AtomicU64,
    pub(super) harmed: AtomicU64,
    /// Longer than a frame can be: an offload is on.
    pub(super) too_long: AtomicU64,
}

/// A plugged cable; gone with this value.
pub(super) struct Cable {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Towards the server, towards the clients.
    pub(super) counts: [Arc<Counts>; 2],
}

impl Cable {
    /// Connects two interfaces of a namespace, that of the clients first.
    pub(super) fn plug(namespace: &Namespace, ports: [&str; 2], faults: Faults, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = [Arc::default(), Arc::default()];
        let sockets = ports.map(|port| {
            let socket = listen(namespace, port);
            socket.set_read_timeout(Some(TICK)).unwrap();
            socket
        });
        let threads = [(0, 1), (1, 0)].map(|(from, to)| {
            let direction = Direction {
                from: sockets[from].try_clone().unwrap(),
                to: sockets[to].try_clone().unwrap(),
                towards_server: from == 0,
                faults,
                seed,
                counts: Arc::clone(&counts[from]),
                held: Vec::new(),
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || direction.run(&stop))
        });
        Self { stop, threads: threads.into(), counts }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A frame that comes out later: when its time has come, or so many frames of its client have gone in.
struct Held {
    due: Instant,
    client: u8,
    after: u64,
    frame: Vec<u8>,
}

/// One way through the cable.
struct Direction {
    from: Socket,
    to: Socket,
    towards_server: bool,
    faults: Faults,
    seed: u64,
    counts: Arc<Counts>,
    held: Vec<Held>,
}

impl Direction {
    fn run(mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; 1 << 16];
        let mut numbers: HashMap<u8, u64> = HashMap::new();
        while !stop.load(Ordering::Relaxed) {
            if let Ok(length) = (&self.from).read(&mut buffer) {
                let frame = &buffer[..length];
                // The last byte of the client's address tells the client.
                let client =
                    frame.get(if self.towards_server { 29 } else { 33 }).copied().unwrap_or_default();
                let number = numbers.entry(client).or_default();
                *number += 1;
                self.pass(client, *number, frame);
                self.release(|held, now| held.due <= now || (held.client == client && held.after <= *number));
            } else {
                self.release(|held, now| held.due <= now);
            }
        }
    }

    fn pass(&mut self, client: u8, number: u64, frame: &[u8]) {
        // An ACK that comes twice may find a closed port, and ICMP says so.
        if frame.get(23) == Some(&UDP) {
            self.counts.frames.fetch_add(1, Ordering::Relaxed);
        }
        if frame.len() > 14 + MTU {
            self.counts.too_long.fetch_add(1, Ordering::Relaxed);
        }
        let way = self.seed ^ (u64::from(client) << 48) ^ (u64::from(self.towards_server) << 63);
        let mut dice = Dice(mix(way).wrapping_add(number.wrapping_mul(STEP)));
        let Faults { lost, doubled, overtaken, late } = self.faults;
        let [lost, doubled, overtaken, late] =
            [lost, doubled, overtaken, late].map(|of_thousand| dice.roll(1000) < of_thousand);
        if lost || doubled || overtaken || late {
            self.counts.harmed.fetch_add(1, Ordering::Relaxed);
        }
        if lost {
            return;
        }
        let now = Instant::now();
        if doubled {
            self.send(frame);
        }
        let (due, after) = match (late, overtaken) {
            (true, _) => (now + LATE, u64::MAX),
            (false, true) => (now + OVERTAKEN, number + 1 + dice.roll(3)),
            (false, false) => return self.send(frame),
        };
        self.held.push(Held { due, client, after, frame: frame.to_vec() });
    }

    fn release(&mut self, is_due: impl Fn(&Held, Instant) -> bool) {
        if self.held.is_empty() {
            return;
        }
        let now = Instant::now();
        for held in self.held.extract_if(.., |held| is_due(held, now)).collect::<Vec<_>>() {
            self.send(&held.frame);
        }
    }

    fn send(&self, frame: &[u8]) {
        // What the kernel does not take is lost, as on a wire.
        let _ = self.to.send(frame);
    }
}

/// The golden ratio, odd: what splitmix64 counts by.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// splitmix64
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0) % sides
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
