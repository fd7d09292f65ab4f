//! Claims about configurations as a whole: texts as operators write them, and what comes of each.

/// The reference daemon's file.
mod config_js;
/// Expressions in it.
mod expressions;
/// Our own file.
mod own_file;
/// Texts that are refused, and the sentence given.
mod refusals;
mod written;
/// Any text at all.
mod any_text;
/// The listing of `floe check`.
mod listing;

use super::*;

fn environment() -> Environment {
    let variables = [("GRAPHITE", "carbon.lan"), ("PORT", "9125"), ("EMPTY", "")];
    Environment {
        host_name: "web-7.dc2.example".into(),
        variables: variables.map(|(name, value)| (name.into(), value.into())).into(),
    }
}

fn config_js(text: &str) -> Loaded {
    read(text, Source::ConfigJs, &environment()).unwrap()
}

fn toml(text: &str) -> Loaded {
    read(text, Source::Toml, &environment()).unwrap()
}

fn refusal(text: &str, source: Source) -> String {
    read(text, source, &environment()).unwrap_err().to_string()
}

fn suffixes(loaded: &Loaded) -> Vec<&str> {
    loaded.settings.thresholds.iter().map(|threshold| threshold.suffix.as_str()).collect()
}
