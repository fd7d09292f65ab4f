//! The parser: a datagram's bytes become samples and rejects.
//!
//! Stands between the ring and the shard. Two stages: `mask` finds every delimiter of the datagram,
//! 64 bytes at a time; the walk here goes from newline to newline over those bits. A *regular* line,
//! `key:number|type` or `key:number|type|@rate` with a key that needs no cleaning, is read straight
//! from the datagram: its sample borrows key and member. Every other line, and every line that
//! would be refused, goes to the general path (`general`, `tags`, `key`, `fields`), which alone
//! knows the whole grammar; the regular path is a short cut that never decides differently.
//!
//! Bytes behave as if they had been decoded as UTF-8 with invalid sequences replaced by U+FFFD: the
//! delimiters are ASCII and stand in no multi-byte character, so only keys and members are replaced.
//!
//! Limits: `DATAGRAM_BYTES_MAX` bytes a datagram. Time is
//! linear in its length for any content, and nothing is allocated after `LineParser::new`.
//! Not done here: arithmetic over samples (`shard`), counting of datagrams (the worker), shortening
//! of refused lines for a log (the sink).

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod mask;
mod general;
mod tags;
pub(crate) mod key;
mod fields;
mod number;
mod white_space;

use crate::sample::{Sample, SampleSink, Tally, Value};
use general::Scratch;
use mask::{Block, Classifier, Index, KeySet};

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
        let mut at = 0;
        while at < len {
            let window = self.index.window(at);
            let (end, shape) = if window.newline != 0 {
                in_window(window, at)
            } else {
                beyond_window(&self.index, at, len)
            };
            if at < end {
                tally.lines += 1;
                if let Some(sample) =
                    shape.and_then(|shape| regular(buffer, at, end, shape, &mut self.last_rate))
                {
                    sink.sample(sample);
                    tally.accepted += 1;
                } else {
                    let line = buffer.get(at..end).unwrap_or_default();
                    self.general(line, sink, &mut tally);
                }
            }
            at = end + 1;
        }
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

    #[cold]
    #[inline(never)]
    fn general<'d, S: SampleSink<'d>>(&mut self, line: &[u8], sink: &mut S, tally: &mut Tally) {
        general::line(line, self.is_sanitizing, &mut self.scratch, sink, tally);
    }
}

/// Where the delimiters of a line stand that may be regular: one colon, behind a clean key; one
/// pipe or two, behind the colon. Offsets in the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    colon: usize,
    pipe: usize,
    /// The second pipe; the end of the line if there is none.
    type_end: usize,
}

/// End and shape of the line at `at`, which ends within `window`.
#[inline]
fn in_window(window: Block, at: usize) -> (usize, Option<Shape>) {
    let place = |bits: u64| at + bits.trailing_zeros() as usize;
    let end = place(window.newline);
    let line = below_lowest(window.newline);
    let colon = window.colon & line;
    let pipe = window.pipe & line;
    let second = pipe & pipe.wrapping_sub(1);
    let third = second & second.wrapping_sub(1);
    let key = below_lowest(colon);
    let is_regular = colon != 0
        && colon & colon.wrapping_sub(1) == 0
        && pipe != 0
        && third == 0
        && (window.unclean | pipe) & key == 0;
    let shape = is_regular.then(|| Shape {
        colon: place(colon),
        pipe: place(pipe),
        type_end: if second == 0 { end } else { place(second) },
    });
    (end, shape)
}

/// The bits below the lowest one of `bits`; all of them for 0.
#[inline]
const fn below_lowest(bits: u64) -> u64 {
    bits.wrapping_sub(1) & !bits
}

/// The same for a line that a window does not hold. Passes over its blocks at most seven times.
#[inline(never)]
fn beyond_window(index: &Index, at: usize, len: usize) -> (usize, Option<Shape>) {
    let end = index.next(|block| block.newline, at, len);
    let colon = index.next(|block| block.colon, at, end);
    let pipe = index.next(|block| block.pipe, at, end);
    let type_end = index.next(|block| block.pipe, pipe + 1, end);
    let is_regular = colon < pipe
        && pipe < end
        && index.next(|block| block.unclean, at, colon) == colon
        && index.next(|block| block.colon, colon + 1, end) == end
        && index.next(|block| block.pipe, type_end + 1, end) == end;
    (end, is_regular.then_some(Shape { colon, pipe, type_end }))
}

/// The rate read last, and its weight: a sender uses few rates, and each costs two divisions.
///
/// 10 ns of a line with a rate. The weight depends on the text alone, so that what was read before
/// changes no result.
#[derive(Clone, Copy, Debug, Default)]
struct LastRate {
    /// The field, at most seven bytes, with its length in the highest; 0 is none.
    field: u64,
    weight: f64,
}

impl LastRate {
    /// The weight that the field `@rate` in `buffer[start..end]` gives.
    #[inline]
    fn weight(&mut self, buffer: &[u8], start: usize, end: usize) -> Option<f64> {
        let count = end - start;
        let word = u64::from_le_bytes(*buffer.get(start..)?.first_chunk()?);
        let field = if 0 < count && count < 8 {
            word & (!0 >> (64 - 8 * count)) | (count as u64) << 56
        } else {
            0
        };
        if field == 0 || field != self.field {
            let [b'@', b'0'..=b'9' | b'.', ..] = buffer.get(start..end)? else { return None };
            let weight = fields::reciprocal(number::short_at(buffer, start + 1, end)?)?;
            *self = Self { field, weight };
        }
        Some(self.weight)
    }
}

/// The sample of a line of this shape; `None` leaves the line to the general path.
#[inline]
fn regular<'d>(
    buffer: &'d [u8],
    start: usize,
    end: usize,
    shape: Shape,
    last_rate: &mut LastRate,
) -> Option<Sample<'d>> {
    let key = buffer.get(start..shape.colon)?;
    let first = buffer.get(shape.colon + 1..shape.pipe)?;
    let type_text = buffer.get(shape.pipe + 1..shape.type_end)?;
    let weight =
        if shape.type_end < end { last_rate.weight(buffer, shape.type_end + 1, end)? } else { 1.0 };
    if type_text == b"s" {
        let member =
            if first.is_empty() { b"0" } else { std::str::from_utf8(first).ok()?.as_bytes() };
        return Some(Sample { key, value: Value::Set(member) });
    }
    let number = number::short_at(buffer, shape.colon + 1, shape.pipe)?;
    let value = match type_text {
        b"ms" => fields::timer(number, weight).ok()?,
        b"g" => fields::gauge(first, number),
        [byte] if byte.is_ascii_alphabetic() => fields::counter(number, weight).ok()?,
        _ => return None,
    };
    Some(Sample { key, value })
}

#[cfg(test)]
mod tests;
