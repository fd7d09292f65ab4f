//! Claim: the statistics of a timer are those of the reference algorithm, bit for bit.
//!
//! Method: random values, thresholds and bins go through `Statistics`, and through the plainest
//! reading of docs/references.md S6: a sort of doubles, then loops.

#![allow(missing_docs, reason = "a test")]

use floe_core::config::settings::{Bin, Histogram, Threshold};
use floe_core::row::{ThresholdColumns, TimerColumns};
use floe_core::statistics::Statistics;
use proptest::prelude::*;

/// What the reference sends for one threshold: count, mean, boundary, sum, sum of squares.
type Within = (u64, f64, f64, f64, f64);

fn prefix_sums(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sums: Vec<f64> = Vec::new();
    for value in values {
        sums.push(sums.last().copied().unwrap_or(0.0) + value);
    }
    sums
}

/// One threshold over ascending values; `None` emits nothing.
fn within(values: &[f64], percent: f64) -> Option<Within> {
    let sums = prefix_sums(values.iter().copied());
    let sums_squares = prefix_sums(values.iter().map(|value| value * value));
    let all = values.len();
    if all == 1 {
        return Some((1, values[0], values[0], values[0], values[0] * values[0]));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    let taken = (((percent.abs() / 100.0) * all as f64 + 0.5).floor() as usize).min(all);
    if taken == 0 {
        return None;
    }
    let (boundary, sum, sum_squares) = if percent > 0.0 {
        (values[taken - 1], sums[taken - 1], sums_squares[taken - 1])
    } else if taken == all {
        (values[0], sums[all - 1], sums_squares[all - 1])
    } else {
        let below = all - taken - 1;
        let sum_squares = sums_squares[all - 1] - sums_squares[below];
        (values[all - taken], sums[all - 1] - sums[below], sum_squares)
    };
    Some((taken as u64, sum / taken as f64, boundary, sum, sum_squares))
}

/// Bin by bin: values below the limit that no earlier bin has counted.
fn bins(values: &[f64], limits: &[f64]) -> Vec<u64> {
    let mut is_counted = vec![false; values.len()];
    let mut counts = Vec::new();
    for limit in limits {
        let mut count = 0;
        for (value, is_counted) in values.iter().zip(&mut is_counted) {
            if !*is_counted && (*limit == f64::INFINITY || value < limit) {
                *is_counted = true;
                count += 1;
            }
        }
        counts.push(count);
    }
    counts
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        (0..20_u32).prop_map(f64::from),
        0.0..1_000.0,
        (0..1_000_000_u32).prop_map(|number| f64::from(number) / 1_000.0),
        prop_oneof![Just(0.0), Just(5e-324), Just(1e150), Just(1e308)],
    ]
}

fn percent() -> impl Strategy<Value = f64> {
    prop_oneof![(-110..110_i32).prop_map(f64::from), -100.0..100.0, Just(99.9), Just(-12.5)]
}

fn limit() -> impl Strategy<Value = f64> {
    prop_oneof![9 => value(), 1 => Just(f64::INFINITY)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn statistics_are_those_of_the_reference_to_the_last_bit(
        values in prop::collection::vec(value(), 1..120),
        percents in prop::collection::vec(percent(), 0..6),
        limits in prop::collection::vec(limit(), 0..6),
    ) {
        let thresholds = percents.iter().map(|&percent| Threshold { percent, suffix: "".into() });
        let thresholds: Vec<Threshold> = thresholds.collect();
        let limit_bins = limits.iter().map(|&limit| Bin { limit, name: "".into() }).collect();
        let histograms = [Histogram { metric: "timer".into(), bins: limit_bins }];
        let mut statistics = Statistics::new(&thresholds, &histograms);
        // Buffers are reused: what a timer before left must not show.
        statistics.load_values(&[7.0; 200], 200.0);
        statistics.load_values(&values, 12.5);
        let mut columns = TimerColumns {
            thresholds: percents.iter().map(|_| ThresholdColumns::default()).collect(),
            ..TimerColumns::default()
        };
        let bin_count = statistics.push_row(b"a.timer", &mut columns);

        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let number = sorted.len() as f64;
        let sum = sorted.iter().fold(0.0, |sum, value| sum + value);
        let sum_squares = sorted.iter().fold(0.0, |sum, value| sum + value * value);
        let mean = sum / number;
        let distances = sorted.iter().fold(0.0, |sum, each| sum + (each - mean) * (each - mean));
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        };
        let bits = |column: &[f64]| column[0].to_bits();
        prop_assert_eq!(columns.value_counts[0], sorted.len() as u64);
        prop_assert_eq!(columns.counts[0], 12.5);
        prop_assert_eq!(bits(&columns.sums), sum.to_bits());
        prop_assert_eq!(bits(&columns.sums_squares), sum_squares.to_bits());
        prop_assert_eq!(bits(&columns.means), mean.to_bits());
        prop_assert_eq!(bits(&columns.medians), median.to_bits());
        prop_assert_eq!(bits(&columns.lowers), sorted[0].to_bits());
        prop_assert_eq!(bits(&columns.uppers), sorted[sorted.len() - 1].to_bits());
        let deviation = (distances / number).sqrt();
        prop_assert!(bits(&columns.deviations) == deviation.to_bits() || deviation.is_nan());
        for (percent, column) in percents.iter().zip(&columns.thresholds) {
            let wanted = within(&sorted, *percent);
            prop_assert_eq!(column.counts[0], wanted.map_or(0, |(count, ..)| count));
            if let Some((_, mean, boundary, sum, sum_squares)) = wanted {
                let found = [&column.means, &column.boundaries, &column.sums, &column.sums_squares];
                let wanted = [mean, boundary, sum, sum_squares];
                for (found, wanted) in found.iter().zip(wanted) {
                    prop_assert!(bits(found) == wanted.to_bits() || wanted.is_nan());
                }
            }
        }
        prop_assert_eq!(bin_count, limits.len());
        prop_assert_eq!(columns.bin_counts, bins(&sorted, &limits));
        prop_assert_eq!(columns.histogram_rule_indexes[0], u32::from(!limits.is_empty()));
    }
}
