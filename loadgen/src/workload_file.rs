//! A workload in a file: the options that say what is sent, as TOML.
//!
//! Used by `cli`. Every key is the name of an option and every value what the option takes, so the file
//! is turned into options that stand before those of the command line: what is given there wins.
//!
//! ```toml
//! names = 10000
//! mix = { c = 60, ms = 30, g = 8, s = 2 }
//! packing = "single"
//! rate = 200000
//! duration = "60s"
//! ```

use std::path::Path;

use toml::{Table, Value};

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

/// Reads `file` into options.
///
/// # Errors
/// One sentence with the file's name.
pub(crate) fn read(file: &Path, is_search: bool) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {} (--workload): {error}", file.display()))?;
    options(&text, is_search).map_err(|error| format!("{}: {error}", file.display()))
}

fn options(text: &str, is_search: bool) -> Result<Vec<String>, String> {
    let table: Table = text.parse().map_err(|error| format!("{error}"))?;
    let mut options = Vec::new();
    for (key, value) in &table {
        let name = key.replace('_', "-");
        if !KEYS.contains(&name.as_str()) {
            return Err(format!("{key:?} is none of {}", KEYS.join(", ")));
        }
        if !is_search || !AMOUNTS.contains(&name.as_str()) {
            options.push(format!("--{name}={}", word(key, value)?));
        }
    }
    Ok(options)
}

fn word(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Table(weights) if key == "mix" => {
            let part = |(kind, weight): (&String, &Value)| match weight {
                Value::Integer(weight) => Ok(format!("{kind}={weight}")),
                other => Err(format!("mix.{kind} is {other}, not a whole number")),
            };
            weights.iter().map(part).collect::<Result<Vec<_>, _>>().map(|parts| parts.join(","))
        }
        other => Err(format!("{key} is {other}, neither a text nor a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_value_becomes_an_option() {
        let text = "names = 10\nkey_prefix = \"a.b\"\nmix = { c = 6, ms = 1 }\nrate = \"max\"\n";
        let expected = ["--names=10", "--key-prefix=a.b", "--mix=c=6,ms=1", "--rate=max"];
        assert_eq!(options(text, false).unwrap(), expected);
    }

    #[test]
    fn a_search_takes_no_amounts() {
        let text = "names = 10\nrate = 5\nlines = 5\nduration = \"5s\"\n";
        assert_eq!(options(text, true).unwrap(), ["--names=10"]);
    }

    #[test]
    fn what_is_no_workload_is_refused() {
        for wrong in
            ["target = \"x\"", "names = 1.5", "names = true", "names", "mix = { c = \"x\" }"]
        {
            assert!(options(wrong, false).is_err(), "{wrong}");
        }
        assert!(read(Path::new("/absent"), false).unwrap_err().contains("--workload"));
    }
}
