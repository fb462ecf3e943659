//! Debian packages that are unpacked below `target/lab` and never installed: what a virtual blade is made of, and a client.
//!
//! Installing a kernel or GRUB would bring boot loader hooks with it, busybox-static would replace the machine's own,
//! dhcpcd would be found by whatever configures the machine's interfaces, and cloud-init would configure the machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::lab::run;
use crate::lab_dir;

/// A package that is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// The name by which it is asked for.
    pub name: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// It holds nothing itself and depends on the package that does.
    pub meta: bool,
}

/// The kernel of the virtual blades.
pub const KERNEL: Package = Package {
    name: "linux-image-cloud-amd64",
    why: "the kernel of the virtual blades, with virtio-net",
    meta: true,
};
/// The user land of the virtual blades.
pub const BUSYBOX: Package =
    Package { name: "busybox-static", why: "the user land of the virtual blades", meta: false };
/// The BIOS boot loader.
pub const PXELINUX: Package =
    Package { name: "pxelinux", why: "pxelinux.0, the boot loader of the virtual blades", meta: false };
/// The boot loader's core library.
pub const SYSLINUX: Package =
    Package { name: "syslinux-common", why: "ldlinux.c32, which pxelinux.0 loads first", meta: false };

/// The firmware of virtual blades with UEFI.
pub const OVMF: Package =
    Package { name: "ovmf", why: "the firmware of the virtual blades with UEFI, 8 MB", meta: false };
/// A boot loader for UEFI.
pub const IPXE: Package =
    Package { name: "ipxe", why: "snponly.efi, a boot loader of the virtual blades with UEFI", meta: false };
/// Another boot loader for UEFI.
pub const GRUB: Package = Package {
    name: "grub-efi-amd64-signed",
    why: "grubnetx64.efi, a boot loader of the virtual blades with UEFI",
    meta: false,
};
/// A DHCP client that would serve the whole machine if it were installed.
pub const DHCPCD: Package = Package { name: "dhcpcd-base", why: "a DHCP client in the tests", meta: false };
/// Who reads what HTTP serves; installed, it would configure the machine at its next boot.
pub const CLOUD_INIT: Package =
    Package { name: "cloud-init", why: "its data source NoCloud is a client in the tests", meta: false };

/// Debian's installer as it is booted from the network.
pub const INSTALLER: Package = Package {
    name: "debian-installer-12-netboot-amd64",
    why: "Debian's installer, which fetches its preseed in the tests, 133 MB",
    meta: false,
};

impl Package {
    /// Every package that is unpacked.
    pub const ALL: [Self; 10] =
        [KERNEL, BUSYBOX, PXELINUX, SYSLINUX, OVMF, IPXE, GRUB, DHCPCD, CLOUD_INIT, INSTALLER];

    /// Where its files are, once it is unpacked.
    pub fn dir(self) -> PathBuf {
        lab_dir().join("packages").join(self.name)
    }

    /// The path of one of its files.
    ///
    /// # Errors
    /// When it is not there: `cargo xtask setup` has not run.
    pub fn file(self, path: &str) -> Result<PathBuf> {
        let file = self.dir().join(path);
        if !file.exists() {
            bail!("{} is missing: run cargo xtask setup", file.display());
        }
        Ok(file)
    }

    /// Downloads and unpacks it with apt, as any user.
    ///
    /// # Errors
    /// When apt does not know it or cannot download it; the error has what apt said.
    pub fn unpack(self) -> Result<()> {
        let real = if self.meta { self.depends_on()? } else { self.name.to_owned() };
        let work = lab_dir().join("packages").join(format!(".{}-{}", self.name, std::process::id()));
        let files = work.join("files");
        std::fs::create_dir_all(&files).with_context(|| format!("create {}", files.display()))?;
        run(Command::new("apt-get").args(["download", &real]).current_dir(&work))?;
        let archive = std::fs::read_dir(&work)?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("apt-get download {real} left no file in {}", work.display()))?;
        run(Command::new("dpkg").arg("-x").arg(&archive).arg(&files))?;
        let home = self.dir();
        if home.exists() {
            std::fs::remove_dir_all(&home).with_context(|| format!("remove {}", home.display()))?;
        }
        // Whole or not at all: a run that is stopped half-way leaves nothing that looks finished.
        std::fs::rename(&files, &home).with_context(|| format!("rename to {}", home.display()))?;
        std::fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))
    }

    /// The package behind a meta package: its first dependency of the same family.
    fn depends_on(self) -> Result<String> {
        let text = run(Command::new("apt-cache").args(["depends", "--important", self.name]))?;
        first_dependency(&text)
            .with_context(|| format!("apt-cache names no package behind {}; it printed: {text}", self.name))
    }
}

/// The first `Depends:` of `apt-cache depends`.
fn first_dependency(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::first_dependency;

    #[test]
    fn the_package_behind_a_meta_package() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-40-cloud-amd64\n  Depends: other\n";
        assert_eq!(first_dependency(text).as_deref(), Some("linux-image-6.1.0-40-cloud-amd64"));
        assert_eq!(first_dependency("linux-image-cloud-amd64\n"), None);
    }
}
