//! Whole datagrams through the parser, on every classifier and with different slack.

use super::general::Scratch;
use super::*;
use crate::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_SLACK_BYTES};
use crate::sample::{Reason, Sample, Value};

/// What a sink was handed, as text: `key=value` or `!reason line`.
#[derive(Default)]
struct Recorder {
    found: Vec<String>,
    borrowed: usize,
}

fn entry(sample: Sample<'_>) -> String {
    let key = std::str::from_utf8(sample.key).unwrap();
    match sample.value {
        Value::Counter(value) => format!("{key} c {value}"),
        Value::Timer { value, weight } => format!("{key} ms {value} x{weight}"),
        Value::Gauge { value, is_signed: true } => format!("{key} g {value:+}"),
        Value::Gauge { value, is_signed: false } => format!("{key} g {value}"),
        Value::Set(member) => format!("{key} s {}", std::str::from_utf8(member).unwrap()),
    }
}

impl<'d> SampleSink<'d> for Recorder {
    fn sample(&mut self, sample: Sample<'d>) {
        self.found.push(entry(sample));
        self.borrowed += 1;
    }

    fn sample_cleaned(&mut self, sample: Sample<'_>) {
        self.found.push(entry(sample));
    }

    fn reject(&mut self, reason: Reason, line: &[u8]) {
        self.found.push(format!("!{} {}", reason.word(), String::from_utf8_lossy(line)));
    }
}

fn buffer(datagram: &[u8], slack: u8) -> Vec<u8> {
    let mut buffer = datagram.to_vec();
    buffer.resize(datagram.len() + DATAGRAM_SLACK_BYTES, slack);
    buffer
}

/// Reads `datagram` in every way; they must agree. Returns what was found and the tally.
fn read_with(sanitize: bool, datagram: &[u8]) -> (Recorder, Tally) {
    let mut results = Vec::new();
    for mut parser in [LineParser::portable(sanitize), LineParser::new(sanitize)] {
        for slack in *b"\0:|\n1a\xff" {
            let buffer = buffer(datagram, slack);
            let mut recorder = Recorder::default();
            let tally = parser.datagram(&buffer, datagram.len(), &mut recorder);
            results.push((recorder, tally));
        }
    }
    let (recorder, tally) = results.pop().unwrap();
    for (other, other_tally) in results {
        assert_eq!((&other.found, other.borrowed), (&recorder.found, recorder.borrowed));
        assert_eq!(other_tally, tally);
    }
    assert_eq!(tally.accepted + tally.rejected, recorder.found.len() as u64);
    (recorder, tally)
}

fn found(datagram: impl AsRef<[u8]>) -> Vec<String> {
    read_with(true, datagram.as_ref()).0.found
}

fn tally(datagram: impl AsRef<[u8]>) -> (u64, u64, u64) {
    let tally = read_with(true, datagram.as_ref()).1;
    (tally.lines, tally.accepted, tally.rejected)
}

#[test]
fn every_type_is_read() {
    assert_eq!(
        found("n:1|c\nn:2|ms\nn:3|g\nn:+3|g\nn:-4|g\nn:u 4|s\nn:5|h"),
        ["n c 1", "n ms 2 x1", "n g 3", "n g +3", "n g -4", "n s u 4", "n c 5"]
    );
}

#[test]
fn the_captured_packet_is_a_counter() {
    assert_eq!(found("frozone.statsd.test:1|c"), ["frozone.statsd.test c 1"]);
}

#[test]
fn lines_are_parted_at_newlines_and_empty_ones_do_not_count() {
    assert_eq!(tally(""), (0, 0, 0));
    assert_eq!(tally("\n"), (0, 0, 0));
    assert_eq!(tally("\n\n\n"), (0, 0, 0));
    assert_eq!(found("\na:1|c\n\n\nb:2|c\n"), ["a c 1", "b c 2"]);
    assert_eq!(tally("\na:1|c\n\n\nb:2|c\n"), (2, 2, 0));
    assert_eq!(tally("\r\n"), (1, 0, 1));
    assert_eq!(tally(" "), (1, 0, 1));
}

