//! What a carbon was given, and whether a carbon may be given it.
//!
//! Kept per name and timestamp for the witness's series; of floe's own a hash. A point of these that
//! comes twice with two values is seen. Names of hostile senders are not watched for it: two that
//! differ in bytes that no carbon may see become one.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

/// Longest line that carbon's receiver takes, bytes, its newline left out.
const LINE_BYTES_MAX: usize = 16_384;

/// Names of floe's own series hold it.
const OWN: &str = "statsd.";

/// Names of a flood of names, whose counts are added up, begin so.
const FLOOD: &str = "stats_counts.flood.";

/// Points of these two that are kept: those of a day.
const KEPT_MAX: usize = 10_000_000;

/// Examples of what was wrong that are kept.
const EXAMPLES_MAX: usize = 5;

/// The values of one series by timestamp, s.
pub(crate) type Series = BTreeMap<u64, f64>;

/// Everything received so far.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The witness's series.
    series: HashMap<String, Series>,
    /// Values of floe's own points, and of floods, by hash of name and timestamp.
    kept: HashMap<u64, u64>,
    /// Sum of the counts of a flood of names.
    flood: f64,
    hasher: RandomState,
    /// When the first point of each timestamp came, ms of the wall clock.
    arrivals: BTreeMap<u64, u64>,
    /// Newest timestamp of a connection that ended well.
    newest_whole: u64,
    /// What no carbon may be given.
    wrongs: Vec<String>,
    wrong_count: u64,
}

impl Ledger {
    /// Takes the line `bytes`, without its newline, at `now_ms`; returns its timestamp.
    pub(crate) fn take(&mut self, bytes: &[u8], now_ms: u64) -> Option<u64> {
        let (name, value, time) = match point(bytes) {
            Ok(point) => point,
            Err(reason) => {
                self.wrong(&format!("{reason}: {}", bytes[..bytes.len().min(80)].escape_ascii()));
                return None;
            }
        };
        self.arrivals.entry(time).or_insert(now_ms);
        let before = if name.contains("witness.") {
            let series = self.series.entry(name.to_owned()).or_default();
            series.insert(time, value)
        } else if (name.contains(OWN) || name.starts_with(FLOOD)) && self.kept.len() < KEPT_MAX {
            let key = self.hasher.hash_one((name, time));
            let before = self.kept.insert(key, value.to_bits()).map(f64::from_bits);
            if before.is_none() && name.starts_with(FLOOD) {
                self.flood += value;
            }
            before
        } else {
            None
        };
        if before.is_some_and(|before| before.to_bits() != value.to_bits()) {
            self.wrong(&format!("{name} at {time} was {before:?} and is {value}"));
        }
        Some(time)
    }

    /// A connection ended well whose newest timestamp is `time`.
    pub(crate) fn whole(&mut self, time: u64) {
        self.newest_whole = self.newest_whole.max(time);
    }

    fn wrong(&mut self, text: &str) {
        self.wrong_count += 1;
        if self.wrongs.len() < EXAMPLES_MAX {
            self.wrongs.push(text.to_owned());
        }
    }

    /// What was wrong since this was asked last: how often, and examples.
    pub(crate) fn take_wrongs(&mut self) -> (u64, Vec<String>) {
        (std::mem::take(&mut self.wrong_count), std::mem::take(&mut self.wrongs))
    }

    /// Newest timestamp of a connection that ended well, s.
    pub(crate) fn newest_whole(&self) -> u64 {
        self.newest_whole
    }

    /// The values of series `name`.
    pub(crate) fn series(&self, name: &str) -> Series {
        self.series.get(name).cloned().unwrap_or_default()
    }

    /// Sum of the values of series `name`.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.series.get(name).map_or(0.0, |series| series.values().sum())
    }

    /// Sum of the counts of all names below `flood.`.
    pub(crate) fn flood(&self) -> f64 {
        self.flood
    }

    /// Timestamps from `from_s` on, s, and when their first point came, ms.
    pub(crate) fn arrivals_from(&self, from_s: u64) -> Vec<(u64, u64)> {
        self.arrivals.range(from_s..).map(|(time, ms)| (*time, *ms)).collect()
    }
}

/// Name, value and timestamp of a line, or why carbon would throw away what follows it.
fn point(bytes: &[u8]) -> Result<(&str, f64, u64), &'static str> {
    if LINE_BYTES_MAX < bytes.len() {
        return Err("a line too long");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "a line that is not UTF-8")?;
    if text.contains(char::is_control) {
        return Err("a control character");
    }
    // As Python's split() does, spaces of Unicode included.
    let mut fields = text.split_whitespace();
    let (Some(name), Some(value), Some(time), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("not three fields");
    };
    let value: f64 = value.parse().map_err(|_| "no number")?;
    if !value.is_finite() {
        return Err("a number that is not finite");
    }
    Ok((name, value, time.parse().map_err(|_| "no whole timestamp")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_may_come_twice_but_not_with_two_values() {
        let mut ledger = Ledger::default();
        for name in ["stats.witness.hits", "stats.statsd.own", "stats.others"] {
            for value in [1, 1, 2] {
                ledger.take(format!("{name} {value} 100").as_bytes(), 7);
            }
        }
        let (count, examples) = ledger.take_wrongs();
        assert_eq!(count, 2, "{examples:?}");
        assert!(examples[0].starts_with("stats.witness.hits at 100"), "{examples:?}");
        assert_eq!(ledger.take_wrongs(), (0, Vec::new()));
        assert_eq!(ledger.sum("stats.witness.hits"), 2.0);
        assert_eq!(ledger.arrivals_from(0), [(100, 7)]);
    }

    #[test]
    fn counts_of_a_flood_are_added_up_once_each() {
        let mut ledger = Ledger::default();
        for line in
            ["stats_counts.flood.1 2 9", "stats_counts.flood.2 3 9", "stats_counts.flood.1 2 9"]
        {
            ledger.take(line.as_bytes(), 0);
        }
        assert_eq!(ledger.flood(), 5.0);
    }

    #[test]
    fn line_that_poisons_a_carbon_is_wrong() {
        let long = [b"a".repeat(LINE_BYTES_MAX), b" 1 1".to_vec()].concat();
        for line in [
            &b"a\xff 1 1"[..],
            b"a 1",
            b"a b 1 1",
            b"a\xc2\xa0b 1 1",
            b"a nan 1",
            b"a inf 1",
            b"a 1 1.5",
            b"a 1 nan",
            b"a\x1b[2J 1 1",
            b"",
            &long,
        ] {
            let mut ledger = Ledger::default();
            assert_eq!(ledger.take(line, 0), None, "{}", line.escape_ascii());
            assert_eq!(ledger.take_wrongs().0, 1);
        }
        assert_eq!(point(b"a;b=c 1.5 9"), Ok(("a;b=c", 1.5, 9)));
    }
}
