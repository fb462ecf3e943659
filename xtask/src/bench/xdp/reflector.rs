//! What the generator can do at most: the same wire with an XDP program of two instructions at its end, which sends every
//! frame back as it came.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use xtask::lab::Namespace;

use super::bpf::{Action, Program};
use crate::bench::contestant::wire;
use crate::bench::peers::Peers;
use crate::bench::socket::Socket;

/// A wire with such a program at its end.
#[derive(Debug)]
pub(super) struct Reflector {
    pub(super) program: Program,
    pub(super) wire: Socket,
    _link: OwnedFd,
    namespaces: (Namespace, Namespace),
}

impl Reflector {
    /// Lays the wire and attaches the program, in generic mode as netboot does on a veth.
    ///
    /// # Errors
    /// When the kernel or a tool refuses.
    pub(super) fn new(peers: &Peers, action: Action) -> Result<Self> {
        let (server, client) = wire(peers)?;
        let program = Program::constant(action).context("load a program of two instructions")?;
        let link = server.inside(|| -> Result<OwnedFd> {
            let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
            let index = name_to_index(&any, "pxe0")?;
            program.attach(index).context("attach a program of two instructions")
        })??;
        let wire = client.inside(|| Socket::open("eth0"))?.context("open the generator's socket")?;
        Ok(Self { program, wire, _link: link, namespaces: (server, client) })
    }

    /// Where the program is.
    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespaces.0
    }
}
