//! `cargo xtask …`: the developer's commands. Parses them and calls the module of the same name.

mod bench;
mod ci;
mod fuzz;
mod run;
mod setup;
mod steps;
mod story;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up, builds, runs and tests netboot.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings what building, running and testing need; skips what is there.
    Setup,
    /// Boots a virtual blade from netboot in a lab of its own; with arguments after `--`, serves for real with them.
    Run {
        /// Seconds that the blade may take.
        #[arg(long, default_value_t = 180)]
        deadline: u64,
        /// Arguments of `netboot serve`, as `--interface eth1 --data ./data`.
        #[arg(last = true)]
        serve: Vec<String>,
    },
    /// Runs every test: unit and documentation tests as this user, the integration tests as root.
    Test {
        /// Leaves out the virtual machines.
        #[arg(long)]
        quick: bool,
        /// Arguments of the test runners, as a part of a test's name.
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// All that must be green before a change is merged: format, lints, licences, documentation, tests.
    Ci,
    /// Looks for bytes that break what must hold for any bytes, as long as it is told to.
    Fuzz(fuzz::Options),
    /// Measures netboot against what people would run instead, in network namespaces.
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// The part of `bench` that needs root.
    #[command(hide = true)]
    BenchLab {
        /// The built program.
        netboot: PathBuf,
        /// The unpacked peers.
        peers: PathBuf,
        #[command(subcommand)]
        what: bench::Bench,
    },
    /// The part of `run` that needs root.
    #[command(hide = true)]
    Lab {
        /// The built program.
        netboot: PathBuf,
        /// Seconds that the blade may take.
        deadline: u64,
    },
}

fn main() -> ExitCode {
    let result = match Xtask::parse().command {
        Command::Setup => setup::setup(),
        Command::Run { deadline, serve } if serve.is_empty() => run::boot(deadline),
        Command::Run { serve, .. } => run::serve(&serve),
        Command::Test { quick, filter } => setup::setup().and_then(|()| test::test(quick, &filter)),
        Command::Ci => setup::setup().and_then(|()| ci::ci()),
        Command::Fuzz(options) => fuzz::fuzz(&options),
        Command::Bench { what } => bench::bench(&what),
        Command::BenchLab { netboot, peers, what } => bench::lab(&netboot, peers, &what),
        Command::Lab { netboot, deadline } => run::lab(&netboot, deadline),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
