//! The only place that reads clocks.
//!
//! Workers read the monotonic clock once per batch, the coordinator reads the wall clock once per
//! tick; everything else is handed a time. Nothing here sleeps: a wait is a timed wait on an event
//! (`crate::sys::WakeUp`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;

/// Nanoseconds of the monotonic clock: comparable between threads, never set back, counted from an
/// arbitrary start.
///
/// # Cost
/// No system call on x86-64 and arm64 (vDSO), 19 to 26 ns.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).expect("the monotonic clock starts at zero");
    let ns = u64::try_from(now.tv_nsec).expect("the kernel keeps tv_nsec within 0..1e9");
    seconds * NS_PER_S + ns
}

/// Milliseconds of the wall clock since the epoch; 0 for a clock set before 1970.
///
/// Asked of the C library, unlike the monotonic clock: so a program that was started under another
/// time (libfaketime, a test) has that time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// As [`wall_ms`].
    pub wall_ms: u64,
    /// The monotonic clock, ms.
    pub monotonic_ms: u64,
}

/// Longest time between the two readings for which they count as one moment, ns.
const MOMENT_NS: u64 = 10_000_000;

/// Readings before one is taken that took longer.
const MOMENTS_MAX: u32 = 8;

/// Both clocks. A process that is stopped between two readings, as SIGSTOP or a hypervisor does it,
/// would take its own sleep for a step of the clock: then they are read again.
#[must_use]
pub fn now() -> Now {
    let mut reading = 1;
    loop {
        let before_ns = monotonic_ns();
        let wall_ms = wall_ms();
        let after_ns = monotonic_ns();
        if after_ns - before_ns < MOMENT_NS || reading == MOMENTS_MAX {
            return Now { wall_ms, monotonic_ms: after_ns / 1_000_000 };
        }
        reading += 1;
    }
}

/// A duration as a number of nanoseconds; one too long for that counts as the longest.
#[must_use]
pub fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_never_runs_back() {
        let times: Vec<u64> = (0..1_000).map(|_| monotonic_ns()).collect();
        assert!(times.is_sorted());
        assert!(times[0] > 0);
    }

    #[test]
    fn wall_time_is_in_milliseconds_since_the_epoch() {
        // 2024-01-01 and 2200-01-01.
        assert!((1_704_067_200_000..7_258_118_400_000).contains(&wall_ms()));
    }
}
