//! Keys of the reference daemon that are understood and checked, but belong to a later version.
//!
//! A key at its default asks for nothing and is not named.

use super::ConfigError;
use super::value::Value;
use super::walk::{Notes, Table};

/// Names the keys that are present and not honoured.
pub(super) fn read(root: &mut Table<'_>, notes: &mut Notes) -> Result<(), ConfigError> {
    if let Some(field) = root.take_truthy("keyFlush") {
        let mut block = field.table()?;
        let interval = block.take_truthy("interval");
        block.take("percent");
        block.take("log");
        let is_on = interval.is_some_and(|interval| interval.number().is_none_or(|ms| 0.0 < ms));
        block.finish(notes)?;
        note(is_on, "keyFlush", notes);
    }
    if let Some(field) = root.take_truthy("console") {
        let mut block = field.table()?;
        let is_on = block.flag("prettyprint", false)?;
        block.finish(notes)?;
        note(is_on, "console.prettyprint", notes);
    }
    if let Some(field) = root.take_truthy("log") {
        let mut block = field.table()?;
        let backend = block.text("backend", "stdout")?;
        let application = block.text("application", "statsd")?;
        let level = block.text("level", "LOG_INFO")?;
        block.finish(notes)?;
        note(backend != "stdout", "log.backend", notes);
        note(application != "statsd", "log.application", notes);
        note(level != "LOG_INFO", "log.level", notes);
    }
    if let Some(field) = root.take_truthy("repeater") {
        let is_used = !matches!(field.value(), Value::List(members) if members.is_empty());
        note(is_used, "repeater", notes);
    }
    let protocol = root.text("repeaterProtocol", "udp4")?;
    note(protocol != "udp4", "repeaterProtocol", notes);
    let dumps = root.flag("dumpMessages", false)?;
    note(dumps, "dumpMessages", notes);
    let reloads = root.flag("automaticConfigReload", true)?;
    note(!reloads, "automaticConfigReload", notes);
    let health = root.text("healthStatus", "up")?;
    note(health != "up", "healthStatus", notes);
    let has_title = root.take("title").is_some();
    note(has_title, "title", notes);
    Ok(())
}

fn note(is_present: bool, key: &str, notes: &mut Notes) {
    if is_present {
        notes.left_out.push(key.to_owned());
    }
}
