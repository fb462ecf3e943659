//! What the clients can take at most: a responder that knows no file and no transfer. For each ACK it sends the next
//! window out of one buffer, as many blocks by one system call as the kernel takes, and it never sleeps.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xtask::lab::enter;

use super::datagrams::{open, segment};
use super::wire::{Ask, PORT};
use crate::bench::drive::own_cpu;

/// The most datagrams of one send, and the most bytes (`UDP_MAX_SEGMENTS`, and what a datagram holds).
const SEGMENTS: usize = 64;
const BYTES: usize = 65_000;
/// Bytes before a block.
const HEADER: u16 = 4;
/// It ends by itself after so long.
const MOST: Duration = Duration::from_mins(5);

/// The thread.
#[derive(Debug)]
pub(super) struct Null {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Duration>>,
}

impl Null {
    /// Starts it in this namespace, for transfers of one kind, and waits until it listens.
    ///
    /// # Errors
    /// When there is no thread or no socket to be had.
    pub(super) fn start(namespace: &str, ask: Ask) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopped) = (namespace.to_owned(), Arc::clone(&stop));
        let (ready, is_ready) = mpsc::channel();
        let work = move || {
            enter(&name)?;
            let socket = open(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT)).context("open its socket")?;
            segment(&socket, ask.blksize + HEADER).context("set UDP_SEGMENT")?;
            // Nobody is there to hear it: then nobody asks either.
            let _ = ready.send(());
            drop(ready);
            serve(&socket, ask, &stopped)
        };
        let thread = std::thread::Builder::new().name("null".to_owned()).spawn(work)?;
        let null = Self { stop, thread };
        if is_ready.recv().is_ok() {
            return Ok(null);
        }
        let end = null.end().context("start the null responder")?;
        anyhow::bail!("the null responder has ended after {end:?}")
    }

    /// Ends it, and returns its processor time.
    ///
    /// # Errors
    /// When it could not serve.
    pub(super) fn end(self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn serve(socket: &UdpSocket, ask: Ask, stop: &AtomicBool) -> Result<Duration> {
    let mut window = Window::new(ask);
    let (cpu, start) = (own_cpu()?, Instant::now());
    let mut packet = [0; 600];
    let mut idle = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut packet) else {
            // Nothing yet, or somebody is gone.
            idle = idle.wrapping_add(1);
            if idle.is_multiple_of(1 << 20) && start.elapsed() > MOST {
                break;
            }
            // The client may be waiting for this processor.
            std::thread::yield_now();
            continue;
        };
        match packet.get(..length).unwrap_or_default() {
            [0, 1, ..] => send(socket, &oack(ask), from, stop),
            [0, 4, high, low] => {
                window.number(u16::from_be_bytes([*high, *low]));
                for part in window.parts() {
                    send(socket, part, from, stop);
                }
            }
            _ => {}
        }
    }
    Ok(own_cpu()?.saturating_sub(cpu))
}

/// Sends, whenever there is room.
fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match socket.send_to(bytes, to) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A client that is gone asks for nothing.
            _ => return,
        }
    }
}

/// Grants what is asked.
fn oack(ask: Ask) -> Vec<u8> {
    let mut packet = format!("\0\x06blksize\0{}\0", ask.blksize);
    if ask.window > 1 {
        let _ = write!(packet, "windowsize\0{}\0", ask.window);
    }
    packet.into_bytes()
}

/// Blocks of zeros, one behind the other.
struct Window {
    bytes: Vec<u8>,
    /// Bytes of a packet.
    segment: u16,
}

impl Window {
    fn new(ask: Ask) -> Self {
        let segment = ask.blksize + HEADER;
        let mut packet = vec![0; usize::from(segment)];
        if let [_, opcode, ..] = packet.as_mut_slice() {
            *opcode = 3;
        }
        Self { bytes: packet.repeat(usize::from(ask.window)), segment }
    }

    /// Makes it the one that follows this block.
    fn number(&mut self, acked: u16) {
        let mut block = acked;
        for packet in self.bytes.chunks_exact_mut(usize::from(self.segment)) {
            block = block.wrapping_add(1);
            if let Some(place) = packet.get_mut(2..4) {
                place.copy_from_slice(&block.to_be_bytes());
            }
        }
    }

    /// What goes into one send each.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let segment = usize::from(self.segment);
        self.bytes.chunks(segment * (BYTES / segment).clamp(1, SEGMENTS))
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Granted, Packet, granted, read};
    use super::{Ask, Window, oack};

    #[test]
    fn a_window_follows_its_ack() {
        let mut window = Window::new(Ask { blksize: 1428, window: 64 });
        window.number(65_500);
        let parts: Vec<&[u8]> = window.parts().collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [45 * 1432, 19 * 1432]);
        let blocks: Vec<u16> = parts
            .iter()
            .flat_map(|part| part.chunks(1432))
            .map(|packet| match read(packet) {
                Some(Packet::Data { block, bytes }) if bytes == [0; 1428] => block,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(blocks, (65_501..=u16::MAX).chain(0..=28).collect::<Vec<_>>());
        assert_eq!(Window::new(Ask { blksize: 512, window: 64 }).parts().count(), 1);
    }

    #[test]
    fn it_grants_what_is_asked() {
        for window in [1, 16] {
            let ask = Ask { blksize: 8192, window };
            let packet = oack(ask);
            let Some(Packet::Oack(options)) = read(&packet) else { panic!("no OACK") };
            assert_eq!(granted(options, ask), Some(Granted { blksize: 8192, window, tsize: None }));
        }
    }
}
