//! `floe`, `floe ingest`, `floe export`: start, say where, wait for the signal, drain.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use floe_core::config::Loaded;
use floe_core::config::quantity::{duration_text, size_text};
use floe_core::config::settings::Settings;
use floe_io::clock::monotonic_ns;
use floe_io::daemon::{Daemon, Halves, Origin, StartError};
use floe_io::ingest::stream::listener::StreamAddress;
use floe_io::service_manager;
use floe_io::take_over::successor::HandOverEnd;
use floe_io::take_over::{Predecessor, Successor};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use tracing::{debug, info, warn};

use super::arguments::DaemonArguments;
use super::log::Log;
use super::reload::{self, ConfigurationFile, Occasion};
use super::title::ProcessTitle;
use super::watch::{Event, Events};
use super::{Failure, privileges, spool_place};

/// Signals closer together than this are one request to stop, ns.
const ONE_BREATH_NS: u64 = 500_000_000;

pub(super) fn run(arguments: &DaemonArguments, halves: Halves) -> Result<(), Failure> {
    // Before there is a second thread, and before anything is opened.
    if let Some(user) = &arguments.user {
        privileges::leave_root_for(user).map_err(Failure::refused)?;
    }
    // Then at once, so that a signal during the start drains as well.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGXFSZ])
        .context("cannot register signals")
        .map_err(Failure::failed)?;
    let mut events = Events::of(signals).map_err(Failure::failed)?;
    let (mut file, loaded) = ConfigurationFile::open(arguments)?;
    let Loaded { settings, warnings, .. } = &loaded;
    let log = Log::start(settings)
        .context("cannot start the thread of the log")
        .map_err(Failure::failed)?;
    let process = Process { title: ProcessTitle::read(), log };
    process.title.apply(&settings.title);
    for warning in warnings {
        warn!("{warning}");
    }
    raise_file_limit();
    if halves == Halves::Export && settings.backends.is_empty() {
        let nothing = anyhow!("nothing to export: no backend is configured; set [[backends]]");
        return Err(Failure::refused(nothing));
    }
    let configured = settings.spool.path.as_deref();
    let spool = spool_place::to_write(arguments.spool.as_deref(), configured)?;
    // Before anything runs: a start that fails later has used up a timestamp of the spool.
    let ready_file = arguments.ready_file.as_deref().map(ReadyFile::begin).transpose();
    let ready_file = ready_file.map_err(Failure::failed)?;
    let origin = origin(arguments, &spool, halves)?;
    let mut daemon =
        Daemon::start_from(&loaded, &spool, halves, origin).map_err(refused_or_failed)?;
    daemon.place_threads();
    tell_start(settings, &spool, &daemon);
    let is_open = daemon.addresses().mgmt.is_some_and(|address| !address.ip().is_loopback());
    if is_open && geteuid().is_root() {
        warn!("running as root with an admin port open to others: use --user, or mgmt_address");
    }
    if let Some(ready_file) = ready_file {
        ready_file.finish(&spool, &daemon).map_err(Failure::failed)?;
    }
    service_manager::tell_ready("receiving");
    events.watch(watched(file.as_ref(), settings));
    events.listen_to(daemon.successors());
    let end = reload_until_stopped(&mut events, &mut daemon, &mut file, arguments, &process);
    let signal = match end {
        End::Signal(signal) => signal,
        End::HandedOver { pid } => {
            info!(pid, "handed over");
            return Ok(());
        }
        End::Failed(failure) => return Err(failure),
    };
    service_manager::tell_stopping();
    info!(signal, "drain started");
    let started_ns = monotonic_ns();
    let log = process.log.clone();
    std::thread::spawn(move || end_at_second_interrupt(events, started_ns, &log));
    daemon.stop();
    info!("daemon stopped");
    Ok(())
}

