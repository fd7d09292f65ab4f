//! What differs between two plays of a situation, or between two flushes.

use std::collections::BTreeMap;

use super::carbon;
use super::situation::{Act, Flush, Situation};

/// What differs between what was seen before and now.
pub(crate) fn differences(recorded: &Situation, played: &Situation) -> Vec<String> {
    let mut found = Vec::new();
    for (index, (before, now)) in recorded.play.iter().zip(&played.play).enumerate() {
        for difference in act_differences(before, now) {
            found.push(format!("act {}: {difference}", index + 1));
        }
    }
    found
}

fn act_differences(before: &Act, now: &Act) -> Vec<String> {
    let differ = |before: &dyn std::fmt::Debug, now: &dyn std::fmt::Debug| {
        vec![format!("recorded {before:?}\n     seen     {now:?}")]
    };
    match (before, now) {
        (Act::Flush { seen: Some(before), .. }, Act::Flush { seen: Some(now), .. }) => {
            flush_differences(before, now)
        }
        (Act::Ask { seen: Some(before), compare, .. }, Act::Ask { seen: Some(now), .. }) => {
            let is_same = before.closes == now.closes
                && match compare.as_deref() {
                    Some("template") => template(&before.text) == template(&now.text),
                    Some("lines") => {
                        before.text.lines().all(|line| now.text.lines().any(|seen| seen == line))
                    }
                    _ => before.text == now.text,
                };
            if is_same { Vec::new() } else { differ(before, now) }
        }
        (Act::Exit { seen: Some(before) }, Act::Exit { seen: Some(now) }) if before != now => {
            differ(before, now)
        }
        (Act::Rows { seen: Some(before), .. }, Act::Rows { seen: Some(now), .. })
        | (Act::Sink { seen: Some(before), .. }, Act::Sink { seen: Some(now), .. })
        | (Act::Print { seen: Some(before), .. }, Act::Print { seen: Some(now), .. })
            if before != now =>
        {
            differ(before, now)
        }
        (Act::Title { seen: Some(before) }, Act::Title { seen: Some(now) }) if before != now => {
            differ(before, now)
        }
        _ => Vec::new(),
    }
}

fn flush_differences(before: &Flush, now: &Flush) -> Vec<String> {
    let mut got: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &now.lines {
        let (name, value) = parted(line);
        got.entry(name).or_default().push(value);
    }
    let mut found = line_differences(&before.lines, got);
    if before.names != now.names {
        found.push(format!("names {:?}, seen {:?}", before.names, now.names));
    }
    found
}

/// The multiset comparison of lines, each name and value, with the values that came by name: first
/// equal text, then equal numbers, the rest are differences.
pub(crate) fn line_differences<'l>(
    expected: &'l [String],
    mut got: BTreeMap<&'l str, Vec<&'l str>>,
) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, value) in expected.iter().map(|line| parted(line)) {
        let values = got.entry(name).or_default();
        match values.iter().position(|found| *found == value) {
            Some(at) => drop(values.swap_remove(at)),
            None => missing.push((name, value)),
        }
    }
    let mut found = Vec::new();
    for (name, value) in missing {
        let values = got.entry(name).or_default();
        match values.iter().position(|seen| same_number(seen, value)) {
            Some(at) => drop(values.swap_remove(at)),
            None => found.push(format!("- {name} {value}")),
        }
    }
    for (name, values) in got {
        found.extend(values.into_iter().map(|value| format!("+ {name} {value}")));
    }
    found
}

fn parted(line: &str) -> (&str, &str) {
    line.rsplit_once(' ').expect("a line is name and value")
}

fn same_number(one: &str, other: &str) -> bool {
    match (carbon::number(one), carbon::number(other)) {
        (Some(one), Some(other)) => one == other || (one.is_nan() && other.is_nan()),
        _ => false,
    }
}

/// `text` with every run of digits as `<int>`.
fn template(text: &str) -> String {
    let mut shape = String::new();
    let mut was_digit = false;
    for char in text.replace("<int>", "0").chars() {
        if !char.is_ascii_digit() {
            shape.push(char);
        } else if !was_digit {
            shape.push_str("<int>");
        }
        was_digit = char.is_ascii_digit();
    }
    shape
}
