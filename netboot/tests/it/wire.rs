//! Hand-made DHCP on a real wire: the frames of any machine, sent and heard through one packet socket (RFC 2131 2).
//!
//! What it hears is read without the server's own code.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use netboot::mac::Mac;
use netboot::net::frames::{Datagram, frame};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use xtask::lab::{Lab, Namespace, SERVER_ADDR};

pub(crate) use netboot_ebpf::verdict::message::{ACK, DISCOVER, NAK, OFFER, REQUEST};

pub(crate) const RELEASE: u8 = 7;
pub(crate) const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// The frame's headers: Ethernet, IPv4, UDP.
const ENVELOPE: usize = 14 + 20 + 8;
/// Room for the replies to everybody at once.
const BUFFER: usize = 16 << 20;
const ETH_P_IP: u16 = 0x0800;

/// Receives, again when a signal came between: the kernel does not go on by itself with a call that has a time-out, and
/// a process that was stopped for a moment finds its call interrupted (signal(7)).
pub(crate) fn uninterrupted<T>(mut receive: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match receive() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

/// The value of an option of a whole reply, from `op` on (RFC 2132 2). Its options have an end.
pub(crate) fn option(reply: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = &reply[240..];
    while let [code, after @ ..] = rest {
        rest = match code {
            0 => after,
            255 => return None,
            _ => {
                let (value, after) = after[1..].split_at(usize::from(after[0]));
                if *code == wanted {
                    return Some(value);
                }
                after
            }
        };
    }
    panic!("no END")
}

/// What a machine says. Without an address of its own it is sent to everybody and asks to be answered so.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) mac: Mac,
    pub(crate) xid: u32,
    pub(crate) message: u8,
    /// Its address; then it writes to the server alone.
    pub(crate) ciaddr: Ipv4Addr,
    /// Option 50.
    pub(crate) requested: Option<Ipv4Addr>,
    /// Option 54.
    pub(crate) server: Option<Ipv4Addr>,
    /// Any others, one behind the other as they are sent.
    pub(crate) options: Vec<u8>,
    /// It can be answered by unicast before it has its address.
    pub(crate) unicast: bool,
}

impl Ask {
    pub(crate) fn new(mac: Mac, xid: u32, message: u8) -> Self {
        Self {
            mac,
            xid,
            message,
            ciaddr: NOWHERE,
            requested: None,
            server: None,
            options: vec![],
            unicast: false,
        }
    }

    pub(crate) fn requested(self, addr: Ipv4Addr) -> Self {
        Self { requested: Some(addr), ..self }
    }

    pub(crate) fn server(self, addr: Ipv4Addr) -> Self {
        Self { server: Some(addr), ..self }
    }

    pub(crate) fn ciaddr(self, addr: Ipv4Addr) -> Self {
        Self { ciaddr: addr, ..self }
    }

    /// With an option more.
    pub(crate) fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.options.extend([code, value.len().try_into().unwrap()]);
        self.options.extend(value);
        self
    }

    pub(crate) fn unicast(self) -> Self {
        Self { unicast: true, ..self }
    }

    /// The BOOTP message.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend([0, 0, if self.ciaddr == NOWHERE && !self.unicast { 0x80 } else { 0 }, 0]);
        bytes.extend(self.ciaddr.octets());
        bytes.resize(28, 0);
        bytes.extend(self.mac.0);
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99, 53, 1, self.message]);
        for (code, addr) in [(50, self.requested), (54, self.server)] {
            if let Some(addr) = addr {
                bytes.extend([code, 4]);
                bytes.extend(addr.octets());
            }
        }
        bytes.extend(&self.options);
        bytes.push(255);
        bytes.resize(bytes.len().max(300), 0);
        bytes
    }
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The destination of the frame.
    pub(crate) to: Mac,
    pub(crate) mac: Mac,
    pub(crate) xid: u32,
    pub(crate) message: u8,
    pub(crate) yiaddr: Ipv4Addr,
}

/// A packet socket on `eth0` of a namespace.
pub(crate) struct Wire {
    socket: Socket,
    server_mac: Mac,
}

impl Wire {
    /// Opens it on a client of the lab. All machines of one wire are behind one port of the switch.
    pub(crate) fn open(lab: &Lab, client: &Namespace) -> Self {
        Self { socket: listen(client, "eth0"), server_mac: mac_of(&lab.server, "pxe0") }
    }

    /// Sends from the machine's own address to the server's, or from nowhere to everybody.
    pub(crate) fn send(&self, ask: &Ask) {
        let from = ask.ciaddr;
        let (to_mac, to) = match from {
            NOWHERE => (Mac::BROADCAST, Ipv4Addr::BROADCAST),
            _ => (self.server_mac, SERVER_ADDR),
        };
        self.send_to(ask.mac, &ask.bytes(), from, to_mac, to);
    }

    /// Sends these bytes in this envelope.
    pub(crate) fn send_to(&self, mac: Mac, payload: &[u8], from: Ipv4Addr, to_mac: Mac, to: Ipv4Addr) {
        let (from, to) = (SocketAddrV4::new(from, 68), SocketAddrV4::new(to, 67));
        let frame = frame(&Datagram { from_mac: mac, to_mac, from, to, payload }).unwrap();
        assert_eq!(self.socket.send(&frame).unwrap(), frame.len());
    }

