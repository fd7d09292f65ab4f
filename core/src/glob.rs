//! Globs over Graphite names: `*` within one component, `**` across components.
//!
//! Also `?`, `[abc]`, `[a-z]`, `[!a]` and `{one,two}` as in Graphite. Translated to an anchored
//! regular expression: linear time on any name, and what the regex crate refuses (its size limit)
//! is an error here.

use std::fmt::Write as _;

use regex::bytes::Regex;

/// A pattern over names.
#[derive(Clone, Debug)]
pub struct Glob(Regex);

/// A pattern that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GlobError {
    /// A bracket or brace has no partner.
    #[error("glob \"{glob}\" has a \"{open}\" without its end; close it")]
    Unclosed {
        /// The whole pattern.
        glob: String,
        /// What was opened.
        open: char,
    },
    /// Too large, or a range that runs backwards.
    #[error("glob \"{glob}\" cannot be used: {source}")]
    Refused {
        /// The whole pattern.
        glob: String,
        /// What the regex crate says.
        source: Box<regex::Error>,
    },
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`GlobError`] names the pattern and what is wrong with it.
    pub fn new(glob: &str) -> Result<Self, GlobError> {
        let pattern = translate(glob)?;
        let refused =
            |source| GlobError::Refused { glob: glob.to_owned(), source: Box::new(source) };
        Ok(Self(Regex::new(&pattern).map_err(refused)?))
    }

    /// Whether the whole name matches.
    #[must_use]
    pub fn is_match(&self, name: &[u8]) -> bool {
        self.0.is_match(name)
    }
}

fn translate(glob: &str) -> Result<String, GlobError> {
    let unclosed = |open| GlobError::Unclosed { glob: glob.to_owned(), open };
    // Names are bytes: without Unicode mode `.` takes any of them.
    let mut pattern = String::from(r"(?s-u)\A");
    let mut braces = 0_u32;
    let mut characters = glob.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' if characters.next_if_eq(&'*').is_some() => pattern.push_str(".*"),
            '*' => pattern.push_str("[^.]*"),
            '?' => pattern.push_str("[^.]"),
            '[' => {
                let class: String = characters.by_ref().take_while(|&each| each != ']').collect();
                let is_closed = glob.matches(']').count() != 0 && !class.is_empty();
                if !is_closed {
                    return Err(unclosed('['));
                }
                push_class(&class, &mut pattern);
            }
            '{' => {
                braces += 1;
                pattern.push_str("(?:");
            }
            '}' if braces != 0 => {
                braces -= 1;
                pattern.push(')');
            }
            ',' if braces != 0 => pattern.push('|'),
            other => push_literal(other, &mut pattern),
        }
    }
    if braces != 0 {
        return Err(unclosed('{'));
    }
    pattern.push_str(r"\z");
    Ok(pattern)
}

fn push_class(class: &str, pattern: &mut String) {
    let (negation, members) = match class.strip_prefix(['!', '^']) {
        Some(members) => ("^.", members),
        None => ("", class),
    };
    pattern.push('[');
    pattern.push_str(negation);
    for member in members.chars() {
        if member == '-' { pattern.push('-') } else { push_literal(member, pattern) }
    }
    pattern.push(']');
}

/// A character as its UTF-8 bytes, none of them special.
fn push_literal(character: char, pattern: &mut String) {
    let mut bytes = [0; 4];
    for byte in character.encode_utf8(&mut bytes).bytes() {
        write!(pattern, r"\x{byte:02x}").expect("writing into a String cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, name: &str) -> bool {
        Glob::new(glob).unwrap().is_match(name.as_bytes())
    }

    #[test]
    fn one_star_stays_within_a_component_and_two_cross() {
        assert!(matches("stats.*.hits", "stats.web.hits"));
        assert!(!matches("stats.*.hits", "stats.web.a.hits"));
        assert!(matches("stats.**", "stats.web.a.hits"));
        assert!(matches("**.hits", "stats.web.a.hits"));
        assert!(matches("**", ""));
        assert!(!matches("stats", "stats.a"));
    }

    #[test]
    fn question_marks_classes_and_alternatives_are_graphite_s() {
        assert!(matches("web0?.load", "web01.load") && !matches("web0?.load", "web0..load"));
        assert!(matches("web[0-3]", "web2") && !matches("web[0-3]", "web4"));
        assert!(matches("web[!0-3]", "web4") && !matches("web[!0-3]", "web."));
        assert!(matches("{a,b.c}.x", "b.c.x") && !matches("{a,b.c}.x", "c.x"));
    }

    #[test]
    fn everything_else_is_itself() {
        assert!(matches("a;host=b+c(d)^$|\\", "a;host=b+c(d)^$|\\"));
        assert!(matches("é,}]", "é,}]"));
    }

    #[test]
    fn what_is_not_closed_or_runs_backwards_is_an_error_with_the_glob() {
        for glob in ["a[bc", "a{b,c", "a[]", "a[z-a]"] {
            let error = Glob::new(glob).unwrap_err().to_string();
            assert!(error.contains(glob), "{error}");
        }
    }
}
