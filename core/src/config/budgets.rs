//! `series`, `memory` and `top`: how much the daemon may hold, and what it tells of who sends it.

use std::fmt;

use super::ConfigError;
use super::describe::row;
use super::quantity::size_text;
use super::settings::{BudgetSettings, Senders, TopSettings};
use super::to_toml::{Keys, list, quoted};
use super::walk::{Field, Notes, Table};
use crate::budget::{PrefixPattern, Prefixes};
use crate::limits::{KEY_BYTES_MAX, PREFIX_PATTERNS_MAX, SERIES_PER_SHARD_MAX};

/// Least memory for values, bytes: some chunks and one sketch for each of a few workers.
const VALUE_BYTES_MIN: u64 = 1 << 20;

/// Most of it, and the highest limit: beyond any machine, and far from an overflow.
const BYTES_MAX: u64 = 1 << 50;

const SENDERS: [(&str, Senders); 3] =
    [("off", Senders::Off), ("sampled", Senders::Sampled), ("all", Senders::All)];

/// `memory.over_limit`: whether the start is refused.
const OVER_LIMIT: [(&str, bool); 2] = [("refuse", true), ("warn", false)];

/// `series` and `memory`.
pub(super) fn budgets(
    table: &mut Table<'_>,
    notes: &mut Notes,
) -> Result<BudgetSettings, ConfigError> {
    let mut budgets = BudgetSettings::default();
    if let Some(field) = table.take("series") {
        let mut block = field.table()?;
        budgets.series_max = block.take("max").map(|field| names_max(&field)).transpose()?;
        let prefix_max = block.take("prefix_max").map(|field| names_max(&field)).transpose()?;
        let listed = block.take("prefixes");
        let patterns = listed.map(|field| patterns(&field, notes)).transpose()?;
        budgets.prefixes =
            Prefixes { patterns: patterns.unwrap_or_default(), names_max: prefix_max };
        block.finish(notes)?;
    }
    if let Some(field) = table.take("memory") {
        let mut block = field.table()?;
        if let Some(field) = block.take("limit") {
            budgets.limit_bytes = Some(field.size_bytes(VALUE_BYTES_MIN..=BYTES_MAX)?);
        }
        if let Some(field) = block.take("over_limit") {
            budgets.is_limit_kept = field.choice(&OVER_LIMIT)?;
        }
        for (key, bytes) in [
            ("timer_bytes_max", &mut budgets.timer_bytes_max),
            ("set_bytes_max", &mut budgets.set_bytes_max),
        ] {
            if let Some(field) = block.take(key) {
                let found = field.size_bytes(VALUE_BYTES_MIN..=BYTES_MAX)?;
                *bytes = usize::try_from(found).ok();
            }
        }
        block.finish(notes)?;
    }
    Ok(budgets)
}

fn names_max(field: &Field<'_>) -> Result<usize, ConfigError> {
    let most = u64::try_from(SERIES_PER_SHARD_MAX).expect("a small constant");
    Ok(usize::try_from(field.whole(1..=most)?).expect("within the limit"))
}

fn patterns(listed: &Field<'_>, notes: &mut Notes) -> Result<Vec<PrefixPattern>, ConfigError> {
    let members = listed.list("tables like { prefix = \"app.*\", max = 1000 }")?;
    if PREFIX_PATTERNS_MAX < members.len() {
        return Err(listed.refused(format!("at most {PREFIX_PATTERNS_MAX} prefixes")));
    }
    let mut patterns = Vec::with_capacity(members.len());
    for member in members {
        let mut block = member.table()?;
        let prefix =
            block.take("prefix").ok_or_else(|| block.missing("prefix", "prefix = \"app.*\""))?;
        let most = block.take("max").ok_or_else(|| block.missing("max", "max = 1000"))?;
        patterns.push(PrefixPattern { prefix: pattern(&prefix)?, names_max: names_max(&most)? });
        block.finish(notes)?;
    }
    Ok(patterns)
}

