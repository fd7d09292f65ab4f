//! Whole lines out of reads that end anywhere.
//!
//! A read is handed on up to its last newline, in place; what follows it waits for the next read.
//! Only a line that two reads share is copied. Bytes are taken as they are: the reference clears
//! the top bit of each (D41 in docs/protocol.md).
//!
//! Limits: a line that does not end within `line_bytes_max` bytes is dropped whole, through its
//! newline, and counted; the lines behind it are taken.

use floe_core::limits::DATAGRAM_SLACK_BYTES;
use memchr::{memchr, memrchr};

use crate::ingest::{DatagramSink, ReceiveCounts};

/// Memory kept for the next unfinished line, bytes; more is given back when a line has ended.
const KEPT_BYTES_MAX: usize = 4_096;

/// The unfinished line of one connection.
#[derive(Debug, Default)]
pub struct LineAssembler {
    rest: Vec<u8>,
    /// The line is too long already: its bytes go nowhere until its newline.
    is_skipping: bool,
}

impl LineAssembler {
    /// One that goes on behind `rest`; `is_skipping`: in a line that is too long already.
    #[must_use]
    pub fn after(rest: Vec<u8>, is_skipping: bool) -> Self {
        Self { rest, is_skipping }
    }

    /// What has come of a line that has not ended, and whether it is too long already.
    #[must_use]
    pub fn into_rest(self) -> (Vec<u8>, bool) {
        (self.rest, self.is_skipping)
    }

    /// Takes the first `len` bytes of `buffer`, which has the slack that a sink asks for.
    pub fn read(
        &mut self,
        buffer: &[u8],
        len: usize,
        line_bytes_max: usize,
        counts: &mut ReceiveCounts,
        sink: &mut impl DatagramSink,
    ) {
        let data = &buffer[..len];
        let (mut at, mut has_line) = (0, false);
        if self.is_skipping || !self.rest.is_empty() {
            let Some(end) = memchr(b'\n', data) else {
                return self.keep(data, line_bytes_max, counts);
            };
            has_line = self.end_line(&data[..end], line_bytes_max, counts, sink);
            at = end + 1;
        }
        if let Some(last) = memrchr(b'\n', &data[at..]) {
            let len = last + 1;
            has_line |= hand_over(&buffer[at..], len, line_bytes_max, counts, sink);
            at += len;
        }
        counts.stream_reads += u64::from(has_line);
        self.keep(&data[at..], line_bytes_max, counts);
    }

    /// The connection ends: a line without its newline is dropped, as the reference does.
    pub fn finish(&mut self, counts: &mut ReceiveCounts) {
        counts.lines_unfinished += u64::from(!self.rest.is_empty());
        self.rest.clear();
    }

    /// The waiting line ends with `tail`; whether it was handed on.
    fn end_line(
        &mut self,
        tail: &[u8],
        line_bytes_max: usize,
        counts: &mut ReceiveCounts,
        sink: &mut impl DatagramSink,
    ) -> bool {
        if std::mem::take(&mut self.is_skipping) {
            return false;
        }
        let len = self.rest.len() + tail.len();
        let fits = len <= line_bytes_max;
        if fits {
            self.rest.extend_from_slice(tail);
            self.rest.push(b'\n');
            self.rest.resize(len + 1 + DATAGRAM_SLACK_BYTES, 0);
            sink.lines(&self.rest, len + 1);
        } else {
            counts.lines_too_long += 1;
        }
        self.rest.clear();
        self.rest.shrink_to(KEPT_BYTES_MAX);
        fits
    }

    fn keep(&mut self, tail: &[u8], line_bytes_max: usize, counts: &mut ReceiveCounts) {
        if self.is_skipping {
            return;
        }
        if line_bytes_max < self.rest.len() + tail.len() {
            counts.lines_too_long += 1;
            self.is_skipping = true;
            self.rest = Vec::new();
        } else {
            self.rest.extend_from_slice(tail);
        }
    }
}

