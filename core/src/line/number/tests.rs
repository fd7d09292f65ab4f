//! Texts that are numbers and texts that are none, by each way of reading them.

use super::*;

#[test]
fn decimal_numbers_are_read() {
    for (text, value) in [
        ("0", 0.0),
        ("-0", -0.0),
        ("007", 7.0),
        ("+4", 4.0),
        ("-9.5", -9.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("+.5", 0.5),
        ("-5.", -5.0),
        ("0.1", 0.1),
        ("1e3", 1e3),
        ("1E+3", 1e3),
        ("1.5e-7", 1.5e-7),
        (".5e1", 5.0),
        ("5.e1", 50.0),
        ("1e021", 1e21),
        ("999999999999999", 999_999_999_999_999.0),
        ("123456789.123456", 123_456_789.123_456),
        ("9007199254740993", 9_007_199_254_740_992.0),
        ("0.30000000000000004", 0.300_000_000_000_000_04),
        ("1.7976931348623157e308", f64::MAX),
        ("1e400", f64::INFINITY),
        ("-1e400", f64::NEG_INFINITY),
        ("1e-400", 0.0),
        ("1e99999999999999999999", f64::INFINITY),
        ("0e99999999999999999999", 0.0),
        ("1e-99999999999999999999", 0.0),
    ] {
        let found = parse(text.as_bytes()).map(f64::to_bits);
        assert_eq!(found, Some(value.to_bits()), "{text}");
    }
}

#[test]
fn infinity_is_a_number_by_its_one_name() {
    assert_eq!(parse(b"Infinity"), Some(f64::INFINITY));
    assert_eq!(parse(b"+Infinity"), Some(f64::INFINITY));
    assert_eq!(parse(b"-Infinity\r"), Some(f64::NEG_INFINITY));
}

#[test]
fn hexadecimal_octal_and_binary_numbers_are_read() {
    for (text, value) in [
        ("0x10", 16.0),
        ("0b101", 5.0),
        ("0o17", 15.0),
        ("0XfF", 255.0),
        ("0B1", 1.0),
        ("0O7", 7.0),
        (" 0x1F ", 31.0),
        ("0x000000000000000000000001", 1.0),
        ("0x20000000000001", 9_007_199_254_740_992.0),
        ("0x20000000000003", 9_007_199_254_740_996.0),
        ("0x1000000000000080000000000", 2_f64.powi(96)),
        ("0x1000000000000080000000001", 2_f64.powi(96) + 2_f64.powi(44)),
    ] {
        assert_eq!(parse(text.as_bytes()), Some(value), "{text}");
    }
    let long = [b"0x".as_slice(), &[b'f'; 300]].concat();
    assert_eq!(parse(&long), Some(f64::INFINITY));
}

#[test]
fn white_space_is_trimmed_and_alone_is_zero() {
    for text in [" 5", "5 ", "\t5\r", "\u{a0}5\u{2003}", "\u{feff}5", "\u{3000}5\u{2029}"] {
        assert_eq!(parse(text.as_bytes()), Some(5.0), "{text:?}");
    }
    for text in [" ", "\r", "\u{a0}\u{feff}"] {
        assert_eq!(parse(text.as_bytes()), Some(0.0), "{text:?}");
    }
}

#[test]
fn other_texts_are_not_numbers() {
    for text in [
        "inf",
        "+inf",
        "-inf",
        "INF",
        "infinity",
        "INFINITY",
        "nan",
        "NaN",
        "-nan",
        "1_000",
        "1,5",
        "1x",
        "--1",
        "+-1",
        "+",
        "-",
        ".",
        "+.",
        "1e",
        "1e+",
        "e5",
        ".e5",
        "1e5.5",
        "1.2.3",
        "1..2",
        "0x",
        "0b",
        "0o",
        "0x1g",
        "0b2",
        "0o8",
        "-0x10",
        "+0x1",
        "0x-1",
        "0x1.8",
        "1 2",
        "- 5",
        "1f",
        "true",
        "null",
        "1\u{fffd}",
        "١",
        "1e1e1",
        "Infinity1",
        "x0x1",
        "1\0",
    ] {
        assert_eq!(parse(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(parse(b"1\xff"), None);
    assert_eq!(parse(b"\xc2"), None);
}

#[test]
fn a_word_is_read_like_the_text_in_it() {
    let alphabet = b"0159.+-e/:";
    let mut texts = vec![Vec::new()];
    for length in 0..=4 {
        for text in texts.clone().into_iter().filter(|text| text.len() == length) {
            let expected = short(&text).map(f64::to_bits);
            for behind in
                [&b"|c......"[..], b"12345678", b"........", b"\xff\xff\xff\xff\xff\xff\xff\xff"]
            {
                let buffer = [b":", &text[..], behind].concat();
                let found = short_at(&buffer, 1, 1 + text.len());
                assert_eq!(found.map(f64::to_bits), expected, "{text:?}");
                let digits = text.iter().all(u8::is_ascii_digit).then_some(expected).flatten();
                let found = digits_at(&buffer, 1, 1 + text.len());
                assert_eq!(found.map(f64::to_bits), digits, "{text:?}");
            }
            texts.extend(alphabet.iter().map(|byte| [&text[..], &[*byte]].concat()));
        }
    }
    for text in [
        "12345678",
        "-1234567",
        "1234.567",
        "-12.3456",
        "1234567.",
        ".1234567",
        "123456789",
        "-12345678",
        "1234567890.12345",
        "1.2.3",
        "12345/78",
        "1234:678",
        "-......1",
    ] {
        let buffer = [text.as_bytes(), b"|c\0\0\0\0\0\0"].concat();
        assert_eq!(short_at(&buffer, 0, text.len()), short(text.as_bytes()), "{text}");
        assert_eq!(short_at(text.as_bytes(), 0, text.len()), short(text.as_bytes()), "{text}");
        let digits = text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_digit());
        assert_eq!(digits_at(&buffer, 0, text.len()).is_some(), digits, "{text}");
    }
}

#[test]
fn the_short_way_leaves_what_it_cannot_hold_exactly() {
    assert_eq!(short(b"1234567890123456"), None);
    assert_eq!(short(b"0.123456789012345"), None);
    assert_eq!(short(b"123456789012.345"), Some(123_456_789_012.345));
    assert_eq!(short(b""), None);
    assert_eq!(short(b"1e3"), None);
}
