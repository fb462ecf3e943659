//! Names to contents, for TFTP and HTTP alike: a file below `<data>/tftp`, else one that is generated.
//!
//! Nothing outside that directory is ever opened: the kernel resolves the name beneath it (openat2) and refuses what leads
//! out. Only regular files are served; opening never waits for anybody. A file on disk beats a generated one.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::inventory::Snapshot;

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
}

/// A file's content, as it was when it was opened: replacing the file on disk does not change it.
#[derive(Debug)]
pub enum Content {
    /// From disk.
    Disk {
        /// Open for reading, at its beginning.
        file: File,
        /// Its size in bytes.
        size: u64,
        /// When it was last changed.
        modified: SystemTime,
    },
    /// Made for the request.
    Generated(Vec<u8>),
}

impl Content {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Disk { size, .. } => *size,
            Self::Generated(bytes) => bytes.len() as u64,
        }
    }
}

/// Why a name is not served.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    /// There is no such file.
    #[error("not found")]
    NotFound,
    /// The name has a backslash or a control character, or is empty or too long.
    #[error("not a file name that is served")]
    Name,
    /// The name, or a symbolic link on its way, leads out of the directory.
    #[error("leads out of the tftp directory (an absolute link counts as out)")]
    Outside,
    /// A directory, FIFO, socket or device.
    #[error("not a regular file")]
    NotRegular,
    /// The server itself may not read it.
    #[error("permission denied on the server")]
    Denied,
    /// The disk failed.
    #[error("cannot be read on the server: {0}")]
    Io(#[source] std::io::Error),
}

impl Files {
    /// The files of a data directory; `server` and `http_port` go into generated ones.
    pub fn new(data: &Path, inventory: Arc<ArcSwap<Snapshot>>, server: Ipv4Addr, http_port: u16) -> Self {
        Self { root: data.join("tftp").into(), inventory, server, http_port }
    }

    /// Opens what a client calls `name`; leading and doubled slashes mean nothing.
    ///
    /// May wait for the disk: not for use on a thread that others depend on.
    ///
    /// # Errors
    /// Why it is not served.
    pub fn open(&self, name: &str) -> Result<Content, NotServed> {
        let name = normal(name)?;
        match self.open_disk(&name) {
            Err(NotServed::NotFound) => {
                self.generate(&name).map(Content::Generated).ok_or(NotServed::NotFound)
            }
            other => other,
        }
    }

    fn open_disk(&self, name: &str) -> Result<Content, NotServed> {
        // The directory may be replaced or be a link itself: that is the operator's business, so it is opened each time.
        let root =
            rustix::fs::open(&*self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(refused)?;
        // Without NONBLOCK a FIFO would hang until somebody writes to it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        let file = loop {
            match rustix::fs::openat2(
                &root,
                OsStr::from_bytes(name.as_bytes()),
                flags,
                Mode::empty(),
                resolve,
            ) {
                // Something was renamed meanwhile, and the kernel cannot tell whether the name led out.
                Err(Errno::AGAIN | Errno::INTR) if tries < 8 => tries += 1,
                other => break File::from(other.map_err(refused)?),
            }
        };
        let facts = file.metadata().map_err(NotServed::Io)?;
        if !facts.is_file() {
            return Err(NotServed::NotRegular);
        }
        // With NONBLOCK a read through io_uring may fail where it should wait for the disk.
        rustix::fs::fcntl_setfl(&file, OFlags::empty()).map_err(|error| NotServed::Io(error.into()))?;
        let modified = facts.modified().map_err(NotServed::Io)?;
        Ok(Content::Disk { file, size: facts.len(), modified })
    }

    fn generate(&self, name: &str) -> Option<Vec<u8>> {
        let channel = name.strip_prefix(PXELINUX)?;
        let used = CHANNELS.contains(&channel)
            || self.inventory.load().hosts().iter().any(|host| host.channel == channel);
        (used && plain(channel)).then(|| pxelinux(channel, self.server, self.http_port).into_bytes())
    }
}

/// A channel whose name can stand in a file name and in pxelinux's configuration.
fn plain(channel: &str) -> bool {
    !channel.starts_with(['.', '-'])
        && channel.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The path below the root; whether it exists is another question.
fn normal(name: &str) -> Result<String, NotServed> {
    if name.contains('\\') || name.chars().any(char::is_control) {
        return Err(NotServed::Name);
    }
    let parts: Vec<_> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(NotServed::Outside);
    }
    if parts.is_empty() { Err(NotServed::Name) } else { Ok(parts.join("/")) }
}

fn refused(error: Errno) -> NotServed {
    match error {
        Errno::NOENT | Errno::NOTDIR => NotServed::NotFound,
        Errno::XDEV | Errno::LOOP => NotServed::Outside,
        Errno::NAMETOOLONG => NotServed::Name,
        // A socket, or a device without a driver.
        Errno::NXIO | Errno::NODEV => NotServed::NotRegular,
        Errno::ACCESS | Errno::PERM => NotServed::Denied,
        error => NotServed::Io(error.into()),
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
