//! Statistics of a timer: those of the reference daemon, to the last digit.
//!
//! The values of all chains are brought together, sorted, and summed from the smallest to the
//! largest, as `lib/process_metrics.js` does; a selection instead of a sort, or a sum in another
//! order, changes last digits. Sorting works on integers that order like the doubles (`order`).
//!
//! The chunks of a timer lie wherever its values came to lie, and each says where the next one is: a
//! walk waits for memory at every step. So the values of several timers are gathered at once, one
//! chunk of each in turn, and the waits overlap.
//!
//! Differences from the reference, numbered in docs/protocol.md: a negative threshold that takes in
//! all values yields their true sums, and a threshold beyond 100 percent takes in all values.

mod order;
mod sketched;

use self::order::Order;
use crate::config::settings::{Histogram, Threshold};
use crate::limits::GATHERED_VALUES_MAX;
use crate::row::TimerColumns;
use crate::series::pool::{Chain, ChunkHomes};
use crate::series::timer::Overflow;

/// Timers whose values are gathered at once.
pub const TIMERS_AT_ONCE: usize = 8;

/// Places for values that a timer's buffer keeps: 64 KiB. A timer of more is rare and large.
const GATHERED_KEPT_MAX: usize = 8_192;

/// What was gathered of one timer.
#[derive(Debug, Default)]
struct Gathered {
    /// What is left of its chains, and which of them is next.
    chains: Vec<Chain>,
    next_chain: usize,
    /// Its values as integers in their order.
    keys: Vec<u64>,
    /// The reference's `timer_count`: the sum of the weights.
    weight: f64,
    overflow: Option<Overflow>,
}

/// Computes the row of one timer after the other, in reused buffers.
#[derive(Debug)]
pub struct Statistics {
    thresholds: Vec<Threshold>,
    histograms: Vec<Histogram>,
    gathered: [Gathered; TIMERS_AT_ONCE],
    order: Order,
    /// The values, ascending.
    values: Vec<f64>,
    /// Sums of the values up to and including each.
    sums: Vec<f64>,
    /// Sums of the squares up to and including each.
    sums_squares: Vec<f64>,
    /// The reference's `timer_count`: the sum of the weights.
    weight: f64,
    overflow: Option<Overflow>,
    /// Values of one timer that are gathered; the rest goes into its sketch.
    values_max: usize,
}

/// One threshold of one timer.
#[derive(Clone, Copy, Debug, Default)]
struct Within {
    count: u64,
    mean: f64,
    boundary: f64,
    sum: f64,
    sum_squares: f64,
}

/// Everything of one timer but its thresholds and bins.
#[derive(Clone, Copy, Debug, Default)]
struct Whole {
    count: u64,
    weight: f64,
    deviation: f64,
    upper: f64,
    lower: f64,
    sum: f64,
    sum_squares: f64,
    mean: f64,
    median: f64,
}

impl Gathered {
    /// Begins with a timer: takes its chains, and leaves the memory of their list.
    fn begin(&mut self, chains: &mut Vec<Chain>) {
        self.keys.clear();
        self.overflow = None;
        self.next_chain = 0;
        let newest = chains.iter().filter_map(Chain::newest);
        self.weight = newest.fold(0.0, |weight, chunk| weight + chunk.chain_weight());
        self.chains.clear();
        std::mem::swap(chains, &mut self.chains);
    }

    /// Takes one chunk; `false` if there is none left.
    #[inline]
    fn step(&mut self, values_max: usize, homes: &mut ChunkHomes) -> bool {
        let Some(chain) = self.chains.get_mut(self.next_chain) else { return false };
        let Some(mut chunk) = chain.pop() else {
            self.next_chain += 1;
            return true;
        };
        // It has come when all other timers have had their turn.
        chain.prefetch();
        if self.keys.len() < values_max {
            self.keys.extend(chunk.values().map(|value| order_key(value.to_bits())));
        } else {
            // Their weights are in the sum already.
            let overflow = self.overflow.get_or_insert_default();
            chunk.values().for_each(|value| overflow.add(value, 0.0));
        }
        if let Some(overflow) = chunk.overflow.take() {
            match &mut self.overflow {
                Some(known) => known.merge(&overflow),
                None => self.overflow = Some(*overflow),
            }
        }
        homes.put(chunk);
        true
    }
}

