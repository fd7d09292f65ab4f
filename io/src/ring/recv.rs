//! Multishot receives: one request per socket that goes on yielding datagrams.
//!
//! `RingReceive` stands between the sockets and the worker's loop. `wait` re-arms what has ended,
//! submits and sleeps in one system call; `batch` walks the completions, hands each datagram to the
//! sink and gives its buffer back.
//!
//! A multishot ends whenever a completion comes without `F_MORE`, for any reason, so every
//! completion is asked. `ENOBUFS` is normal under load: all buffers are full, the datagrams wait in
//! the socket. An empty datagram ends the multishot too, and is a datagram. After
//! `ERRORS_MAX` other errors in a row a socket rests for `REST_NS`, so that a broken one costs
//! a few system calls per second and not a core.
//!
//! **The wait.** `want` is more than one multishot can complete at a wake-up, so the kernel sleeps
//! for `min_wait` and then returns with what there is; if there is nothing it goes on sleeping until
//! the first completion or the idle limit. Where the kernel has no `min_wait` (before 6.12) the same
//! is done in two calls: sleep until the first completion, then sleep `min_wait` more. Right after a
//! request was armed again there may be a queue behind it, so the worker then asks for one
//! completion and no `min_wait`: else a sender of empty datagrams, each of which ends the multishot,
//! would slow the worker to one datagram per `min_wait`.
//!
//! **Connections** are read the same way, into the same buffers. They come and go: one is armed when
//! the worker's table says that it is pending, and its slot is given back by the completion that ends
//! its request, so no completion ever names a connection that has taken its place.
//!
//! The wake-up is a multishot poll on an eventfd. Sockets and wake-up always fit the submission
//! queue; connections are armed behind them, and where they are more than it holds they are submitted
//! in between. Sender addresses are not received.
//!
//! **Trains** (`UDP_GRO`) need a control message, hence `RecvMsgMulti`: the kernel then writes a header
//! and that message before each payload. It costs about a tenth more per datagram.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use floe_core::limits::{DATAGRAM_BYTES_MAX, LISTENERS_MAX};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;

use super::buffers::{BUFFER_GROUP, BufferRing};
use super::held::{Held, TRAIN_HEAD_BYTES};
use super::probe::{RingFlags, SUBMISSION_ENTRIES, build};
use super::restrict::restrict_and_enable;
use super::user_data::Request;
use crate::clock::NS_PER_S;
use crate::ingest::pace::{Pace, PaceBounds};
use crate::ingest::recvmmsg::empty_header;
use crate::ingest::stream::connections::Connections;
use crate::ingest::{DatagramSink, Receive, ReceiveCounts, train};
use crate::sys::WakeUp;

/// Completions a wait asks for (docs/references.md K3).
const WANT: usize = 64;

/// Longest sleep of an idle worker.
const IDLE_LIMIT: Duration = Duration::from_secs(2);

/// Longest wait for one step of the cancellation.
const CEASE_LIMIT: Duration = Duration::from_millis(100);

/// Bounds of `min_wait`; it aims for half the buffers.
const PACE: PaceBounds = PaceBounds { shortest_us: 200, longest_us: 4_000, aim_datagrams: 128 };

const _: () = assert!(PACE.aim_datagrams <= super::buffers::BUFFER_COUNT as usize / 2);

/// Errors in a row after which a socket rests.
const ERRORS_MAX: u32 = 8;

/// How long it rests, ns.
const REST_NS: u64 = NS_PER_S;

// One request per socket, the wake-up's and the cancellation.
const _: () = assert!(LISTENERS_MAX + 2 <= SUBMISSION_ENTRIES as usize);

/// Whether the kernel holds a socket's receive request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Multishot {
    /// It does.
    Armed,
    /// It does not; the next wait arms it.
    Ended,
    /// It does not, and shall not before this monotonic time.
    Resting { until_ns: u64 },
}

/// What one sleep asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sleep {
    /// Completions that end it.
    want: usize,
    /// Time after which one is enough, µs.
    min_wait_us: u32,
}

/// One socket and its request.
#[derive(Debug)]
struct Source<'s> {
    fd: BorrowedFd<'s>,
    multishot: Multishot,
    errors_in_a_row: u32,
}

