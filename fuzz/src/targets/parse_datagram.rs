//! Datagrams: the parser against a slow and plain reader, and the books behind it.

use floe_core::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_SLACK_BYTES};
use floe_core::line::LineParser;
use floe_core::name::KeyHasher;
use floe_core::sample::{Reason, Sample, SampleSink, Tally};
use floe_core::shard::{ShardReader, ShardWriter, shard};

use super::{Reader, Target, claim, equal};
use crate::counting::allocated_bytes;
use crate::line_model::{model, parse, parse_together};
use crate::mutate::Grammar;

pub(super) const GRAMMAR: Grammar = Grammar {
    words: &[
        ":",
        "|",
        "|c",
        "|ms",
        "|g",
        "|s",
        "|h",
        "|@0.1",
        "|@",
        "|@0",
        "|@.5",
        "|#",
        "|#a:b",
        ",",
        ";",
        "=",
        "|T5",
        "+",
        "-",
        "a:1|c\n",
        "__proto__",
        "constructor",
        "c\r\n",
        "/",
        "\n\n",
        " ",
    ],
    delimiters: b":|\n@#,;",
};

pub(super) const TARGET: Target = Target {
    name: "parse_datagram",
    about: "equals a plain reader, allocates nothing, loses no value on its way to the shard",
    grammar: GRAMMAR,
    reader: || Box::new(Datagrams::new()),
};

/// Datagrams after which a shard is replaced: its series would be all that there is to compare.
const DATAGRAMS_PER_SHARD: u32 = 512;

struct Datagrams {
    /// With and without `keyNameSanitize`, with the code for this CPU and for every CPU.
    parsers: [(bool, LineParser); 4],
    shard: (ShardWriter, ShardReader),
    datagrams: u32,
}

impl Datagrams {
    fn new() -> Self {
        let parsers = [
            (true, LineParser::new(true)),
            (true, LineParser::portable(true)),
            (false, LineParser::new(false)),
            (false, LineParser::portable(false)),
        ];
        Self { parsers, shard: shard(0, KeyHasher::default()), datagrams: 0 }
    }

    /// Values that go in come out: recorded or dropped, or refused by a reason.
    fn check_books(&mut self, buffer: &[u8], len: usize, tally: Tally) -> Result<(), String> {
        self.datagrams += 1;
        if self.datagrams.is_multiple_of(DATAGRAMS_PER_SHARD) {
            self.shard = shard(0, KeyHasher::default());
        }
        let (writer, reader) = &mut self.shard;
        let mut batch = writer.batch();
        let counted = self.parsers[0].1.datagram(buffer, len, &mut batch);
        batch.finish(len, counted);
        equal("tally into a shard", &counted, &tally)?;
        reader.request();
        writer.begin_batch(1);
        let page = reader.collect(|_, _| ()).ok_or("the generation is not sealed")?;
        equal("values accepted", &page.values_accepted, &tally.accepted)?;
        equal("values refused", &page.values_rejected.iter().sum::<u64>(), &tally.rejected)?;
        equal("lines", &page.lines_received, &tally.lines)?;
        claim(page.is_balanced(), || format!("the page does not balance: {page:?}"))
    }
}

impl Reader for Datagrams {
    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let datagram = &input[..input.len().min(DATAGRAM_BYTES_MAX)];
        let mut buffer = datagram.to_vec();
        buffer.resize(datagram.len() + DATAGRAM_SLACK_BYTES, b':');
        let mut expected = None;
        for (sanitize, parser) in &mut self.parsers {
            // Both of one kind follow each other.
            if expected.as_ref().is_none_or(|(of, _)| of != sanitize) {
                expected = Some((*sanitize, model(*sanitize, datagram)));
            }
            let (_, expected) = expected.as_ref().ok_or("set above")?;
            for slack in [0, b'|', b'\n', b'7'] {
                equal("parser", &parse(parser, datagram, slack), expected)?;
            }
            // Of unequal lengths, and one without anything.
            let (first, last) = datagram.split_at(datagram.len() / 3);
            let (mut found, mut tally) = parse(parser, first, b':');
            let (more, of_more) = parse(parser, last, b':');
            found.extend(more);
            tally += of_more;
            let together = parse_together(parser, &[first, &[], last], b':');
            equal("parts together", &together, &(found, tally))?;
            let before = allocated_bytes();
            let mut counting = Counting::default();
            let tally = parser.datagram(&buffer, datagram.len(), &mut counting);
            let allocated = allocated_bytes() - before;
            equal("allocated bytes", &allocated, &0)?;
            equal("tally", &tally, &expected.1)?;
            equal("samples told", &counting.samples, &tally.accepted)?;
            let refused = counting.refused.iter().sum::<u64>();
            equal("refused by reason", &refused, &tally.rejected)?;
            let lines = datagram.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            equal("lines", &tally.lines, &(lines.count() as u64))?;
            let values = tally.accepted + tally.rejected;
            claim(tally.lines <= values, || "a line without a value".to_owned())?;
        }
        let sanitized = model(true, datagram).1;
        self.check_books(&buffer, datagram.len(), sanitized)
    }
}

/// Counts what it is told, and allocates nothing.
#[derive(Default)]
struct Counting {
    samples: u64,
    refused: [u64; Reason::ALL.len()],
}

impl<'d> SampleSink<'d> for Counting {
    fn sample(&mut self, _sample: Sample<'d>) {
        self.samples += 1;
    }

    fn sample_cleaned(&mut self, _sample: Sample<'_>) {
        self.samples += 1;
    }

    fn reject(&mut self, reason: Reason, _line: &[u8]) {
        self.refused[reason as usize] += 1;
    }
}
