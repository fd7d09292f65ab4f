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
        let mut sorted: Vec<f64> = figures.into_iter().filter(|each| each.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, least, most })
    }
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
