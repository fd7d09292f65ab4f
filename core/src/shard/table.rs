//! The table of a shard: open addressing in sub-tables, one writer, one reader.
//!
//! The top eight bits of the hash choose one of 256 sub-tables, the low 32 a pair of slots in it.
//! Probing is linear from there; the two slots of the first pair, which the cache fetches together,
//! are compared without a branch, for which of them it is cannot be foreseen. A sub-table that is
//! too full, or whose probes grow long, is copied into a larger one and replaced: the copy
//! is small, so no batch stalls, and no two sub-tables are of one size, so that a flood of new names
//! pays for copies all the way and not for all of them at once. A reader that is still walking the
//! old one goes on undisturbed, since crossbeam-epoch frees it only when the reader has left. Eviction
//! of idle slots is the same copy with fewer slots (docs/decisions/016-sizes-of-sub-tables.md).
//!
//! **Who touches what.** Of a slot: `slot.rs`. The sub-table pointers are replaced by the worker
//! (Release) and loaded by the reader (Acquire) under an epoch guard. A copy made while the reader
//! walks carries the same sealed values, so it does not matter which of the two it walks.

use std::ptr;

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};

use super::marks::{Mark, Marks};
use super::payload::prefetch_payload;
use super::slot::{Head, Identity, Slot};
use crate::books::Cause;
use crate::cache::prefetch_lines;
use crate::limits::{PROBE_SLOTS_MAX, SERIES_PER_SHARD_MAX, SUB_TABLE_SLOTS_MIN, SUB_TABLES};
use crate::sample::Kind;
use crate::sync::{Arc, AtomicUsize, Ordering};

/// How much larger one growth may make a sub-table: beyond it, probes are long because keys were
/// made to meet, and no size helps.
const GROWTH_MAX: usize = 8;

/// The part of a sub-table's slots that may be taken. Sub-tables are between this and two thirds of
/// it full: one name in six or seven then stands outside its first pair.
const LOAD_MAX: (usize, usize) = (7, 10);

/// Slots that are looked at together.
const PAIR: usize = 2;

const _: () = assert!((SUB_TABLE_SLOTS_MIN as usize).is_multiple_of(PAIR));

/// Slots of sub-table `index` after it has grown `steps` times: a size of its own, half as much again
/// each time.
///
/// Keys spread evenly: sub-tables of one size would all grow within a few thousand new names, and a
/// worker whom a flood of new names finds would do little else for a while.
const fn capacity_at(index: usize, steps: u32) -> usize {
    // First sizes lie between one and one and a half of the smallest, in 512ths.
    let first = (2 * SUB_TABLES + index) as u128 * SUB_TABLE_SLOTS_MIN as u128;
    let slots = (first * 3_u128.pow(steps)) >> (9 + steps);
    (slots as usize).next_multiple_of(PAIR)
}

const _: () = assert!(2 * SUB_TABLES == 1 << 9, "the shift above divides by it");

/// Whether a sub-table of `capacity` slots takes no more than the `len` series that it has.
const fn is_full(len: usize, capacity: usize) -> bool {
    capacity * LOAD_MAX.0 < (len + 1) * LOAD_MAX.1
}

#[derive(Debug)]
struct SubTable {
    pairs: Box<[[Slot; PAIR]]>,
    /// Replacements before it: within one version a slot never changes hands.
    version: u64,
}

#[expect(unsafe_code, reason = "slots are shared between one writer and one reader")]
// SAFETY:
// - identities are written by the worker alone, and read by the reader only behind a stamp that was
//   stored after them (module text);
// - everything else in a slot is atomic.
unsafe impl Sync for SubTable {}

#[expect(unsafe_code, reason = "slots are freed on either side")]
// SAFETY: a slot owns nothing that belongs to a thread; its keys and payloads are plain boxes.
unsafe impl Send for SubTable {}

/// What both sides hold.
#[derive(Debug)]
struct SubTables {
    tables: Box<[Atomic<SubTable>]>,
    /// Series of each kind. The worker alone writes them; for the reader they are about right.
    series: [AtomicUsize; Kind::ALL.len()],
}

