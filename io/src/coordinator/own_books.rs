//! What the coordinator adds to the books beside the workers' pages.
//!
//! Everything here only grows: its own counts, the kernel's drops, the acceptor's counts, the
//! accounts of backends, what the host lost. A tick writes what was added since the tick before;
//! `totals` begins with what earlier runs have left. All are the same sum over different bases.

use std::collections::BTreeMap;

use floe_core::interval::BookEntries;
use floe_storage::SpoolError;

use super::Coordinator;
use crate::clock::monotonic_ns;
use crate::export::accounts::Reading;

/// Prefix of the drops of each socket.
pub(super) const KERNEL_DROPS: &str = "kernel_drops.";

/// Why an interval that was closed never became a segment. A closed list: it labels counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SpoolCause {
    /// The disk is full, or our share of it, or only the reserve is left.
    DiskFull,
    /// The file system is read-only.
    ReadOnly,
    /// No descriptor is left, to the process or to the system.
    Descriptors,
    /// Any other failure of the disk.
    #[default]
    IoError,
    /// It cannot be a segment: a bug.
    Oversize,
}

impl SpoolCause {
    const ALL: [Self; 5] =
        [Self::DiskFull, Self::ReadOnly, Self::Descriptors, Self::IoError, Self::Oversize];

    pub(super) fn of(error: &SpoolError) -> Self {
        match error {
            SpoolError::Encode { .. } => Self::Oversize,
            error if error.is_full() => Self::DiskFull,
            error => match error.errno() {
                Some(libc::EROFS) => Self::ReadOnly,
                Some(libc::EMFILE | libc::ENFILE) => Self::Descriptors,
                _ => Self::IoError,
            },
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::Descriptors => "descriptors",
            Self::IoError => "io_error",
            Self::Oversize => "oversize",
        }
    }
}

/// What each backend's queue got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spooled {
    pub(super) segments: u64,
    pub(super) rows: u64,
    /// Rows it never got: dropped from memory.
    pub(super) rows_dropped: u64,
}

/// What the coordinator itself counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Rows of intervals closed.
    pub(super) rows_snapshotted: u64,
    pub(super) rows_spooled: u64,
    /// Rows that every backend had from memory, and the disk never took.
    pub(super) rows_shipped: u64,
    /// By [`SpoolCause`].
    pub(super) rows_dropped: [u64; SpoolCause::ALL.len()],
    /// Values recorded in intervals that were spooled.
    pub(super) values_spooled: u64,
    /// Values recorded in intervals that every backend had from memory, and the disk never took.
    pub(super) values_shipped: u64,
    /// Values recorded in intervals that were dropped, by [`SpoolCause`].
    pub(super) values_unspooled: [u64; SpoolCause::ALL.len()],
    /// Datagrams that lay in the sockets when the workers had ended.
    pub(super) datagrams_unread: u64,
    /// Identities and pages that did not balance.
    pub(super) accounting_broken: u64,
    pub(super) spool_failures: u64,
    /// Segments that only the archive held and that went for a full disk, and their rows.
    pub(super) archive_segments_expired: u64,
    pub(super) archive_rows_expired: u64,
    pub(super) ticks_merged: u64,
    /// Steps of the wall clock of a second and more.
    pub(super) clock_steps: u64,
    /// Of these, steps back that intervals have followed: timestamps are used again.
    pub(super) clock_steps_followed: u64,
    pub(super) reloads_applied: u64,
    pub(super) reloads_refused: u64,
}

/// How far everything that only grows has been told.
#[derive(Debug, Default)]
pub(super) struct Told {
    counts: Counts,
    /// Drops per socket, in the order of the sockets.
    drops: Vec<u64>,
    acceptor: [u64; 3],
    spooled: BTreeMap<String, Spooled>,
    host: BTreeMap<&'static str, u64>,
    /// The side paths' counts, by name.
    side: BTreeMap<String, u64>,
    accounts: BTreeMap<String, Reading>,
}

impl Coordinator {
    /// What the ticks have not told yet, for a successor to tell.
    pub(super) fn untold(&mut self) -> Vec<(String, u64)> {
        let mut told = std::mem::take(&mut self.told);
        let entries = self.entries_since(&mut told);
        entries.into_iter().filter(|(_, count)| *count != 0).collect()
    }

    /// The entries of a tick: what happened since the last one, also in the daemon before us.
    pub(super) fn books(&mut self) -> BookEntries {
        let mut told = std::mem::take(&mut self.told);
        let mut entries = self.entries_since(&mut told);
        self.told = told;
        for (name, count) in std::mem::take(&mut self.handed_entries) {
            match entries.iter_mut().find(|(known, _)| *known == name) {
                Some((_, entry)) => *entry += count,
                None => entries.push((name, count)),
            }
        }
        let (_, _, bytes) = self.parts.backlog.amounts();
        entries.push(("waiting_bytes".to_owned(), bytes));
        entries.push(("spool_degraded".to_owned(), u64::from(self.is_refused)));
        #[expect(clippy::cast_precision_loss, reason = "points are doubles; exact to 2^53")]
        BookEntries(entries.into_iter().map(|(name, count)| (name, count as f64)).collect())
    }

