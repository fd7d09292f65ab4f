//! The one loop of a worker, its start and its stop.
//!
//! A worker is one pinned thread with the sockets given to it, one receiver and one sink. Its loop
//! is: wait, read the clock, begin a batch, hand over what arrived, end the batch. The sink learns
//! of a change of generation at the beginning of a batch, so `WorkerSignals::wake` bounds how long
//! an idle worker takes to notice one: about 4 ms.
//!
//! **Drain.** After `WorkerSignals::stop` the worker stops its multishots, takes what they had
//! received, empties the sockets until `EAGAIN` (one second at the most, for senders may go on), and
//! ends with one empty batch. The sink comes back by the thread's join handle. After
//! `WorkerSignals::hand_over` it leaves the sockets as they are once its multishots have ended:
//! somebody else goes on reading them.
//!
//! **Held.** A worker with `WorkerSignals::held` gets everything ready, ring and buffers, reports that,
//! and touches no socket before `WorkerSignals::begin`: somebody else reads until then, and the time in
//! which nobody does is that of a wake-up. One that is stopped before it began leaves the sockets alone.
//!
//! No allocation after the start, no lock, one reading of the clock per batch, no log per datagram.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use floe_core::config::settings::{IngestMode, StreamLimits};
use rustix::event::epoll;
use rustix::process::Pid;
use rustix::thread::gettid;
use tracing::error;

use super::recvmmsg::Recvmmsg;
use super::sampling::Sampling;
use super::stream::connections::{Connections, StreamInbox};
use super::{DatagramSink, Receive, ReceiveCounts};
use crate::clock::{NS_PER_S, monotonic_ns};
use crate::courtesy::{is_flush_late, pause_for_flush};
use crate::cpu;
use crate::ring::probe::{Refusal, attempt};
use crate::ring::recv::RingReceive;
use crate::sys::WakeUp;

/// Longest drain, ns.
const DRAIN_NS_MAX: u64 = NS_PER_S;

/// Failed waits in a row after which a receiver is given up.
const WAIT_FAILURES_MAX: u32 = 16;

/// Pause between two attempts to build a ring while memory is short.
const RING_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Longest sleep of a worker that is held.
const HELD_LOOK: Duration = Duration::from_secs(1);

/// How a worker is told to look up, and to stop.
#[derive(Debug)]
pub struct WorkerSignals {
    wake_up: WakeUp,
    is_held: AtomicBool,
    /// When it began to receive, ns; 0 = not yet.
    began_ns: AtomicU64,
    is_stopping: AtomicBool,
    is_handing_over: AtomicBool,
}

impl WorkerSignals {
    /// Signals of one worker, none given.
    ///
    /// # Errors
    /// The kernel's, when the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            wake_up: WakeUp::new()?,
            is_held: AtomicBool::new(false),
            began_ns: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
            is_handing_over: AtomicBool::new(false),
        })
    }

    /// Signals of a worker that receives nothing before [`WorkerSignals::begin`].
    ///
    /// # Errors
    /// As [`WorkerSignals::new`].
    pub fn held() -> io::Result<Self> {
        Ok(Self { is_held: AtomicBool::new(true), ..Self::new()? })
    }

    /// Lets a held worker receive; nothing where it was not held.
    pub fn begin(&self) {
        // Release: pairs with the Acquire in `wait_to_begin`; what was done to the sockets before is
        // done when they are read.
        self.is_held.store(false, Ordering::Release);
        self.wake_up.wake();
    }

    /// When the worker began to receive, monotonic, ns; `None` before.
    #[must_use]
    pub fn began_ns(&self) -> Option<u64> {
        Some(self.began_ns.load(Ordering::Relaxed)).filter(|began_ns| *began_ns != 0)
    }

    /// Waits as long as the worker is held; whether it may receive.
    fn wait_to_begin(&self) -> bool {
        // Acquire: pairs with the Release in `begin`.
        while self.is_held.load(Ordering::Acquire) {
            if self.is_stopping() {
                return false;
            }
            if self.wake_up.wait(HELD_LOOK) {
                self.wake_up.clear();
            }
        }
        self.began_ns.store(monotonic_ns(), Ordering::Relaxed);
        true
    }

    /// Makes the worker begin a batch, whether or not there are datagrams.
    pub fn wake(&self) {
        self.wake_up.wake();
    }

    /// Makes the worker drain and end.
    pub fn stop(&self) {
        // Release: pairs with the Acquire in `is_stopping`.
        self.is_stopping.store(true, Ordering::Release);
        self.wake_up.wake();
    }

    /// Makes the worker end for one that goes on with its sockets: what lies in them stays there, and
    /// its connections are left in its inbox.
    pub fn hand_over(&self) {
        // Published by the Release of the stop.
        self.is_handing_over.store(true, Ordering::Relaxed);
        self.stop();
    }

    fn is_stopping(&self) -> bool {
        // Acquire: pairs with the Release in `stop`; what its caller did before is visible.
        self.is_stopping.load(Ordering::Acquire)
    }
}

