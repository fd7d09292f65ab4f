//! The catalogue: which series of one kind exist, and what the coordinator keeps of each.
//!
//! Slots of a shard come and go; a series exists from its first value until an idle switch or a
//! time to live takes it out of here. Touched by the coordinator alone, so it is a plain table:
//! dense entries, found through their hashes, which are stored so that growth and removal need not
//! compute them again; and found at once by whoever kept the mark of an earlier visit. A mark is an
//! index and the number of the entry that stood there: numbers are given once, so that a mark whose
//! entry has moved or gone is seen to be void.

use hashbrown::HashTable;

use crate::budget::{Ledger, OVERFLOW};
use crate::give_way::{SERIES_BETWEEN, give_way};
use crate::name::KeyHasher;
use crate::sample::Kind;
use crate::shard::Mark;
use crate::sync::Arc;

/// Series that are new with one flip are sorted by name if they are so few: a shard gives them in
/// the order of their hashes, which is another one at every start. Sorting more would keep the flush
/// waiting: 10,000 take about 5 ms.
const FRESH_SORTED_MAX: usize = 10_000;

/// One series.
#[derive(Debug)]
pub struct Entry<S> {
    /// Its key.
    pub key: Box<[u8]>,
    /// Half of the key's hash: enough for the table, see [`table_hash`].
    hash: u32,
    /// What marks know it by: given once, from 1; 0 when they have run out, after 2^32 new series, and
    /// it is found by its key alone.
    number: u32,
    /// What the coordinator keeps of it.
    pub state: S,
}

