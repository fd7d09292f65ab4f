//! Values as text, exactly as Node 20's `util.inspect` lays them out.
//!
//! The admin console answers `counters`, `timers` and `gauges` with it, and the console backend
//! prints flushes: scripts have read that text for years. Known here are the four shapes that
//! occur: numbers, texts, lists and tables of texts to values. The layout is that of
//! `compact: 3, breakLength: 80`: a value without deep nesting stands in one line if that is short,
//! lists of more than six entries stand in columns, at most a hundred entries of a list are shown,
//! and what is nested deeper than `depth` is a word in brackets.
//!
//! `core/tests/golden_inspect.rs` compares it with what Node printed. Not exact: the width of
//! emoji sequences, which only decides how wide a column of texts is, and texts cut after their
//! 10,000th character in the middle of a pair of surrogates.

mod text;

use self::text::{plain_len, quoted, width};
use crate::number_text::push_number;

/// Entries of a list that are shown.
pub const LIST_ENTRIES_SHOWN: usize = 100;

/// Longest line that several entries share, in UTF-16 units.
const BREAK_LENGTH: usize = 80;

/// Levels of nesting one line may hold.
const COMPACT: usize = 3;

/// A table of more entries is never laid out in one line: `3 + 10 + 2 * entries` is the least it
/// takes.
const TABLE_ENTRIES_ONE_LINE: usize = BREAK_LENGTH / 2;

/// UTF-16 units of a text that are shown.
const TEXT_UNITS_SHOWN: usize = 10_000;

/// A text of fewer units is never broken at its newlines.
const TEXT_UNITS_BROKEN: usize = 16;

/// A value to be printed.
#[derive(Clone, Debug, PartialEq)]
pub enum Inspected {
    /// A double.
    Number(f64),
    /// A text, printed in quotes.
    Text(String),
    /// A list; of its `total` entries at least the first [`LIST_ENTRIES_SHOWN`] are in `items`.
    List {
        /// The first entries.
        items: Vec<Inspected>,
        /// Entries there are.
        total: usize,
    },
    /// A table in the order in which its keys came; it is printed in [`property_order`].
    Table(Vec<(String, Inspected)>),
}

impl Inspected {
    /// A list of all its entries.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List { total: items.len(), items }
    }
}

/// How a value is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Levels below the outermost that are printed.
    pub depth: usize,
    /// Whether values are coloured for a terminal.
    pub has_colors: bool,
}

impl Default for Options {
    /// Node's own defaults.
    fn default() -> Self {
        Self { depth: 2, has_colors: false }
    }
}

/// The text of `value`.
#[must_use]
pub fn inspect(value: &Inspected, options: Options) -> String {
    Printer { options, indentation: 0, current_depth: 0 }.value(value, 0)
}

/// Writes a table that may be too large to hold as text, piece by piece.
///
/// # Shape
/// `entries`: in [`property_order`]. `write` is called once per entry at the most, and twice more.
/// # Errors
/// The first one of `write`.
pub fn inspect_table<E>(
    entries: impl ExactSizeIterator<Item = (String, Inspected)>,
    options: Options,
    mut write: impl FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    if entries.len() <= TABLE_ENTRIES_ONE_LINE {
        return write(&inspect(&Inspected::Table(entries.collect()), options));
    }
    let mut printer = Printer { options, indentation: 0, current_depth: 0 };
    let mut separator = "{\n  ";
    for (key, value) in entries {
        let property = printer.property(&key, &value, 1);
        write(&format!("{separator}{property}"))?;
        separator = ",\n  ";
    }
    write("\n}")
}

/// Sorts entries as JavaScript orders the properties of an object: keys that are array indexes
/// first, by their number; the others stay in the order in which they came.
pub fn property_order<T>(entries: &mut [T], key: impl Fn(&T) -> &[u8]) {
    let is_ordered = entries.iter().all(|entry| array_index(key(entry)).is_none());
    if !is_ordered {
        entries.sort_by_key(|entry| match array_index(key(entry)) {
            Some(index) => (false, index),
            None => (true, 0),
        });
    }
}

