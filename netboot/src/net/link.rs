//! The PXE interface: waits until it exists and has an IPv4 address (rtnetlink).

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use crate::mac::Mac;

/// The PXE interface, once it is usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index in this network namespace.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// The server's address on it.
    pub addr: Ipv4Addr,
    /// The subnet, as network address and prefix length.
    pub prefix: Ipv4Network,
}
