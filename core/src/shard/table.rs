//! The table of a shard: open addressing in sub-tables, one writer, one reader.
//!
//! A slot is one cache line: identity (hash, kind, key, inline up to 32 bytes) and the two
//! generations of its value. The top eight bits of the hash choose one of 256 sub-tables, the low
//! 32 the slot in it; probing is linear. A sub-table that is three quarters full, or whose probes
//! grow long, is copied into a larger one and replaced: the copy is small, so no batch stalls, and
//! a reader that is still walking the old one goes on undisturbed, since crossbeam-epoch frees it
//! only when the reader has left. Eviction of idle slots is the same copy with fewer slots.
//!
//! **Who touches what.** The identity of a slot is written by the worker, once, while the slot is
//! vacant; the reader looks at it only after it has found the sealed epoch's stamp, which was stored
//! after the identity and is ordered by the flip (`flip.rs`). The generations are atomics. The
//! sub-table pointers are replaced by the worker (Release) and loaded by the reader (Acquire) under
//! an epoch guard. A copy made while the reader walks carries the same sealed values, so it does
//! not matter which of the two it walks.

use std::ptr;

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};

use super::flip::Generations;
use super::marks::{Mark, Marks};
use super::payload::payload_lines;
use crate::books::Cause;
use crate::limits::{PROBE_SLOTS_MAX, SERIES_PER_SHARD_MAX, SUB_TABLE_SLOTS_MIN, SUB_TABLES};
use crate::sample::Kind;
use crate::sync::{Arc, Ordering, UnsafeCell};

/// Key bytes that fit into a slot.
const KEY_INLINE_BYTES: usize = 32;

/// How much larger one growth may make a sub-table: beyond it, probes are long because keys were
/// made to meet, and no size helps.
const GROWTH_MAX: usize = 8;

/// `key_len` of a slot whose key lies outside.
const SPILLED: u8 = u8::MAX;

/// Who a slot belongs to. `kind` 0 = vacant, else the kind's number + 1.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Identity {
    hash: u32,
    kind: u8,
    key_len: u8,
    /// The key, or address and length of a boxed one.
    key: [u8; KEY_INLINE_BYTES],
}

const VACANT: Identity = Identity { hash: 0, kind: 0, key_len: 0, key: [0; KEY_INLINE_BYTES] };

/// One series of one shard: a cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    pub(super) generations: Generations,
    identity: UnsafeCell<Identity>,
}

const _: () = assert!(size_of::<Slot>() == 64);

#[derive(Debug)]
struct SubTable {
    slots: Box<[Slot]>,
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
            for slot in &owned.slots {
                slot.free_key();
            }
        }
    }
}

/// The worker's side.
#[derive(Debug)]
pub(super) struct Table {
    shared: Arc<SubTables>,
    /// The current sub-tables: the worker replaces them, so it need not load them.
    current: Box<[*const SubTable]>,
    lens: Box<[u32]>,
    series_count: usize,
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
    let mut current = Vec::with_capacity(SUB_TABLES);
    let mut tables = Vec::with_capacity(SUB_TABLES);
    for _ in 0..SUB_TABLES {
        let fresh = Owned::new(SubTable::of_size(SUB_TABLE_SLOTS_MIN));
        current.push(ptr::from_ref::<SubTable>(&fresh));
        tables.push(Atomic::from(fresh));
    }
    let shared = Arc::new(SubTables { tables: tables.into_boxed_slice() });
    let table = Table {
        shared: Arc::clone(&shared),
        current: current.into_boxed_slice(),
        lens: vec![0; SUB_TABLES].into_boxed_slice(),
        series_count: 0,
    };
    let marks = std::iter::repeat_with(Marks::default).take(SUB_TABLES).collect();
    (table, TableReader { shared, marks })
}

#[expect(clippy::cast_possible_truncation, reason = "the low half, on purpose")]
const fn slot_hash(hash: u64) -> u32 {
    hash as u32
}

const fn sub_table_index(hash: u64) -> usize {
    (hash >> 56) as usize
}

/// Where probing for `hash` starts: its share of the capacity, without a division.
const fn probe_start(hash: u32, capacity: usize) -> usize {
    ((hash as u64 * capacity as u64) >> 32) as usize
}

/// The places where a slot for `hash` may stand, in the order in which they are looked at.
#[inline]
fn probe(hash: u32, capacity: usize) -> impl Iterator<Item = usize> {
    let start = probe_start(hash, capacity);
    (start..capacity).chain(0..start).take(PROBE_SLOTS_MAX as usize)
}

impl Slot {
    fn vacant() -> Self {
        Self { generations: Generations::default(), identity: UnsafeCell::new(VACANT) }
    }

