//! One look at an interface: what it is, what is above and below it, and what its driver takes off a frame.
//!
//! Asks the kernel over rtnetlink, and for the offload by ethtool's ioctl; changes nothing and waits for nothing.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};

use super::link::{Error, State, Watch};
use super::offload::{Card, Rxvlan};

/// VLAN interfaces on one another; the kernel itself allows eight.
const DEEPEST: usize = 8;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it can be used, or what is missing.
    pub state: State,
    /// Its number in this network namespace; none if it does not exist.
    pub index: Option<u32>,
    /// Its kind if the kernel made it up (`veth`, `bridge`, `vlan`); none for a network card.
    pub kind: Option<String>,
    /// The interface that it is a part of, and its kind (`bridge`, `bond`).
    pub master: Option<(String, String)>,
    /// There is something at the other end of the cable.
    pub carrier: bool,
    /// VLAN interfaces on top of it.
    pub vlans: Vec<String>,
    /// If it is a VLAN interface: its VLAN and the interface below, then that one's, down to what is none.
    pub below: Vec<(u16, String)>,
    /// An XDP program is attached.
    pub xdp: bool,
    /// Whether the VLAN tag is taken off received frames (`rxvlan`); none if that cannot be told.
    pub rxvlan: Option<Rxvlan>,
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
    let rxvlan = Card::open(name).and_then(|card| card.rxvlan()).ok();
    Ok(seen(name, &all, state, rxvlan))
}

/// Finds in the list of all interfaces what concerns this one.
fn seen(name: &str, all: &[LinkMessage], state: State, rxvlan: Option<Rxvlan>) -> Look {
    let own = all.iter().find(|link| named(link) == Some(name));
    let attributes = own.map(|own| own.attributes.as_slice()).unwrap_or_default();
    let master = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => all.iter().find(|link| link.header.index == *index),
        _ => None,
    });
    let above = |link: &&LinkMessage| {
        let index = own.map(|own| own.header.index);
        lower(link) == index && index.is_some() && kind(link) == Some(InfoKind::Vlan)
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
        index: own.map(|own| own.header.index),
        kind: own.and_then(kind).map(|kind| kind.to_string()),
        master: master.map(|link| {
            let kind = kind(link).map(|kind| kind.to_string());
            (named(link).unwrap_or_default().to_owned(), kind.unwrap_or_default())
        }),
        carrier: own.is_some_and(|own| own.header.flags.contains(LinkFlags::LowerUp)),
        vlans: all.iter().filter(above).filter_map(named).map(str::to_owned).collect(),
        below: own.map(|own| below(own, all)).unwrap_or_default(),
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

/// The index of the interface that it is made on.
fn lower(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(lower) => Some(*lower),
        _ => None,
    })
}

/// The VLANs that an interface is in, its own first, each with the interface below.
fn below(own: &LinkMessage, all: &[LinkMessage]) -> Vec<(u16, String)> {
    let mut found = Vec::new();
    let mut here = own;
    while let Some(vlan) = vlan(here)
        && found.len() < DEEPEST
    {
        let lower = lower(here).and_then(|index| all.iter().find(|link| link.header.index == index));
        // It may be in another network namespace.
        let Some(lower) = lower else { break };
        found.push((vlan, named(lower).unwrap_or_default().to_owned()));
        here = lower;
    }
    found
}

fn kind(link: &LinkMessage) -> Option<InfoKind> {
    infos(link).iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.clone()),
        _ => None,
    })
}

fn vlan(link: &LinkMessage) -> Option<u16> {
    let data = infos(link).iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    });
    data?.iter().find_map(|part| match part {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

fn infos(link: &LinkMessage) -> &[LinkInfo] {
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos.as_slice()),
        _ => None,
    });
    infos.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
    };

    use super::{Look, Rxvlan, look, seen};
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
        let rxvlan = Some(Rxvlan { on: true, fixed: false });
        let of = |name| seen(name, &all, state.clone(), rxvlan);
        let expected = Look {
            state: state.clone(),
            index: Some(2),
            kind: None,
            master: Some(("br0".to_owned(), "bridge".to_owned())),
            carrier: true,
            vlans: vec!["v90".to_owned()],
            below: Vec::new(),
            xdp: false,
            rxvlan,
        };
        assert_eq!(of("eth1"), expected);
        let vlan = of("v91");
        assert_eq!((vlan.kind.as_deref(), vlan.xdp, vlan.vlans.len()), (Some("vlan"), true, 0));
        assert!(!of("eth2").carrier && of("eth2").vlans.is_empty() && of("eth2").index.is_none());
    }

    #[test]
    fn a_vlan_interface_knows_what_it_is_made_on() {
        let vlan = |index, name, id, lower| {
            let mut link = link(index, name, None, &[LinkAttribute::Link(lower)]);
            let data = InfoData::Vlan(vec![InfoVlan::Id(id)]);
            let infos = vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)];
            link.attributes.push(LinkAttribute::LinkInfo(infos));
            link
        };
        let all = [
            link(1, "eth1", None, &[]),
            vlan(2, "eth1.100", 100, 1),
            vlan(3, "eth1.100.90", 90, 2),
            // Made on something of another namespace that has the same number here.
            vlan(4, "loop", 7, 4),
            vlan(5, "far", 7, 99),
        ];
        let below = |name| seen(name, &all, State::Missing(String::new()), None).below;
        assert_eq!(below("eth1.100.90"), [(90, "eth1.100".to_owned()), (100, "eth1".to_owned())]);
        assert_eq!(below("eth1.100"), [(100, "eth1".to_owned())]);
        assert!(below("eth1").is_empty() && below("far").is_empty());
        assert_eq!(below("loop").len(), super::DEEPEST);
    }

    #[test]
    fn the_loopback_is_no_ethernet_and_nothing_is_on_it() {
        let seen = look("lo").unwrap();
        assert!(!seen.xdp && seen.vlans.is_empty() && seen.master.is_none() && seen.kind.is_none());
        assert_eq!(seen.rxvlan, Some(Rxvlan { on: false, fixed: true }));
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let seen = look("nosuchif0").unwrap();
        assert!(matches!(seen.state, State::Missing(why) if why.contains("does not exist")));
        assert!((!seen.carrier) && seen.rxvlan.is_none() && seen.index.is_none());
    }
}