/// How a worker receives.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiveOptions {
    /// Which path, and whether the other may stand in.
    pub mode: IngestMode,
    /// Whether the sockets give trains ([`super::udp::coalesce_all`]).
    pub has_trains: bool,
    /// Wait as on a kernel without `min_wait` (before 6.12).
    pub forgo_min_wait: bool,
    /// Whether every datagram is a sample for `floe top`: then they are received by `recvmmsg`.
    pub samples_all: bool,
    /// Pretend that the kernel refuses the ring with this error number: for tests.
    pub refuse_ring_with: Option<i32>,
}

/// What a worker is started with.
#[derive(Debug)]
pub struct WorkerPlan {
    /// Its index, also in the name of its thread: `ingest-<index>`.
    pub index: usize,
    /// The CPU to pin it to.
    pub cpu: Option<usize>,
    /// Its sockets, at most `LISTENERS_MAX`, in blocking mode.
    pub sockets: Vec<Arc<UdpSocket>>,
    /// The smallest effective receive buffer among them, bytes.
    pub receive_buffer_bytes: usize,
    /// How it receives.
    pub options: ReceiveOptions,
    /// How it is woken and stopped.
    pub signals: Arc<WorkerSignals>,
    /// Where its stream connections come from; `None` without stream listeners.
    pub streams: Option<StreamPlan>,
}

/// A worker's part in the stream listeners.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// Where the acceptor leaves connections.
    pub inbox: Arc<StreamInbox>,
    /// What they may use.
    pub limits: StreamLimits,
}

/// The path a worker receives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceivePath {
    /// Multishot receives of io_uring.
    IoUring,
    /// `recvmmsg` and `ppoll`.
    Recvmmsg,
}

impl ReceivePath {
    /// As settings and logs have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Recvmmsg => "recvmmsg",
        }
    }
}

/// What a worker reports once it is ready to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its index.
    pub worker: usize,
    /// Its thread, by the kernel's id.
    pub thread: Pid,
    /// The path taken.
    pub path: ReceivePath,
    /// The CPU it is pinned to; `None` if it was given none, or the kernel refused.
    pub cpu: Option<usize>,
    /// Why the ring was refused, if it was.
    pub refusal: Option<Refusal>,
}

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings allow io_uring alone.
    #[error("{0}, or set ingest to \"auto\"")]
    RingRefused(#[source] Refusal),
    /// The memory for the buffers is not to be had.
    #[error("cannot map receive buffers: {0}")]
    Buffers(#[source] io::Error),
}

/// Starts a worker on a thread of its own, which returns `sink` when it ends.
///
/// Exactly one report is sent on `started`, before the first batch, and before the wait of a worker that is
/// held: the channel needs room for one per worker, or a reader. After an error the thread ends at once.
///
/// # Errors
/// The kernel's, when it refuses a thread.
pub fn spawn<S: DatagramSink + Send + 'static>(
    plan: WorkerPlan,
    mut sink: S,
    started: Sender<Result<Started, StartError>>,
) -> io::Result<JoinHandle<S>> {
    std::thread::Builder::new().name(format!("ingest-{}", plan.index)).spawn(move || {
        work(&plan, &mut sink, &started);
        sink
    })
}

