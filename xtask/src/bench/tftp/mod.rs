//! `cargo xtask bench tftp`: netboot, tftpd-hpa, atftpd and dnsmasq, and a responder that is no server, under the same load
//! in one run, in turns.

mod client;
mod content;
mod datagrams;
mod json;
mod many;
mod null;
mod report;
mod samples;
mod server;
mod targets;
mod transfer;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::contestant::Setting;
use super::machine;
use client::{End, Load, Outcome, fetch};
use content::Source;
pub(in crate::bench) use content::content;
use null::Null;
use report::{Report, Whole};
use samples::{Case, Sample};
use server::{ALL, Program, Running, Wire};
use wire::Ask;

/// Bytes of the file. Blocks of 512 bytes end with an empty one, the others with a short one.
const SIZE: usize = 64_000_000;
/// Its name.
const FILE: &str = "image.bin";
/// How long a server may take from its start to its first answer, and for a whole file.
const START: Duration = Duration::from_secs(20);
const WHOLE: Duration = Duration::from_mins(1);
/// How long it is waited for an answer before it is asked anew.
const PROBE: Duration = Duration::from_millis(20);

/// Which wires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Offloads {
    Off,
    On,
    Both,
}

/// What can be set.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Rounds; in each every server has its turn with every block size, window and number of clients.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    rounds: u64,
    /// Checksums, GSO, GRO and TSO of both ends of the wire.
    #[arg(long, value_enum, default_value_t = Offloads::Both)]
    offloads: Offloads,
    /// One round of a second each, of block size 1428 with windows 1 and 16 alone.
    #[arg(long)]
    quick: bool,
    /// Of the block sizes this one alone, bytes.
    #[arg(long)]
    blksize: Option<u16>,
    /// Of the windows this one alone, blocks.
    #[arg(long)]
    window: Option<u16>,
    /// Of the numbers of clients this one alone.
    #[arg(long)]
    clients: Option<u16>,
    /// Of a thousand packets so many are lost, each way: one client alone, beside the real servers.
    #[arg(long, value_name = "OF_THOUSAND", value_parser = clap::value_parser!(u16).range(1..=200))]
    loss: Option<u16>,
    /// Measure something else: so many transfers of 40 MB at once from netboot alone, and its memory.
    #[arg(long, value_name = "TRANSFERS", num_args = 0..=1, default_missing_value = "1000",
          value_parser = clap::value_parser!(u64).range(1..=1900))]
    many: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    /// As they were typed, for the part that needs root.
    pub(super) fn words(&self) -> Vec<String> {
        let offloads = match self.offloads {
            Offloads::Off => "off",
            Offloads::On => "on",
            Offloads::Both => "both",
        };
        let mut words = vec![
            format!("--seconds={}", self.seconds),
            format!("--rounds={}", self.rounds),
            format!("--offloads={offloads}"),
        ];
        for (name, value) in [
            ("--blksize", self.blksize),
            ("--window", self.window),
            ("--clients", self.clients),
            ("--loss", self.loss),
        ] {
            words.extend(value.map(|value| format!("{name}={value}")));
        }
        words.extend(self.many.map(|many| format!("--many={many}")));
        for (set, name) in [(self.quick, "--quick"), (self.json, "--json")] {
            words.extend(set.then(|| name.to_owned()));
        }
        words
    }

    /// The loads that are measured.
    fn cases(&self) -> Vec<Case> {
        let is = |wanted: Option<u16>, value: usize| wanted.is_none_or(|wanted| usize::from(wanted) == value);
        let mut cases = self.loss.map_or_else(|| Case::all(self.quick), Case::lossy);
        cases.retain(|case| {
            is(self.blksize, usize::from(case.ask.blksize))
                && is(self.window, usize::from(case.ask.window))
                && is(self.clients, case.clients)
        });
        cases
    }
}

/// Measures, and returns the tables and the JSON.
///
/// # Errors
/// When something cannot be set up, or netboot does not serve; the error has its log.
pub(super) fn run(
    setting: &Setting<'_>,
    options: &Options,
    work: &Path,
    stop: &AtomicBool,
) -> Result<(String, Value)> {
    std::fs::create_dir_all(work).with_context(|| format!("create {}", work.display()))?;
    if let Some(transfers) = options.many {
        return many::run(setting, usize::try_from(transfers)?, work, stop);
    }
    let (seconds, rounds) = if options.quick { (1, 1) } else { (options.seconds, options.rounds) };
    let bytes = content(SIZE);
    let bench = Bench {
        setting,
        file: write(work, &bytes)?,
        bytes: &bytes,
        time: Duration::from_secs(seconds),
        rounds,
        work,
        stop,
    };
    let offloads = match options.offloads {
        Offloads::Off => &[false][..],
        Offloads::On => &[true],
        Offloads::Both => &[false, true],
    };
    let mut report =
        Report { machine: machine(), seconds, rounds, offloads: offloads.to_vec(), ..Report::default() };
    report.cases = options.cases();
    anyhow::ensure!(
        !report.cases.is_empty(),
        "no such load: blksize 512, 1408, 1428 or 8192, window 1, 4, 16 or 64, 1 or 32 clients"
    );
    for offloads in offloads {
        for mtu in [1500, 9000] {
            let cases: Vec<Case> = report.cases.iter().copied().filter(|case| case.mtu() == mtu).collect();
            if !cases.is_empty() {
                bench.measure(Wire { mtu, offloads: *offloads }, &cases, &mut report)?;
            }
        }
    }
    Ok((report.text(), report.json()))
}

/// Writes the file that is served.
fn write(work: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let file = work.join(FILE);
    std::fs::write(&file, bytes).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}

