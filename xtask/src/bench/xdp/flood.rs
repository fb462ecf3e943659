//! A flood of machines that nobody knows, while one reserved machine after the other asks for its address.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::frames::{Kind, is_strangers};
use super::generator::Generator;
use crate::bench::blades::{Blades, MOST, Next, PATIENCE, Tally};
use crate::bench::contestant::{Contestant, Running};
use crate::bench::samples::percentile;
use crate::bench::socket::BATCH;

/// From the end of a reserved machine's exchange to the beginning of the next one's.
const PAUSE: Duration = Duration::from_millis(5);

/// What became of it.
#[derive(Debug)]
pub(super) struct Flood {
    pub(super) who: Contestant,
    /// DISCOVERs of unknown machines a second: wanted, and sent.
    pub(super) wanted: f64,
    pub(super) sent: u64,
    pub(super) took: Duration,
    /// Of them, how many got an OFFER.
    pub(super) offered: u64,
    /// Exchanges that reserved machines began, and what became of them.
    pub(super) begun: u64,
    pub(super) tally: Tally,
    /// KiB in use before, after half of the time, and at the end.
    pub(super) memory: [u64; 3],
}

impl Flood {
    /// DISCOVERs of unknown machines a second.
    #[allow(clippy::cast_precision_loss, reason = "the count of some seconds")]
    pub(super) fn rate(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64()
    }

    /// The share of them that got an OFFER.
    #[allow(clippy::cast_precision_loss, reason = "counts of some seconds")]
    pub(super) fn offered(&self) -> f64 {
        self.offered as f64 / self.sent.max(1) as f64
    }
}

/// p50 and p99 of OFFER, and of ACK, of the reserved machines.
pub(super) fn latency(flood: &Flood) -> [u32; 4] {
    let of = |times: &[u32]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        [50, 99].map(|percent| percentile(&times, percent))
    };
    let ([a, b], [c, d]) = (of(&flood.tally.offers), of(&flood.tally.acks));
    [a, b, c, d]
}

/// Floods a server at this rate for a time.
///
/// # Errors
/// When it has ended, or a signal came.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts of some seconds"
)]
pub(super) fn flood(
    who: Contestant,
    running: &Running,
    blades: &mut Blades,
    wanted: f64,
    time: Duration,
    stop: &AtomicBool,
) -> Result<Flood> {
    let memory = || running.memory_kib("VmRSS").unwrap_or_default();
    let mut strangers = Generator::new(Kind::Miss, running.plan);
    let wire = &running.wire;
    let (before, mut half) = (memory(), None);
    let start = Instant::now();
    blades.reset(1, start);
    let (mut offered, mut begun, mut next) = (0, 0, start);
    let mut frame = [0; 2048];
    loop {
        anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
        let now = Instant::now();
        let elapsed = now - start;
        let due = (elapsed.min(time).as_secs_f64() * wanted) as u64;
        let behind = due.saturating_sub(strangers.count.sent);
        if behind > 0 {
            strangers.burst(wire, usize::try_from(behind).unwrap_or(BATCH))?;
        }
        if elapsed * 2 > time && half.is_none() {
            half = Some(memory());
        }
        if blades.waiting() == 0 {
            if elapsed >= time {
                break;
            }
            if now >= next {
                wire.send(blades.begin(0, now).unwrap_or_default()).context("send")?;
                begun += 1;
            }
        } else if blades.give_up(now).is_some() {
            next = now;
        }
        let mut heard = 0;
        while heard < MOST
            && let Some(length) = wire.receive(&mut frame).context("receive")?
        {
            heard += 1;
            let frame = frame.get(..length).unwrap_or_default();
            if is_strangers(frame) {
                offered += 1;
                continue;
            }
            let now = Instant::now();
            match blades.hear(frame, now) {
                Next::Send(request) => wire.send(request).context("send")?,
                Next::Done(_) => next = now + PAUSE,
                Next::Nothing => {}
            }
        }
        if heard == 0 && behind == 0 {
            wire.wait(Duration::from_micros(100))?;
        }
        anyhow::ensure!(elapsed < time + PATIENCE * 2, "the flood has no end");
    }
    running.cpu()?;
    Ok(Flood {
        who,
        wanted,
        sent: strangers.count.sent,
        took: time,
        offered,
        begun,
        tally: std::mem::take(&mut blades.tally),
        memory: [before, half.unwrap_or_default(), memory()],
    })
}