fn work(
    plan: &WorkerPlan,
    sink: &mut impl DatagramSink,
    started: &Sender<Result<Started, StartError>>,
) {
    let cpu = plan.cpu.filter(|cpu| cpu::pin(*cpu).is_ok());
    // A report nobody waits for any more is no reason not to work.
    let report = |result| drop(started.send(result));
    let mut connections = match &plan.streams {
        Some(streams) => Connections::new(Arc::clone(&streams.inbox), streams.limits),
        None => Connections::none(),
    };
    let epoll = plan.streams.is_some().then(|| epoll::create(epoll::CreateFlags::CLOEXEC));
    let direct = epoll.transpose().map_err(io::Error::from);
    let epoll = match direct {
        Ok(epoll) => epoll,
        Err(error) => return report(Err(StartError::Buffers(error))),
    };
    let (wake_up, bytes) = (&plan.signals.wake_up, plan.receive_buffer_bytes);
    let has_trains = plan.options.has_trains;
    let mut direct = match Recvmmsg::new(&plan.sockets, wake_up, epoll.as_ref(), bytes, has_trains)
    {
        Ok(direct) => direct.sampling_all(plan.options.samples_all),
        Err(error) => return report(Err(StartError::Buffers(error))),
    };
    let path = ReceivePath::Recvmmsg;
    let started = Started { worker: plan.index, thread: gettid(), path, cpu, refusal: None };
    let ring = match build_ring(plan) {
        None => {
            report(Ok(started));
            None
        }
        Some(Err(refusal)) if plan.options.mode == IngestMode::IoUring => {
            return report(Err(StartError::RingRefused(refusal)));
        }
        Some(Err(refusal)) => {
            report(Ok(Started { refusal: Some(refusal), ..started }));
            None
        }
        Some(Ok(ring)) => {
            report(Ok(Started { path: ReceivePath::IoUring, ..started }));
            Some(ring)
        }
    };
    if !plan.signals.wait_to_begin() {
        return;
    }
    let is_served = match ring {
        None => false,
        Some(mut ring) => {
            let window = Some(&mut direct);
            let is_served = serve(plan, &mut ring, window, &mut connections, sink);
            empty_ring(&mut ring, &mut connections, sink);
            connections.set_all_pending();
            is_served
        }
    };
    if !is_served {
        serve(plan, &mut direct, None, &mut connections, sink);
    }
    if plan.signals.is_handing_over.load(Ordering::Relaxed) {
        sink.begin_batch(monotonic_ns());
        connections.leave_all();
        sink.end_batch();
    } else {
        empty_sockets(&mut direct, &mut connections, sink, DRAIN_NS_MAX);
    }
}

/// The ring of this worker; `None` where the settings do not want one.
fn build_ring(plan: &WorkerPlan) -> Option<Result<RingReceive<'_>, Refusal>> {
    if plan.options.mode == IngestMode::Recvmmsg || plan.options.samples_all {
        return None;
    }
    let signals = &plan.signals;
    let make = |flags| match plan.options.refuse_ring_with {
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => {
            let bytes = plan.receive_buffer_bytes;
            let has_trains = plan.options.has_trains;
            RingReceive::build(flags, &plan.sockets, &signals.wake_up, bytes, has_trains)
        }
    };
    let pause = || {
        // A wake-up that comes now is answered by the first batch, which follows anyway.
        if signals.wake_up.wait(RING_RETRY_PAUSE) {
            signals.wake_up.clear();
        }
        !signals.is_stopping()
    };
    let mut ring = attempt(make, pause);
    if let Ok(ring) = &mut ring
        && plan.options.forgo_min_wait
    {
        ring.forgo_min_wait();
    }
    Some(ring)
}

/// The loop; true when it ends because of a stop, false when the receiver fails.
///
/// `window`: what looks at senders now and then, beside a receiver that does not.
fn serve(
    plan: &WorkerPlan,
    receiver: &mut impl Receive,
    mut window: Option<&mut Recvmmsg<'_>>,
    connections: &mut Connections,
    sink: &mut impl DatagramSink,
) -> bool {
    // The first batch comes at once, so that a wake-up before the start is answered.
    let mut now_ns = monotonic_ns();
    take_batch(receiver, connections, sink, now_ns);
    let (mut failures, mut sampling) = (0, Sampling::new());
    while !plan.signals.is_stopping() {
        match receiver.wait(now_ns, connections) {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                let counts = ReceiveCounts { receive_errors: 1, ..Default::default() };
                sink.receive_counts(&counts);
                if failures == WAIT_FAILURES_MAX {
                    error!(worker = plan.index, %error, "receiver given up");
                    return false;
                }
            }
        }
        now_ns = monotonic_ns();
        let datagrams = take_batch(receiver, connections, sink, now_ns);
        if is_flush_late(now_ns) {
            // Somebody may want the worker meanwhile: left for the receiver, who answers it.
            plan.signals.wake_up.wait(pause_for_flush(monotonic_ns() - now_ns));
        }
        if let Some(window) = &mut window
            && datagrams != 0
            && sampling.is_sample(now_ns)
        {
            sink.begin_batch(monotonic_ns());
            window.window(sink);
            sink.receive_counts(&window.take_counts());
            sink.end_batch();
        }
    }
    true
}

/// One batch from beginning to end; returns what [`Receive::batch`] does.
fn take_batch(
    receiver: &mut impl Receive,
    connections: &mut Connections,
    sink: &mut impl DatagramSink,
    now_ns: u64,
) -> usize {
    sink.begin_batch(now_ns);
    connections.begin_batch(now_ns);
    let datagrams = receiver.batch(now_ns, connections, sink);
    connections.end_batch(now_ns);
    for counts in [receiver.take_counts(), connections.take_counts()] {
        if counts != ReceiveCounts::default() {
            sink.receive_counts(&counts);
        }
    }
    sink.end_batch();
    datagrams
}

