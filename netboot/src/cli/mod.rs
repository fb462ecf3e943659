//! The command line: what the user typed, and the exit code. Nobody imports this.
//!
//! Exit codes: 0 fine, 1 failed while running, 2 wrong usage, settings or data.

mod args;
mod ask;
mod capture;
mod check;
mod doctor;
mod hosts;
mod import;
mod leases;
mod logs;
mod report;
mod serve;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// The program failed while it ran.
const FAILED: u8 = 1;
/// The program was called, or set up, wrongly.
const WRONG: u8 = 2;

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Help and version come here too, with code 0. There is nobody to tell if the terminal is gone.
            let _ = message.print();
            return ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(WRONG));
        }
    };
    match arguments.command {
        args::Command::Serve(serve) => serve::run(serve),
        args::Command::Check(check) => check::run(check),
        args::Command::Doctor(doctor) => doctor::run(doctor),
        args::Command::Capture(capture) => capture::run(capture),
        args::Command::Hosts(hosts) => hosts::run(hosts),
        args::Command::Leases(leases) => leases::run(leases),
        args::Command::Import(import) => import::run(import),
    }
}

/// What went wrong while running, on one line, and its exit code.
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("netboot: {error:#}");
    ExitCode::from(FAILED)
}

/// Prints a line where it can be piped to; a reader that has gone away is no failure.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
