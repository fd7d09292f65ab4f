//! Durations, sizes and CPU lists as text: `6h`, `1GiB`, `0-3,5`.
//!
//! Shared by the keys of our own configuration and by the command line, so that both take the same
//! forms. Amounts are whole numbers: `90m` instead of `1.5h`.

use std::fmt::Write as _;

/// Highest CPU number a list may name: the kernel's mask of the usual size ends there.
const CPU_MAX: usize = 1_023;

const MILLISECONDS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const BYTES: [(&str, u64); 11] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Milliseconds of a duration with its unit: `500ms`, `30s`, `5m`, `6h`, `7d`.
#[must_use]
pub fn duration_ms(text: &str) -> Option<u64> {
    amount(text, &MILLISECONDS)
}

/// Bytes of a size: `4096`, `512KiB`, `64MiB`, `1GiB`, `1GB`.
#[must_use]
pub fn size_bytes(text: &str) -> Option<u64> {
    amount(text, &BYTES)
}

/// CPU numbers of a list: `0-3,5` gives 0, 1, 2, 3, 5, in the order given.
#[must_use]
pub fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (cpu(first)?, cpu(last)?);
        if last < first || CPU_MAX < cpus.len() {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// A duration as [`duration_ms`] reads it, in its largest whole unit.
#[must_use]
pub fn duration_text(duration_ms: u64) -> String {
    text_of(duration_ms, &MILLISECONDS)
}

/// A size as [`size_bytes`] reads it, in its largest whole binary unit.
#[must_use]
pub fn size_text(size_bytes: u64) -> String {
    text_of(size_bytes, &BYTES[1..6])
}

fn cpu(text: &str) -> Option<usize> {
    let text = text.trim();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|cpu| *cpu <= CPU_MAX)
}

fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = text[digits..].trim_start();
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    text[..digits].parse::<u64>().ok()?.checked_mul(factor)
}

fn text_of(amount: u64, units: &[(&str, u64)]) -> String {
    let fitting =
        units.iter().rev().find(|(_, factor)| amount != 0 && amount.is_multiple_of(*factor));
    let (name, factor) = fitting.unwrap_or(&units[0]);
    let mut text = String::new();
    write!(text, "{}{name}", amount / factor).expect("writing into a String cannot fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration_ms("500ms"), Some(500));
        assert_eq!(duration_ms("30s"), Some(30_000));
        assert_eq!(duration_ms("5m"), Some(300_000));
        assert_eq!(duration_ms(" 6 h "), Some(21_600_000));
        assert_eq!(duration_ms("7d"), Some(604_800_000));
        for text in ["6", "", "h", "-1s", "1.5h", "6H", "1h30m", "99999999999999999999s"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
        assert_eq!(duration_ms("18446744073709551615s"), None);
    }

    #[test]
    fn sizes_tell_binary_from_decimal_units() {
        assert_eq!(size_bytes("4096"), Some(4_096));
        assert_eq!(size_bytes("512KiB"), Some(524_288));
        assert_eq!(size_bytes("64 MiB"), Some(64 << 20));
        assert_eq!(size_bytes("1GiB"), Some(1 << 30));
        assert_eq!(size_bytes("1GB"), Some(1_000_000_000));
        for text in ["", "GiB", "1gib", "1.5GiB", "-1", "99999999TiB"] {
            assert_eq!(size_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn cpu_lists_keep_their_order() {
        assert_eq!(cpu_list("0-3,5"), Some(vec![0, 1, 2, 3, 5]));
        assert_eq!(cpu_list("7, 2"), Some(vec![7, 2]));
        for text in ["", "a", "3-1", "1-", "-1", "0-1024", "1,,2", "+1"] {
            assert_eq!(cpu_list(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_print_as_they_are_read() {
        for text in ["0ms", "1ms", "1500ms", "90s", "6h", "7d"] {
            assert_eq!(duration_text(duration_ms(text).unwrap()), text);
        }
        for text in ["0B", "1000B", "512KiB", "1GiB", "3TiB"] {
            assert_eq!(size_text(size_bytes(text).unwrap()), text);
        }
    }
}
