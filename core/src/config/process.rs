//! What the process shows of itself: log, title, health, and whether it reads its file again.

use super::settings::{Health, LogBackend, LogFormat, LogLevel, LogSettings, Title};
use super::value::Value;
use super::walk::{Notes, Table};
use super::{ConfigError, Source};

const BACKENDS: [(&str, LogBackend); 4] = [
    ("stdout", LogBackend::Stdout),
    ("stderr", LogBackend::Stderr),
    ("syslog", LogBackend::Syslog),
    ("journald", LogBackend::Journald),
];

/// Levels by the names of syslog, as the reference has them, and by our own.
const LEVELS: [(&str, LogLevel); 12] = [
    ("LOG_EMERG", LogLevel::Error),
    ("LOG_ALERT", LogLevel::Error),
    ("LOG_CRIT", LogLevel::Error),
    ("LOG_ERR", LogLevel::Error),
    ("LOG_WARNING", LogLevel::Warn),
    ("LOG_NOTICE", LogLevel::Info),
    ("LOG_INFO", LogLevel::Info),
    ("LOG_DEBUG", LogLevel::Debug),
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
        let name = field.text()?;
        let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !is_plain || 48 < name.len() {
            return Err(field.refused("1 to 48 printable characters without blanks and colons"));
        }
        log.application = name;
    }
    if let Some(field) = block.take_truthy("level") {
        log.level = field.choice(&LEVELS)?;
    }
    if let Some(field) = block.take_truthy("format") {
        log.format = field.choice(&FORMATS)?;
    }
    block.finish(notes)?;
    Ok(log)
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
        Value::Text(text) if !text.is_empty() => Ok(Title::Text(text.clone())),
        Value::Text(_) => Ok(Title::Unchanged),
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
