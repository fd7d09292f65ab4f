//! When links leave a queue, so that whoever counts both sides of it counts neither in between.
//!
//! An exporter unlinks a segment and counts its rows, in two steps; the coordinator lists the queue
//! and reads the counts, in two steps. Neither waits for the other: the exporter says that a
//! departure has begun, and that it has ended, and a look between which one began or went on is
//! thrown away and taken again. That is a sequence lock, with the looker as reader.
//!
//! `io/tests/loom_departures.rs` compiles this file against loom.

use super::sync::{AtomicU64, Ordering, fence, yield_now};

/// Looks before the looker goes on without one that met no departure.
const QUIET_LOOKS_MAX: u32 = 8;

/// Departures from one queue: one exporter makes them, anybody looks.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Departures {
    /// Lets a link leave the queue and counts it: `work` does both.
    pub(crate) fn settle<T>(&self, work: impl FnOnce() -> T) -> T {
        self.begun.fetch_add(1, Ordering::Relaxed);
        // Release: pairs with the fence in `look_quietly`. Whoever sees a count or a missing link of
        // `work` sees that it had begun.
        fence(Ordering::SeqCst);
        let result = work();
        // Release: pairs with the Acquire in `look_quietly`, which then sees all counts of `work`.
        self.ended.fetch_add(1, Ordering::Release);
        result
    }

    /// What `look` finds in queue and counts while no link is on its way out; `None` if one always
    /// was. Waits for nobody.
    pub(crate) fn look_quietly<T>(&self, mut look: impl FnMut() -> T) -> Option<T> {
        for _ in 0..QUIET_LOOKS_MAX {
            // Acquire: pairs with the Release at the end of `settle`.
            let ended = self.ended.load(Ordering::Acquire);
            let found = look();
            // Acquire: pairs with the fence at the beginning of `settle`.
            fence(Ordering::SeqCst);
            if self.begun.load(Ordering::Relaxed) == ended {
                return Some(found);
            }
            yield_now();
        }
        None
    }
}
