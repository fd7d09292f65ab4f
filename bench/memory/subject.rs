//! The daemon under test: floe with its defaults, in a cgroup that has a tenth more than its ceiling.
//! Its archive alone may be larger, so that every flush can be looked at in the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use floe_io::clock::wall_ms;
use rustix::process::Signal;
use tempfile::TempDir;

use super::carbon::Carbon;
use super::memory_cgroup::{CgroupFigures, MemoryCgroup};
use crate::compare::probe::{SocketState, Waiting, socket_state};
use crate::contestants::daemon::free_port;
use crate::faults::daemon::{Books, Daemon};
use crate::faults::kernel::memory_bytes;
use crate::flushes::Flushes;

/// The group's limit is the ceiling and so many per cent of it.
const MORE_PERCENT: u64 = 10;

/// Longest wait until a carbon has everything, beside two intervals: a million series are two million
/// lines, and a machine may be slow.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// Longest orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// See the module. Fields end in this order: the group when nothing runs in it.
#[derive(Debug)]
pub(crate) struct Subject {
    daemon: Daemon,
    /// Its cgroup, or why there is none.
    group: Result<MemoryCgroup, String>,
    /// What it is held against.
    pub(crate) carbon: Carbon,
    /// Its UDP port on loopback.
    pub(crate) port: u16,
    /// What it says it will never need more memory than, MiB.
    pub(crate) ceiling_mib: u64,
    /// Its interval, s.
    pub(crate) interval_s: u64,
    /// When it was ready, s of the wall clock.
    started_s: u64,
    floe: PathBuf,
    folder: TempDir,
}

/// What kernel, floe and its files say, when nothing is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Sockets of the daemon.
    pub(crate) socket: SocketState,
    /// Most that was resident at once, bytes.
    pub(crate) resident_bytes: u64,
    /// The cgroup's, or why there is none.
    pub(crate) group: Result<CgroupFigures, String>,
    /// floe's own.
    pub(crate) books: Books,
    /// Flushes, by the files of the archive.
    pub(crate) flushes: Flushes,
}

impl Subject {
    /// Starts it with an interval of so many seconds.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(floe: &Path, name: &str, interval_s: u64) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (carbon, port) = (Carbon::start()?, free_port()?);
        let config = folder.path().join("floe.toml");
        fs::write(&config, configuration(port, carbon.port, interval_s))?;
        let ceiling_mib = ceiling_mib(floe, &config)?;
        let limit_bytes = limit_bytes(ceiling_mib);
        let group = MemoryCgroup::make(name, limit_bytes);
        let mut words = group.as_ref().map(MemoryCgroup::wrapper).unwrap_or_default().into_iter();
        let mut command = match words.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(words).arg(floe);
                command
            }
            None => Command::new(floe),
        };
        let ready = folder.path().join("ready.json");
        command.arg(&config).arg("--spool").arg(folder.path().join("spool"));
        command.arg("--ready-file").arg(&ready).current_dir(folder.path());
        let mut daemon = Daemon::spawn(command, &folder.path().join("log"))?;
        let started_s = daemon.wait_ready(&ready)? / 1_000;
        let floe = floe.to_owned();
        Ok(Self { daemon, group, carbon, port, ceiling_mib, interval_s, started_s, floe, folder })
    }

    /// The limit of its group, MiB.
    pub(crate) fn limit_mib(&self) -> u64 {
        limit_bytes(self.ceiling_mib) >> 20
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// Waits for the begin of an interval.
    ///
    /// # Errors
    /// When the daemon ends meanwhile.
    pub(crate) fn wait_for_grid(&mut self) -> anyhow::Result<()> {
        let next_s = (wall_ms() / 1_000 / self.interval_s + 1) * self.interval_s;
        self.wait("the begin of an interval", |_| Ok(next_s * 1_000 <= wall_ms()))
    }

    /// Waits until sockets are empty and the carbon has the interval of now, and all before it.
    ///
    /// # Errors
    /// When that takes a minute longer than two intervals, or the daemon has ended.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        self.wait("the sockets to be read", |subject| {
            Ok(socket_state(subject.port)?.queue_bytes == 0)
        })?;
        // The interval that what was read last belongs to.
        let last_s = (wall_ms() / 1_000 / self.interval_s + 1) * self.interval_s;
        let queue = self.spool().join("backends").join("graphite");
        self.wait("the carbon", |subject| {
            let is_sent = crate::faults::daemon::segments(&queue)?
                .first()
                .is_none_or(|(time, _)| last_s < *time);
            Ok(is_sent && last_s <= subject.carbon.ledger().newest_whole)
        })
    }

    fn wait(
        &mut self,
        what: &str,
        mut is_there: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let limit = SETTLE_LIMIT + Duration::from_secs(2 * self.interval_s);
        let waiting = Waiting::up_to(limit);
        while !is_there(self)? {
            if let Some(status) = self.daemon.exited()? {
                let kills = self.group.as_ref().map_or(0, |group| group.figures().oom_kills);
                bail!("floe ended with {status}, {kills} OOM kills: {}", self.daemon.last_words());
            }
            ensure!(waiting.goes_on(), "after {limit:?} {what} is waited for");
        }
        Ok(())
    }

    /// Everything that others than the carbon say.
    ///
    /// # Errors
    /// When one of them says nothing.
    pub(crate) fn figures(&self) -> anyhow::Result<Figures> {
        Ok(Figures {
            socket: socket_state(self.port)?,
            resident_bytes: memory_bytes(self.daemon.pid, "VmHWM")?,
            group: self.group.as_ref().map(MemoryCgroup::figures).map_err(Clone::clone),
            books: Books::of(&self.floe, &self.spool())?,
            // The first interval may be a short one.
            flushes: Flushes::of(&self.spool(), self.interval_s, self.started_s + self.interval_s)?,
        })
    }

    /// SIGTERM; says how it ended where that was not well.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) fn stop(mut self) -> anyhow::Result<Option<String>> {
        self.daemon.signal(Signal::TERM)?;
        let status = self.daemon.wait_exit(STOP_LIMIT)?;
        let status = status.with_context(|| format!("no end: {}", self.daemon.last_words()))?;
        Ok((!status.success()).then(|| format!("it ended with {status}")))
    }
}

/// A limit for a ceiling, bytes.
fn limit_bytes(ceiling_mib: u64) -> u64 {
    (ceiling_mib << 20) / 100 * (100 + MORE_PERCENT)
}

fn configuration(port: u16, graphite_port: u16, interval_s: u64) -> String {
    format!(
        "port = {port}\naddress = \"127.0.0.1\"\nmgmt_port = 0\nflushInterval = {}\n\
         [[backends]]\nname = \"graphite\"\naddress = \"127.0.0.1:{graphite_port}\"\n\
         [spool]\narchive_bytes = \"16GiB\"\n",
        interval_s * 1_000
    )
}

/// What `floe check` says of a configuration.
fn ceiling_mib(floe: &Path, config: &Path) -> anyhow::Result<u64> {
    let output = Command::new(floe).arg("check").arg(config).output().context("floe check")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("memory ceiling"));
    let mib = line.and_then(|rest| rest.trim().strip_suffix(" MiB")?.parse().ok());
    mib.with_context(|| format!("floe check tells no ceiling: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_a_tenth_above_the_ceiling() {
        assert_eq!(limit_bytes(1_000) >> 20, 1_100);
        assert!(configuration(1, 2, 30).contains("flushInterval = 30000\n"));
    }
}
