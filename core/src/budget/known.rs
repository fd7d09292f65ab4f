//! A filter over the series that exist: workers ask it beyond a budget, the coordinator fills it.
//!
//! Bits of atomic words, four to a series: whoever is in is always found, and of names that are not
//! one in some hundreds is taken for one that is, at 16 bits a series. What has left is still found; so
//! there are two sets of words, and now and then the coordinator fills the one that is not in use and
//! swaps them.

use crate::sample::Kind;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Bits for each series of the budget.
const BITS_EACH: usize = 16;

/// Bits that a series sets.
const PROBES: u32 = 4;

/// Words of the smallest filter.
const WORDS_MIN: usize = 1 << 10;

/// Bytes of a filter for so many series.
pub fn filter_bytes(series_max: usize) -> usize {
    2 * size_of::<AtomicU64>() * words(series_max)
}

/// A power of two, so that a place is cut out of the hash.
fn words(series_max: usize) -> usize {
    (series_max.saturating_mul(BITS_EACH) / 64).max(WORDS_MIN).next_power_of_two()
}

#[derive(Debug)]
pub(super) struct Known {
    sets: [Box<[AtomicU64]>; 2],
    /// Which of the two is read.
    current: AtomicUsize,
    /// Series that the current one got; the coordinator alone writes it.
    inserted: AtomicUsize,
    series_max: usize,
}

impl Known {
    pub(super) fn new(series_max: usize) -> Self {
        let set = || std::iter::repeat_with(AtomicU64::default).take(words(series_max)).collect();
        Self {
            sets: [set(), set()],
            current: AtomicUsize::new(0),
            inserted: AtomicUsize::new(0),
            series_max,
        }
    }

    fn set(&self) -> &[AtomicU64] {
        // Acquire: pairs with the Release in `refill`; the words of a new set were filled before.
        &self.sets[self.current.load(Ordering::Acquire) & 1]
    }

    pub(super) fn has(&self, kind: Kind, hash: u32) -> bool {
        let set = self.set();
        places(set, kind, hash).all(|(word, bit)| set[word].load(Ordering::Relaxed) & bit != 0)
    }

    pub(super) fn insert(&self, kind: Kind, hash: u32) {
        self.inserted.store(self.inserted.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        insert(self.set(), kind, hash);
    }

    /// Whether it has got twice as many as there are, and more than it is made for.
    pub(super) fn is_stale(&self, series: usize) -> bool {
        let inserted = self.inserted.load(Ordering::Relaxed);
        self.series_max.max(2 * series) < inserted
    }

    /// Fills the set that is not read with what `visit` tells, and reads it from then on.
    pub(super) fn refill(&self, visit: impl FnOnce(&mut dyn FnMut(Kind, u32))) {
        let next = (self.current.load(Ordering::Relaxed) + 1) & 1;
        let set = &self.sets[next];
        set.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        let mut inserted = 0;
        visit(&mut |kind, hash| {
            insert(set, kind, hash);
            inserted += 1;
        });
        self.inserted.store(inserted, Ordering::Relaxed);
        // Release: pairs with the Acquire in `set`.
        self.current.store(next, Ordering::Release);
    }
}

fn insert(set: &[AtomicU64], kind: Kind, hash: u32) {
    for (word, bit) in places(set, kind, hash) {
        set[word].fetch_or(bit, Ordering::Relaxed);
    }
}

/// Words and bits of a series: the hash spread over 64 bits, and steps of its upper half.
fn places(set: &[AtomicU64], kind: Kind, hash: u32) -> impl Iterator<Item = (usize, u64)> {
    let spread = (u64::from(hash) << 2 | kind as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let spread = (spread ^ spread >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let (first, step) = (spread, spread >> 32 | 1);
    let mask = set.len() - 1;
    (0..PROBES).map(move |probe| {
        let place = first.wrapping_add(u64::from(probe).wrapping_mul(step));
        let word = (place >> 6) as usize & mask;
        (word, 1 << (place & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> u32 {
        number.wrapping_add(1).wrapping_mul(0x85EB_CA6B)
    }

    #[test]
    fn what_is_in_is_found_and_of_the_rest_few_are() {
        let known = Known::new(100_000);
        for number in 0..100_000 {
            known.insert(Kind::Counter, hash(number));
        }
        assert!((0..100_000).all(|number| known.has(Kind::Counter, hash(number))));
        let others = (0..100_000).filter(|&number| known.has(Kind::Set, hash(number))).count();
        let strangers =
            (100_000..200_000).filter(|&number| known.has(Kind::Counter, hash(number))).count();
        assert!(others < 1_000 && strangers < 1_000, "{others} {strangers}");
    }

    #[test]
    fn a_filter_filled_anew_forgets_what_has_left() {
        let known = Known::new(1_000);
        (0..900).for_each(|number| known.insert(Kind::Timer, hash(number)));
        assert!(!known.is_stale(900));
        (900..1_800).for_each(|number| known.insert(Kind::Timer, hash(number)));
        assert!(known.is_stale(100));
        known.refill(|each| (1_700..1_800).for_each(|number| each(Kind::Timer, hash(number))));
        assert!((1_700..1_800).all(|number| known.has(Kind::Timer, hash(number))));
        let left = (0..1_700).filter(|&number| known.has(Kind::Timer, hash(number))).count();
        assert!(left < 20 && !known.is_stale(100), "{left}");
    }
}
