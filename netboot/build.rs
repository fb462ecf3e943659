//! Builds the XDP program for the feature `fastpath`, with the toolchain that builds the rest.
//!
//! The eBPF target is not a stable one and has no ready-made `core`: RUSTC_BOOTSTRAP lets the stable compiler
//! build it from the component `rust-src`, for this one package alone.

#[cfg(not(feature = "fastpath"))]
fn main() {}

#[cfg(feature = "fastpath")]
fn main() -> anyhow::Result<()> {
    fastpath::build()
}

#[cfg(feature = "fastpath")]
mod fastpath {
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::{env, fs};

    use anyhow::{Context, Result, bail};
    use aya_build::{Package, Toolchain, build_ebpf};

    const REMEDY: &str =
        "run `cargo xtask setup`, or build without the XDP program: `cargo build --no-default-features`";

    pub(super) fn build() -> Result<()> {
        println!("cargo:rerun-if-changed=build.rs");
        println!("cargo:rerun-if-env-changed=PATH");
        let workspace =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package is in a workspace")?;
        for file in ["Cargo.toml", "Cargo.lock"] {
            println!("cargo:rerun-if-changed={}", workspace.join(file).display());
        }
        check_linker()?;
        check_core_source()?;
        let toolchain = toolchain(workspace)?;
        let program = workspace.join("netboot-ebpf");
        let root_dir = program.to_str().context("the path of the workspace is not UTF-8")?;

        // SAFETY: this program has one thread as yet.
        unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
        let package = Package { name: "netboot-ebpf", root_dir, ..Package::default() };
        build_ebpf([package], Toolchain::Custom(&toolchain)).context("building the XDP program")
    }

    fn check_linker() -> Result<()> {
        match Command::new("bpf-linker").arg("--version").output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                bail!(
                    "bpf-linker does not run ({}); {REMEDY}\n{}",
                    output.status,
                    String::from_utf8_lossy(&output.stderr)
                )
            }
            Err(error) => bail!("bpf-linker is missing ({error}); {REMEDY}"),
        }
    }

    fn check_core_source() -> Result<()> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output =
            Command::new(&rustc).args(["--print", "sysroot"]).output().context("rustc --print sysroot")?;
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let source = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
        if fs::exists(&source).unwrap_or(false) {
            return Ok(());
        }
        bail!("the component rust-src is missing in {}; {REMEDY}", sysroot.display())
    }

    /// The toolchain in use, as rustup calls it: never another than the one that builds the rest.
    fn toolchain(workspace: &Path) -> Result<String> {
        if let Ok(name) = env::var("RUSTUP_TOOLCHAIN") {
            return Ok(name);
        }
        // Cargo was not started through rustup; if rustup is there all the same, this is what it would take.
        let file = workspace.join("rust-toolchain.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let channel =
            text.lines().find_map(|line| line.trim().strip_prefix("channel")?.trim().strip_prefix('='));
        let channel = channel.with_context(|| format!("{} names no channel", file.display()))?;
        Ok(channel.trim().trim_matches('"').to_owned())
    }
}
