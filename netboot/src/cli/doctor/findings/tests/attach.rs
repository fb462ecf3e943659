//! Where XDP would be attached, how, and whether it sees tags there.

use super::super::super::facts::{Seen, Trunk};
use super::{Finding, State, found, hold, on};
use crate::config::Xdp;
use crate::net::offload::Rxvlan;

#[test]
fn how_it_would_be_attached_and_whether_it_sees_tags() {
    hold(vec![
        (
            "xdp",
            State::Warning,
            "3506",
            "auto",
            found(|f| {
                f.xdp = Xdp::Native;
                on(|u| u.mtu = 9000)(f);
            }),
        ),
        (
            "xdp",
            State::Warning,
            "replies are lost",
            "",
            found(|f| {
                f.running_xdp = Some("native (eth1 is a veth interface: replies are lost …)".to_owned());
            }),
        ),
        (
            "rxvlan",
            State::Warning,
            "taken off on eth1 before the running",
            "ethtool -K eth1 rxvlan off",
            found(|f| {
                f.running_xdp = Some("native".to_owned());
                on(|u| u.vlans = vec!["v90".to_owned()])(f);
            }),
        ),
        (
            "rxvlan",
            State::Warning,
            "cannot tell frames of v90",
            "",
            found(on(|u| {
                u.vlans = vec!["v90".to_owned()];
                u.rxvlan = Some(Rxvlan { on: true, fixed: true });
            })),
        ),
        (
            "rxvlan",
            State::Ok,
            "stay on",
            "",
            found(on(|u| u.rxvlan = Some(Rxvlan { on: false, fixed: false }))),
        ),
        (
            "rxvlan",
            State::Ok,
            "ethtool -K eth1 rxvlan off",
            "",
            found(on(|u| u.vlans = vec!["v90".to_owned()])),
        ),
        ("xdp", State::Ok, "3506", "", found(on(|u| u.mtu = 9000))),
    ]);
}

/// What is found where the settings name a trunk that looks so.
fn trunked(change: impl FnOnce(&mut Trunk)) -> Vec<Finding> {
    found(|f| {
        on(|u| {
            u.name = "eth1.90".to_owned();
            u.kind = Some("vlan".to_owned());
            u.rxvlan = Some(Rxvlan { on: false, fixed: true });
        })(f);
        let seen = Seen {
            kind: None,
            carrier: true,
            xdp: false,
            left: false,
            rxvlan: Some(Rxvlan { on: true, fixed: false }),
        };
        let mut trunk =
            Trunk { name: "eth1".to_owned(), vlan: "90".to_owned(), mismatch: None, seen: Some(seen) };
        change(&mut trunk);
        f.trunk = Some(trunk);
    })
}

#[test]
fn a_trunk_is_looked_at_in_the_place_of_the_interface() {
    let seen = |change: fn(&mut Seen)| trunked(|trunk| change(trunk.seen.as_mut().unwrap()));
    let other = "eth1.90 is VLAN 91 of eth1 and not 90: write \"vlan\": 91";
    hold(vec![
        ("trunk", State::Ok, "eth1 carries VLAN 90", "", trunked(|_| {})),
        ("xdp", State::Ok, "native is tried: eth1 is a network card", "", trunked(|_| {})),
        ("rxvlan", State::Ok, "ethtool -K eth1 rxvlan off", "", trunked(|_| {})),
        (
            "rxvlan",
            State::Ok,
            "stay on",
            "",
            seen(|seen| seen.rxvlan = Some(Rxvlan { on: false, fixed: false })),
        ),
        (
            "trunk",
            State::Warning,
            "there is no interface eth1",
            "ip link",
            trunked(|trunk| trunk.seen = None),
        ),
        ("xdp", State::Skipped, "depends", "", {
            let findings = trunked(|trunk| trunk.seen = None);
            findings.into_iter().filter(|finding| finding.check != "trunk").collect()
        }),
        (
            "trunk",
            State::Warning,
            "is VLAN 91 of eth1 and not 90",
            "`\"vlan\": 91` in netboot.json",
            trunked(|trunk| trunk.mismatch = Some(other.to_owned())),
        ),
        ("trunk", State::Wrong, "eth1 is down", "ip link set eth1 up", seen(|seen| seen.carrier = false)),
        ("xdp", State::Warning, "to eth1;", "ip link set dev eth1 xdp off", seen(|seen| seen.xdp = true)),
    ]);
    let hidden = seen(|seen| seen.rxvlan = Some(Rxvlan { on: true, fixed: true }));
    for check in ["xdp", "rxvlan"] {
        let found = hidden.iter().find(|finding| finding.check == check).unwrap();
        assert_eq!(found.state, State::Warning, "{found:?}");
        assert!(found.message.contains("then XDP is attached to eth1.90"), "{found:?}");
    }
    // Without XDP there is nothing to attach.
    let off = found(|f| {
        f.xdp = Xdp::Off;
        f.trunk = Some(Trunk { name: "eth9".to_owned(), vlan: "9".to_owned(), mismatch: None, seen: None });
    });
    let found = off.iter().find(|finding| finding.check == "trunk").unwrap();
    assert_eq!((found.state, found.message.as_str()), (State::Ok, "not used: XDP is off"));
}
