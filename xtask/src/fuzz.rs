//! `cargo xtask fuzz`: builds the fuzz targets of `netboot/fuzz` and runs them, each for some seconds.
//!
//! With the toolchain that builds everything: the flags below are what cargo-fuzz would give, without a sanitizer, which
//! wants a nightly compiler and finds nothing in code without `unsafe`. What is learned stays below `target`; an input
//! that breaks something is put into `netboot/fuzz/corpus`, where `cargo test` replays it from then on.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::{loud, program, quiet};

/// The targets, as `netboot/fuzz/Cargo.toml` has them.
const TARGETS: [&str; 5] = ["files", "imports", "policy", "verdict", "wire"];
/// Counters at every edge, and comparisons reported, so that the search sees what it gets closer to.
const COVERAGE: [&str; 7] = [
    "--cfg=fuzzing",
    "-Ccodegen-units=1",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Longest input, bytes: more than the largest packet that the XDP program reads, and a page of an operator's file.
const LONGEST: usize = 4096;

/// What can be set.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The target to run; all of them if none is named.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
}

/// Builds and runs.
///
/// # Errors
/// When something is missing or does not build, or a target found something.
pub(crate) fn fuzz(options: &Options) -> Result<()> {
    compiler()?;
    let home = xtask::root().join("target/fuzz");
    let programs = build(&home)?;
    let mut broken = Vec::new();
    for target in TARGETS.iter().filter(|name| options.target.as_deref().is_none_or(|only| only == **name)) {
        let kept = xtask::root().join("netboot/fuzz/corpus").join(target);
        let (learned, seeds) = (home.join("learned").join(target), home.join("seeds").join(target));
        for directory in [&kept, &learned, &seeds] {
            std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        }
        plant(target, &seeds)?;
        let mut command = Command::new(programs.join(target));
        // What it learns goes into the first directory.
        command.args([&learned, &seeds, &kept]);
        command.args([format!("-max_total_time={}", options.seconds), format!("-max_len={LONGEST}")]);
        command.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        command.arg(format!("-artifact_prefix={}/", kept.display()));
        if let Err(error) = loud(&mut command) {
            broken.push(format!("{target}: {error}"));
        }
    }
    if !broken.is_empty() {
        bail!("what was found is in netboot/fuzz/corpus now, and fails `cargo test`:\n{}", broken.join("\n"));
    }
    Ok(())
}

/// libFuzzer is C++.
fn compiler() -> Result<()> {
    let chosen = std::env::var("CXX").ok();
    let found = ["c++", "g++", "clang++"].into_iter().find(|name| program(name).is_some());
    if chosen.is_none() && found.is_none() {
        bail!("libFuzzer needs a C++ compiler, and there is none: install g++, or name one in CXX");
    }
    Ok(())
}

/// Builds the targets and returns where they are.
fn build(home: &Path) -> Result<PathBuf> {
    // With a target named, the flags are not for build scripts, which could not be linked with them.
    let version = quiet(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let mut cargo = Command::new("cargo");
    // Its lock file follows the dependencies of netboot, so it may have to be written.
    cargo.args(["build", "--release", "--target", host, "--manifest-path"]);
    cargo.arg(xtask::root().join("netboot/fuzz/Cargo.toml")).arg("--target-dir").arg(home);
    cargo.env("RUSTFLAGS", COVERAGE.join(" "));
    loud(&mut cargo)?;
    Ok(home.join(host).join("release"))
}

/// Writes the inputs that a search begins with: the odd packets and the files of the tests.
fn plant(target: &str, seeds: &Path) -> Result<()> {
    let root = xtask::root();
    let packets = root.join("netboot/tests/data/packets");
    let from: &[PathBuf] = match target {
        "wire" | "verdict" => &[packets],
        "files" => &["netboot/tests/data/as-before", "netboot/tests/data/bad-hosts", "data.sample"]
            .map(|place| root.join(place)),
        _ => &[],
    };
    for directory in from {
        let entries =
            std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            let kind = path.extension().and_then(|kind| kind.to_str());
            let bytes = match kind {
                Some("json") => std::fs::read(&path)?,
                Some("txt") => xtask::packets::parse(&std::fs::read_to_string(&path)?)
                    .map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?,
                _ => continue,
            };
            let of = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            std::fs::write(seeds.join(format!("{of}-{name}")), bytes)?;
        }
    }
    Ok(())
}
