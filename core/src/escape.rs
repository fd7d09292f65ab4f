//! Text that came from outside, as one line of a reply: control characters are escaped.

/// `text` with every control character as Rust escapes it, everything else as it is.
#[must_use]
pub fn controls_escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_alone_are_escaped() {
        assert_eq!(
            controls_escaped("a\n\u{1b}[2J\u{9b}\u{e9} \"'\\"),
            "a\\n\\u{1b}[2J\\u{9b}\u{e9} \"'\\"
        );
    }
}
