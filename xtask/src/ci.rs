//! `cargo xtask ci`: everything that must be green before a change is merged.

use std::process::Command;

use anyhow::Result;

use crate::setup;
use crate::steps::{loud, quiet};
use crate::test;

/// Runs the checks one after the other and ends at the first that fails.
///
/// # Errors
/// When a check fails.
pub(crate) fn ci() -> Result<()> {
    loud(&mut cargo("fmt --all --check"))?;
    loud(&mut cargo("clippy --workspace --all-targets --locked -- -D warnings"))?;
    // The daemon without the fast path builds on a machine without any BPF tool.
    loud(&mut cargo("check --package netboot --no-default-features --locked"))?;
    deny()?;
    loud(cargo("doc --workspace --no-deps --locked").env("RUSTDOCFLAGS", "-D warnings"))?;
    test::test(false, &[])
}

/// Licences, sources and duplicates from what is in the lock file; known vulnerabilities where their database can be had.
fn deny() -> Result<()> {
    setup::cargo_deny()?;
    loud(&mut cargo("deny --workspace --all-features check licenses bans sources"))?;
    if quiet(&mut cargo("deny fetch db")).is_err() {
        eprintln!(
            "skipped: known vulnerabilities, because their database (RustSec's) cannot be reached from here"
        );
        return Ok(());
    }
    loud(&mut cargo("deny --workspace --all-features check advisories"))
}

fn cargo(arguments: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments.split_whitespace()).current_dir(xtask::root());
    cargo
}
