//! The books of the whole spool, over all runs, and whether they balance.
//!
//! Every commit carries them ([`Coordinator::stamp_oldest`]), as they stand with that commit made; so
//! the newest segment has the history of the spool, and a run goes on where the last one was cut
//! short. The sum of three: what earlier runs have left (`base`), what this run has counted, and the
//! amounts of the moment: what is open, waits in memory, or lies in the queues.
//!
//! What lies in the queues is what their directories say, not what our counts would make of it: that
//! makes the identity of each backend a check. It is read while no acknowledgement is on its way
//! (`BackendAccounts::look_quietly`); an exporter that never rests for that long leaves its identity
//! for the next time.

use std::collections::BTreeMap;
use std::sync::Arc;

use floe_core::books::identity::{
    Identity, SOCKET_READING, identities, is_of_the_moment, settle_queue,
};
use floe_core::row::{Rows, TotalColumns};
use floe_storage::{QueueState, history};
use tracing::{error, info, warn};

use super::hand_over::HandedBooks;
use super::own_books::{KERNEL_DROPS, Spooled, Told};
use super::{Coordinator, SocketBook};
use crate::backlog::Oldest;
use crate::export::accounts::{Count, Told as Tellers};
use crate::host::boot_id;

/// Counts by name.
type Totals = BTreeMap<String, u64>;

/// What the totals begin with, and how far queues and identities are known.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// What earlier runs have left, and what a look into the queues has corrected.
    base: Totals,
    /// What has left each queue, as last seen.
    queues: BTreeMap<String, QueueState>,
    /// Left side minus right side of the identities that did not hold at the last check.
    differences: BTreeMap<String, i128>,
}

impl Coordinator {
    /// Takes up the books where the daemon before us has handed them over, or else where the newest
    /// segment of the spool has them. `quarantined`: rows that the start has put away, by backend.
    pub(super) fn take_up_books(
        &mut self,
        quarantined: &[(String, u64)],
        handed: Option<HandedBooks>,
    ) {
        let handed = handed.unwrap_or_default();
        self.go_on_after(&handed);
        let mut readings = handed.readings;
        let base = match handed.base {
            Some(base) => Some(base),
            None => self.books_of_spool(),
        };
        if let Some(mut base) = base {
            if readings.is_empty() {
                readings = readings_of(&base);
            }
            let sockets: Vec<&str> = self.parts.sockets.iter().map(SocketBook::name).collect();
            base.retain(|name, _| {
                // Sockets of other ports have gone; their drops stay in the sum of all.
                let socket = name.strip_prefix(KERNEL_DROPS);
                !is_of_the_moment(name) && socket.is_none_or(|name| sockets.contains(&name))
            });
            self.carried.base = base;
        }
        for socket in &mut self.parts.sockets {
            if let Some((_, reading)) = readings.iter().find(|(it, _)| *it == socket.cookie()) {
                socket.go_on_after(*reading);
            }
        }
        *self.carried.base.entry("starts".to_owned()).or_default() += 1;
        for (backend, rows) in quarantined {
            self.correct(backend, "rows_quarantined", *rows);
        }
        let configured = self.parts.settings.backends.iter();
        let names: Vec<String> = configured.map(|backend| backend.name.clone()).collect();
        for name in &names {
            self.open_queue(name);
        }
    }

    /// The books as the newest segment has them.
    fn books_of_spool(&self) -> Option<Totals> {
        match history::newest_totals(self.parts.spool.path()) {
            Ok(Some(totals)) => {
                info!(segment = %totals.segment, "books taken up");
                let mut base = totals.counts;
                enter_lost_in_memory(&mut base);
                Some(base)
            }
            Ok(None) => None,
            Err(error) => {
                warn!(%error, "books begun anew: the spool cannot be listed");
                None
            }
        }
    }

    /// All that has been counted and will not change, the open interval left out: what a successor's
    /// books begin with.
    pub(super) fn settled_totals(&mut self) -> Totals {
        // A look into the queues corrects what the base says of them.
        self.totals();
        let mut totals = self.carried.base.clone();
        let since_start = self.entries_since(&mut Told::default());
        for (name, count) in self.closed.entries().chain(since_start) {
            *totals.entry(name).or_default() += count;
        }
        totals
    }

