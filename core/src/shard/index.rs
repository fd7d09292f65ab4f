//! The index of a shard: from the head of a series to its place among the slots.
//!
//! The top eight bits of the hash choose one of 256 sub-tables, the low half a *group* in it: one
//! cache line with eight tags, which are compared at once and without a branch, and the places of the
//! slots that bear them. A series whose group is full stands in the next one that is not; groups
//! are between a half and three quarters full, so one in fifty does
//! (docs/decisions/019-heads-apart-from-slots.md).
//!
//! A sub-table that is too full is copied into one half as large again. Entries are eight bytes, so
//! no batch stalls, and no two sub-tables are of one size, so that a flood of new names pays for
//! copies all the way and not for all of them at once (docs/decisions/016-sizes-of-sub-tables.md).
//! Idle series leave by the same copy.
//!
//! The index belongs to the worker alone: the coordinator walks the slots and never looks a series up.

use super::slot::Head;
use crate::books::Cause;
use crate::cache::prefetch_lines;
use crate::limits::{PROBE_GROUPS_MAX, SUB_TABLE_GROUPS_MIN, SUB_TABLES};

/// Entries of a group: as many as fit into a cache line.
const GROUP_ENTRIES: usize = 8;

/// How much larger one growth may make a sub-table: beyond it, probes are long because keys were
/// made to meet, and no size helps.
const GROWTH_MAX: usize = 8;

/// The part of a sub-table's entries that may be taken.
const LOAD_MAX: (usize, usize) = (3, 4);

/// Where a slot is: its number among all slots of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(pub(super) u32);

impl Place {
    /// The place of no series: entries that are vacant name it.
    pub(super) const NONE: Self = Self(0);
}

/// Eight entries, in one cache line.
#[derive(Clone, Debug, Default)]
#[repr(C, align(64))]
struct Group {
    /// [`Head::tag`] of each entry.
    tags: [u32; GROUP_ENTRIES],
    /// [`Place`] of each; 0 = the entry is vacant.
    places: [u32; GROUP_ENTRIES],
}

const _: () = assert!(size_of::<Group>() == 64);

impl Group {
    /// The place of the first entry whose tag is `tag`; if none is, that of the last entry, which may
    /// be vacant. The caller compares the key.
    #[inline(always)]
    fn likely(&self, tag: u32) -> Place {
        // All eight at once, so that nothing is to be foreseen.
        let first = first_equal(&self.tags, tag);
        Place(self.places[first % GROUP_ENTRIES])
    }

    fn entries(&self) -> impl Iterator<Item = (u32, Place)> {
        self.tags.iter().zip(&self.places).map(|(&tag, &place)| (tag, Place(place)))
    }

    /// Puts an entry where one is vacant; `false` if none is.
    fn put(&mut self, tag: u32, place: Place) -> bool {
        let Some(at) = self.places.iter().position(|&taken| taken == Place::NONE.0) else {
            return false;
        };
        (self.tags[at], self.places[at]) = (tag, place.0);
        true
    }

    fn is_full(&self) -> bool {
        self.places.iter().all(|&place| place != Place::NONE.0)
    }
}

/// The number of the first of the tags that is `tag`, that of the last if none is.
#[inline]
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn first_equal_by_vectors(tags: &[u32; GROUP_ENTRIES], tag: u32) -> usize {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi32, _mm_load_si128, _mm_movemask_epi8, _mm_packs_epi32,
        _mm_set1_epi32,
    };
    let wanted = _mm_set1_epi32(tag.cast_signed());
    let (halves, _) = tags.as_chunks::<4>();
    let [low, high] = [0, 1].map(|half| {
        let words: *const __m128i = halves[half].as_ptr().cast();
        #[expect(unsafe_code, reason = "a vector is loaded from an array")]
        // SAFETY: four words of 32 bits, at an address that `Group` aligns to 64 bytes.
        let half = unsafe { _mm_load_si128(words) };
        _mm_cmpeq_epi32(half, wanted)
    });
    // Two equal bits for each tag.
    let equal = _mm_movemask_epi8(_mm_packs_epi32(low, high)).cast_unsigned();
    let last = 1 << (2 * (GROUP_ENTRIES - 1));
    (equal | last).trailing_zeros() as usize / 2
}

