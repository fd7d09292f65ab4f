//! The grid of ticks: wall-clock multiples of `flushInterval`.
//!
//! Points must meet Graphite's slots, and no timestamp may be used twice: two values in one whisper
//! slot destroy one. So a tick whose second the spool has seen is passed over, and its interval
//! merges into the next one; a start within the partial interval of the stop before it makes the
//! first interval longer. Below one second several ticks share a second and the rule cannot hold.
//!
//! Late ticks merge: the tick that is due latest is taken, the ones before it are not made up for.
//! A clock that was set forward is a late tick. One that was set back by more than two intervals is
//! followed when it has stayed so for two intervals (the timestamps between are then used again, which
//! is counted); until then, and after a shorter step, there is no tick and the interval grows: a clock
//! that is put right again soon has cost nothing. A start cannot tell a step back from stops in a row,
//! each of which used up one more timestamp: it follows the clock when the spool is more than a minute
//! ahead, at once.

use crate::clock::Now;

/// Where ticks lie, and which timestamps are used up.
#[derive(Debug)]
pub(super) struct Grid {
    interval_ms: u64,
    /// Length of the intervals after the open one, ms.
    next_interval_ms: u64,
    newest_timestamp_s: Option<u64>,
    next_ms: u64,
    /// The latest the clock has shown.
    latest_ms: u64,
    /// Since when it has been behind that by more than it may, monotonic, ms.
    behind_since_ms: Option<u64>,
    /// Whether the start had to follow a clock that was behind the spool.
    has_followed_at_start: bool,
}

/// A tick that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    /// What the points of the interval bear, s since the epoch.
    pub(super) timestamp_s: u64,
    /// Ticks that were merged into this one.
    pub(super) merged: u64,
}

/// Intervals a clock may be set back before it is followed, and for which it must stay so.
const STEP_BACK_INTERVALS: u64 = 2;

/// How far the spool may be ahead of the clock at a start, ms; a whisper file takes points that far
/// ahead.
const AHEAD_MS_MAX: u64 = 60_000;

impl Grid {
    /// A grid whose first tick comes after `now_ms` and after every timestamp the spool has seen.
    pub(super) fn new(interval_ms: u64, newest_timestamp_s: Option<u64>, now_ms: u64) -> Self {
        let mut grid = Self {
            interval_ms,
            next_interval_ms: interval_ms,
            newest_timestamp_s,
            next_ms: 0,
            latest_ms: now_ms,
            behind_since_ms: None,
            has_followed_at_start: false,
        };
        grid.next_ms = grid.tick_after(now_ms);
        if AHEAD_MS_MAX.max(STEP_BACK_INTERVALS * interval_ms) < grid.wait_ms(now_ms) {
            grid.follow(now_ms);
            grid.has_followed_at_start = true;
        }
        grid
    }

    /// Whether the spool was so far ahead of the clock at the start that timestamps are used again.
    pub(super) fn has_followed_at_start(&self) -> bool {
        self.has_followed_at_start
    }

    /// Ticks lie on multiples of `interval_ms` after the one that is next now.
    pub(super) fn set_interval(&mut self, interval_ms: u64) {
        self.next_interval_ms = interval_ms;
    }

    /// Length of the intervals after the open one, ms.
    #[cfg(test)]
    pub(super) fn next_interval_ms(&self) -> u64 {
        self.next_interval_ms
    }

    /// When the next tick is, wall clock, ms.
    pub(super) fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// Takes over a grid of the same length whose next tick is at `next_ms`; it may be due already.
    pub(super) fn go_on_at(&mut self, next_ms: u64) {
        let is_new = self.newest_timestamp_s.is_none_or(|newest_s| newest_s < timestamp_s(next_ms));
        if next_ms.is_multiple_of(self.interval_ms) && next_ms < self.next_ms && is_new {
            self.next_ms = next_ms;
        }
    }

    /// How long until the next tick, ms; 0 = due.
    pub(super) fn wait_ms(&self, now_ms: u64) -> u64 {
        self.next_ms.saturating_sub(now_ms)
    }

