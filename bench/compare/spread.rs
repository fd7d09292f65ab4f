//! Medians with their spread, and ratios of figures taken side by side.

use serde::{Deserialize, Serialize};

/// Median, least and most of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// The middle one; of an even number the mean of the middle two.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The greatest.
    pub(crate) most: f64,
}

impl Spread {
    /// Of `figures`; none of none. Figures that are not numbers are left out.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(figures);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        Some(Self { median: median(&sorted), least, most })
    }

    /// The median of many `figures`, and the bounds between which the true one lies with 99 %: by their
    /// ranks, whatever the figures' distribution (the sign test). None of fewer than ten.
    pub(crate) fn of_median(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(figures);
        if sorted.len() < MEDIAN_FIGURES_MIN {
            return None;
        }
        let middle = index(sorted.len()) / 2.0;
        let reach = DEVIATIONS_OF_99 * index(sorted.len()).sqrt() / 2.0;
        let (below, above) = ((middle - reach).floor().max(1.0), (middle + reach).ceil());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ranks from 1")]
        let (below, above) = (below as usize - 1, (above as usize).min(sorted.len() - 1));
        Some(Self { median: median(&sorted), least: sorted[below], most: sorted[above] })
    }
}

/// Figures that [`Spread::of_median`] needs.
const MEDIAN_FIGURES_MIN: usize = 10;

/// Standard deviations around the mean that hold 99 % of a normal distribution.
const DEVIATIONS_OF_99: f64 = 2.576;

fn sorted(figures: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = figures.into_iter().filter(|each| each.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of rounds")]
fn index(len: usize) -> f64 {
    len as f64
}

/// Ratios of the figures of two, round by round: what both had to bear falls out.
pub(crate) fn ratios(of: &[(u32, f64)], to: &[(u32, f64)]) -> Option<Spread> {
    paired(of, to, |of, to| of / to)
}

/// Differences of the figures of two, round by round.
pub(crate) fn differences(of: &[(u32, f64)], to: &[(u32, f64)]) -> Option<Spread> {
    paired(of, to, |of, to| of - to)
}

fn paired(
    of: &[(u32, f64)],
    to: &[(u32, f64)],
    combine: impl Fn(f64, f64) -> f64,
) -> Option<Spread> {
    let partner = |round: u32| to.iter().find(|(other, _)| *other == round);
    let pairs = of.iter().filter_map(|(round, figure)| Some((figure, partner(*round)?.1)));
    Spread::of(pairs.map(|(of, to)| combine(*of, to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_or_the_mean_of_the_middle_two() {
        let spread = Spread::of([3.0, 1.0, 10.0]).unwrap();
        assert_eq!(spread, Spread { median: 3.0, least: 1.0, most: 10.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, 2.0]).unwrap().median, 2.0);
    }

    #[test]
    fn bounds_of_a_median_leave_the_tails_out_and_need_ten_figures() {
        // 100 figures and two that were disturbed: the ranks 37 and 64.
        let figures = (1..=98).map(f64::from).chain([-1e9, 1e9]);
        let spread = Spread::of_median(figures).unwrap();
        assert_eq!(spread, Spread { median: 49.5, least: 36.0, most: 63.0 });
        assert_eq!(Spread::of_median((1..10).map(f64::from)), None);
        let ten = Spread::of_median((1..=10).map(f64::from)).unwrap();
        assert_eq!(ten, Spread { median: 5.5, least: 1.0, most: 10.0 });
    }

    #[test]
    fn ratios_pair_figures_of_the_same_round() {
        // Round 2 was slow for both; round 3 has no partner.
        let of = [(1, 110.0), (2, 220.0), (3, 999.0)];
        let to = [(2, 200.0), (1, 100.0)];
        let spread = ratios(&of, &to).unwrap();
        assert!((spread.median - 1.1).abs() < 1e-12 && (spread.most - 1.1).abs() < 1e-12);
        assert_eq!(differences(&of, &to).unwrap().median, 15.0);
        assert_eq!(ratios(&of, &[]), None);
    }
}
