//! Replies in a second to a generator that nobody holds back, and what both ends take of the processors for one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::generator::Generator;
use crate::bench::contestant::Running;
use crate::bench::drive::own_cpu;
use crate::bench::samples::median;
use crate::bench::socket::{BATCH, Socket};

/// One turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) sent: u64,
    /// Replies; of the reflector, what came back.
    pub(super) back: u64,
    pub(super) invalid: u64,
    pub(super) took: Duration,
    pub(super) server_cpu: Duration,
    /// Of the generator's thread, with the softirq that it ran: on one processor that is the whole way there and back.
    pub(super) own_cpu: Duration,
    /// Of the whole machine, whoever it was.
    pub(super) busy: Duration,
}

impl Turn {
    /// Replies in a second.
    #[allow(clippy::cast_precision_loss, reason = "the count of a short run")]
    pub(super) fn rate(&self) -> f64 {
        self.back as f64 / self.took.as_secs_f64()
    }
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Rate {
    /// 0: the reflector.
    pub(super) hosts: u32,
    /// The program runs on another processor than the generator.
    pub(super) apart: bool,
    pub(super) turns: Vec<Turn>,
}

impl Rate {
    /// What was sent to.
    pub(super) fn name(&self) -> String {
        match self.hosts {
            0 => "reflector (the ceiling)".to_owned(),
            hosts => format!("netboot, {hosts} machines"),
        }
    }

    /// How many processors generator and program had.
    pub(super) fn processors(&self) -> u8 {
        if self.apart { 2 } else { 1 }
    }
}

/// What all turns of the generator say together.
pub(super) struct Line {
    pub(super) sent: f64,
    pub(super) back: f64,
    pub(super) slowest: f64,
    pub(super) fastest: f64,
    pub(super) invalid: u64,
    /// Microseconds for each that came back.
    pub(super) server: f64,
    pub(super) own: f64,
    pub(super) busy: f64,
}

impl Line {
    #[allow(clippy::cast_precision_loss, reason = "counts and microseconds of a short run")]
    pub(super) fn of(turns: &[Turn]) -> Self {
        let rates: Vec<f64> = turns.iter().map(Turn::rate).collect();
        let back = turns.iter().map(|turn| turn.back).sum::<u64>().max(1) as f64;
        let each = |of: fn(&Turn) -> Duration| {
            turns.iter().map(|turn| of(turn).as_micros()).sum::<u128>() as f64 / back
        };
        Self {
            sent: median(
                &turns.iter().map(|turn| turn.sent as f64 / turn.took.as_secs_f64()).collect::<Vec<_>>(),
            ),
            back: median(&rates),
            slowest: rates.iter().copied().fold(f64::INFINITY, f64::min),
            fastest: rates.iter().copied().fold(0.0, f64::max),
            invalid: turns.iter().map(|turn| turn.invalid).sum(),
            server: each(|turn| turn.server_cpu),
            own: each(|turn| turn.own_cpu),
            busy: each(|turn| turn.busy),
        }
    }
}

/// Sends for a time.
///
/// # Errors
/// When the server has ended, or a signal came.
pub(super) fn turn(
    wire: &Socket,
    generator: &mut Generator,
    running: Option<&Running>,
    time: Duration,
    stop: &AtomicBool,
) -> Result<Turn> {
    let server = || running.map_or(Ok(Duration::ZERO), Running::cpu);
    while generator.drain(wire)? {}
    generator.count = super::generator::Count::default();
    let (server_before, own_before, busy_before) = (server()?, own_cpu()?, busy()?);
    let start = Instant::now();
    while start.elapsed() < time {
        anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
        generator.burst(wire, BATCH)?;
        generator.drain(wire)?;
    }
    let took = start.elapsed();
    let count = generator.count;
    Ok(Turn {
        sent: count.sent,
        back: if running.is_some() { count.replies } else { count.reflected },
        invalid: count.invalid,
        took,
        server_cpu: server()?.saturating_sub(server_before),
        own_cpu: own_cpu()?.saturating_sub(own_before),
        busy: busy()?.saturating_sub(busy_before),
    })
}

/// Time that the machine's processors have worked.
fn busy() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    worked(&text).context("/proc/stat has no line of all processors")
}

/// User, nice, system, irq and softirq of the first line, in hundredths of a second.
fn worked(stat: &str) -> Option<Duration> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let ticks = [0, 1, 2, 5, 6].iter().map(|at| fields.get(*at).copied()).sum::<Option<u64>>()?;
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn idle_is_not_work() {
        let text = "cpu  10 2 30 4000 500 6 7 800 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(super::worked(text), Some(Duration::from_millis(550)));
        assert_eq!(super::worked("cpu  1 2\n"), None);
    }
}
