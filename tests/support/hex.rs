//! Bytes in hexadecimal, as the golden files have them.

/// The bytes of pairs of digits.
pub(crate) fn bytes(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits in pairs"))
        .collect()
}
