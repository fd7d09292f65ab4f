//! Names of segment files: `<unix seconds>-<run id>-<sequence>-<part>.seg`, decimal.
//!
//! Every field has a fixed width (11, 14, 12 and 5 digits), so that the order of the names as
//! bytes, the order of `SegmentName`s and the order of the queue are one and the same. The
//! seconds are the timestamp of the interval; the run id is the start of the daemon in ms, raised
//! above any run id in the spool, so that a run sorts behind its predecessors even after the clock
//! was set back; the sequence counts commits of a run from 0; the part counts within an interval.
//!
//! Names that do not have exactly this shape are foreign: nobody here touches such files.

use std::fmt;

/// Greatest timestamp a name can bear, seconds since the epoch (the year 5138).
pub const TIMESTAMP_S_MAX: u64 = 99_999_999_999;
/// Greatest run id, ms since the epoch.
pub const RUN_ID_MAX: u64 = 99_999_999_999_999;
/// Greatest sequence: 31 years of commits, one each ms.
pub const SEQUENCE_MAX: u64 = 999_999_999_999;
/// Greatest part index: 64 MiB each.
pub const PART_MAX: u32 = 99_999;

/// Length of a name, bytes: four numbers, three hyphens, `.seg`.
pub const NAME_BYTES: usize = 11 + 14 + 12 + 5 + 3 + 4;

const SUFFIX: &str = ".seg";

/// The name of one segment; ordered as the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    // The order of the fields is the order of comparison.
    timestamp_s: u64,
    run_id: u64,
    sequence: u64,
    part: u32,
}

/// The numbers a name is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameParts {
    /// End of the interval, seconds since the epoch.
    pub timestamp_s: u64,
    /// Start of the daemon, ms since the epoch.
    pub run_id: u64,
    /// Commits of this run before this one.
    pub sequence: u64,
    /// Part of the interval, from 0.
    pub part: u32,
}

impl SegmentName {
    /// A name, or `None` where a number passes its width.
    #[must_use]
    pub fn new(parts: NameParts) -> Option<Self> {
        let NameParts { timestamp_s, run_id, sequence, part } = parts;
        let fits = timestamp_s <= TIMESTAMP_S_MAX
            && run_id <= RUN_ID_MAX
            && sequence <= SEQUENCE_MAX
            && part <= PART_MAX;
        fits.then_some(Self { timestamp_s, run_id, sequence, part })
    }

    /// Reads a file name; `None` for anything [`fmt::Display`] would not print.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut fields = name.strip_suffix(SUFFIX)?.split('-');
        let timestamp_s = number(fields.next()?, 11)?;
        let run_id = number(fields.next()?, 14)?;
        let sequence = number(fields.next()?, 12)?;
        let part = u32::try_from(number(fields.next()?, 5)?).ok()?;
        if fields.next().is_some() {
            return None;
        }
        Some(Self { timestamp_s, run_id, sequence, part })
    }

    /// End of the interval, seconds since the epoch.
    #[must_use]
    pub fn timestamp_s(&self) -> u64 {
        self.timestamp_s
    }

    /// Run of the daemon that wrote it.
    #[must_use]
    pub fn run_id(&self) -> u64 {
        self.run_id
    }

    /// Commits of that run before this one.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Part of the interval, from 0.
    #[must_use]
    pub fn part(&self) -> u32 {
        self.part
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timestamp_s, run_id, sequence, part } = self;
        write!(formatter, "{timestamp_s:011}-{run_id:014}-{sequence:012}-{part:05}{SUFFIX}")
    }
}

/// Exactly `width` digits.
fn number(field: &str, width: usize) -> Option<u64> {
    // `parse` alone would take a leading `+`.
    if field.len() != width || !field.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    field.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(timestamp_s: u64, run_id: u64, sequence: u64, part: u32) -> SegmentName {
        SegmentName::new(NameParts { timestamp_s, run_id, sequence, part }).unwrap()
    }

    #[test]
    fn name_has_fixed_widths() {
        let text = name(1_700_000_000, 1_700_000_000_123, 7, 1).to_string();
        assert_eq!(text, "01700000000-01700000000123-000000000007-00001.seg");
        assert_eq!(text.len(), NAME_BYTES);
        let greatest = name(TIMESTAMP_S_MAX, RUN_ID_MAX, SEQUENCE_MAX, PART_MAX).to_string();
        assert_eq!(greatest.len(), NAME_BYTES);
        assert_eq!(SegmentName::parse(&greatest).unwrap().to_string(), greatest);
    }

    #[test]
    fn numbers_beyond_their_width_have_no_name() {
        let parts = NameParts { timestamp_s: 1, run_id: 1, sequence: 1, part: 1 };
        assert!(SegmentName::new(parts).is_some());
        for too_great in [
            NameParts { timestamp_s: TIMESTAMP_S_MAX + 1, ..parts },
            NameParts { run_id: RUN_ID_MAX + 1, ..parts },
            NameParts { sequence: SEQUENCE_MAX + 1, ..parts },
            NameParts { part: PART_MAX + 1, ..parts },
        ] {
            assert_eq!(SegmentName::new(too_great), None);
        }
    }

    #[test]
    fn order_of_names_is_order_of_texts() {
        let in_order = [
            name(0, 99, 99, 99),
            name(9, 99, 99, 99),
            name(10, 5, 100, 0),
            name(10, 5, 100, 1),
            name(10, 5, 101, 0),
            name(10, 40, 0, 0),
            name(100, 0, 0, 0),
        ];
        assert!(in_order.is_sorted());
        assert!(in_order.map(|name| name.to_string()).is_sorted());
    }

    #[test]
    fn foreign_names_are_no_segments() {
        for foreign in [
            "",
            ".seg",
            "README",
            "01700000000-01700000000123-000000000007-00001",
            "01700000000-01700000000123-000000000007-00001.seg.tmp",
            "1700000000-01700000000123-000000000007-00001.seg",
            "01700000000-01700000000123-000000000007.seg",
            "01700000000-01700000000123-000000000007-00001-00001.seg",
            "+1700000000-01700000000123-000000000007-00001.seg",
            "0170000000a-01700000000123-000000000007-00001.seg",
        ] {
            assert_eq!(SegmentName::parse(foreign), None, "{foreign}");
        }
    }
}
