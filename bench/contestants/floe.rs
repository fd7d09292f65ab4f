//! floe itself, the built binary: one worker, one backend, otherwise its defaults.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::Site;
use super::daemon::{Daemon, free_port};
use crate::compare::probe::{threads, wait_for};

/// The receive path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ingest {
    /// What floe takes where the kernel lets it.
    IoUring,
    /// What it takes elsewhere.
    Recvmmsg,
}

impl Ingest {
    const fn word(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Recvmmsg => "recvmmsg",
        }
    }
}

/// How floe is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Its receive path.
    pub(crate) ingest: Ingest,
    /// Its workers; none leaves them to floe.
    pub(crate) workers: Option<usize>,
}

/// The binary beside this one, brought up to date where cargo runs us.
///
/// # Errors
/// When it is not there or does not build.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the kernel does not tell which program we are")?;
    // Tests lie one folder further down.
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    let folder = folder.context("a program lies in a folder")?;
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--locked", "--package", "floe"]);
        build.args(folder.ends_with("release").then_some("--release"));
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        let status = build.status().context("cannot run cargo")?;
        if !status.success() {
            bail!("floe does not build");
        }
    }
    let binary = folder.join("floe");
    if !binary.is_file() {
        bail!("{} is not there; cargo build --release --package floe, or --floe", binary.display());
    }
    Ok(binary)
}

/// Starts it; returns the ids of its workers' threads, too.
///
/// # Errors
/// When it does not start.
pub(crate) fn start(
    site: &Site,
    binary: &Path,
    launch: Launch,
) -> anyhow::Result<(Daemon, Vec<u32>)> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let text = configuration(port, site.graphite_port, site.flush_interval_ms);
    let path = folder.path().join("floe.toml");
    std::fs::write(&path, text)?;
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_str().is_some_and(|name| name.starts_with("FLOE_"));
        if is_ours || name == "STATE_DIRECTORY" || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.arg(path).arg("--spool").arg(folder.path().join("spool"));
    command.args(["--ingest", launch.ingest.word()]);
    if let Some(workers) = launch.workers {
        command.args(["--workers", &workers.to_string()]);
    }
    let daemon = Daemon::start(command, folder, port, &site.receiver_cpus)?;
    let workers = wait_for("floe's workers", || {
        let threads = threads(daemon.pid).ok()?;
        let workers = threads.iter().filter(|thread| thread.name.starts_with("ingest-"));
        let ids: Vec<u32> = workers.map(|thread| thread.id).collect();
        launch.workers.map_or(!ids.is_empty(), |count| ids.len() == count).then_some(ids)
    })?;
    Ok((daemon, workers))
}

fn configuration(port: u16, graphite_port: Option<u16>, flush_interval_ms: u32) -> String {
    let mut text = format!(
        "port = {port}\naddress = \"127.0.0.1\"\nmgmt_port = 0\nflushInterval = {flush_interval_ms}\n"
    );
    if let Some(port) = graphite_port {
        text += &format!("[[backends]]\nname = \"graphite\"\naddress = \"127.0.0.1:{port}\"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_one_that_floe_accepts() {
        for graphite in [Some(2_003), None] {
            let text = configuration(8_125, graphite, 1_000);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("floe.toml");
            std::fs::write(&path, &text).unwrap();
            assert_eq!(text.contains("backends"), graphite.is_some());
        }
    }
}
