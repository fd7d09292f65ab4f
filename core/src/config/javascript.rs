//! `config.js` as data: words, then expressions, then JSON5.
//!
//! The reference daemon runs the file as JavaScript. Here its words are written out again as JSON5 with
//! every expression replaced by the value it comes to, and the `json5` crate reads the result. Each
//! word remembers where it stood, so that errors and values point into the text as it was given.
//! A key given twice has its last value, as in JavaScript.

use std::cell::Cell;
use std::fmt;

use json5::ErrorCode;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::limits::CONFIG_DEPTH_MAX;

use super::expression::{Operand, evaluate};
use super::token::{Fault, Placed, Token, fault, tokens};
use super::value::{Node, Nodes, Value, number_text};
use super::{ConfigError, Environment};

/// Said of a text that is no object: most likely another file.
const NOT_AN_OBJECT: &str =
    "config.js must be one object like { port: 8125 }; a TOML file needs a name ending in .toml";

/// Reads the text of a `config.js`.
pub(super) fn read(text: &str, environment: &Environment) -> Result<Nodes, ConfigError> {
    let written = rewrite(text, environment).map_err(|fault| at_offset(text, fault))?;
    let line_ends: Vec<usize> = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
    let line_of_offset = |at: &usize| line_ends.partition_point(|end| end < at) + 1;
    let lines: Vec<usize> = written.value_offsets.iter().map(line_of_offset).collect();
    let next = Cell::new(0);
    let mut json5 = json5::Deserializer::from_str(&written.text);
    let node = Seed { lines: &lines, next: &next }
        .deserialize(&mut json5)
        .map_err(|error| at_offset(text, written.fault(&error)))?;
    match (node.value, written.behind_value) {
        (_, Some(at)) => Err(at_offset(text, fault("expected the end of the file", at))),
        (Value::Table(nodes), None) => Ok(nodes),
        (_, None) => Err(at_offset(text, fault(NOT_AN_OBJECT, 0))),
    }
}

/// The file as JSON5, and where each part of it stood.
struct Written {
    text: String,
    /// Offset in `text` and in the file, of each word.
    words: Vec<(usize, usize)>,
    /// Offset in the file of each value, in the order in which they begin.
    value_offsets: Vec<usize>,
    /// Offset in the file of a word behind the outermost value.
    behind_value: Option<usize>,
    file_bytes: usize,
}

impl Written {
    fn push(&mut self, word: &str, at: usize) {
        self.words.push((self.text.len(), at));
        self.text.push_str(word);
        self.text.push(' ');
    }

    /// An error of JSON5, placed in the file.
    fn fault(&self, error: &json5::Error) -> Fault {
        let is_early_end = error.code().is_some_and(|code| code.to_string().starts_with("EOF"));
        let problem = match (error.code(), error.position()) {
            (Some(_), None) if is_early_end => "config.js holds no settings".to_owned(),
            (Some(_), _) if is_early_end => {
                "config.js ends too early, close the bracket that opens here".to_owned()
            }
            (Some(ErrorCode::ExpectedClosingBrace | ErrorCode::ExpectedClosingBracket), _) => {
                "expected a comma or a closing bracket".to_owned()
            }
            (Some(code), _) => format!("cannot read config.js as data, {code}"),
            (None, _) => format!("cannot read config.js as data, {error}"),
        };
        // The written text has one line unless a string holds U+2028, which is escaped.
        let column = error.position().map_or(usize::MAX, |position| position.column);
        let offset = self.text.char_indices().nth(column).map_or(usize::MAX, |(offset, _)| offset);
        let behind = self.words.partition_point(|(written, _)| *written <= offset);
        let at = match self.words.get(behind.saturating_sub(1)) {
            Some((_, at)) if offset != usize::MAX => *at,
            _ => self.file_bytes,
        };
        fault(problem, at)
    }
}

