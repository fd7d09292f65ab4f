//! The parser against a model written from the reference's rules with the strings of `std`.
//!
//! The model decodes the whole datagram with U+FFFD for what is not UTF-8, and splits and copies at
//! will: it shares no code and no idea with the parser. Claimed for any bytes: both find the same
//! samples and rejects in the same order; AVX2 and the portable code agree; the books balance; what
//! lies behind the datagram changes nothing.

use floe_core::limits::DATAGRAM_SLACK_BYTES;
use floe_core::line::LineParser;
use floe_core::sample::{Reason, Sample, SampleSink, Tally, Value};
use proptest::prelude::*;

/// One call of the sink. Numbers as bits: -0 and 0 are two.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Counter { key: Vec<u8>, value: u64 },
    Timer { key: Vec<u8>, value: u64, weight: u64 },
    Gauge { key: Vec<u8>, value: u64, is_signed: bool },
    Set { key: Vec<u8>, member: Vec<u8> },
    Reject { reason: Reason, line: Vec<u8> },
}

#[derive(Default)]
struct Recorder(Vec<Found>);

impl Recorder {
    fn add(&mut self, sample: Sample<'_>) {
        let key = sample.key.to_vec();
        self.0.push(match sample.value {
            Value::Counter(value) => Found::Counter { key, value: value.to_bits() },
            Value::Timer { value, weight } => {
                Found::Timer { key, value: value.to_bits(), weight: weight.to_bits() }
            }
            Value::Gauge { value, is_signed } => {
                Found::Gauge { key, value: value.to_bits(), is_signed }
            }
            Value::Set(member) => Found::Set { key, member: member.to_vec() },
        });
    }
}

impl<'d> SampleSink<'d> for Recorder {
    fn sample(&mut self, sample: Sample<'d>) {
        self.add(sample);
    }

    fn sample_cleaned(&mut self, sample: Sample<'_>) {
        self.add(sample);
    }

    fn reject(&mut self, reason: Reason, line: &[u8]) {
        self.0.push(Found::Reject { reason, line: line.to_vec() });
    }
}

fn parse(parser: &mut LineParser, datagram: &[u8], slack: u8) -> (Vec<Found>, Tally) {
    let mut buffer = datagram.to_vec();
    buffer.resize(datagram.len() + DATAGRAM_SLACK_BYTES, slack);
    let mut recorder = Recorder::default();
    let tally = parser.datagram(&buffer, datagram.len(), &mut recorder);
    (recorder.0, tally)
}

// The model.

fn is_white_space(character: char) -> bool {
    "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}"
        .contains(character)
        || ('\u{2000}'..='\u{200a}').contains(&character)
}

/// `Number(text)`; `None` for NaN.
fn number(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_white_space);
    if text.is_empty() {
        return Some(0.0);
    }
    let lower = text.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            let mut value = 0_u128;
            for digit in digits.chars() {
                // Wide enough for the digits that the inputs here have.
                value = value * u128::from(radix) + u128::from(digit.to_digit(radix)?);
            }
            return (!digits.is_empty()).then_some(value as f64);
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_infinite = unsigned == "Infinity";
    if !is_infinite && !unsigned.chars().all(|c| c.is_ascii_digit() || ".eE+-".contains(c)) {
        return None;
    }
    text.parse().ok()
}

fn rate(text: &str) -> Result<f64, Reason> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(Reason::Rate);
    }
    match number(text) {
        Some(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err(Reason::Rate),
    }
}

fn clean(key: &str) -> String {
    let mut spaced = String::new();
    for piece in key.chars() {
        if !is_white_space(piece) {
            spaced.push(piece);
        } else if !spaced.ends_with('\t') {
            spaced.push('\t');
        }
    }
    let is_kept = |c: &char| c.is_ascii_alphanumeric() || "_-.;=".contains(*c);
    spaced.replace('\t', "_").replace('/', "-").chars().filter(is_kept).collect()
}

