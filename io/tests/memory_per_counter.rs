//! Claim: 1,000,000 idle counters cost at most 320 bytes each beside their names, over all structures
//! from shard to exporter, and at most 160 more for a second worker that sees them; parts of a
//! closed interval are held once.
//!
//! Method: an allocator that counts live bytes, around two shards, the open interval, the spool and
//! an exporter's reader, on one thread. One test in this file: it must be alone in its process.

#[path = "../../core/tests/counting/mod.rs"]
mod counting;

use std::io::Write;

use floe_core::interval::{BookEntries, Interval};
use floe_core::limits::SUB_TABLES;
use floe_core::name::KeyHasher;
use floe_core::row::Rows;
use floe_core::sample::{Sample, SampleSink, Tally, Value};
use floe_core::shard::{ShardReader, ShardWriter, shard};
use floe_storage::{BackendLimits, Reader, Spool, SpoolOptions};

use counting::{Counting, live_bytes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NAMES: usize = 1_000_000;
const NAME_BYTES: usize = 23;
const BYTES_PER_COUNTER_MAX: usize = 320;
const BYTES_PER_FURTHER_WORKER_MAX: usize = 160;

fn record(writer: &mut ShardWriter) {
    let mut key = Vec::with_capacity(NAME_BYTES);
    for number in 0..NAMES {
        key.clear();
        write!(key, "fleet.app{:02}.n{number:010}", number % 97).expect("a vector takes all");
        assert_eq!(key.len(), NAME_BYTES);
        let mut batch = writer.batch();
        batch.sample(Sample { key: &key, value: Value::Counter(1.0) });
        batch.finish(1, Tally { lines: 1, accepted: 1, rejected: 0 });
    }
}

/// A coordinator, an exporter and their workers, whose threads all are this one.
struct Daemon {
    writers: Vec<ShardWriter>,
    readers: Vec<ShardReader>,
    interval: Interval,
    spool: Spool,
    exporter: Reader,
    timestamp_s: u64,
    _directory: tempfile::TempDir,
}

impl Daemon {
    fn new() -> Self {
        let hasher = KeyHasher::default();
        let (writers, readers): (Vec<_>, Vec<_>) =
            (0..2).map(|worker| shard(worker, hasher.clone())).unzip();
        let settings = floe_core::config::without_file().settings;
        let interval = Interval::new(settings, &hasher, &readers);
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let backend = BackendLimits {
            name: "graphite".into(),
            backlog_age_ms: u64::MAX,
            backlog_bytes: u64::MAX,
        };
        let options = SpoolOptions {
            path: directory.path().into(),
            backends: vec![backend],
            archive_age_ms: 0,
            archive_bytes: 0,
            reserve_bytes: Some(0),
            run_id: 1,
        };
        let spool = Spool::open(options).expect("a fresh spool opens").0;
        let exporter = Reader::new();
        Self { writers, readers, interval, spool, exporter, timestamp_s: 0, _directory: directory }
    }

    /// One interval from its flip to its delivery; how many rows were delivered.
    fn flush(&mut self) -> usize {
        self.readers.iter_mut().for_each(ShardReader::request);
        for writer in &mut self.writers {
            writer.begin_batch(0);
            (0..SUB_TABLES).for_each(|_| writer.end_batch());
        }
        self.interval.collect(&mut self.readers);
        self.timestamp_s += 10;
        let parts = self.interval.close(self.timestamp_s, &BookEntries::default());
        let rows = parts.iter().map(Rows::row_count).sum();
        self.spool.commit(&parts).expect("the temporary directory has room");
        self.interval.reuse(parts);
        let queue = self.spool.path().join("backends/graphite");
        let mut delivered = 0;
        for entry in std::fs::read_dir(queue).expect("a committed spool has a queue") {
            let path = entry.expect("nobody else changes the queue").path();
            delivered += self
                .exporter
                .read(&path)
                .expect("a segment just written is whole")
                .rows
                .row_count();
            std::fs::remove_file(path).expect("nobody else removes it");
        }
        assert_eq!(delivered, rows);
        rows
    }
}

#[test]
fn a_million_idle_counters_cost_320_bytes_each_and_160_for_a_further_worker() {
    let empty_bytes = live_bytes();
    let mut daemon = Daemon::new();
    record(&mut daemon.writers[0]);
    for _ in 0..3 {
        assert!(NAMES <= daemon.flush());
    }
    let with_one_bytes = live_bytes() - empty_bytes;
    record(&mut daemon.writers[1]);
    for _ in 0..3 {
        daemon.flush();
    }
    let further_bytes = live_bytes() - empty_bytes - with_one_bytes;
    let per_counter = with_one_bytes / NAMES;
    assert!(per_counter <= BYTES_PER_COUNTER_MAX + NAME_BYTES, "{per_counter} per counter");
    let per_further = further_bytes / NAMES;
    assert!(per_further <= BYTES_PER_FURTHER_WORKER_MAX, "{per_further} for a second worker");
}
