//! The books: every datagram, line and value is accounted for.
//!
//! Each worker keeps one page per generation; the coordinator adds sealed pages up over the
//! interval, checks that they balance, and writes the differences into the segment and, where they
//! are wanted, into points under `<prefixStats>.floe.`.
//!
//! A value is accepted or rejected, with a reason; an accepted one is recorded or dropped, with a
//! cause. So every page balances (invariant I4 of docs/architecture.md):
//!
//! ```text
//! values_accepted = values_recorded + values_dropped{cause}
//! ```
//!
//! What holds beyond one page, down to the rows of each backend, is in `identity`.

/// Which counts must add up to which.
pub mod identity;

use crate::sample::{Reason, Tally};

/// Why an accepted value was dropped. A closed list: it labels counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// There are as many series as there may be, and a gauge is not folded.
    SeriesLimit = 0,
    /// The key is longer than any name may be.
    KeyTooLong = 1,
    /// Too many keys fell on one place of the table.
    ProbeLimit = 2,
    /// There are as many series below its prefix as there may be, and a gauge is not folded.
    PrefixLimit = 3,
    /// The budget of timer values is spent, of sketches too.
    TimerLimit = 4,
    /// The budget of set members is spent, of estimates too.
    SetLimit = 5,
}

impl Cause {
    /// All causes, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::SeriesLimit,
        Self::KeyTooLong,
        Self::ProbeLimit,
        Self::PrefixLimit,
        Self::TimerLimit,
        Self::SetLimit,
    ];

    /// The word used in logs, points and docs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SeriesLimit => "series_limit",
            Self::KeyTooLong => "key_too_long",
            Self::ProbeLimit => "probe_limit",
            Self::PrefixLimit => "prefix_limit",
            Self::TimerLimit => "timer_limit",
            Self::SetLimit => "set_limit",
        }
    }
}

/// Bytes of a line that an example keeps.
const EXAMPLE_BYTES: usize = 64;

/// A rejected line, shortened: a datagram may be a bad line of 65,507 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectExample {
    reason: Reason,
    bytes: [u8; EXAMPLE_BYTES],
    len: u8,
    is_cut: bool,
}

impl RejectExample {
    /// Keeps the beginning of `line`.
    #[must_use]
    pub fn new(reason: Reason, line: &[u8]) -> Self {
        let mut example =
            Self { reason, bytes: [0; EXAMPLE_BYTES], len: 0, is_cut: EXAMPLE_BYTES < line.len() };
        for (kept, byte) in example.bytes.iter_mut().zip(line) {
            *kept = *byte;
            example.len += 1;
        }
        example
    }

    /// Why it was refused.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The line with everything escaped that a log or a terminal could take for its own.
    #[must_use]
    pub fn escaped(&self) -> String {
        let kept = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        let rest = if self.is_cut { "..." } else { "" };
        format!("{}{rest}", kept.escape_ascii())
    }
}