    /// Settles the books of a queue that is ours from now on by what lies in it.
    pub(super) fn open_queue(&mut self, backend: &str) {
        self.carried.queues.remove(backend);
        let before = self.totals();
        let Some(rows_pending) = before.get(&format!("backend.{backend}.rows_pending")) else {
            return;
        };
        let mut settled = before.clone();
        settle_queue(&mut settled, backend, *rows_pending);
        for word in ["rows_found", "rows_untold"] {
            let name = format!("backend.{backend}.{word}");
            let of = |totals: &Totals| totals.get(&name).copied().unwrap_or(0);
            self.correct(backend, word, of(&settled) - of(&before));
        }
    }

    /// All books of the spool as they stand now, the open interval included.
    pub(super) fn totals(&mut self) -> Totals {
        let mut totals = self.carried.base.clone();
        let mut page = self.closed;
        page.add(self.parts.interval.page());
        for (name, count) in page.entries().chain(self.entries_since(&mut Told::default())) {
            *totals.entry(name).or_default() += count;
        }
        totals.insert("values_open".to_owned(), self.parts.interval.page().values_recorded);
        let (rows, values, bytes) = self.parts.backlog.amounts();
        for (name, amount) in
            [("values_waiting", values), ("rows_waiting", rows), ("waiting_bytes", bytes)]
        {
            totals.insert(name.to_owned(), amount);
        }
        totals.insert("spool_degraded".to_owned(), u64::from(self.is_refused));
        for socket in self.parts.sockets.iter().filter(|socket| socket.is_kept()) {
            let reading = u64::from(socket.reading());
            totals.insert(format!("{SOCKET_READING}{}", socket_key(socket.cookie())), reading);
        }
        let configured = self.parts.settings.backends.iter();
        let names: Vec<String> = configured.map(|backend| backend.name.clone()).collect();
        for name in &names {
            self.enter_queue(name, &mut totals);
        }
        totals
    }

    /// Enters what lies in a queue, and the backend's accounts of the same moment.
    fn enter_queue(&mut self, backend: &str, totals: &mut Totals) {
        let accounts = self.parts.accounts.account(backend, 0);
        let spool = &mut self.parts.spool;
        let look = || spool.queue_state(backend).map(|state| (state, accounts.read()));
        let Some((state, reading)) = accounts.look_quietly(look).flatten() else { return };
        let seen = self.carried.queues.insert(backend.to_owned(), state).unwrap_or(state);
        let unannounced = state.rows_unannounced - seen.rows_unannounced;
        self.correct(backend, "rows_found", unannounced);
        let knows_deliveries = self.parts.accounts.knows_deliveries();
        if !knows_deliveries {
            // Another process delivers, and has its own books of it.
            self.correct(backend, "rows_untold", state.rows_left - seen.rows_left);
        }
        let named = |word: &str| format!("backend.{backend}.{word}");
        if knows_deliveries {
            for (word, count) in reading.since(&Default::default(), Tellers::All) {
                let base = self.carried.base.get(&named(&word)).copied().unwrap_or(0);
                totals.insert(named(&word), base + count);
            }
            totals.insert(named("rows_in_flight"), reading.rows_in_flight);
        }
        for word in ["rows_found", "rows_untold"] {
            let corrected = self.carried.base.get(&named(word)).copied().unwrap_or(0);
            totals.insert(named(word), corrected);
        }
        totals.insert(named("rows_pending"), state.rows_pending);
        if accounts.count(Count::SegmentsUnreadable) != 0 {
            // Files so damaged that whoever put them away could not say how many rows went with them.
            let untold = |totals: &Totals| totals.get(&named("rows_untold")).copied().unwrap_or(0);
            let mut settled = totals.clone();
            settle_queue(&mut settled, backend, state.rows_pending);
            self.correct(backend, "rows_untold", untold(&settled) - untold(totals));
            totals.insert(named("rows_untold"), untold(&settled));
        }
    }

    fn correct(&mut self, backend: &str, word: &str, rows: u64) {
        *self.carried.base.entry(format!("backend.{backend}.{word}")).or_default() += rows;
    }

