//! Names to contents, for TFTP and HTTP alike: a file below `<data>/tftp`, else one that is generated.
//!
//! Nothing outside that directory is ever opened: the kernel resolves the name beneath it (openat2) and refuses what leads
//! out. Only regular files are served; opening never waits for anybody. A file on disk beats a generated one.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::beneath::{self, Opened, Refused, normal};
use crate::inventory::Snapshot;
use crate::inventory::edit::is_channel;

/// Where pxelinux looks for its configuration.
const PXELINUX: &str = "pxelinux.cfg/";
/// Channels that work with nothing but the seed's files.
const CHANNELS: [&str; 2] = ["stable", "beta"];

/// The files that are served. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Files {
    root: Arc<Path>,
    inventory: Arc<ArcSwap<Snapshot>>,
    server: Ipv4Addr,
    http_port: u16,
    ignore_case: bool,
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
        Self { root: data.join("tftp").into(), inventory, server, http_port, ignore_case: false }
    }

    /// The same, but where a name is not there one that differs in upper and lower case (ASCII) will do, and `\\` is `/`: what
    /// comes from Windows asks so.
    #[must_use]
    pub fn ignoring_case(self, ignore_case: bool) -> Self {
        Self { ignore_case, ..self }
    }

    /// Opens what a client calls `name`; leading and doubled slashes mean nothing.
    ///
    /// May wait for the disk: not for use on a thread that others depend on.
    ///
    /// # Errors
    /// Why it is not served.
    pub fn open(&self, name: &str) -> Result<Content, Refused> {
        let name = if self.ignore_case { normal(&name.replace('\\', "/"))? } else { normal(name)? };
        match beneath::open(&self.root, &name) {
            Ok(opened) => Ok(Content::Disk(opened)),
            Err(Refused::NotFound) => self.other(&name),
            Err(refused) => Err(refused),
        }
    }

    /// What is served where no file has this very name.
    fn other(&self, name: &str) -> Result<Content, Refused> {
        if let Some(text) = self.generate(name) {
            return Ok(Content::Generated(text));
        }
        let found = if self.ignore_case { beneath::find(&self.root, name)? } else { None };
        beneath::open(&self.root, &found.ok_or(Refused::NotFound)?).map(Content::Disk)
    }

    fn generate(&self, name: &str) -> Option<Vec<u8>> {
        let channel = name.strip_prefix(PXELINUX)?;
        let used =
            CHANNELS.contains(&channel) || self.inventory.load().hosts().any(|host| host.channel == channel);
        (used && is_channel(channel)).then(|| pxelinux(channel, self.server, self.http_port).into_bytes())
    }
}

/// The configuration of a channel. File names have no directory: pxelinux looks for them where it came from itself.
fn pxelinux(channel: &str, server: Ipv4Addr, http_port: u16) -> String {
    let mut text = format!("# Made by netboot. A file tftp/{PXELINUX}{channel} takes its place.\n");
    let _ = write!(
        text,
        "DEFAULT {channel}\nPROMPT 0\n\nLABEL {channel}\n  KERNEL coreos_{channel}_pxe.vmlinuz\n  \
         APPEND initrd=coreos_{channel}_pxe_image.cpio.gz console=ttyS1,19200n8 console=tty0 coreos.autologin=ttyS1 \
         coreos.autologin=tty0 cloud-config-url=http://{server}:{http_port}\n"
    );
    text
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
