//! The ingest half: spool, sockets, workers and coordinator, in three steps.
//!
//! *Opened*: everything that can be refused is asked for, and nothing runs. *Receiving*: workers
//! read, or are ready to, and nothing is made of it yet. *Running*: the coordinator closes intervals. A
//! start that fails ends the step it has reached and leaves no interval behind.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_utils::sync::Parker;
use floe_core::budget::Ledger;
use floe_core::config::settings::{Senders, Settings};
use floe_core::interval::Interval;
use floe_core::limits::{DESCRIPTORS_RESERVED, RECEIVE_BUFFER_BYTES_DEFAULT};
use floe_core::line::LineParser;
use floe_core::name::KeyHasher;
use floe_core::shard::{ShardReader, shard_within};
use floe_storage::Spool;
use rustix::process::{Pid, Resource, getrlimit};
use tracing::{info, warn};

use super::StartError;
use super::hand_over::Offered;
use super::opening::{OpenedIngest, spool_options};
use super::side_paths::SidePaths;
use crate::backlog::Backlog;
use crate::clock::monotonic_ns;
use crate::coordinator::hand_over::{Handed, HandedBooks};
use crate::coordinator::reload::Reload;
use crate::coordinator::request::{REQUESTS_MAX, Request};
use crate::coordinator::{Coordinator, Parts, SocketBook, WorkerHandle};
use crate::courtesy;
use crate::cpu;
use crate::export::registry::AccountRegistry;
use crate::ingest::intake::{Intake, IntakeInbox, IntakeSettings, SideTaps};
use crate::ingest::stream::acceptor::{Acceptor, StreamWorker};
use crate::ingest::stream::connections::{HandedConnection, StreamInbox};
use crate::ingest::stream::listener::OpenStream;
use crate::ingest::udp::{self, OpenListener};
use crate::ingest::worker::{self, ReceiveOptions, Started, StreamPlan, WorkerPlan, WorkerSignals};
use crate::placement::{BESIDE_NICE, Placement};
use crate::take_over::{Predecessor, TakeOverError};
use crate::top::{Top, TopView};

/// Workers that receive while nothing is made of it yet, or will when they are told; dropped, they end.
pub(super) struct Receiving {
    opened: OpenedIngest,
    workers: Workers,
    /// Whom the acceptor and a daemon before us give connections to.
    stream_workers: Vec<StreamWorker>,
    acceptor: Option<Acceptor>,
    offered: Offered,
    side: SidePaths,
    top: Top,
    controls: Vec<WorkerControl>,
    threads: Vec<Pid>,
    readers: Vec<ShardReader>,
    hasher: KeyHasher,
    parker: Parker,
    /// That of the daemon before us.
    interval: Option<Interval>,
    handed: Option<HandedBooks>,
}