/// What all measurements have in common.
struct Bench<'a> {
    setting: &'a Setting<'a>,
    file: PathBuf,
    bytes: &'a [u8],
    /// Of a measurement.
    time: Duration,
    rounds: u64,
    work: &'a Path,
    stop: &'a AtomicBool,
}

impl Bench<'_> {
    /// Starts all servers on such wires, has each send a whole file, and measures them in turns.
    fn measure(&self, wire: Wire, cases: &[Case], report: &mut Report) -> Result<()> {
        let blksize = cases.iter().map(|case| case.ask.blksize).max().unwrap_or(512);
        let mut served = Vec::new();
        // The null responder never sends anything twice.
        let lossless = cases.iter().all(|case| case.loss == 0);
        for program in ALL.into_iter().filter(|program| lossless || *program != Program::Null) {
            let home = self.work.join(format!("{}-{}-{}", program.number(), wire.mtu, wire.offloads));
            let running = Running::start(program, wire, self.setting, &home, &self.file)
                .with_context(|| format!("start {}", program.name()))?;
            match self.whole(&running, Ask { blksize, window: 16 }) {
                Ok(outcome) => {
                    report.wholes.push(Whole { program, wire, outcome });
                    served.push(running);
                }
                Err(error) if program.is_peer() => report.leave_out(program, wire, &error),
                Err(error) => return Err(error).with_context(|| program.name()),
            }
        }
        for round in 0..self.rounds {
            for case in cases {
                // Another one begins each time.
                served.rotate_left(1);
                let mut gone = Vec::new();
                for running in &served {
                    match self.sample(running, wire, *case) {
                        Ok(sample) => {
                            progress(round, &sample);
                            report.samples.0.push(sample);
                        }
                        Err(error) if running.program.is_peer() => gone.push((running.program, error)),
                        Err(error) => {
                            return Err(error).with_context(|| {
                                format!("measure {}, {}", running.program.name(), case.name())
                            });
                        }
                    }
                }
                for (program, error) in gone {
                    report.leave_out(program, wire, &error.context(case.name()));
                    served.retain(|running| running.program != program);
                }
            }
        }
        Ok(())
    }

    /// One whole file, as soon as the server answers. Of the null responder, which has none, there is nothing to see.
    fn whole(&self, running: &Running, ask: Ask) -> Result<Outcome> {
        if running.program == Program::Null {
            return Ok(Outcome::default());
        }
        let load = |end| Load { file: FILE, source: Source::File(self.bytes), ask, clients: 1, end, loss: 0 };
        let fetch = |end| running.as_client(|| fetch(load(end), self.stop))?;
        // Until it listens nobody answers.
        while fetch(End::Time(PROBE))?.granted.is_none() {
            running.check()?;
            anyhow::ensure!(running.age() < START, "no answer; its log:\n{}", running.log());
        }
        let outcome = fetch(End::Whole(WHOLE))?;
        anyhow::ensure!(
            outcome.done == 1,
            "no whole file after {:.1} s and {} bytes: {}; its log:\n{}",
            outcome.took.as_secs_f64(),
            outcome.tally.bytes,
            outcome.error.as_deref().unwrap_or("the time is over"),
            running.log()
        );
        Ok(outcome)
    }

    /// One measurement.
    fn sample(&self, running: &Running, wire: Wire, case: Case) -> Result<Sample> {
        let null = running.null(case.ask)?;
        let source = if null.is_some() { Source::Endless } else { Source::File(self.bytes) };
        let load = Load {
            file: FILE,
            source,
            ask: case.ask,
            clients: case.clients,
            end: End::Time(self.time),
            loss: case.loss,
        };
        let fetched = running.cpu_during(|| running.as_client(|| fetch(load, self.stop)));
        let null_cpu = null.map(Null::end).transpose()?;
        let (outcome, server_cpu) = fetched?;
        let server_cpu = null_cpu.unwrap_or(server_cpu);
        Ok(Sample { program: running.program, wire, case, outcome: outcome??, server_cpu })
    }
}

/// A line for who waits.
fn progress(round: u64, sample: &Sample) {
    let Sample { program, wire, case, outcome, .. } = sample;
    eprintln!(
        "  {}, round {} {:<21} {:<38} {:>7.1} MB/s, {} again, {} timeouts, {} errors",
        wire.name(),
        round + 1,
        program.name(),
        case.name(),
        sample.rate(),
        outcome.tally.again,
        outcome.tally.timeouts,
        outcome.errors,
    );
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::{Case, Offloads, Options};

    fn parse(words: &[String]) -> Options {
        let command = Options::augment_args(Command::new("tftp").no_binary_name(true));
        Options::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    #[test]
    fn words_say_what_was_typed() {
        let typed =
            ["--quick", "--json", "--many", "--window=16", "--loss=9", "--offloads", "on", "--seconds", "7"];
        let options = parse(&typed.map(str::to_owned));
        assert_eq!((options.many, options.seconds, options.offloads), (Some(1000), 7, Offloads::On));
        let again = parse(&options.words());
        assert_eq!(format!("{again:?}"), format!("{options:?}"));
    }

    #[test]
    fn one_load_alone() {
        let of =
            |words: &[&str]| parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).cases();
        assert_eq!(of(&[]), Case::all(false));
        assert_eq!(of(&["--blksize=1428", "--window=16"]).len(), 3);
        assert_eq!(of(&["--blksize=8192", "--window=1", "--clients=32"]).len(), 1);
        assert!(of(&["--clients=2"]).is_empty());
        assert_eq!(of(&["--loss=10", "--window=16"]).iter().map(|case| case.loss).collect::<Vec<_>>(), [10]);
    }
}
