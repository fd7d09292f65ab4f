//! Any line: the path that knows the whole grammar.
//!
//! Takes what the regular path leaves: several values, tags, keys to be rewritten, odd numbers,
//! spaces, everything that is refused. Linear in the length of the line: key, tags and a rate
//! behind them are read once per line, each value once.
//!
//! Order of operations: docs/references.md S2.

use super::{fields, key, tags};
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::sample::{Reason, Sample, SampleSink, Tally, Value};

/// U+FFFD, three bytes, may stand for each byte of a line.
const TEXT_BYTES_MAX: usize = 3 * DATAGRAM_BYTES_MAX;

/// Memory for rewritten keys and members, kept from line to line.
///
/// Allocated once for the longest line; pages that are never touched cost nothing.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The key with its tags, as sent.
    joined: Vec<u8>,
    key: Vec<u8>,
    member: Vec<u8>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            joined: Vec::with_capacity(DATAGRAM_BYTES_MAX),
            key: Vec::with_capacity(TEXT_BYTES_MAX),
            member: Vec::with_capacity(TEXT_BYTES_MAX),
        }
    }

    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 3] {
        [self.joined.capacity(), self.key.capacity(), self.member.capacity()]
    }
}

/// Reads one line, which is not empty and holds no newline.
pub(super) fn line<'d, S: SampleSink<'d>>(
    line: &[u8],
    is_sanitizing: bool,
    scratch: &mut Scratch,
    sink: &mut S,
    tally: &mut Tally,
) {
    let parts = tags::part(line);
    let Some(colon) = memchr::memchr(b':', parts.body) else {
        sink.reject(Reason::Syntax, line);
        tally.rejected += 1;
        return;
    };
    let (raw_key, values) = parts.body.split_at(colon);
    let rate_behind_tags = parts.rate.map(fields::weight);
    let Scratch { joined, key, member } = scratch;
    let key = tagged_key(raw_key, parts.tags, is_sanitizing, joined, key);
    for text in values.split(|byte| *byte == b':').skip(1) {
        match fields::value(text, rate_behind_tags) {
            Ok(value) => {
                let value = match value {
                    Value::Set(b"") => Value::Set(b"0"),
                    Value::Set(raw) => Value::Set(key::rewrite(raw, false, member)),
                    other => other,
                };
                sink.sample_cleaned(Sample { key, value });
                tally.accepted += 1;
            }
            Err(reason) => {
                sink.reject(reason, line);
                tally.rejected += 1;
            }
        }
    }
}

/// The key of a line with its tags, whatever else the line holds; it is not empty and holds no
/// newline.
pub(super) fn key_of<'s>(line: &[u8], is_sanitizing: bool, scratch: &'s mut Scratch) -> &'s [u8] {
    let parts = tags::part(line);
    let end = memchr::memchr(b':', parts.body).unwrap_or(parts.body.len());
    let (raw_key, _) = parts.body.split_at(end);
    tagged_key(raw_key, parts.tags, is_sanitizing, &mut scratch.joined, &mut scratch.key)
}

fn tagged_key<'s>(
    raw_key: &[u8],
    tags: &[u8],
    is_sanitizing: bool,
    joined: &'s mut Vec<u8>,
    key: &'s mut Vec<u8>,
) -> &'s [u8] {
    joined.clear();
    joined.extend_from_slice(raw_key);
    tags::append(tags, joined);
    key::rewrite(joined, is_sanitizing, key)
}
