//! Rows and spools for the tests of this crate.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};

use floe_core::row::{
    BookColumns, HistogramRule, NameColumn, Rows, ThresholdColumns, TimerColumns, TotalColumns,
};
use floe_storage::{BackendLimits, RecoveryReport, SegmentName, Spool, SpoolOptions};

pub(crate) const HOUR_MS: u64 = 3_600_000;

pub(crate) fn names(names: &[&str]) -> NameColumn {
    let mut column = NameColumn::default();
    for name in names {
        column.push(name.as_bytes());
    }
    column
}

/// One row of each kind but timers, of which there are two: one idle, one with bins.
pub(crate) fn rows(timestamp_s: u64) -> Rows {
    Rows {
        timestamp_s,
        flush_interval_ms: 10_000,
        part_index: 0,
        series_count: 5,
        processing_time_ms: 3,
        prefix_stats: "statsd".to_owned(),
        calculated_timer_metrics: vec!["count".to_owned(), "mean_90".to_owned()],
        names: names(&["requests", "idle", "latency", "load", "users"]),
        counters: vec![12.5],
        timers: TimerColumns {
            value_counts: vec![0, 2],
            counts: vec![0.0, 20.0],
            deviations: vec![0.0, 1.0],
            uppers: vec![0.0, 4.0],
            lowers: vec![0.0, 2.0],
            sums: vec![0.0, 6.0],
            sums_squares: vec![0.0, 20.0],
            means: vec![0.0, 3.0],
            medians: vec![0.0, 3.0],
            thresholds: vec![ThresholdColumns {
                suffix: "99_9".to_owned(),
                is_upper: true,
                counts: vec![0, 2],
                means: vec![0.0, 3.0],
                boundaries: vec![0.0, 4.0],
                sums: vec![0.0, 6.0],
                sums_squares: vec![0.0, 20.0],
            }],
            histogram_rules: vec![HistogramRule {
                bin_names: vec!["bin_3".to_owned(), "bin_inf".to_owned()],
            }],
            histogram_rule_indexes: vec![0, 1],
            bin_ends: vec![0, 2],
            bin_counts: vec![1, 1],
        },
        gauges: vec![-0.5],
        sets: vec![3],
        books: BookColumns {
            names: names(&["datagrams_received", "values_accepted"]),
            values: vec![7.0, 9.0],
            are_points: true,
        },
        totals: TotalColumns {
            names: names(&["datagrams_received", "values_accepted"]),
            counts: vec![(1 << 53) + 1, 90],
        },
    }
}

/// `count` parts of one interval.
pub(crate) fn parts(timestamp_s: u64, count: u32) -> Vec<Rows> {
    (0..count).map(|part_index| Rows { part_index, ..rows(timestamp_s) }).collect()
}

pub(crate) fn options(path: &Path, backends: &[&str]) -> SpoolOptions {
    SpoolOptions {
        path: path.to_owned(),
        backends: backends
            .iter()
            .map(|name| BackendLimits {
                name: (*name).to_owned(),
                backlog_age_ms: 6 * HOUR_MS,
                backlog_bytes: 1 << 30,
            })
            .collect(),
        archive_age_ms: 6 * HOUR_MS,
        archive_bytes: 1 << 30,
        reserve_bytes: Some(0),
        run_id: 1_700_000_000_123,
    }
}

pub(crate) fn open(path: &Path, backends: &[&str]) -> (Spool, RecoveryReport) {
    Spool::open(options(path, backends)).unwrap()
}

/// Names of the entries of `directory`, sorted.
pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let mut entries: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    entries.sort();
    entries
}

/// The segments of `directory`, sorted.
pub(crate) fn segments(directory: &Path) -> Vec<SegmentName> {
    entries(directory).iter().filter_map(|entry| SegmentName::parse(entry)).collect()
}

/// Timestamps of the segments of `directory`, sorted.
pub(crate) fn timestamps(directory: &Path) -> Vec<u64> {
    segments(directory).iter().map(SegmentName::timestamp_s).collect()
}

/// Path of the only segment in `directory`.
pub(crate) fn only(directory: &Path) -> PathBuf {
    let entries = entries(directory);
    assert_eq!(entries.len(), 1, "{entries:?}");
    directory.join(&entries[0])
}

/// Rewrites the header's checksum after a change of its other bytes.
pub(crate) fn seal(file: &mut [u8]) {
    let crc = floe_storage::format::crc(&file[..60]);
    file[60..64].copy_from_slice(&crc.to_le_bytes());
}

/// Replaces the file behind all links of `path`, in place.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}
