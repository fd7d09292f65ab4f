//! `floe check CONFIG`: what a configuration means.

use std::io::Write;

use floe_core::config::describe;

use super::arguments::CheckArguments;
use super::{Failure, configuration};

pub(super) fn run(arguments: &CheckArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let loaded = configuration::load(Some(&arguments.config))?;
    write!(out, "{}", describe(&loaded.settings)).map_err(Failure::failed)?;
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}").map_err(Failure::failed)?;
    }
    Ok(())
}
