//! Whether the columns of a body fit together.
//!
//! rkyv's validation proves that every pointer and string of a body is sound, not that the columns
//! have equal lengths. `check` proves that, once per segment: before it is written, so that a
//! fault in the statistics never becomes a file, and after it is read, so that later code may index
//! without checks. The structs are taken apart field by field: a new field does not compile here
//! until somebody says what it must agree with.

use floe_core::row::{
    ArchivedBookColumns, ArchivedNameColumn, ArchivedRows, ArchivedThresholdColumns,
    ArchivedTimerColumns, ArchivedTotalColumns,
};

use crate::error::ColumnsError;

/// Checks lengths, offsets and rule indexes.
///
/// # Cost
/// O(rows): one pass over the offsets.
pub(crate) fn check(rows: &ArchivedRows) -> Result<(), ColumnsError> {
    let ArchivedRows {
        timestamp_s: _,
        flush_interval_ms: _,
        part_index: _,
        series_count: _,
        processing_time_ms: _,
        prefix_stats: _,
        calculated_timer_metrics: _,
        names,
        counters,
        timers,
        gauges,
        sets,
        books,
        totals,
    } = rows;
    let timer_count = timers.value_counts.len();
    check_names("names", names)?;
    check_length("names", names.len(), counters.len() + timer_count + gauges.len() + sets.len())?;
    check_timers(timers)?;
    let ArchivedBookColumns { names, values, are_points: _ } = books;
    check_names("books", names)?;
    check_length("books", values.len(), names.len())?;
    let ArchivedTotalColumns { names, counts } = totals;
    check_names("totals", names)?;
    check_length("totals", counts.len(), names.len())
}

fn check_timers(timers: &ArchivedTimerColumns) -> Result<(), ColumnsError> {
    let ArchivedTimerColumns {
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
        histogram_rules: _,
        histogram_rule_indexes,
        bin_ends,
        bin_counts: _,
    } = timers;
    let row_count = value_counts.len();
    check_length("timer counts", counts.len(), row_count)?;
    check_length("timer deviations", deviations.len(), row_count)?;
    check_length("timer uppers", uppers.len(), row_count)?;
    check_length("timer lowers", lowers.len(), row_count)?;
    check_length("timer sums", sums.len(), row_count)?;
    check_length("timer sums_squares", sums_squares.len(), row_count)?;
    check_length("timer means", means.len(), row_count)?;
    check_length("timer medians", medians.len(), row_count)?;
    check_length("timer histogram_rule_indexes", histogram_rule_indexes.len(), row_count)?;
    check_length("timer bin_ends", bin_ends.len(), row_count)?;
    for threshold in thresholds.iter() {
        check_threshold(threshold, row_count)?;
    }
    check_bins(timers)
}

fn check_threshold(
    threshold: &ArchivedThresholdColumns,
    row_count: usize,
) -> Result<(), ColumnsError> {
    let ArchivedThresholdColumns {
        suffix: _,
        is_upper: _,
        counts,
        means,
        boundaries,
        sums,
        sums_squares,
    } = threshold;
    check_length("threshold counts", counts.len(), row_count)?;
    check_length("threshold means", means.len(), row_count)?;
    check_length("threshold boundaries", boundaries.len(), row_count)?;
    check_length("threshold sums", sums.len(), row_count)?;
    check_length("threshold sums_squares", sums_squares.len(), row_count)
}

/// Bins lie within `bin_counts`, and no row has more of them than its rule has names.
fn check_bins(timers: &ArchivedTimerColumns) -> Result<(), ColumnsError> {
    let ends = timers.bin_ends.iter().map(|end| end.to_native());
    check_offsets("timer bin_ends", ends.clone(), timers.bin_counts.len())?;
    let mut start = 0;
    for (row, (rule_index, end)) in timers.histogram_rule_indexes.iter().zip(ends).enumerate() {
        let bin_count = (end - start) as usize;
        let bin_count_max = match rule_index.to_native() as usize {
            0 => Some(0),
            index => timers.histogram_rules.get(index - 1).map(|rule| rule.bin_names.len()),
        };
        if bin_count_max.is_none_or(|max| max < bin_count) {
            return Err(ColumnsError::HistogramRule { row });
        }
        start = end;
    }
    Ok(())
}

fn check_names(column: &'static str, names: &ArchivedNameColumn) -> Result<(), ColumnsError> {
    let ArchivedNameColumn { bytes, ends } = names;
    check_offsets(column, ends.iter().map(|end| end.to_native()), bytes.len())
}

/// End offsets never descend, and the last one is where the column ends.
fn check_offsets(
    column: &'static str,
    ends: impl Iterator<Item = u32>,
    column_len: usize,
) -> Result<(), ColumnsError> {
    let mut last = 0;
    for end in ends {
        if end < last {
            return Err(ColumnsError::Offsets { column });
        }
        last = end;
    }
    if last as usize == column_len { Ok(()) } else { Err(ColumnsError::Offsets { column }) }
}

fn check_length(column: &'static str, found: usize, expected: usize) -> Result<(), ColumnsError> {
    if found == expected { Ok(()) } else { Err(ColumnsError::Length { column, found, expected }) }
}
