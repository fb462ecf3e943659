//! Whom a reply is for, and what is known of it.
//!
//! Pure: looks into the snapshot and what is set, and decides which boot file and options it has.

use std::net::Ipv4Addr;

use netboot_ebpf::Class;

use super::Subnet;
use crate::config::options::Layers;
use crate::dhcp::boot;
use crate::inventory::{Host, Snapshot};

/// Whom a reply is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// `yiaddr`.
    pub addr: Ipv4Addr,
    /// Option 12.
    pub hostname: Option<&'a str>,
    /// Option 209: `pxelinux.cfg/<channel>`.
    pub channel: Option<&'a str>,
    /// Option 51, seconds; options 58 and 59 are a half and seven eighths of it.
    pub lease_secs: u32,
    /// The class, which decides the boot part.
    pub class: Class,
    /// Its boot file: a path below `tftp/`, or a URL.
    pub file: Option<&'a str>,
    /// The options that are set for it by number.
    pub custom: Layers<'a>,
    /// Option 55: the codes that it asks for.
    pub asks: &'a [u8],
}

impl<'a> Client<'a> {
    /// A client with this address that asks for nothing; what its reservation says of it, if it has one.
    pub fn new(
        subnet: &'a Subnet,
        snapshot: &'a Snapshot,
        addr: Ipv4Addr,
        host: Option<&'a Host>,
        class: Class,
    ) -> Self {
        let (hostname, channel) = host.map(|host| (host.hostname.as_str(), host.channel.as_str())).unzip();
        let file = boot::of(subnet, snapshot, host, class);
        let custom = subnet.custom.of(snapshot, host);
        Self { addr, hostname, channel, lease_secs: subnet.lease_secs, class, file, custom, asks: &[] }
    }

    /// The same client, with its option 55.
    #[must_use]
    pub fn asking(self, list: Option<&'a [u8]>) -> Self {
        Self { asks: list.unwrap_or_default(), ..self }
    }
}
