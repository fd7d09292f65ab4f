//! All backends of a spool: started together, stopped together, otherwise on their own.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use floe_core::config::settings::BackendSettings;
use floe_storage::{ExportLock, SpoolError};

use super::backend::Backend;
use super::connection::Patience;
use super::registry::AccountRegistry;
use super::stop::Stop;
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
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
    _lock: ExportLock,
}

impl Exporter {
    /// Starts a thread for each of `backends` on the spool at `spool`; their accounts are
    /// registered with `registry`.
    ///
    /// # Errors
    /// [`StartError::Spool`] while another exporter has the spool; no thread runs then.
    pub fn start(
        spool: &Path,
        backends: &[BackendSettings],
        registry: &AccountRegistry,
        own_books: OwnBooks,
    ) -> Result<Self, StartError> {
        Self::start_with(spool, backends, registry, own_books, Patience::default())
    }

    pub(crate) fn start_with(
        spool: &Path,
        backends: &[BackendSettings],
        registry: &AccountRegistry,
        own_books: OwnBooks,
        patience: Patience,
    ) -> Result<Self, StartError> {
        let lock = ExportLock::acquire(spool)?;
        let thread_error = |backend: &str| {
            let backend = backend.to_owned();
            move |source| StartError::Thread { backend, source }
        };
        let stop = Stop::new().map_err(thread_error("all backends"))?;
        let mut exporter =
            Self { stop: Arc::new(stop), threads: Vec::with_capacity(backends.len()), _lock: lock };
        for settings in backends {
            let accounts = registry.account(&settings.name, wall_ms() / 1_000);
            let stop = Arc::clone(&exporter.stop);
            let backend = Backend::new(spool, settings, own_books, accounts, stop, patience)?;
            // An error from here on drops `exporter`, which ends the threads already running.
            let thread = std::thread::Builder::new()
                .name(format!("export-{}", settings.name))
                .spawn(move || backend.run())
                .map_err(thread_error(&settings.name))?;
            exporter.threads.push(thread);
        }
        Ok(exporter)
    }

    /// Delivers what is queued within `patience`, then ends the threads; what is left stays in the
    /// spool. To be called when the last interval has been committed.
    pub fn stop(mut self, patience: Duration) {
        self.end(patience);
    }

    fn end(&mut self, patience: Duration) {
        self.stop.request(monotonic_ns().saturating_add(duration_ns(patience)));
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("exporter thread panicked");
            }
        }
    }
}

impl Drop for Exporter {
    /// Ends the threads without further deliveries.
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}
