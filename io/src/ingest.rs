//! Sockets, workers, and the path without io_uring.
//!
//! `udp` opens the sockets of a listener, `worker` reads them on pinned threads and hands each
//! datagram to a `DatagramSink`, the worker's shard. Two receivers stand behind the same loop:
//! the ring of `crate::ring` and `recvmmsg`. Both keep the same books (`ReceiveCounts`).
//! Nothing here looks into a datagram.

use std::io;
use std::net::IpAddr;

use floe_core::line::Datagram;

use self::stream::connections::Connections;

/// How long a worker waits for the next batch.
pub(crate) mod pace;
/// The sockets of a listener, one per worker.
pub mod udp;
/// Connections: TCP and Unix sockets.
pub mod stream;
/// Receiving by `recvmmsg`, where the ring is refused.
pub(crate) mod recvmmsg;
/// Datagrams that the kernel hands over as one.
pub(crate) mod train;
/// Copies of raw datagrams for others.
pub mod tap;
/// Which batches are copied for `floe top`.
pub(crate) mod sampling;
/// Every datagram sent on to other statsds.
pub mod repeater;
/// Every line logged.
pub(crate) mod dump;
/// How often each key occurred, written to a log.
pub mod key_flush;
/// Parser and shard behind the loop.
pub mod intake;
/// The one loop of a worker, its start and its stop.
pub mod worker;

/// Target of the lines that `dumpMessages` logs: they are many because they were asked for.
pub const DUMP_TARGET: &str = "floe::messages";

/// Where the datagrams of one worker go: its shard.
///
/// All methods are called on the worker's thread, in this order: `begin_batch`, then `datagram`,
/// `datagrams` and `lines` any number of times, then `receive_counts` if there is something to count, then `end_batch`.
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

    /// Several datagrams in their order, which are told one by one unless the sink gains by more.
    fn datagrams(&mut self, datagrams: &[Datagram<'_>]) {
        for Datagram { buffer, len } in datagrams {
            self.datagram(buffer, *len);
        }
    }

    /// Whole lines of a stream: the first `len` bytes of `buffer`, slack as above. A line never goes
    /// on in the next call; how many reads there were is told by `receive_counts`.
    fn lines(&mut self, buffer: &[u8], len: usize);

    /// A datagram of a window in which senders are looked at, before it is handed over as any other.
    fn sampled(&mut self, _sender: Option<IpAddr>, _datagram: &[u8]) {}

    /// The window is over.
    fn samples_end(&mut self) {}

    /// What receiving has counted since the last call; not called when all counts are zero.
    fn receive_counts(&mut self, counts: &ReceiveCounts);

    /// The batch is over.
    fn end_batch(&mut self);
}

/// Incidents of receiving. None of them is a lost datagram; a truncated one is damaged. The lines of
/// streams named here are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveCounts {
    /// The kernel found no free buffer and ended the multishot; the datagrams stayed in the socket.
    pub buffers_exhausted: u64,
    /// Receives that failed with another error.
    pub receive_errors: u64,
    /// Datagrams cut by the kernel, or as long as the buffer and so possibly cut.
    pub datagrams_truncated: u64,
    /// Reads of a stream that completed a line: one packet each to the reference.
    pub stream_reads: u64,
    /// Lines dropped because their connection ended before they did.
    pub lines_unfinished: u64,
    /// Lines dropped because they did not end within `streams.line_bytes_max`.
    pub lines_too_long: u64,
    /// Connections that ended with an error, a reset for one.
    pub connections_reset: u64,
    /// Connections closed because they were silent for `streams.idle`.
    pub connections_idle: u64,
}

/// One way of receiving. Two exist, and one loop drives both.
pub(crate) trait Receive {
    /// Waits for datagrams, a wake-up, or about two seconds.
    ///
    /// `now_ns`: monotonic time as of the last batch.
    fn wait(&mut self, now_ns: u64, connections: &mut Connections) -> io::Result<()>;

    /// Hands what has arrived to `sink`; returns the number of datagrams and of events of
    /// connections, bounded per call.
    fn batch(
        &mut self,
        now_ns: u64,
        connections: &mut Connections,
        sink: &mut impl DatagramSink,
    ) -> usize;

    /// The incidents since the last call.
    fn take_counts(&mut self) -> ReceiveCounts;
}
