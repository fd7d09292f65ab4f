//! `floe config --defaults|--from FILE`: a configuration as TOML.

use std::io::Write;
use std::path::Path;

use anyhow::anyhow;
use floe_core::config::{self, Environment, Source, keys};

use super::arguments::ConfigArguments;
use super::escaped::Escaped;
use super::{Failure, check, configuration};

pub(super) fn run(arguments: &ConfigArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let text = match &arguments.from {
        Some(path) => translate(path)?,
        None if arguments.markdown => page()?,
        None => config::annotated_defaults(),
    };
    out.write_all(text.as_bytes()).map_err(Failure::failed)
}

/// The TOML of a file, which is read back before it is given out.
fn translate(path: &Path) -> Result<String, Failure> {
    let loaded = configuration::load(Some(path))?;
    let text = config::to_toml(&loaded.settings);
    let again = config::read(&text, Source::Toml, &Environment::default());
    let is_same = again.as_ref().is_ok_and(|again| again.settings == loaded.settings);
    if !is_same {
        let why = again.err().map(|error| format!(": {error}")).unwrap_or_default();
        let path = path.display();
        return Err(Failure::failed(anyhow!("{path} cannot be said in TOML{why}; this is a bug")));
    }
    let mut written = format!("# From {}, by floe config --from.\n", Escaped(path.display()));
    for warning in &loaded.warnings {
        written.push_str(&format!("# warning: {}\n", Escaped(warning)));
    }
    written.push_str(&text);
    Ok(written)
}

/// `docs/configuration.md`, with what `floe check` says of its example on a host called `vm`.
fn page() -> Result<String, Failure> {
    let environment = Environment { host_name: "vm".to_owned(), ..Environment::default() };
    let loaded =
        config::read(keys::example(), Source::ConfigJs, &environment).map_err(Failure::failed)?;
    Ok(config::markdown(&check::text(&loaded)))
}
