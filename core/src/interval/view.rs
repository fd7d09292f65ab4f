//! What the open interval holds at one moment, for whoever asks before it closes.
//!
//! A view is a copy: the console prints it while the coordinator goes on. Series stand in the order
//! in which JavaScript would list them, names that are array indexes first.

use crate::inspect::{LIST_ENTRIES_SHOWN, array_index};
use crate::series::pool::Chain;

/// Series of one kind with a value each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View<V> {
    /// All keys, one behind the other.
    names: Vec<u8>,
    /// End offset of each key in `names`.
    ends: Vec<usize>,
    values: Vec<V>,
}

/// Counters or gauges.
pub type NumberView = View<f64>;

/// Timers with their values so far.
pub type TimerView = View<TimerSoFar>;

/// What has come in for one timer since the last flush.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimerSoFar {
    /// The first values, in order of arrival: all of them, or [`LIST_ENTRIES_SHOWN`]. Fewer where a
    /// sketch has taken some.
    pub first: Box<[f64]>,
    /// Values there are.
    pub total: u64,
}

impl<V> View<V> {
    /// A view of `series`, which come in the order in which they were first seen; they are gone
    /// through twice.
    pub(super) fn of<'a, I>(series: impl Fn() -> I) -> Self
    where
        I: Iterator<Item = (&'a [u8], V)>,
    {
        let mut view = Self { names: Vec::new(), ends: Vec::new(), values: Vec::new() };
        let mut indexed: Vec<(u32, &[u8], V)> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        for (key, value) in series() {
            (count, bytes) = (count + 1, bytes + key.len());
            if let Some(index) = array_index(key) {
                indexed.push((index, key, value));
            }
        }
        // Room for all at once: lists that grow step by step lie in memory twice.
        view.names.reserve_exact(bytes);
        view.ends.reserve_exact(count);
        view.values.reserve_exact(count);
        indexed.sort_by_key(|(index, _, _)| *index);
        for (_, key, value) in indexed {
            view.push(key, value);
        }
        for (key, value) in series() {
            if array_index(key).is_none() {
                view.push(key, value);
            }
        }
        view
    }

    fn push(&mut self, key: &[u8], value: V) {
        self.names.extend_from_slice(key);
        self.ends.push(self.names.len());
        self.values.push(value);
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Keys and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &V)> {
        let mut start = 0;
        self.ends.iter().zip(&self.values).map(move |(end, value)| {
            let key = self.names.get(start..*end).unwrap_or_default();
            start = *end;
            (key, value)
        })
    }
}

impl TimerSoFar {
    /// The values of `chains`, which stay as they are; no more of them than there is `room` for, which
    /// becomes less.
    ///
    /// # Cost
    /// One look at each chunk, a copy of at most [`LIST_ENTRIES_SHOWN`] values.
    pub(super) fn of(chains: &[Chain], room: &mut usize) -> Self {
        let mut first = Vec::new();
        let mut total = 0;
        for chain in chains {
            let Some(newest) = chain.newest() else { continue };
            let kept = newest.chain_values() as usize;
            total += kept as u64 + newest.overflow.as_ref().map_or(0, |overflow| overflow.count);
            let base = first.len();
            let shown = kept.min(LIST_ENTRIES_SHOWN - base).min(*room);
            *room -= shown;
            if shown == 0 {
                continue;
            }
            first.resize(base + shown, 0.0);
            // Chunks come newest first, each knows how many values are older than its own.
            for chunk in chain.chunks() {
                let places = first[base..].iter_mut().skip(chunk.older_values());
                for (place, value) in places.zip(chunk.values()) {
                    *place = value;
                }
            }
        }
        Self { first: first.into(), total }
    }
}
