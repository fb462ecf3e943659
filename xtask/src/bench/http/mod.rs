//! `cargo xtask bench http`: netboot's cloud-config beside a static file of nginx, which is as long, and beside a script as the
//! replaced system had; and a large file of both. One load generator for all, in one run, in turns.

mod client;
mod report;
mod samples;
mod server;
mod site;
mod targets;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::lab::wait_for;

use super::contestant::Setting;
use super::machine;
use client::{Expected, Load, ask};
use report::Report;
use samples::{Case, Sample};
use server::{ALL, Program, Running};
use site::Large;

/// How long a server may take from its start to its first answer, and for a whole file.
const START: Duration = Duration::from_secs(20);
const WHOLE: Duration = Duration::from_secs(30);

/// What can be set.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Rounds; in each every server has its turn with every load.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    rounds: u64,
    /// One round of a second each.
    #[arg(long)]
    quick: bool,
    /// Only the loads whose name, as in the tables, has this in it.
    #[arg(long, value_name = "TEXT")]
    load: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    /// As they were typed, for the part that needs root.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = vec![format!("--seconds={}", self.seconds), format!("--rounds={}", self.rounds)];
        for (set, name) in [(self.quick, "--quick"), (self.json, "--json")] {
            words.extend(set.then(|| name.to_owned()));
        }
        words.extend(self.load.as_ref().map(|text| format!("--load={text}")));
        words
    }

    /// What is measured.
    fn cases(&self) -> Result<Vec<Case>> {
        let mut cases = Case::all();
        cases.retain(|case| self.load.as_ref().is_none_or(|text| case.name().contains(text)));
        if cases.is_empty() {
            let names: Vec<_> = Case::all().into_iter().map(|case| format!("`{}`", case.name())).collect();
            anyhow::bail!("no load has this in its name: give a part of {}", names.join(", "));
        }
        Ok(cases)
    }
}

/// Measures, and returns the tables and the JSON.
///
/// # Errors
/// When something cannot be set up, or a server does not serve; the error has its log.
pub(super) fn run(
    setting: &Setting<'_>,
    options: &Options,
    work: &Path,
    stop: &AtomicBool,
) -> Result<(String, Value)> {
    let cases = options.cases()?;
    std::fs::create_dir_all(work).with_context(|| format!("create {}", work.display()))?;
    let (seconds, rounds) = if options.quick { (1, 1) } else { (options.seconds, options.rounds) };
    let bench = Bench { texts: site::texts(), large: Large::new(), time: Duration::from_secs(seconds), stop };
    let file = work.join("large");
    bench.large.write(&file)?;
    let text_size = bench.texts.first().map_or(0, Vec::len);
    let mut report = Report { machine: machine(), seconds, rounds, text_size, ..Report::default() };
    let mut served = Vec::new();
    for program in ALL {
        let home = work.join(program.name().replace(' ', "-"));
        let running = Running::start(program, setting, &home, &file)
            .and_then(|running| bench.answers(&running).map(|()| running))
            .with_context(|| program.name())?;
        served.push(running);
    }
    for round in 0..rounds {
        for &case in &cases {
            // Another one begins each time.
            served.rotate_left(1);
            for running in served.iter().filter(|running| case.is_for(running.program)) {
                let sample = bench.sample(running, case);
                let sample =
                    sample.with_context(|| format!("measure {}, {}", running.program.name(), case.name()))?;
                progress(round, &sample);
                report.samples.0.push(sample);
            }
        }
    }
    Ok((report.text(), report.json()))
}

/// What all measurements have in common.
struct Bench<'a> {
    texts: Vec<Vec<u8>>,
    large: Large,
    /// Of a measurement.
    time: Duration,
    stop: &'a AtomicBool,
}

impl Bench<'_> {
    fn load(&self, running: &Running, case: Case) -> Load<'_> {
        let (text, large) = running.program.paths();
        let texts = if running.program == Program::Nginx {
            Expected::First(&self.texts)
        } else {
            Expected::Own(&self.texts)
        };
        let (path, expected, connections, keeps) = match case {
            Case::Text { connections, keeps } => (text, texts, connections, keeps),
            Case::Large => (large, Expected::Large(&self.large), 1, true),
        };
        Load { server: running.addr(), path, expected, connections, keeps, time: self.time, most: u64::MAX }
    }

    /// Waits until it answers, and looks at everything that it serves once.
    fn answers(&self, running: &Running) -> Result<()> {
        let text = Case::Text { connections: 1, keeps: false };
        let once = |case, time| -> Result<()> {
            let load = Load { most: 1, time, ..self.load(running, case) };
            let (outcome, _) = running.cpu_during(|| ask(load, self.stop))?;
            let outcome = outcome?;
            anyhow::ensure!(outcome.done == 1, "{}", outcome.error.unwrap_or_default());
            Ok(())
        };
        let mut last = Ok(());
        wait_for(START, || {
            last = once(text, Duration::from_secs(1));
            last.is_ok() || running.check().is_err()
        });
        last.with_context(|| format!("no answer; its log:\n{}", running.log()))?;
        if Case::Large.is_for(running.program) {
            once(Case::Large, WHOLE).context("no whole file")?;
        }
        Ok(())
    }

    /// One measurement.
    fn sample(&self, running: &Running, case: Case) -> Result<Sample> {
        let load = self.load(running, case);
        let (outcome, server_cpu) = running.cpu_during(|| ask(load, self.stop))?;
        let outcome = outcome?;
        // A script that is overrun may lose somebody; who is measured may not.
        anyhow::ensure!(
            outcome.errors == 0 || running.program == Program::Script,
            "{} wrong answers, the first: {}; its log:\n{}",
            outcome.errors,
            outcome.error.unwrap_or_default(),
            running.log()
        );
        Ok(Sample { program: running.program, case, outcome, server_cpu })
    }
}

/// A line for who waits.
fn progress(round: u64, sample: &Sample) {
    let Sample { program, case, outcome, .. } = sample;
    eprintln!(
        "  round {} {:<9} {:<30} {:>9.1}/s, {} errors",
        round + 1,
        program.name(),
        case.name(),
        sample.rate(),
        outcome.errors
    );
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::Options;

    #[test]
    fn words_say_what_was_typed() {
        let parse = |words: &[String]| {
            let command = Options::augment_args(Command::new("http").no_binary_name(true));
            Options::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
        };
        let options = parse(&["--quick", "--json", "--rounds", "7", "--load", "1 conn"].map(str::to_owned));
        assert_eq!((options.rounds, options.seconds, options.quick), (7, 2, true));
        assert_eq!(format!("{:?}", parse(&options.words())), format!("{options:?}"));
        let names = options.cases().unwrap().into_iter().map(super::Case::name).collect::<Vec<_>>();
        assert_eq!(
            names,
            ["1 connection, keep-alive", "1 connection, new for each", "256 MiB file, 1 connection"]
        );
        let error = parse(&["--load=two".to_owned()]).cases().unwrap_err().to_string();
        assert!(error.contains("`4 connections, keep-alive`, "), "{error}");
    }
}
