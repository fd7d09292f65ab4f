//! The highest rate at which a contestant loses less than one datagram in a thousand, by bisection.
//!
//! The ends of the search are a hundred datagrams per second and what the sender can offer. A step
//! is long enough for a flush to fall into it.

use std::time::Duration;

use floe_bench::datagrams::Datagrams;
use serde::{Deserialize, Serialize};

use super::feeds::Pool;
use super::measurement::{Measurement, feed, warm_up};
use super::say;
use super::sender::{Order, Rate};
use super::table::{Table, figure};
use crate::contestants::{Contestant, Running, Site};

/// Part of the datagrams that may be lost.
pub(super) const LOSS_MAX: f64 = 0.001;

/// Halvings of the range, in ratio: from a hundred to a million they find the rate within 4 %.
const STEPS: u32 = 8;

/// The lowest rate that is tried, datagrams per second.
const LEAST_PER_S: u32 = 100;

/// That of records which do not say.
const LEAST_BEFORE_PER_S: f64 = 1_000.0;

/// Shortest step: a flush falls into it.
pub(super) const STEP_TIME_MIN: Duration = Duration::from_millis(1_100);

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// Name of the contestant.
    pub(crate) contestant: String,
    /// `single` or `packed`.
    pub(crate) packing: String,
    /// Lines per second taken in with that little loss; none below the lowest rate.
    pub(crate) lines_per_s: Option<f64>,
    /// Whether the sender had no more to offer.
    pub(crate) is_of_the_sender: bool,
    /// The lowest rate that was tried, lines per second.
    #[serde(default)]
    pub(crate) least_lines_per_s: Option<f64>,
}

/// Searches for each contestant and packing.
pub(crate) fn search(
    contestants: &[Contestant],
    site: &Site,
    time: Duration,
    failures: &mut Vec<String>,
) -> Vec<Limit> {
    let time = time.max(STEP_TIME_MIN);
    let mut limits = Vec::new();
    for (pool, packing) in [(Pool::Single, "single"), (Pool::Packed, "packed")] {
        let datagrams = pool.make();
        for &contestant in contestants {
            match one(contestant, site, &datagrams, pool.names(), time) {
                Ok((lines_per_s, is_of_the_sender)) => {
                    let name = contestant.name().to_owned();
                    let limit = Limit {
                        contestant: name,
                        packing: packing.to_owned(),
                        lines_per_s,
                        is_of_the_sender,
                        least_lines_per_s: Some(f64::from(LEAST_PER_S) * lines_in(packing)),
                    };
                    say(&format!("limit  {packing}  {:<14} {}", contestant.name(), words(&limit)));
                    limits.push(limit);
                }
                Err(error) => {
                    failures.push(format!("{}, limit, {packing}: {error:#}", contestant.name()));
                }
            }
        }
    }
    limits
}

fn one(
    contestant: Contestant,
    site: &Site,
    datagrams: &Datagrams,
    names: u32,
    time: Duration,
) -> anyhow::Result<(Option<f64>, bool)> {
    let running = contestant.start(site)?;
    warm_up(&running, site, datagrams, names)?;
    let step = |running: &Running, rate| {
        feed(running, site, Order { datagrams, rate, is_segmented: false, time }, || {})
    };
    let flood = step(&running, Rate::Flood)?;
    if flood.loss() < LOSS_MAX {
        return Ok((Some(flood.offered_lines_per_s()), true));
    }
    let most = flood.offered_per_s();
    let found = bisect(most, |per_s| {
        let measurement = step(&running, Rate::Paced(per_s))?;
        Ok((measurement.loss() < LOSS_MAX).then(|| lines(&measurement)))
    })?;
    Ok((found, false))
}

fn lines(measurement: &Measurement) -> f64 {
    measurement.offered_lines_per_s()
}

/// Lines of a datagram.
fn lines_in(packing: &str) -> f64 {
    if packing == "packed" { 46.0 } else { 1.0 }
}

