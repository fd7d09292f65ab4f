//! Accepts connections and deals them out to the workers, on a thread of its own.
//!
//! A worker never accepts: what a flood of connections costs, it costs here. The worker with the
//! fewest connections gets the next one. At the cap a newcomer is closed at once and counted; the
//! log says so once a minute at the most, however many there are.
//!
//! Peers that vanish without a word are found by keep-alive, set here; silence is the workers'
//! business (`connections`).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tracing::warn;

use super::connections::StreamInbox;
use super::listener::OpenStream;
use crate::clock::{NS_PER_S, monotonic_ns};
use crate::ingest::worker::WorkerSignals;
use crate::sys::WakeUp;

/// Connections taken of one listener before the others, and the stop, are looked at again: a full
/// backlog.
const TURN_CONNECTIONS: usize = 1_024;

/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// Time between two such questions, and how many stay unanswered before the connection ends.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;

/// Time between two warnings of one kind, ns.
const WARNING_NS: u64 = 60 * NS_PER_S;

/// What the acceptor counts; numbers that only grow.
#[derive(Debug, Default)]
pub struct AcceptorCounts {
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl AcceptorCounts {
    /// Names below `<prefixStats>.floe.` and numbers.
    #[must_use]
    pub fn read(&self) -> [(&'static str, u64); 3] {
        [
            ("connections_accepted", self.accepted.load(Ordering::Relaxed)),
            ("connections_refused", self.refused.load(Ordering::Relaxed)),
            ("accept_errors", self.failed.load(Ordering::Relaxed)),
        ]
    }
}

/// A worker as the acceptor sees it.
#[derive(Clone, Debug)]
pub struct StreamWorker {
    /// Where its connections go.
    pub inbox: Arc<StreamInbox>,
    /// Wakes it.
    pub signals: Arc<WorkerSignals>,
}

/// The acceptor's thread. Dropped, it ends; what the kernel has accepted for us goes to the workers
/// first, for its lines may be there already.
#[derive(Debug)]
pub struct Acceptor {
    stop: Arc<WakeUp>,
    counts: Arc<AcceptorCounts>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Accepts at `streams` for `workers`, at most `connections_max` at a time.
    ///
    /// # Errors
    /// The kernel's, when it refuses a thread or a descriptor.
    pub fn start(
        streams: Vec<Arc<OpenStream>>,
        workers: Vec<StreamWorker>,
        connections_max: usize,
    ) -> io::Result<Self> {
        let stop = Arc::new(WakeUp::new()?);
        let counts = Arc::new(AcceptorCounts::default());
        let desk = Desk {
            streams,
            workers,
            connections_max,
            counts: Arc::clone(&counts),
            refusal_told_ns: None,
            failure_told_ns: None,
        };
        let seen = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || desk.serve(&seen))?;
        Ok(Self { stop, counts, thread: Some(thread) })
    }

    /// What it counts.
    #[must_use]
    pub fn counts(&self) -> Arc<AcceptorCounts> {
        Arc::clone(&self.counts)
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop.wake();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What the thread works with.
struct Desk {
    streams: Vec<Arc<OpenStream>>,
    workers: Vec<StreamWorker>,
    connections_max: usize,
    counts: Arc<AcceptorCounts>,
    refusal_told_ns: Option<u64>,
    failure_told_ns: Option<u64>,
}

impl Desk {
    fn serve(mut self, stop: &WakeUp) {
        loop {
            let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(stop, PollFlags::IN)];
            fds.extend(self.streams.iter().map(|stream| PollFd::new(&**stream, PollFlags::IN)));
            // An interrupted wait is looked at like any other.
            poll(&mut fds, None).ok();
            let is_stopping = !fds[0].revents().is_empty();
            drop(fds);
            // Every listener has its turn, also behind one that fails.
            let failures =
                (0..self.streams.len()).filter(|index| !self.accept_turn(*index)).count();
            if is_stopping {
                return;
            }
            if 0 < failures {
                stop.wait(ACCEPT_PAUSE);
            }
        }
    }

    /// Accepts what waits at one listener; `false` if the kernel has not enough left for it.
    fn accept_turn(&mut self, index: usize) -> bool {
        for _ in 0..TURN_CONNECTIONS {
            match self.streams[index].accept() {
                Ok(connection) => self.deal(connection),
                Err(Errno::AGAIN) => return true,
                // Gone before we came, or a signal.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(error) => {
                    self.counts.failed.fetch_add(1, Ordering::Relaxed);
                    if is_due(&mut self.failure_told_ns) {
                        warn!(%error, "connection not accepted: raise ulimit -n if out of files");
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Gives a connection to the worker with the fewest.
    fn deal(&mut self, connection: OwnedFd) {
        let open: usize = self.workers.iter().map(|worker| worker.inbox.open()).sum();
        if self.connections_max <= open {
            return self.refuse("connection refused: as many as streams.connections_max are open");
        }
        let socket = SockRef::from(&connection);
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES);
        // A Unix peer cannot vanish, and its socket refuses the options.
        socket.set_tcp_keepalive(&keepalive).ok();
        let least = self.workers.iter().min_by_key(|worker| worker.inbox.open());
        let Some(worker) = least.cloned() else { return };
        if worker.inbox.put(connection).is_err() {
            return self.refuse("connection refused: the inbox of a worker is full");
        }
        worker.signals.wake();
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
    }

    fn refuse(&mut self, why: &'static str) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        if is_due(&mut self.refusal_told_ns) {
            warn!(refused = self.counts.refused.load(Ordering::Relaxed), "{why}");
        }
    }
}

/// Whether the last warning is long enough ago; notes this one.
fn is_due(told_ns: &mut Option<u64>) -> bool {
    let now_ns = monotonic_ns();
    let is_due = told_ns.is_none_or(|told_ns| told_ns + WARNING_NS <= now_ns);
    if is_due {
        *told_ns = Some(now_ns);
    }
    is_due
}
