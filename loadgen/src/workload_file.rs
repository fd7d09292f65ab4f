//! A workload in a file: the options that say what is sent, as TOML.
//!
//! Used by `cli`. Every key is the name of an option and every value what the option takes, so the file
//! is turned into options that stand before those of the command line: what is given there wins. Each
//! knows its line, so that what is wrong is told as a fault of the file.
//!
//! ```toml
//! names = 10000
//! mix = { c = 60, ms = 30, g = 8, s = 2 }
//! packing = "single"
//! rate = 200000
//! duration = "60s"
//! ```

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Options that a file may hold.
const KEYS: [&str; 16] = [
    "names",
    "mix",
    "seed",
    "sampled",
    "tagged",
    "bad",
    "key-prefix",
    "packing",
    "rate",
    "lines",
    "duration",
    "senders",
    "sockets",
    "burst",
    "pool",
    "pacing",
];

/// Those that say how much and how fast, which a search decides itself.
const AMOUNTS: [&str; 3] = ["rate", "lines", "duration"];

type Key<'i> = Spanned<Cow<'i, str>>;

/// One option of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// From 1.
    line: usize,
    /// Name of the option, without its dashes.
    pub(crate) name: String,
    value: String,
}

impl Entry {
    pub(crate) fn option(&self) -> String {
        format!("--{}={}", self.name, self.value)
    }
}

/// The options of a file.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadFile {
    path: String,
    pub(crate) entries: Vec<Entry>,
}

impl WorkloadFile {
    /// # Errors
    /// One sentence with the file's name, and the line where there is one.
    pub(crate) fn read(file: &Path, is_search: bool) -> Result<WorkloadFile, String> {
        let path = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {path} (--workload): {error}"))?;
        let entries = entries(&text, is_search)
            .map_err(|(line, error)| format!("{path}, line {line}: {error}"))?;
        Ok(WorkloadFile { path, entries })
    }

    /// What is wrong with the value of `entry`, as a fault of the file.
    pub(crate) fn complain(&self, entry: &Entry, why: impl Display) -> String {
        let Entry { line, name, value } = entry;
        format!("{}, line {line}: {name} = {value}: {why}", self.path)
    }

    /// An error on what options say together: where it names one of the file's, it names the line.
    pub(crate) fn located(&self, error: String) -> String {
        let named = |entry: &&Entry| error.contains(&format!("--{}", entry.name));
        match self.entries.iter().find(named) {
            Some(Entry { line, name, .. }) => {
                let error = error.replace(&format!("--{name}"), name);
                format!("{}, line {line}: {error}", self.path)
            }
            None => error,
        }
    }
}

/// The options of `text`, or the line of what is wrong and what it is.
fn entries(text: &str, is_search: bool) -> Result<Vec<Entry>, (usize, String)> {
    let line_of = |span: Range<usize>| {
        1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
    };
    let table = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(text.len()..text.len());
        (line_of(span), error.message().to_owned())
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let (line, key) = (line_of(key.span()), key.get_ref());
        let name = key.replace('_', "-");
        if !KEYS.contains(&name.as_str()) {
            return Err((line, format!("{key} is none of {}", KEYS.join(", "))));
        }
        if !is_search || !AMOUNTS.contains(&name.as_str()) {
            let value = word(&name, value).map_err(|error| (line, error))?;
            entries.push(Entry { line, name, value });
        }
    }
    Ok(entries)
}

fn word(name: &str, value: &Spanned<DeValue<'_>>) -> Result<String, String> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(_) => whole(value).ok_or_else(|| format!("{name} is too large")),
        DeValue::Table(weights) if name == "mix" => {
            let part = |(kind, weight): (&Key<'_>, &Spanned<DeValue<'_>>)| {
                let kind = kind.get_ref();
                let weight = whole(weight).ok_or(format!("mix.{kind} is not a whole number"))?;
                Ok(format!("{kind}={weight}"))
            };
            weights.iter().map(part).collect::<Result<Vec<_>, _>>().map(|parts| parts.join(","))
        }
        _ => Err(format!("{name} is neither a text nor a whole number")),
    }
}

/// A whole number in decimal digits; TOML has `1_000` and `0x10`, too.
fn whole(value: &Spanned<DeValue<'_>>) -> Option<String> {
    let DeValue::Integer(number) = value.get_ref() else { return None };
    let number = i128::from_str_radix(number.as_str(), number.radix()).ok()?;
    Some(number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str, is_search: bool) -> Vec<String> {
        entries(text, is_search).unwrap().iter().map(Entry::option).collect()
    }

    #[test]
    fn every_form_of_a_value_becomes_an_option() {
        let text = "names = 1_000\nkey_prefix = \"a.b\"\nmix = { c = 6, ms = 1 }\nrate = \"max\"\n";
        let expected = ["--names=1000", "--key-prefix=a.b", "--mix=c=6,ms=1", "--rate=max"];
        assert_eq!(options(text, false), expected);
    }

    #[test]
    fn a_search_takes_no_amounts() {
        let text = "names = 10\nrate = 5\nlines = 5\nduration = \"5s\"\n";
        assert_eq!(options(text, true), ["--names=10"]);
    }

    #[test]
    fn r4_what_is_no_workload_is_refused_with_its_line() {
        for (wrong, why) in [
            ("target = \"x\"", "target is none of names, mix"),
            ("names = 1.5", "names is neither a text nor a whole number"),
            ("names = true", "names is neither"),
            ("names", "="),
            ("mix = { c = \"x\" }", "mix.c is not a whole number"),
            ("bad = 1\nbad = 2", "duplicate key"),
        ] {
            let (line, error) = entries(&format!("# a comment\n\n{wrong}\n"), false).unwrap_err();
            assert_eq!(line, 3 + usize::from(wrong.contains('\n')), "{wrong}: {error}");
            assert!(error.contains(why), "{wrong}: {error}");
        }
        assert!(
            WorkloadFile::read(Path::new("/absent"), false).unwrap_err().contains("--workload")
        );
    }

    #[test]
    fn r4_an_error_on_options_together_names_the_line_of_the_one_in_the_file() {
        let entry = Entry { line: 4, name: "packing".to_owned(), value: "packed=5".to_owned() };
        let file = WorkloadFile { path: "w.toml".to_owned(), entries: vec![entry] };
        let told = file.located("--packing packed=5: give more".to_owned());
        assert_eq!(told, "w.toml, line 4: packing packed=5: give more");
        assert_eq!(file.located("--gso is for UDP".to_owned()), "--gso is for UDP");
    }
}
