//! The thread that writes the log, and the queues to it.
//!
//! Whoever logs puts a record into a queue and goes on: a pipe that nobody reads, a terminal that was
//! stopped, a journal that hangs cost lines of the log, never the time of the coordinator. What a full
//! queue or a full socket costs is counted, and said when lines are taken again. What syslog or the
//! journal refuse because they are not there goes to standard error meanwhile.
//!
//! Lines of `dumpMessages` have a short queue of their own, and their thread waits for room in it: so
//! they lose nothing to a log that is only slow, and crowd out no other line.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select_biased};
use floe_core::limits::{LOG_QUEUE_DUMPED_MAX, LOG_QUEUE_LINES_MAX};
use tracing::Level;

use super::output::Output;
use super::record::Record;

/// Longest wait of `dumpMessages` for room; one that was in vain is the last until there is room.
const DUMP_LIMIT: Duration = Duration::from_millis(500);

/// Longest wait at the end: for room in the queue, and for lines that are not written yet.
const FLUSH_LIMIT: Duration = Duration::from_millis(250);

/// The way to a writing thread; dropped, the thread writes what it has and ends.
#[derive(Debug)]
pub(super) struct Queue {
    lines: Sender<Entry>,
    dumped: Sender<Record>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Entry {
    Line(Record),
    /// Answered when everything before it is written.
    Flush(Sender<()>),
}

#[derive(Debug, Default)]
struct Shared {
    /// Lines a full queue did not take since it was last said.
    dropped: AtomicU64,
    /// Whether the last wait of `dumpMessages` was in vain.
    is_stuck: AtomicBool,
}

impl Queue {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// The kernel's, if it gives no thread.
    pub(super) fn to(output: Output) -> io::Result<Self> {
        let (lines, from_lines) = bounded(LOG_QUEUE_LINES_MAX);
        let (dumped, from_dump) = bounded(LOG_QUEUE_DUMPED_MAX);
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            output,
            shared: Arc::clone(&shared),
            lost: 0,
            elsewhere: 0,
            is_refused: false,
        };
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(&from_lines, &from_dump))?;
        Ok(Self { lines, dumped, shared })
    }

    /// Puts a line in, if there is room.
    pub(super) fn put(&self, record: Record) {
        if self.lines.try_send(Entry::Line(record)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts a line of `dumpMessages` in, and waits for room.
    pub(super) fn put_dumped(&self, record: Record) {
        let is_taken = match self.dumped.try_send(record) {
            Ok(()) => true,
            Err(TrySendError::Full(record)) if !self.shared.is_stuck.load(Ordering::Relaxed) => {
                self.dumped.send_timeout(record, DUMP_LIMIT).is_ok()
            }
            Err(_) => false,
        };
        self.shared.is_stuck.store(!is_taken, Ordering::Relaxed);
        if !is_taken {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was put in is written, for half a second at the most.
    pub(super) fn flush(&self) {
        let (done, is_done) = bounded(1);
        if self.lines.send_timeout(Entry::Flush(done), FLUSH_LIMIT).is_ok() {
            // Disconnected or late: there is nothing more to wait for.
            is_done.recv_timeout(FLUSH_LIMIT).ok();
        }
    }
}

/// What the thread works with.
#[derive(Debug)]
struct Writer {
    output: Output,
    shared: Arc<Shared>,
    /// Lines that are nowhere, since it was last said.
    lost: u64,
    /// Lines that went to standard error instead.
    elsewhere: u64,
    is_refused: bool,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Entry>, dumped: &Receiver<Record>) {
        loop {
            select_biased! {
                recv(lines) -> entry => match entry {
                    Ok(Entry::Line(record)) => self.write(&record),
                    Ok(Entry::Flush(done)) => {
                        dumped.try_iter().for_each(|record| self.write(&record));
                        self.tell_lost();
                        done.try_send(()).ok();
                    }
                    // Both ends go together.
                    Err(_) => break,
                },
                recv(dumped) -> record => match record {
                    Ok(record) => self.write(&record),
                    Err(_) => break,
                },
            }
        }
        let rest = lines.try_iter().filter_map(|entry| match entry {
            Entry::Line(record) => Some(record),
            Entry::Flush(_) => None,
        });
        rest.chain(dumped.try_iter()).for_each(|record| self.write(&record));
        self.tell_lost();
    }

    fn write(&mut self, record: &Record) {
        self.tell_lost();
        if let Err(error) = self.output.write(record) {
            self.refused(record, &error);
        } else if self.is_refused {
            self.tell_lost();
        }
    }

    /// Keeps what can be kept of a refused line, and says once that lines are refused.
    fn refused(&mut self, record: &Record, error: &io::Error) {
        if matches!(self.output, Output::Stderr(_)) {
            self.lost += 1;
            return;
        }
        let is_full = error.kind() == ErrorKind::WouldBlock;
        let is_socket = matches!(self.output, Output::Syslog { .. } | Output::Journal { .. });
        let is_kept = is_socket && !is_full;
        if !std::mem::replace(&mut self.is_refused, true) {
            let message = match is_kept {
                true => "log refused: standard error is used until it is taken again",
                false => "log refused: lines are lost until it is taken again",
            };
            let told = Record::new(Level::WARN, message).with("backend", self.output.name());
            Output::stderr().write(&told.with("error", error.to_string())).ok();
        }
        match is_kept && Output::stderr().write(record).is_ok() {
            true => self.elsewhere += 1,
            false => self.lost += 1,
        }
    }

    /// Says what is missing in the log, as soon as it takes a line.
    fn tell_lost(&mut self) {
        self.lost += self.shared.dropped.swap(0, Ordering::Relaxed);
        if self.lost == 0 && self.elsewhere == 0 {
            return;
        }
        let told = Record::new(Level::WARN, "log taken again: lines are missing")
            .with("lost", self.lost)
            .with("on_stderr", self.elsewhere);
        if self.output.write(&told).is_ok() {
            (self.lost, self.elsewhere) = (0, 0);
            if std::mem::take(&mut self.is_refused) {
                Output::stderr().write(&told.with("backend", self.output.name())).ok();
            }
        }
    }
}
