//! One line of the log before it has a form, and the forms it takes.
//!
//! Whatever an event is made of, its line has no control character and no second line, and no value
//! is longer than [`LOG_VALUE_BYTES_MAX`]: so no site can forget to escape what came from outside.

use std::fmt::{self, Debug, Write as _};

use floe_core::limits::LOG_VALUE_BYTES_MAX;
use floe_io::clock::wall_ms;
use floe_io::date::{log_date, syslog_date};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::command::escaped::Escaped;

/// Facility local0 of syslog, as the reference has it.
const LOCAL0: u8 = 16;

/// An event, taken apart.
#[derive(Debug)]
pub(super) struct Record {
    time_ms: u64,
    level: Level,
    message: String,
    fields: Vec<LogField>,
}

/// `name = value` of an event.
#[derive(Debug)]
struct LogField {
    name: &'static str,
    value: Value,
    /// Whether a text stands in quotes: texts do, what shows itself does not.
    is_quoted: bool,
}

impl Record {
    /// What `event` says, now.
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut record = Self::new(*event.metadata().level(), "");
        event.record(&mut record);
        record
    }

    /// A line of the log's own.
    pub(super) fn new(level: Level, message: &str) -> Self {
        Self { time_ms: wall_ms(), level, message: message.to_owned(), fields: Vec::new() }
    }

    /// With one more field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push(LogField { name, value: value.into(), is_quoted: true });
        self
    }

    /// `2026-11-22T06:53:01.120Z  INFO worker started worker=0 cpu=0`, with its newline.
    pub(super) fn text(&self, is_colored: bool) -> String {
        let (time, level) = (log_date(self.time_ms), self.level);
        let (dim, color, plain) = match (is_colored, level) {
            (false, _) => ("", "", ""),
            (true, Level::ERROR) => ("\x1b[2m", "\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[2m", "\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[2m", "\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[34m", "\x1b[0m"),
        };
        format!("{dim}{time}{plain} {color}{level:>5}{plain} {}\n", self.said())
    }

    /// One object, with its newline.
    pub(super) fn json(&self) -> String {
        let mut line = self.object().to_string();
        line.push('\n');
        line
    }

    fn object(&self) -> Value {
        let fields = self.fields.iter().map(|field| {
            let value = match &field.value {
                Value::String(text) => Value::String(Escaped(text).to_string()),
                other => other.clone(),
            };
            (field.name.to_owned(), value)
        });
        json!({
            "timestamp": log_date(self.time_ms),
            "level": self.level.as_str(),
            "message": Escaped(&self.message).to_string(),
            "fields": fields.collect::<Map<String, Value>>(),
        })
    }

    /// `<134>Nov 22 06:53:01 statsd[1234]: worker started worker=0 cpu=0` (RFC 3164).
    pub(super) fn syslog(&self, application: &str, is_json: bool) -> String {
        let priority = (LOCAL0 << 3) + self.severity();
        let (date, id) = (syslog_date(self.time_ms / 1_000), std::process::id());
        let said = if is_json { self.object().to_string() } else { self.said() };
        format!("<{priority}>{date} {}[{id}]: {said}", Escaped(application))
    }

    /// What the journal takes: a field per line, ours as `FLOE_WORKER=0`.
    pub(super) fn journal(&self, application: &str) -> String {
        let mut text = format!(
            "PRIORITY={}\nSYSLOG_FACILITY={LOCAL0}\nSYSLOG_IDENTIFIER={}\nSYSLOG_PID={}\nMESSAGE={}\n",
            self.severity(),
            Escaped(application),
            std::process::id(),
            self.said()
        );
        for LogField { name, value, .. } in &self.fields {
            let name = name.to_ascii_uppercase().replace('.', "_");
            push(&mut text, format_args!("FLOE_{name}={}\n", Bare(value)));
        }
        text
    }

    /// By the numbers of syslog.
    fn severity(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        }
    }

    /// Message and fields in one line.
    fn said(&self) -> String {
        let mut line = Escaped(&self.message).to_string();
        for LogField { name, value, is_quoted } in &self.fields {
            match value {
                Value::String(text) if *is_quoted => {
                    let quoted = text.replace('\\', r"\\").replace('"', r#"\""#);
                    push(&mut line, format_args!(" {name}=\"{}\"", Escaped(quoted)));
                }
                value => push(&mut line, format_args!(" {name}={}", Bare(value))),
            }
        }
        line
    }

    fn enter(&mut self, field: &Field, value: Value, is_quoted: bool) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                let name = name.strip_prefix("r#").unwrap_or(name);
                self.fields.push(LogField { name, value, is_quoted });
            }
        }
    }
}

