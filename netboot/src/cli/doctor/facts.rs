//! What `doctor` has seen of the machine: values alone. A `None` could not be looked at.

use std::net::Ipv4Addr;

use crate::config::{Engine, Mode, Xdp};
use crate::net::offload::Rxvlan;

/// Everything that was seen.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) mode: Mode,
    pub(super) xdp: Xdp,
    pub(super) engine: Engine,
    /// Subnets behind relay agents are served.
    pub(super) relays: bool,
    pub(super) interface: Interface,
    /// What carries the VLAN of the interface, if the settings say so.
    pub(super) trunk: Option<Trunk>,
    /// Capabilities that `serve` wants and this process does not have.
    pub(super) lacking: Vec<&'static str>,
    /// A netboot serves with this state directory.
    pub(super) running: bool,
    /// What that one says of its XDP program.
    pub(super) running_xdp: Option<String>,
    /// Other DHCP servers that it has heard.
    pub(super) heard: Vec<Heard>,
    pub(super) kernel: String,
    /// Whether the kernel takes the XDP program, or why not.
    pub(super) program: Result<(), String>,
    /// Whether the program can be pinned: true at once, false when `serve` has mounted what it needs; or why not.
    pub(super) pinning: Result<bool, String>,
    pub(super) ports: Vec<Port>,
    pub(super) wire: Wire,
    pub(super) rp_filter: Option<u64>,
    pub(super) rmem_max: Option<u64>,
    pub(super) gc_thresh3: Option<u64>,
    /// Machines of `pxe_hosts.json`.
    pub(super) hosts: usize,
    /// Packet filters see what a bridge forwards; none where the kernel has no such thing.
    pub(super) bridge_filtered: Option<u64>,
    /// Why there is no io_uring.
    pub(super) no_uring: Option<String>,
    pub(super) clock: Clock,
    pub(super) disk: Result<Disk, String>,
    pub(super) data: Data,
}

/// The PXE interface.
#[derive(Clone, Debug)]
pub(super) enum Interface {
    /// No setting names it.
    Unnamed,
    /// It cannot be used; why.
    Missing(String),
    /// It can.
    Usable(Usable),
}

/// An interface that can be used.
#[derive(Clone, Debug)]
pub(super) struct Usable {
    pub(super) name: String,
    pub(super) addr: Ipv4Addr,
    pub(super) prefix: u8,
    pub(super) mtu: u32,
    /// None for a network card.
    pub(super) kind: Option<String>,
    /// The interface that it is a part of, and its kind.
    pub(super) master: Option<(String, String)>,
    pub(super) carrier: bool,
    pub(super) vlans: Vec<String>,
    pub(super) xdp: bool,
    /// A netboot that has ended has left that program.
    pub(super) left: bool,
    pub(super) rxvlan: Option<Rxvlan>,
}

/// What the settings `trunk` and `vlan` name.
#[derive(Clone, Debug)]
pub(super) struct Trunk {
    pub(super) name: String,
    pub(super) vlan: String,
    /// The fast path's own words for what does not fit.
    pub(super) mismatch: Option<String>,
    /// None if there is no such interface.
    pub(super) seen: Option<Seen>,
}

/// A trunk that there is.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// None for a network card.
    pub(super) kind: Option<String>,
    pub(super) carrier: bool,
    pub(super) xdp: bool,
    /// A netboot that has ended has left that program.
    pub(super) left: bool,
    pub(super) rxvlan: Option<Rxvlan>,
}

/// A port that `serve` takes.
#[derive(Clone, Debug)]
pub(super) struct Port {
    /// As `67/udp`.
    pub(super) name: String,
    /// For what.
    pub(super) purpose: &'static str,
    pub(super) state: PortState,
}

/// Who has a port.
#[derive(Clone, Debug)]
pub(super) enum PortState {
    Free,
    /// The netboot that runs with this state directory.
    Ours,
    /// A process, as `ps` shows it, and its id.
    Taken(String, u32),
    /// A process that cannot be seen.
    TakenUnseen,
    /// It could not be tried; why.
    Unknown(String),
}

/// What other DHCP servers said.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    /// These answered, in this time.
    Heard(Vec<Ipv4Addr>, u64),
    /// Nobody was asked; why.
    Unasked(String),
}

/// Another DHCP server that the running netboot has heard.
#[derive(Clone, Debug, serde::Deserialize)]
pub(super) struct Heard {
    pub(super) addr: Ipv4Addr,
    pub(super) mac: String,
    /// Seconds since 1970.
    pub(super) last_seen: u64,
}

/// The wall clock.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// Seconds since 1970.
    pub(super) now: u64,
    /// When the leases were last written, seconds since 1970.
    pub(super) leases_written: Option<u64>,
    /// Whether something sets it by the network.
    pub(super) synchronised: Option<bool>,
}

/// The file system of the state directory.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    /// The directory that was looked at: the state directory, or the one in which it will be made.
    pub(super) place: String,
    pub(super) free_bytes: u64,
    /// None where files are not numbered in advance.
    pub(super) free_inodes: Option<u64>,
    pub(super) read_only: bool,
}

/// What `netboot check` finds.
#[derive(Clone, Debug)]
pub(super) struct Data {
    pub(super) directory: String,
    pub(super) errors: usize,
    pub(super) warnings: usize,
    /// Files that this user may not read.
    pub(super) unseen: usize,
}
