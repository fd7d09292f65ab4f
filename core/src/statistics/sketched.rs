//! Statistics of a timer beyond its exact budget: values that were kept, and a sketch of the rest.
//!
//! Count, sum, sum of squares, lower, upper and mean are exact. Median and boundaries carry the
//! sketch's relative error of 1 %; sums within a threshold are integrated over its quantiles, and
//! the deviation comes from the sums, which is exact up to rounding.

use sketches_ddsketch::{Config, DDSketch};

use super::{Whole, Within};
use crate::series::timer::Overflow;

/// Steps of the integration over quantiles.
const STEPS: u32 = 256;

/// Steps of the search for a quantile: beyond the resolution of a sketch of 2,048 bins.
const SEARCH_STEPS: u32 = 40;

fn sketch_of_all(values: &[f64], overflow: &Overflow) -> DDSketch {
    let mut sketch = DDSketch::new(Config::defaults());
    for &value in values {
        sketch.add(value);
    }
    // Both come from `Config::defaults`, the only condition; the overflow alone is then the answer.
    if sketch.merge(&overflow.sketch).is_err() {
        return overflow.sketch.clone();
    }
    sketch
}

fn quantile(sketch: &DDSketch, share: f64) -> f64 {
    sketch.quantile(share.clamp(0.0, 1.0)).ok().flatten().unwrap_or(0.0)
}

pub(super) fn whole(values: &[f64], weight: f64, overflow: &Overflow) -> Whole {
    let count = values.len() as u64 + overflow.count;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let number = count as f64;
    let sum = values.iter().sum::<f64>() + overflow.sum;
    let sum_squares = values.iter().map(|value| value * value).sum::<f64>() + overflow.sum_squares;
    let mean = sum / number;
    Whole {
        count,
        weight,
        deviation: (sum_squares / number - mean * mean).max(0.0).sqrt(),
        upper: values.last().copied().unwrap_or(f64::NEG_INFINITY).max(overflow.upper),
        lower: values.first().copied().unwrap_or(f64::INFINITY).min(overflow.lower),
        sum,
        sum_squares,
        mean,
        median: quantile(&sketch_of_all(values, overflow), 0.5),
    }
}

/// `share`: of all values, those within; `taken`: their number.
pub(super) fn within(
    values: &[f64],
    overflow: &Overflow,
    percent: f64,
    share: f64,
    taken: f64,
) -> Within {
    let sketch = sketch_of_all(values, overflow);
    let (from, to) = if 0.0 < percent { (0.0, share) } else { (1.0 - share, 1.0) };
    let boundary = quantile(&sketch, if 0.0 < percent { to } else { from });
    let step = (to - from) / f64::from(STEPS);
    let (mut sum, mut sum_squares) = (0.0, 0.0);
    for number in 0..STEPS {
        let value = quantile(&sketch, from + step * (f64::from(number) + 0.5));
        sum += value;
        sum_squares += value * value;
    }
    let mean = sum / f64::from(STEPS);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number")]
    Within {
        count: taken as u64,
        mean,
        boundary,
        sum: mean * taken,
        sum_squares: sum_squares / f64::from(STEPS) * taken,
    }
}

/// Sketched values below a limit, by bisection over quantiles.
pub(super) fn count_below(overflow: &Overflow, limit: f64) -> u64 {
    let (mut below, mut above) = (0.0, 1.0);
    if overflow.upper < limit {
        return overflow.count;
    }
    for _ in 0..SEARCH_STEPS {
        let middle = f64::midpoint(below, above);
        if quantile(&overflow.sketch, middle) < limit {
            below = middle;
        } else {
            above = middle;
        }
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count"
    )]
    let count = (below * overflow.count as f64).round() as u64;
    count
}
