//! A VLAN whose tag the program matches on the interface that carries it, and whether it can see tags there at all.
//!
//! Decides only. What is done about it is in `place`.

use crate::config::Vlan;
use crate::net::look::Look;
use crate::net::offload::Rxvlan;

/// Kinds of interfaces that are given frames by another one, which has taken the tag out of them by then: the kernel
/// does so in software whatever the driver does, and before a generic program runs.
const STACKED: [&str; 8] =
    ["bridge", "bond", "team", "macvlan", "macvtap", "ipvlan", "ipvtap", "openvswitch"];

/// Where the program is attached if not to the interface of the sockets, and which frames there are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trunk<'a> {
    /// The interface that carries the VLAN.
    pub name: &'a str,
    /// The tags of the frames.
    pub vlan: Vlan,
}

impl Trunk<'_> {
    /// Why the sockets' interface, which looks so, is not this VLAN of this trunk; `None` where it is, or where the kernel
    /// does not know of a VLAN. The program would answer the machines of another network.
    pub fn mismatch(&self, interface: &str, own: &Look) -> Option<String> {
        let (_, lowest) = own.below.last()?;
        let Some(depth) = own.below.iter().position(|(_, below)| below == self.name) else {
            return Some(format!(
                "{interface} is a VLAN of {lowest} and not of {}: write \"trunk\": \"{lowest}\"",
                self.name
            ));
        };
        // The outer first, as they stand in the frame.
        let ids = own.below.iter().take(depth + 1).rev().map(|(id, _)| id.to_string());
        let real = ids.collect::<Vec<_>>().join(".");
        (real != self.vlan.to_string()).then(|| {
            let written = if depth == 0 { real.clone() } else { format!("\"{real}\"") };
            format!(
                "{interface} is VLAN {real} of {} and not {}: write \"vlan\": {written}",
                self.name, self.vlan
            )
        })
    }
}

/// What there is to know of an interface that the program is to be attached to.
#[derive(Clone, Copy, Debug)]
pub struct Card<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its kind if the kernel made it up.
    pub kind: Option<&'a str>,
    /// VLAN interfaces on top of it.
    pub vlans: &'a [String],
    /// What its driver does with tags, if that can be told.
    pub rxvlan: Option<Rxvlan>,
    /// If it is a trunk, the interface of the sockets.
    pub carries: Option<&'a str>,
}

/// Whether a program on an interface can tell tagged frames from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// It can, or no frames with tags are known to come there.
    Seen,
    /// It can once the receive offload is off.
    Offloaded,
    /// It cannot; why, and what to do.
    Hidden(String),
}

impl Card<'_> {
    /// Whether a program can tell tagged frames from others here.
    pub fn tags(&self) -> Tags {
        let Self { name, kind, vlans, rxvlan, carries } = *self;
        if carries.is_none() && vlans.is_empty() {
            return Tags::Seen;
        }
        if let Some(kind) = kind.filter(|kind| STACKED.contains(kind)) {
            return Tags::Hidden(format!(
                "{name} is a {kind} interface, whose frames have lost their VLAN tags before XDP sees them; {}",
                self.remedy()
            ));
        }
        match rxvlan {
            Some(rxvlan) if rxvlan.on && rxvlan.fixed => Tags::Hidden(self.fixed()),
            Some(rxvlan) if rxvlan.on => Tags::Offloaded,
            Some(_) | None => Tags::Seen,
        }
    }

    /// That the driver does not leave the tags alone, and what to do.
    pub fn fixed(&self) -> String {
        format!(
            "the driver of {} takes VLAN tags off before XDP sees them, and cannot be told not to; {}",
            self.name,
            self.remedy()
        )
    }

    /// The generic mode is none: it sees what the driver has left.
    fn remedy(&self) -> String {
        if let Some(own) = self.carries {
            return format!("leave out `trunk` and `vlan`: then XDP is attached to {own}");
        }
        let vlans = self.vlans.join(", ");
        format!("it cannot tell frames of {vlans} from those without a tag: put these on another card")
    }
}

