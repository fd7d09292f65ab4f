//! Claim: whoever looks at a queue and at the counts of what left it, while links leave, finds each
//! segment in exactly one of the two.
//!
//! Method: `export/departures.rs` is compiled here a second time against loom's atomics, and loom runs
//! every interleaving of up to three preemptions. Queue and count are relaxed atomics, less than the
//! kernel's directory promises.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "the included file is documented and used where it lives"
)]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
    pub(crate) use loom::thread::yield_now;
}

#[path = "../src/export/departures.rs"]
mod departures;

use departures::Departures;
use loom::sync::Arc;
use sync::{AtomicU64, Ordering};

const SEGMENTS: u64 = 2;

#[derive(Debug, Default)]
struct Backend {
    departures: Departures,
    queued: AtomicU64,
    acknowledged: AtomicU64,
}

impl Backend {
    fn acknowledge(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn look(&self) -> u64 {
        self.queued.load(Ordering::Relaxed) + self.acknowledged.load(Ordering::Relaxed)
    }
}

/// One look while every segment leaves; returns nothing, asserts.
fn look_during_departures(is_settled: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let backend = Arc::new(Backend::default());
        backend.queued.store(SEGMENTS, Ordering::Relaxed);
        let shared = Arc::clone(&backend);
        let exporter = loom::thread::spawn(move || {
            for _ in 0..SEGMENTS {
                if is_settled {
                    shared.departures.settle(|| shared.acknowledge());
                } else {
                    shared.acknowledge();
                }
            }
        });
        if let Some(found) = backend.departures.look_quietly(|| backend.look()) {
            assert_eq!(found, SEGMENTS, "each in one place");
        }
        exporter.join().expect("the exporter does not panic");
        assert_eq!(backend.departures.look_quietly(|| backend.look()), Some(SEGMENTS));
    });
}

#[test]
fn look_during_departures_counts_each_segment_once() {
    look_during_departures(true);
}

/// Without the lock the look finds a segment in neither place, or in both: the model would see it.
#[test]
#[should_panic(expected = "each in one place")]
fn look_without_the_lock_would_be_seen() {
    look_during_departures(false);
}
