//! The search for the highest rate without loss.
//!
//! Used by `run` with a trial that really sends, and by its tests with one that only says so. The rate
//! is doubled until a round fails, then the gap between the highest good rate and the lowest bad one is
//! halved until it is as narrow as the resolution. A round fails where more was lost than allowed, or
//! where the sender did not reach the rate. A failed round is tried once more, because a hiccup of the
//! machine is not the daemon's limit; the rate that comes out must hold for a round three times as long,
//! and gives way by the resolution until it does. What was tried until the user ends the search, or a
//! round fails to be made, is told as well.

use std::time::Duration;

use anyhow::{Error, Result, bail};

use crate::pacer::REACHED_MIN;

/// The long round, in rounds.
const CONFIRM_ROUNDS: u32 = 3;

/// Rates that are given up before the search ends without one.
const STEPS_DOWN_MAX: usize = 40;

/// Highest rate that is tried.
const RATE_MAX: u64 = 1_000_000_000;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    /// First rate, lines per second.
    pub(crate) from: u64,
    /// No rate above this is tried.
    pub(crate) to: u64,
    pub(crate) round: Duration,
    /// Percent of the lines or datagrams that may be lost.
    pub(crate) loss_percent: f64,
    /// Width of the gap at the end, percent of the rate.
    pub(crate) resolution_percent: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            from: 10_000,
            to: RATE_MAX,
            round: Duration::from_secs(2),
            loss_percent: 0.1,
            resolution_percent: 5.0,
        }
    }
}

/// What one round showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trial {
    /// Lines per second asked for.
    pub(crate) rate: u64,
    /// Lines per second that left.
    pub(crate) achieved: f64,
    /// Percent that did not arrive.
    pub(crate) lost_percent: f64,
    pub(crate) lag_ns_max: u64,
    /// CPU time of the daemon per line taken, where its process is known.
    pub(crate) cpu_ns_per_line: Option<f64>,
}

/// What a round means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Held,
    Lost,
    /// The sender was the limit.
    NotReached,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Held => "held",
            Verdict::Lost => "lost",
            Verdict::NotReached => "not reached",
        }
    }
}

impl Settings {
    #[expect(clippy::cast_precision_loss, reason = "compared with a tolerance")]
    pub(crate) fn verdict(&self, trial: &Trial) -> Verdict {
        if self.loss_percent < trial.lost_percent {
            Verdict::Lost
        } else if trial.achieved < REACHED_MIN * trial.rate as f64 {
            Verdict::NotReached
        } else {
            Verdict::Held
        }
    }
}

/// Why a search ended before it was through.
#[derive(Debug)]
pub(crate) enum Cut {
    /// The user wanted to end.
    Interrupted,
    /// A round could not be made.
    Failed(Error),
}

impl From<Error> for Cut {
    fn from(error: Error) -> Cut {
        Cut::Failed(error)
    }
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Found {
    /// The highest rate that held, also in the long round where the search was not cut; none where no
    /// rate did.
    pub(crate) rate: Option<u64>,
    /// The lowest rate that did not hold, and why; none where none failed.
    pub(crate) above: Option<(u64, Verdict)>,
    /// Every round in its order.
    pub(crate) trials: Vec<Trial>,
    pub(crate) cut: Option<Cut>,
}

impl Found {
    /// Nothing, since no round could be made.
    pub(crate) fn cut_at_once(cut: Cut) -> Found {
        Found { rate: None, above: None, trials: Vec::new(), cut: Some(cut) }
    }
}

/// Sends at a rate, lines per second, for a time.
pub(crate) type Attempt<'a> = dyn FnMut(u64, Duration) -> Result<Trial, Cut> + 'a;

struct Search<'a, 'b> {
    settings: Settings,
    attempt: &'a mut Attempt<'b>,
    trials: Vec<Trial>,
    good: Option<u64>,
    above: Option<(u64, Verdict)>,
}

impl Search<'_, '_> {
    fn judge(&mut self, rate: u64, time: Duration) -> Result<Verdict, Cut> {
        let trial = (self.attempt)(rate, time)?;
        self.trials.push(trial);
        Ok(self.settings.verdict(&trial))
    }

    /// Tries `rate`, twice where the first round fails.
    fn judge_twice(&mut self, rate: u64) -> Result<Verdict, Cut> {
        match self.judge(rate, self.settings.round)? {
            Verdict::Held => Ok(Verdict::Held),
            _ => self.judge(rate, self.settings.round),
        }
    }

