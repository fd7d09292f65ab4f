//! What a run leaves behind: `record.json` with machine, settings and raw numbers, and tables.
//!
//! One folder per date and host, `bench/record/<date>-<host>/`. A run that finds a record there of
//! the same machine replaces what it measured again and leaves the rest, so that one target can be
//! measured anew without an hour for the others; every figure names the run it is from. Ratios are of one
//! run: a target's row carries its own, and the contestants of a feed stand side by side as the run with
//! the most of them found them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chart;
use super::limits::{self, Limit};
use super::machine::Machine;
use super::measurement::Measurement;
use super::table::{self, Table};
use super::target::{Target, Verdict};

/// Version of the format.
const FORMAT: u32 = 1;

/// One call of the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// When it began, UTC.
    pub(crate) started: String,
    /// How long it took, s.
    pub(crate) seconds: u64,
    /// The command.
    pub(crate) command: String,
    /// The commit, with a plus where files differed from it.
    pub(crate) commit: String,
    /// Rounds.
    pub(crate) rounds: u32,
    /// Load average before and after.
    pub(crate) load: [f64; 2],
}

impl Run {
    fn date(&self) -> &str {
        self.started.split('T').next().unwrap_or_default()
    }

    /// `2026-11-27, commit abc1234`.
    fn when(&self) -> String {
        format!("{}, commit {}", self.date(), self.commit)
    }
}

/// A figure and the run it is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Of<T> {
    /// Index in `runs`.
    pub(crate) run: usize,
    /// The figure.
    #[serde(flatten)]
    pub(crate) figure: T,
}

/// A contestant, or why it is not one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entrant {
    /// Its name.
    pub(crate) name: String,
    /// Its version, where it took part.
    pub(crate) version: Option<String>,
    /// Why it did not.
    pub(crate) absent: Option<String>,
}

/// Everything measured on one machine on one day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of the format.
    format: u32,
    /// The machine.
    pub(crate) machine: Machine,
    /// The calls that figures are from.
    pub(crate) runs: Vec<Run>,
    /// Who took part, and who did not.
    pub(crate) contestants: Vec<Entrant>,
    /// The targets, by number.
    pub(crate) targets: Vec<Of<Target>>,
    /// Raw numbers of the feeds.
    pub(crate) measurements: Vec<Of<Measurement>>,
    /// Highest rates without loss, where they were searched for.
    #[serde(default)]
    pub(crate) limits: Vec<Of<Limit>>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

