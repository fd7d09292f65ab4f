//! What the coordinator adds to the books beside the workers' pages.
//!
//! Everything here only grows: its own counts, the kernel's drops, the acceptor's counts, the
//! accounts of backends. A tick writes what was added since the tick before, the console shows all
//! of it since the start; both are the same sum over different bases.

use std::collections::BTreeMap;

use floe_core::interval::BookEntries;

use super::Coordinator;
use crate::export::accounts::Reading;

/// What the coordinator itself counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) rows_spooled: u64,
    pub(super) rows_dropped: u64,
    pub(super) spool_failures: u64,
    pub(super) ticks_merged: u64,
    pub(super) clock_steps: u64,
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
    /// Segments per backend.
    spooled: BTreeMap<String, u64>,
    /// The side paths' counts, by name.
    side: BTreeMap<String, u64>,
    accounts: BTreeMap<String, Reading>,
}

impl Coordinator {
    /// The entries of a tick: what happened since the last one.
    pub(super) fn books(&mut self) -> BookEntries {
        let mut told = std::mem::take(&mut self.told);
        let entries = self.entries_since(&mut told);
        self.told = told;
        #[expect(clippy::cast_precision_loss, reason = "points are doubles; exact to 2^53")]
        BookEntries(entries.into_iter().map(|(name, count)| (name, count as f64)).collect())
    }

    /// All entries since the start, the open interval included.
    pub(super) fn lifetime_books(&mut self) -> Vec<(String, u64)> {
        let mut page = self.closed;
        page.add(self.parts.interval.page());
        page.entries().chain(self.entries_since(&mut Told::default())).collect()
    }

    /// What was added since `told`, which then stands at now.
    fn entries_since(&mut self, told: &mut Told) -> Vec<(String, u64)> {
        let mut entries: Vec<(String, u64)> = Vec::new();
        let mut enter = |name: String, count: u64| entries.push((name, count));
        let mut kernel_drops = 0;
        told.drops.resize(self.parts.sockets.len(), 0);
        for (socket, base) in self.parts.sockets.iter_mut().zip(&mut told.drops) {
            let drops = advance(base, socket.drops());
            kernel_drops += drops;
            enter(format!("kernel_drops.{}", socket.name()), drops);
        }
        enter("datagrams_dropped.kernel".to_owned(), kernel_drops);
        if let Some(acceptor) = &self.parts.acceptor {
            for ((name, count), base) in acceptor.read().into_iter().zip(&mut told.acceptor) {
                enter(name.to_owned(), advance(base, count));
            }
        }
        let (now, base) = (self.counts, std::mem::replace(&mut told.counts, self.counts));
        // A backend that was left out is told of once more, if it has got something since.
        let is_configured =
            |name: &str| self.parts.settings.backends.iter().any(|backend| backend.name == name);
        for backend in &self.parts.settings.backends {
            self.spooled.entry(backend.name.clone()).or_default();
        }
        for (name, count) in &self.spooled {
            let segments = advance(told.spooled.entry(name.clone()).or_default(), *count);
            if segments != 0 || is_configured(name) {
                enter(format!("backend.{name}.segments_spooled"), segments);
            }
        }
        for (name, count) in self.parts.side.read() {
            let base = told.side.insert(name.clone(), count).unwrap_or_default();
            enter(name, count.saturating_sub(base));
        }
        for (name, count) in self.parts.accounts.differences(&mut told.accounts, is_configured) {
            enter(name, count);
        }
        enter("rows_spooled".to_owned(), now.rows_spooled - base.rows_spooled);
        enter("rows_dropped.spool_refused".to_owned(), now.rows_dropped - base.rows_dropped);
        enter("spool_failures".to_owned(), now.spool_failures - base.spool_failures);
        enter("ticks_merged".to_owned(), now.ticks_merged - base.ticks_merged);
        enter("clock_steps".to_owned(), now.clock_steps - base.clock_steps);
        enter("reloads_applied".to_owned(), now.reloads_applied - base.reloads_applied);
        enter("reloads_refused".to_owned(), now.reloads_refused - base.reloads_refused);
        entries
    }
}

/// Moves `base` to `count`; returns by how much.
fn advance(base: &mut u64, count: u64) -> u64 {
    count - std::mem::replace(base, count)
}
