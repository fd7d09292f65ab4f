//! What Carbon may see of a name: the gate in front of both output buffers.
//!
//! A point passes only through here, so that no configuration and no key can put poison on the
//! wire. Poison is what costs other points: a byte that is not UTF-8 or a line over 16,384 bytes
//! makes Carbon close the connection and lose all that follows, white space in a name breaks the
//! line, a malformed tag makes the index refuse up to 99 healthy series of the same batch. Such names are made harmless where
//! that is possible without joining two components, and refused and counted where it is not.
//!
//! Names are left as they are otherwise: also empty components (`stats.`, `a..b`) and the order of
//! the tags, so that the text equals the reference daemon's.
//!
//! Source: docs/references.md C1 and C3.

use floe_core::limits::GRAPHITE_LINE_BYTES_MAX;

/// What a text line needs beside its name, bytes: two spaces, a value (at most 25), a timestamp
/// (at most 20) and the line feed.
const LINE_REST_BYTES: usize = 48;

/// Longest name, bytes.
pub const NAME_BYTES_MAX: usize = GRAPHITE_LINE_BYTES_MAX - LINE_REST_BYTES;

/// Why a point is not sent. A closed list: it labels counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// Nothing in front of the tags.
    EmptyName = 0,
    /// The line would pass 4,096 bytes.
    LongName = 1,
    /// The value is infinite or not a number.
    NotFinite = 2,
    /// The timestamp is 0 or beyond 32 bits: Carbon could not store it.
    Timestamp = 3,
}

impl Refusal {
    /// All causes, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::EmptyName, Self::LongName, Self::NotFinite, Self::Timestamp];

    /// The word used in logs, points and docs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::EmptyName => "empty_name",
            Self::LongName => "long_name",
            Self::NotFinite => "not_finite",
            Self::Timestamp => "timestamp",
        }
    }
}

/// What became of the points put into an output buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PointTally {
    /// Points written.
    pub written: u64,
    /// Points written whose name had to be made harmless; part of `written`.
    pub cleaned: u64,
    /// Points refused, by [`Refusal`].
    pub refused: [u64; Refusal::ALL.len()],
}

/// Seconds as Carbon can store them: 1 to 2^32 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp(u32);

impl Timestamp {
    pub(crate) fn new(timestamp_s: u64) -> Option<Self> {
        u32::try_from(timestamp_s).ok().filter(|seconds| *seconds != 0).map(Self)
    }

    pub(crate) fn seconds(self) -> u32 {
        self.0
    }
}

/// Checks points and makes their names harmless; holds the one buffer this needs.
#[derive(Debug, Default)]
pub(crate) struct NameFilter {
    cleaned: Vec<u8>,
    pub(crate) tally: PointTally,
}

impl NameFilter {
    /// The name to send, or `None` where the point is refused; counts either way.
    #[inline]
    pub(crate) fn admit<'n>(
        &'n mut self,
        name: &'n [u8],
        value: f64,
        timestamp: Option<Timestamp>,
    ) -> Option<(&'n [u8], Timestamp)> {
        match self.check(name, value, timestamp) {
            Ok((is_clean, timestamp)) => {
                self.tally.written += 1;
                let name = if is_clean {
                    name
                } else {
                    self.tally.cleaned += u64::from(*self.cleaned != *name);
                    &self.cleaned
                };
                Some((name, timestamp))
            }
            Err(refusal) => {
                self.tally.refused[refusal as usize] += 1;
                None
            }
        }
    }

    #[inline]
    fn check(
        &mut self,
        name: &[u8],
        value: f64,
        timestamp: Option<Timestamp>,
    ) -> Result<(bool, Timestamp), Refusal> {
        let timestamp = timestamp.ok_or(Refusal::Timestamp)?;
        if !value.is_finite() {
            return Err(Refusal::NotFinite);
        }
        let is_clean = is_harmless(name);
        if is_clean {
            check_length(name)?;
        } else {
            clean(name, &mut self.cleaned);
            check_length(&self.cleaned)?;
        }
        Ok((is_clean, timestamp))
    }
}

/// Printable ASCII without space: what a name may hold without a second look.
const IS_PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        plain[byte as usize] = byte != b';';
        byte += 1;
    }
    plain
};

