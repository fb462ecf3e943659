//! The steps of machines: what the other parts tell the timeline.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use netboot_ebpf::{Class, Reason};

use crate::mac::Mac;

/// Who answered a DHCP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// The XDP program, in the kernel.
    Xdp,
    /// The daemon.
    Daemon,
}

impl By {
    /// `xdp` or `daemon`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Daemon => "daemon",
        }
    }
}

/// What was sent in a TFTP transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The machine, where its address is reserved for one.
    pub mac: Option<Mac>,
    /// Bytes that it has acknowledged.
    pub bytes: u64,
    /// Agreed block size, bytes.
    pub blksize: u16,
    /// Agreed window, blocks.
    pub windowsize: u16,
    /// Blocks that were sent more than once.
    pub resent: u64,
    /// From the request to the end.
    pub took: Duration,
}

/// One step of a machine.
#[derive(Clone, Debug)]
pub enum Step {
    /// It was offered, acknowledged or refused an address, or told what to boot.
    Dhcp {
        /// Its Ethernet address.
        mac: Mac,
        /// The address of the reply.
        addr: Ipv4Addr,
        /// `offer`, `ack`, `nak` or `bootp`; `boot-offer` or `boot-ack` when it was told what to boot and given no address.
        reply: &'static str,
        /// Its class.
        class: Class,
        /// Who answered.
        by: By,
        /// The relay agent through which it asked.
        relay: Option<Ipv4Addr>,
        /// It has a reservation, or XDP answers it for a lease.
        reserved: bool,
    },
    /// The XDP program has left a request to the daemon, of a machine that it knows. Not each is told.
    XdpPassed {
        /// Its Ethernet address.
        mac: Mac,
        /// Why.
        reason: Reason,
    },
    /// The XDP program has dropped a request, by a limit that the operator has set. Not each is told.
    XdpDropped {
        /// The machine's Ethernet address.
        mac: Mac,
        /// The relay agent through which it asked.
        relay: Option<Ipv4Addr>,
        /// Which limit.
        reason: Reason,
    },
    /// Another DHCP server speaks to clients. Not each of its packets is told.
    ForeignServer {
        /// The address that it sends from.
        addr: Ipv4Addr,
        /// Its Ethernet address.
        mac: Mac,
    },
    /// It asked for something and gets no answer.
    DhcpIgnored {
        /// Its Ethernet address.
        mac: Mac,
        /// Why.
        reason: Reason,
    },
    /// It began to read a file over TFTP.
    TftpStart {
        /// The client.
        peer: SocketAddr,
        /// The path it asked for.
        file: String,
        /// Size in bytes.
        size: u64,
        /// Agreed block size, bytes.
        blksize: u16,
        /// Agreed window, blocks.
        windowsize: u16,
    },
    /// It has read a whole file over TFTP.
    TftpDone {
        /// The client.
        peer: SocketAddr,
        /// The path it asked for.
        file: String,
        /// All about it.
        sent: Sent,
    },
    /// A TFTP request or transfer ended without the whole file.
    TftpFailed {
        /// The client.
        peer: SocketAddr,
        /// The path it asked for.
        file: String,
        /// What happened, with the block number where there is one.
        why: String,
        /// All about the transfer, where there was one.
        sent: Option<Sent>,
    },
    /// It has said that its system is up.
    Booted {
        /// Its Ethernet address.
        mac: Mac,
        /// The address that it said so from.
        addr: IpAddr,
        /// Its name.
        hostname: String,
    },
    /// It fetched something over HTTP.
    Http {
        /// The client.
        peer: SocketAddr,
        /// Method and path.
        request: String,
        /// `cloud-config`, `file`, `nocloud`, `ignition` or `template`.
        what: &'static str,
        /// The status code.
        status: u16,
        /// Bytes of the body, as far as known.
        bytes: u64,
    },
}
