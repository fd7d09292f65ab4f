//! The thread of one backend: takes segments from its queue until it is stopped.
//!
//! Order: the newest interval first, so that dashboards live; then the backlog at a pace, oldest or
//! newest first as is asked for. A segment is acknowledged, which removes it from the queue, when the peer has read all of
//! it; after any other end it is sent again on a new connection, bytes, timestamps and all. To a
//! backend without redelivery each is sent once at the most: it leaves the queue between the
//! connection and its first byte, and is counted by how that went.
//! Backends share nothing but the spool and the stop: one that hangs holds up no other.
//!
//! A peer that has never closed, and is silent after its kernel has taken everything, three times in a
//! row, is taken for one that never closes: the third segment (each time another one, where intervals
//! are shorter than the patience) is acknowledged *weakly*, and the next ones wait only briefly for a
//! close, until there is one. One that has closed before hangs when it is silent: it gets everything
//! again (docs/decisions/023-silence-of-a-peer.md). A reset is never taken for an acknowledgement: it
//! says that bytes were left unread.
//!
//! New segments are noticed by inotify, and by a look each second should a notification be missed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use floe_core::config::settings::{Acknowledgement, BackendSettings, BacklogOrder, Redelivery};
use floe_storage::{Queue, SegmentError, SegmentName};
use rustix::event::PollFlags;
use rustix::fs::inotify;

use super::accounts::{BackendAccounts, Count, Reading};
use super::connection::{Awaited, Connection, Delivery, Patience};
use super::delivery::{Attempt, Format, OwnPoints};
use super::error::ExportError;
use super::exporter::OwnBooks;
use super::pace::{Backoff, Pace};
use super::resolver::Resolver;
use super::source::{Buffers, Delivered, Leave, ReadError, Source};
use super::stop::{Stop, Waited};
use crate::backlog::is_held;
use crate::clock::{duration_ns, monotonic_ns, wall_ms};

/// Attempts that must end with a silent peer before a segment counts as weakly acknowledged.
const SILENT_ATTEMPTS_MAX: u32 = 3;

/// Attempts after which a segment of the backlog stands behind those with fewer: one that a peer
/// never takes must not keep the others back. Above [`SILENT_ATTEMPTS_MAX`], which comes first.
const ATTEMPTS_PER_TURN: u32 = 4;

const _: () = assert!(SILENT_ATTEMPTS_MAX < ATTEMPTS_PER_TURN);

/// One backend and what its thread knows.
#[derive(Debug)]
pub(crate) struct Backend {
    source: Source,
    notifications: Option<OwnedFd>,
    format: Format,
    acknowledgement: Acknowledgement,
    order: BacklogOrder,
    redelivery: Redelivery,
    resolver: Resolver,
    accounts: Arc<BackendAccounts>,
    stop: Arc<Stop>,
    patience: Patience,
    backoff: Backoff,
    pace: Pace,
    /// Not before this, ns: the back-off after a failure.
    retry_ns: u64,
    /// The newest commit ever listed: its segments are live, whatever the clock did meanwhile.
    newest_commit: Commit,
    /// The same of intervals in memory, which are newer than all on the disk.
    newest_held: Commit,
    /// Whether there are any.
    has_held: bool,
    /// Payload bytes of the live interval so far.
    live_bytes: u64,
    attempts: BTreeMap<SegmentName, Attempts>,
    /// What lay in the queue at the start: an earlier run may have sent it, with points of its own.
    found: BTreeSet<SegmentName>,
    /// Files that stay but cannot be sent: other versions, or a quarantine that failed.
    passed_over: BTreeSet<SegmentName>,
    /// Attempts in a row that ended with a silent peer.
    silent_in_a_row: u32,
    is_close_expected: bool,
    /// It has closed after us at least once, so that its silence is no habit.
    has_closed: bool,
    is_weakness_told: bool,
    is_failing: bool,
    /// Whether the disk keeps what was delivered.
    is_removal_failing: bool,
    is_stop_seen: bool,
    /// The accounts as they were when points were last made of them.
    told: Reading,
}

/// What became of one segment so far.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    sent: u32,
    /// The same at every attempt, or one slot of Graphite would get two values.
    own: Option<OwnPoints>,
}

/// Run and number of a commit; the newest is the greatest.
type Commit = (u64, u64);

