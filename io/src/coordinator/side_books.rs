//! What the coordinator tells of, and to, the paths beside the road to the spool.

use crate::export::console::ConsoleDesk;
use crate::ingest::repeater::RepeaterAccounts;

/// The repeater's books, and where the console backend is left flushes.
#[derive(Clone, Debug, Default)]
pub struct SideBooks {
    /// Where there is a repeater.
    pub repeater: Option<RepeaterAccounts>,
    /// Where there is a console backend.
    pub console: Option<ConsoleDesk>,
}

impl SideBooks {
    /// Names below `<prefixStats>.floe.` and numbers since these paths were started.
    pub(super) fn read(&self) -> Vec<(String, u64)> {
        let mut entries = self.repeater.as_ref().map_or_else(Vec::new, RepeaterAccounts::read);
        let console = self.console.as_ref();
        entries.extend(console.map(|desk| ("console.flushes_dropped".to_owned(), desk.dropped())));
        entries
    }
}
