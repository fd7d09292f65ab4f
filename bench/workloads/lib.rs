//! Seeded workloads shared by the benchmarks: names, lines, datagrams, and a fed pipeline.
//!
//! Every benchmark of `benches/` takes its input from here, so that two stages measure the same
//! traffic and two runs the same bytes. The mix is that of docs/benchmarks.md: 60 % counters, 30 %
//! timers, 8 % gauges, 2 % sets, over 10,000 or 1,000,000 names.
//!
//! Limits: everything is in memory; the largest workload holds 350 MB. Not done here: measuring
//! (criterion, in `benches/`), and sockets (`loadgen`).

/// Seeded pseudo-random numbers.
pub mod random;
/// Names and the lines that bear them.
pub mod lines;
/// Lines in datagrams, one each or packed.
pub mod datagrams;
/// CPU time of a thread.
pub mod cpu_time;
/// One worker's data plane and its coordinator, without threads and sockets.
pub mod pipeline;
/// Intervals fed to it and timed, on one thread or several.
pub mod feeding;
/// Intervals flushed and timed.
pub mod flushing;
/// What a flush must yield.
pub mod expected;
/// Rows formatted and sent.
pub mod delivery;

/// A worker whose coordinator flushes meanwhile.
pub mod pausing;

use mimalloc::MiMalloc;

/// The allocator of the daemon's binary, so that the figures hold for it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Names of the small workload.
pub const NAMES_SMALL: u32 = 10_000;

/// Names of the large workload.
pub const NAMES_LARGE: u32 = 1_000_000;

/// Payload of a packed datagram at the most, bytes: below the MTU of an Ethernet.
pub const PACKED_BYTES_MAX: usize = 1_400;

/// Bytes of a datagram of many lines, for a network with frames of 9,000.
pub const JUMBO_BYTES_MAX: usize = 8_900;

/// Whether criterion runs every benchmark once: `cargo bench -p floe-bench -- --test`, and
/// `cargo test --all-targets`, which does not pass `--bench`. The benchmarks leave out what takes
/// longest then.
#[must_use]
pub fn is_smoke() -> bool {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    has("--test") || !has("--bench")
}