    /// # Safety
    /// The caller is the worker, or the reader behind a stamp of the sealed epoch.
    #[expect(unsafe_code, reason = "identity is a cell with one writer")]
    unsafe fn identity(&self) -> &Identity {
        // SAFETY: no write happens meanwhile: the worker writes only vacant slots, and is the
        // caller or has written long before (passed on to the caller).
        unsafe { &*self.identity.get() }
    }

    /// # Safety
    /// The caller is the worker, and the slot is vacant or not yet published.
    #[expect(unsafe_code, reason = "identity is a cell with one writer")]
    unsafe fn occupy(&self, identity: Identity) {
        // SAFETY: nobody reads the identity of a vacant slot (passed on to the caller).
        unsafe { *self.identity.get() = identity }
    }

    /// Frees a boxed key. Called by whoever takes the slot out for good.
    #[expect(unsafe_code, reason = "boxed keys are freed by hand")]
    fn free_key(&self) {
        // SAFETY: the slot has left its table: nobody else looks at it.
        let identity = unsafe { self.identity() };
        if identity.kind != 0 && identity.key_len == SPILLED {
            // SAFETY: a spilled key came from `Identity::new`, which leaked exactly this box; a slot
            // leaves for good once.
            drop(unsafe { Box::from_raw(identity.spilled_key()) });
        }
    }
}

impl Identity {
    fn new(hash: u32, kind: Kind, key: &[u8]) -> Self {
        let mut identity = Self { hash, kind: kind as u8 + 1, ..VACANT };
        if let Some(inline) = identity.key.get_mut(..key.len()) {
            inline.copy_from_slice(key);
            // At most 32.
            identity.key_len = u8::try_from(key.len()).unwrap_or(SPILLED);
        } else {
            let boxed = Box::into_raw(Box::<[u8]>::from(key));
            let (address, length) = identity.key.split_at_mut(8);
            address.copy_from_slice(&boxed.cast::<u8>().expose_provenance().to_ne_bytes());
            length[..8].copy_from_slice(&key.len().to_ne_bytes());
            identity.key_len = SPILLED;
        }
        identity
    }

    fn spilled_key(&self) -> *mut [u8] {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&self.key[at..at + 8]);
            usize::from_ne_bytes(bytes)
        };
        ptr::slice_from_raw_parts_mut(ptr::with_exposed_provenance_mut(word(0)), word(8))
    }

    #[expect(unsafe_code, reason = "long keys lie in boxes of their own")]
    fn key(&self) -> &[u8] {
        if self.key_len == SPILLED {
            // SAFETY: the box lives as long as the slot is in a table that somebody can reach, and
            // is never written.
            unsafe { &*self.spilled_key() }
        } else {
            self.key.get(..usize::from(self.key_len)).unwrap_or_default()
        }
    }

    #[inline]
    fn is(&self, hash: u32, kind: Kind, key: &[u8]) -> bool {
        self.hash == hash && self.kind == kind as u8 + 1 && self.key() == key
    }

    fn kind(&self) -> Option<Kind> {
        Kind::ALL.get(usize::from(self.kind).checked_sub(1)?).copied()
    }
}

impl SubTable {
    fn of_size(slots: u32) -> Self {
        let slots = std::iter::repeat_with(Slot::vacant).take(slots as usize).collect();
        Self { slots, version: 0 }
    }

    /// Place of a key's slot and `true`, or of the vacant slot where it belongs and `false`; `None`
    /// if neither is within the probe bound.
    #[inline]
    #[expect(unsafe_code, reason = "the worker reads identities it wrote")]
    fn find(&self, hash: u32, kind: Kind, key: &[u8]) -> Option<(usize, bool)> {
        for place in probe(hash, self.slots.len()) {
            // SAFETY: the caller is the worker (`Table` is the only one to call this).
            let identity = unsafe { self.slots[place].identity() };
            if identity.is(hash, kind, key) {
                return Some((place, true));
            }
            if identity.kind == 0 {
                return Some((place, false));
            }
        }
        None
    }
}

impl Table {
    #[expect(unsafe_code, reason = "the worker's own pointer to a sub-table")]
    fn sub_table(&self, index: usize) -> &SubTable {
        // SAFETY: `current[index]` is the sub-table in `shared`, replaced by `&mut self` alone.
        unsafe { &*self.current[index] }
    }

