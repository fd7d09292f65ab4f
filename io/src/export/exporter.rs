//! All backends of a spool: started together, stopped together, otherwise on their own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use floe_core::config::settings::BackendSettings;
use floe_storage::{ExportLock, SpoolError};

use super::backend::Backend;
use super::connection::Patience;
use super::registry::AccountRegistry;
use super::source::Source;
use super::stop::Stop;
use crate::backlog::Backlog;
use crate::clock::{duration_ns, monotonic_ns, wall_ms};

/// The exporters could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another exporter has the spool, or it cannot be written to.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// No event or thread could be made.
    #[error("cannot start the exporter of {backend}: {source}")]
    Thread {
        /// Which one.
        backend: String,
        /// Why not.
        source: io::Error,
    },
}

/// Who makes points of the backends' accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnBooks {
    /// The coordinator of this process enters them into each segment, so that all backends and the
    /// archive have the same.
    InSegments,
    /// Each exporter its own: segments come from another process, which does not know them.
    ByExporter,
}

/// The export half: one thread per backend, named `export-<backend>`.
#[derive(Debug)]
pub struct Exporter {
    spool: PathBuf,
    registry: Arc<AccountRegistry>,
    backlog: Arc<Backlog>,
    own_books: OwnBooks,
    /// `None` = as each backend's settings say.
    patience: Option<Patience>,
    running: Vec<Running>,
    lock: Arc<ExportLock>,
}

/// The thread of one backend.
#[derive(Debug)]
struct Running {
    settings: BackendSettings,
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

impl Exporter {
    /// Starts a thread for each of `backends` on the spool at `spool`; their accounts are
    /// registered with `registry`. What `backlog` offers is sent beside what lies in the queues.
    ///
    /// # Errors
    /// [`StartError::Spool`] while another exporter has the spool; no thread runs then.
    pub fn start(
        spool: &Path,
        backends: &[BackendSettings],
        registry: &Arc<AccountRegistry>,
        backlog: &Arc<Backlog>,
        own_books: OwnBooks,
    ) -> Result<Self, StartError> {
        Self::start_with(spool, backends, registry, backlog, own_books, None)
    }

    pub(crate) fn start_with(
        spool: &Path,
        backends: &[BackendSettings],
        registry: &Arc<AccountRegistry>,
        backlog: &Arc<Backlog>,
        own_books: OwnBooks,
        patience: Option<Patience>,
    ) -> Result<Self, StartError> {
        let lock = Arc::new(ExportLock::acquire(spool)?);
        let mut exporter = Self {
            spool: spool.to_owned(),
            registry: Arc::clone(registry),
            backlog: Arc::clone(backlog),
            own_books,
            patience,
            running: Vec::with_capacity(backends.len()),
            lock,
        };
        // An error drops `exporter`, which ends the threads already running.
        exporter.start_missing(backends)?;
        Ok(exporter)
    }

    /// Ends the threads of backends that are not in `backends` as they were: left out, or changed in
    /// more than the caps of their queues, which are not theirs to keep. What they have not
    /// delivered within `patience` stays in their queues.
    pub fn end_changed(&mut self, backends: &[BackendSettings], patience: Duration) {
        let (kept, ended) =
            std::mem::take(&mut self.running).into_iter().partition(|running: &Running| {
                backends.iter().any(|wanted| delivers_alike(&running.settings, wanted))
            });
        self.running = kept;
        end_all(ended, patience);
    }

    /// Starts a thread for each of `backends` that has none.
    ///
    /// # Errors
    /// The first [`StartError`]; the backends that did not fail run.
    pub fn start_missing(&mut self, backends: &[BackendSettings]) -> Result<(), StartError> {
        let mut result = Ok(());
        for settings in backends {
            let mut running = self.running.iter();
            if !running.any(|running| running.settings.name == settings.name) {
                result = result.and(self.start_one(settings));
            }
        }
        result
    }

    fn start_one(&mut self, settings: &BackendSettings) -> Result<(), StartError> {
        let thread_error = |source| StartError::Thread { backend: settings.name.clone(), source };
        let accounts = self.registry.account(&settings.name, wall_ms() / 1_000);
        let stop = Arc::new(Stop::new().map_err(thread_error)?);
        let (lock, backlog) = (Arc::clone(&self.lock), Arc::clone(&self.backlog));
        let source = Source::open(&self.spool, &settings.name, settings.redelivery, lock, backlog)?;
        let (books, seen) = (self.own_books, Arc::clone(&stop));
        let patience = self.patience.unwrap_or_else(|| Patience::of(settings));
        let backend = Backend::new(source, settings, books, accounts, seen, patience);
        let thread = std::thread::Builder::new()
            .name(format!("export-{}", settings.name))
            .spawn(move || backend.run())
            .map_err(thread_error)?;
        self.running.push(Running { settings: settings.clone(), stop, thread });
        Ok(())
    }

    /// Delivers what is queued within `patience`, then ends the threads; what is left stays in the
    /// spool. To be called when the last interval has been committed.
    pub fn stop(mut self, patience: Duration) {
        end_all(std::mem::take(&mut self.running), patience);
    }
}

impl Drop for Exporter {
    /// Ends the threads without further deliveries.
    fn drop(&mut self) {
        end_all(std::mem::take(&mut self.running), Duration::ZERO);
    }
}

/// Whether a thread started by `running` does what `wanted` asks for.
fn delivers_alike(running: &BackendSettings, wanted: &BackendSettings) -> bool {
    let BackendSettings { backlog_age_ms, backlog_bytes, .. } = *wanted;
    BackendSettings { backlog_age_ms, backlog_bytes, ..running.clone() } == *wanted
}

/// Asks all of them to end, then waits for all.
fn end_all(running: Vec<Running>, patience: Duration) {
    let deadline_ns = monotonic_ns().saturating_add(duration_ns(patience));
    for backend in &running {
        backend.stop.request(deadline_ns);
    }
    for backend in running {
        if backend.thread.join().is_err() {
            tracing::error!(backend = backend.settings.name, "exporter thread panicked");
        }
    }
}
