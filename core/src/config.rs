//! Settings: what the operator wrote becomes one checked value, or one sentence that says why not.
//!
//! Two languages, one tree, one reader. The reference daemon's `config.js` is read as data:
//! `token` splits it into words, `expression` works out the few expressions that occur in such files,
//! `javascript` hands the rest to JSON5. `own_toml` reads our own file. Both give the same tree
//! (`value`), from which `walk` takes typed values by key: leniently in `config.js`, as
//! JavaScript would treat them, and strictly in TOML and for our own keys. Nothing downstream checks a
//! setting again.
//!
//! Core reads neither file nor environment: text, host name and variables are handed in.
//!
//! Limits: texts of `CONFIG_BYTES_MAX`, nesting of `CONFIG_DEPTH_MAX`. What it does not do: resolve
//! paths and host names, bind, or look whether a directory can be written.

use std::collections::BTreeMap;
use std::path::Path;

use crate::limits::CONFIG_BYTES_MAX;

/// The checked result.
pub mod settings;
/// Why a configuration was refused.
pub mod error;
/// Words of a `config.js`.
mod token;
/// Expressions of a `config.js`.
mod expression;
/// `config.js` to the tree.
mod javascript;
/// TOML to the tree.
mod own_toml;
/// The tree.
mod value;
/// Durations, sizes, CPU lists.
pub mod quantity;
/// Typed values out of the tree.
mod walk;
/// `servers` and the keys of one server.
mod listeners;
/// Percentiles, histograms, names of derived values.
mod derived;
/// The `graphite` block.
mod namespace;
/// `graphiteHost` and `[[backends]]`.
mod backends;
/// `spool`, `ingest`, `books`.
mod own;
/// `series`, `memory`, `top`.
mod budgets;
/// The console, the repeater, `keyFlush`.
mod modules;
/// `log`, `title`, `healthStatus`.
mod process;
/// What the admin console's `config` shows.
mod listing;
/// What `floe check` prints.
pub mod describe;
/// Settings written as TOML.
pub mod to_toml;
/// Every key, with what it does.
pub mod keys;

pub use describe::describe;
pub use error::ConfigError;
pub use keys::{annotated_defaults, markdown};
pub use own::ingest_mode;
pub use to_toml::to_toml;

use settings::{
    BudgetSettings, Health, IdleSettings, IngestSettings, LogBackend, LogFormat, LogLevel,
    LogSettings, NamespaceSettings, Settings, StreamLimits, Title, TopSettings,
};
use value::Value;
use walk::{Notes, Rules, Table};

/// Console port of the reference daemon.
const MGMT_PORT: u16 = 8126;

const LOOPBACK: &str = "127.0.0.1";
const FLUSH_INTERVAL_MS: u64 = 10_000;
const PREFIX_STATS: &str = "statsd";
const LOG_APPLICATION: &str = "statsd";

/// Longest `flushInterval`, ms: what a timer of the reference daemon can wait (2^31 - 1).
const FLUSH_INTERVAL_MS_MAX: u64 = 2_147_483_647;

/// The language of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The reference daemon's own file.
    ConfigJs,
    /// Our own.
    Toml,
}

impl Source {
    /// By file name: `.toml` is TOML, all else the reference daemon's.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let is_toml =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        if is_toml { Self::Toml } else { Self::ConfigJs }
    }
}

/// What expressions of a `config.js` may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `require('os').hostname()`.
    pub host_name: String,
    /// `process.env`.
    pub variables: BTreeMap<String, String>,
}

/// Settings, and what the operator should hear about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The checked settings.
    pub settings: Settings,
    /// One sentence each: unknown keys, values taken otherwise than written, keys left out.
    pub warnings: Vec<String>,
    /// The file as the console's `config` shows it: `key` or `key > sub`, and the value, in the
    /// order of the file.
    pub listing: Vec<(String, String)>,
}

