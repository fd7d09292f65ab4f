//! The log: where it goes, in which form, and what is left out.
//!
//! An event is taken apart into a record ([`record`]), counted against its site ([`sites`]) and put
//! into the queue of a thread that writes it ([`writer`]) to one of the backends ([`output`]). All of
//! it can change while the daemon runs. Crates that write from the thread that logs are no
//! choice: a journal or a pipe that hangs would hold up the coordinator.

mod local_socket;
mod output;
mod record;
mod sites;
mod writer;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use floe_core::config::settings::{LogLevel, LogSettings, Settings};
use floe_io::clock::monotonic_ns;
use floe_io::ingest::DUMP_TARGET;
use tracing::{Event, Subscriber, warn};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, reload};

use self::output::Output;
use self::record::Record;
use self::sites::Sites;
use self::writer::Queue;

/// The log of this process. Dropped, it has written everything, or waited half a second for that.
#[derive(Clone)]
pub(super) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    shared: Arc<Shared>,
}

struct Shared {
    /// The settings in force and the way to their backend.
    backend: RwLock<(LogSettings, Queue)>,
    sites: Mutex<Sites>,
}

impl Log {
    /// Starts it; called once.
    ///
    /// # Errors
    /// The kernel's, if it gives no thread.
    pub(super) fn start(settings: &Settings) -> io::Result<Self> {
        let (level, unreadable) = filter(settings);
        let (level, filter) = reload::Layer::new(level);
        let queue = Queue::to(Output::of(&settings.log))?;
        let backend = RwLock::new((settings.log.clone(), queue));
        let shared = Arc::new(Shared { backend, sites: Mutex::default() });
        tracing_subscriber::registry().with(level).with(Writing(Arc::clone(&shared))).init();
        tell(unreadable);
        Ok(Self { filter, shared })
    }

    /// Goes on as other settings say; what was logged before is written where it belonged.
    pub(super) fn apply(&self, settings: &Settings) {
        let (level, unreadable) = filter(settings);
        // The handle lives as long as the log, which is not taken down.
        self.filter.reload(level).ok();
        tell(unreadable);
        let mut backend = self.shared.backend.write().unwrap_or_else(PoisonError::into_inner);
        let is_same =
            LogSettings { level: settings.log.level, ..backend.0.clone() } == settings.log;
        if is_same {
            return;
        }
        match Queue::to(Output::of(&settings.log)) {
            Ok(queue) => *backend = (settings.log.clone(), queue),
            Err(error) => {
                drop(backend);
                warn!(%error, "log backend kept: no thread for another");
            }
        }
    }

    /// Waits until everything is written, for half a second at the most.
    pub(super) fn flush(&self) {
        let mut sites = self.shared.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out = sites.take_all();
        drop(sites);
        let backend = self.shared.backend.read().unwrap_or_else(PoisonError::into_inner);
        left_out.into_iter().for_each(|record| backend.1.put(record));
        backend.1.flush();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The layer that hands records over.
#[derive(Debug)]
struct Writing(Arc<Shared>);

impl<S: Subscriber> Layer<S> for Writing {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let site = event.metadata();
        if site.target() == DUMP_TARGET {
            let backend = self.0.backend.read().unwrap_or_else(PoisonError::into_inner);
            return backend.1.put_dumped(Record::of(event));
        }
        let now_ns = monotonic_ns();
        let mut sites = self.0.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out = sites.take_over(now_ns);
        let is_admitted = sites.admit(site, now_ns);
        drop(sites);
        let backend = self.0.backend.read().unwrap_or_else(PoisonError::into_inner);
        left_out.into_iter().for_each(|record| backend.1.put(record));
        if is_admitted {
            backend.1.put(Record::of(event));
        }
    }
}

fn tell(unreadable: Option<String>) {
    if let Some(error) = unreadable {
        warn!(error, "RUST_LOG not understood: log.level is used");
    }
}

/// What is left out, and what is wrong with `RUST_LOG`, which wins over the settings.
fn filter(settings: &Settings) -> (EnvFilter, Option<String>) {
    let lowered = if settings.debug { LogLevel::Debug } else { LogLevel::Error };
    let level = match settings.log.level.max(lowered) {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.trim().is_empty());
    match asked.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(level), Some(error.to_string())),
        None => (EnvFilter::new(level), None),
    }
}
