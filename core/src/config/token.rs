//! The words of a `config.js`: names, strings, numbers, signs; comments and white space left out.
//!
//! Strings are decoded here, so that nothing behind this file knows of quotes and escapes. What
//! JavaScript would refuse may pass (a number is any run of its characters): the readers behind judge.

/// What is wrong in a text, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is wrong, and what to do.
    pub(super) problem: String,
    /// Byte offset in the text.
    pub(super) at: usize,
}

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name: `port`, `require`, `true`.
    Name(&'a str),
    /// A string with any quotes, decoded.
    Text(String),
    /// A number as written.
    Number(&'a str),
    /// A regular expression: pattern and flags.
    Regex(&'a str, &'a str),
    /// `(`, `[` or `{`.
    Open(char),
    /// `)`, `]` or `}`.
    Close(char),
    /// Any other sign: `,`, `:`, `||`.
    Sign(&'a str),
}

/// A word and the byte offset at which it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed<'a> {
    /// The word.
    pub(super) token: Token<'a>,
    /// Where it starts.
    pub(super) at: usize,
}

/// Splits `text` into words.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed<'_>>, Fault> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens: Vec<Placed<'_>> = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let at = lexer.at;
        let Some(first) = lexer.peek() else {
            return Ok(tokens);
        };
        let begins_operand =
            tokens.last().is_none_or(|last| matches!(last.token, Token::Open(_) | Token::Sign(_)));
        let token = lexer.token(first, begins_operand)?;
        tokens.push(Placed { token, at });
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Moves past the longest run of characters that `belongs`, and gives it.
    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let run = &rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())];
        self.at += run.len();
        run
    }

    fn skip_blanks(&mut self) -> Result<(), Fault> {
        loop {
            self.run(|c| c.is_whitespace() || c == '\u{feff}');
            if self.rest().starts_with("//") {
                self.run(|c| !is_line_end(c));
            } else if self.rest().starts_with("/*") {
                let length = self.rest()[2..]
                    .find("*/")
                    .ok_or_else(|| fault("comment without end, close it with */", self.at))?;
                self.at += length + 4;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self, first: char, begins_operand: bool) -> Result<Token<'a>, Fault> {
        let second = self.rest().chars().nth(1);
        let token = match first {
            '\'' | '"' | '`' => Token::Text(self.string(first)?),
            '0'..='9' => Token::Number(self.number()),
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => Token::Number(self.number()),
            '/' if begins_operand => self.regex()?,
            '(' | '[' | '{' => {
                self.next();
                Token::Open(first)
            }
            ')' | ']' | '}' => {
                self.next();
                Token::Close(first)
            }
            _ if is_name_char(first) => Token::Name(self.run(is_name_char)),
            _ => {
                let is_double = ["||", "&&", "??"].iter().any(|s| self.rest().starts_with(s));
                let bytes = if is_double { 2 } else { first.len_utf8() };
                let sign = &self.rest()[..bytes];
                self.at += bytes;
                Token::Sign(sign)
            }
        };
        Ok(token)
    }

    fn number(&mut self) -> &'a str {
        let rest = self.rest();
        let mut previous = ' ';
        let is_hex = rest.starts_with("0x") || rest.starts_with("0X");
        let end = rest.find(|c: char| {
            let is_exponent_sign =
                matches!(c, '+' | '-') && matches!(previous, 'e' | 'E') && !is_hex;
            previous = c;
            !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || is_exponent_sign)
        });
        let number = &rest[..end.unwrap_or(rest.len())];
        self.at += number.len();
        number
    }

    fn regex(&mut self) -> Result<Token<'a>, Fault> {
        let at = self.at;
        self.next();
        let mut is_escaped = false;
        let pattern = self.run_until_regex_end(&mut is_escaped);
        if self.next() != Some('/') {
            return Err(fault("unexpected /", at));
        }
        Ok(Token::Regex(pattern, self.run(is_name_char)))
    }

    fn run_until_regex_end(&mut self, is_escaped: &mut bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| {
            if is_line_end(c) || (c == '/' && !*is_escaped) {
                return true;
            }
            *is_escaped = c == '\\' && !*is_escaped;
            false
        });
        let pattern = &rest[..end.unwrap_or(rest.len())];
        self.at += pattern.len();
        pattern
    }

    fn string(&mut self, quote: char) -> Result<String, Fault> {
        let start = self.at;
        self.next();
        let mut decoded = String::new();
        loop {
            let at = self.at;
            match self.next() {
                Some(c) if c == quote => return Ok(decoded),
                Some('$') if quote == '`' && self.peek() == Some('{') => {
                    return Err(fault("${...} in a string is not read, join texts with +", at));
                }
                Some('\\') => self.escape(&mut decoded, at)?,
                Some('\n' | '\r') | None if quote != '`' => {
                    return Err(fault("string without end, close it with its quote", start));
                }
                Some(c) => decoded.push(c),
                None => return Err(fault("string without end, close it with its quote", start)),
            }
        }
    }

    /// Decodes what follows a backslash.
    fn escape(&mut self, decoded: &mut String, at: usize) -> Result<(), Fault> {
        let wrong = || fault("escape of a string that is not read", at);
        let escaped = self.next().ok_or_else(wrong)?;
        match escaped {
            'b' => decoded.push('\u{8}'),
            't' => decoded.push('\t'),
            'n' => decoded.push('\n'),
            'v' => decoded.push('\u{b}'),
            'f' => decoded.push('\u{c}'),
            'r' => decoded.push('\r'),
            '0' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => decoded.push('\0'),
            '0'..='9' => return Err(wrong()),
            'x' => {
                let unit = self.hex(2).ok_or_else(wrong)?;
                decoded.push(char::from_u32(unit).ok_or_else(wrong)?);
            }
            'u' if self.peek() == Some('{') => {
                self.next();
                let digits = self.run(|c| c.is_ascii_hexdigit());
                let point = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                decoded.push(point.filter(|_| self.next() == Some('}')).ok_or_else(wrong)?);
            }
            'u' => {
                let mut units = vec![self.utf16_unit().ok_or_else(wrong)?];
                if matches!(units[0], 0xd800..=0xdbff) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    units.push(self.utf16_unit().ok_or_else(wrong)?);
                }
                decoded.push_str(&String::from_utf16_lossy(&units));
            }
            '\r' => {
                if self.peek() == Some('\n') {
                    self.next();
                }
            }
            '\n' | '\u{2028}' | '\u{2029}' => {}
            other => decoded.push(other),
        }
        Ok(())
    }

    fn utf16_unit(&mut self) -> Option<u16> {
        u16::try_from(self.hex(4)?).ok()
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.rest().get(..digits)?;
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += digits;
        u32::from_str_radix(text, 16).ok()
    }
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

