//! Gauges: operations, kept in the order in which they came.
//!
//! A signed value changes the value carried over from earlier intervals, and only the coordinator
//! knows that one; several workers may see operations of the same gauge. So a worker keeps
//! operations with the time of their batch, and the coordinator applies all of them in the order of
//! time: exact for one sender, whose datagrams all reach one worker; for several senders as exact as
//! their clock here, which is one batch.
//!
//! A set makes everything older of its worker irrelevant and starts the list anew. Signed values
//! alone would grow it: after `GAUGE_OPERATIONS_MAX`, or once the worker has lent out its whole
//! chunk budget, they are folded into the newest one. That can change the last digit of a sum of
//! fractions, and their order among the operations of other workers, and nothing else.

use super::pool::{Chain, Chunk, ChunkPool, Form};
use crate::limits::GAUGE_OPERATIONS_MAX;

/// One operation: two doubles of a chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaugeOperation {
    /// Time of the batch it came in, monotonic, ns.
    pub time_ns: u64,
    /// The number.
    pub value: f64,
    /// Added to a gauge that is known and not zero, else set.
    pub is_signed: bool,
}

impl GaugeOperation {
    /// Time and sign as the bits of a double, and the number.
    fn doubles(self) -> [f64; 2] {
        [f64::from_bits(self.time_ns << 1 | u64::from(self.is_signed)), self.value]
    }

    fn of_doubles(head: f64, value: f64) -> Self {
        let head = head.to_bits();
        Self { time_ns: head >> 1, value, is_signed: head & 1 == 1 }
    }

    /// The gauge after this operation (docs/references.md S5).
    #[must_use]
    pub fn apply(self, before: Option<f64>) -> f64 {
        match before {
            Some(known) if self.is_signed && known != 0.0 && !known.is_nan() => known + self.value,
            _ => self.value,
        }
    }
}

/// The first operation of a gauge in a generation.
pub(crate) fn start(operation: GaugeOperation, pool: &mut ChunkPool) -> Box<Chunk> {
    let mut chunk = pool.take(Form::WIDE);
    push(&mut chunk, operation);
    chunk
}

fn push(chunk: &mut Chunk, operation: GaugeOperation) {
    for double in operation.doubles() {
        chunk.push(double, 1.0);
    }
}

/// Records into the newest chunk; `false` if it is full and must go through [`extend`].
#[inline]
pub(crate) fn record(chunk: &mut Chunk, operation: GaugeOperation, pool: &mut ChunkPool) -> bool {
    if !operation.is_signed {
        let older = chunk.clear();
        pool.give_back(older);
        push(chunk, operation);
        return true;
    }
    if chunk.has_room(2) {
        push(chunk, operation);
        return true;
    }
    if chunk.chain_values() < 2 * GAUGE_OPERATIONS_MAX && !pool.is_spent_for_gauges() {
        return false;
    }
    chunk.change_newest(|newest| newest + operation.value);
    true
}

/// Puts a fresh chunk before the full one and records there.
pub(crate) fn extend(
    full: Box<Chunk>,
    operation: GaugeOperation,
    pool: &mut ChunkPool,
) -> Box<Chunk> {
    let [head, value] = operation.doubles();
    let mut chunk = pool.extend(full, head, 1.0);
    chunk.push(value, 1.0);
    chunk
}

/// The operations of a chain, oldest first.
#[must_use]
pub fn operations(chain: &Chain) -> Vec<GaugeOperation> {
    let mut operations = Vec::new();
    for chunk in chain.chunks() {
        let mut newest_first = chunk.values().rev();
        while let (Some(value), Some(head)) = (newest_first.next(), newest_first.next()) {
            operations.push(GaugeOperation::of_doubles(head, value));
        }
    }
    operations.reverse();
    operations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::pool::HomeQueue;

    fn operation(value: f64, is_signed: bool) -> GaugeOperation {
        GaugeOperation { time_ns: 5, value, is_signed }
    }

    #[test]
    fn a_signed_value_adds_only_to_a_known_gauge_that_is_not_zero() {
        assert_eq!(operation(-5.0, true).apply(None), -5.0);
        assert_eq!(operation(-5.0, true).apply(Some(0.0)), -5.0);
        assert_eq!(operation(-5.0, true).apply(Some(3.0)), -2.0);
        assert_eq!(operation(-5.0, false).apply(Some(3.0)), -5.0);
    }

    #[test]
    fn a_set_forgets_what_came_before_and_keeps_what_comes_after() {
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let mut chunk = start(operation(1.0, true), &mut pool);
        for _ in 0..100 {
            if !record(&mut chunk, operation(1.0, true), &mut pool) {
                chunk = extend(chunk, operation(1.0, true), &mut pool);
            }
        }
        assert!(record(&mut chunk, operation(7.0, false), &mut pool));
        assert!(record(&mut chunk, operation(2.0, true), &mut pool));
        assert_eq!((chunk.chain_values(), pool.lent()), (4, 1));
        let kept = operations(&Chain::of(chunk));
        assert_eq!(kept, [operation(7.0, false), operation(2.0, true)]);
    }

    #[test]
    fn a_flood_of_signed_values_is_folded_and_keeps_its_sum() {
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let count = GAUGE_OPERATIONS_MAX * 3;
        let mut chunk = start(operation(1.0, true), &mut pool);
        for _ in 1..count {
            if !record(&mut chunk, operation(1.0, true), &mut pool) {
                chunk = extend(chunk, operation(1.0, true), &mut pool);
            }
        }
        let kept = operations(&Chain::of(chunk));
        assert_eq!(kept.iter().map(|each| each.value).sum::<f64>(), f64::from(count));
        assert!(kept.len() < GAUGE_OPERATIONS_MAX as usize + 6);
    }

    #[test]
    fn a_worker_without_chunks_left_folds_and_keeps_the_sum() {
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let mut chunk = start(operation(1.0, true), &mut pool);
        pool.lend(crate::limits::CHUNKS_PER_GENERATION_MAX);
        for _ in 1..100 {
            assert!(record(&mut chunk, operation(1.0, true), &mut pool), "no further chunk");
        }
        let kept = operations(&Chain::of(chunk));
        assert_eq!(kept.iter().map(|each| each.value).sum::<f64>(), 100.0);
    }
}
