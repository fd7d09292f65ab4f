//! What a round leaves behind: `record.json` with machine, seed, lines and every injection, and the
//! lines as a page.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::judge::Injection;
use super::line::{Line, Verdict, notes, table};
use crate::compare::machine::Machine;

/// Version of the format.
const FORMAT: u32 = 1;

/// One round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// When it began, UTC.
    pub(crate) started: String,
    /// How long it took, s.
    pub(crate) seconds: u64,
    /// Begin of all chance.
    pub(crate) seed: u64,
    /// Lanes side by side.
    pub(crate) lanes: u32,
    /// The commit, with a plus where files differed from it.
    pub(crate) commit: String,
    /// `release` or `debug`.
    pub(crate) build: String,
    /// Whether lanes had networks of their own, so that the kernel's counts are theirs alone.
    pub(crate) is_isolated: bool,
    /// Load average before and after.
    pub(crate) load: [f64; 2],
}

/// Everything of one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of the format.
    format: u32,
    /// The machine.
    pub(crate) machine: Machine,
    /// The round.
    pub(crate) run: Run,
    /// One line per fault.
    pub(crate) lines: Vec<Line>,
    /// What was done, in the order of its end.
    pub(crate) injections: Vec<Injection>,
}

impl Record {
    /// Of one round on this machine.
    pub(crate) fn new(run: Run, lines: Vec<Line>, injections: Vec<Injection>) -> Self {
        Self { format: FORMAT, machine: Machine::read(), run, lines, injections }
    }

    /// As JSON, with a newline.
    ///
    /// # Errors
    /// Never on what it is made of.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let below = format!("{}{}\n", notes(&self.lines), self.sentence());
        format!("{}\n{below}", table(&self.lines).text())
    }

    /// For a page.
    fn markdown(&self) -> String {
        let mut text = format!("{}\n\n{}\n\n", self.machine.sentence(), self.sentence());
        text += &table(&self.lines).markdown();
        for note in notes(&self.lines).lines() {
            text += &format!("\n- {note}");
        }
        text.trim_end().to_owned() + "\n"
    }

    fn sentence(&self) -> String {
        let Run { started, seconds, seed, lanes, commit, build, is_isolated, load } = &self.run;
        let count = |verdict| self.lines.iter().filter(|line| line.verdict == verdict).count();
        let network = if *is_isolated {
            "each with a network of its own"
        } else {
            "without networks of their own: the kernel's counts are not judged"
        };
        let held = count(Verdict::Holds);
        format!(
            "{started}, commit {commit}, {build} build, seed {seed}, {seconds} s, {lanes} lanes, {network}, \
             load average {:.1} before and {:.1} after: {} injections; of {} faults {held} hold, {} do not, \
             {} were not reached, {} are not here.",
            load[0],
            load[1],
            self.injections.len(),
            self.lines.len(),
            count(Verdict::Broken),
            count(Verdict::NotReached),
            count(Verdict::NotHere),
        )
    }

    /// Writes `record.json` and `lines.md` into `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let told = || format!("cannot write {}", folder.display());
        fs::create_dir_all(folder).with_context(told)?;
        fs::write(folder.join("record.json"), self.json()?).with_context(told)?;
        fs::write(folder.join("lines.md"), self.markdown()).with_context(told)
    }
}
