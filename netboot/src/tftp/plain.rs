//! The plain engine: sockets that do not block, and epoll, for kernels that do not allow io_uring.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::engine::{Arrivals, Engine, PACKET};

/// The number of the eventfd.
const WAKE: u64 = u64::MAX;
/// Packets taken from one socket before the others have their turn.
const AT_ONCE: usize = 16;

/// What epoll looks at.
pub(super) struct Plain {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    sockets: HashMap<u64, Arc<UdpSocket>>,
    events: Vec<epoll::Event>,
}

impl Engine for Plain {
    const NAME: &'static str = "plain sockets";

    fn new(wake: Arc<OwnedFd>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        Ok(Self { epoll, wake, sockets: HashMap::new(), events: Vec::with_capacity(256) })
    }

    fn add(&mut self, id: u64, socket: &Arc<UdpSocket>) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        epoll::add(&self.epoll, &**socket, epoll::EventData::new_u64(id), epoll::EventFlags::IN)?;
        self.sockets.insert(id, Arc::clone(socket));
        Ok(())
    }

    fn remove(&mut self, id: u64) {
        if let Some(socket) = self.sockets.remove(&id) {
            let _ = epoll::delete(&self.epoll, &*socket);
        }
    }

    fn wait(&mut self, time: Duration, spin: Duration, arrivals: &mut Arrivals) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            let left = if begun.elapsed() < spin { Duration::ZERO } else { time };
            self.events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut self.events);
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match epoll::wait(&self.epoll, buffer, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !self.events.is_empty() || begun.elapsed() >= spin {
                break;
            }
            std::thread::yield_now();
        }
        for event in std::mem::take(&mut self.events) {
            let id = event.data.u64();
            if id == WAKE {
                let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
                continue;
            }
            let Some(socket) = self.sockets.get(&id) else { continue };
            let mut packet = [0; PACKET];
            for _ in 0..AT_ONCE {
                match socket.recv_from(&mut packet) {
                    Ok((length, from)) => arrivals.put(id, from, packet.get(..length).unwrap_or_default()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // An ICMP error about something that was sent is told once; the next packet comes all the same.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    Err(error) => {
                        arrivals.broken.push((id, error));
                        break;
                    }
                }
            }
        }
        self.events = Vec::with_capacity(256);
        Ok(())
    }
}
