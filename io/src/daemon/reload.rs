//! What a reload changes, and what it cannot.
//!
//! The settings are compared one by one, in words of the configuration. Sockets, rings, CPUs and the
//! place of the spool belong to threads that would have to be started anew: they stay, and are named.

use floe_core::config::settings::{IngestSettings, Settings, SpoolSettings};

use super::StartError;

/// Stands for what the reload before could not do.
pub(super) const REFUSED_BEFORE: &str = "what was refused before";

/// What a reload did.
#[derive(Debug, Default)]
pub struct ReloadReport {
    /// Keys that hold now, or from the next flush on.
    pub applied: Vec<&'static str>,
    /// Keys that are other in the file and stay as they were until a restart.
    pub needs_restart: Vec<&'static str>,
    /// What the kernel or the disk refused: it is off, or as it was.
    pub failures: Vec<StartError>,
}

/// The settings that hold after a reload, and what became of the differences.
///
/// Taken apart without a rest, so that a new setting cannot be forgotten here.
pub(super) fn merge(current: &Settings, asked: &Settings) -> (Settings, ReloadReport) {
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
    } = asked;
    let changes = [
        ("flushInterval", *flush_interval_ms != current.flush_interval_ms),
        ("percentThreshold", *thresholds != current.thresholds),
        ("histogram", *histograms != current.histograms),
        ("calculatedTimerMetrics", *calculated_timer_metrics != current.calculated_timer_metrics),
        ("prefixStats", *prefix_stats != current.prefix_stats),
        ("keyNameSanitize", *key_name_sanitize != current.key_name_sanitize),
        ("deleteIdleStats and its family", *idle != current.idle),
        ("graphite", *namespace != current.namespace),
        ("backends", *backends != current.backends),
        ("console", *console_backend != current.console_backend),
        ("repeater", *repeater != current.repeater),
        ("keyFlush", *key_flush != current.key_flush),
        ("books", *books != current.books),
        ("debug", *debug != current.debug),
        ("dumpMessages", *dump_messages != current.dump_messages),
        ("log", *log != current.log),
        ("title", *title != current.title),
        ("healthStatus", *health != current.health),
        ("automaticConfigReload", *automatic_config_reload != current.automatic_config_reload),
    ];
    let fixed = [
        ("servers (port, address)", *listeners != current.listeners || *streams != current.streams),
        ("streams", *stream_limits != current.stream_limits),
        ("mgmt_address", *mgmt_address != current.mgmt_address),
        ("mgmt_port", *mgmt_port != current.mgmt_port),
        ("spool.path", spool.path != current.spool.path),
        ("spool.memory_bytes", spool.memory_bytes != current.spool.memory_bytes),
        ("series and memory", *budgets != current.budgets),
        ("top", *top != current.top),
    ];
    let needs_restart = [named(&fixed), named(&ingest_changes(&current.ingest, ingest))].concat();
    let report = ReloadReport {
        applied: [named(&changes), named(&spool_changes(&current.spool, spool))].concat(),
        needs_restart,
        ..ReloadReport::default()
    };
    (effective(current, asked), report)
}

/// Keys of the spool that can change at once, and whether they differ.
fn spool_changes(current: &SpoolSettings, asked: &SpoolSettings) -> [(&'static str, bool); 3] {
    let SpoolSettings { path: _, archive_age_ms, archive_bytes, reserve_bytes, memory_bytes: _ } =
        asked;
    [
        ("spool.archive_age", *archive_age_ms != current.archive_age_ms),
        ("spool.archive_bytes", *archive_bytes != current.archive_bytes),
        ("spool.reserve_bytes", *reserve_bytes != current.reserve_bytes),
    ]
}

/// Keys of the workers, and whether they differ; none can change while they run.
fn ingest_changes(current: &IngestSettings, asked: &IngestSettings) -> [(&'static str, bool); 6] {
    let IngestSettings { mode, workers, cpus, receive_buffer_bytes, steering, udp_gro } = asked;
    [
        ("ingest", *mode != current.mode),
        ("workers", *workers != current.workers),
        ("cpus", *cpus != current.cpus),
        ("receive_buffer", *receive_buffer_bytes != current.receive_buffer_bytes),
        ("steering", *steering != current.steering),
        ("udp_gro", *udp_gro != current.udp_gro),
    ]
}

/// The keys that differ.
fn named(changes: &[(&'static str, bool)]) -> Vec<&'static str> {
    changes.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect()
}

/// What is asked for, but for what cannot change.
fn effective(current: &Settings, asked: &Settings) -> Settings {
    let mut effective = asked.clone();
    effective.listeners.clone_from(&current.listeners);
    effective.streams.clone_from(&current.streams);
    effective.stream_limits = current.stream_limits;
    effective.mgmt_address.clone_from(&current.mgmt_address);
    effective.mgmt_port = current.mgmt_port;
    effective.spool.path.clone_from(&current.spool.path);
    effective.spool.memory_bytes = current.spool.memory_bytes;
    effective.ingest.clone_from(&current.ingest);
    effective.budgets.clone_from(&current.budgets);
    effective.top = current.top;
    effective
}

#[cfg(test)]
mod tests {
    use floe_core::config::settings::{Health, Steering};
    use floe_core::config::without_file;

    use super::*;

    #[test]
    fn what_cannot_change_stays_and_is_named() {
        let current = without_file().settings;
        let mut asked = current.clone();
        asked.mgmt_port = 1;
        asked.listeners.clear();
        asked.ingest.workers = Some(3);
        asked.ingest.steering = Steering::Random;
        asked.ingest.udp_gro = true;
        asked.flush_interval_ms = 1_000;
        asked.health = Health::Down;
        asked.spool.archive_bytes = 7;
        let (effective, report) = merge(&current, &asked);
        assert_eq!(report.applied, ["flushInterval", "healthStatus", "spool.archive_bytes"]);
        assert_eq!(
            report.needs_restart,
            ["servers (port, address)", "mgmt_port", "workers", "steering", "udp_gro"]
        );
        assert_eq!(effective.listeners, current.listeners);
        assert_eq!((effective.mgmt_port, effective.ingest.workers), (current.mgmt_port, None));
        assert_eq!((effective.flush_interval_ms, effective.spool.archive_bytes), (1_000, 7));
        let (same, report) = merge(&effective, &effective);
        assert_eq!(same, effective);
        assert!(report.applied.is_empty() && report.needs_restart.is_empty());
    }
}