fn judge(key: &str, text: &str, rate_behind_tags: Option<&str>) -> Result<Found, Reason> {
    let key = key.as_bytes().to_vec();
    let fields: Vec<&str> = text.split('|').collect();
    let (first, kind) = (fields[0], *fields.get(1).ok_or(Reason::Syntax)?);
    let weight = match (fields.get(2), rate_behind_tags) {
        (None, None) => 1.0,
        (None, Some(text)) => 1.0 / rate(text)?,
        (Some(field), _) => 1.0 / rate(field.strip_prefix('@').ok_or(Reason::Syntax)?)?,
    };
    let set = |member: &str| {
        let member = if member.is_empty() { "0" } else { member };
        Ok(Found::Set { key: key.clone(), member: member.as_bytes().to_vec() })
    };
    if kind == "s" {
        return set(first);
    }
    if first.is_empty() {
        return Err(Reason::Syntax);
    }
    let value = number(first).ok_or(Reason::Value)?;
    let kind = kind.trim_matches(is_white_space);
    if kind == "s" {
        return set(first);
    }
    if !value.is_finite() {
        return Err(Reason::NotFinite);
    }
    match kind {
        "ms" if value < 0.0 => Err(Reason::Value),
        "ms" if weight.is_infinite() => Err(Reason::NotFinite),
        "ms" => Ok(Found::Timer { key, value: value.to_bits(), weight: weight.to_bits() }),
        "g" => {
            let is_signed = first.starts_with(['+', '-']);
            Ok(Found::Gauge { key, value: value.to_bits(), is_signed })
        }
        _ if (value * weight).is_finite() => {
            Ok(Found::Counter { key, value: (value * weight).to_bits() })
        }
        _ => Err(Reason::NotFinite),
    }
}

fn model(sanitize: bool, datagram: &[u8]) -> (Vec<Found>, Tally) {
    let mut found = Vec::new();
    let mut tally = Tally::default();
    let text = String::from_utf8_lossy(datagram);
    let raw_lines = datagram.split(|byte| *byte == b'\n');
    for (line, raw_line) in text.split('\n').zip(raw_lines).filter(|(line, _)| !line.is_empty()) {
        tally.lines += 1;
        let mut pieces = line.split("|#");
        let mut body = pieces.next().expect("a split has a first piece").split(':');
        let mut tags = pieces.next().unwrap_or("");
        let mut rate_behind_tags = None;
        if let Some((before, behind)) = tags.split_once("|@") {
            tags = before;
            rate_behind_tags = behind.split('|').next();
        }
        let mut key = body.next().expect("a split has a first piece").to_owned();
        if !tags.is_empty() {
            for tag in tags.split(',') {
                key += ";";
                key += &tag.replacen(';', "_", 1).replacen(':', "=", 1);
            }
        }
        if sanitize {
            key = clean(&key);
        }
        let values: Vec<&str> = body.collect();
        for value in if values.is_empty() { &["1"][..] } else { &values[..] } {
            match judge(&key, value, rate_behind_tags) {
                Ok(sample) => {
                    tally.accepted += 1;
                    found.push(sample);
                }
                Err(reason) => {
                    tally.rejected += 1;
                    found.push(Found::Reject { reason, line: raw_line.to_vec() });
                }
            }
        }
    }
    (found, tally)
}

// Inputs.

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-zA-Z0-9_.;=-]{0,12}".prop_map(String::into_bytes),
        1 => "[a-z.]{40,90}".prop_map(String::into_bytes),
        1 => "[a-z \t/!é\u{a0}\u{2003}\u{feff}]{0,10}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..10),
    ]
}

fn number_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[+-]?[0-9]{1,6}",
        4 => "[+-]?[0-9]{0,8}\\.?[0-9]{0,8}",
        2 => "[+-]?[0-9]{1,25}(\\.[0-9]{0,25})?([eE][+-]?[0-9]{1,3})?",
        1 => "0[xXoObB][0-9a-gA-F]{0,20}",
        1 => "[ \t\r\u{a0}\u{3000}]{0,2}-?[0-9]{0,3}[ \r\u{2029}]{0,2}",
        1 => "[+-]?(Infinity|inf|nan|NaN|1e400|-|\\.)",
        1 => "[0-9+.eExX_ -]{0,8}",
    ]
}

