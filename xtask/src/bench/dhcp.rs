//! `cargo xtask bench dhcp`: netboot, Kea and dnsmasq under the same load in one run, in turns.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::blades::Blades;
use super::contestant::{ALL, MOST_HOSTS, Running, Setting};
use super::drive::{first, sample};
use super::lossless::{Search, holds};
use super::open::Open;
use super::report::Report;
use super::samples::Sample;
use super::{machine, scale, summary};

/// How many blades ask at a time.
pub(super) const CLIENTS: [usize; 3] = [1, 32, 256];

/// What can be set.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(super) seconds: u64,
    /// Rounds; in each every server is measured with 1, 32 and 256 clients.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    pub(super) rounds: u64,
    /// Machines, each with its own MAC.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(256..=i64::from(MOST_HOSTS)))]
    pub(super) hosts: u32,
    /// Let each server log every step as it does by default, into a file.
    #[arg(long)]
    pub(super) logs: bool,
    /// Measure something else: how netboot alone starts, and its memory, with 10,000 machines and 50,000 leases.
    #[arg(long)]
    pub(super) scale: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    /// As they were typed, for the part that needs root.
    pub(super) fn words(&self) -> Vec<String> {
        let numbers =
            [("--seconds", self.seconds), ("--rounds", self.rounds), ("--hosts", self.hosts.into())];
        let mut words: Vec<String> =
            numbers.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]).collect();
        for (set, name) in [(self.logs, "--logs"), (self.scale, "--scale"), (self.json, "--json")] {
            words.extend(set.then(|| name.to_owned()));
        }
        words
    }
}

/// Measures, and returns the tables and the JSON.
///
/// # Errors
/// When a server cannot be started or does not answer; the error has its log.
pub(super) fn run(
    setting: &Setting<'_>,
    options: &Options,
    work: &Path,
    stop: &AtomicBool,
) -> Result<(String, Value)> {
    let setting = &Setting { hosts: options.hosts, logs: options.logs, ..*setting };
    if options.scale {
        return scale::measure(setting, options, work, stop);
    }
    let report = measure(setting, options, work, stop)?;
    let text = format!("{}\nIn short, as in the README:\n\n{}", report.text(), summary::summary(&report));
    Ok((text, report.json()))
}

fn measure(setting: &Setting<'_>, options: &Options, work: &Path, stop: &AtomicBool) -> Result<Report> {
    let rounds = usize::try_from(options.rounds)?;
    let mut report = Report {
        seconds: options.seconds,
        rounds,
        hosts: options.hosts,
        logs: options.logs,
        machine: machine(),
        ..Report::default()
    };
    let mut servers = Vec::new();
    for (number, contestant) in ALL.iter().enumerate() {
        let running = contestant.start(setting, &work.join(number.to_string()))?;
        let mut blades = Blades::new(running.plan);
        first(&running, &mut blades, stop).with_context(|| format!("start {}", contestant.name))?;
        report.starts.push((running.started.elapsed().as_millis(), 0));
        servers.push((number, contestant, running, blades));
    }
    for round in 0..rounds {
        for clients in CLIENTS {
            // Another one begins each time.
            servers.rotate_left(1);
            for (number, contestant, running, blades) in &mut servers {
                let sample = sample(running, blades, clients, Duration::from_secs(options.seconds), stop)
                    .with_context(|| format!("measure {}", contestant.name))?;
                eprintln!(
                    "  round {} {:>8} {:<18} {clients:>3} clients: {:>8.0} DORA/s, {} lost, {} invalid",
                    round + 1,
                    contestant.kind(),
                    contestant.name,
                    sample.rate(),
                    sample.tally.lost,
                    sample.tally.invalid,
                );
                report.samples.0.push(Sample { contestant: *number, ..sample });
            }
        }
    }
    for (number, _, running, _) in &servers {
        if let Some(start) = report.starts.get_mut(*number) {
            start.1 = running.memory_kib("VmRSS").unwrap_or_default();
        }
    }
    let mut searches: Vec<(usize, Running, Open, Search)> = Vec::new();
    for (number, _, running, _) in servers {
        let (open, guess) = (Open::new(running.plan), report.guess(number));
        searches.push((number, running, open, Search::new(guess)));
    }
    report.lossless = lossless(&mut searches, stop)?;
    Ok(report)
}

/// The lossless rate of each contestant, by its number. A step of each in turn, so that all meet the same minutes.
fn lossless(searches: &mut [(usize, Running, Open, Search)], stop: &AtomicBool) -> Result<Vec<f64>> {
    let mut found = vec![0.0; searches.len()];
    let mut searching = true;
    while searching {
        searching = false;
        for (number, running, open, search) in &mut *searches {
            let Some(rate) = search.next() else { continue };
            searching = true;
            let Some(who) = ALL.get(*number) else { continue };
            let fine =
                holds(running, open, rate, stop).with_context(|| format!("the rate of {}", who.name))?;
            eprintln!(
                "  {:>8} {:<18} {rate:>8.0} DORA/s {}",
                who.kind(),
                who.name,
                if fine { "held" } else { "not held" }
            );
            search.saw(fine);
            if let Some(found) = found.get_mut(*number) {
                *found = search.found();
            }
        }
    }
    Ok(found)
}
