//! What a run leaves behind: a line per verdict, with the machine and the command.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::compare::machine::Machine;
use crate::compare::table::{Table, figure};

/// Version of the format.
const FORMAT: u32 = 1;

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// As it should be.
    Holds,
    /// Not so.
    Broken,
    /// Said, and not judged.
    Said,
    /// This machine cannot show it.
    NotShown,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// The trial; filled in by its runner.
    pub(crate) trial: String,
    /// What was looked at.
    pub(crate) what: String,
    /// What was found.
    pub(crate) found: String,
    /// What it has to be.
    pub(crate) wanted: String,
    /// The verdict.
    pub(crate) verdict: Verdict,
}

impl Check {
    fn new(what: &str, found: String, wanted: String, verdict: Verdict) -> Self {
        Self { trial: String::new(), what: what.to_owned(), found, wanted, verdict }
    }

    fn judged(what: &str, found: String, wanted: String, holds: bool) -> Self {
        Self::new(what, found, wanted, if holds { Verdict::Holds } else { Verdict::Broken })
    }

    /// Two counts that have to be the same.
    pub(crate) fn equal(what: &str, found: u64, wanted: u64) -> Self {
        Self::judged(what, found.to_string(), wanted.to_string(), found == wanted)
    }

    /// A figure that must not be above `most`.
    pub(crate) fn below(what: &str, found: f64, most: f64) -> Self {
        Self::judged(what, figure(found), format!("at most {}", figure(most)), found <= most)
    }

    /// Something worth knowing.
    pub(crate) fn said(what: &str, found: String) -> Self {
        Self::new(what, found, String::new(), Verdict::Said)
    }

    /// Something that went wrong.
    pub(crate) fn broken(what: &str, found: String) -> Self {
        Self::new(what, found, String::new(), Verdict::Broken)
    }

    /// Something that this machine cannot show.
    pub(crate) fn not_shown(what: &str, reason: &str) -> Self {
        Self::new(what, reason.to_owned(), String::new(), Verdict::NotShown)
    }

    const fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Holds => "holds",
            Verdict::Broken => "DOES NOT HOLD",
            Verdict::Said => "",
            Verdict::NotShown => "not shown here",
        }
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// When it began, UTC.
    pub(crate) started: String,
    /// How long it took, s.
    pub(crate) seconds: u64,
    /// The commit, with a plus where files differed from it.
    pub(crate) commit: String,
    /// `release` or `debug`.
    pub(crate) build: String,
    /// The part of the full size.
    pub(crate) scale: f64,
    /// Load average before and after.
    pub(crate) load: [f64; 2],
}

/// Everything of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of the format.
    format: u32,
    /// The machine.
    pub(crate) machine: Machine,
    /// The run.
    pub(crate) run: Run,
    /// Every line.
    pub(crate) checks: Vec<Check>,
}

impl Record {
    /// Of one run on this machine.
    pub(crate) fn new(run: Run, checks: Vec<Check>) -> Self {
        Self { format: FORMAT, machine: Machine::read(), run, checks }
    }

    /// Lines that do not hold.
    pub(crate) fn broken(&self) -> usize {
        self.checks.iter().filter(|check| check.verdict == Verdict::Broken).count()
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["trial", "what", "found", "wanted", "holds"]);
        for check in &self.checks {
            let Check { trial, what, found, wanted, .. } = check.clone();
            table.row(vec![trial, what, found, wanted, check.word().to_owned()]);
        }
        table
    }

    fn sentence(&self) -> String {
        let Run { started, seconds, commit, build, scale, load } = &self.run;
        format!(
            "{started}, commit {commit}, {build} build, scale {scale}, {seconds} s, load average {:.1} \
             before and {:.1} after: {} lines do not hold.",
            load[0],
            load[1],
            self.broken()
        )
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}\n", self.table().text(), self.sentence())
    }

    /// Writes `record.json` and `lines.md` into `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let told = || format!("cannot write {}", folder.display());
        let page = format!(
            "{}\n\n{}\n\n{}",
            self.machine.sentence(),
            self.sentence(),
            self.table().markdown()
        );
        fs::create_dir_all(folder).with_context(told)?;
        fs::write(folder.join("record.json"), serde_json::to_string_pretty(self)? + "\n")
            .with_context(told)?;
        fs::write(folder.join("lines.md"), page).with_context(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_whether_they_hold() {
        let checks = vec![
            Check::equal("a", 1, 1),
            Check::equal("b", 1, 2),
            Check::below("c", 1.5, 2.0),
            Check::said("d", "five".to_owned()),
            Check::not_shown("e", "no root"),
        ];
        let words: Vec<&str> = checks.iter().map(Check::word).collect();
        assert_eq!(words, ["holds", "DOES NOT HOLD", "holds", "", "not shown here"]);
        let run = Run {
            started: "now".to_owned(),
            seconds: 3,
            commit: "abc".to_owned(),
            build: "debug".to_owned(),
            scale: 0.5,
            load: [0.0, 1.0],
        };
        let record = Record::new(run, checks);
        assert_eq!(record.broken(), 1);
        assert!(
            record.text().contains("at most 2")
                && record.text().ends_with("1 lines do not hold.\n")
        );
    }
}
