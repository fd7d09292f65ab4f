//! Lines into datagrams: one line each, or as many as fit.
//!
//! Between `workload` and `sender`. A [`Batch`] is one stretch of bytes and the ends of its datagrams,
//! reused from batch to batch. A line is entered in the books at the moment it is placed: what a packed
//! datagram had no room for is carried into the next one and counted there.

use crate::ledger::Sent;
use crate::workload::{Line, Workload};

/// Most datagrams of one batch: one `sendmmsg` takes them all.
pub(crate) const BATCH_DATAGRAMS_MAX: usize = 64;

/// How lines are put into datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packing {
    /// Largest datagram.
    pub(crate) datagram_bytes_max: usize,
    /// One line per datagram, whatever the room.
    pub(crate) is_single: bool,
    /// Fill up every datagram to the largest size with line feeds, which no daemon counts:
    /// segmentation offload wants equal sizes.
    pub(crate) is_padded: bool,
}

/// Datagrams ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    lines: u64,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.lines = 0;
    }

    pub(crate) fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn datagrams(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Where datagrams `first..last` lie, as one slice.
    pub(crate) fn slice(&self, first: usize, last: usize) -> &[u8] {
        let start = if first == 0 { 0 } else { self.ends[first - 1] };
        &self.bytes[start..self.ends[last - 1]]
    }
}

/// How much one batch may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchRoom {
    /// Exactly this many lines at most.
    pub(crate) lines_max: u64,
    /// No new datagram is begun once there are this many lines.
    pub(crate) lines_enough: u64,
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

    /// Refills `batch` and enters its lines in `sent`.
    pub(crate) fn fill(&mut self, batch: &mut Batch, room: BatchRoom, sent: &mut Sent) {
        batch.clear();
        while batch.datagrams() < BATCH_DATAGRAMS_MAX
            && batch.lines < room.lines_max
            && batch.lines < room.lines_enough.max(1)
        {
            self.datagram(batch, room.lines_max, sent);
        }
        sent.datagrams += batch.datagrams() as u64;
        sent.bytes += batch.size_bytes() as u64;
    }

    fn datagram(&mut self, batch: &mut Batch, lines_max: u64, sent: &mut Sent) {
        let start = batch.bytes.len();
        let limit = self.packing.datagram_bytes_max;
        while batch.lines < lines_max {
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
            batch.lines += 1;
            sent.record(line);
            if self.packing.is_single {
                break;
            }
        }
        if self.packing.is_padded {
            batch.bytes.resize(start + limit, b'\n');
        }
        batch.ends.push(batch.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Keys, tests::shape};

    fn composer(packing: Packing) -> (Composer, Sent) {
        let workload = Workload::new(&shape(), 0).unwrap();
        (Composer::new(packing, workload), Sent::new(&Keys::new(&shape())))
    }

    fn packed(datagram_bytes_max: usize) -> Packing {
        Packing { datagram_bytes_max, is_single: false, is_padded: false }
    }

    fn room(lines: u64) -> BatchRoom {
        BatchRoom { lines_max: lines, lines_enough: u64::MAX }
    }

    #[test]
    fn packed_datagrams_never_exceed_the_limit_and_lose_no_line() {
        for limit in [110, 512, 1_400, 8_932] {
            let (mut composer, mut sent) = composer(packed(limit));
            let mut plain = Workload::new(&shape(), 0).unwrap();
            let mut batch = Batch::default();
            for _ in 0..20 {
                composer.fill(&mut batch, room(u64::MAX), &mut sent);
                assert_eq!(batch.datagrams(), BATCH_DATAGRAMS_MAX);
                for index in 0..batch.datagrams() {
                    let datagram = batch.slice(index, index + 1);
                    assert!(datagram.len() <= limit);
                    for line in datagram.split(|&byte| byte == b'\n') {
                        let mut expected = Vec::new();
                        plain.next_line(&mut expected);
                        assert_eq!(line, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn packed_datagrams_are_full() {
        let (mut composer, mut sent) = composer(packed(1_400));
        let mut batch = Batch::default();
        composer.fill(&mut batch, room(u64::MAX), &mut sent);
        for index in 0..batch.datagrams() {
            assert!(1_400 - 120 < batch.slice(index, index + 1).len());
        }
    }

    #[test]
    fn single_packing_puts_one_line_in_each_datagram() {
        let packing = Packing { datagram_bytes_max: 1_400, is_single: true, is_padded: false };
        let (mut composer, mut sent) = composer(packing);
        let mut batch = Batch::default();
        composer.fill(&mut batch, room(u64::MAX), &mut sent);
        assert_eq!(batch.lines(), 64);
        assert_eq!(batch.datagrams(), 64);
        assert!(!batch.slice(0, 64).contains(&b'\n'));
    }

    #[test]
    fn the_books_hold_exactly_the_lines_that_were_placed() {
        let (mut composer, mut sent) = composer(packed(300));
        let mut batch = Batch::default();
        let mut left = 1_003;
        let (mut datagrams, mut bytes) = (0, 0);
        while 0 < left {
            composer.fill(&mut batch, room(left), &mut sent);
            assert!(batch.lines() <= left);
            left -= batch.lines();
            datagrams += batch.datagrams() as u64;
            bytes += batch.size_bytes() as u64;
        }
        assert_eq!((sent.lines, sent.datagrams, sent.bytes), (1_003, datagrams, bytes));
    }

    #[test]
    fn a_batch_ends_once_it_has_enough_lines() {
        let (mut composer, mut sent) = composer(packed(1_400));
        let mut batch = Batch::default();
        let room = BatchRoom { lines_max: 1_000, lines_enough: 1 };
        composer.fill(&mut batch, room, &mut sent);
        assert_eq!(batch.datagrams(), 1);
    }

    #[test]
    fn padded_datagrams_all_have_the_limit_as_their_size() {
        let packing = Packing { datagram_bytes_max: 200, is_single: true, is_padded: true };
        let (mut composer, mut sent) = composer(packing);
        let mut batch = Batch::default();
        composer.fill(&mut batch, room(10), &mut sent);
        assert_eq!(batch.datagrams(), 10);
        for index in 0..10 {
            let datagram = batch.slice(index, index + 1);
            assert_eq!(datagram.len(), 200);
            let lines = datagram.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            assert_eq!(lines.count(), 1);
        }
    }
}