impl SubTables {
    fn series_count(&self) -> usize {
        self.series.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// One series more, or one less; the caller is the worker, who alone writes.
    fn count(&self, head: Head, change: impl Fn(usize) -> usize) {
        if let Some(kind) = head.kind() {
            let count = &self.series[kind as usize];
            count.store(change(count.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }
}

impl Drop for SubTables {
    #[expect(unsafe_code, reason = "the last owner takes the sub-tables apart")]
    fn drop(&mut self) {
        for table in &mut self.tables {
            let current = std::mem::replace(table, Atomic::null());
            // SAFETY:
            // - unique: both sides are gone, since they share this by `Arc`;
            // - not null: every sub-table is set at construction and only ever replaced.
            let owned = unsafe { current.into_owned() };
            for slot in owned.slots() {
                slot.free_key();
            }
        }
    }
}

/// The worker's side.
#[derive(Debug)]
pub(super) struct Table {
    shared: Arc<SubTables>,
    /// The slots of the current sub-tables: the worker replaces them, so it need not load them.
    current: Box<[*const [[Slot; PAIR]]; SUB_TABLES]>,
    /// Series in each sub-table.
    lens: Box<[u32]>,
    /// How often each has grown from its smallest size: see [`capacity_at`].
    steps: Box<[u32]>,
    /// How often each was replaced.
    versions: Box<[u64]>,
}

#[expect(unsafe_code, reason = "raw pointers to sub-tables move with their owner")]
// SAFETY: `current` points into `shared`, which is kept alive here and replaced by this owner only.
unsafe impl Send for Table {}

/// The coordinator's side.
#[derive(Debug)]
pub(super) struct TableReader {
    shared: Arc<SubTables>,
    /// What the visitor remembers, per sub-table.
    marks: Box<[Marks]>,
}

/// Makes both sides of an empty table.
pub(super) fn table() -> (Table, TableReader) {
    let mut tables = Vec::with_capacity(SUB_TABLES);
    let current = std::array::from_fn(|index| {
        let fresh = SubTable::of_size(capacity_at(index, 0));
        let pairs = ptr::from_ref(&*fresh.pairs);
        tables.push(Atomic::new(fresh));
        pairs
    });
    let series = std::array::from_fn(|_| AtomicUsize::new(0));
    let shared = Arc::new(SubTables { tables: tables.into_boxed_slice(), series });
    let table = Table {
        shared: Arc::clone(&shared),
        current: Box::new(current),
        lens: vec![0; SUB_TABLES].into_boxed_slice(),
        steps: vec![0; SUB_TABLES].into_boxed_slice(),
        versions: vec![0; SUB_TABLES].into_boxed_slice(),
    };
    let marks = std::iter::repeat_with(Marks::default).take(SUB_TABLES).collect();
    (table, TableReader { shared, marks })
}

/// The pair at which probing for `hash` starts: its share of the pairs, without a division.
const fn pair_of(hash: u32, pairs: usize) -> usize {
    ((hash as u64 * pairs as u64) >> 32) as usize
}

/// The places where a slot for `hash` may stand, in the order in which they are looked at.
#[inline]
fn probe(hash: u32, capacity: usize) -> impl Iterator<Item = usize> {
    let start = pair_of(hash, capacity / PAIR) * PAIR;
    (start..capacity).chain(0..start).take(PROBE_SLOTS_MAX as usize)
}

impl SubTable {
    fn of_size(slots: usize) -> Self {
        let pair = || [Slot::vacant(), Slot::vacant()];
        Self { pairs: std::iter::repeat_with(pair).take(slots / PAIR).collect(), version: 0 }
    }

    fn slots(&self) -> &[Slot] {
        self.pairs.as_flattened()
    }
}

/// Place of a series' slot and `true`, or of the vacant slot where it belongs and `false`; `None`
/// if neither is within the probe bound.
///
/// # Safety
/// The caller is the worker whose slots these are.
#[expect(unsafe_code, reason = "the worker reads identities it wrote")]
unsafe fn find(slots: &[Slot], head: Head, key: &[u8]) -> Option<(usize, bool)> {
    for place in probe(head.slot_hash(), slots.len()) {
        // SAFETY: passed on to the caller.
        let identity = unsafe { slots[place].identity() };
        if identity.head == head && identity.key() == key {
            return Some((place, true));
        }
        if identity.head == Head::VACANT {
            return Some((place, false));
        }
    }
    None
}

impl Table {
    #[inline]
    #[expect(unsafe_code, reason = "the worker's own pointer to its slots")]
    fn pairs(&self, index: usize) -> &[[Slot; PAIR]] {
        // SAFETY: `current[index]` are the slots of the sub-table in `shared`, replaced by
        // `&mut self` alone.
        unsafe { &*self.current[index] }
    }

    fn slots(&self, index: usize) -> &[Slot] {
        self.pairs(index).as_flattened()
    }

    /// Asks the cache for the lines where probing for a series starts.
    #[inline]
    pub(super) fn prefetch(&self, head: Head) {
        if let Some(pair) = first_pair(self.pairs(head.sub_table()), head) {
            prefetch_lines(ptr::from_ref(pair).cast(), size_of_val(pair));
        }
    }

    /// Asks the cache for what the payload of a series points to, once its slot is here.
    ///
    /// Looks at the first pair alone; what stands elsewhere comes late, no more.
    #[inline]
    #[expect(unsafe_code, reason = "the worker reads identities it wrote")]
    pub(super) fn prefetch_payload(&self, head: Head, epoch: u32) {
        // SAFETY: the caller is the worker: `Table` is its side.
        let slot = unsafe { pair_member(self.pairs(head.sub_table()), head) };
        if let Some(payload) = slot.and_then(|slot| slot.generations.load(epoch)) {
            prefetch_payload(payload);
        }
    }

    /// The slot of a series, made if there is none.
    ///
    /// # Errors
    /// The cause why a new series cannot be taken in; its value is dropped under it.
    // Always inline: the call, and its result in memory, cost as much as the rest.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the worker looks through its slots")]
    pub(super) fn slot(&mut self, head: Head, key: &[u8]) -> Result<&Slot, Cause> {
        // SAFETY: as in `pairs`; by hand, for a borrow that is returned would hold `self` for the
        // other way out as well.
        let pairs = unsafe { &*self.current[head.sub_table()] };
        // SAFETY: the caller is the worker: `Table` is its side.
        if let Some(slot) = unsafe { pair_member(pairs, head) } {
            // SAFETY: the same.
            let identity = unsafe { slot.identity() };
            if identity.head == head && identity.has_key(key) {
                return Ok(slot);
            }
        }
        self.slot_beyond(head, key)
    }

    /// The slot of a series that is not one of its first pair.
    #[inline(never)]
    #[expect(unsafe_code, reason = "the worker looks through its slots")]
    fn slot_beyond(&mut self, head: Head, key: &[u8]) -> Result<&Slot, Cause> {
        let index = head.sub_table();
        // SAFETY: the caller is the worker: `Table` is its side.
        let place = match unsafe { find(self.slots(index), head, key) } {
            Some((place, true)) => place,
            vacant => self.insert(head, key, vacant.map(|(place, _)| place))?,
        };
        Ok(&self.slots(index)[place])
    }

    /// Makes the slot of a series that has none, at `vacant` if there is a place for it and the
    /// sub-table is not full; returns its place.
    #[cold]
    #[expect(unsafe_code, reason = "the worker occupies a vacant slot")]
    fn insert(&mut self, head: Head, key: &[u8], vacant: Option<usize>) -> Result<usize, Cause> {
        let index = head.sub_table();
        if SERIES_PER_SHARD_MAX <= self.series_count() {
            return Err(Cause::SeriesLimit);
        }
        let mut vacant = vacant;
        loop {
            let (capacity, len) = (self.slots(index).len(), self.lens[index] as usize);
            let is_full = is_full(len, capacity);
            if let Some(place) = vacant.filter(|_| !is_full) {
                // SAFETY: the worker calls, and `find` says that the slot is vacant.
                unsafe { self.slots(index)[place].occupy(Identity::new(head, key)) };
                self.lens[index] += 1;
                self.shared.count(head, |count| count + 1);
                return Ok(place);
            }
            // Long probes in a table that is nearly empty are no accident: keys were made to meet.
            if !is_full && len * 8 <= capacity {
                return Err(Cause::ProbeLimit);
            }
            self.grow(index)?;
            // SAFETY: the caller is the worker: `Table` is its side.
            vacant = unsafe { find(self.slots(index), head, key) }.map(|(place, _)| place);
        }
    }

    /// Copies a sub-table into a larger one.
    ///
    /// # Errors
    /// [`Cause::ProbeLimit`] where keys were made to meet so that no larger table takes them all.
    fn grow(&mut self, index: usize) -> Result<(), Cause> {
        let capacity_max = self.slots(index).len().saturating_mul(GROWTH_MAX);
        for steps in self.steps[index] + 1.. {
            if capacity_max < capacity_at(index, steps) {
                break;
            }
            if self.rebuild(index, steps, 0) {
                return Ok(());
            }
        }
        Err(Cause::ProbeLimit)
    }

    /// Copies a sub-table into one of its size after `steps`, without slots last touched before
    /// `oldest_epoch`, and publishes it; `false` and no change if a series would stand where
    /// [`find`] does not look, and so get a second slot.
    #[expect(unsafe_code, reason = "slots are copied, and the old ones retired")]
    fn rebuild(&mut self, index: usize, steps: u32, oldest_epoch: u32) -> bool {
        let capacity = capacity_at(index, steps);
        let mut fresh = SubTable::of_size(capacity);
        fresh.version = self.versions[index] + 1;
        let mut left = Vec::new();
        let mut len = 0;
        for (place, slot) in self.slots(index).iter().enumerate() {
            // SAFETY: the worker reads identities it wrote.
            let identity = unsafe { slot.identity() };
            if identity.head == Head::VACANT {
                continue;
            }
            if slot.generations.newest_stamp() < oldest_epoch {
                left.push((place, identity.head));
                continue;
            }
            let slots = fresh.pairs.as_flattened_mut();
            let is_vacant = |place: &usize| slots[*place].own_head() == Head::VACANT;
            let Some(place) = probe(identity.head.slot_hash(), capacity).find(is_vacant) else {
                return false;
            };
            slots[place] = slot.duplicate(*identity);
            len += 1;
        }
        let guard = crossbeam_epoch::pin();
        self.current[index] = ptr::from_ref(&*fresh.pairs);
        let fresh = Owned::new(fresh).into_shared(&guard);
        // AcqRel: Release pairs with the Acquire in TableReader::for_each; the copied slots are
        // there before the pointer is.
        let old = self.shared.tables[index].swap(fresh, Ordering::AcqRel, &guard);
        self.lens[index] = len;
        self.steps[index] = steps;
        self.versions[index] += 1;
        // SAFETY: not null, and alive until the retirement below.
        let retired = unsafe { old.deref() };
        for (place, head) in left {
            self.shared.count(head, |count| count - 1);
            // A reader passes over a slot with stamps this old without looking at its key.
            retired.slots()[place].free_key();
        }
        // SAFETY: the swap took it out of reach; readers hold guards.
        unsafe { guard.defer_destroy(old) };
        // Else as many as 64 of them would wait in this thread's bag for ever.
        guard.flush();
        true
    }

    /// Frees some of the sub-tables that were replaced and that nobody reads any more.
    ///
    /// A replacement does so too, but the last ones would wait for the next, or be freed by another
    /// thread, whose allocator keeps what is not its own.
    pub(super) fn free_replaced() {
        crossbeam_epoch::pin().flush();
    }

    /// Takes idle slots out of one sub-table if enough of them are.
    ///
    /// `oldest_epoch`: slots last touched before it leave; at least two epochs back, so that both
    /// generations have been read.
    pub(super) fn evict(&mut self, index: usize, oldest_epoch: u32) -> usize {
        let idle = self
            .slots(index)
            .iter()
            .filter(|slot| {
                let stamp = slot.generations.newest_stamp();
                // Stamp 0 with an identity cannot be: a slot is touched when it is occupied.
                0 < stamp && stamp < oldest_epoch
            })
            .count();
        let len = self.lens[index] as usize;
        if idle == 0 || idle * 4 < len {
            return 0;
        }
        // With room for a third more, so that it does not grow again at once.
        let wanted = (len - idle) + (len - idle) / 3;
        let steps = (0..).find(|&steps| !is_full(wanted, capacity_at(index, steps)));
        self.rebuild(index, steps.unwrap_or_default(), oldest_epoch);
        len - self.lens[index] as usize
    }

    /// Series in this shard.
    pub(super) fn series_count(&self) -> usize {
        self.shared.series_count()
    }
}

impl TableReader {
    /// Series of a kind that the worker has now, or had a moment ago.
    pub(super) fn series_of(&self, kind: Kind) -> usize {
        self.shared.series[kind as usize].load(Ordering::Relaxed)
    }

    /// Visits every series with a value under `epoch`, which must be sealed: mark, kind, key, payload.
    #[expect(unsafe_code, reason = "the reader looks at slots another thread writes")]
    pub(super) fn for_each(
        &mut self,
        epoch: u32,
        mut visit: impl FnMut(&mut Mark, Kind, &[u8], u64),
    ) {
        let mut guard: Guard = crossbeam_epoch::pin();
        for (table, marks) in self.shared.tables.iter().zip(&mut self.marks) {
            // As good as pinning anew, but without the collection that comes with some of those: the
            // sub-tables are the worker's, who frees what it allocated.
            guard.repin();
            // Acquire: pairs with the AcqRel swap in Table::rebuild.
            let current: Shared<'_, SubTable> = table.load(Ordering::Acquire, &guard);
            // SAFETY: never null, and kept alive by the guard.
            let sub_table = unsafe { current.deref() };
            let marks = marks.of(sub_table.version, sub_table.slots().len());
            for (slot, mark) in sub_table.slots().iter().zip(marks) {
                let Some(payload) = slot.generations.load(epoch) else { continue };
                // SAFETY: the stamp of a sealed epoch was found: the identity was written before it
                // and is never written again while the slot bears it.
                let identity = unsafe { slot.identity() };
                if let Some(kind) = identity.head.kind() {
                    visit(mark, kind, identity.key(), payload);
                }
            }
        }
    }
}

/// The two slots that are looked at first.
#[inline]
fn first_pair(pairs: &[[Slot; PAIR]], head: Head) -> Option<&[Slot; PAIR]> {
    pairs.get(pair_of(head.slot_hash(), pairs.len()))
}

/// The one of the first two slots for a head that bears it, else the first of them.
///
/// # Safety
/// The caller is the worker whose slots these are.
#[inline]
#[expect(unsafe_code, reason = "the worker reads identities it wrote")]
unsafe fn pair_member(pairs: &[[Slot; PAIR]], head: Head) -> Option<&Slot> {
    let pair = first_pair(pairs, head)?;
    // SAFETY: passed on to the caller.
    let is_second = unsafe { pair[1].identity() }.head == head;
    Some(&pair[usize::from(is_second)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys with these hashes, all in sub-table 0, touched under `epoch`.
    fn fill(table: &mut Table, hashes: impl Iterator<Item = u32>, epoch: u32) -> usize {
        hashes
            .filter(|&hash| {
                let key = format!("{epoch}.{hash}.{}", table.lens[0]);
                let slot = slot_of(table, hash, &key);
                slot.is_ok_and(|slot| {
                    slot.generations.store(epoch, 1);
                    true
                })
            })
            .count()
    }

    fn slot_of<'t>(table: &'t mut Table, hash: u32, key: &str) -> Result<&'t Slot, Cause> {
        let head = Head::of(u64::from(hash), Kind::Counter, key.as_bytes());
        table.slot(head, key.as_bytes())
    }

    /// Whether each occupied slot of sub-table 0 is where `find` finds it.
    fn is_found(table: &Table) -> bool {
        let slots = table.slots(0);
        slots.iter().enumerate().all(|(place, slot)| {
            #[expect(unsafe_code, reason = "one thread")]
            // SAFETY: the test is the worker.
            let identity = unsafe { slot.identity() };
            #[expect(unsafe_code, reason = "one thread")]
            // SAFETY: the test is the worker.
            let found = unsafe { find(slots, identity.head, identity.key()) };
            identity.head == Head::VACANT || found == Some((place, true))
        })
    }

    #[test]
    fn keys_made_to_meet_are_dropped_beyond_the_probe_bound_and_grow_nothing_without_end() {
        let (mut table, _reader) = table();
        let taken = fill(&mut table, std::iter::repeat_n(7, 10_000), 5);
        assert_eq!(taken, PROBE_SLOTS_MAX as usize);
        assert!(table.slots(0).len() < 8 * 2 * PROBE_SLOTS_MAX as usize);
        assert!(is_found(&table));
        assert_eq!(fill(&mut table, [u32::MAX].into_iter(), 5), 1, "others find their place");
    }

    #[test]
    fn a_shrunken_table_still_finds_keys_that_meet() {
        let (mut table, _reader) = table();
        // Two clusters, far apart in a large table and one run in a small one.
        fill(&mut table, (0..2_000).map(|number| u32::MAX / 2 + u32::MAX / 4_000 * number), 1);
        fill(&mut table, std::iter::repeat_n(u32::MAX / 100, 100), 9);
        fill(&mut table, std::iter::repeat_n(u32::MAX / 25, 100), 9);
        assert!(is_found(&table));
        table.evict(0, 8);
        assert!(is_found(&table));
        let before = table.series_count();
        let key = "9.42949672.2000";
        assert!(slot_of(&mut table, 42_949_672, key).is_ok());
        assert_eq!(table.series_count(), before, "the first of the keys is known");
    }

    #[test]
    fn a_full_shard_refuses_new_series_and_knows_the_old_ones() {
        let (mut table, _reader) = table();
        assert_eq!(fill(&mut table, [1, 2].into_iter(), 5), 2);
        table.shared.series[Kind::Set as usize].store(SERIES_PER_SHARD_MAX, Ordering::Relaxed);
        assert_eq!(fill(&mut table, [3].into_iter(), 5), 0);
        assert!(slot_of(&mut table, 1, "5.1.0").is_ok());
    }

    #[test]
    fn sub_tables_grow_one_after_the_other_and_stay_half_full() {
        let (mut table, _reader) = table();
        let (mut grown, mut window_end) = (0, 4_000);
        for number in 1..=200_000_u64 {
            // Spreads numbers evenly, as a hash does.
            let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
            let key = number.to_string();
            let head = Head::of(mixed, Kind::Counter, key.as_bytes());
            assert!(table.slot(head, key.as_bytes()).is_ok());
            if number == window_end {
                let now: u64 = table.versions.iter().sum();
                // All of them would be 256; a share of a fiftieth of a doubling is 8.
                let is_first = grown == 0;
                assert!(is_first || now - grown < 24, "{} at {number}", now - grown);
                (grown, window_end) = (now, window_end + window_end / 50);
            }
        }
        let slots: usize = (0..SUB_TABLES).map(|index| table.slots(index).len()).sum();
        assert!(slots < 200_000 * 5 / 2, "{slots} slots for 200,000 series");
        assert_eq!(table.series_count(), 200_000);
    }

    #[test]
    fn a_few_idle_slots_are_not_worth_a_copy() {
        let (mut table, _reader) = table();
        fill(&mut table, (0..20).map(|number| number << 20), 1);
        fill(&mut table, (0..80).map(|number| number << 20), 9);
        assert_eq!(table.evict(0, 8), 0);
        fill(&mut table, (0..10).map(|number| number << 20), 1);
        assert_eq!((table.evict(0, 8), table.series_count()), (30, 80));
    }
}