/// The receiver of one worker over io_uring.
pub(crate) struct RingReceive<'s> {
    // First, hence dropped first: the kernel writes to the buffers while the ring is open.
    ring: IoUring,
    buffers: BufferRing,
    /// What every receive asks for, where trains may come; the kernel has its address.
    header: Option<Box<libc::msghdr>>,
    sources: Vec<Source<'s>>,
    wake_up: &'s WakeUp,
    is_wake_up_armed: bool,
    /// Connections whose request the kernel holds.
    streams_armed: usize,
    is_ceasing: bool,
    has_min_wait: bool,
    /// Completions since the last wait that was one.
    since_wait: usize,
    pace: Pace,
    counts: ReceiveCounts,
}

impl<'s> RingReceive<'s> {
    /// Builds ring and buffers on the calling thread, the only one that may use them.
    ///
    /// `receive_buffer_bytes`: the smallest effective one of the sockets, which must be in blocking
    /// mode: io_uring does not wait at a non-blocking one. `has_trains`: they were made to give them.
    /// # Errors
    /// The kernel's refusal, by number.
    pub(crate) fn build(
        flags: RingFlags,
        sockets: &'s [Arc<UdpSocket>],
        wake_up: &'s WakeUp,
        receive_buffer_bytes: usize,
        has_trains: bool,
    ) -> io::Result<Self> {
        assert!(sockets.len() <= LISTENERS_MAX, "the submission queue holds a request per socket");
        let ring = build(flags)?;
        let header = has_trains.then(|| {
            let mut header = Box::new(empty_header());
            header.msg_controllen = train::CONTROL_BYTES as _;
            header
        });
        let mut buffers = BufferRing::new(if has_trains { TRAIN_HEAD_BYTES } else { 0 })?;
        buffers.register(&ring.submitter())?;
        restrict_and_enable(&ring)?;
        let source = |socket: &'s Arc<UdpSocket>| Source {
            fd: socket.as_fd(),
            multishot: Multishot::Ended,
            errors_in_a_row: 0,
        };
        Ok(Self {
            has_min_wait: ring.params().is_feature_min_timeout(),
            ring,
            buffers,
            header,
            sources: sockets.iter().map(source).collect(),
            wake_up,
            is_wake_up_armed: false,
            streams_armed: 0,
            is_ceasing: false,
            since_wait: 0,
            pace: Pace::new(PACE, receive_buffer_bytes),
            counts: ReceiveCounts::default(),
        })
    }

    /// Waits as on a kernel before 6.12.
    pub(crate) fn forgo_min_wait(&mut self) {
        self.has_min_wait = false;
    }

    /// Cancels all requests; datagrams received before that still come by `batch`.
    pub(crate) fn cease(&mut self) {
        self.is_ceasing = true;
        if !self.make_room().unwrap_or(false) {
            // A ring that takes no request any more: its end cancels what it has.
            return;
        }
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        push(&mut self.ring.submission(), &cancel.user_data(Request::Cancel.encode()));
    }

    /// Whether the kernel holds no request any more, hence no datagram that we have not seen.
    pub(crate) fn is_ceased(&self) -> bool {
        !self.is_wake_up_armed
            && self.streams_armed == 0
            && self.sources.iter().all(|source| source.multishot != Multishot::Armed)
    }

    /// Queues a request for every socket that has none, and the wake-up; says how to sleep then.
    ///
    /// What a full queue has no room for is armed by the next wait: this one submits it.
    fn arm(&mut self, now_ns: u64) -> Sleep {
        let mut has_armed = false;
        let mut queue = self.ring.submission();
        for (index, source) in self.sources.iter_mut().enumerate() {
            let is_due = match source.multishot {
                Multishot::Armed => false,
                Multishot::Ended => true,
                Multishot::Resting { until_ns } => until_ns <= now_ns,
            };
            if is_due && !queue.is_full() {
                let index = u32::try_from(index).expect("at most LISTENERS_MAX");
                let fd = Fd(source.fd.as_raw_fd());
                let receive = match &self.header {
                    None => opcode::RecvMulti::new(fd, BUFFER_GROUP).build(),
                    Some(header) => {
                        opcode::RecvMsgMulti::new(fd, &raw const **header, BUFFER_GROUP).build()
                    }
                };
                push(&mut queue, &receive.user_data(Request::Receive(index).encode()));
                source.multishot = Multishot::Armed;
                has_armed = true;
            }
        }
        if !self.is_wake_up_armed && !queue.is_full() {
            let readable = u32::try_from(libc::POLLIN).expect("a positive constant");
            let poll = opcode::PollAdd::new(Fd(self.wake_up.as_fd().as_raw_fd()), readable);
            push(&mut queue, &poll.multi(true).build().user_data(Request::WakeUp.encode()));
            self.is_wake_up_armed = true;
        }
        if has_armed {
            return Sleep { want: 1, min_wait_us: 0 };
        }
        // A train is one completion and fills one buffer, whatever it holds.
        self.pace.record(std::mem::take(&mut self.since_wait));
        Sleep { want: WANT, min_wait_us: self.pace.current_us() }
    }

    /// Queues a request for every pending connection; whether there was one.
    ///
    /// Those that the kernel does not take now stay pending.
    /// # Errors
    /// The kernel's, when a full queue cannot be submitted.
    fn arm_streams(&mut self, connections: &mut Connections) -> io::Result<bool> {
        let mut has_pending = false;
        while connections.has_pending() {
            has_pending = true;
            if !self.make_room()? {
                break;
            }
            let Some(slot) = connections.take_pending() else { break };
            let Some(fd) = connections.fd(slot) else { continue };
            let receive = opcode::RecvMulti::new(Fd(fd.as_raw_fd()), BUFFER_GROUP).build();
            let request = receive.user_data(Request::Stream(slot).encode());
            push(&mut self.ring.submission(), &request);
            self.streams_armed += 1;
        }
        Ok(has_pending)
    }

    /// Submits a full queue; false while the kernel takes nothing more.
    ///
    /// # Errors
    /// The kernel's, when it never will.
    fn make_room(&mut self) -> io::Result<bool> {
        if !self.ring.submission().is_full() {
            return Ok(true);
        }
        match self.ring.submit() {
            Ok(_) => Ok(!self.ring.submission().is_full()),
            Err(error) if is_passing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Submits what is queued and sleeps until `want` completions or `limit`.
    fn enter(&self, want: usize, limit: Duration, min_wait_us: u32) -> io::Result<()> {
        let limit = Timespec::from(limit);
        let arguments = SubmitArgs::new().timespec(&limit).min_wait_usec(min_wait_us);
        match self.ring.submitter().submit_with_args(want, &arguments) {
            Ok(_) => Ok(()),
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Receive for RingReceive<'_> {
    fn wait(&mut self, now_ns: u64, connections: &mut Connections) -> io::Result<()> {
        if self.is_ceasing {
            return self.enter(1, CEASE_LIMIT, 0);
        }
        let Sleep { mut want, mut min_wait_us } = self.arm(now_ns);
        if self.arm_streams(connections)? {
            (want, min_wait_us) = (1, 0);
        }
        if self.has_min_wait || min_wait_us == 0 {
            return self.enter(want, IDLE_LIMIT, min_wait_us);
        }
        self.enter(1, IDLE_LIMIT, 0)?;
        self.enter(want, Duration::from_micros(min_wait_us.into()), 0)
    }

    fn batch(
        &mut self,
        now_ns: u64,
        connections: &mut Connections,
        sink: &mut impl DatagramSink,
    ) -> usize {
        let (mut datagrams, mut completions) = (0, 0);
        let mut held = Held::new(self.header.as_deref());
        for completion in self.ring.completion() {
            completions += 1;
            match Request::decode(completion.user_data()) {
                Some(Request::Receive(index)) => {
                    let source = &mut self.sources[index as usize];
                    let received = Completion::of(&completion);
                    source.record(&received, now_ns, &mut self.counts);
                    datagrams += held.take(&received, &mut self.buffers, &mut self.counts, sink);
                }
                Some(Request::Stream(slot)) => {
                    let received = Completion::of(&completion);
                    self.streams_armed -= usize::from(!received.has_more);
                    let buffers = &mut self.buffers;
                    read_stream(slot, &received, now_ns, buffers, connections, sink);
                    self.counts.buffers_exhausted += u64::from(received.result == -libc::ENOBUFS);
                    datagrams += 1;
                }
                Some(Request::WakeUp) => {
                    self.wake_up.clear();
                    self.is_wake_up_armed = cqueue::more(completion.flags());
                }
                Some(Request::Cancel) => {}
                None => self.counts.receive_errors += 1,
            }
        }
        datagrams += held.hand_over(&mut self.buffers, &mut self.counts, sink);
        self.buffers.publish();
        self.since_wait += completions;
        datagrams
    }

    fn take_counts(&mut self) -> ReceiveCounts {
        std::mem::take(&mut self.counts)
    }
}

impl Drop for RingReceive<'_> {
    fn drop(&mut self) {
        // After this the kernel knows no buffer of ours, whatever becomes of the closing ring. Both
        // fail only where there is nothing to take back.
        let submitter = self.ring.submitter();
        let limit = Timespec::from(CEASE_LIMIT);
        drop(submitter.register_sync_cancel(Some(limit), CancelBuilder::any()));
        drop(submitter.unregister_buf_ring(BUFFER_GROUP));
    }
}

/// What a completion of a receive says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) result: i32,
    pub(super) buffer: Option<u16>,
    pub(super) has_more: bool,
}

impl Completion {
    fn of(completion: &cqueue::Entry) -> Self {
        Self {
            result: completion.result(),
            buffer: cqueue::buffer_select(completion.flags()),
            has_more: cqueue::more(completion.flags()),
        }
    }
}

impl Source<'_> {
    /// Notes whether the request goes on, and counts its error.
    fn record(&mut self, completion: &Completion, now_ns: u64, counts: &mut ReceiveCounts) {
        match -completion.result {
            // Cancelled: the drain asked for it.
            libc::ECANCELED => {}
            libc::ENOBUFS => counts.buffers_exhausted += 1,
            ..=0 => self.errors_in_a_row = 0,
            _ => {
                counts.receive_errors += 1;
                self.errors_in_a_row += 1;
            }
        }
        if completion.has_more {
            return;
        }
        if ERRORS_MAX <= self.errors_in_a_row {
            self.errors_in_a_row = 0;
            self.multishot = Multishot::Resting { until_ns: now_ns + REST_NS };
        } else {
            self.multishot = Multishot::Ended;
        }
    }
}

