//! A receiver of Carbon's protocols as Carbon has it, from its behaviour: what it takes, what it loses,
//! and what makes it lose others (docs/references.md C1 to C3).
//!
//! Written plainly, one character after the other; it shares nothing with the encoders.

/// Carbon closes the connection at a longer line, bytes.
const LINE_BYTES_MAX: usize = 16_384;

/// Carbon closes the connection at a longer pickle, bytes.
const PICKLE_BYTES_MAX: usize = 1_048_576;

/// One point as Carbon stores it.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The metric.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Seconds since the epoch.
    pub timestamp_s: u64,
}

/// Reads a connection of the plaintext protocol.
///
/// # Errors
/// The first line that harms others, or that Carbon would not take as it is meant.
pub fn read_lines(bytes: &[u8]) -> Result<Vec<Point>, String> {
    let mut lines = bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>();
    if lines.pop() != Some(&[]) {
        return Err("the last line has no end".to_owned());
    }
    lines.into_iter().map(read_line).collect()
}

fn read_line(line: &[u8]) -> Result<Point, String> {
    let shown = || line.escape_ascii().to_string();
    if LINE_BYTES_MAX < line.len() {
        return Err(format!("a line of {} bytes closes the connection", line.len()));
    }
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("closes the connection, {error}: {}", shown()))?;
    let words: Vec<&str> = text.split(is_python_space).filter(|word| !word.is_empty()).collect();
    let [name, value, timestamp] = words[..] else {
        return Err(format!("{} words: {}", words.len(), shown()));
    };
    let value = value.parse().map_err(|error| format!("value, {error}: {}", shown()))?;
    let timestamp_s = timestamp.parse().map_err(|error| format!("time, {error}: {}", shown()))?;
    point(name, value, timestamp_s)
}

/// What Python's `str.split()` parts words at.
fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Reads a connection of the pickle protocol, as far as its frames are whole.
///
/// # Errors
/// The first frame that Carbon would not take as it is meant.
pub fn read_frames(mut bytes: &[u8]) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        if PICKLE_BYTES_MAX < length {
            return Err(format!("a frame of {length} bytes closes the connection"));
        }
        let (pickle, rest) =
            rest.split_at_checked(length).ok_or("a frame is shorter than its length")?;
        read_pickle(pickle, &mut points)?;
        bytes = rest;
    }
    if bytes.is_empty() { Ok(points) } else { Err("bytes behind the last frame".to_owned()) }
}

/// One thing on the stack of an unpickler.
enum Item {
    Mark,
    List,
    Text(String),
    Integer(i64),
    Float(f64),
    Pair(Box<(Item, Item)>),
}

/// An unpickler that knows the operations which need no class: all others are refused by Carbon's own.
fn read_pickle(pickle: &[u8], points: &mut Vec<Point>) -> Result<(), String> {
    let mut rest = pickle;
    let mut stack = Vec::new();
    loop {
        let [operation, behind @ ..] = rest else { return Err("a pickle without its end".into()) };
        rest = behind;
        match operation {
            0x80 => rest = take::<1>(rest)?.1,
            b']' => stack.push(Item::List),
            b'(' => stack.push(Item::Mark),
            b'X' => {
                let (length, behind) = take::<4>(rest)?;
                let length = u32::from_le_bytes(length) as usize;
                let (text, behind) = behind.split_at_checked(length).ok_or("a text is cut")?;
                let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
                stack.push(Item::Text(text.to_owned()));
                rest = behind;
            }
            b'J' => {
                let (number, behind) = take::<4>(rest)?;
                stack.push(Item::Integer(i32::from_le_bytes(number).into()));
                rest = behind;
            }
            0x8a => {
                let (length, behind) = take::<1>(rest)?;
                let length = usize::from(length[0]);
                let (digits, behind) = behind.split_at_checked(length).ok_or("a number is cut")?;
                let mut number =
                    [if digits.last().is_some_and(|top| 0x80 <= *top) { 0xff } else { 0 }; 8];
                number
                    .get_mut(..length)
                    .ok_or("a number of more than 8 bytes")?
                    .copy_from_slice(digits);
                stack.push(Item::Integer(i64::from_le_bytes(number)));
                rest = behind;
            }
            b'G' => {
                let (number, behind) = take::<8>(rest)?;
                stack.push(Item::Float(f64::from_be_bytes(number)));
                rest = behind;
            }
            0x86 => {
                let (second, first) = (stack.pop(), stack.pop());
                let pair = first.zip(second).ok_or("a pair of nothing")?;
                stack.push(Item::Pair(Box::new(pair)));
            }
            b'e' => {
                let mark = stack.iter().rposition(|item| matches!(item, Item::Mark));
                let items = stack.split_off(mark.ok_or("no mark to append from")? + 1);
                stack.pop();
                for item in items {
                    points.push(pickled_point(item)?);
                }
            }
            b'.' => {
                let is_whole = matches!(stack[..], [Item::List]) && rest.is_empty();
                return if is_whole { Ok(()) } else { Err("a pickle of more than a list".into()) };
            }
            other => return Err(format!("operation {other:#04x}")),
        }
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), String> {
    bytes.split_first_chunk().map(|(head, rest)| (*head, rest)).ok_or_else(|| "cut".to_owned())
}

fn pickled_point(item: Item) -> Result<Point, String> {
    let Item::Pair(pair) = item else { return Err("a point that is no pair".to_owned()) };
    let (Item::Text(name), Item::Pair(datapoint)) = *pair else {
        return Err("a point that is no name and pair".to_owned());
    };
    let (Item::Integer(timestamp_s), Item::Float(value)) = *datapoint else {
        return Err("a point that is no time and value".to_owned());
    };
    if name.contains(is_python_space) {
        return Err(format!("white space in {name:?}"));
    }
    point(&name, value, u64::try_from(timestamp_s).map_err(|error| error.to_string())?)
}

/// A point with what the whole of Carbon asks of it: the index of tags refuses a whole batch of series
/// with one name that it cannot take apart.
fn point(name: &str, value: f64, timestamp_s: u64) -> Result<Point, String> {
    if !value.is_finite() {
        return Err(format!("{value} is stored as it is, or dropped in silence"));
    }
    if timestamp_s == 0 || u64::from(u32::MAX) < timestamp_s {
        return Err(format!("no file has a place for second {timestamp_s}"));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("a control character in {name:?}"));
    }
    read_series(name).map_err(|problem| format!("{problem}: {name:?}"))?;
    Ok(Point { name: name.to_owned(), value, timestamp_s })
}