/// A table takes the place from the low bits and the check from the top seven.
fn table_hash(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half, on purpose")]
const fn half(hash: u64) -> u32 {
    hash as u32
}

/// The series of one kind, in the order in which they were first seen, as far as flips tell it.
#[derive(Debug)]
pub struct Catalogue<S> {
    indexes: HashTable<u32>,
    entries: Vec<Entry<S>>,
    /// Entries before this one have their place for good.
    settled: usize,
    /// The number that the next entry gets.
    next_number: u32,
    hasher: KeyHasher,
    /// The kind of its series, as the budgets count them.
    kind: Kind,
    /// Who is told what comes and goes, and asked for what workers bring.
    ledger: Arc<Ledger>,
}

impl<S: Default> Catalogue<S> {
    /// An empty catalogue without budgets.
    #[must_use]
    pub fn new(hasher: KeyHasher) -> Self {
        Self::within(Arc::default(), Kind::Counter, hasher)
    }

    /// An empty catalogue of series of `kind` under the budgets of `ledger`.
    #[must_use]
    pub fn within(ledger: Arc<Ledger>, kind: Kind, hasher: KeyHasher) -> Self {
        Self {
            indexes: HashTable::new(),
            entries: Vec::new(),
            settled: 0,
            next_number: 1,
            hasher,
            kind,
            ledger,
        }
    }

    /// Makes room for as many series as are about to be asked for, where there is less: a flood of new
    /// ones would be copied again and again by a table that finds its size step by step.
    pub fn make_room(&mut self, series: usize) {
        if self.entries.capacity() < series {
            // Some more: the next new one must not copy all of them.
            let more = series + series / 32 - self.entries.len();
            self.entries.reserve_exact(more);
            let entries = &self.entries;
            self.indexes.reserve(more, |&index| table_hash(entries[index as usize].hash));
        }
    }

    /// Index of a series, made with the default state if there is none.
    ///
    /// # Panics
    /// Beyond 2^32 series; the shards hold fewer.
    pub fn index(&mut self, key: &[u8]) -> usize {
        let hash = half(self.hasher.key(key));
        let found = self.find_hashed(hash, key).unwrap_or_else(|| {
            self.ledger.enter_always(self.kind, hash, key);
            self.add(hash, key)
        });
        found as usize
    }

    fn find_hashed(&self, hash: u32, key: &[u8]) -> Option<u32> {
        let is_key = |&index: &u32| &*self.entries[index as usize].key == key;
        self.indexes.find(table_hash(hash), is_key).copied()
    }

    fn add(&mut self, hash: u32, key: &[u8]) -> u32 {
        let entries = &mut self.entries;
        let index = u32::try_from(entries.len()).expect("shards hold fewer than 2^32 series");
        let number = self.next_number;
        self.next_number = if number == 0 { 0 } else { number.wrapping_add(1) };
        entries.push(Entry { key: key.into(), hash, number, state: S::default() });
        let hash_of = |&index: &u32| table_hash(entries[index as usize].hash);
        self.indexes.insert_unique(table_hash(hash), index, hash_of);
        index
    }

    /// The same for a visitor that has kept `mark` since it last asked for this key; `None` where the
    /// budgets have no room for another series.
    #[inline]
    pub fn index_marked(&mut self, mark: &mut Mark, key: &[u8]) -> Option<usize> {
        let (index, number) = (half(mark.0) as usize, half(mark.0 >> 32));
        if number != 0 && self.entries.get(index).is_some_and(|entry| entry.number == number) {
            debug_assert_eq!(&*self.entries[index].key, key, "numbers are given once");
            return Some(index);
        }
        self.mark_anew(mark, key)
    }

    #[cold]
    fn mark_anew(&mut self, mark: &mut Mark, key: &[u8]) -> Option<usize> {
        let hash = half(self.hasher.key(key));
        let index = match self.find_hashed(hash, key) {
            Some(index) => index,
            None if self.ledger.enter(self.kind, hash, key) => self.add(hash, key),
            None => return None,
        };
        let number = self.entries[index as usize].number;
        *mark = Mark(u64::from(number) << 32 | u64::from(index));
        Some(index as usize)
    }

    /// State of a series as [`Self::index_marked`] finds it; beyond the budgets that of the series
    /// which stands for it, and `true`.
    #[inline]
    pub fn state_marked(&mut self, mark: &mut Mark, key: &[u8]) -> (&mut S, bool) {
        match self.index_marked(mark, key) {
            Some(index) => (&mut self.entries[index].state, false),
            None => (self.overflow_state(key), true),
        }
    }

    #[cold]
    fn overflow_state(&mut self, key: &[u8]) -> &mut S {
        let mut name = Vec::new();
        self.ledger.overflow_name(key, &mut name);
        let index = self.index_marked(&mut Mark::default(), &name);
        let index = index.unwrap_or_else(|| self.index(OVERFLOW));
        &mut self.entries[index].state
    }

    /// State of a series, made if there is none.
    pub fn state(&mut self, key: &[u8]) -> &mut S {
        let index = self.index(key);
        &mut self.entries[index].state
    }

    /// State of the series at an index that [`Self::index`] gave.
    pub fn state_at(&mut self, index: usize) -> &mut S {
        &mut self.entries[index].state
    }

    /// Index of a series that exists.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        self.find_hashed(half(self.hasher.key(key)), key).map(|index| index as usize)
    }

    /// Kind and half of the hash of every series, as the budgets know it.
    pub fn hashes(&self) -> impl Iterator<Item = (Kind, u32)> {
        self.entries.iter().map(|entry| (self.kind, entry.hash))
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All series in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &S)> {
        self.entries.iter().map(|entry| (&*entry.key, &entry.state))
    }

    /// Leaves the series that are new since the last call in the order in which they came.
    pub fn settle(&mut self) {
        self.settled = self.entries.len();
    }

    /// Puts the series that are new since the last call in the order of their names; an index given
    /// out before is void. Very many stay as they came.
    pub fn settle_by_name(&mut self) {
        let settled = self.settled;
        self.settle();
        let fresh = self.entries.len() - settled;
        if !(2..=FRESH_SORTED_MAX).contains(&fresh) {
            return;
        }
        for (index, entry) in (0_u32..).zip(&self.entries).skip(settled) {
            let hash = table_hash(entry.hash);
            if let Ok(found) = self.indexes.find_entry(hash, |&known| known == index) {
                found.remove();
            }
        }
        self.entries[settled..].sort_unstable_by(|one, other| one.key.cmp(&other.key));
        self.enter_from(settled);
    }

    /// Visits all series in order.
    pub fn for_each(&mut self, mut visit: impl FnMut(&[u8], &mut S)) {
        self.for_each_group(SERIES_BETWEEN, |entries| {
            for entry in entries {
                visit(&entry.key, &mut entry.state);
            }
        });
    }

    /// Visits all series in order, `size` at once; fewer at the end.
    pub fn for_each_group(&mut self, size: usize, mut visit: impl FnMut(&mut [Entry<S>])) {
        for entries in self.entries.chunks_mut(size) {
            give_way();
            visit(entries);
        }
    }

    /// Keeps the series that `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &mut S) -> bool) {
        let before = self.entries.len();
        let ledger = &self.ledger;
        self.entries.retain_mut(|entry| {
            let is_kept = keep(&entry.key, &mut entry.state);
            if !is_kept {
                ledger.leave(&entry.key);
            }
            is_kept
        });
        self.settle();
        if self.entries.len() == before {
            return;
        }
        self.indexes.clear();
        self.enter_from(0);
    }

    /// Makes the entries from `first` on findable.
    fn enter_from(&mut self, first: usize) {
        let entries = &self.entries;
        let hash_of = |&index: &u32| table_hash(entries[index as usize].hash);
        for (index, entry) in (0_u32..).zip(entries).skip(first) {
            self.indexes.insert_unique(table_hash(entry.hash), index, hash_of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_keeps_its_state_through_growth_and_removal() {
        let mut catalogue = Catalogue::<u64>::new(KeyHasher::default());
        for number in 0..1_000_u64 {
            *catalogue.state(number.to_string().as_bytes()) += number;
        }
        catalogue.retain(|_, state| *state % 3 == 0);
        assert_eq!(catalogue.len(), 334);
        assert_eq!(*catalogue.state(b"999"), 999);
        assert_eq!(*catalogue.state(b"998"), 0, "removed and made anew");
        let mut order = Vec::new();
        catalogue.for_each(|key, _| order.push(key.to_vec()));
        assert_eq!((order[0].as_slice(), order[1].as_slice()), (&b"0"[..], &b"3"[..]));
    }

    #[test]
    fn a_flood_of_new_series_finds_room_that_was_made_for_it() {
        let mut catalogue = Catalogue::<u64>::new(KeyHasher::default());
        catalogue.index(b"first");
        catalogue.make_room(1_000);
        let room = |catalogue: &Catalogue<u64>| {
            (catalogue.entries.capacity(), catalogue.indexes.capacity())
        };
        let before = room(&catalogue);
        for number in 1..1_000_u64 {
            *catalogue.state(number.to_string().as_bytes()) += number;
        }
        catalogue.make_room(1_000);
        assert_eq!(room(&catalogue), before, "made once");
        assert_eq!((catalogue.len(), *catalogue.state(b"999")), (1_000, 999));
        assert!(catalogue.find(b"first").is_some());
    }

    #[test]
    fn a_mark_finds_its_series_wherever_it_has_gone() {
        let mut catalogue = Catalogue::<u64>::new(KeyHasher::default());
        let keys = ["c", "b", "a", "d"];
        let mut marks = [Mark::default(); 4];
        let add = |catalogue: &mut Catalogue<u64>, marks: &mut [Mark; 4]| {
            for (mark, key) in marks.iter_mut().zip(keys) {
                *catalogue.state_marked(mark, key.as_bytes()).0 += 1;
            }
        };
        let states = |catalogue: &Catalogue<u64>| -> Vec<(char, u64)> {
            catalogue.iter().map(|(key, state)| (char::from(key[0]), *state)).collect()
        };
        add(&mut catalogue, &mut marks);
        catalogue.settle_by_name();
        let before = marks;
        add(&mut catalogue, &mut marks);
        assert_eq!(states(&catalogue), [('a', 2), ('b', 2), ('c', 2), ('d', 2)]);
        assert!(before != marks, "they have moved");
        let before = marks;
        add(&mut catalogue, &mut marks);
        assert_eq!(before, marks, "nothing has moved");
        catalogue.retain(|key, _| key != b"a");
        add(&mut catalogue, &mut marks);
        assert_eq!(states(&catalogue), [('b', 4), ('c', 4), ('d', 4), ('a', 1)]);
        catalogue.retain(|_, _| false);
        *catalogue.state(b"other") = 7;
        add(&mut catalogue, &mut marks);
        assert_eq!(states(&catalogue)[..2], [('o', 7), ('c', 1)], "another one stands there");
    }

    #[test]
    fn series_without_a_number_are_found_by_their_keys() {
        let mut catalogue = Catalogue::<u64>::new(KeyHasher::default());
        catalogue.next_number = u32::MAX;
        let mut marks = [Mark::default(); 3];
        for _ in 0..2 {
            for (mark, key) in marks.iter_mut().zip(["a", "b", "c"]) {
                *catalogue.state_marked(mark, key.as_bytes()).0 += 1;
            }
        }
        let states: Vec<u64> = catalogue.iter().map(|(_, state)| *state).collect();
        assert_eq!((states, catalogue.next_number), (vec![2, 2, 2], 0));
    }

    #[test]
    fn what_is_new_is_sorted_behind_what_is_known() {
        let mut catalogue = Catalogue::<u64>::new(KeyHasher::default());
        let keys = |catalogue: &Catalogue<u64>| -> Vec<String> {
            catalogue.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
        };
        for key in ["z", "b"] {
            catalogue.index(key.as_bytes());
        }
        catalogue.settle();
        for (number, key) in (1..).zip(["y", "a", "z", "c", "a"]) {
            *catalogue.state(key.as_bytes()) = number;
        }
        catalogue.settle_by_name();
        catalogue.settle_by_name();
        assert_eq!(keys(&catalogue), ["z", "b", "a", "c", "y"]);
        let states = ["z", "b", "a", "c", "y"].map(|key| *catalogue.state(key.as_bytes()));
        assert_eq!(states, [3, 0, 5, 4, 1]);
        assert_eq!(catalogue.len(), 5, "each is found where it is now");
        for number in 0..=FRESH_SORTED_MAX {
            catalogue.index(format!("k{}", FRESH_SORTED_MAX - number).as_bytes());
        }
        catalogue.settle_by_name();
        assert_eq!(keys(&catalogue)[5], format!("k{FRESH_SORTED_MAX}"), "too many to sort");
    }
}