/// One worker's page of one generation, or the sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Datagrams received, empty ones too: the reference's `packets_received`.
    pub datagrams_received: u64,
    /// Reads of a stream that completed a line: packets to the reference, as datagrams are.
    pub stream_reads: u64,
    /// Payload bytes received, those of unfinished lines of streams not counted.
    pub bytes_received: u64,
    /// Datagrams that filled their buffer and may have lost their end.
    pub datagrams_truncated: u64,
    /// Non-empty lines: the reference's `metrics_received`.
    pub lines_received: u64,
    /// Values that passed the grammar.
    pub values_accepted: u64,
    /// Values recorded into a series.
    pub values_recorded: u64,
    /// Values refused, by [`Reason`].
    pub values_rejected: [u64; Reason::ALL.len()],
    /// The first of them, for the one line a log has per interval.
    pub first_reject: Option<RejectExample>,
    /// Values dropped, by [`Cause`].
    pub values_dropped: [u64; Cause::ALL.len()],
    /// Values recorded under `__overflow__`, their names being beyond a budget.
    pub values_folded: u64,
    /// Series that a flip brought and that had no room any more: recorded under `__overflow__`.
    pub series_folded: u64,
    /// The same of gauges, which are dropped with the values that their workers had recorded.
    pub series_dropped: u64,
    /// Timers that went beyond their exact budget.
    pub timers_sketched: u64,
    /// Sets that went beyond their exact budget.
    pub sets_estimated: u64,
    /// Times the ring had no buffer left: nothing is lost by it.
    pub buffers_exhausted: u64,
    /// Receive calls that failed.
    pub receive_errors: u64,
    /// Lines of streams dropped because their connection ended before they did.
    pub lines_unfinished: u64,
    /// Lines of streams dropped because they did not end within the limit.
    pub lines_too_long: u64,
    /// Connections that ended with an error.
    pub connections_reset: u64,
    /// Connections closed because they were silent for too long.
    pub connections_idle: u64,
    /// When the newest datagram or lines of a stream were handed over, monotonic ns; 0 = there were
    /// none. Not a count.
    pub newest_input_ns: u64,
}

impl Page {
    /// Enters what the parser counted in so many datagrams of `bytes` bytes together.
    #[inline]
    pub fn enter_datagrams(&mut self, datagrams: usize, bytes: usize, tally: Tally) {
        self.datagrams_received += datagrams as u64;
        self.enter_lines(bytes, tally);
    }

    /// Enters what the parser counted in `bytes` bytes of whole lines of a stream.
    #[inline]
    pub fn enter_lines(&mut self, bytes: usize, tally: Tally) {
        self.bytes_received += bytes as u64;
        self.lines_received += tally.lines;
        self.values_accepted += tally.accepted;
    }

    /// The reference's `packets_received`: datagrams, and reads of streams that completed a line.
    #[must_use]
    pub fn packets_received(&self) -> u64 {
        self.datagrams_received + self.stream_reads
    }

    /// Adds another page.
    pub fn add(&mut self, other: &Self) {
        self.first_reject = self.first_reject.or(other.first_reject);
        self.newest_input_ns = self.newest_input_ns.max(other.newest_input_ns);
        let mut words = self.words_mut();
        for (word, more) in words.iter_mut().zip(other.words()) {
            **word += more;
        }
    }

    /// Values refused for any reason: the reference's `bad_lines_seen`.
    #[must_use]
    pub fn values_rejected_total(&self) -> u64 {
        self.values_rejected.iter().sum()
    }

