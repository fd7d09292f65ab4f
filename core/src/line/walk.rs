//! From line to line of a datagram, along the list of its stops.
//!
//! Second stage of the parser. Tries the short cuts of `regular` in the order of how often they lead on;
//! what none of them knows is left to `general`.

use super::Datagram;
use super::general::{self, Scratch};
use super::regular::{self, LastRate};
use crate::sample::{SampleSink, Tally};

/// What is kept from one line to the next.
#[derive(Debug)]
pub(super) struct Walk {
    scratch: Scratch,
    last_rate: LastRate,
    is_sanitizing: bool,
}

impl Walk {
    /// `sanitize`: whether keys are cleaned.
    pub(super) fn new(sanitize: bool) -> Self {
        Self { scratch: Scratch::new(), last_rate: LastRate::default(), is_sanitizing: sanitize }
    }

    /// Hands the values of a datagram to `sink`, and counts its lines in `tally`.
    // Always inline: a datagram of one line costs no call.
    #[inline(always)]
    pub(super) fn datagram<'d, S: SampleSink<'d>>(
        &mut self,
        Datagram { buffer, len }: Datagram<'d>,
        mut stops: &[u32],
        sink: &mut S,
        tally: &mut Tally,
    ) {
        let mut regulars = 0;
        let mut at = 0;
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
                        self.general(line, sink, tally);
                    }
                    (end, passed)
                }
            };
            at = end + 1;
            stops = stops.get(passed..).unwrap_or_default();
        }
        tally.lines += regulars;
        tally.accepted += regulars;
    }

    /// Reads any line; out of the way of those that need less.
    #[cold]
    #[inline(never)]
    fn general<'d, S: SampleSink<'d>>(&mut self, line: &[u8], sink: &mut S, tally: &mut Tally) {
        general::line(line, self.is_sanitizing, &mut self.scratch, sink, tally);
    }

    /// The key of a line, cleaned and with its tags.
    pub(super) fn key_of<'k>(&'k mut self, line: &'k [u8]) -> &'k [u8] {
        general::key_of(line, self.is_sanitizing, &mut self.scratch)
    }

    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 3] {
        self.scratch.capacities()
    }
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
