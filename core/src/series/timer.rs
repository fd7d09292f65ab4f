//! Timers: raw values in chunks, exact; beyond a budget a sketch with a stated error.
//!
//! Percentiles of the reference daemon are exact over the raw values, so the values are kept. A
//! timer that passes `TIMER_VALUES_EXACT_MAX` in one generation of one worker, or a worker that
//! has lent out its whole chunk budget, goes on in a DDSketch: percentiles then carry a relative
//! error of at most 1 % of the value; count, sum, sum of squares, lower and upper stay exact. Both
//! switches are counted by the shard.

use sketches_ddsketch::{Config, DDSketch};

use super::pool::{Chain, Chunk, ChunkPool, Form};
use crate::limits::TIMER_VALUES_EXACT_MAX;

/// What a timer keeps of the values beyond its exact budget.
pub struct Overflow {
    /// Distribution of the values, relative error 1 %.
    pub sketch: DDSketch,
    /// Values in the sketch.
    pub count: u64,
    /// Events that they stand for.
    pub weight: f64,
    /// Sum of the values.
    pub sum: f64,
    /// Sum of the squared values.
    pub sum_squares: f64,
    /// Smallest value.
    pub lower: f64,
    /// Largest value.
    pub upper: f64,
}

impl std::fmt::Debug for Overflow {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Overflow").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Default for Overflow {
    fn default() -> Self {
        Self {
            sketch: DDSketch::new(Config::defaults()),
            count: 0,
            weight: 0.0,
            sum: 0.0,
            sum_squares: 0.0,
            lower: f64::INFINITY,
            upper: f64::NEG_INFINITY,
        }
    }
}

impl Overflow {
    /// Adds one value that stands for `weight` events.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.sketch.add(value);
        self.count += 1;
        self.weight += weight;
        self.sum += value;
        self.sum_squares += value * value;
        self.lower = self.lower.min(value);
        self.upper = self.upper.max(value);
    }

    /// Adds what another worker kept of the same timer.
    pub fn merge(&mut self, other: &Self) {
        // Both sketches come from `Config::defaults`, the only condition of a merge.
        if self.sketch.merge(&other.sketch).is_ok() {
            self.count += other.count;
            self.weight += other.weight;
            self.sum += other.sum;
            self.sum_squares += other.sum_squares;
            self.lower = self.lower.min(other.lower);
            self.upper = self.upper.max(other.upper);
        }
    }
}

/// What became of a recorded value.
#[derive(Debug)]
pub(crate) enum Recorded {
    /// It fitted into the newest chunk, in place.
    InPlace,
    /// The newest chunk has no room for it: the caller goes on in another, by [`ChunkPool::extend`].
    Full,
    /// It went into the sketch; `true` for the first of this timer and generation.
    Sketched(bool),
    /// It was not recorded: no sketch may be begun any more.
    Refused,
}

/// Records into the newest chunk if it can.
#[inline]
pub(crate) fn record(chunk: &mut Chunk, value: f64, weight: f64, pool: &mut ChunkPool) -> Recorded {
    if chunk.push(value, weight) {
        return Recorded::InPlace;
    }
    let is_over_budget = TIMER_VALUES_EXACT_MAX <= chunk.chain_values() || pool.is_spent();
    if chunk.overflow.is_none() && !is_over_budget {
        return Recorded::Full;
    }
    let is_first = chunk.overflow.is_none();
    if is_first && !pool.take_sketch() {
        return Recorded::Refused;
    }
    chunk.overflow.get_or_insert_default().add(value, weight);
    Recorded::Sketched(is_first)
}

/// The values of a chain, newest chunk first, and their weight. Values in a sketch are not among
/// them.
#[must_use]
pub fn values(chain: &Chain) -> (Vec<f64>, f64) {
    let values = chain.chunks().flat_map(|chunk| chunk.values());
    (values.collect(), chain.newest().map_or(0.0, |chunk| chunk.chain_weight()))
}

