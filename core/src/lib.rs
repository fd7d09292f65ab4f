//! floe in memory: a datagram's bytes become samples, samples become series, series become rows.
//!
//! The modules stand in the order in which a byte meets them. Nothing here makes a system call or
//! reads a clock: time, text, host name and environment are handed in.

/// Every maximum, with unit and reason.
pub mod limits;
/// Settings: `config.js`, TOML, checks.
pub mod config;
/// A datagram becomes samples.
pub mod line;
/// A parsed line: the hand-over from parser to shard.
pub mod sample;
/// Names hashed, once per line.
pub mod name;
/// The cache, asked ahead.
mod cache;
/// How many names there may be, in all and below a prefix.
pub mod budget;
/// The most that the process holds.
pub mod ceiling;
/// What one series gathers.
pub mod series;
/// One worker's part of the map, and the flip.
pub mod shard;
/// The open interval: accumulator and catalogue.
pub mod interval;
/// Derived values of timers.
pub mod statistics;
/// How often each key occurred.
pub mod key_tally;
/// What occurs most, in a memory of a fixed size.
pub mod heavy;
/// Every datagram, line and value accounted for.
pub mod books;
/// The rows of one interval, as columns.
pub mod row;
/// Graphite's names of rows.
pub mod namespace;
/// Numbers as the reference daemon prints them.
pub mod number_text;
/// Values laid out as Node prints them.
pub mod inspect;
/// A flush as the reference's console backend prints it.
pub mod flush_text;
/// Text from outside, made one line.
pub mod escape;
/// Globs over Graphite names.
pub mod glob;
/// Rows become points.
pub mod point;
/// Places where long work lets a worker go first.
pub mod give_way;
/// Atomics and cells, replaced by loom's in its tests.
pub mod sync;
