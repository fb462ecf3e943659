//! Where the program cannot run: each reason has its own error, for the daemon to say and to serve without.

use std::collections::BTreeSet;

use netboot::config::Xdp;
use netboot::fastpath::{Error, Fastpath, Mode};
use netboot::net::link::Link;
use netboot::timeline::Timeline;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use xtask::lab::Namespace;

use super::live::link;
use super::{snapshot, subnet};

/// Loads and attaches the program.
fn start(namespace: &Namespace, link: &Link, mode: Xdp) -> Result<Fastpath, Error> {
    namespace.inside(|| begin(link, mode)).unwrap()
}

fn begin(link: &Link, mode: Xdp) -> Result<Fastpath, Error> {
    let mut fastpath = Fastpath::start(link, &subnet(), mode, Timeline::default())?;
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
