//! When a backend's thread tries again, and how fast it works off a backlog.
//!
//! Pure arithmetic on times handed in, ns of the monotonic clock.

use crate::clock::NS_PER_S;

/// A backlog is sent at this multiple of the live volume, so that it shrinks while a Carbon that
/// has just come back is not flooded.
const BACKLOG_FACTOR: u64 = 4;

/// A backlog is never paced below this, bytes per second: about 70,000 lines.
const BACKLOG_BYTES_PER_S_MIN: u64 = 4 << 20;

/// Doubling delays with jitter: never shorter than the first, or a backend that refuses would be
/// asked more often than is agreed.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first_ns: u64,
    last_ns: u64,
    next_ns: u64,
    random: u64,
}

impl Backoff {
    /// Delays from `first_ns` to `last_ns`, up to half as long again; `seed` keeps several backends out of step.
    pub(crate) fn new(first_ns: u64, last_ns: u64, seed: u64) -> Self {
        Self { first_ns, last_ns, next_ns: first_ns, random: seed }
    }

    /// The next delay, ns: between the doubling delay and half as much again.
    pub(crate) fn delay_ns(&mut self) -> u64 {
        let whole_ns = self.next_ns;
        self.next_ns = (self.next_ns * 2).min(self.last_ns);
        whole_ns + self.random() % (whole_ns / 2 + 1)
    }

    /// Begins anew after a success.
    pub(crate) fn reset(&mut self) {
        self.next_ns = self.first_ns;
    }

    /// Splitmix64: spreads attempts, guards nothing.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// A token bucket over the bytes of the backlog; what was sent is paid for afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    bytes_per_s: u64,
    ready_ns: u64,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { bytes_per_s: BACKLOG_BYTES_PER_S_MIN, ready_ns: 0 }
    }

    /// Learns the volume of a live interval.
    pub(crate) fn observe_live(&mut self, bytes: u64, interval_ms: u64) {
        let bytes_per_s = bytes.saturating_mul(1_000) / interval_ms.max(1);
        self.bytes_per_s = (bytes_per_s * BACKLOG_FACTOR).max(BACKLOG_BYTES_PER_S_MIN);
    }

    /// When the next segment of the backlog may be sent.
    pub(crate) fn ready_ns(&self) -> u64 {
        self.ready_ns
    }

    /// Takes note of `bytes` of backlog sent up to now.
    pub(crate) fn spend(&mut self, bytes: u64, now_ns: u64) {
        let cost_ns = u128::from(bytes) * u128::from(NS_PER_S) / u128::from(self.bytes_per_s);
        // Up to a second may have been saved: many small segments need not wait for each other.
        let from_ns = self.ready_ns.max(now_ns.saturating_sub(NS_PER_S));
        self.ready_ns = from_ns.saturating_add(u64::try_from(cost_ns).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_within_their_bounds_and_begin_anew() {
        let mut backoff = Backoff::new(200, 30_000, 7);
        for whole in [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000_u64] {
            let delay = backoff.delay_ns();
            assert!((whole..=whole + whole / 2).contains(&delay), "{delay} of {whole}");
        }
        backoff.reset();
        assert!((200..=300).contains(&backoff.delay_ns()));
    }

    #[test]
    fn backends_with_other_seeds_keep_other_times() {
        let delays = |seed| {
            let mut backoff = Backoff::new(1 << 40, 1 << 41, seed);
            [backoff.delay_ns(), backoff.delay_ns(), backoff.delay_ns()]
        };
        assert_ne!(delays(1), delays(2));
    }

    #[test]
    fn backlog_runs_at_four_times_the_live_volume() {
        let mut pace = Pace::new();
        pace.observe_live(100 << 20, 10_000);
        let now_ns = 100 * NS_PER_S;
        pace.spend(0, now_ns);
        assert!(pace.ready_ns() <= now_ns);
        // 40 MiB/s: 80 MiB take 2 s, of which one was saved.
        pace.spend(80 << 20, now_ns);
        assert_eq!(pace.ready_ns(), now_ns + NS_PER_S);
        pace.spend(40 << 20, now_ns);
        assert_eq!(pace.ready_ns(), now_ns + 2 * NS_PER_S);
    }

    #[test]
    fn backlog_of_a_quiet_daemon_keeps_a_floor() {
        let mut pace = Pace::new();
        pace.observe_live(10, 10_000);
        pace.spend(4 << 20, 10 * NS_PER_S);
        assert_eq!(pace.ready_ns(), 10 * NS_PER_S);
    }
}
