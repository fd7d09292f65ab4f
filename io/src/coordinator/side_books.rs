//! What the coordinator tells of, and to, the paths beside the road to the spool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::export::console::ConsoleDesk;
use crate::ingest::repeater::RepeaterAccounts;

/// The repeater's books, and where the console backend is left flushes.
#[derive(Clone, Debug, Default)]
pub struct SideBooks {
    /// Where there is a repeater.
    pub repeater: Option<RepeaterAccounts>,
    /// Where there is a console backend.
    pub console: Option<ConsoleDesk>,
    /// Those that a reload has replaced.
    pub replaced: ReplacedBooks,
}

/// What paths have counted that a reload has replaced: it stays counted. The last ones replaced go
/// on for a moment, sending what they have.
#[derive(Clone, Debug, Default)]
pub struct ReplacedBooks {
    past: BTreeMap<String, u64>,
    repeater: Option<RepeaterAccounts>,
    flushes_dropped: Option<Arc<AtomicU64>>,
}

impl ReplacedBooks {
    /// Takes in the books of a repeater; the one before it has ended.
    pub(crate) fn take_repeater(&mut self, repeater: RepeaterAccounts) {
        if let Some(ended) = self.repeater.replace(repeater) {
            add(&mut self.past, ended.read());
        }
    }

    /// Takes in the books of a console backend; the one before it has ended.
    pub(crate) fn take_console(&mut self, desk: &ConsoleDesk) {
        if let Some(ended) = self.flushes_dropped.replace(desk.dropped_count()) {
            add(&mut self.past, dropped(&ended));
        }
    }
}

impl SideBooks {
    /// Names below `<prefixStats>.floe.` and numbers since the start of the daemon.
    pub(super) fn read(&self) -> Vec<(String, u64)> {
        let ReplacedBooks { past, repeater, flushes_dropped } = &self.replaced;
        let mut sums = past.clone();
        for accounts in [&self.repeater, repeater].into_iter().flatten() {
            add(&mut sums, accounts.read());
        }
        let current = self.console.as_ref().map(ConsoleDesk::dropped_count);
        for count in [current.as_ref(), flushes_dropped.as_ref()].into_iter().flatten() {
            add(&mut sums, dropped(count));
        }
        sums.into_iter().collect()
    }
}

fn add(sums: &mut BTreeMap<String, u64>, entries: impl IntoIterator<Item = (String, u64)>) {
    for (name, count) in entries {
        *sums.entry(name).or_default() += count;
    }
}

fn dropped(count: &AtomicU64) -> [(String, u64); 1] {
    [("console.flushes_dropped".to_owned(), count.load(Ordering::Relaxed))]
}
