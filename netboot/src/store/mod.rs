//! What has to survive a crash: keys and values, written whole or not at all.
//!
//! Knows nothing of leases: a key is a name, a value is bytes. [`Redb`] keeps them in a file, [`Memory`] as long as
//! the process lives; [`Writer`] makes one commit for all who wait.

mod memory;
mod redb;
mod writer;

use std::path::PathBuf;

pub use self::memory::Memory;
pub use self::redb::{Beside, Fault, Reader, Redb, fault, identity, path_in};
pub use self::writer::{Writer, Written};

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key has this value from now on.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
    },
    /// The key is gone, if it was there.
    Delete {
        /// The key.
        key: String,
    },
}

/// A place for keys and values.
pub trait Store: Send + 'static {
    /// Everything that is there, in the order of the keys.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&self) -> Result<Vec<(String, Vec<u8>)>, Error>;

    /// Makes all the changes, in their order, or none. They are on stable storage when this returns.
    ///
    /// # Errors
    /// When they could not be written. A later call may succeed.
    fn commit(&mut self, changes: &[Change]) -> Result<(), Error>;
}

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error(
        "{path} is in use by another netboot; stop that one, or give this one a state directory of its own with --state"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("{what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database could not do it.
    #[error("{what} {path}: {why}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not, in the words of the database.
        why: String,
    },
}
