//! The configuration read again: on SIGHUP, and when the file has changed.
//!
//! A file that cannot be read or understood changes nothing: it is refused in one line, and the next
//! change is tried again. The same text is not applied twice.

use std::path::PathBuf;

use floe_core::config::Loaded;
use floe_io::daemon::Daemon;
use tracing::{error, info, warn};

use super::arguments::DaemonArguments;
use super::{Failure, configuration};

/// The file that a daemon was started from, and what was last seen in it.
#[derive(Debug)]
pub(super) struct ConfigurationFile {
    path: PathBuf,
    /// The text last applied or refused; `None` if it could not be read.
    seen: Option<String>,
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
        Ok((Some(Self { path, seen: Some(text) }), loaded))
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// What the file says now, if that is new or `is_asked_for`.
    ///
    /// # Errors
    /// Why it is refused; said once for one text.
    pub(super) fn read_again(
        &mut self,
        arguments: &DaemonArguments,
        is_asked_for: bool,
    ) -> Result<Option<Loaded>, Failure> {
        let text = configuration::read_text(&self.path);
        let now = text.as_ref().ok().cloned();
        if now == self.seen && !is_asked_for {
            return Ok(None);
        }
        self.seen = now;
        let loaded = configuration::parse(&self.path, &text?)?;
        configuration::with_flags(loaded, arguments).map(Some)
    }
}

/// Applies what the file says to the daemon, and says what became of it.
pub(super) fn apply(daemon: &mut Daemon, loaded: &Loaded) {
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    match daemon.reload(loaded) {
        Ok(report) => {
            if report.applied.is_empty() && report.needs_restart.is_empty() {
                info!("configuration read again: nothing has changed");
            } else if !report.applied.is_empty() {
                info!(keys = report.applied.join(", "), "configuration applied");
            }
            if !report.needs_restart.is_empty() {
                let keys = report.needs_restart.join(", ");
                warn!(keys, "configuration needs a restart for these keys: they stay as they were");
            }
        }
        Err(error) => error!(%error, "configuration applied in part"),
    }
}

/// Says that the old configuration goes on.
pub(super) fn refuse(daemon: &Daemon, failure: &Failure) {
    daemon.count_refused_reload();
    error!(error = %failure, "configuration refused: the old one goes on");
}
