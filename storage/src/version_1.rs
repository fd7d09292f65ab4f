//! Bodies of format version 1, made into those of this version.
//!
//! The reader's side of an upgrade: a spool may hold segments of the floe before this one. Version 1
//! had no totals. Its body is validated as its own type, taken apart, and written anew in memory, so
//! that all other code knows one layout. Whether its columns fit is checked behind it, as ever. The
//! types it shares with this version must not change; `storage/fixtures/v1/` would notice.

use floe_core::row::{NameColumn, Rows, TimerColumns};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::format::BODY_ALIGNMENT;

#[derive(Archive, Serialize, Deserialize)]
struct BookColumns {
    names: NameColumn,
    values: Vec<f64>,
    are_points: bool,
}

#[derive(Archive, Serialize, Deserialize)]
struct RowsOfVersion1 {
    timestamp_s: u64,
    flush_interval_ms: u64,
    part_index: u32,
    series_count: u64,
    processing_time_ms: u64,
    prefix_stats: String,
    calculated_timer_metrics: Vec<String>,
    names: NameColumn,
    counters: Vec<f64>,
    timers: TimerColumns,
    gauges: Vec<f64>,
    sets: Vec<u64>,
    books: BookColumns,
}

/// Fills `upgraded` with the body of this version that says what `body` says.
///
/// # Cost
/// Twice the memory of the body, for as long as it takes.
pub(crate) fn upgrade(
    body: &[u8],
    upgraded: &mut AlignedVec<BODY_ALIGNMENT>,
) -> Result<(), rancor::Error> {
    let old = rkyv::from_bytes::<RowsOfVersion1, rancor::Error>(body)?;
    let BookColumns { names, values, are_points } = old.books;
    let rows = Rows {
        timestamp_s: old.timestamp_s,
        flush_interval_ms: old.flush_interval_ms,
        part_index: old.part_index,
        series_count: old.series_count,
        processing_time_ms: old.processing_time_ms,
        prefix_stats: old.prefix_stats,
        calculated_timer_metrics: old.calculated_timer_metrics,
        names: old.names,
        counters: old.counters,
        timers: old.timers,
        gauges: old.gauges,
        sets: old.sets,
        books: floe_core::row::BookColumns { names, values, are_points },
        ..Rows::default()
    };
    upgraded.clear();
    rkyv::api::high::to_bytes_in::<_, rancor::Error>(&rows, upgraded).map(|_| ())
}
