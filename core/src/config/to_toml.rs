//! Settings written as floe's own TOML.
//!
//! Every setting is taken apart without a rest, so that a new one cannot be forgotten here; what is
//! written reads back as the same settings: `tests/written.rs` and `tests/any_text.rs` hold it to that.

use std::fmt::Write as _;

use super::budgets::{memory_keys, series_keys, top_keys};
use super::derived::{bin_value, threshold_value};
use super::modules::repeater_protocol_text;
use super::own::{ingest_mode_text, steering_text};
use super::process::{log_backend_text, log_format_text, log_level_text};
use super::quantity::{duration_text, size_text};
use super::settings::{
    Acknowledgement, BackendSettings, BacklogOrder, BudgetSettings, Health, Histogram,
    IdleSettings, IngestSettings, KeyFlushSettings, LegacyNamespace, Listener, LogSettings,
    NamespaceSettings, Protocol, Redelivery, RepeaterSettings, Settings, SpoolSettings,
    StreamLimits, StreamListener, Title, TopSettings,
};
use super::value::number_text;

/// Keys and their values, as TOML has them.
pub(super) type Keys = Vec<(&'static str, String)>;

/// A configuration as TOML: the keys at the top, and tables by their headers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Document {
    /// Keys before the first table.
    pub(super) top: Keys,
    /// `spool` for `[spool]`, `[backends]` for `[[backends]]`; in order.
    pub(super) tables: Vec<(String, Keys)>,
}

impl Document {
    /// The value of `path`, `spool.path` for instance.
    pub(super) fn value(&self, path: &str) -> Option<&str> {
        let in_keys = |keys: &'_ Keys, key: &str| keys.iter().position(|(name, _)| *name == key);
        if let Some(at) = in_keys(&self.top, path) {
            return Some(&self.top[at].1);
        }
        let (table, key) = path.split_once('.')?;
        let (_, keys) = self.tables.iter().find(|(header, _)| header == table)?;
        in_keys(keys, key).map(|at| keys[at].1.as_str())
    }

    fn table(&mut self, header: &str, keys: Keys) {
        self.tables.push((header.to_owned(), keys));
    }

    fn text(&self) -> String {
        let mut text = String::new();
        write_keys(&mut text, &self.top);
        for (header, keys) in &self.tables {
            writeln!(text, "\n[{header}]").expect("writing into a String cannot fail");
            write_keys(&mut text, keys);
        }
        text
    }
}

fn write_keys(text: &mut String, keys: &Keys) {
    for (key, value) in keys {
        writeln!(text, "{key} = {value}").expect("writing into a String cannot fail");
    }
}

/// The text of a TOML file that says what `settings` are.
#[must_use]
pub fn to_toml(settings: &Settings) -> String {
    document(settings).text()
}

/// The document of `settings`.
pub(super) fn document(settings: &Settings) -> Document {
    let Settings {
        listeners,
        streams,
        stream_limits,
        mgmt_address,
        mgmt_port,
        flush_interval_ms,
        thresholds,
        histograms,
        calculated_timer_metrics,
        prefix_stats,
        key_name_sanitize,
        idle,
        namespace,
        backends,
        console_backend,
        repeater,
        key_flush,
        spool,
        ingest,
        budgets,
        top,
        books,
        debug,
        dump_messages,
        log,
        title,
        health,
        automatic_config_reload,
    } = settings;
    let mut document = Document::default();
    let servers = listen(&mut document.top, listeners, streams);
    let percents = thresholds.iter().map(|threshold| number_or_text(threshold_value(threshold)));
    document.top.extend([
        ("mgmt_address", quoted(mgmt_address.as_deref().unwrap_or("*"))),
        ("mgmt_port", mgmt_port.to_string()),
        ("flushInterval", flush_interval_ms.to_string()),
        ("percentThreshold", list(percents)),
        ("calculatedTimerMetrics", list(calculated_timer_metrics.iter().map(|name| quoted(name)))),
        ("prefixStats", quoted(prefix_stats)),
        ("keyNameSanitize", key_name_sanitize.to_string()),
        ("flush_counts", namespace.flush_counts.to_string()),
    ]);
    idle_keys(&mut document.top, *idle);
    document.top.extend(repeater.iter().flat_map(repeater_keys));
    document.top.extend([
        ("books", books.to_string()),
        ("debug", debug.to_string()),
        ("dumpMessages", dump_messages.to_string()),
        ("title", title_value(title)),
        ("healthStatus", health_value(*health)),
        ("automaticConfigReload", automatic_config_reload.to_string()),
    ]);
    for keys in servers {
        document.table("[servers]", keys);
    }
    histograms.iter().for_each(|each| document.table("[histogram]", histogram_keys(each)));
    document.table("graphite", namespace_keys(namespace));
    backends.iter().for_each(|backend| backend_tables(&mut document, backend));
    let console =
        console_backend.map(|console| vec![("prettyprint", console.is_pretty.to_string())]);
    console.into_iter().for_each(|keys| document.table("console", keys));
    let key_flush = key_flush.as_ref().map(key_flush_keys);
    key_flush.into_iter().for_each(|keys| document.table("keyFlush", keys));
    document.table("spool", spool_keys(spool));
    document.table("ingest", ingest_keys(ingest));
    document.table("streams", stream_keys(stream_limits));
    budget_tables(&mut document, budgets, *top);
    document.table("log", log_keys(log));
    document
}

