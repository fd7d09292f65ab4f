//! The coordinator: flips the shards, closes intervals, spools them.
//!
//! One thread, between the workers and the disk. It sleeps until the next tick of its grid, asks
//! every worker for a flip, waits for the acknowledgements, adds the sealed generations to the
//! interval, and at a tick closes it into rows and commits them to the spool. The workers go on
//! receiving during all of it. A drain is the same with workers that have ended.
//!
//! Between two ticks it answers what other threads ask (`answers`). Intervals that the disk refuses
//! wait in memory (`waiting`); what it counts besides the workers is in `own_books`.

mod answers;
mod clock_steps;
mod grid;
/// The open interval for a successor.
pub mod hand_over;
mod own_books;
/// What other threads ask of it.
pub mod request;
/// Other settings for a coordinator that runs.
pub mod reload;
mod side_books;
mod socket_books;
mod totals;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use crossbeam_utils::sync::Parker;
use floe_core::books::{Cause, Page};
use floe_core::config::settings::Settings;
use floe_core::interval::{BookEntries, Interval};
use floe_core::shard::ShardReader;
use floe_storage::Spool;
use tracing::{error, info, warn};

use self::answers::Then;
use self::clock_steps::ClockSteps;
use self::grid::{Grid, Tick};
use self::hand_over::HandedBooks;
use self::own_books::{Counts, KERNEL_DROPS, SpoolCause, Spooled, Told};
use self::request::{REQUESTS_MAX, Request};
pub use self::side_books::{ReplacedBooks, SideBooks};
pub use self::socket_books::SocketBook;
use self::totals::Carried;
use self::waiting::Retry;
use crate::backlog::Backlog;
use crate::clock::{self, monotonic_ns, wall_ms};
use crate::courtesy::Flushing;
use crate::export::console::Flush;
use crate::export::registry::AccountRegistry;
use crate::host::HostBooks;
use crate::ingest::DatagramSink;
use crate::ingest::intake::Intake;
use crate::ingest::stream::acceptor::AcceptorCounts;
use crate::ingest::worker::WorkerSignals;
use crate::service_manager::Watchdog;

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
    /// Where closed intervals wait for it, and exporters find them meanwhile.
    pub backlog: Arc<Backlog>,
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
    /// Rows that the start has put away as damaged, by backend.
    pub quarantined: Vec<(String, u64)>,
    /// What the daemon before us has handed over beside the interval.
    pub handed: Option<HandedBooks>,
    /// Set at the first tick: the console shows more settings from then on.
    pub has_flushed: Arc<AtomicBool>,
}

/// The coordinator; [`Coordinator::run`] is its thread.
#[derive(Debug)]
pub struct Coordinator {
    parts: Parts,
    workers: Vec<Worker>,
    grid: Grid,
    clock_steps: ClockSteps,
    /// When the disk that refuses is tried again.
    retry: Retry,
    counts: Counts,
    /// What each backend's queue has got, of all backends that there were.
    spooled: BTreeMap<String, Spooled>,
    host: HostBooks,
    /// What the books of the spool begin with.
    carried: Carried,
    /// Why the disk took no segment when it last did not.
    refusal: SpoolCause,
    /// What the ticks have written of everything that only grows.
    told: Told,
    /// What the daemon before us had not told at a tick yet.
    handed_entries: Vec<(String, u64)>,
    /// The pages of all intervals that are closed.
    closed: Page,
    /// When the newest input came, wall clock, ms; `None` = nothing has come yet.
    newest_input_ms: Option<u64>,
    is_refused: bool,
    pages_unbalanced: u64,
    /// The service manager wants to hear that this thread is alive: told at each look at the clock, as
    /// often as it asks for.
    watchdog: Watchdog,
}

impl Coordinator {
    /// A coordinator of `workers`, index = worker index, whose first tick comes after everything
    /// the spool has seen.
    #[must_use]
    pub fn new(mut parts: Parts, workers: Vec<WorkerHandle>) -> Self {
        let interval_ms = parts.settings.flush_interval_ms;
        let now = clock::now();
        let grid = Grid::new(interval_ms, parts.spool.last_timestamp_s(), now.wall_ms);
        let quarantined = std::mem::take(&mut parts.quarantined);
        let handed = parts.handed.take();
        let mut coordinator = Self {
            parts,
            workers: workers.into_iter().map(Worker::new).collect(),
            grid,
            clock_steps: ClockSteps::new(now),
            retry: Retry::new(),
            counts: Counts::default(),
            spooled: BTreeMap::new(),
            host: HostBooks::new(monotonic_ns()),
            carried: Carried::default(),
            refusal: SpoolCause::default(),
            told: Told::default(),
            handed_entries: Vec::new(),
            closed: Page::default(),
            newest_input_ms: None,
            is_refused: false,
            pages_unbalanced: 0,
            watchdog: Watchdog::of_environment(),
        };
        if coordinator.grid.has_followed_at_start() {
            warn!("spool ahead of the clock: intervals follow it, and timestamps are used again");
            coordinator.counts.clock_steps += 1;
            coordinator.counts.clock_steps_followed += 1;
        }
        coordinator.take_up_books(&quarantined, handed);
        coordinator
    }

