//! Claim: a counter costs at most 104 bytes in the shard of its worker and 160 in the catalogue,
//! whatever their number, and idle ones give their memory back.
//!
//! Method: an allocator that counts live bytes, around a worker and an interval on one thread. One
//! test in this file: it must be alone in its process.

#![allow(missing_docs, reason = "a test")]

mod counting;

use floe_core::interval::{BookEntries, Interval};
use floe_core::limits::{
    SLOT_IDLE_FLIPS_MAX, SUB_TABLES, SUB_TABLES_SWEPT_PER_FLIP, SWEEP_EVERY_NS,
};
use floe_core::name::KeyHasher;
use floe_core::sample::{Sample, SampleSink, Tally, Value};
use floe_core::shard::{ShardReader, ShardWriter, shard};

use counting::{Counting, live_bytes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// In the shard: a slot, and an entry of eight bytes in buckets that are at least half full. Slabs
/// come whole.
const SHARD_BYTES_MAX: usize = 104;

const CATALOGUE_BYTES_MAX: usize = 160;

/// Flips after which nothing is left of series that are not seen again.
const FLIPS_TO_EVICT_ALL: usize =
    SLOT_IDLE_FLIPS_MAX as usize + SUB_TABLES / SUB_TABLES_SWEPT_PER_FLIP + 1;

fn record(writer: &mut ShardWriter, prefix: &str, series: u32) {
    for number in 0..series {
        let key = format!("{prefix}{number}");
        let mut batch = writer.batch();
        batch.sample(Sample { key: key.as_bytes(), value: Value::Counter(1.0) });
        batch.finish(1, Tally { lines: 1, accepted: 1, rejected: 0 });
    }
}

fn flip(
    writer: &mut ShardWriter,
    readers: &mut [ShardReader],
    interval: &mut Interval,
    now_ns: &mut u64,
) {
    readers[0].request();
    writer.begin_batch(*now_ns);
    interval.collect(readers);
    for _ in 0..SUB_TABLES {
        *now_ns += SWEEP_EVERY_NS;
        writer.begin_batch(*now_ns);
        writer.end_batch();
    }
}

#[test]
fn a_counter_costs_little_twice_and_gives_it_back() {
    for series in [30_000_u32, 100_000, 150_000] {
        let hasher = KeyHasher::default();
        let (mut writer, reader) = shard(0, hasher.clone());
        let mut readers = [reader];
        let settings = floe_core::config::without_file().settings;
        let mut interval = Interval::new(settings, &hasher, &readers);
        let mut now_ns = 0;
        let empty_bytes = live_bytes();
        record(&mut writer, "service.host.counter.", series);
        let shard_bytes = live_bytes().saturating_sub(empty_bytes);
        flip(&mut writer, &mut readers, &mut interval, &mut now_ns);
        let all_bytes = live_bytes().saturating_sub(empty_bytes);
        let catalogue_bytes = all_bytes.saturating_sub(shard_bytes);
        let count = series as usize;
        assert!(shard_bytes < count * SHARD_BYTES_MAX, "{shard_bytes} in the shard for {series}");
        let bound = count * CATALOGUE_BYTES_MAX;
        assert!(catalogue_bytes < bound, "{catalogue_bytes} in the catalogue for {series}");
        for _ in 0..FLIPS_TO_EVICT_ALL {
            flip(&mut writer, &mut readers, &mut interval, &mut now_ns);
        }
        let idle_bytes = live_bytes().saturating_sub(empty_bytes);
        assert!(idle_bytes < all_bytes - shard_bytes / 2, "{idle_bytes} of {all_bytes} are left");
        interval.close(1_000, &BookEntries::default());
    }
    let before_bytes = live_bytes();
    live_and_die();
    // What crossbeam-epoch frees later is freed by the pins of the next shard.
    live_and_die();
    let left_bytes = live_bytes().saturating_sub(before_bytes);
    assert!(left_bytes < 100_000, "{left_bytes} bytes of long keys are left");
}

/// A shard of long keys, half of which it loses while it lives.
fn live_and_die() {
    let hasher = KeyHasher::default();
    let (mut writer, reader) = shard(0, hasher.clone());
    let mut readers = [reader];
    let mut interval = Interval::new(floe_core::config::without_file().settings, &hasher, &readers);
    let long = "a.key.that.does.not.fit.into.its.slot.".repeat(10);
    let mut now_ns = 0;
    record(&mut writer, &long, 2_000);
    for _ in 0..FLIPS_TO_EVICT_ALL {
        flip(&mut writer, &mut readers, &mut interval, &mut now_ns);
    }
    assert_eq!(writer.series_count(), 0, "all were idle for too long");
    record(&mut writer, &long, 2_000);
    flip(&mut writer, &mut readers, &mut interval, &mut now_ns);
}
