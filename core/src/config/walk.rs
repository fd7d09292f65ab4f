//! Takes typed values out of a tree by key, and knows afterwards which keys nobody asked for.
//!
//! Two sets of rules. The reference daemon's own file is read as leniently as JavaScript treats it:
//! numbers in quotes, truthiness, and a warning for a key that is not known. Our own keys and TOML are
//! strict: the right type, and an unknown key is an error that names the nearest known one.

use std::ops::RangeInclusive;

use super::error::Line;
use super::value::{Node, Nodes, Value, number_of, number_text, shortened};
use super::{ConfigError, quantity};

/// Longest unknown key that is compared with the known ones, bytes.
const COMPARED_KEY_BYTES_MAX: usize = 64;

/// Unknown keys of one table that are named one by one; the rest is summed up.
const UNKNOWN_KEYS_NAMED_MAX: usize = 50;

/// How strictly a table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Values are coerced as JavaScript does.
    pub(super) coerces: bool,
    /// An unknown key is an error, not a warning.
    pub(super) refuses_unknown: bool,
}

/// What is to be said about a configuration that is accepted.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// One sentence each.
    pub(super) warnings: Vec<String>,
    /// Every key that was asked for, with the tables it stands in, to hold the table of keys against.
    #[cfg(test)]
    pub(super) keys: std::collections::BTreeSet<String>,
}

/// A table whose keys are being taken.
#[derive(Debug)]
pub(super) struct Table<'a> {
    path: String,
    nodes: &'a Nodes,
    line: Option<usize>,
    rules: Rules,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The outermost table.
    pub(super) fn root(nodes: &'a Nodes, rules: Rules) -> Self {
        Self { path: String::new(), nodes, line: None, rules, known: Vec::new() }
    }

    /// The value of `key`; `None` where it is absent or `null`.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        let node = self.nodes.get(key).filter(|node| node.value != Value::Null)?;
        Some(Field { path: self.path_of(key), node, rules: self.rules })
    }

    /// As [`Table::take`], but in the reference's file every value that is false counts as absent:
    /// `config.port || 8125`.
    pub(super) fn take_truthy(&mut self, key: &'static str) -> Option<Field<'a>> {
        let coerces = self.rules.coerces;
        self.take(key).filter(|field| !coerces || field.node.value.is_truthy())
    }

    /// A switch with its default.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        self.take(key).map_or(Ok(default), |field| field.flag())
    }

    /// A text with its default.
    pub(super) fn text(&mut self, key: &'static str, default: &str) -> Result<String, ConfigError> {
        self.take(key).map_or_else(|| Ok(default.to_owned()), |field| field.text())
    }

    /// The error of an absent key: that of its misspelt form where there is one.
    pub(super) fn missing(&self, key: &'static str, example: &'static str) -> ConfigError {
        let misspelt = self.nodes.iter().find(|(other, _)| {
            !self.known.contains(&other.as_str()) && nearest(other, &[key]).is_some()
        });
        if let Some((other, node)) = misspelt {
            let hint = format!(", did you mean {}?", self.path_of(key));
            let key = self.path_of(&shortened(other));
            return ConfigError::UnknownKey { key, hint, line: Line(node.line) };
        }
        let table = if self.path.is_empty() { "configuration" } else { &self.path };
        ConfigError::MissingKey { table: table.to_owned(), key, example, line: Line(self.line) }
    }

    /// Says what becomes of the keys that nobody took.
    pub(super) fn finish(self, notes: &mut Notes) -> Result<(), ConfigError> {
        #[cfg(test)]
        notes.keys.extend(self.known.iter().map(|key| self.path_of(key)));
        let is_known = |key: &str| self.known.contains(&key);
        let mut unknown: Vec<_> = self.nodes.iter().filter(|(key, _)| !is_known(key)).collect();
        unknown.sort_by_key(|(_, node)| node.line);
        let unnamed = unknown.len().saturating_sub(UNKNOWN_KEYS_NAMED_MAX);
        for (key, node) in unknown.into_iter().take(UNKNOWN_KEYS_NAMED_MAX) {
            let (hint, line) = (self.hint(key), Line(node.line));
            let key = self.path_of(&shortened(key));
            if self.rules.refuses_unknown {
                return Err(ConfigError::UnknownKey { key, hint, line });
            }
            notes.warnings.push(format!("unknown key {key} ignored{hint}{line}"));
        }
        if unnamed != 0 {
            notes.warnings.push(format!("{unnamed} more unknown keys ignored"));
        }
        Ok(())
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn hint(&self, key: &str) -> String {
        match nearest(key, &self.known) {
            Some(known) => format!(", did you mean {}?", self.path_of(known)),
            None if key.len() <= COMPARED_KEY_BYTES_MAX && self.rules.refuses_unknown => {
                ", remove it".to_owned()
            }
            None => String::new(),
        }
    }
}

/// Which of the `known` keys is meant by `key`, if one is near enough.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    if COMPARED_KEY_BYTES_MAX < key.len() {
        return None;
    }
    let lower = key.to_lowercase().replace('-', "_");
    let distance = |known: &&str| strsim::damerau_levenshtein(&lower, &known.to_lowercase());
    let (distance, known) = known.iter().map(|known| (distance(known), *known)).min()?;
    // A third of the letters wrong is still a slip; more is another word.
    (distance <= key.len().div_ceil(3)).then_some(known)
}

