//! Closed intervals in memory: on their way to the disk, and what the exporters send while the disk
//! takes nothing.
//!
//! The coordinator puts every interval in and takes it out when it is committed. One that the disk
//! has refused is *offered*: each exporter sees its parts as further entries of its queue, with rows
//! in place of a file, and says which it has delivered. What a backend has had gets no link in its
//! queue when the disk is back. A part that is being sent while its interval reaches the disk is
//! acknowledged there, by the name it has got.
//!
//! One lock, held for moments: neither the disk nor a connection is waited for under it. Bounded by
//! whoever puts in: `Backlog::is_over`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use floe_core::limits::INTERVALS_WAITING_MAX;
use floe_core::row::{Rows, TotalColumns};
use floe_storage::SegmentName;
use floe_storage::segment::{NameParts, PART_MAX, SEQUENCE_MAX, TIMESTAMP_S_MAX};

/// In place of a run in names of what is held here: the run of no daemon, so that no file is called so.
const HELD_RUN_ID: u64 = 0;

/// All intervals that are not on the disk yet, oldest first.
#[derive(Debug, Default)]
pub struct Backlog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    intervals: VecDeque<Held>,
    next_sequence: u64,
    /// What each exporter sends from here at this moment.
    sending: Vec<Sending>,
    /// Parts that have reached the disk; the last ones.
    moved: VecDeque<Moved>,
    /// Whether the disk keeps something of the oldest interval, which may yet be a segment.
    is_in_doubt: bool,
}

/// One interval.
#[derive(Debug)]
struct Held {
    parts: Vec<HeldPart>,
    /// Values recorded in it.
    values: u64,
    /// Whether exporters may take it: not while it is being committed.
    is_offered: bool,
    /// The first try at committing it, if there was one.
    first_try: Option<Try>,
}

/// One try at a commit, as its names tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try {
    pub(crate) run_id: u64,
    pub(crate) sequence: u64,
}

/// A part that was here.
#[derive(Debug)]
struct Moved {
    held: SegmentName,
    first_try: Option<Try>,
    on_disk: SegmentName,
}

#[derive(Debug)]
struct HeldPart {
    name: SegmentName,
    rows: Arc<Rows>,
    /// Backends that have had it.
    had_by: Vec<String>,
}

#[derive(Debug)]
struct Sending {
    backend: String,
    name: SegmentName,
    fate: Fate,
}

/// Whether a name is one of the backlog's.
pub(crate) fn is_held(name: &SegmentName) -> bool {
    name.run_id() == HELD_RUN_ID
}

/// What has become of a part while it was being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is here, and counts as delivered from now on.
    Held,
    /// It is on the disk by this name, with a link in the backend's queue.
    Committed(SegmentName),
    /// It was dropped, and is in the books as that.
    Dropped,
    /// The disk is trying it at this moment; it comes back here, or lies in the queue then.
    BeingCommitted,
}

/// A part that an exporter is to send.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) rows: Arc<Rows>,
    pub(crate) part_count: u32,
}

/// The oldest interval, as its commit begins.
#[derive(Debug, Default)]
pub(crate) struct Oldest {
    pub(crate) rows: u64,
    pub(crate) values: u64,
    /// Rows of each part, and the backends that have had it.
    pub(crate) parts: Vec<(u64, Vec<String>)>,
}

impl Oldest {
    /// Whether `backend` still needs the part.
    pub(crate) fn is_wanted(&self, part: usize, backend: &str) -> bool {
        self.parts.get(part).is_none_or(|(_, had_by)| !had_by.iter().any(|had| had == backend))
    }

    /// Parts and rows that `backend` still needs.
    pub(crate) fn wanted_by(&self, backend: &str) -> (u64, u64) {
        let wanted = (0..self.parts.len()).filter(|part| self.is_wanted(*part, backend));
        wanted.fold((0, 0), |(parts, rows), part| (parts + 1, rows + self.parts[part].0))
    }
}

/// An interval that has left for the disk.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Its rows, for their memory.
    pub(crate) parts: Vec<Rows>,
    /// Links that are not needed: backends that had a part while it was being committed.
    pub(crate) had_meanwhile: Vec<(String, SegmentName, u64)>,
}

/// An interval that was given up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Rows that not every backend has had.
    pub(crate) rows_lost: u64,
    /// Rows that every backend has had: only the archive misses them.
    pub(crate) rows_shipped: u64,
    pub(crate) values: u64,
    /// Rows that each backend misses.
    pub(crate) lost_by: Vec<(String, u64)>,
}

