//! What a run of the program costs, by the kernel's own statistics, on frames of one kind that come over the wire.
//!
//! The kernel reads a clock before and after each run; both readings are in its numbers, and nothing is subtracted. A
//! program of two instructions shows how much they are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::bpf::Program;
use super::frames::Kind;
use super::generator::Generator;
use crate::bench::contestant::Running;
use crate::bench::samples::median;
use crate::bench::socket::{BATCH, Socket};

/// Frames for each second of a measurement.
const FRAMES: u64 = 100_000;
/// Runs without a network.
const TESTS: u32 = 500_000;
/// What `XDP_PASS` is as a return value.
const PASS: u32 = 2;
/// After so long without a frame the server has nothing more to say.
const QUIET: Duration = Duration::from_millis(50);
/// Longer it is not waited for.
const LONGEST: Duration = Duration::from_secs(5);

/// The traffic that is measured, as the table calls it.
pub(super) const TRAFFIC: [(Kind, &str); 5] = [
    (Kind::Discover, "reply: OFFER"),
    (Kind::Request, "reply: ACK"),
    (Kind::Miss, "miss: unknown MAC"),
    (Kind::Udp, "other: UDP, another port"),
    (Kind::Tcp, "other: TCP"),
];

/// What the kernel counted in one turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Nanoseconds of a run.
    pub(super) mean_ns: f64,
    /// The share of the frames that the program did not pass up, by what IP has received.
    pub(super) taken: f64,
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Cost {
    pub(super) traffic: &'static str,
    /// What it is to be held against; `None`: the program of two instructions.
    pub(super) kind: Option<Kind>,
    pub(super) hosts: u32,
    pub(super) turns: Vec<Turn>,
    /// The same by `BPF_PROG_TEST_RUN`: one frame over and over again, no clock within. Of what is passed alone, for a
    /// reply is written over its request.
    pub(super) tests: Vec<f64>,
}

impl Cost {
    /// A line without numbers.
    pub(super) fn new(traffic: &'static str, kind: Option<Kind>, hosts: u32) -> Self {
        Self { traffic, kind, hosts, turns: Vec::new(), tests: Vec::new() }
    }

    /// Whether the frames are passed up as they are.
    pub(super) fn is_passed(&self) -> bool {
        !matches!(self.kind, Some(Kind::Discover | Kind::Request))
    }

    /// The mean nanoseconds of a run: the median of all turns, the lowest and the highest.
    pub(super) fn nanos(&self) -> [f64; 3] {
        let all: Vec<f64> = self.turns.iter().map(|turn| turn.mean_ns).collect();
        let low = all.iter().copied().fold(f64::INFINITY, f64::min);
        [median(&all), low, all.iter().copied().fold(0.0, f64::max)]
    }

    /// The share of the frames that the program did not pass up.
    pub(super) fn taken(&self) -> f64 {
        median(&self.turns.iter().map(|turn| turn.taken).collect::<Vec<_>>())
    }
}

/// Sends frames through a program and asks the kernel what that took. `running` is who passes frames up.
///
/// # Errors
/// When the kernel does not say, or a signal came.
#[allow(clippy::cast_precision_loss, reason = "counts of a second")]
pub(super) fn turn(
    program: &Program,
    wire: &Socket,
    generator: &mut Generator,
    running: Option<&Running>,
    seconds: u64,
    stop: &AtomicBool,
) -> Result<Turn> {
    settle(wire, generator)?;
    let passed = || running.map_or(Ok(0), Running::passed);
    let (before, passed_before, sent) = (program.runs()?, passed()?, generator.count.sent);
    let start = Instant::now();
    while generator.count.sent - sent < FRAMES * seconds && start.elapsed() < LONGEST * 2 {
        anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
        generator.burst(wire, BATCH)?;
        generator.drain(wire)?;
    }
    settle(wire, generator)?;
    let (after, passed_after, sent) = (program.runs()?, passed()?, generator.count.sent - sent);
    let runs = after.count.saturating_sub(before.count);
    anyhow::ensure!(runs > 0, "the program did not run: {sent} frames were sent");
    let time = after.time.saturating_sub(before.time);
    let passed = passed_after.saturating_sub(passed_before).min(runs);
    Ok(Turn { mean_ns: time.as_nanos() as f64 / runs as f64, taken: 1.0 - passed as f64 / runs as f64 })
}

/// The same without a network, of what the program passes.
///
/// # Errors
/// When the kernel refuses or the program does something else.
pub(super) fn test(program: &Program, generator: &mut Generator) -> Result<f64> {
    let (nanos, action) = program.test(&generator.frame(), TESTS).context("run the program on a frame")?;
    anyhow::ensure!(action == PASS, "the program returned {action} for a frame that it should pass");
    Ok(nanos.into())
}

/// Waits until nothing comes any more.
fn settle(wire: &Socket, generator: &mut Generator) -> Result<()> {
    let start = Instant::now();
    let mut heard = start;
    while heard.elapsed() < QUIET && start.elapsed() < LONGEST {
        if generator.drain(wire)? {
            heard = Instant::now();
        } else {
            wire.wait(QUIET)?;
        }
    }
    Ok(())
}
