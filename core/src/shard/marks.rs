//! Marks: what the visitor of a shard remembers of each slot, from one flip to the next.
//!
//! The coordinator looks up every sealed series in its catalogue. A series stays where it is until
//! its sub-table is replaced, so the reader keeps one word of the visitor's per place: the catalogue
//! writes down there where it found the series, and saves itself hash, probe and comparison of the
//! key at the next flip (docs/decisions/010-marks-of-slots.md).
//!
//! Marks belong to the coordinator alone: the worker neither sees nor moves them. They count for one
//! version of a sub-table, and a place gets another occupant only in another version, so that a mark
//! is never about another series; the visitor says what it is worth by then.

/// A word of the visitor's about one slot; the default is that of a slot not yet visited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub u64);

/// The marks of one sub-table.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Version of the sub-table that they are about.
    version: u64,
    marks: Box<[Mark]>,
}

impl Marks {
    /// One mark per place of a sub-table's `version`, fresh ones if the known ones are of another.
    pub(super) fn of(&mut self, version: u64, places: usize) -> &mut [Mark] {
        if self.version != version || self.marks.len() != places {
            self.version = version;
            self.marks = vec![Mark::default(); places].into_boxed_slice();
        }
        &mut self.marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_kept_for_one_version_alone() {
        let mut marks = Marks::default();
        marks.of(0, 3)[1] = Mark(7);
        assert_eq!(marks.of(0, 3), [Mark(0), Mark(7), Mark(0)]);
        assert_eq!(marks.of(1, 3), [Mark(0); 3]);
        assert_eq!(marks.of(1, 4), [Mark(0); 4]);
    }
}