    fn is_narrow(&self, good: u64, bad: u64) -> bool {
        let gap = good.abs_diff(bad);
        gap <= 1 || percent(gap, bad) <= self.settings.resolution_percent
    }

    fn run(&mut self) -> Result<(), Cut> {
        self.double()?;
        self.halve()?;
        self.confirm()
    }

    /// Doubles the rate until one fails.
    fn double(&mut self) -> Result<(), Cut> {
        let to = self.settings.to;
        let mut rate = self.settings.from;
        loop {
            match self.judge_twice(rate)? {
                Verdict::Held => self.good = Some(rate),
                verdict => {
                    self.above = Some((rate, verdict));
                    return Ok(());
                }
            }
            if rate == to {
                return Ok(());
            }
            rate = rate.saturating_mul(2).min(to);
        }
    }

    /// Halves the gap between what held and what did not.
    fn halve(&mut self) -> Result<(), Cut> {
        while let Some((bad, _)) = self.above {
            // Where the first rate failed, what is good lies below it.
            let floor = self.good.unwrap_or(0);
            let is_given_up = self.good.is_none() && STEPS_DOWN_MAX < self.trials.len();
            if self.is_narrow(floor, bad) || is_given_up {
                break;
            }
            let middle = floor + (bad - floor) / 2;
            match self.judge_twice(middle)? {
                Verdict::Held => self.good = Some(middle),
                verdict => self.above = Some((middle, verdict)),
            }
        }
        Ok(())
    }

    /// Steps down until a rate holds in the long round.
    fn confirm(&mut self) -> Result<(), Cut> {
        let mut steps = 0;
        while let Some(rate) = self.good {
            let verdict = self.judge(rate, self.settings.round * CONFIRM_ROUNDS)?;
            if verdict == Verdict::Held {
                break;
            }
            steps += 1;
            self.above = Some((rate, verdict));
            let lower = below(rate, self.settings.resolution_percent);
            self.good = (0 < lower && steps < STEPS_DOWN_MAX).then_some(lower);
        }
        Ok(())
    }

    /// The highest rate of a round that held, below every one that did not.
    fn held_so_far(&self) -> Option<u64> {
        let limit = self.above.map_or(u64::MAX, |(rate, _)| rate);
        let held = self
            .trials
            .iter()
            .filter(|trial| trial.rate < limit && self.settings.verdict(trial) == Verdict::Held);
        held.map(|trial| trial.rate).max()
    }
}

/// Searches by `settings`.
///
/// # Errors
/// Where the settings make no sense; a round that fails is told by what was found.
pub(crate) fn find(settings: Settings, attempt: &mut Attempt<'_>) -> Result<Found> {
    if settings.to < settings.from || settings.from == 0 {
        bail!("cannot search from {} to {} lines/s", settings.from, settings.to);
    }
    let mut search = Search { settings, attempt, trials: Vec::new(), good: None, above: None };
    let cut = search.run().err();
    let rate = if cut.is_some() { search.held_so_far() } else { search.good };
    Ok(Found { rate, above: search.above, trials: search.trials, cut })
}

/// `rate` less `percent`, at least one line less.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100 %")]
#[expect(clippy::cast_precision_loss, reason = "a rate stays far below 2^53")]
fn below(rate: u64, percent: f64) -> u64 {
    ((rate as f64 * (1.0 - percent / 100.0)) as u64).min(rate.saturating_sub(1))
}

#[expect(clippy::cast_precision_loss, reason = "shown rounded")]
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon that takes `capacity` lines per second and a sender that makes `reach`.
    fn trial(rate: u64, capacity: u64, reach: u64) -> Trial {
        let achieved = rate.min(reach);
        Trial {
            rate,
            achieved: achieved as f64,
            lost_percent: percent(achieved.saturating_sub(capacity), achieved),
            lag_ns_max: 0,
            cpu_ns_per_line: None,
        }
    }

    fn search(settings: Settings, capacity: u64, reach: u64) -> Found {
        find(settings, &mut |rate, _| Ok(trial(rate, capacity, reach))).unwrap()
    }

