//! Start and stop of the whole, in an order that loses nothing.
//!
//! Start: spool and its lock, sockets (all of them, before a worker reads), exporters, workers, the
//! admin port (whoever finds it open may send), and the coordinator last: until it runs nothing is
//! spooled, so a start that fails ends what it began and leaves no interval behind. Stop, the drain:
//! admin port, then the coordinator (which stops the workers and spools the open interval), then the
//! exporters, who get a moment to deliver it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use floe_core::config::Loaded;
use floe_core::config::settings::Settings;
use floe_storage::SpoolError;
use tracing::{debug, error, info, warn};

use self::ingest_half::{Held, IngestHalf, Receiving, Requests};
use self::opening::{Bound, Keeping, OpenedIngest};
use self::reload::{REFUSED_BEFORE, ReloadReport, merge};
use crate::admin::console::{Console, ConsoleError, ConsoleLimits};
use crate::admin::control::Control;
use crate::admin::face::{Description, Face};
use crate::backlog::Backlog;
use crate::clock::wall_ms;
use crate::cpu::PlanError;
use crate::export::accounts::Told;
use crate::export::exporter::{self, Exporter, OwnBooks};
use crate::export::registry::AccountRegistry;
use crate::given::{GivenError, GivenSockets};
use crate::ingest::stream::listener::{StreamAddress, StreamBindError};
use crate::ingest::udp::BindError;
use crate::ingest::worker;
use crate::service_manager;
use crate::take_over::{Predecessor, Successor, TakeOverError};

mod hand_over;
mod ingest_half;
mod opening;
/// What a reload changes.
pub mod reload;
mod side_paths;

/// How long exporters may go on delivering after the open interval was spooled.
const EXPORT_DRAIN: Duration = Duration::from_secs(2);

/// How long the exporter of a backend that is left out or changed may go on.
const EXPORT_RETIRE: Duration = Duration::from_millis(500);

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
    /// A stream listener cannot be bound.
    #[error(transparent)]
    Stream(#[from] StreamBindError),
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
    /// What the settings allow is more memory than there may be.
    #[error(
        "memory ceiling of {ceiling} exceeds the limit of {limit}; lower series.max, memory.timer_bytes_max, \
         memory.set_bytes_max or workers, raise the limit, or set memory.over_limit = \"warn\" \
         (floe check FILE shows the parts)"
    )]
    Memory {
        /// What floe may come to hold.
        ceiling: String,
        /// What it may.
        limit: String,
    },
    /// A socket was given that nobody asks for.
    #[error(transparent)]
    Given(#[from] GivenError),
    /// The daemon that runs here does not hand over.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
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
    /// Stream listeners, in configured order; ports are the real ones.
    pub streams: Vec<StreamAddress>,
    /// The admin port; `None` for the export half.
    pub mgmt: Option<SocketAddr>,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    settings: Settings,
    /// Whether the last reload was refused a part: the next one tries it again.
    has_refusals: bool,
    halves: Halves,
    spool: PathBuf,
    accounts: Arc<AccountRegistry>,
    backlog: Arc<Backlog>,
    /// Whoever wants to take over.
    successors: (Sender<Successor>, Receiver<Successor>),
    addresses: Addresses,
    console: Option<Console>,
    control: Option<Control>,
    ingest: Option<IngestHalf>,
    exporter: Option<Exporter>,
}

/// What a daemon is started with beside its settings.
#[derive(Debug, Default)]
pub struct Origin {
    /// Sockets of the service manager, or of the daemon before us.
    pub given: GivenSockets,
    /// The daemon before us.
    pub predecessor: Option<Predecessor>,
    /// How many sockets the service manager keeps for us when we end; 0 = none.
    pub store_places: usize,
}

