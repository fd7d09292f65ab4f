//! The memory ceiling: the most that the process holds, whatever arrives, computed from the settings.
//!
//! Every table, pool, queue and buffer has a maximum; this is their sum, part by part, each in the worst
//! case that its limits allow: all names at all workers, all names new at once in every kind, every
//! datagram as large as it can be. An ordinary day needs a small part of it. What the settings leave
//! open is *fitted*: halved until the sum is below a limit.
//!
//! `tests/memory_ceiling.rs` holds real daemons under floods against it. What it does not count: buffers
//! that the kernel lends to connections (`net.ipv4.tcp_mem` bounds those).

use crate::budget::{
    Budgets, GENERATIONS_HALVES, SET_GENERATIONS, filter_bytes, gathered_values_max,
    shard_series_max,
};
use crate::config::quantity::size_text;
use crate::config::settings::{BudgetSettings, KeyFlushSettings, Settings};
use crate::limits::{
    BATCH_DATAGRAMS_MAX, CONSOLE_CONNECTIONS_MAX, CONSOLE_LINE_BYTES_MAX, CONSOLE_VIEWS_MAX,
    DATAGRAM_BYTES_MAX, INTERVALS_WAITING_BYTES_MAX, INTERVALS_WAITING_MAX, KEY_BYTES_MAX,
    LOG_QUEUE_LINES_MAX, LOG_VALUE_BYTES_MAX, OVERFLOW_SERIES_MAX, PREFIXES_COUNTED_MAX,
    RECEIVE_BUFFER_BYTES_DEFAULT, REPEATER_PENDING_BYTES_MAX, SEGMENT_PART_CUT_BYTES,
    SERIES_KEY_BYTES_MEAN, SERIES_MAX_DEFAULT, SERIES_MAX_LEAST, SET_BYTES_DEFAULT,
    SET_MEMBERS_HOME_MAX, SLAB_SLOTS, SUB_TABLE_GROUPS_MIN, SUB_TABLES, TALLY_KEY_BYTES_MAX,
    TALLY_KEYS_MAX, TAP_BATCH_BYTES, TAP_BATCHES, TIMER_BYTES_DEFAULT, TOP_BYTES_MAX,
    VIEW_VALUES_MAX,
};
use crate::sample::Kind;

/// Bytes of a slot, its mark, and its entry in an index that is half full: between a half and three
/// quarters of it are.
const SLOT_BYTES: u64 = 64 + 8 + 2 * 8 + 2;

/// Bytes of a series in the catalogues beside its name: an entry and its index in each of the four,
/// since what leaves one keeps its place there; a copy of the largest while it grows; the list of a
/// timer's chains.
const ENTRY_BYTES: u64 = (32 + 48 + 48 + 40) * 9 / 8 + 4 * 12 + 48 + 48;

/// What a name costs in a box of its own beside its bytes.
const BOX_BYTES: u64 = 16;

/// Bytes of the columns of a row that is no timer.
const ROW_BYTES: u64 = 16;

/// Columns of a timer, those of each threshold, bytes.
const TIMER_ROW_BYTES: u64 = 8 * 12;
const THRESHOLD_BYTES: u64 = 8 * 5;

/// Bytes for each value of a timer whose statistics are computed: gathered, ordered, summed, squared,
/// in buffers that have grown by doubling.
const GATHERED_BYTES: u64 = 88;

/// Bytes of a series in an answer of the console, beside its name.
const VIEW_BYTES: u64 = 32;

/// Bytes of a connection beside its line.
const CONNECTION_BYTES: u64 = 1 << 10;

/// The process itself: code, stacks, what the libraries keep, the pages of empty tables.
const BASE_BYTES: u64 = 48 << 20;

/// The part of everything on the heap that an allocator keeps for blocks of other sizes: mimalloc's
/// classes of sizes are an eighth apart.
const ALLOCATOR_SHARE: u64 = 8;

/// A part of the ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is, in words.
    pub what: &'static str,
    /// The key that bounds it, or nothing.
    pub key: &'static str,
    /// Bytes at the most.
    pub bytes: u64,
}

/// The ceiling of one daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    /// What it is made of.
    pub parts: Vec<Part>,
    /// The budgets it is computed from: as configured, or as fitted.
    pub budgets: Budgets,
}

