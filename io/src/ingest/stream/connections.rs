//! The open connections of one worker.
//!
//! New ones come from the acceptor by an inbox; the receiver arms each that is *pending*, reads, and
//! says what became of the read. A connection ends when its receiver sees the end of it: also one
//! that we close is shut down first and removed when the receiver sees that. So a slot is never
//! given away while a request in the kernel still names it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;
use floe_core::config::settings::StreamLimits;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::assembler::LineAssembler;
use crate::clock::NS_PER_S;
use crate::ingest::{DatagramSink, ReceiveCounts};

/// Time between two looks for idle connections, ns.
const SWEEP_NS: u64 = NS_PER_S;

/// The way of new connections to one worker, and how many it has.
#[derive(Debug)]
pub struct StreamInbox {
    arrived: ArrayQueue<HandedConnection>,
    open: AtomicUsize,
}

/// A connection on its way to a worker: of the acceptor, or of the daemon before us; or from a worker
/// to the daemon after us.
#[derive(Debug)]
pub struct HandedConnection {
    /// Its socket.
    pub fd: OwnedFd,
    /// What has come of a line that has not ended.
    pub rest: Vec<u8>,
    /// That line is too long already.
    pub is_skipping: bool,
}

impl StreamInbox {
    /// An inbox with room for as many connections as may be open: a worker takes them with its next
    /// batch, and all clients of a host that was away may come within it.
    #[must_use]
    pub fn new(connections_max: usize) -> Self {
        Self { arrived: ArrayQueue::new(connections_max.max(1)), open: AtomicUsize::new(0) }
    }

    /// Connections of the worker, those that it has not taken yet included.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Leaves a connection for the worker, who must be woken; gives it back if there is no room.
    ///
    /// # Errors
    /// The connection.
    pub fn put(&self, connection: OwnedFd) -> Result<(), HandedConnection> {
        self.put_handed(HandedConnection { fd: connection, rest: Vec::new(), is_skipping: false })
    }

    /// The same with one that has come a part of its way.
    ///
    /// # Errors
    /// The connection.
    pub fn put_handed(&self, connection: HandedConnection) -> Result<(), HandedConnection> {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.arrived.push(connection).inspect_err(|_| {
            self.open.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// What lies here when its worker has ended: connections that it never took, and those that it
    /// has left for the daemon after us.
    pub fn take_left(&self) -> Vec<HandedConnection> {
        std::iter::from_fn(|| self.arrived.pop()).collect()
    }
}

/// One connection.
#[derive(Debug)]
struct Connection {
    fd: OwnedFd,
    assembler: LineAssembler,
    /// Monotonic time of the last read, ns.
    heard_ns: u64,
    is_closing: bool,
}

/// The table of one worker.
#[derive(Debug)]
pub struct Connections {
    inbox: Arc<StreamInbox>,
    limits: StreamLimits,
    slots: Vec<Option<Connection>>,
    free: Vec<u32>,
    /// Slots the receiver must arm.
    pending: Vec<u32>,
    swept_ns: u64,
    counts: ReceiveCounts,
}

impl Connections {
    /// A table without connections, fed by `inbox`.
    #[must_use]
    pub fn new(inbox: Arc<StreamInbox>, limits: StreamLimits) -> Self {
        Self {
            inbox,
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            pending: Vec::new(),
            swept_ns: 0,
            counts: ReceiveCounts::default(),
        }
    }

    /// A table that stays empty.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Arc::new(StreamInbox::new(1)), StreamLimits::default())
    }

    /// Takes what the acceptor has left.
    ///
    /// `now_ns`: monotonic.
    pub(crate) fn begin_batch(&mut self, now_ns: u64) {
        while let Some(connection) = self.inbox.arrived.pop() {
            self.adopt(connection, now_ns);
        }
    }

    /// Closes what has been silent for too long; after the batch has read what there is.
    pub(crate) fn end_batch(&mut self, now_ns: u64) {
        if self.slots.len() != self.free.len() && self.swept_ns + SWEEP_NS <= now_ns {
            self.swept_ns = now_ns;
            self.sweep(now_ns);
        }
    }

    fn adopt(&mut self, connection: HandedConnection, now_ns: u64) {
        let HandedConnection { fd, rest, is_skipping } = connection;
        let assembler = LineAssembler::after(rest, is_skipping);
        let connection = Connection { fd, assembler, heard_ns: now_ns, is_closing: false };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("at most STREAM_CONNECTIONS_MAX")
        });
        self.slots[slot as usize] = Some(connection);
        self.pending.push(slot);
    }

