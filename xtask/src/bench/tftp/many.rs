//! `--many`: as many whole files at once as a hall of machines asks for, from netboot alone: none may fail, and the memory
//! of the server stays small.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::client::{End, Load, Outcome, fetch};
use super::content::{Source, content};
use super::report::NETBOOT;
use super::server::{Running, Wire};
use super::wire::Ask;
use super::{FILE, PROBE, START, write};
use crate::bench::contestant::Setting;
use crate::bench::machine;

/// Bytes of the file.
const SIZE: usize = 40_000_000;
/// What each of them asks for.
const ASK: Ask = Ask { blksize: 1428, window: 4 };
/// The server's memory is to stay below this, KiB.
const MEMORY_KIB: u64 = 256 << 10;
/// The slowest takes at most so many times what the fastest does.
const UNEVENNESS: f64 = 1.5;
/// How long all of them may take.
const MOST: Duration = Duration::from_mins(10);
/// Files that are open besides a socket for each client.
const FILES: u64 = 256;

/// What was measured.
#[derive(Debug)]
struct Many {
    transfers: usize,
    outcome: Outcome,
    server_cpu: Duration,
    /// KiB in use before, and the most there ever was.
    memory: [u64; 2],
}

/// Measures, and returns the table and the JSON.
///
/// # Errors
/// When something cannot be set up, or netboot does not serve; the error has its log.
pub(super) fn run(
    setting: &Setting<'_>,
    transfers: usize,
    work: &Path,
    stop: &AtomicBool,
) -> Result<(String, Value)> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = transfers as u64 + FILES;
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
            .with_context(|| format!("have {wanted} files open (ulimit -n)"))?;
    }
    let bytes = content(SIZE);
    let file = write(work, &bytes)?;
    let wire = Wire { mtu: 1500, offloads: false };
    let running = Running::start(NETBOOT, wire, setting, &work.join("many"), &file)?;
    let load =
        |clients, end| Load { file: FILE, source: Source::File(&bytes), ask: ASK, clients, end, loss: 0 };
    let fetch = |clients, end| running.as_client(|| fetch(load(clients, end), stop))?;
    while fetch(1, End::Time(PROBE))?.granted.is_none() {
        running.check()?;
        anyhow::ensure!(running.age() < START, "no answer; its log:\n{}", running.log());
    }
    let before = running.memory_kib("VmRSS");
    eprintln!("  {transfers} transfers of {} MB at once, at most {} s ...", SIZE / 1_000_000, MOST.as_secs());
    let (outcome, server_cpu) = running.cpu_during(|| fetch(transfers, End::Whole(MOST)))?;
    let many =
        Many { transfers, outcome: outcome?, server_cpu, memory: [before, running.memory_kib("VmHWM")] };
    Ok((many.text(&machine()), many.json(&machine())))
}

impl Many {
    /// MB in a second, and µs of processor time of the server and of the clients for each MB.
    #[allow(clippy::cast_precision_loss, reason = "bytes of a run of minutes")]
    fn figures(&self) -> [f64; 3] {
        let megabytes = (self.outcome.tally.bytes as f64 / 1e6).max(1e-6);
        let client = self.outcome.cpu.saturating_sub(self.outcome.spun);
        let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / megabytes;
        [megabytes / self.outcome.took.as_secs_f64(), micros(self.server_cpu), micros(client)]
    }

    fn is_whole(&self) -> bool {
        self.outcome.done == self.transfers as u64 && self.outcome.errors == 0
    }

    /// How long the slowest took in units of the fastest: all of them began at once.
    fn unevenness(&self) -> Option<f64> {
        let Outcome { first_done, last_done, .. } = &self.outcome;
        Some(last_done.as_ref()?.as_secs_f64() / first_done.as_ref()?.as_secs_f64().max(1e-9))
    }

    fn is_even(&self) -> bool {
        self.unevenness().is_some_and(|times| times <= UNEVENNESS)
    }