    /// Whether the clock was set back so far, and has stayed so for so long, that it must be followed.
    pub(super) fn is_step_back(&mut self, now: Now) -> bool {
        self.latest_ms = self.latest_ms.max(now.wall_ms);
        let patience_ms = STEP_BACK_INTERVALS * self.interval_ms;
        if self.latest_ms - now.wall_ms <= patience_ms {
            self.behind_since_ms = None;
            return false;
        }
        let since_ms = *self.behind_since_ms.get_or_insert(now.monotonic_ms);
        patience_ms <= now.monotonic_ms.saturating_sub(since_ms)
    }

    /// Takes the clock as it is now.
    pub(super) fn follow(&mut self, now_ms: u64) {
        self.newest_timestamp_s = None;
        self.behind_since_ms = None;
        self.latest_ms = now_ms;
        self.next_ms = self.tick_after(now_ms);
    }

    /// The tick that is due at `now_ms`, if one is; the grid then stands at the next one.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<Tick> {
        if now_ms < self.next_ms {
            return None;
        }
        let latest_ms = now_ms / self.interval_ms * self.interval_ms;
        let merged = (latest_ms - self.next_ms) / self.interval_ms;
        self.next_ms = latest_ms.max(self.next_ms);
        Some(self.take_next(merged, now_ms))
    }

    /// The tick of a stop: the partial interval bears its grid end.
    pub(super) fn take_partial(&mut self, now_ms: u64) -> Tick {
        self.take_next(0, now_ms)
    }

    fn take_next(&mut self, merged: u64, now_ms: u64) -> Tick {
        let timestamp_s = timestamp_s(self.next_ms);
        self.newest_timestamp_s = self.newest_timestamp_s.max(Some(timestamp_s));
        self.interval_ms = self.next_interval_ms;
        self.next_ms = self.tick_after(now_ms.max(self.next_ms));
        Tick { timestamp_s, merged }
    }

    fn tick_after(&self, now_ms: u64) -> u64 {
        let mut next_ms = (now_ms / self.interval_ms + 1) * self.interval_ms;
        if 1_000 <= self.interval_ms
            && let Some(newest_s) = self.newest_timestamp_s
            && timestamp_s(next_ms) <= newest_s
        {
            // The first multiple whose rounded second is past the newest.
            next_ms = (newest_s * 1_000 + 500).div_ceil(self.interval_ms) * self.interval_ms;
        }
        next_ms
    }
}