#[test]
fn carriage_returns_stay_at_the_end_of_the_line() {
    assert_eq!(
        found("a:1|c\r\nb:5|g\r\nc:7|ms\r\nd:3|c|@0.5\r\ne:9|s\r\n\r\nf:x|s\r\n"),
        ["a c 1", "b g 5", "c ms 7 x1", "d c 6", "e s 9", "!syntax \r", "!value f:x|s\r"]
    );
    assert_eq!(
        tally("a:1|c\r\nb:5|g\r\nc:7|ms\r\nd:3|c|@0.5\r\ne:9|s\r\n\r\nf:x|s\r\n"),
        (7, 5, 2)
    );
}

#[test]
fn each_bad_line_is_refused_once() {
    let lines = "foo\nfoo:\nfoo:1\nfoo:|c\nfoo:x|c\nfoo:1x|c\nfoo|c\nfoo:1,5|c\nfoo:1_0|c\n\
        foo:--1|c\nfoo:NaN|c\nfoo:1 2|c\nok:1|c\nfoo:x|ms\nfoo:|ms\nfoo:0x|c\nfoo:1e|c\nfoo:+|c\n\
        foo:.|c\nfoo:inf|c\nok:1|c";
    assert_eq!(tally(lines), (21, 2, 19));
}

#[test]
fn bad_rates_are_refused() {
    let lines = "a:1|c|\na:1|c|@\na:1|c|0.1\na:1|c|@x\na:1|c|@-0.1\na:1|c|@0.1x\na:1|c||@0.1\n\
        a:1|c|@0.1.1\na:1|c|@.\na:1|c|#\nb:1|c|@0.5";
    assert_eq!(tally(lines), (11, 2, 9));
    assert_eq!(found("a:1|c|#\nb:1|c|@0.5"), ["a c 1", "b c 2"]);
    assert_eq!(
        found("a:1|c|@0\na:1|c|@ 0.1\na:1|c|@+0.1\na:1|ms|@-0.1\na:x|s|@0\na:1|g|@Infinity"),
        [
            "!rate a:1|c|@0",
            "!rate a:1|c|@ 0.1",
            "!rate a:1|c|@+0.1",
            "!rate a:1|ms|@-0.1",
            "!rate a:x|s|@0",
            "!rate a:1|g|@Infinity"
        ]
    );
}

#[test]
fn each_rate_is_its_own() {
    assert_eq!(
        found("a:1|c|@0.5\na:1|c|@0.25\na:1|c|@0.5\na:1|c|@0.50\na:1|c|@0.5000000\na:1|c|@.5"),
        ["a c 2", "a c 4", "a c 2", "a c 2", "a c 2", "a c 2"]
    );
    assert_eq!(
        found("a:1|c|@0.50000\na:1|c|@0.500001\na:1|c|@0.50000\na:1|c|@\na:1|c|x0.5\na:1|c|@0.5"),
        ["a c 2", "a c 1.999996000008", "a c 2", "!rate a:1|c|@", "!syntax a:1|c|x0.5", "a c 2"]
    );
}

#[test]
fn a_rate_at_the_end_does_not_go_on_in_the_slack() {
    let datagram = b"a:1|c|@0.5777\na:1|c|@0.5";
    let buffer = [datagram, &b"777\n"[..], &[0; DATAGRAM_SLACK_BYTES]].concat();
    let mut recorder = Recorder::default();
    LineParser::new(true).datagram(&buffer, datagram.len(), &mut recorder);
    assert_eq!(recorder.found.last().unwrap(), "a c 2");
}

#[test]
fn several_values_share_a_key() {
    assert_eq!(
        found("a:1|c:2|c:5|ms\nc:x|s:y|s\nd:1|c|@0.1:2|c"),
        ["a c 1", "a c 2", "a ms 5 x1", "c s x", "c s y", "d c 10", "d c 2"]
    );
}

