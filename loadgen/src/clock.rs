//! Real time: the only module of the load generator that reads a clock or waits.
//!
//! `sender` paces by it, `settle` waits by it, `graphite` asks for points since a moment of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Below this a wait spins: a timed wait of the scheduler overshoots by more.
const SPIN: Duration = Duration::from_micros(200);

/// A moment that durations are counted from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    start: Instant,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the load generator's one monotonic clock")]
    pub(crate) fn start() -> Stopwatch {
        Stopwatch { start: Instant::now() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns once `due` has passed since the start, and the time that it is then; at once where it
    /// already has.
    pub(crate) fn wait_until(&self, due: Duration) -> Duration {
        loop {
            let elapsed = self.elapsed();
            if due <= elapsed {
                return elapsed;
            }
            let left = due - elapsed;
            if left <= SPIN {
                std::hint::spin_loop();
            } else {
                std::thread::park_timeout(left - SPIN);
            }
        }
    }
}

/// Waits for `time` without spinning; may return late, never early.
pub(crate) fn pause(time: Duration) {
    let stopwatch = Stopwatch::start();
    loop {
        let left = time.saturating_sub(stopwatch.elapsed());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// Whole seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    i64::try_from(unix_time().as_secs()).unwrap_or(i64::MAX)
}

/// `seconds` since 1970 as a date and a time of UTC: `2026-11-27T09:02:10Z`.
pub(crate) fn utc(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

/// Time since 1970.
#[expect(clippy::disallowed_methods, reason = "the load generator's one wall clock")]
pub(crate) fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_never_ends_early() {
        let stopwatch = Stopwatch::start();
        assert!(Duration::from_millis(3) <= stopwatch.wait_until(Duration::from_millis(3)));
        stopwatch.wait_until(Duration::ZERO);
    }

    #[test]
    fn a_moment_has_a_date() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }

    #[test]
    fn a_pause_never_ends_early() {
        let stopwatch = Stopwatch::start();
        pause(Duration::from_millis(2));
        assert!(Duration::from_millis(2) <= stopwatch.elapsed());
    }
}
