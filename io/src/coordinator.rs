//! The coordinator: flips the shards, closes intervals, spools them.
//!
//! One thread, between the workers and the disk. It sleeps until the next tick of its grid, asks
//! every worker for a flip, waits for the acknowledgements, adds the sealed generations to the
//! interval, and at a tick closes it into rows and commits them to the spool. The workers go on
//! receiving during all of it. A drain is the same with workers that have ended.
//!
//! Intervals that the disk refuses wait in memory (`INTERVALS_WAITING_MAX`) and are committed in
//! order when it takes them again; what does not fit is dropped, oldest first, and counted.

mod grid;
/// What other threads ask of it.
pub mod request;
/// Other settings for a coordinator that runs.
pub mod reload;
mod side_books;
mod socket_books;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use crossbeam_utils::sync::Parker;
use floe_core::config::settings::Settings;
use floe_core::interval::{BookEntries, Interval};
use floe_core::limits::{INTERVALS_WAITING_BYTES_MAX, INTERVALS_WAITING_MAX};
use floe_core::row::Rows;
use floe_core::shard::ShardReader;
use floe_storage::{Retired, Spool, SpoolError};
use tracing::{debug, error, info, warn};

use self::grid::{Grid, Tick};
use self::request::Request;
pub use self::side_books::SideBooks;
pub use self::socket_books::SocketBook;
use crate::clock::{monotonic_ns, wall_ms};
use crate::export::accounts::Reading;
use crate::export::console::Flush;
use crate::export::registry::AccountRegistry;
use crate::ingest::DatagramSink;
use crate::ingest::intake::Intake;
use crate::ingest::stream::acceptor::AcceptorCounts;
use crate::ingest::worker::WorkerSignals;

/// Longest sleep between two looks at the clock, ms: a step of the wall clock is seen within it.
const SLEEP_MS_MAX: u64 = 1_000;

/// Longest sleep between two looks at the acknowledgements; workers wake the coordinator earlier.
const ACKNOWLEDGE_LOOK: Duration = Duration::from_millis(1);

/// A flip that takes longer than this is said, ns.
const FLIP_NS_LATE: u64 = 1_000_000_000;

/// A worker as the coordinator sees it.
#[derive(Debug)]
pub struct WorkerHandle {
    /// Wakes and stops it.
    pub signals: Arc<WorkerSignals>,
    /// Its thread, which gives the shard back when it ends.
    pub thread: JoinHandle<Intake>,
}

/// A worker, or what is left of one.
#[derive(Debug)]
struct Worker {
    signals: Arc<WorkerSignals>,
    thread: Option<JoinHandle<Intake>>,
    /// The shard of a worker that has ended.
    intake: Option<Intake>,
}

impl Worker {
    fn new(handle: WorkerHandle) -> Self {
        Self { signals: handle.signals, thread: Some(handle.thread), intake: None }
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits for the worker's end and takes its shard.
    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic aborts the process, so a thread that ended has given its shard back.
            self.intake = thread.join().ok();
        }
    }

    /// Answers a flip for a worker that has ended: nobody else would.
    fn answer(&mut self) {
        if let Some(intake) = &mut self.intake {
            intake.begin_batch(monotonic_ns());
        }
    }
}

/// What the coordinator works with.
#[derive(Debug)]
pub struct Parts {
    /// The settings.
    pub settings: Settings,
    /// The workers' shards, in order of their indexes.
    pub readers: Vec<ShardReader>,
    /// The open interval.
    pub interval: Interval,
    /// Where segments go.
    pub spool: Spool,
    /// The sockets whose drops are entered into the books.
    pub sockets: Vec<SocketBook>,
    /// Woken by a worker that has flipped.
    pub parker: Parker,
    /// What the acceptor of streams counts, where there is one.
    pub acceptor: Option<Arc<AcceptorCounts>>,
    /// The repeater's books, and where the console backend is left flushes.
    pub side: SideBooks,
    /// What each backend has had, for what expires before it is delivered.
    pub accounts: Arc<AccountRegistry>,
}

/// What the coordinator itself counts; differences per interval become books.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    segments_spooled: u64,
    rows_spooled: u64,
    rows_dropped: u64,
    spool_failures: u64,
    ticks_merged: u64,
    clock_steps: u64,
    reloads_applied: u64,
    reloads_refused: u64,
}

/// The coordinator; [`Coordinator::run`] is its thread.
#[derive(Debug)]
pub struct Coordinator {
    parts: Parts,
    workers: Vec<Worker>,
    grid: Grid,
    /// Intervals the disk has not taken yet, oldest first.
    waiting: VecDeque<Vec<Rows>>,
    counts: Counts,
    is_refused: bool,
    pages_unbalanced: u64,
    /// The backends' accounts as they were at the last tick.
    account_bases: BTreeMap<String, Reading>,
    /// The acceptor's counts as they were at the last tick.
    acceptor_bases: [u64; 3],
    /// The side paths' counts as they were at the last tick.
    side_bases: BTreeMap<String, u64>,
}

