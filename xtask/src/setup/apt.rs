//! Debian packages that are installed: tools and clients, and no server that starts by itself.

use std::path::Path;

use anyhow::{Context, Result};

use super::toolchain::Toolchain;
use crate::steps::{as_root, program, quiet, show, unlock_sudo};

/// A package that is installed, and how to see that it is.
pub(super) struct SystemPackage {
    /// Its Debian name.
    pub(super) name: String,
    /// What it is for.
    pub(super) why: &'static str,
    /// A program that it brings, or a file when this begins with `/`.
    shows: String,
}

impl SystemPackage {
    pub(super) fn is_there(&self) -> bool {
        if self.shows.starts_with('/') {
            Path::new(&self.shows).exists()
        } else {
            program(&self.shows).is_some()
        }
    }
}

/// Every package: name, a program or file of it, what it is for.
const PACKAGES: [(&str, &str, &str); 20] = [
    ("qemu-system-x86", "qemu-system-x86_64", "the virtual blades"),
    ("ipxe-qemu", "/usr/lib/ipxe/qemu/efi-virtio.rom", "the boot ROM of the virtual blades"),
    ("iproute2", "ip", "network namespaces, bridges and taps of the lab"),
    ("util-linux", "nsenter", "programs inside the lab"),
    ("procps", "kill", "signals to the programs in the lab"),
    ("tcpdump", "tcpdump", "captures in the lab"),
    ("tshark", "tshark", "reads in the tests what netboot captures"),
    ("ethtool", "ethtool", "offloads in the lab"),
    ("udhcpc", "udhcpc", "a DHCP client in the tests"),
    ("isc-dhcp-client", "dhclient", "a DHCP client in the tests"),
    ("systemd", "/lib/systemd/systemd-networkd", "a DHCP client in the tests; it is not started"),
    ("tftp-hpa", "tftp", "a TFTP client in the tests"),
    ("atftp", "atftp", "a TFTP client with windows in the tests"),
    ("curl", "curl", "an HTTP client in the tests"),
    (
        "python3-configobj",
        "/usr/lib/python3/dist-packages/configobj.py",
        "what cloud-init needs in the tests",
    ),
    (
        "python3-requests",
        "/usr/lib/python3/dist-packages/requests/__init__.py",
        "what cloud-init needs in the tests",
    ),
    ("python3-yaml", "/usr/lib/python3/dist-packages/yaml/__init__.py", "what cloud-init needs in the tests"),
    ("debconf", "debconf-set-selections", "reads a preseed in the tests"),
    ("openssl", "openssl", "certificates in the tests"),
    ("dnsmasq-base", "dnsmasq", "somebody else's DHCP server in the tests; installed, it starts nothing"),
];

/// What this machine needs.
pub(super) fn needed(toolchain: &Toolchain) -> Vec<SystemPackage> {
    let package = |(name, shows, why): (&str, &str, &'static str)| SystemPackage {
        name: name.to_owned(),
        why,
        shows: shows.to_owned(),
    };
    let mut needed: Vec<_> = PACKAGES.into_iter().map(package).collect();
    // Only for building the linker.
    if !toolchain.has_bpf_linker() {
        let llvm = toolchain.llvm();
        let config = format!("/usr/lib/llvm-{llvm}/bin/llvm-config");
        needed.push(SystemPackage {
            name: format!("llvm-{llvm}-dev"),
            why: "bpf-linker is built with the LLVM of rustc",
            shows: config,
        });
    }
    needed
}

/// Brings the package lists up to date and installs what is missing; with nothing missing, only the lists, from which
/// the packages to unpack are then downloaded.
///
/// # Errors
/// When apt fails twice; the error has what it said.
pub(super) fn install(missing: &[SystemPackage]) -> Result<()> {
    let names: Vec<_> = missing.iter().map(|package| package.name.as_str()).collect();
    let install = [&["install", "--yes", "--no-install-recommends"], names.as_slice()].concat();
    unlock_sudo("apt-get").with_context(|| {
        format!("as root: apt-get update && apt-get {}; then run this again", install.join(" "))
    })?;
    let apt = |what: &str, arguments: &[&str]| {
        show(what, || {
            let mut apt = as_root("env")?;
            apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120"])
                .args(arguments);
            // A mirror that is being updated fails once and works the next time.
            quiet(&mut apt).or_else(|_| quiet(&mut apt))
        })
    };
    apt("apt-get update", &["update"])?;
    if missing.is_empty() {
        return Ok(());
    }
    apt(&format!("apt-get install {}", names.join(" ")), &install).context(
        "if a package has no candidate here, install what it holds by hand: the names are those of Debian 12",
    )?;
    Ok(())
}
