//! The expressions of a `config.js`, worked out without running any JavaScript.
//!
//! A value position of the file may hold more than JSON5 allows: `require('os').hostname()`,
//! `process.env.PORT || 8125`, `60 * 1000`. This evaluator knows the shapes that occur in such
//! files, from words to one plain value; host name and environment are handed in. Everything else is
//! refused with the list of what is read: a guess would start the daemon with a wrong setting.
//!
//! Limits: nesting of `CONFIG_DEPTH_MAX`, texts of `CONFIG_EXPRESSION_BYTES_MAX`, so that any
//! input ends soon. No variables, no functions of the file's own, no `? :`.

use crate::limits::{CONFIG_DEPTH_MAX, CONFIG_EXPRESSION_BYTES_MAX};

use super::Environment;
use super::token::{Fault, Placed, Token, fault};
use super::value::{number_of, number_text, shortened};

/// What is read, for the message that refuses the rest.
const READ: &str = "config.js is read as data; besides plain values: require('os').hostname(), \
    .split('.')[0], .replace('a', 'b'), process.env.NAME, parseInt(...), ||, + and arithmetic";

/// What an expression comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    /// `undefined`: an unset variable, an index behind the end.
    Undefined,
    /// `null`.
    Null,
    /// `true`, `false`.
    Flag(bool),
    /// Any number.
    Number(f64),
    /// A string.
    Text(String),
    /// What `split` gives.
    Parts(Vec<String>),
    /// `process`.
    Process,
    /// `process.env`.
    Variables,
    /// `require('os')`.
    System,
}

impl Operand {
    fn is_truthy(&self) -> bool {
        match self {
            Self::Undefined | Self::Null => false,
            Self::Flag(flag) => *flag,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Text(text) => !text.is_empty(),
            Self::Parts(_) | Self::Process | Self::Variables | Self::System => true,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Undefined => Some(f64::NAN),
            Self::Null => Some(0.0),
            Self::Flag(flag) => Some(f64::from(u8::from(*flag))),
            Self::Number(number) => Some(*number),
            Self::Text(text) if text.trim().is_empty() => Some(0.0),
            Self::Text(text) => Some(number_of(text).unwrap_or(f64::NAN)),
            Self::Parts(_) | Self::Process | Self::Variables | Self::System => None,
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Undefined => Some("undefined".into()),
            Self::Null => Some("null".into()),
            Self::Flag(flag) => Some(flag.to_string()),
            Self::Number(number) => Some(number_text(*number)),
            Self::Text(text) => Some(text.clone()),
            Self::Parts(_) | Self::Process | Self::Variables | Self::System => None,
        }
    }
}

/// Works out the expression that `tokens` make as a whole; `end` is where it ends in the text.
pub(super) fn evaluate(
    tokens: &[Placed<'_>],
    end: usize,
    environment: &Environment,
) -> Result<Operand, Fault> {
    let mut evaluator = Evaluator { tokens, end, environment, next: 0, depth: 0 };
    let operand = evaluator.alternatives()?;
    if let Some(rest) = evaluator.tokens.get(evaluator.next) {
        return Err(fault(format!("expected a comma or the end of the value; {READ}"), rest.at));
    }
    match operand {
        Operand::Parts(_) | Operand::Process | Operand::Variables | Operand::System => {
            Err(evaluator.refusal_at(0))
        }
        plain => Ok(plain),
    }
}

struct Evaluator<'a> {
    tokens: &'a [Placed<'a>],
    end: usize,
    environment: &'a Environment,
    next: usize,
    depth: usize,
}