impl Held {
    fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows.row_count() as u64).sum()
    }

    fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.rows.column_bytes()).sum()
    }

    fn is_had_by_all(&self, backends: &[String]) -> bool {
        self.parts.iter().all(|part| part.is_had_by_all(backends))
    }

    fn is_being_sent(&self, sending: &[Sending]) -> bool {
        self.parts.iter().any(|part| sending.iter().any(|sending| sending.name == part.name))
    }
}

impl Try {
    /// Whether `name` is that of a try at the part `held`, of which this was the first.
    fn has_made(self, name: &SegmentName, held: &SegmentName) -> bool {
        name.run_id() == self.run_id
            && self.sequence <= name.sequence()
            && (name.timestamp_s(), name.part()) == (held.timestamp_s(), held.part())
    }
}

impl Moved {
    /// Whether `name` is that of a try at this part that failed.
    fn was_tried_as(&self, name: &SegmentName) -> bool {
        name.sequence() < self.on_disk.sequence()
            && self.first_try.is_some_and(|first| first.has_made(name, &self.held))
    }
}

impl HeldPart {
    fn is_had_by(&self, backend: &str) -> bool {
        self.had_by.iter().any(|had| had == backend)
    }

    /// Where there is no backend, nobody has had anything.
    fn is_had_by_all(&self, backends: &[String]) -> bool {
        !backends.is_empty() && backends.iter().all(|backend| self.is_had_by(backend))
    }
}

/// The coordinator's side.
impl Backlog {
    /// Adds a closed interval, behind the others.
    pub(crate) fn push(&self, parts: Vec<Rows>, values: u64) {
        let mut state = self.lock();
        let sequence = state.next_sequence;
        state.next_sequence += 1;
        let named = |rows: Rows| {
            let parts = NameParts {
                timestamp_s: rows.timestamp_s.min(TIMESTAMP_S_MAX),
                run_id: HELD_RUN_ID,
                sequence: sequence.min(SEQUENCE_MAX),
                part: rows.part_index.min(PART_MAX),
            };
            let name = SegmentName::new(parts).expect("each number has its width");
            HeldPart { name, rows: Arc::new(rows), had_by: Vec::new() }
        };
        let parts = parts.into_iter().map(named).collect();
        state.intervals.push_back(Held { parts, values, is_offered: false, first_try: None });
    }

    /// Number of intervals.
    pub(crate) fn len(&self) -> usize {
        self.lock().intervals.len()
    }

    /// Rows, values and bytes of all.
    pub(crate) fn amounts(&self) -> (u64, u64, u64) {
        let state = self.lock();
        let add = |sums: (u64, u64, u64), held: &Held| {
            (sums.0 + held.rows(), sums.1 + held.values, sums.2 + held.bytes() as u64)
        };
        state.intervals.iter().fold((0, 0, 0), add)
    }

    /// Whether more waits than may: by number, or by bytes unless the newest is alone.
    pub(crate) fn is_over(&self, bytes_max: u64) -> bool {
        let state = self.lock();
        let bytes: usize = state.intervals.iter().map(Held::bytes).sum();
        INTERVALS_WAITING_MAX < state.intervals.len()
            || (1 < state.intervals.len() && bytes_max < bytes as u64)
    }

    /// Takes the oldest interval back from the exporters, for a commit of it; `next`: as which it will
    /// be tried.
    pub(crate) fn begin_commit(&self, next: Try) -> Option<Oldest> {
        let mut state = self.lock();
        let oldest = state.intervals.front_mut()?;
        oldest.is_offered = false;
        oldest.first_try.get_or_insert(next);
        let part = |part: &HeldPart| (part.rows.row_count() as u64, part.had_by.clone());
        let parts = oldest.parts.iter().map(part).collect();
        Some(Oldest { rows: oldest.rows(), values: oldest.values, parts })
    }

    /// The oldest interval, whose commit has failed: a backend has a part of it all the same, from a
    /// link that did not come back.
    pub(crate) fn had_from_disk(&self, part: usize, backend: &str) {
        let mut state = self.lock();
        let oldest = state.intervals.front_mut();
        if let Some(part) = oldest.and_then(|held| held.parts.get_mut(part))
            && !part.is_had_by(backend)
        {
            part.had_by.push(backend.to_owned());
        }
    }