impl Record {
    /// Of one run.
    pub(crate) fn new(
        machine: Machine,
        run: Run,
        contestants: Vec<Entrant>,
        targets: Vec<Target>,
        measurements: Vec<Measurement>,
    ) -> Self {
        Self {
            format: FORMAT,
            machine,
            runs: vec![run],
            contestants,
            targets: targets.into_iter().map(|figure| Of { run: 0, figure }).collect(),
            measurements: measurements.into_iter().map(|figure| Of { run: 0, figure }).collect(),
            limits: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// The record in `folder`; none where there is none.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join("record.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let record: Self =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        anyhow::ensure!(record.format == FORMAT, "{}: another format", path.display());
        Ok(Some(record))
    }

    /// `newer` with what only this one has.
    ///
    /// The figures of a feed stay as a whole where the newer run has fewer contestants of it.
    pub(crate) fn overlaid_by(mut self, mut newer: Self) -> Self {
        let shift = self.runs.len();
        self.targets
            .retain(|old| newer.targets.iter().all(|new| new.figure.number != old.figure.number));
        let (old_fed, new_fed) = (self.fed(), newer.fed());
        self.measurements.retain(|old| {
            let old_fed = &old_fed[&(old.figure.feed.clone(), old.run)];
            let new_fed = new_fed.get(&(old.figure.feed.clone(), 0));
            !new_fed.is_some_and(|new_fed| old_fed.is_subset(new_fed))
        });
        let key = |each: &Limit| (each.packing.clone(), each.contestant.clone());
        self.limits
            .retain(|old| newer.limits.iter().all(|new| key(&new.figure) != key(&old.figure)));
        self.contestants.retain(|old| newer.contestants.iter().all(|new| new.name != old.name));
        newer.targets.iter_mut().for_each(|each| each.run += shift);
        newer.measurements.iter_mut().for_each(|each| each.run += shift);
        newer.limits.iter_mut().for_each(|each| each.run += shift);
        self.runs.append(&mut newer.runs);
        self.targets.append(&mut newer.targets);
        self.targets.sort_by_key(|each| each.figure.number);
        self.measurements.append(&mut newer.measurements);
        self.limits.append(&mut newer.limits);
        self.contestants.append(&mut newer.contestants);
        self.failures.append(&mut newer.failures);
        self.without_idle_runs()
    }

    /// Leaves out runs that no figure is from any more.
    fn without_idle_runs(mut self) -> Self {
        let used: Vec<bool> = (0..self.runs.len())
            .map(|run| {
                self.targets.iter().any(|each| each.run == run)
                    || self.measurements.iter().any(|each| each.run == run)
                    || self.limits.iter().any(|each| each.run == run)
            })
            .collect();
        let place = |run: usize| used[..run].iter().filter(|is_used| **is_used).count();
        self.targets.iter_mut().for_each(|each| each.run = place(each.run));
        self.measurements.iter_mut().for_each(|each| each.run = place(each.run));
        self.limits.iter_mut().for_each(|each| each.run = place(each.run));
        let mut keep = used.iter();
        self.runs.retain(|_| keep.next().copied().unwrap_or(true));
        self
    }

    /// The contestants of each feed and run.
    fn fed(&self) -> BTreeMap<(String, usize), BTreeSet<String>> {
        let mut fed: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for Of { run, figure } in &self.measurements {
            let contestants = fed.entry((figure.feed.clone(), *run)).or_default();
            contestants.insert(figure.contestant.clone());
        }
        fed
    }

    /// What stands side by side: of each feed the figures of one run, which is the newest of those with
    /// the most contestants.
    pub(crate) fn side_by_side(&self) -> Vec<Of<Measurement>> {
        let mut widest: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for ((feed, run), contestants) in self.fed() {
            let widest = widest.entry(feed).or_default();
            *widest = (*widest).max((contestants.len(), run));
        }
        let is_of_it = |each: &&Of<Measurement>| widest[&each.figure.feed].1 == each.run;
        self.measurements.iter().filter(is_of_it).cloned().collect()
    }

    /// All tables: targets, contestants side by side, limits.
    pub(crate) fn tables(&self) -> [Table; 3] {
        let limits: Vec<Limit> = self.limits.iter().map(|each| each.figure.clone()).collect();
        let has_runs = 1 < self.runs.len();
        [
            table::targets(&self.targets, has_runs),
            table::side_by_side(&self.side_by_side(), has_runs),
            limits::table(&limits),
        ]
    }

    /// The page of the record: who ran where, the targets, the contestants side by side.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}.\n\n", self.machine.sentence());
        for (index, run) in self.runs.iter().enumerate() {
            text += &format!(
                "Run {}: {}, commit {}, {} rounds, {} s, load average {:.1} before and {:.1} after: `{}`\n\n",
                index + 1,
                run.started,
                run.commit,
                run.rounds,
                run.seconds,
                run.load[0],
                run.load[1],
                run.command,
            );
        }
        for table in self.tables() {
            if !table.is_empty() {
                text += &format!("{}\n", table.markdown());
            }
        }
        let took = self
            .contestants
            .iter()
            .filter_map(|each| Some(format!("{} ({})", each.name, each.version.as_ref()?)));
        text += &format!("Took part: {}.\n", took.collect::<Vec<_>>().join(", "));
        let absent = self
            .contestants
            .iter()
            .filter_map(|each| Some(format!("{} ({})", each.name, each.absent.as_ref()?)));
        let absent: Vec<String> = absent.collect();
        if !absent.is_empty() {
            text += &format!("Did not: {}.\n", absent.join(", "));
        }
        let disturbed = self.measurements.iter().filter(|each| each.figure.is_disturbed()).count();
        if 0 < disturbed {
            text += &format!(
                "Of {} feeds {disturbed} were disturbed: others held the sender's CPU for more than \
                 a twentieth of the time, four times in a row.\n",
                self.measurements.len()
            );
        }
        for failure in &self.failures {
            text += &format!("Failed: {failure}.\n");
        }
        text
    }

