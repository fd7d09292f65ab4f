//! A worker's sink: parser and shard, one behind the other.
//!
//! Where a datagram leaves `io` for `core`. Nothing is decided here: the parser has the grammar, the
//! shard the arithmetic.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::sync::Unparker;
use floe_core::line::{Datagram, LineParser};
use floe_core::shard::ShardWriter;

use super::key_flush::KeyCounter;
use super::tap::Tap;
use super::{DatagramSink, ReceiveCounts};
use crate::top::Sampler;

/// What a running worker may be given anew, as a whole.
#[derive(Debug)]
pub struct IntakeSettings {
    /// Reads datagrams as the settings say.
    pub parser: LineParser,
    /// Who else is told of datagrams; `None` = nobody, which costs a branch.
    pub side: Option<Box<SideTaps>>,
}

/// Who else is told of every datagram, before it is parsed.
#[derive(Debug, Default)]
pub struct SideTaps {
    /// The repeater.
    pub repeater: Option<Tap>,
    /// `dumpMessages`.
    pub dump: Option<Tap>,
    /// `keyFlush`.
    pub keys: Option<KeyCounter>,
}

impl SideTaps {
    fn begin_batch(&mut self) {
        if let Some(keys) = &mut self.keys {
            keys.begin_batch();
        }
    }

    fn datagram(&mut self, datagram: &[u8], parser: &mut LineParser) {
        for tap in [&mut self.repeater, &mut self.dump].into_iter().flatten() {
            tap.push(datagram);
        }
        if let Some(keys) = &mut self.keys {
            parser.keys(datagram, |key| keys.add(key));
        }
    }

    fn end_batch(&mut self) {
        for tap in [&mut self.repeater, &mut self.dump].into_iter().flatten() {
            tap.hand_over();
        }
    }
}

impl IntakeSettings {
    #[inline]
    fn tell_side(&mut self, datagrams: &[Datagram<'_>]) {
        if let Some(side) = &mut self.side {
            for Datagram { buffer, len } in datagrams {
                side.datagram(&buffer[..*len], &mut self.parser);
            }
        }
    }
}

/// Where new settings wait until their worker comes to the head of a batch.
///
/// One place per worker; newer settings take the place of those not yet taken.
#[derive(Clone, Debug)]
pub struct IntakeInbox(Arc<ArrayQueue<IntakeSettings>>);

impl Default for IntakeInbox {
    fn default() -> Self {
        Self(Arc::new(ArrayQueue::new(1)))
    }
}

impl IntakeInbox {
    /// Leaves `settings` for the worker, who should be woken.
    pub fn put(&self, settings: IntakeSettings) {
        drop(self.0.force_push(settings));
    }
}

/// Parser and shard of one worker.
#[derive(Debug)]
pub struct Intake {
    settings: IntakeSettings,
    inbox: IntakeInbox,
    shard: ShardWriter,
    coordinator: Unparker,
    /// Who is given samples.
    top: Option<Sampler>,
}

impl Intake {
    /// A sink that wakes `coordinator` whenever the shard has flipped, and takes new settings from
    /// `inbox` at the head of a batch.
    #[must_use]
    pub fn new(
        settings: IntakeSettings,
        inbox: IntakeInbox,
        shard: ShardWriter,
        coordinator: Unparker,
    ) -> Self {
        Self { settings, inbox, shard, coordinator, top: None }
    }

    /// The same that gives samples to `top`.
    #[must_use]
    pub fn sampled_by(self, top: Sampler) -> Self {
        Self { top: Some(top), ..self }
    }
}

impl DatagramSink for Intake {
    fn begin_batch(&mut self, now_ns: u64) {
        let has_flipped = self.shard.begin_batch(now_ns);
        // After the flip: whoever left settings and then asked for a flip finds them taken once it is
        // acknowledged, but for this batch's head, in which nothing is copied to the old taps.
        if let Some(settings) = self.inbox.0.pop() {
            self.settings = settings;
        }
        if let Some(side) = &mut self.settings.side {
            side.begin_batch();
        }
        if has_flipped {
            self.coordinator.unpark();
        }
    }

    fn datagram(&mut self, buffer: &[u8], len: usize) {
        self.datagrams(&[Datagram { buffer, len }]);
    }

