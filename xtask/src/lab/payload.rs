//! The data directory of a lab's server: the sample, and a boot payload from Debian packages.

use std::path::Path;

use anyhow::{Context, Result};

use super::guest::{self, Guest};
use crate::packages::{PXELINUX, SYSLINUX};
use crate::root;

/// Fills `data` with `data.sample` and, below `tftp/`, with the boot loader and the guest as the image of both
/// channels. The boot loader's configuration is left to the server, which makes it where the file is absent.
///
/// # Errors
/// When `cargo xtask setup` has not run or a file cannot be written.
pub fn data_directory(data: &Path) -> Result<()> {
    let Guest { kernel, initramfs } = guest::build()?;
    copy_tree(&root().join("data.sample"), data)?;
    let tftp = data.join("tftp");
    std::fs::create_dir_all(&tftp).with_context(|| format!("create {}", tftp.display()))?;
    copy(&PXELINUX.file("usr/lib/PXELINUX/pxelinux.0")?, &tftp.join("pxelinux.0"))?;
    copy(&SYSLINUX.file("usr/lib/syslinux/modules/bios/ldlinux.c32")?, &tftp.join("ldlinux.c32"))?;
    for channel in ["stable", "beta"] {
        copy(&kernel, &tftp.join(format!("coreos_{channel}_pxe.vmlinuz")))?;
        copy(&initramfs, &tftp.join(format!("coreos_{channel}_pxe_image.cpio.gz")))?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display())).map(drop)
}
