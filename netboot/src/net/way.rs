//! What the kernel knows about the way to a machine.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use rustix::net::sockopt;

/// The largest packet, bytes, that goes from the own address `from` to the IPv4 machine `to` without fragments: what the
/// route says, or what a router on the way has told since (RFC 1191). Nothing is sent.
///
/// # Errors
/// When there is no way, or `to` has no IPv4 address.
pub fn mtu(from: IpAddr, to: SocketAddr) -> io::Result<u32> {
    let probe = UdpSocket::bind((from, 0))?;
    probe.connect(to)?;
    Ok(sockopt::ip_mtu(&probe)?)
}