    /// What was added since `told`, which then stands at now.
    pub(super) fn entries_since(&mut self, told: &mut Told) -> Vec<(String, u64)> {
        let mut entries: Vec<(String, u64)> = Vec::new();
        let mut enter = |name: String, count: u64| entries.push((name, count));
        let mut kernel_drops = 0;
        told.drops.resize(self.parts.sockets.len(), 0);
        for (socket, base) in self.parts.sockets.iter_mut().zip(&mut told.drops) {
            let drops = advance(base, socket.drops());
            kernel_drops += drops;
            enter(format!("{KERNEL_DROPS}{}", socket.name()), drops);
        }
        enter("datagrams_dropped.kernel".to_owned(), kernel_drops);
        if let Some(acceptor) = &self.parts.acceptor {
            for ((name, count), base) in acceptor.read().into_iter().zip(&mut told.acceptor) {
                enter(name.to_owned(), advance(base, count));
            }
        }
        // A backend that was left out is told of once more, if it has got something since.
        let is_configured =
            |name: &str| self.parts.settings.backends.iter().any(|backend| backend.name == name);
        for backend in &self.parts.settings.backends {
            self.spooled.entry(backend.name.clone()).or_default();
        }
        for (name, now) in &self.spooled {
            let base = told.spooled.insert(name.clone(), *now).unwrap_or_default();
            // A link that was taken back may have been told of before.
            let since = |now: u64, base: u64| now.saturating_sub(base);
            if *now != base || is_configured(name) {
                let segments = since(now.segments, base.segments);
                enter(format!("backend.{name}.segments_spooled"), segments);
                enter(format!("backend.{name}.rows_spooled"), since(now.rows, base.rows));
                enter(
                    format!("backend.{name}.rows_dropped"),
                    since(now.rows_dropped, base.rows_dropped),
                );
            }
        }
        for (name, count) in self.parts.side.read() {
            let base = told.side.insert(name.clone(), count).unwrap_or_default();
            enter(name, count.saturating_sub(base));
        }
        for (name, count) in self.parts.accounts.differences(&mut told.accounts, is_configured) {
            enter(name, count);
        }
        for (name, count) in self.host.read(monotonic_ns()) {
            let base = told.host.insert(*name, *count).unwrap_or_default();
            enter(format!("host.{name}"), count - base);
        }
        let base = std::mem::replace(&mut told.counts, self.counts);
        self.counts.enter_since(&base, enter);
        entries
    }
}

impl Counts {
    fn enter_since(&self, base: &Self, mut enter: impl FnMut(String, u64)) {
        for (name, now, base) in [
            ("datagrams_dropped.unread", self.datagrams_unread, base.datagrams_unread),
            ("values_spooled", self.values_spooled, base.values_spooled),
            ("rows_snapshotted", self.rows_snapshotted, base.rows_snapshotted),
            ("values_shipped", self.values_shipped, base.values_shipped),
            ("rows_spooled", self.rows_spooled, base.rows_spooled),
            ("rows_shipped", self.rows_shipped, base.rows_shipped),
            ("spool_failures", self.spool_failures, base.spool_failures),
            (
                "archive.segments_expired_disk_full",
                self.archive_segments_expired,
                base.archive_segments_expired,
            ),
            (
                "archive.rows_expired_disk_full",
                self.archive_rows_expired,
                base.archive_rows_expired,
            ),
            ("ticks_merged", self.ticks_merged, base.ticks_merged),
            ("clock_steps", self.clock_steps, base.clock_steps),
            ("clock_steps_followed", self.clock_steps_followed, base.clock_steps_followed),
            ("reloads_applied", self.reloads_applied, base.reloads_applied),
            ("reloads_refused", self.reloads_refused, base.reloads_refused),
            ("accounting_broken", self.accounting_broken, base.accounting_broken),
        ] {
            enter(name.to_owned(), now - base);
        }
        for cause in SpoolCause::ALL {
            let (at, word) = (cause as usize, cause.word());
            enter(format!("rows_dropped.{word}"), self.rows_dropped[at] - base.rows_dropped[at]);
            let values = self.values_unspooled[at] - base.values_unspooled[at];
            enter(format!("values_unspooled.{word}"), values);
        }
    }
}

/// Moves `base` to `count`; returns by how much.
fn advance(base: &mut u64, count: u64) -> u64 {
    count - std::mem::replace(base, count)
}
