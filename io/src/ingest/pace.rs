//! How long a worker waits for the next batch to fill.
//!
//! Waiting in order to receive many datagrams at once is worth more than any choice of system call:
//! 14 to 21 % of the receive cost (docs/references.md K1). The wait follows the rate: as long as it
//! takes to gather `aim_datagrams` at the rate of the last wait, so that every wake-up is worth its
//! cost and neither the buffers nor the socket overflow. It changes at most twofold at a time, for one
//! batch may be a burst. At a few datagrams a second there is nothing to gather, and the wait is the
//! shortest: what comes then is handled apart, as it came. It also never exceeds a quarter of the
//! time in which a million datagrams per second fill the socket's buffer
//! (docs/decisions/012-wait-by-rate.md).

/// Accounting of one small datagram, bytes (docs/references.md K2).
pub(crate) const SMALL_DATAGRAM_BYTES: usize = 832;

/// Below this rate there is nothing to gather, datagrams per second: eight in the longest wait.
const QUIET_PER_SECOND: u64 = 2_000;

/// Bounds of the wait and the size of batch it aims for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaceBounds {
    /// Wait when flooded, and when quiet, µs.
    pub(crate) shortest_us: u32,
    /// Wait between the two at the most, µs.
    pub(crate) longest_us: u32,
    /// Datagrams that a wait shall gather.
    pub(crate) aim_datagrams: usize,
}

/// The wait of one worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    bounds: PaceBounds,
    current_us: u32,
}

impl Pace {
    /// Starts quiet. `receive_buffer_bytes`: the smallest effective buffer among the sockets.
    pub(crate) fn new(bounds: PaceBounds, receive_buffer_bytes: usize) -> Self {
        let buffered = receive_buffer_bytes / SMALL_DATAGRAM_BYTES;
        // At a million datagrams per second one datagram is one microsecond.
        let quarter_us = u32::try_from(buffered / 4).unwrap_or(u32::MAX);
        let longest_us = bounds.longest_us.min(quarter_us).max(bounds.shortest_us);
        Self { bounds: PaceBounds { longest_us, ..bounds }, current_us: bounds.shortest_us }
    }

    /// The wait, µs.
    pub(crate) fn current_us(&self) -> u32 {
        self.current_us
    }

    /// Takes the number of datagrams that came since the last wait began.
    pub(crate) fn record(&mut self, datagrams: usize) {
        let PaceBounds { shortest_us, longest_us, aim_datagrams } = self.bounds;
        let per_second =
            (datagrams as u64).saturating_mul(1_000_000) / u64::from(self.current_us.max(1));
        if per_second < QUIET_PER_SECOND {
            self.current_us = shortest_us;
            return;
        }
        let aimed_us = u64::from(self.current_us) * aim_datagrams as u64 / datagrams as u64;
        let aimed_us = u32::try_from(aimed_us).unwrap_or(u32::MAX);
        let (half_us, double_us) = (self.current_us / 2, self.current_us.saturating_mul(2));
        self.current_us = aimed_us.clamp(half_us, double_us).clamp(shortest_us, longest_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: PaceBounds =
        PaceBounds { shortest_us: 200, longest_us: 4_000, aim_datagrams: 128 };

    /// The waits that follow each of `batches`.
    fn waits(pace: &mut Pace, batches: &[usize]) -> Vec<u32> {
        let wait = |batch: &usize| {
            pace.record(*batch);
            pace.current_us()
        };
        batches.iter().map(wait).collect()
    }

    #[test]
    fn wait_gathers_what_it_aims_for_at_any_rate() {
        for (rate, expected_us) in
            [(50_000, 2_560), (400_000, 320), (10_000, 4_000), (2_000_000, 200)]
        {
            let mut pace = Pace::new(BOUNDS, 16 << 20);
            for _ in 0..10 {
                let came = u64::from(pace.current_us()) * rate / 1_000_000;
                pace.record(usize::try_from(came).unwrap());
            }
            let wait_us = pace.current_us();
            assert!(wait_us.abs_diff(expected_us) <= expected_us / 50, "{rate}/s: {wait_us} us");
        }
    }

    #[test]
    fn one_batch_changes_the_wait_at_most_twofold_and_within_bounds() {
        let mut pace = Pace::new(BOUNDS, 16 << 20);
        assert_eq!(waits(&mut pace, &[8; 6]), [400, 800, 1_600, 3_200, 4_000, 4_000]);
        assert_eq!(waits(&mut pace, &[usize::MAX; 6]), [2_000, 1_000, 500, 250, 200, 200]);
        assert_eq!(waits(&mut pace, &[64, 32, 16]), [400, 800, 1_600]);
        assert_eq!(waits(&mut pace, &[128, 160, 128]), [1_600, 1_280, 1_280]);
    }

    #[test]
    fn a_quiet_worker_waits_for_nobody() {
        let mut pace = Pace::new(BOUNDS, 16 << 20);
        assert_eq!(waits(&mut pace, &[0, 0]), [200, 200]);
        // One datagram at a time, however long the wait: it never comes near the longest one.
        assert!(waits(&mut pace, &[1; 20]).iter().all(|&wait_us| wait_us < 1_000));
        assert_eq!(waits(&mut pace, &[64; 8])[7], 4_000);
        assert_eq!(waits(&mut pace, &[3]), [200], "the load is over");
    }

    #[test]
    fn small_socket_buffer_bounds_the_wait() {
        // 212,992 bytes, the usual default, hold 256 small datagrams.
        for (bytes, longest_us) in [(212_992, 200), (4 << 20, 1_260), (usize::MAX, 4_000)] {
            assert_eq!(waits(&mut Pace::new(BOUNDS, bytes), &[30; 6])[5], longest_us);
        }
    }
}
