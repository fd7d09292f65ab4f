//! Every maximum of the daemon, with its unit, its reason and its relation to the others.

/// Largest datagram the kernel delivers to us, bytes: UDP's length field is 16 bits.
pub const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Slack behind a datagram buffer that the parser may read but never depends on, bytes: one mask
/// block less one byte, rounded up.
pub const DATAGRAM_SLACK_BYTES: usize = 64;

/// Datagrams handled in one batch at the most: bounds the time between two looks at the epoch.
pub const BATCH_DATAGRAMS_MAX: usize = 256;

/// Workers at the most: a shard costs memory per series, and no machine needs more receivers.
pub const WORKERS_MAX: usize = 64;

/// Default number of workers at the most; `ingest.workers` asks for more.
pub const WORKERS_DEFAULT_MAX: usize = 8;

/// UDP listeners at the most: each needs one socket per worker and one request in its ring.
pub const LISTENERS_MAX: usize = 32;

/// Stream listeners at the most, as for UDP.
pub const STREAM_LISTENERS_MAX: usize = 32;

/// Stream connections at once, by default; each is a descriptor and a request in a ring.
pub const STREAM_CONNECTIONS_DEFAULT: usize = 1_024;

/// Descriptors that connections never take, beside those of listeners and workers: spool, exporters,
/// console and repeater need them.
pub const DESCRIPTORS_RESERVED: usize = 256;

/// Stream connections at once, at the most: what 16 bits name.
pub const STREAM_CONNECTIONS_MAX: usize = 65_536;

/// Longest line of a stream, bytes, its newline not counted: the parser takes both as a datagram.
pub const STREAM_LINE_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - 1;

/// Silence after which a stream connection is closed by default, ms: an hour. Peers that are gone
/// without a word are found much earlier, by keep-alive.
pub const STREAM_IDLE_MS_DEFAULT: u64 = 3_600_000;

/// Targets of the repeater at the most: each gets a copy of every datagram.
pub const REPEATER_TARGETS_MAX: usize = 16;

/// Datagram bytes of one batch of a tap.
pub const TAP_BATCH_BYTES: usize = 128 << 10;

/// Datagrams of one batch of a tap.
pub const TAP_BATCH_DATAGRAMS: usize = 2_048;

/// Batches of a tap, over all workers: 16 MiB at the most, what a reader may be behind. A batch is
/// handed over at the end of each batch of a worker, so that under a load of many small ones their
/// number is what lets the reader sleep for some milliseconds.
pub const TAP_BATCHES: usize = 128;

/// Keys that `keyFlush` counts per worker and interval.
pub const TALLY_KEYS_MAX: usize = 1 << 20;

/// Bytes of all keys that `keyFlush` counts per worker and interval: a datagram without a colon is
/// one key.
pub const TALLY_KEY_BYTES_MAX: usize = 64 << 20;

/// Bytes the repeater keeps for one TCP target that does not take them.
pub const REPEATER_PENDING_BYTES_MAX: usize = 4 << 20;

/// Datagrams the repeater keeps for one TCP target: empty ones cost more to remember than to keep.
pub const REPEATER_PENDING_DATAGRAMS_MAX: usize = REPEATER_PENDING_BYTES_MAX / 16;

const _: () = assert!(DATAGRAM_BYTES_MAX <= TAP_BATCH_BYTES);
const _: () = assert!(DATAGRAM_BYTES_MAX < REPEATER_PENDING_BYTES_MAX);
const _: () = assert!(2 * WORKERS_MAX <= TAP_BATCHES, "each worker holds one while it fills it");

/// Connections to the admin console at once: each is a thread. People and health checks are few.
pub const CONSOLE_CONNECTIONS_MAX: usize = 64;

/// Longest command line of the console, bytes: room for a thousand names to be deleted.
pub const CONSOLE_LINE_BYTES_MAX: usize = 64 << 10;

/// Views of the open interval that the console holds at once: each may be a million series.
pub const CONSOLE_VIEWS_MAX: usize = 2;

/// Values of timers that one of them shows, in all: 32 MiB. Timers beyond show how many they have.
pub const VIEW_VALUES_MAX: usize = 4 << 20;

const _: () = assert!(CONSOLE_VIEWS_MAX < CONSOLE_CONNECTIONS_MAX, "others are answered meanwhile");

/// Receive buffer asked of the kernel by default, bytes: about 10,000 small datagrams at 832 bytes
/// of accounting each (docs/references.md K2).
pub const RECEIVE_BUFFER_BYTES_DEFAULT: usize = 8 << 20;

/// Below this granted receive buffer, bytes, the daemon warns, unless less was asked: 4 MiB hold the
/// longest pause of a worker at a million datagrams per second.
pub const RECEIVE_BUFFER_BYTES_WARN: usize = 4 << 20;

/// Largest body of one segment part, bytes: a reader holds one of them whole, in memory.
pub const SEGMENT_PART_BYTES_MAX: usize = 64 << 20;

/// Columns of one part at which the next begins, bytes: the coordinator's buffer and one of each
/// exporter hold a part whole, so that a million counters in one would cost 35 MB in each.
pub const SEGMENT_PART_CUT_BYTES: usize = 16 << 20;

