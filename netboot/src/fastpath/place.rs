//! Where the program is attached: found, held against the settings, and made to show the tags of its frames.

use std::io;

use super::Error;
use super::loader::chain;
use super::trunk::{Card, Tags, Trunk};
use crate::net::link::Link;
use crate::net::look::look;
use crate::net::offload::Untouched;

/// The interface that the program is attached to. When dropped, its driver does with tags as before.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) index: u32,
    /// None for a network card.
    pub(super) kind: Option<String>,
    /// The trunk and its VLAN, in words.
    pub(super) carries: Option<String>,
    untouched: Option<Untouched>,
}

impl Place {
    /// The interface or trunk by name and number, if it is there.
    pub(super) fn named<'a>(link: &'a Link, trunk: Option<Trunk<'a>>) -> Option<(&'a str, u32)> {
        match trunk {
            None => Some((&link.name, link.index)),
            Some(trunk) => Some((trunk.name, look(trunk.name).ok()?.index?)),
        }
    }

    /// The netboot before has made the driver leave the tags on, and left it so: now it is this one that puts it right.
    pub(super) fn adopt(&mut self) {
        if self.untouched.is_none() {
            self.untouched = Untouched::adopt(&self.name)
                .inspect_err(|error| tracing::debug!(%error, "rxvlan will not be turned on again"))
                .ok();
        }
    }

    /// The driver does otherwise with tags than it did before.
    pub(super) fn is_changed(&self) -> bool {
        self.untouched.is_some()
    }

    /// Leaves the driver so, for the program stays.
    pub(super) fn leave(self) {
        if let Some(untouched) = self.untouched {
            untouched.leave();
        }
    }

    /// The trunk if there is one, else the sockets' own interface.
    ///
    /// # Errors
    /// When it is not there or not what the settings say, or when tags cannot be seen on it.
    pub(super) fn find(link: &Link, trunk: Option<Trunk<'_>>) -> Result<Self, Error> {
        let name = trunk.map_or(link.name.as_str(), |trunk| trunk.name);
        let unfit = |why: String| Error::Place { interface: name.to_owned(), why };
        let see = |name: &str| look(name).map_err(|error| unfit(chain(&error)));
        let seen = see(name)?;
        let index = match trunk {
            None => link.index,
            Some(trunk) => {
                let missing = "there is no such interface (`ip link` lists those that there are); start netboot again when there is";
                let index = seen.index.ok_or_else(|| unfit(missing.to_owned()))?;
                if let Some(why) = trunk.mismatch(&link.name, &see(&link.name)?) {
                    return Err(unfit(why));
                }
                index
            }
        };
        let card = Card {
            name,
            kind: seen.kind.as_deref(),
            vlans: &seen.vlans,
            rxvlan: seen.rxvlan,
            carries: trunk.map(|_| link.name.as_str()),
        };
        let untouched = match card.tags() {
            Tags::Seen => None,
            Tags::Hidden(why) => return Err(unfit(why)),
            Tags::Offloaded => uncover(&card)?,
        };
        Ok(Self {
            name: name.to_owned(),
            index,
            carries: trunk.map(|trunk| format!("on the trunk {} for VLAN {}", trunk.name, trunk.vlan)),
            kind: seen.kind,
            untouched,
        })
    }
}

/// Turns the receive offload off, and says so.
fn uncover(card: &Card<'_>) -> Result<Option<Untouched>, Error> {
    let name = card.name;
    let untouched = Untouched::new(name).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Error::Permission { what: "turning rxvlan off", source: error },
        _ => Error::Place { interface: name.to_owned(), why: format!("{} ({error})", card.fixed()) },
    })?;
    if untouched.is_some() {
        tracing::info!(
            interface = name,
            "rxvlan is off on {name} as long as XDP is attached, which would else not see the VLAN tags of frames"
        );
    }
    Ok(untouched)
}