    fn is_small(&self) -> bool {
        self.memory[1] < MEMORY_KIB
    }

    fn text(&self, machine: &str) -> String {
        let Outcome { took, tally, done, errors, error, .. } = &self.outcome;
        let [rate, server, client] = self.figures();
        let mut text = format!(
            "{machine}; {} transfers of {SIZE} bytes at once, blksize {}, window {}, offloads off\n\n\
             | | |\n|---|--:|\n",
            self.transfers, ASK.blksize, ASK.window
        );
        let verdict = |reached| if reached { "reached" } else { "**missed**" };
        for (what, value) in [
            ("whole files, every byte compared", format!("{done} ({})", verdict(self.is_whole()))),
            ("failed (goal: none)", format!("{errors} {}", error.as_deref().unwrap_or_default())),
            ("seconds", format!("{:.1}", took.as_secs_f64())),
            (
                "the slowest took so many times what the fastest did (goal: at most 1.5)",
                self.unevenness().map_or_else(
                    || "–".to_owned(),
                    |times| format!("{times:.2} ({})", verdict(self.is_even())),
                ),
            ),
            ("MB/s", format!("{rate:.0}")),
            ("CPU of the server, µs a MB", format!("{server:.0}")),
            ("CPU of the clients, µs a MB", format!("{client:.0}")),
            ("blocks that came again; gaps", format!("{}; {}", tally.again, tally.gaps)),
            (
                "seconds without anything new; of them before the first answer",
                format!("{}; {}", tally.timeouts, tally.unanswered),
            ),
            ("memory of the server before, MiB", format!("{}", self.memory[0] >> 10)),
            (
                "the most it ever was (goal: less than 256 MiB)",
                format!("{} ({})", self.memory[1] >> 10, verdict(self.is_small())),
            ),
        ] {
            let _ = writeln!(text, "| {what} | {value} |");
        }
        text
    }

    fn json(&self, machine: &str) -> Value {
        let Outcome { took, tally, done, errors, error, .. } = &self.outcome;
        let [rate, server, client] = self.figures();
        json!({
            "machine": machine, "transfers": self.transfers, "bytes": SIZE, "blksize": ASK.blksize, "window": ASK.window,
            "done": done, "errors": errors, "error": error, "seconds": took.as_secs_f64(), "mb_per_second": rate,
            "cpu_us_per_mb": { "server": server, "client": client },
            "again": tally.again, "gaps": tally.gaps, "timeouts": tally.timeouts, "unanswered": tally.unanswered,
            "memory_kib": { "before": self.memory[0], "most": self.memory[1] },
            "slowest_to_fastest": self.unevenness(),
            "reached": { "even": self.is_even(), "whole": self.is_whole(), "memory": self.is_small() },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Many, Outcome};
    use crate::bench::tftp::transfer::Tally;

    #[test]
    fn one_that_fails_is_one_too_many() {
        let tally = Tally { bytes: 80_000_000, ..Tally::default() };
        let second = Duration::from_secs(1);
        let (first_done, last_done) = (Some(second), Some(second * 2));
        let (cpu, spun) = (second, second / 2);
        let outcome = Outcome {
            done: 2,
            tally,
            took: second * 2,
            cpu,
            spun,
            first_done,
            last_done,
            ..Outcome::default()
        };
        let mut many = Many { transfers: 2, outcome, server_cpu: second, memory: [1024, 100 << 10] };
        let text = many.text("a machine");
        for line in [
            "| MB/s | 40 |",
            "µs a MB | 12500 |",
            "µs a MB | 6250 |",
            "compared | 2 (reached) |",
            "at most 1.5) | 2.00 (**missed**) |",
            "256 MiB) | 100 (reached) |",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        many.outcome.done = 1;
        many.outcome.errors = 1;
        many.memory[1] = 256 << 10;
        let json = many.json("a machine");
        assert_eq!((&json["reached"]["whole"], &json["reached"]["memory"]), (&false.into(), &false.into()));
    }
}
