//! Claims: what hangs on the flip without being atomic never races: the books' pages, the identity of
//! a slot behind its stamp, a slot that changes hands, a slab that is made while the other side walks.
//!
//! Method: `shard/flip.rs` is compiled here against loom's atomics, as in `loom_flip.rs`; pages and
//! identities are cells that loom watches, handled in the order in which `shard.rs`, `slot.rs` and
//! `slots.rs` handle theirs. loom runs every interleaving of up to three preemptions, and fails
//! where a read and a write of a cell are not ordered. The last two tests break a rule on purpose:
//! they show that it would be seen.

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

use flip::{Generations, ReaderFlip, WriterFlip, flip, generation_index};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicUsize;
use sync::{Arc, Ordering};

/// Explores `run` with as many preemptions as the reliability plan asks for.
fn explore(run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(run);
}

/// One series of one shard: `Slot`, with a number for its key; 0 = vacant.
#[derive(Debug)]
struct Slot {
    generations: Generations,
    identity: UnsafeCell<u32>,
}

impl Slot {
    fn vacant() -> Self {
        Self { generations: Generations::default(), identity: UnsafeCell::new(0) }
    }

    /// `Slot::occupy` and `Slot::vacate`: by the worker.
    #[expect(unsafe_code, reason = "loom's cell, which checks the access")]
    fn write(&self, series: u32) {
        // SAFETY: loom fails the test where another access is not ordered before or behind.
        self.identity.with_mut(|identity| unsafe { *identity = series });
    }

    #[expect(unsafe_code, reason = "loom's cell, which checks the access")]
    fn read(&self) -> u32 {
        // SAFETY: as above.
        self.identity.with(|identity| unsafe { *identity })
    }

    /// Adds 1 under `epoch`, as the worker does.
    fn add(&self, epoch: u32) {
        self.generations.store(epoch, self.generations.load(epoch).unwrap_or(0) + 1);
    }
}

/// `ShardReader::collect`: series and value, where the sealed epoch has one.
fn collect(reader: &mut ReaderFlip, slot: &Slot) -> Option<(u32, u64)> {
    let sealed = reader.sealed()?;
    let value = slot.generations.load(sealed.epoch());
    let found = value.map(|value| (slot.read(), value));
    sealed.finish();
    found
}

fn begin_batch(writer: &mut WriterFlip) {
    if writer.observe().is_some() {
        writer.acknowledge();
    }
}

/// Both sides once the threads are done: everything that was written is found.
fn drain(writer: &mut WriterFlip, reader: &mut ReaderFlip, slot: &Slot) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    for _ in 0..2 {
        begin_batch(writer);
        found.extend(collect(reader, slot));
        reader.request();
    }
    begin_batch(writer);
    found.extend(collect(reader, slot));
    found
}

#[test]
fn identity_written_into_a_vacant_slot_is_seen_behind_its_stamp() {
    explore(|| {
        let (mut writer, mut reader) = flip();
        let slot = Arc::new(Slot::vacant());
        let shared = Arc::clone(&slot);
        let worker = loom::thread::spawn(move || {
            for batch in 0..2 {
                begin_batch(&mut writer);
                if batch == 1 {
                    shared.write(7);
                    shared.add(writer.epoch());
                }
            }
            writer
        });
        let mut found = Vec::new();
        for _ in 0..2 {
            reader.request();
            found.extend(collect(&mut reader, &slot));
        }
        let mut writer = worker.join().expect("the worker does not panic");
        found.extend(drain(&mut writer, &mut reader, &slot));
        assert_eq!(found, [(7, 1)]);
    });
}

