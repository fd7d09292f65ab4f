//! Claims: whatever is left for a thread before it is woken is found by it, and a thread that is asked
//! for something between two looks does not sleep over it.
//!
//! Method: a model in loom of the two ways in which threads wait here. An *eventfd* (`sys::WakeUp`) is
//! set by any thread, and cleared by the sleeper before it looks: worker, exporters, taps. A
//! *token* (crossbeam's `Parker`) is the coordinator's. What is left is a relaxed flag, or the
//! flip. A lost wake-up is a thread that sleeps for ever, which loom reports as a deadlock: the
//! time-outs that the real threads have beside are left out. The last test clears behind the look,
//! on purpose.

#![allow(missing_docs, reason = "a test")]

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};

/// An eventfd, or a parker: the kernel's and the library's lock stands for what they promise.
#[derive(Debug, Default)]
struct Event {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Event {
    fn wake(&self) {
        *self.is_set.lock().expect("nobody panics with it") = true;
        self.changed.notify_one();
    }

    /// `WakeUp::wait`: does not clear.
    fn wait(&self) {
        let mut is_set = self.is_set.lock().expect("nobody panics with it");
        while !*is_set {
            is_set = self.changed.wait(is_set).expect("nobody panics with it");
        }
    }

    fn clear(&self) {
        *self.is_set.lock().expect("nobody panics with it") = false;
    }

    /// `Parker::park`: waits and clears in one step.
    fn park(&self) {
        let mut is_set = self.is_set.lock().expect("nobody panics with it");
        while !*is_set {
            is_set = self.changed.wait(is_set).expect("nobody panics with it");
        }
        *is_set = false;
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
    is_stopping: AtomicBool,
}

/// What a worker has seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    settings: u32,
    epoch: u32,
}

/// `ingest::worker::serve`, with the head of a batch as `Intake::begin_batch` has it.
fn serve(shared: &Shared, clears_first: bool) -> Seen {
    let mut seen = Seen::default();
    loop {
        shared.worker.wait();
        if clears_first {
            shared.worker.clear();
        }
        let published = shared.published.load(Ordering::Acquire);
        if seen.epoch != published {
            seen.epoch = published;
            shared.acknowledged.store(published, Ordering::Release);
            shared.coordinator.wake();
        }
        seen.settings += u32::from(shared.has_settings.swap(false, Ordering::AcqRel));
        if shared.is_stopping.load(Ordering::Acquire) {
            return seen;
        }
        if !clears_first {
            shared.worker.clear();
        }
    }
}

fn run(clears_first: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Arc::new(Shared::default());
        let workers = Arc::clone(&shared);
        let worker = loom::thread::spawn(move || serve(&workers, clears_first));
        // A reload, then a flip, as the coordinator does it; each followed by its wake-up.
        shared.has_settings.store(true, Ordering::Release);
        shared.worker.wake();
        shared.published.store(1, Ordering::Release);
        shared.worker.wake();
        while shared.acknowledged.load(Ordering::Acquire) != 1 {
            shared.coordinator.park();
        }
        shared.is_stopping.store(true, Ordering::Release);
        shared.worker.wake();
        let seen = worker.join().expect("the worker does not panic");
        assert_eq!(seen, Seen { settings: 1, epoch: 1 });
    });
}

#[test]
fn nothing_that_is_left_before_a_wake_up_is_slept_over() {
    run(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn event_cleared_behind_the_look_would_be_seen() {
    run(false);
}
