//! The parser: a datagram's bytes become samples and rejects.
//!
//! Stands between the ring and the shard. Two stages: `mask` lists every delimiter of the datagram;
//! the walk here takes three or four of them a line. A *regular* line, `key:number|type` or
//! `key:number|type|@rate` with a key that needs no cleaning, is read straight from the datagram: its
//! sample borrows key and member. Every other line, and every line that would be refused, goes to the
//! general path (`general`, `tags`, `key`, `fields`), which alone knows the whole grammar; the
//! regular path is a short cut that never decides differently.
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
use mask::{Classifier, Index, KeySet};

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
        let (mut at, mut delimiter) = (0, 0);
        while at < len {
            let regular = regular(&self.index, buffer, len, at, delimiter, &mut self.last_rate);
            let (end, delimiters) = if let Some(line) = regular {
                sink.sample(line.sample);
                regulars += 1;
                (line.end, line.delimiters)
            } else {
                let (end, delimiters) = line_end(&self.index, buffer, len, delimiter);
                if at < end {
                    tally.lines += 1;
                    let line = buffer.get(at..end).unwrap_or_default();
                    self.general(line, sink, &mut tally);
                }
                (end, delimiters)
            };
            at = end + 1;
            delimiter += delimiters;
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

    #[cold]
    #[inline(never)]
    fn general<'d, S: SampleSink<'d>>(&mut self, line: &[u8], sink: &mut S, tally: &mut Tally) {
        general::line(line, self.is_sanitizing, &mut self.scratch, sink, tally);
    }
}

/// A line that was read straight from the datagram.
#[derive(Clone, Copy, Debug)]
struct Regular<'d> {
    sample: Sample<'d>,
    /// Offset of the newline behind it.
    end: usize,
    /// Its delimiters, the newline among them.
    delimiters: usize,
}

/// The line at `at` of a datagram of `len` bytes, whose first delimiter is that numbered `first`, if
/// it is regular: one colon, behind a clean key; one pipe or two, behind the colon.
// Always inline, with what it calls: the results of a call would go through memory.
#[inline(always)]
fn regular<'d>(
    index: &Index,
    buffer: &'d [u8],
    len: usize,
    at: usize,
    first: usize,
    last_rate: &mut LastRate,
) -> Option<Regular<'d>> {
    let [colon, pipe, third, fourth] = index.delimiters(first);
    let is = |offset, byte| buffer.get(offset) == Some(&byte);
    // What lies at `len` is slack, and no pipe whatever it is.
    let is_end = |offset| offset == len || is(offset, b'\n');
    if len <= pipe || !is(colon, b':') || !is(pipe, b'|') || !index.is_clean(at, colon) {
        return None;
    }
    let key = buffer.get(at..colon)?;
    if is_end(third) {
        let value = value(buffer, colon, pipe, third)?;
        return Some(Regular { sample: Sample { key, value }, end: third, delimiters: 3 });
    }
    if !is(third, b'|') || !is_end(fourth) {
        return None;
    }
    let weight = last_rate.weight(buffer, third + 1, fourth)?;
    let value = weighted(buffer, colon, pipe, third, weight)?;
    Some(Regular { sample: Sample { key, value }, end: fourth, delimiters: 4 })
}

/// The end of a line whose first delimiter is that numbered `first`, and how many it has, its newline
/// among them.
#[cold]
#[inline(never)]
fn line_end(index: &Index, buffer: &[u8], len: usize, first: usize) -> (usize, usize) {
    for delimiters in 1.. {
        let [offset, ..] = index.delimiters(first + delimiters - 1);
        if len <= offset || buffer.get(offset) == Some(&b'\n') {
            return (offset, delimiters);
        }
    }
    unreachable!("the newline behind the datagram is a delimiter")
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

/// The value between `colon` and `type_end`, which has no rate; `None` leaves the line to the general
/// path.
#[inline(always)]
fn value(buffer: &[u8], colon: usize, pipe: usize, type_end: usize) -> Option<Value<'_>> {
    // A short number is finite: where it stands for itself alone it needs no further look.
    let number = || number::short_at(buffer, colon + 1, pipe);
    match *buffer.get(pipe + 1..type_end)? {
        [b'c'] => number().map(Value::Counter),
        [b'm', b's'] => fields::timer(number()?, 1.0).ok(),
        [b'g'] => Some(fields::gauge(buffer.get(colon + 1..pipe)?, number()?)),
        [b's'] => member(buffer.get(colon + 1..pipe)?).map(Value::Set),
        [byte] if byte.is_ascii_alphabetic() => number().map(Value::Counter),
        _ => None,
    }
}

/// The same for a value with a rate.
#[inline(never)]
fn weighted(
    buffer: &[u8],
    colon: usize,
    pipe: usize,
    type_end: usize,
    weight: f64,
) -> Option<Value<'_>> {
    match value(buffer, colon, pipe, type_end)? {
        Value::Counter(number) => fields::counter(number, weight).ok(),
        Value::Timer { value, .. } => fields::timer(value, weight).ok(),
        other => Some(other),
    }
}

/// The member of a set that a value is; `None` if it must be rewritten.
fn member(text: &[u8]) -> Option<&[u8]> {
    if text.is_empty() {
        return Some(b"0");
    }
    std::str::from_utf8(text).ok().map(str::as_bytes)
}

#[cfg(test)]
mod tests;
