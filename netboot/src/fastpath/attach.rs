//! Attaches the program: in the driver of a real network card, on the socket buffer where that is not to be had.
//!
//! On veth, native XDP_TX is lost unless the other end has a program too; bridges and VLAN interfaces have no native
//! mode. So interfaces that the kernel made up take the generic mode at once.

use aya::programs::XdpMode;
use rustix::io::Errno;

use super::loader::{Loaded, chain, errno};
use super::{Error, Mode};
use crate::config::Xdp;
use crate::net::kind::made_up;
use crate::net::link::Link;

/// How the program got attached, and why not natively.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) mode: Mode,
    pub(super) note: Option<String>,
}

/// Attaches the program as the setting says.
pub(super) fn attach(loaded: &mut Loaded, link: &Link, setting: Xdp) -> Result<Attached, Error> {
    match setting {
        Xdp::Off => Err(Error::Off),
        Xdp::Native => {
            attach_as(loaded, link, Mode::Native)?;
            Ok(Attached { mode: Mode::Native, note: None })
        }
        Xdp::Generic => {
            attach_as(loaded, link, Mode::Generic)?;
            Ok(Attached { mode: Mode::Generic, note: Some("the setting `xdp` says so".to_owned()) })
        }
        Xdp::Auto => {
            let why = match made_up(link.index) {
                Some(kind) => format!("{} is a {kind} interface", link.name),
                None => match attach_as(loaded, link, Mode::Native) {
                    Ok(()) => return Ok(Attached { mode: Mode::Native, note: None }),
                    Err(error @ Error::Permission { .. }) => return Err(error),
                    Err(error) => error.to_string(),
                },
            };
            attach_as(loaded, link, Mode::Generic)?;
            Ok(Attached { mode: Mode::Generic, note: Some(why) })
        }
    }
}

fn attach_as(loaded: &mut Loaded, link: &Link, mode: Mode) -> Result<(), Error> {
    let flags = match mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
    };
    let Err(error) = loaded.program()?.attach_to_if_index(link.index, flags) else { return Ok(()) };
    let code = errno(&error).map(Errno::from_raw_os_error);
    if code == Some(Errno::PERM) {
        return Err(Error::Permission { what: "attaching the XDP program", source: Errno::PERM.into() });
    }
    let what = chain(&error);
    let name = &link.name;
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
