//! The thread behind the program: tells it that the daemon lives, and the timeline what it has answered and counted.
//!
//! A thread of its own: a busy runtime must not look like a dead daemon.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use netboot_ebpf::abi;
use rustix::time::{ClockId, clock_gettime};

use super::events;
use super::loader::{self, Beat, Counters, Events};
use super::words::Words;
use crate::timeline::Timeline;

/// Six beats to a grace time.
pub(super) const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Answers are seen this late. The program does not wake anybody: that would cost it more than the answer.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Answers recorded between two looks at the clock.
const AT_ONCE: usize = 1024;

/// How the thread ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The program is no longer there.
    Gone,
    /// It stays, and answers for a grace time more.
    Stays,
}

/// What the thread works with.
pub(super) struct Heartbeat {
    pub(super) beat: Beat,
    pub(super) counters: Counters,
    pub(super) events: Events,
    /// Those of the netboot before, until it has written the last.
    pub(super) before: Option<Events>,
    /// What the program says in words.
    pub(super) words: Words,
    pub(super) timeline: Timeline,
}

impl Heartbeat {
    /// Beats until it is told its end, or the sender is gone; then reads what is left.
    pub(super) fn run(mut self, end: &Receiver<End>) {
        let mut last: Option<Instant> = None;
        let end = loop {
            let more = events::record(&mut self.events, AT_ONCE, &self.timeline);
            if let Some(before) = &mut self.before {
                events::record(before, AT_ONCE, &self.timeline);
            }
            if last.is_none_or(|last| last.elapsed() >= BEAT_EVERY) {
                if last.is_some() {
                    self.close_before();
                }
                last = Some(Instant::now());
                self.beat();
                self.copy_counters();
            }
            self.words.flush();
            let wait = if more { Duration::ZERO } else { LOOK_EVERY };
            match end.recv_timeout(wait) {
                Ok(end) => break end,
                Err(RecvTimeoutError::Disconnected) => break End::Gone,
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        if end == End::Gone {
            self.write(0);
        }
        self.close_before();
        self.words.flush();
        events::record(&mut self.events, usize::MAX, &self.timeline);
        self.copy_counters();
        // The last word: the grace time begins here.
        if end == End::Stays {
            self.beat();
        }
    }

    /// Tells the program that the daemon lives.
    pub(super) fn beat(&mut self) {
        self.write(monotonic_ns());
    }

    fn write(&mut self, at_ns: u64) {
        if let Err(error) = self.beat.set(0, at_ns, 0) {
            // The program sees it grow stale and passes everything: the safe side.
            tracing::error!(%error, "the heartbeat of the fast path cannot be written");
        }
    }

    /// Reads the last answers of the netboot before: half a second after the new program took its place nothing runs there.
    fn close_before(&mut self) {
        if let Some(mut before) = self.before.take() {
            events::record(&mut before, usize::MAX, &self.timeline);
        }
    }

    fn copy_counters(&self) {
        for index in 0..abi::COUNTERS {
            match (abi::counter_name(index), loader::count(&self.counters, index)) {
                (Some(name), Ok(value)) => events::count(name, value, &self.timeline),
                (_, Err(error)) => tracing::debug!(%error, "a counter of the fast path cannot be read"),
                (None, _) => {}
            }
        }
    }
}

/// The clock of `bpf_ktime_get_ns`.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}
