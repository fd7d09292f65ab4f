//! Carbon's plaintext protocol: `NAME SP VALUE SP TIMESTAMP LF`.
//!
//! One of the two output buffers between `floe_core::point` and a backend's connection; the other
//! is `crate::export::carbon_pickle`. Its only way in is `LineBuffer::push`, so that whatever it
//! holds is fit for Carbon: UTF-8, no white space in a name, lines of at most 4,096 bytes, finite
//! values, whole seconds (`crate::export::name_filter`). What does not pass is counted by cause.
//!
//! Values are JavaScript's text, as the reference daemon's lines have it.

use floe_core::number_text::push_number;

use super::name_filter::{NameFilter, PointTally, Timestamp};

/// Lines ready to be sent.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    filter: NameFilter,
    timestamp: Option<Timestamp>,
    /// Space, timestamp, line feed: the same behind every value.
    line_end: Vec<u8>,
}

impl LineBuffer {
    /// An empty buffer whose points bear `timestamp_s`, seconds since the epoch.
    #[must_use]
    pub fn new(timestamp_s: u64) -> Self {
        let line_end = format!(" {timestamp_s}\n").into_bytes();
        let timestamp = Timestamp::new(timestamp_s);
        Self { bytes: Vec::new(), filter: NameFilter::default(), timestamp, line_end }
    }

    /// Appends one point, or counts why not.
    #[inline]
    pub fn push(&mut self, name: &[u8], value: f64) {
        let Some((name, _)) = self.filter.admit(name, value, self.timestamp) else { return };
        self.bytes.extend_from_slice(name);
        self.bytes.push(b' ');
        push_number(&mut self.bytes, value);
        self.bytes.extend_from_slice(&self.line_end);
    }

    /// Whole lines, in the order they came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties the buffer and keeps its memory and its tally.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What became of all points pushed so far.
    #[must_use]
    pub fn tally(&self) -> PointTally {
        self.filter.tally
    }
}

#[cfg(test)]
mod tests {
    use floe_core::limits::GRAPHITE_LINE_BYTES_MAX;

    use super::super::name_filter::{NAME_BYTES_MAX, Refusal};
    use super::*;

    #[test]
    fn line_is_name_value_and_whole_seconds() {
        let mut buffer = LineBuffer::new(1_700_000_000);
        buffer.push(b"stats.timers.n.mean_90;env=prod", 74.825_336_000_000_01);
        buffer.push(b"stats.", -0.0);
        assert_eq!(
            buffer.as_bytes(),
            b"stats.timers.n.mean_90;env=prod 74.82533600000001 1700000000\nstats. 0 1700000000\n"
        );
        assert_eq!(buffer.tally().written, 2);
    }

    #[test]
    fn no_key_can_add_a_line() {
        let mut buffer = LineBuffer::new(7);
        buffer.push(b"a 1 1\nevil", 2.0);
        buffer.push(b"b;k=v 1 1\r\nevil 1 1\n", 3.0);
        assert_eq!(buffer.as_bytes(), b"a_1_1_evil 2 7\nb;k=v_1_1__evil_1_1_ 3 7\n");
        assert_eq!(buffer.tally().cleaned, 2);
    }

    #[test]
    fn longest_line_keeps_the_limit() {
        let name = "ab.".repeat(NAME_BYTES_MAX);
        let mut buffer = LineBuffer::new(u64::from(u32::MAX));
        buffer.push(&name.as_bytes()[..NAME_BYTES_MAX], -1.234_567_890_123_456_7e-300);
        assert!(buffer.as_bytes().len() > NAME_BYTES_MAX);
        assert!(buffer.as_bytes().len() <= GRAPHITE_LINE_BYTES_MAX);
    }

    #[test]
    fn refused_points_leave_no_trace_but_their_count() {
        let mut buffer = LineBuffer::new(7);
        buffer.push(b"a", f64::INFINITY);
        buffer.push(b"", 1.0);
        assert_eq!(buffer.as_bytes(), b"");
        assert_eq!(buffer.tally().refused[Refusal::NotFinite as usize], 1);
        assert_eq!(buffer.tally().refused[Refusal::EmptyName as usize], 1);
    }

    #[test]
    fn clearing_keeps_the_tally() {
        let mut buffer = LineBuffer::new(7);
        buffer.push(b"a", 1.0);
        buffer.clear();
        assert_eq!((buffer.as_bytes(), buffer.tally().written), (&b""[..], 1));
    }
}
