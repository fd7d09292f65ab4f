//! Keys that must be rewritten: cleaning, and the replacement of bytes that are no text.
//!
//! Called by the general path only; a key of clean bytes is borrowed from the datagram. The result
//! goes into scratch memory that is kept from line to line. With `keyNameSanitize` every run of
//! white space becomes one `_`, every `/` a `-`, and what is outside `A-Za-z0-9_-.;=` is left out;
//! without it only invalid UTF-8 changes, into U+FFFD.

use super::white_space;

/// `raw` as it may be kept: itself, or rewritten in `scratch`.
///
/// With `is_sanitizing` cleaned as a key, without it with U+FFFD for each invalid sequence.
pub(super) fn rewrite<'k>(
    raw: &'k [u8],
    is_sanitizing: bool,
    scratch: &'k mut Vec<u8>,
) -> &'k [u8] {
    let is_kept = if is_sanitizing {
        // Without an early end the bytes can be compared many at once.
        raw.iter().fold(true, |is_kept, byte| is_kept & is_clean(*byte))
    } else {
        std::str::from_utf8(raw).is_ok()
    };
    if is_kept {
        return raw;
    }
    scratch.clear();
    if is_sanitizing {
        append_clean(raw, scratch);
    } else {
        append_text(raw, scratch);
    }
    scratch
}

/// Whether `byte` may stand in a key that is cleaned. Without branches, for loops over many bytes.
#[inline]
pub(crate) const fn is_clean(byte: u8) -> bool {
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let is_digit = byte.wrapping_sub(b'0') < 10;
    let is_mark =
        (byte == b'_') | (byte == b'-') | (byte == b'.') | (byte == b';') | (byte == b'=');
    is_letter | is_digit | is_mark
}

/// Appends `raw`, cleaned, to `key`.
///
/// # Source
/// docs/references.md S4.
pub(crate) fn append_clean(raw: &[u8], key: &mut Vec<u8>) {
    let mut rest = raw;
    let mut is_in_space = false;
    loop {
        let count = rest.iter().position(|byte| !is_clean(*byte)).unwrap_or(rest.len());
        let (clean, odd) = rest.split_at(count);
        key.extend_from_slice(clean);
        let [byte, behind @ ..] = odd else { return };
        is_in_space &= clean.is_empty();
        let space = white_space::leading(odd);
        if 0 < space {
            if !is_in_space {
                key.push(b'_');
            }
            rest = odd.get(space..).unwrap_or_default();
        } else {
            if *byte == b'/' {
                key.push(b'-');
            }
            rest = behind;
        }
        is_in_space = 0 < space;
    }
}

/// Appends `raw` to `text`, each invalid UTF-8 sequence as one U+FFFD.
fn append_text(raw: &[u8], text: &mut Vec<u8>) {
    for chunk in raw.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            text.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(raw: &[u8]) -> String {
        let mut scratch = b"of the line before".to_vec();
        let key = rewrite(raw, true, &mut scratch).to_vec();
        String::from_utf8(key).unwrap()
    }

    #[test]
    fn a_run_of_white_space_becomes_one_underscore() {
        assert_eq!(clean(b" a \t b\x0bc\xc2\xa0\xe2\x80\x83d "), "_a_b_c_d_");
    }

    #[test]
    fn what_is_removed_still_parts_two_runs() {
        assert_eq!(clean(b"a ! b"), "a__b");
        assert_eq!(clean(b"a \xff b"), "a__b");
    }

    #[test]
    fn a_slash_becomes_a_dash() {
        assert_eq!(clean(b"/a//b/"), "-a--b-");
    }

    #[test]
    fn other_characters_are_removed() {
        assert_eq!(clean(b"x!@$%^&*()+y|z\0\x1b"), "xyz");
        assert_eq!(clean("caf\u{e9}\u{1f600}s".as_bytes()), "cafs");
        assert_eq!(clean(b"Up.Down_0-9;t=v"), "Up.Down_0-9;t=v");
        assert_eq!(clean(b"a\xffb\xc3("), "ab");
        assert_eq!(clean(b"o\xc0\x80k"), "ok");
    }

    #[test]
    fn invalid_text_is_replaced_sequence_by_sequence() {
        for raw in [&b"a\xffb"[..], b"\xe2\x82x", b"\xc0\x80", b"\xf0\x9f\x98\x80\xf0\x9f", b"ok"] {
            let mut scratch = b"of the line before".to_vec();
            let text = rewrite(raw, false, &mut scratch);
            assert_eq!(text, String::from_utf8_lossy(raw).as_bytes(), "{raw:?}");
        }
    }

    #[test]
    fn what_may_be_kept_is_not_copied() {
        for (raw, is_sanitizing) in [(&b"a.b;c=d"[..], true), ("a \u{e9}/".as_bytes(), false)] {
            let mut scratch = Vec::new();
            assert_eq!(rewrite(raw, is_sanitizing, &mut scratch).as_ptr(), raw.as_ptr());
        }
    }
}
