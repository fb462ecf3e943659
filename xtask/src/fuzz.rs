//! `cargo xtask fuzz`: builds the fuzz targets of `netboot/fuzz` and runs them, each for some seconds.
//!
//! With the toolchain that builds everything: the flags below are what cargo-fuzz would give, without a sanitizer, which
//! wants a nightly compiler and finds nothing in code without `unsafe`. What is learned stays below `target`; an input
//! that breaks something is put into `netboot/fuzz/corpus`, where `cargo test` replays it from then on.
//!
//! `equal` holds the loaded XDP program against the daemon: the long form of the test `xdp::equal`. The kernel's program has no
//! counters at its edges; its library, by which the target foretells what it does, has. It runs when it is named, for
//! it needs root and the toolchain of the program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::{as_root, loud, program, quiet, unlock_sudo};

/// The targets, as `netboot/fuzz/Cargo.toml` has them.
const TARGETS: [&str; 7] = [EQUAL, "files", "imports", "policy", "tftp", "verdict", "wire"];
/// The target that runs the XDP program.
const EQUAL: &str = "equal";
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
    /// The target to run; if none is named, all but `equal`, which needs root and the toolchain of the XDP program.
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
    let named = options.target.as_deref();
    let kernel = named == Some(EQUAL);
    if kernel {
        unlock_sudo("the fuzz target `equal` (XDP)")?;
    }
    let programs = build(&home, kernel)?;
    let mut broken = Vec::new();
    for target in TARGETS.iter().filter(|name| named.map_or(**name != EQUAL, |only| only == **name)) {
        let kept = xtask::root().join("netboot/fuzz/corpus").join(target);
        let (learned, seeds) = (home.join("learned").join(target), home.join("seeds").join(target));
        for directory in [&kept, &learned, &seeds] {
            std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        }
        plant(target, &seeds)?;
        let program = programs.join(target);
        let mut command = if kernel { as_root(program)? } else { Command::new(program) };
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

/// Builds the targets, or the one that has the XDP program in it, and returns where they are.
fn build(home: &Path, kernel: bool) -> Result<PathBuf> {
    // With a target named, the flags are not for build scripts, which could not be linked with them.
    let version = quiet(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let mut cargo = Command::new("cargo");
    // Its lock file follows the dependencies of netboot, so it may have to be written.
    cargo.args(["build", "--release", "--target", host, "--manifest-path"]);
    cargo.arg(xtask::root().join("netboot/fuzz/Cargo.toml")).arg("--target-dir").arg(home);
    if kernel {
        cargo.args(["--features", "fastpath", "--bin", EQUAL]);
    }
    cargo.env("RUSTFLAGS", COVERAGE.join(" "));
    loud(&mut cargo)?;
    Ok(home.join(host).join("release"))
}

/// Writes the inputs that a search begins with: the odd packets and the files of the tests.
fn plant(target: &str, seeds: &Path) -> Result<()> {
    let root = xtask::root();
    let packets = root.join("netboot/tests/data/packets");
    let from: &[PathBuf] = match target {
        "wire" | "verdict" | EQUAL => &[packets],
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
            let bytes = if target == EQUAL { at_some_place(&bytes) } else { bytes };
            let of = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            std::fs::write(seeds.join(format!("{of}-{name}")), bytes)?;
        }
    }
    if target == EQUAL {
        for number in 0..256_u16 {
            std::fs::write(seeds.join(format!("random-{number}")), at_random(number))?;
        }
    }
    Ok(())
}

/// A payload as a case of `equal` (`bodies/equal.rs`, `bodies/requests.rs`): a place, and one packet that begins with 255 and
/// the length of the payload.
fn at_some_place(payload: &[u8]) -> Vec<u8> {
    let length = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let mut case = length(payload.len()).to_vec();
    case.extend(length(payload.len() + 3));
    case.push(255);
    case.extend(length(payload.len()));
    case.extend(payload);
    case
}

/// A case of `equal` with packets made at random, at a place of its own: a search that begins with nothing would be long in
/// finding a request.
fn at_random(number: u16) -> Vec<u8> {
    let mut state = u64::from(number) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    let mut case = number.to_be_bytes().to_vec();
    for _ in 0..8 {
        let length = 30 + next() / 2;
        case.extend([0, length]);
        case.extend((0..length).map(|_| next()));
    }
    case
}
