//! What of the program outlives the daemon: its link and its maps, pinned as
//! `/sys/fs/bpf/netboot/<interface>-<network namespace>/<schema>/{link,EVENTS,…}`.
//!
//! The schema is a hash of the object file: who has the same understands the same maps. A directory without a link is half
//! made by a netboot that died in the middle of it; all that changes anything here is done under the lock of [`bpffs`].

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};

use super::bpffs::{self, DIRECTORY};
use super::loader::{OBJECT, chain, errno};
use crate::net::program::{self, Program};

/// The name of the link's pin.
const LINK: &str = "link";
/// The name of an empty directory that says that rxvlan was on before: there are no files on this file system.
const RXVLAN: &str = "rxvlan-was-on";
/// The network namespace of this very thread.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The kernel may take a program off a moment after its link is closed.
const TAKEN_OFF: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(5);

/// A map by its name.
pub(super) type Handle = (String, MapData);

/// Second handles of all maps: who takes a map takes the first.
///
/// # Errors
/// When there is no room for more files.
pub(super) fn handles(ebpf: &Ebpf) -> io::Result<Vec<Handle>> {
    let data = |map: &Map| match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd().try_clone_to_owned()),
        // The program has no others.
        _ => None,
    };
    // Names with a dot are the compiler's own (`.rodata`), and none of the BPF file system.
    let maps = ebpf.maps().filter(|(name, _)| !name.contains('.'));
    let of = |(name, map): (&str, &Map)| Some((name.to_owned(), data(map)?));
    maps.filter_map(of)
        .map(|(name, fd)| Ok((name, MapData::from_fd(fd?).map_err(io::Error::other)?)))
        .collect()
}

/// The hash of what both sides share (FNV-1a).
pub(super) fn schema() -> String {
    let hash = OBJECT.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// A link that somebody has pinned.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) link: FdLink,
    pub(super) program: Program,
    /// Where it was, with the maps.
    pub(super) place: PathBuf,
    pub(super) same_schema: bool,
    /// The driver was made to leave VLAN tags on, and is to be told to do as before by whoever takes the program off.
    pub(super) hides_tags: bool,
}

/// Where the pins of this interface are.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    /// The end of the names of all directories of this network namespace.
    namespace: String,
    index: u32,
}

impl Pins {
    /// Makes sure that something can be pinned.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn open(interface: &str, index: u32) -> Result<Self, String> {
        let pins = Self::of(interface, index)?;
        bpffs::ensure()?;
        Ok(pins)
    }

    /// The same where nothing is to be pinned; `None` where nothing can be.
    pub(super) fn look(interface: &str, index: u32) -> Option<Self> {
        bpffs::pinnable().ok()?;
        Self::of(interface, index).ok()
    }

    fn of(interface: &str, index: u32) -> Result<Self, String> {
        let inode = fs::metadata(NAMESPACE).map_err(|error| format!("look at {NAMESPACE}: {error}"))?.ino();
        let namespace = format!("-{inode}");
        let directory = Path::new(DIRECTORY).join(format!("{interface}{namespace}"));
        Ok(Self { directory, namespace, index })
    }

    /// The link that is attached to the interface, if it is pinned here. Interfaces are given new names; it is found under
    /// the old one.
    pub(super) fn find(&self) -> Option<Found> {
        let program = program::program(self.index)?;
        let own = entries(Path::new(DIRECTORY))
            .into_iter()
            .filter(|place| place.to_str().is_some_and(|name| name.ends_with(&self.namespace)));
        own.flat_map(|place| entries(&place)).find_map(|place| {
            let link = FdLink::from(PinnedLink::from_pin(place.join(LINK)).ok()?);
            if link.info().ok()?.program_id() != program.id {
                return None;
            }
            let same_schema = place.file_name().and_then(|name| name.to_str()) == Some(&schema());
            let hides_tags = place.join(RXVLAN).exists();
            Some(Found { link, program, place, same_schema, hides_tags })
        })
    }

    /// Pins link and maps, and removes all other pins of the interface and those at `before`. The link is given back, to be
    /// kept. `hides_tags`: see [`Found`].
    ///
    /// # Errors
    /// Why they could not be pinned. Nothing is pinned then, and the link is gone.
    pub(super) fn pin(
        &self,
        link: FdLink,
        maps: &[Handle],
        hides_tags: bool,
        before: Option<&Path>,
    ) -> Result<FdLink, String> {
        let _lock = bpffs::lock()?;
        let schema = schema();
        // Under another name until it is whole: the one before has the same schema as a rule.
        let new = self.directory.join(format!("{schema}-new"));
        remove(&new);
        let pinned = make(&new, link, maps, hides_tags);
        let others = entries(&self.directory).into_iter().chain(before.map(Path::to_owned));
        others.filter(|place| *place != new).for_each(|place| remove(&place));
        pinned
            .and_then(|link| {
                fs::rename(&new, self.directory.join(schema))
                    .map_err(|error| format!("rename {}: {error}", new.display()))?;
                Ok(link)
            })
            .inspect_err(|_| remove(&new))
    }

    /// Removes all pins of the interface, and those at `before`, and directories that are empty then.
    fn remove(&self, before: Option<&Path>) {
        match bpffs::lock() {
            Ok(_lock) => {
                let places = entries(&self.directory).into_iter().chain(before.map(Path::to_owned));
                places.for_each(|place| remove(&place));
                tidy(&self.directory);
            }
            Err(why) => {
                tracing::error!("pins of the XDP program stay in {}: {why}", self.directory.display());
            }
        }
    }

    /// Takes the program off the interface, and leaves nothing behind. `link` is `None` if that is closed already.
    pub(super) fn take_off(&self, link: Option<FdLink>, before: Option<&Path>) {
        self.remove(before);
        // The last that holds it: a pin that does so is let go by the kernel only later.
        drop(link);
        self.wait_until_off();
    }

    /// Waits until the interface has no program: another cannot be attached before.
    pub(super) fn wait_until_off(&self) {
        let deadline = Instant::now() + TAKEN_OFF;
        while program::program(self.index).is_some() && Instant::now() < deadline {
            std::thread::park_timeout(AGAIN);
        }
    }
}