/// Longest Graphite line we send, bytes; carbon closes the connection above 16,384.
pub const GRAPHITE_LINE_BYTES_MAX: usize = 4_096;

/// Points in one pickle frame at the most (carbon-relay's own number).
pub const PICKLE_FRAME_POINTS_MAX: usize = 500;

/// Bytes of one pickle frame at the most; carbon closes above 1,048,576.
pub const PICKLE_FRAME_BYTES_MAX: usize = 256 << 10;

/// Longest configuration text read, bytes: real ones are a few KiB, so that a longer one is another
/// file given by mistake.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

/// Deepest nesting of a configuration, brackets: our deepest key has five; bounds the recursion of
/// the readers.
pub const CONFIG_DEPTH_MAX: usize = 64;

/// Longest text an expression in a `config.js` may make, bytes: bounds what repeated replacing can
/// grow to.
pub const CONFIG_EXPRESSION_BYTES_MAX: usize = 64 << 10;

/// Entries of `percentThreshold` at the most: each is five points of every timer.
pub const THRESHOLDS_MAX: usize = 256;

/// Backends at the most: each is a thread and a link of every segment.
pub const BACKENDS_MAX: usize = 64;

const _: () = assert!(SEGMENT_PART_CUT_BYTES + (4 << 20) <= SEGMENT_PART_BYTES_MAX);
const _: () = assert!(CONFIG_EXPRESSION_BYTES_MAX <= CONFIG_BYTES_MAX);
const _: () = assert!(PICKLE_FRAME_BYTES_MAX + GRAPHITE_LINE_BYTES_MAX < 1 << 20);
const _: () = assert!(GRAPHITE_LINE_BYTES_MAX < 16_384);
const _: () = assert!(WORKERS_DEFAULT_MAX <= WORKERS_MAX);

/// Raw values a timer keeps exactly per worker and generation; 8 MiB of values.
pub const TIMER_VALUES_EXACT_MAX: u32 = 1 << 20;

/// Chunks of one worker and generation at the most, whatever the budget: 384 MiB. At three quarters of
/// the budget timers go on in sketches and gauges fold their operations.
pub const CHUNKS_PER_GENERATION_MAX: usize = 6 << 20;

/// Bytes of a sketch that has all of its bins, with its head: 2,048 counts of eight bytes.
pub const SKETCH_BYTES_MAX: usize = 17 << 10;

/// Values of one timer, of all workers and flips together, that statistics are computed of exactly;
/// further ones go into the sketch. Sorting and summing them takes about 50 bytes each.
pub const GATHERED_VALUES_MAX: usize = 4 << 20;

/// Bytes of all timers' budget for each of them, where it is small: reading takes four times as much as
/// the budget otherwise.
pub const GATHERED_SHARE: usize = 32;

/// Signed gauge operations kept apart per worker and generation before they are folded.
pub const GAUGE_OPERATIONS_MAX: u32 = 4_096;

/// Members a set keeps exactly per worker and generation; 1 MiB of hashes.
pub const SET_MEMBERS_EXACT_MAX: usize = 1 << 16;

/// Largest member table kept from one generation to the next; larger ones are freed.
pub const SET_MEMBERS_KEPT_MAX: usize = 1 << 10;

/// Members that the tables of emptied sets have room for which the coordinator sends home to one
/// worker at once: 34 MiB. Sets beyond it are freed, and allocated anew when they are needed.
pub const SET_MEMBERS_HOME_MAX: usize = 1 << 21;

const _: () = assert!(TIMER_VALUES_EXACT_MAX as usize <= GATHERED_VALUES_MAX);
const _: () = assert!(SET_MEMBERS_KEPT_MAX < SET_MEMBERS_HOME_MAX);

/// Sub-tables of a shard's index: a million series make 4,000 a sub-table, so that one growth moves
/// 32 KiB and stays far below a millisecond.
pub const SUB_TABLES: usize = 256;

/// Groups of the smallest fresh sub-table, eight entries each; every sub-table has a size of its own,
/// below twice as many.
pub const SUB_TABLE_GROUPS_MIN: u32 = 8;

/// Groups looked at for one key before the sub-table grows, or, if it is nearly empty and the keys
/// must have been made to collide, the key is dropped.
pub const PROBE_GROUPS_MAX: u32 = 16;

/// Slots of a slab, 256 KiB: they are allocated and freed together.
pub const SLAB_SLOTS: usize = 4_096;

/// Series of one shard at the most, whatever `series.max` says: what the marks of slots and the memory
/// of a worker are made for.
pub const SERIES_PER_SHARD_MAX: usize = 4 << 20;

/// Series of all kinds by default (`series.max`), where the memory limit has room for them.
pub const SERIES_MAX_DEFAULT: usize = 1 << 20;

/// Memory of timer values and gauge operations by default, over all workers and generations, bytes: at
/// two workers some 25 million values an interval.
pub const TIMER_BYTES_DEFAULT: usize = 512 << 20;

/// Memory of set members by default, likewise.
pub const SET_BYTES_DEFAULT: usize = 256 << 20;