    /// Asks the cache for the line where probing for `hash` starts.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        let slots = &self.sub_table(sub_table_index(hash)).slots;
        if let Some(slot) = slots.get(probe_start(slot_hash(hash), slots.len())) {
            prefetch_line(ptr::from_ref(slot).cast());
        }
    }

    /// Asks the cache for what the payload of a series points to, once its slot is here.
    ///
    /// Looks at the first slot alone: if that is another series' it fetches in vain, no more.
    #[inline]
    #[expect(unsafe_code, reason = "the worker reads identities it wrote")]
    pub(super) fn prefetch_payload(&self, hash: u64, epoch: u32) {
        let slots = &self.sub_table(sub_table_index(hash)).slots;
        let Some(slot) = slots.get(probe_start(slot_hash(hash), slots.len())) else { return };
        // SAFETY: the caller is the worker: `Table` is its side.
        let identity = unsafe { slot.identity() };
        if identity.kind <= Kind::Counter as u8 + 1 {
            return;
        }
        if let Some(payload) = slot.generations.load(epoch) {
            let [first, second] = payload_lines(payload);
            prefetch_line(first);
            prefetch_line(second);
        }
    }

    /// The slot of a series, made if there is none.
    ///
    /// # Errors
    /// The cause why a new series cannot be taken in; its value is dropped under it.
    #[inline]
    pub(super) fn slot(&mut self, hash: u64, kind: Kind, key: &[u8]) -> Result<&Slot, Cause> {
        let index = sub_table_index(hash);
        let place = match self.sub_table(index).find(slot_hash(hash), kind, key) {
            Some((place, true)) => place,
            _ => self.insert(index, slot_hash(hash), kind, key)?,
        };
        Ok(&self.sub_table(index).slots[place])
    }

    /// Makes the slot of a series that has none; returns its place.
    #[cold]
    #[expect(unsafe_code, reason = "the worker occupies a vacant slot")]
    fn insert(&mut self, index: usize, hash: u32, kind: Kind, key: &[u8]) -> Result<usize, Cause> {
        if SERIES_PER_SHARD_MAX <= self.series_count {
            return Err(Cause::SeriesLimit);
        }
        loop {
            let capacity = self.sub_table(index).slots.len();
            let len = self.lens[index] as usize;
            let is_full = capacity * 3 < (len + 1) * 4;
            if !is_full && let Some((place, is_known)) = self.sub_table(index).find(hash, kind, key)
            {
                if !is_known {
                    let vacant = &self.sub_table(index).slots[place];
                    // SAFETY: the worker calls, and `find` says that the slot is vacant.
                    unsafe { vacant.occupy(Identity::new(hash, kind, key)) };
                    self.lens[index] += 1;
                    self.series_count += 1;
                }
                return Ok(place);
            }
            // Long probes in a table that is nearly empty are no accident: keys were made to meet.
            if !is_full && len * 8 < capacity {
                return Err(Cause::ProbeLimit);
            }
            self.grow(index)?;
        }
    }

    /// Copies a sub-table into a larger one.
    ///
    /// # Errors
    /// [`Cause::ProbeLimit`] where keys were made to meet so that no larger table takes them all.
    fn grow(&mut self, index: usize) -> Result<(), Cause> {
        let mut capacity = self.sub_table(index).slots.len();
        let capacity_max = capacity.saturating_mul(GROWTH_MAX);
        while capacity < capacity_max {
            capacity += capacity / 2;
            if self.rebuild(index, capacity, 0) {
                return Ok(());
            }
        }
        Err(Cause::ProbeLimit)
    }

    /// Copies a sub-table into one of `capacity` slots, without slots last touched before
    /// `oldest_epoch`, and publishes it; `false` and no change if a series would stand where
    /// [`SubTable::find`] does not look, and so get a second slot.
    #[expect(unsafe_code, reason = "slots are copied, and the old ones retired")]
    fn rebuild(&mut self, index: usize, capacity: usize, oldest_epoch: u32) -> bool {
        let slots = u32::try_from(capacity).unwrap_or(u32::MAX).max(SUB_TABLE_SLOTS_MIN);
        let mut fresh = SubTable::of_size(slots);
        fresh.version = self.sub_table(index).version + 1;
        let mut left = Vec::new();
        let mut len = 0;
        for (place, slot) in self.sub_table(index).slots.iter().enumerate() {
            // SAFETY: the worker reads identities it wrote.
            let identity = unsafe { slot.identity() };
            if identity.kind == 0 {
                continue;
            }
            if slot.generations.newest_stamp() < oldest_epoch {
                left.push(place);
                continue;
            }
            let is_vacant = |place: &usize| fresh.slots[*place].identity.get_mut().kind == 0;
            let Some(place) = probe(identity.hash, slots as usize).find(is_vacant) else {
                return false;
            };
            *fresh.slots[place].identity.get_mut() = *identity;
            fresh.slots[place].generations = slot.generations.duplicate();
            len += 1;
        }
        let guard = crossbeam_epoch::pin();
        let fresh = Owned::new(fresh).into_shared(&guard);
        self.current[index] = fresh.as_raw();
        // AcqRel: Release pairs with the Acquire in TableReader::for_each; the copied slots are
        // there before the pointer is.
        let old = self.shared.tables[index].swap(fresh, Ordering::AcqRel, &guard);
        self.series_count -= left.len();
        self.lens[index] = len;
        // SAFETY: not null, and alive until the retirement below.
        let retired = unsafe { old.deref() };
        for place in left {
            // A reader passes over a slot with stamps this old without looking at its key.
            retired.slots[place].free_key();
        }
        // SAFETY: the swap took it out of reach; readers hold guards.
        unsafe { guard.defer_destroy(old) };
        // Else as many as 64 of them would wait in this thread's bag for ever.
        guard.flush();
        true
    }

    /// Takes idle slots out of one sub-table if enough of them are.
    ///
    /// `oldest_epoch`: slots last touched before it leave; at least two epochs back, so that both
    /// generations have been read.
    pub(super) fn evict(&mut self, index: usize, oldest_epoch: u32) -> usize {
        let slots = &self.sub_table(index).slots;
        let idle = slots
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
        let capacity = (len - idle) * 2;
        let before = self.series_count;
        self.rebuild(index, capacity, oldest_epoch);
        before - self.series_count
    }

    /// Series in this shard.
    pub(super) fn series_count(&self) -> usize {
        self.series_count
    }
}

