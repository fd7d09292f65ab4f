//! Data planes of workers and their coordinator on one thread: parsers, shards, open interval.
//!
//! The same parts as in the daemon in the same order, without the socket in front and without the
//! spool behind.

use arrayvec::ArrayVec;
use crossbeam_utils::sync::{Parker, Unparker};
use floe_core::books::Page;
use floe_core::config;
use floe_core::config::settings::{Settings, Threshold};
use floe_core::interval::{BookEntries, Interval};
use floe_core::limits::{BATCH_DATAGRAMS_MAX, DATAGRAMS_AT_ONCE};
use floe_core::line::{Datagram, LineParser};
use floe_core::name::KeyHasher;
use floe_core::row::Rows;
use floe_core::shard::{ShardReader, shard};
use floe_io::ingest::DatagramSink;
use floe_io::ingest::intake::{Intake, IntakeInbox, IntakeSettings};

use crate::datagrams::Datagrams;

/// Time from one batch to the next, ns: 256 datagrams at half a million a second. What a worker does
/// by the clock, it does as often as then.
const BATCH_NS: u64 = 500_000;

/// End of the first interval, seconds since the epoch.
const TIMESTAMP_S: u64 = 1_700_000_000;

/// The percentiles of timers.
pub const PERCENTS: [f64; 3] = [50.0, 90.0, 99.0];

/// Default settings with [`PERCENTS`].
#[must_use]
pub fn settings() -> Settings {
    let threshold = |percent: f64| Threshold { percent, suffix: percent.to_string() };
    let thresholds = PERCENTS.map(threshold).to_vec();
    Settings { thresholds, ..config::without_file().settings }
}

/// Workers without sockets, and their coordinator without a spool.
#[derive(Debug)]
pub struct Pipeline {
    intakes: Vec<Intake>,
    readers: Vec<ShardReader>,
    interval: Interval,
    batches: u64,
    timestamp_s: u64,
}

impl Pipeline {
    /// An empty one with [`settings`] and one worker.
    #[must_use]
    pub fn new() -> Self {
        Self::of_workers(1)
    }

    /// An empty one with `workers`, each of which gets everything that is fed.
    #[must_use]
    pub fn of_workers(workers: u16) -> Self {
        let hasher = KeyHasher::default();
        let nobody = Parker::new().unparker().clone();
        let (intakes, readers): (Vec<_>, Vec<_>) =
            (0..workers).map(|index| worker(index, &hasher, nobody.clone())).unzip();
        let interval = Interval::new(settings(), &hasher, &readers);
        Self { intakes, readers, interval, batches: 0, timestamp_s: TIMESTAMP_S }
    }

    /// Parses, hashes and records all datagrams, in batches of the size a worker's have, and as many
    /// together as its receivers hand over.
    pub fn feed(&mut self, datagrams: &Datagrams) {
        for intake in &mut self.intakes {
            let mut left =
                datagrams.iter().map(|(buffer, len)| Datagram { buffer, len }).peekable();
            while left.peek().is_some() {
                self.batches += 1;
                intake.begin_batch(self.batches * BATCH_NS);
                for _ in 0..BATCH_DATAGRAMS_MAX / DATAGRAMS_AT_ONCE {
                    let together: ArrayVec<_, DATAGRAMS_AT_ONCE> =
                        left.by_ref().take(DATAGRAMS_AT_ONCE).collect();
                    intake.datagrams(&together);
                }
                intake.end_batch();
            }
        }
    }

    /// The flip: the generation fed so far is sealed.
    ///
    /// # Panics
    /// If the sealed generation before was not collected.
    pub fn seal(&mut self) {
        for (reader, intake) in self.readers.iter_mut().zip(&mut self.intakes) {
            reader.request();
            intake.begin_batch(self.batches * BATCH_NS);
            intake.end_batch();
            assert!(reader.is_acknowledged(), "the worker has left its generation");
        }
    }

    /// Takes the sealed generation into the open interval.
    pub fn collect(&mut self) {
        self.interval.collect(&mut self.readers);
    }

    /// Closes the interval.
    pub fn close(&mut self) -> Vec<Rows> {
        self.timestamp_s += 10;
        self.interval.close(self.timestamp_s, &BookEntries::default())
    }

    /// Takes the parts of a closed interval back, as the coordinator does when they are written.
    pub fn reuse(&mut self, parts: Vec<Rows>) {
        self.interval.reuse(parts);
    }

    /// Workers, each of which gets everything that is fed.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.intakes.len()
    }

    /// Seals, collects and closes.
    pub fn flush(&mut self) -> Vec<Rows> {
        self.seal();
        self.collect();
        self.close()
    }

    /// The books of the open interval, up to the last generation collected.
    #[must_use]
    pub fn page(&self) -> &Page {
        self.interval.page()
    }
}

/// Worker `index` without a socket, and its shard as the coordinator sees it, whom it wakes.
#[must_use]
pub fn worker(index: u16, hasher: &KeyHasher, coordinator: Unparker) -> (Intake, ShardReader) {
    let (writer, reader) = shard(index, hasher.clone());
    let settings = IntakeSettings { parser: LineParser::new(true), side: None };
    (Intake::new(settings, IntakeInbox::default(), writer, coordinator), reader)
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagrams::{Extent, Packing};
    use crate::lines::Shape;

    #[test]
    fn every_line_fed_is_recorded_and_every_name_is_a_row() {
        for shape in [Shape::Mix, Shape::Rate, Shape::Tagged, Shape::Long, Shape::Timing] {
            let extent = Extent { names: 100, lines: 1_000 };
            let mut pipeline = Pipeline::new();
            pipeline.feed(&Datagrams::new(shape, Packing::Packed, extent));
            pipeline.seal();
            pipeline.collect();
            assert_eq!(pipeline.page().values_recorded, 1_000, "{shape:?}");
            let rows: usize = pipeline.close().iter().map(Rows::row_count).sum();
            // And the three counters of the daemon's own.
            assert_eq!(rows, 103, "{shape:?}");
        }
    }
}