/// The number of the first of the tags that is `tag`, that of the last if none is.
#[inline(always)]
fn first_equal(tags: &[u32; GROUP_ENTRIES], tag: u32) -> usize {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "a call of code for SSE2")]
    // SAFETY: every x86-64 has SSE2.
    return unsafe { first_equal_by_vectors(tags, tag) };
    #[cfg(not(target_arch = "x86_64"))]
    tags.iter().position(|&each| each == tag).unwrap_or(GROUP_ENTRIES - 1)
}

/// Groups of sub-table `index` after it has grown `steps` times: a size of its own, half as much
/// again each time.
///
/// Keys spread evenly: sub-tables of one size would all grow within a few thousand new names, and a
/// worker whom a flood of new names finds would do little else for a while.
const fn groups_at(index: usize, steps: u32) -> usize {
    // First sizes lie between one and one and a half of the smallest, in 512ths.
    let first = (2 * SUB_TABLES + index) as u128 * SUB_TABLE_GROUPS_MIN as u128;
    ((first * 3_u128.pow(steps)) >> (9 + steps)) as usize
}

const _: () = assert!(2 * SUB_TABLES == 1 << 9, "the shift above divides by it");

/// Whether a sub-table of `groups` takes no more than the `len` series that it has.
const fn is_full(len: usize, groups: usize) -> bool {
    groups * GROUP_ENTRIES * LOAD_MAX.0 < (len + 1) * LOAD_MAX.1
}

/// The group at which looking for `tag` begins: its share of them, without a division.
#[inline(always)]
const fn group_of(tag: u32, groups: usize) -> usize {
    ((tag as u64 * groups as u64) >> 32) as usize
}

/// The groups in which a series may stand, in the order in which they are looked at.
fn probe(tag: u32, groups: usize) -> impl Iterator<Item = usize> {
    let start = group_of(tag, groups);
    (start..groups).chain(0..start).take(PROBE_GROUPS_MAX as usize)
}

/// The worker's index.
#[derive(Debug)]
pub(super) struct Index {
    // Vectors and not boxes, which would claim to be the only way to their groups when they move.
    tables: Box<[Vec<Group>; SUB_TABLES]>,
    /// Series in each sub-table.
    lens: Box<[u32]>,
    /// How often each has grown from its smallest size: see [`groups_at`].
    steps: Box<[u32]>,
    /// Groups that were replaced within this batch: a [`Near`] may point to them.
    replaced: Vec<Vec<Group>>,
}

/// The group where looking for a series begins, until the end of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near(*const Group);

impl Default for Index {
    fn default() -> Self {
        let fresh = |index| vec![Group::default(); groups_at(index, 0)];
        Self {
            tables: Box::new(std::array::from_fn(fresh)),
            lens: vec![0; SUB_TABLES].into_boxed_slice(),
            steps: vec![0; SUB_TABLES].into_boxed_slice(),
            replaced: Vec::new(),
        }
    }
}

impl Index {
    /// The group where looking for a series begins; it is asked of the cache.
    #[inline(always)]
    pub(super) fn near(&self, head: Head) -> Near {
        let groups = &self.tables[head.sub_table()];
        // In bounds: the share of a number below 2^32 of all groups is less than all.
        let group = groups.as_ptr().wrapping_add(group_of(head.tag(), groups.len()));
        prefetch_lines(group.cast(), size_of::<Group>());
        Near(group)
    }

    /// Where the series is, if it is known and stands in its first group: else any place, so the
    /// caller looks whether the slot there is its own.
    ///
    /// # Safety
    /// `near` is of this index, and the batch in which it was found has not ended.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a group is looked at through its address")]
    pub(super) unsafe fn likely(&self, near: Near, head: Head) -> Place {
        // SAFETY:
        // - in bounds: see `near`;
        // - alive: sub-tables that are replaced stay until the batch ends (passed on to the caller);
        // - not written meanwhile: writers have `&mut self`.
        unsafe { &*near.0 }.likely(head.tag())
    }

    /// The batch has ended: nobody has a [`Near`] any more.
    #[inline]
    pub(super) fn end_batch(&mut self) {
        if !self.replaced.is_empty() {
            self.replaced.clear();
        }
    }

