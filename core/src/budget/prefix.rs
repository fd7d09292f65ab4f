//! Which prefix a name is counted under, and how many names each has.
//!
//! A pattern stands for as many components of a name as it has itself; `*` stands for any text within
//! one. The prefix is what the name has there, so that `app.*` gives each application a budget of its
//! own. The first pattern that fits counts; names that none fits are counted under their first
//! component where there is a budget for all. Tags are no part of it.

use crate::limits::PREFIXES_COUNTED_MAX;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Places looked at for one prefix.
const PROBES_MAX: usize = 64;

/// A pattern and its budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixPattern {
    /// Components, `*` for any text within one: `app.*`.
    pub prefix: String,
    /// Names below each prefix that fits.
    pub names_max: usize,
}

/// The budgets below prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// In the order in which they are tried.
    pub patterns: Vec<PrefixPattern>,
    /// Names below each first component that no pattern fits; `None` = no budget.
    pub names_max: Option<usize>,
}

/// The prefix of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix<'k> {
    pub(super) name: &'k [u8],
    pub(super) names_max: usize,
}

impl Prefixes {
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.names_max.is_none()
    }

    /// `None` for a name that no budget but the total holds.
    pub(super) fn of<'k>(&self, key: &'k [u8]) -> Option<Prefix<'k>> {
        if self.is_empty() {
            return None;
        }
        let end = key.iter().position(|byte| *byte == b';').unwrap_or(key.len());
        let name = &key[..end];
        for PrefixPattern { prefix, names_max } in &self.patterns {
            if let Some(length) = fitting(prefix.as_bytes(), name) {
                return Some(Prefix { name: &name[..length], names_max: *names_max });
            }
        }
        let first = name.iter().position(|byte| *byte == b'.')?;
        Some(Prefix { name: &name[..first], names_max: self.names_max? })
    }
}

/// Length of the beginning of `name` that `pattern` fits, if more follows.
fn fitting(pattern: &[u8], name: &[u8]) -> Option<usize> {
    let mut components = name.split(|byte| *byte == b'.');
    let mut length = 0;
    for (number, pattern) in pattern.split(|byte| *byte == b'.').enumerate() {
        let component = components.next()?;
        if !is_match(pattern, component) {
            return None;
        }
        length += usize::from(number != 0) + component.len();
    }
    components.next().map(|_| length)
}

