//! Points: the names and values that Graphite receives, made from the rows of one segment.
//!
//! Stands at the end of `core`: rows come in, in place in a segment's buffer, and each point is
//! handed to `visit` in the reference daemon's order. Used by the exporters and by `query` alike, so
//! that both show the same names.
//!
//! What is the same for all rows is settled once per call: which derived names
//! `calculatedTimerMetrics` keeps, and the text of each behind the key. A row then costs the copy
//! of its name part, a point the copy of one tail and of the tags into a reused buffer.
//!
//! The timestamp is the segment's and not repeated per point. Values are handed out as they are:
//! an infinite one is refused by the output buffer, which counts it. A column shorter than its
//! names (only a damaged file could have one) yields NaN, which ends the same way.
//!
//! Source: docs/references.md S6, S7 and S8.

use rkyv::rend::{f64_le, u64_le};
use rkyv::string::ArchivedString;
use rkyv::vec::ArchivedVec;

use crate::namespace::{Affixes, Namespace, push_name_part};
use crate::row::{ArchivedRows, ArchivedThresholdColumns, ArchivedTimerColumns};

/// Calls `visit` with name and value of every point of one segment part.
///
/// Order: counters (rate, then count), timers, gauges, sets; on part 0 then `numStats`,
/// `processing_time` and, where they are points, the books. A name lives for one call of `visit`.
///
/// # Shape and units
/// Rates are per second of the nominal interval; everything else is in the unit it was sent in.
/// # Cost
/// No allocation per row or point. bench `export/points`.
pub fn for_each_point(
    rows: &ArchivedRows,
    namespace: &Namespace,
    mut visit: impl FnMut(&[u8], f64),
) {
    let mut walk = Walk { rows, name: Vec::with_capacity(512), row: 0 };
    walk.counters(namespace, &mut visit);
    walk.timers(namespace, &mut visit);
    walk.values(&namespace.gauge, rows.gauges.iter().map(|value| value.to_native()), &mut visit);
    walk.values(&namespace.set, rows.sets.iter().map(|count| to_f64(*count)), &mut visit);
    if rows.part_index == 0 {
        walk.flush_points(namespace, &mut visit);
    }
}

/// Seconds of the nominal interval: `flushInterval / 1000`.
#[expect(clippy::cast_precision_loss, reason = "an interval is far below 2^53 ms")]
fn interval_s(rows: &ArchivedRows) -> f64 {
    rows.flush_interval_ms.to_native() as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "Graphite's values are doubles")]
fn to_f64(count: u64_le) -> f64 {
    count.to_native() as f64
}

fn float_at(column: &ArchivedVec<f64_le>, index: usize) -> f64 {
    column.get(index).map_or(f64::NAN, |value| value.to_native())
}

/// One pass over the rows: the name buffer, and the row the next name is taken from.
struct Walk<'r> {
    rows: &'r ArchivedRows,
    name: Vec<u8>,
    row: usize,
}

