//! Start and stop of the whole, in an order that loses nothing.
//!
//! Start: spool and its lock, sockets (all of them, before a worker reads), exporters, workers, the
//! admin port (whoever finds it open may send), and the coordinator last: until it runs nothing is
//! spooled, so a start that fails ends what it began and leaves no interval behind. Stop, the drain:
//! admin port, then the coordinator (which stops the workers and spools the open interval), then the
//! exporters, who get a moment to deliver it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_utils::sync::{Parker, Unparker};
use floe_core::config::settings::Settings;
use floe_core::interval::Interval;
use floe_core::limits::RECEIVE_BUFFER_BYTES_DEFAULT;
use floe_core::line::LineParser;
use floe_core::name::KeyHasher;
use floe_core::shard::{ShardReader, shard};
use floe_storage::error::SpoolError;
use floe_storage::recovery::RecoveryReport;
use floe_storage::spool::{BackendLimits, Spool, SpoolOptions};
use tracing::{info, warn};

use crate::admin::console::{Console, ConsoleError};
use crate::clock::wall_ms;
use crate::coordinator::{Coordinator, Parts, SocketBook, WorkerHandle};
use crate::cpu::{self, PlanError};
use crate::export::accounts::Told;
use crate::export::exporter::{self, Exporter, OwnBooks};
use crate::export::registry::AccountRegistry;
use crate::ingest::intake::Intake;
use crate::ingest::udp::{self, BindError, OpenListener};
use crate::ingest::worker::{self, ReceiveOptions, Started, WorkerPlan, WorkerSignals};

/// How long exporters may go on delivering after the open interval was spooled.
const EXPORT_DRAIN: Duration = Duration::from_secs(2);

