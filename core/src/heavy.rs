//! Heavy hitters: what occurs most, in a memory of a fixed size.
//!
//! Counts up to twice as many keys as it answers for. When all places are taken, as much as the middle
//! count is taken away from every key, and those that have nothing left go (Misra and Gries, in the
//! form that takes the middle instead of the least, so that a new key costs the same on average
//! however many there are). A key is never counted too high; it may be counted too low by
//! `HeavyHitters::error` at the most, which is below a `size`th of everything counted.
//!
//! For threads beside the road: it allocates for a key that it meets first.

use std::collections::HashMap;

/// What is known of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How often it occurred, at the least.
    pub count: u64,
    /// What came with it first.
    pub example: Option<Box<[u8]>>,
}

/// The keys that occur most.
#[derive(Clone, Debug)]
pub struct HeavyHitters {
    size: usize,
    counts: HashMap<Box<[u8]>, Counted>,
    error: u64,
    total: u64,
}

impl HeavyHitters {
    /// Answers for `size` keys.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { size: size.max(1), counts: HashMap::new(), error: 0, total: 0 }
    }

    /// Counts `key` once more; `example` is asked for what to keep with one that is new.
    pub fn add(&mut self, key: &[u8], count: u64, example: impl FnOnce() -> Option<Box<[u8]>>) {
        self.total += count;
        if let Some(counted) = self.counts.get_mut(key) {
            counted.count += count;
            return;
        }
        if 2 * self.size <= self.counts.len() {
            self.make_room();
        }
        self.counts.insert(key.into(), Counted { count, example: example() });
    }

    fn make_room(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().map(|counted| counted.count).collect();
        let middle = counts.len() / 2;
        let (_, taken, _) = counts.select_nth_unstable(middle);
        let taken = *taken;
        self.counts.retain(|_, counted| {
            counted.count = counted.count.saturating_sub(taken);
            counted.count != 0
        });
        self.error += taken;
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        let total = self.total + other.total;
        for (key, counted) in &other.counts {
            self.add(key, counted.count, || counted.example.clone());
        }
        self.total = total;
        self.error += other.error;
    }

    /// By how much a count may be too low.
    #[must_use]
    pub fn error(&self) -> u64 {
        self.error
    }

    /// Everything that was counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The keys that occurred most, at most `most`, the first first; equal ones by their keys.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<(&[u8], &Counted)> {
        let mut all: Vec<_> = self.counts.iter().map(|(key, counted)| (&**key, counted)).collect();
        all.sort_unstable_by(|one, other| {
            other.1.count.cmp(&one.1.count).then_with(|| one.0.cmp(other.0))
        });
        all.truncate(most.min(self.size));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_occurs_often_is_found_among_any_number_of_others() {
        let mut hitters = HeavyHitters::new(100);
        let mut truth = HashMap::<Vec<u8>, u64>::new();
        for number in 0..200_000_u64 {
            let key = match number % 10 {
                0..=3 => b"half".to_vec(),
                4 => format!("often{}", number % 50).into_bytes(),
                _ => format!("once{number}").into_bytes(),
            };
            *truth.entry(key.clone()).or_default() += 1;
            hitters.add(&key, 1, || None);
        }
        assert!(hitters.counts.len() <= 200);
        assert!(hitters.error() <= 200_000 / 100, "{}", hitters.error());
        let top = hitters.top(6);
        assert_eq!(top[0].0, b"half");
        for (key, counted) in &top {
            let exact = truth[*key];
            assert!(counted.count <= exact && exact <= counted.count + hitters.error());
        }
        assert!(top[1..].iter().all(|(key, _)| key.starts_with(b"often")), "{top:?}");
        assert_eq!(hitters.total(), 200_000);
    }

    #[test]
    fn few_keys_are_counted_exactly_with_their_first_examples() {
        let mut hitters = HeavyHitters::new(2);
        for (key, example) in [("a", "1"), ("b", "2"), ("a", "3")] {
            hitters.add(key.as_bytes(), 1, || Some(example.as_bytes().into()));
        }
        let mut other = HeavyHitters::new(2);
        other.add(b"b", 4, || None);
        hitters.merge(&other);
        let of = |count, example: &str| Counted { count, example: Some(example.as_bytes().into()) };
        assert_eq!(hitters.top(9), [(&b"b"[..], &of(5, "2")), (&b"a"[..], &of(2, "1"))]);
        assert_eq!((hitters.error(), hitters.total()), (0, 7));
    }
}
