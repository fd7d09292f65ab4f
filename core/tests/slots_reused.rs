//! Claim: a reader that walks the slots goes on undisturbed while the worker makes new ones, takes
//! idle series out, gives their slots to others and frees what all have left.
//!
//! Method: the worker's calls are made from within the reader's visit, on one thread, so that every
//! change falls into a walk; and an allocator overwrites what is freed, so that a walk over freed
//! slots or keys finds nothing that it looks for.

#![allow(missing_docs, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;

use floe_core::limits::{
    SLOT_IDLE_FLIPS_MAX, SUB_TABLES, SUB_TABLES_SWEPT_PER_FLIP, SWEEP_EVERY_NS,
};
use floe_core::name::KeyHasher;
use floe_core::sample::{Sample, SampleSink, Tally, Value};
use floe_core::shard::{SealedValue, ShardReader, ShardWriter, shard};

struct Overwriting;

#[expect(unsafe_code, reason = "an allocator that overwrites what is freed")]
// SAFETY: everything is passed on to the system's allocator; freed memory belongs to nobody.
unsafe impl GlobalAlloc for Overwriting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller gives these bytes up.
        unsafe { pointer.write_bytes(0xDD, layout.size()) };
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Overwriting = Overwriting;

fn key(group: &str, number: u32) -> String {
    format!("{group}.key.that.does.not.fit.into.its.slot.{number}")
}

fn record(writer: &mut ShardWriter, group: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let key = key(group, number);
        let mut batch = writer.batch();
        batch.sample(Sample { key: key.as_bytes(), value: Value::Counter(1.0) });
        batch.finish(1, Tally { lines: 1, accepted: 1, rejected: 0 });
    }
}

fn seal(writer: &mut ShardWriter, reader: &mut ShardReader) {
    reader.request();
    assert!(writer.begin_batch(0));
}

/// Collects what is sealed, and calls `meanwhile` at each value.
fn walk(reader: &mut ShardReader, mut meanwhile: impl FnMut()) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    reader.collect(|key, value| {
        assert!(matches!(value, SealedValue::Counter(1.0)));
        assert!(found.insert(String::from_utf8_lossy(key).into_owned()), "each once");
        meanwhile();
    });
    found
}

#[test]
fn growth_during_a_walk_disturbs_nothing() {
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    record(&mut writer, "old", 0..2_000);
    seal(&mut writer, &mut reader);
    let mut next = 0;
    let found = walk(&mut reader, || {
        record(&mut writer, "new", next..next + 20);
        next += 20;
    });
    assert_eq!(found, (0..2_000).map(|number| key("old", number)).collect());
    assert_eq!(writer.series_count(), 2_000 + 40_000);
    seal(&mut writer, &mut reader);
    assert_eq!(walk(&mut reader, || ()), (0..40_000).map(|number| key("new", number)).collect());
}

#[test]
fn eviction_during_a_walk_disturbs_nothing() {
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    // More than two slabs, so that one holds nothing else.
    record(&mut writer, "idle", 0..12_000);
    for _ in 0..=SLOT_IDLE_FLIPS_MAX {
        seal(&mut writer, &mut reader);
        walk(&mut reader, || ());
    }
    let (mut came, mut now_ns) = (0..0, 0);
    for _ in 0..SUB_TABLES / SUB_TABLES_SWEPT_PER_FLIP {
        record(&mut writer, "kept", 0..1_000);
        seal(&mut writer, &mut reader);
        // Names that come in the middle of a walk take the slots of those that left in it.
        let mut next = came.end;
        let found = walk(&mut reader, || {
            now_ns += SWEEP_EVERY_NS;
            writer.begin_batch(now_ns);
            writer.end_batch();
            if next < came.end + 1_000 {
                record(&mut writer, "came", next..next + 1);
                next += 1;
            }
        });
        let kept = (0..1_000).map(|number| key("kept", number));
        let wanted = kept.chain(came.clone().map(|number| key("came", number)));
        assert_eq!(found, wanted.collect());
        came = came.end..next;
    }
    let left = writer.series_count();
    let here = 1_000 + usize::try_from(came.end).expect("few");
    assert!(here <= left && left < here + 1_000, "{left}: {SUB_TABLES} sub-tables were swept");
}
