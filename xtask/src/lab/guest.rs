//! The virtual blade's system: Debian's kernel, and an initramfs of busybox, the network driver and one script.
//!
//! Built without root; the packages come from `cargo xtask setup`.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::lab_dir;
use crate::packages::{BUSYBOX, KERNEL};

/// The program that the kernel starts.
const INIT: &str = include_str!("init.sh");
/// What it does with its lease.
const UDHCPC: &str = include_str!("udhcpc.sh");
/// The drivers it needs; what they depend on is found in the modules themselves.
const DRIVERS: [&str; 2] = ["virtio_pci", "virtio_net"];

/// The two files that a blade boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs, a gzipped cpio archive.
    pub initramfs: PathBuf,
}

/// The guest as it is on disk, `None` when it has not been built or was built from something else.
pub fn built() -> Option<Guest> {
    let guest = place().ok()?;
    guest.initramfs.exists().then_some(guest)
}

/// Builds the guest unless it is there.
///
/// # Errors
/// When its packages are not unpacked or a file cannot be written.
pub fn build() -> Result<Guest> {
    let guest = place()?;
    let dir = lab_dir().join("guest");
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let lock = File::create(dir.join("lock")).context("create the guest's lock file")?;
    lock.lock().context("lock the guest's directory")?;
    if guest.initramfs.exists() {
        return Ok(guest);
    }
    let tree = dir.join("tree");
    if tree.exists() {
        std::fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))?;
    }
    let busybox = BUSYBOX.file("bin/busybox")?;
    for directory in ["bin", "modules"] {
        std::fs::create_dir_all(tree.join(directory))?;
    }
    std::fs::copy(&busybox, tree.join("bin/busybox")).context("copy busybox")?;
    for (name, text) in [("init", INIT), ("udhcpc.sh", UDHCPC)] {
        let file = tree.join(name);
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755))?;
    }
    let mut order = String::new();
    for module in load_order(&module_files()?)? {
        std::fs::write(tree.join("modules").join(&module.name), &module.bytes)?;
        order.push_str(&module.name);
        order.push('\n');
    }
    std::fs::write(tree.join("modules/order"), order)?;
    pack(&busybox, &tree, &guest.initramfs)?;
    Ok(guest)
}

/// Where the guest's files are. The name holds a hash of all that it is made of.
fn place() -> Result<Guest> {
    let kernel = std::fs::read_dir(KERNEL.file("boot")?)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
        .context("the kernel package has no boot/vmlinuz-*: remove target/lab and run cargo xtask setup")?;
    let mut hasher = DefaultHasher::new();
    (INIT, UDHCPC, DRIVERS, &kernel, BUSYBOX.file("bin/busybox")?.metadata()?.len()).hash(&mut hasher);
    let initramfs = lab_dir().join(format!("guest/initramfs-{:016x}.cpio.gz", hasher.finish()));
    Ok(Guest { kernel, initramfs })
}

/// Packs a tree into a gzipped cpio archive in the format that the kernel reads.
fn pack(busybox: &Path, tree: &Path, archive: &Path) -> Result<()> {
    let half = archive.with_extension("half");
    let out = File::create(&half).with_context(|| format!("create {}", half.display()))?;
    let line = "set -o pipefail; cd \"$1\" && \"$0\" find . | \"$0\" cpio -o -H newc | \"$0\" gzip -1";
    let output =
        Command::new(busybox).args(["sh", "-c", line]).arg(busybox).arg(tree).stdout(out).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("packing {} ended with {}\n{said}", archive.display(), output.status);
    }
    std::fs::rename(&half, archive).with_context(|| format!("rename to {}", archive.display()))
}

/// A kernel module, uncompressed.
struct Module {
    name: String,
    bytes: Vec<u8>,
}

/// Every module file of the kernel package.
fn module_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let modules = ["lib/modules", "usr/lib/modules"].iter().find_map(|path| KERNEL.file(path).ok());
    let mut directories = vec![modules.context("the kernel package has no lib/modules")?];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// The drivers with all they depend on, each after what it needs. A driver without a file is built into the kernel.
fn load_order(files: &[PathBuf]) -> Result<Vec<Module>> {
    fn add(name: &str, files: &[PathBuf], order: &mut Vec<Module>) -> Result<()> {
        if order.iter().any(|module| stem(&module.name) == stem(name)) {
            return Ok(());
        }
        let is_it = |path: &&PathBuf| {
            path.file_name().is_some_and(|file| stem(&file.to_string_lossy()) == stem(name))
        };
        let Some(file) = files.iter().find(is_it) else { return Ok(()) };
        let bytes = uncompressed(file)?;
        for needed in dependencies(&bytes) {
            add(&needed, files, order)?;
        }
        order.push(Module { name: format!("{}.ko", stem(name)), bytes });
        Ok(())
    }
    let mut order = Vec::new();
    for driver in DRIVERS {
        add(driver, files, &mut order)?;
    }
    Ok(order)
}

/// A module's name, which its file may write with `-` for `_` and with suffixes.
fn stem(file: &str) -> String {
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// What a module says it depends on: `depends=a,b` among the strings of its section `.modinfo`.
fn dependencies(module: &[u8]) -> Vec<String> {
    let found = module.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(found.unwrap_or_default()).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A module's bytes; Debian compresses them in newer releases.
fn uncompressed(file: &Path) -> Result<Vec<u8>> {
    let applet = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xzcat",
        Some("gz") => "zcat",
        _ => return std::fs::read(file).with_context(|| format!("read {}", file.display())),
    };
    let output = Command::new(BUSYBOX.file("bin/busybox")?).arg(applet).arg(file).output()?;
    if !output.status.success() {
        bail!("{applet} {} ended with {}", file.display(), output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::{dependencies, stem};

    #[test]
    fn a_module_says_what_it_needs() {
        assert_eq!(
            dependencies(b"\x7fELF\0license=GPL\0depends=net_failover,virtio\0name=x\0"),
            ["net_failover", "virtio"]
        );
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert!(dependencies(b"no strings").is_empty());
    }

    #[test]
    fn a_module_has_one_name_in_all_spellings() {
        for file in ["virtio-rng.ko", "virtio_rng.ko.xz", "virtio-rng"] {
            assert_eq!(stem(file), "virtio_rng");
        }
    }
}