/// Where the daemon's sockets come from, and whose place it takes.
fn origin(arguments: &DaemonArguments, spool: &Path, halves: Halves) -> Result<Origin, Failure> {
    let given = service_manager::given_sockets()
        .context("cannot take the sockets of the service manager")
        .map_err(Failure::failed)?;
    let store_places = service_manager::store_places();
    let alone = |given| Origin { given, predecessor: None, store_places };
    if halves == Halves::Export {
        if arguments.take_over {
            let nothing =
                anyhow!("floe export has nothing to hand over: stop it, and start it again");
            return Err(Failure::refused(nothing));
        }
        return Ok(alone(given));
    }
    if !arguments.take_over {
        return Ok(alone(given));
    }
    match Predecessor::ask(spool, halves).map_err(Failure::failed)? {
        None => {
            info!(spool = %spool.display(), "nothing to take over: no daemon runs on the spool");
            Ok(alone(given))
        }
        Some((predecessor, sockets)) => {
            if !given.is_empty() {
                warn!(
                    "sockets of the service manager left alone: those of the daemon before are taken"
                );
            }
            Ok(Origin { given: sockets, predecessor: Some(predecessor), store_places })
        }
    }
}

/// Opens as many files as the system lets us: connections, segments and backends need them.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, "limit of open files not raised");
    }
}

/// What the process shows of itself.
struct Process {
    title: ProcessTitle,
    log: Log,
}

impl Process {
    fn apply(&self, settings: &Settings) {
        self.log.apply(settings);
        self.title.apply(&settings.title);
    }
}

/// The file to watch, if it shall be.
fn watched<'f>(file: Option<&'f ConfigurationFile>, settings: &Settings) -> Option<&'f Path> {
    file.filter(|_| settings.automatic_config_reload).and_then(ConfigurationFile::watchable)
}

/// What ends a daemon that runs.
enum End {
    /// The signal that asks for the drain.
    Signal(i32),
    /// A successor has everything.
    HandedOver {
        /// Its process.
        pid: u32,
    },
    /// A successor was lost half-way; the open interval is spooled.
    Failed(Failure),
}

/// Gives everything to `successor`; `None` if it gave up and the daemon goes on.
fn hand_over(daemon: &mut Daemon, successor: Successor, events: &Events) -> Option<End> {
    let pid = successor.pid();
    info!(pid, "another floe takes over");
    match daemon.hand_over(successor, &|| !events.has_signal()) {
        HandOverEnd::Over { pid } => Some(End::HandedOver { pid }),
        HandOverEnd::Lost(error) => Some(End::Failed(Failure::failed(error))),
        HandOverEnd::GoesOn { why } => {
            warn!(pid, %why, "not handed over: going on");
            None
        }
    }
}

/// Reads the configuration again whenever it is asked to or the file has changed; returns what ends
/// the daemon.
fn reload_until_stopped(
    events: &mut Events,
    daemon: &mut Daemon,
    file: &mut Option<ConfigurationFile>,
    arguments: &DaemonArguments,
    process: &Process,
) -> End {
    loop {
        let occasion = match events.next() {
            Event::Signal(SIGHUP) => Occasion::Asked,
            Event::Signal(signal) => return End::Signal(signal),
            Event::Successor(successor) => match hand_over(daemon, successor, events) {
                Some(end) => return end,
                None => continue,
            },
            Event::Hint => Occasion::Changed,
            Event::Look => Occasion::Look,
        };
        let Some(known) = file else {
            info!("nothing to read again: started without a configuration file");
            continue;
        };
        let read = known.read_again(arguments, occasion);
        if !matches!(read, Ok(None)) {
            service_manager::tell_reloading();
        }
        match read {
            Ok(None) => continue,
            Ok(Some(loaded)) => {
                process.apply(&loaded.settings);
                reload::apply(daemon, &loaded);
                events.watch(watched(file.as_ref(), &loaded.settings));
            }
            Err(failure) => reload::refuse(daemon, &failure),
        }
        service_manager::tell_ready("receiving");
    }
}

/// Workers that cannot be placed, and memory that is not there, are the fault of the settings, anything else that of the machine.
fn refused_or_failed(error: StartError) -> Failure {
    match error {
        StartError::Plan(_) | StartError::Memory { .. } => Failure::refused(error),
        _ => Failure::failed(error),
    }
}

