//! What the ingest half opens before anything runs: the spool and every socket, our own, given ones, or
//! those of the daemon before us.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use floe_core::budget::Budgets;
use floe_core::ceiling::mebibytes;
use floe_core::config::settings::Settings;
use floe_core::limits::RECEIVE_BUFFER_BYTES_DEFAULT;
use floe_core::name::Secret;
use floe_storage::{BackendLimits, RecoveryReport, Spool, SpoolOptions};
use tracing::{info, warn};

use super::StartError;
use crate::clock::wall_ms;
use crate::cpu;
use crate::given::GivenSockets;
use crate::ingest::stream::listener::{OpenStream, StreamAddress};
use crate::ingest::udp::{self, OpenListener};
use crate::memory_limit::MemoryPlan;
use crate::placement::Placement;
use crate::take_over::Predecessor;

/// Everything of the ingest half that can be refused, before anything runs.
pub(super) struct OpenedIngest {
    pub(super) spool: Spool,
    /// Rows that the start has put away as damaged, by backend.
    pub(super) quarantined: Vec<(String, u64)>,
    pub(super) listeners: Vec<OpenListener>,
    pub(super) streams: Vec<OpenStream>,
    pub(super) cpus: Vec<usize>,
    pub(super) placement: Placement,
    /// What may be held.
    pub(super) budgets: Budgets,
    pub(super) secret: Secret,
    pub(super) keeping: Keeping,
    /// Whether sockets give trains.
    pub(super) has_trains: bool,
}

/// Which sockets the service manager goes on holding when we end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    /// None: they are ours alone.
    None,
    /// Those that were given.
    Given,
    /// All: it has stored them.
    All,
}

impl Keeping {
    /// Whether it holds a socket that was given, or was not.
    pub(super) fn is_of(self, is_given: bool) -> bool {
        match self {
            Self::None => false,
            Self::Given => is_given,
            Self::All => true,
        }
    }
}

/// Sockets, bound, and where their workers run.
pub(super) struct Bound {
    listeners: Vec<OpenListener>,
    streams: Vec<OpenStream>,
    cpus: Vec<usize>,
    placement: Placement,
    /// What may be held.
    budgets: Budgets,
}

impl Bound {
    /// Where workers run, by settings that can be met; no socket yet.
    pub(super) fn plan(settings: &Settings) -> Result<Self, StartError> {
        let ingest = &settings.ingest;
        let cpus = cpu::plan(ingest.workers, ingest.cpus.as_deref())?;
        let placement = Placement::beside(&cpus, &cpu::inherited()?);
        let budgets = planned(settings, cpus.len())?;
        Ok(Self { listeners: Vec::new(), streams: Vec::new(), cpus, placement, budgets })
    }

    /// Binds every socket that is not among those `given`.
    pub(super) fn bind(
        &mut self,
        settings: &Settings,
        given: &mut GivenSockets,
    ) -> Result<(), StartError> {
        let ingest = &settings.ingest;
        let buffer_bytes = ingest.receive_buffer_bytes.unwrap_or(RECEIVE_BUFFER_BYTES_DEFAULT);
        let workers = self.cpus.len();
        let listeners = udp::open_all_given(&settings.listeners, workers, buffer_bytes, given)?;
        let streams = settings.streams.iter().map(|stream| OpenStream::open_given(stream, given));
        self.streams = streams.collect::<Result<_, _>>()?;
        given.refuse_left()?;
        self.listeners = listeners;
        Ok(())
    }

    /// Makes the sockets work as the settings say.
    fn prepare(&self, settings: &Settings) -> Result<(), StartError> {
        let ingest = &settings.ingest;
        udp::steer_all(&self.listeners, ingest.steering, &self.cpus)?;
        for listener in &self.listeners {
            info!(
                address = %listener.local_address,
                bytes = listener.receive_buffer_bytes_granted(),
                small_datagrams = listener.small_datagrams_buffered(),
                "receive buffer granted"
            );
            if let Some(warning) = listener.receive_buffer_warning() {
                warn!("{warning}");
            }
        }
        Ok(())
    }
}

impl OpenedIngest {
    /// Locks and recovers the spool, binds every socket that is not `given`.
    pub(super) fn open(
        settings: &Settings,
        path: &Path,
        given: &mut GivenSockets,
    ) -> Result<Self, StartError> {
        // First: settings that cannot be met leave the spool untouched.
        let mut bound = Bound::plan(settings)?;
        let spool = Spool::open(spool_options(settings, path))?;
        bound.bind(settings, given)?;
        bound.listeners.iter_mut().for_each(OpenListener::bind_rest);
        let opened = Self::of(bound, spool, settings, Secret::draw(), Keeping::Given)?;
        udp::coalesce_all(&opened.listeners, opened.has_trains)?;
        Ok(opened)
    }

    /// Opens the spool of the daemon before us, which holds.
    pub(super) fn hold(
        bound: Bound,
        settings: &Settings,
        path: &Path,
        kept: &[usize],
        predecessor: &Predecessor,
    ) -> Result<Self, StartError> {
        let keeping = if predecessor.is_managed() { Keeping::Given } else { Keeping::None };
        let lock = predecessor.hold(kept)?;
        let spool = Spool::open_shared(spool_options(settings, path), lock)?;
        Self::of(bound, spool, settings, predecessor.secret(), keeping)
    }

    fn of(
        bound: Bound,
        (spool, report): (Spool, RecoveryReport),
        settings: &Settings,
        secret: Secret,
        keeping: Keeping,
    ) -> Result<Self, StartError> {
        tell_recovery(&report);
        let quarantined = report
            .quarantined
            .iter()
            .filter_map(|link| Some((link.backend.clone()?, link.rows.unwrap_or(0))));
        let quarantined = quarantined.collect();
        bound.prepare(settings)?;
        let Bound { listeners, streams, cpus, placement, budgets } = bound;
        let has_trains = settings.ingest.udp_gro || udp::have_trains(&listeners);
        if has_trains && !settings.ingest.udp_gro {
            warn!(
                "udp_gro stays on: sockets that were open before have it; stop floe to close them"
            );
        }
        let mut opened = Self {
            spool,
            quarantined,
            listeners,
            streams,
            cpus,
            placement,
            budgets,
            secret,
            keeping,
            has_trains,
        };
        opened.keep_sockets(keeping);
        Ok(opened)
    }

    /// The sockets by which datagrams and connections come.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let udp = self.listeners.iter().flat_map(|listener| &listener.sockets);
        udp.map(|socket| socket.as_fd()).chain(self.streams.iter().map(AsFd::as_fd)).collect()
    }

    /// The service manager goes on holding these sockets when we end.
    pub(super) fn keep_sockets(&mut self, keeping: Keeping) {
        self.keeping = keeping;
        let kept = self.streams.iter().filter(|stream| keeping.is_of(stream.is_given));
        kept.for_each(OpenStream::keep_file);
    }

    /// What the listeners are bound to, in configured order.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.local_address).collect()
    }

    /// Where the stream listeners can be found, in configured order.
    pub(super) fn stream_addresses(&self) -> Vec<StreamAddress> {
        self.streams.iter().map(|stream| stream.address().clone()).collect()
    }
}

pub(super) fn spool_options(settings: &Settings, path: &Path) -> SpoolOptions {
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
