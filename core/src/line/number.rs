//! Numbers as the reference daemon reads them.
//!
//! Used by the regular path ([`short_at`]) and by the general one ([`parse`]). Almost every number on
//! the wire has a few digits and at most one dot: its digits fit exactly into a double, so does the
//! power of ten behind the dot, and one division of the two is correctly rounded. Everything else
//! is checked against the grammar here and only then given to `fast-float2`, which would accept
//! more (`inf`, `nan`).
//!
//! Not done here: what a value must be beyond being a number.

use super::white_space;

/// Digits that always fit exactly into a double: 10^15 < 2^53.
const DIGITS_EXACT: usize = 15;

/// Powers of ten up to the number of digits behind a dot that [`short`] can meet; each is exact.
const POWERS_OF_TEN: [f64; DIGITS_EXACT + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Reads the short number in `buffer[start..end]`, correctly rounded: the same as [`short`] of it.
///
/// Eight bytes are read at once where so many follow `start`; those behind `end` change nothing.
// Always inline, with `in_word`: there are two callers, and the call costs 1 ns per line.
#[inline(always)]
pub(super) fn short_at(buffer: &[u8], start: usize, end: usize) -> Option<f64> {
    let text = buffer.get(start..end)?;
    match buffer.get(start..).and_then(<[_]>::first_chunk) {
        Some(word) if text.len() <= 8 => in_word(u64::from_le_bytes(*word), text.len()),
        _ => short(text),
    }
}

const fn splat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Reads a sign, digits and at most one dot in the lowest `count` bytes, at most 8, of `word`.
#[inline(always)]
fn in_word(word: u64, count: usize) -> Option<f64> {
    let sign = word.to_le_bytes()[0];
    let sign_bytes = usize::from(count != 0 && (sign == b'-' || sign == b'+'));
    let mut word = word >> (8 * sign_bytes);
    let mut count = count - sign_bytes;
    if count == 0 {
        return None;
    }
    // The highest bit of each byte that is a dot, exact up to the first one.
    let other = word ^ splat(b'.');
    let dots = other.wrapping_sub(splat(1)) & !other & splat(0x80) & (!0 >> (64 - 8 * count));
    let mut fraction_digits = 0;
    if dots != 0 {
        let dot_bits = dots.trailing_zeros() - 7;
        let before = (1 << dot_bits) - 1;
        word = word & before | word >> 8 & !before;
        count -= 1;
        fraction_digits = count - dot_bits as usize / 8;
        if count == 0 {
            return None;
        }
    }
    // Eight digits with zeros in front: what lies behind the number leaves at the top.
    let digits = (word ^ splat(b'0')) << (64 - 8 * count);
    if (digits | digits.wrapping_add(splat(0x80 - 10))) & splat(0x80) != 0 {
        return None;
    }
    let mut value = f64::from(eight_digits(digits));
    if fraction_digits != 0 {
        value /= POWERS_OF_TEN.get(fraction_digits)?;
    }
    Some(if sign == b'-' { -value } else { value })
}

/// The number that eight digits make, the lowest byte being the first: pairs, then fours, then all.
#[inline]
const fn eight_digits(digits: u64) -> u32 {
    let pairs = (digits.wrapping_mul(10).wrapping_add(digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let all = fours.wrapping_mul(10_000).wrapping_add(fours >> 32);
    let [a, b, c, d, ..] = all.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Reads a sign, at most 15 digits and at most one dot, correctly rounded.
///
/// `None` says nothing about the text: [`parse`] decides.
#[inline]
pub(super) fn short(text: &[u8]) -> Option<f64> {
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if DIGITS_EXACT + 1 < digits.len() {
        return None;
    }
    let mut mantissa = 0_u64;
    let mut dot = None;
    for (at, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa * 10 + u64::from(digit);
        } else if *byte == b'.' && dot.is_none() {
            dot = Some(at);
        } else {
            return None;
        }
    }
    let count = digits.len() - usize::from(dot.is_some());
    if count == 0 || DIGITS_EXACT < count {
        return None;
    }
    // Exact: below 10^15. Signed, for that conversion is one instruction.
    let mut value = mantissa.cast_signed() as f64;
    if let Some(dot) = dot {
        value /= POWERS_OF_TEN.get(count - dot)?;
    }
    Some(if is_negative { -value } else { value })
}

/// Reads a number as JavaScript's `Number` does, with white space at both ends; `None` = not one.
///
/// Decimal with sign, dot and exponent; `Infinity` with sign; `0x`, `0o`, `0b` in any case and
/// without sign. White space alone is 0. The caller refuses empty text, which is 0 there as well.
/// # Source
/// reference/statsd-behaviour.md 3.6.
pub(super) fn parse(text: &[u8]) -> Option<f64> {
    if let Some(value) = short(text) {
        return Some(value);
    }
    match white_space::trim(text) {
        [] => Some(0.0),
        [b'0', b'x' | b'X', digits @ ..] => power_of_two_radix(digits, 4),
        [b'0', b'o' | b'O', digits @ ..] => power_of_two_radix(digits, 3),
        [b'0', b'b' | b'B', digits @ ..] => power_of_two_radix(digits, 1),
        [b'-', rest @ ..] => unsigned(rest).map(|value| -value),
        [b'+', rest @ ..] => unsigned(rest),
        rest => unsigned(rest),
    }
}

/// A decimal number or `Infinity`, without sign.
fn unsigned(text: &[u8]) -> Option<f64> {
    if text == b"Infinity" {
        return Some(f64::INFINITY);
    }
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => split_digits(rest),
        _ => (&[][..], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let is_complete = match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => {
            !exponent.is_empty() && exponent.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    if !is_complete {
        return None;
    }
    fast_float2::parse(text).ok()
}

/// `text` as its leading decimal digits and the rest.
fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at(count)
}

/// Digits of `bits` bits each, correctly rounded, infinite where a double ends.
fn power_of_two_radix(digits: &[u8], bits: u32) -> Option<f64> {
    if digits.is_empty() {
        return None;
    }
    let mut mantissa = 0_u64;
    let mut exponent = 0_i32;
    for byte in digits {
        let digit = char::from(*byte).to_digit(1 << bits)?;
        if mantissa < 1 << 60 {
            mantissa = mantissa << bits | u64::from(digit);
        } else {
            // 61 bits and more are held, 53 count: of the rest it matters only whether all are 0.
            mantissa |= u64::from(digit != 0);
            exponent = exponent.saturating_add(bits.cast_signed());
        }
    }
    Some(mantissa as f64 * 2_f64.powi(exponent))
}

#[cfg(test)]
mod tests {
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
                for behind in [
                    &b"|c......"[..],
                    b"12345678",
                    b"........",
                    b"\xff\xff\xff\xff\xff\xff\xff\xff",
                ] {
                    let buffer = [b":", &text[..], behind].concat();
                    let found = short_at(&buffer, 1, 1 + text.len());
                    assert_eq!(found.map(f64::to_bits), expected, "{text:?}");
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
}