/// Hands on the whole lines in the first `len` bytes of `buffer`, but for those that are too long;
/// whether there were others.
fn hand_over(
    buffer: &[u8],
    len: usize,
    line_bytes_max: usize,
    counts: &mut ReceiveCounts,
    sink: &mut impl DatagramSink,
) -> bool {
    if len <= line_bytes_max + 1 {
        // Together no longer than one line may be: by default every read is.
        sink.lines(buffer, len);
        return true;
    }
    let (mut start, mut at, mut has_line) = (0, 0, false);
    while at < len {
        let end = at + memchr(b'\n', &buffer[at..len]).unwrap_or(len - at - 1);
        if line_bytes_max < end - at {
            counts.lines_too_long += 1;
            if start < at {
                sink.lines(&buffer[start..], at - start);
            }
            start = end + 1;
        } else {
            has_line = true;
        }
        at = end + 1;
    }
    if start < len {
        sink.lines(&buffer[start..], len - start);
    }
    has_line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Lines(Vec<Vec<u8>>);

    impl DatagramSink for Lines {
        fn begin_batch(&mut self, _now_ns: u64) {}
        fn datagram(&mut self, _buffer: &[u8], _len: usize) {
            panic!("streams hold no datagrams");
        }
        fn lines(&mut self, buffer: &[u8], len: usize) {
            assert!(len + DATAGRAM_SLACK_BYTES <= buffer.len(), "the slack is there");
            let lines = buffer[..len].split(|byte| *byte == b'\n');
            self.0.extend(lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
        }
        fn receive_counts(&mut self, _counts: &ReceiveCounts) {}
        fn end_batch(&mut self) {}
    }

    /// What becomes of `reads`, with lines of at most `line_bytes_max`.
    fn assembled(reads: &[&[u8]], line_bytes_max: usize) -> (Vec<Vec<u8>>, ReceiveCounts) {
        let (mut assembler, mut lines) = (LineAssembler::default(), Lines::default());
        let mut counts = ReceiveCounts::default();
        for read in reads {
            let buffer = [read, &[b'\n'; DATAGRAM_SLACK_BYTES][..]].concat();
            assembler.read(&buffer, read.len(), line_bytes_max, &mut counts, &mut lines);
        }
        assembler.finish(&mut counts);
        (lines.0, counts)
    }

    #[test]
    fn a_read_that_completes_a_line_is_counted_once() {
        let (lines, counts) = assembled(&[b"spl", b"it:1", b"2|c\nnext:1|c\npar", b"t:3|g\n"], 100);
        assert_eq!(lines, [&b"split:12|c"[..], b"next:1|c", b"part:3|g"]);
        assert_eq!(counts, ReceiveCounts { stream_reads: 2, ..Default::default() });
    }

    #[test]
    fn a_line_without_its_end_is_dropped_and_counted() {
        let (lines, counts) = assembled(&[b"a:1|c\nlost:1|c"], 100);
        assert_eq!(lines, [b"a:1|c"]);
        let expected = ReceiveCounts { stream_reads: 1, lines_unfinished: 1, ..Default::default() };
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_whole_and_the_next_one_taken() {
        for reads in [
            &[&b"0123456789"[..], b"0123456789\na:1|c\n"][..],
            &[b"012345", b"6789\na:1|c\n"],
            &[b"01234567", b"89", b"0123\na:1|c\n"],
            &[b"0123456789\na:1|c\n"],
            &[b"a:1|c\n0123456789\n"],
            &[b"a:1|c\n\n0123456789\n\n"],
        ] {
            let (lines, counts) = assembled(reads, 8);
            assert_eq!(lines, [b"a:1|c"], "{reads:?}");
            assert_eq!((counts.lines_too_long, counts.lines_unfinished), (1, 0), "{reads:?}");
        }
        let (lines, counts) = assembled(&[b"0123", b"4567\n"], 8);
        assert_eq!((lines, counts.lines_too_long), (vec![b"01234567".to_vec()], 0));
    }

    #[test]
    fn a_mebibyte_without_a_newline_keeps_no_memory() {
        let mut assembler = LineAssembler::default();
        let (mut counts, mut lines) = (ReceiveCounts::default(), Lines::default());
        let buffer = vec![b'x'; 65_536 + DATAGRAM_SLACK_BYTES];
        for _ in 0..16 {
            assembler.read(&buffer, 65_536, 65_536, &mut counts, &mut lines);
            assert!(assembler.rest.capacity() <= 65_536);
        }
        assert_eq!((counts.lines_too_long, assembler.rest.capacity()), (1, 0));
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300),
            cuts in proptest::collection::vec(0_usize..300, 0..12),
            line_bytes_max in 1_usize..40,
        ) {
            let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            ends.push(text.len());
            ends.sort_unstable();
            let mut start = 0;
            let reads = ends.into_iter().map(|end| &text[std::mem::replace(&mut start, end)..end]);
            let reads: Vec<&[u8]> = reads.filter(|read| !read.is_empty()).collect();
            let (lines, counts) = assembled(&reads, line_bytes_max);
            let mut expected: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
            let rest = expected.pop().unwrap_or_default();
            let too_long = |line: &&[u8]| line_bytes_max < line.len();
            let lines_too_long = expected.iter().copied().chain([rest]).filter(too_long).count();
            expected.retain(|line| !line.is_empty() && !too_long(line));
            prop_assert_eq!(lines, expected);
            prop_assert_eq!(counts.lines_too_long, lines_too_long as u64);
            let is_unfinished = !rest.is_empty() && !too_long(&rest);
            prop_assert_eq!(counts.lines_unfinished, u64::from(is_unfinished));
        }
    }
}
