//! Tags: the part of a line behind `|#`.
//!
//! Called by the general path. `|#a:b,c` becomes `;a=b;c` behind the key; the order is kept, so
//! another order is another series. A rate behind the tags, as DogStatsD clients send it, is taken
//! out of them first: the reference daemon would make its digits part of the last tag.

/// A line, parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'d> {
    /// Key and values.
    pub(super) body: &'d [u8],
    /// Text of the tags; empty = none.
    pub(super) tags: &'d [u8],
    /// Text of a rate behind the tags, without its `@`.
    pub(super) rate: Option<&'d [u8]>,
}

/// Parts `line` at its first `|#`, and ends the tags at the second.
///
/// Within the tags the first `|@` begins a rate, which ends at the next `|`; what follows is
/// ignored, as behind a rate before the tags.
pub(super) fn part(line: &[u8]) -> Parts<'_> {
    let (body, rest) = split_pair(line, b'#');
    let (text, _) = split_pair(rest.unwrap_or_default(), b'#');
    let (tags, rate) = split_pair(text, b'@');
    let rate = rate.map(|rate| memchr::memchr(b'|', rate).map_or(rate, |end| rate.split_at(end).0));
    Parts { body, tags, rate }
}

/// `text` before and behind the first `|` that `second` follows.
fn split_pair(text: &[u8], second: u8) -> (&[u8], Option<&[u8]>) {
    for at in memchr::memchr_iter(b'|', text) {
        let (before, pair) = text.split_at(at);
        if let [_, byte, behind @ ..] = pair
            && *byte == second
        {
            return (before, Some(behind));
        }
    }
    (text, None)
}

/// Appends `tags` to `raw` as the key has them: `;`, then each tag, its first `;` as `_` and its
/// first `:` as `=`. Nothing for no tags; an empty tag between others stays.
///
/// # Source
/// docs/references.md S2.
pub(super) fn append(tags: &[u8], raw: &mut Vec<u8>) {
    if tags.is_empty() {
        return;
    }
    raw.push(b';');
    let start = raw.len();
    raw.extend_from_slice(tags);
    let (_, added) = raw.split_at_mut(start);
    let (mut is_semicolon_seen, mut is_colon_seen) = (false, false);
    for byte in added {
        match *byte {
            b',' => {
                *byte = b';';
                (is_semicolon_seen, is_colon_seen) = (false, false);
            }
            b';' if !is_semicolon_seen => {
                *byte = b'_';
                is_semicolon_seen = true;
            }
            b':' if !is_colon_seen => {
                *byte = b'=';
                is_colon_seen = true;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(tags: &str) -> String {
        let mut raw = b"key".to_vec();
        append(tags.as_bytes(), &mut raw);
        String::from_utf8(raw).unwrap()
    }

    fn parted(line: &str) -> (&str, &str, Option<&str>) {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let parts = part(line.as_bytes());
        (text(parts.body), text(parts.tags), parts.rate.map(text))
    }

    #[test]
    fn tags_follow_the_key_in_their_order() {
        assert_eq!(appended("env:prod,host:a"), "key;env=prod;host=a");
        assert_eq!(appended("b,a"), "key;b;a");
        assert_eq!(appended(""), "key");
    }

    #[test]
    fn an_empty_tag_stays() {
        assert_eq!(appended(",a,,b,"), "key;;a;;b;");
    }

    #[test]
    fn only_the_first_colon_and_the_first_semicolon_of_a_tag_change() {
        assert_eq!(appended("a:b:c"), "key;a=b:c");
        assert_eq!(appended("a;b;c:d;e"), "key;a_b;c=d;e");
    }

    #[test]
    fn a_line_is_parted_at_its_first_two_tag_marks() {
        assert_eq!(parted("a:1|c"), ("a:1|c", "", None));
        assert_eq!(parted("a:1|c|#x:y"), ("a:1|c", "x:y", None));
        assert_eq!(parted("a:1|c|#x:y|#z:w"), ("a:1|c", "x:y", None));
        assert_eq!(parted("a:1|c|#"), ("a:1|c", "", None));
        assert_eq!(parted("a:1|c|#|#x"), ("a:1|c", "", None));
        assert_eq!(parted("a:1|c||#x"), ("a:1|c|", "x", None));
        assert_eq!(parted("a|#"), ("a", "", None));
        assert_eq!(parted("|"), ("|", "", None));
    }

    #[test]
    fn a_rate_behind_the_tags_is_no_tag() {
        assert_eq!(parted("a:1|c|#x:y|@0.1"), ("a:1|c", "x:y", Some("0.1")));
        assert_eq!(parted("a:1|c|#x:y|@0.1|T5"), ("a:1|c", "x:y", Some("0.1")));
        assert_eq!(parted("a:1|c|#|@0.1"), ("a:1|c", "", Some("0.1")));
        assert_eq!(parted("a:1|c|#x|y|@"), ("a:1|c", "x|y", Some("")));
        assert_eq!(parted("a:1|c|#x|#y|@0.1"), ("a:1|c", "x", None));
        assert_eq!(parted("a:1|c|@0.5|#x"), ("a:1|c|@0.5", "x", None));
    }
}
