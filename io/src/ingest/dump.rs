//! `dumpMessages`: every line goes to the log.
//!
//! The reference logs each line as it parses it. Here a thread of its own reads a tap, so that a
//! slow log costs lines of the log and no value; what was left out is said once a second at the
//! most. Lines are escaped: they come from anybody.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tracing::{info, warn};

use super::DUMP_TARGET;
use super::tap::{TapReader, tap};
use crate::clock::{NS_PER_S, monotonic_ns};
use crate::side_thread::SideThread;
use crate::sys::{WakeUp, timespec};

/// Bytes of a line that are logged.
const LINE_BYTES_SHOWN: usize = 1_024;

/// Longest sleep, for what was left out meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// How long the end waits for lines that are copied and not logged yet.
const END_LIMIT: Duration = Duration::from_millis(300);

/// The thread of `dumpMessages`. Dropped, it logs what it has and ends; a log that takes nothing is
/// not waited for.
#[derive(Debug)]
pub(crate) struct Dump {
    reader: TapReader,
    stop: Arc<WakeUp>,
    thread: SideThread,
}

impl Dump {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (reader, stop) = (tap()?, Arc::new(WakeUp::new()?));
        let (shared, seen) = (reader.share(), Arc::clone(&stop));
        let thread = SideThread::start("dump", move || serve(&shared, &seen))?;
        Ok(Self { reader, stop, thread })
    }

    /// The tap for its workers.
    pub(crate) fn tap(&self) -> &TapReader {
        &self.reader
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        self.stop.wake();
        if !self.thread.join_within(END_LIMIT) {
            warn!("last lines not dumped: the log is too slow");
        }
    }
}

fn serve(reader: &TapReader, stop: &WakeUp) {
    let (mut told, mut told_ns) = (0, 0);
    loop {
        let mut fds =
            [PollFd::new(stop, PollFlags::IN), PollFd::new(reader.filled(), PollFlags::IN)];
        // An interrupted wait is looked at like any other.
        poll(&mut fds, Some(&timespec(LOOK))).ok();
        let is_stopping = !fds[0].revents().is_empty();
        reader.filled().clear();
        while let Some(batch) = reader.take() {
            batch.datagrams().for_each(log_lines);
            reader.give_back(batch);
        }
        let left_out = reader.left_out();
        if told < left_out && (is_stopping || told_ns + NS_PER_S <= monotonic_ns()) {
            warn!(datagrams = left_out - told, "datagrams not dumped: the log is too slow");
            (told, told_ns) = (left_out, monotonic_ns());
        }
        if is_stopping {
            return;
        }
    }
}

fn log_lines(datagram: &[u8]) {
    for line in datagram.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let shown = &line[..line.len().min(LINE_BYTES_SHOWN)];
        let rest = if shown.len() < line.len() { "..." } else { "" };
        info!(target: DUMP_TARGET, "line received: {}{rest}", shown.escape_ascii());
    }
}