    /// Checks the books and writes them into the interval that is committed next, as they stand when
    /// it is.
    pub(super) fn stamp_oldest(&mut self, oldest: &Oldest) -> Vec<Arc<Rows>> {
        let mut totals = self.totals();
        let mut move_on = |from: &str, to: &str, count: u64| {
            if let Some(before) = totals.get_mut(from) {
                *before = before.saturating_sub(count);
            }
            *totals.entry(to.to_owned()).or_default() += count;
        };
        move_on("values_waiting", "values_spooled", oldest.values);
        move_on("rows_waiting", "rows_spooled", oldest.rows);
        for backend in self.parts.spool.backends() {
            let (segments, rows) = oldest.wanted_by(&backend.name);
            let named = |word: &str| format!("backend.{}.{word}", backend.name);
            for (word, count) in [("segments_spooled", segments), ("rows_spooled", rows)] {
                *totals.entry(named(word)).or_default() += count;
            }
            if let Some(pending) = totals.get_mut(&named("rows_pending")) {
                *pending += rows;
            }
        }
        let broken = self.check(&totals);
        *totals.entry("accounting_broken".to_owned()).or_default() += broken;
        // With this commit made it takes segments.
        totals.insert("spool_degraded".to_owned(), 0);
        self.parts.backlog.stamp_oldest(TotalColumns::of(&totals))
    }

    /// Enters that the oldest interval is on the disk.
    pub(super) fn enter_spooled(&mut self, oldest: &Oldest) {
        for backend in self.parts.spool.backends() {
            let (segments, rows) = oldest.wanted_by(&backend.name);
            let spooled: &mut Spooled = self.spooled.entry(backend.name.clone()).or_default();
            spooled.segments += segments;
            spooled.rows += rows;
        }
        self.counts.rows_spooled += oldest.rows;
        self.counts.values_spooled += oldest.values;
    }

    /// Enters that a link of a commit was taken back: its backend had had the rows from memory.
    pub(super) fn enter_withdrawn(&mut self, backend: &str, rows: u64) {
        let spooled = self.spooled.entry(backend.to_owned()).or_default();
        spooled.segments -= 1;
        spooled.rows -= rows;
    }

    /// Counts what does not hold, once as long as it is off by the same; says so once per identity.
    fn check(&mut self, totals: &Totals) -> u64 {
        let mut broken = 0;
        for identity in identities(totals) {
            let name = identity.name.clone();
            let difference = i128::from(identity.left_sum()) - i128::from(identity.right_sum());
            if identity.holds() {
                self.carried.differences.entry(name).and_modify(|known| *known = 0);
                continue;
            }
            let before = self.carried.differences.insert(name, difference);
            if before != Some(difference) {
                broken += 1;
            }
            if before.is_none() {
                tell(&identity);
            }
        }
        self.counts.accounting_broken += broken;
        broken
    }
}

/// A socket's cookie as it stands in the books: after another boot it means another socket.
fn socket_key(cookie: u64) -> String {
    format!("{}_{cookie}", boot_id())
}

/// How far earlier runs have counted sockets that outlived them, by cookie.
fn readings_of(totals: &Totals) -> Vec<(u64, u32)> {
    let of_this_boot = format!("{SOCKET_READING}{}_", boot_id());
    let entries = totals.iter().filter_map(|(name, reading)| {
        let cookie = name.strip_prefix(&of_this_boot)?.parse().ok()?;
        Some((cookie, u32::try_from(*reading).ok()?))
    });
    entries.collect()
}

fn tell(identity: &Identity) {
    error!(books = identity.name, sides = %identity, "books not balanced: this is a bug");
}

/// Intervals that waited in memory when the last run wrote its last segment, and never followed it,
/// were lost with it.
fn enter_lost_in_memory(base: &mut Totals) {
    for (waiting, lost) in [
        ("rows_waiting", "rows_dropped.process_ended"),
        ("values_waiting", "values_unspooled.process_ended"),
    ] {
        let count = base.get(waiting).copied().unwrap_or(0);
        *base.entry(lost.to_owned()).or_default() += count;
    }
}
