//! What the process shows of itself: log, title, health, and whether it reads its file again.

use super::settings::{Health, LogBackend, LogFormat, LogLevel, LogSettings, Title};
use super::value::Value;
use super::walk::{Field, Notes, Table};
use super::{ConfigError, Source};

/// Longest `log.application`, bytes: what the tag of a syslog line has room for (RFC 5424: 48).
const APPLICATION_BYTES_MAX: usize = 48;

const BACKENDS: [(&str, LogBackend); 4] = [
    ("stdout", LogBackend::Stdout),
    ("stderr", LogBackend::Stderr),
    ("syslog", LogBackend::Syslog),
    ("journald", LogBackend::Journald),
];

/// Levels by the names of syslog, as the reference has them, and by our own.
const LEVELS: [(&str, LogLevel); 18] = [
    ("LOG_EMERG", LogLevel::Error),
    ("LOG_ALERT", LogLevel::Error),
    ("LOG_CRIT", LogLevel::Error),
    ("LOG_ERR", LogLevel::Error),
    ("LOG_WARNING", LogLevel::Warn),
    ("LOG_NOTICE", LogLevel::Info),
    ("LOG_INFO", LogLevel::Info),
    ("LOG_DEBUG", LogLevel::Debug),
    ("emerg", LogLevel::Error),
    ("alert", LogLevel::Error),
    ("crit", LogLevel::Error),
    ("err", LogLevel::Error),
    ("warning", LogLevel::Warn),
    ("notice", LogLevel::Info),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
];

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// `log`, on top of what holds without it.
pub(super) fn log(
    root: &mut Table<'_>,
    source: Source,
    mut log: LogSettings,
    notes: &mut Notes,
) -> Result<LogSettings, ConfigError> {
    if source == Source::ConfigJs {
        log.backend = LogBackend::Stdout;
    }
    let Some(field) = root.take_truthy("log") else { return Ok(log) };
    let mut block = field.table()?;
    if let Some(field) = block.take_truthy("backend") {
        log.backend = field.choice(&BACKENDS)?;
    }
    if let Some(field) = block.take_truthy("application") {
        log.application = application(&field, source, notes)?;
    }
    if let Some(field) = block.take_truthy("level") {
        log.level = level(&field, source, notes)?;
    }
    if let Some(field) = block.take_truthy("format") {
        log.format = field.choice(&FORMATS)?;
    }
    block.finish(notes)?;
    Ok(log)
}

/// `log.application`. With its own file the reference takes any text, and looks at it for syslog
/// alone: there it is made to fit.
fn application(
    field: &Field<'_>,
    source: Source,
    notes: &mut Notes,
) -> Result<String, ConfigError> {
    let name = field.text()?;
    let is_plain = |char: char| char.is_ascii_graphic() && char != ':';
    if !name.is_empty() && name.chars().all(is_plain) && name.len() <= APPLICATION_BYTES_MAX {
        return Ok(name);
    }
    let allowed =
        format!("1 to {APPLICATION_BYTES_MAX} printable characters without blanks and colons");
    let error = field.refused(allowed);
    if source == Source::Toml {
        return Err(error);
    }
    let fitting = name.chars().map(|char| if is_plain(char) { char } else { '_' });
    let fitting: String = fitting.take(APPLICATION_BYTES_MAX).collect();
    notes.warnings.push(format!("{error}; {fitting} is used"));
    Ok(fitting)
}

/// `log.level`. With its own file the reference never looks at it but for syslog.
fn level(field: &Field<'_>, source: Source, notes: &mut Notes) -> Result<LogLevel, ConfigError> {
    let is_word = |word: &&(&str, LogLevel)| matches!(field.value(), Value::Text(text) if text.eq_ignore_ascii_case(word.0));
    if let Some((_, level)) = LEVELS.iter().find(is_word) {
        return Ok(*level);
    }
    let error = field.refused("a level like \"LOG_WARNING\", or error, warn, info, debug");
    if source == Source::Toml {
        return Err(error);
    }
    notes.warnings.push(format!("{error}; info is used"));
    Ok(LogLevel::Info)
}

/// The word of a log backend.
pub(super) fn log_backend_text(backend: LogBackend) -> &'static str {
    let named = BACKENDS.iter().find(|(_, other)| *other == backend);
    named.expect("every backend has its word in BACKENDS").0
}

/// The word of a level.
pub(super) fn log_level_text(level: LogLevel) -> &'static str {
    let named = LEVELS.iter().rev().find(|(_, other)| *other == level);
    named.expect("every level has its word in LEVELS").0
}

/// The word of a format.
pub(super) fn log_format_text(format: LogFormat) -> &'static str {
    let named = FORMATS.iter().find(|(_, other)| *other == format);
    named.expect("every format has its word in FORMATS").0
}

/// `title`: absent means the reference's own with its file, and no change with ours; true is the
/// reference's own in both.
pub(super) fn title(root: &mut Table<'_>, source: Source) -> Result<Title, ConfigError> {
    let absent = if source == Source::ConfigJs { Title::Reference } else { Title::Unchanged };
    let Some(field) = root.take("title") else { return Ok(absent) };
    match field.value() {
        Value::Flag(false) => Ok(Title::Unchanged),
        Value::Flag(true) => Ok(Title::Reference),
        Value::Text(text) if text.contains('\0') => Err(field.refused("a text or false")),
        Value::Text(text) if text.is_empty() => Ok(Title::Unchanged),
        Value::Number(_) if source == Source::ConfigJs && !field.value().is_truthy() => {
            Ok(Title::Unchanged)
        }
        Value::Text(_) | Value::Number(_) => field.text().map(Title::Text),
        _ => Err(field.refused("a text or false")),
    }
}

/// `healthStatus`.
pub(super) fn health(
    root: &mut Table<'_>,
    source: Source,
    notes: &mut Notes,
) -> Result<Health, ConfigError> {
    let Some(field) = root.take_truthy("healthStatus") else { return Ok(Health::Up) };
    match field.choice(&[("up", Health::Up), ("down", Health::Down)]) {
        Err(error) if source == Source::ConfigJs => {
            notes.warnings.push(format!("{error}; it counts as up"));
            Ok(Health::Up)
        }
        health => health,
    }
}
