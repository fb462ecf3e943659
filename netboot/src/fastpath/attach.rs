//! Attaches the program: in the driver of a real network card, on the socket buffer where that is not to be had.
//!
//! On veth, native XDP_TX is lost unless the other end has a program too; bridges and VLAN interfaces have no native
//! mode. So interfaces that the kernel made up take the generic mode at once.

use aya::programs::XdpMode;
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLinkId;
use rustix::io::Errno;

use super::loader::{Loaded, chain, errno};
use super::place::Place;
use super::{Error, LOST, Mode};
use crate::config::Xdp;

/// How the program got attached, and why so.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) mode: Mode,
    pub(super) note: Option<String>,
}

impl Attached {
    fn new(place: &Place, mode: Mode, why: Option<String>) -> Self {
        let notes: Vec<String> = place.carries.iter().cloned().chain(why).collect();
        Self { mode, note: (!notes.is_empty()).then(|| notes.join("; ")) }
    }
}

/// Attaches the program as the setting says.
pub(super) fn attach(
    loaded: &mut Loaded,
    place: &Place,
    setting: Xdp,
) -> Result<(Attached, XdpLinkId), Error> {
    if setting == Xdp::Off {
        return Err(Error::Off);
    }
    let why = match why_generic(place, setting) {
        Some(why) => why,
        None => match attach_as(loaded, place, Mode::Native) {
            Ok(id) => return Ok((native(place), id)),
            Err(error) if setting == Xdp::Native || matches!(error, Error::Permission { .. }) => {
                return Err(error);
            }
            Err(error) => error.to_string(),
        },
    };
    let id = attach_as(loaded, place, Mode::Generic)?;
    Ok((Attached::new(place, Mode::Generic, Some(why)), id))
}

/// It is native, which on a veth is a trap.
fn native(place: &Place) -> Attached {
    let name = &place.name;
    let trap = (place.kind.as_deref() == Some("veth")).then(|| {
        format!(
            "{name} is a veth interface: {LOST} unless its other end has an XDP program too; \
             with \"xdp\": \"auto\" they are not"
        )
    });
    if let Some(trap) = &trap {
        tracing::warn!(interface = name, "XDP is native, and {trap}");
    }
    Attached::new(place, Mode::Native, trap)
}

/// Puts the program into the place of the one before, in the mode of that. No packet is without a program meanwhile.
pub(super) fn replace(loaded: &mut Loaded, link: FdLink) -> Result<XdpLinkId, String> {
    let link = link.try_into().map_err(|error| chain(&error))?;
    let program = loaded.program().map_err(|error| chain(&error))?;
    program.attach_to_link(link).map_err(|error| chain(&error))
}

/// Whether a program that is attached in this mode is so as the setting says, and why. What `auto` has fallen back to it keeps:
/// to find out anew would take the program off.
pub(super) fn keeps(place: &Place, setting: Xdp, mode: Mode) -> Option<Attached> {
    let why = why_generic(place, setting);
    match (setting, mode) {
        (Xdp::Native | Xdp::Auto, Mode::Native) if why.is_none() => Some(native(place)),
        (Xdp::Generic | Xdp::Auto, Mode::Generic) => {
            Some(Attached::new(place, mode, why.or(Some("as the netboot before had it".to_owned()))))
        }
        _ => None,
    }
}

/// Why native mode is not even tried; `None` where it is.
fn why_generic(place: &Place, setting: Xdp) -> Option<String> {
    match setting {
        Xdp::Off | Xdp::Native => None,
        Xdp::Generic => Some("the setting `xdp` says so".to_owned()),
        Xdp::Auto => place.kind.as_ref().map(|kind| format!("{} is a {kind} interface", place.name)),
    }
}

fn attach_as(loaded: &mut Loaded, place: &Place, mode: Mode) -> Result<XdpLinkId, Error> {
    let flags = match mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
    };
    let error = match loaded.program()?.attach_to_if_index(place.index, flags) {
        Ok(id) => return Ok(id),
        Err(error) => error,
    };
    let code = errno(&error).map(Errno::from_raw_os_error);
    if code == Some(Errno::PERM) {
        return Err(Error::Permission { what: "attaching the XDP program", source: Errno::PERM.into() });
    }
    let what = chain(&error);
    let name = &place.name;
    let why = match code {
        Some(Errno::BUSY | Errno::EXIST) => {
            format!(
                "another XDP program is attached ({what}); `ip link set dev {name} xdp off` removes one that is left over"
            )
        }
        Some(Errno::OPNOTSUPP) => format!("its driver has no such mode ({what})"),
        Some(Errno::NODEV) => format!("it is gone ({what})"),
        Some(Errno::RANGE | Errno::INVAL) => {
            format!("{what}; a large MTU or too few queues can be the reason")
        }
        _ => what,
    };
    Err(Error::Attach { interface: name.clone(), mode, why })
}
