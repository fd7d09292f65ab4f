//! The checked settings: everything downstream trusts them and checks nothing again.
//!
//! Keys of the reference daemon keep its names and units in the file; here they bear our names.

use std::path::PathBuf;

use crate::budget::Prefixes;
use crate::limits::{STREAM_CONNECTIONS_DEFAULT, STREAM_IDLE_MS_DEFAULT, STREAM_LINE_BYTES_MAX};

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

/// One listener for streams of lines: the reference's `./servers/tcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamListener {
    /// A TCP port.
    Tcp {
        /// IP address to bind; `None` = every address of both families, as the reference binds it.
        address: Option<String>,
        /// TCP port; 0 = any free one (TOML only).
        port: u16,
    },
    /// A Unix stream socket.
    Unix {
        /// Where it lies (`socket`).
        path: PathBuf,
        /// Permissions it gets (`socket_mod`); `None` = what the umask leaves.
        mode: Option<u32>,
    },
}

/// What connections of all stream listeners may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Connections open at once; a further one is closed at once and counted.
    pub connections_max: usize,
    /// Longest line, bytes; of a longer one the whole line is dropped and counted.
    pub line_bytes_max: usize,
    /// A connection that says nothing for so long is closed, ms; 0 = never.
    pub idle_ms: u64,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            connections_max: STREAM_CONNECTIONS_DEFAULT,
            line_bytes_max: STREAM_LINE_BYTES_MAX,
            idle_ms: STREAM_IDLE_MS_DEFAULT,
        }
    }
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

/// Which worker's socket the kernel gives a datagram to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Steering {
    /// By a hash of sender and receiver: all datagrams of one sender to one worker, in order.
    #[default]
    Hash,
    /// At random: one heavy sender is shared by all workers, and its gauges lose their order.
    Random,
    /// By the CPU on which the kernel receives it, modulo the number of workers.
    Cpu,
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
    /// How the kernel shares datagrams out among the workers.
    pub steering: Steering,
    /// Whether the kernel may hand over several datagrams of one sender as one (`UDP_GRO`).
    pub udp_gro: bool,
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

/// Which segment of a backlog goes first; the newest interval goes before all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BacklogOrder {
    /// In the order of time.
    #[default]
    OldestFirst,
    /// Against the order of time, so that what dashboards show comes back first.
    NewestFirst,
}

/// What becomes of a segment whose delivery failed half-way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redelivery {
    /// It is sent again: at least once. For whatever keeps one value per name and timestamp.
    #[default]
    Always,
    /// It has left the queue before its first byte was sent: at most once. For whatever adds up.
    Never,
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
    /// Which segment of its backlog goes first.
    pub order: BacklogOrder,
    /// Whether a segment is sent again after a failure.
    pub redelivery: Redelivery,
    /// How long it may take no byte, or stay silent after our close, ms (default 30 s).
    pub stall_ms: u64,
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
    /// Bytes of the file system left free; `None` = 5 % of it, at most 256 MiB.
    pub reserve_bytes: Option<u64>,
    /// Most bytes of closed intervals in memory while the disk refuses them; `None` = 256 MiB, or what
    /// the memory limit leaves.
    pub memory_bytes: Option<u64>,
}

/// How much the daemon may hold (`series`, `memory`). What is `None` is fitted to the memory limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Series of all kinds at once.
    pub series_max: Option<usize>,
    /// Series below prefixes.
    pub prefixes: Prefixes,
    /// Bytes of timer values and gauge operations, over all workers and generations.
    pub timer_bytes_max: Option<usize>,
    /// Bytes of set members, likewise.
    pub set_bytes_max: Option<usize>,
    /// What the ceiling must not exceed, bytes; `None` = the limit of the cgroup.
    pub limit_bytes: Option<u64>,
    /// Whether a ceiling beyond it refuses the start.
    pub is_limit_kept: bool,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            series_max: None,
            prefixes: Prefixes::default(),
            timer_bytes_max: None,
            set_bytes_max: None,
            limit_bytes: None,
            is_limit_kept: true,
        }
    }
}

/// Whether addresses of senders are looked at (`top.senders`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Senders {
    /// Never.
    Off,
    /// In short windows.
    #[default]
    Sampled,
    /// Always: every datagram is received by `recvmmsg`.
    All,
}

