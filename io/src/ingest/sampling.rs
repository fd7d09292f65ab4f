//! Which batches are samples of `floe top`: one in so many, and not too many a second.
//!
//! A sample costs its batch a copy of each datagram and a receive call with names. One batch in
//! `TOP_BATCHES_EACH` is little where batches are few; a worker that is flooded has thousands a
//! second, and a few of them say as much as many.

use floe_core::limits::{TOP_BATCHES_EACH, TOP_SAMPLE_EVERY_NS};

/// Whose turn it is, of one worker.
#[derive(Debug)]
pub(crate) struct Sampling {
    /// Batches until the next sample.
    left: u32,
    /// When it may be, monotonic, ns.
    due_ns: u64,
}

impl Sampling {
    /// The first sample is the batch numbered [`TOP_BATCHES_EACH`].
    pub(crate) fn new() -> Self {
        Self { left: TOP_BATCHES_EACH, due_ns: 0 }
    }

    /// Counts a batch; whether it is a sample.
    #[inline]
    pub(crate) fn is_sample(&mut self, now_ns: u64) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left != 0 || now_ns < self.due_ns {
            return false;
        }
        self.left = TOP_BATCHES_EACH;
        self.due_ns = now_ns + TOP_SAMPLE_EVERY_NS;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of a second in which `batches` come evenly.
    fn samples(batches: u64) -> usize {
        let mut sampling = Sampling::new();
        (0..batches).filter(|batch| sampling.is_sample(batch * 1_000_000_000 / batches)).count()
    }

    #[test]
    fn one_batch_in_so_many_is_a_sample_where_they_are_few() {
        assert_eq!(samples(10 * u64::from(TOP_BATCHES_EACH)), 10);
    }

    #[test]
    fn a_flooded_worker_samples_twenty_times_a_second() {
        assert_eq!([5_000, 50_000, 1_000_000].map(samples), [20; 3]);
    }
}
