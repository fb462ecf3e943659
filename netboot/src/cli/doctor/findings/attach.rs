//! Where and how the XDP program would be attached, why, and whether it sees VLAN tags there.

use super::super::facts::{Facts, Seen, Trunk, Usable};
use super::{Finding, State, wants_xdp};
use crate::config::{Mode, Xdp};
use crate::fastpath::{Card, LOST, Tags};

/// The page of a native program and what else is in it hold no larger packets; larger ones come in fragments.
const NATIVE_MTU: u32 = 3506;
/// What attaches the program so that its replies arrive.
const AUTO: &str = "`\"xdp\": \"auto\"` in netboot.json";

/// Whether what the settings call the trunk is one.
pub(super) fn trunk(trunk: &Trunk, facts: &Facts) -> Finding {
    let Trunk { name, vlan, mismatch, seen } = trunk;
    let finding = |state, message: String| Finding::new("trunk", state, message);
    let alone = "XDP would be off, and the daemon answer everything";
    match (seen, mismatch) {
        (_, _) if !wants_xdp(facts) => finding(State::Ok, "not used: XDP is off".to_owned()),
        (None, _) => finding(State::Warning, format!("there is no interface {name}: {alone}")).fix("ip link"),
        // The text ends with what to write.
        (_, Some(why)) => match why.rsplit_once(": write ") {
            Some((what, fix)) => {
                finding(State::Warning, format!("{what}: {alone}")).fix(format!("`{fix}` in netboot.json"))
            }
            None => finding(State::Warning, format!("{why}: {alone}")),
        },
        (Some(Seen { carrier: false, .. }), None) => finding(
            State::Wrong,
            format!("{name} is down, or there is nothing at the other end of its cable"),
        )
        .fix(format!("ip link set {name} up")),
        (Some(_), None) => finding(State::Ok, format!("{name} carries VLAN {vlan}")),
    }
}

/// A program on the interface.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    None,
    /// A netboot that has ended has left it.
    Left,
    Another,
}

impl Program {
    const fn new(xdp: bool, left: bool) -> Self {
        match (xdp, left) {
            (false, _) => Self::None,
            (true, true) => Self::Left,
            (true, false) => Self::Another,
        }
    }
}

/// The interface that the program would be attached to, and what is; `None` if there is none.
fn card<'a>(facts: &'a Facts, usable: Option<&'a Usable>) -> Option<(Card<'a>, Program)> {
    let own = usable?;
    let Some(trunk) = &facts.trunk else {
        let Usable { name, kind, vlans, xdp, left, rxvlan, .. } = own;
        let card = Card { name, kind: kind.as_deref(), vlans, rxvlan: *rxvlan, carries: None };
        return Some((card, Program::new(*xdp, *left)));
    };
    let Seen { kind, xdp, left, rxvlan, .. } = trunk.seen.as_ref().filter(|_| trunk.mismatch.is_none())?;
    let carries = Some(own.name.as_str());
    let card = Card { name: &trunk.name, kind: kind.as_deref(), vlans: &[], rxvlan: *rxvlan, carries };
    Some((card, Program::new(*xdp, *left)))
}

/// How the program would be attached, and why.
pub(super) fn attach(facts: &Facts, usable: Option<&Usable>) -> Finding {
    let finding = |state, message: String| Finding::new("xdp", state, message);
    if facts.mode == Mode::Proxy {
        return finding(State::Ok, "off: XDP answers full DHCP only, and the mode is proxy".to_owned());
    }
    if facts.xdp == Xdp::Off {
        return finding(State::Ok, "off by the setting `xdp`: the daemon answers everything".to_owned());
    }
    if let Some(told) = &facts.running_xdp {
        let bad = told.starts_with("off") || told.contains(LOST);
        let state = if bad { State::Warning } else { State::Ok };
        return finding(state, format!("the running netboot says: {told}"));
    }
    let (Some((card, attached)), Some(usable)) = (card(facts, usable), usable) else {
        return finding(State::Skipped, "how it would be attached depends on the interface".to_owned());
    };
    let name = card.name;
    if attached == Program::Left && !facts.running {
        let message =
            format!("a netboot that has ended left its program on {name}; the next one takes it over");
        return finding(State::Ok, message);
    }
    if attached == Program::Another && !facts.running {
        let message =
            format!("another XDP program is attached to {name}; the daemon would answer everything");
        return finding(State::Warning, message).fix(format!("ip link set dev {name} xdp off"));
    }
    if let Tags::Hidden(why) = card.tags() {
        return finding(State::Warning, format!("off, and the daemon would answer everything: {why}"));
    }
    match (facts.xdp, card.kind) {
        (Xdp::Generic, _) => finding(State::Ok, "generic: the setting `xdp` says so".to_owned()),
        (Xdp::Auto | Xdp::Off, Some(kind)) => {
            finding(State::Ok, format!("generic: {name} is a {kind} interface"))
        }
        (Xdp::Native, Some("veth")) => {
            let message = format!("native: {name} is a veth interface, on which its {LOST}");
            finding(State::Wrong, message).fix(AUTO)
        }
        (Xdp::Native, Some(kind)) => {
            let message = format!("native: {name} is a {kind} interface, which has no such mode as a rule");
            finding(State::Warning, message).fix(AUTO)
        }
        (_, None) if usable.mtu > NATIVE_MTU => {
            let message = format!(
                "native is tried on {name}, but with an MTU of {} (over {NATIVE_MTU}) not every driver takes it",
                usable.mtu
            );
            // Else it is attached in generic mode.
            let state = if facts.xdp == Xdp::Native { State::Warning } else { State::Ok };
            let finding = finding(state, message);
            if state == State::Ok { finding } else { finding.fix(AUTO) }
        }
        (_, None) => finding(State::Ok, format!("native is tried: {name} is a network card")),
    }
}

/// Whether the tags of frames are there when XDP sees them.
pub(super) fn rxvlan(facts: &Facts, usable: Option<&Usable>) -> Option<Finding> {
    let (card, _) = card(facts, usable)?;
    let name = card.name;
    let finding = |state, message: &str| Finding::new("rxvlan", state, message);
    let found = match (card.rxvlan.map(|rxvlan| rxvlan.on), card.tags()) {
        (None, _) => finding(State::Skipped, "whether the card takes VLAN tags off cannot be told")
            .fix(format!("ethtool -k {name} | grep rx-vlan")),
        (_, Tags::Hidden(why)) if wants_xdp(facts) => finding(State::Warning, &why),
        // The program that should have turned it off is attached.
        (Some(true), Tags::Offloaded)
            if facts.running_xdp.as_deref().is_some_and(|told| !told.starts_with("off")) =>
        {
            let message =
                format!("VLAN tags are taken off on {name} before the running netboot's XDP sees them");
            finding(State::Warning, &message).fix(format!("ethtool -K {name} rxvlan off"))
        }
        (Some(true), Tags::Offloaded) if wants_xdp(facts) => {
            let message = format!(
                "VLAN tags are taken off on {name} before XDP sees them; serve turns that off as long as it runs, as does \
                 ethtool -K {name} rxvlan off"
            );
            finding(State::Ok, &message)
        }
        (Some(true), _) => finding(State::Ok, "VLAN tags are taken off, which hides nothing from XDP here"),
        (Some(false), _) => finding(State::Ok, "VLAN tags stay on"),
    };
    Some(found)
}