impl<'r> Walk<'r> {
    /// Puts `head` and the name part of the next row into the buffer; returns the tags.
    #[inline]
    fn start_row(&mut self, head: &[u8]) -> &'r [u8] {
        let key = self.rows.names.name(self.row).unwrap_or_default();
        self.row += 1;
        self.name.clear();
        self.name.extend_from_slice(head);
        push_name_part(key, &mut self.name)
    }

    fn values(
        &mut self,
        affixes: &Affixes,
        values: impl Iterator<Item = f64>,
        visit: &mut impl FnMut(&[u8], f64),
    ) {
        for value in values {
            let tags = self.start_row(&affixes.head);
            self.name.extend_from_slice(&affixes.tail);
            self.name.extend_from_slice(tags);
            visit(&self.name, value);
        }
    }

    fn counters(&mut self, namespace: &Namespace, visit: &mut impl FnMut(&[u8], f64)) {
        let interval_s = interval_s(self.rows);
        for total in self.rows.counters.iter() {
            let total = total.to_native();
            let row = self.row;
            self.values(&namespace.rate, std::iter::once(total / interval_s), visit);
            if let Some(count) = &namespace.count {
                self.row = row;
                self.values(count, std::iter::once(total), visit);
            }
        }
    }

    fn timers(&mut self, namespace: &Namespace, visit: &mut impl FnMut(&[u8], f64)) {
        let timers = &self.rows.timers;
        let tails = TimerTails::new(self.rows, &namespace.timer.tail);
        let interval_s = interval_s(self.rows);
        for (index, value_count) in timers.value_counts.iter().enumerate() {
            let tags = self.start_row(&namespace.timer.head);
            let mut row = TimerRow { base: self.name.len(), name: &mut self.name, tags };
            let count = float_at(&timers.counts, index);
            let count_ps = count / interval_s;
            if *value_count == 0 {
                row.point(tails.count.as_deref(), count, visit);
                row.point(tails.count_ps.as_deref(), count_ps, visit);
                continue;
            }
            for (columns, tails) in timers.thresholds.iter().zip(&tails.thresholds) {
                row.threshold(columns, tails, index, visit);
            }
            let columns = [
                (&tails.std, float_at(&timers.deviations, index)),
                (&tails.upper, float_at(&timers.uppers, index)),
                (&tails.lower, float_at(&timers.lowers, index)),
                (&tails.count, count),
                (&tails.count_ps, count_ps),
                (&tails.sum, float_at(&timers.sums, index)),
                (&tails.sum_squares, float_at(&timers.sums_squares, index)),
                (&tails.mean, float_at(&timers.means, index)),
                (&tails.median, float_at(&timers.medians, index)),
            ];
            for (tail, value) in columns {
                row.point(tail.as_deref(), value, visit);
            }
            row.histogram(timers, &tails.histograms, index, visit);
        }
    }

    /// The points of the flush itself.
    fn flush_points(&mut self, namespace: &Namespace, visit: &mut impl FnMut(&[u8], f64)) {
        let rows = self.rows;
        let prefix_stats = rows.prefix_stats.as_str();
        namespace.num_stats_name(prefix_stats, &mut self.name);
        visit(&self.name, to_f64(rows.series_count));
        namespace.internal_name(prefix_stats, b"processing_time", &mut self.name);
        visit(&self.name, to_f64(rows.processing_time_ms));
        if !rows.books.are_points {
            return;
        }
        let mut book = Vec::with_capacity(64);
        for (index, value) in rows.books.values.iter().enumerate() {
            let Some(name) = rows.books.names.name(index) else { continue };
            book.clear();
            book.extend_from_slice(b"floe.");
            book.extend_from_slice(name);
            namespace.internal_name(prefix_stats, &book, &mut self.name);
            visit(&self.name, value.to_native());
        }
    }
}

/// A timer row whose prefix and name part stand in the buffer.
struct TimerRow<'n> {
    name: &'n mut Vec<u8>,
    base: usize,
    tags: &'n [u8],
}

impl TimerRow<'_> {
    /// One derived value; `None` is a name that `calculatedTimerMetrics` leaves out.
    #[inline]
    fn point(&mut self, tail: Option<&[u8]>, value: f64, visit: &mut impl FnMut(&[u8], f64)) {
        let Some(tail) = tail else { return };
        self.name.truncate(self.base);
        self.name.extend_from_slice(tail);
        self.name.extend_from_slice(self.tags);
        visit(self.name, value);
    }

    fn threshold(
        &mut self,
        columns: &ArchivedThresholdColumns,
        tails: &[Tail; 5],
        index: usize,
        visit: &mut impl FnMut(&[u8], f64),
    ) {
        let Some(count) = columns.counts.get(index) else { return };
        if *count == 0 {
            return;
        }
        let values = [
            to_f64(*count),
            float_at(&columns.means, index),
            float_at(&columns.boundaries, index),
            float_at(&columns.sums, index),
            float_at(&columns.sums_squares, index),
        ];
        for (tail, value) in tails.iter().zip(values) {
            self.point(tail.as_deref(), value, visit);
        }
    }

    fn histogram(
        &mut self,
        timers: &ArchivedTimerColumns,
        tails: &[Vec<Tail>],
        index: usize,
        visit: &mut impl FnMut(&[u8], f64),
    ) {
        let rule = timers.histogram_rule_indexes.get(index).map_or(0, |rule| rule.to_native());
        let Some(tails) = (rule as usize).checked_sub(1).and_then(|rule| tails.get(rule)) else {
            return;
        };
        let end_of = |index: usize| timers.bin_ends.get(index).map(|end| end.to_native() as usize);
        let start = if index == 0 { Some(0) } else { end_of(index - 1) };
        let (Some(start), Some(end)) = (start, end_of(index)) else { return };
        let Some(bins) = timers.bin_counts.get(start..end) else { return };
        for (tail, count) in tails.iter().zip(bins) {
            self.point(tail.as_deref(), to_f64(*count), visit);
        }
    }
}

