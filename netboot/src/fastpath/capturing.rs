//! Opens the ring buffer in which a running program puts what it has answered, and tells it to. Another process than the
//! daemon: it finds the maps by their pins.
//!
//! The program is told anew all the time, and for a few seconds only, so that a capture that dies is no load for long.

use std::fmt;
use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aya::maps::{Array, Map, MapData, MapError, RingBuf};
use netboot_ebpf::abi::map::{CAPTURE, CAPTURED};
use rustix::fs::statfs;
use rustix::io::Errno;

use super::bpffs::DIRECTORY;
use super::captured::{Missing, Record};
use super::heartbeat::monotonic_ns;
use super::loader::{chain, errno};

/// Where the kernel's file system of pins is mounted.
const FILE_SYSTEM: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of linux/magic.h.
const MAGIC: i64 = 0xcafe_4a11;
/// For how long the program is told.
const ON_FOR: Duration = Duration::from_secs(3);
/// More records than have room in the ring buffer.
const LEFT_OVER: usize = 100_000;

/// The ring buffer of the program that answers on an interface. Dropped, the program puts nothing more into it.
pub struct Captured {
    interface: String,
    until: Array<MapData, u64>,
    ring: RingBuf<MapData>,
    /// The pin of the ring buffer, and which of the files that had this name it is.
    pin: PathBuf,
    inode: u64,
    /// From the monotonic clock to the time since 1970.
    offset_ns: u64,
    /// Nobody else can have this name as long as it is open.
    _only_one: UnixListener,
}

impl Captured {
    /// Opens it. Nothing is captured before [`Self::keep_on`].
    ///
    /// # Errors
    /// Why there is none.
    pub fn open(interface: &str) -> Result<Self, Missing> {
        let pin = find(interface)?;
        let inode = fs::metadata(&pin).map_err(|error| refused(&pin, &error))?.st_ino();
        let ring: RingBuf<_> = map(&pin)?.try_into().map_err(|error| failed(&pin, &error))?;
        let until: Array<_, u64> =
            map(&pin.with_file_name(CAPTURE))?.try_into().map_err(|error| failed(&pin, &error))?;
        let only_one = only_one(interface)?;
        let mut captured = Self {
            interface: interface.to_owned(),
            until,
            ring,
            pin,
            inode,
            offset_ns: 0,
            _only_one: only_one,
        };
        // What an earlier capture did not take.
        for _ in 0..LEFT_OVER {
            if captured.ring.next().is_none() {
                break;
            }
        }
        Ok(captured)
    }

    /// Tells the program to go on for a few seconds.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn keep_on(&mut self) -> Result<(), Missing> {
        let now_ns = monotonic_ns();
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.offset_ns = nanos(wall).wrapping_sub(now_ns);
        self.tell(now_ns.saturating_add(nanos(ON_FOR)))
    }

    /// The next packet, its time being that since 1970; `None` when there is none now.
    pub fn next<T>(&mut self, read: impl FnOnce(Record<'_>) -> T) -> Option<T> {
        loop {
            let record = self.ring.next()?;
            if let Some(record) = Record::parse(&record) {
                return Some(read(Record { at_ns: record.at_ns.wrapping_add(self.offset_ns), ..record }));
            }
        }
    }

    /// Whether it is still the ring buffer of the program that answers: a netboot that starts anew has another.
    pub fn is_current(&self) -> bool {
        find(&self.interface).is_ok_and(|pin| pin == self.pin)
            && fs::metadata(&self.pin).is_ok_and(|found| found.st_ino() == self.inode)
    }

    fn tell(&mut self, until_ns: u64) -> Result<(), Missing> {
        self.until.set(0, until_ns, 0).map_err(|error| failed(&self.pin.with_file_name(CAPTURE), &error))
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captured").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // If that fails it ends by itself.
        let _ = self.tell(0);
    }
}

/// The pin of the ring buffer of the program on this interface, below the directory of its version.
fn find(interface: &str) -> Result<PathBuf, Missing> {
    let root = Path::new(FILE_SYSTEM);
    if !statfs(root).is_ok_and(|found| found.f_type == MAGIC) {
        return Err(Missing::NoFileSystem(root.to_owned()));
    }
    let namespace = fs::metadata("/proc/thread-self/ns/net").map_err(|error| refused(root, &error))?.st_ino();
    let directory = Path::new(DIRECTORY).join(format!("{interface}-{namespace}"));
    let versions = match fs::read_dir(&directory) {
        Ok(versions) => versions,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Missing::NoProgram(interface.to_owned()));
        }
        Err(error) => return Err(refused(&directory, &error)),
    };
    // While one takes over from another there are two, of which one is being made.
    let whole =
        versions.flatten().filter(|version| !version.file_name().as_encoded_bytes().ends_with(b"-new"));
    let pins = whole.map(|version| version.path().join(CAPTURED));
    let newest = pins.filter_map(|pin| Some((fs::metadata(&pin).ok()?.st_ctime(), pin))).max();
    newest.map(|(_, pin)| pin).ok_or_else(|| Missing::OtherVersion(interface.to_owned()))
}

/// A name of this network namespace that goes with the process.
fn only_one(interface: &str) -> Result<UnixListener, Missing> {
    let name = format!("netboot-capture-{interface}");
    SocketAddr::from_abstract_name(&name).and_then(|addr| UnixListener::bind_addr(&addr)).map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            Missing::Taken(interface.to_owned())
        } else {
            Missing::Failed { what: format!("take the name @{name}"), why: error.to_string() }
        }
    })
}

fn map(pin: &Path) -> Result<Map, Missing> {
    MapData::from_pin(pin).and_then(Map::from_map_data).map_err(|error| failed(pin, &error))
}

fn failed(pin: &Path, error: &MapError) -> Missing {
    match errno(error).map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => Missing::Denied(pin.to_owned()),
        _ => Missing::Failed { what: format!("open {}", pin.display()), why: chain(error) },
    }
}

fn refused(path: &Path, error: &io::Error) -> Missing {
    if error.kind() == io::ErrorKind::PermissionDenied {
        Missing::Denied(path.to_owned())
    } else {
        Missing::Failed { what: format!("read {}", path.display()), why: error.to_string() }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
