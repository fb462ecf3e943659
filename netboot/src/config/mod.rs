//! Settings: as written (flags, environment, `netboot.json`) and as resolved.
//!
//! Flags beat environment beats file beats default. The rest of the program sees [`Settings`] alone.

pub mod boot;
pub mod json;
mod limits;
pub mod menu;
pub mod options;
pub mod problem;
mod range;
mod resolve;
mod subnet;
mod tls;
pub mod vlan;
mod written;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnetwork::Ipv4Network;

pub use boot::Boot;
pub use limits::Limits;
pub use menu::Menu;
pub use range::BadRange;
pub use resolve::{FILE, Given, resolve};
pub use subnet::unfit;
pub use tls::Tls;
pub use vlan::Vlan;

/// Everything that can be set, resolved.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Settings {
    /// The PXE interface.
    pub interface: String,
    /// The interface that carries the VLAN which `interface` is: XDP is attached to it. Goes with `vlan`.
    pub trunk: Option<String>,
    /// The tags that the machines' frames have there.
    pub vlan: Option<Vlan>,
    /// The data directory.
    pub data: PathBuf,
    /// Where the daemon keeps its own state, default `<data>/state`.
    pub state: PathBuf,
    /// Whether it gives out addresses.
    pub mode: Mode,
    /// How the XDP program is attached.
    pub xdp: Xdp,
    /// What blades are told that ask for an IPv6 router.
    pub router_advertisement: RouterAdvertisement,
    /// DHCP.
    pub dhcp: Dhcp,
    /// Boot files by client class, as far as they are set.
    pub boot: Boot,
    /// HTTP.
    pub http: Http,
    /// TFTP.
    pub tftp: Tftp,
}

impl Settings {
    /// Whether they name a script for iPXE, for everybody or for some.
    pub fn names_script(&self) -> bool {
        let profiles = self.dhcp.custom.profiles.values().map(|profile| &profile.boot);
        std::iter::once(&self.boot).chain(profiles).any(|boot| boot.get(netboot_ebpf::Class::Ipxe).is_some())
    }
}

/// Whether the daemon gives out addresses, or leaves that to another DHCP server on the same network.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Addresses and boot files: the only DHCP server of the network.
    #[default]
    Full,
    /// Boot files alone, beside a DHCP server that gives out the addresses (proxyDHCP, PXE 2.1).
    Proxy,
}

/// How the XDP program is attached to the PXE interface.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Xdp {
    /// Native on a real NIC, generic on veth, bridge and VLAN interfaces, or where native is refused.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// On the socket buffer, any interface.
    Generic,
    /// Not at all: the daemon answers everything.
    Off,
}

/// What blades are told that ask for an IPv6 router, where there is none.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum RouterAdvertisement {
    /// That there is none: they need not wait.
    #[default]
    Empty,
    /// Nothing.
    Off,
}

/// What becomes of machines without a reservation that ask by DHCP.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// They get an address of the pool.
    #[default]
    Pool,
    /// They get no answer, and wait in a list until the operator gives them a reservation.
    Hold,
    /// They get no answer.
    Deny,
}

/// A range of addresses, both ends included, written `192.168.90.10-192.168.90.250`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub first: Ipv4Addr,
    /// The last address.
    pub last: Ipv4Addr,
}

/// By what a client without a reservation is known.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// Its Ethernet address: boot ROM, iPXE and operating system of a machine are one client.
    #[default]
    Mac,
    /// Its client identifier (option 61) if it sends one (RFC 2131 4.2); a machine that boots can be three clients.
    ClientId,
}