impl<'a> Evaluator<'a> {
    fn peek(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.next).map(|placed| &placed.token)
    }

    fn takes(&mut self, token: &Token<'_>) -> bool {
        let is_next = self.peek() == Some(token);
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, token: &Token<'_>) -> Result<(), Fault> {
        if self.takes(token) { Ok(()) } else { Err(self.refusal()) }
    }

    fn refusal(&self) -> Fault {
        self.refusal_at(self.next)
    }

    fn refusal_at(&self, index: usize) -> Fault {
        let at = self.tokens.get(index).map_or(self.end, |placed| placed.at);
        fault(format!("expression that is not read; {READ}"), at)
    }

    /// `a || b`, `a ?? b`.
    fn alternatives(&mut self) -> Result<Operand, Fault> {
        self.depth += 1;
        if CONFIG_DEPTH_MAX < self.depth {
            return Err(fault("expression is nested too deeply", self.end));
        }
        let mut left = self.sum()?;
        loop {
            let keeps_left = if self.takes(&Token::Sign("||")) {
                left.is_truthy()
            } else if self.takes(&Token::Sign("??")) {
                !matches!(left, Operand::Undefined | Operand::Null)
            } else {
                break;
            };
            let right = self.sum()?;
            left = if keeps_left { left } else { right };
        }
        self.depth -= 1;
        Ok(left)
    }

    /// `a + b`, `a - b`; joins texts.
    fn sum(&mut self) -> Result<Operand, Fault> {
        let mut left = self.product()?;
        loop {
            if self.takes(&Token::Sign("+")) {
                let right = self.product()?;
                left = self.joined(&left, &right)?;
            } else if self.takes(&Token::Sign("-")) {
                let right = self.product()?;
                left = Operand::Number(self.number(&left)? - self.number(&right)?);
            } else {
                return Ok(left);
            }
        }
    }

    fn joined(&self, left: &Operand, right: &Operand) -> Result<Operand, Fault> {
        if matches!(left, Operand::Text(_)) || matches!(right, Operand::Text(_)) {
            let mut text = left.text().ok_or_else(|| self.refusal())?;
            text.push_str(&right.text().ok_or_else(|| self.refusal())?);
            self.bounded(text.len())?;
            return Ok(Operand::Text(text));
        }
        Ok(Operand::Number(self.number(left)? + self.number(right)?))
    }

    /// `a * b`, `a / b`.
    fn product(&mut self) -> Result<Operand, Fault> {
        let mut left = self.signed()?;
        loop {
            if self.takes(&Token::Sign("*")) {
                let right = self.signed()?;
                left = Operand::Number(self.number(&left)? * self.number(&right)?);
            } else if self.takes(&Token::Sign("/")) {
                let right = self.signed()?;
                left = Operand::Number(self.number(&left)? / self.number(&right)?);
            } else {
                return Ok(left);
            }
        }
    }

    /// `-a`, `+a`, `!a`, any number of them.
    fn signed(&mut self) -> Result<Operand, Fault> {
        let first = self.next;
        while let Some(Token::Sign("-" | "+" | "!")) = self.peek() {
            self.next += 1;
        }
        let behind = self.next;
        let mut operand = self.chain()?;
        for index in (first..behind).rev() {
            operand = match self.tokens[index].token {
                Token::Sign("-") => Operand::Number(-self.number(&operand)?),
                Token::Sign("+") => Operand::Number(self.number(&operand)?),
                _ => Operand::Flag(!operand.is_truthy()),
            };
        }
        Ok(operand)
    }

    fn number(&self, operand: &Operand) -> Result<f64, Fault> {
        operand.number().ok_or_else(|| self.refusal())
    }

    fn bounded(&self, bytes: usize) -> Result<(), Fault> {
        if bytes <= CONFIG_EXPRESSION_BYTES_MAX {
            return Ok(());
        }
        let problem = format!("expression makes a text over {CONFIG_EXPRESSION_BYTES_MAX} bytes");
        Err(fault(problem, self.end))
    }

    /// An operand and what hangs on it: `.name`, `.name(...)`, `[index]`.
    fn chain(&mut self) -> Result<Operand, Fault> {
        let mut operand = self.primary()?;
        loop {
            if self.takes(&Token::Sign(".")) {
                let Some(Token::Name(name)) = self.peek() else {
                    return Err(self.refusal());
                };
                self.next += 1;
                operand = self.member(operand, name)?;
            } else if self.takes(&Token::Open('[')) {
                let index = self.alternatives()?;
                self.expect(&Token::Close(']'))?;
                operand = self.element(&operand, &index)?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn primary(&mut self) -> Result<Operand, Fault> {
        let refusal = self.refusal();
        let token = self.peek().ok_or_else(|| self.refusal())?;
        self.next += 1;
        match token {
            Token::Text(text) => Ok(Operand::Text(text.clone())),
            Token::Number(text) => literal(text)
                .map(Operand::Number)
                .ok_or_else(|| fault(format!("{} is not a number", shortened(text)), refusal.at)),
            Token::Open('(') => {
                let operand = self.alternatives()?;
                self.expect(&Token::Close(')'))?;
                Ok(operand)
            }
            Token::Name(name) => self.named(name, refusal),
            _ => Err(refusal),
        }
    }

    fn named(&mut self, name: &str, refusal: Fault) -> Result<Operand, Fault> {
        match name {
            "true" => Ok(Operand::Flag(true)),
            "false" => Ok(Operand::Flag(false)),
            "null" => Ok(Operand::Null),
            "undefined" => Ok(Operand::Undefined),
            "NaN" => Ok(Operand::Number(f64::NAN)),
            "Infinity" => Ok(Operand::Number(f64::INFINITY)),
            "process" => Ok(Operand::Process),
            "require" => match self.arguments()?.as_slice() {
                [Operand::Text(module)] if module == "os" || module == "node:os" => {
                    Ok(Operand::System)
                }
                [Operand::Text(module)] if module == "process" => Ok(Operand::Process),
                _ => Err(refusal),
            },
            "parseInt" | "parseFloat" | "Number" => match self.arguments()?.as_slice() {
                [text] => Ok(Operand::Number(parsed(name, text).ok_or(refusal)?)),
                [text, Operand::Number(10.0)] if name == "parseInt" => {
                    Ok(Operand::Number(parsed(name, text).ok_or(refusal)?))
                }
                _ => Err(refusal),
            },
            "String" => match self.arguments()?.as_slice() {
                [operand] => operand.text().map(Operand::Text).ok_or(refusal),
                _ => Err(refusal),
            },
            _ => Err(refusal),
        }
    }

    /// `(a, b)`.
    fn arguments(&mut self) -> Result<Vec<Operand>, Fault> {
        self.expect(&Token::Open('('))?;
        let mut arguments = Vec::new();
        while !self.takes(&Token::Close(')')) {
            let argument = match self.peek() {
                Some(Token::Regex(pattern, flags)) => {
                    let literal = literal_pattern(pattern, flags).ok_or_else(|| self.refusal())?;
                    self.next += 1;
                    Operand::Parts(literal)
                }
                _ => self.alternatives()?,
            };
            arguments.push(argument);
            if self.peek() != Some(&Token::Close(')')) {
                self.expect(&Token::Sign(","))?;
            }
        }
        Ok(arguments)
    }

    fn element(&self, operand: &Operand, index: &Operand) -> Result<Operand, Fault> {
        match (operand, index) {
            (Operand::Variables, Operand::Text(name)) => Ok(self.variable(name)),
            (Operand::Process, Operand::Text(name)) if name == "env" => Ok(Operand::Variables),
            (Operand::Parts(parts), Operand::Number(index)) => {
                let part =
                    parts.iter().enumerate().find(|(at, _)| number_text(*index) == at.to_string());
                Ok(part.map_or(Operand::Undefined, |(_, part)| Operand::Text(part.clone())))
            }
            _ => Err(self.refusal()),
        }
    }

    fn variable(&self, name: &str) -> Operand {
        let value = self.environment.variables.get(name);
        value.map_or(Operand::Undefined, |value| Operand::Text(value.clone()))
    }

    fn member(&mut self, operand: Operand, name: &str) -> Result<Operand, Fault> {
        match (operand, name) {
            (Operand::Process, "env") => Ok(Operand::Variables),
            (Operand::Variables, name) => Ok(self.variable(name)),
            (operand, name) => {
                let arguments = self.arguments()?;
                self.method(operand, name, &arguments)
            }
        }
    }

    fn method(
        &self,
        operand: Operand,
        name: &str,
        arguments: &[Operand],
    ) -> Result<Operand, Fault> {
        match (operand, name, arguments) {
            (Operand::System, "hostname", []) => {
                Ok(Operand::Text(self.environment.host_name.clone()))
            }
            (Operand::Number(number), "toString", []) => Ok(Operand::Text(number_text(number))),
            (Operand::Text(text), name, arguments) => self.text_method(text, name, arguments),
            (Operand::Parts(parts), name, arguments) => self.parts_method(parts, name, arguments),
            _ => Err(self.refusal()),
        }
    }

    fn text_method(
        &self,
        text: String,
        name: &str,
        arguments: &[Operand],
    ) -> Result<Operand, Fault> {
        match (name, arguments) {
            ("split", [Operand::Text(separator)]) if !separator.is_empty() => {
                Ok(Operand::Parts(text.split(separator.as_str()).map(str::to_owned).collect()))
            }
            ("toLowerCase", []) => Ok(Operand::Text(text.to_lowercase())),
            ("toUpperCase", []) => Ok(Operand::Text(text.to_uppercase())),
            ("trim", []) => Ok(Operand::Text(text.trim().to_owned())),
            ("toString", []) => Ok(Operand::Text(text)),
            ("replace", [pattern, Operand::Text(by)]) if !by.contains('$') => {
                let (pattern, times) = match pattern {
                    Operand::Text(pattern) => (pattern.as_str(), 1),
                    // A regular expression: its literal text, and whether it is for all places.
                    Operand::Parts(regex) if regex.len() == 2 => {
                        (regex[0].as_str(), if regex[1].is_empty() { 1 } else { usize::MAX })
                    }
                    _ => return Err(self.refusal()),
                };
                if pattern.is_empty() {
                    return Err(self.refusal());
                }
                let places = text.matches(pattern).take(times).count();
                self.bounded(text.len().saturating_add(places.saturating_mul(by.len())))?;
                Ok(Operand::Text(text.replacen(pattern, by, times)))
            }
            _ => Err(self.refusal()),
        }
    }

    fn parts_method(
        &self,
        mut parts: Vec<String>,
        name: &str,
        arguments: &[Operand],
    ) -> Result<Operand, Fault> {
        match (name, arguments) {
            ("reverse", []) => {
                parts.reverse();
                Ok(Operand::Parts(parts))
            }
            ("shift", []) => Ok(parts.into_iter().next().map_or(Operand::Undefined, Operand::Text)),
            ("pop", []) => Ok(parts.pop().map_or(Operand::Undefined, Operand::Text)),
            ("join", [Operand::Text(separator)]) => {
                let bytes: usize = parts.iter().map(String::len).sum();
                self.bounded(bytes.saturating_add(parts.len().saturating_mul(separator.len())))?;
                Ok(Operand::Text(parts.join(separator)))
            }
            _ => Err(self.refusal()),
        }
    }
}

/// A number as it stands in the file. Behind a leading zero JavaScript reads octal digits, `0770` for
/// instance, and refuses or guesses at the rest.
fn literal(text: &str) -> Option<f64> {
    let has_leading_zero =
        text.starts_with('0') && matches!(text.as_bytes().get(1), Some(b'0'..=b'9' | b'_'));
    if !has_leading_zero {
        return number_of(&text.replace('_', ""));
    }
    number_of(&format!("0o{text}"))
}

/// `parseInt`, `parseFloat` (their leading number) and `Number` (the whole text).
fn parsed(function: &str, operand: &Operand) -> Option<f64> {
    if function == "Number" {
        return operand.number();
    }
    let text = operand.text()?;
    let text = text.trim();
    let sign_bytes = usize::from(text.starts_with(['-', '+']));
    let mut has_dot = function == "parseInt";
    let end = text[sign_bytes..].find(|c: char| {
        let is_first_dot = c == '.' && !has_dot;
        has_dot |= c == '.';
        !(c.is_ascii_digit() || is_first_dot)
    });
    let number = &text[..end.map_or(text.len(), |end| sign_bytes + end)];
    Some(number_of(number).unwrap_or(f64::NAN))
}

/// The text a regular expression stands for, and `g` or nothing, where it has no special signs.
fn literal_pattern(pattern: &str, flags: &str) -> Option<Vec<String>> {
    let mut literal = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => literal.push(chars.next().filter(|c| !c.is_alphanumeric())?),
            '.' | '^' | '$' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' => {
                return None;
            }
            _ => literal.push(c),
        }
    }
    matches!(flags, "" | "g").then(|| vec![literal, flags.to_owned()])
}