    /// The next reply of a server to anybody, if one comes in time.
    pub(crate) fn hear(&self, within: Duration) -> Option<Reply> {
        self.hear_all(within).map(|(reply, _)| reply)
    }

    /// The same with all its bytes, from `op` on.
    pub(crate) fn hear_all(&self, within: Duration) -> Option<(Reply, Vec<u8>)> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // A time-out of 0 would be none at all.
            self.socket.set_nonblocking(left.is_zero()).unwrap();
            self.socket.set_read_timeout((!left.is_zero()).then_some(left)).unwrap();
            let mut buffer = [MaybeUninit::uninit(); 2048];
            let Ok(length) = self.socket.recv(&mut buffer) else {
                if left.is_zero() {
                    return None;
                }
                continue;
            };
            // SAFETY: the kernel has written so many bytes.
            let frame = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length) };
            if let Some(reply) = read(frame) {
                // Ethernet may have padded the frame.
                let length = usize::from(u16::from_be_bytes([frame[38], frame[39]])) - 8;
                return Some((reply, frame[ENVELOPE..][..length].to_vec()));
            }
        }
    }

    /// Asks until there is an answer to this machine and this `xid`, again each half second. `None` when none comes in time.
    pub(crate) fn ask(&self, ask: &Ask, within: Duration) -> Option<Reply> {
        self.ask_all(ask, within).map(|(reply, _)| reply)
    }

    /// The same with all its bytes, from `op` on.
    pub(crate) fn ask_all(&self, ask: &Ask, within: Duration) -> Option<(Reply, Vec<u8>)> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            self.send(ask);
            let patience = Instant::now() + Duration::from_millis(500);
            while let Some((reply, bytes)) = self.hear_all(patience.saturating_duration_since(Instant::now()))
            {
                if (reply.mac, reply.xid) == (ask.mac, ask.xid) {
                    return Some((reply, bytes));
                }
            }
        }
        None
    }

    /// DISCOVER to ACK; the address that the machine has then.
    pub(crate) fn obtain(&self, mac: Mac, xid: u32, within: Duration) -> Option<Ipv4Addr> {
        let offer = self.ask(&Ask::new(mac, xid, DISCOVER), within).filter(|reply| reply.message == OFFER)?;
        let request = Ask::new(mac, xid + 1, REQUEST).requested(offer.yiaddr).server(SERVER_ADDR);
        let ack = self.ask(&request, within).filter(|reply| reply.message == ACK)?;
        assert_eq!(ack.yiaddr, offer.yiaddr);
        Some(ack.yiaddr)
    }
}

/// The Ethernet address of an interface.
pub(crate) fn mac_of(namespace: &Namespace, interface: &str) -> Mac {
    let shown = namespace.ip(&format!("-o link show {interface}")).unwrap();
    let (_, rest) = shown.split_once("link/ether ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// A packet socket on an interface of a namespace: hears the IPv4 that comes in there, and sends any frame out of it.
pub(crate) fn listen(namespace: &Namespace, interface: &str) -> Socket {
    let shown = namespace.ip(&format!("-o link show {interface}")).unwrap();
    let index: u32 = shown.split(':').next().unwrap().parse().unwrap();
    let open = || {
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap();
        // sockaddr_ll of packet(7): family, protocol, index; the rest is for sending.
        let mut address = [0u8; 20];
        address[..2].copy_from_slice(&17u16.to_ne_bytes());
        address[2..4].copy_from_slice(&ETH_P_IP.to_be_bytes());
        address[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: the storage is larger, and any bytes are good in it.
        unsafe { (&raw mut storage).cast::<[u8; 20]>().write_unaligned(address) };
        // SAFETY: 20 bytes of it were written.
        socket.bind(&unsafe { SockAddr::new(storage, 20) }).unwrap();
        socket
    };
    namespace.inside(open).unwrap()
}

/// The reply in a frame, if there is one.
fn read(frame: &[u8]) -> Option<Reply> {
    if frame.get(12..14)? != [8, 0] || *frame.get(23)? != 17 || frame.get(34..38)? != [0, 67, 0, 68] {
        return None;
    }
    let dhcp = frame.get(ENVELOPE..)?;
    let mut reply = Reply {
        to: Mac(frame.get(..6)?.try_into().ok()?),
        mac: Mac(dhcp.get(28..34)?.try_into().ok()?),
        xid: u32::from_be_bytes(dhcp.get(4..8)?.try_into().ok()?),
        message: 0,
        yiaddr: Ipv4Addr::from(<[u8; 4]>::try_from(dhcp.get(16..20)?).ok()?),
    };
    let mut options = dhcp.get(240..)?;
    while let [code, length, rest @ ..] = options {
        let value = rest.get(..usize::from(*length))?;
        match code {
            53 => {
                reply.message = *value.first()?;
                return Some(reply);
            }
            255 => return None,
            0 => options = &options[1..],
            _ => options = &rest[value.len()..],
        }
    }
    None
}
