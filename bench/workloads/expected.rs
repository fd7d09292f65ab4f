//! What a flush must yield of a workload, computed plainly from its lines, to the last digit.
//!
//! Lines are split at their delimiters, values gathered by name, sorted, and summed from the smallest to
//! the largest as the reference daemon does; none of it is code of the daemon. Counters and timers alone.

use std::collections::BTreeMap;

use floe_core::row::{Rows, TimerColumns};

use crate::datagrams::Datagrams;
use crate::pipeline::PERCENTS;

/// What the names of all workloads begin with; the daemon's own do not.
const PREFIX: &[u8] = b"fleet.";

/// Rows of the daemon's own.
const OWN_ROWS: usize = 3;

/// Everything in the row of a timer.
#[derive(Clone, Debug, PartialEq)]
pub struct TimerRow {
    /// Values, weight, deviation, largest, smallest, sum, sum of squares, mean, median.
    whole: [f64; 9],
    /// Of each threshold: values, mean, boundary, sum, sum of squares.
    within: Vec<[f64; 5]>,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
impl TimerRow {
    /// That of `values`, with thresholds at `percents` above 0.
    ///
    /// # Panics
    /// If there are less than two values, or a threshold takes in none.
    #[must_use]
    pub fn computed(mut values: Vec<f64>, percents: &[f64]) -> Self {
        values.sort_by(f64::total_cmp);
        let sum_of = |of: fn(f64) -> f64, values: &[f64]| {
            values.iter().fold(0.0, |sum, value| sum + of(*value))
        };
        let sums =
            |values: &[f64]| [sum_of(|value| value, values), sum_of(|value| value * value, values)];
        let count = values.len() as f64;
        let [sum, sum_squares] = sums(&values);
        let mean = sum / count;
        let squares = values.iter().map(|value| (value - mean) * (value - mean));
        let deviation = (squares.fold(0.0, |sum, square| sum + square) / count).sqrt();
        let middle = values.len() / 2;
        let is_odd = values.len() % 2 == 1;
        let median =
            if is_odd { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        let (lower, upper) = (values[0], values[values.len() - 1]);
        let within = percents.iter().map(|percent| {
            let number = (percent / 100.0 * count + 0.5).floor();
            let taken = (1..=values.len()).rfind(|taken| *taken as f64 <= number);
            let taken = &values[..taken.expect("a threshold takes in values")];
            let [sum, sum_squares] = sums(taken);
            [number, sum / number, taken[taken.len() - 1], sum, sum_squares]
        });
        let within = within.collect();
        let whole = [count, count, deviation, upper, lower, sum, sum_squares, mean, median];
        Self { whole, within }
    }

    /// That of timer `index` of a flush.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn of(columns: &TimerColumns, index: usize) -> Self {
        let whole = [
            columns.value_counts[index] as f64,
            columns.counts[index],
            columns.deviations[index],
            columns.uppers[index],
            columns.lowers[index],
            columns.sums[index],
            columns.sums_squares[index],
            columns.means[index],
            columns.medians[index],
        ];
        let within = columns.thresholds.iter().map(|threshold| {
            [
                threshold.counts[index] as f64,
                threshold.means[index],
                threshold.boundaries[index],
                threshold.sums[index],
                threshold.sums_squares[index],
            ]
        });
        Self { whole, within: within.collect() }
    }
}

/// The values of every name, and whether they are times.
type Values<'d> = BTreeMap<&'d [u8], (bool, Vec<f64>)>;

fn values(datagrams: &Datagrams) -> Values<'_> {
    let mut all = Values::new();
    for (buffer, len) in datagrams.iter() {
        for line in buffer[..len].split(|byte| *byte == b'\n') {
            let mut parts = line.split(|byte| matches!(byte, b':' | b'|'));
            let name = parts.next().expect("a line has a name");
            let value =
                parts.next().and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
            let is_time = match parts.next() {
                Some(b"c") => false,
                Some(b"ms") => true,
                _ => panic!("counters and timers alone"),
            };
            let (_, values) = all.entry(name).or_insert((is_time, Vec::new()));
            values.push(value.expect("a value is a number"));
        }
    }
    all
}

