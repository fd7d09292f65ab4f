//! The slots of a shard: one cache line a series, dense, and never moved.
//!
//! Slots lie in *slabs* of 4,096. A series gets the first vacant place of a slab that has one, and
//! stays there until it leaves; then the place is given to another. A slab that all have left goes
//! back to the allocator, so that a flood of names that never come again leaves nothing behind.
//!
//! **Who touches what.** Of a slot: `slot.rs`. The slab pointers are set by the worker (Release) and
//! loaded by the reader (Acquire) under a guard of crossbeam-epoch, which frees a slab only when the
//! reader has left it. A slab that leaves holds no value of the generation that is read: its series
//! have been idle for longer.
//!
//! **Places and marks.** The reader keeps a mark for each place (`marks.rs`). A place that changes
//! hands bears the other *turn*, a bit of its head, and a slab that takes the number of one that left
//! bears another serial: so a mark is never about another series.

use std::collections::BTreeSet;
use std::ptr;

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};

use super::index::Place;
use super::marks::{Mark, Marks};
use super::slot::{Head, Identity, Slot};
use crate::budget::Ledger;
use crate::give_way::{SERIES_BETWEEN, give_way};
use crate::limits::{SERIES_PER_SHARD_MAX, SLAB_SLOTS};
use crate::sample::Kind;
use crate::sync::{Arc, AtomicUsize, Ordering};

/// Slabs of a full shard.
const SLABS_MAX: usize = SERIES_PER_SHARD_MAX / SLAB_SLOTS;

const _: () = assert!(SLAB_SLOTS.is_power_of_two() && SLABS_MAX.is_power_of_two());
const _: () = assert!(SLABS_MAX * SLAB_SLOTS == SERIES_PER_SHARD_MAX);

#[derive(Debug)]
struct Slab {
    slots: Box<[Slot]>,
    /// Slabs made before it.
    serial: u64,
}

#[expect(unsafe_code, reason = "slots are shared between one writer and one reader")]
// SAFETY:
// - identities are written by the worker alone, and read by the reader only behind a stamp that was
//   stored after them (module text of `slot.rs`);
// - everything else in a slot is atomic.
unsafe impl Sync for Slab {}

#[expect(unsafe_code, reason = "slots are freed on either side")]
// SAFETY: a slot owns nothing that belongs to a thread; its keys and payloads are plain boxes.
unsafe impl Send for Slab {}

/// What both sides hold.
#[derive(Debug)]
struct Slabs {
    /// Null where there is none.
    slabs: Box<[Atomic<Slab>]>,
    /// Series of each kind. The worker alone writes them; for the reader they are about right.
    series: [AtomicUsize; Kind::ALL.len()],
    /// Bytes of keys in boxes of their own; as `series`.
    key_bytes: AtomicUsize,
    /// Who is asked for new series.
    ledger: Arc<Ledger>,
}

impl Slabs {
    /// One series more, or one less; the caller is the worker, who alone writes.
    fn count(&self, identity: &Identity, change: impl Fn(usize, usize) -> usize) {
        let write = |count: &AtomicUsize, by| {
            count.store(change(count.load(Ordering::Relaxed), by), Ordering::Relaxed);
        };
        if let Some(kind) = identity.head.kind() {
            write(&self.series[kind as usize], 1);
        }
        write(&self.key_bytes, identity.boxed_bytes());
    }