/// Whether `name` is plain ASCII with well-formed tags: the common case, decided in one pass.
#[inline]
fn is_harmless(name: &[u8]) -> bool {
    if name.first() == Some(&b'~') || is_in_braces(name) {
        return false;
    }
    match name.iter().position(|byte| !IS_PLAIN[usize::from(*byte)]) {
        None => true,
        Some(end) => name[end] == b';' && name[end + 1..].split(|byte| *byte == b';').all(is_tag),
    }
}

/// Whether Carbon takes `name` for one of another spelling, `name{tag="value"}`, which the value of a
/// tag can look like; its index refuses the batch where it is not quite that.
#[inline]
fn is_in_braces(name: &[u8]) -> bool {
    name.ends_with(b"\"}") && name.contains(&b'{')
}

/// `tag=value`: tag without `! ^ =`, value not beginning with `~`, neither empty.
fn is_tag(piece: &[u8]) -> bool {
    let Some(equals) = memchr_equals(piece) else { return false };
    let (tag, value) = (&piece[..equals], &piece[equals + 1..]);
    !tag.is_empty()
        && !tag.iter().any(|byte| matches!(byte, b'!' | b'^'))
        && value.first().is_some_and(|byte| *byte != b'~')
        && piece.iter().all(|byte| IS_PLAIN[usize::from(*byte)])
}

fn memchr_equals(piece: &[u8]) -> Option<usize> {
    piece.iter().position(|byte| *byte == b'=')
}

/// Length of the whole name.
///
/// A component of more than 251 bytes is a file name carbon cannot make; it is sent all the same, as
/// the reference daemon sends it: not every backend keeps a file per series.
#[inline]
fn check_length(name: &[u8]) -> Result<(), Refusal> {
    if name.is_empty() || name[0] == b';' {
        return Err(Refusal::EmptyName);
    }
    if NAME_BYTES_MAX < name.len() { Err(Refusal::LongName) } else { Ok(()) }
}

/// Puts a harmless form of `name` into `out`: invalid UTF-8 becomes U+FFFD, white space and
/// controls `_`, empty tags go, a tag's missing half and its forbidden characters become `_`. So do a
/// brace at the end of what Carbon would read in another way, and the last of the `~` that alone are
/// no name to its index.
#[cold]
fn clean(name: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let text = String::from_utf8_lossy(name);
    let (name, tags) = text.split_once(';').unwrap_or((&text, ""));
    push_visible(name, "", out);
    if out.iter().all(|byte| *byte == b'~')
        && let Some(last) = out.last_mut()
    {
        *last = b'_';
    }
    for piece in tags.split(';').filter(|piece| !piece.is_empty()) {
        let (tag, value) = piece.split_once('=').unwrap_or((piece, ""));
        out.push(b';');
        push_visible(if tag.is_empty() { "_" } else { tag }, "!^", out);
        out.push(b'=');
        let is_first_forbidden = value.is_empty() || value.starts_with('~');
        if is_first_forbidden {
            out.push(b'_');
        }
        push_visible(value.strip_prefix('~').unwrap_or(value), "", out);
    }
    if is_in_braces(out)
        && let Some(last) = out.last_mut()
    {
        *last = b'_';
    }
}

