//! Claim: no interleaving of worker and coordinator loses, doubles or tears a value at the flip.
//!
//! Method: `shard/flip.rs` is compiled here a second time, against loom's atomics (its imports go
//! through `crate::sync`), and loom runs every interleaving and every value a relaxed load may
//! return. No `cfg(loom)` is needed, so the test runs in every `cargo test`.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "the included file is documented and used where it lives"
)]

mod sync {
    pub use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

#[path = "../src/shard/flip.rs"]
mod flip;

use flip::{Generations, ReaderFlip, WriterFlip, flip};
use sync::Arc;

/// Adds `amount` to the value under the worker's epoch, as the shard does.
fn add(value: &Generations, epoch: u32, amount: u64) {
    let before = value.load(epoch).unwrap_or(0);
    value.store(epoch, before + amount);
}

/// The head of a worker's batch.
fn enter_batch(writer: &mut WriterFlip) {
    if writer.observe().is_some() {
        writer.acknowledge();
    }
}

/// Reads the sealed generation, if there is one, as the coordinator does.
fn collect(reader: &mut ReaderFlip, value: &Generations) -> u64 {
    let Some(sealed) = reader.sealed() else { return 0 };
    let amount = value.load(sealed.epoch()).unwrap_or(0);
    sealed.finish();
    amount
}

fn run(batches: u64, flips: u32) {
    loom::model(move || {
        let (mut writer, mut reader) = flip();
        let value = Arc::new(Generations::default());
        let shared = Arc::clone(&value);
        let worker = loom::thread::spawn(move || {
            for _ in 0..batches {
                enter_batch(&mut writer);
                add(&shared, writer.epoch(), 1);
            }
            writer
        });
        let mut total = 0;
        for _ in 0..flips {
            total += collect(&mut reader, &value);
            reader.request();
            total += collect(&mut reader, &value);
        }
        // Drain, as the daemon does it: the stopped worker's flip answers what is still asked, then
        // one last flip seals its last epoch.
        let mut writer = worker.join().expect("the worker does not panic");
        enter_batch(&mut writer);
        total += collect(&mut reader, &value);
        reader.request();
        enter_batch(&mut writer);
        total += collect(&mut reader, &value);
        assert_eq!(total, batches, "every addition lands in exactly one interval");
    });
}

#[test]
fn flip_during_record_loses_and_doubles_nothing() {
    run(3, 1);
}

#[test]
fn two_flips_in_a_row_lose_and_double_nothing() {
    run(2, 2);
}

/// While a sealed generation is read, the worker goes on under the next epoch: the sealed value
/// does not change under the reader.
#[test]
fn a_sealed_value_is_still() {
    loom::model(|| {
        let (mut writer, mut reader) = flip();
        let value = Arc::new(Generations::default());
        add(&value, writer.epoch(), 7);
        let shared = Arc::clone(&value);
        reader.request();
        let worker = loom::thread::spawn(move || {
            for _ in 0..2 {
                enter_batch(&mut writer);
                add(&shared, writer.epoch(), 1);
            }
        });
        if let Some(sealed) = reader.sealed() {
            let once = value.load(sealed.epoch());
            loom::thread::yield_now();
            assert_eq!(once, value.load(sealed.epoch()));
            assert!(once >= Some(7), "what was added before the flip is there");
        }
        worker.join().expect("the worker does not panic");
    });
}
