//! How long a worker waits for the next batch to fill.
//!
//! Waiting in order to receive many datagrams at once is worth more than any choice of system call:
//! 14 to 21 % of the receive cost (docs/references.md K1). The wait follows the size of the
//! last batch: large batches halve it, so that neither the buffers nor the socket overflow, small
//! ones double it, so that a quiet worker wakes seldom. It also never exceeds a quarter of the time
//! in which a million datagrams per second fill the socket's buffer.

/// Accounting of one small datagram, bytes (docs/references.md K2).
const SMALL_DATAGRAM_BYTES: usize = 832;

/// Bounds of the wait and the size of batch it aims for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaceBounds {
    /// Wait under load, µs.
    pub(crate) shortest_us: u32,
    /// Wait when quiet, µs.
    pub(crate) longest_us: u32,
    /// A batch of this many datagrams shortens the wait; one below a quarter of it lengthens it.
    pub(crate) busy_datagrams: usize,
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
        Self { bounds: PaceBounds { longest_us, ..bounds }, current_us: longest_us }
    }

    /// The wait, µs.
    pub(crate) fn current_us(&self) -> u32 {
        self.current_us
    }

    /// Takes the number of datagrams of the batch just handled.
    pub(crate) fn record(&mut self, datagrams: usize) {
        let PaceBounds { shortest_us, longest_us, busy_datagrams } = self.bounds;
        if busy_datagrams <= datagrams {
            self.current_us = (self.current_us / 2).max(shortest_us);
        } else if datagrams < busy_datagrams / 4 {
            self.current_us = self.current_us.saturating_mul(2).min(longest_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: PaceBounds =
        PaceBounds { shortest_us: 200, longest_us: 2_000, busy_datagrams: 128 };

    #[test]
    fn load_shortens_the_wait_and_quiet_lengthens_it_within_bounds() {
        let mut pace = Pace::new(BOUNDS, 16 << 20);
        assert_eq!(pace.current_us(), 2_000);
        let waits: Vec<u32> = (0..5)
            .map(|_| {
                pace.record(128);
                pace.current_us()
            })
            .collect();
        assert_eq!(waits, [1_000, 500, 250, 200, 200]);
        pace.record(127);
        pace.record(32);
        assert_eq!(pace.current_us(), 200);
        for _ in 0..5 {
            pace.record(31);
        }
        assert_eq!(pace.current_us(), 2_000);
    }

    #[test]
    fn small_socket_buffer_bounds_the_wait() {
        // 212,992 bytes, the usual default, hold 256 small datagrams.
        assert_eq!(Pace::new(BOUNDS, 212_992).current_us(), 200);
        assert_eq!(Pace::new(BOUNDS, 4 << 20).current_us(), 1_260);
        assert_eq!(Pace::new(BOUNDS, usize::MAX).current_us(), 2_000);
    }
}