/// DHCP settings.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Dhcp {
    /// Pool ranges; empty: derived from the interface's prefix.
    pub pool: Vec<Range>,
    /// Addresses that are in no pool.
    pub exclude: Vec<Range>,
    /// Length in seconds of the lease of a client that asks for none, and of every reserved machine.
    pub lease_secs: u32,
    /// The shortest lease that a client can ask for, seconds.
    pub min_lease_secs: u32,
    /// The longest lease that a client can ask for, seconds.
    pub max_lease_secs: u32,
    /// By what a client without a reservation is known.
    pub identity: Identity,
    /// Look whether somebody uses an address of the pool before it is offered.
    pub probe: bool,
    /// Answer clients that ask for an address which is not theirs with a NAK.
    pub authoritative: bool,
    /// Default gateways, option 3. `None`: this server's own address, as the replaced system did; empty: leave it out.
    pub router: Option<Vec<Ipv4Addr>>,
    /// Name servers, option 6; empty: leave it out.
    pub dns: Vec<Ipv4Addr>,
    /// Domain name, option 15.
    pub domain: Option<String>,
    /// Machines without a reservation.
    pub unknown: Unknown,
    /// The boot menu that PXE firmware shows.
    pub menu: Option<Menu>,
    /// A DISCOVER with option 80 is answered with an ACK (RFC 4039).
    pub rapid_commit: bool,
    /// What XDP drops, where the operator wants it to.
    pub limits: Limits,
    /// Options that are set by number: for everybody, by profile, by machine; and boot files by profile.
    #[serde(flatten)]
    pub custom: options::Custom,
    /// Subnets behind relay agents.
    pub subnets: Vec<Subnet>,
}

/// A subnet behind a relay agent.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Subnet {
    /// Its addresses.
    pub prefix: Ipv4Network,
    /// The relay agent; `None`: whichever has an address in the subnet.
    pub relay: Option<Ipv4Addr>,
    /// Pool ranges; empty: derived from the prefix.
    pub pool: Vec<Range>,
    /// Addresses that are in no pool.
    pub exclude: Vec<Range>,
    /// Length of a lease; `None`: as on the interface.
    pub lease_secs: Option<u32>,
    /// Default gateways. `None`: the relay agent, if it has an address in the subnet.
    pub router: Option<Vec<Ipv4Addr>>,
    /// Name servers; `None`: as on the interface.
    pub dns: Option<Vec<Ipv4Addr>>,
    /// Domain name; `None`: as on the interface.
    pub domain: Option<String>,
    /// Options that are set by number, over those of everybody.
    pub options: options::Options,
}

/// HTTP settings.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Http {
    /// TCP port, default 8080.
    pub port: u16,
    /// Who may see another host's cloud-config with `?override_ipv4=`, besides everybody outside the PXE subnet.
    pub override_from: Vec<Ipv4Network>,
    /// How often a machine can read what has secrets in it, a boot.
    pub secret_reads: u32,
    /// A file with a token: who shows it may see and order what `override_from` allows, from anywhere.
    pub token_file: Option<PathBuf>,
    /// HTTPS, on a port of its own.
    pub tls: Option<Tls>,
}

/// TFTP settings.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tftp {
    /// Transfers at once; more are refused with an error that says so.
    pub max_transfers: usize,
    /// Largest window granted (RFC 7440).
    pub max_window: u16,
    /// How packets are moved.
    pub engine: Engine,
    /// Where a name is not there, one that differs in upper and lower case will do, and `\\` is `/`. Over HTTP, too.
    pub ignore_case: bool,
    /// The number of the block behind 65,535: 0 or 1.
    pub rollover: u16,
    /// DATA leaves from port 69 as well, for clients behind what translates addresses.
    pub single_port: bool,
    /// Threads that play transfers, at most 64; 0: one for each processor.
    pub threads: usize,
    /// Bytes of files that are kept mapped; what is more is left to the kernel's cache. At least 16 MiB.
    pub cache_bytes: u64,
    /// Bytes of all windows that are on their way at once; who comes after waits for its turn. At least 1 MiB.
    pub in_flight_bytes: u64,
    /// The same for the transfers of one address, whose windows are made smaller for it. At least 64 KiB.
    pub client_in_flight_bytes: u64,
}

/// How TFTP moves packets.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// io_uring where the kernel allows it, else plain sockets.
    #[default]
    Auto,
    /// io_uring, or fail.
    Uring,
    /// Plain sockets.
    Plain,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl serde::Serialize for Range {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
