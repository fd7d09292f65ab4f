//! `keyFlush`: how often each key occurred, written to a log every so often.
//!
//! Workers count (`KeyCounter`), each into its own tally. A thread asks every worker for its tally;
//! the worker leaves it at the head of its next batch and starts anew, so nobody waits on the data
//! plane. The tallies are merged, and the most frequent keys become rows:
//! `<date> count=N key=K`, appended in one write.
//!
//! What is counted when the daemon stops, in an interval that is not over, is not written: as in the
//! reference.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use floe_core::config::settings::KeyFlushSettings;
use floe_core::key_tally::KeyTally;
use floe_core::name::KeyHasher;
use tracing::{info, warn};

use super::worker::WorkerSignals;
use crate::clock::{monotonic_ns, wall_ms};
use crate::date::javascript_date;
use crate::sys::WakeUp;

/// How long a worker may take to leave its tally; it comes by at the next request otherwise.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(2);

/// Tallies that one worker may have left: the one asked for, and those of reloads before it.
const TALLIES_LEFT_MAX: usize = 16;

/// Between two looks for tallies.
const HAND_OVER_LOOK: Duration = Duration::from_millis(1);

/// Where one worker leaves its tally.
#[derive(Debug)]
struct Desk {
    is_wanted: AtomicBool,
    left: ArrayQueue<KeyTally>,
}

/// A worker's count.
#[derive(Debug)]
pub struct KeyCounter {
    tally: KeyTally,
    hasher: KeyHasher,
    desk: Arc<Desk>,
}

impl KeyCounter {
    /// Counts one occurrence.
    pub(crate) fn add(&mut self, key: &[u8]) {
        self.tally.add(key);
    }

    /// The head of a batch: leaves the tally if it is wanted.
    pub(crate) fn begin_batch(&mut self) {
        // Relaxed: the queue orders the tally itself.
        if self.desk.is_wanted.load(Ordering::Relaxed) {
            self.desk.is_wanted.store(false, Ordering::Relaxed);
            let fresh = KeyTally::new(self.hasher.clone());
            // There is a place: they are emptied before the next tally is wanted.
            drop(self.desk.left.push(std::mem::replace(&mut self.tally, fresh)));
        }
    }
}

impl Drop for KeyCounter {
    /// A reload gives the worker another counter: what this one has counted counts.
    fn drop(&mut self) {
        let fresh = KeyTally::new(self.hasher.clone());
        drop(self.desk.left.push(std::mem::replace(&mut self.tally, fresh)));
    }
}

/// The thread of `keyFlush`. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct KeyFlush {
    hasher: KeyHasher,
    desks: Vec<Arc<Desk>>,
    stop: Arc<WakeUp>,
    thread: Option<JoinHandle<()>>,
}

impl KeyFlush {
    /// Starts the thread over `workers`.
    pub(crate) fn start(
        settings: &KeyFlushSettings,
        workers: &[Arc<WorkerSignals>],
    ) -> io::Result<Self> {
        let desk =
            || Desk { is_wanted: AtomicBool::new(false), left: ArrayQueue::new(TALLIES_LEFT_MAX) };
        let desks: Vec<Arc<Desk>> = workers.iter().map(|_| Arc::new(desk())).collect();
        let (hasher, stop) = (KeyHasher::default(), Arc::new(WakeUp::new()?));
        let writer = Writer {
            settings: settings.clone(),
            workers: workers.to_vec(),
            desks: desks.clone(),
            hasher: hasher.clone(),
            stop: Arc::clone(&stop),
            is_refused: false,
        };
        let thread = std::thread::Builder::new()
            .name("key-flush".to_owned())
            .spawn(move || writer.serve())?;
        Ok(Self { hasher, desks, stop, thread: Some(thread) })
    }

    /// The counter of worker `index`.
    pub(crate) fn counter(&self, index: usize) -> Option<KeyCounter> {
        let desk = Arc::clone(self.desks.get(index)?);
        let tally = KeyTally::new(self.hasher.clone());
        Some(KeyCounter { tally, hasher: self.hasher.clone(), desk })
    }
}

impl Drop for KeyFlush {
    fn drop(&mut self) {
        self.stop.wake();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What the thread works with.
struct Writer {
    settings: KeyFlushSettings,
    workers: Vec<Arc<WorkerSignals>>,
    desks: Vec<Arc<Desk>>,
    hasher: KeyHasher,
    stop: Arc<WakeUp>,
    is_refused: bool,
}

impl Writer {
    fn serve(mut self) {
        let interval_ns = self.settings.interval_ms.saturating_mul(1_000_000);
        let mut due_ns = monotonic_ns() + interval_ns;
        loop {
            let wait_ns = due_ns.saturating_sub(monotonic_ns());
            if self.stop.wait(Duration::from_nanos(wait_ns)) {
                return;
            }
            if due_ns <= monotonic_ns() {
                due_ns = (due_ns + interval_ns).max(monotonic_ns());
                let tally = self.collect();
                self.write(&tally);
            }
        }
    }

    /// The tallies of all workers.
    fn collect(&self) -> KeyTally {
        for (desk, worker) in self.desks.iter().zip(&self.workers) {
            desk.is_wanted.store(true, Ordering::Relaxed);
            worker.wake();
        }
        let mut tally = KeyTally::new(self.hasher.clone());
        let deadline_ns = monotonic_ns() + crate::clock::duration_ns(HAND_OVER_LIMIT);
        let mut missing: Vec<&Arc<Desk>> = self.desks.iter().collect();
        loop {
            missing.retain(|desk| {
                let mut is_missing = true;
                while let Some(left) = desk.left.pop() {
                    tally.merge(&left);
                    is_missing = false;
                }
                is_missing
            });
            let is_over = deadline_ns <= monotonic_ns();
            if missing.is_empty() || is_over || self.stop.wait(HAND_OVER_LOOK) {
                return tally;
            }
        }
    }

    fn write(&mut self, tally: &KeyTally) {
        if 0 < tally.left_out() {
            warn!(lines = tally.left_out(), "keys not counted by keyFlush: there are too many");
        }
        let date = javascript_date(wall_ms() / 1_000);
        let mut rows = Vec::new();
        for (key, count) in tally.most_frequent(self.settings.percent) {
            rows.extend_from_slice(format!("{date} count={count} key=").as_bytes());
            push_key(&mut rows, key);
            rows.push(b'\n');
        }
        let written = match &self.settings.log {
            None => io::stdout().lock().write_all(&rows),
            Some(path) => append(path, &rows),
        };
        match written {
            Ok(()) if std::mem::take(&mut self.is_refused) => info!("keyFlush log writable again"),
            Ok(()) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.is_refused, true) {
                    warn!(%error, log = ?self.settings.log, "keyFlush rows lost: log refused");
                }
            }
        }
    }
}

/// A row is one line: what would break it is escaped, which happens only without
/// `keyNameSanitize`.
fn push_key(rows: &mut Vec<u8>, key: &[u8]) {
    for &byte in key {
        if byte < b' ' || byte == 0x7f {
            rows.extend(std::ascii::escape_default(byte));
        } else {
            rows.push(byte);
        }
    }
}

fn append(path: &PathBuf, rows: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(rows)
}