/// One value and the key it has.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    path: String,
    node: &'a Node,
    rules: Rules,
}

impl<'a> Field<'a> {
    /// The key with the tables it stands in.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The value as it is.
    pub(super) fn value(&self) -> &'a Value {
        &self.node.value
    }

    /// Where it stands.
    pub(super) fn line(&self) -> Line {
        Line(self.node.line)
    }

    /// The same value under strict rules: for our own keys in the reference's file.
    pub(super) fn strict(mut self) -> Self {
        self.rules.coerces = false;
        self
    }

    /// The error that this value is not `allowed`.
    pub(super) fn refused(&self, allowed: impl Into<String>) -> ConfigError {
        ConfigError::BadValue {
            key: self.path.clone(),
            allowed: allowed.into(),
            found: self.node.value.excerpt(),
            line: self.line(),
        }
    }

    /// `true` or `false`; truthiness in the reference's file.
    pub(super) fn flag(&self) -> Result<bool, ConfigError> {
        match self.value() {
            Value::Flag(flag) => Ok(*flag),
            value if self.rules.coerces => Ok(value.is_truthy()),
            _ => Err(self.refused("true or false")),
        }
    }

    /// A text.
    pub(super) fn text(&self) -> Result<String, ConfigError> {
        match self.value() {
            Value::Text(text) => Ok(text.clone()),
            Value::Number(number) if self.rules.coerces => Ok(number_text(*number)),
            Value::Flag(flag) if self.rules.coerces => Ok(flag.to_string()),
            _ => Err(self.refused("a text in quotes")),
        }
    }

    /// A finite number.
    pub(super) fn number(&self) -> Option<f64> {
        let number = match self.value() {
            Value::Number(number) => Some(*number),
            Value::Text(text) if self.rules.coerces => number_of(text),
            _ => None,
        };
        number.filter(|number| number.is_finite())
    }

    /// A whole number within `range`; in the reference's file a fraction is cut off.
    pub(super) fn whole(&self, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let refused =
            || self.refused(format!("a whole number within {}..={}", range.start(), range.end()));
        let number = self.number().ok_or_else(refused)?;
        if number < 0.0 || (number.fract() != 0.0 && !self.rules.coerces) || 2_f64.powi(53) < number
        {
            return Err(refused());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, at most 2^53, and the fraction may go"
        )]
        let whole = number as u64;
        if range.contains(&whole) { Ok(whole) } else { Err(refused()) }
    }

    /// A port; 0 where it means any free one.
    pub(super) fn port(&self, lowest: u16) -> Result<u16, ConfigError> {
        let port = self.whole(u64::from(lowest)..=u64::from(u16::MAX))?;
        Ok(u16::try_from(port).expect("whole() keeps to the range of a port"))
    }

    /// A duration with its unit, ms, at least `lowest`.
    pub(super) fn duration_ms(&self, lowest: u64) -> Result<u64, ConfigError> {
        let Value::Text(text) = self.value() else {
            return Err(self.refused("a duration with its unit like \"30s\" or \"6h\""));
        };
        let duration_ms = quantity::duration_ms(text).filter(|ms| lowest <= *ms);
        let least = if lowest == 0 { String::new() } else { format!(", at least {lowest}ms") };
        duration_ms.ok_or_else(|| {
            self.refused(format!("a whole number with a unit of ms, s, m, h, d{least}"))
        })
    }

    /// A size in bytes, as a number or with a unit, within `range`.
    pub(super) fn size_bytes(&self, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let size_bytes = match self.value() {
            Value::Text(text) => quantity::size_bytes(text),
            Value::Number(_) => self.whole(0..=1 << 53).ok(),
            _ => None,
        };
        size_bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
            let (least, most) =
                (quantity::size_text(*range.start()), quantity::size_text(*range.end()));
            self.refused(format!(
                "bytes or a size like \"64MiB\" or \"1GiB\" within {least}..={most}"
            ))
        })
    }

    /// One of `words`.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let chosen = match self.value() {
            Value::Text(text) => words.iter().find(|(word, _)| word == text),
            _ => None,
        };
        chosen.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.refused(words.join(" or "))
        })
    }

    /// The members of a list.
    pub(super) fn list(&self, of: &str) -> Result<Vec<Field<'a>>, ConfigError> {
        match self.value() {
            Value::List(nodes) => {
                Ok(nodes.iter().enumerate().map(|(index, node)| self.member(index, node)).collect())
            }
            _ => Err(self.refused(format!("a list of {of}"))),
        }
    }

    /// A table.
    pub(super) fn table(&self) -> Result<Table<'a>, ConfigError> {
        match self.value() {
            Value::Table(nodes) => Ok(Table {
                path: self.path.clone(),
                nodes,
                line: self.node.line,
                rules: self.rules,
                known: Vec::new(),
            }),
            _ => Err(self.refused("a table of keys")),
        }
    }

    fn member(&self, index: usize, node: &'a Node) -> Field<'a> {
        Field { path: format!("{}[{index}]", self.path), node, rules: self.rules }
    }
}
