//! Rows are built kind by kind and cut into parts that fit a segment file.
//!
//! A part is built in the memory of the part of the same number of an earlier interval, if somebody
//! gave that back: a steady load allocates nothing, and so has no page faults at the flush.

use std::vec::IntoIter;

use super::catalogue::Entry;
use crate::config::settings::Settings;
use crate::limits::SEGMENT_PART_CUT_BYTES;
use crate::row::{HistogramRule, Rows, ThresholdColumns, TimerColumns};
use crate::series::pool::{Chain, ChunkHomes};
use crate::statistics::Statistics;

/// Memory of a part that is kept for the next interval: its columns may have grown by doubling. One
/// that holds more was filled by intervals of other kinds of series.
const KEPT_BYTES_MAX: usize = 2 * SEGMENT_PART_CUT_BYTES;

/// Builds the parts of one interval.
#[derive(Debug)]
pub(super) struct RowsBuilder {
    empty: Rows,
    current: Rows,
    current_bytes: usize,
    timer_row_bytes: usize,
    parts: Vec<Rows>,
    /// Parts of an earlier interval, whose memory is used again.
    spare: IntoIter<Rows>,
    series_count: u64,
    are_book_points: bool,
}

impl RowsBuilder {
    /// `spare`: the parts of an earlier interval; only their memory counts.
    pub(super) fn new(settings: &Settings, timestamp_s: u64, spare: Vec<Rows>) -> Self {
        let empty = Rows {
            timestamp_s,
            flush_interval_ms: settings.flush_interval_ms,
            prefix_stats: settings.prefix_stats.clone(),
            calculated_timer_metrics: settings.calculated_timer_metrics.clone(),
            timers: empty_timers(settings),
            ..Rows::default()
        };
        let timer_row_bytes = 8 * (12 + 5 * settings.thresholds.len());
        let mut spare = spare.into_iter();
        Self {
            current: begin_part(&empty, &mut spare),
            empty,
            current_bytes: 0,
            timer_row_bytes,
            parts: Vec::new(),
            spare,
            series_count: 0,
            are_book_points: settings.books,
        }
    }

    pub(super) fn push_counter(&mut self, key: &[u8], total: f64) {
        self.start_row(key, 8);
        self.current.counters.push(total);
    }

    /// A row for each of `timers`, of which there are at most
    /// [`TIMERS_AT_ONCE`](crate::statistics::TIMERS_AT_ONCE).
    pub(super) fn push_timers(
        &mut self,
        timers: &mut [Entry<Vec<Chain>>],
        statistics: &mut Statistics,
        homes: &mut ChunkHomes,
    ) {
        statistics.gather(timers.iter_mut().map(|timer| &mut timer.state), homes);
        for (number, timer) in timers.iter().enumerate() {
            self.start_row(&timer.key, self.timer_row_bytes);
            statistics.load(number);
            let bins = statistics.push_row(&timer.key, &mut self.current.timers);
            self.current_bytes += 8 * bins;
        }
    }

    pub(super) fn push_gauge(&mut self, key: &[u8], value: f64) {
        self.start_row(key, 8);
        self.current.gauges.push(value);
    }

    pub(super) fn push_set(&mut self, key: &[u8], count: u64) {
        self.start_row(key, 8);
        self.current.sets.push(count);
    }

    fn start_row(&mut self, key: &[u8], bytes: usize) {
        let bytes = bytes + key.len() + size_of::<u32>();
        if SEGMENT_PART_CUT_BYTES < self.current_bytes + bytes {
            let next = begin_part(&self.empty, &mut self.spare);
            self.parts.push(std::mem::replace(&mut self.current, next));
            self.current_bytes = 0;
        }
        self.current_bytes += bytes;
        self.series_count += 1;
        self.current.names.push(key);
    }

    /// The parts: numbered, part 0 with the books.
    pub(super) fn finish(mut self, books: impl Iterator<Item = (String, f64)>) -> Vec<Rows> {
        self.parts.push(self.current);
        for (index, part) in (0_u32..).zip(&mut self.parts) {
            part.part_index = index;
            part.series_count = self.series_count;
        }
        if let Some(first) = self.parts.first_mut() {
            first.books.are_points = self.are_book_points;
            for (name, value) in books {
                first.books.names.push(name.as_bytes());
                first.books.values.push(value);
            }
        }
        self.parts
    }
}

/// A part that is `empty`, in the memory of the next spare one.
fn begin_part(empty: &Rows, spare: &mut IntoIter<Rows>) -> Rows {
    let kept = spare.next().filter(|part| part.memory_bytes() <= KEPT_BYTES_MAX);
    let mut part = kept.unwrap_or_default();
    part.become_copy_of(empty);
    part
}

fn empty_timers(settings: &Settings) -> TimerColumns {
    let thresholds = settings.thresholds.iter().map(|threshold| ThresholdColumns {
        suffix: threshold.suffix.clone(),
        is_upper: 0.0 < threshold.percent,
        ..ThresholdColumns::default()
    });
    let rules = settings.histograms.iter().map(|histogram| HistogramRule {
        bin_names: histogram.bins.iter().map(|bin| bin.name.clone()).collect(),
    });
    TimerColumns {
        thresholds: thresholds.collect(),
        histogram_rules: rules.collect(),
        ..TimerColumns::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KEY_BYTES_MAX;

    #[test]
    fn an_interval_larger_than_a_part_is_cut_into_numbered_parts() {
        let settings = crate::config::without_file().settings;
        let mut rows = RowsBuilder::new(&settings, 1_000, Vec::new());
        let key = vec![b'k'; KEY_BYTES_MAX];
        let row_bytes = KEY_BYTES_MAX + size_of::<u32>() + 8;
        let rows_of_part = SEGMENT_PART_CUT_BYTES / row_bytes;
        for _ in 0..2 * rows_of_part {
            rows.push_counter(&key, 1.0);
        }
        rows.push_gauge(&key, 2.0);
        let parts = rows.finish(std::iter::once(("entry".to_owned(), 3.0)));
        let counts: Vec<_> =
            parts.iter().map(|part| (part.counters.len(), part.gauges.len())).collect();
        assert_eq!(counts, [(rows_of_part, 0), (rows_of_part, 0), (0, 1)]);
        for (index, part) in (0_u32..).zip(&parts) {
            assert_eq!((part.part_index, part.timestamp_s), (index, 1_000));
            assert_eq!(part.series_count, 2 * rows_of_part as u64 + 1, "that of the interval");
            assert_eq!(part.books.names.len(), usize::from(index == 0), "books are in part 0");
        }
    }
}
