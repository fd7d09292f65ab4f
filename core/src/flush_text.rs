//! A flush as the reference's console backend prints it.
//!
//! The rows of an interval hold everything but the raw values of timers, which are gone when they
//! are closed: those are taken from the open interval before. Sets are shown by the number of their
//! members, for floe does not keep these (decision 001, D51 in docs/protocol.md).

use crate::config::settings::ConsoleBackendSettings;
use crate::inspect::{Inspected, Options, inspect};
use crate::point::is_derived_kept;
use crate::row::{NameColumn, Rows};

/// Values so far of one timer, as much as is printed.
#[derive(Clone, Debug, PartialEq)]
pub struct TimerValues {
    /// Its key.
    pub key: Vec<u8>,
    /// The smallest of its values, ascending.
    pub lowest: Vec<f64>,
    /// How many there are.
    pub total: usize,
}

/// The text of one flush, without the line that tells the time, ending in a newline.
///
/// # Shape
/// `parts`: all parts of one interval. `timers`: what they were made of.
#[must_use]
pub fn flush_text(
    parts: &[Rows],
    timers: &[TimerValues],
    thresholds: &[f64],
    settings: ConsoleBackendSettings,
) -> String {
    let mut counters = Vec::new();
    let mut rates = Vec::new();
    let mut gauges = Vec::new();
    let mut sets = Vec::new();
    let mut timer_data = Vec::new();
    for part in parts {
        let mut names = Names { column: &part.names, next: 0 };
        let seconds = interval_s(part.flush_interval_ms);
        for total in &part.counters {
            let name = names.next();
            rates.push((name.clone(), Inspected::Number(total / seconds)));
            counters.push((name, Inspected::Number(*total)));
        }
        for row in 0..part.timers.counts.len() {
            timer_data.push((names.next(), timer(part, row, seconds)));
        }
        gauges.extend(part.gauges.iter().map(|value| (names.next(), Inspected::Number(*value))));
        sets.extend(part.sets.iter().map(|count| (names.next(), number(*count))));
    }
    let value = Inspected::Table(vec![
        ("counters".to_owned(), Inspected::Table(counters)),
        ("timers".to_owned(), Inspected::Table(timers.iter().map(raw).collect())),
        ("gauges".to_owned(), Inspected::Table(gauges)),
        ("timer_data".to_owned(), Inspected::Table(timer_data)),
        ("counter_rates".to_owned(), Inspected::Table(rates)),
        ("sets".to_owned(), Inspected::Table(sets)),
        (
            "pctThreshold".to_owned(),
            Inspected::list(thresholds.iter().copied().map(Inspected::Number).collect()),
        ),
    ]);
    let options = if settings.is_pretty {
        Options { depth: 5, has_colors: true }
    } else {
        Options { depth: 2, has_colors: false }
    };
    let mut text = inspect(&value, options);
    text.push('\n');
    text
}

/// The names of a part, in the order of its rows.
struct Names<'r> {
    column: &'r NameColumn,
    next: usize,
}

impl Names<'_> {
    fn next(&mut self) -> String {
        let name = self.column.name(self.next).unwrap_or_default();
        self.next += 1;
        String::from_utf8_lossy(name).into_owned()
    }
}

fn raw(timer: &TimerValues) -> (String, Inspected) {
    let items = timer.lowest.iter().copied().map(Inspected::Number).collect();
    let key = String::from_utf8_lossy(&timer.key).into_owned();
    (key, Inspected::List { items, total: timer.total })
}

#[expect(clippy::cast_precision_loss, reason = "an interval is far below 2^53 ms")]
fn interval_s(flush_interval_ms: u64) -> f64 {
    flush_interval_ms as f64 / 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "JavaScript's numbers are doubles")]
fn number(count: u64) -> Inspected {
    Inspected::Number(count as f64)
}

/// The derived values of one timer, in the order in which the reference makes them.
fn timer(part: &Rows, row: usize, seconds: f64) -> Inspected {
    let timers = &part.timers;
    let mut derived: Vec<(String, Inspected)> = Vec::new();
    let at = |column: &[f64]| Inspected::Number(column.get(row).copied().unwrap_or(f64::NAN));
    if timers.value_counts.get(row).copied().unwrap_or(0) == 0 {
        derived.push(("count_ps".to_owned(), Inspected::Number(0.0)));
        derived.push(("count".to_owned(), Inspected::Number(0.0)));
    } else {
        for threshold in &timers.thresholds {
            let count = threshold.counts.get(row).copied().unwrap_or(0);
            if count == 0 {
                continue;
            }
            let suffix = &threshold.suffix;
            let boundary = if threshold.is_upper { "upper" } else { "lower" };
            derived.push((format!("count_{suffix}"), number(count)));
            derived.push((format!("mean_{suffix}"), at(&threshold.means)));
            derived.push((format!("{boundary}_{suffix}"), at(&threshold.boundaries)));
            derived.push((format!("sum_{suffix}"), at(&threshold.sums)));
            derived.push((format!("sum_squares_{suffix}"), at(&threshold.sums_squares)));
        }
        let count = timers.counts.get(row).copied().unwrap_or(f64::NAN);
        let whole = [
            ("std", at(&timers.deviations)),
            ("upper", at(&timers.uppers)),
            ("lower", at(&timers.lowers)),
            ("count", Inspected::Number(count)),
            ("count_ps", Inspected::Number(count / seconds)),
            ("sum", at(&timers.sums)),
            ("sum_squares", at(&timers.sums_squares)),
            ("mean", at(&timers.means)),
            ("median", at(&timers.medians)),
        ];
        derived.extend(whole.map(|(name, value)| (name.to_owned(), value)));
        derived.extend(histogram(part, row));
    }
    derived.retain(|(name, _)| is_derived_kept(name, &part.calculated_timer_metrics));
    Inspected::Table(derived)
}

fn histogram(part: &Rows, row: usize) -> Option<(String, Inspected)> {
    let timers = &part.timers;
    let rule = usize::try_from(*timers.histogram_rule_indexes.get(row)?).ok()?.checked_sub(1)?;
    let names = &timers.histogram_rules.get(rule)?.bin_names;
    let end = *timers.bin_ends.get(row)? as usize;
    let start =
        row.checked_sub(1).map_or(Some(0), |before| timers.bin_ends.get(before).copied())?;
    let counts = timers.bin_counts.get(start as usize..end)?;
    if names.is_empty() {
        return None;
    }
    let bins = names.iter().zip(counts).map(|(name, count)| (name.clone(), number(*count)));
    Some(("histogram".to_owned(), Inspected::Table(bins.collect())))
}