/// Appends `text` with `_` for white space, controls and the characters of `forbidden`.
fn push_visible(text: &str, forbidden: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        let is_harmless =
            !character.is_control() && !character.is_whitespace() && !forbidden.contains(character);
        let character = if is_harmless { character } else { '_' };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admitted(name: &[u8]) -> Result<String, Refusal> {
        let mut filter = NameFilter::default();
        match filter.admit(name, 1.0, Timestamp::new(1)) {
            Some((name, _)) => Ok(String::from_utf8(name.to_vec()).unwrap()),
            None => Err(Refusal::ALL
                .into_iter()
                .find(|refusal| filter.tally.refused[*refusal as usize] == 1)
                .unwrap()),
        }
    }

    #[test]
    fn names_of_the_reference_pass_unchanged() {
        for name in [
            "stats.",
            "stats..",
            "stats.gauges...dots..",
            "stats.timers..count_90",
            "stats.n.h1;env=prod;host=a",
            "stats.a;x/y=z!",
            "stats.n;b=1;a=2",
            "a:b#c%d@e",
        ] {
            assert_eq!(admitted(name.as_bytes()).unwrap(), name);
        }
    }

    #[test]
    fn white_space_controls_and_broken_utf8_are_made_harmless() {
        assert_eq!(admitted(b"a b\tc\nd\re\x00f\x7fg").unwrap(), "a_b_c_d_e_f_g");
        assert_eq!(admitted("a\u{a0}b\u{2003}c\u{85}d\u{1c}e".as_bytes()).unwrap(), "a_b_c_d_e");
        assert_eq!(admitted(b"a\xffb").unwrap(), "a\u{fffd}b");
        assert_eq!(
            admitted("caf\u{e9};st\u{e4}dt=K\u{f6}ln".as_bytes()).unwrap(),
            "caf\u{e9};st\u{e4}dt=K\u{f6}ln"
        );
        assert_eq!(admitted(b"n;k=a 1 2\nb 1").unwrap(), "n;k=a_1_2_b_1");
    }

    #[test]
    fn malformed_tags_become_well_formed() {
        assert_eq!(admitted(b"stats.;").unwrap(), "stats.");
        assert_eq!(admitted(b"n;;a=1;;").unwrap(), "n;a=1");
        assert_eq!(admitted(b"n;bare").unwrap(), "n;bare=_");
        assert_eq!(admitted(b"n;=v;k=").unwrap(), "n;_=v;k=_");
        assert_eq!(admitted(b"n;a!b^c=~v").unwrap(), "n;a_b_c=_v");
        assert_eq!(admitted(b"n;k=~").unwrap(), "n;k=_");
        assert_eq!(admitted(b"n;k=a=b!^~").unwrap(), "n;k=a=b!^~");
    }

    #[test]
    fn r5_a_name_that_carbon_would_read_in_another_way_is_made_harmless() {
        assert_eq!(admitted(br#"n;j={"k":"v"}"#).unwrap(), r#"n;j={"k":"v"_"#);
        assert_eq!(admitted(br#"n{a="b"}"#).unwrap(), r#"n{a="b"_"#);
        for same in [r#"n;j={"k":1}"#, r#"n;j="k"}"#, "n;j={}", "~n", "~n;a=b", "n~"] {
            assert_eq!(admitted(same.as_bytes()).unwrap(), same);
        }
    }

    #[test]
    fn r5_tildes_alone_are_no_name_to_the_index() {
        assert_eq!(admitted(b"~").unwrap(), "_");
        assert_eq!(admitted(b"~~;a=b").unwrap(), "~_;a=b");
    }

    #[test]
    fn names_that_cannot_be_mended_are_refused() {
        assert_eq!(admitted(b""), Err(Refusal::EmptyName));
        assert_eq!(admitted(b";k=v"), Err(Refusal::EmptyName));
        let name = "ab.".repeat(NAME_BYTES_MAX);
        assert!(admitted(&name.as_bytes()[..NAME_BYTES_MAX]).is_ok());
        assert_eq!(admitted(&name.as_bytes()[..=NAME_BYTES_MAX]), Err(Refusal::LongName));
        // Cleaning lengthens: the length that counts is the one that is sent.
        let name = b"\xff.".repeat(NAME_BYTES_MAX / 2);
        assert_eq!(admitted(&name), Err(Refusal::LongName));
    }

    #[test]
    fn values_and_timestamps_carbon_cannot_store_are_refused() {
        let mut filter = NameFilter::default();
        let now = Timestamp::new(1_700_000_000);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(filter.admit(b"a", value, now), None);
        }
        for timestamp_s in [0, 1 << 32, u64::MAX] {
            assert_eq!(filter.admit(b"a", 1.0, Timestamp::new(timestamp_s)), None);
        }
        assert!(filter.admit(b"a", f64::MAX, Timestamp::new(u64::from(u32::MAX))).is_some());
        assert_eq!(filter.tally, PointTally { written: 1, cleaned: 0, refused: [0, 0, 3, 3] });
    }

    proptest! {
        #[test]
        fn whatever_passes_is_harmless(name in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(name) = admitted(&name) {
                prop_assert!(!name.chars().any(|c| c.is_whitespace() || c.is_control()));
                let mut pieces = name.split(';');
                prop_assert!(!pieces.next().unwrap().is_empty());
                for piece in pieces {
                    let (tag, value) = piece.split_once('=').unwrap();
                    prop_assert!(!tag.is_empty() && !tag.contains(['!', '^']));
                    prop_assert!(!value.is_empty() && !value.starts_with('~'));
                }
                // What is harmless stays as it is.
                prop_assert_eq!(admitted(name.as_bytes()).unwrap(), name);
            }
        }
    }
}
