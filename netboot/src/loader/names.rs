//! Which names are those of configurations, and what they say of who asks.

use std::net::Ipv4Addr;

use crate::inventory::edit::is_channel;
use crate::mac::Mac;

const PXELINUX: &str = "pxelinux.cfg/";
const GRUB: &str = "grub.cfg";
/// Before a MAC: the type of an Ethernet address.
const BY_MAC: &str = "01-";
/// The script that iPXE is told by DHCP.
pub const SCRIPT: &str = "boot.ipxe";
/// The script that iPXE looks for by itself, before it has asked by DHCP.
pub const AUTOEXEC: &str = "autoexec.ipxe";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// pxelinux.
    Pxelinux,
    /// GRUB.
    Grub,
    /// iPXE.
    Ipxe,
}

/// Whose configuration is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// The caller's.
    Callers,
    /// The caller's, who says that this is its Ethernet address.
    OfMac(Mac),
    /// The caller's, who says that this is its address.
    OfAddr(Ipv4Addr),
    /// That of a channel or profile.
    Named(&'a str),
}

/// What a name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Who asks.
    pub loader: Loader,
    /// For what.
    pub whose: Whose<'a>,
}

impl<'a> Asked<'a> {
    /// Reads a path below `tftp/`; `None`: it is no configuration's.
    pub fn of(name: &'a str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix(PXELINUX) {
            let whose = match rest {
                "default" => Whose::Callers,
                rest => own(rest).or_else(|| is_channel(rest).then_some(Whose::Named(rest)))?,
            };
            return Some(Self { loader: Loader::Pxelinux, whose });
        }
        if [SCRIPT, AUTOEXEC].contains(&name) {
            return Some(Self { loader: Loader::Ipxe, whose: Whose::Callers });
        }
        // GRUB looks in its own directory and beside itself, wherever that is.
        let file = name.rsplit('/').next()?;
        let whose = match file.strip_prefix(GRUB)? {
            "" => Whose::Callers,
            rest => own(rest.strip_prefix('-')?)?,
        };
        Some(Self { loader: Loader::Grub, whose })
    }
}

/// A name with a MAC in it, with this one in its place.
pub fn for_mac(name: &str, mac: Mac) -> Option<String> {
    let Whose::OfMac(_) = Asked::of(name)?.whose else { return None };
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let (before, _) = file.split_once(BY_MAC)?;
    let slash = if folder.is_empty() { "" } else { "/" };
    Some(format!("{folder}{slash}{before}{BY_MAC}{}", mac.to_string().replace(':', "-")))
}

/// `01-52-54-00-12-34-56` (01: Ethernet) or `C0A85A0B`, as pxelinux and GRUB name themselves.
fn own(text: &str) -> Option<Whose<'static>> {
    if let Some(mac) = text.strip_prefix(BY_MAC) {
        return mac.parse().ok().map(Whose::OfMac);
    }
    let hex = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    let bits = u32::from_str_radix(text, 16).ok().filter(|_| hex)?;
    Some(Whose::OfAddr(Ipv4Addr::from_bits(bits)))
}

#[cfg(test)]
mod tests {
    use super::{Asked, Loader, Whose, for_mac};
    use crate::mac::Mac;

    #[test]
    fn names_and_what_they_ask_for() {
        let mac = Whose::OfMac(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x5a]));
        let addr = Whose::OfAddr([192, 168, 90, 11].into());
        let table = [
            ("pxelinux.cfg/stable", Some((Loader::Pxelinux, Whose::Named("stable")))),
            ("pxelinux.cfg/default", Some((Loader::Pxelinux, Whose::Callers))),
            ("pxelinux.cfg/01-52-54-00-12-34-5a", Some((Loader::Pxelinux, mac))),
            ("pxelinux.cfg/C0A85A0B", Some((Loader::Pxelinux, addr))),
            ("pxelinux.cfg/C0A85A0", Some((Loader::Pxelinux, Whose::Named("C0A85A0")))),
            ("pxelinux.cfg/c0a85a0b", Some((Loader::Pxelinux, Whose::Named("c0a85a0b")))),
            ("grub/grub.cfg", Some((Loader::Grub, Whose::Callers))),
            ("grub.cfg", Some((Loader::Grub, Whose::Callers))),
            ("efi/debian/grub.cfg", Some((Loader::Grub, Whose::Callers))),
            ("grub/grub.cfg-01-52-54-00-12-34-5a", Some((Loader::Grub, mac))),
            ("grub/grub.cfg-C0A85A0B", Some((Loader::Grub, addr))),
            ("grub/grub.cfg-C0A85A", None),
            ("grub/grub.cfg-stable", None),
            ("grub/grub.cfg.sig", None),
            ("grub/x86_64-efi/fs.lst", None),
            ("boot.ipxe", Some((Loader::Ipxe, Whose::Callers))),
            ("autoexec.ipxe", Some((Loader::Ipxe, Whose::Callers))),
            ("sub/boot.ipxe", None),
            ("sub/pxelinux.cfg/stable", None),
            ("pxelinux.cfg/stable/x", None),
            ("pxelinux.cfg/a b", None),
            ("pxelinux.0", None),
        ];
        for (name, expected) in table {
            let asked = Asked::of(name).map(|Asked { loader, whose }| (loader, whose));
            assert_eq!(asked, expected, "{name}");
        }
    }

    #[test]
    fn a_name_for_another_card() {
        let mac = Mac([0x52, 0x54, 1, 0x12, 0x34, 0x5a]);
        let table = [
            ("pxelinux.cfg/01-02-00-00-01-00-01", Some("pxelinux.cfg/01-52-54-01-12-34-5a")),
            ("efi/01-x/grub.cfg-01-02-00-00-00-00-01", Some("efi/01-x/grub.cfg-01-52-54-01-12-34-5a")),
            ("grub.cfg-01-02-00-00-00-00-01", Some("grub.cfg-01-52-54-01-12-34-5a")),
            ("grub/grub.cfg-01-02-00-00-01-00-01", Some("grub/grub.cfg-01-52-54-01-12-34-5a")),
            ("pxelinux.cfg/default", None),
            ("pxelinux.cfg/C0A85A0B", None),
            ("pxelinux.cfg/01-stable", None),
            ("01-02-00-00-00-00-01", None),
        ];
        for (name, expected) in table {
            assert_eq!(for_mac(name, mac).as_deref(), expected, "{name}");
        }
    }
}
