//! The configuration read again: on SIGHUP, and when the file has changed.
//!
//! A file that cannot be read or understood changes nothing: it is refused in one line, and the next
//! change is tried again. The same text is not applied twice. Where nothing told of a change, the
//! text must be the same at two looks: a file may be half-written at one.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use floe_core::config::Loaded;
use floe_io::daemon::Daemon;
use tracing::{error, info, warn};

use super::arguments::DaemonArguments;
use super::{Failure, configuration};

/// Why the configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Somebody asks for it: what it says is applied though it is the same.
    Asked,
    /// It has changed.
    Changed,
    /// It may have changed.
    Look,
}

/// The file that a daemon was started from, and what was last seen in it.
#[derive(Debug)]
pub(super) struct ConfigurationFile {
    path: PathBuf,
    /// Whether it can be read again: a pipe cannot.
    is_regular: bool,
    /// The text last applied or refused; `None` if it could not be read.
    seen: Option<String>,
    /// What the last look found instead.
    looked: Option<Option<String>>,
}

impl ConfigurationFile {
    /// Reads the file for the first time, where there is one.
    pub(super) fn open(arguments: &DaemonArguments) -> Result<(Option<Self>, Loaded), Failure> {
        let Some(path) = arguments.config.clone() else {
            let loaded = configuration::with_flags(configuration::load(None)?, arguments)?;
            return Ok((None, loaded));
        };
        let text = configuration::read_text(&path)?;
        let loaded = configuration::with_flags(configuration::parse(&path, &text)?, arguments)?;
        let is_regular = path.is_file();
        Ok((Some(Self { path, is_regular, seen: Some(text), looked: None }), loaded))
    }

    /// Where it lies, if it can change.
    pub(super) fn watchable(&self) -> Option<&Path> {
        self.is_regular.then_some(&*self.path)
    }

    /// What the file says now, if that is new or asked for.
    ///
    /// # Errors
    /// Why it is refused; said once for one text.
    pub(super) fn read_again(
        &mut self,
        arguments: &DaemonArguments,
        occasion: Occasion,
    ) -> Result<Option<Loaded>, Failure> {
        let text = self.read();
        let now = text.as_ref().ok().cloned();
        let is_same = now == self.seen;
        if is_same && occasion != Occasion::Asked {
            self.looked = None;
            return Ok(None);
        }
        if occasion == Occasion::Look && self.looked.as_ref() != Some(&now) {
            self.looked = Some(now);
            return Ok(None);
        }
        self.looked = None;
        self.seen = now;
        let loaded = configuration::parse(&self.path, &text?)?;
        configuration::with_flags(loaded, arguments).map(Some)
    }

    /// Reads nothing that could keep a stop waiting: whoever opens a pipe waits for its writer.
    fn read(&self) -> Result<String, Failure> {
        if std::fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file()) {
            let path = self.path.display();
            return Err(Failure::refused(anyhow!("cannot read {path} again: not a regular file")));
        }
        configuration::read_text(&self.path)
    }
}

/// Applies what the file says to the daemon, and says what became of it.
pub(super) fn apply(daemon: &mut Daemon, loaded: &Loaded) {
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let report = daemon.reload(loaded);
    let is_unchanged = report.applied.is_empty() && report.needs_restart.is_empty();
    if is_unchanged {
        info!("configuration read again: nothing has changed");
    }
    if !report.applied.is_empty() {
        info!(keys = report.applied.join(", "), "configuration applied");
    }
    if !report.needs_restart.is_empty() {
        let keys = report.needs_restart.join(", ");
        warn!(keys, "configuration needs a restart for these keys: they stay as they were");
    }
    for error in &report.failures {
        error!(%error, "configuration applied but for this: the next reload tries it again");
    }
}

/// Says that the old configuration goes on.
pub(super) fn refuse(daemon: &Daemon, failure: &Failure) {
    daemon.count_refused_reload();
    error!(error = %failure, "configuration refused: the old one goes on");
}
