//! The sockets of the DHCP server: packets in, replies out. Knows where a reply goes, not what it says.
//!
//! RFC 2131 4.1. Two sockets listen on port 67, one for what is sent to everybody and one for what is sent to this
//! server's address: so it is known how a packet was addressed, and the kernel keeps away what is for another host or came
//! in by another interface. Clients on the link are answered with whole frames, since they may have no address yet.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::policy::{Addressed, Reply, Route};
use crate::mac::Mac;
use crate::net::arp::Prober;
use crate::net::frames::{self, Datagram, Frames};
use crate::net::link::Link;
use crate::net::ports::{self, Proto};

/// Servers listen here, clients there.
const SERVER_PORT: u16 = 67;
/// See [`SERVER_PORT`].
const CLIENT_PORT: u16 = 68;
/// Firmware asks here what to boot when it has its address (PXE 2.1, 2.2).
const BOOT_SERVICE_PORT: u16 = 4011;
/// Room for requests that arrive while others are handled: a rack that is switched on at once.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Room for replies that wait for the address of a router or relay agent.
const SEND_BUFFER: usize = 1 << 20;
/// Packets taken from a socket in one go, so that the others and the stop signal are seen in between.
const TAKEN_AT_ONCE: usize = 512;

/// What the sender of a datagram says about how it was addressed, by the socket that it came to.
type How = fn(SocketAddrV4) -> Addressed;

/// Why there are no sockets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else serves DHCP here.
    #[error("serve DHCP on {interface}: {why}")]
    Taken {
        /// The interface.
        interface: String,
        /// Who, and what to do.
        why: String,
    },
    /// The system refused.
    #[error("{what} on {interface}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The interface.
        interface: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// What failed on an interface.
    pub(super) fn refused(what: &'static str, link: &Link, source: io::Error) -> Self {
        Self::Refused { what, interface: link.name.clone(), source }
    }
}

/// The sockets of one interface.
#[derive(Debug)]
pub(super) struct Sockets {
    link: Link,
    /// What is sent to everybody.
    broadcasts: UdpSocket,
    /// What is sent to this server's address. Replies to relay agents, and to clients behind routers, leave by it.
    unicasts: UdpSocket,
    /// What is sent to the boot service; its replies go out here as well.
    boot_service: UdpSocket,
    frames: Frames,
}

impl Sockets {
    /// Opens them. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When port 67 or 4011 is taken, or the privileges are missing.
    pub(super) fn open(link: &Link) -> Result<Self, Error> {
        let frames =
            Frames::open(link.index).map_err(|source| Error::refused("open a raw socket", link, source))?;
        Ok(Self {
            link: link.clone(),
            broadcasts: socket(link, Ipv4Addr::BROADCAST, SERVER_PORT)?,
            unicasts: socket(link, link.addr, SERVER_PORT)?,
            boot_service: socket(link, link.addr, BOOT_SERVICE_PORT)?,
            frames,
        })
    }

    /// Waits until something has arrived, or a socket has failed. Can be given up at any time.
    pub(super) async fn readable(&self) {
        // What it is, taking it shows.
        tokio::select! {
            _ = self.unicasts.readable() => {}
            _ = self.broadcasts.readable() => {}
            _ = self.boot_service.readable() => {}
        }
    }

    /// Takes what has arrived, without waiting. Returns how much that was.
    ///
    /// # Errors
    /// When a socket fails, as when the interface goes down.
    pub(super) fn take(
        &self,
        buffer: &mut [u8],
        mut packet: impl FnMut(Addressed, &[u8]),
    ) -> io::Result<usize> {
        let sockets: [(&UdpSocket, How); 3] = [
            (&self.unicasts, |_| Addressed::Server),
            (&self.broadcasts, |_| Addressed::Broadcast),
            (&self.boot_service, Addressed::BootService),
        ];
        let mut taken = 0;
        for (socket, how) in sockets {
            for _ in 0..TAKEN_AT_ONCE {
                match socket.try_recv_from(buffer) {
                    Ok((length, SocketAddr::V4(from))) => {
                        packet(how(from), buffer.get(..length).unwrap_or_default());
                    }
                    // They know IPv4 alone.
                    Ok((_, SocketAddr::V6(_))) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Sends a reply. Never waits: a client or relay agent that does not answer ARP is nobody else's trouble.
    ///
    /// # Errors
    /// When the interface is down or its queue is full, or there is no route.
    pub(super) fn send(&self, reply: &Reply) -> io::Result<()> {
        let bytes = &reply.bytes;
        match reply.route {
            Route::Unicast { mac, addr } => self.frame(mac, addr, bytes),
            Route::Broadcast => self.frame(Mac::BROADCAST, Ipv4Addr::BROADCAST, bytes),
            Route::Relay(agent) => datagram(&self.unicasts, SocketAddrV4::new(agent, SERVER_PORT), bytes),
            Route::Routed(addr) => datagram(&self.unicasts, SocketAddrV4::new(addr, CLIENT_PORT), bytes),
            Route::BootService(to) => datagram(&self.boot_service, to, bytes),
        }
    }

    fn frame(&self, to_mac: Mac, to: Ipv4Addr, payload: &[u8]) -> io::Result<()> {
        let frame = frames::frame(&Datagram {
            from_mac: self.link.mac,
            to_mac,
            from: SocketAddrV4::new(self.link.addr, SERVER_PORT),
            to: SocketAddrV4::new(to, CLIENT_PORT),
            payload,
        });
        self.frames.send(&frame.unwrap_or_default())
    }
}

/// For whoever has an address, which the kernel finds.
fn datagram(socket: &UdpSocket, to: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
    socket.try_send_to(payload, to.into()).map(drop)
}

/// Opens what looks for addresses on the wire.
///
/// # Errors
/// When the privileges are missing.
pub(super) fn prober(link: &Link) -> Result<Prober, Error> {
    Prober::open(link).map_err(|source| Error::refused("open a socket for ARP", link, source))
}

/// A UDP socket on the interface for what is sent to `addr` and `port`. Without `SO_REUSEADDR`: a second server on this
/// port is refused here, not left to take every other packet.
fn socket(link: &Link, addr: Ipv4Addr, port: u16) -> Result<UdpSocket, Error> {
    let failed = |what| move |source| Error::refused(what, link, source);
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))
        .map_err(failed("open a UDP socket"))?;
    socket.bind_device(Some(link.name.as_bytes())).map_err(failed("bind a socket to the interface"))?;
    // Without CAP_NET_ADMIN as much as the system allows.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(failed("set the receive buffer"))?;
    }
    // Replies to one relay agent that does not answer ARP wait in here, and others must find room.
    socket.set_send_buffer_size(SEND_BUFFER).map_err(failed("set the send buffer"))?;
    socket.bind(&SocketAddrV4::new(addr, port).into()).map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            // On whichever address: netboot binds two.
            let why = ports::taken(Proto::Udp, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
            return Error::Taken { interface: link.name.clone(), why };
        }
        failed(if port == SERVER_PORT { "bind UDP port 67" } else { "bind UDP port 4011" })(source)
    })?;
    UdpSocket::from_std(socket.into()).map_err(failed("register a UDP socket"))
}