/// The figure of the highest rate for which `try_at` has one.
pub(super) fn bisect(
    most_per_s: f64,
    mut try_at: impl FnMut(u32) -> anyhow::Result<Option<f64>>,
) -> anyhow::Result<Option<f64>> {
    let (mut low, mut high) = (f64::from(LEAST_PER_S), most_per_s.max(f64::from(LEAST_PER_S)));
    let mut best = try_at(LEAST_PER_S)?;
    if best.is_none() {
        return Ok(None);
    }
    for _ in 0..STEPS {
        let middle = (low * high).sqrt();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate between a hundred and what a sender can"
        )]
        if let Some(found) = try_at(middle as u32)? {
            best = Some(found);
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(best)
}

fn words(limit: &Limit) -> String {
    match (limit.lines_per_s, limit.is_of_the_sender) {
        (Some(lines), true) => format!("≥ {} M/s, the sender's limit", figure(lines / 1e6)),
        (Some(lines), false) => format!("{} M/s", figure(lines / 1e6)),
        (None, _) => {
            let least = limit.least_lines_per_s;
            let least = least.unwrap_or(LEAST_BEFORE_PER_S * lines_in(&limit.packing));
            format!("below {} M/s", figure(least / 1e6))
        }
    }
}

/// A row per contestant.
pub(crate) fn table(limits: &[Limit]) -> Table {
    let head = ["", "lines/s with < 0.1 % loss, one line a datagram", "46 lines a datagram"];
    let mut table = Table::new(&head);
    for contestant in Contestant::all() {
        let of = |packing: &str| {
            let found = limits
                .iter()
                .find(|limit| limit.contestant == contestant.name() && limit.packing == packing);
            found.map(words)
        };
        let cells = [of("single"), of("packed")];
        if cells.iter().any(Option::is_some) {
            let cells = cells.map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
            table.row([vec![contestant.name().to_owned()], cells.to_vec()].concat());
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A contestant that loses above `limit`.
    fn found(limit: u32, most: f64) -> (Option<f64>, u32) {
        let mut steps = 0;
        let best = bisect(most, |rate| {
            steps += 1;
            Ok((rate <= limit).then_some(f64::from(rate)))
        });
        (best.unwrap(), steps)
    }

    #[test]
    fn bisection_finds_a_limit_within_four_per_cent() {
        for limit in [150, 1_500, 20_000, 333_333, 900_000] {
            let (best, steps) = found(limit, 1e6);
            let best = best.unwrap() / f64::from(limit);
            assert!(0.96 < best && best <= 1.0, "{limit}: {best}");
            assert_eq!(steps, STEPS + 1);
        }
    }

    #[test]
    fn contestant_below_the_lowest_rate_has_none() {
        assert_eq!(found(99, 1e6), (None, 1));
    }

    #[test]
    fn limits_of_the_sender_are_told_as_such() {
        let limit = |packing: &str, is_of_the_sender| Limit {
            contestant: "floe".to_owned(),
            packing: packing.to_owned(),
            lines_per_s: Some(880_000.0),
            is_of_the_sender,
            least_lines_per_s: None,
        };
        let text = table(&[limit("single", true), limit("packed", false)]).markdown();
        let row = "| floe | ≥ 0.880 M/s, the sender's limit | 0.880 M/s |";
        assert!(text.contains(row), "{text}");
    }

    #[test]
    fn none_is_told_in_lines_too_and_older_records_tried_no_less_than_a_thousand_datagrams() {
        let limit = |packing: &str, least_lines_per_s| Limit {
            contestant: "reference".to_owned(),
            packing: packing.to_owned(),
            lines_per_s: None,
            is_of_the_sender: false,
            least_lines_per_s,
        };
        let text = table(&[limit("single", Some(100.0)), limit("packed", None)]).markdown();
        assert!(text.contains("| reference | below 0.0001 M/s | below 0.046 M/s |"), "{text}");
        let written = serde_json::to_value(limit("packed", Some(4_600.0))).unwrap();
        let read: Limit = serde_json::from_value(written).unwrap();
        assert_eq!(words(&read), "below 0.0046 M/s");
    }

    #[test]
    fn pools_have_the_lines_a_datagram_that_rates_are_told_by() {
        for (pool, packing) in [(Pool::Single, "single"), (Pool::Packed, "packed")] {
            let datagrams = pool.make();
            let lines = datagrams.line_count().div_ceil(datagrams.len() as u64);
            assert!((lines_in(packing) - lines as f64).abs() < 0.5, "{packing}: {lines}");
        }
    }
}
