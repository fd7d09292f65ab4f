//! What `floe check` prints: everything that was understood, one line each, always in the same order.

use std::fmt::{self, Write as _};

use super::modules::repeater_protocol_text;
use super::own::{ingest_mode_text, steering_text};
use super::process::{log_backend_text, log_format_text, log_level_text};
use super::quantity::{duration_text, size_text};
use super::settings::{
    Acknowledgement, BackendSettings, BacklogOrder, ConsoleBackendSettings, Health, Histogram,
    IdleSettings, IngestSettings, KeyFlushSettings, LegacyNamespace, Listener, LogSettings,
    NamespaceSettings, Protocol, Redelivery, RepeaterSettings, Settings, SpoolSettings,
    StreamLimits, StreamListener, Title,
};

/// Width of the column of keys.
const KEY_WIDTH: usize = 24;

/// A complete listing of `settings`, one `key  value` a line, ending in a newline.
#[must_use]
pub fn describe(settings: &Settings) -> String {
    let mut listing = String::new();
    write_all(&mut listing, settings).expect("writing into a String cannot fail");
    listing
}

/// Taken apart without a rest, so that a new setting cannot be forgotten here.
fn write_all(out: &mut String, settings: &Settings) -> fmt::Result {
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
    for listener in listeners {
        row(out, "listen", listener_text(listener))?;
    }
    write_streams(out, streams, stream_limits)?;
    let console = mgmt_address.as_deref().unwrap_or("every address");
    row(out, "console", format_args!("{console}, port {}", port_text(*mgmt_port)))?;
    row(out, "flushInterval", format_args!("{flush_interval_ms} ms"))?;
    let names: Vec<_> = thresholds
        .iter()
        .map(|threshold| format!("{} ({})", threshold.percent, threshold.suffix))
        .collect();
    row(out, "percentThreshold", list_text(&names, "none"))?;
    write_histograms(out, histograms)?;
    row(out, "calculatedTimerMetrics", list_text(calculated_timer_metrics, "all"))?;
    row(out, "prefixStats", quoted(prefix_stats))?;
    row(out, "keyNameSanitize", key_name_sanitize)?;
    write_idle(out, idle)?;
    row(out, "graphite", namespace_text(namespace))?;
    for backend in backends {
        write_backend(out, backend)?;
    }
    if backends.is_empty() {
        row(out, "backends", "none, intervals are kept in the archive only")?;
    }
    write_modules(out, console_backend.as_ref(), repeater.as_ref(), key_flush.as_ref())?;
    write_spool(out, spool)?;
    write_ingest(out, ingest)?;
    super::budgets::describe(out, budgets, top)?;
    row(out, "books", books)?;
    row(out, "debug", debug)?;
    row(out, "dumpMessages", dump_messages)?;
    write_process(out, log, title, *health)?;
    row(out, "automaticConfigReload", automatic_config_reload)
}

pub(super) fn row(out: &mut String, key: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(out, "{key:<KEY_WIDTH$}  {value}")
}

fn listener_text(listener: &Listener) -> String {
    let Listener { address, port, is_dual_stack_default } = listener;
    let bracketed = if address.contains(':') { format!("[{address}]") } else { address.clone() };
    let fallback = if *is_dual_stack_default { ", IPv4 alone where IPv6 is off" } else { "" };
    format!("udp {bracketed}:{}{fallback}", port_text(*port))
}

fn write_streams(
    out: &mut String,
    streams: &[StreamListener],
    limits: &StreamLimits,
) -> fmt::Result {
    for stream in streams {
        match stream {
            StreamListener::Tcp { address, port } => {
                let address = address.as_deref().unwrap_or("every address");
                row(out, "listen", format_args!("tcp {address}, port {}", port_text(*port)))?;
            }
            StreamListener::Unix { path, mode } => {
                let mode = mode.map(|mode| format!(", mode {mode:04o}")).unwrap_or_default();
                row(out, "listen", format_args!("unix {}{mode}", path.display()))?;
            }
        }
    }
    let StreamLimits { connections_max, line_bytes_max, idle_ms } = limits;
    let idle = if *idle_ms == 0 { "never closed".to_owned() } else { duration_text(*idle_ms) };
    let line = size_text(u64::try_from(*line_bytes_max).unwrap_or(u64::MAX));
    let limits = format_args!("{connections_max} connections, lines of {line}, idle {idle}");
    if streams.is_empty() { Ok(()) } else { row(out, "  streams", limits) }
}

fn write_modules(
    out: &mut String,
    console: Option<&ConsoleBackendSettings>,
    repeater: Option<&RepeaterSettings>,
    key_flush: Option<&KeyFlushSettings>,
) -> fmt::Result {
    if let Some(ConsoleBackendSettings { is_pretty }) = console {
        let style = if *is_pretty { "pretty" } else { "plain" };
        row(out, "backend console", format_args!("each flush to stdout, {style}"))?;
    }
    if let Some(RepeaterSettings { targets, protocol }) = repeater {
        let protocol = repeater_protocol_text(*protocol);
        row(out, "backend repeater", format_args!("{protocol} to {}", targets.join(", ")))?;
    }
    match key_flush {
        None => row(out, "keyFlush", "off"),
        Some(KeyFlushSettings { interval_ms, percent, log }) => {
            let log = log.as_ref().map_or("stdout".to_owned(), |path| path.display().to_string());
            row(out, "keyFlush", format_args!("{percent} % every {interval_ms} ms to {log}"))
        }
    }
}

