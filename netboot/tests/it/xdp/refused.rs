//! Where the program cannot run: each reason has its own error, for the daemon to say and to serve without.

use std::collections::BTreeSet;

use netboot::config::{Limits, Xdp};
use netboot::fastpath::{Error, Fastpath, Mode, Trunk};
use netboot::net::link::Link;
use netboot::timeline::Timeline;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use xtask::lab::{Namespace, pin_directories, remove_pins};

use super::live::link;
use super::{site, snapshot};

/// Loads and attaches the program.
fn start(namespace: &Namespace, link: &Link, mode: Xdp) -> Result<Fastpath, Error> {
    namespace.inside(|| begin(link, mode)).unwrap()
}

fn begin(link: &Link, mode: Xdp) -> Result<Fastpath, Error> {
    let mut fastpath = Fastpath::start(link, None, site(), mode, Limits::default(), Timeline::default())?;
    fastpath.update(&snapshot(), &BTreeSet::new())?;
    Ok(fastpath)
}

#[test]
fn xdp_says_why_it_is_not_there() {
    let namespace = Namespace::new("server").unwrap();
    namespace.ip("link add br0 type bridge").unwrap();
    let bridge = link(&namespace, "br0");

    assert!(matches!(start(&namespace, &bridge, Xdp::Off), Err(Error::Off)));
    let error = start(&namespace, &bridge, Xdp::Native).unwrap_err();
    assert!(matches!(error, Error::Attach { mode: Mode::Native, .. }), "{error}");
    assert!(error.to_string().contains("br0 does not take the XDP program in native mode"), "{error}");
    let fastpath = start(&namespace, &bridge, Xdp::Auto).unwrap();
    assert_eq!((fastpath.mode(), fastpath.note()), (Some(Mode::Generic), Some("br0 is a bridge interface")));
    drop(fastpath);

    let gone = Link { name: "eth9".to_owned(), index: 9999, ..bridge };
    let error = start(&namespace, &gone, Xdp::Auto).unwrap_err();
    assert!(error.to_string().contains("eth9") && error.to_string().contains("gone"), "{error}");
}

#[test]
fn xdp_needs_three_capabilities_and_no_more() {
    let namespace = Namespace::new("server").unwrap();
    namespace.ip("link add br0 type bridge").unwrap();
    let bridge = link(&namespace, "br0");
    let with = |capabilities| {
        namespace
            .inside(|| {
                let sets = CapabilitySets {
                    effective: capabilities,
                    permitted: capabilities,
                    inheritable: CapabilitySet::empty(),
                };
                set_capabilities(None, sets).unwrap();
                begin(&bridge, Xdp::Generic).map(drop)
            })
            .unwrap()
    };
    let all = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::NET_ADMIN;
    let lacking = [CapabilitySet::BPF, CapabilitySet::PERFMON, CapabilitySet::NET_ADMIN].map(|one| all - one);
    for capabilities in [CapabilitySet::empty()].into_iter().chain(lacking) {
        let error = with(capabilities).unwrap_err();
        assert!(matches!(error, Error::Permission { .. }), "{capabilities:?}: {error}");
        assert!(error.to_string().contains("CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"), "{error}");
    }
    with(all).unwrap_or_else(|error| panic!("{error}"));
}

/// What `ethtool` says of the receive offload.
fn rxvlan(namespace: &Namespace, name: &str) -> bool {
    let shown = namespace.shell(&format!("ethtool -k {name}")).unwrap();
    let (_, rest) = shown.split_once("rx-vlan-offload: ").unwrap();
    rest.starts_with("on")
}

#[test]
fn tags_are_left_on_as_long_as_the_program_is_attached_to_a_trunk() {
    let namespace = Namespace::new("server").unwrap();
    namespace.ip("link add trunk0 type veth peer name far0").unwrap();
    namespace.ip("link add br0 type bridge").unwrap();
    let (own, trunk0) = (link(&namespace, "br0"), link(&namespace, "trunk0"));
    let on = |name| {
        let trunk = Trunk { name, vlan: "90".parse().unwrap() };
        let begin = || {
            let mut fastpath = Fastpath::start(
                &own,
                Some(trunk),
                site(),
                Xdp::Auto,
                Limits::default(),
                Timeline::default(),
            )?;
            fastpath.update(&snapshot(), &BTreeSet::new())?;
            Ok::<_, Error>(fastpath)
        };
        namespace.inside(begin).unwrap()
    };
    let fastpath = on("trunk0").unwrap();
    assert_eq!(fastpath.note(), Some("on the trunk trunk0 for VLAN 90; trunk0 is a veth interface"));
    assert!(namespace.ip("-d link show trunk0").unwrap().contains("xdpgeneric"));
    assert!(!namespace.ip("-d link show br0").unwrap().contains("xdp"));
    assert!(!rxvlan(&namespace, "trunk0"));
    // Dropped in another network namespace than it was started in.
    drop(fastpath);
    assert!(rxvlan(&namespace, "trunk0") && !namespace.ip("-d link show trunk0").unwrap().contains("xdp"));

    // Who has turned it off before keeps it so.
    namespace.shell("ethtool -K trunk0 rxvlan off").unwrap();
    drop(on("trunk0").unwrap());
    assert!(!rxvlan(&namespace, "trunk0"));
    namespace.shell("ethtool -K trunk0 rxvlan on").unwrap();

    // A start that fails half-way leaves nothing behind.
    let other = start(&namespace, &trunk0, Xdp::Generic).unwrap();
    // One that is nobody's to take over.
    remove_pins(&pin_directories(namespace.name()));
    assert!(rxvlan(&namespace, "trunk0"), "nobody has a tag there");
    let error = on("trunk0").unwrap_err();
    assert!(error.to_string().contains("another XDP program"), "{error}");
    assert!(rxvlan(&namespace, "trunk0"));
    drop(other);
}

#[test]
fn a_trunk_that_is_none_is_refused_with_what_to_do() {
    let namespace = Namespace::new("server").unwrap();
    namespace.ip("link add trunk0 type veth peer name far0").unwrap();
    namespace.ip("link add br0 type bridge").unwrap();
    let own = link(&namespace, "trunk0");
    for (name, message) in [
        ("eth9", "XDP cannot be attached to eth9: there is no such interface"),
        ("br0", "br0 is a bridge interface, whose frames have lost their VLAN tags before XDP sees them"),
        ("br0", "leave out `trunk` and `vlan`: then XDP is attached to trunk0"),
    ] {
        let trunk = Trunk { name, vlan: "90".parse().unwrap() };
        let error = namespace
            .inside(|| {
                Fastpath::start(&own, Some(trunk), site(), Xdp::Auto, Limits::default(), Timeline::default())
            })
            .unwrap()
            .unwrap_err();
        assert!(matches!(error, Error::Place { .. }) && error.to_string().contains(message), "{error}");
    }
}
