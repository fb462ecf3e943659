//! One look at the PXE interface: what it is, what it belongs to, and what its driver takes off a frame.
//!
//! Asks the kernel over rtnetlink, and for the offload by ethtool's ioctl; changes nothing and waits for nothing.

use std::io;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};
use rustix::ioctl::{Opcode, Updater, ioctl};
use socket2::{Domain, Socket, Type};

use super::link::{Error, State, Watch};

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it can be used, or what is missing.
    pub state: State,
    /// Its kind if the kernel made it up (`veth`, `bridge`, `vlan`); none for a network card.
    pub kind: Option<String>,
    /// The interface that it is a part of, and its kind (`bridge`, `bond`).
    pub master: Option<(String, String)>,
    /// There is something at the other end of the cable.
    pub carrier: bool,
    /// VLAN interfaces on top of it.
    pub vlans: Vec<String>,
    /// An XDP program is attached.
    pub xdp: bool,
    /// Whether the VLAN tag is taken off received frames (`rxvlan`); none if that cannot be told.
    pub rxvlan: Option<bool>,
}

/// Looks at the interface of this name.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn look(name: &str) -> Result<Look, Error> {
    // On a thread of its own, for the caller may or may not be within a runtime; it is in the same network namespace.
    let asked = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(Error::Open)?.block_on(ask(name))
            })
            .join()
    });
    asked.unwrap_or(Err(Error::Ended))
}

async fn ask(name: &str) -> Result<Look, Error> {
    let state = Watch::open(name)?.state().await?;
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
    let connection = tokio::spawn(connection);
    let all: Result<Vec<LinkMessage>, _> = handle.link().get().execute().try_collect().await;
    connection.abort();
    let all = all.map_err(|source| Error::Query { name: name.to_owned(), source })?;
    let rxvlan = rxvlan(name).ok();
    Ok(seen(name, &all, state, rxvlan))
}

/// Finds in the list of all interfaces what concerns this one.
fn seen(name: &str, all: &[LinkMessage], state: State, rxvlan: Option<bool>) -> Look {
    let own = all.iter().find(|link| named(link) == Some(name));
    let attributes = own.map(|own| own.attributes.as_slice()).unwrap_or_default();
    let master = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => all.iter().find(|link| link.header.index == *index),
        _ => None,
    });
    let above = |link: &&LinkMessage| {
        let index = own.map(|own| own.header.index);
        let below = link
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, LinkAttribute::Link(lower) if Some(*lower) == index));
        below && kind(link) == Some(InfoKind::Vlan)
    };
    let attached = |part: &LinkXdp| {
        let id = match part {
            LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
                *id
            }
            _ => 0,
        };
        id != 0
    };
    Look {
        state,
        kind: own.and_then(kind).map(|kind| kind.to_string()),
        master: master.map(|link| {
            let kind = kind(link).map(|kind| kind.to_string());
            (named(link).unwrap_or_default().to_owned(), kind.unwrap_or_default())
        }),
        carrier: own.is_some_and(|own| own.header.flags.contains(LinkFlags::LowerUp)),
        vlans: all.iter().filter(above).filter_map(named).map(str::to_owned).collect(),
        xdp: attributes
            .iter()
            .any(|attribute| matches!(attribute, LinkAttribute::Xdp(parts) if parts.iter().any(attached))),
        rxvlan,
    }
}

fn named(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn kind(link: &LinkMessage) -> Option<InfoKind> {
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos?.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.clone()),
        _ => None,
    })
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ifreq` of linux/if.h: the name, and a union of 24 bytes whose pointer is used here.
#[repr(C)]
struct Request {
    name: [u8; 16],
    value: *mut Value,
    rest: [u8; 16],
}

/// Whether the driver takes the VLAN tag off received frames.
fn rxvlan(interface: &str) -> io::Result<bool> {
    const SIOCETHTOOL: Opcode = 0x8946;
    const GET_FLAGS: u32 = 0x25;
    const FLAG_RXVLAN: u32 = 1 << 8;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?;
    let mut name = [0; 16];
    // The last byte stays 0.
    let place = name.get_mut(..interface.len()).filter(|place| place.len() < 16);
    place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(interface.as_bytes());
    let mut value = Value { command: GET_FLAGS, data: 0 };
    let mut request = Request { name, value: &raw mut value, rest: [0; 16] };
    // SAFETY: SIOCETHTOOL takes a `struct ifreq` with the name of an interface and a pointer to a command's own structure;
    // GET_FLAGS has a `struct ethtool_value`, which lives until the call has returned.
    unsafe { ioctl(&socket, Updater::<'_, SIOCETHTOOL, Request>::new(&mut request)) }?;
    Ok(value.data & FLAG_RXVLAN != 0)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};

    use super::{Look, look, rxvlan, seen};
    use crate::net::link::State;

    fn link(index: u32, name: &str, kind: Option<InfoKind>, more: &[LinkAttribute]) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        link.attributes.extend(kind.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])));
        link.attributes.extend(more.iter().cloned());
        link
    }

    #[test]
    fn what_surrounds_it_is_found_in_the_list() {
        let xdp = |id| LinkAttribute::Xdp(vec![LinkXdp::ProgId(id)]);
        let all = [
            link(1, "br0", Some(InfoKind::Bridge), &[]),
            link(2, "eth1", None, &[LinkAttribute::Controller(1), xdp(0)]),
            link(3, "v90", Some(InfoKind::Vlan), &[LinkAttribute::Link(2)]),
            link(4, "v91", Some(InfoKind::Vlan), &[LinkAttribute::Link(1), xdp(7)]),
            link(5, "mv0", Some(InfoKind::MacVlan), &[LinkAttribute::Link(2)]),
        ];
        let state = State::Missing(String::new());
        let of = |name| seen(name, &all, state.clone(), Some(true));
        let expected = Look {
            state: state.clone(),
            kind: None,
            master: Some(("br0".to_owned(), "bridge".to_owned())),
            carrier: true,
            vlans: vec!["v90".to_owned()],
            xdp: false,
            rxvlan: Some(true),
        };
        assert_eq!(of("eth1"), expected);
        let vlan = of("v91");
        assert_eq!((vlan.kind.as_deref(), vlan.xdp, vlan.vlans.len()), (Some("vlan"), true, 0));
        assert!(!of("eth2").carrier && of("eth2").vlans.is_empty());
    }

    #[test]
    fn the_loopback_is_no_ethernet_and_nothing_is_on_it() {
        let seen = look("lo").unwrap();
        assert!(!seen.xdp && seen.vlans.is_empty() && seen.master.is_none() && seen.kind.is_none());
        assert_eq!(rxvlan("lo").ok(), seen.rxvlan);
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let seen = look("nosuchif0").unwrap();
        assert!(matches!(seen.state, State::Missing(why) if why.contains("does not exist")));
        assert!((!seen.carrier) && seen.rxvlan.is_none());
        assert!(rxvlan("a-name-that-is-too-long").is_err());
    }
}