    /// The same in short, for the README: the contestants side by side, and how many targets hold.
    pub(crate) fn summary(&self) -> String {
        let dates: BTreeSet<&str> = self.runs.iter().map(Run::date).collect();
        let dates: Vec<&str> = dates.into_iter().collect();
        let count =
            |verdict| self.targets.iter().filter(|each| each.figure.verdict == verdict).count();
        format!(
            "{}; {}. CPU time of all threads per line, medians and spread of the rounds:\n\n{}\n\
             Of {} rows of the targets {} hold, {} do not, {} are not shown: \
             [all of them](docs/benchmarks.md#side-by-side).\n",
            self.machine.sentence(),
            dates.join(", "),
            table::side_by_side(&self.side_by_side(), false).markdown(),
            self.targets.len(),
            count(Verdict::Holds),
            count(Verdict::Missed),
            count(Verdict::NotShown),
        )
    }

    /// Writes `record.json`, `tables.md` and `chart.svg` into `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let told = || format!("cannot write {}", folder.display());
        fs::create_dir_all(folder).with_context(told)?;
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(folder.join("record.json"), json).with_context(told)?;
        self.write_tables(folder)
    }

    /// Writes `tables.md` and `chart.svg` alone.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn write_tables(&self, folder: &Path) -> anyhow::Result<()> {
        let told = || format!("cannot write {}", folder.display());
        let shown = self.side_by_side();
        let runs: BTreeSet<usize> = shown.iter().map(|each| each.run).collect();
        let runs: Vec<String> = runs.into_iter().map(|run| self.runs[run].when()).collect();
        let shown: Vec<Measurement> = shown.into_iter().map(|each| each.figure).collect();
        let captions = [self.machine.sentence(), runs.join("; ")];
        if let Some(svg) = chart::svg(&shown, captions.each_ref().map(String::as_str))? {
            fs::write(folder.join("chart.svg"), svg).with_context(told)?;
        }
        fs::write(folder.join("tables.md"), self.markdown()).with_context(told)
    }
}

/// Where records lie in the repository.
pub(crate) fn records() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("record")
}

/// The folders of records of comparisons in the repository, the oldest first; the campaigns of faults and
/// of memory have records beside them, without tables.
///
/// # Errors
/// When the folder of records cannot be read.
pub(crate) fn with_tables() -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(records())? {
        let folder = entry?.path();
        folders.extend(folder.join("tables.md").is_file().then_some(folder));
    }
    folders.sort();
    Ok(folders)
}

/// `2026-11-26T14:05:09Z` of milliseconds since the epoch.
pub(crate) fn utc(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The folder of a record that began at `started` on `host`: the one asked for, none where `none` was, or
/// that of the day in the repository, whose name ends in `suffix`.
pub(crate) fn folder(
    asked: Option<&Path>,
    started: &str,
    host: &str,
    suffix: &str,
) -> Option<PathBuf> {
    match asked {
        Some(asked) => (asked != Path::new("none")).then(|| asked.to_owned()),
        None => Some(records().join(folder_name(started, host) + suffix)),
    }
}

/// The folder for a record made on `machine`, and what is in it: `folder`, or where that has a record of
/// another machine or under other settings, which stays, the same name with a number behind it.
///
/// # Errors
/// When there is a record that cannot be read.
pub(crate) fn place(folder: &Path, machine: &Machine) -> anyhow::Result<(PathBuf, Option<Record>)> {
    let mut place = folder.to_owned();
    let mut number = 1;
    loop {
        match Record::read(&place)? {
            Some(other) if other.machine != *machine => {
                number += 1;
                let mut name = folder.as_os_str().to_owned();
                name.push(format!("-{number}"));
                place = name.into();
            }
            older => return Ok((place, older)),
        }
    }
}

/// The name of today's folder on this host.
fn folder_name(started: &str, host: &str) -> String {
    let date = started.split('T').next().unwrap_or_default();
    let host: String =
        host.chars().map(|each| if each.is_alphanumeric() { each } else { '-' }).collect();
    format!("{date}-{host}")
}

#[cfg(test)]
mod tests;
