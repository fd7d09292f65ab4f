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

/// Default number of workers at the most (DESIGN.md 2).
pub const WORKERS_DEFAULT_MAX: usize = 8;

/// UDP listeners at the most: each needs one socket per worker and one request in its ring.
pub const LISTENERS_MAX: usize = 32;

/// Receive buffer asked of the kernel by default, bytes: about 10,000 small datagrams at 832 bytes
/// of accounting each (reference/ingest-limits.md 2).
pub const RECEIVE_BUFFER_BYTES_DEFAULT: usize = 8 << 20;

/// Below this effective receive buffer, bytes, the daemon warns.
pub const RECEIVE_BUFFER_BYTES_WARN: usize = 4 << 20;

/// Largest body of one segment part, bytes (DESIGN.md 3).
pub const SEGMENT_PART_BYTES_MAX: usize = 64 << 20;

/// Longest Graphite line we send, bytes (DESIGN.md 4); carbon's own limit is 16,384.
pub const GRAPHITE_LINE_BYTES_MAX: usize = 4_096;

/// Longest component of a Graphite name we send, bytes: `.wsp` must fit a 255-byte file name.
pub const GRAPHITE_COMPONENT_BYTES_MAX: usize = 240;

/// Points in one pickle frame at the most (carbon-relay's own number).
pub const PICKLE_FRAME_POINTS_MAX: usize = 500;

/// Bytes of one pickle frame at the most; carbon closes above 1,048,576.
pub const PICKLE_FRAME_BYTES_MAX: usize = 256 << 10;

const _: () = assert!(PICKLE_FRAME_BYTES_MAX + GRAPHITE_LINE_BYTES_MAX < 1 << 20);
const _: () = assert!(GRAPHITE_LINE_BYTES_MAX < 16_384);
const _: () = assert!(WORKERS_DEFAULT_MAX <= WORKERS_MAX);
