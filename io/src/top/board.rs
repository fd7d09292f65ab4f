//! What was counted: three orders of three kinds of things, in sketches.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use floe_core::budget::Ledger;
use floe_core::config::settings::Senders;
use floe_core::heavy::HeavyHitters;
use floe_core::limits::{DATAGRAM_SLACK_BYTES, TOP_KEYS, TOP_NEW_NAMES_MAX, TOP_TEXT_BYTES_MAX};
use floe_core::line::LineParser;
use floe_core::name::KeyHasher;
use floe_core::sample::{Kind, Reason, Sample, SampleSink};

use super::report::{Entry, Report};

/// What is counted.
const THINGS: [&str; 3] = ["prefixes", "names", "senders"];

/// By what.
const ORDERS: [&str; 3] = ["lines", "new", "bad"];

const LINES: usize = 0;
const NEW: usize = 1;
const BAD: usize = 2;

/// Entries of one list.
const SHOWN: usize = 10;

/// One minute.
#[derive(Clone, Debug)]
pub(super) struct Board {
    datagrams: u64,
    /// By thing, then by order.
    sketches: [[HeavyHitters; ORDERS.len()]; THINGS.len()],
    /// Names that have been new, by their hashes: each is counted once.
    seen: HashSet<u64>,
}

impl Default for Board {
    fn default() -> Self {
        let sketch = || HeavyHitters::new(TOP_KEYS);
        let of_thing = || std::array::from_fn(|_| sketch());
        Self { datagrams: 0, sketches: std::array::from_fn(|_| of_thing()), seen: HashSet::new() }
    }
}

impl Board {
    pub(super) fn merge(&mut self, other: &Self) {
        self.datagrams += other.datagrams;
        for (own, others) in self.sketches.iter_mut().flatten().zip(other.sketches.iter().flatten())
        {
            own.merge(others);
        }
    }

    pub(super) fn report(&self, seconds: u64, left_out: u64, senders: Senders) -> Report {
        let mut entries = Vec::new();
        for (thing, sketches) in THINGS.iter().zip(&self.sketches) {
            for (order, sketch) in ORDERS.iter().zip(sketches) {
                entries.extend(sketch.top(SHOWN).into_iter().map(|(key, counted)| Entry {
                    of: (*thing).to_owned(),
                    by: (*order).to_owned(),
                    count: counted.count,
                    error: sketch.error(),
                    what: key.escape_ascii().to_string(),
                    example: counted.example.as_ref().map(|line| line.escape_ascii().to_string()),
                }));
            }
        }
        // Each line is of one name, so their totals are those of all.
        let [_, names, _] = &self.sketches;
        let [lines, new, bad] = names;
        let senders = match senders {
            Senders::Off => "off",
            Senders::Sampled => "sampled",
            Senders::All => "all",
        };
        Report {
            seconds,
            senders: senders.to_owned(),
            datagrams: self.datagrams,
            left_out,
            lines: lines.total(),
            new: new.total(),
            bad: bad.total(),
            entries,
        }
    }
}

/// Reads samples.
#[derive(Debug)]
pub(super) struct Reader {
    parser: LineParser,
    judge: Judge,
    /// The datagram with the slack that the parser asks for.
    buffer: Vec<u8>,
}

/// What tells names apart.
#[derive(Debug)]
struct Judge {
    hasher: KeyHasher,
    ledger: Arc<Ledger>,
    has_examples: bool,
}

impl Reader {
    pub(super) fn new(
        parser: LineParser,
        hasher: KeyHasher,
        ledger: Arc<Ledger>,
        has_examples: bool,
    ) -> Self {
        let judge = Judge { hasher, ledger, has_examples };
        Self { parser, judge, buffer: Vec::new() }
    }

    pub(super) fn read(&mut self, sender: Option<IpAddr>, datagram: &[u8], board: &mut Board) {
        self.buffer.clear();
        self.buffer.extend_from_slice(datagram);
        self.buffer.resize(datagram.len() + DATAGRAM_SLACK_BYTES, 0);
        board.datagrams += 1;
        let sender = sender.map(|sender| sender.to_string());
        let mut found = Found { judge: &self.judge, sender: sender.as_deref(), board };
        self.parser.datagram(&self.buffer, datagram.len(), &mut found);
    }
}

/// Counts what the parser finds in one sample.
struct Found<'a> {
    judge: &'a Judge,
    sender: Option<&'a str>,
    board: &'a mut Board,
}