impl Statistics {
    /// Statistics for these thresholds and histograms.
    #[must_use]
    pub fn new(thresholds: &[Threshold], histograms: &[Histogram]) -> Self {
        Self {
            thresholds: thresholds.to_vec(),
            histograms: histograms.to_vec(),
            gathered: Default::default(),
            order: Order::default(),
            values: Vec::new(),
            sums: Vec::new(),
            sums_squares: Vec::new(),
            weight: 0.0,
            overflow: None,
            values_max: GATHERED_VALUES_MAX,
        }
    }

    /// The same that gathers no more than so many values of one timer.
    #[must_use]
    pub fn gathering(self, values_max: usize) -> Self {
        Self { values_max, ..self }
    }

    /// Gathers the values of `timers`, [`TIMERS_AT_ONCE`] at the most, and sends their chunks home.
    pub fn gather<'c>(
        &mut self,
        timers: impl Iterator<Item = &'c mut Vec<Chain>>,
        homes: &mut ChunkHomes,
    ) {
        for (gathered, chains) in self.gathered.iter_mut().zip(timers) {
            gathered.begin(chains);
        }
        let values_max = self.values_max;
        let mut step = || {
            let each = self.gathered.iter_mut();
            each.fold(false, |goes_on, each| each.step(values_max, homes) | goes_on)
        };
        while step() {}
    }

    /// Loads the timer that was the `number`th of those gathered last; once.
    pub fn load(&mut self, number: usize) {
        let gathered = &mut self.gathered[number];
        self.weight = gathered.weight;
        self.overflow = gathered.overflow.take();
        let mut keys = std::mem::take(&mut gathered.keys);
        self.sort(&mut keys);
        if keys.capacity() <= GATHERED_KEPT_MAX {
            self.gathered[number].keys = keys;
        }
    }

    /// Loads plain values, for tests and benchmarks.
    pub fn load_values(&mut self, values: &[f64], weight: f64) {
        let keys = &mut self.gathered[0].keys;
        keys.clear();
        keys.extend(values.iter().map(|value| order_key(value.to_bits())));
        (self.gathered[0].weight, self.gathered[0].overflow) = (weight, None);
        self.load(0);
    }

    fn sort(&mut self, keys: &mut Vec<u64>) {
        self.order.sort(keys);
        self.values.clear();
        self.values.extend(keys.iter().map(|&key| f64::from_bits(order_bits(key))));
        self.sums.clear();
        self.sums_squares.clear();
        let (mut sum, mut sum_squares) = (0.0, 0.0);
        self.sums.extend(self.values.iter().map(|value| {
            sum += value;
            sum
        }));
        self.sums_squares.extend(self.values.iter().map(|value| {
            sum_squares += value * value;
            sum_squares
        }));
    }

    /// Appends the row of the loaded timer to the columns; returns its number of bins.
    pub fn push_row(&self, key: &[u8], columns: &mut TimerColumns) -> usize {
        let whole = self.whole();
        columns.value_counts.push(whole.count);
        columns.counts.push(whole.weight);
        columns.deviations.push(whole.deviation);
        columns.uppers.push(whole.upper);
        columns.lowers.push(whole.lower);
        columns.sums.push(whole.sum);
        columns.sums_squares.push(whole.sum_squares);
        columns.means.push(whole.mean);
        columns.medians.push(whole.median);
        for (threshold, column) in self.thresholds.iter().zip(&mut columns.thresholds) {
            let within = self.within(threshold.percent, whole.count);
            column.counts.push(within.count);
            column.means.push(within.mean);
            column.boundaries.push(within.boundary);
            column.sums.push(within.sum);
            column.sums_squares.push(within.sum_squares);
        }
        self.push_bins(key, whole.count, columns)
    }

    fn whole(&self) -> Whole {
        if let Some(overflow) = &self.overflow {
            return sketched::whole(&self.values, self.weight, overflow);
        }
        let (Some(&lower), Some(&upper)) = (self.values.first(), self.values.last()) else {
            return Whole::default();
        };
        let count = self.values.len();
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let number = count as f64;
        let sum = last(&self.sums);
        let mean = sum / number;
        let mut squared_distances = 0.0;
        for value in &self.values {
            squared_distances += (value - mean) * (value - mean);
        }
        let middle = self.values[count / 2];
        let median = if count % 2 == 1 {
            middle
        } else {
            // Not `f64::midpoint`: the reference adds first, and overflows where that does.
            (self.values[count / 2 - 1] + middle) / 2.0
        };
        Whole {
            count: count as u64,
            weight: self.weight,
            deviation: (squared_distances / number).sqrt(),
            upper,
            lower,
            sum,
            sum_squares: last(&self.sums_squares),
            mean,
            median,
        }
    }

    /// What lies within a threshold; a count of 0 emits nothing.
    fn within(&self, percent: f64, count: u64) -> Within {
        if count == 0 {
            return Within::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let number = count as f64;
        // A single value is within every threshold, even within 0 percent.
        let within = if count == 1 { 1.0 } else { round_half_up(percent.abs() / 100.0 * number) };
        if within < 1.0 {
            return Within::default();
        }
        let within = within.min(number);
        if let Some(overflow) = &self.overflow {
            return sketched::within(&self.values, overflow, percent, within / number, within);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the number of values"
        )]
        let taken = within as usize;
        let all = self.values.len();
        let (boundary, sum, sum_squares) = if 0.0 < percent || count == 1 {
            (self.values[taken - 1], self.sums[taken - 1], self.sums_squares[taken - 1])
        } else if taken == all {
            (self.values[0], last(&self.sums), last(&self.sums_squares))
        } else {
            let before = all - taken - 1;
            (
                self.values[all - taken],
                last(&self.sums) - self.sums[before],
                last(&self.sums_squares) - self.sums_squares[before],
            )
        };
        Within { count: taken as u64, mean: sum / within, boundary, sum, sum_squares }
    }

    fn push_bins(&self, key: &[u8], count: u64, columns: &mut TimerColumns) -> usize {
        let is_match = |histogram: &Histogram| {
            memchr::memmem::find(key, histogram.metric.as_bytes()).is_some()
        };
        let rule = self.histograms.iter().position(is_match).filter(|_| count != 0);
        let mut bins = 0;
        if let Some(histogram) = rule.and_then(|index| self.histograms.get(index)) {
            bins = histogram.bins.len();
            let mut counted = 0;
            for bin in &histogram.bins {
                let below = self.count_below(bin.limit, count).max(counted);
                columns.bin_counts.push(below - counted);
                counted = below;
            }
        }
        let index = rule.filter(|_| bins != 0).map_or(0, |index| index + 1);
        columns.histogram_rule_indexes.push(u32::try_from(index).unwrap_or(0));
        // Parts are cut below 64 MiB, so that offsets fit.
        columns.bin_ends.push(u32::try_from(columns.bin_counts.len()).unwrap_or(u32::MAX));
        bins
    }

    /// Values below a limit; all of them below infinity.
    fn count_below(&self, limit: f64, count: u64) -> u64 {
        if limit == f64::INFINITY {
            return count;
        }
        let exact = self.values.partition_point(|&value| value < limit) as u64;
        let sketched = self.overflow.as_ref().map_or(0, |kept| sketched::count_below(kept, limit));
        exact + sketched
    }
}

