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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use floe_core::config::settings::KeyFlushSettings;
use floe_core::key_tally::KeyTally;
use floe_core::name::KeyHasher;
use tracing::{info, warn};

use super::worker::WorkerSignals;
use crate::clock::{monotonic_ns, wall_ms};
use crate::date::javascript_date;
use crate::side_thread::SideThread;
use crate::sys::WakeUp;

/// How long a worker may take to leave its tally; it comes by at the next request otherwise.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(2);

/// Tallies that one worker may have left: the one asked for, and those of reloads before it.
const TALLIES_LEFT_MAX: usize = 16;

/// Longest sleep: what a reload has left is gathered in between.
const LOOK: Duration = Duration::from_secs(1);

/// How long the end waits for rows that are being written; a standard output that nobody reads, or a
/// named pipe as log, is not waited for.
const END_LIMIT: Duration = Duration::from_millis(300);

/// Between two looks for tallies.
const HAND_OVER_LOOK: Duration = Duration::from_millis(1);

/// Where one worker leaves its tally.
#[derive(Debug)]
struct Desk {
    is_wanted: AtomicBool,
    left: ArrayQueue<KeyTally>,
    /// Tallies that found no place.
    lost: AtomicU64,
}

impl Desk {
    /// There is a place unless the thread is stuck at its log, and the configuration was read again
    /// many times meanwhile.
    fn leave(&self, tally: KeyTally) {
        if self.left.push(tally).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
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
        if self.desk.is_wanted.load(Ordering::Relaxed) {
            let fresh = KeyTally::new(self.hasher.clone());
            self.desk.leave(std::mem::replace(&mut self.tally, fresh));
            // Release: pairs with the Acquire in `Writer::collect`, which finds the tally then.
            self.desk.is_wanted.store(false, Ordering::Release);
        }
    }
}

impl Drop for KeyCounter {
    /// A reload gives the worker another counter: what this one has counted counts.
    fn drop(&mut self) {
        if !self.tally.is_empty() {
            let fresh = KeyTally::new(self.hasher.clone());
            self.desk.leave(std::mem::replace(&mut self.tally, fresh));
        }
    }
}

/// The thread of `keyFlush`. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct KeyFlush {
    hasher: KeyHasher,
    desks: Vec<Arc<Desk>>,
    stop: Arc<WakeUp>,
    thread: SideThread,
}

impl KeyFlush {
    /// Starts the thread over `workers`.
    pub(crate) fn start(
        settings: &KeyFlushSettings,
        workers: &[Arc<WorkerSignals>],
    ) -> io::Result<Self> {
        let desk = || Desk {
            is_wanted: AtomicBool::new(false),
            left: ArrayQueue::new(TALLIES_LEFT_MAX),
            lost: AtomicU64::new(0),
        };
        let desks: Vec<Arc<Desk>> = workers.iter().map(|_| Arc::new(desk())).collect();
        let (hasher, stop) = (KeyHasher::default(), Arc::new(WakeUp::new()?));
        let writer = Writer {
            settings: settings.clone(),
            workers: workers.to_vec(),
            desks: desks.clone(),
            hasher: hasher.clone(),
            stop: Arc::clone(&stop),
            rows_lost: None,
        };
        let thread = SideThread::start("key-flush", move || writer.serve())?;
        Ok(Self { hasher, desks, stop, thread })
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
        self.thread.join_within(END_LIMIT);
    }
}

/// What the thread works with.
struct Writer {
    settings: KeyFlushSettings,
    workers: Vec<Arc<WorkerSignals>>,
    desks: Vec<Arc<Desk>>,
    hasher: KeyHasher,
    stop: Arc<WakeUp>,
    /// Rows that the log has refused since it took some; `None` while it takes them.
    rows_lost: Option<u64>,
}

