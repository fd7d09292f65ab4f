//! Lines into datagrams: one line each, or as many as fit.
//!
//! Between `workload` and `stock`. A [`Batch`] is one stretch of bytes with the ends of its datagrams,
//! and how many lines lie before each end. What a packed datagram had no room for is carried into the
//! next one. Nothing is entered in the books here: `stock` does that once a datagram has left.

use std::ops::Range;

use crate::workload::{Line, Workload};

/// Most datagrams of one send: one `sendmmsg` takes them all.
pub(crate) const BATCH_DATAGRAMS_MAX: usize = 64;

/// How lines are put into datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packing {
    /// Largest datagram.
    pub(crate) datagram_bytes_max: usize,
    /// One line per datagram, whatever the room.
    pub(crate) is_single: bool,
    /// What follows the last line of a datagram.
    pub(crate) end: End,
}

/// What follows the last line of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing: the datagram ends.
    Bare,
    /// One line feed: the next datagram follows on a stream.
    LineFeed,
    /// Line feeds up to the largest size, which no daemon counts: segmentation offload wants equal
    /// sizes.
    Padded,
}

/// Datagrams ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    line_ends: Vec<u64>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.line_ends.clear();
    }

    /// Appends a datagram of which nobody counts the lines.
    pub(crate) fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.close(0);
    }

    fn close(&mut self, lines: u64) {
        self.line_ends.push(self.lines() + lines);
        self.ends.push(self.bytes.len());
    }

    /// Lines of all datagrams.
    pub(crate) fn lines(&self) -> u64 {
        self.lines_before(self.datagrams())
    }

    /// Lines of the datagrams before number `index`.
    pub(crate) fn lines_before(&self, index: usize) -> u64 {
        if index == 0 { 0 } else { self.line_ends[index - 1] }
    }

    pub(crate) fn datagrams(&self) -> usize {
        self.ends.len()
    }

    /// How many of the datagrams from `first` on, `count_max` at most, end within `lines` lines.
    pub(crate) fn within(&self, first: usize, lines: u64, count_max: usize) -> usize {
        let last = (first + count_max).min(self.datagrams());
        let limit = self.lines_before(first).saturating_add(lines);
        self.line_ends[first..last].partition_point(|&end| end <= limit)
    }

    /// Where `datagrams` lie, as one slice.
    pub(crate) fn slice(&self, datagrams: Range<usize>) -> &[u8] {
        let start = if datagrams.start == 0 { 0 } else { self.ends[datagrams.start - 1] };
        &self.bytes[start..self.ends[datagrams.end - 1]]
    }
}

/// How much one batch may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchRoom {
    /// Exactly this many lines at most.
    pub(crate) lines_max: u64,
    pub(crate) datagrams_max: usize,
}

/// Puts a workload's lines into batches.
#[derive(Debug)]
pub(crate) struct Composer {
    packing: Packing,
    workload: Workload,
    /// The next line, already drawn.
    carried: Option<Line>,
    carried_bytes: Vec<u8>,
}

impl Composer {
    pub(crate) fn new(packing: Packing, workload: Workload) -> Composer {
        Composer { packing, workload, carried: None, carried_bytes: Vec::new() }
    }

    /// Refills `batch`, and tells `placed` of every line in its order.
    pub(crate) fn fill(
        &mut self,
        batch: &mut Batch,
        room: BatchRoom,
        placed: &mut impl FnMut(Line),
    ) {
        batch.clear();
        while batch.datagrams() < room.datagrams_max && batch.lines() < room.lines_max {
            let lines_max = room.lines_max - batch.lines();
            self.datagram(batch, lines_max, placed);
        }
    }