/// The array index a key is the plain text of: 0 to 2^32 - 2.
#[must_use]
pub fn array_index(key: &[u8]) -> Option<u32> {
    let is_plain = match key {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 10 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_plain {
        return None;
    }
    let number = key.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    u32::try_from(number).ok().filter(|index| *index != u32::MAX)
}

/// Kinds of values that have a colour.
#[derive(Clone, Copy)]
enum Style {
    Number,
    Text,
    Special,
}

struct Printer {
    options: Options,
    /// Columns the value stands in from the left.
    indentation: usize,
    /// Level of the list or table begun last: it tells how deep the one just ended is nested.
    current_depth: usize,
}

impl Printer {
    fn value(&mut self, value: &Inspected, level: usize) -> String {
        match value {
            Inspected::Number(number) => self.styled(&number_text(*number), Style::Number),
            Inspected::Text(text) => self.text(text),
            Inspected::List { total: 0, .. } => "[]".to_owned(),
            Inspected::Table(entries) if entries.is_empty() => "{}".to_owned(),
            Inspected::List { .. } if self.options.depth < level => {
                self.styled("[Array]", Style::Special)
            }
            Inspected::Table(_) if self.options.depth < level => {
                self.styled("[Object]", Style::Special)
            }
            Inspected::List { items, total } => self.list(items, *total, level + 1),
            Inspected::Table(entries) => self.table(entries, level + 1),
        }
    }

    fn list(&mut self, items: &[Inspected], total: usize, level: usize) -> String {
        self.current_depth = level;
        let shown = items.get(..LIST_ENTRIES_SHOWN).unwrap_or(items);
        self.indentation += 2;
        let mut output: Vec<String> = shown.iter().map(|item| self.value(item, level)).collect();
        self.indentation -= 2;
        let hidden = total.saturating_sub(shown.len());
        if 0 < hidden {
            output.push(format!("... {hidden} more item{}", if hidden == 1 { "" } else { "s" }));
        }
        let entries = output.len();
        if 6 < entries {
            let is_of_numbers = items.iter().all(|item| matches!(item, Inspected::Number(_)));
            output = self.in_columns(output, 0 < hidden, is_of_numbers);
        }
        let is_grouped = output.len() != entries;
        self.joined(&output, ["[", "]"], level, is_grouped)
    }

    fn table(&mut self, entries: &[(String, Inspected)], level: usize) -> String {
        self.current_depth = level;
        let mut ordered: Vec<&(String, Inspected)> = entries.iter().collect();
        property_order(&mut ordered, |(key, _)| key.as_bytes());
        let output: Vec<String> =
            ordered.into_iter().map(|(key, value)| self.property(key, value, level)).collect();
        self.joined(&output, ["{", "}"], level, false)
    }

    fn property(&mut self, key: &str, value: &Inspected, level: usize) -> String {
        self.indentation += 2;
        let value = self.value(value, level);
        self.indentation -= 2;
        let name = match key {
            "__proto__" => "['__proto__']".to_owned(),
            _ if is_identifier(key) => key.to_owned(),
            _ => self.styled(&quoted(key), Style::Text),
        };
        format!("{name}: {value}")
    }

    /// Entries between braces: in one line if they fit, else one line each.
    fn joined(
        &self,
        output: &[String],
        [open, close]: [&str; 2],
        level: usize,
        is_grouped: bool,
    ) -> String {
        let is_shallow = self.current_depth.saturating_sub(level) < COMPACT;
        if is_shallow && !is_grouped && self.fit_one_line(output) {
            let line = output.join(", ");
            if !line.contains('\n') {
                return format!("{open} {line} {close}");
            }
        }
        let indentation = " ".repeat(self.indentation);
        let lines = output.join(&format!(",\n{indentation}  "));
        format!("{open}\n{indentation}  {lines}\n{indentation}{close}")
    }

    fn fit_one_line(&self, output: &[String]) -> bool {
        // The entries' separators, the indentation, a brace, and Node's own allowance of 10.
        let mut length = 2 * output.len() + self.indentation + 1 + 10;
        if BREAK_LENGTH < length + output.len() {
            return false;
        }
        for entry in output {
            length += plain_len(entry);
            if BREAK_LENGTH < length {
                return false;
            }
        }
        true
    }

    /// Groups entries of about equal length into lines of aligned columns; returns them as they
    /// are where that makes no sense.
    fn in_columns(&self, output: Vec<String>, has_rest: bool, is_of_numbers: bool) -> Vec<String> {
        let grouped = output.len() - usize::from(has_rest);
        let widths: Vec<usize> = output.iter().take(grouped).map(|entry| width(entry)).collect();
        let total: usize = widths.iter().map(|width| width + 2).sum();
        let longest = widths.iter().copied().max().unwrap_or(0);
        let cell = longest + 2;
        let is_even = 5 * cell < total || longest <= 6;
        if BREAK_LENGTH <= 3 * cell + self.indentation || !is_even {
            return output;
        }
        let columns = self.column_count(output.len(), grouped, total, cell);
        if columns <= 1 {
            return output;
        }
        let column_width =
            |column: usize| widths.iter().skip(column).step_by(columns).copied().max().unwrap_or(0);
        let column_widths: Vec<usize> = (0..columns).map(column_width).collect();
        let mut lines = Vec::with_capacity(grouped / columns + 2);
        for (texts, text_widths) in output[..grouped].chunks(columns).zip(widths.chunks(columns)) {
            let mut line = String::new();
            let last = texts.len() - 1;
            for (column, (text, width)) in texts.iter().zip(text_widths).enumerate() {
                let padding = " ".repeat(column_widths[column] - width);
                let separator = if column == last { "" } else { ", " };
                if is_of_numbers {
                    line.extend([padding.as_str(), text, separator]);
                } else if column == last {
                    line.push_str(text);
                } else {
                    line.extend([text, separator, padding.as_str()]);
                }
            }
            lines.push(line);
        }
        lines.extend(output.into_iter().skip(grouped));
        lines
    }

    /// How many columns make the list about square, a character being 2.5 times as high as wide.
    fn column_count(&self, entries: usize, grouped: usize, total: usize, cell: usize) -> usize {
        #[expect(clippy::cast_precision_loss, reason = "at most 101 entries of 10,000 characters")]
        let [entries, grouped, total, cell_width] =
            [entries, grouped, total, cell].map(|number| number as f64);
        let bias = (cell_width - total / entries).sqrt();
        let biased = (cell_width - 3.0 - bias).max(1.0);
        let square = ((2.5 * biased * grouped).sqrt() / biased + 0.5).floor();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 16")]
        let square = square.min(15.0) as usize;
        square.min((BREAK_LENGTH - self.indentation) / cell).min(4 * COMPACT)
    }

    fn text(&self, text: &str) -> String {
        let (shown, hidden) = text::cut(text, TEXT_UNITS_SHOWN);
        let units = plain_len(shown);
        let is_broken = TEXT_UNITS_BROKEN < units && BREAK_LENGTH < units + self.indentation + 4;
        let mut printed = if is_broken {
            let lines: Vec<String> = shown
                .split_inclusive('\n')
                .map(|line| self.styled(&quoted(line), Style::Text))
                .collect();
            lines.join(&format!(" +\n{}", " ".repeat(self.indentation + 2)))
        } else {
            self.styled(&quoted(shown), Style::Text)
        };
        if 0 < hidden {
            let plural = if hidden == 1 { "" } else { "s" };
            printed.push_str(&format!("... {hidden} more character{plural}"));
        }
        printed
    }

    fn styled(&self, text: &str, style: Style) -> String {
        if !self.options.has_colors {
            return text.to_owned();
        }
        let color = match style {
            Style::Number => 33,
            Style::Text => 32,
            Style::Special => 36,
        };
        format!("\x1b[{color}m{text}\x1b[39m")
    }
}

fn number_text(number: f64) -> String {
    let mut text = Vec::new();
    if number == 0.0 && number.is_sign_negative() {
        text.push(b'-');
    }
    push_number(&mut text, number);
    String::from_utf8(text).expect("digits and words are ASCII")
}

fn is_identifier(key: &str) -> bool {
    let is_start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    match key.as_bytes() {
        [first, rest @ ..] => {
            is_start(*first) && rest.iter().all(|byte| is_start(*byte) || byte.is_ascii_digit())
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_indexes_come_first_and_by_number() {
        let mut keys = ["b", "10", "a", "9", "007", "4294967295", "4294967294", "0", "1.5", "-1"];
        property_order(&mut keys, |key| key.as_bytes());
        let expected = ["0", "9", "10", "4294967294", "b", "a", "007", "4294967295", "1.5", "-1"];
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_table_in_pieces_is_the_table_as_a_whole() {
        for count in [0, 1, 3, TABLE_ENTRIES_ONE_LINE, TABLE_ENTRIES_ONE_LINE + 1, 500] {
            let entries = || {
                (0..count).map(|number| {
                    let values = vec![Inspected::Number(1.5); number];
                    (format!("a.{number}"), Inspected::list(values))
                })
            };
            let mut pieces = String::new();
            let written = inspect_table(entries(), Options::default(), |piece| {
                pieces.push_str(piece);
                Ok::<(), ()>(())
            });
            let whole = inspect(&Inspected::Table(entries().collect()), Options::default());
            assert_eq!((written, pieces), (Ok(()), whole));
        }
    }

    #[test]
    fn a_refused_piece_ends_the_table() {
        let entries = (0..1_000).map(|number| (number.to_string(), Inspected::Number(1.0)));
        let mut calls = 0;
        let written = inspect_table(entries, Options::default(), |_| {
            calls += 1;
            if calls == 3 { Err("gone") } else { Ok(()) }
        });
        assert_eq!((written, calls), (Err("gone"), 3));
    }
}
