//! A target of issue 4: what is wanted, what was measured, and whether it holds.

use serde::{Deserialize, Serialize};

use super::spread::Spread;
use super::table::figure;

/// Which side of a limit a figure must lie on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    /// At the limit or below.
    AtMost(f64),
    /// At the limit or above.
    AtLeast(f64),
}

/// What came of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The median keeps the limit, and so does all else that is asked.
    Holds,
    /// It does not.
    Missed,
    /// This run could not measure it; the note says why.
    NotShown,
}

/// One row: a target, or one of its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// The number in the issue.
    pub(crate) number: u32,
    /// What is measured.
    pub(crate) what: String,
    /// The limit.
    pub(crate) bound: Bound,
    /// Of the limit and the figures.
    pub(crate) unit: String,
    /// The figures.
    pub(crate) measured: Option<Spread>,
    /// Whether it holds.
    pub(crate) verdict: Verdict,
    /// What the figure was made of, and whatever else a reader should know.
    pub(crate) note: String,
}

impl Target {
    /// A row whose verdict is that of the median.
    pub(crate) fn new(
        number: u32,
        what: &str,
        (bound, unit): (Bound, &str),
        measured: Option<Spread>,
    ) -> Self {
        let verdict = measured.map_or(Verdict::NotShown, |spread| bound.judge(spread.median));
        Self {
            number,
            what: what.to_owned(),
            bound,
            unit: unit.to_owned(),
            measured,
            verdict,
            note: String::new(),
        }
    }

    /// Adds a note.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Something that must be so besides the limit.
    pub(crate) fn only_if(mut self, is_met: bool) -> Self {
        if !is_met && self.verdict == Verdict::Holds {
            self.verdict = Verdict::Missed;
        }
        self
    }

    /// A row that must hold at both ends of what was measured, not at the median alone.
    ///
    /// Where the median holds and an end does not, the target is not shown.
    pub(crate) fn throughout(mut self) -> Self {
        if let (Some(spread), Verdict::Holds) = (self.measured, self.verdict) {
            let ends = [spread.least, spread.most];
            if ends.iter().any(|&end| self.bound.judge(end) == Verdict::Missed) {
                self.verdict = Verdict::NotShown;
            }
        }
        self
    }

    /// A row whose conditions were not those that the target asks for: whatever was measured, it is
    /// not shown to hold.
    pub(crate) fn shown_if(mut self, is_as_asked: bool) -> Self {
        if !is_as_asked && self.verdict == Verdict::Holds {
            self.verdict = Verdict::NotShown;
        }
        self
    }

    /// A row that was put to the test only if `is_asked`: it neither holds otherwise nor, unlike with
    /// [`Self::shown_if`], is it missed.
    pub(crate) fn asked_if(mut self, is_asked: bool) -> Self {
        if !is_asked {
            self.verdict = Verdict::NotShown;
        }
        self
    }

    /// What is wanted, in words.
    pub(crate) fn wanted(&self) -> String {
        let (side, limit) = match self.bound {
            Bound::AtMost(limit) => ("≤", limit),
            Bound::AtLeast(limit) => ("≥", limit),
        };
        format!("{side} {}", with_unit(&figure(limit), &self.unit))
    }

    /// What was measured, in words.
    pub(crate) fn found(&self) -> String {
        let Some(spread) = self.measured else { return "–".to_owned() };
        let median = with_unit(&figure(spread.median), &self.unit);
        let (least, most) = (figure(spread.least), figure(spread.most));
        if least == most { median } else { format!("{median} ({least}–{most})") }
    }

    /// The verdict, and how far off a missed target is.
    pub(crate) fn said(&self) -> String {
        match (self.verdict, self.measured) {
            (Verdict::Holds, _) => "yes".to_owned(),
            (Verdict::NotShown, _) => "not shown".to_owned(),
            (Verdict::Missed, Some(spread)) => match self.bound.excess(spread.median) {
                Some(times) => format!("**no**, {times:.2} × the limit"),
                None => "**no**".to_owned(),
            },
            (Verdict::Missed, None) => "**no**".to_owned(),
        }
    }
}

