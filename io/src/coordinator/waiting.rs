//! Closed intervals on their way to the disk.
//!
//! They go through the backlog in memory (`crate::backlog`), oldest first. The disk is tried at each
//! tick, and between ticks with a back-off; what it refuses is offered to the exporters meanwhile.
//! When memory is used up and the disk full, the oldest segments on the disk give way; else what is in
//! memory does. Every row is counted, by cause. What the spool gives up by age or size is entered
//! into the accounts of the backends.

use std::sync::Arc;

use floe_core::row::Rows;
use floe_storage::{Committed, Kept, Refused, Retired, SpoolError};
use tracing::{debug, error, info, warn};

use super::Coordinator;
use super::own_books::SpoolCause;
use crate::backlog::{Dropped, Oldest, Try};
use crate::clock::{monotonic_ns, wall_ms};
use crate::export::accounts::ExpiryCause;
use crate::export::pace::Backoff;

/// The first try after a refusal, ns.
const RETRY_NS_FIRST: u64 = 100_000_000;

/// Longest time between two tries, ns: with less than two intervals the disk that is back is used.
const RETRY_NS_LAST: u64 = 5_000_000_000;

/// When the disk is tried again.
#[derive(Debug)]
pub(super) struct Retry {
    backoff: Backoff,
    /// Monotonic time, ns; `None` = it refuses nothing.
    at_ns: Option<u64>,
}

impl Retry {
    pub(super) fn new() -> Self {
        Self { backoff: Backoff::new(RETRY_NS_FIRST, RETRY_NS_LAST, monotonic_ns()), at_ns: None }
    }

    fn postpone(&mut self) {
        self.at_ns = Some(monotonic_ns() + self.backoff.delay_ns());
    }

    fn reset(&mut self) {
        self.backoff.reset();
        self.at_ns = None;
    }

    /// Until the next try, ms, rounded up.
    pub(super) fn wait_ms(&self) -> u64 {
        let left_ns = self.at_ns.map(|at_ns| at_ns.saturating_sub(monotonic_ns()));
        left_ns.map_or(u64::MAX, |left_ns| left_ns.div_ceil(1_000_000))
    }

    pub(super) fn is_due(&self) -> bool {
        self.at_ns.is_some_and(|at_ns| at_ns <= monotonic_ns())
    }
}

impl Coordinator {
    /// Commits what waits, oldest first, as far as the disk takes it. `is_last`: memory ends with
    /// this process, so that the oldest on a full disk give way at once.
    pub(super) fn spool_waiting(&mut self, is_last: bool) {
        while let Some(oldest) = self.begin_commit() {
            let parts = self.stamp_oldest(&oldest);
            let is_wanted = |part: usize, backend: &str| oldest.is_wanted(part, backend);
            match self.parts.spool.commit_to(&parts, is_wanted) {
                Ok(committed) => self.take_leave(parts, &oldest, &committed),
                Err(Refused { error, kept, relieved }) => {
                    self.leave_out(&kept);
                    self.enter_retired(&relieved, ExpiryCause::DiskFull);
                    self.counts.spool_failures += 1;
                    self.refusal = SpoolCause::of(&error);
                    let has_to = is_last || self.is_memory_used_up();
                    if error.is_full() && has_to && self.make_room(&parts, &error) {
                        continue;
                    }
                    if matches!(error, SpoolError::Encode { .. }) {
                        // It would be refused for ever, and all that comes behind it with it.
                        error!(%error, "interval refused for good: this is a bug");
                        let dropped = self.parts.backlog.give_up_oldest(&self.backend_names());
                        self.enter_dropped(&dropped);
                        continue;
                    }
                    self.parts.backlog.offer_all(self.parts.spool.has_leftovers());
                    self.retry.postpone();
                    if !std::mem::replace(&mut self.is_refused, true) {
                        error!(%error, "segment refused: intervals wait in memory");
                    }
                    break;
                }
            }
        }
        while self.is_memory_used_up() {
            let dropped = self.parts.backlog.give_up_one(&self.backend_names());
            self.enter_dropped(&dropped);
        }
    }

    fn begin_commit(&self) -> Option<Oldest> {
        let spool = &self.parts.spool;
        let next = Try { run_id: spool.run_id(), sequence: spool.next_sequence() };
        self.parts.backlog.begin_commit(next)
    }

    /// What these backends have of the oldest interval from a commit that failed, they get neither
    /// from memory nor by the next commit.
    fn leave_out(&self, kept: &[Kept]) {
        for Kept { part, backend, rows } in kept {
            debug!(backend, part, rows, "commit failed, and its exporter had been quicker");
            self.parts.backlog.had_from_disk(*part, backend);
        }
    }

