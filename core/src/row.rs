//! The rows of one interval: a struct of arrays that is also the body of a segment.
//!
//! A row is one series with everything derived from it, never a Graphite line: names for Graphite
//! are made at export (`namespace`, `point`), so that one segment serves backends with different
//! namespaces. Rows stand in kind order: counters, timers, gauges, sets. `statistics` fills them,
//! `storage` writes and reads them in place, `point` walks them.
//!
//! This is the on-disk layout of the body (docs/segments.md): a field is never reordered, renamed
//! or retyped without a new format version in `floe_storage::format`.

use std::collections::BTreeMap;

use rkyv::{Archive, Deserialize, Serialize};

/// Row names, concatenated: row `i` is `bytes[ends[i - 1]..ends[i]]` (from 0 for the first).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct NameColumn {
    /// All names, one behind the other, without separators.
    pub bytes: Vec<u8>,
    /// End offset of each name in `bytes`, ascending, bytes.
    pub ends: Vec<u32>,
}

/// The columns of the timer rows; every vector has one entry per timer row.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct TimerColumns {
    /// Raw values received in this interval; 0 marks an idle timer, which has only `counts` (0).
    pub value_counts: Vec<u64>,
    /// Values scaled by their sample rates (the reference's `count`).
    pub counts: Vec<f64>,
    /// Population standard deviation.
    pub deviations: Vec<f64>,
    /// Largest value.
    pub uppers: Vec<f64>,
    /// Smallest value.
    pub lowers: Vec<f64>,
    /// Sum of the values.
    pub sums: Vec<f64>,
    /// Sum of the squared values.
    pub sums_squares: Vec<f64>,
    /// `sums / value_counts`.
    pub means: Vec<f64>,
    /// Middle value, or the mean of the two middle ones.
    pub medians: Vec<f64>,
    /// One group of columns per entry of `percentThreshold`, in configured order.
    pub thresholds: Vec<ThresholdColumns>,
    /// The `histogram` rules of the configuration.
    pub histogram_rules: Vec<HistogramRule>,
    /// Per timer row: 0 = no rule, else the rule's index in `histogram_rules` + 1.
    pub histogram_rule_indexes: Vec<u32>,
    /// Per timer row: end offset of its bins in `bin_counts`, ascending.
    pub bin_ends: Vec<u32>,
    /// Bin counts of all timer rows, one behind the other.
    pub bin_counts: Vec<u64>,
}

/// The columns of one entry of `percentThreshold`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct ThresholdColumns {
    /// Name part: `90`, `99_9`, `top12_5`.
    pub suffix: String,
    /// Boundary is an `upper_` (threshold above 0), else a `lower_`.
    pub is_upper: bool,
    /// Values within the threshold; 0 = this row emits nothing for this threshold.
    pub counts: Vec<u64>,
    /// Mean of the values within the threshold.
    pub means: Vec<f64>,
    /// The boundary value.
    pub boundaries: Vec<f64>,
    /// Sum of the values within the threshold.
    pub sums: Vec<f64>,
    /// Sum of the squares of the values within the threshold.
    pub sums_squares: Vec<f64>,
}

/// One entry of the `histogram` setting.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct HistogramRule {
    /// Name parts of the bins, `bin_` included: `bin_10`, `bin_0_01`, `bin_inf`.
    pub bin_names: Vec<String>,
}

/// floe's own books as they stood at the flush: differences over this interval.
///
/// Points are made of them under `<prefixStats>.floe.`; they are not series and not in `numStats`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct BookColumns {
    /// Names below `<prefixStats>.floe.`: `datagrams_received`, `values_rejected.rate`, ...
    pub names: NameColumn,
    /// One value per name.
    pub values: Vec<f64>,
    /// Whether exporters and `query` turn them into points.
    pub are_points: bool,
}

/// The books of the spool as they stand with this interval committed: everything since the spool was
/// first used, not of this interval alone. Never points.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct TotalColumns {
    /// Names as in [`BookColumns`], ascending, and those of amounts that also fall (`rows_pending`).
    pub names: NameColumn,
    /// One count per name.
    pub counts: Vec<u64>,
}