/// Writes the file out as JSON5, expressions replaced by their values.
fn rewrite(text: &str, environment: &Environment) -> Result<Written, Fault> {
    let tokens = tokens(text)?;
    let tokens = without_frame(&tokens);
    if let Some(first) = tokens.first().filter(|first| first.token != Token::Open('{')) {
        return Err(fault(NOT_AN_OBJECT, first.at));
    }
    let mut written = Written {
        text: String::with_capacity(text.len()),
        words: Vec::new(),
        value_offsets: Vec::new(),
        behind_value: None,
        file_bytes: text.len(),
    };
    let mut open = Vec::new();
    let mut expects_value = true;
    let mut next = 0;
    while let Some(Placed { token, at }) = tokens.get(next) {
        let ends = matches!(token, Token::Close(_) | Token::Sign("," | ":"));
        if open.is_empty() && !expects_value {
            written.behind_value = Some(*at);
            break;
        }
        if expects_value && !ends && !matches!(token, Token::Open('[' | '{')) {
            let end = expression_end(tokens, next);
            let end_at = tokens.get(end).map_or(text.len(), |placed| placed.at);
            let operand = evaluate(&tokens[next..end], end_at, environment)?;
            written.value_offsets.push(*at);
            written.push(&json5_text(&operand, *at)?, *at);
            expects_value = false;
            next = end;
            continue;
        }
        match token {
            Token::Open(bracket) => {
                if expects_value {
                    written.value_offsets.push(*at);
                }
                open.push(*bracket);
                if CONFIG_DEPTH_MAX < open.len() {
                    return Err(fault("brackets are nested too deeply", *at));
                }
                expects_value = *bracket == '[';
            }
            Token::Close(_) => {
                open.pop();
                expects_value = false;
            }
            Token::Sign(":") => expects_value = true,
            Token::Sign(",") => expects_value = open.last() == Some(&'['),
            _ => {}
        }
        written.push(&key_text(token), *at);
        next += 1;
    }
    Ok(written)
}

/// The words without what may stand around the value: `module.exports =`, `(...)`, `;`.
fn without_frame<'a, 'b>(tokens: &'a [Placed<'b>]) -> &'a [Placed<'b>] {
    let is_target = |token: &Token<'_>| matches!(token, Token::Name(_) | Token::Sign("."));
    let target = tokens.iter().take_while(|placed| is_target(&placed.token)).count();
    let is_assigned =
        0 < target && tokens.get(target).is_some_and(|placed| placed.token == Token::Sign("="));
    let mut tokens = if is_assigned { &tokens[target + 1..] } else { tokens };
    while let [rest @ .., Placed { token: Token::Sign(";"), .. }] = tokens {
        tokens = rest;
    }
    while let [
        Placed { token: Token::Open('('), .. },
        rest @ ..,
        Placed { token: Token::Close(')'), .. },
    ] = tokens
        && matches!(rest.first().map(|placed| &placed.token), Some(Token::Open('{' | '(')))
    {
        tokens = rest;
    }
    tokens
}

/// Index behind the expression that starts at `start`.
fn expression_end(tokens: &[Placed<'_>], start: usize) -> usize {
    let mut depth = 0_usize;
    for (index, placed) in tokens.iter().enumerate().skip(start) {
        match placed.token {
            Token::Open(_) => depth += 1,
            Token::Close(_) if depth == 0 => return index,
            Token::Close(_) => depth -= 1,
            Token::Sign("," | ":" | ";") if depth == 0 => return index,
            _ => {}
        }
    }
    tokens.len()
}

fn json5_text(operand: &Operand, at: usize) -> Result<String, Fault> {
    match operand {
        Operand::Undefined | Operand::Null => Ok("null".into()),
        Operand::Flag(flag) => Ok(flag.to_string()),
        Operand::Number(number) => Ok(number_text(*number)),
        Operand::Text(text) => Ok(quoted(text)),
        _ => Err(fault("expression is not a plain value", at)),
    }
}

/// A word outside a value: a key, a bracket, a sign.
fn key_text(token: &Token<'_>) -> String {
    match token {
        Token::Name(name) => quoted(name),
        Token::Text(text) => quoted(text),
        Token::Number(number) => quoted(number),
        Token::Open(bracket) | Token::Close(bracket) => bracket.to_string(),
        Token::Sign(sign) => (*sign).to_owned(),
        Token::Regex(..) => "/".to_owned(),
    }
}

/// `text` as a JSON string without line ends.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// `fault` as the error of a text, with line and column.
pub(super) fn at_offset(text: &str, fault: Fault) -> ConfigError {
    let mut at = fault.at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    ConfigError::Syntax {
        problem: fault.problem,
        line: memchr::memchr_iter(b'\n', before.as_bytes()).count() + 1,
        column: text[line_start..at].chars().count() + 1,
    }
}

/// Makes [`Node`]s of what JSON5 reads, and gives each the line of its turn.
#[derive(Clone, Copy)]
struct Seed<'a> {
    lines: &'a [usize],
    next: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let index = self.next.replace(self.next.get() + 1);
        let value = deserializer.deserialize_any(self)?;
        Ok(Node { value, line: self.lines.get(index).copied() })
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    #[expect(clippy::cast_precision_loss, reason = "JavaScript rounds to a double as well")]
    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "JavaScript rounds to a double as well")]
    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(self)? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut nodes = Nodes::new();
        while let Some(key) = map.next_key::<String>()? {
            nodes.insert(key, map.next_value_seed(self)?);
        }
        Ok(Value::Table(nodes))
    }
}
