//! Opens files below a directory and never one outside it: the one place through which anything is read for a client.
//!
//! The kernel walks the path (`openat2`, beneath, no magic links), so no symbolic link and no race leads out. Regular
//! files only; nothing here writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A regular file, open for reading, with what was true when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// The file, at its beginning.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last changed.
    pub modified: SystemTime,
    /// Its number in its file system.
    pub inode: u64,
}

impl Opened {
    /// Whether it is still what was opened: nobody has written into it since.
    pub fn is_unchanged(&self) -> bool {
        let now = self.file.metadata();
        now.is_ok_and(|now| now.len() == self.size && now.modified().is_ok_and(|time| time == self.modified))
    }
}

/// Why a name is not opened.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such file.
    #[error("not found")]
    NotFound,
    /// The name is empty or too long.
    #[error("not a file name")]
    Name,
    /// The name, or a symbolic link on its way, leads out of the directory.
    #[error("leads out of its directory (an absolute link counts as out)")]
    Outside,
    /// A directory, FIFO, socket or device.
    #[error("not a regular file")]
    NotRegular,
    /// The server itself may not read it.
    #[error("permission denied on the server")]
    Denied,
    /// The disk failed.
    #[error("cannot be read on the server: {0}")]
    Io(#[source] io::Error),
}

/// Opens `name` below `root`. The directory itself may be replaced or be a link: that is the operator's business, so
/// it is looked up each time.
///
/// # Errors
/// Why it is not opened.
pub fn open(root: &Path, name: &str) -> Result<Opened, Refused> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = root.map_err(refused)?;
    // Without NONBLOCK a FIFO would hang until somebody writes to it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    let file = loop {
        match rustix::fs::openat2(&root, name, flags, Mode::empty(), resolve) {
            // Something was renamed meanwhile, and the kernel cannot tell whether the name led out.
            Err(Errno::AGAIN | Errno::INTR) if tries < 8 => tries += 1,
            other => break File::from(other.map_err(refused)?),
        }
    };
    let facts = file.metadata().map_err(Refused::Io)?;
    if !facts.is_file() {
        return Err(Refused::NotRegular);
    }
    // With NONBLOCK a read through io_uring may fail where it should wait for the disk.
    rustix::fs::fcntl_setfl(&file, OFlags::empty()).map_err(|error| Refused::Io(error.into()))?;
    let modified = facts.modified().map_err(Refused::Io)?;
    Ok(Opened { file, size: facts.len(), modified, inode: facts.ino() })
}

/// The path below a directory that a client's name means: leading and doubled slashes mean nothing. Whether it exists is another
/// question.
///
/// # Errors
/// When it is no name, or leads out.
pub fn normal(name: &str) -> Result<String, Refused> {
    if name.contains('\\') || name.chars().any(char::is_control) {
        return Err(Refused::Name);
    }
    let parts: Vec<_> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(Refused::Outside);
    }
    if parts.is_empty() { Err(Refused::Name) } else { Ok(parts.join("/")) }
}

/// The name below `root` that is this one but for upper and lower case (ASCII), part by part: the very same if it is there, else
/// the first in the order of bytes. `None`: there is none.
///
/// # Errors
/// Why a directory on the way is not read.
pub fn find(root: &Path, name: &str) -> Result<Option<String>, Refused> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = root.map_err(refused)?;
    let mut found = String::new();
    for part in name.split('/') {
        let place = if found.is_empty() { "." } else { &found };
        let directory =
            match rustix::fs::openat2(&root, place, flags, Mode::empty(), resolve).map_err(refused) {
                Ok(directory) => directory,
                Err(Refused::NotFound) => return Ok(None),
                Err(refused) => return Err(refused),
            };
        let mut like: Vec<String> = Vec::new();
        for entry in Dir::read_from(&directory).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            if let Ok(entry) = entry.file_name().to_str()
                && entry.eq_ignore_ascii_case(part)
            {
                like.push(entry.to_owned());
            }
        }
        like.sort_unstable_by_key(|entry| (entry != part, entry.clone()));
        let Some(entry) = like.into_iter().next() else { return Ok(None) };
        if !found.is_empty() {
            found.push('/');
        }
        found.push_str(&entry);
    }
    Ok(Some(found))
}

fn refused(error: Errno) -> Refused {
    match error {
        Errno::NOENT | Errno::NOTDIR => Refused::NotFound,
        Errno::XDEV | Errno::LOOP => Refused::Outside,
        Errno::NAMETOOLONG | Errno::INVAL => Refused::Name,
        // A socket, or a device without a driver.
        Errno::NXIO | Errno::NODEV => Refused::NotRegular,
        Errno::ACCESS | Errno::PERM => Refused::Denied,
        error => Refused::Io(error.into()),
    }
}
