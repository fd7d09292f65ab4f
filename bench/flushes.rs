//! What the files of an archive say of flushes: when each lay on the disk, and whether one is missing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;

use crate::faults::daemon::segments;

/// The flushes of one daemon so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Flushes {
    /// Grid points that have a segment.
    pub(crate) count: u64,
    /// Grid points between the first and the last that have none.
    pub(crate) missing: u64,
    /// From a grid point until the last part of its segment was written, ms, the longest.
    pub(crate) late_ms: f64,
}

impl Flushes {
    /// Of `spool`, whose grid points are `interval_s` apart; before `from_s` does not count.
    ///
    /// # Errors
    /// When there was none, or the archive cannot be read.
    pub(crate) fn of(spool: &Path, interval_s: u64, from_s: u64) -> anyhow::Result<Self> {
        let mut written = BTreeMap::new();
        for (at_s, path) in segments(&spool.join("archive"))? {
            if from_s <= at_s {
                let time = path.metadata()?.modified()?.duration_since(UNIX_EPOCH)?;
                let latest = written.entry(at_s).or_insert(time);
                *latest = time.max(*latest);
            }
        }
        Self::of_times(&written, interval_s).context("there were flushes")
    }

    /// By grid point, s, and when its last part was written.
    fn of_times(written: &BTreeMap<u64, Duration>, interval_s: u64) -> Option<Self> {
        let ((first, _), (last, _)) = (written.first_key_value()?, written.last_key_value()?);
        let late =
            written.iter().map(|(at_s, time)| time.saturating_sub(Duration::from_secs(*at_s)));
        let count = written.len() as u64;
        Some(Self {
            count,
            missing: ((last - first) / interval_s.max(1) + 1).saturating_sub(count),
            late_ms: late.max()?.as_secs_f64() * 1e3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_the_latest_are_found() {
        let of = |times: &[(u64, u64)], interval_s| {
            let times = times.iter().map(|(at_s, ms)| (*at_s, Duration::from_millis(*ms)));
            Flushes::of_times(&times.collect(), interval_s)
        };
        assert_eq!(of(&[], 1), None);
        let even = of(&[(10, 10_100), (11, 11_300), (12, 12_200)], 1).unwrap();
        assert_eq!(even, Flushes { count: 3, missing: 0, late_ms: 300.0 });
        let gap = of(&[(10, 10_000), (40, 40_000)], 10).unwrap();
        assert_eq!((gap.count, gap.missing), (2, 2));
    }
}
