//! The ingest half: spool, sockets, workers and coordinator, in three steps.
//!
//! *Opened*: everything that can be refused is asked for, and nothing runs. *Receiving*: workers
//! read, and nothing is made of it yet. *Running*: the coordinator closes intervals. A start that
//! fails ends the step it has reached and leaves no interval behind.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_utils::sync::Parker;
use floe_core::budget::{Budgets, Ledger};
use floe_core::ceiling::mebibytes;
use floe_core::config::settings::{Senders, Settings};
use floe_core::interval::Interval;
use floe_core::limits::{DESCRIPTORS_RESERVED, RECEIVE_BUFFER_BYTES_DEFAULT};
use floe_core::line::LineParser;
use floe_core::name::KeyHasher;
use floe_core::shard::{ShardReader, shard_within};
use floe_storage::{BackendLimits, RecoveryReport, Spool, SpoolOptions};
use rustix::process::{Pid, Resource, getrlimit};
use tracing::{info, warn};

use super::StartError;
use super::side_paths::SidePaths;
use crate::backlog::Backlog;
use crate::clock::wall_ms;
use crate::coordinator::reload::Reload;
use crate::coordinator::request::{REQUESTS_MAX, Request};
use crate::coordinator::{Coordinator, Parts, SocketBook, WorkerHandle};
use crate::cpu;
use crate::export::registry::AccountRegistry;
use crate::ingest::intake::{Intake, IntakeInbox, IntakeSettings, SideTaps};
use crate::ingest::stream::acceptor::{Acceptor, StreamWorker};
use crate::ingest::stream::connections::StreamInbox;
use crate::ingest::stream::listener::{OpenStream, StreamAddress};
use crate::ingest::udp::{self, OpenListener};
use crate::ingest::worker::{self, ReceiveOptions, Started, StreamPlan, WorkerPlan, WorkerSignals};
use crate::memory_limit::MemoryPlan;
use crate::placement::{BESIDE_NICE, Placement};
use crate::top::{Top, TopView};

/// Everything of the ingest half that can be refused, before anything runs.
pub(super) struct OpenedIngest {
    spool: Spool,
    /// Rows that the start has put away as damaged, by backend.
    quarantined: Vec<(String, u64)>,
    listeners: Vec<OpenListener>,
    streams: Vec<OpenStream>,
    cpus: Vec<usize>,
    placement: Placement,
    /// What may be held.
    budgets: Budgets,
}

/// Workers that receive while nothing is made of it yet; dropped, they end.
pub(super) struct Receiving {
    opened: OpenedIngest,
    workers: Workers,
    acceptor: Option<Acceptor>,
    side: SidePaths,
    top: Top,
    controls: Vec<WorkerControl>,
    threads: Vec<Pid>,
    readers: Vec<ShardReader>,
    hasher: KeyHasher,
    parker: Parker,
}

/// How a running worker is given new settings.
#[derive(Debug)]
pub(super) struct WorkerControl {
    inbox: IntakeInbox,
    signals: Arc<WorkerSignals>,
}

impl WorkerControl {
    /// Hands over `settings`; the worker takes them within about 4 ms.
    pub(super) fn apply(&self, settings: IntakeSettings) {
        self.inbox.put(settings);
        self.signals.wake();
    }
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
    /// Locks and recovers the spool, binds every socket.
    pub(super) fn open(settings: &Settings, path: &Path) -> Result<Self, StartError> {
        let ingest = &settings.ingest;
        // First: settings that cannot be met leave the spool untouched.
        let cpus = cpu::plan(ingest.workers, ingest.cpus.as_deref())?;
        let placement = Placement::beside(&cpus, &cpu::inherited()?);
        let budgets = planned(settings, cpus.len())?;
        let (spool, report) = Spool::open(spool_options(settings, path))?;
        tell_recovery(&report);
        let quarantined = report
            .quarantined
            .iter()
            .filter_map(|link| Some((link.backend.clone()?, link.rows.unwrap_or(0))));
        let quarantined = quarantined.collect();
        let buffer_bytes = ingest.receive_buffer_bytes.unwrap_or(RECEIVE_BUFFER_BYTES_DEFAULT);
        let listeners = udp::open_all(&settings.listeners, cpus.len(), buffer_bytes)?;
        udp::steer_all(&listeners, ingest.steering, &cpus)?;
        if ingest.udp_gro {
            udp::coalesce_all(&listeners)?;
        }
        for listener in &listeners {
            info!(
                address = %listener.local_address,
                bytes = listener.receive_buffer_bytes,
                small_datagrams = listener.small_datagrams_buffered(),
                "receive buffer granted"
            );
            if let Some(warning) = listener.receive_buffer_warning() {
                warn!("{warning}");
            }
        }
        let streams = settings.streams.iter().map(OpenStream::open).collect::<Result<_, _>>()?;
        Ok(Self { spool, quarantined, listeners, streams, cpus, placement, budgets })
    }