fn write_process(
    out: &mut String,
    log: &LogSettings,
    title: &Title,
    health: Health,
) -> fmt::Result {
    let LogSettings { backend, application, level, format } = log;
    let (backend, level) = (log_backend_text(*backend), log_level_text(*level));
    let format = log_format_text(*format);
    row(out, "log", format_args!("{backend}, {level}, {format}, as {application}"))?;
    match title {
        Title::Unchanged => row(out, "title", "as started")?,
        Title::Reference => row(out, "title", "statsd and the arguments")?,
        Title::Text(text) => row(out, "title", quoted(text))?,
    }
    row(out, "healthStatus", if health == Health::Up { "up" } else { "down" })
}

fn port_text(port: u16) -> String {
    if port == 0 { "0 (any free one)".to_owned() } else { port.to_string() }
}

fn write_histograms(out: &mut String, histograms: &[Histogram]) -> fmt::Result {
    for Histogram { metric, bins } in histograms {
        let bins: Vec<_> = bins.iter().map(|bin| format!("{} < {}", bin.name, bin.limit)).collect();
        let keys = if metric.is_empty() { "every key".to_owned() } else { quoted(metric) };
        row(out, "histogram", format_args!("{keys}: {}", list_text(&bins, "no bins")))?;
    }
    if histograms.is_empty() {
        row(out, "histogram", "none")?;
    }
    Ok(())
}

fn write_idle(out: &mut String, idle: &IdleSettings) -> fmt::Result {
    let IdleSettings { delete_counters, delete_timers, delete_sets, delete_gauges, gauges_max_ttl } =
        idle;
    row(out, "deleteCounters", delete_counters)?;
    row(out, "deleteTimers", delete_timers)?;
    row(out, "deleteSets", delete_sets)?;
    row(out, "deleteGauges", delete_gauges)?;
    row(out, "gaugesMaxTTL", format_args!("{gauges_max_ttl} flushes"))
}

fn namespace_text(namespace: &NamespaceSettings) -> String {
    let NamespaceSettings {
        legacy,
        global_prefix,
        prefix_counter,
        prefix_timer,
        prefix_gauge,
        prefix_set,
        global_suffix,
        flush_counts,
    } = namespace;
    let prefixes = match legacy {
        LegacyNamespace::Legacy => "legacy names".to_owned(),
        LegacyNamespace::New => format!(
            "new names, prefixes {}, counters {}, timers {}, gauges {}, sets {}",
            quoted(global_prefix),
            quoted(prefix_counter),
            quoted(prefix_timer),
            quoted(prefix_gauge),
            quoted(prefix_set)
        ),
    };
    let suffix = if global_suffix.is_empty() {
        "no suffix".to_owned()
    } else {
        format!("suffix {}", quoted(global_suffix))
    };
    format!("{prefixes}, {suffix}, flush_counts {flush_counts}")
}

fn write_backend(out: &mut String, backend: &BackendSettings) -> fmt::Result {
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
    let key = format!("backend {name}");
    row(out, &key, format_args!("{address}, {protocol}, ack {acknowledgement}"))?;
    row(out, "  names", namespace_text(namespace))?;
    let (age, bytes) = (duration_text(*backlog_age_ms), size_text(*backlog_bytes));
    let order = match order {
        BacklogOrder::OldestFirst => "oldest first",
        BacklogOrder::NewestFirst => "newest first",
    };
    row(out, "  backlog", format_args!("{age}, {bytes}, {order}"))?;
    let redelivery = match redelivery {
        Redelivery::Always => "sent again until acknowledged",
        Redelivery::Never => "sent once at the most",
    };
    row(out, "  redelivery", redelivery)?;
    row(out, "  stall", duration_text(*stall_ms))
}

fn write_spool(out: &mut String, spool: &SpoolSettings) -> fmt::Result {
    let SpoolSettings { path, archive_age_ms, archive_bytes, reserve_bytes, memory_bytes } = spool;
    match path {
        Some(path) => row(out, "spool", path.display())?,
        None => row(out, "spool", "chosen at start")?,
    }
    let (age, bytes) = (duration_text(*archive_age_ms), size_text(*archive_bytes));
    row(out, "  archive", format_args!("{age}, {bytes}"))?;
    match reserve_bytes {
        Some(bytes) => row(out, "  reserve", size_text(*bytes))?,
        None => row(out, "  reserve", "5 % of the disk, at most 256MiB")?,
    }
    match memory_bytes {
        Some(bytes) => row(out, "  memory", size_text(*bytes)),
        None => row(out, "  memory", "256MiB, or what the memory limit leaves"),
    }
}

fn write_ingest(out: &mut String, ingest: &IngestSettings) -> fmt::Result {
    let IngestSettings { mode, workers, cpus, receive_buffer_bytes, steering, udp_gro } = ingest;
    row(out, "ingest", ingest_mode_text(*mode))?;
    match workers {
        Some(workers) => row(out, "  workers", workers)?,
        None => row(out, "  workers", "one per CPU, at most 8")?,
    }
    let cpus = cpus.as_ref().map(|cpus| cpus.iter().map(usize::to_string).collect::<Vec<_>>());
    row(out, "  cpus", cpus.map_or("those inherited".to_owned(), |cpus| cpus.join(", ")))?;
    match receive_buffer_bytes {
        Some(bytes) => {
            let bytes = u64::try_from(*bytes).unwrap_or(u64::MAX);
            row(out, "  receive_buffer", size_text(bytes))?;
        }
        None => row(out, "  receive_buffer", "default")?,
    }
    row(out, "  steering", steering_text(*steering))?;
    row(out, "  udp_gro", udp_gro)
}

fn list_text(names: &[String], none: &str) -> String {
    if names.is_empty() { none.to_owned() } else { names.join(", ") }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}
