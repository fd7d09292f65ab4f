//! Text from outside, as it may be shown: in a log, on a terminal, in an error.

use std::fmt::{self, Display, Write};

/// Shows `0` in one line: what is not printable (controls, line and paragraph separators, marks that
/// turn the direction of writing) is escaped as Rust escapes it. Quotes and backslashes stay.
#[derive(Debug)]
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(formatter), "{}", self.0)
    }
}

/// Passes on what is written to it, escaped.
struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, char)) = rest.char_indices().find(|(_, char)| is_escaped(*char)) {
            let (plain, behind) = rest.split_at(at);
            self.0.write_str(plain)?;
            write!(self.0, "{}", char.escape_debug())?;
            rest = &behind[char.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

fn is_escaped(char: char) -> bool {
    let is_mark = matches!(char, '"' | '\'' | '\\');
    !is_mark && !matches!(char, ' '..='~') && 1 < char.escape_debug().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_takes_nothing_of_it_for_its_own() {
        let hostile = "a\n\r\t\0\x1b[2J\u{9b}31m\u{202e}\u{2028}\u{feff}z";
        let shown = Escaped(hostile).to_string();
        let expected = r"a\n\r\t\0\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\u{feff}z";
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_can_be_read_stays_as_it_is() {
        let plain = r#"größe "C:\temp" it's 温度 ~"#;
        assert_eq!(Escaped(plain).to_string(), plain);
    }
}
