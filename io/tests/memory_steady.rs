//! Claim: a steady load of all kinds of series holds as much memory after a hundred flushes as after
//! ten, whoever allocated it and whoever freed it.
//!
//! Method: an allocator that counts live bytes; a worker's thread that allocates, and this one, which
//! is the coordinator, in turns. One test in this file: it must be alone in its process.

#[path = "../../core/tests/counting/mod.rs"]
mod counting;

use floe_core::interval::{BookEntries, Interval};
use floe_core::limits::SUB_TABLES;
use floe_core::name::KeyHasher;
use floe_core::sample::{Sample, SampleSink, Tally, Value};
use floe_core::shard::{ShardWriter, shard};
use floe_storage::{BackendLimits, Spool, SpoolOptions};

use counting::{Counting, live_bytes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Flushes until pools and buffers have found their sizes.
const FLUSHES_WARM: usize = 10;
const FLUSHES: usize = 100;

/// What may differ between two flushes: pages of sets that the queue home refused, entries of the
/// spool's index.
const GROWTH_BYTES_MAX: usize = 16 << 10;

/// One interval of a worker: the same series each time, their values in other numbers.
fn record(writer: &mut ShardWriter, flush: u32) {
    writer.begin_batch(u64::from(flush));
    for series in 0..2_000 {
        let name = format!("series.{series}");
        let mut batch = writer.batch();
        let key = name.as_bytes();
        batch.sample(Sample { key, value: Value::Counter(1.0) });
        batch.sample(Sample { key, value: Value::Gauge { value: 1.0, is_signed: true } });
        // The sum over all series is the same in each interval.
        for value in 0..(series + flush) % 50 {
            let value = Value::Timer { value: f64::from(value), weight: 1.0 };
            batch.sample(Sample { key, value });
        }
        batch.sample(Sample { key, value: Value::Set(key) });
        batch.finish(1, Tally { lines: 1, accepted: 1, rejected: 0 });
    }
    (0..SUB_TABLES).for_each(|_| writer.end_batch());
}

fn spool(directory: &tempfile::TempDir) -> Spool {
    let backend =
        BackendLimits { name: "graphite".into(), backlog_age_ms: u64::MAX, backlog_bytes: 1 };
    let options = SpoolOptions {
        path: directory.path().into(),
        backends: vec![backend],
        archive_age_ms: 0,
        archive_bytes: 0,
        reserve_bytes: Some(0),
        run_id: 1,
    };
    Spool::open(options).expect("a fresh spool opens").0
}

#[test]
fn a_steady_load_holds_as_much_memory_after_a_hundred_flushes_as_after_ten() {
    let hasher = KeyHasher::default();
    let (mut writer, reader) = shard(0, hasher.clone());
    let mut readers = [reader];
    let settings = floe_core::config::without_file().settings;
    let mut interval = Interval::new(settings, &hasher, &readers);
    let directory = tempfile::tempdir().unwrap();
    let mut spool = spool(&directory);
    let mut warm_bytes = 0;
    for flush in 0..FLUSHES {
        let number = u32::try_from(flush).unwrap();
        writer = std::thread::spawn(move || {
            record(&mut writer, number);
            writer
        })
        .join()
        .unwrap();
        readers[0].request();
        writer.begin_batch(0);
        interval.collect(&mut readers);
        let timestamp_s = 10 * (flush as u64 + 1);
        let parts = interval.close(timestamp_s, &BookEntries::default());
        spool.commit(&parts).unwrap();
        interval.reuse(parts);
        spool.retain(timestamp_s);
        if flush == FLUSHES_WARM {
            warm_bytes = live_bytes();
        }
    }
    let grown_bytes = live_bytes().saturating_sub(warm_bytes);
    assert!(grown_bytes < GROWTH_BYTES_MAX, "{grown_bytes} bytes more than after ten flushes");
}