#[test]
fn a_bad_value_leaves_the_good_ones_of_its_line() {
    assert_eq!(
        found("a:1:2:3|c\nb:4|c:\nc::5|c"),
        [
            "!syntax a:1:2:3|c",
            "!syntax a:1:2:3|c",
            "a c 3",
            "b c 4",
            "!syntax b:4|c:",
            "!syntax c::5|c",
            "c c 5"
        ]
    );
    assert_eq!(tally("a:1:2:3|c\nb:4|c:\nc::5|c"), (3, 3, 4));
}

#[test]
fn set_members_are_kept_verbatim() {
    assert_eq!(
        found("u:a  b|s\nu:/x/y|s\nu:|s\nu:-1|s\nu:\u{e9}|s\nu:e\u{301}|s\nu:\u{1f600}|s|@0.5"),
        ["u s a  b", "u s /x/y", "u s 0", "u s -1", "u s \u{e9}", "u s e\u{301}", "u s \u{1f600}"]
    );
    assert_eq!(found(b"u:\xff|s\nu:a\xe2\x82|s"), ["u s \u{fffd}", "u s a\u{fffd}"]);
    assert_eq!(
        found("u:10.0.0.1:80|s\nv:::1|s"),
        ["!syntax u:10.0.0.1:80|s", "u s 80", "!syntax v:::1|s", "!syntax v:::1|s", "v s 1"]
    );
}

#[test]
fn keys_are_cleaned() {
    assert_eq!(
        found(
            "a/b/c:1|c\nx!@$%^&*()+y:1|c\nq'u\"o:1|c\nbr[0]{1}<2>:1|c\nb\\s:1|c\nc,d:1|c\n\
            e~f`g:1|c\neq=u;al=s:1|c\nUp.Down_0-9:1|c\np?q:2|g\n..dots..:3|g\n a  b :1|c"
        ),
        [
            "a-b-c c 1",
            "xy c 1",
            "quo c 1",
            "br012 c 1",
            "bs c 1",
            "cd c 1",
            "efg c 1",
            "eq=u;al=s c 1",
            "Up.Down_0-9 c 1",
            "pq g 2",
            "..dots.. g 3",
            "_a_b_ c 1"
        ]
    );
    assert_eq!(found(b"a\xffb\xc3(:1|c"), ["ab c 1"]);
    assert_eq!(found(b"o\xc0\x80k:2|g"), ["ok g 2"]);
    assert_eq!(found(b"a\0b:1|c\na\x1b[1m:1|c\na\x0bb:1|c"), ["ab c 1", "a1m c 1", "a_b c 1"]);
    assert_eq!(found("a|b:1|c"), ["ab c 1"]);
}

#[test]
fn an_empty_key_and_the_names_of_object_members_are_keys() {
    assert_eq!(
        found(":1|c\n!:2|g\n__proto__:1|ms\nconstructor:1|s\ntoString:3|c"),
        [" c 1", " g 2", "__proto__ ms 1 x1", "constructor s 1", "toString c 3"]
    );
}

#[test]
fn keys_are_kept_where_they_are_not_cleaned() {
    let (recorder, _) = read_with(
        false,
        b"a b/c!:1|c\ncaf\xc3\xa9:3|ms\na\xff:1|c\na|b:1|c\na:1|c|#x/y:z!,\xff\n:1|c",
    );
    assert_eq!(
        recorder.found,
        [
            "a b/c! c 1",
            "caf\u{e9} ms 3 x1",
            "a\u{fffd} c 1",
            "a|b c 1",
            "a;x/y=z!;\u{fffd} c 1",
            " c 1"
        ]
    );
}

#[test]
fn tags_are_part_of_the_key() {
    assert_eq!(
        found("n:1|c|#env:prod,host:a\na:1|c:2|c|#x:y\na:1|c|#x:y|#z:w\na:1|c|@0.5|#x:y"),
        ["n;env=prod;host=a c 1", "a;x=y c 1", "a;x=y c 2", "a;x=y c 1", "a;x=y c 2"]
    );
    assert_eq!(found("a b;k=v:1|c|# x :/y,,z!:1"), ["a_b;k=v;_x_=-y;;z=1 c 1"]);
    assert_eq!(found("a|#x:y"), ["!syntax a|#x:y"]);
    assert_eq!(found("a:1|#x:y"), ["!syntax a:1|#x:y"]);
}

