//! The PXE interface: waits until it exists, is up and has an IPv4 address, and notices when that changes.
//!
//! Asks the kernel over rtnetlink and listens to its notifications; never changes an interface.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::{Handle, MulticastGroup};

use crate::mac::Mac;

/// A notification of the kernel is here by then.
const MOMENT: Duration = Duration::from_millis(200);

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

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No rtnetlink socket.
    #[error("open an rtnetlink socket")]
    Open(#[source] std::io::Error),
    /// A query failed.
    #[error("ask the kernel for interface {name}")]
    Query {
        /// The interface.
        name: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// Its notifications ended.
    #[error("the kernel's notifications about interfaces ended")]
    Ended,
}

/// What the interface is at a moment: usable, or what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Usable.
    Up(Link),
    /// Not usable; the text says what is missing and how to mend it.
    Missing(String),
}

/// Watches one interface.
pub struct Watch {
    name: String,
    handle: Handle,
    news: futures_util::stream::BoxStream<'static, ()>,
    connection: tokio::task::JoinHandle<()>,
}

impl Watch {
    /// Opens the watch. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Open`]
    pub fn open(name: &str) -> Result<Self, Error> {
        let (connection, handle, news) =
            rtnetlink::new_multicast_connection(&[MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr])
                .map_err(Error::Open)?;
        let connection = tokio::spawn(connection);
        Ok(Self { name: name.to_owned(), handle, news: news.map(|_| ()).boxed(), connection })
    }

    /// Waits until the interface is usable. Tells each new reason for waiting once.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn usable(&mut self, mut tell: impl FnMut(&str)) -> Result<Link, Error> {
        let mut told = String::new();
        loop {
            match self.state().await? {
                State::Up(link) => return Ok(link),
                State::Missing(what) if what != told => {
                    tell(&what);
                    told = what;
                }
                State::Missing(_) => {}
            }
            self.news.next().await.ok_or(Error::Ended)?;
        }
    }

    /// Waits until the interface is no longer what it was.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn changed(&mut self, was: &Link) -> Result<State, Error> {
        loop {
            let state = self.state().await?;
            if !matches!(&state, State::Up(link) if link == was) {
                return Ok(state);
            }
            self.news.next().await.ok_or(Error::Ended)?;
        }
    }

    /// Whether the kernel has told of any change since it was last listened to. Waits a moment for what is on its way.
    pub async fn stirred(&mut self) -> bool {
        let mut wait = MOMENT;
        let mut stirred = false;
        while let Ok(Some(())) = tokio::time::timeout(wait, self.news.next()).await {
            (stirred, wait) = (true, Duration::ZERO);
        }
        stirred
    }

    /// What the interface is now.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) async fn state(&self) -> Result<State, Error> {
        let name = &self.name;
        let failed = |source| Error::Query { name: name.clone(), source };
        let mut links = self.handle.link().get().match_name(name.clone()).execute().boxed();
        let found = match links.try_next().await {
            Ok(Some(found)) => found,
            // ENODEV, or EINVAL from kernels that do not know the name attribute
            Ok(None) | Err(rtnetlink::Error::NetlinkError(_)) => {
                return Ok(State::Missing(format!(
                    "interface {name} does not exist (`ip link` lists those that do)"
                )));
            }
            Err(error) => return Err(failed(error)),
        };
        let index = found.header.index;
        let mut mac = None;
        let mut mtu = 1500;
        for attribute in found.attributes {
            match attribute {
                LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes).ok().map(Mac),
                LinkAttribute::Mtu(value) => mtu = value,
                _ => {}
            }
        }
        let Some(mac) = mac else {
            return Ok(State::Missing(format!("interface {name} is not an Ethernet interface")));
        };
        if !found.header.flags.contains(LinkFlags::Up) {
            return Ok(State::Missing(format!("interface {name} is down: ip link set {name} up")));
        }
        let mut addresses = self.handle.address().get().set_link_index_filter(index).execute().boxed();
        while let Some(address) = addresses.try_next().await.map_err(failed)? {
            if address.header.scope == AddressScope::Host
                || address.header.flags.contains(AddressHeaderFlags::Secondary)
            {
                continue;
            }
            let local = address.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(addr)) => Some(*addr),
                _ => None,
            });
            let prefix = local.and_then(|addr| Ipv4Network::new(addr, address.header.prefix_len).ok());
            if let (Some(addr), Some(prefix)) = (local, prefix) {
                let prefix = Ipv4Network::new(prefix.network(), prefix.prefix()).unwrap_or(prefix);
                return Ok(State::Up(Link { name: name.clone(), index, mac, mtu, addr, prefix }));
            }
        }
        Ok(State::Missing(format!(
            "interface {name} has no IPv4 address: ip address add <server address>/<prefix length> dev {name}"
        )))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
