//! `cargo xtask bench …`: netboot beside what people would run instead, under the same load in one run, in turns.
//!
//! Virtual blades ask over a packet socket in a namespace of their own. Nothing leaves the namespaces, and every loop
//! ends by the clock or by a count.

mod blades;
mod contestant;
mod dhcp;
mod drive;
mod http;
mod lossless;
mod open;
mod peers;
mod process;
mod random;
mod report;
mod samples;
mod scale;
mod socket;
mod summary;
mod target;
mod tftp;
mod wire;
mod xdp;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask::lab::remove_leftovers;

use crate::run::on_signal;
use crate::setup;
use crate::steps::{as_root, is_root, loud, unlock_sudo};
use contestant::Setting;
use peers::Peers;

/// What is measured.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// DHCP: exchanges in a second, latency and processor time, beside Kea and dnsmasq.
    Dhcp(dhcp::Options),
    /// The XDP program: nanoseconds a frame by the kernel's own statistics, replies in a second, virtual blades beside
    /// Kea and dnsmasq, and a flood of unknown machines.
    #[command(after_help = "Examples:\n  cargo xtask bench xdp\n  cargo xtask bench xdp --quick\n  \
                            cargo xtask bench xdp --many 16000 --seconds 5 --json")]
    Xdp(xdp::Options),
    /// TFTP: bytes in a second and processor time, beside tftpd-hpa, atftpd and dnsmasq, and beside a responder that only
    /// sends.
    #[command(
        after_help = "Examples:\n  cargo xtask bench tftp\n  cargo xtask bench tftp --quick --offloads off\n  \
                            cargo xtask bench tftp --blksize 1428 --window 1 --rounds 5\n  cargo xtask bench tftp --seconds 1 --rounds 1 --json\n  cargo xtask bench tftp --many\n  cargo xtask bench tftp --loss 10 --seconds 5"
    )]
    Tftp(tftp::Options),
    /// HTTP: answers in a second, latency and processor time of cloud-configs beside nginx with a file and a script; a large
    /// file beside nginx.
    #[command(
        after_help = "Examples:\n  cargo xtask bench http\n  cargo xtask bench http --quick\n  cargo xtask bench http --seconds 5 --rounds 5 --json\n  \
                      cargo xtask bench http --load '1 connection, new'"
    )]
    Http(http::Options),
}

impl Bench {
    /// As it was typed, for the part that needs root.
    fn words(&self) -> Vec<String> {
        let (name, options) = match self {
            Self::Dhcp(options) => ("dhcp", options.words()),
            Self::Xdp(options) => ("xdp", options.words()),
            Self::Tftp(options) => ("tftp", options.words()),
            Self::Http(options) => ("http", options.words()),
        };
        [vec![name.to_owned()], options].concat()
    }

    fn json(&self) -> bool {
        match self {
            Self::Dhcp(options) => options.json,
            Self::Xdp(options) => options.json,
            Self::Tftp(options) => options.json,
            Self::Http(options) => options.json,
        }
    }
}

/// Sets up, fetches the peers, builds, and measures.
///
/// # Errors
/// When something cannot be had or built, or a server does not serve.
pub(crate) fn bench(what: &Bench) -> Result<()> {
    setup::setup()?;
    let home = xtask::root().join("target/bench");
    let peers = Peers::fetch(&home)?;
    let mut cargo = Command::new("cargo");
    // The blades must not be what is slow: this program is built with optimization, too.
    cargo.args(["build", "--release", "--locked", "--package", "netboot", "--package", "xtask"]);
    loud(cargo.current_dir(xtask::root()))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| xtask::root().join("target"), PathBuf::from);
    let release = target.join("release");
    unlock_sudo("the benchmark (network namespaces, XDP)")?;
    let mut command = as_root(release.join("xtask"))?;
    command.arg("bench-lab").arg(release.join("netboot")).arg(peers.root()).args(what.words());
    Err(command.exec().into())
}

/// The part that needs root.
///
/// # Errors
/// When a server cannot be started or does not answer; the error has its log.
pub(crate) fn lab(netboot: &Path, peers: PathBuf, what: &Bench) -> Result<()> {
    anyhow::ensure!(is_root(), "this part of `cargo xtask bench` needs root");
    let stop = on_signal()?;
    remove_leftovers()?;
    // On the disk of the repository: a temporary directory may be in memory, where fsync costs nothing.
    let work = peers.with_file_name(format!("run-{}", std::process::id()));
    let setting = Setting {
        netboot: netboot.to_str().context("the program's path is not UTF-8")?,
        peers: &Peers::at(peers),
        hosts: 0,
        leases: 0,
        logs: false,
    };
    let measured = match what {
        Bench::Dhcp(options) => dhcp::run(&setting, options, &work, &stop),
        Bench::Xdp(options) => xdp::run(&setting, options, &work, &stop),
        Bench::Tftp(options) => tftp::run(&setting, options, &work, &stop),
        Bench::Http(options) => http::run(&setting, options, &work, &stop),
    };
    let _ = std::fs::remove_dir_all(&work);
    let (text, json) = measured?;
    if what.json() {
        println!("{json:#}");
    } else {
        println!("{text}");
    }
    Ok(())
}

/// What this runs on, and how busy it is with other things.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    let load = load.split_whitespace().next().unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{processors} processors, Linux {}, load {load} before", kernel.trim())
}
