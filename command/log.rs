//! The log: where it goes, in which form, and what is left out.
//!
//! All of it can change while the daemon runs. Whoever writes a line never waits for it and never
//! ends by it: a standard output that is closed, or a syslog that is not there, costs lines of the
//! log alone.

mod syslog;

use std::io::{self, IsTerminal};

use floe_core::config::settings::{LogBackend, LogFormat, LogLevel, LogSettings, Settings};
use rustix::fs::fstat;
use tracing::warn;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use self::syslog::Syslog;

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Output = Box<dyn Layer<Filtered> + Send + Sync>;

/// The log of this process.
pub(super) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    output: reload::Handle<Output, Filtered>,
}

impl Log {
    /// Starts it; called once.
    pub(super) fn start(settings: &Settings) -> Self {
        let (filter, filter_handle) = reload::Layer::new(filter(settings));
        let (output, refusal) = output(&settings.log);
        let (output, output_handle) = reload::Layer::new(output);
        tracing_subscriber::registry().with(filter).with(output).init();
        tell(refusal);
        Self { filter: filter_handle, output: output_handle }
    }

    /// Goes on as other settings say.
    pub(super) fn apply(&self, settings: &Settings) {
        let (output, refusal) = output(&settings.log);
        // Both handles live as long as the log, which is not taken down.
        self.filter.reload(filter(settings)).ok();
        self.output.reload(output).ok();
        tell(refusal);
    }
}

fn tell(refusal: Option<io::Error>) {
    if let Some(error) = refusal {
        warn!(%error, "log refused by its backend: standard error is used");
    }
}

/// `RUST_LOG` wins over the settings.
fn filter(settings: &Settings) -> EnvFilter {
    let level = match settings.log.level.max(if settings.debug {
        LogLevel::Debug
    } else {
        LogLevel::Error
    }) {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level))
}

/// The layer that writes, and why it is another than the one asked for.
fn output(settings: &LogSettings) -> (Output, Option<io::Error>) {
    match settings.backend {
        LogBackend::Stdout => (stdout(settings.format), None),
        LogBackend::Stderr if is_journal(&io::stderr()) => match journal(settings) {
            Ok(layer) => (layer, None),
            Err(_) => (stderr(settings.format), None),
        },
        LogBackend::Stderr => (stderr(settings.format), None),
        LogBackend::Journald => match journal(settings) {
            Ok(layer) => (layer, None),
            Err(error) => (stderr(settings.format), Some(error)),
        },
        LogBackend::Syslog => match Syslog::open(&settings.application) {
            Ok(layer) => (Box::new(layer), None),
            Err(error) => (stderr(settings.format), Some(error)),
        },
    }
}

fn stdout(format: LogFormat) -> Output {
    let layer = fmt::layer()
        .with_ansi(is_colored(&io::stdout()))
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(io::stdout);
    match format {
        LogFormat::Text => Box::new(layer),
        LogFormat::Json => Box::new(layer.json().flatten_event(true)),
    }
}

fn stderr(format: LogFormat) -> Output {
    let layer = fmt::layer()
        .with_ansi(is_colored(&io::stderr()))
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => Box::new(layer),
        LogFormat::Json => Box::new(layer.json().flatten_event(true)),
    }
}

/// Colours are for terminals that want them (<https://no-color.org>).
fn is_colored(out: &impl IsTerminal) -> bool {
    out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn journal(settings: &LogSettings) -> io::Result<Output> {
    let layer = tracing_journald::layer()?
        .with_syslog_identifier(settings.application.clone())
        .with_field_prefix(Some("FLOE".to_owned()));
    Ok(Box::new(layer))
}

/// Whether `out` is the stream that the service manager reads into the journal: `$JOURNAL_STREAM` is
/// its device and inode.
fn is_journal(out: &io::Stderr) -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = fstat(out) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}
