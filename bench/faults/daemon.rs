//! The daemon under test: the built binary, started, signalled, awaited, ended.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use floe_io::clock::wall_ms;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::compare::probe::Waiting;
use crate::contestants::daemon::last_words;

/// Longest start, on a machine that builds beside us.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Longest look at the books.
const BOOKS_TRIES: u32 = 5;

/// A process of floe; killed when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// Its process.
    pub(crate) pid: u32,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` and appends what it writes to `log`; does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let out = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        for (name, _) in std::env::vars_os() {
            let is_ours = name.to_str().is_some_and(|name| name.starts_with("FLOE_"));
            if is_ours || ["STATE_DIRECTORY", "RUST_LOG"].iter().any(|each| name == *each) {
                command.env_remove(name);
            }
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { pid: child.id(), child, log: log.to_owned() })
    }

    /// Waits until it has written `ready`; returns when, ms of the wall clock.
    ///
    /// # Errors
    /// When it ends before, or takes too long.
    pub(crate) fn wait_ready(&mut self, ready: &Path) -> anyhow::Result<u64> {
        let waiting = Waiting::up_to(START_LIMIT);
        while !ready.exists() {
            if let Some(status) = self.exited()? {
                bail!("floe ended with {status} before it was ready: {}", self.last_words());
            }
            if !waiting.goes_on() {
                bail!("floe was not ready after {START_LIMIT:?}: {}", self.last_words());
            }
        }
        Ok(wall_ms())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end; none where it takes longer than `limit`.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn wait_exit(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let waiting = Waiting::up_to(limit);
        loop {
            match self.exited()? {
                None if waiting.goes_on() => {}
                end => return Ok(end),
            }
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, signal).context("floe is gone")
    }

    /// kill -9, and its burial.
    ///
    /// # Errors
    /// When it was gone already.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// The end of what it wrote, on one line.
    pub(crate) fn last_words(&self) -> String {
        last_words(&self.log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may have ended meanwhile.
            self.kill().ok();
        }
    }
}

/// What floe says of itself, from the running daemon or from the files of its spool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    counts: BTreeMap<String, u64>,
    /// Identities that do not hold, by name.
    pub(crate) broken: Vec<String>,
}

impl Books {
    /// Asks `floe books` about `spool`.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) fn of(floe: &Path, spool: &Path) -> anyhow::Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut command = Command::new(floe);
            command.args(["books", "--json", "--spool"]).arg(spool).env("NO_COLOR", "1");
            let output = command.output().context("cannot run floe books")?;
            match serde_json::from_slice::<Value>(&output.stdout) {
                Ok(value) => return Ok(Self::of_value(&value)),
                Err(_) if tries < BOOKS_TRIES => {}
                Err(_) => {
                    bail!("floe books: {}", String::from_utf8_lossy(&output.stderr).trim());
                }
            }
        }
    }

    fn of_value(value: &Value) -> Self {
        let counts = value["counts"].as_object().into_iter().flatten();
        let counts = counts.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)));
        let identities = value["identities"].as_array().into_iter().flatten();
        let broken = identities
            .filter(|identity| identity["holds"] != true)
            .map(|identity| identity["name"].as_str().unwrap_or("an identity").to_owned());
        Self { counts: counts.collect(), broken: broken.collect() }
    }

    /// A count; 0 where there is none.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Sum of all counts whose names begin so.
    pub(crate) fn sum(&self, prefix: &str) -> u64 {
        self.counts
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(_, count)| count)
            .sum()
    }
}

/// Timestamps of the segments in a queue or in the archive, s; a folder that is not there has none.
///
/// # Errors
/// The kernel's.
pub(crate) fn segments(folder: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            let time = name.strip_suffix(".seg")?.split('-').next()?.parse().ok()?;
            Some((time, entry.path()))
        })
        .collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_are_read_with_what_does_not_hold() {
        let value = serde_json::json!({
            "identities": [{"name": "lines", "holds": true}, {"name": "rows", "holds": false}],
            "counts": {"a.x": 1, "a.y": 2, "b": 4},
        });
        let books = Books::of_value(&value);
        assert_eq!(books.broken, ["rows"]);
        assert_eq!((books.count("b"), books.count("c"), books.sum("a.")), (4, 0, 3));
    }

    #[test]
    fn segments_are_told_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["00000000009-1-1-1.seg", "00000000007-1-1-1.seg", "x.seg", "5-1.tmp"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let times: Vec<u64> =
            segments(folder.path()).unwrap().into_iter().map(|(time, _)| time).collect();
        assert_eq!(times, [7, 9]);
        assert!(segments(&folder.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn daemon_that_ends_is_told_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such setting; exit 3"]);
        let mut daemon = Daemon::spawn(command, &folder.path().join("log")).unwrap();
        let error = daemon.wait_ready(&folder.path().join("ready")).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such setting"), "{error}");
    }
}