/// Asserts that `parts` are what a flush makes of `datagrams`, fed to each of `workers`, with [`PERCENTS`]:
/// a row for every name and no other but the daemon's own, sums of counters, everything of timers.
///
/// # Panics
/// If they are not.
pub fn assert_flushed(parts: &[Rows], datagrams: &Datagrams, workers: usize) {
    let mut left = values(datagrams);
    let mut own = 0;
    let mut take = |name: &[u8], is_time: bool| {
        if !name.starts_with(PREFIX) {
            own += 1;
            return None;
        }
        let (expected, values) = left.remove(name).expect("a row per name");
        assert_eq!(expected, is_time, "kind of {}", String::from_utf8_lossy(name));
        Some(values.repeat(workers))
    };
    for (index, part) in parts.iter().enumerate() {
        assert_eq!(part.part_index as usize, index, "parts in their order");
        let (counters, timers) = (part.counters.len(), part.timers.counts.len());
        assert_eq!(part.row_count(), counters + timers, "counters and timers alone");
        for (at, name) in part.names.iter().enumerate() {
            let is_time = counters <= at;
            let Some(values) = take(name, is_time) else { continue };
            let name = String::from_utf8_lossy(name);
            if is_time {
                let row = TimerRow::of(&part.timers, at - counters);
                assert_eq!(row, TimerRow::computed(values, &PERCENTS), "{name}");
            } else {
                // Whole numbers: sums are exact in any order.
                assert_eq!(part.counters[at], values.iter().sum::<f64>(), "{name}");
            }
        }
    }
    assert_eq!(
        (left.len(), own),
        (0, OWN_ROWS),
        "names without a row, and rows of the daemon's own"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagrams::{Extent, Packing};
    use crate::lines::Shape;
    use crate::pipeline::Pipeline;

    fn flushed(shape: Shape, workers: u16) -> (Datagrams, Vec<Rows>) {
        let datagrams = Datagrams::new(shape, Packing::Packed, Extent { names: 10, lines: 1_000 });
        let mut pipeline = Pipeline::of_workers(workers);
        pipeline.feed(&datagrams);
        let parts = pipeline.flush();
        (datagrams, parts)
    }

    #[test]
    fn flushes_of_counters_and_timers_are_what_is_computed_plainly() {
        for (shape, workers) in [(Shape::Counter, 1), (Shape::Counter, 2), (Shape::Timing, 1)] {
            let (datagrams, parts) = flushed(shape, workers);
            assert_flushed(&parts, &datagrams, workers.into());
        }
    }

    #[test]
    #[should_panic(expected = "fleet.app")]
    fn last_digit_of_a_sum_is_seen() {
        let (datagrams, mut parts) = flushed(Shape::Timing, 1);
        let sum = &mut parts[0].timers.thresholds[1].sums[3];
        *sum = sum.next_up();
        assert_flushed(&parts, &datagrams, 1);
    }

    #[test]
    #[should_panic(expected = "names without a row")]
    fn name_that_is_missing_is_seen() {
        let (datagrams, _) = flushed(Shape::Counter, 1);
        assert_flushed(&Pipeline::new().flush(), &datagrams, 1);
    }

    #[test]
    fn row_of_ten_values_is_the_one_of_the_reference() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let row = TimerRow::computed(values, &[90.0]);
        let deviation = 8.25_f64.sqrt();
        assert_eq!(row.whole, [10.0, 10.0, deviation, 10.0, 1.0, 55.0, 385.0, 5.5, 5.5]);
        assert_eq!(row.within, [[9.0, 5.0, 9.0, 45.0, 285.0]]);
    }
}
