//! Attaches the program: in the driver of a real network card, on the socket buffer where that is not to be had.
//!
//! On veth, native XDP_TX is lost unless the other end has a program too; bridges and VLAN interfaces have no native
//! mode. So interfaces that the kernel made up take the generic mode at once.

use aya::programs::XdpMode;
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
    /// Held until the program is gone.
    _place: Place,
}

/// Attaches the program as the setting says.
pub(super) fn attach(loaded: &mut Loaded, place: Place, setting: Xdp) -> Result<Attached, Error> {
    let Place { name, kind, .. } = &place;
    let (mode, why) = match setting {
        Xdp::Off => return Err(Error::Off),
        Xdp::Native => {
            attach_as(loaded, &place, Mode::Native)?;
            let trap = (kind.as_deref() == Some("veth")).then(|| {
                format!(
                    "{name} is a veth interface: {LOST} unless its other end has an XDP program too; \
                     with \"xdp\": \"auto\" they are not"
                )
            });
            if let Some(trap) = &trap {
                tracing::warn!(interface = name, "XDP is native, and {trap}");
            }
            (Mode::Native, trap)
        }
        Xdp::Generic => {
            attach_as(loaded, &place, Mode::Generic)?;
            (Mode::Generic, Some("the setting `xdp` says so".to_owned()))
        }
        Xdp::Auto => {
            let refused = match kind {
                Some(kind) => Some(format!("{name} is a {kind} interface")),
                None => match attach_as(loaded, &place, Mode::Native) {
                    Ok(()) => None,
                    Err(error @ Error::Permission { .. }) => return Err(error),
                    Err(error) => Some(error.to_string()),
                },
            };
            if refused.is_some() {
                attach_as(loaded, &place, Mode::Generic)?;
            }
            (if refused.is_some() { Mode::Generic } else { Mode::Native }, refused)
        }
    };
    let notes: Vec<String> = place.carries.iter().cloned().chain(why).collect();
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    Ok(Attached { mode, note, _place: place })
}

fn attach_as(loaded: &mut Loaded, place: &Place, mode: Mode) -> Result<(), Error> {
    let flags = match mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
    };
    let Err(error) = loaded.program()?.attach_to_if_index(place.index, flags) else { return Ok(()) };
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
