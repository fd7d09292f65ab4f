//! Where lines of the log are written, by the thread of `super::writer`.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use floe_core::config::settings::{LogBackend, LogFormat, LogSettings};
use rustix::fs::fstat;

use super::local_socket::LocalSocket;
use super::record::Record;

/// Where syslog daemons listen; `$FLOE_SYSLOG_SOCKET` names another place.
const SYSLOG: &str = "/dev/log";

/// Where the journal listens; `$FLOE_JOURNAL_SOCKET` names another place.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// One of the backends, ready to write.
#[derive(Debug)]
pub(super) enum Output {
    /// Standard output.
    Stdout(Form),
    /// Standard error.
    Stderr(Form),
    /// The syslog daemon of this machine.
    Syslog {
        /// Where it listens.
        socket: LocalSocket,
        /// Who we say we are.
        application: String,
        /// Whether its lines hold objects.
        is_json: bool,
    },
    /// The journal.
    Journal {
        /// Where it listens.
        socket: LocalSocket,
        /// Who we say we are.
        application: String,
    },
}

/// How a line looks on a stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// For people; with colours for terminals.
    Text {
        /// Whether it has them.
        is_colored: bool,
    },
    /// For programs.
    Json,
}

impl Output {
    /// The one `settings` ask for. A standard stream that the service manager reads into the journal
    /// gives way to the journal itself, which then has levels and fields.
    pub(super) fn of(settings: &LogSettings) -> Self {
        let is_json = settings.format == LogFormat::Json;
        match settings.backend {
            LogBackend::Stdout if !is_json && is_journal(io::stdout()) => journal(settings),
            LogBackend::Stderr if !is_json && is_journal(io::stderr()) => journal(settings),
            LogBackend::Stdout => Self::Stdout(Form::of(settings.format, &io::stdout())),
            LogBackend::Stderr => Self::Stderr(Form::of(settings.format, &io::stderr())),
            LogBackend::Journald => journal(settings),
            LogBackend::Syslog => Self::Syslog {
                socket: LocalSocket::at(place("FLOE_SYSLOG_SOCKET", SYSLOG)),
                application: settings.application.clone(),
                is_json,
            },
        }
    }

    /// Standard error, for what another output refuses.
    pub(super) fn stderr() -> Self {
        Self::Stderr(Form::of(LogFormat::Text, &io::stderr()))
    }

    /// As it is called where it is said to fail.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stdout(_) => "stdout".to_owned(),
            Self::Stderr(_) => "stderr".to_owned(),
            Self::Syslog { socket, .. } => format!("syslog at {}", socket.path().display()),
            Self::Journal { socket, .. } => format!("journald at {}", socket.path().display()),
        }
    }

    /// Writes one line, in one piece.
    ///
    /// # Errors
    /// Those of the stream or the socket.
    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        match self {
            Self::Stdout(form) => write_to(io::stdout().lock(), &form.line(record)),
            Self::Stderr(form) => write_to(io::stderr().lock(), &form.line(record)),
            Self::Syslog { socket, application, is_json } => {
                socket.send(&record.syslog(application, *is_json))
            }
            Self::Journal { socket, application } => socket.send(&record.journal(application)),
        }
    }
}

impl Form {
    fn of(format: LogFormat, stream: &impl IsTerminal) -> Self {
        match format {
            LogFormat::Json => Self::Json,
            // Colours are for terminals that want them (<https://no-color.org>).
            LogFormat::Text => {
                let is_unwanted =
                    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                Self::Text { is_colored: stream.is_terminal() && !is_unwanted }
            }
        }
    }

    fn line(self, record: &Record) -> String {
        match self {
            Self::Text { is_colored } => record.text(is_colored),
            Self::Json => record.json(),
        }
    }
}

fn journal(settings: &LogSettings) -> Output {
    Output::Journal {
        socket: LocalSocket::at(place("FLOE_JOURNAL_SOCKET", JOURNAL)),
        application: settings.application.clone(),
    }
}

fn place(variable: &str, usual: &str) -> PathBuf {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty());
    named.map_or_else(|| PathBuf::from(usual), PathBuf::from)
}

fn write_to(mut stream: impl Write, line: &str) -> io::Result<()> {
    stream.write_all(line.as_bytes())?;
    stream.flush()
}

/// Whether `stream` is the one that the service manager reads into the journal: `$JOURNAL_STREAM` is
/// its device and inode (`systemd.exec(5)`). A stream that was redirected since is not.
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(stream).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}
