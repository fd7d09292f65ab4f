//! Numbers as the reference daemon reads them.
//!
//! Used by the regular path (`short_at`) and by the general one (`parse`). Almost every number on
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

/// Reads one to eight digits in `buffer[start..end]`; `None` says nothing about the text.
///
/// Eight bytes are read at once; those behind `end` change nothing.
// Always inline: the call costs 1 ns per line.
#[inline(always)]
pub(super) fn digits_at(buffer: &[u8], start: usize, end: usize) -> Option<f64> {
    let count = end.wrapping_sub(start);
    let word = u64::from_le_bytes(*buffer.get(start..)?.first_chunk()?);
    if 8 <= count.wrapping_sub(1) {
        return None;
    }
    let digits = digits_at_the_top(word, count);
    are_digits(digits).then(|| eight_digits(digits).into())
}

/// Reads the short number in `buffer[start..end]`, correctly rounded: the same as [`short`] of it.
///
/// Eight bytes are read at once where so many follow `start`; those behind `end` change nothing.
#[inline]
pub(super) fn short_at(buffer: &[u8], start: usize, end: usize) -> Option<f64> {
    let count = end - start;
    let word = buffer.get(start..).and_then(<[_]>::first_chunk);
    match word.map(|word| u64::from_le_bytes(*word)) {
        Some(word) if count.wrapping_sub(1) < 8 => in_word(word, count),
        _ => short(buffer.get(start..end)?),
    }
}

const fn splat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Values of eight digits with zeros in front: those of the lowest `count` bytes, 1 to 8, of `word`.
#[inline(always)]
const fn digits_at_the_top(word: u64, count: usize) -> u64 {
    (word ^ splat(b'0')) << (64 - 8 * count)
}

/// Whether each byte is the value of a digit.
#[inline(always)]
const fn are_digits(values: u64) -> bool {
    (values | values.wrapping_add(splat(0x80 - 10))) & splat(0x80) == 0
}

/// Reads a sign, digits and at most one dot in the lowest `count` bytes, 1 to 8, of `word`.
#[inline]
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
    // What lies behind the number leaves at the top.
    let digits = digits_at_the_top(word, count);
    if !are_digits(digits) {
        return None;
    }
    let mut value = f64::from(eight_digits(digits));
    if fraction_digits != 0 {
        value /= POWERS_OF_TEN.get(fraction_digits)?;
    }
    Some(if sign == b'-' { -value } else { value })
}

/// The number that eight digits make, the lowest byte being the first: pairs, then fours, then all.
///
/// Each multiplication puts ten (a hundred, ten thousand) times the earlier half onto the later one.
#[inline(always)]
const fn eight_digits(digits: u64) -> u32 {
    let pairs = digits.wrapping_mul(10 << 8 | 1) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000 << 32 | 1) >> 32) as u32
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
/// docs/references.md S3.
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
mod tests;
