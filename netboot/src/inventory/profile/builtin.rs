//! The profiles that need no file: they boot what the systems booted that this one replaces.

use super::{Kind, Profile};

/// The machine's own disk.
pub const LOCAL_DISK: &str = "local-disk";

/// The one of this name.
pub(super) fn get(name: &str) -> Option<Profile> {
    match name {
        "stable" | "beta" => Some(coreos(name)),
        "debian" => Some(debian()),
        LOCAL_DISK => Some(Profile { kind: Some(Kind::LocalDisk), ..Profile::default() }),
        _ => None,
    }
}

/// CoreOS of a channel. The address of the cloud-config stands in a name that no operator's variable has had before.
pub(super) fn coreos(channel: &str) -> Profile {
    let cmdline = "console=ttyS1,19200n8 console=tty0 coreos.autologin=ttyS1 coreos.autologin=tty0 \
                   cloud-config-url=$netboot_http";
    Profile {
        kernel: Some(format!("coreos_{channel}_pxe.vmlinuz")),
        initrd: Some(vec![format!("coreos_{channel}_pxe_image.cpio.gz")]),
        cmdline: Some(cmdline.to_owned()),
        ..Profile::default()
    }
}

/// The Debian installer.
fn debian() -> Profile {
    let file = |name| format!("debian-installer/amd64/{name}");
    Profile {
        kernel: Some(file("linux")),
        initrd: Some(vec![file("initrd.gz")]),
        cmdline: Some("vga=788 --- quiet".to_owned()),
        ..Profile::default()
    }
}