/// Whole seconds, rounded to nearest as the reference daemon does.
fn timestamp_s(tick_ms: u64) -> u64 {
    (tick_ms + 500) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lie_on_multiples_of_the_interval() {
        let mut grid = Grid::new(10_000, None, 1_234_567);
        assert_eq!(grid.wait_ms(1_234_567), 5_433);
        assert_eq!(grid.take_due(1_239_999), None);
        assert_eq!(grid.take_due(1_240_003), Some(Tick { timestamp_s: 1_240, merged: 0 }));
        assert_eq!(grid.wait_ms(1_240_003), 9_997);
    }

    #[test]
    fn a_late_tick_merges_and_bears_the_latest_grid_point() {
        let mut grid = Grid::new(10_000, None, 1_234_567);
        assert_eq!(grid.take_due(1_275_000), Some(Tick { timestamp_s: 1_270, merged: 3 }));
        assert_eq!(grid.wait_ms(1_275_000), 5_000);
    }

    #[test]
    fn a_timestamp_the_spool_has_seen_is_not_used_again() {
        // Stopped at 1,235 s: the partial interval bears 1,240. Started again at 1,236 s.
        let mut before = Grid::new(10_000, None, 1_234_567);
        let partial = before.take_partial(1_235_000);
        assert_eq!(partial.timestamp_s, 1_240);
        let mut after = Grid::new(10_000, Some(partial.timestamp_s), 1_236_000);
        assert_eq!(after.take_due(1_240_100), None);
        assert_eq!(after.take_due(1_250_000), Some(Tick { timestamp_s: 1_250, merged: 0 }));
    }

    #[test]
    fn stops_in_a_row_within_one_interval_use_new_timestamps_each() {
        let mut newest = None;
        let mut used = Vec::new();
        for start in 0..4 {
            let mut grid = Grid::new(10_000, newest, 1_000_000 + start * 100);
            newest = Some(grid.take_partial(1_000_050 + start * 100).timestamp_s);
            used.extend(newest);
        }
        assert_eq!(used, [1_010, 1_020, 1_030, 1_040]);
    }

    #[test]
    fn intervals_that_are_no_whole_seconds_never_share_a_second_from_one_second_on() {
        let mut grid = Grid::new(1_300, None, 0);
        let mut newest = 0;
        for now_ms in (0..200_000).step_by(100) {
            if let Some(tick) = grid.take_due(now_ms) {
                assert!(newest < tick.timestamp_s);
                newest = tick.timestamp_s;
            }
        }
        assert!(190 < newest);
    }

    #[test]
    fn a_tick_that_was_due_at_the_take_over_is_made_up_for() {
        let mut before = Grid::new(10_000, Some(990), 1_234_567);
        let next_ms = before.next_ms();
        let mut after = Grid::new(10_000, Some(1_230), 1_240_050);
        after.go_on_at(next_ms);
        assert_eq!(after.take_due(1_240_060), Some(Tick { timestamp_s: 1_240, merged: 0 }));
        assert_eq!(before.take_due(1_234_568), None);
        // One that the spool has seen, one of another length, and one that lies ahead are not taken.
        for (newest_s, next_ms) in [(1_240, 1_240_000), (1_230, 1_239_000), (1_230, 1_290_000)] {
            let mut after = Grid::new(10_000, Some(newest_s), 1_240_050);
            after.go_on_at(next_ms);
            assert_eq!(after.take_due(1_249_999), None);
            assert!(after.take_due(1_250_000).is_some());
        }
    }

    #[test]
    fn another_interval_begins_where_the_open_one_ends() {
        let mut grid = Grid::new(1_000, None, 10_100);
        grid.set_interval(2_000);
        assert_eq!(grid.take_due(11_000), Some(Tick { timestamp_s: 11, merged: 0 }));
        assert_eq!(grid.take_due(11_999), None);
        assert_eq!(grid.take_due(12_000), Some(Tick { timestamp_s: 12, merged: 0 }));
        grid.set_interval(1_000);
        assert_eq!(grid.take_due(13_999), None);
        assert_eq!(grid.take_due(14_000), Some(Tick { timestamp_s: 14, merged: 0 }));
        assert_eq!(grid.take_due(15_000), Some(Tick { timestamp_s: 15, merged: 0 }));
    }

    #[test]
    fn short_intervals_tick_on_though_they_share_seconds() {
        let mut grid = Grid::new(500, Some(20), 19_900);
        let ticks: Vec<u64> = (19_900..=21_000)
            .filter_map(|now_ms| grid.take_due(now_ms))
            .map(|tick| tick.timestamp_s)
            .collect();
        assert_eq!(ticks, [20, 21, 21]);
    }

    #[test]
    fn a_clock_set_back_by_hours_is_followed_and_a_small_step_waited_out() {
        let at = |wall_ms, monotonic_ms| Now { wall_ms, monotonic_ms };
        let mut grid = Grid::new(10_000, None, 7_200_000);
        assert!(!grid.is_step_back(at(7_200_000, 0)));
        assert!(!grid.is_step_back(at(7_180_000, 1)));
        assert!(!grid.is_step_back(at(7_179_999, 2)));
        assert!(!grid.is_step_back(at(7_180_000, 20_003)), "put right: counted anew");
        assert!(!grid.is_step_back(at(3_600_000, 20_004)));
        assert_eq!(grid.take_due(3_619_999), None);
        assert!(!grid.is_step_back(at(3_619_999, 40_003)));
        assert!(grid.is_step_back(at(3_620_000, 40_004)));
        grid.follow(3_620_000);
        assert_eq!(grid.wait_ms(3_620_000), 10_000);
        assert!(!grid.has_followed_at_start());
        let restarted = Grid::new(10_000, Some(7_200), 3_600_000);
        assert_eq!(restarted.wait_ms(3_600_000), 10_000);
        assert!(restarted.has_followed_at_start());
    }
}
