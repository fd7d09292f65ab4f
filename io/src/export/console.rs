//! The console backend: every flush printed to stdout, as the reference prints it.
//!
//! Printing has a thread of its own behind a channel with one place: a reader of our stdout that is
//! slow, or stopped, costs flushes of this backend, which are counted, and holds up nothing.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use floe_core::config::settings::ConsoleBackendSettings;
use floe_core::flush_text::{TimerValues, flush_text};
use floe_core::row::Rows;
use tracing::warn;

use crate::date::javascript_date;
use crate::side_thread::SideThread;

/// One flush.
#[derive(Debug)]
pub(crate) struct Flush {
    /// Its rows, all parts.
    pub(crate) parts: Vec<Rows>,
    /// What its timers were made of.
    pub(crate) timers: Vec<TimerValues>,
    /// `percentThreshold`.
    pub(crate) thresholds: Vec<f64>,
}

/// Where the coordinator leaves flushes.
#[derive(Clone, Debug)]
pub struct ConsoleDesk {
    flushes: Sender<Flush>,
    dropped: Arc<AtomicU64>,
}

impl ConsoleDesk {
    /// Leaves a flush, or drops it if the one before is not printed yet.
    pub(crate) fn put(&self, flush: Flush) {
        if self.flushes.try_send(flush).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Flushes not printed since the start of the backend.
    pub(crate) fn dropped_count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }
}

/// The printer and its thread.
#[derive(Debug)]
pub(crate) struct ConsoleBackend {
    desk: Option<ConsoleDesk>,
    thread: SideThread,
}

/// How long the end waits for a flush that is being printed.
const END_LIMIT: Duration = Duration::from_millis(300);

impl ConsoleBackend {
    /// Starts the thread.
    pub(crate) fn start(settings: ConsoleBackendSettings) -> io::Result<Self> {
        let (flushes, received) = bounded(1);
        let thread = SideThread::start("print", move || serve(&received, settings))?;
        let desk = ConsoleDesk { flushes, dropped: Arc::default() };
        Ok(Self { desk: Some(desk), thread })
    }

    /// The coordinator's end.
    pub(crate) fn desk(&self) -> Option<ConsoleDesk> {
        self.desk.clone()
    }
}

impl Drop for ConsoleBackend {
    /// Ends when the last flush is printed. A stdout that takes nothing is not waited for: the
    /// thread ends with the process then.
    fn drop(&mut self) {
        self.desk = None;
        self.thread.join_within(END_LIMIT);
    }
}

fn serve(flushes: &Receiver<Flush>, settings: ConsoleBackendSettings) {
    let mut is_refused = false;
    for Flush { parts, timers, thresholds } in flushes {
        let timestamp_s = parts.first().map_or(0, |part| part.timestamp_s);
        let body = flush_text(&parts, &timers, &thresholds, settings);
        let text = format!("Flushing stats at  {}\n{body}", javascript_date(timestamp_s));
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => is_refused = false,
            Err(error) => {
                if !std::mem::replace(&mut is_refused, true) {
                    warn!(%error, "flush not printed: stdout refused");
                }
            }
        }
    }
}
