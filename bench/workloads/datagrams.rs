//! Datagrams in memory, as the kernel would have left them: one line each, or packed.
//!
//! They lie one behind the other in one buffer, with the parser's slack behind the last. A ring's
//! buffers lie 64 KiB apart instead; what that costs is part of receiving and not measured here.

use std::ops::Range;

use floe_core::limits::DATAGRAM_SLACK_BYTES;

use crate::lines::Shape;
use crate::random::Random;
use crate::{JUMBO_BYTES_MAX, PACKED_BYTES_MAX};

/// How lines are put into datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// One line per datagram, without a newline.
    Single,
    /// As many lines as fit into 1,400 bytes, newlines between them: 46 of 29 bytes.
    Packed,
    /// As many as fit into 8,900 bytes, for networks with frames of 9,000.
    Jumbo,
}

impl Packing {
    /// Most bytes of a datagram with several lines.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Single => 0,
            Self::Packed => PACKED_BYTES_MAX,
            Self::Jumbo => JUMBO_BYTES_MAX,
        }
    }
}

/// Names and lines of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Names, each of which occurs at least once.
    pub names: u32,
    /// Lines, at least as many.
    pub lines: u32,
}

/// A workload.
#[derive(Debug)]
pub struct Datagrams {
    bytes: Vec<u8>,
    /// Start and length of each datagram.
    spans: Vec<(usize, usize)>,
    line_count: u64,
}

impl Datagrams {
    /// Lines of `shape`: every name once, in random order, then names drawn at random.
    ///
    /// # Panics
    /// If there are fewer lines than names.
    #[must_use]
    pub fn new(shape: Shape, packing: Packing, extent: Extent) -> Self {
        assert!(extent.names <= extent.lines, "each name occurs");
        let mut random = Random::new(u64::from(extent.names));
        let first = random.permutation(extent.names);
        let mut datagrams =
            Self { bytes: Vec::new(), spans: Vec::new(), line_count: u64::from(extent.lines) };
        let mut line = Vec::new();
        for number in 0..extent.lines as usize {
            let index = first.get(number).copied();
            let index = index.unwrap_or_else(|| random.below(extent.names));
            line.clear();
            shape.push_line(index, &mut random, &mut line);
            datagrams.push_line(packing, &line);
        }
        datagrams.bytes.resize(datagrams.bytes.len() + DATAGRAM_SLACK_BYTES, b'\n');
        datagrams
    }

    fn push_line(&mut self, packing: Packing, line: &[u8]) {
        if let Some((_, len)) = self.spans.last_mut()
            && *len + 1 + line.len() <= packing.bytes_max()
        {
            self.bytes.push(b'\n');
            *len += 1 + line.len();
        } else {
            self.spans.push((self.bytes.len(), line.len()));
        }
        self.bytes.extend_from_slice(line);
    }

    /// Lines in all datagrams.
    #[must_use]
    pub const fn line_count(&self) -> u64 {
        self.line_count
    }

    /// The datagrams: a buffer that begins with one and goes on beyond its slack, and its length.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], usize)> {
        self.spans.iter().map(|&(start, len)| (&self.bytes[start..], len))
    }

    /// Number of datagrams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The payload of the datagrams of `range`, which lie one behind the other.
    ///
    /// # Panics
    /// If `range` goes beyond the last datagram.
    #[must_use]
    pub fn payloads(&self, range: Range<usize>) -> &[u8] {
        let spans = &self.spans[range];
        let (Some((start, _)), Some((last, len))) = (spans.first(), spans.last()) else {
            return &[];
        };
        &self.bytes[*start..last + len]
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_datagrams_hold_46_lines_of_the_mix() {
        let extent = Extent { names: 10, lines: 47 };
        let datagrams = Datagrams::new(Shape::Mix, Packing::Packed, extent);
        let lens: Vec<usize> = datagrams.iter().map(|(_, len)| len).collect();
        assert_eq!(lens, [46 * 30 - 1, 29]);
    }

    #[test]
    fn payloads_of_a_range_lie_one_behind_the_other() {
        let extent = Extent { names: 10, lines: 100 };
        let datagrams = Datagrams::new(Shape::Mix, Packing::Packed, extent);
        let lens: Vec<usize> = datagrams.iter().map(|(_, len)| len).collect();
        assert_eq!(datagrams.payloads(0..3).len(), lens[..3].iter().sum::<usize>());
        assert_eq!(datagrams.payloads(1..2), &datagrams.iter().nth(1).unwrap().0[..lens[1]]);
        assert!(datagrams.payloads(3..3).is_empty());
    }

    #[test]
    fn single_datagrams_hold_one_line_and_have_their_slack() {
        let extent = Extent { names: 10, lines: 20 };
        let datagrams = Datagrams::new(Shape::Mix, Packing::Single, extent);
        assert_eq!(datagrams.len(), 20);
        assert!(datagrams.iter().all(|(buffer, len)| len == 29
            && len + DATAGRAM_SLACK_BYTES <= buffer.len()
            && !buffer[..len].contains(&b'\n')));
    }
}
