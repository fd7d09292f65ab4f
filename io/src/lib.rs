//! floe at its sockets: rings, ingestion, the coordinator, exporters.
//!
//! A datagram enters by a socket of `ingest::udp`, is received by `ring::recv` or
//! `ingest::recvmmsg`, and is handed to the sink of its worker by `ingest::worker`.

/// The only place that reads clocks.
pub mod clock;
/// Which CPUs the workers are pinned to.
pub mod cpu;
/// System calls that no safe crate offers, and the wake-up of a sleeping worker.
pub mod sys;
/// Receiving by io_uring.
pub mod ring;
/// Sockets, workers, and the path without io_uring.
pub mod ingest;
