//! A reader of datagrams that is slow and plain, and what the parser is compared with it by.
//!
//! Written from the reference's rules with the strings of `std`: it decodes the whole datagram with
//! U+FFFD for what is not UTF-8, and splits and copies at will. It shares no code and no idea with the
//! parser. The property tests of this crate and the fuzzer read by it.

use floe_core::limits::DATAGRAM_SLACK_BYTES;
use floe_core::line::{Datagram, LineParser};
use floe_core::sample::{Reason, Sample, SampleSink, Tally, Value};

/// One call of the sink. Numbers as bits: -0 and 0 are two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Counter { key: Vec<u8>, value: u64 },
    Timer { key: Vec<u8>, value: u64, weight: u64 },
    Gauge { key: Vec<u8>, value: u64, is_signed: bool },
    Set { key: Vec<u8>, member: Vec<u8> },
    Reject { reason: Reason, line: Vec<u8> },
}

#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Vec<Found>);

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

/// What the parser finds in `datagram`, with `slack` behind it.
pub(crate) fn parse(parser: &mut LineParser, datagram: &[u8], slack: u8) -> (Vec<Found>, Tally) {
    parse_together(parser, &[datagram], slack)
}

/// The same of datagrams that are handed over at once.
pub(crate) fn parse_together(
    parser: &mut LineParser,
    datagrams: &[&[u8]],
    slack: u8,
) -> (Vec<Found>, Tally) {
    let with_slack =
        |datagram: &&[u8]| [*datagram, [slack; DATAGRAM_SLACK_BYTES].as_slice()].concat();
    let buffers: Vec<Vec<u8>> = datagrams.iter().map(with_slack).collect();
    let datagrams: Vec<Datagram<'_>> = buffers
        .iter()
        .map(|buffer| Datagram { buffer, len: buffer.len() - DATAGRAM_SLACK_BYTES })
        .collect();
    let mut recorder = Recorder::default();
    let tally = parser.datagrams(&datagrams, &mut recorder);
    (recorder.0, tally)
}

fn is_white_space(character: char) -> bool {
    "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}"
        .contains(character)
        || ('\u{2000}'..='\u{200a}').contains(&character)
}

/// The number that digits of a power of two make, correctly rounded: what does not fit into 120 bits
/// matters only as zero or not.
fn whole(digits: &[u32], radix: u32) -> f64 {
    let (mut value, mut scale) = (0_u128, 1.0_f64);
    for digit in digits {
        if value < 1 << 120 {
            value = value * u128::from(radix) + u128::from(*digit);
        } else {
            value |= u128::from(*digit != 0);
            scale *= f64::from(radix);
        }
    }
    value as f64 * scale
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
            let digits: Option<Vec<u32>> =
                digits.chars().map(|digit| digit.to_digit(radix)).collect();
            return digits.filter(|digits| !digits.is_empty()).map(|digits| whole(&digits, radix));
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

/// What a datagram holds.
pub(crate) fn model(sanitize: bool, datagram: &[u8]) -> (Vec<Found>, Tally) {
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