    /// What the listeners are bound to, in configured order.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.local_address).collect()
    }

    /// Where the stream listeners can be found, in configured order.
    pub(super) fn stream_addresses(&self) -> Vec<StreamAddress> {
        self.streams.iter().map(|stream| stream.address().clone()).collect()
    }

    /// Starts every worker and waits until it receives; then connections are accepted.
    pub(super) fn start_workers(mut self, settings: &Settings) -> Result<Receiving, StartError> {
        let (hasher, parker) = (KeyHasher::default(), Parker::new());
        let (reports, started) = bounded(self.cpus.len());
        let mut workers = Workers::default();
        let mut controls = Vec::with_capacity(self.cpus.len());
        let mut readers = Vec::with_capacity(self.cpus.len());
        let mut stream_workers = Vec::new();
        let ledger = Arc::new(Ledger::new(&self.budgets, self.cpus.len()));
        let plans = (0..self.cpus.len()).map(|index| self.worker_plan(settings, index));
        let plans = plans.collect::<Result<Vec<_>, _>>()?;
        let signals = plans.iter().map(|plan| Arc::clone(&plan.signals)).collect();
        let side = SidePaths::start(settings, signals).map_err(side_path_refused)?;
        let top = Top::start(settings, self.cpus.len(), hasher.clone(), Arc::clone(&ledger))
            .map_err(|source| StartError::Kernel { what: "top", source })?;
        for (index, plan) in plans.into_iter().enumerate() {
            let signals = Arc::clone(&plan.signals);
            stream_workers.extend(plan.streams.as_ref().map(|streams| StreamWorker {
                inbox: Arc::clone(&streams.inbox),
                signals: Arc::clone(&signals),
            }));
            let control =
                WorkerControl { inbox: IntakeInbox::default(), signals: Arc::clone(&plan.signals) };
            let own = intake_settings(settings, side.taps(index));
            let (writer, reader) = shard_within(home(index), hasher.clone(), Arc::clone(&ledger));
            let inbox = control.inbox.clone();
            let sink = Intake::new(own, inbox, writer, parker.unparker().clone())
                .sampled_by(top.sampler());
            let thread = worker::spawn(plan, sink, reports.clone())
                .map_err(|source| StartError::Kernel { what: "a worker", source })?;
            workers.0.push(WorkerHandle { signals, thread });
            controls.push(control);
            readers.push(reader);
        }
        let threads = tell_started(&started, workers.0.len())?;
        let acceptor = self.accept_for(stream_workers, settings)?;
        let opened = self;
        Ok(Receiving {
            opened,
            workers,
            acceptor,
            side,
            top,
            controls,
            threads,
            readers,
            hasher,
            parker,
        })
    }

    /// Starts the acceptor, where there is something to accept at.
    fn accept_for(
        &mut self,
        workers: Vec<StreamWorker>,
        settings: &Settings,
    ) -> Result<Option<Acceptor>, StartError> {
        if self.streams.is_empty() {
            return Ok(None);
        }
        // Also the ring, the wake-up and the epoll of each worker.
        let own = self.streams.len() + (self.listeners.len() + 3) * self.cpus.len();
        let connections_max = connections_max(settings, own + DESCRIPTORS_RESERVED);
        let streams = std::mem::take(&mut self.streams);
        Acceptor::start(streams, workers, connections_max)
            .map(Some)
            .map_err(|source| StartError::Kernel { what: "the acceptor", source })
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
            options: ReceiveOptions {
                mode: settings.ingest.mode,
                has_trains: settings.ingest.udp_gro,
                samples_all: settings.top.senders == Senders::All,
                ..ReceiveOptions::default()
            },
            signals: Arc::new(signals),
            streams: (!self.streams.is_empty()).then(|| StreamPlan {
                inbox: Arc::new(StreamInbox::new(settings.stream_limits.connections_max)),
                limits: settings.stream_limits,
            }),
        })
    }
}