/// Reads the text of a configuration.
///
/// # Errors
/// The first thing that is wrong, with its place: see [`ConfigError`].
/// # Panics
/// Never on input.
/// # Source
/// Keys and defaults of the reference daemon: its `stats.js`, `lib/config.js`, `exampleConfig.js`.
pub fn read(text: &str, source: Source, environment: &Environment) -> Result<Loaded, ConfigError> {
    read_with(text, source, environment, &mut Notes::default())
}

fn read_with(
    text: &str,
    source: Source,
    environment: &Environment,
    notes: &mut Notes,
) -> Result<Loaded, ConfigError> {
    if CONFIG_BYTES_MAX < text.len() {
        return Err(ConfigError::TooLong { bytes: text.len() });
    }
    let (nodes, rules) = match source {
        Source::ConfigJs => {
            let rules = Rules { coerces: true, refuses_unknown: false };
            (javascript::read(text, environment)?, rules)
        }
        Source::Toml => (own_toml::read(text)?, Rules { coerces: false, refuses_unknown: true }),
    };
    let mut root = Table::root(&nodes, rules);
    let settings = settings_of(&mut root, source, notes)?;
    root.finish(notes)?;
    let warnings = std::mem::take(&mut notes.warnings);
    Ok(Loaded { settings, warnings, listing: listing::listing(&nodes) })
}

/// The settings of no configuration at all.
#[must_use]
pub fn without_file() -> Loaded {
    let settings = Settings {
        listeners: vec![listeners::dual_stack(listeners::PORT)],
        streams: Vec::new(),
        stream_limits: StreamLimits::default(),
        mgmt_address: Some(LOOPBACK.to_owned()),
        mgmt_port: MGMT_PORT,
        flush_interval_ms: FLUSH_INTERVAL_MS,
        thresholds: derived::default_thresholds(),
        histograms: Vec::new(),
        calculated_timer_metrics: Vec::new(),
        prefix_stats: PREFIX_STATS.to_owned(),
        key_name_sanitize: true,
        idle: IdleSettings { gauges_max_ttl: 1, ..IdleSettings::default() },
        namespace: NamespaceSettings::default(),
        backends: Vec::new(),
        console_backend: None,
        repeater: None,
        key_flush: None,
        spool: own::default_spool(),
        ingest: IngestSettings::default(),
        budgets: BudgetSettings::default(),
        top: TopSettings::default(),
        books: true,
        debug: false,
        dump_messages: false,
        log: LogSettings {
            backend: LogBackend::Stderr,
            application: LOG_APPLICATION.to_owned(),
            level: LogLevel::Info,
            format: LogFormat::Text,
        },
        title: Title::Unchanged,
        health: Health::Up,
        automatic_config_reload: true,
    };
    Loaded { settings, warnings: Vec::new(), listing: Vec::new() }
}