fn last(values: &[f64]) -> f64 {
    values.last().copied().unwrap_or(0.0)
}

/// JavaScript's `Math.round` for numbers that are not negative.
fn round_half_up(number: f64) -> f64 {
    let floor = number.floor();
    if 0.5 <= number - floor { floor + 1.0 } else { floor }
}

/// An integer that orders like the double with these bits.
const fn order_key(bits: u64) -> u64 {
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The bits of the double that [`order_key`] made this of.
const fn order_bits(key: u64) -> u64 {
    if key >> 63 == 1 { key & !(1 << 63) } else { !key }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Bin;
    use crate::row::{HistogramRule, ThresholdColumns};

    fn threshold(percent: f64) -> Threshold {
        Threshold { percent, suffix: String::new() }
    }

    /// The row of `values` under `percents`.
    fn row(values: &[f64], percents: &[f64], histograms: &[Histogram]) -> TimerColumns {
        let thresholds: Vec<Threshold> = percents.iter().copied().map(threshold).collect();
        let mut statistics = Statistics::new(&thresholds, histograms);
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        statistics.load_values(values, values.len() as f64);
        let mut columns = TimerColumns {
            thresholds: percents.iter().map(|_| ThresholdColumns::default()).collect(),
            histogram_rules: histograms.iter().map(|_| HistogramRule::default()).collect(),
            ..TimerColumns::default()
        };
        statistics.push_row(b"some.timer", &mut columns);
        columns
    }

    const TEN: [f64; 10] = [450.0, 120.0, 553.0, 994.0, 334.0, 844.0, 675.0, 496.0, 101.0, 7.0];

    #[test]
    fn ten_values_give_the_recorded_statistics() {
        let columns = row(&TEN, &[90.0], &[]);
        assert_eq!(columns.deviations, [308.930_477_615_919_24]);
        assert_eq!((columns.means[0], columns.medians[0]), (457.4, 473.0));
        assert_eq!((columns.sums[0], columns.sums_squares[0]), (4_574.0, 3_046_528.0));
        let within = &columns.thresholds[0];
        assert_eq!((within.counts[0], within.boundaries[0]), (9, 844.0));
        assert_eq!(
            (within.means[0], within.sums_squares[0]),
            (397.777_777_777_777_77, 2_058_492.0)
        );
    }

    #[test]
    fn a_negative_threshold_takes_from_the_top_and_all_of_it_at_100() {
        let columns = row(&TEN, &[-10.0, -100.0, 150.0], &[]);
        let [top, all, beyond] = &columns.thresholds[..] else { panic!("three thresholds") };
        assert_eq!((top.counts[0], top.boundaries[0], top.sums[0]), (1, 994.0, 994.0));
        assert_eq!((all.counts[0], all.boundaries[0], all.sums[0]), (10, 7.0, 4_574.0));
        assert_eq!((beyond.counts[0], beyond.boundaries[0], beyond.means[0]), (10, 994.0, 457.4));
    }

    #[test]
    fn a_threshold_that_rounds_to_nothing_emits_nothing_unless_the_value_is_alone() {
        let columns = row(&TEN, &[1.0, 0.0], &[]);
        assert_eq!((columns.thresholds[0].counts[0], columns.thresholds[1].counts[0]), (0, 0));
        let alone = row(&[3.0], &[1.0, 0.0, -50.0], &[]);
        for within in &alone.thresholds {
            assert_eq!((within.counts[0], within.boundaries[0], within.sums[0]), (1, 3.0, 3.0));
        }
    }

    #[test]
    fn the_share_is_computed_in_the_reference_order_of_operations() {
        // 29 / 100 * 50 is 14.499999999999998: 14 values, where 29 * 50 / 100 would take 15.
        let values: Vec<f64> = (1..=50).map(f64::from).collect();
        assert_eq!(row(&values, &[29.0], &[]).thresholds[0].counts, [14]);
    }

    #[test]
    fn bins_count_each_value_once_and_infinity_takes_the_rest() {
        let bin = |limit| Bin { limit, name: String::new() };
        let bins = vec![bin(10.0), bin(50.0), bin(100.0), bin(f64::INFINITY)];
        let histogram = Histogram { metric: "some".into(), bins };
        let values = [0.0, 5.0, 10.0, 49.0, 50.0, 1_000.0];
        let columns = row(&values, &[], std::slice::from_ref(&histogram));
        assert_eq!((columns.bin_counts, columns.bin_ends), (vec![2, 2, 1, 1], vec![4]));
        assert_eq!(columns.histogram_rule_indexes, [1]);
        let none = Histogram { metric: "other".into(), ..histogram };
        assert_eq!(row(&values, &[], &[none]).histogram_rule_indexes, [0]);
    }

    #[test]
    fn order_keys_order_like_the_doubles_and_come_back() {
        let mut numbers = [3.5_f64, -0.0, 0.0, -7.25, 1e300, 5e-324, -1e-300];
        let mut keys: Vec<u64> = numbers.iter().map(|number| order_key(number.to_bits())).collect();
        keys.sort_unstable();
        numbers.sort_by(f64::total_cmp);
        let back: Vec<u64> = keys.into_iter().map(order_bits).collect();
        assert_eq!(back, numbers.map(f64::to_bits));
    }

    #[test]
    fn beyond_the_exact_budget_percentiles_stay_within_a_few_percent_and_sums_are_exact() {
        let mut overflow = Overflow::default();
        for number in 501..=1_000 {
            overflow.add(f64::from(number), 1.0);
        }
        let mut statistics = Statistics::new(&[threshold(90.0), threshold(-10.0)], &[]);
        let kept: Vec<f64> = (1..=500).map(f64::from).collect();
        statistics.load_values(&kept, 1_000.0);
        statistics.overflow = Some(overflow);
        let whole = statistics.whole();
        assert_eq!(
            (whole.count, whole.sum, whole.lower, whole.upper),
            (1_000, 500_500.0, 1.0, 1_000.0)
        );
        let near = |found: f64, wanted: f64| (found / wanted - 1.0).abs() < 0.03;
        assert!(near(whole.median, 500.0) && near(whole.deviation, 288.67), "{whole:?}");
        let upper = statistics.within(90.0, 1_000);
        assert!(upper.count == 900 && near(upper.boundary, 900.0) && near(upper.sum, 405_450.0));
        let top = statistics.within(-10.0, 1_000);
        assert!(top.count == 100 && near(top.boundary, 900.0) && near(top.mean, 950.5), "{top:?}");
        assert!(near(statistics.count_below(750.5, 1_000) as f64, 750.0));
    }
}