impl Visit for Record {
    fn record_f64(&mut self, field: &Field, value: f64) {
        let number = serde_json::Number::from_f64(value);
        let value = number.map_or_else(|| Value::String(value.to_string()), Value::Number);
        self.enter(field, value, false);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.enter(field, value.into(), false);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.enter(field, value.into(), false);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.enter(field, value.into(), false);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Shortened::default();
        // Never fails: it cuts.
        text.write_str(value).ok();
        self.enter(field, text.end().into(), true);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = Shortened::default();
        // A value whose own text fails is shown as far as it came.
        write!(text, "{value:?}").ok();
        self.enter(field, text.end().into(), false);
    }
}

/// The beginning of a text, of whatever length it is.
#[derive(Debug, Default)]
struct Shortened {
    kept: String,
    is_cut: bool,
}

impl Shortened {
    fn end(mut self) -> String {
        if self.is_cut {
            self.kept.push_str("...");
        }
        self.kept
    }
}

impl fmt::Write for Shortened {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LOG_VALUE_BYTES_MAX.saturating_sub(self.kept.len());
        let end = text.floor_char_boundary(room);
        if !self.is_cut {
            self.kept.push_str(&text[..end]);
        }
        self.is_cut |= end < text.len();
        Ok(())
    }
}

/// A value without quotes.
struct Bare<'v>(&'v Value);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => write!(formatter, "{}", Escaped(text)),
            other => write!(formatter, "{other}"),
        }
    }
}

fn push(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a text takes what is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> Record {
        let mut record = Record::new(Level::WARN, "odd\nmessage").with("worker", 3);
        record = record.with("line", "a\n\x1b[2J\"\\b");
        record.time_ms = 1_795_329_181_120;
        record
    }

    #[test]
    fn every_form_is_one_line_without_controls() {
        let record = hostile();
        let said = r#"odd\nmessage worker=3 line="a\n\u{1b}[2J\"\\b""#;
        assert_eq!(record.text(false), format!("2026-11-22T06:33:01.120Z  WARN {said}\n"));
        let line = record.syslog("stats\nd", false);
        assert!(line.starts_with("<132>Nov 2"), "{line}");
        let ending = format!(" stats\\nd[{}]: {said}", std::process::id());
        assert!(line.ends_with(&ending), "{line}");
        let object: Value = serde_json::from_str(&record.json()).unwrap();
        assert_eq!(
            object,
            json!({
                "timestamp": "2026-11-22T06:33:01.120Z",
                "level": "WARN",
                "message": r"odd\nmessage",
                "fields": { "worker": 3, "line": r#"a\n\u{1b}[2J"\b"# },
            })
        );
        assert_eq!(record.json().matches('\n').count(), 1);
    }

    #[test]
    fn the_journal_gets_a_field_per_line() {
        let text = hostile().journal("statsd");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "PRIORITY=4");
        assert!(lines.contains(&"SYSLOG_IDENTIFIER=statsd"));
        assert!(lines.contains(&"FLOE_WORKER=3"));
        assert_eq!(lines[lines.len() - 1], r#"FLOE_LINE=a\n\u{1b}[2J"\b"#);
        assert_eq!(lines.len(), 7);
    }

    #[test]
    fn colours_stand_around_the_level_alone() {
        let line = hostile().text(true);
        assert!(
            line.starts_with("\x1b[2m2026-11-22T06:33:01.120Z\x1b[0m \x1b[33m WARN\x1b[0m odd")
        );
        assert_eq!(line.matches('\x1b').count(), 4);
    }

    #[test]
    fn a_value_is_cut_at_a_character() {
        let mut text = Shortened::default();
        for _ in 0..LOG_VALUE_BYTES_MAX {
            text.write_str("ß").unwrap();
        }
        let shown = text.end();
        assert_eq!(shown.len(), LOG_VALUE_BYTES_MAX + 3);
        assert!(shown.ends_with("ß..."));
    }
}
