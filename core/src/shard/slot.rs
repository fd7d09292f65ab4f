//! A slot: one series of one shard, in one cache line.
//!
//! It holds the two generations of a value and the identity of the series: hash, kind, and the key,
//! inline up to 32 bytes and in a box of its own beyond. The parts of an identity that tell series
//! apart at a glance are one word, its *head*, so that a look-up compares a word, and the key of the
//! one slot whose head is right.
//!
//! **Who touches what.** The identity is written by the worker, once, while the slot is vacant; the
//! reader looks at it only after it has found the sealed epoch's stamp, which was stored after the
//! identity and is ordered by the flip (`flip.rs`). The generations are atomics.

use std::ptr;

use super::flip::Generations;
use crate::sample::Kind;
use crate::sync::UnsafeCell;

/// Key bytes that fit into a slot.
const KEY_INLINE_BYTES: usize = 32;

/// The length that the head of a boxed key bears.
const SPILLED: u8 = u8::MAX;

/// Where the kind (its number + 1), the length of the key, the turn and the number of the sub-table
/// stand in a head, above the low half of the hash; each has a byte, that of the sub-table as in the
/// hash.
const KIND_SHIFT: u32 = 32;
const LENGTH_SHIFT: u32 = 40;
const TURN_SHIFT: u32 = 48;
const SUB_TABLE_SHIFT: u32 = 56;

/// The bits of a hash that stand in a head where they stood.
const HASH_BITS: u64 = u32::MAX as u64 | (u8::MAX as u64) << SUB_TABLE_SHIFT;

/// The part of an identity that is compared first, and all that a look-up needs beside the key: the
/// low half of the hash mixed with the kind, the kind, the length of the key if it is inline, and the
/// top byte of the hash; in a slot the turn of its place too, which is of no series. 0 = the slot is
/// vacant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head(u64);

impl Head {
    /// The head of a slot that was never taken.
    const VACANT: Self = Self(0);

    /// The turn of a place: another for each series that gets it.
    const TURN: u64 = 1 << TURN_SHIFT;

    /// The head of the series `key` of `kind`, whose hash is `hash`.
    #[inline]
    pub(super) fn of(hash: u64, kind: Kind, key: &[u8]) -> Self {
        let length = if key.len() <= KEY_INLINE_BYTES { key.len() as u64 } else { SPILLED.into() };
        Self::with_length(hash, kind, length)
    }

    /// The same for a key that is known to fit into a slot.
    #[inline(always)]
    pub(super) fn inline(hash: u64, kind: Kind, key: &[u8]) -> Self {
        debug_assert!(key.len() <= KEY_INLINE_BYTES, "the caller has looked");
        Self::with_length(hash, kind, key.len() as u64)
    }

    #[inline(always)]
    fn with_length(hash: u64, kind: Kind, length: u64) -> Self {
        let kind = kind as u64 + 1;
        // The kind is in the tag as well: series of one key and several kinds are told apart there.
        Self((hash & HASH_BITS ^ kind) | kind << KIND_SHIFT | length << LENGTH_SHIFT)
    }

    /// The sub-table that the top byte of the hash chooses.
    #[inline]
    pub(super) const fn sub_table(self) -> usize {
        (self.0 >> SUB_TABLE_SHIFT) as usize
    }

    /// What the index knows of a series: it chooses the group, and is compared there.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low half, on purpose")]
    pub(super) const fn tag(self) -> u32 {
        self.0 as u32
    }

    /// The half of the hash that places a series, of whatever kind.
    pub(super) fn hash(self) -> u32 {
        self.tag() ^ u32::from(self.0.to_le_bytes()[KIND_SHIFT as usize / 8])
    }

    /// The turn of the place, of a head that stands in a slot.
    #[inline]
    pub(super) const fn turn(self) -> bool {
        self.0 & Self::TURN != 0
    }

    /// Whether the two are of one series, but for the key: turns are not compared.
    #[inline(always)]
    const fn is_like(self, other: Self) -> bool {
        (self.0 ^ other.0) & !Self::TURN == 0
    }

