//! floe at its sockets: rings, ingestion, the coordinator, exporters.
//!
//! A datagram enters by a socket of [`ingest::udp`], is received by `ring::recv` or
//! `ingest::recvmmsg`, and is handed to the sink of its worker by [`ingest::worker`]. The
//! [`coordinator`] closes intervals into segments, and [`export`] ships them. [`daemon`] starts and
//! stops it all.

/// The only place that reads clocks.
pub mod clock;
/// Dates as JavaScript prints them.
pub mod date;
/// Which CPUs the workers are pinned to.
pub mod cpu;
/// Where the threads beside the workers run.
pub mod placement;
/// How threads behind the workers give way.
mod courtesy;
/// System calls that no safe crate offers, and the wake-up of sleeping threads.
pub mod sys;
/// What the host lost before our sockets, or took from us.
pub mod host;
/// Who brings most.
pub mod top;
/// How much memory there may be, and what of it is planned.
pub mod memory_limit;
/// Threads that may be stuck when the daemon ends.
pub(crate) mod side_thread;
/// Receiving by io_uring.
pub mod ring;
/// Sockets that somebody gave us.
pub mod given;
/// One daemon takes over from another.
pub mod take_over;
/// Sockets, workers, and the path without io_uring.
pub mod ingest;
/// Flips the shards, closes intervals, spools them.
pub mod coordinator;
/// Closed intervals in memory, on their way to the disk.
pub mod backlog;
/// Segments of the spool become points at a Carbon.
pub mod export;
/// What the service manager is told.
pub mod service_manager;
/// The admin port.
pub mod admin;
/// Start and stop of the whole.
pub mod daemon;