    fn sweep(&mut self, now_ns: u64) {
        let idle_ns = self.limits.idle_ms.saturating_mul(1_000_000);
        if idle_ns == 0 {
            return;
        }
        for connection in self.slots.iter_mut().flatten() {
            if !connection.is_closing && idle_ns <= now_ns.saturating_sub(connection.heard_ns) {
                self.counts.connections_idle += 1;
                connection.is_closing = true;
                // A peer that is gone already has ended the connection as well.
                shutdown(&connection.fd, Shutdown::Both).ok();
            }
        }
    }

    /// Whether a slot must be armed.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A slot to arm, until there is none.
    pub(crate) fn take_pending(&mut self) -> Option<u32> {
        self.pending.pop()
    }

    /// The request of `slot` has ended and is wanted again.
    pub(crate) fn set_pending(&mut self, slot: u32) {
        self.pending.push(slot);
    }

    /// Another receiver goes on: it must arm all of them.
    pub(crate) fn set_all_pending(&mut self) {
        self.pending.clear();
        let open = (0_u32..).zip(&self.slots).filter(|(_, connection)| connection.is_some());
        self.pending.extend(open.map(|(slot, _)| slot));
    }

    /// The descriptor of `slot`.
    pub(crate) fn fd(&self, slot: u32) -> Option<BorrowedFd<'_>> {
        let connection = self.slots.get(slot as usize)?.as_ref()?;
        Some(connection.fd.as_fd())
    }

    /// What was read from `slot`: the first `len` bytes of `buffer`, slack behind them.
    pub(crate) fn read(
        &mut self,
        slot: u32,
        buffer: &[u8],
        len: usize,
        now_ns: u64,
        sink: &mut impl DatagramSink,
    ) {
        let Some(Some(connection)) = self.slots.get_mut(slot as usize) else { return };
        connection.heard_ns = now_ns;
        let line_bytes_max = self.limits.line_bytes_max;
        connection.assembler.read(buffer, len, line_bytes_max, &mut self.counts, sink);
    }

    /// `slot` has ended: with an error, or by the peer's close.
    pub(crate) fn remove(&mut self, slot: u32, error: Option<Errno>) {
        let Some(Some(mut connection)) = self.slots.get_mut(slot as usize).map(Option::take) else {
            return;
        };
        if !connection.is_closing {
            self.counts.connections_reset += u64::from(error.is_some());
        }
        connection.assembler.finish(&mut self.counts);
        self.free.push(slot);
        self.pending.retain(|pending| *pending != slot);
        self.inbox.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends all of them: the drain is over.
    pub(crate) fn remove_all(&mut self) {
        for slot in (0_u32..).take(self.slots.len()) {
            self.remove(slot, None);
        }
    }

    /// Leaves all of them in the inbox, for the daemon after us; those that we are closing end.
    pub(crate) fn leave_all(&mut self) {
        for slot in (0_u32..).take(self.slots.len()) {
            let taken = self.slots.get_mut(slot as usize).and_then(Option::take);
            let Some(connection) = taken else { continue };
            if connection.is_closing {
                self.slots[slot as usize] = Some(connection);
                self.remove(slot, None);
                continue;
            }
            let (rest, is_skipping) = connection.assembler.into_rest();
            let left = HandedConnection { fd: connection.fd, rest, is_skipping };
            // As many places as there may be connections.
            self.inbox.arrived.push(left).ok();
        }
        self.slots.clear();
        self.free.clear();
        self.pending.clear();
    }

    /// The incidents since the last call.
    pub(crate) fn take_counts(&mut self) -> ReceiveCounts {
        std::mem::take(&mut self.counts)
    }
}
