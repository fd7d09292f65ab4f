//! The parser: a datagram's bytes become samples and rejects.
//!
//! Stands between the ring and the shard. Two stages: `mask` lists every *stop* of the datagram, a
//! byte that ends a key, a value or a line; `walk` goes from line to line along that list. A *plain*
//! line, `key:number|type`, is read on the spot; a *regular* one, which has at most a rate,
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
mod walk;
mod regular;
mod general;
mod tags;
pub(crate) mod key;
mod fields;
mod number;
mod white_space;

use crate::sample::{SampleSink, Tally};
use mask::{Classifier, Index, KeySet};
use walk::Walk;

/// A datagram, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'b> {
    /// The datagram, then at least [`DATAGRAM_SLACK_BYTES`](crate::limits::DATAGRAM_SLACK_BYTES) bytes
    /// of any content, which are read and change nothing.
    pub buffer: &'b [u8],
    /// Bytes of the datagram; 0 for an empty one.
    pub len: usize,
}

/// Reads datagrams. One per worker: it owns the memory that the work needs.
#[derive(Debug)]
pub struct LineParser {
    index: Index,
    walk: Walk,
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
        Self { index: Index::new(key_set, classifier), walk: Walk::new(sanitize) }
    }

    /// Reads the datagram in the first `len` bytes of `buffer` and hands each value to `sink`, in
    /// the order of the wire.
    ///
    /// # Shape and units
    /// As [`Datagram`] says. Returns what was found: `lines` counts every non-empty line, `accepted`
    /// the calls of `number`, `sample` and `sample_cleaned`, `rejected` those of `reject`.
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
        self.datagrams(&[Datagram { buffer, len }], sink)
    }

    /// The same for several datagrams, one after the other, faster than one by one.
    ///
    /// # Panics
    /// As [`Self::datagram`].
    pub fn datagrams<'d, S: SampleSink<'d>>(
        &mut self,
        datagrams: &[Datagram<'d>],
        sink: &mut S,
    ) -> Tally {
        let mut tally = Tally::default();
        let mut left = datagrams;
        while !left.is_empty() {
            self.index.build(left);
            let stops = self.index.stops();
            let (taken, others) = left.split_at(stops.len());
            for (datagram, stops) in taken.iter().zip(stops) {
                self.walk.datagram(*datagram, stops, sink, &mut tally);
            }
            left = others;
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
            visit(self.walk.key_of(line));
        }
    }
}

#[cfg(test)]
mod tests;
