//! The thread behind the program: tells it that the daemon lives, and the timeline what it has answered and counted.
//!
//! A thread of its own: a busy runtime must not look like a dead daemon.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use netboot_ebpf::abi;
use rustix::time::{ClockId, clock_gettime};

use super::events;
use super::loader::{self, Beat, Counters, Events};
use crate::timeline::Timeline;

/// Six beats to a grace time.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Answers are seen this late. The program does not wake anybody: that would cost it more than the answer.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Answers recorded between two looks at the clock.
const AT_ONCE: usize = 1024;

/// What the thread works with.
pub(super) struct Heartbeat {
    pub(super) beat: Beat,
    pub(super) counters: Counters,
    pub(super) events: Events,
    pub(super) timeline: Timeline,
}

impl Heartbeat {
    /// Beats until the sender is gone, then says that there is no daemon and reads what is left.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        let mut last: Option<Instant> = None;
        loop {
            if last.is_none_or(|last| last.elapsed() >= BEAT_EVERY) {
                last = Some(Instant::now());
                self.write(monotonic_ns());
                self.copy_counters();
            }
            if stop.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                break;
            }
            events::record(&mut self.events, AT_ONCE, &self.timeline);
        }
        self.write(0);
        events::record(&mut self.events, usize::MAX, &self.timeline);
        self.copy_counters();
    }

    fn write(&mut self, at_ns: u64) {
        if let Err(error) = self.beat.set(0, at_ns, 0) {
            // The program sees it grow stale and passes everything: the safe side.
            tracing::error!(%error, "the heartbeat of the fast path cannot be written");
        }
    }

    fn copy_counters(&self) {
        for index in 0..abi::COUNTERS {
            match (abi::counter_name(index), loader::count(&self.counters, index)) {
                (Some(name), Ok(value)) => self.timeline.set("xdp", name, value),
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