#[test]
fn a_rate_behind_the_tags_is_applied() {
    assert_eq!(
        found("a:1|c|#x:y|@0.1\nb:3|ms|#x:y,z:w|@0.5\nc:1|c:2|c|@0.5|#x|@0.1\nd:1|c|#|@0.5"),
        ["a;x=y c 10", "b;x=y;z=w ms 3 x2", "c;x c 10", "c;x c 4", "d c 2"]
    );
    assert_eq!(found("a:1|c|#x:y|@0"), ["!rate a:1|c|#x:y|@0"]);
}

#[test]
fn a_regular_line_borrows_from_the_datagram() {
    let regular = [
        "a:1|c",
        "a.b-c_d;e=f:-1.25|g",
        "a:17|ms|@0.1",
        ":1|c",
        "a:x y|s",
        "a:|s",
        "a:\u{e9}|s",
        "a:1|h",
    ];
    for line in regular {
        let (recorder, tally) = read_with(true, line.as_bytes());
        assert_eq!((recorder.borrowed, tally.accepted), (1, 1), "{line}");
    }
    for line in [
        "a b:1|c",
        "a:1|c|#x",
        "a:1|",
        "a:1|c|@1e-1",
        "a:1|c\r",
        "a:1|c|@0.5|x",
        "a:1e3|c",
        "a:1|c:",
    ] {
        let (recorder, tally) = read_with(true, line.as_bytes());
        assert_eq!((recorder.borrowed, tally.accepted), (0, 1), "{line}");
    }
}

/// Every text of at most `length` letters of `alphabet`.
fn texts(alphabet: &[u8], length: usize) -> Vec<Vec<u8>> {
    let mut texts = vec![Vec::new()];
    let mut shorter = 0;
    for _ in 0..length {
        let longest = shorter..texts.len();
        shorter = texts.len();
        for at in longest {
            let more = alphabet.iter().map(|byte| [&texts[at][..], &[*byte]].concat());
            let more: Vec<_> = more.collect();
            texts.extend(more);
        }
    }
    texts
}

#[test]
fn the_short_cuts_decide_as_the_general_path() {
    let mut scratch = Scratch::new();
    for (is_sanitizing, alphabet, before, length) in [
        (true, &b"a:1|cmsg-.\n@"[..], "", 5),
        (true, b"a:1|cmsg-.\n@", "k:1", 4),
        (true, b":1|cmsg\n", "k:1|ms\nk:12345678", 4),
        // A key that is kept may hold a sign, so that a sign is no stop.
        (false, b":1|g+-.", "", 6),
        (false, b":1|mscg+-.@ \xff", "k:", 4),
    ] {
        let mut parser = LineParser::portable(is_sanitizing);
        for text in texts(alphabet, length) {
            let datagram = [before.as_bytes(), &text].concat();
            // The slack would finish some of the lines.
            for slack in *b"|c" {
                let mut found = Recorder::default();
                parser.datagram(&buffer(&datagram, slack), datagram.len(), &mut found);
                let mut expected = Recorder::default();
                for line in datagram.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let tally = &mut Tally::default();
                    super::general::line(line, is_sanitizing, &mut scratch, &mut expected, tally);
                }
                assert_eq!(found.found, expected.found, "{}", String::from_utf8_lossy(&datagram));
            }
        }
    }
}

