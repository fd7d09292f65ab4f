//! A statsd in a process of its own: started in an empty folder, pinned, awaited, ended.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

use super::ordinary::as_ordinary;
use crate::compare::probe::{Waiting, pause, socket_state};

/// Longest start of a daemon.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Longest orderly stop; after it the process is killed.
const STOP_LIMIT: Duration = Duration::from_millis(1_500);

/// What is left to a daemon that listens before it is fed: threads settle, caches fill.
const SETTLE: Duration = Duration::from_millis(300);

/// Where it writes, in its folder.
pub(crate) const LOG: &str = "output";

/// A running daemon; ended when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// Its UDP port on loopback.
    pub(crate) port: u16,
    /// Its process.
    pub(crate) pid: u32,
    child: Child,
    folder: TempDir,
}

impl Daemon {
    /// Starts `command` in `folder`, on the CPUs `cpus` alone, and waits until `port` is bound.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen in time; with the end of what it wrote.
    pub(crate) fn start(
        mut command: Command,
        folder: TempDir,
        port: u16,
        cpus: &[usize],
    ) -> anyhow::Result<Self> {
        let log = File::create(folder.path().join(LOG))?;
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let child = spawn_on(&mut command, cpus)
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut daemon = Self { port, pid: child.id(), child, folder };
        daemon.wait_until_bound()?;
        pause(SETTLE);
        Ok(daemon)
    }

    /// Where its files lie.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn wait_until_bound(&mut self) -> anyhow::Result<()> {
        let waiting = Waiting::up_to(START_LIMIT);
        while socket_state(self.port)?.sockets == 0 {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status} before it listened: {}", self.last_words());
            }
            if !waiting.goes_on() {
                bail!("does not listen after {START_LIMIT:?}: {}", self.last_words());
            }
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        last_words(&self.folder.path().join(LOG))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It may be gone already.
            kill_process(pid, signal).ok();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let waiting = Waiting::up_to(STOP_LIMIT);
        while matches!(self.child.try_wait(), Ok(None)) {
            if !waiting.goes_on() {
                self.signal(Signal::KILL);
                self.child.wait().ok();
            }
        }
    }
}

/// Spawns from an ordinary thread that may run on `cpus` alone, which the child inherits.
fn spawn_on(command: &mut Command, cpus: &[usize]) -> std::io::Result<Child> {
    as_ordinary(|| {
        let mut mask = CpuSet::new();
        cpus.iter().for_each(|cpu| mask.set(*cpu));
        sched_setaffinity(None, &mask)?;
        command.spawn()
    })
}

/// The end of what a program wrote into its `log`, on one line.
pub(crate) fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(4).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}

/// A UDP port of loopback that nobody is bound to now.
///
/// # Errors
/// The kernel's, when there is none.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use floe_io::cpu;

    use super::*;

    #[test]
    fn program_that_ends_is_told_with_its_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such setting; exit 3"]);
        let folder = tempfile::tempdir().unwrap();
        let cpus = cpu::inherited().unwrap();
        let error = Daemon::start(command, folder, free_port().unwrap(), &cpus).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("no such setting"), "{text}");
    }

    #[test]
    fn program_that_is_not_there_is_told() {
        let command = Command::new("no-such-statsd");
        let folder = tempfile::tempdir().unwrap();
        let cpus = cpu::inherited().unwrap();
        let error = Daemon::start(command, folder, free_port().unwrap(), &cpus).unwrap_err();
        assert!(error.to_string().contains("no-such-statsd"), "{error}");
    }
}