impl Daemon {
    /// Starts the daemon on the spool at `spool`.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(loaded: &Loaded, spool: &Path, halves: Halves) -> Result<Self, StartError> {
        Self::start_from(loaded, spool, halves, Origin::default())
    }

    /// The same from `origin`.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then, and the daemon before us goes on, or spools what it has
    /// where it has stopped reading already.
    pub fn start_from(
        loaded: &Loaded,
        spool: &Path,
        halves: Halves,
        origin: Origin,
    ) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        // Rounded as the reference daemon rounds it.
        let start_s = (wall_ms() + 500) / 1_000;
        // Where another process exports, what expires here is counted here, and nothing else.
        let told = if halves == Halves::Ingest { Told::Retention } else { Told::All };
        let accounts = Arc::new(AccountRegistry::telling(told));
        for backend in &settings.backends {
            accounts.account(&backend.name, start_s);
        }
        let mut daemon = Self {
            settings: settings.clone(),
            has_refusals: false,
            halves,
            spool: spool.to_owned(),
            accounts,
            backlog: Arc::default(),
            successors: bounded(1),
            addresses: Addresses::default(),
            console: None,
            control: None,
            ingest: None,
            exporter: None,
        };
        let Origin { mut given, predecessor, store_places } = origin;
        if halves == Halves::Export {
            daemon.start_exporters()?;
            return Ok(daemon);
        }
        match predecessor {
            None => {
                let mut opened = OpenedIngest::open(settings, spool, &mut given)?;
                store(&mut opened, store_places);
                daemon.start_exporters()?;
                let mut receiving = daemon.start_workers(opened, Held::No)?;
                receiving.accept(settings)?;
                let admin = daemon.bind_admin(None)?;
                daemon.coordinate(receiving, admin, loaded, start_s)?;
            }
            Some(predecessor) => {
                daemon.take_over(predecessor, &mut given, loaded, start_s, store_places)?;
            }
        }
        Ok(daemon)
    }

    /// Starts in the place of the daemon before us: all that can be refused before it stops.
    fn take_over(
        &mut self,
        mut predecessor: Predecessor,
        given: &mut GivenSockets,
        loaded: &Loaded,
        start_s: u64,
        store_places: usize,
    ) -> Result<(), StartError> {
        let settings = &loaded.settings;
        let mut bound = Bound::plan(settings)?;
        bound.bind(settings, given)?;
        let admin = self.bind_admin(predecessor.admin.take())?;
        let spool = self.spool.clone();
        let kept = given.taken();
        let mut opened = OpenedIngest::hold(bound, settings, &spool, kept, &predecessor)?;
        store(&mut opened, store_places);
        let mut receiving = self.start_workers(opened, Held::UntilTold)?;
        let pause_ns = receiving.replace(&predecessor, settings)?;
        receiving.take_up(settings, predecessor.state()?)?;
        self.start_exporters()?;
        let (pid, version) = (predecessor.pid(), predecessor.version().to_owned());
        predecessor.let_go()?;
        self.coordinate(receiving, admin, loaded, start_s)?;
        // A tenth of a millisecond is told.
        let pause_ms = (pause_ns / 100_000) as f64 / 10.0;
        info!(pid, version, pause_ms, "taken over");
        Ok(())
    }

    fn start_exporters(&mut self) -> Result<(), StartError> {
        let books = match self.halves {
            Halves::Ingest => return Ok(()),
            Halves::Export => OwnBooks::ByExporter,
            Halves::Both => OwnBooks::InSegments,
        };
        let backends = &self.settings.backends;
        self.exporter =
            Some(Exporter::start(&self.spool, backends, &self.accounts, &self.backlog, books)?);
        Ok(())
    }

    fn bind_admin(&self, given: Option<TcpListener>) -> Result<TcpListener, ConsoleError> {
        let Settings { mgmt_address, mgmt_port, .. } = &self.settings;
        Console::bind(mgmt_address.as_deref(), *mgmt_port, given)
    }

    fn start_workers(&mut self, opened: OpenedIngest, held: Held) -> Result<Receiving, StartError> {
        self.addresses.udp = opened.addresses();
        self.addresses.streams = opened.stream_addresses();
        opened.start_workers(&self.settings, held)
    }

    /// Opens the ways to ask, and starts the coordinator.
    fn coordinate(
        &mut self,
        receiving: Receiving,
        admin: TcpListener,
        loaded: &Loaded,
        start_s: u64,
    ) -> Result<(), StartError> {
        let settings = &loaded.settings;
        let (top, requests) = (receiving.top(), Requests::new());
        let face = Face::new(
            start_s,
            settings.health,
            Description::new(settings, &loaded.listing),
            Arc::clone(&self.accounts),
            Arc::clone(&requests.has_flushed),
        )
        .showing(Arc::clone(&top));
        let (asking, limits) = (requests.sender.clone(), ConsoleLimits::default());
        let console = Console::open(admin, Arc::new(face), asking, limits)?;
        self.addresses.mgmt = Some(console.local_address());
        self.console = Some(console);
        let successors = self.successors.0.clone();
        self.control = Control::open(&self.spool, requests.sender.clone(), successors, Some(top))
            .inspect_err(
                |error| warn!(%error, "control socket refused: floe books reads the spool"),
            )
            .ok();
        self.ingest = Some({
            let (accounts, backlog) = (Arc::clone(&self.accounts), Arc::clone(&self.backlog));
            receiving.coordinate(settings, accounts, backlog, requests)?
        });
        Ok(())
    }

    /// Whoever wants to take over, to be given to [`Daemon::hand_over`].
    #[must_use]
    pub fn successors(&self) -> &Receiver<Successor> {
        &self.successors.1
    }

    /// Places every thread of this process that is no worker, so that none takes a worker's time:
    /// [`crate::placement`]. Called once, when all that runs from the start is running.
    pub fn place_threads(&self) {
        if let Some(ingest) = &self.ingest {
            ingest.place_others();
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Goes on with other settings, as far as they can change while it runs; nothing of the open
    /// interval is lost.
    ///
    /// A backend that is added has its queue before its exporter starts; one that is left out has no
    /// exporter before it gets no further segments. What the kernel or the disk refuses is in the
    /// report and tried again by the next call; all else holds.
    pub fn reload(&mut self, asked: &Loaded) -> ReloadReport {
        let (settings, mut report) = merge(&self.settings, &asked.settings);
        if let Some(console) = &self.console {
            let face = console.face();
            face.describe(Description::new(&settings, &asked.listing));
            if settings.health != self.settings.health {
                face.set_health(settings.health);
            }
        }
        if self.has_refusals {
            report.applied.push(REFUSED_BEFORE);
        }
        if report.applied.is_empty() {
            return report;
        }
        for backend in &settings.backends {
            self.accounts.account(&backend.name, wall_ms() / 1_000);
        }
        if let Some(exporter) = &mut self.exporter {
            exporter.end_changed(&settings.backends, EXPORT_RETIRE);
        }
        if let Some(ingest) = &mut self.ingest {
            report.failures = ingest.reload(&self.settings, &settings);
        }
        if let Some(exporter) = &mut self.exporter
            && let Err(error) = exporter.start_missing(&settings.backends)
        {
            report.failures.push(error.into());
        }
        self.has_refusals = !report.failures.is_empty();
        self.settings = settings;
        report
    }

    /// Enters into the books that a configuration was refused.
    pub fn count_refused_reload(&self) {
        if let Some(ingest) = &self.ingest {
            ingest.count_refused_reload();
        }
    }

    /// Drains: sockets emptied, the open interval spooled, exporters given up to two seconds.
    pub fn stop(mut self) {
        self.control = None;
        if let Some(console) = self.console.take() {
            console.close();
        }
        if let Some(mut ingest) = self.ingest.take() {
            ingest.end();
        }
        if let Some(exporter) = self.exporter.take() {
            exporter.stop(EXPORT_DRAIN);
        }
        let backends = self.settings.backends.iter().map(|backend| backend.name.clone());
        let (intervals, rows) = self.backlog.at_stake(&backends.collect::<Vec<_>>());
        if intervals != 0 {
            error!(intervals, rows, "intervals lost: the spool refused them until the end");
        }
    }
}

/// Leaves the sockets with the service manager, where it has `places` for all of them.
fn store(opened: &mut OpenedIngest, places: usize) {
    let sockets = opened.descriptors();
    if places == 0 || sockets.is_empty() {
        return;
    }
    if places < sockets.len() {
        let sockets = sockets.len();
        warn!(places, sockets, "sockets not kept over a restart: raise FileDescriptorStoreMax=");
        return;
    }
    match service_manager::store(&sockets) {
        Ok(()) => {
            debug!(sockets = sockets.len(), "sockets stored with the service manager");
            opened.keep_sockets(Keeping::All);
        }
        Err(error) => warn!(%error, "sockets not kept over a restart"),
    }
}
