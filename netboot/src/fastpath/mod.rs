//! The fast path: the XDP program that answers reserved machines in the kernel, and the daemon's side of it.
//!
//! Nothing depends on it: where it cannot run, the daemon answers everything and says why. It is given snapshots
//! and tells the timeline; it knows nothing of the DHCP server beyond the builder of replies.

pub mod captured;
pub mod entries;
pub mod sync;
pub mod trunk;

#[cfg(feature = "fastpath")]
mod attach;
#[cfg(feature = "fastpath")]
mod bpffs;
#[cfg(feature = "fastpath")]
mod capturing;
#[cfg(feature = "fastpath")]
mod events;
#[cfg(feature = "fastpath")]
mod heartbeat;
#[cfg(feature = "fastpath")]
pub mod loader;
#[cfg(feature = "fastpath")]
mod pins;
#[cfg(feature = "fastpath")]
mod place;
#[cfg(feature = "fastpath")]
mod predecessor;
#[cfg(feature = "fastpath")]
mod running;
#[cfg(feature = "fastpath")]
mod takeover;
#[cfg(feature = "fastpath")]
mod words;
#[cfg(feature = "fastpath")]
pub use bpffs::pinnable;
#[cfg(feature = "fastpath")]
pub use capturing::Captured;
#[cfg(feature = "fastpath")]
pub use running::{Fastpath, clear, is_left, probe, server};

#[cfg(not(feature = "fastpath"))]
mod absent;
#[cfg(not(feature = "fastpath"))]
pub use absent::{Captured, Fastpath, clear, is_left, pinnable, probe};

use std::io;
use std::time::Duration;

pub use sync::Changed;
pub use trunk::{Card, Tags, Trunk};

/// After this long without a heartbeat the program passes everything.
pub const GRACE: Duration = Duration::from_secs(3);

/// In the note about a program whose replies do not arrive.
pub const LOST: &str = "replies are lost";

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// On the socket buffer.
    Generic,
}

impl Mode {
    /// `native` or `generic`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Why there is no fast path, or why an update of it failed. The daemon serves all the same.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator wants none.
    #[error("switched off by the setting `xdp`")]
    Off,
    /// Another server gives out the addresses, which are in every reply of the program.
    #[error("XDP answers full DHCP only, and the setting `mode` is \"proxy\"")]
    Proxy,
    /// The program is not in this binary.
    #[error("this netboot was built without the fast path (cargo feature `fastpath`)")]
    Absent,
    /// The kernel wants a capability: CAP_NET_ADMIN for the network, CAP_PERFMON for a program that works with pointers
    /// as freely as this one, CAP_BPF for any.
    #[error(
        "{what} needs the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: run as root, or grant them"
    )]
    Permission {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not take the program.
    #[error("the kernel refused the XDP program: {why}")]
    Load {
        /// What it said, with the end of the verifier's log.
        why: String,
    },
    /// The interface does not take the program.
    #[error("{interface} does not take the XDP program in {} mode: {why}", mode.name())]
    Attach {
        /// The interface.
        interface: String,
        /// How it was to be attached.
        mode: Mode,
        /// What the kernel said, and what to do.
        why: String,
    },
    /// The interface is not one that the program can be attached to.
    #[error("XDP cannot be attached to {interface}: {why}")]
    Place {
        /// The interface.
        interface: String,
        /// Why, and what to do.
        why: String,
    },
    /// A map could not be opened or written.
    #[error("{what} the map {map} of the XDP program: {why}")]
    Map {
        /// `open`, `write` or the like.
        what: &'static str,
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        why: String,
    },
    /// The thread could not be made.
    #[error("start the thread of the fast path")]
    Thread(#[source] io::Error),
}
