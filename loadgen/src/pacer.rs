//! When a line is due, and how late it left.
//!
//! Used by `sender`. Line number n of a sender is due n / rate after the start, and a datagram with its
//! last line: the mean rate never exceeds the one asked for. A sender that fell behind sends as fast as
//! it can until it has caught up, so the mean rate holds where it can be held at all; how late each send
//! was is kept as a histogram, because a mean hides a stall.
//!
//! A sender that sleeps leaves its lines in bunches, which is another load than the one asked for: a
//! receiver wakes less often, and its queue is deeper. So the default is to spin; a sleep is made only
//! where the next datagram is due more than 200 µs ahead.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::{self, Stopwatch};

/// Shortest sleep of [`Pacing::Sleep`].
const SLEEP: Duration = Duration::from_millis(1);

/// Part of a rate that a sender must reach to have kept it.
pub(crate) const REACHED_MIN: f64 = 0.98;

/// Lags above this are kept as this.
const LAG_MAX: Duration = Duration::from_secs(3_600);

/// How a sender waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pacing {
    /// Every datagram leaves when it is due; costs a core.
    Spin,
    /// What is due leaves once a millisecond; spares the core, bunches the datagrams.
    Sleep,
}

/// The clock of one sender in one round.
#[derive(Debug)]
pub(crate) struct Pacer {
    stopwatch: Stopwatch,
    /// Lines per second; none sends as fast as it can.
    rate: Option<u64>,
    pacing: Pacing,
    /// Rests, which are not made up for.
    rested: Duration,
    lag: Histogram<u64>,
}

impl Pacer {
    pub(crate) fn new(stopwatch: Stopwatch, rate: Option<u64>, pacing: Pacing) -> Pacer {
        Pacer { stopwatch, rate, pacing, rested: Duration::ZERO, lag: lag_histogram() }
    }

    pub(crate) fn now(&self) -> Duration {
        self.stopwatch.elapsed()
    }

    pub(crate) fn rest(&mut self, time: Duration) {
        self.rested += time;
    }

    /// Lines that are due at `now`.
    pub(crate) fn allowed(&self, now: Duration) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        let nanos = now.saturating_sub(self.rested).as_nanos();
        u64::try_from(nanos * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX)
    }

    /// When line number `lines` is due.
    pub(crate) fn due(&self, lines: u64) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| due(lines, rate) + self.rested)
    }

    /// Lines that leave together where the smallest step has `lines`.
    pub(crate) fn step(&self, lines: u64) -> u64 {
        match (self.pacing, self.rate) {
            (Pacing::Sleep, Some(rate)) => {
                let per_sleep = u128::from(rate) * SLEEP.as_nanos() / 1_000_000_000;
                lines.max(u64::try_from(per_sleep).unwrap_or(u64::MAX))
            }
            _ => lines,
        }
    }

    /// Waits until `due`, and gives the time then.
    pub(crate) fn wait(&self, due: Duration) -> Duration {
        if self.pacing == Pacing::Sleep {
            clock::pause(due.saturating_sub(self.now()));
        }
        self.stopwatch.wait_until(due)
    }

    /// Enters a send that was over at `now` and whose first datagram ended with line `lines`; gives how
    /// late it was.
    pub(crate) fn sent(&mut self, now: Duration, lines: u64) -> Duration {
        if self.rate.is_none() {
            return Duration::ZERO;
        }
        let lag = now.saturating_sub(self.due(lines)).min(LAG_MAX);
        self.lag.saturating_record(u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX));
        lag
    }

    pub(crate) fn into_lag(self) -> Histogram<u64> {
        self.lag
    }
}

/// An empty histogram of lags in nanoseconds, two digits.
pub(crate) fn lag_histogram() -> Histogram<u64> {
    let max = u64::try_from(LAG_MAX.as_nanos()).expect("an hour fits");
    Histogram::new_with_max(max, 2).expect("the bounds are those of the crate")
}

/// When `count` things are due at `rate` things per second.
pub(crate) fn due(count: u64, rate: u64) -> Duration {
    let nanos = (u128::from(count) * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacer(rate: Option<u64>, pacing: Pacing) -> Pacer {
        Pacer::new(Stopwatch::start(), rate, pacing)
    }

    #[test]
    fn lines_are_due_by_their_number() {
        assert_eq!(due(500, 1_000), Duration::from_millis(500));
        assert_eq!(due(u64::MAX, 1), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn a_line_is_allowed_from_the_moment_it_is_due() {
        for rate in [1, 3, 7, 999, 1_000_003, 20_000_000] {
            let pacer = pacer(Some(rate), Pacing::Spin);
            for lines in [1, 2, 3, 1_000, 999_999] {
                let due = pacer.due(lines);
                assert!(lines <= pacer.allowed(due), "{lines} lines at {rate}");
                assert!(pacer.allowed(due - Duration::from_nanos(1)) < lines);
            }
        }
    }

    #[test]
    fn a_rest_is_not_made_up_for() {
        let mut pacer = pacer(Some(1_000), Pacing::Spin);
        pacer.rest(Duration::from_millis(5));
        assert_eq!(pacer.allowed(Duration::from_millis(15)), 10);
        assert_eq!(pacer.due(10), Duration::from_millis(15));
    }

    #[test]
    fn without_a_rate_everything_is_due_and_nothing_late() {
        let mut pacer = pacer(None, Pacing::Spin);
        assert_eq!(pacer.allowed(Duration::ZERO), u64::MAX);
        assert_eq!(pacer.sent(Duration::from_secs(1), 1), Duration::ZERO);
        assert_eq!(pacer.into_lag().len(), 0);
    }

    #[test]
    fn the_lag_is_counted_from_the_moment_a_line_was_due() {
        let mut pacer = pacer(Some(1_000), Pacing::Spin);
        assert_eq!(pacer.sent(Duration::from_millis(14), 10), Duration::from_millis(4));
        assert_eq!(pacer.sent(Duration::from_millis(9), 10), Duration::ZERO);
        assert_eq!(pacer.into_lag().len(), 2);
    }

    #[test]
    fn a_sleeping_sender_sends_a_millisecond_at_a_time() {
        assert_eq!(pacer(Some(50_000), Pacing::Sleep).step(1), 50);
        assert_eq!(pacer(Some(50_000), Pacing::Spin).step(1), 1);
        assert_eq!(pacer(Some(100), Pacing::Sleep).step(46), 46);
        assert_eq!(pacer(None, Pacing::Sleep).step(1), 1);
    }
}
