//! The rows of one interval: a struct of arrays that is also the body of a segment.
//!
//! A row is one series with everything derived from it, never a Graphite line: names for Graphite
//! are made at export (`namespace`, `point`), so that one segment serves backends with different
//! namespaces. Rows stand in kind order: counters, timers, gauges, sets. `statistics` fills them,
//! `storage` writes and reads them in place, `point` walks them.
//!
//! This is the on-disk layout of the body (docs/segments.md): a field is never reordered, renamed
//! or retyped without a new format version in `floe_storage::format`.

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

impl Rows {
    /// Number of rows: series, books not counted.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.names.len()
    }

    /// What the columns hold, bytes; a segment of these rows is a little longer.
    #[must_use]
    pub fn column_bytes(&self) -> usize {
        let names = self.names.bytes.len() + self.names.len() * size_of::<u32>();
        let words_per_timer = 10 + 5 * self.timers.thresholds.len();
        let words = self.counters.len()
            + self.gauges.len()
            + self.sets.len()
            + self.timers.counts.len() * words_per_timer
            + self.timers.bin_counts.len();
        names + words * size_of::<f64>()
    }
}

impl ArchivedRows {
    /// Number of rows: series, books not counted.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.names.len()
    }
}