/// Whether a component is what a pattern with `*` says: back to the last `*` where it is not.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star = None;
    while seen < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, seen));
            at += 1;
        } else if pattern.get(at) == text.get(seen) {
            (at, seen) = (at + 1, seen + 1);
        } else if let Some((place, from)) = star {
            star = Some((place, from + 1));
            (at, seen) = (place + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// Names below one prefix.
#[derive(Debug, Default)]
pub(super) struct PrefixCount {
    /// Hash of the prefix; 0 = nobody's yet. Written once.
    hash: AtomicU64,
    pub(super) live: AtomicUsize,
    pub(super) entered: AtomicUsize,
}

/// A table of prefixes that only grows: open addressing, without a lock. A prefix that finds no place
/// has no budget of its own, and the total holds it.
#[derive(Debug)]
pub(super) struct PrefixCounts {
    places: Box<[PrefixCount]>,
    seed: std::hash::RandomState,
}

impl PrefixCounts {
    pub(super) fn new(is_unused: bool) -> Self {
        let places = if is_unused { 0 } else { PREFIXES_COUNTED_MAX };
        Self {
            places: std::iter::repeat_with(PrefixCount::default).take(places).collect(),
            seed: std::hash::RandomState::new(),
        }
    }

    /// The place of a prefix, made if there is none.
    pub(super) fn of(&self, prefix: &[u8]) -> Option<&PrefixCount> {
        let hash = std::hash::BuildHasher::hash_one(&self.seed, prefix) | 1;
        let start = (hash >> 32) as usize;
        for probe in 0..PROBES_MAX.min(self.places.len()) {
            let place = &self.places[(start + probe) % self.places.len()];
            let found = match place.hash.load(Ordering::Relaxed) {
                0 => place
                    .hash
                    .compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed)
                    .map_or_else(|other| other, |_| hash),
                found => found,
            };
            if found == hash {
                return Some(place);
            }
        }
        None
    }

    /// Puts the workers' counts right.
    pub(super) fn settle(&self) {
        for place in &self.places {
            let entered = place.entered.load(Ordering::Relaxed);
            place.live.store(entered, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(patterns: &[(&str, usize)], names_max: Option<usize>) -> Prefixes {
        let pattern = |(prefix, names_max): &(&str, usize)| PrefixPattern {
            prefix: (*prefix).into(),
            names_max: *names_max,
        };
        Prefixes { patterns: patterns.iter().map(pattern).collect(), names_max }
    }

    fn of(prefixes: &Prefixes, key: &str) -> Option<(String, usize)> {
        let prefix = prefixes.of(key.as_bytes())?;
        Some((String::from_utf8_lossy(prefix.name).into_owned(), prefix.names_max))
    }

    #[test]
    fn a_name_belongs_to_the_first_pattern_that_fits() {
        let prefixes = prefixes(&[("app.*", 1), ("app", 2), ("w*b.x?", 3), ("*-*-a.b", 4)], None);
        for (key, expected) in [
            ("app.web.requests", Some(("app.web", 1))),
            ("app.web", Some(("app", 2))),
            ("app", None),
            ("app;t=a.b.c", None),
            ("app.x;t=a.b", Some(("app", 2))),
            ("application.x.y", None),
            ("wb.x?.c", Some(("wb.x?", 3))),
            ("wabb.x?.c", Some(("wabb.x?", 3))),
            ("wabb.xy.c", None),
            ("1-2-3-a.b.c", Some(("1-2-3-a", 4))),
            ("", None),
            (".", None),
        ] {
            let expected = match expected {
                Some(("1-2-3-a", max)) => Some(("1-2-3-a.b".to_owned(), max)),
                other => other.map(|(name, max)| (name.to_owned(), max)),
            };
            assert_eq!(of(&prefixes, key), expected, "{key}");
        }
    }

    #[test]
    fn a_budget_for_all_counts_first_components() {
        let prefixes = prefixes(&[("app.*", 1)], Some(9));
        for (key, expected) in [
            ("app.a.b", Some(("app.a", 1))),
            ("app.a", Some(("app", 9))),
            ("web.a;x=y.z", Some(("web", 9))),
            ("web;x=y.z", None),
            (".a", Some(("", 9))),
        ] {
            assert_eq!(of(&prefixes, key), expected.map(|(name, max)| (name.to_owned(), max)));
        }
        assert_eq!(of(&Prefixes::default(), "a.b"), None);
    }

    #[test]
    fn each_prefix_has_a_place_of_its_own_until_there_is_none() {
        let counts = PrefixCounts::new(false);
        for number in 0..PREFIXES_COUNTED_MAX / 4 {
            let count = counts.of(number.to_string().as_bytes()).unwrap();
            assert_eq!(count.entered.fetch_add(number, Ordering::Relaxed), 0);
        }
        counts.settle();
        for number in 0..PREFIXES_COUNTED_MAX / 4 {
            let count = counts.of(number.to_string().as_bytes()).unwrap();
            assert_eq!(count.live.load(Ordering::Relaxed), number);
        }
        let all = (0..4 * PREFIXES_COUNTED_MAX)
            .filter(|number| counts.of(number.to_string().as_bytes()).is_some());
        let all = all.count();
        assert!(PREFIXES_COUNTED_MAX / 4 * 3 < all && all <= PREFIXES_COUNTED_MAX, "{all}");
        assert!(PrefixCounts::new(true).of(b"a").is_none());
    }
}
