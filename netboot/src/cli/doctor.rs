//! `netboot doctor`: one screen that says what would go wrong on this machine and its network, with the command for each.
//!
//! [`collect`] looks, `findings` judges, this file shows. Nothing is changed.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{FAILED, WRONG, args, report, say};
use crate::config::{self, Given};

mod collect;
mod facts;
mod findings;

use findings::{Finding, State};

pub(super) const EXAMPLES: &str = "\
Examples:
  sudo netboot doctor --interface eth1               everything, with the settings of ./data
  sudo netboot doctor --data /srv/netboot            the interface as netboot.json names it
  sudo netboot doctor --quiet-wire                   send nothing: other DHCP servers are not looked for
  netboot doctor --json | jq '.[] | select(.state == \"wrong\")'

The same flags and variables as for serve, so that it sees what serve would do. It changes nothing. Without root it says
what it could not look at. On the wire it sends one DHCPDISCOVER of a machine that does not exist.
Exit codes: 0 fine, perhaps with warnings; 1 something is wrong; 2 wrong usage, or settings that cannot be read.";

/// What was typed.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "NETBOOT_DATA", default_value = "./data")]
    data: PathBuf,
    /// Send nothing: do not look for other DHCP servers.
    #[arg(long)]
    quiet_wire: bool,
    /// Print JSON: a list of objects with `check`, `state` (ok, skipped, warning, wrong), `message` and `fix`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: args::Settings,
}

/// Looks and shows.
pub(super) fn run(arguments: Doctor) -> ExitCode {
    let Doctor { data, quiet_wire, json, settings } = arguments;
    let settings = match config::resolve(&data, Given::from(settings)) {
        Ok(settings) => settings,
        Err(problems) => {
            report::problems(&problems.0);
            return ExitCode::from(WRONG);
        }
    };
    let findings = findings::all(&collect::facts(settings, quiet_wire));
    if json {
        say(&serde_json::to_string_pretty(&findings).unwrap_or_default());
    } else {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        say(&screen(&findings, std::io::stdout().is_terminal() && !plain));
    }
    if findings.iter().any(|finding| finding.state == State::Wrong) {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    }
}

/// What people read.
fn screen(findings: &[Finding], colours: bool) -> String {
    let mut lines = Vec::new();
    for Finding { check, state, message, fix } in findings {
        let (word, colour) = match state {
            State::Ok => ("ok", "32"),
            State::Skipped => ("skipped", "2"),
            State::Warning => ("warning", "33"),
            State::Wrong => ("WRONG", "1;31"),
        };
        let word = format!("{word:<8}");
        let word = if colours { format!("\x1b[{colour}m{word}\x1b[0m") } else { word };
        lines.push(format!("{word} {check:<13} {message}"));
        lines.extend(fix.iter().map(|fix| format!("{:22} > {fix}", "")));
    }
    let count = |wanted| findings.iter().filter(|finding| finding.state == wanted).count();
    lines.push(format!(
        "{} wrong, {}, {} not looked at, {} fine",
        count(State::Wrong),
        report::count(count(State::Warning), "warning"),
        count(State::Skipped),
        count(State::Ok)
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Finding, State, screen};

    #[test]
    fn a_line_each_then_the_command_and_the_sum() {
        let finding = |state, fix: Option<&str>| Finding {
            check: "mtu",
            state,
            message: "m".to_owned(),
            fix: fix.map(str::to_owned),
        };
        let findings = [finding(State::Ok, None), finding(State::Wrong, Some("ip link"))];
        assert_eq!(
            screen(&findings, false),
            "ok       mtu           m\n\
             WRONG    mtu           m\n                       > ip link\n\
             1 wrong, 0 warnings, 0 not looked at, 1 fine"
        );
        assert!(screen(&findings, true).starts_with("\x1b[32mok      \x1b[0m mtu"));
    }
}