    /// Works until it is asked to stop, or nobody is left to ask; then drains: the workers empty
    /// their sockets and end, the open interval is closed and spooled.
    pub fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let wait_ms = self.grid.wait_ms(wall_ms()).min(SLEEP_MS_MAX);
            let wait_ms = wait_ms.min(self.watchdog.wait_ms()).min(self.retry.wait_ms());
            let first = match requests.recv_timeout(Duration::from_millis(wait_ms)) {
                Err(RecvTimeoutError::Disconnected) => return self.drain(),
                Err(RecvTimeoutError::Timeout) => None,
                Ok(request) => Some(request),
            };
            // A tick that is due goes first, so that no number of requests holds it up.
            self.look_at_clock();
            if let Some(first) = first {
                let waiting = requests.try_iter().take(REQUESTS_MAX);
                let all: Vec<Request> = std::iter::once(first).chain(waiting).collect();
                match self.answer(all) {
                    Then::GoOn => {}
                    Then::Drain => return self.drain(),
                    Then::End => return,
                }
            }
        }
    }

    fn look_at_clock(&mut self) {
        self.watchdog.tell_alive(monotonic_ns());
        let now = clock::now();
        if let Some(step_ms) = self.clock_steps.look(now) {
            warn!(step_ms, "clock set");
            self.counts.clock_steps += 1;
        }
        if self.grid.is_step_back(now) {
            warn!("clock set back: intervals follow it, and timestamps are used again");
            self.counts.clock_steps_followed += 1;
            self.grid.follow(now.wall_ms);
        }
        if let Some(tick) = self.grid.take_due(now.wall_ms) {
            let _flushing = Flushing::begin(self.parts.settings.flush_interval_ms);
            self.flip();
            self.close(tick, false);
        } else if self.retry.is_due() {
            self.spool_waiting(false);
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
        let newest_ns = self.parts.interval.page().newest_input_ns;
        if newest_ns != 0 {
            let ago_ms = monotonic_ns().saturating_sub(newest_ns) / 1_000_000;
            self.newest_input_ms = Some(wall_ms().saturating_sub(ago_ms));
        }
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

    /// Closes the interval and spools it; `is_last`: nothing comes behind it.
    fn close(&mut self, tick: Tick, is_last: bool) {
        let started_ns = monotonic_ns();
        self.counts.ticks_merged += tick.merged;
        self.tell_rejects();
        let books = self.books();
        self.tell_losses(&books);
        let timers = self.parts.side.console.is_some().then(|| self.parts.interval.sorted_timers());
        let values = self.parts.interval.page().values_recorded;
        self.closed.add(self.parts.interval.page());
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
            self.counts.accounting_broken += unbalanced - self.pages_unbalanced;
            self.pages_unbalanced = unbalanced;
            error!(pages = unbalanced, "books not balanced: this is a bug");
        }
        self.parts.has_flushed.store(true, Ordering::Relaxed);
        self.counts.rows_snapshotted +=
            parts.iter().map(|part| part.row_count() as u64).sum::<u64>();
        self.parts.backlog.push(parts, values);
        self.spool_waiting(is_last);
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

    /// One line per interval for each cause by which something was lost, or went to another name.
    fn tell_losses(&self, books: &BookEntries) {
        let count_of = |name: &str| books.0.iter().find(|(known, _)| known == name);
        if let Some((_, datagrams)) = count_of("datagrams_dropped.kernel")
            && 0.0 < *datagrams
        {
            let by_socket = books.0.iter().filter(|(name, _)| name.starts_with(KERNEL_DROPS));
            let most = by_socket.max_by(|(_, one), (_, other)| one.total_cmp(other));
            let socket = most.map_or("", |(name, _)| &name[KERNEL_DROPS.len()..]);
            error!(
                datagrams,
                most_at = socket,
                "datagrams dropped by the kernel: a socket was full"
            );
        }
        let page = self.parts.interval.page();
        for (cause, values) in Cause::ALL.into_iter().zip(page.values_dropped) {
            if values != 0 {
                error!(values, cause = cause.word(), "values dropped");
            }
        }
        let (values, series, gauges) =
            (page.values_folded, page.series_folded, page.series_dropped);
        if gauges != 0 {
            error!(gauges, "gauges dropped: a budget of series is spent");
        }
        if values + series != 0 {
            warn!(values, series, "counted under __overflow__: a budget of series is spent");
        }
    }

    /// The orderly end: sockets emptied, the open interval spooled under its grid end.
    fn drain(mut self) {
        for worker in &self.workers {
            worker.signals.stop();
        }
        self.join_workers();
        self.collect_last();
        self.close_sockets();
        self.spool_open_interval();
    }

    /// Waits for the end of the workers, who have been told.
    fn join_workers(&mut self) {
        self.workers.iter_mut().for_each(Worker::join);
    }

    /// Takes what workers that have ended had of the open interval.
    fn collect_last(&mut self) {
        for (reader, worker) in self.parts.readers.iter_mut().zip(&mut self.workers) {
            reader.request();
            worker.answer();
        }
        self.parts.interval.collect(&mut self.parts.readers);
    }

    /// Closes the sockets but for those that somebody else goes on with.
    fn close_sockets(&mut self) {
        // All first: sockets of one port take for one another.
        self.parts.sockets.iter().for_each(SocketBook::refuse);
        for socket in &mut self.parts.sockets {
            self.counts.datagrams_unread += socket.close();
        }
        if self.counts.datagrams_unread != 0 {
            let datagrams = self.counts.datagrams_unread;
            error!(datagrams, "datagrams left in the sockets: the drain was over");
        }
    }

    /// Closes the open interval before its time, and spools it.
    fn spool_open_interval(&mut self) {
        let tick = self.grid.take_partial(wall_ms());
        self.close(tick, true);
        match self.parts.backlog.len() {
            0 => info!(timestamp_s = tick.timestamp_s, "open interval spooled"),
            // What becomes of them is known when the exporters have ended.
            intervals => warn!(intervals, "open interval not spooled: delivered from memory"),
        }
    }
}

#[cfg(test)]
mod tests;
