//! Streams: lines read in pieces of any length are the lines that one read would give.
//!
//! An input is eight bytes that decide the pieces and the longest line, then the text.

use floe_core::limits::DATAGRAM_SLACK_BYTES;
use floe_io::ingest::stream::assembler::LineAssembler;
use floe_io::ingest::{DatagramSink, ReceiveCounts};

use super::{Reader, Target, claim, equal, parse_datagram};
use crate::counting::allocated_bytes;
use crate::random::Random;

pub(super) const TARGET: Target = Target {
    name: "tcp_stream",
    about: "any pieces give the lines of one read; memory is that of the longest line",
    grammar: parse_datagram::GRAMMAR,
    reader: || Box::new(Streams),
};

struct Streams;

/// Keeps lines in memory that it has from the start.
struct Lines {
    bytes: Vec<u8>,
    has_slack: bool,
}

impl DatagramSink for Lines {
    fn begin_batch(&mut self, _now_ns: u64) {}

    fn datagram(&mut self, _buffer: &[u8], _len: usize) {
        self.has_slack = false;
    }

    fn lines(&mut self, buffer: &[u8], len: usize) {
        self.has_slack &= len + DATAGRAM_SLACK_BYTES <= buffer.len();
        self.bytes.extend_from_slice(&buffer[..len]);
    }

    fn receive_counts(&mut self, _counts: &ReceiveCounts) {}

    fn end_batch(&mut self) {}
}

/// The non-empty lines of `text`.
fn lines_of(text: &[u8]) -> Vec<&[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect()
}

impl Reader for Streams {
    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let (mut random, text) = Random::of_input(input);
        let line_bytes_max = if random.once_in(2) { 65_535 } else { 1 + random.below(64) };
        let most = if random.once_in(2) { 16 } else { 65_536 };
        let piece_bytes_max = 1 + random.below(most);
        let pieces = pieces(&mut random, text, piece_bytes_max);
        let (mut assembler, mut counts) = (LineAssembler::default(), ReceiveCounts::default());
        let mut lines = Lines { bytes: Vec::with_capacity(text.len() + 1), has_slack: true };
        let before = allocated_bytes();
        for piece in &pieces {
            let len = piece.len() - DATAGRAM_SLACK_BYTES;
            assembler.read(piece, len, line_bytes_max, &mut counts, &mut lines);
        }
        assembler.finish(&mut counts);
        let allocated = allocated_bytes() - before;
        // A vector doubles, and each line that two reads share may begin one anew.
        let bound = 4 * (text.len() + pieces.len() * 2 * DATAGRAM_SLACK_BYTES) + 4_096;
        claim(allocated <= bound, || format!("{allocated} bytes allocated, not {bound}"))?;
        claim(lines.has_slack, || "lines without slack, or a datagram".to_owned())?;
        let is_too_long = |line: &&[u8]| line_bytes_max < line.len();
        let mut whole: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let rest = whole.pop().unwrap_or_default();
        let too_long = whole.iter().chain([&rest]).filter(|line| is_too_long(line)).count() as u64;
        whole.retain(|line| !line.is_empty() && !is_too_long(line));
        equal("lines", &lines_of(&lines.bytes), &whole)?;
        equal("lines too long", &counts.lines_too_long, &too_long)?;
        let is_unfinished = !rest.is_empty() && !is_too_long(&rest);
        equal("lines unfinished", &counts.lines_unfinished, &u64::from(is_unfinished))
    }
}

/// `text` in pieces, each with slack behind it that looks like more text.
fn pieces(random: &mut Random, mut text: &[u8], bytes_max: usize) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let (piece, rest) = text.split_at((1 + random.below(bytes_max)).min(text.len()));
        pieces.push([piece, &[b'\n'; DATAGRAM_SLACK_BYTES][..]].concat());
        text = rest;
    }
    pieces
}