fn commit_of(name: &SegmentName) -> Commit {
    (name.run_id(), name.sequence())
}

/// What to do next.
enum Step {
    Send(SegmentName),
    /// Nothing before this time, ns; there is more to send then.
    WaitUntil(u64),
    /// Nothing to send.
    Idle,
}

impl Backend {
    pub(crate) fn new(
        source: Source,
        settings: &BackendSettings,
        own_books: OwnBooks,
        accounts: Arc<BackendAccounts>,
        stop: Arc<Stop>,
        patience: Patience,
    ) -> Self {
        let notifications = watch(source.queue(), settings.redelivery)
            .inspect_err(|error| {
                tracing::warn!(backend = settings.name, %error, "inotify refused, scanning only");
            })
            .ok();
        let seed = settings
            .name
            .bytes()
            .fold(monotonic_ns(), |seed, byte| seed.rotate_left(8) ^ u64::from(byte));
        let told = accounts.read();
        let mut found = Vec::new();
        // A queue that cannot be listed now is listed again, and said, by the thread.
        source.queue().list(&mut found).ok();
        Self {
            source,
            notifications,
            format: Format::new(settings, own_books),
            acknowledgement: settings.acknowledgement,
            order: settings.order,
            redelivery: settings.redelivery,
            resolver: Resolver::new(&settings.address),
            accounts,
            stop,
            patience,
            backoff: Backoff::new(
                duration_ns(patience.backoff_first),
                duration_ns(patience.backoff_last),
                seed,
            ),
            pace: Pace::new(),
            retry_ns: 0,
            newest_commit: Commit::default(),
            newest_held: Commit::default(),
            has_held: false,
            live_bytes: 0,
            attempts: BTreeMap::new(),
            found: found.into_iter().collect(),
            passed_over: BTreeSet::new(),
            silent_in_a_row: 0,
            is_close_expected: true,
            has_closed: false,
            is_weakness_told: false,
            is_failing: false,
            is_removal_failing: false,
            is_stop_seen: false,
            told,
        }
    }

    /// Works until the stop: then until the queue is empty or the stop's deadline has come.
    pub(crate) fn run(mut self) {
        let mut buffers = Buffers::default();
        let mut names = Vec::new();
        loop {
            self.remove_delivered();
            let step = match self.source.list(&mut buffers, &mut names) {
                Ok(()) => self.next_step(&names),
                Err(source) => {
                    let directory = self.source.queue().directory();
                    self.fail(&self.spool_error("list", directory, source));
                    Step::WaitUntil(self.retry_ns)
                }
            };
            let is_stopping = self.stop.is_requested();
            if self.stop.is_over() {
                return;
            }
            match step {
                Step::Send(name) => {
                    self.send(&mut buffers, name);
                    self.source.let_go();
                }
                Step::Idle if is_stopping => return,
                Step::Idle => self.wait(self.source.look_ns()),
                Step::WaitUntil(until_ns) => self.wait(until_ns),
            }
        }
    }

    /// Which segment is due; `names` is in queue order.
    fn next_step(&mut self, names: &[SegmentName]) -> Step {
        if self.stop.is_requested() && !self.is_stop_seen {
            // The last chance of what is queued: a long delay would waste it.
            self.is_stop_seen = true;
            self.backoff.reset();
            self.retry_ns = 0;
        }
        self.passed_over.retain(|name| names.binary_search(name).is_ok());
        self.follow_names(names);
        self.found.retain(|name| names.binary_search(name).is_ok());
        let sendable = || names.iter().filter(|name| !self.passed_over.contains(name));
        if sendable().next().is_none() {
            return Step::Idle;
        }
        let newest = sendable().filter(|name| !is_held(name)).map(commit_of).max();
        let held = sendable().filter(|name| is_held(name)).map(commit_of).max();
        self.has_held = held.is_some();
        if Some(self.newest_commit) < newest || Some(self.newest_held) < held {
            self.newest_commit = self.newest_commit.max(newest.unwrap_or_default());
            self.newest_held = self.newest_held.max(held.unwrap_or_default());
            self.live_bytes = 0;
        }
        let now_ns = monotonic_ns();
        if now_ns < self.retry_ns {
            return Step::WaitUntil(self.retry_ns);
        }
        if let Some(live) = sendable().find(|name| self.is_live(name)) {
            return Step::Send(*live);
        }
        let ready_ns = self.pace.ready_ns();
        if now_ns < ready_ns && !self.is_stop_seen {
            return Step::WaitUntil(ready_ns);
        }
        let turn = |name: &SegmentName| {
            let sent = self.attempts.get(name).map_or(0, |attempts| attempts.sent);
            sent / ATTEMPTS_PER_TURN
        };
        let next = match self.order {
            BacklogOrder::OldestFirst => sendable().min_by_key(|name| (turn(name), **name)),
            BacklogOrder::NewestFirst => {
                sendable().min_by_key(|name| (turn(name), Reverse(**name)))
            }
        };
        next.map_or(Step::Idle, |name| Step::Send(*name))
    }