/// Whether workers receive as soon as they have started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// They do.
    No,
    /// They are ready, and somebody else receives: [`Receiving::replace`].
    UntilTold,
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
    /// Starts every worker and waits until it receives, or, where they are `held`, until it could.
    pub(super) fn start_workers(
        self,
        settings: &Settings,
        held: Held,
    ) -> Result<Receiving, StartError> {
        let (hasher, parker) = (KeyHasher::of(self.secret), Parker::new());
        let (reports, started) = bounded(self.cpus.len());
        let mut workers = Workers::default();
        let mut controls = Vec::with_capacity(self.cpus.len());
        let mut readers = Vec::with_capacity(self.cpus.len());
        let mut stream_workers = Vec::new();
        let ledger = Arc::new(Ledger::new(&self.budgets, self.cpus.len()));
        let plans = (0..self.cpus.len()).map(|index| self.worker_plan(settings, index, held));
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
        let offered = Offered::of(&self, &stream_workers);
        Ok(Receiving {
            opened: self,
            workers,
            stream_workers,
            acceptor: None,
            offered,
            side,
            top,
            controls,
            threads,
            readers,
            hasher,
            parker,
            interval: None,
            handed: None,
        })
    }

    /// Starts the acceptor, where there is something to accept at.
    fn accept_for(
        &mut self,
        workers: Vec<StreamWorker>,
        settings: &Settings,
    ) -> Result<(Option<Acceptor>, Vec<Weak<OpenStream>>), StartError> {
        if self.streams.is_empty() {
            return Ok((None, Vec::new()));
        }
        // Also the ring, the wake-up and the epoll of each worker.
        let own = self.streams.len() + (self.listeners.len() + 3) * self.cpus.len();
        let connections_max = connections_max(settings, own + DESCRIPTORS_RESERVED);
        let streams: Vec<_> = self.streams.drain(..).map(Arc::new).collect();
        let offered = streams.iter().map(Arc::downgrade).collect();
        let acceptor = Acceptor::start(streams, workers, connections_max)
            .map_err(|source| StartError::Kernel { what: "the acceptor", source })?;
        Ok((Some(acceptor), offered))
    }

    fn worker_plan(
        &self,
        settings: &Settings,
        index: usize,
        held: Held,
    ) -> Result<WorkerPlan, StartError> {
        let signals = match held {
            Held::No => WorkerSignals::new(),
            Held::UntilTold => WorkerSignals::held(),
        };
        let signals =
            signals.map_err(|source| StartError::Kernel { what: "a worker's wake-up", source })?;
        let buffers = self.listeners.iter().map(|listener| listener.receive_buffer_bytes);
        Ok(WorkerPlan {
            index,
            cpu: self.cpus.get(index).copied(),
            sockets: udp::sockets_of(&self.listeners, index, self.cpus.len()),
            receive_buffer_bytes: buffers.min().unwrap_or(RECEIVE_BUFFER_BYTES_DEFAULT),
            options: ReceiveOptions {
                mode: settings.ingest.mode,
                has_trains: self.has_trains,
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
    /// Puts workers that were held in the place of those of `predecessor`, which stops reading: the point
    /// of no return. Returns for how long nobody read, ns.
    pub(super) fn replace(
        &mut self,
        predecessor: &Predecessor,
        settings: &Settings,
    ) -> Result<u64, StartError> {
        let asked_ns = monotonic_ns();
        let connections = predecessor.stop()?;
        // Not before: nobody would read what comes to sockets that are added, and whoever reads must know
        // what comes as a train.
        self.opened.listeners.iter_mut().for_each(OpenListener::bind_rest);
        udp::coalesce_all(&self.opened.listeners, self.opened.has_trains)?;
        for worker in &self.workers.0 {
            worker.signals.begin();
        }
        self.offered = Offered::of(&self.opened, &self.stream_workers);
        self.hand_on(connections);
        self.accept(settings)?;
        let began = self.workers.0.iter().map(|worker| worker.signals.began_ns());
        // One that has not begun yet begins now at the earliest.
        let began_ns = began.map(|began_ns| began_ns.unwrap_or_else(monotonic_ns)).max();
        Ok(began_ns.unwrap_or(asked_ns).saturating_sub(asked_ns))
    }

    /// Deals the connections of the daemon before us out; without stream servers they end here.
    fn hand_on(&self, connections: Vec<HandedConnection>) {
        for (connection, worker) in connections.into_iter().zip(self.stream_workers.iter().cycle())
        {
            if worker.inbox.put_handed(connection).is_err() {
                warn!("connection of the daemon before us closed: no room for it");
            }
            worker.signals.wake();
        }
    }

    /// Accepts connections, where there is something to accept at.
    pub(super) fn accept(&mut self, settings: &Settings) -> Result<(), StartError> {
        let workers = std::mem::take(&mut self.stream_workers);
        (self.acceptor, self.offered.streams) = self.opened.accept_for(workers, settings)?;
        Ok(())
    }

    /// Who brings most, for whoever answers.
    pub(super) fn top(&self) -> Arc<TopView> {
        self.top.view()
    }

    /// Takes up what the daemon before us has handed over. `settings`: those of the start.
    pub(super) fn take_up(
        &mut self,
        settings: &Settings,
        handed: Handed,
    ) -> Result<(), StartError> {
        let Handed { interval, books } = handed;
        self.interval = match &interval {
            Some(bytes) => {
                let mut taken = Interval::new(settings.clone(), &self.hasher, &self.readers);
                taken.adopt(bytes).map_err(TakeOverError::from)?;
                Some(taken)
            }
            None => {
                // It has spooled one since we looked.
                let kernel = |source| StartError::Kernel { what: "the spool", source };
                let lock = self.opened.spool.share_lock().map_err(kernel)?;
                let options = spool_options(settings, self.opened.spool.path());
                self.opened.spool = Spool::open_shared(options, lock)?.0;
                None
            }
        };
        self.handed = Some(books);
        Ok(())
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
        let fresh = || Interval::new(settings.clone(), &self.hasher, &self.readers);
        let parts = Parts {
            settings: settings.clone(),
            interval: self.interval.take().unwrap_or_else(fresh),
            sockets: socket_books(&self.opened),
            readers: self.readers,
            spool: self.opened.spool,
            quarantined: self.opened.quarantined,
            parker: self.parker,
            backlog,
            accounts,
            acceptor: self.acceptor.as_ref().map(Acceptor::counts),
            side: self.side.books(),
            handed: self.handed.take(),
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
            offered: self.offered,
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
    pub(super) offered: Offered,
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
                courtesy::share_cpus();
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

    /// The way to the coordinator.
    pub(super) fn requests(&self) -> &Sender<Request> {
        &self.requests
    }

    /// Accepts no further connections; those that are open stay.
    pub(super) fn stop_accepting(&mut self) {
        self.acceptor = None;
    }

    /// Drains; does nothing when called again.
    pub(super) fn end(&mut self) {
        // First: the workers still take what it has accepted.
        self.stop_accepting();
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

fn socket_books(opened: &OpenedIngest) -> Vec<SocketBook> {
    let each = opened.listeners.iter().flat_map(|listener| {
        // By their own numbers, which are those of their workers where each has one.
        listener.sockets.iter().enumerate().map(|(number, socket)| {
            let mut book = SocketBook::new(Arc::clone(socket), listener.local_address, number);
            if opened.keeping.is_of(number < listener.given) {
                book.keep();
            }
            book
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
