//! A target reached by a connection.
//!
//! Datagrams wait in one buffer, each with a newline behind it, and leave in their order as far as
//! the kernel takes them. When a connection ends within a datagram, the rest of that one is dropped:
//! its first part is at the peer, and would become the head of another line.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use floe_core::limits::{REPEATER_PENDING_BYTES_MAX, REPEATER_PENDING_DATAGRAMS_MAX};
use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use super::resolve::Target as Resolved;
use super::{Cause, TargetAccounts};
use crate::clock::NS_PER_S;
use crate::export::pace::Backoff;
use crate::ingest::tap::TapBatch;

/// Pauses between attempts to connect, ns.
const BACKOFF_FIRST_NS: u64 = NS_PER_S / 10;
const BACKOFF_LAST_NS: u64 = 10 * NS_PER_S;

/// How long a connection may take to be made, ns.
const CONNECT_NS: u64 = 5 * NS_PER_S;

/// One target.
pub(super) struct TcpTarget {
    resolved: Resolved,
    link: Link,
    backoff: Backoff,
    pending: VecDeque<u8>,
    /// Bytes left of each waiting datagram, its newline included; the first may be sent in part.
    left: VecDeque<usize>,
    /// The first one is sent in part.
    is_within: bool,
    accounts: Arc<TargetAccounts>,
}

enum Link {
    /// Not before this monotonic time, ns.
    Down {
        retry_ns: u64,
    },
    Connecting {
        socket: Socket,
        deadline_ns: u64,
    },
    Up(TcpStream),
}

impl TcpTarget {
    pub(super) fn new(address: &str, accounts: Arc<TargetAccounts>) -> Self {
        let seed = address.bytes().fold(1, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(byte));
        Self {
            resolved: Resolved::new(address),
            link: Link::Down { retry_ns: 0 },
            backoff: Backoff::new(BACKOFF_FIRST_NS, BACKOFF_LAST_NS, seed),
            pending: VecDeque::new(),
            left: VecDeque::new(),
            is_within: false,
            accounts,
        }
    }

    /// Puts a batch behind what waits.
    pub(super) fn queue(&mut self, batch: &TapBatch) {
        for datagram in batch.datagrams() {
            let bytes = datagram.len() + 1;
            let is_full = REPEATER_PENDING_BYTES_MAX < self.pending.len() + bytes
                || REPEATER_PENDING_DATAGRAMS_MAX <= self.left.len();
            if is_full {
                self.accounts.add_dropped(Cause::PendingFull, 1);
            } else {
                self.pending.extend(datagram);
                self.pending.push_back(b'\n');
                self.left.push_back(bytes);
            }
        }
    }

    /// What its next step waits for.
    pub(super) fn awaited(&self) -> Option<PollFd<'_>> {
        match &self.link {
            Link::Connecting { socket, .. } => Some(PollFd::new(socket, PollFlags::OUT)),
            // The peer's close is an end of input.
            Link::Up(stream) if self.is_idle() => Some(PollFd::new(stream, PollFlags::IN)),
            Link::Up(stream) => Some(PollFd::new(stream, PollFlags::IN | PollFlags::OUT)),
            Link::Down { .. } => None,
        }
    }

    /// How long nothing is to be done, if nothing happens meanwhile.
    pub(super) fn pause(&self, now_ns: u64) -> Duration {
        match self.link {
            Link::Down { retry_ns } if !self.is_idle() => {
                // A millisecond at least: a look-up that runs has no descriptor to wait for.
                Duration::from_nanos(retry_ns.saturating_sub(now_ns).max(NS_PER_S / 1_000))
            }
            _ => Duration::MAX,
        }
    }

    /// Connects and sends as far as it goes without waiting.
    pub(super) fn drive(&mut self, now_ns: u64) {
        if let Link::Down { retry_ns } = self.link
            && retry_ns <= now_ns
            && !self.is_idle()
        {
            self.connect(now_ns);
        }
        if let Link::Connecting { .. } = self.link {
            self.look_at_connect(now_ns);
        }
        self.look_for_close(now_ns);
        self.write(now_ns);
    }

    /// A peer that has closed takes nothing more, though its kernel would.
    fn look_for_close(&mut self, now_ns: u64) {
        let Link::Up(stream) = &mut self.link else { return };
        // No statsd answers; what another peer says is not of interest.
        match stream.read(&mut [0; 512]) {
            Ok(0) => self.fail(now_ns),
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(_) => self.fail(now_ns),
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.left.is_empty()
    }

    /// The daemon ends: what waits is dropped.
    pub(super) fn give_up(&mut self) {
        let datagrams = self.left.len() as u64;
        if datagrams != 0 {
            // The books of the last interval are closed already.
            let target = &self.accounts.name;
            warn!(target, datagrams, "last datagrams not repeated: the target does not take them");
        }
        self.accounts.add_dropped(Cause::Disconnected, datagrams);
        self.left.clear();
        self.pending.clear();
    }

    fn connect(&mut self, now_ns: u64) {
        let Some(address) = self.resolved.addresses(now_ns).first().copied() else {
            return self.fail(now_ns);
        };
        match begin_connect(address) {
            Ok(socket) => {
                self.link = Link::Connecting { socket, deadline_ns: now_ns + CONNECT_NS };
            }
            Err(_) => self.fail(now_ns),
        }
    }

    fn look_at_connect(&mut self, now_ns: u64) {
        let Link::Connecting { socket, deadline_ns } = &self.link else { return };
        let is_refused = !matches!(socket.take_error(), Ok(None));
        // Only a connection that is made has a peer.
        let is_made = socket.peer_addr().is_ok();
        if is_refused || (!is_made && *deadline_ns <= now_ns) {
            return self.fail(now_ns);
        }
        if is_made {
            let down = Link::Down { retry_ns: now_ns };
            if let Link::Connecting { socket, .. } = std::mem::replace(&mut self.link, down) {
                self.link = Link::Up(socket.into());
                self.backoff.reset();
            }
        }
    }

    fn write(&mut self, now_ns: u64) {
        while !self.pending.is_empty() {
            let Link::Up(stream) = &mut self.link else { return };
            let (head, _) = self.pending.as_slices();
            match stream.write(head) {
                Ok(0) => return self.fail(now_ns),
                Ok(bytes) => self.record(bytes),
                Err(error) if is_passing(&error) => return,
                Err(_) => return self.fail(now_ns),
            }
        }
    }

    /// Notes that the kernel took `bytes`.
    fn record(&mut self, mut bytes: usize) {
        self.pending.drain(..bytes);
        while let Some(left) = self.left.front_mut() {
            if bytes < *left {
                *left -= bytes;
                self.is_within |= 0 < bytes;
                return;
            }
            bytes -= *left;
            self.left.pop_front();
            self.is_within = false;
            self.accounts.add_sent(1);
        }
    }

    /// The connection is no more, or never was.
    fn fail(&mut self, now_ns: u64) {
        self.link = Link::Down { retry_ns: now_ns + self.backoff.delay_ns() };
        if std::mem::take(&mut self.is_within)
            && let Some(left) = self.left.pop_front()
        {
            self.pending.drain(..left);
            self.accounts.add_dropped(Cause::Disconnected, 1);
        }
    }
}

/// Whether an operation is to be tried again at the next occasion.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn begin_connect(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}