/// What `floe top` tells (`top`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopSettings {
    /// Of whom.
    pub senders: Senders,
    /// Whether it keeps examples of bad lines.
    pub has_examples: bool,
}

impl Default for TopSettings {
    fn default() -> Self {
        Self { senders: Senders::default(), has_examples: true }
    }
}

/// The backend `./backends/console`: every flush printed to stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsoleBackendSettings {
    /// `console.prettyprint`: coloured, and deeper.
    pub is_pretty: bool,
}

/// How the repeater sends (`repeaterProtocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepeaterProtocol {
    /// Datagrams over IPv4.
    #[default]
    Udp4,
    /// Datagrams over IPv6.
    Udp6,
    /// One connection per target, a newline behind each datagram.
    Tcp,
}

/// The backend `./backends/repeater`: every datagram goes on as it came, before it is parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeaterSettings {
    /// `host:port` of each target, IPv6 in brackets; at most `REPEATER_TARGETS_MAX`.
    pub targets: Vec<String>,
    /// How they are spoken to.
    pub protocol: RepeaterProtocol,
}

/// `keyFlush`: how often each key occurred, written to a log.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyFlushSettings {
    /// `interval`, ms, at least 1.
    pub interval_ms: u64,
    /// `percent` of the keys, the most frequent first; above 0.
    pub percent: f64,
    /// `log`: file to append to; `None` = stdout.
    pub log: Option<PathBuf>,
}

/// Where the log goes (`log.backend`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogBackend {
    /// Standard output: what a `config.js` that says nothing means.
    Stdout,
    /// Standard error, or the journal where the service manager reads it from there.
    Stderr,
    /// The local syslog daemon, facility local0.
    Syslog,
    /// The journal, with fields.
    Journald,
}

/// The least important level that is logged (`log.level`; `debug` lowers it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Data lost or a human is needed.
    Error,
    /// Degraded, nothing lost.
    Warn,
    /// Life-cycle.
    #[default]
    Info,
    /// Per interval and backend.
    Debug,
}

/// How a line of the log is written (`log.format`, ours).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The `log` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Where to.
    pub backend: LogBackend,
    /// Name in syslog and journal (`log.application`).
    pub application: String,
    /// What is left out.
    pub level: LogLevel,
    /// How.
    pub format: LogFormat,
}

/// What process listings show (`title`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Title {
    /// The command line as it was given: `title: false`, and without a `config.js`.
    #[default]
    Unchanged,
    /// `statsd` and the arguments, as the reference shows itself.
    Reference,
    /// This text, as far as it fits into the place of the command line.
    Text(String),
}

/// What the console answers to `health` until it is told otherwise (`healthStatus`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// `health: up`.
    #[default]
    Up,
    /// `health: down`.
    Down,
}

/// All settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// UDP listeners, in configured order.
    pub listeners: Vec<Listener>,
    /// Stream listeners, in configured order.
    pub streams: Vec<StreamListener>,
    /// What their connections may use.
    pub stream_limits: StreamLimits,
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
    /// The console backend; `None` = not asked for.
    pub console_backend: Option<ConsoleBackendSettings>,
    /// The repeater; `None` = not asked for, or without a target.
    pub repeater: Option<RepeaterSettings>,
    /// `keyFlush`; `None` = off.
    pub key_flush: Option<KeyFlushSettings>,
    /// The spool.
    pub spool: SpoolSettings,
    /// Workers.
    pub ingest: IngestSettings,
    /// How much is held.
    pub budgets: BudgetSettings,
    /// What `floe top` tells.
    pub top: TopSettings,
    /// Whether floe's own books become points. Off with a `config.js` that does not ask for them.
    pub books: bool,
    /// `debug`.
    pub debug: bool,
    /// `dumpMessages`: every line is logged.
    pub dump_messages: bool,
    /// The `log` block.
    pub log: LogSettings,
    /// `title`.
    pub title: Title,
    /// `healthStatus`.
    pub health: Health,
    /// `automaticConfigReload`: whether a changed file is read again by itself.
    pub automatic_config_reload: bool,
}
