//! `cargo xtask setup`: brings what building, running and testing need, says what and why, and skips what is there.
//!
//! Nothing here starts a service: only clients and tools are installed.

mod apt;
mod toolchain;

use anyhow::{Result, bail};

use crate::steps::{program, show};
use apt::SystemPackage;
pub(crate) use toolchain::cargo_deny;
use xtask::lab::guest;
use xtask::packages::Package;

/// Something that is needed and not there.
struct Missing {
    what: String,
    why: &'static str,
}

/// Brings everything that is missing. Quick when nothing is.
///
/// # Errors
/// When something cannot be had; the error says what to do.
pub(crate) fn setup() -> Result<()> {
    let toolchain = toolchain::look()?;
    let system: Vec<SystemPackage> =
        apt::needed(&toolchain).into_iter().filter(|package| !package.is_there()).collect();
    let unpacked: Vec<Package> = Package::ALL.into_iter().filter(|package| !package.dir().exists()).collect();
    let mut missing = toolchain.missing();
    missing.extend(system.iter().map(|package| Missing { what: package.name.clone(), why: package.why }));
    missing.extend(unpacked.iter().map(|package| Missing {
        what: format!("{} (unpacked below target/lab, not installed)", package.name),
        why: package.why,
    }));
    if missing.is_empty() && guest::built().is_some() {
        eprintln!("setup: everything is there");
        return Ok(());
    }
    if !missing.is_empty() {
        eprintln!("setup: missing here, brought now:");
        for Missing { what, why } in &missing {
            eprintln!("  {what}: {why}");
        }
    }
    if !(system.is_empty() && unpacked.is_empty()) {
        if program("apt-get").is_none() {
            let names: Vec<_> = missing.iter().map(|missing| missing.what.as_str()).collect();
            bail!(
                "this system has no apt, so setup cannot bring these Debian packages: install what they hold by hand and \
                 run this again (the names are Debian's):\n  {}",
                names.join("\n  ")
            );
        }
        apt::install(&system)?;
        for package in unpacked {
            show(&format!("apt-get download {}", package.name), || package.unpack())?;
        }
    }
    toolchain.bring()?;
    if guest::built().is_none() {
        show("the virtual blades' initramfs", guest::build)?;
    }
    eprintln!("setup: done");
    Ok(())
}
