//! Marks: what the visitor of a shard remembers of each slot, from one flip to the next.
//!
//! The coordinator looks up every sealed series in its catalogue. A series stays where it is until
//! it leaves, so the reader keeps one word of the visitor's per place: the catalogue writes down
//! there where it found the series, and saves itself hash, probe and comparison of the key at the
//! next flip (docs/decisions/010-marks-of-slots.md).
//!
//! Marks belong to the coordinator alone: the worker neither sees nor moves them. A mark counts for
//! one slab and one *turn* of a place: whoever gets a place after another bears the other turn. Nobody
//! is seen between the two: a series that was touched leaves its place only when that generation has
//! been read, and one that never was, for its values were refused, gives its turn back. So a mark is
//! never about another series; the visitor says what it is worth by then.

/// A word of the visitor's about one slot; the default is that of a slot not yet visited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub u64);

/// The marks of one slab.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Serial of the slab that they are about.
    serial: u64,
    marks: Box<[Mark]>,
    /// A bit for each: the turn that it is about.
    turns: Box<[u64]>,
}

impl Marks {
    /// One mark per place of the slab `serial`, fresh ones if the known ones are of another.
    pub(super) fn of(&mut self, serial: u64, places: usize) -> &mut Self {
        if self.serial != serial || self.marks.len() != places {
            let turns = places.div_ceil(u64::BITS as usize);
            *self = Self {
                serial,
                marks: vec![Mark::default(); places].into_boxed_slice(),
                turns: vec![0; turns].into_boxed_slice(),
            };
        }
        self
    }

    /// The slab is gone.
    pub(super) fn forget(&mut self) {
        if !self.marks.is_empty() {
            *self = Self::default();
        }
    }

    /// The mark of the series that is at `place` in this turn.
    #[inline]
    pub(super) fn of_place(&mut self, place: usize, turn: bool) -> &mut Mark {
        let mark = &mut self.marks[place];
        let (word, bit) = (&mut self.turns[place / 64], place % 64);
        if *word >> bit & 1 != u64::from(turn) {
            *word ^= 1 << bit;
            *mark = Mark::default();
        }
        mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_kept_for_one_slab_and_one_turn_alone() {
        let mut marks = Marks::default();
        *marks.of(0, 100).of_place(70, false) = Mark(7);
        *marks.of(0, 100).of_place(71, true) = Mark(8);
        assert_eq!(*marks.of(0, 100).of_place(70, false), Mark(7));
        assert_eq!(*marks.of(0, 100).of_place(71, true), Mark(8));
        assert_eq!(*marks.of(0, 100).of_place(70, true), Mark(0), "another has its place");
        assert_eq!(*marks.of(0, 100).of_place(70, false), Mark(0), "and another");
        assert_eq!(*marks.of(1, 100).of_place(71, true), Mark(0), "another slab");
        *marks.of(1, 100).of_place(3, false) = Mark(9);
        marks.forget();
        assert_eq!(*marks.of(1, 100).of_place(3, false), Mark(0));
    }
}
