//! The BPF file system: what is pinned in it outlives this process. Found, mounted where it is not, and locked while
//! somebody changes what is below [`DIRECTORY`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, access, flock, statfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::geteuid;

/// Where everybody mounts it.
const ROOT: &str = "/sys/fs/bpf";
/// What is netboot's in it.
pub(super) const DIRECTORY: &str = "/sys/fs/bpf/netboot";
/// `BPF_FS_MAGIC` of linux/magic.h.
const MAGIC: u64 = 0xcafe_4a11;
/// Nobody holds the lock longer than a few system calls take.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(5);

/// Whether something can be pinned, or why not and what to do. Changes nothing.
///
/// # Errors
/// Why not.
pub fn pinnable() -> Result<(), String> {
    if !mounted() {
        return Err(format!("no BPF file system is mounted at {ROOT}: mount -t bpf bpf {ROOT}"));
    }
    access(ROOT, Access::WRITE_OK).map_err(|error| refused(&error.into()))
}

/// Makes what is needed to pin something: the mount, if there is none and this process may, and the directory.
///
/// # Errors
/// Why it cannot be had, and what to do.
pub(super) fn ensure() -> Result<(), String> {
    if !mounted() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("bpf", ROOT, "bpf", flags, c"mode=700").map_err(|error| {
            format!(
                "no BPF file system is mounted at {ROOT}, and it cannot be mounted ({error}): run `mount -t bpf bpf {ROOT}` as root"
            )
        })?;
        tracing::info!("mounted the BPF file system at {ROOT}");
        if in_a_mount_namespace() == Some(true) {
            tracing::warn!(
                "this mount namespace is not the machine's: what is pinned is gone with it; run `mount -t bpf bpf {ROOT}` outside before netboot starts"
            );
        }
    }
    match fs::DirBuilder::new().mode(0o700).create(DIRECTORY) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => trusted(),
        Err(error) => Err(refused(&error)),
    }
}

/// The lock of everything below [`DIRECTORY`], until dropped. It is on the file system itself, for the directory comes and
/// goes.
///
/// # Errors
/// When somebody else keeps it, or it cannot be had at all.
pub(super) fn lock() -> Result<File, String> {
    let root = File::open(ROOT).map_err(|error| refused(&error))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(&root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(root),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::park_timeout(AGAIN),
            Err(error) => return Err(format!("lock {ROOT}: {error}; `fuser {ROOT}` shows who has it")),
        }
    }
}

fn mounted() -> bool {
    // The type is of another width on other machines.
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "a magic number of 32 bits")]
    statfs(ROOT).is_ok_and(|found| found.f_type as u64 & 0xffff_ffff == MAGIC)
}

fn refused(error: &io::Error) -> String {
    format!("{ROOT} cannot be written ({error}): run as root")
}

/// A file system mounted without `mode=700` lets anybody make that directory.
fn trusted() -> Result<(), String> {
    let found = fs::symlink_metadata(DIRECTORY).map_err(|error| refused(&error))?;
    if found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(format!("{DIRECTORY} is not netboot's own: find out who made it, then rm -r {DIRECTORY}"))
}

/// Whether mounts made here are gone with some namespace; `None` if that cannot be told.
fn in_a_mount_namespace() -> Option<bool> {
    let of = |process: &str| fs::read_link(Path::new("/proc").join(process).join("ns/mnt")).ok();
    Some(of("self")? != of("1")?)
}
