//! A configuration as plain data: what the two readers make and the walker takes apart.
//!
//! One tree for `config.js` and TOML, so that each key is read by one piece of code. Every value keeps
//! the line it stands in. All numbers are `f64`, as in JavaScript: whole ones are exact below 2^53.

use indexmap::IndexMap;

use crate::number_text::push_number;

/// Longest excerpt of a value in a message, characters.
const EXCERPT_CHARS_MAX: usize = 60;

/// The keys of a table in the order of the file.
pub(super) type Nodes = IndexMap<String, Node>;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `null`, or an expression without a value: counts as not given.
    Null,
    /// `true`, `false`.
    Flag(bool),
    /// Any number.
    Number(f64),
    /// A string.
    Text(String),
    /// A date of TOML, which no key takes.
    Date(String),
    /// `[...]`.
    List(Vec<Node>),
    /// `{...}` or `[table]`.
    Table(Nodes),
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// The value.
    pub(super) value: Value,
    /// Line in the given text, 1-based.
    pub(super) line: Option<usize>,
}

impl Value {
    /// What JavaScript takes for true.
    pub(super) fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Flag(flag) => *flag,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Text(text) => !text.is_empty(),
            Self::Date(_) | Self::List(_) | Self::Table(_) => true,
        }
    }

    /// The value for a message: shortened, texts in quotes.
    pub(super) fn excerpt(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number_text(*number),
            Self::Text(text) => format!("\"{}\"", shortened(text)),
            Self::Date(date) => format!("the date {date}"),
            Self::List(_) => "a list".into(),
            Self::Table(_) => "a table".into(),
        }
    }
}

/// `text` without control characters, cut at [`EXCERPT_CHARS_MAX`].
pub(super) fn shortened(text: &str) -> String {
    let mut excerpt: String =
        text.chars().take(EXCERPT_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(EXCERPT_CHARS_MAX).is_some() {
        excerpt.push_str("...");
    }
    excerpt
}

/// The text JavaScript gives a number: 90 for `90.0`.
pub(super) fn number_text(number: f64) -> String {
    let mut text = Vec::new();
    push_number(&mut text, number);
    String::from_utf8(text).expect("numbers are written in ASCII")
}

/// What JavaScript's `Number(text)` reads, but for the empty text and `Infinity`, which no key takes.
pub(super) fn number_of(text: &str) -> Option<f64> {
    let text = text.trim();
    for (prefixes, radix) in [(["0x", "0X"], 16), (["0o", "0O"], 8), (["0b", "0B"], 2)] {
        if let Some(digits) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) {
            if !digits.chars().all(|digit| digit.is_digit(radix)) {
                return None;
            }
            let number = u64::from_str_radix(digits, radix).ok()?;
            return exact_number(number);
        }
    }
    // Rust would read the words `inf` and `nan` too.
    let is_decimal =
        text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|_| is_decimal)
}

/// `number` as `f64` where it is exact.
fn exact_number(number: u64) -> Option<f64> {
    if 1 << 53 <= number {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^53 every whole number is exact")]
    Some(number as f64)
}