/// All series of one interval, or of one part of it where the interval is split.
///
/// # Shape and units
/// `names` holds counters, then timers, gauges and sets: its length is the sum of theirs.
/// `timestamp_s` is the end of the interval on the wall-clock grid, seconds since the epoch; the
/// points made from these rows carry it unchanged, at every resend.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Seconds since the epoch; frozen here.
    pub timestamp_s: u64,
    /// Nominal length of the interval, ms: rates are per this.
    pub flush_interval_ms: u64,
    /// This part, from 0. Only part 0 carries `books` and yields the per-flush points.
    pub part_index: u32,
    /// Series of the whole interval, all parts (the reference's `numStats`).
    pub series_count: u64,
    /// How long merge and statistics took, ms (the reference's `processing_time`).
    pub processing_time_ms: u64,
    /// `prefixStats`: names the per-flush points.
    pub prefix_stats: String,
    /// `calculatedTimerMetrics`; empty keeps every derived name.
    pub calculated_timer_metrics: Vec<String>,
    /// Row names: counters, timers, gauges, sets.
    pub names: NameColumn,
    /// Counter totals of the interval (rate = total / interval in s).
    pub counters: Vec<f64>,
    /// Timer columns.
    pub timers: TimerColumns,
    /// Gauge values.
    pub gauges: Vec<f64>,
    /// Distinct members per set.
    pub sets: Vec<u64>,
    /// floe's own books of this interval.
    pub books: BookColumns,
    /// floe's own books of the whole spool. Only the last part carries them: it is written last, so
    /// whoever finds it knows that all parts were on the disk.
    pub totals: TotalColumns,
}

impl NameColumn {
    /// Appends a name.
    ///
    /// # Panics
    /// If all names together pass 4 GiB; parts are cut at 64 MiB long before.
    pub fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        let end = u32::try_from(self.bytes.len()).expect("a part is cut below 64 MiB");
        self.ends.push(end);
    }

    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Name of row `index`, or `None` past the end.
    #[must_use]
    pub fn name(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { *self.ends.get(index - 1)? as usize };
        self.bytes.get(start..end)
    }

    /// All names in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map_while(|index| self.name(index))
    }
}

impl TimerColumns {
    /// Becomes a copy of `source` in the memory it has.
    fn become_copy_of(&mut self, source: &Self) {
        let Self {
            value_counts,
            counts,
            deviations,
            uppers,
            lowers,
            sums,
            sums_squares,
            means,
            medians,
            thresholds,
            histogram_rules,
            histogram_rule_indexes,
            bin_ends,
            bin_counts,
        } = source;
        self.value_counts.clone_from(value_counts);
        self.counts.clone_from(counts);
        self.deviations.clone_from(deviations);
        self.uppers.clone_from(uppers);
        self.lowers.clone_from(lowers);
        self.sums.clone_from(sums);
        self.sums_squares.clone_from(sums_squares);
        self.means.clone_from(means);
        self.medians.clone_from(medians);
        self.thresholds.resize_with(thresholds.len(), ThresholdColumns::default);
        for (threshold, source) in self.thresholds.iter_mut().zip(thresholds) {
            threshold.become_copy_of(source);
        }
        self.histogram_rules.clone_from(histogram_rules);
        self.histogram_rule_indexes.clone_from(histogram_rule_indexes);
        self.bin_ends.clone_from(bin_ends);
        self.bin_counts.clone_from(bin_counts);
    }
}

impl ThresholdColumns {
    /// Becomes a copy of `source` in the memory it has.
    fn become_copy_of(&mut self, source: &Self) {
        let Self { suffix, is_upper, counts, means, boundaries, sums, sums_squares } = source;
        self.suffix.clone_from(suffix);
        self.is_upper = *is_upper;
        self.counts.clone_from(counts);
        self.means.clone_from(means);
        self.boundaries.clone_from(boundaries);
        self.sums.clone_from(sums);
        self.sums_squares.clone_from(sums_squares);
    }
}

impl ArchivedNameColumn {
    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Name of row `index`; `None` past the end, or where the offsets are damaged.
    #[must_use]
    pub fn name(&self, index: usize) -> Option<&[u8]> {
        let end = self.ends.get(index)?.to_native() as usize;
        let start = if index == 0 { 0 } else { self.ends.get(index - 1)?.to_native() as usize };
        self.bytes.get(start..end)
    }
}