    /// `None` for a vacant slot.
    pub(super) fn kind(self) -> Option<Kind> {
        let number = usize::from(self.0.to_le_bytes()[KIND_SHIFT as usize / 8]);
        Kind::ALL.get(number.checked_sub(1)?).copied()
    }

    fn is_spilled(self) -> bool {
        self.length() == SPILLED
    }

    /// Length of an inline key.
    fn length(self) -> u8 {
        self.0.to_le_bytes()[LENGTH_SHIFT as usize / 8]
    }
}

/// Who a slot belongs to.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Identity {
    pub(super) head: Head,
    /// The key, or address and length of a boxed one.
    key: [u8; KEY_INLINE_BYTES],
}

/// One series of one shard: a cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    pub(super) generations: Generations,
    identity: UnsafeCell<Identity>,
}

const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    pub(super) fn vacant() -> Self {
        let identity = Identity { head: Head::VACANT, key: [0; KEY_INLINE_BYTES] };
        Self { generations: Generations::default(), identity: UnsafeCell::new(identity) }
    }

    /// # Safety
    /// The caller is the worker, or the reader behind a stamp of the sealed epoch.
    #[inline]
    #[expect(unsafe_code, reason = "identity is a cell with one writer")]
    pub(super) unsafe fn identity(&self) -> &Identity {
        // SAFETY: no write happens meanwhile: the worker writes only vacant slots, and is the
        // caller or has written long before (passed on to the caller).
        unsafe { &*self.identity.get() }
    }

    /// Gives a vacant slot to a series.
    ///
    /// # Safety
    /// The caller is the worker, and the slot is vacant.
    #[expect(unsafe_code, reason = "identity is a cell with one writer")]
    pub(super) unsafe fn occupy(&self, mut identity: Identity) {
        // SAFETY: the worker reads what it wrote (passed on to the caller).
        let before = unsafe { self.identity() }.head;
        identity.head.0 |= !before.0 & Head::TURN;
        // SAFETY: nobody reads the identity of a vacant slot (passed on to the caller).
        unsafe { *self.identity.get() = identity }
    }

    /// Leaves a slot vacant: its turn alone is kept.
    ///
    /// A series whose values were all refused was never seen by the reader, and gives its turn back:
    /// else the next would bear that of the one before.
    ///
    /// # Safety
    /// The caller is the worker, and the slot bears no stamp that the reader looks for.
    #[expect(unsafe_code, reason = "identity is a cell with one writer")]
    pub(super) unsafe fn vacate(&self) {
        let was_touched = self.generations.newest_stamp() != 0;
        self.generations.forget();
        // SAFETY: nobody else looks at it (passed on to the caller).
        let identity = unsafe { &mut *self.identity.get() };
        identity.head.0 &= Head::TURN;
        if !was_touched {
            identity.head.0 ^= Head::TURN;
        }
    }

    /// Frees a boxed key. Called by whoever takes the slot out for good.
    #[expect(unsafe_code, reason = "boxed keys are freed by hand")]
    pub(super) fn free_key(&self) {
        // SAFETY: the slot has left its table: nobody else looks at it.
        let identity = unsafe { self.identity() };
        if identity.head.is_spilled() {
            // SAFETY: a spilled key came from `Identity::new`, which leaked exactly this box; a slot
            // leaves for good once.
            drop(unsafe { Box::from_raw(identity.spilled_key()) });
        }
    }
}

impl Identity {
    pub(super) fn new(head: Head, key: &[u8]) -> Self {
        let mut identity = Self { head, key: [0; KEY_INLINE_BYTES] };
        if let Some(inline) = identity.key.get_mut(..key.len()) {
            inline.copy_from_slice(key);
        } else {
            let boxed = Box::into_raw(Box::<[u8]>::from(key));
            let (address, length) = identity.key.split_at_mut(8);
            address.copy_from_slice(&boxed.cast::<u8>().expose_provenance().to_ne_bytes());
            length[..8].copy_from_slice(&key.len().to_ne_bytes());
        }
        identity
    }

