//! A `config.js` as people write it: strict JSON, or the looser way of the reference's example.

use serde_json::{Map, Value};

/// How the `config.js` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Json,
    Example,
}

/// The text of a `config.js`.
pub(crate) fn write_config(config: &Map<String, Value>, style: Style) -> String {
    let (head, tail) = match style {
        Style::Json => ("{\n  ", "\n}\n"),
        Style::Example => {
            ("/* written by the test:\n   { not: \"a config\" } */\n// one line\n{\n  ", ",\n}\n")
        }
    };
    let rows: Vec<String> = config
        .iter()
        .map(|(key, value)| match style {
            Style::Json => format!("{}: {value}", Value::from(key.as_str())),
            Style::Example => format!("{}: {}", bare_key(key), loose(value)),
        })
        .collect();
    format!("{head}{}{tail}", rows.join("\n, "))
}

/// A value as the reference's example writes it: bare keys, single quotes.
fn loose(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", bare_key(key), loose(value)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(loose).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => {
            format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
        }
        _ => value.to_string(),
    }
}

fn bare_key(key: &str) -> String {
    let is_identifier = key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && key.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
    if is_identifier { key.to_owned() } else { Value::from(key).to_string() }
}
