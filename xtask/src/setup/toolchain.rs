//! What building the XDP program needs: the sources of `core`, and a linker for BPF that has rustc's LLVM.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Missing;
use crate::steps::{program, quiet, show};

/// The linker's version; it goes with the LLVM of the pinned toolchain.
const BPF_LINKER: &str = "0.13.0";
/// Checks licences and sources of dependencies in `cargo xtask ci`.
const CARGO_DENY: &str = "0.20.2";

/// The toolchain as it is.
pub(super) struct Toolchain {
    llvm: u32,
    rust_src: bool,
    bpf_linker: bool,
}

/// Looks at the toolchain that rust-toolchain.toml names; rustup has installed it, or this program would not run.
///
/// # Errors
/// When rustc cannot be asked.
pub(super) fn look() -> Result<Toolchain> {
    let text = quiet(rustc().arg("-vV"))?;
    let llvm = llvm_major(&text).with_context(|| format!("rustc -vV names no LLVM version:\n{text}"))?;
    let sysroot = PathBuf::from(quiet(rustc().args(["--print", "sysroot"]))?.trim());
    let rust_src = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists();
    let bpf_linker = has_version("bpf-linker", BPF_LINKER);
    Ok(Toolchain { llvm, rust_src, bpf_linker })
}

impl Toolchain {
    /// The major version of rustc's LLVM.
    pub(super) fn llvm(&self) -> u32 {
        self.llvm
    }

    /// Whether the right linker is there and runs.
    pub(super) fn has_bpf_linker(&self) -> bool {
        self.bpf_linker
    }

    /// What is not there.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        if !self.rust_src {
            missing.push(Missing {
                what: "rust-src (component of the Rust toolchain)".to_owned(),
                why: "core is built for BPF from its sources",
            });
        }
        if !self.bpf_linker {
            missing.push(Missing { what: format!("bpf-linker {BPF_LINKER}"), why: "links the XDP program" });
        }
        missing
    }

    /// Brings what is not there.
    ///
    /// # Errors
    /// When rustup or cargo fails; the error has what it said.
    pub(super) fn bring(&self) -> Result<()> {
        if !self.rust_src {
            if program("rustup").is_none() {
                bail!(
                    "the Rust toolchain has no sources of core and there is no rustup to bring them: install the package that holds them (Debian: rust-src)"
                );
            }
            show("rustup component add rust-src", || {
                quiet(
                    Command::new("rustup").args(["component", "add", "rust-src"]).current_dir(xtask::root()),
                )
            })?;
        }
        if !self.bpf_linker {
            let llvm = self.llvm;
            let features = format!("llvm-{llvm}");
            cargo_install(
                "bpf-linker",
                BPF_LINKER,
                &["--no-default-features", "--features", &features],
                |cargo| {
                    cargo.env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"));
                },
            )?;
        }
        Ok(())
    }
}

/// Brings cargo-deny unless it is there.
///
/// # Errors
/// When cargo cannot build it.
pub(crate) fn cargo_deny() -> Result<()> {
    if has_version("cargo-deny", CARGO_DENY) {
        return Ok(());
    }
    eprintln!(
        "setup: missing here, brought now:\n  cargo-deny {CARGO_DENY}: checks licences and sources of dependencies"
    );
    cargo_install("cargo-deny", CARGO_DENY, &[], |_| {})
}

fn cargo_install(
    name: &str,
    version: &str,
    arguments: &[&str],
    adjust: impl FnOnce(&mut Command),
) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["install", name, "--version", version, "--locked", "--force"]).args(arguments);
    cargo.current_dir(xtask::root());
    adjust(&mut cargo);
    show(&format!("cargo install {name} {version} (a minute or more)"), || quiet(&mut cargo)).map(drop)
}

fn has_version(name: &str, version: &str) -> bool {
    let output = Command::new(name).arg("--version").output();
    output.is_ok_and(|output| {
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains(version)
    })
}

fn rustc() -> Command {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(xtask::root());
    rustc
}

fn llvm_major(text: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix("LLVM version: "))?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn the_llvm_of_rustc() {
        assert_eq!(
            llvm_major("rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n"),
            Some(22)
        );
        assert_eq!(llvm_major("rustc 1.95.0\n"), None);
    }
}