    fn is_live(&self, name: &SegmentName) -> bool {
        if is_held(name) {
            commit_of(name) == self.newest_held
        } else {
            commit_of(name) == self.newest_commit && !self.has_held
        }
    }

    /// Forgets what has left. What was tried from memory and has reached the disk since, or the other
    /// way round, is the same segment by another name: its own points must stay what they are.
    fn follow_names(&mut self, names: &[SegmentName]) {
        let is_left = |name: &&SegmentName| names.binary_search(name).is_err();
        let left: Vec<SegmentName> = self.attempts.keys().filter(is_left).copied().collect();
        for before in left {
            if let (Some(attempts), Some(name)) =
                (self.attempts.remove(&before), self.source.present_name(before))
            {
                self.attempts.entry(name).or_insert(attempts);
            }
        }
    }

    /// A segment whose commit is under way may be known by its name in memory.
    fn follow_commit(&mut self, name: SegmentName) {
        if let Some(before) = self.source.present_name(name)
            && let Some(attempts) = self.attempts.remove(&before)
        {
            self.attempts.entry(name).or_insert(attempts);
        }
    }

    /// One attempt at `name`, with all consequences.
    fn send(&mut self, buffers: &mut Buffers, name: SegmentName) {
        let segment = match self.source.read(buffers, name) {
            Ok(segment) => segment,
            Err(ReadError::Memory(error)) => {
                tracing::debug!(segment = %name, %error, "interval in memory passed over");
                self.passed_over.insert(name);
                return;
            }
            Err(ReadError::File(error)) => return self.pass_over(name, error),
        };
        let stop = Arc::clone(&self.stop);
        let start_ns = monotonic_ns();
        let rows = u64::from(segment.header.row_count);
        let connection = match self.connect(&stop) {
            Ok(connection) => connection,
            Err(error) => return self.fail(&error),
        };
        if self.redelivery == Redelivery::Never {
            match self.let_go(name, rows) {
                Ok(true) => {}
                // Expired meanwhile, or being committed.
                Ok(false) => return,
                Err(error) => return self.fail(&error),
            }
        }
        let awaited = self.begin_attempt(name, rows);
        let own = self.attempts.get_mut(&name).and_then(|attempts| attempts.own.as_mut());
        let attempt = self.format.deliver(segment.rows, own, connection, awaited);
        let interval_ms = segment.header.flush_interval_ms;
        let took_ms = (monotonic_ns() - start_ns) / 1_000_000;
        let bytes = attempt.bytes;
        if let Err(error) = self.judge(name, rows, attempt) {
            return self.fail(&error);
        }
        self.succeed();
        self.accounts.set_delivered(wall_ms() / 1_000, took_ms, bytes);
        if self.is_live(&name) {
            self.live_bytes += bytes;
            self.pace.observe_live(self.live_bytes, interval_ms);
        } else {
            self.pace.spend(bytes, monotonic_ns());
        }
    }

    /// What to do about a file that yields no rows.
    fn pass_over(&mut self, name: SegmentName, error: SegmentError) {
        if error.is_vanished() {
            return;
        }
        if error.is_unknown() {
            tracing::warn!(segment = %name, %error, "segment of another version passed over");
            self.passed_over.insert(name);
        } else if error.is_damage() {
            self.quarantine(name, &error);
        } else {
            self.fail(&ExportError::Read { segment: name.to_string(), source: error });
        }
    }

