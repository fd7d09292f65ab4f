//! The parser: a datagram's bytes become samples and rejects.
//!
//! Stands between the ring and the shard. Two stages: `mask` lists every *stop* of the datagram, a
//! byte that ends a key, a value or a line; the walk here goes from line to line along that list. A
//! *plain* line, `key:number|type`, is read on the spot; a *regular* one, which has at most a rate,
//! straight from the datagram as well (`regular`): their samples borrow key and member. Every other
//! line, and every line that would be refused, goes to the general path (`general`, `tags`, `key`,
//! `fields`), which alone knows the whole grammar; the others are short cuts that never decide
//! differently.
//!
//! Bytes behave as if they had been decoded as UTF-8 with invalid sequences replaced by U+FFFD: the
//! delimiters are ASCII and stand in no multi-byte character, so only keys and members are replaced.
//!
//! Limits: `DATAGRAM_BYTES_MAX` bytes a datagram. Time is linear in its length for any content, and
//! nothing is allocated after `LineParser::new`.
//! Not done here: arithmetic over samples (`shard`), counting of datagrams (the worker), shortening
//! of refused lines for a log (the sink).

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod mask;
mod regular;
mod general;
mod tags;
pub(crate) mod key;
mod fields;
mod number;
mod white_space;

use crate::sample::{SampleSink, Tally};
use general::Scratch;
use mask::{Classifier, Index, KeySet};
use regular::LastRate;

/// Reads datagrams. One per worker: it owns the memory that the work needs.
#[derive(Debug)]
pub struct LineParser {
    index: Index,
    scratch: Scratch,
    last_rate: LastRate,
    is_sanitizing: bool,
}

impl LineParser {
    /// A parser with the fastest code that this CPU runs.
    ///
    /// `sanitize` is the setting `keyNameSanitize`: whether keys are cleaned.
    #[must_use]
    pub fn new(sanitize: bool) -> Self {
        Self::with(Classifier::detect(), sanitize)
    }

    /// A parser with the code that runs on every CPU: for tests and benchmarks.
    #[must_use]
    pub fn portable(sanitize: bool) -> Self {
        Self::with(Classifier::Portable, sanitize)
    }

    fn with(classifier: Classifier, sanitize: bool) -> Self {
        let key_set = if sanitize { KeySet::Sanitized } else { KeySet::Raw };
        Self {
            index: Index::new(key_set, classifier),
            scratch: Scratch::new(),
            last_rate: LastRate::default(),
            is_sanitizing: sanitize,
        }
    }

    /// Reads the datagram in the first `len` bytes of `buffer` and hands each value to `sink`, in
    /// the order of the wire.
    ///
    /// # Shape and units
    /// `buffer`: the datagram, then at least
    /// [`DATAGRAM_SLACK_BYTES`](crate::limits::DATAGRAM_SLACK_BYTES) bytes of any content, which
    /// are read and change nothing. Returns what was found: `lines` counts every non-empty line,
    /// `accepted` the calls of `sample` and `sample_cleaned`, `rejected` those of `reject`.
    /// # Panics
    /// Never on content. If `len` is above the largest datagram, or the slack is missing.
    /// # Source
    /// docs/references.md S1, S2, S3 and S4; deviations in docs/protocol.md.
    pub fn datagram<'d, S: SampleSink<'d>>(
        &mut self,
        buffer: &'d [u8],
        len: usize,
        sink: &mut S,
    ) -> Tally {
        self.index.build(buffer, len);
        let mut tally = Tally::default();
        let mut regulars = 0;
        let (mut at, mut stops) = (0, self.index.stops());
        while at < len {
            if let Some((&first, rest)) = stops.split_first_chunk() {
                if let Some(line) = regular::plain(buffer, len, at, first) {
                    sink.number(line.key, line.kind, line.number);
                    regulars += 1;
                    at = line.end + 1;
                    stops = rest;
                    continue;
                }
                // Not joined with the first: what is common would go through memory, 9 instructions a line.
                if let Some(line) = regular::plain_decimal(buffer, len, at, first) {
                    sink.number(line.key, line.kind, line.number);
                    regulars += 1;
                    at = line.end + 1;
                    stops = rest;
                    continue;
                }
                if let Some((sample, end)) = regular::plain_member(buffer, len, at, first) {
                    sink.sample(sample);
                    regulars += 1;
                    at = end + 1;
                    stops = rest;
                    continue;
                }
            }
            let last_rate = &mut self.last_rate;
            let (end, passed) = match regular::regular(buffer, len, at, stops, last_rate) {
                Some(line) => {
                    sink.sample(line.sample);
                    regulars += 1;
                    (line.end, line.stops)
                }
                None => {
                    let (end, passed) = line_end(buffer, len, stops);
                    if at < end {
                        tally.lines += 1;
                        let line = buffer.get(at..end).unwrap_or_default();
                        general(line, self.is_sanitizing, &mut self.scratch, sink, &mut tally);
                    }
                    (end, passed)
                }
            };
            at = end + 1;
            stops = stops.get(passed..).unwrap_or_default();
        }
        tally.lines += regulars;
        tally.accepted += regulars;
        tally
    }

    /// Visits the key of every non-empty line of a datagram, cleaned and with its tags: of good and
    /// of bad ones, as `keyFlush` counts them.
    ///
    /// # Shape and units
    /// `datagram`: without slack; what [`Self::datagram`] reads in its first `len` bytes.
    pub fn keys(&mut self, datagram: &[u8], mut visit: impl FnMut(&[u8])) {
        let lines = datagram.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for line in lines {
            visit(general::key_of(line, self.is_sanitizing, &mut self.scratch));
        }
    }
}

/// Reads any line; out of the way of those that need less.
#[cold]
#[inline(never)]
fn general<'d, S: SampleSink<'d>>(
    line: &[u8],
    is_sanitizing: bool,
    scratch: &mut Scratch,
    sink: &mut S,
    tally: &mut Tally,
) {
    general::line(line, is_sanitizing, scratch, sink, tally);
}

/// The end of the line whose stops are the first of `stops`, and how many they are, its newline among
/// them.
#[cold]
#[inline(never)]
fn line_end(buffer: &[u8], len: usize, stops: &[u32]) -> (usize, usize) {
    let is_end = |stop: &u32| len <= *stop as usize || buffer.get(*stop as usize) == Some(&b'\n');
    let before = stops.iter().take_while(|stop| !is_end(stop)).count();
    (stops.get(before).map_or(len, |end| *end as usize), before + 1)
}

#[cfg(test)]
mod tests;
