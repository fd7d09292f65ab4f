//! White space as the reference daemon's language has it: more than ASCII, on raw bytes.
//!
//! Numbers and types are trimmed by it, keys are cleaned by it. Works on UTF-8 without decoding:
//! each of the characters begins with a byte that can begin nothing else, so a match at either end
//! of any bytes, valid or not, is the character.

/// The length in bytes of the white space character that `text` begins with; 0 if with none.
///
/// ASCII tab to carriage return and space; U+00A0, U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F,
/// U+205F, U+3000 and the byte order mark U+FEFF.
pub(super) const fn leading(text: &[u8]) -> usize {
    match text {
        [b'\t'..=b'\r' | b' ', ..] => 1,
        [0xc2, 0xa0, ..] => 2,
        [0xe1, 0x9a, 0x80, ..]
        | [0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf, ..]
        | [0xe2, 0x81, 0x9f, ..]
        | [0xe3, 0x80, 0x80, ..]
        | [0xef, 0xbb, 0xbf, ..] => 3,
        _ => 0,
    }
}

/// The length in bytes of the white space character that `text` ends with; 0 if with none.
const fn trailing(text: &[u8]) -> usize {
    match text {
        [.., b'\t'..=b'\r' | b' '] => 1,
        [.., 0xc2, 0xa0] => 2,
        [.., 0xe1, 0x9a, 0x80]
        | [.., 0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf]
        | [.., 0xe2, 0x81, 0x9f]
        | [.., 0xe3, 0x80, 0x80]
        | [.., 0xef, 0xbb, 0xbf] => 3,
        _ => 0,
    }
}

/// `text` without the white space at both ends.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    loop {
        let count = leading(text);
        match text.split_at_checked(count) {
            Some((_, rest)) if 0 < count => text = rest,
            _ => break,
        }
    }
    loop {
        let count = trailing(text);
        match text.len().checked_sub(count).and_then(|end| text.get(..end)) {
            Some(rest) if 0 < count => text = rest,
            _ => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The characters that ECMAScript calls WhiteSpace or LineTerminator.
    const ALL: &str = "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\
        \u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\
        \u{feff}";

    #[test]
    fn exactly_the_named_characters_are_white_space() {
        for character in (0..=0x1_0000).filter_map(char::from_u32) {
            let mut bytes = [0; 4];
            let text = character.encode_utf8(&mut bytes).as_bytes();
            let expected = if ALL.contains(character) { text.len() } else { 0 };
            assert_eq!(leading(text), expected, "{character:?}");
            assert_eq!(trailing(text), expected, "{character:?}");
        }
    }

    #[test]
    fn both_ends_are_trimmed_and_the_middle_is_kept() {
        assert_eq!(trim(format!("{ALL}a b{ALL}").as_bytes()), b"a b");
        assert_eq!(trim(ALL.as_bytes()), b"");
        assert_eq!(trim(b""), b"");
    }

    #[test]
    fn parts_of_a_character_are_not_white_space() {
        assert_eq!(trim(b"\xa0x\xc2"), b"\xa0x\xc2");
        assert_eq!(trim(b"\xc2\xc2\xa0"), b"\xc2");
        assert_eq!(trim(b"\x80\x83"), b"\x80\x83");
    }
}