/// Components between dots, none of them empty or across.
fn pattern(field: &Field<'_>) -> Result<String, ConfigError> {
    let text = field.text()?;
    let is_component = |component: &str| {
        !component.is_empty() && !component.contains("**") && !component.contains([';', '\n'])
    };
    if KEY_BYTES_MAX < text.len() || !text.split('.').all(is_component) {
        return Err(field.refused(
            "components between dots, * for any text within one, like \"app.*\", without a dot at \
             the end",
        ));
    }
    Ok(text)
}

/// `top`.
pub(super) fn top(table: &mut Table<'_>, notes: &mut Notes) -> Result<TopSettings, ConfigError> {
    let mut top = TopSettings::default();
    if let Some(field) = table.take("top") {
        let mut block = field.table()?;
        if let Some(field) = block.take("senders") {
            top.senders = field.choice(&SENDERS)?;
        }
        top.has_examples = block.flag("examples", top.has_examples)?;
        block.finish(notes)?;
    }
    Ok(top)
}

fn word<T: PartialEq>(words: &[(&'static str, T)], choice: &T) -> &'static str {
    let named = words.iter().find(|(_, other)| other == choice);
    named.expect("every choice has its word").0
}

pub(super) fn series_keys(budgets: &BudgetSettings) -> Keys {
    let Prefixes { patterns, names_max } = &budgets.prefixes;
    let mut keys = Keys::new();
    keys.extend(budgets.series_max.map(|series| ("max", series.to_string())));
    keys.extend(names_max.map(|names| ("prefix_max", names.to_string())));
    if !patterns.is_empty() {
        let tables = patterns.iter().map(|PrefixPattern { prefix, names_max }| {
            format!("{{ prefix = {}, max = {names_max} }}", quoted(prefix))
        });
        keys.push(("prefixes", list(tables)));
    }
    keys
}

pub(super) fn memory_keys(budgets: &BudgetSettings) -> Keys {
    let BudgetSettings {
        series_max: _,
        prefixes: _,
        timer_bytes_max,
        set_bytes_max,
        limit_bytes,
        is_limit_kept,
    } = budgets;
    let mut keys = Keys::new();
    keys.extend(limit_bytes.map(|bytes| ("limit", quoted(&size_text(bytes)))));
    keys.push(("over_limit", quoted(word(&OVER_LIMIT, is_limit_kept))));
    keys.extend(timer_bytes_max.map(|bytes| ("timer_bytes_max", bytes.to_string())));
    keys.extend(set_bytes_max.map(|bytes| ("set_bytes_max", bytes.to_string())));
    keys
}

pub(super) fn top_keys(TopSettings { senders, has_examples }: &TopSettings) -> Keys {
    vec![("senders", quoted(word(&SENDERS, senders))), ("examples", has_examples.to_string())]
}

/// Rows of `floe check`; what the memory limit makes of them is said by the ceiling.
pub(super) fn describe(
    out: &mut String,
    budgets: &BudgetSettings,
    top: &TopSettings,
) -> fmt::Result {
    let BudgetSettings {
        series_max,
        prefixes: Prefixes { patterns, names_max },
        timer_bytes_max,
        set_bytes_max,
        limit_bytes,
        is_limit_kept,
    } = budgets;
    let fitted = "as the memory limit allows";
    row(out, "series", series_max.map_or(fitted.to_owned(), |series| series.to_string()))?;
    for PrefixPattern { prefix, names_max } in patterns {
        row(out, "  prefix", format_args!("{}: {names_max} names", prefix.escape_debug()))?;
    }
    if let Some(names) = names_max {
        row(out, "  prefix", format_args!("every other first component: {names} names"))?;
    }
    let bytes = |bytes: &Option<usize>| match bytes {
        Some(bytes) => size_text(u64::try_from(*bytes).unwrap_or(u64::MAX)),
        None => fitted.to_owned(),
    };
    row(out, "memory of timers", bytes(timer_bytes_max))?;
    row(out, "memory of sets", bytes(set_bytes_max))?;
    let limit = limit_bytes.map_or("that of the cgroup".to_owned(), size_text);
    let over = word(&OVER_LIMIT, is_limit_kept);
    row(out, "memory limit", format_args!("{limit}, beyond it {over}"))?;
    let examples = if top.has_examples { "with examples" } else { "without examples" };
    row(out, "top", format_args!("senders {}, {examples}", word(&SENDERS, &top.senders)))
}
