//! Names to contents, for TFTP and HTTP alike: a file below `<data>/tftp`, else one that is generated.
//!
//! Nothing outside that directory is ever opened: the kernel resolves the name beneath it (openat2) and refuses what leads
//! out. Only regular files are served; opening never waits for anybody. A file on disk beats a generated one.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use netboot_ebpf::Class;

use crate::beneath::{self, Opened, Refused, normal};
use crate::inventory::{Profile, Snapshot};
use crate::loader::{Asked, Request, Road, Site, Whose, names};
use crate::mac::Mac;

/// The files that are served. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Files {
    root: Arc<Path>,
    inventory: Arc<ArcSwap<Snapshot>>,
    site: Site,
    ignore_case: bool,
    autoexec: bool,
}

/// Who wants a file, and by which road. What is made for a request is made for its machine.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    addr: Option<Ipv4Addr>,
    road: Road,
}

impl Caller {
    /// A client of this address.
    pub fn new(addr: IpAddr, road: Road) -> Self {
        let addr = match addr.to_canonical() {
            IpAddr::V4(addr) => Some(addr),
            IpAddr::V6(_) => None,
        };
        Self { addr, road }
    }
}

/// A file's content, as it was when it was opened: replacing the file on disk does not change it.
#[derive(Debug)]
pub enum Content {
    /// From disk.
    Disk(Opened),
    /// Made for the request.
    Generated(Vec<u8>),
}

impl Content {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Disk(opened) => opened.size,
            Self::Generated(bytes) => bytes.len() as u64,
        }
    }
}

impl Files {
    /// The files of a data directory; `server` and `http_port` go into generated ones.
    pub fn new(data: &Path, inventory: Arc<ArcSwap<Snapshot>>, server: Ipv4Addr, http_port: u16) -> Self {
        let site = Site { server, http_port };
        Self { root: data.join("tftp").into(), inventory, site, ignore_case: false, autoexec: true }
    }

    /// The same, but no script is made for iPXE that looks for one before it has asked by DHCP: DHCP tells it of another.
    #[must_use]
    pub fn without_autoexec(self) -> Self {
        Self { autoexec: false, ..self }
    }

    /// The same, but where a name is not there one that differs in upper and lower case (ASCII) will do, and `\\` is `/`: what
    /// comes from Windows asks so.
    #[must_use]
    pub fn ignoring_case(self, ignore_case: bool) -> Self {
        Self { ignore_case, ..self }
    }

    /// The machine that this address is reserved for.
    pub(super) fn machine(&self, addr: IpAddr) -> Option<Mac> {
        let IpAddr::V4(addr) = addr else { return None };
        self.inventory.load().by_addr(addr).map(|host| host.mac)
    }

    /// Opens what a caller calls `name`; leading and doubled slashes mean nothing.
    ///
    /// May wait for the disk: not for use on a thread that others depend on.
    ///
    /// # Errors
    /// Why it is not served.
    pub fn open(&self, name: &str, caller: Caller) -> Result<Content, Refused> {
        let name = if self.ignore_case { normal(&name.replace('\\', "/"))? } else { normal(name)? };
        if let Some(text) = self.ordered(&name, caller) {
            return Ok(Content::Generated(text.into_bytes()));
        }
        match beneath::open(&self.root, &name) {
            Ok(opened) => Ok(Content::Disk(opened)),
            Err(Refused::NotFound) => self.other(&name, caller),
            Err(refused) => Err(refused),
        }
    }

    /// What is served where no file has this very name.
    fn other(&self, name: &str, caller: Caller) -> Result<Content, Refused> {
        if let Some(name) = self.of_its_own_card(name, caller)
            && let Ok(opened) = beneath::open(&self.root, &name)
        {
            return Ok(Content::Disk(opened));
        }
        if let Some(text) = self.generate(name, caller) {
            return Ok(Content::Generated(text.into_bytes()));
        }
        self.other_case(name).map(Content::Disk)
    }

    /// The name by which the caller's machine would ask for its configuration with its own card, where it asks with another.
    fn of_its_own_card(&self, name: &str, caller: Caller) -> Option<String> {
        let Whose::OfMac(card) = Asked::of(name)?.whose else { return None };
        let snapshot = self.inventory.load();
        let host = snapshot.by_addr(caller.addr?).filter(|host| host.mac != card)?;
        snapshot.may_have(host, card).then(|| names::for_mac(name, host.mac))?
    }

    /// What is there but for upper and lower case, where that is set.
    fn other_case(&self, name: &str) -> Result<Opened, Refused> {
        let found = if self.ignore_case { beneath::find(&self.root, name)? } else { None };
        beneath::open(&self.root, &found.ok_or(Refused::NotFound)?)
    }

    /// The caller's configuration where something was ordered for its next boot: that beats a file on disk.
    fn ordered(&self, name: &str, caller: Caller) -> Option<String> {
        Asked::of(name)?;
        let snapshot = self.inventory.load();
        snapshot.ordered(snapshot.by_addr(caller.addr?)?)?;
        self.generate(name, caller)
    }

    /// The configuration of the caller's loader, if that is what it asks for.
    fn generate(&self, name: &str, Caller { addr, road }: Caller) -> Option<String> {
        let asked = Asked::of(name)?;
        let snapshot = self.inventory.load();
        let there = |file: &str| {
            let open = |name: String| {
                let opened = beneath::open(&self.root, &name);
                opened.is_ok() || self.other_case(&name).is_ok()
            };
            normal(file).is_ok_and(open)
        };
        let request = Request { snapshot: &snapshot, addr, site: self.site, there: &there };
        if name == names::AUTOEXEC && !self.makes_autoexec(&request) {
            return None;
        }
        Some(request.plan(asked.whose)?.text(asked.loader, name, self.site, road))
    }

    /// Whether a script is made for who looks for one before DHCP tells it of any: that must not be another one.
    fn makes_autoexec(&self, request: &Request<'_>) -> bool {
        let host = request.host();
        let profile = request.snapshot.profile_file(host).filter(|profile| profile.boots());
        let told = |profile: &Profile| profile.dhcp.boot.get(Class::Ipxe).is_some();
        self.autoexec
            && profile.is_some_and(|profile| !told(profile))
            && host.is_none_or(|host| host.boot.get(Class::Ipxe).is_none())
            && !(request.there)(names::SCRIPT)
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