/// `.derived` and the global suffix; `None` where the name is not kept.
type Tail = Option<Box<[u8]>>;

/// The tails of all derived names of the timers of one segment.
struct TimerTails {
    /// Per threshold: count, mean, boundary, sum, sum of squares.
    thresholds: Vec<[Tail; 5]>,
    std: Tail,
    upper: Tail,
    lower: Tail,
    count: Tail,
    count_ps: Tail,
    sum: Tail,
    sum_squares: Tail,
    mean: Tail,
    median: Tail,
    /// Per histogram rule, per bin.
    histograms: Vec<Vec<Tail>>,
}

impl TimerTails {
    fn new(rows: &ArchivedRows, suffix: &[u8]) -> Self {
        let kept = &rows.calculated_timer_metrics;
        let written = |derived: &str| -> Box<[u8]> {
            [b".", derived.as_bytes(), suffix].concat().into_boxed_slice()
        };
        let tail = |derived: &str| is_kept(derived, kept).then(|| written(derived));
        let threshold = |columns: &ArchivedThresholdColumns| {
            let boundary = if columns.is_upper { "upper" } else { "lower" };
            ["count", "mean", boundary, "sum", "sum_squares"]
                .map(|word| tail(&format!("{word}_{}", columns.suffix)))
        };
        // The bins are one derived value in the reference daemon, an object called `histogram`.
        let are_bins_kept = is_kept("histogram", kept);
        let bin =
            |name: &ArchivedString| are_bins_kept.then(|| written(&format!("histogram.{name}")));
        Self {
            thresholds: rows.timers.thresholds.iter().map(threshold).collect(),
            std: tail("std"),
            upper: tail("upper"),
            lower: tail("lower"),
            count: tail("count"),
            count_ps: tail("count_ps"),
            sum: tail("sum"),
            sum_squares: tail("sum_squares"),
            mean: tail("mean"),
            median: tail("median"),
            histograms: rows
                .timers
                .histogram_rules
                .iter()
                .map(|rule| rule.bin_names.iter().map(bin).collect())
                .collect(),
        }
    }
}

/// Whether `calculatedTimerMetrics` keeps `derived`: an empty list keeps all; else a trailing
/// `_<digits>` or `_top<digits>` reads as `_percent` and the word must be in the list.
///
/// `upper_99_5` is so kept by `upper_99_percent` alone, as in the reference daemon.
fn is_kept(derived: &str, list: &ArchivedVec<ArchivedString>) -> bool {
    list.is_empty() || is_listed(derived, list.iter().map(ArchivedString::as_str))
}

/// [`is_kept`] for rows in memory.
pub(crate) fn is_derived_kept(derived: &str, list: &[String]) -> bool {
    list.is_empty() || is_listed(derived, list.iter().map(String::as_str))
}

fn is_listed<'l>(derived: &str, mut list: impl Iterator<Item = &'l str>) -> bool {
    let stem = derived.trim_end_matches(|character: char| character.is_ascii_digit());
    let cut = (stem.len() < derived.len())
        .then(|| stem.strip_suffix("_top").or_else(|| stem.strip_suffix('_')))
        .flatten();
    list.any(|word| match cut {
        Some(stem) => word.strip_prefix(stem).is_some_and(|end| end == "_percent"),
        None => word == derived,
    })
}

#[cfg(test)]
mod tests;
