//! Streams of lines: TCP and Unix connections beside the datagrams.
//!
//! `listener` binds, `acceptor` takes connections on a thread of its own and deals them out to the
//! workers, `connections` is a worker's table of them, `assembler` cuts what is read into whole
//! lines. Reading itself is the receivers' business: the ring reads connections by multishots into
//! the buffers it reads datagrams into, the direct path by `recv` on those that epoll names.
//!
//! One connection stays at one worker, so the gauges of one client keep their order.

/// Whole lines out of reads that end anywhere.
pub mod assembler;
/// Accepts, within the cap.
pub mod acceptor;
/// The open connections of one worker.
pub mod connections;
/// Sockets to accept at.
pub mod listener;
