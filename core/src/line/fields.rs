//! One value of a line: its fields become a [`Value`] or a [`Reason`].
//!
//! Last stage of the general path, and the judge of both: the regular path uses the same
//! [`counter`] and [`timer`], and leaves every value that it would refuse to this module.

use super::{number, white_space};
use crate::sample::{Kind, Reason, Value};

/// Reads `number|type|@rate|ignored`.
///
/// `rate_behind_tags` counts for a value that has no rate of its own. A set value is returned as it
/// stands on the wire: empty and invalid UTF-8 are the caller's.
///
/// # Source
/// docs/references.md S3.
pub(super) fn value<'d>(
    text: &'d [u8],
    rate_behind_tags: Option<Result<f64, Reason>>,
) -> Result<Value<'d>, Reason> {
    let mut fields = text.split(|byte| *byte == b'|');
    let first = fields.next().unwrap_or_default();
    let type_text = fields.next().ok_or(Reason::Syntax)?;
    let weight = match fields.next() {
        None => rate_behind_tags.unwrap_or(Ok(1.0))?,
        Some([b'@', rate @ ..]) => weight(rate)?,
        Some(_) => return Err(Reason::Syntax),
    };
    // The reference checks a set by its untrimmed type: with white space there, as before a CRLF,
    // its value has to be a number like any other.
    if type_text == b"s" {
        return Ok(Value::Set(first));
    }
    if first.is_empty() {
        return Err(Reason::Syntax);
    }
    let number = number::parse(first).ok_or(Reason::Value)?;
    let kind = match white_space::trim(type_text) {
        b"ms" => Kind::Timer,
        b"g" => Kind::Gauge,
        b"s" => Kind::Set,
        _ => Kind::Counter,
    };
    if kind == Kind::Set {
        return Ok(Value::Set(first));
    }
    if !number.is_finite() {
        return Err(Reason::NotFinite);
    }
    match kind {
        Kind::Timer => timer(number, weight),
        Kind::Gauge => Ok(gauge(first, number)),
        Kind::Counter | Kind::Set => counter(number, weight),
    }
}

/// The weight that the text of a rate, without its `@`, gives: `1 / rate`.
///
/// The text must begin with a digit or a dot: the reference dies of numbers that do not.
pub(super) fn weight(text: &[u8]) -> Result<f64, Reason> {
    if !matches!(text, [b'0'..=b'9' | b'.', ..]) {
        return Err(Reason::Rate);
    }
    number::parse(text).and_then(reciprocal).ok_or(Reason::Rate)
}

/// `1 / rate` of a rate that one can be sampled at.
#[inline]
pub(super) fn reciprocal(rate: f64) -> Option<f64> {
    (0.0 < rate && rate.is_finite()).then(|| 1.0 / rate)
}

/// A counter of `number` events, each standing for `weight`.
#[inline]
pub(super) fn counter<'d>(number: f64, weight: f64) -> Result<Value<'d>, Reason> {
    let value = number * weight;
    if value.is_finite() { Ok(Value::Counter(value)) } else { Err(Reason::NotFinite) }
}

/// A time; below 0 is refused, -0 is not.
#[inline]
pub(super) fn timer<'d>(value: f64, weight: f64) -> Result<Value<'d>, Reason> {
    if value < 0.0 {
        Err(Reason::Value)
    } else if weight.is_finite() {
        Ok(Value::Timer { value, weight })
    } else {
        Err(Reason::NotFinite)
    }
}

/// A gauge operation: a change if the text of the number begins with a sign.
#[inline]
pub(super) fn gauge<'d>(text: &[u8], value: f64) -> Value<'d> {
    Value::Gauge { value, is_signed: matches!(text, [b'+' | b'-', ..]) }
}

#[cfg(test)]
mod tests;
