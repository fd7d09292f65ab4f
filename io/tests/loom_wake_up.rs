//! Claim: whatever is left for a thread before it is woken is found by it: at no moment does a thread
//! sleep, its event clear, while something is left for it.
//!
//! Method: a model in loom of the two ways in which threads wait here. An *eventfd* (`sys::WakeUp`) is
//! set by any thread, and cleared by the sleeper before it looks: worker, exporters, taps. A
//! *token* (crossbeam's `Parker`) is the coordinator's. The sleeper's turns are bounded, so that
//! nothing waits for ever in the model: when both sides are done, an event that is clear means that
//! everything was seen. The last test clears behind the look, on purpose.

#![allow(missing_docs, reason = "a test")]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Turns of the sleeper: two wake-ups, and the head of its loop before the first.
const TURNS: u32 = 3;

/// An eventfd, or the token of a parker: a wake-up adds to what is there, in one step.
#[derive(Debug, Default)]
struct Event(AtomicBool);

impl Event {
    fn wake(&self) {
        self.0.swap(true, Ordering::AcqRel);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn clear(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

/// What a worker and those who want something of it share.
#[derive(Debug, Default)]
struct Shared {
    worker: Event,
    coordinator: Event,
    /// A reload's settings in the inbox.
    has_settings: AtomicBool,
    /// The flip's words.
    published: AtomicU32,
    acknowledged: AtomicU32,
}

/// What a worker has seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    settings: u32,
    epoch: u32,
}

impl Shared {
    /// The head of a batch, as `Intake::begin_batch` has it.
    fn begin_batch(&self, seen: &mut Seen) {
        let published = self.published.load(Ordering::Acquire);
        if seen.epoch != published {
            seen.epoch = published;
            self.acknowledged.store(published, Ordering::Release);
            self.coordinator.wake();
        }
        seen.settings += u32::from(self.has_settings.swap(false, Ordering::AcqRel));
    }
}

fn run(clears_first: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Arc::new(Shared::default());
        let workers = Arc::clone(&shared);
        let worker = loom::thread::spawn(move || {
            let mut seen = Seen::default();
            for _ in 0..TURNS {
                if workers.worker.is_set() {
                    if clears_first {
                        workers.worker.clear();
                        workers.begin_batch(&mut seen);
                    } else {
                        workers.begin_batch(&mut seen);
                        workers.worker.clear();
                    }
                }
            }
            seen
        });
        // A reload, then a flip, as the coordinator does it; each followed by its wake-up.
        shared.has_settings.store(true, Ordering::Release);
        shared.worker.wake();
        shared.published.store(1, Ordering::Release);
        shared.worker.wake();
        let seen = worker.join().expect("the worker does not panic");
        let is_awake = shared.worker.is_set();
        assert!(is_awake || seen == Seen { settings: 1, epoch: 1 }, "slept over {seen:?}");
        // The other way round: an acknowledgement that stands has set the coordinator's token.
        let is_answered = shared.acknowledged.load(Ordering::Acquire) == 1;
        assert_eq!(is_answered, shared.coordinator.is_set());
    });
}

#[test]
fn nothing_that_is_left_before_a_wake_up_is_slept_over() {
    run(true);
}

#[test]
#[should_panic(expected = "slept over")]
fn event_cleared_behind_the_look_would_be_seen() {
    run(false);
}