    fn datagrams(&mut self, datagrams: &[Datagram<'_>]) {
        if datagrams.is_empty() {
            return;
        }
        self.settings.tell_side(datagrams);
        // The samples of all on their way to the table together: of one small datagram none is fetched
        // ahead, and each waits for its series.
        let mut batch = self.shard.batch();
        let tally = self.settings.parser.datagrams(datagrams, &mut batch);
        let bytes = datagrams.iter().map(|datagram| datagram.len).sum();
        batch.finish_datagrams(datagrams.len(), bytes, tally);
    }

    fn lines(&mut self, buffer: &[u8], len: usize) {
        self.settings.tell_side(&[Datagram { buffer, len }]);
        let mut batch = self.shard.batch();
        let tally = self.settings.parser.datagram(buffer, len, &mut batch);
        batch.finish_lines(len, tally);
    }

    fn sampled(&mut self, sender: Option<IpAddr>, datagram: &[u8]) {
        if let Some(top) = &mut self.top {
            top.push(sender, datagram);
        }
    }

    fn samples_end(&mut self) {
        if let Some(top) = &mut self.top {
            top.hand_over();
        }
    }

    fn receive_counts(&mut self, counts: &ReceiveCounts) {
        let page = self.shard.page();
        page.buffers_exhausted += counts.buffers_exhausted;
        page.receive_errors += counts.receive_errors;
        page.datagrams_truncated += counts.datagrams_truncated;
        page.stream_reads += counts.stream_reads;
        page.lines_unfinished += counts.lines_unfinished;
        page.lines_too_long += counts.lines_too_long;
        page.connections_reset += counts.connections_reset;
        page.connections_idle += counts.connections_idle;
    }

    fn end_batch(&mut self) {
        if let Some(side) = &mut self.settings.side {
            side.end_batch();
        }
        self.shard.end_batch();
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_utils::sync::Parker;
    use floe_core::config::without_file;
    use floe_core::interval::{BookEntries, Interval};
    use floe_core::limits::{DATAGRAM_SLACK_BYTES, DATAGRAMS_AT_ONCE};
    use floe_core::name::KeyHasher;
    use floe_core::row::Rows;
    use floe_core::shard::shard;

    use super::super::tap::tap;
    use super::*;

    /// What an interval holds after `receive` was given a sink.
    fn interval(hasher: &KeyHasher, receive: impl FnOnce(&mut Intake)) -> (Vec<Rows>, [u64; 6]) {
        let (writer, reader) = shard(0, hasher.clone());
        let mut readers = [reader];
        let mut interval = Interval::new(without_file().settings, hasher, &readers);
        let settings = IntakeSettings { parser: LineParser::new(true), side: None };
        let unparker = Parker::new().unparker().clone();
        let mut intake = Intake::new(settings, IntakeInbox::default(), writer, unparker);
        intake.begin_batch(7);
        receive(&mut intake);
        intake.end_batch();
        readers[0].request();
        intake.begin_batch(8);
        interval.collect(&mut readers);
        assert_eq!(interval.pages_unbalanced(), 0);
        let page = interval.page();
        let books = [
            page.datagrams_received,
            page.bytes_received,
            page.lines_received,
            page.values_accepted,
            page.values_recorded,
            page.newest_input_ns,
        ];
        (interval.close(60, &BookEntries::default()), books)
    }

    #[test]
    fn datagrams_together_are_what_they_are_one_by_one() {
        // Few names, so that gauges change often and in order; every kind, refused lines, keys to be
        // cleaned, several lines, none, and more values of one kind than a batch holds.
        let texts: Vec<String> = (0..300)
            .map(|n| match n % 7 {
                0 => format!("counter.{}:{n}|c", n % 5),
                1 => format!("timer.{}:{n}|ms|@0.5\ncounter.0:1|c", n % 5),
                2 => format!("gauge.{}:{n}|g", n % 3),
                3 => format!("gauge.{}:+{n}|g\ngauge.{}:-3|g", n % 3, n % 2),
                4 => format!("to clean/{}:{n}|s\nno line", n % 5),
                5 => String::new(),
                _ => format!("many:{}", vec!["1|ms"; 40].join(":")),
            })
            .collect();
        let buffers: Vec<(Vec<u8>, usize)> = texts
            .iter()
            .map(|text| {
                let mut buffer = text.clone().into_bytes();
                buffer.resize(text.len() + DATAGRAM_SLACK_BYTES, b'#');
                (buffer, text.len())
            })
            .collect();
        let hasher = KeyHasher::default();
        let one_by_one = interval(&hasher, |intake| {
            buffers.iter().for_each(|(buffer, len)| intake.datagram(buffer, *len));
        });
        let together = interval(&hasher, |intake| {
            let datagrams: Vec<Datagram<'_>> =
                buffers.iter().map(|(buffer, len)| Datagram { buffer, len: *len }).collect();
            datagrams.chunks(DATAGRAMS_AT_ONCE).for_each(|chunk| intake.datagrams(chunk));
        });
        assert_eq!(together.1, one_by_one.1);
        assert_eq!(together.1[0], 300);
        assert!(together.0 == one_by_one.0, "the same rows");
        assert!(0 < one_by_one.0.iter().map(Rows::row_count).sum::<usize>());
    }

    #[test]
    fn a_tap_has_every_datagram_of_those_handed_over_at_once() {
        let (writer, _reader) = shard(0, KeyHasher::default());
        let taps = tap().unwrap();
        let side = SideTaps { repeater: Some(taps.writer()), ..SideTaps::default() };
        let settings = IntakeSettings { parser: LineParser::new(true), side: Some(Box::new(side)) };
        let unparker = Parker::new().unparker().clone();
        let mut intake = Intake::new(settings, IntakeInbox::default(), writer, unparker);
        let buffer = [b"a:1|c\nb".as_slice(), &[b'#'; DATAGRAM_SLACK_BYTES]].concat();
        let of = |len| Datagram { buffer: &buffer, len };
        intake.begin_batch(7);
        intake.datagrams(&[of(5), of(0), of(7)]);
        intake.end_batch();
        let batch = taps.take().unwrap();
        let told: Vec<&[u8]> = batch.datagrams().collect();
        assert_eq!(told, [b"a:1|c".as_slice(), b"", b"a:1|c\nb"]);
        assert!(taps.take().is_none());
    }

    #[test]
    fn a_batch_without_datagrams_is_no_input() {
        let (_, books) = interval(&KeyHasher::default(), |intake| intake.datagrams(&[]));
        assert_eq!(books, [0; 6]);
    }
}