/// Cancels the requests of `ring` and takes what it had received before.
fn empty_ring(
    ring: &mut RingReceive<'_>,
    connections: &mut Connections,
    sink: &mut impl DatagramSink,
) {
    ring.cease();
    let mut now_ns = monotonic_ns();
    let deadline_ns = now_ns + DRAIN_NS_MAX;
    while !ring.is_ceased() && now_ns < deadline_ns && ring.wait(now_ns, connections).is_ok() {
        now_ns = monotonic_ns();
        take_batch(ring, connections, sink, now_ns);
    }
}

/// Takes what sockets and connections still hold, `limit_ns` long at the most, closes the
/// connections and ends with an empty batch.
fn empty_sockets(
    direct: &mut impl Receive,
    connections: &mut Connections,
    sink: &mut impl DatagramSink,
    limit_ns: u64,
) {
    let mut now_ns = monotonic_ns();
    let deadline_ns = now_ns + limit_ns;
    while 0 < take_batch(direct, connections, sink, now_ns) && now_ns < deadline_ns {
        now_ns = monotonic_ns();
    }
    sink.begin_batch(monotonic_ns());
    connections.remove_all();
    let counts = connections.take_counts();
    if counts != ReceiveCounts::default() {
        sink.receive_counts(&counts);
    }
    sink.end_batch();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Tally {
        batches: u32,
        datagrams: u32,
        receive_errors: u64,
    }

    impl DatagramSink for Tally {
        fn begin_batch(&mut self, _now_ns: u64) {}
        fn datagram(&mut self, _buffer: &[u8], _len: usize) {
            self.datagrams += 1;
        }
        fn lines(&mut self, _buffer: &[u8], _len: usize) {}
        fn receive_counts(&mut self, counts: &ReceiveCounts) {
            self.receive_errors += counts.receive_errors;
        }
        fn end_batch(&mut self) {
            self.batches += 1;
        }
    }

    /// Fails but once, and stops the worker at its thirtieth wait.
    struct Failing {
        signals: Arc<WorkerSignals>,
        waits: u32,
        succeeds_at: u32,
    }

    impl Receive for Failing {
        fn wait(&mut self, _now_ns: u64, _connections: &mut Connections) -> io::Result<()> {
            self.waits += 1;
            if self.waits == 30 {
                self.signals.stop();
            }
            if self.waits == self.succeeds_at {
                return Ok(());
            }
            Err(io::Error::from_raw_os_error(libc::EBADF))
        }

        fn batch(
            &mut self,
            _now_ns: u64,
            _connections: &mut Connections,
            _sink: &mut impl DatagramSink,
        ) -> usize {
            0
        }

        fn take_counts(&mut self) -> ReceiveCounts {
            ReceiveCounts::default()
        }
    }

    fn serve_failing(succeeds_at: u32) -> (bool, Tally) {
        let signals = Arc::new(WorkerSignals::new().unwrap());
        let plan = WorkerPlan {
            index: 0,
            cpu: None,
            sockets: Vec::new(),
            receive_buffer_bytes: 1 << 20,
            options: ReceiveOptions::default(),
            signals: Arc::clone(&signals),
            streams: None,
        };
        let mut tally = Tally::default();
        let mut receiver = Failing { signals, waits: 0, succeeds_at };
        (serve(&plan, &mut receiver, None, &mut Connections::none(), &mut tally), tally)
    }

    #[test]
    fn receiver_that_only_fails_is_given_up() {
        let (is_served, tally) = serve_failing(0);
        assert!(!is_served);
        assert_eq!((tally.receive_errors, tally.batches), (16, 16));
    }

    #[test]
    fn receiver_that_recovers_goes_on_until_the_stop() {
        let (is_served, tally) = serve_failing(15);
        assert!(is_served);
        assert_eq!((tally.receive_errors, tally.batches), (29, 31));
    }

    /// A socket whose sender never ends.
    struct Endless;

    impl Receive for Endless {
        fn wait(&mut self, _now_ns: u64, _connections: &mut Connections) -> io::Result<()> {
            Ok(())
        }

        fn batch(
            &mut self,
            _now_ns: u64,
            _connections: &mut Connections,
            sink: &mut impl DatagramSink,
        ) -> usize {
            sink.datagram(&[0; 64], 0);
            1
        }

        fn take_counts(&mut self) -> ReceiveCounts {
            ReceiveCounts::default()
        }
    }

    #[test]
    fn drain_ends_though_senders_go_on() {
        let before_ns = monotonic_ns();
        let mut tally = Tally::default();
        empty_sockets(&mut Endless, &mut Connections::none(), &mut tally, 5_000_000);
        assert!(before_ns + 5_000_000 <= monotonic_ns());
        assert_eq!(tally.batches, tally.datagrams + 1, "the last batch is empty");
        assert!(1 < tally.datagrams);
    }
}
