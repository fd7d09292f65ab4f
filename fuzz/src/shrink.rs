//! A failing input made smaller: pieces are left out for as long as it goes on failing.

/// The smallest input found that fails as `input` does, by `fails`.
pub fn shrink(input: &[u8], mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut kept = input.to_vec();
    let mut piece_bytes = kept.len().next_power_of_two();
    while 0 < piece_bytes {
        let mut at = 0;
        while at < kept.len() {
            let end = (at + piece_bytes).min(kept.len());
            let candidate = [&kept[..at], &kept[end..]].concat();
            if fails(&candidate) {
                kept = candidate;
            } else {
                at = end;
            }
        }
        piece_bytes /= 2;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let input = b"some text [ and more ] behind";
        let fails = |text: &[u8]| {
            let open = text.iter().position(|byte| *byte == b'[');
            open.is_some_and(|open| text[open..].contains(&b']'))
        };
        assert_eq!(shrink(input, fails), b"[]");
        assert_eq!(shrink(b"", |_| true), b"");
    }
}
