//! Lines for the local syslog daemon, as RFC 3164 has them, facility local0 as in the reference.
//!
//! `<134>Nov 22 06:53:01 statsd[1234]: worker started worker=0 cpu=0`: one datagram each to
//! `/dev/log`, or to the socket that `$FLOE_SYSLOG_SOCKET` names. The socket is never waited for; what
//! it does not take is counted, and told when it takes lines again. A line holds no control character:
//! texts that come from outside are escaped.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use floe_io::clock::wall_ms;
use floe_io::date::syslog_date;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where syslog daemons listen.
const SOCKET: &str = "/dev/log";

/// Facility local0, of which the severity is the rest.
const LOCAL0: u32 = 16 << 3;

/// Longest line: RFC 3164 promises no more, and longer ones are cut by most daemons at 8 KiB.
const LINE_BYTES_MAX: usize = 2_048;

/// The layer that sends.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    tag: String,
    lost: AtomicU64,
}

impl Syslog {
    /// A sender that calls itself `application`.
    ///
    /// # Errors
    /// The kernel's, where nobody listens.
    pub(super) fn open(application: &str) -> io::Result<Self> {
        let path = std::env::var_os("FLOE_SYSLOG_SOCKET").filter(|path| !path.is_empty());
        let path = path.map_or_else(|| PathBuf::from(SOCKET), PathBuf::from);
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // Asked once, so that a missing daemon is said at the start; each line names the path, so that
        // one that was started anew is found.
        UnixDatagram::unbound()?.connect(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("no syslog at {}: {error}", path.display()))
        })?;
        let tag = format!("{application}[{}]", std::process::id());
        Ok(Self { socket, path, tag, lost: AtomicU64::new(0) })
    }

    fn send(&self, severity: u32, text: &str) -> bool {
        let date = syslog_date(wall_ms() / 1_000);
        let mut line = format!("<{}>{date} {}: {text}", LOCAL0 + severity, self.tag);
        if LINE_BYTES_MAX < line.len() {
            let end = (0..=LINE_BYTES_MAX).rev().find(|at| line.is_char_boundary(*at));
            line.truncate(end.unwrap_or(0));
        }
        self.socket.send_to(line.as_bytes(), &self.path).is_ok()
    }
}

impl<S: Subscriber> Layer<S> for Syslog {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let severity = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost != 0 && !self.send(4, &format!("log lines lost: syslog took none lines={lost}")) {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        if !self.send(severity, &text.joined()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The message and the fields of one event.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    /// In one line, without control characters.
    fn joined(&self) -> String {
        let mut line = String::with_capacity(self.message.len() + self.fields.len());
        for char in self.message.chars().chain(self.fields.chars()) {
            if char.is_control() {
                line.extend(char.escape_default());
            } else {
                line.push(char);
            }
        }
        line
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        // Only a value's own Debug could fail, and then the line is shorter.
        written.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let text =
            Text { message: "odd\n\x1b[2J".to_owned(), fields: " key=\"\u{7f}\"".to_owned() };
        assert_eq!(text.joined(), "odd\\n\\u{1b}[2J key=\"\\u{7f}\"");
    }
}
