//! The command line: what the user typed, and the exit code. Nobody imports this.
use std::process::ExitCode;

/// Runs the command line.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