/// A column of whatever type.
trait Column {
    fn len(&self) -> usize;
    fn capacity(&self) -> usize;
}

impl<T> Column for Vec<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }
}

impl Rows {
    /// Number of rows: series, books not counted.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.names.len()
    }

    /// Becomes a copy of `source` in the memory it has: of rows without any, it keeps the columns.
    pub(crate) fn become_copy_of(&mut self, source: &Self) {
        let Self {
            timestamp_s,
            flush_interval_ms,
            part_index,
            series_count,
            processing_time_ms,
            prefix_stats,
            calculated_timer_metrics,
            names,
            counters,
            timers,
            gauges,
            sets,
            books,
            totals,
        } = source;
        self.timestamp_s = *timestamp_s;
        self.flush_interval_ms = *flush_interval_ms;
        self.part_index = *part_index;
        self.series_count = *series_count;
        self.processing_time_ms = *processing_time_ms;
        self.prefix_stats.clone_from(prefix_stats);
        self.calculated_timer_metrics.clone_from(calculated_timer_metrics);
        self.names.bytes.clone_from(&names.bytes);
        self.names.ends.clone_from(&names.ends);
        self.counters.clone_from(counters);
        self.timers.become_copy_of(timers);
        self.gauges.clone_from(gauges);
        self.sets.clone_from(sets);
        self.books.clone_from(books);
        self.totals.clone_from(totals);
    }

    /// What the columns hold, bytes; a segment of these rows is a little longer.
    #[must_use]
    pub fn column_bytes(&self) -> usize {
        self.bytes_by(|column| column.len())
    }

    /// Memory of the columns, filled or not, bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes_by(|column| column.capacity())
    }

    /// Bytes of all columns, of which one has `count` places.
    fn bytes_by(&self, count: impl Fn(&dyn Column) -> usize) -> usize {
        let names = count(&self.names.bytes) + count(&self.names.ends) * size_of::<u32>();
        // The columns of the timers have equal lengths.
        let words_per_timer = 10 + 5 * self.timers.thresholds.len();
        let words = count(&self.counters)
            + count(&self.gauges)
            + count(&self.sets)
            + count(&self.timers.counts) * words_per_timer
            + count(&self.timers.bin_counts);
        names + words * size_of::<f64>()
    }
}

impl TotalColumns {
    /// The columns of `counts`.
    #[must_use]
    pub fn of(counts: &BTreeMap<String, u64>) -> Self {
        let mut columns = Self::default();
        for (name, count) in counts {
            columns.names.push(name.as_bytes());
            columns.counts.push(*count);
        }
        columns
    }
}

impl ArchivedTotalColumns {
    /// Counts by name; a name that is not text is left out.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, u64> {
        let each = self.counts.iter().enumerate().filter_map(|(index, count)| {
            let name = std::str::from_utf8(self.names.name(index)?).ok()?;
            Some((name.to_owned(), count.to_native()))
        });
        each.collect()
    }
}

impl ArchivedRows {
    /// Number of rows: series, books not counted.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(thresholds: usize) -> Rows {
        let names = NameColumn { bytes: b"ab".to_vec(), ends: vec![1, 2] };
        let threshold = ThresholdColumns { suffix: "90".into(), ..ThresholdColumns::default() };
        let timers = TimerColumns {
            counts: vec![2.0],
            thresholds: vec![threshold; thresholds],
            ..TimerColumns::default()
        };
        Rows { timestamp_s: 7, names, counters: vec![1.0], timers, ..Rows::default() }
    }

    #[test]
    fn a_copy_is_equal_and_keeps_the_memory_of_its_columns() {
        let mut rows = filled(3);
        rows.counters.reserve_exact(1_000);
        let memory_bytes = rows.memory_bytes();
        for source in [filled(1), Rows::default(), filled(2)] {
            rows.become_copy_of(&source);
            assert_eq!(rows, source);
        }
        assert!(8_000 < memory_bytes && 8_000 < rows.memory_bytes());
        assert_eq!(rows.column_bytes(), filled(2).column_bytes());
    }
}