impl Receiving {
    /// Who brings most, for whoever answers.
    pub(super) fn top(&self) -> Arc<TopView> {
        self.top.view()
    }

    /// Starts the coordinator over the workers; it answers `requests`.
    pub(super) fn coordinate(
        mut self,
        settings: &Settings,
        accounts: Arc<AccountRegistry>,
        backlog: Arc<Backlog>,
        requests: Requests,
    ) -> Result<IngestHalf, StartError> {
        let spool_path = self.opened.spool.path().to_owned();
        let parts = Parts {
            settings: settings.clone(),
            interval: Interval::new(settings.clone(), &self.hasher, &self.readers),
            readers: self.readers,
            sockets: socket_books(&self.opened.listeners),
            spool: self.opened.spool,
            quarantined: self.opened.quarantined,
            parker: self.parker,
            backlog,
            accounts,
            acceptor: self.acceptor.as_ref().map(Acceptor::counts),
            side: self.side.books(),
            has_flushed: requests.has_flushed,
        };
        let coordinator = Coordinator::new(parts, std::mem::take(&mut self.workers.0));
        let (sender, receiver) = (requests.sender, requests.receiver);
        let thread = std::thread::Builder::new()
            .name("coordinator".to_owned())
            .spawn(move || coordinator.run(&receiver))
            .map_err(|source| StartError::Kernel { what: "the coordinator", source })?;
        Ok(IngestHalf {
            spool_path,
            requests: sender,
            acceptor: self.acceptor.take(),
            side: self.side,
            _top: self.top,
            controls: self.controls,
            threads: self.threads,
            placement: self.opened.placement,
            coordinator: Some(thread),
        })
    }
}

/// The way to the coordinator, made before it: whoever opens earlier may ask already.
pub(super) struct Requests {
    /// For everybody who asks.
    pub(super) sender: Sender<Request>,
    receiver: Receiver<Request>,
    /// Whether the coordinator has closed an interval.
    pub(super) has_flushed: Arc<AtomicBool>,
}

impl Requests {
    /// An empty channel.
    pub(super) fn new() -> Self {
        let (sender, receiver) = bounded(REQUESTS_MAX);
        Self { sender, receiver, has_flushed: Arc::default() }
    }
}

/// The coordinator's thread, and how to stop it. Dropped, it drains too.
#[derive(Debug)]
pub(super) struct IngestHalf {
    spool_path: PathBuf,
    requests: Sender<Request>,
    acceptor: Option<Acceptor>,
    side: SidePaths,
    /// Ends last, like every field.
    _top: Top,
    controls: Vec<WorkerControl>,
    /// Those of the workers, by the kernel's ids.
    threads: Vec<Pid>,
    placement: Placement,
    coordinator: Option<JoinHandle<()>>,
}

impl IngestHalf {
    /// Places every thread of this process but the workers.
    pub(super) fn place_others(&self) {
        let result = self.placement.take(&self.threads);
        if let Err(error) = result {
            warn!(%error, "threads not placed: they may take time from workers");
            return;
        }
        match &self.placement {
            Placement::Apart(cpus) => {
                info!(cpus = cpu::list(cpus), "other threads placed on CPUs without a worker");
            }
            Placement::Behind => {
                info!(nice = BESIDE_NICE, "other threads placed behind the workers");
            }
        }
    }