    fn datagram(&mut self, batch: &mut Batch, lines_max: u64, placed: &mut impl FnMut(Line)) {
        let start = batch.bytes.len();
        let limit = self.packing.datagram_bytes_max;
        let mut lines = 0;
        while lines < lines_max {
            let line = match self.carried.take() {
                Some(line) => line,
                None => {
                    self.carried_bytes.clear();
                    self.workload.next_line(&mut self.carried_bytes)
                }
            };
            let used = batch.bytes.len() - start;
            let separator = usize::from(0 < used);
            // The first line always goes in: the settings make room for the longest one.
            if 0 < used && limit < used + separator + self.carried_bytes.len() {
                self.carried = Some(line);
                break;
            }
            if separator == 1 {
                batch.bytes.push(b'\n');
            }
            batch.bytes.extend_from_slice(&self.carried_bytes);
            lines += 1;
            placed(line);
            if self.packing.is_single {
                break;
            }
        }
        match self.packing.end {
            End::Bare => {}
            End::LineFeed => batch.bytes.push(b'\n'),
            End::Padded => batch.bytes.resize(start + limit, b'\n'),
        }
        batch.close(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::tests::shape;

    fn composer(packing: Packing) -> Composer {
        Composer::new(packing, Workload::new(&shape(), 0).unwrap())
    }

    fn packed(datagram_bytes_max: usize) -> Packing {
        Packing { datagram_bytes_max, is_single: false, end: End::Bare }
    }

    fn fill(composer: &mut Composer, batch: &mut Batch, lines_max: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        let room = BatchRoom { lines_max, datagrams_max: BATCH_DATAGRAMS_MAX };
        composer.fill(batch, room, &mut |line| lines.push(line));
        lines
    }

    #[test]
    fn packed_datagrams_never_exceed_the_limit_and_lose_no_line() {
        for limit in [110, 512, 1_400, 8_932] {
            let mut composer = composer(packed(limit));
            let mut plain = Workload::new(&shape(), 0).unwrap();
            let mut batch = Batch::default();
            for _ in 0..20 {
                fill(&mut composer, &mut batch, u64::MAX);
                assert_eq!(batch.datagrams(), BATCH_DATAGRAMS_MAX);
                for index in 0..batch.datagrams() {
                    let datagram = batch.slice(index..index + 1);
                    assert!(datagram.len() <= limit);
                    let lines = datagram.split(|&byte| byte == b'\n');
                    let mut count = 0;
                    for line in lines {
                        let mut expected = Vec::new();
                        plain.next_line(&mut expected);
                        assert_eq!(line, expected);
                        count += 1;
                    }
                    assert_eq!(batch.lines_before(index + 1) - batch.lines_before(index), count);
                }
            }
        }
    }

    #[test]
    fn packed_datagrams_are_full() {
        let mut batch = Batch::default();
        fill(&mut composer(packed(1_400)), &mut batch, u64::MAX);
        for index in 0..batch.datagrams() {
            assert!(1_400 - 120 < batch.slice(index..index + 1).len());
        }
    }

    #[test]
    fn single_packing_puts_one_line_in_each_datagram() {
        let packing = Packing { is_single: true, ..packed(1_400) };
        let mut batch = Batch::default();
        fill(&mut composer(packing), &mut batch, u64::MAX);
        assert_eq!((batch.lines(), batch.datagrams()), (64, 64));
        assert!(!batch.slice(0..64).contains(&b'\n'));
    }

    #[test]
    fn every_placed_line_is_told_and_no_other() {
        let mut composer = composer(packed(300));
        let mut batch = Batch::default();
        let mut left = 1_003;
        while 0 < left {
            let lines = fill(&mut composer, &mut batch, left);
            assert_eq!(lines.len() as u64, batch.lines());
            assert!(batch.lines() <= left);
            left -= batch.lines();
        }
    }

    #[test]
    fn datagrams_within_a_number_of_lines_are_whole_ones() {
        let mut batch = Batch::default();
        fill(&mut composer(packed(300)), &mut batch, u64::MAX);
        let (first, second) = (batch.lines_before(1), batch.lines_before(2));
        assert!(1 < first && first < second);
        assert_eq!(batch.within(0, first - 1, 64), 0);
        assert_eq!(batch.within(0, first, 64), 1);
        assert_eq!(batch.within(0, second, 64), 2);
        assert_eq!(batch.within(1, second - first, 64), 1);
        assert_eq!(batch.within(0, u64::MAX, 3), 3);
        assert_eq!(batch.within(60, u64::MAX, 64), 4);
    }

    #[test]
    fn padded_datagrams_all_have_the_limit_as_their_size() {
        let packing = Packing { datagram_bytes_max: 200, is_single: true, end: End::Padded };
        let mut batch = Batch::default();
        fill(&mut composer(packing), &mut batch, 10);
        assert_eq!(batch.datagrams(), 10);
        for index in 0..10 {
            let datagram = batch.slice(index..index + 1);
            assert_eq!(datagram.len(), 200);
            let lines = datagram.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            assert_eq!(lines.count(), 1);
        }
    }

    #[test]
    fn datagrams_of_a_stream_end_with_a_line_feed() {
        let mut batch = Batch::default();
        fill(&mut composer(Packing { end: End::LineFeed, ..packed(300) }), &mut batch, 100);
        let bytes = batch.slice(0..batch.datagrams());
        assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 100);
        assert_eq!(bytes.last(), Some(&b'\n'));
    }
}