    /// Writes `totals` into the oldest interval; returns its parts.
    pub(crate) fn stamp_oldest(&self, totals: TotalColumns) -> Vec<Arc<Rows>> {
        let mut state = self.lock();
        let Some(oldest) = state.intervals.front_mut() else { return Vec::new() };
        if let Some(last) = oldest.parts.last_mut() {
            // Copies them where an exporter is sending them.
            Arc::make_mut(&mut last.rows).totals = totals;
        }
        oldest.parts.iter().map(|part| Arc::clone(&part.rows)).collect()
    }

    /// The oldest interval is on the disk by these names: `begun` is what [`Backlog::begin_commit`]
    /// said.
    pub(crate) fn committed(&self, begun: &Oldest, names: &[SegmentName]) -> Left {
        let mut state = self.lock();
        let Some(oldest) = state.intervals.pop_front() else { return Left::default() };
        let mut left = Left::default();
        for (place, (part, name)) in oldest.parts.into_iter().zip(names).enumerate() {
            if INTERVALS_WAITING_MAX <= state.moved.len() {
                state.moved.pop_front();
            }
            let first_try = oldest.first_try;
            state.moved.push_back(Moved { held: part.name, first_try, on_disk: *name });
            for sending in state.sending.iter_mut().filter(|sending| sending.name == part.name) {
                sending.fate = Fate::Committed(*name);
            }
            let meanwhile = part.had_by.into_iter().filter(|had| begun.is_wanted(place, had));
            let rows = part.rows.row_count() as u64;
            left.had_meanwhile.extend(meanwhile.map(|backend| (backend, *name, rows)));
            left.parts.extend(Arc::try_unwrap(part.rows).ok());
        }
        left
    }

    /// The disk refuses: exporters may take everything; `is_in_doubt`: those that must not send
    /// anything twice may not, for the disk has not removed what it refused.
    pub(crate) fn offer_all(&self, is_in_doubt: bool) {
        let mut state = self.lock();
        state.is_in_doubt = is_in_doubt;
        state.intervals.iter_mut().for_each(|held| held.is_offered = true);
    }

    /// Gives up one interval: the oldest that every one of `backends` has had; or else the oldest
    /// that nobody is sending.
    pub(crate) fn give_up_one(&self, backends: &[String]) -> Dropped {
        let mut state = self.lock();
        let State { intervals, sending, .. } = &*state;
        let shipped = intervals.iter().position(|held| held.is_had_by_all(backends));
        let idle = || intervals.iter().position(|held| !held.is_being_sent(sending));
        let place = shipped.or_else(idle).unwrap_or(0);
        state.drop_at(place, backends)
    }

    /// Gives up the oldest interval, which never can be a segment.
    pub(crate) fn give_up_oldest(&self, backends: &[String]) -> Dropped {
        self.lock().drop_at(0, backends)
    }

    /// Intervals and rows that are lost if the process ends now.
    #[must_use]
    pub fn at_stake(&self, backends: &[String]) -> (u64, u64) {
        let state = self.lock();
        let lost = state.intervals.iter().filter(|held| !held.is_had_by_all(backends));
        lost.fold((0, 0), |(intervals, rows), held| (intervals + 1, rows + held.rows()))
    }
}

/// The exporters' side.
impl Backlog {
    /// Appends what is offered to `backend`, oldest first. `is_once`: to one that must not get it
    /// twice.
    pub(crate) fn list(&self, backend: &str, is_once: bool, out: &mut Vec<SegmentName>) {
        let state = self.lock();
        if is_once && state.is_in_doubt {
            return;
        }
        let offered = state.intervals.iter().filter(|held| held.is_offered);
        let wanted = offered.flat_map(|held| &held.parts).filter(|part| !part.is_had_by(backend));
        out.extend(wanted.map(|part| part.name));
    }

    /// Takes the part `name` for sending; `None` if it is not here, or not any more.
    pub(crate) fn take(&self, backend: &str, name: SegmentName) -> Option<Offer> {
        let mut state = self.lock();
        let held = state
            .intervals
            .iter()
            .find(|held| held.is_offered && held.parts.iter().any(|part| part.name == name))?;
        let part = held.parts.iter().find(|part| part.name == name)?;
        let part_count = u32::try_from(held.parts.len()).unwrap_or(u32::MAX);
        let offer = Offer { rows: Arc::clone(&part.rows), part_count };
        state.forget(backend);
        state.sending.push(Sending { backend: backend.to_owned(), name, fate: Fate::Held });
        Some(offer)
    }