    /// Goes on with other settings; returns when they hold, with what was refused: a thread, a
    /// socket or a queue. All else holds then, and what was refused is off or as it was.
    pub(super) fn reload(&mut self, before: &Settings, settings: &Settings) -> Vec<StartError> {
        let mut replaced = self.side.apply(settings);
        let mut failures: Vec<StartError> =
            replaced.failures.drain(..).map(side_path_refused).collect();
        let is_intake_other =
            replaced.is_changed || before.key_name_sanitize != settings.key_name_sanitize;
        if is_intake_other {
            for (index, control) in self.controls.iter().enumerate() {
                control.apply(intake_settings(settings, self.side.taps(index)));
            }
        }
        let reload = Reload {
            settings: settings.clone(),
            spool: spool_options(settings, &self.spool_path),
            side: self.side.books(),
        };
        let (reply, answer) = bounded(1);
        let request = Request::Reload(Box::new(reload), reply);
        // A coordinator that has ended has nothing to go on with.
        if self.requests.send(request).is_ok()
            && let Ok(Err(error)) = answer.recv()
        {
            failures.push(error.into());
        }
        // The workers have taken the new settings: what was replaced may end.
        drop(replaced);
        failures
    }

    /// Enters into the books that a configuration was refused.
    pub(super) fn count_refused_reload(&self) {
        self.requests.send(Request::CountRefusedReload).ok();
    }

    /// Drains; does nothing when called again.
    pub(super) fn end(&mut self) {
        // First: the workers still take what it has accepted.
        self.acceptor = None;
        // A coordinator that has ended needs no telling.
        self.requests.send(Request::Stop).ok();
        if let Some(thread) = self.coordinator.take() {
            drop(thread.join());
        }
        // Last: the workers have copied their last datagrams.
        self.side = SidePaths::default();
    }
}

impl Drop for IngestHalf {
    fn drop(&mut self) {
        self.end();
    }
}

/// What may be held, said; refused where that is beyond the limit.
fn planned(settings: &Settings, workers: usize) -> Result<Budgets, StartError> {
    let plan = MemoryPlan::of(settings, workers);
    let (ceiling, limit) = (mebibytes(plan.ceiling.bytes()), plan.limit_text());
    if plan.is_over() && settings.budgets.is_limit_kept {
        return Err(StartError::Memory { ceiling, limit });
    }
    let series = plan.ceiling.budgets.series_max;
    info!(ceiling, limit, series, "memory ceiling computed");
    if plan.is_over() {
        warn!(ceiling, limit, "memory ceiling beyond the limit: a flood may end the daemon");
    }
    Ok(plan.ceiling.budgets)
}

/// How many connections may be open: as many as configured, within what the process may open beside
/// the `reserved` descriptors of everything else.
fn connections_max(settings: &Settings, reserved: usize) -> usize {
    let wanted = settings.stream_limits.connections_max;
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    let possible = files.map_or(wanted, |files| files.saturating_sub(reserved).max(1));
    if possible < wanted {
        warn!(possible, wanted, "fewer connections than streams.connections_max: raise ulimit -n");
    }
    wanted.min(possible)
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
        reserve_bytes: settings.spool.reserve_bytes,
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

fn side_path_refused((what, source): (&'static str, io::Error)) -> StartError {
    StartError::Kernel { what, source }
}

/// What a worker's intake is given, at its start and by a reload.
pub(super) fn intake_settings(settings: &Settings, side: Option<Box<SideTaps>>) -> IntakeSettings {
    IntakeSettings { parser: LineParser::new(settings.key_name_sanitize), side }
}

/// The index of a worker as its chunks bear it.
fn home(index: usize) -> u16 {
    // At most WORKERS_MAX workers.
    u16::try_from(index).unwrap_or(u16::MAX)
}

fn socket_books(listeners: &[OpenListener]) -> Vec<SocketBook> {
    let each = listeners.iter().flat_map(|listener| {
        listener.sockets.iter().enumerate().map(|(worker, socket)| {
            SocketBook::new(Arc::clone(socket), listener.local_address, worker)
        })
    });
    each.collect()
}

/// Waits until every worker receives, and says how; returns their threads.
fn tell_started(
    started: &Receiver<Result<Started, worker::StartError>>,
    workers: usize,
) -> Result<Vec<Pid>, StartError> {
    let mut threads = Vec::with_capacity(workers);
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
        threads.push(started.thread);
    }
    Ok(threads)
}
