//! `floe check CONFIG`: what a configuration means.

use std::io::Write;

use anyhow::anyhow;
use floe_core::config::{Loaded, describe};
use floe_io::cpu;
use floe_io::memory_limit::MemoryPlan;

use super::arguments::CheckArguments;
use super::escaped::Escaped;
use super::{Failure, configuration};

pub(super) fn run(arguments: &CheckArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let loaded = configuration::load(Some(&arguments.config))?;
    out.write_all(text(&loaded).as_bytes()).map_err(Failure::failed)?;
    let ingest = &loaded.settings.ingest;
    let workers = cpu::plan(ingest.workers, ingest.cpus.as_deref()).map_err(Failure::refused)?;
    let plan = MemoryPlan::of(&loaded.settings, workers.len());
    let verdict = match (plan.is_over(), loaded.settings.budgets.is_limit_kept) {
        (false, _) => "",
        (true, false) => ", exceeded",
        (true, true) => ", exceeded: the start is refused",
    };
    write!(out, "{}", plan.ceiling.text()).map_err(Failure::failed)?;
    let (limit, count) = (plan.limit_text(), workers.len());
    writeln!(out, "  here                    {count} workers, limit {limit}{verdict}")
        .map_err(Failure::failed)?;
    if verdict.ends_with("refused") {
        out.flush().map_err(Failure::failed)?;
        return Err(Failure::refused(anyhow!("the memory ceiling exceeds the limit of {limit}")));
    }
    Ok(())
}

/// Every setting, and every warning.
pub(super) fn text(loaded: &Loaded) -> String {
    let mut text = describe(&loaded.settings);
    for warning in &loaded.warnings {
        text.push_str(&format!("warning: {}\n", Escaped(warning)));
    }
    text
}
