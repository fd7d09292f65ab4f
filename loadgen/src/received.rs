//! What one witness saw: points by name and timestamp.
//!
//! Filled by `sink` (what carbon would have received) or `graphite` (what was stored), read by `ledger`.
//! It has whisper's semantics: of two values with one name and one timestamp the later one stays. Equal
//! ones are a repeat, which at-least-once delivery may cause; different ones are a conflict, which means
//! that a value was destroyed.

use std::collections::HashMap;

use crate::probe::Arrivals;

/// Conflicts kept word for word; further ones are counted.
const CONFLICTS_KEPT_MAX: usize = 100;

/// One value at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// Seconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) value: f64,
}

/// Two different values for one name and timestamp.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conflict {
    pub(crate) name: String,
    pub(crate) timestamp: i64,
    pub(crate) first: f64,
    pub(crate) second: f64,
}

/// Everything one witness saw.
#[derive(Debug, Default)]
pub(crate) struct Received {
    series: HashMap<String, Vec<Point>>,
    conflicts: Vec<Conflict>,
    conflict_count: u64,
    /// Points taken, repeats and conflicts included.
    pub(crate) points: u64,
    /// Points that came again with the same value.
    pub(crate) repeats: u64,
    /// Values carbon drops without a word: not a number.
    pub(crate) not_a_number: u64,
    /// Lines, frames or entries that carbon would have refused.
    pub(crate) refused: u64,
    /// Connections accepted.
    pub(crate) connections: u64,
    /// Notes when probes arrive, where latency is measured.
    pub(crate) arrivals: Option<Arrivals>,
}

impl Received {
    /// Takes one point, in the order of arrival.
    pub(crate) fn record(&mut self, name: &str, point: Point) {
        self.points += 1;
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.note(name, point.value, point.timestamp);
        }
        if point.value.is_nan() {
            self.not_a_number += 1;
            return;
        }
        let Some(points) = self.series.get_mut(name) else {
            self.series.insert(name.to_owned(), vec![point]);
            return;
        };
        // Points mostly come in order of time, so the place is near the end.
        let place = points.iter().rposition(|known| known.timestamp <= point.timestamp);
        match place {
            Some(index) if points[index].timestamp == point.timestamp => {
                let known = std::mem::replace(&mut points[index], point);
                if known.value == point.value {
                    self.repeats += 1;
                } else {
                    self.conflict(name, known, point);
                }
            }
            Some(index) => points.insert(index + 1, point),
            None => points.insert(0, point),
        }
    }

    fn conflict(&mut self, name: &str, first: Point, second: Point) {
        self.conflict_count += 1;
        if self.conflicts.len() < CONFLICTS_KEPT_MAX {
            let name = name.to_owned();
            let timestamp = first.timestamp;
            let (first, second) = (first.value, second.value);
            self.conflicts.push(Conflict { name, timestamp, first, second });
        }
    }

    /// The points of `name` in order of time; empty where it never came.
    pub(crate) fn points(&self, name: &str) -> &[Point] {
        self.series.get(name).map_or(&[], Vec::as_slice)
    }

    /// All names with their points, in no particular order.
    pub(crate) fn series(&self) -> impl Iterator<Item = (&str, &[Point])> {
        self.series.iter().map(|(name, points)| (name.as_str(), points.as_slice()))
    }

    /// The first conflicts and how many there were.
    pub(crate) fn conflicts(&self) -> (&[Conflict], u64) {
        (&self.conflicts, self.conflict_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(timestamp: i64, value: f64) -> Point {
        Point { timestamp, value }
    }

    #[test]
    fn points_are_kept_in_order_of_time() {
        let mut received = Received::default();
        for timestamp in [20, 10, 30, 25] {
            received.record("a", point(timestamp, 1.0));
        }
        let times: Vec<i64> = received.points("a").iter().map(|point| point.timestamp).collect();
        assert_eq!(times, [10, 20, 25, 30]);
        assert!(received.points("b").is_empty());
    }

    #[test]
    fn the_same_point_again_is_a_repeat() {
        let mut received = Received::default();
        received.record("a", point(10, 1.0));
        received.record("a", point(10, 1.0));
        assert_eq!((received.repeats, received.conflicts().1), (1, 0));
        assert_eq!(received.points("a"), [point(10, 1.0)]);
    }

    #[test]
    fn another_value_at_the_same_time_is_a_conflict_and_the_later_one_stays() {
        let mut received = Received::default();
        received.record("a", point(10, 1.0));
        received.record("a", point(10, 2.0));
        assert_eq!(received.points("a"), [point(10, 2.0)]);
        let (conflicts, count) = received.conflicts();
        assert_eq!(count, 1);
        assert_eq!((conflicts[0].name.as_str(), conflicts[0].timestamp), ("a", 10));
        assert_eq!((conflicts[0].first, conflicts[0].second), (1.0, 2.0));
    }

    #[test]
    fn not_a_number_is_dropped_and_counted() {
        let mut received = Received::default();
        received.record("a", point(10, f64::NAN));
        assert!(received.points("a").is_empty());
        assert_eq!(received.not_a_number, 1);
    }
}
