//! Closed intervals on their way to the disk.
//!
//! Intervals that the disk refuses wait in memory (`INTERVALS_WAITING_MAX`) and are committed in
//! order when it takes them again; what does not fit is dropped, oldest first, and counted. What
//! the spool gives up by age or size is entered into the accounts of the backends.

use floe_core::limits::INTERVALS_WAITING_MAX;
use floe_core::row::Rows;
use floe_storage::{Retired, SpoolError};
use tracing::{debug, error, info, warn};

use super::Coordinator;
use super::own_books::SpoolCause;
use crate::clock::wall_ms;
use crate::export::accounts::ExpiryCause;

/// A closed interval that the disk has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) parts: Vec<Rows>,
    /// Values recorded in it.
    pub(super) values: u64,
}

impl Waiting {
    /// Rows of all parts.
    pub(super) fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.row_count() as u64).sum()
    }

    fn bytes(&self) -> usize {
        self.parts.iter().map(Rows::column_bytes).sum()
    }
}

impl Coordinator {
    /// Commits what waits, oldest first, as far as the disk takes it.
    pub(super) fn spool_waiting(&mut self) {
        while !self.waiting.is_empty() {
            self.stamp_oldest();
            let Some(waiting) = self.waiting.front() else { break };
            let values = waiting.values;
            match self.parts.spool.commit(&waiting.parts) {
                Ok(committed) => {
                    debug!(
                        timestamp_s = waiting.parts.first().map_or(0, |part| part.timestamp_s),
                        rows = committed.rows,
                        bytes = committed.bytes,
                        "interval spooled"
                    );
                    self.enter_spooled(committed.files, committed.rows, values);
                    let spooled = self.waiting.pop_front().unwrap_or_default();
                    self.parts.interval.reuse(spooled.parts);
                    if std::mem::take(&mut self.is_refused) {
                        info!("spool writable again");
                    }
                }
                Err(error) => {
                    self.counts.spool_failures += 1;
                    self.refusal = SpoolCause::of(&error);
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
        let bytes = self.waiting.front().map_or(0, Waiting::bytes);
        let retired = self.parts.spool.relieve(bytes as u64);
        self.enter_retired(&retired, ExpiryCause::DiskFull);
        0 < retired.segment_count()
    }

    /// Whether more waits than may: by number, or by bytes unless the newest is alone.
    pub(super) fn is_memory_used_up(&self) -> bool {
        let bytes: usize = self.waiting.iter().map(Waiting::bytes).sum();
        let bytes_max = self.parts.interval.ledger().waiting_bytes_max();
        INTERVALS_WAITING_MAX < self.waiting.len() || (1 < self.waiting.len() && bytes_max < bytes)
    }

    pub(super) fn drop_oldest(&mut self) {
        let dropped = self.waiting.pop_front().unwrap_or_default();
        let (rows, cause) = (dropped.rows(), self.refusal);
        self.counts.rows_dropped[cause as usize] += rows;
        self.counts.values_unspooled[cause as usize] += dropped.values;
        let cause = cause.word();
        error!(rows, cause, "interval dropped: the spool refuses it and memory is bounded");
    }

    pub(super) fn retain(&mut self) {
        let retired = self.parts.spool.retain(wall_ms() / 1_000);
        self.enter_retired(&retired, ExpiryCause::Caps);
    }

    fn enter_retired(&self, retired: &Retired, cause: ExpiryCause) {
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