/// A fault at byte `at`.
pub(super) fn fault(problem: impl Into<String>, at: usize) -> Fault {
    Fault { problem: problem.into(), at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Token<'_>> {
        tokens(text).unwrap().into_iter().map(|placed| placed.token).collect()
    }

    #[test]
    fn comments_are_left_out_but_not_inside_strings() {
        let text = "/* { \" */ a // ' b\n: 'x // y', \"/* z */\"";
        let expected = vec![
            Token::Name("a"),
            Token::Sign(":"),
            Token::Text("x // y".into()),
            Token::Sign(","),
            Token::Text("/* z */".into()),
        ];
        assert_eq!(words(text), expected);
    }

    #[test]
    fn strings_are_decoded_as_javascript_does() {
        let text = r#"'it\'s' "\x41\u0042\u{43}\n" '\uD83D\uDE00' '\ud83d' `a'b` 'a\
b'"#;
        let texts = ["it's", "ABC\n", "\u{1f600}", "\u{fffd}", "a'b", "ab"];
        assert_eq!(words(text), texts.map(|text| Token::Text(text.into())));
    }

    #[test]
    fn a_slash_divides_behind_an_operand_and_opens_a_regex_elsewhere() {
        assert_eq!(words("4 / 2")[1], Token::Sign("/"));
        assert_eq!(words(r"(/\/x/g")[1], Token::Regex(r"\/x", "g"));
    }

    #[test]
    fn numbers_take_their_exponent_sign() {
        assert_eq!(words("1e-3-2"), [Token::Number("1e-3"), Token::Sign("-"), Token::Number("2")]);
        assert_eq!(words("0xe+1")[0], Token::Number("0xe"));
        assert_eq!(words(".5"), [Token::Number(".5")]);
    }

    #[test]
    fn an_open_end_is_a_fault_at_its_start() {
        for (text, at) in [("a /* b", 2), ("a 'b", 2), ("\"b\n\"", 0), (" `a", 1), ("'\\u12'", 1)] {
            assert_eq!(tokens(text).unwrap_err().at, at, "{text}");
        }
        assert!(tokens("`${x}`").unwrap_err().problem.contains("join texts with +"));
    }
}