fn budget_tables(document: &mut Document, budgets: &BudgetSettings, top: TopSettings) {
    document.table("series", series_keys(budgets));
    document.table("memory", memory_keys(budgets));
    document.table("top", top_keys(&top));
}

/// The one UDP listener at the top; or every listener as a table of `servers`.
fn listen(top: &mut Keys, listeners: &[Listener], streams: &[StreamListener]) -> Vec<Keys> {
    if let ([listener], []) = (listeners, streams) {
        top.extend(listener_keys(listener));
        return Vec::new();
    }
    let udp = listeners.iter().map(|listener| {
        let mut keys = vec![("server", quoted("udp"))];
        keys.extend(listener_keys(listener));
        keys
    });
    let streams = streams.iter().map(|stream| {
        let mut keys = vec![("server", quoted("tcp"))];
        match stream {
            StreamListener::Tcp { address, port } => {
                keys.extend(address.as_ref().map(|address| ("address", quoted(address))));
                keys.push(("port", port.to_string()));
            }
            StreamListener::Unix { path, mode } => {
                keys.push(("socket", quoted(&path.to_string_lossy())));
                keys.extend(mode.map(|mode| ("socket_mod", quoted(&format!("{mode:04o}")))));
            }
        }
        keys
    });
    udp.chain(streams).collect()
}

fn listener_keys(listener: &Listener) -> Keys {
    let Listener { address, port, is_dual_stack_default } = listener;
    let mut keys = Keys::new();
    if !is_dual_stack_default {
        keys.push(("address", quoted(address)));
    }
    keys.push(("port", port.to_string()));
    keys
}

fn histogram_keys(Histogram { metric, bins }: &Histogram) -> Keys {
    let bins = list(bins.iter().map(|bin| number_or_text(bin_value(bin))));
    vec![("metric", quoted(metric)), ("bins", bins)]
}

fn repeater_keys(RepeaterSettings { targets, protocol }: &RepeaterSettings) -> Keys {
    let targets = list(targets.iter().map(|target| target_table(target)));
    vec![("repeater", targets), ("repeaterProtocol", quoted(repeater_protocol_text(*protocol)))]
}

fn idle_keys(top: &mut Keys, idle: IdleSettings) {
    let IdleSettings { delete_counters, delete_timers, delete_sets, delete_gauges, gauges_max_ttl } =
        idle;
    top.extend([
        ("deleteCounters", delete_counters.to_string()),
        ("deleteTimers", delete_timers.to_string()),
        ("deleteSets", delete_sets.to_string()),
        ("deleteGauges", delete_gauges.to_string()),
        ("gaugesMaxTTL", gauges_max_ttl.to_string()),
    ]);
}

fn health_value(health: Health) -> String {
    quoted(if health == Health::Up { "up" } else { "down" })
}

fn title_value(title: &Title) -> String {
    match title {
        Title::Unchanged => "false".to_owned(),
        Title::Reference => "true".to_owned(),
        Title::Text(text) => quoted(text),
    }
}

/// `flush_counts` stands at the top, or in a backend's block.
fn namespace_keys(namespace: &NamespaceSettings) -> Keys {
    let NamespaceSettings {
        legacy,
        global_prefix,
        prefix_counter,
        prefix_timer,
        prefix_gauge,
        prefix_set,
        global_suffix,
        flush_counts: _,
    } = namespace;
    vec![
        ("legacyNamespace", (*legacy == LegacyNamespace::Legacy).to_string()),
        ("globalPrefix", quoted(global_prefix)),
        ("prefixCounter", quoted(prefix_counter)),
        ("prefixTimer", quoted(prefix_timer)),
        ("prefixGauge", quoted(prefix_gauge)),
        ("prefixSet", quoted(prefix_set)),
        ("globalSuffix", quoted(global_suffix)),
    ]
}

