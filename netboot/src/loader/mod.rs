//! Configurations of boot loaders, made from a machine's profile: pxelinux, GRUB and iPXE are told the same.
//!
//! Pure: what a name asks for (`names`), what the machine is to do (`plan`), and the text that tells it to a loader. A
//! loader that cannot do it says so on the console and tries again: nobody walks to a machine that waits.

pub mod grub;
pub mod ipxe;
pub mod names;
pub mod plan;
pub mod pxelinux;

use std::net::Ipv4Addr;
use std::path::Path;

use crate::config::boot;

pub use names::{Asked, Loader, Whose};
pub use plan::Request;

/// How long a loader waits before it tries again, seconds.
const PAUSE_SECS: u16 = 10;

/// By which road a loader fetches its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// TFTP.
    Tftp,
    /// HTTP.
    Http,
}

/// Where this server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its address.
    pub server: Ipv4Addr,
    /// The port of its HTTP.
    pub http_port: u16,
}

impl Site {
    /// The beginning of its URLs, without the last slash.
    fn http(self) -> String {
        let Self { server, http_port } = self;
        format!("http://{server}:{http_port}")
    }
}

/// What a machine is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What there is; the first counts unless somebody chooses.
    pub entries: Vec<Entry>,
    /// They are shown.
    pub menu: Option<Shown>,
    /// Programs in `tftp/` for what a loader cannot do itself.
    pub programs: Programs,
}

/// One thing that a machine can boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The profile.
    pub name: String,
    /// What it means.
    pub task: Task,
}

/// What stands round a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Over it.
    pub title: String,
    /// When the first entry is taken; 0: never.
    pub timeout_secs: u16,
}

/// Programs below `tftp/`, as far as they are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// iPXE for a BIOS.
    pub ipxe_bios: Option<&'static str>,
    /// iPXE for UEFI on x64.
    pub ipxe_efi: Option<&'static str>,
    /// pxelinux can show a menu.
    pub menu: bool,
}

/// What to do, with every variable filled in. Files are paths below `tftp/` or URLs, and such as loaders can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Boot Linux.
    Linux {
        /// The kernel.
        kernel: String,
        /// What it finds in memory.
        initrds: Vec<String>,
        /// Its command line, in one line.
        cmdline: String,
    },
    /// Run this script of iPXE's.
    Script(Vec<String>),
    /// Load this and leave everything to it.
    Chain(String),
    /// Boot the disk.
    LocalDisk,
    /// Say this, and look again later.
    Wait(String),
}

impl Plan {
    /// Whether a machine that has got this file whole has got all that it boots. What cannot be seen from here, as a file of
    /// another server, it is believed to get.
    pub fn ends_with(&self, name: &str) -> bool {
        let asked = Asked::of(name).map(|asked| asked.loader);
        self.entries.iter().any(|entry| match &entry.task {
            Task::Linux { kernel, initrds, .. } => {
                let last = initrds.last().unwrap_or(kernel);
                if boot::is_url(last) { asked.is_some() } else { relative(last) == name }
            }
            Task::Chain(file) if !boot::is_url(file) => relative(file) == name,
            // Another loader loads iPXE first, which asks again.
            Task::Chain(_) | Task::Script(_) => asked == Some(Loader::Ipxe),
            Task::LocalDisk => asked.is_some(),
            Task::Wait(_) => false,
        })
    }

    /// The configuration for a loader that has asked for `name`, and fetches its files by this road.
    pub fn text(&self, loader: Loader, name: &str, site: Site, road: Road) -> String {
        match loader {
            Loader::Pxelinux => pxelinux::text(self, name),
            Loader::Grub => grub::text(self, name, site, road),
            Loader::Ipxe => ipxe::text(self, site),
        }
    }
}

/// Why iPXE's work is not done by another loader.
fn lacks(program: &str, entry: &str) -> String {
    format!("the profile {entry} needs iPXE: put {program} into tftp/")
}

/// Whether a file's name ends like this.
fn is_kind(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|end| end.eq_ignore_ascii_case(extension))
}

/// A path without what means nothing at its beginning.
fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

#[cfg(test)]
mod tests;