    /// The oldest interval is on the disk.
    fn take_leave(&mut self, parts: Vec<Arc<Rows>>, oldest: &Oldest, committed: &Committed) {
        debug!(
            timestamp_s = parts.first().map_or(0, |part| part.timestamp_s),
            rows = committed.rows,
            bytes = committed.bytes,
            "interval spooled"
        );
        // Ours go first, so that the memory can be used again.
        drop(parts);
        self.enter_retired(&committed.relieved, ExpiryCause::DiskFull);
        self.enter_spooled(oldest);
        for kept in &committed.kept {
            // Found in the queue, as the books say, and not spooled a second time.
            self.enter_withdrawn(&kept.backend, kept.rows);
        }
        let left = self.parts.backlog.committed(oldest, &committed.names);
        for (backend, name, rows) in left.had_meanwhile {
            match self.parts.spool.withdraw(&backend, name) {
                Ok(true) => self.enter_withdrawn(&backend, rows),
                // It has been delivered a second time, from the disk.
                Ok(false) => {}
                Err(error) => debug!(%error, backend, "delivered from memory, sent again"),
            }
        }
        self.parts.interval.reuse(left.parts);
        self.retry.reset();
        if std::mem::take(&mut self.is_refused) {
            info!("spool writable again");
        }
    }

    /// On a full disk the oldest segments give way with all their links: what a backend has not had
    /// for hours is worth less than what it has not had for seconds. `false` if nothing went, or all of
    /// it would not be enough: then it stays.
    fn make_room(&mut self, parts: &[Arc<Rows>], refusal: &SpoolError) -> bool {
        let bytes: usize = parts.iter().map(|part| part.column_bytes()).sum();
        let bytes = refusal.missing_bytes().unwrap_or(bytes as u64);
        match self.parts.spool.can_relieve(bytes) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                warn!(%error, "retention incomplete");
                return false;
            }
        }
        let retired = self.parts.spool.relieve(bytes);
        self.enter_retired(&retired, ExpiryCause::DiskFull);
        0 < retired.segment_count()
    }

    pub(super) fn is_memory_used_up(&self) -> bool {
        let configured = self.parts.settings.spool.memory_bytes;
        let fitted = self.parts.interval.ledger().waiting_bytes_max() as u64;
        self.parts.backlog.is_over(configured.unwrap_or(fitted))
    }

    /// Whose queues get links.
    pub(super) fn backend_names(&self) -> Vec<String> {
        self.parts.spool.backends().iter().map(|backend| backend.name.clone()).collect()
    }

    pub(super) fn enter_dropped(&mut self, dropped: &Dropped) {
        let cause = self.refusal;
        self.counts.rows_shipped += dropped.rows_shipped;
        if dropped.rows_lost == 0 {
            self.counts.values_shipped += dropped.values;
            debug!(rows = dropped.rows_shipped, "interval given up: every backend has had it");
            return;
        }
        self.counts.rows_dropped[cause as usize] += dropped.rows_lost;
        self.counts.values_unspooled[cause as usize] += dropped.values;
        for (backend, rows) in &dropped.lost_by {
            self.spooled.entry(backend.clone()).or_default().rows_dropped += rows;
        }
        let (rows, cause) = (dropped.rows_lost, cause.word());
        error!(rows, cause, "interval dropped: the spool refuses it and memory is bounded");
    }

    pub(super) fn retain(&mut self) {
        let retired = self.parts.spool.retain(wall_ms() / 1_000);
        self.enter_retired(&retired, ExpiryCause::Caps);
    }

    fn enter_retired(&mut self, retired: &Retired, cause: ExpiryCause) {
        let (segments, rows) = (retired.archive.segments, retired.archive.rows);
        if matches!(cause, ExpiryCause::DiskFull) && segments != 0 {
            self.counts.archive_segments_expired += segments;
            self.counts.archive_rows_expired += rows;
            if self.parts.settings.backends.is_empty() {
                error!(segments, rows, "archive gives way to a full disk: nobody else has it");
            } else {
                warn!(segments, rows, "archive gives way to a full disk");
            }
        }
        for (backend, expired) in &retired.backends {
            let (segments, rows) = (expired.segments, expired.rows);
            let rows_too_old = expired.rows_too_old;
            warn!(backend, segments, rows, rows_too_old, ?cause, "backlog expired");
            self.parts.accounts.add_expired(backend, expired, cause);
        }
        if let Some(error) = &retired.error {
            warn!(%error, "retention incomplete");
        }
    }
}
