//! How threads on one CPU give way to each other where no CPU is without a worker.
//!
//! **Others to workers.** Every fraction of a millisecond a flush and a delivery yield. A worker of
//! which the machine has enough sleeps a little later, and the yield returns. One that more comes to
//! than it can take does not sleep at all; its datagrams are dropped whatever the other threads do, and
//! a flush that yields to it again and again never ends. Long yields tell the one from the other: after
//! some of them the thread takes what the kernel's scheduler gives it, for a while.
//!
//! **Workers to a late flush.** What it gives is a tenth of a CPU beside a worker that does not sleep,
//! and a nice value cannot be lowered again without a privilege. So a flush yields for a quarter of its
//! interval and no longer, and at half of it is late: the workers pause after each batch until it is
//! done. A yield of theirs would be of no use, since the scheduler would choose them again
//! (docs/decisions/026-giving-way.md has the figures).

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use floe_core::give_way;

use crate::clock::{duration_ns, monotonic_ns};

/// A yield that takes so long was to a worker that had this much to do, ns: not much less than a tick of
/// the kernel's clock, after which a thread that yielded is thought of again.
const LONG_NS: u64 = 2_500_000;

/// Long yields in a row that say that the worker does not sleep; one that catches up has one or two.
const LONG_MAX: u32 = 3;

/// Time after them in which nothing is yielded, ns.
const INSISTENCE_NS: u64 = 200_000_000;

/// A flush yields no more when it takes longer than this part of its interval.
const PATIENCE_DIVISOR: u64 = 4;

/// It is late when it takes longer than this part: a worker that would have room for both, had the
/// flush not yielded, has it for a quarter of the interval before it must pause.
const LATE_DIVISOR: u64 = 2;

/// A worker's pause behind a batch while a flush is late, at the least: longer than a batch of small
/// datagrams takes, and far shorter than its socket's buffer lasts.
const PAUSE_NS_MIN: u64 = 2_000_000;

/// The same at the most.
const PAUSE_NS_MAX: u64 = 20_000_000;

/// Whether no CPU is without a worker.
static IS_SHARED: AtomicBool = AtomicBool::new(false);

/// Monotonic time from which the flush that goes on is late, ns.
static LATE_AT_NS: AtomicU64 = AtomicU64::new(u64::MAX);

thread_local! {
    static OWN: Cell<Courtesy> = const { Cell::new(Courtesy::new()) };
}

/// Begins to be courteous: the threads of this process share the CPUs of its workers.
pub(crate) fn share_cpus() {
    IS_SHARED.store(true, Ordering::Relaxed);
    give_way::choose(yield_or_insist);
}

/// Lets whoever waits for this CPU go first, unless that was in vain a moment ago, or this is a flush
/// that has yielded long enough.
fn yield_or_insist() {
    let before_ns = monotonic_ns();
    let mut courtesy = OWN.get();
    if courtesy.yields(before_ns) {
        std::thread::yield_now();
        courtesy.yielded(before_ns, monotonic_ns());
        OWN.set(courtesy);
    }
}

/// Whether a worker should pause between two batches.
#[inline]
pub(crate) fn is_flush_late(now_ns: u64) -> bool {
    // Relaxed: it orders nothing, and a batch sooner or later is the same.
    LATE_AT_NS.load(Ordering::Relaxed) <= now_ns
}

/// How long a worker pauses behind a batch that took `batch_ns` while a flush is late: at least as long
/// again, so that the flush has half of the CPU. A batch of datagrams of hundreds of lines takes 7 ms,
/// beside which a pause of the least length would leave it a fifth.
pub(crate) fn pause_for_flush(batch_ns: u64) -> Duration {
    Duration::from_nanos(batch_ns.clamp(PAUSE_NS_MIN, PAUSE_NS_MAX))
}

/// A flush that goes on, on the thread that made it.
#[derive(Debug)]
#[must_use = "a flush ends when this is dropped"]
pub(crate) struct Flushing {
    _of_this_thread: PhantomData<*const ()>,
}

impl Flushing {
    /// Begins a flush of an interval of `interval_ms`.
    pub(crate) fn begin(interval_ms: u64) -> Self {
        let interval_ns = duration_ns(Duration::from_millis(interval_ms));
        let now_ns = monotonic_ns();
        let yields_until_ns = now_ns.saturating_add(interval_ns / PATIENCE_DIVISOR);
        OWN.set(Courtesy { yields_until_ns, ..OWN.get() });
        if IS_SHARED.load(Ordering::Relaxed) {
            let late_at_ns = now_ns.saturating_add(interval_ns / LATE_DIVISOR);
            LATE_AT_NS.store(late_at_ns, Ordering::Relaxed);
        }
        Self { _of_this_thread: PhantomData }
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        OWN.set(Courtesy { yields_until_ns: u64::MAX, ..OWN.get() });
        LATE_AT_NS.store(u64::MAX, Ordering::Relaxed);
    }
}

/// What one thread knows of its yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Courtesy {
    /// Long ones in a row.
    long: u32,
    insists_until_ns: u64,
    yields_until_ns: u64,
}

impl Courtesy {
    const fn new() -> Self {
        Self { long: 0, insists_until_ns: 0, yields_until_ns: u64::MAX }
    }

    fn yields(self, now_ns: u64) -> bool {
        self.insists_until_ns <= now_ns && now_ns < self.yields_until_ns
    }

    fn yielded(&mut self, before_ns: u64, after_ns: u64) {
        if after_ns - before_ns < LONG_NS {
            self.long = 0;
            return;
        }
        self.long += 1;
        if self.long == LONG_MAX {
            self.long = 0;
            self.insists_until_ns = after_ns + INSISTENCE_NS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NS_PER_S;

    #[test]
    fn a_pause_is_as_long_as_the_batch_before_it_within_bounds() {
        let pauses = [100_000, 7_000_000, 900_000_000].map(pause_for_flush);
        assert_eq!(pauses.map(|pause| pause.as_millis()), [2, 7, 20]);
    }

    #[test]
    fn after_long_yields_in_a_row_the_thread_insists_for_a_while() {
        let mut courtesy = Courtesy::new();
        let mut yields = |took_ns| {
            courtesy.yielded(1_000, 1_000 + took_ns);
            courtesy.yields(1_000 + took_ns)
        };
        for took_ns in [LONG_NS, LONG_NS, LONG_NS - 1, LONG_NS, LONG_NS] {
            assert!(yields(took_ns));
        }
        assert!(!yields(LONG_NS));
        assert!(!courtesy.yields(LONG_NS + INSISTENCE_NS));
        assert!(courtesy.yields(1_000 + LONG_NS + INSISTENCE_NS));
    }

    #[test]
    fn each_thread_has_a_courtesy_of_its_own() {
        let insisting = Courtesy { insists_until_ns: u64::MAX, ..Courtesy::new() };
        OWN.set(insisting);
        yield_or_insist();
        assert_eq!(OWN.get(), insisting);
        let other = std::thread::spawn(|| OWN.get());
        assert_eq!(other.join().unwrap(), Courtesy::new());
    }

    #[test]
    fn a_flush_yields_for_a_quarter_of_its_interval() {
        let before_ns = monotonic_ns();
        let flushing = Flushing::begin(4_000);
        let until_ns = OWN.get().yields_until_ns;
        assert!((before_ns + NS_PER_S..=monotonic_ns() + NS_PER_S).contains(&until_ns));
        assert!(OWN.get().yields(until_ns - 1) && !OWN.get().yields(until_ns));
        drop(flushing);
        assert!(OWN.get().yields(until_ns));
    }
}
