//! Texts in quotes, and how much room a printed text takes.
//!
//! Quotes are single ones, or double ones, or backticks: the first that do not occur in the text.
//! Every control character is escaped, so that what a client sent as a name cannot drive the
//! terminal of whoever looks at it.

/// `text` between quotes, escaped as Node does it.
pub(super) fn quoted(text: &str) -> String {
    let quote = if !text.contains('\'') {
        '\''
    } else if !text.contains('"') {
        '"'
    } else if !text.contains('`') && !text.contains("${") {
        '`'
    } else {
        '\''
    };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for character in text.chars() {
        match character {
            '\u{8}' => out.push_str(r"\b"),
            '\t' => out.push_str(r"\t"),
            '\n' => out.push_str(r"\n"),
            '\u{c}' => out.push_str(r"\f"),
            '\r' => out.push_str(r"\r"),
            '\\' => out.push_str(r"\\"),
            '\'' if quote == '\'' => out.push_str(r"\'"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
                out.push_str(&format!("\\x{:02X}", u32::from(character)));
            }
            _ => out.push(character),
        }
    }
    out.push(quote);
    out
}

/// The first `units` UTF-16 units of `text`, and how many were left off.
pub(super) fn cut(text: &str, units: usize) -> (&str, usize) {
    // A character of UTF-8 takes at least as many bytes as units.
    if text.len() <= units {
        return (text, 0);
    }
    let mut kept = 0;
    for (at, character) in text.char_indices() {
        if units < kept + character.len_utf16() {
            let (shown, rest) = text.split_at(at);
            return (shown, rest.chars().map(char::len_utf16).sum());
        }
        kept += character.len_utf16();
    }
    (text, 0)
}

/// Length in UTF-16 units, without colours.
pub(super) fn plain_len(text: &str) -> usize {
    if text.is_ascii() && !text.contains('\x1b') {
        return text.len();
    }
    plain(text).map(char::len_utf16).sum()
}

/// Columns of a terminal, without colours.
pub(super) fn width(text: &str) -> usize {
    plain(text).map(character_width).sum()
}

/// The characters that are not part of a colour. An escape character inside a text never gets here:
/// it is printed as `\x1B`.
fn plain(text: &str) -> impl Iterator<Item = char> {
    let mut is_color = false;
    text.chars().filter(move |character| {
        if *character == '\x1b' {
            is_color = true;
        }
        let is_plain = !is_color;
        if *character == 'm' {
            is_color = false;
        }
        is_plain
    })
}

/// 0 for combining marks and what has no width, 2 for East Asian wide characters and emoji, else 1.
fn character_width(character: char) -> usize {
    match u32::from(character) {
        ..0x20 | 0x7f..=0x9f => 0,
        0x300..=0x36f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0xe0100..=0xe01ef => 0,
        0x1100..=0x115f
        | 0x2329
        | 0x232a
        | 0x2e80..=0x303e
        | 0x3040..=0x3247
        | 0x3250..=0x4dbf
        | 0x4e00..=0xa4c6
        | 0xa960..=0xa97c
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe10..=0xfe19
        | 0xfe30..=0xfe6b
        | 0xff01..=0xff60
        | 0xffe0..=0xffe6
        | 0x1b000..=0x1b001
        | 0x1f200..=0x1f251
        | 0x1f300..=0x1f64f
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), ("abc", 0));
        assert_eq!(cut("abcd", 3), ("abc", 1));
        assert_eq!(cut("äöü€", 3), ("äöü", 1));
        assert_eq!(cut("a😀😀", 2), ("a", 4), "half a pair is left off whole");
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(plain_len("\x1b[33m12\x1b[39m, \x1b[32m'm'\x1b[39m"), 7);
        assert_eq!((plain_len("漢字😀"), width("漢字😀")), (4, 6));
        assert_eq!(width("e\u{301}"), 1);
    }
}