    fn series_count(&self) -> usize {
        self.series.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Series of all kinds, and bytes of keys in boxes.
    fn held(&self) -> (usize, usize) {
        (self.series_count(), self.key_bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Slabs {
    #[expect(unsafe_code, reason = "the last owner takes the slabs apart")]
    fn drop(&mut self) {
        for slab in &mut self.slabs {
            let current = std::mem::replace(slab, Atomic::null());
            // SAFETY: unique, for both sides are gone, since they share this by `Arc`.
            if let Some(owned) = unsafe { current.try_into_owned() } {
                for slot in &owned.slots {
                    slot.free_key();
                }
            }
        }
    }
}

/// How the worker fills one slab.
#[derive(Debug, Default)]
struct Filling {
    /// Slots that a series has been in, from the first on.
    used: usize,
    /// Those of them that it has left.
    vacated: Vec<u16>,
}

impl Filling {
    fn series(&self) -> usize {
        self.used - self.vacated.len()
    }

    fn take(&mut self) -> Option<usize> {
        if let Some(vacated) = self.vacated.pop() {
            return Some(vacated.into());
        }
        let slot = self.used;
        (slot < SLAB_SLOTS).then(|| {
            self.used += 1;
            slot
        })
    }
}

/// The worker's side.
#[derive(Debug)]
pub(super) struct Slots {
    shared: Arc<Slabs>,
    /// First slot of each slab: the worker sets them, so it need not load them. Where there is no
    /// slab, that of the first, so that any place is some slot's.
    first_slots: Box<[*const Slot; SLABS_MAX]>,
    /// By number of the slab; `None` where there is no slab.
    fillings: Vec<Option<Filling>>,
    /// Slabs that have a vacant place.
    with_room: BTreeSet<usize>,
    slabs_made: u64,
}

#[expect(unsafe_code, reason = "raw pointers to slots move with their owner")]
// SAFETY: `first_slots` point into `shared`, which is kept alive here and changed by this owner only.
unsafe impl Send for Slots {}

/// The coordinator's side.
#[derive(Debug)]
pub(super) struct SlotsReader {
    shared: Arc<Slabs>,
    /// What the visitor remembers, per slab.
    marks: Box<[Marks]>,
}

/// Makes both sides of a shard's slots, under the budgets of `ledger`.
pub(super) fn slots(ledger: Arc<Ledger>) -> (Slots, SlotsReader) {
    let slabs = std::iter::repeat_with(Atomic::null).take(SLABS_MAX).collect();
    let series = std::array::from_fn(|_| AtomicUsize::new(0));
    let key_bytes = AtomicUsize::new(0);
    let shared = Arc::new(Slabs { slabs, series, key_bytes, ledger });
    let mut slots = Slots {
        shared: Arc::clone(&shared),
        first_slots: Box::new([ptr::null(); SLABS_MAX]),
        fillings: Vec::new(),
        with_room: BTreeSet::new(),
        slabs_made: 0,
    };
    let first = slots.make_slab(0);
    *slots.first_slots = [first; SLABS_MAX];
    // The place of no series: its slot stays vacant.
    let none = slots.fillings.iter_mut().flatten().next().and_then(Filling::take);
    assert_eq!(none, Some(Place::NONE.0 as usize), "the first of all");
    let marks = std::iter::repeat_with(Marks::default).take(SLABS_MAX).collect();
    (slots, SlotsReader { shared, marks })
}

const fn slab_of(place: Place) -> usize {
    place.0 as usize / SLAB_SLOTS % SLABS_MAX
}

const fn slot_of(place: Place) -> usize {
    place.0 as usize % SLAB_SLOTS
}

impl Slots {
    /// The slot at a place; at a place that nobody was given, some other.
    #[inline(always)]
    pub(super) fn at(&self, place: Place) -> *const Slot {
        // Stays in the slab: `slot_of` is less than its slots.
        self.first_slots[slab_of(place)].wrapping_add(slot_of(place))
    }

    #[expect(unsafe_code, reason = "the worker's own pointer to its slots")]
    pub(super) fn slot(&self, place: Place) -> &Slot {
        // SAFETY: slabs are in `shared`, and leave it by `&mut self` alone.
        unsafe { &*self.at(place) }
    }

    /// Series of all kinds.
    pub(super) fn series_count(&self) -> usize {
        self.shared.series_count()
    }

    /// The same, and bytes of keys in boxes of their own.
    pub(super) fn held(&self) -> (usize, usize) {
        self.shared.held()
    }

    /// Who is asked for new series.
    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

    /// Gives a new series a place; there are fewer than [`SERIES_PER_SHARD_MAX`] - 1.
    #[expect(unsafe_code, reason = "the worker occupies a vacant slot")]
    pub(super) fn occupy(&mut self, head: Head, key: &[u8]) -> Place {
        let slab = self.slab_with_room();
        let filling = self.fillings[slab].as_mut().expect("a slab that has room is there");
        let slot = filling.take().expect("it has room");
        if filling.series() == SLAB_SLOTS {
            self.with_room.remove(&slab);
        }
        let number = slab * SLAB_SLOTS + slot;
        let place = Place(u32::try_from(number).expect("less than SERIES_PER_SHARD_MAX"));
        let identity = Identity::new(head, key);
        self.shared.count(&identity, |count, by| count + by);
        // SAFETY: the worker calls, and nobody is at this place.
        unsafe { self.slot(place).occupy(identity) };
        place
    }

    fn slab_with_room(&mut self) -> usize {
        if let Some(&slab) = self.with_room.first() {
            return slab;
        }
        let vacant = self.fillings.iter().position(Option::is_none);
        let number = vacant.unwrap_or(self.fillings.len());
        self.make_slab(number);
        number
    }

    fn make_slab(&mut self, number: usize) -> *const Slot {
        let slots: Box<[Slot]> = std::iter::repeat_with(Slot::vacant).take(SLAB_SLOTS).collect();
        let slab = Owned::new(Slab { slots, serial: self.slabs_made });
        let first = slab.slots.as_ptr();
        self.first_slots[number] = first;
        self.slabs_made += 1;
        // Release: pairs with the Acquire in SlotsReader::for_each; vacant slots are there before
        // the pointer is.
        self.shared.slabs[number].store(slab, Ordering::Release);
        if self.fillings.len() <= number {
            self.fillings.resize_with(number + 1, || None);
        }
        self.fillings[number] = Some(Filling::default());
        self.with_room.insert(number);
        first
    }

    /// Takes the series at `place` out: it was last touched so long ago that both generations have
    /// been read, and no index names it.
    #[expect(unsafe_code, reason = "the worker vacates a slot")]
    pub(super) fn vacate(&mut self, place: Place) {
        let slot = self.slot(place);
        // SAFETY: the worker reads identities it wrote.
        let identity = *unsafe { slot.identity() };
        self.shared.count(&identity, |count, by| count - by);
        // A reader passes over a slot with stamps this old without looking at its key.
        slot.free_key();
        // SAFETY: the worker calls, and nobody looks at the identity, as above.
        unsafe { slot.vacate() };
        let slab = slab_of(place);
        let filling = self.fillings[slab].as_mut().expect("its slab is there");
        filling.vacated.push(u16::try_from(slot_of(place)).expect("less than SLAB_SLOTS"));
        let is_empty = filling.series() == 0;
        self.with_room.insert(slab);
        if is_empty {
            self.free_slab(slab);
        }
    }

    /// Frees a slab that all series have left: never the first, where the place of none is.
    #[expect(unsafe_code, reason = "the slab is retired")]
    fn free_slab(&mut self, number: usize) {
        self.with_room.remove(&number);
        self.fillings[number] = None;
        self.first_slots[number] = self.first_slots[slab_of(Place::NONE)];
        let guard = crossbeam_epoch::pin();
        // AcqRel: as in `make_slab`; what the reader does with it afterwards is crossbeam's.
        let old = self.shared.slabs[number].swap(Shared::null(), Ordering::AcqRel, &guard);
        // SAFETY: the swap took it out of reach; readers hold guards.
        unsafe { guard.defer_destroy(old) };
        // Else as many as 64 of them would wait in this thread's bag for ever.
        guard.flush();
    }

    /// Frees some of the slabs that have left and that nobody reads any more.
    ///
    /// A slab that leaves does so too, but the last ones would wait for the next, or be freed by
    /// another thread, whose allocator keeps what is not its own.
    pub(super) fn free_retired() {
        crossbeam_epoch::pin().flush();
    }

    /// Slabs that are there.
    #[cfg(test)]
    pub(super) fn slabs(&self) -> usize {
        self.fillings.iter().flatten().count()
    }

    /// Makes the shard look as if it had this many sets.
    #[cfg(test)]
    pub(super) fn pretend_sets(&self, count: usize) {
        self.shared.series[Kind::Set as usize].store(count, Ordering::Relaxed);
    }
}

impl SlotsReader {
    /// Series of all kinds and bytes of long keys that the worker has, about.
    pub(super) fn held(&self) -> (usize, usize) {
        self.shared.held()
    }

    /// Who is asked for new series.
    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

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
        for (slab, marks) in self.shared.slabs.iter().zip(&mut self.marks) {
            // As good as pinning anew, but without the collection that comes with some of those: the
            // slabs are the worker's, who frees what it allocated.
            guard.repin();
            // Acquire: pairs with the Release in Slots::make_slab.
            let current: Shared<'_, Slab> = slab.load(Ordering::Acquire, &guard);
            // SAFETY: kept alive by the guard.
            let Some(slab) = (unsafe { current.as_ref() }) else {
                marks.forget();
                continue;
            };
            let marks = marks.of(slab.serial, slab.slots.len());
            for (number, slot) in slab.slots.iter().enumerate() {
                if number % SERIES_BETWEEN == 0 {
                    give_way();
                }
                let Some(payload) = slot.generations.load(epoch) else { continue };
                // SAFETY: the stamp of a sealed epoch was found: the identity was written before it
                // and is never written again while the slot bears it.
                let identity = unsafe { slot.identity() };
                if let Some(kind) = identity.head.kind() {
                    let mark = marks.of_place(number, identity.head.turn());
                    visit(mark, kind, identity.key(), payload);
                }
            }
        }
    }
}