fn settings_of(
    root: &mut Table<'_>,
    source: Source,
    notes: &mut Notes,
) -> Result<Settings, ConfigError> {
    let is_lenient = source == Source::ConfigJs;
    let mut settings = without_file().settings;
    let listeners = listeners::read(root, source, notes)?;
    (settings.listeners, settings.streams) = (listeners.udp, listeners.streams);
    read_console(root, source, &mut settings)?;
    if let Some(field) = root.take_truthy("flushInterval") {
        settings.flush_interval_ms = field.whole(1..=FLUSH_INTERVAL_MS_MAX)?;
    }
    settings.thresholds = derived::thresholds(root, is_lenient, notes)?;
    settings.histograms = derived::histograms(root, notes)?;
    settings.calculated_timer_metrics = derived::calculated_timer_metrics(root)?;
    settings.prefix_stats = root.text("prefixStats", PREFIX_STATS)?;
    settings.key_name_sanitize = root.flag("keyNameSanitize", true)?;
    settings.idle = idle(root, is_lenient, notes)?;
    settings.debug = root.flag("debug", false)?;
    namespace::read_flush_counts(root, &mut settings.namespace)?;
    if let Some(field) = root.take_truthy("graphite") {
        let mut block = field.table()?;
        settings.namespace = namespace::read(&mut block, &settings.namespace, notes)?;
        if !is_lenient {
            namespace::read_flush_counts(&mut block, &mut settings.namespace)?;
        }
        block.finish(notes)?;
    }
    let (backends, modules) = backends::read(root, source, &settings.namespace, notes)?;
    settings.backends = backends;
    settings.console_backend = modules::console(root, modules, source, notes)?;
    settings.repeater = modules::repeater(root, modules, source, notes)?;
    settings.key_flush = modules::key_flush(root, notes)?;
    settings.dump_messages = root.flag("dumpMessages", false)?;
    settings.log = process::log(root, source, settings.log, notes)?;
    settings.title = process::title(root, source)?;
    settings.health = process::health(root, source, notes)?;
    settings.automatic_config_reload = root.flag("automaticConfigReload", true)?;
    match source {
        Source::Toml => read_own(root, &mut settings, notes)?,
        Source::ConfigJs => {
            settings.books = false;
            if let Some(field) = root.take("floe") {
                let mut block = field.strict().table()?;
                read_own(&mut block, &mut settings, notes)?;
                if let Some(field) = block.take("backends") {
                    let members = field.list("backends")?;
                    let namespace = &settings.namespace;
                    backends::append_own(&members, namespace, notes, &mut settings.backends)?;
                }
                block.finish(notes)?;
            }
        }
    }
    Ok(settings)
}

/// `books`, `spool`, `ingest`, `streams`, `series`, `memory`, `top`.
fn read_own(
    table: &mut Table<'_>,
    settings: &mut Settings,
    notes: &mut Notes,
) -> Result<(), ConfigError> {
    settings.books = table.flag("books", settings.books)?;
    settings.spool = own::spool(table, notes)?;
    settings.ingest = own::ingest(table, notes)?;
    settings.stream_limits = listeners::stream_limits(table, notes)?;
    settings.budgets = budgets::budgets(table, notes)?;
    settings.top = budgets::top(table, notes)?;
    Ok(())
}

/// `mgmt_address` and `mgmt_port`: as the reference binds it with its own file, else on loopback.
fn read_console(
    root: &mut Table<'_>,
    source: Source,
    settings: &mut Settings,
) -> Result<(), ConfigError> {
    settings.mgmt_address = match root.take_truthy("mgmt_address") {
        Some(field) if matches!(field.value(), Value::Text(text) if text == "*") => None,
        Some(field) => Some(listeners::ip_address(&field, false)?),
        None if source == Source::ConfigJs => None,
        None => Some(LOOPBACK.to_owned()),
    };
    if let Some(field) = root.take_truthy("mgmt_port") {
        settings.mgmt_port = field.port(0)?;
    }
    Ok(())
}

/// `deleteIdleStats` is the default of the four switches.
fn idle(
    root: &mut Table<'_>,
    is_lenient: bool,
    notes: &mut Notes,
) -> Result<IdleSettings, ConfigError> {
    let default = root.flag("deleteIdleStats", false)?;
    let mut idle = IdleSettings {
        delete_counters: root.flag("deleteCounters", default)?,
        delete_timers: root.flag("deleteTimers", default)?,
        delete_sets: root.flag("deleteSets", default)?,
        delete_gauges: root.flag("deleteGauges", default)?,
        gauges_max_ttl: 1,
    };
    if let Some(field) = root.take("gaugesMaxTTL") {
        let flushes = field.clone().strict().whole(1..=u64::from(u32::MAX));
        match flushes.map(u32::try_from) {
            Ok(Ok(flushes)) => idle.gauges_max_ttl = flushes,
            Err(error) if !is_lenient => return Err(error),
            _ => {
                let (found, line) = (field.value().excerpt(), field.line());
                notes.warnings.push(format!(
                    "gaugesMaxTTL must be a whole number of flushes, {found} counts as 1{line}"
                ));
            }
        }
    }
    Ok(idle)
}

#[cfg(test)]
mod tests;
