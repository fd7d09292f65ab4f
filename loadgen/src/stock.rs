//! Datagrams in store, and the books of those that left.
//!
//! Between `compose` and `sender`, one per socket. A *fresh* stock composes a handful of datagrams at a
//! time, each line once. A *rotation* composes all it has before the run and sends it again and again,
//! so that composing costs nothing while the clock runs: composing a line takes longer than a fast
//! daemon needs for it.
//!
//! The books hold exactly what left. A fresh stock enters lines as their datagrams go. A rotation counts
//! its passes, and at the end draws the same lines from the same seed once more and enters each as often
//! as it went out. A gauge's first line of every pass sets it, so its value is the last pass's alone.

use std::ops::Range;

use crate::compose::{BATCH_DATAGRAMS_MAX, Batch, BatchRoom, Composer, Packing};
use crate::ledger::Sent;
use crate::workload::{Line, Workload};

/// Datagrams of one socket.
#[derive(Debug)]
pub(crate) struct Stock {
    batch: Batch,
    /// Datagrams of the batch that have left.
    position: usize,
    supply: Supply,
}

#[derive(Debug)]
enum Supply {
    Fresh {
        composer: Box<Composer>,
        /// What the datagrams of the batch mean.
        lines: Vec<Line>,
    },
    Rotation {
        /// The stream as it was before its first line.
        origin: Box<Workload>,
        /// Whole passes that have left.
        passes: u64,
        /// Lines of the stock that have left in cut datagrams: one at the end of each round at most.
        cuts: Vec<Range<u64>>,
    },
}

impl Stock {
    /// Composes as it goes.
    pub(crate) fn fresh(packing: Packing, workload: Workload) -> Stock {
        let composer = Box::new(Composer::new(packing, workload));
        let supply = Supply::Fresh { composer, lines: Vec::new() };
        Stock { batch: Batch::default(), position: 0, supply }
    }

    /// Composes `lines` lines now and sends them in rotation.
    pub(crate) fn rotation(packing: Packing, workload: Workload, lines: u64) -> Stock {
        let origin = Box::new(workload.clone());
        let mut batch = Batch::default();
        let room = BatchRoom { lines_max: lines.max(1), datagrams_max: usize::MAX };
        Composer::new(packing, workload).fill(&mut batch, room, &mut |_| {});
        let supply = Supply::Rotation { origin, passes: 0, cuts: Vec::new() };
        Stock { batch, position: 0, supply }
    }

    /// Makes sure that there is a datagram to send; a fresh one has at most `lines_max` lines.
    pub(crate) fn prepare(&mut self, lines_max: u64) {
        if self.position < self.batch.datagrams() {
            return;
        }
        match &mut self.supply {
            Supply::Fresh { composer, lines } => {
                lines.clear();
                let room = BatchRoom { lines_max, datagrams_max: BATCH_DATAGRAMS_MAX };
                composer.fill(&mut self.batch, room, &mut |line| lines.push(line));
            }
            Supply::Rotation { passes, .. } => *passes += 1,
        }
        self.position = 0;
    }

    /// Datagrams that may leave where `lines` lines may; at most one send's worth.
    pub(crate) fn within(&self, lines: u64) -> usize {
        self.batch.within(self.position, lines, BATCH_DATAGRAMS_MAX)
    }

    /// Lines of the next `datagrams` datagrams, or of those that are there.
    pub(crate) fn lines_of(&self, datagrams: usize) -> u64 {
        let last = self.position.saturating_add(datagrams).min(self.batch.datagrams());
        self.batch.lines_before(last) - self.batch.lines_before(self.position)
    }

    /// The batch, and the number of its first datagram that has not left.
    pub(crate) fn next(&self) -> (&Batch, usize) {
        (&self.batch, self.position)
    }

    /// The first `lines` lines of the next datagram; `keeps_feed`: with their line feed.
    pub(crate) fn cut(&self, lines: u64, keeps_feed: bool) -> &[u8] {
        let datagram = self.batch.slice(self.position..self.position + 1);
        let nth = usize::try_from(lines.saturating_sub(1)).unwrap_or(usize::MAX);
        let feeds = datagram.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        match feeds.map(|(place, _)| place).nth(nth) {
            Some(place) => &datagram[..place + usize::from(keeps_feed)],
            None => datagram,
        }
    }

    /// Enters that the next `lines` lines have left. A rotation that goes on where they end within a
    /// datagram sends it again, from its first line: its gauges are not booked right then.
    pub(crate) fn leave(&mut self, lines: u64, sent: &mut Sent) {
        let whole = self.within(lines);
        let rest = lines - self.lines_of(whole);
        self.advance(whole, sent);
        if 0 < rest {
            self.advance_cut(rest, sent);
        }
    }

    /// Enters that the next `datagrams` datagrams have left.
    fn advance(&mut self, datagrams: usize, sent: &mut Sent) {
        let first = self.batch.lines_before(self.position);
        self.position += datagrams;
        let last = self.batch.lines_before(self.position);
        if let Supply::Fresh { lines, .. } = &self.supply {
            for line in &lines[index(first)..index(last)] {
                sent.record(*line);
            }
        }
    }

