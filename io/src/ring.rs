//! Receiving by io_uring: one ring per worker, built on the worker's own thread.
//!
//! `probe` builds the ring or says why the kernel refuses it, `restrict` says what it may be asked
//! for, `buffers` lends memory to the kernel, `recv` turns completions into datagrams, `user_data`
//! names the requests.

/// Builds a ring, or says why the kernel refuses.
pub mod probe;
/// What a ring may be asked for.
mod restrict;
/// The provided-buffer ring.
pub(crate) mod buffers;
/// Received buffers that are handed over together.
mod held;
/// Multishot receives, the wait, and the drain.
pub(crate) mod recv;
/// What a completion belongs to.
pub(crate) mod user_data;