/// Hands what a connection sent to its assembler, and notes how its request ended.
fn read_stream(
    slot: u32,
    completion: &Completion,
    now_ns: u64,
    buffers: &mut BufferRing,
    connections: &mut Connections,
    sink: &mut impl DatagramSink,
) {
    if let Some(id) = completion.buffer {
        let lease = buffers.lease(id);
        if let Ok(len) = usize::try_from(completion.result) {
            // Where trains may come a buffer is a little longer than what an assembler takes.
            let first = len.min(DATAGRAM_BYTES_MAX);
            let (buffer, rest) = (buffers.read(&lease), len - first);
            assert!(rest <= TRAIN_HEAD_BYTES, "the kernel wrote {len} bytes into a buffer");
            connections.read(slot, buffer, first, now_ns, sink);
            if 0 < rest {
                connections.read(slot, &buffer[first..], rest, now_ns, sink);
            }
        }
        buffers.release(lease);
    }
    if completion.has_more {
        return;
    }
    match -completion.result {
        0 => connections.remove(slot, None),
        // Still wanted: the request ended for lack of buffers or turns, or for the drain.
        ..0 | libc::ENOBUFS | libc::ECANCELED => connections.set_pending(slot),
        errno => connections.remove(slot, Some(Errno::from_raw_os_error(errno))),
    }
}

/// Whether the kernel refuses for now: time is up, a signal came, or there are completions to take
/// first. All of it is answered by walking the completions.
fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}

/// Queues one request; the caller knows of room for it.
fn push(queue: &mut squeue::SubmissionQueue<'_>, entry: &squeue::Entry) {
    #[expect(unsafe_code, reason = "a request refers to descriptors and memory by number")]
    // SAFETY:
    // - RecvMulti, RecvMsgMulti and PollAdd hold a file descriptor: one borrowed for 's, which outlives
    //   the ring, or that of a connection, which its table closes only after the completion that ends
    //   the request; the kernel holds the file meanwhile anyway. The memory of both receives is the
    //   registered buffer group, see BufferRing::register;
    // - the header of RecvMsgMulti is boxed, never written again, and dropped after the ring; its
    //   pointers are null;
    // - AsyncCancel2 refers to nothing.
    let pushed = unsafe { queue.push(entry) };
    pushed.expect("the caller has made room, or seen it");
}

#[cfg(test)]
mod tests;