#[cfg(test)]
mod tests {
    use super::{Card, Tags, Trunk};
    use crate::net::link::State;
    use crate::net::look::Look;
    use crate::net::offload::Rxvlan;

    fn card() -> Look {
        Look {
            state: State::Missing(String::new()),
            index: Some(2),
            kind: None,
            master: None,
            carrier: true,
            vlans: Vec::new(),
            below: Vec::new(),
            xdp: false,
            rxvlan: Some(Rxvlan { on: true, fixed: false }),
        }
    }

    #[test]
    fn an_interface_of_another_vlan_is_named_with_what_to_write() {
        let own = |below: &[(u16, &str)]| Look {
            below: below.iter().map(|(id, name)| (*id, (*name).to_owned())).collect(),
            ..card()
        };
        let one = own(&[(90, "eth1")]);
        let two = own(&[(90, "eth1.100"), (100, "eth1")]);
        let none = card();
        let check = |name, vlan: &str, own| {
            Trunk { name, vlan: vlan.parse().unwrap() }.mismatch("pxe", own).unwrap_or_default()
        };
        for (name, vlan, own) in [
            ("eth1", "90", &one),
            ("eth1", "100.90", &two),
            // The outer tag is gone there.
            ("eth1.100", "90", &two),
            // No VLAN that the kernel knows.
            ("eth1", "7", &none),
        ] {
            assert_eq!(check(name, vlan, own), "", "{name} {vlan}");
        }
        assert_eq!(check("eth1", "91", &one), "pxe is VLAN 90 of eth1 and not 91: write \"vlan\": 90");
        assert_eq!(
            check("eth1", "90", &two),
            "pxe is VLAN 100.90 of eth1 and not 90: write \"vlan\": \"100.90\""
        );
        assert_eq!(
            check("eth2", "90", &two),
            "pxe is a VLAN of eth1 and not of eth2: write \"trunk\": \"eth1\""
        );
    }

    #[test]
    fn tags_are_seen_or_brought_to_light_or_said_to_be_hidden() {
        let off = Some(Rxvlan { on: false, fixed: true });
        let fixed = Some(Rxvlan { on: true, fixed: true });
        let vlans = ["eth1.91".to_owned()];
        let bridge = Some("bridge");
        let hidden = |card: Card<'_>, what: &str, remedy: &str| match card.tags() {
            Tags::Hidden(why) => assert!(why.contains(what) && why.contains(remedy), "{why}"),
            other => panic!("{card:?}: {other:?}"),
        };
        let plain = Card {
            name: "eth1",
            kind: None,
            vlans: &[],
            rxvlan: Some(Rxvlan { on: true, fixed: false }),
            carries: None,
        };
        let trunk = Card { carries: Some("eth1.90"), ..plain };
        assert_eq!(trunk.tags(), Tags::Offloaded);
        assert_eq!(Card { rxvlan: off, ..trunk }.tags(), Tags::Seen);
        assert_eq!(Card { rxvlan: None, ..trunk }.tags(), Tags::Seen);
        assert_eq!(Card { kind: Some("veth"), ..trunk }.tags(), Tags::Offloaded);
        hidden(Card { rxvlan: fixed, ..trunk }, "cannot be told not to", "attached to eth1.90");
        hidden(
            Card { kind: bridge, rxvlan: off, ..trunk },
            "eth1 is a bridge interface",
            "leave out `trunk`",
        );

        assert_eq!(plain.tags(), Tags::Seen, "nobody has a tag");
        assert_eq!(Card { kind: bridge, ..plain }.tags(), Tags::Seen);
        let among = Card { vlans: &vlans, ..plain };
        assert_eq!(among.tags(), Tags::Offloaded);
        hidden(Card { rxvlan: fixed, ..among }, "cannot be told not to", "frames of eth1.91");
        hidden(Card { kind: bridge, rxvlan: off, ..among }, "bridge", "frames of eth1.91");
    }
}
