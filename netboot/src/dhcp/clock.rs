//! Time for leases. They end by the wall clock, which goes on while the appliance is off; but the wall clock is also
//! set, and a machine whose clock was wrong at its boot has it put right by years.
//!
//! Pure: both clocks are read elsewhere and come as arguments.

/// Seconds by which the clocks may differ before the wall clock counts as set: it is adjusted in small steps all the
/// time, and both are read one after the other.
const SLACK_SECS: u64 = 2;

/// The wall clock as last seen, with the clock that is never set beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Seconds since 1970.
    wall: u64,
    /// Seconds since some moment.
    steady: u64,
}

/// The wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it would show.
    pub from: u64,
    /// What it shows.
    pub to: u64,
}

impl Clock {
    /// Begins with what both clocks show, in seconds.
    pub const fn new(wall: u64, steady: u64) -> Self {
        Self { wall, steady }
    }

    /// What both clocks show now; answers when the wall clock was set since the last time. Slow drift is no step.
    pub fn tick(&mut self, wall: u64, steady: u64) -> Option<Step> {
        let from = self.wall.saturating_add(steady.saturating_sub(self.steady));
        let step = (wall.abs_diff(from) > SLACK_SECS).then_some(Step { from, to: wall });
        *self = Self { wall, steady };
        step
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Step};

    #[test]
    fn a_step_is_seen_once_and_drift_is_none() {
        let mut clock = Clock::new(1000, 50);
        assert_eq!(clock.tick(1000, 50), None);
        assert_eq!(clock.tick(1100, 150), None);
        // A second now and then, for ever.
        for turn in 1..100 {
            assert_eq!(clock.tick(1100 + 11 * turn, 150 + 10 * turn), None, "{turn}");
        }
        let mut clock = Clock::new(10, 50);
        assert_eq!(clock.tick(1_800_000_000, 60), Some(Step { from: 20, to: 1_800_000_000 }));
        assert_eq!(clock.tick(1_800_000_001, 61), None);
        assert_eq!(clock.tick(1_799_996_402, 62), Some(Step { from: 1_800_000_002, to: 1_799_996_402 }));
        assert_eq!(clock.tick(1_799_996_403, 63), None);
    }
}
