//! Steps of the wall clock, seen against the monotonic one.
//!
//! The two run side by side but for slewing, which moves them apart by half a millisecond a second at
//! the most; a second within one look is a step: somebody set the clock, or the machine was suspended.
//! A process or a machine that merely stood still has both clocks moved by as much, and is no step.

use crate::clock::Now;

/// Shortest step that is one, ms: timestamps are whole seconds.
const STEP_MS_MIN: u64 = 1_000;

/// How far the wall clock was from the monotonic one at the last look.
#[derive(Debug)]
pub(super) struct ClockSteps {
    offset_ms: i64,
}

impl ClockSteps {
    pub(super) fn new(now: Now) -> Self {
        Self { offset_ms: offset_ms(now) }
    }

    /// By how much the clock was set since the last look, ms; negative = back.
    pub(super) fn look(&mut self, now: Now) -> Option<i64> {
        let offset_ms = offset_ms(now);
        let step_ms = offset_ms.saturating_sub(self.offset_ms);
        self.offset_ms = offset_ms;
        (STEP_MS_MIN <= step_ms.unsigned_abs()).then_some(step_ms)
    }
}

fn offset_ms(now: Now) -> i64 {
    now.wall_ms.cast_signed().wrapping_sub(now.monotonic_ms.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_from_pauses_and_from_slewing() {
        let mut steps = ClockSteps::new(Now { wall_ms: 5_000_000, monotonic_ms: 100 });
        for (wall_ms, monotonic_ms, step_ms) in [
            (5_001_000, 1_100, None),
            // Slewed, then stopped for an hour.
            (5_002_001, 2_100, None),
            (8_602_001, 3_602_100, None),
            (12_203_001, 3_603_100, Some(3_600_000)),
            (12_204_001, 3_604_100, None),
            (8_605_001, 3_605_100, Some(-3_600_000)),
            (8_607_000, 3_606_100, None),
            (8_607_000, 3_607_100, Some(-1_000)),
            (0, 3_608_100, Some(-8_608_000)),
        ] {
            assert_eq!(steps.look(Now { wall_ms, monotonic_ms }), step_ms, "{wall_ms}");
        }
    }
}
