//! The checked settings: everything downstream trusts them and checks nothing again.
//!
//! Keys of the reference daemon keep its names and units in the file; here they bear our names.

use std::path::PathBuf;

/// One UDP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// IP address to bind, text as given: `0.0.0.0`, `::`, `127.0.0.1`.
    pub address: String,
    /// UDP port; 0 = any free one (TOML only).
    pub port: u16,
    /// Falls back to `0.0.0.0` where `::` cannot be bound: the listener of no configuration.
    pub is_dual_stack_default: bool,
}

/// How datagrams are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IngestMode {
    /// io_uring, and `recvmmsg` where the kernel refuses it.
    #[default]
    Auto,
    /// io_uring or fail at start.
    IoUring,
    /// `recvmmsg`.
    Recvmmsg,
}

/// The workers and how they read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestSettings {
    /// Receive path.
    pub mode: IngestMode,
    /// Number of workers; `None` = `min(available_parallelism, 8)`.
    pub workers: Option<usize>,
    /// CPUs to pin workers to, in worker order; `None` = those of the inherited mask.
    pub cpus: Option<Vec<usize>>,
    /// Receive buffer asked of the kernel per socket, bytes; `None` = our default (8 MiB).
    pub receive_buffer_bytes: Option<usize>,
}

/// One entry of `percentThreshold`.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// The percentage; negative = from the top.
    pub percent: f64,
    /// Name part: `90`, `99_9`, `top12_5`.
    pub suffix: String,
}

/// One limit of a histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Bin {
    /// Values below it fall in; infinite for `inf`.
    pub limit: f64,
    /// Name part with `bin_`: `bin_10`, `bin_0_01`, `bin_inf`.
    pub name: String,
}

/// One entry of `histogram`.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Text that must occur in the key; empty matches all.
    pub metric: String,
    /// Limits in configured order; empty = no histogram.
    pub bins: Vec<Bin>,
}

/// Which idle series leave, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleSettings {
    /// `deleteCounters` (or `deleteIdleStats`).
    pub delete_counters: bool,
    /// `deleteTimers`.
    pub delete_timers: bool,
    /// `deleteSets`.
    pub delete_sets: bool,
    /// `deleteGauges`.
    pub delete_gauges: bool,
    /// `gaugesMaxTTL`: flushes a gauge is sent in after its last update; at least 1.
    pub gauges_max_ttl: u32,
}

/// `graphite.legacyNamespace`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LegacyNamespace {
    /// `true`: `stats.K`, `stats_counts.K`.
    #[default]
    Legacy,
    /// `false`: `stats.counters.K.rate`.
    New,
}

/// The reference's `graphite` block, for one backend: how points are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSettings {
    /// Legacy or new names.
    pub legacy: LegacyNamespace,
    /// `globalPrefix`, default `stats`; empty = left out with its dot. New names only.
    pub global_prefix: String,
    /// `prefixCounter`, default `counters`.
    pub prefix_counter: String,
    /// `prefixTimer`, default `timers`.
    pub prefix_timer: String,
    /// `prefixGauge`, default `gauges`.
    pub prefix_gauge: String,
    /// `prefixSet`, default `sets`.
    pub prefix_set: String,
    /// `globalSuffix`; empty = none.
    pub global_suffix: String,
    /// `flush_counts`: whether counters are sent as counts beside their rates.
    pub flush_counts: bool,
}

impl Default for NamespaceSettings {
    fn default() -> Self {
        Self {
            legacy: LegacyNamespace::Legacy,
            global_prefix: "stats".into(),
            prefix_counter: "counters".into(),
            prefix_timer: "timers".into(),
            prefix_gauge: "gauges".into(),
            prefix_set: "sets".into(),
            global_suffix: String::new(),
            flush_counts: true,
        }
    }
}

/// What a backend speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Carbon's plaintext protocol.
    #[default]
    Text,
    /// Carbon's pickle protocol.
    Pickle,
}

/// When a segment counts as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledgement {
    /// The peer closed cleanly after our half-close: it has read everything.
    #[default]
    Fin,
    /// All bytes were handed to the kernel and acknowledged by the peer's.
    Written,
}

/// One backend: every backend receives everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSettings {
    /// Name: its directory in the spool, its word in logs and points. `[a-z0-9_-]+`, lower case.
    pub name: String,
    /// `host:port`; resolved again at each connect. IPv6 as `[addr]:port`.
    pub address: String,
    /// Text or pickle.
    pub protocol: Protocol,
    /// How points are named for this backend.
    pub namespace: NamespaceSettings,
    /// When a segment counts as delivered.
    pub acknowledgement: Acknowledgement,
    /// Oldest segment kept for this backend, ms (default 6 h).
    pub backlog_age_ms: u64,
    /// Most bytes kept for this backend (default 8 GiB).
    pub backlog_bytes: u64,
}

/// The spool: where it is and how much it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// Directory; `None` = chosen at start (`$STATE_DIRECTORY`, `/var/lib/floe`, home).
    pub path: Option<PathBuf>,
    /// Oldest segment kept in the archive, ms (default 6 h).
    pub archive_age_ms: u64,
    /// Most bytes kept in the archive (default 1 GiB).
    pub archive_bytes: u64,
}

/// All settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// UDP listeners, in configured order.
    pub listeners: Vec<Listener>,
    /// Console address (`mgmt_address`); `None` = as the reference binds it: every address.
    pub mgmt_address: Option<String>,
    /// Console port (`mgmt_port`, default 8126).
    pub mgmt_port: u16,
    /// `flushInterval`, ms, at least 1.
    pub flush_interval_ms: u64,
    /// `percentThreshold`.
    pub thresholds: Vec<Threshold>,
    /// `histogram`.
    pub histograms: Vec<Histogram>,
    /// `calculatedTimerMetrics`; empty = all.
    pub calculated_timer_metrics: Vec<String>,
    /// `prefixStats`, default `statsd`.
    pub prefix_stats: String,
    /// `keyNameSanitize`, default true.
    pub key_name_sanitize: bool,
    /// Delete switches.
    pub idle: IdleSettings,
    /// The top-level `graphite` block: names used by `query`, default of every backend.
    pub namespace: NamespaceSettings,
    /// Backends; may be empty.
    pub backends: Vec<BackendSettings>,
    /// The spool.
    pub spool: SpoolSettings,
    /// Workers.
    pub ingest: IngestSettings,
    /// Whether floe's own books become points. Off with a `config.js` that does not ask for them.
    pub books: bool,
    /// `debug`.
    pub debug: bool,
}