    /// Whether every accepted value is recorded or dropped.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.values_accepted == self.values_recorded + self.values_dropped.iter().sum::<u64>()
    }

    /// Names and numbers of the whole page, for segments and points.
    pub fn entries(&self) -> impl Iterator<Item = (String, u64)> {
        let plain = [
            ("datagrams_received", self.datagrams_received),
            ("bytes_received", self.bytes_received),
            ("datagrams_truncated", self.datagrams_truncated),
            ("lines_received", self.lines_received),
            ("values_accepted", self.values_accepted),
            ("values_recorded", self.values_recorded),
            ("values_folded", self.values_folded),
            ("series_folded", self.series_folded),
            ("series_dropped", self.series_dropped),
            ("timers_sketched", self.timers_sketched),
            ("sets_estimated", self.sets_estimated),
            ("buffers_exhausted", self.buffers_exhausted),
            ("receive_errors", self.receive_errors),
            ("stream_reads", self.stream_reads),
            ("lines_dropped.unfinished", self.lines_unfinished),
            ("lines_dropped.too_long", self.lines_too_long),
            ("connections_reset", self.connections_reset),
            ("connections_idle", self.connections_idle),
        ];
        let rejected = Reason::ALL.iter().zip(self.values_rejected);
        let dropped = Cause::ALL.iter().zip(self.values_dropped);
        plain
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .chain(
                rejected
                    .map(|(reason, value)| (format!("values_rejected.{}", reason.word()), value)),
            )
            .chain(
                dropped.map(|(cause, value)| (format!("values_dropped.{}", cause.word()), value)),
            )
    }

    /// All counts, in an order that changes only with
    /// `HANDED_FORMAT`(crate::interval::handed::HANDED_FORMAT).
    pub(crate) fn to_words(self) -> Vec<u64> {
        self.words().collect()
    }

    /// The page of these counts; `None` if there are more or fewer of them.
    pub(crate) fn of_words(words: &[u64]) -> Option<Self> {
        let mut page = Self::default();
        let counts = page.words_mut();
        if counts.len() != words.len() {
            return None;
        }
        for (count, word) in counts.into_iter().zip(words) {
            *count = *word;
        }
        Some(page)
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        let mut copy = *self;
        copy.words_mut().map(|word| *word).into_iter()
    }

    fn words_mut(&mut self) -> [&mut u64; 18 + Reason::ALL.len() + Cause::ALL.len()] {
        let [syntax, value, rate, not_finite] = &mut self.values_rejected;
        let [series_limit, key_too_long, probe_limit, prefix_limit, timer_limit, set_limit] =
            &mut self.values_dropped;
        [
            &mut self.datagrams_received,
            &mut self.bytes_received,
            &mut self.datagrams_truncated,
            &mut self.lines_received,
            &mut self.values_accepted,
            &mut self.values_recorded,
            syntax,
            value,
            rate,
            not_finite,
            series_limit,
            key_too_long,
            probe_limit,
            prefix_limit,
            timer_limit,
            set_limit,
            &mut self.values_folded,
            &mut self.series_folded,
            &mut self.series_dropped,
            &mut self.timers_sketched,
            &mut self.sets_estimated,
            &mut self.buffers_exhausted,
            &mut self.receive_errors,
            &mut self.stream_reads,
            &mut self.lines_unfinished,
            &mut self.lines_too_long,
            &mut self.connections_reset,
            &mut self.connections_idle,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_pages_adds_every_word() {
        let mut page = Page::default();
        for (number, word) in page.words_mut().into_iter().enumerate() {
            *word = number as u64 + 1;
        }
        let once = page;
        page.add(&once);
        for (word, before) in page.words().zip(once.words()) {
            assert_eq!(word, before * 2);
        }
        let words_bytes = (once.words().count() + 1) * size_of::<u64>();
        let example_bytes = size_of::<Option<RejectExample>>().next_multiple_of(size_of::<u64>());
        assert_eq!(words_bytes + example_bytes, size_of::<Page>(), "no word is left out");
        page.newest_input_ns = 7;
        for (newer_ns, newest_ns) in [(5, 7), (9, 9)] {
            page.add(&Page { newest_input_ns: newer_ns, ..Page::default() });
            assert_eq!(page.newest_input_ns, newest_ns, "a time is not added");
        }
    }

    #[test]
    fn an_example_is_short_and_harmless() {
        let example = RejectExample::new(Reason::Value, b"a\x1b[2J\xff:x|c\r");
        assert_eq!(example.escaped(), r"a\x1b[2J\xff:x|c\r");
        let long = RejectExample::new(Reason::Syntax, &[b':'; 65_507]);
        assert_eq!(long.escaped(), format!("{}...", ":".repeat(EXAMPLE_BYTES)));
        assert_eq!(long.reason(), Reason::Syntax);
        let mut page = Page { first_reject: Some(example), ..Page::default() };
        page.add(&Page { first_reject: Some(long), ..Page::default() });
        assert_eq!(page.first_reject, Some(example), "the first one stays");
    }

    #[test]
    fn a_value_that_is_neither_recorded_nor_dropped_breaks_the_balance() {
        let mut page = Page { values_accepted: 3, values_recorded: 2, ..Page::default() };
        assert!(!page.is_balanced());
        page.values_dropped[Cause::ProbeLimit as usize] = 1;
        assert!(page.is_balanced());
    }
}
