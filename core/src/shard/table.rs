//! The table of a shard: an index of heads, and the slots that it finds. One writer, one reader.
//!
//! A look-up goes in three steps, so that the cache is asked for each some lines before it is needed:
//! the group of the index (`near`), the slot that it names (`seek`), and what the slot points to
//! (`prefetch_payload`). None of them branches on what it finds. The last, `slot`, compares the key.
//!
//! The worker alone has the index; the slots it shares with the coordinator, who walks them without
//! it (`slots.rs`).

/// Who may have a slot.
mod admission;

pub(super) use super::index::Near;
use super::index::{Index, Place};
use super::marks::Mark;
use super::payload::prefetch_payload;
use super::slot::{Head, Slot};
use super::slots::{Slots, SlotsReader, slots};
use crate::books::Cause;
use crate::budget::Ledger;
use crate::cache::prefetch_lines;
use crate::limits::SERIES_PER_SHARD_MAX;
use crate::sample::Kind;
use crate::sync::Arc;

/// The worker's side.
#[derive(Debug)]
pub(super) struct Table {
    index: Index,
    slots: Slots,
    /// Where the name of a series that stands for others is made.
    overflow_name: Vec<u8>,
}

/// The coordinator's side.
#[derive(Debug)]
pub(super) struct TableReader {
    slots: SlotsReader,
}

/// The slot where a series likely is, until the end of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot(*const Slot);

impl Spot {
    /// Where nothing has been sought yet.
    pub(super) const NONE: Self = Self(std::ptr::null());
}

/// Makes both sides of an empty table, which asks `ledger` for each series it makes.
pub(super) fn table(ledger: Arc<Ledger>) -> (Table, TableReader) {
    let (slots, reader) = slots(ledger);
    let table = Table { index: Index::default(), slots, overflow_name: Vec::new() };
    (table, TableReader { slots: reader })
}

impl Table {
    /// The group where looking for a series begins; it is asked of the cache.
    #[inline(always)]
    pub(super) fn near(&self, head: Head) -> Near {
        self.index.near(head)
    }

    /// Where a series likely is; its slot is asked of the cache.
    ///
    /// # Safety
    /// `near` is of this table, and the batch in which it was found has not ended.
    #[inline(always)]
    #[expect(unsafe_code, reason = "passed on to the index")]
    pub(super) unsafe fn seek(&self, near: Near, head: Head) -> Spot {
        // SAFETY: passed on to the caller.
        let slot = self.slots.at(unsafe { self.index.likely(near, head) });
        prefetch_lines(slot.cast(), size_of::<Slot>());
        Spot(slot)
    }

    /// Asks the cache for what the payload at a spot points to, once the slot is here.
    ///
    /// # Safety
    /// The spot is of this table, and the batch in which it was found has not ended.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a spot is a slot of this table")]
    pub(super) unsafe fn prefetch_payload(&self, spot: Spot, epoch: u32) {
        // SAFETY: slots leave by eviction alone (passed on to the caller).
        let slot = unsafe { &*spot.0 };
        if let Some(payload) = slot.generations.load(epoch) {
            prefetch_payload(payload);
        }
    }

    /// The slot of a series, made if there is none.
    ///
    /// # Errors
    /// The cause why a new series cannot be taken in; its value is dropped under it.
    ///
    /// # Safety
    /// The spot is of this table, and the batch in which it was found has not ended.
    // Always inline: the call, and its result in memory, cost as much as the rest.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the worker looks through its slots")]
    pub(super) unsafe fn slot(
        &mut self,
        spot: Spot,
        head: Head,
        key: &[u8],
    ) -> Result<&Slot, Cause> {
        // SAFETY: slots leave by eviction alone (passed on to the caller).
        let slot = unsafe { &*spot.0 };
        // SAFETY: the caller is the worker: `Table` is its side.
        if unsafe { slot.identity() }.is_of(head, key) {
            return Ok(slot);
        }
        self.slot_beyond(head, key)
    }

    /// The slot of a series that is not where it likely was.
    #[inline(never)]
    fn slot_beyond(&mut self, head: Head, key: &[u8]) -> Result<&Slot, Cause> {
        let place = match self.find(head, key) {
            Some(place) => place,
            None => {
                self.admit(head, key)?;
                self.insert(head, key)?
            }
        };
        Ok(self.slots.slot(place))
    }

    /// The place of a series that is known.
    #[expect(unsafe_code, reason = "the worker looks through its slots")]
    fn find(&self, head: Head, key: &[u8]) -> Option<Place> {
        self.index.find(head, |place| {
            // SAFETY: the caller is the worker: `Table` is its side.
            unsafe { self.slots.slot(place).identity() }.is_of(head, key)
        })
    }

    /// Makes the slot of a series that has none.
    #[cold]
    fn insert(&mut self, head: Head, key: &[u8]) -> Result<Place, Cause> {
        // One place is that of no series.
        if SERIES_PER_SHARD_MAX <= self.slots.series_count() + 1 {
            return Err(Cause::SeriesLimit);
        }
        self.index.make_room(head)?;
        let place = self.slots.occupy(head, key);
        self.index.insert(head, place);
        Ok(place)
    }

    /// The batch has ended: no [`Near`] and no [`Spot`] is in use.
    #[inline]
    pub(super) fn end_batch(&mut self) {
        self.index.end_batch();
    }

    /// Frees slots that were retired and that nobody reads any more.
    pub(super) fn free_retired() {
        Slots::free_retired();
    }

    /// Takes idle series out of one sub-table of the index if enough of them are; returns how many.
    ///
    /// `oldest_epoch`: series last touched before it leave; at least two epochs back, so that both
    /// generations have been read.
    pub(super) fn evict(&mut self, sub_table: usize, oldest_epoch: u32) -> usize {
        let slots = &self.slots;
        let is_idle = |place: Place| slots.slot(place).generations.newest_stamp() < oldest_epoch;
        for place in self.index.places(sub_table) {
            prefetch_lines(slots.at(place).cast(), size_of::<Slot>());
        }
        let idle: Vec<Place> =
            self.index.places(sub_table).filter(|&place| is_idle(place)).collect();
        let len = self.index.len(sub_table);
        if idle.is_empty() || idle.len() * 4 < len {
            return 0;
        }
        if !self.index.retain(sub_table, len - idle.len(), |place| !is_idle(place)) {
            return 0;
        }
        for &place in &idle {
            self.slots.vacate(place);
        }
        idle.len()
    }

    /// Series in this shard.
    pub(super) fn series_count(&self) -> usize {
        self.slots.series_count()
    }
}

impl TableReader {
    /// Series of a kind that the worker has now, or had a moment ago.
    pub(super) fn series_of(&self, kind: Kind) -> usize {
        self.slots.series_of(kind)
    }

    /// Visits every series with a value under `epoch`, which must be sealed: mark, kind, key, payload.
    pub(super) fn for_each(&mut self, epoch: u32, visit: impl FnMut(&mut Mark, Kind, &[u8], u64)) {
        self.slots.for_each(epoch, visit);
    }
}

#[cfg(test)]
mod tests;
