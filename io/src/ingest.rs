//! Sockets, workers, and the path without io_uring.
//!
//! `udp` opens the sockets of a listener, `worker` reads them on pinned threads and hands each
//! datagram to a `DatagramSink`, the worker's shard. Two receivers stand behind the same loop:
//! the ring of `crate::ring` and `recvmmsg`. Both keep the same books (`ReceiveCounts`).
//! Nothing here looks into a datagram.

use std::io;

/// How long a worker waits for the next batch.
pub(crate) mod pace;
/// The sockets of a listener, one per worker.
pub mod udp;
/// Receiving by `recvmmsg`, where the ring is refused.
pub(crate) mod recvmmsg;
/// Parser and shard behind the loop.
pub mod intake;
/// The one loop of a worker, its start and its stop.
pub mod worker;

/// Where the datagrams of one worker go: its shard.
///
/// All methods are called on the worker's thread, in this order: `begin_batch`, then `datagram` any
/// number of times, then `receive_counts` if there is something to count, then `end_batch`.
pub trait DatagramSink {
    /// A batch begins; also called when the worker was merely woken, and at least once every two
    /// seconds. This is where a change of generation is noticed.
    ///
    /// `now_ns`: monotonic time ([`crate::clock::monotonic_ns`]), read once for the batch.
    fn begin_batch(&mut self, now_ns: u64);

    /// One datagram: the first `len` bytes of `buffer`.
    ///
    /// `buffer` is at least `DATAGRAM_SLACK_BYTES` longer than `len`; what lies beyond `len` is
    /// unspecified. `len` is 0 for an empty datagram.
    fn datagram(&mut self, buffer: &[u8], len: usize);

    /// What receiving has counted since the last call; not called when all counts are zero.
    fn receive_counts(&mut self, counts: &ReceiveCounts);

    /// The batch is over.
    fn end_batch(&mut self);
}

/// Incidents of receiving. None of them is a lost datagram; a truncated one is damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveCounts {
    /// The kernel found no free buffer and ended the multishot; the datagrams stayed in the socket.
    pub buffers_exhausted: u64,
    /// Receives that failed with another error.
    pub receive_errors: u64,
    /// Datagrams cut by the kernel, or as long as the buffer and so possibly cut.
    pub datagrams_truncated: u64,
}

/// One way of receiving. Two exist, and one loop drives both.
pub(crate) trait Receive {
    /// Waits for datagrams, a wake-up, or about two seconds.
    ///
    /// `now_ns`: monotonic time as of the last batch.
    fn wait(&mut self, now_ns: u64) -> io::Result<()>;

    /// Hands what has arrived to `sink`; returns the number of datagrams, bounded per call.
    fn batch(&mut self, now_ns: u64, sink: &mut impl DatagramSink) -> usize;

    /// The incidents since the last call.
    fn take_counts(&mut self) -> ReceiveCounts;
}
