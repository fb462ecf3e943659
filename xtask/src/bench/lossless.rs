//! The lossless rate: the most exchanges a second that can be asked of a server so that it answers every one in time.
//!
//! A search in steps of a second: doubled while all goes well, halved while it does not, then the middle. A rate that
//! fails is tried once more, for the machine may have had something else to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::contestant::Running;
use super::open::{BOUND, Open, Then};

/// How long a rate is held.
const STEP: Duration = Duration::from_secs(1);
/// The most steps for one server.
const STEPS: usize = 16;
/// The search ends when the lowest rate that failed is so near to the highest that did not.
const NEAR: f64 = 1.06;
/// No server is slower.
const SLOWEST: f64 = 8.0;
/// Frames read before the clock is looked at again.
const MOST: usize = 64;

/// What is known of a server's rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    rate: f64,
    held: Option<f64>,
    failed: Option<f64>,
    /// The rate has failed once.
    again: bool,
    steps: usize,
}

impl Search {
    /// Begins at a guess.
    pub(super) fn new(guess: f64) -> Self {
        Self { rate: guess.max(SLOWEST), held: None, failed: None, again: false, steps: 0 }
    }

    /// The rate to try; `None` when the search is over.
    pub(super) fn next(&self) -> Option<f64> {
        let near = matches!((self.held, self.failed), (Some(held), Some(failed)) if failed / held < NEAR);
        (self.steps < STEPS && !near && self.rate >= SLOWEST).then_some(self.rate)
    }

    /// Takes what became of it.
    pub(super) fn saw(&mut self, fine: bool) {
        self.steps += 1;
        if !fine && !self.again {
            self.again = true;
            return;
        }
        self.again = false;
        *if fine { &mut self.held } else { &mut self.failed } = Some(self.rate);
        self.rate = match (self.held, self.failed) {
            (Some(held), Some(failed)) => f64::midpoint(held, failed),
            (Some(held), None) => held * 2.0,
            (None, Some(failed)) => failed / 2.0,
            (None, None) => self.rate,
        };
    }

    /// The highest rate that was held; 0 when none was.
    pub(super) fn found(&self) -> f64 {
        self.held.unwrap_or_default()
    }
}

/// Asks at this rate for a step. Whether all was answered, rightly and in time.
///
/// # Errors
/// When the server has ended or a signal came.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts of one second"
)]
pub(super) fn holds(running: &Running, open: &mut Open, rate: f64, stop: &AtomicBool) -> Result<bool> {
    running.cpu()?;
    let wire = &running.wire;
    let total = (rate * STEP.as_secs_f64()).ceil() as usize;
    let mut frame = [0; 2048];
    quiet(running, &mut frame, stop)?;
    open.reset();
    let start = Instant::now();
    let mut looked = start;
    loop {
        let now = Instant::now();
        let due = ((now - start).as_secs_f64() * rate) as usize;
        // Behind the clock by more than the bound: it is the blades that cannot.
        if due.saturating_sub(open.begun()) as f64 > rate * BOUND.as_secs_f64() + 1.0 {
            return Ok(false);
        }
        let behind = due.min(total).saturating_sub(open.begun());
        for _ in 0..behind.min(MOST) {
            let Some(request) = open.begin(Instant::now()) else { return Ok(false) };
            wire.send(request).context("send")?;
        }
        if open.begun() >= total && open.waiting() == 0 {
            return Ok(open.invalid == 0);
        }
        if now - looked >= BOUND / 10 {
            looked = now;
            anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
            if open.is_late(now) {
                return Ok(false);
            }
        }
        let mut heard = 0;
        while heard < MOST
            && let Some(length) = wire.receive(&mut frame).context("receive")?
        {
            heard += 1;
            match open.hear(frame.get(..length).unwrap_or_default(), Instant::now()) {
                Then::Send(request) => wire.send(request).context("send")?,
                Then::Late => return Ok(false),
                Then::Nothing => {}
            }
        }
        if heard == 0 && behind == 0 {
            let next = start + Duration::from_secs_f64((open.begun() as f64 + 1.0) / rate);
            wire.wait(next.saturating_duration_since(Instant::now()).min(BOUND / 20))?;
        }
    }
}

/// Waits until the server has said all it has to say about an earlier step, for some seconds at most.
fn quiet(running: &Running, frame: &mut [u8], stop: &AtomicBool) -> Result<()> {
    let begin = Instant::now();
    let mut heard = begin;
    while heard.elapsed() < BOUND && begin.elapsed() < 5 * STEP {
        anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
        while running.wire.receive(frame).context("receive")?.is_some() {
            heard = Instant::now();
        }
        running.wire.wait(BOUND / 10)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{NEAR, STEPS, Search};

    /// Runs a search against a server that holds this rate.
    fn search(guess: f64, holds: f64) -> Search {
        let mut search = Search::new(guess);
        let mut steps = 0;
        while let Some(rate) = search.next() {
            search.saw(rate <= holds);
            steps += 1;
            assert!(steps <= STEPS, "it ends");
        }
        search
    }

    #[test]
    fn the_rate_is_found_from_below_and_from_above() {
        for holds in [100.0, 3000.0, 8500.0, 60_000.0] {
            for guess in [holds / 3.0, holds * 0.9, holds * 1.5, holds * 4.0] {
                let found = search(guess, holds).found();
                assert!(found <= holds && found * NEAR * 1.1 >= holds, "{guess} → {found} of {holds}");
            }
        }
    }

    #[test]
    fn one_bad_moment_does_not_count() {
        let mut search = Search::new(1000.0);
        search.saw(false);
        assert_eq!(search.next(), Some(1000.0), "once more");
        search.saw(true);
        assert_eq!((search.next(), search.found()), (Some(2000.0), 1000.0));
    }

    #[test]
    fn a_server_that_answers_nothing_ends_the_search() {
        assert!(search(500.0, 0.0).found().abs() < 1e-9);
    }
}