impl TableReader {
    /// Visits every series with a value under `epoch`, which must be sealed: mark, kind, key, payload.
    #[expect(unsafe_code, reason = "the reader looks at slots another thread writes")]
    pub(super) fn for_each(
        &mut self,
        epoch: u32,
        mut visit: impl FnMut(&mut Mark, Kind, &[u8], u64),
    ) {
        for (table, marks) in self.shared.tables.iter().zip(&mut self.marks) {
            let guard: Guard = crossbeam_epoch::pin();
            // Acquire: pairs with the AcqRel swap in Table::rebuild.
            let current: Shared<'_, SubTable> = table.load(Ordering::Acquire, &guard);
            // SAFETY: never null, and kept alive by the guard.
            let sub_table = unsafe { current.deref() };
            let marks = marks.of(sub_table.version, sub_table.slots.len());
            for (slot, mark) in sub_table.slots.iter().zip(marks) {
                let Some(payload) = slot.generations.load(epoch) else { continue };
                // SAFETY: the stamp of a sealed epoch was found: the identity was written before it
                // and is never written again while the slot bears it.
                let identity = unsafe { slot.identity() };
                if let Some(kind) = identity.kind() {
                    visit(mark, kind, identity.key(), payload);
                }
            }
        }
    }
}

#[inline]
fn prefetch_line(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(unsafe_code, reason = "a prefetch is an intrinsic")]
        // SAFETY: a prefetch reads nothing architecturally and cannot fault.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys with these hashes, all in sub-table 0, touched under `epoch`.
    fn fill(table: &mut Table, hashes: impl Iterator<Item = u32>, epoch: u32) -> usize {
        hashes
            .filter(|&hash| {
                let key = format!("{epoch}.{hash}.{}", table.lens[0]);
                let slot = table.slot(u64::from(hash), Kind::Counter, key.as_bytes());
                slot.is_ok_and(|slot| {
                    slot.generations.store(epoch, 1);
                    true
                })
            })
            .count()
    }

    /// Whether each occupied slot of sub-table 0 is where `find` finds it.
    fn is_found(table: &Table) -> bool {
        let sub_table = table.sub_table(0);
        sub_table.slots.iter().enumerate().all(|(place, slot)| {
            #[expect(unsafe_code, reason = "one thread")]
            // SAFETY: the test is the worker.
            let identity = unsafe { slot.identity() };
            let Some(kind) = identity.kind() else { return true };
            sub_table.find(identity.hash, kind, identity.key()) == Some((place, true))
        })
    }

    #[test]
    fn keys_made_to_meet_are_dropped_beyond_the_probe_bound_and_grow_nothing_without_end() {
        let (mut table, _reader) = table();
        let taken = fill(&mut table, std::iter::repeat_n(7, 10_000), 5);
        assert_eq!(taken, PROBE_SLOTS_MAX as usize);
        assert!(table.sub_table(0).slots.len() < 8 * 2 * PROBE_SLOTS_MAX as usize);
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
        assert!(table.slot(42_949_672, Kind::Counter, key.as_bytes()).is_ok());
        assert_eq!(table.series_count(), before, "the first of the keys is known");
    }

    #[test]
    fn a_full_shard_refuses_new_series_and_knows_the_old_ones() {
        let (mut table, _reader) = table();
        assert_eq!(fill(&mut table, [1, 2].into_iter(), 5), 2);
        table.series_count = SERIES_PER_SHARD_MAX;
        assert_eq!(fill(&mut table, [3].into_iter(), 5), 0);
        assert!(table.slot(1, Kind::Counter, b"5.1.0").is_ok());
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