    /// Bytes of a key in a box of its own.
    pub(super) fn boxed_bytes(&self) -> usize {
        if self.head.is_spilled() { self.spilled_key().len() } else { 0 }
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
    pub(super) fn key(&self) -> &[u8] {
        if self.head.is_spilled() {
            // SAFETY: the box lives as long as the slot is in a table that somebody can reach, and
            // is never written.
            unsafe { &*self.spilled_key() }
        } else {
            self.key.get(..usize::from(self.head.length())).unwrap_or_default()
        }
    }

    /// Whether this is the series of `key`, whose head is `head`.
    #[inline(always)]
    pub(super) fn is_of(&self, head: Head, key: &[u8]) -> bool {
        self.head.is_like(head) && self.has_key(key)
    }

    /// Whether the key is `key`, which is of the same length.
    #[inline(always)]
    fn has_key(&self, key: &[u8]) -> bool {
        // Two overlapping comparisons of a fixed size each, in place of a call.
        let inline = &self.key;
        match key.len() {
            16..=KEY_INLINE_BYTES => {
                let (first, last) = (key.first_chunk::<16>(), key.last_chunk::<16>());
                let rest = inline.get(key.len() - 16..).and_then(<[_]>::first_chunk);
                (inline.first_chunk() == first) & (rest == last)
            }
            8..16 => {
                let (first, last) = (key.first_chunk::<8>(), key.last_chunk::<8>());
                let rest = inline.get(key.len() - 8..).and_then(<[_]>::first_chunk);
                (inline.first_chunk() == first) & (rest == last)
            }
            _ => self.key() == key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_equals_itself_and_no_other_of_its_length() {
        for length in 0..100 {
            let key: Vec<u8> = (1..=length).collect();
            let head = Head::of(7, Kind::Timer, &key);
            let identity = Identity::new(head, &key);
            assert_eq!((identity.key(), head.kind()), (&*key, Some(Kind::Timer)));
            assert!(identity.is_of(head, &key), "{length}");
            for at in 0..key.len() {
                let mut other = key.clone();
                other[at] ^= 0x80;
                assert!(!identity.is_of(head, &other), "{length} {at}");
            }
            let slot = Slot { generations: Generations::default(), identity: identity.into() };
            slot.free_key();
        }
    }

    #[test]
    fn heads_tell_hash_kind_and_length_apart() {
        let head = Head::of(1 << 40 | 5, Kind::Counter, b"ab");
        assert_eq!(head, Head::of(5, Kind::Counter, b"cd"), "the middle of the hash is not in it");
        assert_eq!(head.sub_table(), 0);
        assert_ne!(head.tag(), Head::of(5, Kind::Timer, b"ab").tag());
        assert_eq!(Head::of(3 << 56 | 5, Kind::Counter, b"ab").sub_table(), 3);
        for other in [
            Head::of(6, Kind::Counter, b"ab"),
            Head::of(1 << 56 | 5, Kind::Counter, b"ab"),
            Head::of(5, Kind::Set, b"ab"),
            Head::of(5, Kind::Counter, b"abc"),
            Head::VACANT,
        ] {
            assert!(!head.is_like(other));
        }
        assert_eq!(Head::VACANT.kind(), None);
    }

    #[test]
    #[expect(unsafe_code, reason = "one thread")]
    fn each_series_that_is_seen_bears_another_turn() {
        let slot = Slot::vacant();
        let mut turns = Vec::new();
        for number in 0..6 {
            let head = Head::of(number, Kind::Counter, b"key");
            // SAFETY: the test is the worker, and there is no reader.
            unsafe { slot.occupy(Identity::new(head, b"key")) };
            // SAFETY: as above.
            let identity = unsafe { slot.identity() };
            assert!(identity.is_of(head, b"key"));
            turns.push(identity.head.turn());
            assert_eq!(slot.generations.newest_stamp(), 0, "no stamp of another");
            // The third and the fourth get no value.
            if !(2..4).contains(&number) {
                slot.generations.store(9, 1);
            }
            // SAFETY: as above.
            unsafe { slot.vacate() };
            // SAFETY: as above.
            assert_eq!(unsafe { slot.identity() }.head.kind(), None);
        }
        assert_eq!(turns, [true, false, true, true, true, false]);
    }
}