/// A chain of `values`, oldest first, that stand for `weight`, and of what went beyond the budget;
/// `None` of nothing. The inverse of [`values`].
pub(crate) fn chain_of(
    values: &[f64],
    weight: f64,
    overflow: Option<Overflow>,
    pool: &mut ChunkPool,
) -> Option<Chain> {
    let Some((first, rest)) = values.split_first() else {
        let mut chunk = pool.take(Form::NARROW);
        chunk.overflow = Some(Box::new(overflow?));
        return Some(Chain::of(chunk));
    };
    #[expect(clippy::cast_precision_loss, reason = "a budget of values, far below 2^53")]
    let is_plain = weight.to_bits() == (values.len() as f64).to_bits();
    // The weight is kept as one sum: the first value bears all of it, to the last digit.
    let (first_weight, rest_weight) = if is_plain { (1.0, 1.0) } else { (weight, 0.0) };
    let mut chunk = pool.start(*first, first_weight);
    for value in rest {
        if !chunk.push(*value, rest_weight) {
            chunk = pool.extend(chunk, *value, rest_weight);
        }
    }
    chunk.overflow = overflow.map(Box::new);
    Some(Chain::of(chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHUNKS_PER_GENERATION_MAX;
    use crate::series::pool::HomeQueue;

    #[test]
    fn a_worker_without_chunks_left_goes_on_in_a_sketch_and_says_so_once() {
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let mut chunk = pool.start(1.0, 2.0);
        for _ in 1..8 {
            assert!(matches!(record(&mut chunk, 1.0, 2.0, &mut pool), Recorded::InPlace));
        }
        assert!(matches!(record(&mut chunk, 1.0, 2.0, &mut pool), Recorded::Full));
        pool.lend(CHUNKS_PER_GENERATION_MAX);
        assert!(matches!(record(&mut chunk, 1.0, 2.0, &mut pool), Recorded::Sketched(true)));
        assert!(matches!(record(&mut chunk, 1.0, 2.0, &mut pool), Recorded::Sketched(false)));
        let chain = Chain::of(chunk);
        let (kept, weight) = values(&chain);
        assert_eq!((kept.len(), weight), (8, 20.0));
        assert_eq!(chain.newest().and_then(|newest| newest.overflow.as_ref()).unwrap().count, 2);
    }

    #[test]
    fn without_room_for_sketches_further_values_are_refused() {
        let mut pool = ChunkPool::within(32, 0, HomeQueue::default());
        pool.lend(32);
        assert!(pool.is_empty());
        let full = |pool: &mut ChunkPool| {
            let mut chunk = pool.start(1.0, 1.0);
            while matches!(record(&mut chunk, 1.0, 1.0, pool), Recorded::InPlace) {}
            chunk
        };
        let (mut first, mut second) = (full(&mut pool), full(&mut pool));
        assert!(matches!(record(&mut first, 1.0, 1.0, &mut pool), Recorded::Sketched(false)));
        assert!(matches!(record(&mut second, 1.0, 1.0, &mut pool), Recorded::Refused));
        pool.start_generation();
        assert!(matches!(record(&mut second, 1.0, 1.0, &mut pool), Recorded::Full));
    }

    #[test]
    fn a_timer_beyond_its_own_budget_goes_on_in_a_sketch() {
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let mut chunk = pool.start(1.0, 1.0);
        let mut sketched = 0;
        for _ in 0..TIMER_VALUES_EXACT_MAX + 100 {
            match record(&mut chunk, 1.0, 1.0, &mut pool) {
                Recorded::InPlace => {}
                Recorded::Full => chunk = pool.extend(chunk, 1.0, 1.0),
                Recorded::Sketched(_) => sketched += 1,
                Recorded::Refused => panic!("one sketch is always there"),
            }
        }
        let (kept, weight) = values(&Chain::of(chunk));
        assert_eq!(kept.len() + sketched, TIMER_VALUES_EXACT_MAX as usize + 101);
        assert!(kept.len() < TIMER_VALUES_EXACT_MAX as usize + 10 && sketched != 0);
        assert_eq!(weight, f64::from(TIMER_VALUES_EXACT_MAX + 101));
    }

    #[test]
    fn what_two_workers_kept_of_a_timer_adds_up() {
        let (mut ours, mut theirs) = (Overflow::default(), Overflow::default());
        ours.add(3.0, 1.0);
        theirs.add(1.0, 2.0);
        theirs.add(5.0, 4.0);
        ours.merge(&theirs);
        assert_eq!((ours.count, ours.sum, ours.sum_squares), (3, 9.0, 35.0));
        assert_eq!((ours.lower, ours.upper, ours.sketch.count()), (1.0, 5.0, 3));
        assert_eq!(ours.weight, 7.0);
    }
}