/// Which halves of the daemon run in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Halves {
    /// Both.
    #[default]
    Both,
    /// Receives and spools.
    Ingest,
    /// Delivers what another process spools.
    Export,
}

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The spool is locked, or cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The workers cannot be placed as configured.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A worker cannot start.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] worker::StartError),
    /// The exporters cannot start.
    #[error(transparent)]
    Export(#[from] exporter::StartError),
    /// The admin port cannot be bound.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The kernel refuses a thread or a descriptor.
    #[error("cannot start {what}: {source}")]
    Kernel {
        /// What was to be started.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Where a started daemon can be found.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// UDP listeners, in configured order; ports are the real ones.
    pub udp: Vec<SocketAddr>,
    /// The admin port; `None` for the export half.
    pub mgmt: Option<SocketAddr>,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    addresses: Addresses,
    console: Option<Console>,
    ingest: Option<IngestHalf>,
    exporter: Option<Exporter>,
}

/// The coordinator's thread, and how to stop it. Dropped, it drains too.
#[derive(Debug)]
struct IngestHalf {
    stop: Sender<()>,
    coordinator: Option<JoinHandle<()>>,
}

impl IngestHalf {
    fn end(&mut self) {
        // A coordinator that has ended needs no telling.
        self.stop.try_send(()).ok();
        if let Some(thread) = self.coordinator.take() {
            drop(thread.join());
        }
    }
}

impl Drop for IngestHalf {
    fn drop(&mut self) {
        self.end();
    }
}

impl Daemon {
    /// Starts the daemon on the spool at `spool`.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(settings: &Settings, spool: &Path, halves: Halves) -> Result<Self, StartError> {
        // Where another process exports, what expires here is counted here, and nothing else.
        let told = if halves == Halves::Ingest { Told::Retention } else { Told::All };
        let accounts = Arc::new(AccountRegistry::telling(told));
        for backend in &settings.backends {
            accounts.account(&backend.name, wall_ms() / 1_000);
        }
        let mut daemon =
            Self { addresses: Addresses::default(), console: None, ingest: None, exporter: None };
        let opened = match halves {
            Halves::Export => None,
            Halves::Both | Halves::Ingest => Some(open_ingest(settings, spool)?),
        };
        if halves != Halves::Ingest {
            let backends = &settings.backends;
            let books = match halves {
                Halves::Export => OwnBooks::ByExporter,
                Halves::Both | Halves::Ingest => OwnBooks::InSegments,
            };
            daemon.exporter = Some(Exporter::start(spool, backends, &accounts, books)?);
        }
        if let Some(opened) = opened {
            daemon.addresses.udp = opened.listeners.iter().map(|each| each.local_address).collect();
            let receiving = opened.start_workers(settings)?;
            let console = Console::open(settings.mgmt_address.as_deref(), settings.mgmt_port)?;
            daemon.addresses.mgmt = Some(console.local_address());
            daemon.console = Some(console);
            daemon.ingest = Some(receiving.coordinate(settings, accounts)?);
        }
        Ok(daemon)
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Drains: sockets emptied, the open interval spooled, exporters given up to two seconds.
    pub fn stop(mut self) {
        if let Some(console) = self.console.take() {
            console.close();
        }
        if let Some(mut ingest) = self.ingest.take() {
            ingest.end();
        }
        if let Some(exporter) = self.exporter.take() {
            exporter.stop(EXPORT_DRAIN);
        }
    }
}

/// Everything of the ingest half that can be refused, before anything runs.
struct OpenedIngest {
    spool: Spool,
    listeners: Vec<OpenListener>,
    cpus: Vec<usize>,
}

fn open_ingest(settings: &Settings, path: &Path) -> Result<OpenedIngest, StartError> {
    let ingest = &settings.ingest;
    // First: settings that cannot be met leave the spool untouched.
    let cpus = cpu::plan(ingest.workers, ingest.cpus.as_deref())?;
    let (spool, report) = Spool::open(spool_options(settings, path))?;
    tell_recovery(&report);
    let buffer_bytes = ingest.receive_buffer_bytes.unwrap_or(RECEIVE_BUFFER_BYTES_DEFAULT);
    let listeners = udp::open_all(&settings.listeners, cpus.len(), buffer_bytes)?;
    for listener in &listeners {
        if let Some(warning) = listener.receive_buffer_warning() {
            warn!("{warning}");
        }
    }
    Ok(OpenedIngest { spool, listeners, cpus })
}

fn spool_options(settings: &Settings, path: &Path) -> SpoolOptions {
    let limits = settings.backends.iter().map(|backend| BackendLimits {
        name: backend.name.clone(),
        backlog_age_ms: backend.backlog_age_ms,
        backlog_bytes: backend.backlog_bytes,
    });
    SpoolOptions {
        path: PathBuf::from(path),
        backends: limits.collect(),
        archive_age_ms: settings.spool.archive_age_ms,
        archive_bytes: settings.spool.archive_bytes,
        run_id: wall_ms(),
    }
}

fn tell_recovery(report: &RecoveryReport) {
    info!(
        archived = report.archived,
        published = report.published,
        torn = report.torn,
        "spool recovered"
    );
    for backlog in report.backlogs.iter().filter(|backlog| backlog.segments != 0) {
        info!(backend = backlog.backend, segments = backlog.segments, "backlog found");
    }
    for link in &report.quarantined {
        warn!(segment = %link.name, rows = link.rows, reason = link.reason, "segment quarantined");
    }
    for abandoned in &report.abandoned {
        let (backend, segments) = (&abandoned.backend, abandoned.segments);
        warn!(backend, segments, "queue without a backend left where it is");
    }
    if report.unknown != 0 {
        warn!(files = report.unknown, "segments of another version left where they are");
    }
    if let Some(error) = &report.first_failure {
        warn!(files = report.failed, %error, "recovery incomplete, tried again at the next start");
    }
}

/// Workers that receive while nothing is made of it yet; dropped, they end.
struct Receiving {
    opened: OpenedIngest,
    workers: Workers,
    readers: Vec<ShardReader>,
    hasher: KeyHasher,
    parker: Parker,
}

/// The workers' handles until the coordinator has them.
#[derive(Default)]
struct Workers(Vec<WorkerHandle>);

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &self.0 {
            worker.signals.stop();
        }
        for worker in self.0.drain(..) {
            drop(worker.thread.join());
        }
    }
}

