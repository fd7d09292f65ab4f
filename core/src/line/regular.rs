//! Lines that are read straight from the datagram.
//!
//! Called by the walk for every line. `plain` reads the line that most are, a key, a number and a type
//! without sign and rate, with as few instructions as it takes and without a branch on the type, which
//! nobody could foresee; `plain_member` the same of a set. `regular` reads signs, rates and any
//! member.
//! What either does not know it leaves to the next: neither refuses a line.

use super::mask::STOPS_OF_LINE;
use super::{fields, number};
use crate::sample::{Kind, Sample, Value};

/// A plain line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain<'d> {
    pub(super) key: &'d [u8],
    /// Not a set.
    pub(super) kind: Kind,
    /// At least 0, and without a sign.
    pub(super) number: f64,
    /// Offset of the newline behind it.
    pub(super) end: usize,
}

/// Another line that was read straight from the datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regular<'d> {
    pub(super) sample: Sample<'d>,
    /// Offset of the newline behind it.
    pub(super) end: usize,
    /// Its stops, the newline among them.
    pub(super) stops: usize,
}

/// The line at `at` of a datagram of `len` bytes, with these stops, if it is plain and its number is
/// digits: the stops are the colon behind its key, a pipe and a newline.
// Always inline, with what it calls: the results of a call would go through memory.
#[inline(always)]
pub(super) fn plain<'d>(
    buffer: &'d [u8],
    len: usize,
    at: usize,
    stops: [u32; STOPS_OF_LINE],
) -> Option<Plain<'d>> {
    plain_by(buffer, len, at, stops, number::digits_at)
}

/// The same for a number with a dot.
// Never inline: its registers would be missed by the others.
#[inline(never)]
pub(super) fn plain_decimal<'d>(
    buffer: &'d [u8],
    len: usize,
    at: usize,
    stops: [u32; STOPS_OF_LINE],
) -> Option<Plain<'d>> {
    plain_by(buffer, len, at, stops, |buffer, start, end| {
        let is_signed = matches!(buffer.get(start), Some(b'+' | b'-'));
        if is_signed { None } else { number::short_at(buffer, start, end) }
    })
}

#[inline(always)]
fn plain_by<'d>(
    buffer: &'d [u8],
    len: usize,
    at: usize,
    stops: [u32; STOPS_OF_LINE],
    number_at: impl Fn(&[u8], usize, usize) -> Option<f64>,
) -> Option<Plain<'d>> {
    let [colon, pipe, end] = stops.map(|stop| stop as usize);
    let is = |offset, byte| buffer.get(offset) == Some(&byte);
    // Where a stop is the end of the datagram there is slack, and may be anything. But a type needs
    // its pipe, and a pipe between this line's colon and the end is a stop: `pipe`.
    if !is(colon, b':') || !(end == len || is(end, b'\n')) {
        return None;
    }
    let kind = kind_of_number(buffer, end)?;
    let number = number_at(buffer, colon + 1, pipe)?;
    Some(Plain { key: buffer.get(at..colon)?, kind, number, end })
}

/// A line like a plain one that is a member of a set: its key, the member and the offset of the
/// newline behind it.
///
/// A member without stops is ASCII, and needs no rewriting.
// Never inline: one line in fifty, and its registers would be missed by the others.
#[inline(never)]
pub(super) fn plain_member<'d>(
    buffer: &'d [u8],
    len: usize,
    at: usize,
    stops: [u32; STOPS_OF_LINE],
) -> Option<(Sample<'d>, usize)> {
    let [colon, pipe, end] = stops.map(|stop| stop as usize);
    let is_member = buffer.get(colon) == Some(&b':')
        && buffer.get(pipe..)?.starts_with(b"|s")
        && end == pipe + 2
        && (end == len || buffer.get(end) == Some(&b'\n'));
    if !is_member || pipe == colon + 1 {
        return None;
    }
    let value = Value::Set(buffer.get(colon + 1..pipe)?);
    Some((Sample { key: buffer.get(at..colon)?, value }, end))
}

/// A type of numbers behind its pipe, as the last of four bytes.
#[derive(Clone, Copy, Debug)]
struct Type {
    /// The bytes that count.
    mask: u32,
    text: u32,
    kind: Kind,
}

/// Places of [`TYPES`].
const TYPE_PLACES: usize = 8;

/// The types of numbers, each at the place that [`place_of_type`] gives its last letter.
const TYPES: [Type; TYPE_PLACES] = {
    // No word is this text under this mask.
    let mut types = [Type { mask: 0, text: 1, kind: Kind::Counter }; TYPE_PLACES];
    let known = [(*b"\0\0|c", Kind::Counter), (*b"\0|ms", Kind::Timer), (*b"\0\0|g", Kind::Gauge)];
    let mut rest = known.as_slice();
    while let [(text, kind), others @ ..] = rest {
        let text = u32::from_le_bytes(*text);
        let mask = u32::MAX << (text.trailing_zeros() / 8 * 8);
        let [place, ..] = types.split_at_mut(place_of_type(text)).1 else { break };
        assert!(place.text == 1, "each has a place of its own");
        *place = Type { mask, text, kind: *kind };
        rest = others;
    }
    types
};

/// A number for the last of four bytes that tells the letters of [`TYPES`] apart.
const fn place_of_type(word: u32) -> usize {
    (word >> 26) as usize % TYPE_PLACES
}

/// The kind of number that the type before `end` says, if it is a known one and a pipe is before it.
#[inline(always)]
fn kind_of_number(buffer: &[u8], end: usize) -> Option<Kind> {
    let word = u32::from_le_bytes(*buffer.get(end.checked_sub(4)?..)?.first_chunk()?);
    let known = TYPES.get(place_of_type(word))?;
    (word & known.mask == known.text).then_some(known.kind)
}

/// The line at `at` of a datagram of `len` bytes, whose stops are the first of `stops`, if it is
/// regular: one colon, behind a clean key; one pipe or two, behind the colon.
#[inline(never)]
pub(super) fn regular<'d>(
    buffer: &'d [u8],
    len: usize,
    at: usize,
    stops: &[u32],
    last_rate: &mut LastRate,
) -> Option<Regular<'d>> {
    let mut offsets = stops.iter().map(|stop| *stop as usize);
    let colon = offsets.next()?;
    if len <= colon || buffer.get(colon) != Some(&b':') {
        return None;
    }
    let key = buffer.get(at..colon)?;
    // Behind the key stops that delimit nothing may come: of a sign, a rate, a member.
    let (mut pipes, mut pipe_count, mut passed) = ([0; 2], 0, 1);
    let end = loop {
        let offset = offsets.next()?;
        passed += 1;
        match buffer.get(offset)? {
            _ if offset == len => break offset,
            b'\n' => break offset,
            b':' => return None,
            b'|' => {
                *pipes.get_mut(pipe_count)? = offset;
                pipe_count += 1;
            }
            _ => {}
        }
    };
    let value = match (pipe_count, pipes) {
        (1, [pipe, _]) => value(buffer, colon, pipe, end)?,
        (2, [pipe, second]) => {
            let weight = last_rate.weight(buffer, second + 1, end)?;
            weighted(buffer, colon, pipe, second, weight)?
        }
        _ => return None,
    };
    Some(Regular { sample: Sample { key, value }, end, stops: passed })
}

/// The rate read last, and its weight: a sender uses few rates, and each costs two divisions.
///
/// 10 ns of a line with a rate. The weight depends on the text alone, so that what was read before
/// changes no result.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastRate {
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
#[inline]
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
#[inline]
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
