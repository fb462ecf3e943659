//! Puts the loaded program on the interface: into the place of the one that a netboot before has left, or anew; and pins it.
//!
//! Called when the program has all that it needs to answer, so that no packet in between is without one.

use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLinkId;

use super::Error;
use super::attach::{Attached, attach, keeps, replace};
use super::heartbeat::Heartbeat;
use super::loader::{Loaded, chain};
use super::pins::Pins;
use super::place::Place;
use super::predecessor::Predecessor;
use crate::config::Xdp;

/// The program on the interface.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) attached: Attached,
    /// Held until the program is gone.
    pub(super) place: Place,
    /// Or why it is not; then the loaded program keeps its link.
    pub(super) pinned: Result<Pinned, String>,
}

/// A link that outlives this process, unless it is released.
#[derive(Debug)]
pub(super) struct Pinned {
    link: FdLink,
    pins: Pins,
}

impl Pinned {
    /// Takes the program off and leaves nothing behind.
    pub(super) fn release(self) {
        let Self { link, pins } = self;
        pins.take_off(Some(link), None);
    }
}

/// Puts it there.
///
/// # Errors
/// When the interface does not take it. What was there before is gone then.
pub(super) fn put(
    loaded: &mut Loaded,
    place: Place,
    setting: Xdp,
    heartbeat: &mut Heartbeat,
    pins: Result<Pins, String>,
    before: Option<Predecessor>,
) -> Result<Placed, Error> {
    let pins = match pins {
        Ok(pins) => pins,
        Err(why) => {
            let (attached, _) = attach(loaded, &place, setting)?;
            return Ok(Placed { attached, place, pinned: Err(why) });
        }
    };
    let pinned_before = before.as_ref().map(|before| before.place.clone());
    let taken = before.and_then(|before| take_over(loaded, &place, setting, heartbeat, &pins, before));
    let (attached, id) = match taken {
        Some(taken) => taken,
        None => attach(loaded, &place, setting)?,
    };
    let link = take_link(loaded, id);
    let pinned =
        link.and_then(|link| pins.pin(link, loaded.handles(), place.is_changed(), pinned_before.as_deref()));
    match pinned {
        Ok(link) => Ok(Placed { attached, place, pinned: Ok(Pinned { link, pins }) }),
        Err(why) => {
            // The link is gone with its pins.
            pins.wait_until_off();
            let (attached, _) = attach(loaded, &place, setting)?;
            Ok(Placed { attached, place, pinned: Err(why) })
        }
    }
}

/// Takes the place of the program before, and what it knows. `None`: it is gone, and the place is free.
fn take_over(
    loaded: &mut Loaded,
    place: &Place,
    setting: Xdp,
    heartbeat: &mut Heartbeat,
    pins: &Pins,
    before: Predecessor,
) -> Option<(Attached, XdpLinkId)> {
    let (mode, known, pinned) = (before.mode, before.is_known(), before.place.clone());
    before.hand_down(&mut heartbeat.counters);
    let (link, events) = before.into_parts();
    heartbeat.before = events;
    let (link, why) = match keeps(place, setting, mode) {
        None => (Some(link), format!("it is attached in {} mode", mode.name())),
        Some(attached) => match replace(loaded, link) {
            Ok(id) => {
                let unknown = if known { "" } else { "; what that has answered and counted cannot be read" };
                tracing::info!(
                    mode = mode.name(),
                    known,
                    "the XDP program has taken the place of the one before{unknown}"
                );
                return Some((attached, id));
            }
            Err(why) => (None, why),
        },
    };
    tracing::warn!("the XDP program of the netboot before is removed, to attach anew: {why}");
    pins.take_off(link, Some(&pinned));
    None
}

/// Takes the link out of the loaded program, which would detach it when dropped.
fn take_link(loaded: &mut Loaded, id: XdpLinkId) -> Result<FdLink, String> {
    let program = loaded.program().map_err(|error| chain(&error))?;
    let link = program.take_link(id).map_err(|error| chain(&error))?;
    // On every kernel that takes the program it is one with a file.
    link.try_into().map_err(|error| chain(&error))
}