    fn connect<'s>(&mut self, stop: &'s Stop) -> Result<Connection<'s>, ExportError> {
        let addresses = self.resolver.addresses(self.patience.connect, stop)?;
        Connection::open(addresses, self.patience, stop)
    }

    /// Takes a segment that is sent once at the most out of the queue; whether it may be sent.
    fn let_go(&self, name: SegmentName, rows: u64) -> Result<bool, ExportError> {
        let result = self.accounts.settle(|| {
            let left = self.source.take_out(name)?;
            let is_ours = matches!(left, Leave::Removed | Leave::FromMemory);
            self.accounts.begin_flight(if is_ours { rows } else { 0 });
            let from_memory = if left == Leave::FromMemory { rows } else { 0 };
            self.accounts.add(Count::RowsFromMemory, from_memory);
            Ok(is_ours)
        });
        result.map_err(|(name, source)| {
            self.spool_error("remove", &self.source.queue().path(&name), source)
        })
    }

    /// Takes note of an attempt that is about to send its first byte, and says what it waits for.
    fn begin_attempt(&mut self, name: SegmentName, rows: u64) -> Awaited {
        self.follow_commit(name);
        let attempts = self.attempts.entry(name).or_default();
        if attempts.sent != 0 {
            self.accounts.add(Count::SegmentsResent, 1);
            self.accounts.add(Count::RowsResent, rows);
        } else if name.part() == 0 && !self.found.contains(&name) {
            let now = self.accounts.read();
            attempts.own = Some(OwnPoints {
                link: self.accounts.link(),
                books: (now, std::mem::replace(&mut self.told, now)),
                formatting_ms: None,
            });
        }
        attempts.sent += 1;
        match self.acknowledgement {
            Acknowledgement::Written => Awaited::Kernel,
            Acknowledgement::Fin if self.is_close_expected => Awaited::Close,
            Acknowledgement::Fin => Awaited::BriefClose,
        }
    }

    /// Acknowledges what was delivered, weakly where that is all there is to have.
    ///
    /// # Errors
    /// Why the segment has to be sent again.
    fn judge(&mut self, name: SegmentName, rows: u64, attempt: Attempt) -> Result<(), ExportError> {
        let Attempt { result, tally, bytes } = attempt;
        let is_weak = match result {
            Ok(delivery) => {
                self.is_close_expected |= delivery == Delivery::Closed;
                self.has_closed |= delivery == Delivery::Closed;
                self.silent_in_a_row = 0;
                false
            }
            Err(ExportError::NotClosed { .. }) if self.is_silence_enough() => true,
            Err(error) if self.redelivery == Redelivery::Never => {
                self.accounts.settle(|| {
                    self.accounts.end_flight(rows);
                    self.accounts.add(Count::SegmentsUnconfirmed, 1);
                    self.accounts.add(Count::RowsUnconfirmed, rows);
                });
                return Err(error);
            }
            Err(error) => {
                if !matches!(error, ExportError::NotClosed { .. }) {
                    self.silent_in_a_row = 0;
                }
                return Err(error);
            }
        };
        let delivered = Delivered { rows, bytes, tally, is_weak };
        let left = self.accounts.settle(|| {
            let left = if self.redelivery == Redelivery::Never {
                self.accounts.end_flight(rows);
                Leave::Removed
            } else {
                self.source.acknowledge(name)?
            };
            self.accounts.add_left(left, &delivered);
            Ok(left)
        });
        match left {
            // If it expired meanwhile, whoever removed it has it in the books as that.
            Ok(Leave::Gone) => {}
            Ok(_) if is_weak => self.tell_weakness(),
            Ok(_) => {}
            Err((name, error)) => self.keep_delivered(name, delivered, &error),
        }
        Ok(())
    }

    /// What was delivered stays where it is: the disk takes no change. It is not sent again.
    fn keep_delivered(&mut self, name: SegmentName, delivered: Delivered, error: &io::Error) {
        self.source.keep_delivered(name, delivered);
        if !std::mem::replace(&mut self.is_removal_failing, true) {
            let backend = self.accounts.name();
            tracing::warn!(backend, segment = %name, %error, "delivered, but cannot be removed");
        }
    }

    /// Removes what was delivered while the disk took no change.
    fn remove_delivered(&mut self) {
        if !self.is_removal_failing {
            return;
        }
        let mut remove = || {
            let (left, delivered) = self.source.remove_delivered()?;
            self.accounts.add_left(left, &delivered);
            Some(())
        };
        while self.accounts.settle(&mut remove).is_some() {}
        self.is_removal_failing = self.source.has_delivered();
    }

    /// Counts an attempt that ended in silence, and says whether it was one too many. Where there is
    /// only one attempt, its silence is all that there is to have.
    fn is_silence_enough(&mut self) -> bool {
        if self.redelivery == Redelivery::Never {
            return true;
        }
        self.silent_in_a_row += 1;
        !self.is_close_expected || (!self.has_closed && SILENT_ATTEMPTS_MAX <= self.silent_in_a_row)
    }

    fn tell_weakness(&mut self) {
        self.is_close_expected = false;
        if !std::mem::replace(&mut self.is_weakness_told, true) {
            tracing::warn!(
                backend = self.accounts.name(),
                "peer never closes, segments acknowledged weakly; if it is a relay that keeps \
                 connections open, set ack = \"written\""
            );
        }
    }

    fn quarantine(&mut self, name: SegmentName, error: &SegmentError) {
        let backend = self.accounts.name();
        let result = self.accounts.settle(|| {
            let put_away = self.source.quarantine(name)?;
            self.accounts.add(Count::SegmentsQuarantined, 1);
            self.accounts.add(Count::RowsQuarantined, put_away.rows.unwrap_or(0));
            self.accounts.add(Count::SegmentsUnreadable, u64::from(put_away.rows.is_none()));
            Ok::<_, io::Error>(put_away)
        });
        match result {
            Ok(put_away) => {
                let (path, rows) = (put_away.path.display(), put_away.rows);
                tracing::error!(backend, %error, %path, rows, "damaged segment quarantined");
            }
            Err(cause) => {
                tracing::error!(backend, %name, %error, %cause, "damaged segment passed over");
                self.passed_over.insert(name);
            }
        }
    }

    fn succeed(&mut self) {
        self.backoff.reset();
        if std::mem::replace(&mut self.is_failing, false) {
            tracing::info!(backend = self.accounts.name(), "backend reached again");
        }
    }

    /// Counts a failure and sets the time of the next attempt; told once per row of failures.
    fn fail(&mut self, error: &ExportError) {
        if matches!(error, ExportError::Stopped) {
            return;
        }
        self.accounts.set_failed(wall_ms() / 1_000);
        let backoff_ns = self.backoff.delay_ns();
        // What only new settings can cure is still tried: the name server may say otherwise.
        let is_retryable = error.is_retryable();
        let delay_ns =
            if is_retryable { backoff_ns } else { duration_ns(self.patience.backoff_last) };
        self.retry_ns = monotonic_ns() + delay_ns;
        let (backend, fault) = (self.accounts.name(), error.fault());
        let retry_ms = delay_ns / 1_000_000;
        if std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(backend, %error, ?fault, retry_ms, "segment not delivered");
        } else {
            tracing::warn!(backend, %error, ?fault, retry_ms, "segment not delivered");
        }
    }

    fn spool_error(&self, operation: &'static str, path: &Path, source: io::Error) -> ExportError {
        ExportError::Spool { operation, path: path.display().to_string(), source }
    }

    /// Waits for a new segment, `until_ns`, the next look or the stop.
    fn wait(&self, until_ns: u64) {
        let until_ns = until_ns.min(monotonic_ns().saturating_add(duration_ns(self.patience.scan)));
        let fd = self.notifications.as_ref().map(AsFd::as_fd);
        let waited = self.stop.wait(fd, PollFlags::IN, until_ns);
        if let (Ok(Waited::Ready), Some(notifications)) = (waited, &self.notifications) {
            // What they say is of no interest: the directory is listed anew.
            let mut buffer = [MaybeUninit::uninit(); 4_096];
            while rustix::io::read(notifications, &mut buffer).is_ok() {}
        }
    }
}

/// Notifications of segments that appear in `queue`, and, where only those that are whole count, of
/// commits that end.
fn watch(queue: &Queue, redelivery: Redelivery) -> io::Result<OwnedFd> {
    let notifications =
        inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&notifications, queue.directory(), flags)?;
    if redelivery == Redelivery::Never {
        inotify::add_watch(&notifications, queue.tmp(), inotify::WatchFlags::DELETE)?;
    }
    Ok(notifications)
}

#[cfg(test)]
mod tests;
