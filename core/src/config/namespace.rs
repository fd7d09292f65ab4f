//! The reference's `graphite` block: how points are named, for all backends or for one.

use super::ConfigError;
use super::settings::{LegacyNamespace, NamespaceSettings};
use super::value::Value;
use super::walk::{Field, Notes, Table};

/// Reads the block's keys on top of `defaults`. The caller finishes the table.
pub(super) fn read(
    table: &mut Table<'_>,
    defaults: &NamespaceSettings,
    notes: &mut Notes,
) -> Result<NamespaceSettings, ConfigError> {
    let legacy = match table.take("legacyNamespace") {
        None => defaults.legacy,
        Some(field) => legacy_namespace(&field, notes)?,
    };
    Ok(NamespaceSettings {
        legacy,
        global_prefix: table.text("globalPrefix", &defaults.global_prefix)?,
        prefix_counter: table.text("prefixCounter", &defaults.prefix_counter)?,
        prefix_timer: table.text("prefixTimer", &defaults.prefix_timer)?,
        prefix_gauge: table.text("prefixGauge", &defaults.prefix_gauge)?,
        prefix_set: table.text("prefixSet", &defaults.prefix_set)?,
        global_suffix: table.text("globalSuffix", &defaults.global_suffix)?,
        flush_counts: defaults.flush_counts,
    })
}

/// Reads `flush_counts`, which the reference has at the top level only.
pub(super) fn read_flush_counts(
    table: &mut Table<'_>,
    namespace: &mut NamespaceSettings,
) -> Result<(), ConfigError> {
    namespace.flush_counts = table.flag("flush_counts", namespace.flush_counts)?;
    Ok(())
}

fn legacy_namespace(field: &Field<'_>, notes: &mut Notes) -> Result<LegacyNamespace, ConfigError> {
    // Somebody who writes the word in quotes means it; strict rules refuse it here.
    let is_word = matches!(field.value(), Value::Text(text) if text == "false");
    let is_legacy = field.flag()? && !is_word;
    if !matches!(field.value(), Value::Flag(_)) {
        let (key, found, line) = (field.path(), field.value().excerpt(), field.line());
        notes
            .warnings
            .push(format!("{key} must be true or false, {found} is taken as {is_legacy}{line}"));
    }
    Ok(if is_legacy { LegacyNamespace::Legacy } else { LegacyNamespace::New })
}