#[test]
fn a_line_reads_the_same_at_any_offset_and_length() {
    for offset in 0..130 {
        for length in [1, 30, 55, 56, 57, 58, 59, 60, 61, 120, 121, 122, 190, 4000] {
            let key = "k".repeat(length);
            let (recorder, tally) = read_with(
                true,
                format!("{}\n{key}:12.5|ms|@0.5\n{key}:7|c", "\n".repeat(offset)).as_bytes(),
            );
            assert_eq!(recorder.found, [format!("{key} ms 12.5 x2"), format!("{key} c 7")]);
            assert_eq!((tally.lines, recorder.borrowed), (2, 2));
        }
    }
}

#[test]
fn a_long_line_is_judged_like_a_short_one() {
    let key = "k".repeat(70);
    for (line, expected) in [
        ("K:1|c:2|c", "K c 1,K c 2"),
        ("K:1|c|@0.5|x", "K c 2"),
        ("K!:1|c", "K c 1"),
        ("K|:1|c", "K c 1"),
        ("K", "!syntax K"),
        ("K:1", "!syntax K:1"),
        ("K:1|c|", "!syntax K:1|c|"),
        ("K|c", "!syntax K|c"),
        ("a:K|s", "a s K"),
        ("a:1|K", "a c 1"),
        ("a:1|c|#K", "a;K c 1"),
    ] {
        let line = line.replace('K', &key);
        assert_eq!(found(&line).join(","), expected.replace('K', &key));
    }
}

#[test]
fn the_largest_datagrams_are_read() {
    let key = "k".repeat(DATAGRAM_BYTES_MAX - 4);
    assert_eq!(found(format!("{key}:1|c")), [format!("{key} c 1")]);
    assert_eq!(tally(vec![b'z'; DATAGRAM_BYTES_MAX]), (1, 0, 1));
    assert_eq!(tally(vec![b'\n'; DATAGRAM_BYTES_MAX]), (0, 0, 0));
    assert_eq!(tally("a:1|c\n".repeat(DATAGRAM_BYTES_MAX / 6)), (10_922, 10_922, 0));
}

#[test]
fn a_datagram_of_delimiters_is_counted() {
    let tally = |datagram: &[u8]| {
        let mut parser = LineParser::new(true);
        parser.datagram(&buffer(datagram, 0), datagram.len(), &mut Counter::default())
    };
    assert_eq!(tally(&[b':'; 65_507]), Tally { lines: 1, accepted: 0, rejected: 65_507 });
    assert_eq!(tally(&[b'|'; 65_507]), Tally { lines: 1, accepted: 0, rejected: 1 });
    assert_eq!(tally(&b"|#".repeat(32_000)), Tally { lines: 1, accepted: 0, rejected: 1 });
    assert_eq!(tally(&b"|@".repeat(32_000)), Tally { lines: 1, accepted: 0, rejected: 1 });
}

/// A sink that keeps nothing.
#[derive(Default)]
struct Counter {
    calls: u64,
}

impl<'d> SampleSink<'d> for Counter {
    fn sample(&mut self, _: Sample<'d>) {
        self.calls += 1;
    }

    fn sample_cleaned(&mut self, _: Sample<'_>) {
        self.calls += 1;
    }

    fn reject(&mut self, _: Reason, _: &[u8]) {
        self.calls += 1;
    }
}

#[test]
fn scratch_memory_never_grows() {
    for sanitize in [true, false] {
        let mut parser = LineParser::new(sanitize);
        let before = parser.walk.capacities();
        let mut datagram = vec![0xff; DATAGRAM_BYTES_MAX];
        datagram[DATAGRAM_BYTES_MAX - 4..].copy_from_slice(b":1|c");
        let mut tags = b"a:1|c|#".to_vec();
        tags.resize(DATAGRAM_BYTES_MAX, 0xff);
        let mut member = b"a:".to_vec();
        member.resize(DATAGRAM_BYTES_MAX - 2, 0xff);
        member.extend_from_slice(b"|s");
        for datagram in [datagram, tags, member] {
            let mut sink = Counter::default();
            let tally = parser.datagram(&buffer(&datagram, 0), datagram.len(), &mut sink);
            assert_eq!((tally.accepted, sink.calls), (1, 1));
        }
        assert_eq!(parser.walk.capacities(), before);
    }
}