impl Writer {
    fn serve(mut self) {
        let interval_ns = self.settings.interval_ms.saturating_mul(1_000_000);
        let mut due_ns = monotonic_ns().saturating_add(interval_ns);
        let mut tally = KeyTally::new(self.hasher.clone());
        loop {
            let wait_ns = due_ns.saturating_sub(monotonic_ns());
            if self.stop.wait(Duration::from_nanos(wait_ns).min(LOOK)) {
                return;
            }
            if due_ns <= monotonic_ns() {
                due_ns = due_ns.saturating_add(interval_ns).max(monotonic_ns());
                self.collect(&mut tally);
                self.write(&tally);
                tally = KeyTally::new(self.hasher.clone());
            } else {
                self.gather(&mut tally);
            }
        }
    }

    /// Adds what every worker has counted until now to `tally`.
    fn collect(&self, tally: &mut KeyTally) {
        for (desk, worker) in self.desks.iter().zip(&self.workers) {
            desk.is_wanted.store(true, Ordering::Relaxed);
            worker.wake();
        }
        let deadline_ns = monotonic_ns() + crate::clock::duration_ns(HAND_OVER_LIMIT);
        // Acquire: pairs with the Release in `KeyCounter::begin_batch`.
        let is_missing = |desk: &Arc<Desk>| desk.is_wanted.load(Ordering::Acquire);
        while self.desks.iter().any(is_missing)
            && monotonic_ns() < deadline_ns
            && !self.stop.wait(HAND_OVER_LOOK)
        {}
        self.gather(tally);
    }

    /// Adds what workers have left to `tally`.
    fn gather(&self, tally: &mut KeyTally) {
        for desk in &self.desks {
            while let Some(left) = desk.left.pop() {
                tally.merge(&left);
            }
            let lost = desk.lost.swap(0, Ordering::Relaxed);
            if lost != 0 {
                warn!(tallies = lost, "keys not counted by keyFlush: its log was stuck");
            }
        }
    }

    fn write(&mut self, tally: &KeyTally) {
        if 0 < tally.left_out() {
            warn!(lines = tally.left_out(), "keys not counted by keyFlush: there are too many");
        }
        let date = javascript_date(wall_ms() / 1_000);
        let (mut rows, mut count_rows) = (Vec::new(), 0);
        for (key, count) in tally.most_frequent(self.settings.percent) {
            rows.extend_from_slice(format!("{date} count={count} key=").as_bytes());
            push_key(&mut rows, key);
            rows.push(b'\n');
            count_rows += 1;
        }
        let written = match &self.settings.log {
            None => io::stdout().lock().write_all(&rows),
            Some(path) => append(path, &rows),
        };
        match written {
            Ok(()) => {
                if let Some(rows) = self.rows_lost.take() {
                    info!(rows, "keyFlush log writable again, rows lost meanwhile");
                }
            }
            Err(error) => {
                if self.rows_lost.is_none() {
                    warn!(%error, log = ?self.settings.log, "keyFlush rows lost: log refused");
                }
                *self.rows_lost.get_or_insert_default() += count_rows;
            }
        }
    }
}

/// A row is one line: what would break it is escaped, which happens only without
/// `keyNameSanitize`.
fn push_key(rows: &mut Vec<u8>, key: &[u8]) {
    for character in String::from_utf8_lossy(key).chars() {
        match u8::try_from(character) {
            Ok(byte) if byte.is_ascii_control() => rows.extend(std::ascii::escape_default(byte)),
            _ if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') => {
                rows.extend_from_slice(character.escape_unicode().to_string().as_bytes());
            }
            _ => rows.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn append(path: &PathBuf, rows: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_a_key_is_one_line_that_drives_no_terminal() {
        let mut rows = Vec::new();
        push_key(&mut rows, "a\n\x1b[2J\u{9b}2J\u{2028}é\\".as_bytes());
        assert_eq!(String::from_utf8_lossy(&rows), "a\\n\\x1b[2J\\u{9b}2J\\u{2028}é\\");
    }
}
