//! The values of a timer put in order: a sort of integers that expects them spread.
//!
//! One pass deals the keys out into about two buckets for each of them, by their highest bits that
//! differ; what is left is a step or two per key. Values of a timer are spread over the bits of a
//! double much as their logarithms are, so that buckets are small; one that is not is sorted by
//! itself. Where one bucket would get most of them, they are counted in vain, and sorted by the
//! standard library. Equal keys are equal values, so that every sort gives the same result.

/// Fewer keys are sorted at once.
const KEYS_DEALT_MIN: usize = 64;

/// Buckets at the most, as a power of two: their counters fit a level-one cache.
const BUCKET_BITS_MAX: u32 = 12;

/// A bucket of more keys is sorted by itself, before the keys are taken to their places one by one.
const BUCKET_KEYS_MAX: u32 = 16;

/// A deal that leaves one bucket more than this part of the keys, 1 in so many, has ordered too little.
const SHARE_OF_LARGEST_MAX: usize = 4;

/// Sorts, in memory that is kept.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Where each bucket starts, and ends once it is dealt.
    ends: Vec<u32>,
    dealt: Vec<u64>,
}

impl Order {
    /// Puts `keys` in ascending order.
    pub(super) fn sort(&mut self, keys: &mut Vec<u64>) {
        let is_few = keys.len() < KEYS_DEALT_MIN || u32::try_from(keys.len()).is_err();
        let (low, high) = if is_few { (0, 0) } else { bounds(keys) };
        if low == high {
            return keys.sort_unstable();
        }
        let bits = (keys.len().ilog2() + 2).min(BUCKET_BITS_MAX);
        let shift = (high - low).ilog2().saturating_sub(bits - 1);
        let bucket = |key| bucket(key, low, shift);
        let largest = self.count(keys, bucket, 1 << bits);
        if keys.len() / SHARE_OF_LARGEST_MAX < largest as usize {
            return keys.sort_unstable();
        }
        self.deal(keys, bucket);
        if BUCKET_KEYS_MAX < largest {
            self.sort_large_buckets();
        }
        insert_all(&mut self.dealt);
        std::mem::swap(keys, &mut self.dealt);
    }

    /// Finds where each bucket starts; how many keys the largest one gets.
    fn count(&mut self, keys: &[u64], bucket: impl Fn(u64) -> usize, buckets: usize) -> u32 {
        self.ends.clear();
        self.ends.resize(buckets, 0);
        for &key in keys {
            self.ends[bucket(key)] += 1;
        }
        let (mut start, mut largest) = (0, 0);
        for end in &mut self.ends {
            let count = *end;
            *end = start;
            start += count;
            largest = largest.max(count);
        }
        largest
    }

    /// Puts the keys into `dealt`, bucket by bucket.
    fn deal(&mut self, keys: &[u64], bucket: impl Fn(u64) -> usize) {
        self.dealt.resize(keys.len(), 0);
        for &key in keys {
            let end = &mut self.ends[bucket(key)];
            self.dealt[*end as usize] = key;
            *end += 1;
        }
    }

    fn sort_large_buckets(&mut self) {
        let mut start = 0;
        for &end in &self.ends {
            if BUCKET_KEYS_MAX < end - start {
                self.dealt[start as usize..end as usize].sort_unstable();
            }
            start = end;
        }
    }
}

/// The share of the keys' range that `key` lies in.
#[expect(clippy::cast_possible_truncation, reason = "below the number of buckets")]
const fn bucket(key: u64, low: u64, shift: u32) -> usize {
    ((key - low) >> shift) as usize
}

/// The smallest and the largest key.
fn bounds(keys: &[u64]) -> (u64, u64) {
    keys.iter().fold((u64::MAX, 0), |(low, high), &key| (low.min(key), high.max(key)))
}

/// Takes each key back to its place among those before it: none has far to go.
fn insert_all(keys: &mut [u64]) {
    for at in 1..keys.len() {
        let key = keys[at];
        let mut place = at;
        while 0 < place && key < keys[place - 1] {
            keys[place] = keys[place - 1];
            place -= 1;
        }
        keys[place] = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spread_of_keys_is_sorted() {
        let mixed = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31);
        let spreads: [fn(u64) -> u64; 6] = [
            |number| number,
            |number| u64::MAX - number,
            |number| number % 3,
            |number| if number == 7 { u64::MAX } else { number % 100 },
            |number| 1 << (number % 64),
            |_| 5,
        ];
        let mut order = Order::default();
        for count in [0, 1, 2, 63, 64, 65, 1_000, 5_000, 20_000] {
            for spread in spreads {
                let mut keys: Vec<u64> = (0..count).map(mixed).map(spread).collect();
                let mut sorted = keys.clone();
                sorted.sort_unstable();
                order.sort(&mut keys);
                assert_eq!(keys, sorted);
            }
        }
    }

    #[test]
    fn the_whole_range_of_keys_has_a_bucket_each() {
        let mut keys: Vec<u64> = (0..=u64::MAX / 64).step_by(1 << 51).map(|key| !key).collect();
        keys.extend([0, u64::MAX, 1]);
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        Order::default().sort(&mut keys);
        assert_eq!(keys, sorted);
    }
}