/// Keys that each sketch of `floe top` answers for: a key of one line in 256 is always found.
pub const TOP_KEYS: usize = 256;

/// Bytes of a name or of an example of a bad line that `floe top` keeps.
pub const TOP_TEXT_BYTES_MAX: usize = 200;

/// New names that `floe top` counts once each, a minute.
pub const TOP_NEW_NAMES_MAX: usize = 1 << 16;

/// What `floe top` holds beside its samples, bytes: nine sketches of two minutes and of an answer, each
/// with twice as many keys, names and examples; the hashes of new names.
pub const TOP_BYTES_MAX: usize =
    9 * 4 * 2 * TOP_KEYS * (2 * TOP_TEXT_BYTES_MAX + 128) + 3 * 32 * TOP_NEW_NAMES_MAX;

/// Batches of datagrams of which one is sampled.
pub const TOP_BATCHES_EACH: u32 = 64;

/// Time between two samples of a worker at least, ns: at a million datagrams a second one batch in 64
/// would be eighty a second, and cost 1.5 % of the worker.
pub const TOP_SAMPLE_EVERY_NS: u64 = 50_000_000;

/// Fewest series that a memory limit makes of the default before the start is refused.
pub const SERIES_MAX_LEAST: usize = 1 << 14;

/// Bytes of names for each series of `series.max`: ordinary names have 30 to 60, and the longest
/// [`KEY_BYTES_MAX`].
pub const SERIES_KEY_BYTES_MEAN: usize = 96;

/// Series `<prefix>.__overflow__` at once; values beyond go to `__overflow__`: a flood may invent
/// prefixes too.
pub const OVERFLOW_SERIES_MAX: usize = 1 << 10;

/// Prefixes that have a count of their own; names below others are held by `series.max` alone.
pub const PREFIXES_COUNTED_MAX: usize = 1 << 14;

/// Patterns of `series.prefixes` at the most: each is tried for a name that is new.
pub const PREFIX_PATTERNS_MAX: usize = 256;

/// Flips after which an untouched slot leaves a shard that is nearly full.
pub const SLOT_IDLE_FLIPS_CROWDED: u32 = 3;

/// Longest key, bytes; a longer one is dropped before it is hashed, counted. No Graphite line could
/// carry it.
pub const KEY_BYTES_MAX: usize = GRAPHITE_LINE_BYTES_MAX;

/// Samples gathered before they are applied, so that their slots are fetched while others are
/// parsed. Half of a packed datagram.
pub const SAMPLE_BATCH_MAX: usize = 32;

/// Datagrams handed over at once, at the most: as many as the shard has samples of a kind on their way
/// to its table.
pub const DATAGRAMS_AT_ONCE: usize = SAMPLE_BATCH_MAX;

/// Flips after which a slot that was not touched may leave its shard. Whether its series still
/// exists is the catalogue's business, not the slot's.
pub const SLOT_IDLE_FLIPS_MAX: u32 = 60;

/// Sub-tables looked through for idle slots per flip: each gets its turn every 16 flips, or at each of
/// them in a shard that is nearly full.
pub const SUB_TABLES_SWEPT_PER_FLIP: usize = SUB_TABLES / 16;

/// Time between two looks, ns: with a million series a look takes 40 to 130 us of the worker, and all
/// of them one behind the other took 40 % of it for 60 ms, while a flush took the CPU as well.
pub const SWEEP_EVERY_NS: u64 = 4_000_000;

const _: () = assert!(SUB_TABLES == 1 << 8, "chosen by the top eight bits of the hash");
const _: () = assert!(PROBE_GROUPS_MAX <= 2 * SUB_TABLE_GROUPS_MIN);
const _: () =
    assert!(2 < SLOT_IDLE_FLIPS_CROWDED, "a slot leaves only when both generations are read");
const _: () = assert!(SLOT_IDLE_FLIPS_CROWDED <= SLOT_IDLE_FLIPS_MAX);
const _: () = assert!(SERIES_MAX_DEFAULT < SERIES_PER_SHARD_MAX);

/// Closed intervals that wait in memory while the disk refuses them: an hour and a half of 10 s.
pub const INTERVALS_WAITING_MAX: usize = 512;

/// Bytes they may hold together by default (`spool.memory_bytes`); the newest waits whatever its
/// size.
pub const INTERVALS_WAITING_BYTES_MAX: usize = 256 << 20;

/// Lines of the log that wait for its thread: at most 16 MiB, and more than any start writes.
pub const LOG_QUEUE_LINES_MAX: usize = 1_024;

/// Lines of `dumpMessages` among them; their thread waits for room.
pub const LOG_QUEUE_DUMPED_MAX: usize = 64;

/// Longest value of a line of the log, bytes; longer ones are cut, and end in `...`.
pub const LOG_VALUE_BYTES_MAX: usize = 4_096;

/// Lines one site of the program may write to the log in [`LOG_SITE_NS`]; further ones are counted
/// and said in one.
pub const LOG_SITE_LINES_MAX: u64 = 64;

/// The time in which they are counted, ns.
pub const LOG_SITE_NS: u64 = 10_000_000_000;