impl Bound {
    fn judge(self, figure: f64) -> Verdict {
        let is_kept = match self {
            Self::AtMost(limit) => figure <= limit,
            Self::AtLeast(limit) => limit <= figure,
        };
        if is_kept { Verdict::Holds } else { Verdict::Missed }
    }

    /// The figure as a multiple of the limit, where it is on the wrong side of one above zero.
    fn excess(self, figure: f64) -> Option<f64> {
        let (Self::AtMost(limit) | Self::AtLeast(limit)) = self;
        (0.0 < limit && self.judge(figure) == Verdict::Missed).then(|| figure / limit)
    }
}

fn with_unit(figure: &str, unit: &str) -> String {
    if unit.is_empty() || unit == "×" {
        format!("{figure}{}", if unit.is_empty() { "" } else { " ×" })
    } else {
        format!("{figure} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bound: Bound, median: f64) -> Target {
        let spread = Spread { median, least: median - 0.1, most: median + 0.1 };
        Target::new(1, "cost", (bound, "×"), Some(spread))
    }

    #[test]
    fn median_decides_and_the_limit_itself_holds() {
        assert_eq!(row(Bound::AtMost(1.1), 1.1).verdict, Verdict::Holds);
        assert_eq!(row(Bound::AtMost(1.1), 1.11).verdict, Verdict::Missed);
        assert_eq!(row(Bound::AtLeast(1.95), 1.95).verdict, Verdict::Holds);
        assert_eq!(row(Bound::AtLeast(1.95), 1.94).verdict, Verdict::Missed);
    }

    #[test]
    fn nothing_measured_is_not_shown_and_never_holds() {
        let row = Target::new(3, "cost", (Bound::AtMost(65.0), "ns"), None).only_if(true);
        assert_eq!((row.verdict, row.said().as_str()), (Verdict::NotShown, "not shown"));
        assert_eq!(row.found(), "–");
    }

    #[test]
    fn missed_target_says_how_far() {
        let row = row(Bound::AtMost(1.1), 1.65);
        assert_eq!(row.said(), "**no**, 1.50 × the limit");
        assert_eq!(
            (row.wanted().as_str(), row.found().as_str()),
            ("≤ 1.10 ×", "1.65 × (1.55–1.75)")
        );
        let lost = Target::new(4, "lost", (Bound::AtMost(0.0), "datagrams"), Spread::of([7.0]));
        assert_eq!((lost.said().as_str(), lost.found().as_str()), ("**no**", "7 datagrams"));
    }

    #[test]
    fn an_end_beyond_the_limit_is_not_shown_and_a_missed_median_stays_missed() {
        let verdict = |median| row(Bound::AtLeast(1.95), median).throughout().verdict;
        assert_eq!(verdict(2.1), Verdict::Holds);
        assert_eq!(verdict(2.0), Verdict::NotShown);
        assert_eq!(verdict(1.9), Verdict::Missed);
    }

    #[test]
    fn other_conditions_than_asked_for_never_show_that_a_target_holds() {
        let verdict = |median, is| row(Bound::AtMost(1.1), median).shown_if(is).verdict;
        assert_eq!(verdict(1.0, true), Verdict::Holds);
        assert_eq!(verdict(1.0, false), Verdict::NotShown);
        assert_eq!(verdict(1.2, false), Verdict::Missed);
    }

    #[test]
    fn what_was_never_asked_is_neither_held_nor_missed() {
        let verdict = |median, is| row(Bound::AtLeast(20.0), median).asked_if(is).verdict;
        assert_eq!(verdict(16.0, false), Verdict::NotShown);
        assert_eq!(verdict(16.0, true), Verdict::Missed);
        assert_eq!(verdict(20.1, true), Verdict::Holds);
    }

    #[test]
    fn further_condition_can_miss_a_target_but_never_save_it() {
        assert_eq!(row(Bound::AtMost(1.1), 1.0).only_if(false).verdict, Verdict::Missed);
        assert_eq!(row(Bound::AtMost(1.1), 2.0).only_if(true).verdict, Verdict::Missed);
    }
}