fn backend_tables(document: &mut Document, backend: &BackendSettings) {
    let BackendSettings {
        name,
        address,
        protocol,
        namespace,
        acknowledgement,
        order,
        redelivery,
        stall_ms,
        backlog_age_ms,
        backlog_bytes,
    } = backend;
    let protocol = match protocol {
        Protocol::Text => "text",
        Protocol::Pickle => "pickle",
    };
    let acknowledgement = match acknowledgement {
        Acknowledgement::Fin => "fin",
        Acknowledgement::Written => "written",
    };
    let order = match order {
        BacklogOrder::OldestFirst => "oldest",
        BacklogOrder::NewestFirst => "newest",
    };
    let redelivery = match redelivery {
        Redelivery::Always => "always",
        Redelivery::Never => "never",
    };
    let keys = vec![
        ("name", quoted(name)),
        ("address", quoted(address)),
        ("protocol", quoted(protocol)),
        ("ack", quoted(acknowledgement)),
        ("order", quoted(order)),
        ("redelivery", quoted(redelivery)),
        ("stall", quoted(&duration_text(*stall_ms))),
        ("backlog_age", quoted(&duration_text(*backlog_age_ms))),
        ("backlog_bytes", quoted(&size_text(*backlog_bytes))),
    ];
    document.table("[backends]", keys);
    let mut keys = namespace_keys(namespace);
    keys.push(("flush_counts", namespace.flush_counts.to_string()));
    document.table("backends.graphite", keys);
}

fn key_flush_keys(key_flush: &KeyFlushSettings) -> Keys {
    let KeyFlushSettings { interval_ms, percent, log } = key_flush;
    let mut keys = vec![("interval", interval_ms.to_string()), ("percent", number_text(*percent))];
    keys.extend(log.as_ref().map(|path| ("log", quoted(&path.to_string_lossy()))));
    keys
}

fn spool_keys(spool: &SpoolSettings) -> Keys {
    let SpoolSettings { path, archive_age_ms, archive_bytes, reserve_bytes, memory_bytes } = spool;
    let mut keys = Keys::new();
    keys.extend(path.as_ref().map(|path| ("path", quoted(&path.to_string_lossy()))));
    keys.push(("archive_age", quoted(&duration_text(*archive_age_ms))));
    keys.push(("archive_bytes", quoted(&size_text(*archive_bytes))));
    keys.extend(reserve_bytes.map(|bytes| ("reserve_bytes", quoted(&size_text(bytes)))));
    keys.extend(memory_bytes.map(|bytes| ("memory_bytes", quoted(&size_text(bytes)))));
    keys
}

fn ingest_keys(ingest: &IngestSettings) -> Keys {
    let IngestSettings { mode, workers, cpus, receive_buffer_bytes, steering, udp_gro } = ingest;
    let mut keys = vec![
        ("mode", quoted(ingest_mode_text(*mode))),
        ("steering", quoted(steering_text(*steering))),
        ("udp_gro", udp_gro.to_string()),
    ];
    keys.extend(workers.map(|workers| ("workers", workers.to_string())));
    let cpus = cpus.as_ref().map(|cpus| list(cpus.iter().map(ToString::to_string)));
    keys.extend(cpus.map(|cpus| ("cpus", cpus)));
    keys.extend(receive_buffer_bytes.map(|bytes| ("receive_buffer", bytes.to_string())));
    keys
}

fn stream_keys(limits: &StreamLimits) -> Keys {
    let StreamLimits { connections_max, line_bytes_max, idle_ms } = limits;
    vec![
        ("connections_max", connections_max.to_string()),
        ("line_bytes_max", line_bytes_max.to_string()),
        ("idle", quoted(&duration_text(*idle_ms))),
    ]
}

fn log_keys(log: &LogSettings) -> Keys {
    let LogSettings { backend, application, level, format } = log;
    vec![
        ("backend", quoted(log_backend_text(*backend))),
        ("application", quoted(application)),
        ("level", quoted(log_level_text(*level))),
        ("format", quoted(log_format_text(*format))),
    ]
}

fn target_table(target: &str) -> String {
    let (host, port) = target.rsplit_once(':').unwrap_or((target, "8125"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    format!("{{ host = {}, port = {port} }}", quoted(host))
}

fn number_or_text(value: Result<f64, String>) -> String {
    value.map_or_else(|text| quoted(&text), number_text)
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

pub(super) fn list(members: impl Iterator<Item = String>) -> String {
    format!("[{}]", members.collect::<Vec<_>>().join(", "))
}