impl Found<'_> {
    fn count(&mut self, order: usize, key: &[u8], example: Option<&[u8]>) {
        let ledger = &self.judge.ledger;
        let things = [Some(ledger.prefix_of(key)), Some(key), self.sender.map(str::as_bytes)];
        for (thing, sketches) in things.into_iter().zip(&mut self.board.sketches) {
            if let Some(thing) = thing {
                sketches[order].add(cut(thing), 1, || example.map(|line| cut(line).into()));
            }
        }
    }

    fn accept(&mut self, key: &[u8], kind: Kind) {
        self.count(LINES, key, None);
        let hash = self.judge.hasher.key(key);
        #[expect(clippy::cast_possible_truncation, reason = "the low half, on purpose")]
        let is_new = self.judge.ledger.is_known(kind, hash as u32) == Some(false);
        if is_new
            && self.board.seen.len() < TOP_NEW_NAMES_MAX
            && self.board.seen.insert(hash.rotate_left(kind as u32))
        {
            self.count(NEW, key, None);
        }
    }
}

impl<'d> SampleSink<'d> for Found<'_> {
    fn sample(&mut self, sample: Sample<'d>) {
        self.accept(sample.key, sample.value.kind());
    }

    fn number(&mut self, key: &'d [u8], kind: Kind, _number: f64) {
        self.accept(key, kind);
    }

    fn sample_cleaned(&mut self, sample: Sample<'_>) {
        self.accept(sample.key, sample.value.kind());
    }

    fn reject(&mut self, _reason: Reason, line: &[u8]) {
        let end = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        self.count(BAD, &line[..end], Some(line).filter(|_| self.judge.has_examples));
    }
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(TOP_TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use floe_core::budget::Budgets;

    use super::*;

    fn reader(has_examples: bool) -> Reader {
        let budgets = Budgets { series_max: Some(1_000), ..Budgets::default() };
        let ledger = Arc::new(Ledger::new(&budgets, 1));
        Reader::new(LineParser::new(true), KeyHasher::default(), ledger, has_examples)
    }

    fn of<'r>(
        report: &'r Report,
        thing: &str,
        order: &str,
    ) -> Vec<(&'r str, u64, Option<&'r str>)> {
        let entries = report.entries.iter();
        let wanted = entries.filter(|entry| entry.of == thing && entry.by == order);
        wanted.map(|entry| (&*entry.what, entry.count, entry.example.as_deref())).collect()
    }

    #[test]
    fn lines_new_names_and_bad_lines_are_counted_by_prefix_name_and_sender() {
        let (mut reader, mut board) = (reader(true), Board::default());
        let first = Some(IpAddr::from([10, 0, 0, 1]));
        let second = Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
        reader.read(first, b"web.a:1|c\nweb.b:2|ms\nweb.a:1|c\nalone:1|g", &mut board);
        reader.read(second, b"web.a:1|c\nweb.x\x1b:oops|c\nnothing", &mut board);
        reader.read(None, b"", &mut board);
        let report = board.report(7, 0, Senders::Sampled);
        assert_eq!((report.datagrams, report.lines, report.new, report.bad), (3, 5, 3, 2));
        assert_eq!(of(&report, "prefixes", "lines"), [("web", 4, None), ("alone", 1, None)]);
        let names = [("web.a", 3, None), ("alone", 1, None), ("web.b", 1, None)];
        assert_eq!(of(&report, "names", "lines"), names);
        assert_eq!(of(&report, "senders", "lines"), [("10.0.0.1", 4, None), ("::1", 1, None)]);
        assert_eq!(of(&report, "senders", "new"), [("10.0.0.1", 3, None)]);
        let bad = [("nothing", 1, Some("nothing")), ("web.x\\x1b", 1, Some("web.x\\x1b:oops|c"))];
        assert_eq!(of(&report, "names", "bad"), bad);
        assert_eq!(of(&report, "senders", "bad"), [("::1", 2, Some("web.x\\x1b:oops|c"))]);
    }

    #[test]
    fn examples_are_cut_and_can_be_switched_off() {
        for has_examples in [true, false] {
            let (mut reader, mut board) = (reader(has_examples), Board::default());
            reader.read(None, &[b'x'; 5_000], &mut board);
            let report = board.report(0, 0, Senders::Off);
            let [(name, 1, example)] = of(&report, "names", "bad")[..] else {
                panic!("{report:?}")
            };
            assert_eq!(name.len(), TOP_TEXT_BYTES_MAX);
            let expected = has_examples.then_some(TOP_TEXT_BYTES_MAX);
            assert_eq!(example.map(str::len), expected);
            assert!(of(&report, "senders", "bad").is_empty());
        }
    }

    #[test]
    fn a_bomb_of_names_and_bad_lines_stays_within_its_memory() {
        let (mut reader, mut board) = (reader(true), Board::default());
        for number in 0..200_000 {
            let text = format!("p{number}.name:1|c\nbad{number}");
            reader.read(Some(IpAddr::from([10, 0, 0, 1])), text.as_bytes(), &mut board);
        }
        assert_eq!(board.seen.len(), TOP_NEW_NAMES_MAX);
        let report = board.report(1, 0, Senders::All);
        assert_eq!((report.lines, report.bad), (200_000, 200_000));
        assert_eq!(of(&report, "senders", "lines"), [("10.0.0.1", 200_000, None)]);
    }
}