    /// Enters that the first `cut` lines of the next datagram have left.
    fn advance_cut(&mut self, cut: u64, sent: &mut Sent) {
        let first = self.batch.lines_before(self.position);
        match &mut self.supply {
            Supply::Fresh { lines, .. } => {
                self.position += 1;
                for line in &lines[index(first)..index(first + cut)] {
                    sent.record(*line);
                }
            }
            Supply::Rotation { cuts, .. } => cuts.push(first..first + cut),
        }
    }

    /// Enters what is not in the books yet.
    pub(crate) fn close(&self, sent: &mut Sent) {
        let Supply::Rotation { origin, passes, cuts } = &self.supply else { return };
        if 0 < *passes {
            enter(origin, 0..self.batch.lines(), *passes, sent);
        }
        enter(origin, 0..self.batch.lines_before(self.position), 1, sent);
        for cut in cuts {
            enter(origin, cut.clone(), 1, sent);
        }
    }
}

fn index(line: u64) -> usize {
    usize::try_from(line).expect("a line of a batch in memory")
}

/// Enters `lines` of the stream that begins at `origin`.
fn enter(origin: &Workload, lines: Range<u64>, times: u64, sent: &mut Sent) {
    let mut workload = origin.clone();
    let mut text = Vec::new();
    for number in 0..lines.end {
        text.clear();
        let line = workload.next_line(&mut text);
        if lines.start <= number {
            sent.record_times(line, times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::End;
    use crate::workload::{Keys, tests::shape};

    const PACKING: Packing = Packing { datagram_bytes_max: 300, is_single: false, end: End::Bare };

    fn workload() -> Workload {
        Workload::new(&shape(), 0).unwrap()
    }

    /// Takes `lines` lines out of `stock`, cutting the last datagram; gives the texts and the books.
    fn drain(stock: &mut Stock, lines: u64) -> (Vec<String>, Sent) {
        let mut sent = Sent::new(&Keys::new(&shape()));
        let mut texts = Vec::new();
        let mut left = lines;
        let mut take = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            texts.extend(text.split('\n').map(str::to_owned));
        };
        while 0 < left {
            stock.prepare(left);
            let count = stock.within(left);
            if count == 0 {
                take(stock.cut(left, false));
                stock.leave(left, &mut sent);
                break;
            }
            let (batch, first) = stock.next();
            for index in first..first + count {
                take(batch.slice(index..index + 1));
            }
            let lines = stock.lines_of(count);
            stock.leave(lines, &mut sent);
            left -= lines;
        }
        stock.close(&mut sent);
        (texts, sent)
    }

    #[test]
    fn a_fresh_stock_sends_the_stream_and_books_it() {
        let (texts, sent) = drain(&mut Stock::fresh(PACKING, workload()), 1_003);
        let mut plain = workload();
        let mut expected = Sent::new(&Keys::new(&shape()));
        for text in &texts {
            let mut line = Vec::new();
            expected.record(plain.next_line(&mut line));
            assert_eq!(text.as_bytes(), line);
        }
        assert_eq!(texts.len(), 1_003);
        assert_eq!(sent, expected);
    }

    /// 500 lines, sent 0 to 4 times and a part: the books are those of a client that draws the same
    /// lines again and again.
    #[test]
    fn the_books_of_a_rotation_are_those_of_its_lines() {
        for lines in [1, 499, 500, 501, 999, 1_000, 1_777, 2_003] {
            let (texts, sent) = drain(&mut Stock::rotation(PACKING, workload(), 500), lines);
            let mut expected = Sent::new(&Keys::new(&shape()));
            let mut plain = workload();
            for (number, text) in texts.iter().enumerate() {
                if number % 500 == 0 {
                    plain = workload();
                }
                let mut line = Vec::new();
                expected.record(plain.next_line(&mut line));
                assert_eq!(text.as_bytes(), line, "line {number} of {lines}");
            }
            assert_eq!(texts.len() as u64, lines);
            assert_eq!(sent, expected, "{lines} lines");
        }
    }

    /// As rounds do that end with a part of a datagram each.
    #[test]
    fn a_stock_goes_on_after_a_cut() {
        for mut stock in
            [Stock::fresh(PACKING, workload()), Stock::rotation(PACKING, workload(), 500)]
        {
            let mut sent = Sent::new(&Keys::new(&shape()));
            for lines in [1, 2, 3] {
                stock.prepare(1_000);
                assert_eq!(stock.within(lines), 0);
                stock.leave(lines, &mut sent);
            }
            stock.close(&mut sent);
            assert_eq!(sent.lines, 6);
        }
    }

    #[test]
    fn a_datagram_that_did_not_leave_is_in_no_book() {
        let mut sent = Sent::new(&Keys::new(&shape()));
        let mut fresh = Stock::fresh(PACKING, workload());
        fresh.prepare(1_000);
        fresh.close(&mut sent);
        let mut rotation = Stock::rotation(PACKING, workload(), 500);
        rotation.prepare(1_000);
        rotation.close(&mut sent);
        assert_eq!(sent.lines, 0);
    }

    #[test]
    fn a_cut_keeps_its_line_feed_on_a_stream_alone() {
        let packing = Packing { end: End::LineFeed, ..PACKING };
        let stock = Stock::rotation(packing, workload(), 500);
        assert_eq!(stock.cut(2, true).iter().filter(|&&byte| byte == b'\n').count(), 2);
        assert_eq!(stock.cut(2, false).iter().filter(|&&byte| byte == b'\n').count(), 1);
        assert_eq!(stock.cut(1_000, true), stock.next().0.slice(0..1));
    }
}
