//! The socket of the router advertisements: packets in, what the policy decides out. Decides nothing itself.
//!
//! A packet socket, since the interface may have IPv6 turned off. Nothing about the interface is changed but its list
//! of multicast groups, which the kernel undoes when the socket is closed.

use std::fs;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use socket2::{SockFilter, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::policy::{Outcome, Packet, Policy};
use super::wire::{self, Message};
use crate::mac::Mac;
use crate::net::frames;
use crate::net::link::Link;
use crate::net::sockopt::{self, SOL_PACKET};

/// Room for the solicitations of a rack that is switched on at once.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Longest frame looked at; no such message is longer.
const LONGEST: usize = 2048;
/// How long to wait after the socket failed, as it does once when the interface goes down.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers router solicitations on one interface.
#[derive(Debug)]
pub struct Server {
    socket: AsyncFd<Socket>,
    interface: String,
    mac: Mac,
    policy: Policy,
    /// Whether it was said that a real router is here.
    silent: bool,
}

impl Server {
    /// Opens the socket. Must be called within a tokio runtime; needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// When it may not, or the interface is gone.
    pub fn open(link: &Link) -> io::Result<Self> {
        let socket = frames::socket(link.index, wire::ETHERTYPE, &filter())?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        for group in [wire::ALL_ROUTERS, wire::ALL_NODES] {
            join(&socket, link.index, wire::multicast(group))?;
        }
        // SAFETY: a `Socket` owns its descriptor, always names the same one, and closes it when it is dropped with this.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self {
            socket,
            interface: link.name.clone(),
            mac: link.mac,
            policy: Policy::new(link.mac, Instant::now()),
            silent: false,
        })
    }

    /// Serves until told to stop. `count` is told `answered` for each empty advertisement that was sent, `real-router`
    /// for each solicitation that is left to a real router, `malformed`, and `unsent` for a frame that did not leave.
    pub async fn run(mut self, count: impl Fn(&'static str) + Send, stop: CancellationToken) {
        let mut failing = false;
        let mut frame = [0; LONGEST];
        loop {
            while let Some(packet) = self.policy.due(Instant::now()) {
                self.send(packet, &count);
            }
            let next = self.policy.next();
            let received = tokio::select! {
                () = stop.cancelled() => return,
                () = at(next) => continue,
                received = self.socket.async_io(Interest::READABLE, |mut socket| socket.read(&mut frame)) => received,
            };
            match received {
                Ok(length) => {
                    failing = false;
                    self.handle(frame.get(..length).unwrap_or_default(), &count);
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(interface = self.interface, "receive router solicitations: {error}");
                    }
                    failing = true;
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
    }

    fn handle(&mut self, frame: &[u8], count: impl Fn(&'static str)) {
        let Ok(message) = wire::parse(frame) else { return count("malformed") };
        let is_router = matches!(message, Message::Solicitation { .. }) && self.is_router();
        let outcome = self.policy.receive(&message, is_router, Instant::now());
        let interface = self.interface.as_str();
        match outcome {
            Outcome::Nothing => {}
            Outcome::Appeared(router) => {
                tracing::info!(interface, %router, "{router} is an IPv6 router on {interface}: no empty router advertisements while it is");
                self.silent = true;
            }
            Outcome::RealRouter => {
                if !self.silent {
                    tracing::info!(
                        interface,
                        "this machine routes IPv6 on {interface} (/proc/sys/net/ipv6/conf/{interface}/forwarding): no empty router advertisements"
                    );
                }
                self.silent = true;
                count("real-router");
            }
            Outcome::Gone | Outcome::Later | Outcome::Now(_) => {
                if self.silent {
                    tracing::info!(
                        interface,
                        "no IPv6 router on {interface} any more: solicitations get an empty advertisement"
                    );
                }
                self.silent = false;
            }
        }
        if let Outcome::Now(packet) = outcome {
            self.send(packet, count);
        }
    }

    /// Whether this machine itself is an IPv6 router on the link. What it says of itself is not heard here, and an empty
    /// advertisement from the same address would take that back (RFC 4861 6.3.4).
    fn is_router(&self) -> bool {
        let set = |name: &str| {
            fs::read(format!("/proc/sys/net/ipv6/conf/{}/{name}", self.interface))
                .is_ok_and(|value| value.first().is_some_and(|first| *first != b'0'))
        };
        set("forwarding") && !set("disable_ipv6")
    }

    fn send(&self, packet: Packet, count: impl Fn(&'static str)) {
        let frame = match packet {
            Packet::Advertisement { mac, to } => wire::advertisement(self.mac, mac, to),
            Packet::Solicitation => wire::solicitation(self.mac),
        };
        let sent = self.socket.get_ref().send(&frame);
        match (sent, packet) {
            (Ok(_), Packet::Advertisement { mac, to }) => {
                tracing::debug!(interface = self.interface, %mac, %to, "empty router advertisement");
                count("answered");
            }
            (Ok(_), Packet::Solicitation) => {}
            (Err(error), _) => {
                tracing::debug!(interface = self.interface, "send {packet:?}: {error}");
                count("unsent");
            }
        }
    }
}

/// Waits for this moment, for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Lets pass what is for this machine, ICMPv6, and a solicitation or an advertisement (classic BPF; a jump is the number
/// of instructions to leave out). The `EtherType` is the socket's.
fn filter() -> [SockFilter; 9] {
    // BPF_LD | BPF_W or BPF_B | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K of linux/bpf_common.h
    const WORD: u16 = 0x20;
    const BYTE: u16 = 0x30;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // SKF_AD_OFF + SKF_AD_PKTTYPE and PACKET_OTHERHOST: a promiscuous interface, or a VLAN that is not ours.
    const PACKET_TYPE: u32 = 0xffff_f004;
    const OTHER_HOST: u32 = 3;
    const NEXT_HEADER: u32 = 20;
    const MESSAGE_TYPE: u32 = 54;
    [
        SockFilter::new(WORD, 0, 0, PACKET_TYPE),
        SockFilter::new(IF_EQUAL, 5, 0, OTHER_HOST),
        SockFilter::new(BYTE, 0, 0, NEXT_HEADER),
        SockFilter::new(IF_EQUAL, 0, 3, wire::ICMPV6.into()),
        SockFilter::new(BYTE, 0, 0, MESSAGE_TYPE),
        SockFilter::new(IF_EQUAL, 2, 0, wire::SOLICITATION.into()),
        SockFilter::new(IF_EQUAL, 1, 0, wire::ADVERTISEMENT.into()),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

/// Makes the interface receive a multicast Ethernet address for as long as the socket is open.
fn join(socket: &Socket, index: u32, group: Mac) -> io::Result<()> {
    const PACKET_ADD_MEMBERSHIP: i32 = 1;
    const PACKET_MR_MULTICAST: u16 = 0;
    let index = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    // `struct packet_mreq` of packet(7): index, kind, length of the address, the address in eight bytes.
    let parts: [&[u8]; 5] =
        [&index.to_ne_bytes(), &PACKET_MR_MULTICAST.to_ne_bytes(), &6u16.to_ne_bytes(), &group.0, &[0; 2]];
    sockopt::set(socket, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &parts.concat())
}