/// Budgets without what is left open.
#[derive(Clone, Copy, Debug)]
struct Fitted {
    series: u64,
    timer_bytes: u64,
    set_bytes: u64,
    waiting_bytes: u64,
}

impl Fitted {
    /// As configured; what is left open is the default halved so often.
    fn new(settings: &Settings, halvings: u32) -> Self {
        let budgets = &settings.budgets;
        let memory_bytes = settings.spool.memory_bytes.and_then(|bytes| bytes.try_into().ok());
        let of = |configured: Option<usize>, default: usize| {
            wide(configured.unwrap_or(default >> halvings))
        };
        Self {
            series: of(budgets.series_max, SERIES_MAX_DEFAULT),
            timer_bytes: of(budgets.timer_bytes_max, TIMER_BYTES_DEFAULT),
            set_bytes: of(budgets.set_bytes_max, SET_BYTES_DEFAULT),
            waiting_bytes: of(memory_bytes, INTERVALS_WAITING_BYTES_MAX),
        }
    }

    fn budgets(self, settings: &BudgetSettings) -> Budgets {
        Budgets {
            series_max: Some(narrow(self.series)),
            timer_bytes_max: Some(narrow(self.timer_bytes)),
            set_bytes_max: Some(narrow(self.set_bytes)),
            waiting_bytes_max: Some(narrow(self.waiting_bytes)),
            prefixes: settings.prefixes.clone(),
        }
    }

