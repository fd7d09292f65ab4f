//! floe in memory: a datagram's bytes become samples, samples become series, series become rows.
//!
//! The modules stand in the order in which a byte meets them. Nothing here makes a system call or
//! reads a clock: time, text, host name and environment are handed in.

/// Every maximum, with unit and reason.
pub mod limits;
/// Settings: `config.js`, TOML, checks.
pub mod config;
/// A parsed line: the hand-over from parser to shard.
pub mod sample;
/// The rows of one interval, as columns.
pub mod row;
/// Numbers as text, as JavaScript prints them.
pub mod number_text;
/// From a key to the name Graphite sees.
pub mod namespace;
/// From rows to points.
pub mod point;