fn value() -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        8 => Just("c"), 4 => Just("ms"), 4 => Just("g"), 4 => Just("s"),
        1 => Just(""), 1 => Just("h"), 1 => Just("c\r"), 1 => Just("s\r"), 1 => Just(" ms "),
    ];
    let rate = prop_oneof![
        6 => Just(String::new()),
        3 => "\\|@0?\\.[0-9]{1,3}",
        1 => number_text().prop_map(|text| format!("|@{text}")),
        1 => "\\|[@0-9x|]{0,6}",
    ];
    let member = "[a-z0-9 /é\u{fffd}]{0,8}";
    (prop_oneof![6 => number_text(), 1 => member], kind, rate)
        .prop_map(|(number, kind, rate)| format!("{number}|{kind}{rate}"))
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop_oneof![
        5 => Just(String::new()),
        2 => "\\|#[a-z:;,/ ]{0,12}",
        1 => ("\\|#[a-z:,|]{0,6}", number_text()).prop_map(|(tags, rate)| format!("{tags}|@{rate}")),
        1 => "[|#@:\r ]{0,4}",
    ];
    (key(), prop::collection::vec(value(), 1..3), tail).prop_map(|(mut line, values, tail)| {
        for value in values {
            line.push(b':');
            line.extend_from_slice(value.as_bytes());
        }
        line.extend_from_slice(tail.as_bytes());
        line
    })
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        6 => prop::sample::select(b"\n:|#@,;c".to_vec()),
        4 => prop::sample::select(b"msg0123456789.+-e \r".to_vec()),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..300)
}

fn datagram() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(line(), 0..8).prop_map(|lines| lines.join(&b'\n')),
        2 => soup(),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_datagram_reads_as_the_model_says(
        datagrams in prop::collection::vec(datagram(), 1..8),
        sanitize: bool,
    ) {
        let mut parser = LineParser::new(sanitize);
        for datagram in datagrams {
            prop_assert_eq!(parse(&mut parser, &datagram, 0), model(sanitize, &datagram));
        }
    }

    #[test]
    fn both_mask_implementations_agree(
        datagrams in prop::collection::vec(datagram(), 1..8),
        sanitize: bool,
    ) {
        let mut detected = LineParser::new(sanitize);
        let mut portable = LineParser::portable(sanitize);
        for datagram in datagrams {
            prop_assert_eq!(
                parse(&mut detected, &datagram, 0),
                parse(&mut portable, &datagram, 0)
            );
        }
    }

    #[test]
    fn any_value_is_accounted_for(datagram in datagram(), sanitize: bool) {
        let (found, tally) = parse(&mut LineParser::new(sanitize), &datagram, 0);
        let rejected = found.iter().filter(|one| matches!(one, Found::Reject { .. })).count();
        prop_assert_eq!(tally.rejected, rejected as u64);
        prop_assert_eq!(tally.accepted, (found.len() - rejected) as u64);
        prop_assert!(tally.lines <= tally.accepted + tally.rejected);
    }

    #[test]
    fn each_line_has_one_key_and_its_samples_have_the_same(datagram in datagram(), sanitize: bool) {
        let mut parser = LineParser::new(sanitize);
        let mut keys = Vec::new();
        parser.keys(&datagram, |key| keys.push(key.to_vec()));
        let lines = datagram.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        prop_assert_eq!(keys.len(), lines.clone().count());
        for (line, expected) in lines.zip(&keys) {
            for found in parse(&mut parser, line, 0).0 {
                match found {
                    Found::Counter { key, .. }
                    | Found::Timer { key, .. }
                    | Found::Gauge { key, .. }
                    | Found::Set { key, .. } => prop_assert_eq!(&key, expected),
                    Found::Reject { .. } => {}
                }
            }
        }
    }

    #[test]
    fn the_slack_changes_nothing(datagram in datagram(), slack: u8) {
        for mut parser in [LineParser::new(true), LineParser::portable(true)] {
            let plain = parse(&mut parser, &datagram, 0);
            for slack in [slack, b':', b'|', b'\n', b'7'] {
                prop_assert_eq!(&parse(&mut parser, &datagram, slack), &plain);
            }
        }
    }

    #[test]
    fn a_decimal_number_is_correctly_rounded(
        text in "[+-]?([0-9]{1,20}(\\.[0-9]{0,20})?|\\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?",
    ) {
        let expected: f64 = text.parse().unwrap();
        let line = format!("a:{text}|c").into_bytes();
        let (found, _) = parse(&mut LineParser::new(true), &line, 0);
        prop_assert_eq!(found, vec![if expected.is_finite() {
            Found::Counter { key: b"a".to_vec(), value: expected.to_bits() }
        } else {
            Found::Reject { reason: Reason::NotFinite, line }
        }]);
    }
}