    /// Bytes of all names once.
    fn key_bytes(self) -> u64 {
        self.series * (wide(SERIES_KEY_BYTES_MEAN) + BOX_BYTES)
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn narrow(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Ceiling {
    /// The ceiling of a daemon of `workers` under these settings, fitted to `limit_bytes` as far as the
    /// settings leave something open.
    #[must_use]
    pub fn of(settings: &Settings, workers: usize, limit_bytes: Option<u64>) -> Self {
        let halvings_max = (SERIES_MAX_DEFAULT / SERIES_MAX_LEAST).ilog2();
        let mut ceiling = Self::halved(settings, workers, 0);
        for halvings in 1..=halvings_max {
            if limit_bytes.is_none_or(|limit| ceiling.bytes() <= limit) {
                break;
            }
            ceiling = Self::halved(settings, workers, halvings);
        }
        ceiling
    }

    fn halved(settings: &Settings, workers: usize, halvings: u32) -> Self {
        let fitted = Fitted::new(settings, halvings);
        let parts = parts(settings, fitted, wide(workers.max(1)));
        Self { parts, budgets: fitted.budgets(&settings.budgets) }
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Several lines: the sum, the budgets, each part.
    #[must_use]
    pub fn text(&self) -> String {
        let Budgets { series_max, timer_bytes_max, set_bytes_max, .. } = &self.budgets;
        let size = |bytes: &Option<usize>| size_text(wide(bytes.unwrap_or_default()));
        let mut text = format!(
            "memory ceiling            {}\n  for                     {} series, timers of {}, sets of {}\n",
            mebibytes(self.bytes()),
            series_max.unwrap_or_default(),
            size(timer_bytes_max),
            size(set_bytes_max),
        );
        for Part { what, key, bytes } in &self.parts {
            let key = if key.is_empty() { String::new() } else { format!(" ({key})") };
            text.push_str(&format!("  {:>9}  {what}{key}\n", mebibytes(*bytes)));
        }
        text
    }
}

/// Whole mebibytes, rounded up.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn parts(settings: &Settings, fitted: Fitted, workers: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut part = |what, key, bytes| {
        if bytes != 0 {
            parts.push(Part { what, key, bytes });
        }
    };
    part("names at the workers", "series.max", workers * names_at_worker(fitted));
    part("names at the coordinator", "series.max", names_at_coordinator(settings, fitted));
    part("values of timers and gauges", "memory.timer_bytes_max", fitted.timer_bytes);
    part("statistics of timers, or gauges put in order", "memory.timer_bytes_max", {
        reading(fitted)
    });
    part("members of sets", "memory.set_bytes_max", sets(fitted, workers));
    let rows = rows(settings, fitted);
    part("rows of an interval", "series.max", rows);
    // The newest waits whatever its size.
    let waiting = fitted.waiting_bytes.min(wide(INTERVALS_WAITING_MAX) * rows);
    part("rows that the disk refuses", "spool.memory_bytes", rows.max(waiting * 3 / 2));
    part("segments on their way", "backends", segments(settings, rows));
    part("answers of the console", "series.max", views(fitted));
    let streams = &settings.stream_limits;
    let lines =
        wide(streams.connections_max) * (wide(streams.line_bytes_max) * 2 + CONNECTION_BYTES);
    part(
        "unfinished lines of connections",
        "streams",
        if settings.streams.is_empty() { 0 } else { lines },
    );
    part("receive buffers", "workers", workers * receive_buffers());
    let socket_bytes =
        wide(settings.ingest.receive_buffer_bytes.unwrap_or(RECEIVE_BUFFER_BYTES_DEFAULT));
    // The kernel doubles what it is asked for, for its own accounts.
    let sockets = wide(settings.listeners.len()) * workers;
    part("sockets, in the kernel", "ingest.receive_buffer", 2 * socket_bytes * sockets);
    part("beside the road", "repeater, dumpMessages, keyFlush, console", {
        side_paths(settings, rows, workers)
    });
    let samples = workers * wide(2 * (TAP_BATCH_BYTES + (16 << 10)));
    part(
        "log and top",
        "",
        samples + wide(LOG_QUEUE_LINES_MAX * 4 * LOG_VALUE_BYTES_MAX + TOP_BYTES_MAX),
    );
    let heap: u64 = parts
        .iter()
        .filter(|part| part.key != "ingest.receive_buffer")
        .map(|part| part.bytes)
        .sum();
    parts.push(Part { what: "what the allocator keeps", key: "", bytes: heap / ALLOCATOR_SHARE });
    parts.push(Part { what: "the process itself", key: "", bytes: BASE_BYTES });
    parts
}

/// Slots and long names of one worker's shard.
fn names_at_worker(fitted: Fitted) -> u64 {
    let fresh =
        wide(SLAB_SLOTS) * SLOT_BYTES + wide(2 * 64 * SUB_TABLES) * u64::from(SUB_TABLE_GROUPS_MIN);
    let series = wide(shard_series_max(narrow(fitted.series)));
    series * SLOT_BYTES + fresh + fitted.key_bytes() * 9 / 8
}

/// The catalogues, the filter over them and the counts of prefixes.
fn names_at_coordinator(settings: &Settings, fitted: Fitted) -> u64 {
    let series = fitted.series + wide(OVERFLOW_SERIES_MAX * Kind::ALL.len());
    let prefixes = &settings.budgets.prefixes;
    let is_counted = prefixes.names_max.is_some() || !prefixes.patterns.is_empty();
    let counts = if is_counted { wide(32 * PREFIXES_COUNTED_MAX) } else { 0 };
    series * ENTRY_BYTES + fitted.key_bytes() + wide(filter_bytes(narrow(fitted.series))) + counts
}

/// What reading the values of one generation takes: of timers one large one at a time; of gauges all
/// operations, four words each and hardly more than one in a chunk, which lie there three times while
/// they are put in order.
fn reading(fitted: Fitted) -> u64 {
    let values = wide(gathered_values_max(narrow(fitted.timer_bytes)));
    let chunks = fitted.timer_bytes * 2 / wide(GENERATIONS_HALVES) / 64;
    (values * GATHERED_BYTES).max(chunks * 9 / 8 * 32 * 3)
}

/// Members, and tables that are kept for the next generation.
fn sets(fitted: Fitted, workers: u64) -> u64 {
    let kept = workers * wide(SET_MEMBERS_HOME_MAX) * 20;
    fitted.set_bytes + kept.min(fitted.set_bytes) / wide(SET_GENERATIONS)
}

/// The rows of one interval of as many timers as there may be series, in columns that have grown by
/// doubling, and so have half as much room again.
fn rows(settings: &Settings, fitted: Fitted) -> u64 {
    let bins = settings.histograms.iter().map(|histogram| wide(histogram.bins.len())).max();
    let timer = TIMER_ROW_BYTES
        + THRESHOLD_BYTES * wide(settings.thresholds.len())
        + 8 * bins.unwrap_or_default();
    fitted.series * (ROW_BYTES + timer + wide(SERIES_KEY_BYTES_MEAN)) * 3 / 2
}

/// The coordinator's buffer, and one of each exporter.
fn segments(settings: &Settings, rows: u64) -> u64 {
    let part = wide(SEGMENT_PART_CUT_BYTES + (4 << 20)).min(rows) + (1 << 20);
    // One of an exporter is for what is sent from memory.
    part * (3 + wide(settings.backends.len()) * 3)
}

/// Answers that are held at once: those of the console, and one of series taken out.
fn views(fitted: Fitted) -> u64 {
    let values = wide(8 * VIEW_VALUES_MAX).min(fitted.timer_bytes);
    let view = fitted.series * VIEW_BYTES + fitted.key_bytes() + values;
    wide(CONSOLE_VIEWS_MAX + 1) * view
        + wide(CONSOLE_CONNECTIONS_MAX) * wide(4 * CONSOLE_LINE_BYTES_MAX)
}

/// Those of the ring, of `recvmmsg` that takes over from it, and of one connection.
fn receive_buffers() -> u64 {
    wide(BATCH_DATAGRAMS_MAX + 128 + 2) * wide(DATAGRAM_BYTES_MAX + KEY_BYTES_MAX)
}

fn side_paths(settings: &Settings, rows: u64, workers: u64) -> u64 {
    let tap = wide(TAP_BATCHES * (TAP_BATCH_BYTES + (16 << 10)));
    let repeater = settings.repeater.as_ref().map_or(0, |repeater| {
        tap + wide(repeater.targets.len()) * wide(2 * REPEATER_PENDING_BYTES_MAX)
    });
    let dump = if settings.dump_messages { tap } else { 0 };
    let tally = |_: &KeyFlushSettings| {
        // One that counts and one that is written.
        2 * workers * wide(TALLY_KEY_BYTES_MAX + 64 * TALLY_KEYS_MAX)
    };
    let console = settings.console_backend.map_or(0, |_| 4 * rows);
    repeater + dump + settings.key_flush.as_ref().map_or(0, tally) + console
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::without_file;

    #[test]
    fn what_is_left_open_is_fitted_and_what_is_configured_stays() {
        let mut settings = without_file().settings;
        let open = Ceiling::of(&settings, 2, None);
        assert_eq!(open.budgets.series_max, Some(SERIES_MAX_DEFAULT));
        assert_eq!(Ceiling::of(&settings, 2, Some(open.bytes())), open);
        let fitted = Ceiling::of(&settings, 2, Some(open.bytes() - 1));
        assert_eq!(fitted.budgets.series_max, Some(SERIES_MAX_DEFAULT / 2));
        assert_eq!(fitted.budgets.timer_bytes_max, Some(TIMER_BYTES_DEFAULT / 2));
        assert!(fitted.bytes() < open.bytes());
        settings.budgets.series_max = Some(1_000);
        let mixed = Ceiling::of(&settings, 2, Some(700 << 20));
        assert_eq!(mixed.budgets.series_max, Some(1_000));
        assert!(mixed.budgets.timer_bytes_max.unwrap() < TIMER_BYTES_DEFAULT);
        let least = Ceiling::of(&without_file().settings, 2, Some(1));
        assert_eq!(least.budgets.series_max, Some(SERIES_MAX_LEAST), "and is beyond the limit");
    }

    #[test]
    fn half_a_gibibyte_is_enough_for_two_workers() {
        let settings = without_file().settings;
        let ceiling = Ceiling::of(&settings, 2, Some(512 << 20));
        assert!(ceiling.bytes() <= 512 << 20, "{}", ceiling.text());
        assert!(Some(1 << 15) <= ceiling.budgets.series_max, "{}", ceiling.text());
    }

    #[test]
    fn every_part_is_said_with_its_key() {
        let ceiling = Ceiling::of(&without_file().settings, 1, None);
        let text = ceiling.text();
        assert_eq!(text.lines().count(), 2 + ceiling.parts.len());
        assert!(text.starts_with("memory ceiling"), "{text}");
        assert!(text.contains("names at the workers (series.max)"), "{text}");
        let more = Ceiling::of(&without_file().settings, 2, None);
        assert!(ceiling.bytes() < more.bytes());
    }
}