/// Pins everything in a new directory; the link is the last, for without it the rest is nothing.
fn make(new: &Path, link: FdLink, maps: &[Handle], hides_tags: bool) -> Result<FdLink, String> {
    let marked = if hides_tags { new.join(RXVLAN) } else { new.to_owned() };
    fs::create_dir_all(&marked).map_err(|error| format!("make {}: {error}", marked.display()))?;
    for (name, map) in maps {
        map.pin(new.join(name)).map_err(|error| format!("pin the map {name}: {}", chain(&error)))?;
    }
    let link = link.pin(new.join(LINK)).map_err(|error| format!("pin the link: {}", chain(&error)))?;
    Ok(link.into())
}

/// Removes the pins of all interfaces that are gone, by themselves or with their namespace. Others are left alone,
/// whether their netboot lives or not.
pub(super) fn sweep() {
    let Ok(_lock) = bpffs::lock() else { return };
    for directory in entries(Path::new(DIRECTORY)) {
        for place in entries(&directory) {
            if is_dead(&place) {
                tracing::info!(
                    "removed the pins of an XDP program whose interface is gone: {}",
                    place.display()
                );
                remove(&place);
            }
        }
        tidy(&directory);
    }
}

/// Whether the link is attached to nothing any more. In doubt it is not.
fn is_dead(place: &Path) -> bool {
    match PinnedLink::from_pin(place.join(LINK)) {
        Ok(link) => FdLink::from(link).info().ok().and_then(|info| interface(info.id())) == Some(0),
        // Nobody can be in the middle of making it.
        Err(error) => errno(&error) == Some(rustix::io::Errno::NOENT.raw_os_error()),
    }
}

/// The interface of a link that this process has open, as `/proc` tells it; 0 if it is gone.
fn interface(link: u32) -> Option<u32> {
    let number = |text: &str, name: &str| -> Option<u32> {
        text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
    };
    entries(Path::new("/proc/self/fd")).into_iter().find_map(|file| {
        // Many files tell much about themselves.
        fs::read_link(&file).ok().filter(|target| target.to_string_lossy().contains("bpf"))?;
        let text = fs::read_to_string(Path::new("/proc/self/fdinfo").join(file.file_name()?)).ok()?;
        (number(&text, "link_id:") == Some(link)).then(|| number(&text, "ifindex:")).flatten()
    })
}

/// What is in a directory; nothing if it is not there.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Removes the directory of one schema, and that of its interface if it is empty then.
fn remove(place: &Path) {
    match fs::remove_dir_all(place) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::error!("remove {}: {error}", place.display()),
    }
    if let Some(directory) = place.parent() {
        tidy(directory);
    }
}

/// Removes the directory of an interface, and that of all, if they are empty.
fn tidy(directory: &Path) {
    let _ = fs::remove_dir(directory).and_then(|()| fs::remove_dir(DIRECTORY));
}

#[cfg(test)]
mod tests {
    use super::schema;

    #[test]
    fn the_schema_is_a_name_for_a_directory() {
        let schema = schema();
        assert_eq!(schema.len(), 16);
        assert!(
            schema.bytes().all(|byte| byte.is_ascii_hexdigit()) && schema.bytes().any(|byte| byte != b'0')
        );
    }
}
