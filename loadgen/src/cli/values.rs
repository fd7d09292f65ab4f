//! Values of options, read from their text.
//!
//! Used by `cli`; every error is one sentence that says what to give.

use std::net::SocketAddr;
use std::time::Duration;

use super::{PackingChoice, Rate};
use crate::sink::Protocol;

const DURATION: &str = "give a whole number with ms, s, m or h";

/// Most distinct names.
const NAMES_MAX: u32 = 10_000_000;

/// Largest UDP payload over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| DURATION.to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3_600))),
        _ => Err(DURATION.to_owned()),
    }
}

pub(super) fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    count(text).map(|rate| Rate(Some(rate))).map_err(|error| format!("{error}, or max"))
}

/// A number of things, at least one: `200000`, `200k`, `20M`.
pub(super) fn count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'M']) {
        Some(digits) if text.ends_with('k') => (digits, 1_000),
        Some(digits) => (digits, 1_000_000),
        None => (text, 1),
    };
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(number) if 0 < number => Ok(number),
        _ => Err("give a number above 0, such as 200000, 200k or 20M".to_owned()),
    }
}

/// A number of lines, which may be none.
pub(super) fn lines(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { count(text) }
}

pub(super) fn names(text: &str) -> Result<u32, String> {
    match u32::try_from(count(text)?) {
        Ok(names) if names <= NAMES_MAX => Ok(names),
        _ => Err(format!("give at most {NAMES_MAX}")),
    }
}

pub(super) fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent),
        _ => Err("give percents from 0 to below 100".to_owned()),
    }
}

pub(super) fn packing(text: &str) -> Result<PackingChoice, String> {
    match text {
        "single" => Ok(PackingChoice::Single),
        "packed" => Ok(PackingChoice::Packed(1_400)),
        _ => {
            let bytes = text.strip_prefix("packed=").and_then(|bytes| bytes.parse().ok());
            match bytes {
                Some(bytes) if bytes <= DATAGRAM_BYTES_MAX => Ok(PackingChoice::Packed(bytes)),
                _ => Err("give single, packed, or packed=BYTES with at most 65507".to_owned()),
            }
        }
    }
}

pub(super) fn key_prefix(text: &str) -> Result<String, String> {
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let is_well_formed = !text.starts_with('.') && !text.ends_with('.') && !text.contains("..");
    if text.is_empty() || 200 < text.len() || !text.chars().all(is_plain) || !is_well_formed {
        return Err("give up to 200 of A-Z a-z 0-9 _ - and inner dots".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn sink(text: &str) -> Result<(Protocol, SocketAddr), String> {
    let (protocol, address) =
        text.split_once('=').ok_or("give text=ADDRESS:PORT or pickle=ADDRESS:PORT")?;
    let protocol = match protocol {
        "text" => Protocol::Text,
        "pickle" => Protocol::Pickle,
        _ => return Err(format!("{protocol:?} is neither text nor pickle")),
    };
    let address = address.parse().map_err(|_| format!("{address:?} is no ADDRESS:PORT"))?;
    Ok((protocol, address))
}

pub(super) fn graphite(text: &str) -> Result<String, String> {
    if text.starts_with("http://") && "http://".len() < text.len() {
        return Ok(text.to_owned());
    }
    Err("give http://HOST:PORT".to_owned())
}
