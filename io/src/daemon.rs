//! Start and stop of the whole, in an order that loses nothing.
//!
//! Start: spool and its lock, sockets (all of them, before a worker reads), exporters, workers, the
//! admin port (whoever finds it open may send), and the coordinator last: until it runs nothing is
//! spooled, so a start that fails ends what it began and leaves no interval behind. Stop, the drain:
//! admin port, then the coordinator (which stops the workers and spools the open interval), then the
//! exporters, who get a moment to deliver it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use floe_core::config::Loaded;
use floe_core::config::settings::Settings;
use floe_storage::SpoolError;
use tracing::{error, warn};

use self::ingest_half::{IngestHalf, OpenedIngest, Requests};
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
use crate::ingest::stream::listener::{StreamAddress, StreamBindError};
use crate::ingest::udp::BindError;
use crate::ingest::worker;

mod ingest_half;
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
    accounts: Arc<AccountRegistry>,
    backlog: Arc<Backlog>,
    addresses: Addresses,
    console: Option<Console>,
    control: Option<Control>,
    ingest: Option<IngestHalf>,
    exporter: Option<Exporter>,
}

impl Daemon {
    /// Starts the daemon on the spool at `spool`.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(loaded: &Loaded, spool: &Path, halves: Halves) -> Result<Self, StartError> {
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
            accounts: Arc::clone(&accounts),
            backlog: Arc::default(),
            addresses: Addresses::default(),
            console: None,
            control: None,
            ingest: None,
            exporter: None,
        };
        let opened = match halves {
            Halves::Export => None,
            Halves::Both | Halves::Ingest => Some(OpenedIngest::open(settings, spool)?),
        };
        if halves != Halves::Ingest {
            let backends = &settings.backends;
            let books = match halves {
                Halves::Export => OwnBooks::ByExporter,
                Halves::Both | Halves::Ingest => OwnBooks::InSegments,
            };
            let backlog = &daemon.backlog;
            daemon.exporter = Some(Exporter::start(spool, backends, &accounts, backlog, books)?);
        }
        if let Some(opened) = opened {
            daemon.addresses.udp = opened.addresses();
            daemon.addresses.streams = opened.stream_addresses();
            let receiving = opened.start_workers(settings)?;
            let top = receiving.top();
            let requests = Requests::new();
            let face = Face::new(
                start_s,
                settings.health,
                Description::new(settings, &loaded.listing),
                Arc::clone(&accounts),
                Arc::clone(&requests.has_flushed),
            )
            .showing(Arc::clone(&top));
            let console = Console::open(
                settings.mgmt_address.as_deref(),
                settings.mgmt_port,
                Arc::new(face),
                requests.sender.clone(),
                ConsoleLimits::default(),
            )?;
            daemon.addresses.mgmt = Some(console.local_address());
            daemon.console = Some(console);
            daemon.control = Control::open(spool, requests.sender.clone(), Some(top))
                .inspect_err(
                    |error| warn!(%error, "control socket refused: floe books reads the spool"),
                )
                .ok();
            let backlog = Arc::clone(&daemon.backlog);
            daemon.ingest = Some(receiving.coordinate(settings, accounts, backlog, requests)?);
        }
        Ok(daemon)
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
