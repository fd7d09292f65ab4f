//! `floe check CONFIG`: what a configuration means.

use std::io::Write;

use floe_core::config::{Loaded, describe};

use super::arguments::CheckArguments;
use super::escaped::Escaped;
use super::{Failure, configuration};

pub(super) fn run(arguments: &CheckArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let loaded = configuration::load(Some(&arguments.config))?;
    out.write_all(text(&loaded).as_bytes()).map_err(Failure::failed)
}

/// Every setting, and every warning.
pub(super) fn text(loaded: &Loaded) -> String {
    let mut text = describe(&loaded.settings);
    for warning in &loaded.warnings {
        text.push_str(&format!("warning: {}\n", Escaped(warning)));
    }
    text
}