/// Takes a name apart as the index of tags does: metric, and tags if it has any.
///
/// # Errors
/// Why it could not.
pub fn read_series(name: &str) -> Result<(String, Vec<(String, String)>), String> {
    let (metric, tags) = if name.ends_with("\"}") && name.contains('{') {
        read_braces(name)?
    } else {
        let mut pieces = name.split(';');
        let metric = pieces.next().unwrap_or_default().to_owned();
        let tags = pieces.map(|piece| {
            let (tag, value) = piece.split_once('=').ok_or("a tag without its value")?;
            Ok((tag.to_owned(), value.to_owned()))
        });
        (metric, tags.collect::<Result<Vec<_>, String>>()?)
    };
    if metric.trim_start_matches('~').is_empty() {
        return Err("no metric".to_owned());
    }
    for (tag, value) in &tags {
        if tag.is_empty() || tag.contains([';', '!', '^', '=']) {
            return Err(format!("tag {tag:?}"));
        }
        if value.is_empty() || value.contains(';') || value.starts_with('~') {
            return Err(format!("value {value:?} of tag {tag:?}"));
        }
    }
    Ok((metric, tags))
}

type Series = (String, Vec<(String, String)>);

/// `metric{tag="value",other="value"}`; a colon may stand before a comma.
fn read_braces(name: &str) -> Result<Series, String> {
    let inner = &name[..name.len() - 1];
    let pieces: Vec<&str> = inner.split('{').collect();
    let [metric, mut rest] = pieces[..] else { return Err("two opening braces".to_owned()) };
    let mut tags = Vec::new();
    while !rest.is_empty() {
        let (tag, behind) = rest.split_once('=').ok_or("a tag without its value")?;
        let mut characters = behind.strip_prefix('"').ok_or("a value without quotes")?.chars();
        let mut value = String::new();
        loop {
            match characters.next() {
                Some('"') => break,
                Some('\\') => match characters.next() {
                    Some(escaped @ ('"' | '\\')) => value.push(escaped),
                    _ => return Err("a lone backslash".to_owned()),
                },
                Some(other) => value.push(other),
                None => return Err("a value without its end".to_owned()),
            }
        }
        let behind = characters.as_str();
        let comma =
            behind.strip_prefix(':').filter(|behind| behind.starts_with(',')).unwrap_or(behind);
        rest = match comma.strip_prefix(',') {
            Some(next) => next,
            None if comma.is_empty() => "",
            None => return Err("something behind a value".to_owned()),
        };
        tags.push((tag.to_owned(), value));
    }
    Ok((metric.to_owned(), tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_harms_others_is_told() {
        let harm = |bytes: &[u8]| read_lines(bytes).unwrap_err();
        assert!(harm(b"a\xff 1 1\n").contains("closes"));
        assert!(harm(&[&b"a".repeat(16_384), &b" 1 1\n"[..]].concat()).contains("closes"));
        assert!(harm("a\u{3000}b 1 1\n".as_bytes()).contains("4 words"));
        assert!(harm(b"a 1 1").contains("no end"));
        assert!(harm(b"a inf 1\n").contains("stored"));
        for name in ["a;b", "a;=c", "a;b=", "a;b=~c", "a;b!=c", "~;a=b", "a{!\"}", "a{{b=\"c\"}"] {
            assert!(read_lines(format!("{name} 1 1\n").as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn series_are_taken_apart_in_both_spellings() {
        let tags = vec![("b".to_owned(), "c".to_owned()), ("d".to_owned(), "e\"".to_owned())];
        assert_eq!(read_series("a;b=c;d=e\""), Ok(("a".to_owned(), tags.clone())));
        assert_eq!(read_series(r#"a{b="c",d="e\""}"#), Ok(("a".to_owned(), tags)));
    }
}
