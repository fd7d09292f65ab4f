//! The parser against a model written from the reference's rules with the strings of `std`
//! (`line_model`). Claimed for any bytes: both find the same samples and rejects in the same order;
//! AVX2 and the portable code agree; the books balance; what lies behind the datagram changes nothing.

use floe_core::line::LineParser;
use floe_core::sample::{Reason, Tally};
use line_model::{Found, model, parse, parse_together};
use proptest::prelude::*;

mod line_model;

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
    fn datagrams_together_are_what_they_are_one_by_one(
        datagrams in prop::collection::vec(datagram(), 0..80),
        sanitize: bool,
        is_portable: bool,
    ) {
        let make = if is_portable { LineParser::portable } else { LineParser::new };
        let mut parser = make(sanitize);
        let (mut found, mut tally) = (Vec::new(), Tally::default());
        for datagram in &datagrams {
            let (more, of_more) = parse(&mut parser, datagram, b'|');
            found.extend(more);
            tally += of_more;
        }
        let datagrams: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(parse_together(&mut parser, &datagrams, b'|'), (found, tally));
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