impl Coordinator {
    /// A coordinator of `workers`, index = worker index, whose first tick comes after everything
    /// the spool has seen.
    #[must_use]
    pub fn new(parts: Parts, workers: Vec<WorkerHandle>) -> Self {
        let interval_ms = parts.settings.flush_interval_ms;
        let grid = Grid::new(interval_ms, parts.spool.newest_timestamp_s(), wall_ms());
        Self {
            parts,
            workers: workers.into_iter().map(Worker::new).collect(),
            grid,
            waiting: VecDeque::new(),
            counts: Counts::default(),
            is_refused: false,
            pages_unbalanced: 0,
            account_bases: BTreeMap::new(),
            acceptor_bases: [0; 3],
            side_bases: BTreeMap::new(),
        }
    }

    /// Works until it is asked to stop, or nobody is left to ask; then drains: the workers empty
    /// their sockets and end, the open interval is closed and spooled.
    pub fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let wait_ms = self.grid.wait_ms(wall_ms()).min(SLEEP_MS_MAX);
            match requests.recv_timeout(Duration::from_millis(wait_ms)) {
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return self.drain(),
                Ok(Request::Reload(reload, reply)) => {
                    self.counts.reloads_applied += 1;
                    // Whoever asked may have ended meanwhile.
                    drop(reply.send(self.reload(*reload)));
                }
                Ok(Request::CountRefusedReload) => self.counts.reloads_refused += 1,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.look_at_clock();
        }
    }

    fn look_at_clock(&mut self) {
        let now_ms = wall_ms();
        if self.grid.is_step_back(now_ms) {
            warn!("clock set back: intervals follow it, and timestamps are used again");
            self.counts.clock_steps += 1;
            self.grid.follow(now_ms);
        }
        if let Some(tick) = self.grid.take_due(now_ms) {
            self.flip();
            self.close(tick);
        }
    }

    /// Asks every worker for a flip and adds what they seal to the interval.
    fn flip(&mut self) {
        for (reader, worker) in self.parts.readers.iter_mut().zip(&self.workers) {
            reader.request();
            worker.signals.wake();
        }
        self.answer_for_ended();
        let asked_ns = monotonic_ns();
        let mut is_late = false;
        while !self.parts.readers.iter_mut().all(ShardReader::is_acknowledged) {
            self.parts.parker.park_timeout(ACKNOWLEDGE_LOOK);
            self.answer_for_ended();
            if !is_late && FLIP_NS_LATE < monotonic_ns() - asked_ns {
                is_late = true;
                warn!("flip late: a worker has not come to the head of a batch for a second");
            }
        }
        self.parts.interval.collect(&mut self.parts.readers);
    }

    /// A worker that gave up its receiver has ended: its shard still holds what came before.
    fn answer_for_ended(&mut self) {
        for (index, worker) in self.workers.iter_mut().enumerate() {
            if worker.has_ended() {
                error!(worker = index, "worker ended: its sockets are not read any more");
                worker.join();
            }
            worker.answer();
        }
    }

    fn close(&mut self, tick: Tick) {
        let started_ns = monotonic_ns();
        self.counts.ticks_merged += tick.merged;
        self.tell_rejects();
        let books = self.books();
        let timers = self.parts.side.console.is_some().then(|| self.parts.interval.sorted_timers());
        let mut parts = self.parts.interval.close(tick.timestamp_s, &books);
        if let (Some(console), Some(timers)) = (&self.parts.side.console, timers) {
            let settings = &self.parts.settings;
            let thresholds =
                settings.thresholds.iter().map(|threshold| threshold.percent).collect();
            console.put(Flush { parts: parts.clone(), timers, thresholds });
        }
        let elapsed_ms = (monotonic_ns() - started_ns) / 1_000_000;
        for part in &mut parts {
            part.processing_time_ms = elapsed_ms;
        }
        let unbalanced = self.parts.interval.pages_unbalanced();
        if self.pages_unbalanced < unbalanced {
            self.pages_unbalanced = unbalanced;
            error!(pages = unbalanced, "books not balanced: this is a bug");
        }
        self.waiting.push_back(parts);
        self.spool_waiting();
        self.retain();
    }

    /// One line per interval, however many lines were bad: a datagram holds up to 65,507 of them.
    fn tell_rejects(&self) {
        let page = self.parts.interval.page();
        if let Some(example) = page.first_reject {
            let (reason, line) = (example.reason().word(), example.escaped());
            info!(values = page.values_rejected_total(), reason, line, "values rejected");
        }
    }

    /// The coordinator's own entries of the books: what happened since the last tick.
    fn books(&mut self) -> BookEntries {
        let counts = std::mem::take(&mut self.counts);
        let mut entries: Vec<(String, f64)> = Vec::new();
        let mut enter = |name: String, count: u64| {
            #[expect(clippy::cast_precision_loss, reason = "points are doubles; exact to 2^53")]
            entries.push((name, count as f64));
        };
        let mut kernel_drops = 0;
        for socket in &mut self.parts.sockets {
            let drops = socket.take_drops();
            kernel_drops += drops;
            enter(format!("kernel_drops.{}", socket.name()), drops);
        }
        enter("datagrams_dropped.kernel".to_owned(), kernel_drops);
        if let Some(acceptor) = &self.parts.acceptor {
            for ((name, count), base) in acceptor.read().into_iter().zip(&mut self.acceptor_bases) {
                enter(name.to_owned(), count - std::mem::replace(base, count));
            }
        }
        for backend in &self.parts.settings.backends {
            enter(format!("backend.{}.segments_spooled", backend.name), counts.segments_spooled);
        }
        for (name, count) in self.parts.side.read() {
            let base = self.side_bases.insert(name.clone(), count).unwrap_or_default();
            enter(name, count.saturating_sub(base));
        }
        for (name, count) in self.parts.accounts.differences(&mut self.account_bases) {
            enter(name, count);
        }
        enter("rows_spooled".to_owned(), counts.rows_spooled);
        enter("rows_dropped.spool_refused".to_owned(), counts.rows_dropped);
        enter("spool_failures".to_owned(), counts.spool_failures);
        enter("ticks_merged".to_owned(), counts.ticks_merged);
        enter("clock_steps".to_owned(), counts.clock_steps);
        enter("reloads_applied".to_owned(), counts.reloads_applied);
        enter("reloads_refused".to_owned(), counts.reloads_refused);
        BookEntries(entries)
    }

    /// Commits what waits, oldest first, as far as the disk takes it.
    fn spool_waiting(&mut self) {
        while let Some(parts) = self.waiting.front() {
            match self.parts.spool.commit(parts) {
                Ok(committed) => {
                    debug!(
                        timestamp_s = parts.first().map_or(0, |part| part.timestamp_s),
                        rows = committed.rows,
                        bytes = committed.bytes,
                        "interval spooled"
                    );
                    self.counts.segments_spooled += committed.files;
                    self.counts.rows_spooled += committed.rows;
                    self.waiting.pop_front();
                    if std::mem::take(&mut self.is_refused) {
                        info!("spool writable again");
                    }
                }
                Err(error) => {
                    self.counts.spool_failures += 1;
                    if error.is_full() && self.make_room() {
                        continue;
                    }
                    if matches!(error, SpoolError::Encode { .. }) {
                        // It would be refused for ever, and all that comes behind it with it.
                        error!(%error, "interval refused for good: this is a bug");
                        self.drop_oldest();
                        continue;
                    }
                    if !std::mem::replace(&mut self.is_refused, true) {
                        error!(%error, "segment refused: intervals wait in memory");
                    }
                    break;
                }
            }
        }
        while self.is_memory_used_up() {
            self.drop_oldest();
        }
    }

    /// On a full disk the oldest segments give way with all their links: what a backend has not had
    /// for hours is worth less than what it has not had for seconds. `false` if nothing went.
    fn make_room(&mut self) -> bool {
        let bytes = self.waiting.front().map_or(0, |parts| interval_bytes(parts));
        let retired = self.parts.spool.relieve(bytes as u64);
        self.enter_retired(&retired);
        0 < retired.segment_count()
    }

    /// Whether more waits than may: by number, or by bytes unless the newest is alone.
    fn is_memory_used_up(&self) -> bool {
        let bytes: usize = self.waiting.iter().map(|parts| interval_bytes(parts)).sum();
        INTERVALS_WAITING_MAX < self.waiting.len()
            || (1 < self.waiting.len() && INTERVALS_WAITING_BYTES_MAX < bytes)
    }

    fn drop_oldest(&mut self) {
        let dropped = self.waiting.pop_front().unwrap_or_default();
        let rows = dropped.iter().map(|part| part.row_count() as u64).sum::<u64>();
        self.counts.rows_dropped += rows;
        error!(rows, "interval dropped: the spool refuses it and memory is bounded");
    }

    fn retain(&mut self) {
        let retired = self.parts.spool.retain(wall_ms() / 1_000);
        self.enter_retired(&retired);
    }

    fn enter_retired(&self, retired: &Retired) {
        for (backend, expired) in &retired.backends {
            warn!(backend, segments = expired.segments, rows = expired.rows, "backlog expired");
            self.parts.accounts.add_expired(backend, expired.segments, expired.rows);
        }
        if let Some(error) = &retired.error {
            warn!(%error, "retention incomplete");
        }
    }

    /// The orderly end: sockets emptied, the open interval spooled under its grid end.
    fn drain(mut self) {
        for worker in &self.workers {
            worker.signals.stop();
        }
        self.workers.iter_mut().for_each(Worker::join);
        for (reader, worker) in self.parts.readers.iter_mut().zip(&mut self.workers) {
            reader.request();
            worker.answer();
        }
        self.parts.interval.collect(&mut self.parts.readers);
        let tick = self.grid.take_partial(wall_ms());
        self.close(tick);
        match self.waiting.len() {
            0 => info!(timestamp_s = tick.timestamp_s, "open interval spooled"),
            intervals => error!(intervals, "intervals lost: the spool refused them until the end"),
        }
    }
}

fn interval_bytes(parts: &[Rows]) -> usize {
    parts.iter().map(Rows::column_bytes).sum()
}

#[cfg(test)]
mod tests;
