//! Settings from a file, with the environment it may ask for.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use floe_core::config::{self, Environment, Loaded, Source, ingest_mode, quantity};

use super::Failure;
use super::arguments::DaemonArguments;

/// Reads a configuration file, or gives the settings of no file at all.
pub(super) fn load(path: Option<&Path>) -> Result<Loaded, Failure> {
    let Some(path) = path else { return Ok(config::without_file()) };
    parse(path, &read_text(path)?)
}

/// The text of a configuration file.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}{}", path.display(), command_hint(path)))
        .map_err(Failure::refused)
}

/// What `text`, the content of `path`, means.
pub(super) fn parse(path: &Path, text: &str) -> Result<Loaded, Failure> {
    config::read(text, Source::of(path), &environment())
        .with_context(|| path.display().to_string())
        .map_err(Failure::refused)
}

/// A mistyped command is taken for the name of a file, which would not be said otherwise.
fn command_hint(path: &Path) -> &'static str {
    let is_word =
        path.to_str().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_lowercase()));
    if is_word && !path.exists() { " (taken for a file; commands are in floe --help)" } else { "" }
}

fn environment() -> Environment {
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Environment { host_name, variables }
}

/// Settings of the file with the flags over them.
pub(super) fn with_flags(
    mut loaded: Loaded,
    arguments: &DaemonArguments,
) -> Result<Loaded, Failure> {
    let ingest = &mut loaded.settings.ingest;
    if let Some(text) = &arguments.ingest {
        let unknown = || anyhow!("--ingest must be auto, io_uring or recvmmsg, found {text:?}");
        ingest.mode = ingest_mode(text).ok_or_else(unknown).map_err(Failure::refused)?;
    }
    if let Some(workers) = arguments.workers {
        ingest.workers = Some(workers);
    }
    if let Some(text) = &arguments.cpus {
        let unreadable = || anyhow!("--cpus must be a list such as 0-3,5, found {text:?}");
        let cpus = quantity::cpu_list(text).ok_or_else(unreadable).map_err(Failure::refused)?;
        ingest.cpus = Some(cpus);
    }
    Ok(loaded)
}