/// A worker whose series leaves a slot that another gets: `oldest` says from which epoch on a series
/// is not idle, of the epoch of the batch.
fn change_hands(oldest: fn(u32) -> u32) {
    explore(move || {
        let (mut writer, mut reader) = flip();
        let slot = Arc::new(Slot::vacant());
        slot.write(1);
        slot.add(writer.epoch());
        // The first flip is over before the threads begin: fewer interleavings, the same race.
        reader.request();
        begin_batch(&mut writer);
        let shared = Arc::clone(&slot);
        let worker = loom::thread::spawn(move || {
            for _ in 0..2 {
                begin_batch(&mut writer);
                let epoch = writer.epoch();
                if shared.generations.newest_stamp() < oldest(epoch) {
                    shared.write(2);
                    shared.add(epoch);
                }
            }
            writer
        });
        let mut found = Vec::new();
        found.extend(collect(&mut reader, &slot));
        reader.request();
        found.extend(collect(&mut reader, &slot));
        let mut writer = worker.join().expect("the worker does not panic");
        found.extend(drain(&mut writer, &mut reader, &slot));
        assert_eq!(found[0], (1, 1), "the first series' value is its own");
        assert!(found[1..].iter().all(|(series, _)| *series == 2), "{found:?}");
    });
}

/// `SLOT_IDLE_FLIPS_MAX` is at least two: both generations of an idle series have been read.
#[test]
fn slot_that_changes_hands_is_never_read_as_the_series_before() {
    change_hands(|epoch| epoch.saturating_sub(1));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn slot_that_left_while_its_generation_is_read_would_be_seen() {
    change_hands(|epoch| epoch);
}

/// The books of a worker: `Pages`, each a number.
struct Pages([UnsafeCell<u64>; 2]);

impl Pages {
    #[expect(unsafe_code, reason = "loom's cell, which checks the access")]
    fn change(&self, epoch: u32, change: impl FnOnce(u64) -> u64) {
        self.0[generation_index(epoch)].with_mut(|page| {
            // SAFETY: loom fails the test where another access is not ordered before or behind.
            let page = unsafe { &mut *page };
            *page = change(*page);
        });
    }

    #[expect(unsafe_code, reason = "loom's cell, which checks the access")]
    fn copy(&self, epoch: u32) -> u64 {
        // SAFETY: as above.
        self.0[generation_index(epoch)].with(|page| unsafe { *page })
    }
}

/// A worker that counts on its pages over flips; `acknowledge_first` breaks the order on purpose.
fn count_on_pages(acknowledge_first: bool) {
    explore(move || {
        let (mut writer, mut reader) = flip();
        let pages = Arc::new(Pages([UnsafeCell::new(0), UnsafeCell::new(0)]));
        let shared = Arc::clone(&pages);
        let worker = loom::thread::spawn(move || {
            for _ in 0..3 {
                let before = writer.epoch();
                if writer.observe().is_some() {
                    if acknowledge_first {
                        writer.acknowledge();
                        shared.change(before, |page| page);
                    }
                    shared.change(writer.epoch(), |_| 0);
                    writer.acknowledge();
                }
                shared.change(writer.epoch(), |page| page + 1);
            }
            writer
        });
        let mut total = 0;
        let mut collect = |reader: &mut ReaderFlip| {
            if let Some(sealed) = reader.sealed() {
                total += pages.copy(sealed.epoch());
                sealed.finish();
            }
        };
        for _ in 0..2 {
            reader.request();
            collect(&mut reader);
        }
        let mut writer = worker.join().expect("the worker does not panic");
        for _ in 0..3 {
            if writer.observe().is_some() {
                pages.change(writer.epoch(), |_| 0);
                writer.acknowledge();
            }
            collect(&mut reader);
            reader.request();
        }
        assert_eq!(total, 3, "every count is on one page that was read");
    });
}

#[test]
fn pages_of_the_books_are_read_whole_and_once() {
    count_on_pages(false);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn page_touched_behind_its_acknowledgement_would_be_seen() {
    count_on_pages(true);
}

/// `Slots::make_slab` while `SlotsReader::for_each` walks: the slots are there before the pointer is.
#[test]
fn slab_made_during_a_walk_is_whole_or_not_there() {
    explore(|| {
        let place = Arc::new((AtomicUsize::new(0), Slot::vacant()));
        let shared = Arc::clone(&place);
        let worker = loom::thread::spawn(move || {
            shared.1.write(9);
            // Release: as in `make_slab`.
            shared.0.store(1, Ordering::Release);
        });
        // Acquire: as in `for_each`.
        if place.0.load(Ordering::Acquire) == 1 {
            assert_eq!(place.1.read(), 9);
        }
        worker.join().expect("the worker does not panic");
    });
}
