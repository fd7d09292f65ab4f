//! How often each key occurred: what `keyFlush` writes.
//!
//! One table per worker, filled beside the shard and only where `keyFlush` asks for it: every line
//! that has a key counts, good or bad, as in the reference. Handed over whole and started anew.
//!
//! Limits: `TALLY_KEYS_MAX` keys of `TALLY_KEY_BYTES_MAX` bytes; occurrences of further ones are
//! counted together.

use hashbrown::HashTable;

use crate::limits::{TALLY_KEY_BYTES_MAX, TALLY_KEYS_MAX};
use crate::name::KeyHasher;

/// One key.
#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    hash: u64,
    count: u64,
}

/// Keys and how often they occurred.
#[derive(Debug)]
pub struct KeyTally {
    indexes: HashTable<u32>,
    entries: Vec<Entry>,
    /// Bytes of all keys.
    key_bytes: usize,
    hasher: KeyHasher,
    /// Occurrences of keys beyond the limit.
    left_out: u64,
}

impl KeyTally {
    /// An empty tally.
    #[must_use]
    pub fn new(hasher: KeyHasher) -> Self {
        Self { indexes: HashTable::new(), entries: Vec::new(), key_bytes: 0, hasher, left_out: 0 }
    }

    /// Counts one occurrence.
    pub fn add(&mut self, key: &[u8]) {
        let hash = self.hasher.key(key);
        self.add_hashed(key, hash, 1);
    }

    /// Adds another tally of the same hasher.
    pub fn merge(&mut self, other: &Self) {
        for Entry { key, hash, count } in &other.entries {
            self.add_hashed(key, *hash, *count);
        }
        self.left_out += other.left_out;
    }

    fn add_hashed(&mut self, key: &[u8], hash: u64, count: u64) {
        let entries = &mut self.entries;
        let is_key = |&index: &u32| &*entries[index as usize].key == key;
        if let Some(&index) = self.indexes.find(hash, is_key) {
            entries[index as usize].count += count;
            return;
        }
        let key_bytes = self.key_bytes + key.len();
        if TALLY_KEYS_MAX <= entries.len() || TALLY_KEY_BYTES_MAX < key_bytes {
            self.left_out += count;
            return;
        }
        let index = u32::try_from(entries.len()).expect("TALLY_KEYS_MAX is far below 2^32");
        self.key_bytes = key_bytes;
        entries.push(Entry { key: key.into(), hash, count });
        self.indexes.insert_unique(hash, index, |&index| entries[index as usize].hash);
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no key occurred.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Occurrences of keys that found no room.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The most frequent `percent` of the keys, rounded up, the most frequent first; of equal ones
    /// that which was seen first.
    ///
    /// # Source
    /// `stats.js`, its `keyFlushInt`.
    pub fn most_frequent(&self, percent: f64) -> impl Iterator<Item = (&[u8], u64)> {
        let mut order: Vec<&Entry> = self.entries.iter().collect();
        order.sort_by_key(|entry| std::cmp::Reverse(entry.count));
        #[expect(clippy::cast_precision_loss, reason = "at most TALLY_KEYS_MAX")]
        let bound = order.len() as f64 * (percent / 100.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and take() stops at the last key anyway"
        )]
        let shown = bound.ceil() as usize;
        order.into_iter().take(shown).map(|entry| (&*entry.key, entry.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(keys: &[&str]) -> KeyTally {
        let mut tally = KeyTally::new(KeyHasher::default());
        keys.iter().for_each(|key| tally.add(key.as_bytes()));
        tally
    }

    fn rows(tally: &KeyTally, percent: f64) -> Vec<(String, u64)> {
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        tally.most_frequent(percent).map(|(key, count)| (text(key), count)).collect()
    }

    #[test]
    fn the_most_frequent_stand_first_and_equals_as_they_came() {
        let tally = tally(&["a", "b", "c", "b", "d", "c", "b"]);
        let expected = [("b", 3), ("c", 2), ("a", 1), ("d", 1)];
        assert_eq!(rows(&tally, 100.0), expected.map(|(key, count)| (key.to_owned(), count)));
    }

    #[test]
    fn a_percentage_rounds_up() {
        let tally = tally(&["a", "b", "c"]);
        for (percent, shown) in [(0.1, 1), (33.0, 1), (34.0, 2), (67.0, 3), (100.0, 3)] {
            assert_eq!(rows(&tally, percent).len(), shown, "{percent}");
        }
        assert_eq!(rows(&KeyTally::new(KeyHasher::default()), 100.0), []);
    }

    #[test]
    fn tallies_add_up_and_their_number_of_keys_is_bounded() {
        let hasher = KeyHasher::default();
        let (mut first, mut second) = (KeyTally::new(hasher.clone()), KeyTally::new(hasher));
        for number in 0..TALLY_KEYS_MAX {
            first.add(&number.to_le_bytes());
        }
        second.add(&0_usize.to_le_bytes());
        second.add(b"new");
        first.merge(&second);
        assert_eq!((first.len(), first.left_out()), (TALLY_KEYS_MAX, 1));
        assert_eq!(first.most_frequent(100.0).next().unwrap().1, 2);
    }

    #[test]
    fn long_keys_are_bounded_by_their_bytes() {
        let mut tally = KeyTally::new(KeyHasher::default());
        let mut key = vec![b'k'; TALLY_KEY_BYTES_MAX / 64];
        for number in 0..64 {
            key[0] = number;
            tally.add(&key);
        }
        assert_eq!((tally.len(), tally.left_out()), (64, 0), "just full");
        tally.add(b"k");
        tally.add(&key);
        assert_eq!((tally.len(), tally.left_out()), (64, 1), "those known go on counting");
    }
}
