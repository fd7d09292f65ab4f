//! Bounded waiting: the one place of the tests that reads a clock or sleeps.
//!
//! A test says what it waits for and for how long at most; the poll step only sets how soon the
//! answer is seen. `pause` exists for the few claims that are themselves about time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const POLL: Duration = Duration::from_millis(20);

/// Monotonic time.
#[expect(clippy::disallowed_methods, reason = "the tests' own clock, read here alone")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Time since the epoch by the wall clock, which is what Graphite's timestamps mean.
#[expect(clippy::disallowed_methods, reason = "the tests' own clock, read here alone")]
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970")
}

/// Lets `duration` pass. Only for claims about time itself; to wait for an effect use [`until`].
#[expect(clippy::disallowed_methods, reason = "the claim under test is about elapsed time")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Asks `probe` until it gives an answer.
///
/// # Panics
/// After `bound` without one, naming `what` was awaited.
pub(crate) fn until<T>(what: &str, bound: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    try_until(bound, &mut probe)
        .unwrap_or_else(|| panic!("waited {:.1} s in vain for {what}", bound.as_secs_f64()))
}

/// Like [`until`], but gives `None` after `bound`.
pub(crate) fn try_until<T>(bound: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = now() + bound;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if end <= now() {
            return None;
        }
        pause(POLL);
    }
}

/// Waits until the wall clock stands `into_second` after the start of the next whole second and
/// gives that second: a datagram sent now falls well inside one interval of the one-second grid.
pub(crate) fn next_second(into_second: Duration) -> u64 {
    let second = wall().as_secs() + 1;
    let target = Duration::from_secs(second) + into_second;
    pause(target.saturating_sub(wall()));
    second
}