impl OpenedIngest {
    /// Starts every worker and waits until it receives.
    fn start_workers(self, settings: &Settings) -> Result<Receiving, StartError> {
        let (hasher, parker) = (KeyHasher::default(), Parker::new());
        let (reports, started) = bounded(self.cpus.len());
        let mut workers = Workers::default();
        let mut readers = Vec::with_capacity(self.cpus.len());
        for index in 0..self.cpus.len() {
            let plan = self.worker_plan(settings, index)?;
            let signals = Arc::clone(&plan.signals);
            let (sink, reader) = intake(settings, index, &hasher, parker.unparker());
            let thread = worker::spawn(plan, sink, reports.clone())
                .map_err(|source| StartError::Kernel { what: "a worker", source })?;
            workers.0.push(WorkerHandle { signals, thread });
            readers.push(reader);
        }
        tell_started(&started, workers.0.len())?;
        Ok(Receiving { opened: self, workers, readers, hasher, parker })
    }

    fn worker_plan(&self, settings: &Settings, index: usize) -> Result<WorkerPlan, StartError> {
        let signals = WorkerSignals::new()
            .map_err(|source| StartError::Kernel { what: "a worker's wake-up", source })?;
        let buffers = self.listeners.iter().map(|listener| listener.receive_buffer_bytes);
        Ok(WorkerPlan {
            index,
            cpu: self.cpus.get(index).copied(),
            sockets: udp::sockets_of(&self.listeners, index),
            receive_buffer_bytes: buffers.min().unwrap_or(RECEIVE_BUFFER_BYTES_DEFAULT),
            options: ReceiveOptions { mode: settings.ingest.mode, ..ReceiveOptions::default() },
            signals: Arc::new(signals),
        })
    }
}

impl Receiving {
    /// Starts the coordinator over the workers.
    fn coordinate(
        mut self,
        settings: &Settings,
        accounts: Arc<AccountRegistry>,
    ) -> Result<IngestHalf, StartError> {
        let coordinator = Coordinator::new(Parts {
            settings: settings.clone(),
            workers: std::mem::take(&mut self.workers.0),
            interval: Interval::new(settings.clone(), &self.hasher, &self.readers),
            readers: self.readers,
            sockets: socket_books(&self.opened.listeners),
            spool: self.opened.spool,
            parker: self.parker,
            accounts,
        });
        let (stop, stopped) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("coordinator".to_owned())
            .spawn(move || coordinator.run(&stopped))
            .map_err(|source| StartError::Kernel { what: "the coordinator", source })?;
        Ok(IngestHalf { stop, coordinator: Some(thread) })
    }
}

fn intake(
    settings: &Settings,
    index: usize,
    hasher: &KeyHasher,
    coordinator: &Unparker,
) -> (Intake, ShardReader) {
    // At most WORKERS_MAX workers.
    let home = u16::try_from(index).unwrap_or(u16::MAX);
    let (writer, reader) = shard(home, hasher.clone());
    let parser = LineParser::new(settings.key_name_sanitize);
    (Intake::new(parser, writer, coordinator.clone()), reader)
}

fn socket_books(listeners: &[OpenListener]) -> Vec<SocketBook> {
    let each = listeners.iter().flat_map(|listener| {
        listener.sockets.iter().enumerate().map(|(worker, socket)| {
            SocketBook::new(Arc::clone(socket), listener.local_address, worker)
        })
    });
    each.collect()
}

/// Waits until every worker receives, and says how.
fn tell_started(
    started: &Receiver<Result<Started, worker::StartError>>,
    workers: usize,
) -> Result<(), StartError> {
    let mut is_refusal_told = false;
    // One report per worker: each keeps its sender for as long as it lives.
    for report in started.iter().take(workers) {
        let started = report?;
        if let Some(refusal) = started.refusal
            && !std::mem::replace(&mut is_refusal_told, true)
        {
            warn!("{}", refusal.fallback_message());
        }
        info!(
            worker = started.worker,
            cpu = started.cpu,
            ingest = started.path.as_str(),
            "worker started"
        );
    }
    Ok(())
}
