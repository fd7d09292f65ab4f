//! What a round looked like while it ran.
//!
//! Between `fleet`, which tells how far the senders are, and `report`: moves the progress bar and keeps
//! moments for the plots, with the daemon's figures where its process is known. However long the round,
//! the moments stay below a bound: when there are too many, every other one goes.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::fleet::Look;
use crate::process::{Figures, Process};

/// Shortest time between two moments.
const MOMENT_EVERY: Duration = Duration::from_millis(100);

/// Most moments kept.
const MOMENTS_MAX: usize = 600;

/// How things stood at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moment {
    /// Since the round began.
    pub(crate) at: Duration,
    /// Lines sent until then.
    pub(crate) lines: u64,
    /// Longest lag since the moment before.
    pub(crate) lag: Duration,
    /// Of the daemon; none where its process is not known, or gone.
    pub(crate) figures: Option<Figures>,
}

/// Keeps the moments of one round.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    progress: &'a ProgressBar,
    process: Option<&'a Process>,
    every: Duration,
    lag: Duration,
    moments: Vec<Moment>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(progress: &'a ProgressBar, process: Option<&'a Process>) -> Watch<'a> {
        let figures = process.and_then(|process| process.figures().ok());
        let first = Moment { figures, ..Moment::default() };
        let (every, lag) = (MOMENT_EVERY, Duration::ZERO);
        Watch { progress, process, every, lag, moments: vec![first] }
    }

    pub(crate) fn look(&mut self, look: Look) {
        self.progress.set_position(look.lines);
        self.lag = self.lag.max(look.lag);
        let last = self.moments.last().map_or(Duration::ZERO, |moment| moment.at);
        if look.at < last + self.every {
            return;
        }
        let figures = self.process.and_then(|process| process.figures().ok());
        let lag = std::mem::take(&mut self.lag);
        self.moments.push(Moment { at: look.at, lines: look.lines, lag, figures });
        if MOMENTS_MAX <= self.moments.len() {
            self.thin();
        }
    }

    /// Drops every other moment; its lag goes to the one after it.
    fn thin(&mut self) {
        self.every *= 2;
        let mut kept = Vec::with_capacity(MOMENTS_MAX);
        let mut lag = Duration::ZERO;
        for (number, mut moment) in std::mem::take(&mut self.moments).into_iter().enumerate() {
            moment.lag = moment.lag.max(lag);
            lag = Duration::ZERO;
            if number % 2 == 0 {
                kept.push(moment);
            } else {
                lag = moment.lag;
            }
        }
        self.lag = self.lag.max(lag);
        self.moments = kept;
    }

    pub(crate) fn into_moments(self) -> Vec<Moment> {
        self.moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_stay_below_their_bound_and_keep_the_longest_lag() {
        let progress = ProgressBar::hidden();
        let mut watch = Watch::new(&progress, None);
        for number in 1..=10_000u32 {
            let lag = Duration::from_millis(if number == 3_333 { 77 } else { 1 });
            let at = MOMENT_EVERY * number;
            watch.look(Look { at, lines: u64::from(number), lag });
        }
        let moments = watch.into_moments();
        assert!(moments.len() < MOMENTS_MAX, "{}", moments.len());
        assert!(100 < moments.len());
        assert!(moments.is_sorted_by_key(|moment| moment.at));
        let longest = moments.iter().map(|moment| moment.lag).max();
        assert_eq!(longest, Some(Duration::from_millis(77)));
        assert_eq!(progress.position(), 10_000);
    }
}
