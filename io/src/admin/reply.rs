//! What a command is answered, byte for byte as the reference daemon does.
//!
//! A reply is written as it is made: a view of a million series is never held as text. It has
//! [`REPLY_NS_MAX`] to be taken; a client that takes it slower is let go. Names come from clients,
//! so what could drive the terminal of whoever reads them is escaped.

use std::io::{self, Write as _};
use std::net::TcpStream;

use floe_core::escape::controls_escaped;
use floe_core::inspect::{Inspected, Options, inspect_table};
use floe_core::interval::Deletable;
use floe_core::interval::view::{NumberView, TimerView};
use tracing::info;

use super::asking::Asking;
use super::command::Command;
use super::face::Face;
use crate::clock::{NS_PER_S, monotonic_ns, wall_ms};
use crate::coordinator::request::{Deleted, Request};

/// How long a client may take over one reply, ns.
const REPLY_NS_MAX: u64 = 120 * NS_PER_S;

/// Bytes gathered before they are written.
const GATHERED_BYTES: usize = 32 << 10;

/// The reference daemon's list of commands.
const HELP: &str = "Commands: stats, counters, timers, gauges, delcounters, deltimers, delgauges, \
                    health, config, quit\n\n";

/// How most replies end.
const END: &str = "END\n\n";

/// Why a connection ends after a command.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client asked for it.
    Quit,
    /// The console closes, or nobody is left to answer.
    Closing,
    /// The client does not take the reply.
    Refused(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Refused(error)
    }
}

/// Bytes on their way to a client.
struct Reply<'a> {
    stream: &'a TcpStream,
    gathered: Vec<u8>,
    deadline_ns: u64,
}

impl Reply<'_> {
    fn push(&mut self, text: &str) -> io::Result<()> {
        self.gathered.extend_from_slice(text.as_bytes());
        if GATHERED_BYTES <= self.gathered.len() { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        let mut rest = self.gathered.as_slice();
        while !rest.is_empty() {
            if self.deadline_ns < monotonic_ns() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match (&mut &*self.stream).write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.gathered.clear();
        Ok(())
    }
}

/// Answers `command` on `stream`.
pub(super) fn answer(
    command: Command,
    stream: &TcpStream,
    face: &Face,
    asking: &Asking,
) -> Result<(), Ended> {
    let deadline_ns = monotonic_ns() + REPLY_NS_MAX;
    let mut reply = Reply { stream, gathered: Vec::new(), deadline_ns };
    match command {
        Command::Quit => return Err(Ended::Quit),
        Command::Unknown => reply.push("ERROR\n")?,
        Command::Help => reply.push(HELP)?,
        Command::Health(to) => {
            let before = face.health(None);
            let is_healthy = face.health(to);
            let word = if is_healthy { "up" } else { "down" };
            if before != is_healthy {
                info!(health = word, "health switched by the console");
            }
            reply.push(&format!("health: {word}\n"))?;
        }
        Command::Config => {
            reply.push("\n")?;
            for (key, value) in face.configuration() {
                reply.push(&format!("{key}: {value}\n"))?;
            }
        }
        Command::Top => {
            if let Some(report) = face.top() {
                reply.push(&report.to_string())?;
            }
            reply.push(END)?;
        }
        Command::Stats => stats(&mut reply, face, asking)?,
        Command::Show(kind) => show(&mut reply, kind, asking)?,
        Command::Delete { kind, names } => delete(&mut reply, kind, names, asking)?,
    }
    Ok(reply.send()?)
}

fn stats(reply: &mut Reply<'_>, face: &Face, asking: &Asking) -> Result<(), Ended> {
    let stats = asking.ask(Request::Stats).ok_or(Ended::Closing)?;
    let start_s = face.start_s();
    // Rounded as the reference daemon rounds its clock.
    let now_s = (wall_ms() + 500) / 1_000;
    let ago_s = |then_s: u64| i128::from(now_s) - i128::from(then_s);
    reply.push(&format!("uptime: {}\n", ago_s(start_s)))?;
    let seen_s = stats.newest_input_s.unwrap_or(start_s);
    reply.push(&format!("messages.last_msg_seen: {}\n", ago_s(seen_s)))?;
    reply.push(&format!("messages.bad_lines_seen: {}\n", stats.values_rejected))?;
    for (backend, link) in face.links() {
        reply.push(&format!(
            "{backend}.last_flush: {}\n{backend}.last_exception: {}\n\
             {backend}.flush_time: {}\n{backend}.flush_length: {}\n",
            ago_s(link.last_flush_s),
            ago_s(link.last_exception_s),
            link.flush_time_ms,
            link.flush_length_bytes
        ))?;
    }
    if face.has_console_backend() {
        // Never updated there either.
        reply.push(&format!("console.lastFlush: {start_s}\nconsole.lastException: {start_s}\n"))?;
    }
    if face.are_books_shown() {
        for (name, count) in stats.books {
            reply.push(&format!("floe.{name}: {count}\n"))?;
        }
    }
    Ok(reply.push(END)?)
}

fn show(reply: &mut Reply<'_>, kind: Deletable, asking: &Asking) -> Result<(), Ended> {
    let permit = asking.permit().ok_or(Ended::Closing)?;
    match kind {
        Deletable::Counters => {
            numbers(reply, &asking.ask(Request::Counters).ok_or(Ended::Closing)?)?;
        }
        Deletable::Gauges => numbers(reply, &asking.ask(Request::Gauges).ok_or(Ended::Closing)?)?,
        Deletable::Timers => timers(reply, &asking.ask(Request::Timers).ok_or(Ended::Closing)?)?,
    }
    drop(permit);
    reply.push("\n")?;
    Ok(reply.push(END)?)
}

fn numbers(reply: &mut Reply<'_>, view: &NumberView) -> io::Result<()> {
    let entries = view.iter().map(|(key, value)| (text(key), Inspected::Number(*value)));
    inspect_table(entries, Options::default(), |piece| reply.push(piece))
}

fn timers(reply: &mut Reply<'_>, view: &TimerView) -> io::Result<()> {
    let entries = view.iter().map(|(key, timer)| {
        let items = timer.first.iter().map(|value| Inspected::Number(*value)).collect();
        let total = usize::try_from(timer.total).unwrap_or(usize::MAX);
        (text(key), Inspected::List { items, total })
    });
    inspect_table(entries, Options::default(), |piece| reply.push(piece))
}

fn delete(
    reply: &mut Reply<'_>,
    kind: Deletable,
    names: Vec<Vec<u8>>,
    asking: &Asking,
) -> Result<(), Ended> {
    if !names.is_empty() {
        let asked = names.clone();
        let request = |asker| Request::Delete { kind, names: asked, asker };
        let deleted: Deleted = asking.ask(request).ok_or(Ended::Closing)?;
        let series: usize = deleted.iter().map(Vec::len).sum();
        if series != 0 {
            info!(kind = ?kind, series, "series deleted by the console");
        }
        for (name, keys) in names.iter().zip(deleted) {
            if keys.is_empty() {
                reply.push(&format!("metric {} not found\n", controls_escaped(&text(name))))?;
            }
            for key in keys {
                reply.push(&format!("deleted: {}\n", controls_escaped(&text(&key))))?;
            }
        }
    }
    Ok(reply.push(END)?)
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