/// Whoever interrupts a drain by hand does not want to wait for it.
///
/// Nothing else cuts it short: `timeout` and service managers send their signals twice in one
/// breath, which must not cost the open interval.
fn end_at_second_interrupt(mut events: Events, started_ns: u64, log: &Log) {
    while let Some(signal) = events.next_signal() {
        if signal == SIGINT && started_ns + ONE_BREATH_NS < monotonic_ns() {
            warn!("drain interrupted");
            log.flush();
            std::process::exit(128 + signal);
        }
        info!(signal, "drain goes on");
    }
}

fn tell_start(settings: &Settings, spool: &Path, daemon: &Daemon) {
    let addresses = daemon.addresses();
    let udp: Vec<String> = addresses.udp.iter().map(ToString::to_string).collect();
    let (tcp, unix) = stream_texts(&addresses.streams);
    let backends: Vec<String> = settings
        .backends
        .iter()
        .map(|backend| format!("{} at {}", backend.name, backend.address))
        .collect();
    let backlog_bytes: u64 = settings.backends.iter().map(|backend| backend.backlog_bytes).sum();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        udp = (!udp.is_empty()).then(|| udp.join(" ")),
        tcp = (!tcp.is_empty()).then(|| tcp.join(" ")),
        unix = (!unix.is_empty()).then(|| unix.join(" ")),
        mgmt = addresses.mgmt.map(|address| address.to_string()),
        spool = %spool.display(),
        archive_age = duration_text(settings.spool.archive_age_ms),
        archive_bytes = size_text(settings.spool.archive_bytes),
        backlog_bytes = size_text(backlog_bytes),
        backends = if backends.is_empty() { "none".to_owned() } else { backends.join(", ") },
        "daemon started"
    );
}

/// TCP ports and Unix sockets, each as text.
fn stream_texts(streams: &[StreamAddress]) -> (Vec<String>, Vec<String>) {
    let (mut tcp, mut unix) = (Vec::new(), Vec::new());
    for stream in streams {
        match stream {
            StreamAddress::Tcp(address) => tcp.push(address.to_string()),
            StreamAddress::Unix(path) => unix.push(path.display().to_string()),
        }
    }
    (tcp, unix)
}

/// The file that tells the real addresses, whole or not at all.
struct ReadyFile<'a> {
    path: &'a Path,
    /// Where it is written first; `None` = into the path itself, which is a pipe or a device.
    unfinished: Option<PathBuf>,
}

impl<'a> ReadyFile<'a> {
    /// Makes sure that it can be written.
    fn begin(path: &'a Path) -> anyhow::Result<Self> {
        // A rename would put a plain file in the place of `/dev/null`.
        let is_special = path.metadata().is_ok_and(|it| !it.is_file() && !it.is_dir());
        let unfinished = (!is_special).then(|| {
            // By a name that is no one else's: another ready file may differ in its ending alone.
            let mut unfinished = path.as_os_str().to_owned();
            unfinished.push(".tmp");
            PathBuf::from(unfinished)
        });
        if let Some(unfinished) = &unfinished {
            std::fs::write(unfinished, "").with_context(|| refusal(path))?;
        }
        Ok(Self { path, unfinished })
    }

    fn finish(self, spool: &Path, daemon: &Daemon) -> anyhow::Result<()> {
        let addresses = daemon.addresses();
        let (tcp, unix) = stream_texts(&addresses.streams);
        let spool = spool.canonicalize().unwrap_or_else(|_| spool.to_owned());
        let ready = serde_json::json!({
            "pid": std::process::id(),
            "udp": addresses.udp.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "tcp": tcp,
            "unix": unix,
            "mgmt": addresses.mgmt.map(|address| address.to_string()),
            "spool": spool,
        });
        let text = format!("{ready}\n");
        match &self.unfinished {
            None => std::fs::write(self.path, text),
            Some(unfinished) => std::fs::write(unfinished, text)
                .and_then(|()| std::fs::rename(unfinished, self.path)),
        }
        .with_context(|| refusal(self.path))
    }
}

impl Drop for ReadyFile<'_> {
    /// A start that was refused leaves nothing behind.
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            // Finished, it has another name.
            std::fs::remove_file(unfinished).ok();
        }
    }
}

fn refusal(path: &Path) -> String {
    format!("cannot write the ready file {}", path.display())
}