    /// `backend` has had `name`: what that means; `None` if it did not take it from here.
    pub(crate) fn settle(&self, backend: &str, name: SegmentName) -> Option<Fate> {
        self.lock().settle(backend, name)
    }

    /// As [`Backlog::settle`], for a backend that must not get the part twice, and has not had it yet:
    /// what is being committed is not settled here, for it may have a link by now.
    pub(crate) fn settle_beforehand(&self, backend: &str, name: SegmentName) -> Option<Fate> {
        let mut state = self.lock();
        let is_in_doubt = state.is_in_doubt;
        let mut tried = state.intervals.iter().filter(|held| !held.is_offered || is_in_doubt);
        if tried.any(|held| held.parts.iter().any(|part| part.name == name)) {
            return state.forget(backend).map(|_| Fate::BeingCommitted);
        }
        state.settle(backend, name)
    }

    /// `backend` has had `name` from the disk, and its link is gone: what that means, if a commit that
    /// failed has taken it back.
    pub(crate) fn settle_taken_back(&self, backend: &str, name: SegmentName) -> Option<Fate> {
        let mut state = self.lock();
        if let Some(held) = state.tried_as(&name) {
            if !held.is_had_by(backend) {
                held.had_by.push(backend.to_owned());
            }
            return Some(Fate::Held);
        }
        let moved = state.moved.iter().find(|moved| moved.was_tried_as(&name))?;
        Some(Fate::Committed(moved.on_disk))
    }

    /// What a part is called now that is here, was here and has reached the disk, or was on the disk
    /// by a commit that failed.
    pub(crate) fn present_name(&self, name: SegmentName) -> Option<SegmentName> {
        let mut state = self.lock();
        let mut parts = state.intervals.iter().flat_map(|held| &held.parts);
        if parts.any(|part| part.name == name) {
            return Some(name);
        }
        if let Some(held) = state.tried_as(&name) {
            return Some(held.name);
        }
        let mut moved = state.moved.iter();
        let moved = moved.find(|moved| moved.held == name || moved.was_tried_as(&name))?;
        Some(moved.on_disk)
    }

    /// Whether the disk is trying an interval, which may be offered at any moment.
    pub(crate) fn is_trying(&self) -> bool {
        self.lock().intervals.iter().any(|held| !held.is_offered)
    }

    /// `backend` has not had what it took.
    pub(crate) fn let_go(&self, backend: &str) {
        self.lock().forget(backend);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic aborts the process; in tests what it left behind is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settle(&mut self, backend: &str, name: SegmentName) -> Option<Fate> {
        let sending = self.forget(backend).filter(|sending| sending.name == name)?;
        if sending.fate == Fate::Held {
            let parts = self.intervals.iter_mut().flat_map(|held| &mut held.parts);
            for part in parts.filter(|part| part.name == sending.name) {
                part.had_by.push(backend.to_owned());
            }
        }
        Some(sending.fate)
    }

    /// The part here that a commit has tried as `name`.
    fn tried_as(&mut self, name: &SegmentName) -> Option<&mut HeldPart> {
        let mut intervals = self.intervals.iter_mut();
        intervals.find_map(|held| {
            let first = held.first_try?;
            held.parts.iter_mut().find(|part| first.has_made(name, &part.name))
        })
    }

    fn forget(&mut self, backend: &str) -> Option<Sending> {
        let place = self.sending.iter().position(|sending| sending.backend == backend)?;
        Some(self.sending.swap_remove(place))
    }

    fn drop_at(&mut self, place: usize, backends: &[String]) -> Dropped {
        let Some(held) = self.intervals.remove(place) else { return Dropped::default() };
        let mut dropped = Dropped { values: held.values, ..Dropped::default() };
        for part in &held.parts {
            let rows = part.rows.row_count() as u64;
            if part.is_had_by_all(backends) {
                dropped.rows_shipped += rows;
            } else {
                dropped.rows_lost += rows;
            }
            for sending in self.sending.iter_mut().filter(|sending| sending.name == part.name) {
                sending.fate = Fate::Dropped;
            }
        }
        for backend in backends {
            let missed = held.parts.iter().filter(|part| !part.is_had_by(backend));
            let rows = missed.map(|part| part.rows.row_count() as u64).sum();
            if rows != 0 {
                dropped.lost_by.push((backend.clone(), rows));
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests;
