//! Any line: the path that knows the whole grammar.
//!
//! Takes what the regular path leaves: several values, tags, keys to be rewritten, odd numbers,
//! spaces, everything that is refused. Linear in the length of the line: key, tags and a rate
//! behind them are read once per line, each value once.
//!
//! Order of operations: reference/statsd-behaviour.md 2.

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
    key: Vec<u8>,
    tags: Vec<u8>,
    member: Vec<u8>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let text = Vec::with_capacity;
        Self {
            key: text(TEXT_BYTES_MAX),
            tags: text(DATAGRAM_BYTES_MAX),
            member: text(TEXT_BYTES_MAX),
        }
    }

    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 3] {
        [self.key.capacity(), self.tags.capacity(), self.member.capacity()]
    }

    /// The key as the shard sees it.
    fn set_key(&mut self, raw: &[u8], tags: &[u8], is_sanitizing: bool) {
        self.key.clear();
        self.tags.clear();
        tags::append(tags, &mut self.tags);
        let append = if is_sanitizing { key::append_clean } else { key::append_text };
        append(raw, &mut self.key);
        // Apart, for the `;` between the two ends a run of white space and any character.
        append(&self.tags, &mut self.key);
        debug_assert!(self.key.len() <= TEXT_BYTES_MAX, "a key grows by U+FFFD only");
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
    scratch.set_key(raw_key, parts.tags, is_sanitizing);
    for text in values.split(|byte| *byte == b':').skip(1) {
        match fields::value(text, rate_behind_tags) {
            Ok(value) => {
                let value = match value {
                    Value::Set(raw) => Value::Set(member(raw, &mut scratch.member)),
                    other => other,
                };
                sink.sample_cleaned(Sample { key: &scratch.key, value });
                tally.accepted += 1;
            }
            Err(reason) => {
                sink.reject(reason, line);
                tally.rejected += 1;
            }
        }
    }
}

/// The member that `raw` stands for: verbatim text, `0` for none.
fn member<'m>(raw: &[u8], scratch: &'m mut Vec<u8>) -> &'m [u8] {
    if raw.is_empty() {
        return b"0";
    }
    scratch.clear();
    key::append_text(raw, scratch);
    scratch
}