    #[test]
    fn the_rate_found_is_the_capacity_within_the_resolution() {
        for capacity in [10_001, 123_456, 999_999, 20_000_000] {
            let settings = Settings::default();
            let found = search(settings, capacity, u64::MAX);
            let rate = found.rate.unwrap();
            let (above, verdict) = found.above.unwrap();
            // The rate that failed may have lost just more than is allowed.
            assert!(rate <= capacity + capacity / 500, "{rate} of {capacity}");
            assert!(capacity < above && above * 94 / 100 <= rate, "{rate}, {above}, {capacity}");
            assert_eq!(verdict, Verdict::Lost);
        }
    }

    #[test]
    fn a_sender_that_is_the_limit_is_told_from_loss() {
        let found = search(Settings::default(), u64::MAX, 900_000);
        let rate = found.rate.unwrap();
        assert!((850_000..=925_000).contains(&rate), "{rate}");
        assert_eq!(found.above.unwrap().1, Verdict::NotReached);
    }

    #[test]
    fn a_capacity_below_the_first_rate_is_found() {
        let rate = search(Settings::default(), 300, u64::MAX).rate.unwrap();
        assert!((280..=301).contains(&rate), "{rate}");
    }

    #[test]
    fn a_daemon_that_takes_nothing_has_no_rate() {
        let found = search(Settings::default(), 0, u64::MAX);
        assert_eq!(found.rate, None);
        assert!(found.trials.len() < 100);
    }

    #[test]
    fn the_highest_rate_ends_the_search() {
        let found = search(Settings { to: 50_000, ..Settings::default() }, u64::MAX, u64::MAX);
        assert_eq!((found.rate, found.above), (Some(50_000), None));
        let asked = &mut |_, _| Err(Cut::Interrupted);
        assert!(find(Settings { to: 5, ..Settings::default() }, asked).is_err());
    }

    /// 10,000, 20,000 and 40,000 hold, 80,000 fails twice, 60,000 fails twice, 50,000 is cut.
    #[test]
    fn r4_a_search_that_is_cut_tells_what_it_knows() {
        for rounds in [0, 1, 7] {
            let mut count = 0;
            let mut attempt = |rate, _| {
                count += 1;
                if rounds < count {
                    Err(Cut::Interrupted)
                } else {
                    Ok(trial(rate, 45_000, u64::MAX))
                }
            };
            let found = find(Settings::default(), &mut attempt).unwrap();
            assert!(matches!(found.cut, Some(Cut::Interrupted)));
            assert_eq!(found.trials.len(), rounds);
            let expected = [(0, None), (1, Some(10_000)), (7, Some(40_000))];
            let expected = expected.into_iter().find(|(known, _)| *known == rounds);
            assert_eq!(Some((rounds, found.rate)), expected);
            let above = (rounds == 7).then_some((60_000, Verdict::Lost));
            assert_eq!(found.above, above);
        }
    }

    /// The rate that comes next was never tried: it is not told as one that held.
    #[test]
    fn r4_a_rate_that_failed_in_the_long_round_did_not_hold() {
        let settings = Settings { to: 10_000, ..Settings::default() };
        let mut attempt = |rate, time| match time {
            _ if rate < 10_000 => Err(Cut::Failed(anyhow::anyhow!("gone"))),
            time if settings.round < time => Ok(trial(rate, 0, u64::MAX)),
            _ => Ok(trial(rate, u64::MAX, u64::MAX)),
        };
        let found = find(settings, &mut attempt).unwrap();
        assert_eq!((found.rate, found.above), (None, Some((10_000, Verdict::Lost))));
        assert!(matches!(found.cut, Some(Cut::Failed(_))));
    }

    #[test]
    fn one_hiccup_does_not_end_the_search() {
        let mut count = 0;
        let mut attempt = |rate, _| {
            count += 1;
            Ok(trial(rate, if count == 2 { 0 } else { 100_000 }, u64::MAX))
        };
        let rate = find(Settings::default(), &mut attempt).unwrap().rate.unwrap();
        assert!((93_000..=100_200).contains(&rate), "{rate}");
    }

    /// Long rounds hold less: 80,000 where short ones hold 100,000.
    #[test]
    fn the_long_round_decides() {
        let settings = Settings::default();
        let mut attempt = |rate, time| {
            Ok(trial(rate, if settings.round < time { 80_000 } else { 100_000 }, u64::MAX))
        };
        let found = find(settings, &mut attempt).unwrap();
        let rate = found.rate.unwrap();
        assert!((74_000..=80_080).contains(&rate), "{rate}");
        assert!(80_000 < found.above.unwrap().0);
    }
}