    /// Where the series is, if it is known; `is_it` says whether a slot is its own.
    pub(super) fn find(&self, head: Head, is_it: impl Fn(Place) -> bool) -> Option<Place> {
        let groups = &self.tables[head.sub_table()];
        for group in probe(head.tag(), groups.len()).map(|at| &groups[at]) {
            let mut same = group
                .entries()
                .filter(|&(tag, place)| tag == head.tag() && place != Place::NONE && is_it(place));
            if let Some((_, place)) = same.next() {
                return Some(place);
            }
            // A series stands in the first of its groups that had room.
            if !group.is_full() {
                break;
            }
        }
        None
    }

    /// Makes room for one series more in the sub-table of `head`.
    ///
    /// # Errors
    /// [`Cause::ProbeLimit`] where keys were made to meet so that no larger table takes them all.
    pub(super) fn make_room(&mut self, head: Head) -> Result<(), Cause> {
        let index = head.sub_table();
        loop {
            let (groups, len) = (&self.tables[index], self.lens[index] as usize);
            let is_full = is_full(len, groups.len());
            let has_room = probe(head.tag(), groups.len()).any(|at| !groups[at].is_full());
            if has_room && !is_full {
                return Ok(());
            }
            // Long probes in a table that is nearly empty are no accident: keys were made to meet.
            if !is_full && len * 8 <= groups.len() * GROUP_ENTRIES {
                return Err(Cause::ProbeLimit);
            }
            self.grow(index)?;
        }
    }

    /// Enters a series for which there is room.
    pub(super) fn insert(&mut self, head: Head, place: Place) {
        let groups = &mut self.tables[head.sub_table()];
        let mut places = probe(head.tag(), groups.len());
        let is_entered = places.any(|at| groups[at].put(head.tag(), place));
        assert!(is_entered, "room was made");
        self.lens[head.sub_table()] += 1;
    }

    /// Copies a sub-table into a larger one.
    fn grow(&mut self, index: usize) -> Result<(), Cause> {
        let groups_max = self.tables[index].len().saturating_mul(GROWTH_MAX);
        for steps in self.steps[index] + 1.. {
            if groups_max < groups_at(index, steps) {
                break;
            }
            if self.rebuild(index, steps, |_| true) {
                return Ok(());
            }
        }
        Err(Cause::ProbeLimit)
    }

    /// Copies a sub-table into one of its size after `steps`, without entries that are not to be
    /// kept; `false` and no change if a series would stand where [`Self::find`] does not look, and so
    /// get a second slot.
    fn rebuild(&mut self, index: usize, steps: u32, keep: impl Fn(Place) -> bool) -> bool {
        let mut fresh = vec![Group::default(); groups_at(index, steps)];
        let mut len = 0;
        for (tag, place) in self.tables[index].iter().flat_map(Group::entries) {
            if place == Place::NONE || !keep(place) {
                continue;
            }
            if !probe(tag, fresh.len()).any(|at| fresh[at].put(tag, place)) {
                return false;
            }
            len += 1;
        }
        let old = std::mem::replace(&mut self.tables[index], fresh);
        self.replaced.push(old);
        self.lens[index] = len;
        self.steps[index] = steps;
        true
    }

    /// Places of the series of sub-table `index`.
    pub(super) fn places(&self, index: usize) -> impl Iterator<Item = Place> {
        let entries = self.tables[index].iter().flat_map(Group::entries);
        entries.map(|(_, place)| place).filter(|&place| place != Place::NONE)
    }

    /// Series in sub-table `index`.
    pub(super) fn len(&self, index: usize) -> usize {
        self.lens[index] as usize
    }

    /// Takes those out of sub-table `index` that `keep` does not keep, `left` of which stay; `false`
    /// and no change if keys were made to meet so that they do not fit together.
    pub(super) fn retain(
        &mut self,
        index: usize,
        left: usize,
        keep: impl Fn(Place) -> bool,
    ) -> bool {
        // With room for a third more, so that it does not grow again at once.
        let wanted = left + left / 3;
        let mut sizes = 0..=self.steps[index];
        sizes.any(|steps| {
            !is_full(wanted, groups_at(index, steps)) && self.rebuild(index, steps, &keep)
        })
    }

    /// How many groups a sub-table has.
    #[cfg(test)]
    pub(super) fn groups(&self, index: usize) -> usize {
        self.tables[index].len()
    }
}
