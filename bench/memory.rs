//! `memory`: floe in a cgroup that has its stated ceiling and a tenth, given more than anybody may keep.
//!
//! Three trials, each with a daemon of its own that has its defaults: new names by the million beside
//! series that go on, times of one name, long members of one set. Memory is the kernel's figure (the
//! peak of the process, kills and peak of the cgroup), what arrived that of a carbon of ours, what was
//! sent the sender's; floe's books are held against them.

/// A carbon that keeps what is judged.
mod carbon;
/// A cgroup with a limit.
#[path = "../tests/support/memory_cgroup.rs"]
mod memory_cgroup;
/// What a run leaves behind.
mod record;
/// The sender.
mod sender;
/// The daemon.
mod subject;
/// What is done to it.
mod trials;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use floe_io::clock::wall_ms;

use crate::arguments::MemoryArguments;
use crate::compare::{machine, record as compare_record};
use crate::contestants::floe;
use record::{Check, Record, Run};
use trials::{TRIALS, Trial};

/// Runs the trials and tells what holds.
///
/// # Errors
/// When a line does not hold, or the trials cannot run.
pub(crate) fn run(arguments: &MemoryArguments) -> anyhow::Result<()> {
    let floe = match &arguments.floe {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string())?,
        None => floe::binary()?,
    };
    let scale = arguments.scale;
    ensure!(0.0 < scale && scale <= 10.0, "--scale is a part of the full size, found {scale}");
    let (started_ms, load, commit) = (wall_ms(), machine::load(), machine::commit());
    let mut checks = Vec::new();
    for trial in chosen(&arguments.only)? {
        say(&format!("{}: {}", trial.name, trial.what));
        let found = (trial.run)(&floe, scale)
            .unwrap_or_else(|error| vec![Check::broken("trial", format!("{error:#}"))]);
        let named = |check: Check| Check { trial: trial.name.to_owned(), ..check };
        checks.extend(found.into_iter().map(named));
    }
    let run = Run {
        started: compare_record::utc(started_ms),
        seconds: wall_ms().saturating_sub(started_ms) / 1_000,
        commit,
        build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        scale,
        load: [load, machine::load()],
    };
    let record = Record::new(run, checks);
    std::io::stdout().write_all(record.text().as_bytes()).context("cannot write the lines")?;
    keep(arguments.record.as_deref(), &record)?;
    ensure!(record.broken() == 0, "{} lines do not hold", record.broken());
    Ok(())
}

/// Progress, to standard error.
fn say(text: &str) {
    // A progress line that cannot be written is not worth an end.
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Those asked for.
fn chosen(only: &[String]) -> anyhow::Result<Vec<Trial>> {
    if let Some(name) = only.iter().find(|name| TRIALS.iter().all(|trial| trial.name != *name)) {
        bail!("no trial is called {name}; there are names, times and members");
    }
    let is_asked = |trial: &Trial| only.is_empty() || only.iter().any(|name| name == trial.name);
    Ok(TRIALS.into_iter().filter(is_asked).collect())
}

/// Writes the record where it was asked for.
fn keep(asked: Option<&Path>, record: &Record) -> anyhow::Result<()> {
    let (started, host) = (&record.run.started, &record.machine.host);
    if let Some(folder) = compare_record::folder(asked, started, host, "-memory") {
        record.write(&folder)?;
        say(&format!("recorded in {}", folder.display()));
    }
    Ok(())
}
