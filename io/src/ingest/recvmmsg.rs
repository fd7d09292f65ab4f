//! Receiving by `recvmmsg`, where the ring is refused or not wanted.
//!
//! A first-class path: same loop, same wake-up, same books as `crate::ring::recv`. It also empties
//! the sockets at the end of every drain. One array of `MESSAGES` headers and buffers serves all
//! sockets of the worker in turn. A batch is at most `BATCH_DATAGRAMS_MAX` datagrams.
//!
//! **The wait.** After a full batch there is none. After a short one the worker sleeps 0.2 to
//! 4 ms on the wake-up alone, so that the next call yields many datagrams: the rival of
//! `min_wait`, and worth 14 % (docs/references.md K1). After an empty one it sleeps in
//! `ppoll` on all sockets and the wake-up, two seconds at the most, and then as after a short one.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use floe_core::limits::{
    BATCH_DATAGRAMS_MAX, DATAGRAM_BYTES_MAX, DATAGRAM_SLACK_BYTES, DATAGRAMS_AT_ONCE,
};
use floe_core::line::Datagram;
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::pace::{Pace, PaceBounds};
use super::sampling::Sampling;
use super::stream::connections::Connections;
use super::{DatagramSink, Receive, ReceiveCounts, train};
use crate::ring::buffers::{BUFFER_HEAD_BYTES, BUFFER_STRIDE_BYTES};
use crate::sys::{Mapping, WakeUp, timespec};

/// Datagrams one call takes at the most (docs/decisions/017-recvmmsg-by-128.md).
const MESSAGES: usize = 128;

/// Connections read in one batch at the most.
const STREAM_EVENTS: usize = 64;

/// Longest sleep of an idle worker.
const IDLE_LIMIT: Duration = Duration::from_secs(2);

/// Bounds of the sleep after a short batch: as in the ring, for twice as many datagrams, since no
/// buffers run out meanwhile.
const PACE: PaceBounds = PaceBounds { shortest_us: 200, longest_us: 4_000, aim_datagrams: 256 };

/// Longest look of a window.
const WINDOW_LIMIT: Duration = Duration::from_millis(2);

/// Bytes of an address with its family, port and scope: `sockaddr_in6`, the longer of the two.
const NAME_BYTES: usize = 28;

type Name = [u8; NAME_BYTES];

const _: () = assert!(MESSAGES <= BATCH_DATAGRAMS_MAX);
const _: () = assert!(train::CONTROL_BYTES <= BUFFER_HEAD_BYTES);

/// How the last batch ended, which decides the next wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastBatch {
    /// Nothing came.
    Empty,
    /// All sockets were emptied.
    Short,
    /// There may be more.
    Full,
}

/// The receiver of one worker over `recvmmsg`.
pub(crate) struct Recvmmsg<'s> {
    sockets: &'s [Arc<UdpSocket>],
    wake_up: &'s WakeUp,
    /// The wake-up, then the sockets.
    polled: Vec<PollFd<'s>>,
    messages: Messages,
    streams: Option<StreamReader<'s>>,
    /// Socket the next batch begins with.
    next: usize,
    last: LastBatch,
    /// Messages since the last wait: full batches have none between them.
    since_wait: usize,
    pace: Pace,
    counts: ReceiveCounts,
    /// Whether every batch is a sample.
    samples_all: bool,
    /// Whose turn it is otherwise.
    sampling: Sampling,
}

impl<'s> Recvmmsg<'s> {
    /// Maps the buffers; nothing is received before the first batch.
    ///
    /// `epoll`: names the connections that can be read, where there are any.
    /// `receive_buffer_bytes`: the smallest effective one of the sockets. `has_trains`: they were made
    /// to give them.
    /// # Errors
    /// The kernel's, when memory cannot be mapped.
    pub(crate) fn new(
        sockets: &'s [Arc<UdpSocket>],
        wake_up: &'s WakeUp,
        epoll: Option<&'s OwnedFd>,
        receive_buffer_bytes: usize,
        has_trains: bool,
    ) -> io::Result<Self> {
        let mut polled = vec![PollFd::new(wake_up, PollFlags::IN)];
        polled.extend(epoll.map(|epoll| PollFd::new(epoll, PollFlags::IN)));
        polled.extend(sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
        Ok(Self {
            sockets,
            wake_up,
            polled,
            messages: Messages::new(has_trains)?,
            streams: epoll.map(StreamReader::new),
            next: 0,
            last: LastBatch::Empty,
            since_wait: 0,
            pace: Pace::new(PACE, receive_buffer_bytes),
            counts: ReceiveCounts::default(),
            samples_all: false,
            sampling: Sampling::new(),
        })
    }

    /// The same that samples every batch.
    pub(crate) fn sampling_all(self, samples_all: bool) -> Self {
        Self { samples_all, ..self }
    }

    /// A window beside another receiver: takes what the sockets hold once, with the senders, after a
    /// look of 2 ms at the most; returns how many datagrams there were.
    ///
    /// With a ring of deferred work nothing else takes them meanwhile; where the kernel has none, the
    /// other receiver gets some of them, and the window is the poorer.
    pub(crate) fn window(&mut self, sink: &mut impl DatagramSink) -> usize {
        // A wake-up is left for the other receiver to see.
        poll(&mut self.polled, Some(&timespec(WINDOW_LIMIT))).ok();
        let mut datagrams = 0;
        for socket in self.sockets {
            if let Ok(count) = self.messages.receive(socket.as_raw_fd(), true) {
                datagrams += self.messages.hand_over(count, &mut self.counts, true, sink);
            }
        }
        sink.samples_end();
        datagrams
    }

    /// Sleeps until a socket has a datagram or the wake-up is set; true if it was the latter.
    fn sleep(&mut self) -> io::Result<bool> {
        match poll(&mut self.polled, Some(&timespec(IDLE_LIMIT))) {
            // Kept from an earlier call, revents say nothing after an error.
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(self.polled[0].revents().contains(PollFlags::IN)),
        }
    }
}

impl Receive for Recvmmsg<'_> {
    fn wait(&mut self, _now_ns: u64, connections: &mut Connections) -> io::Result<()> {
        if let Some(streams) = &self.streams {
            streams.arm(connections);
        }
        let pause = Duration::from_micros(self.pace.current_us().into());
        let is_woken = match self.last {
            LastBatch::Full => false,
            LastBatch::Short => self.wake_up.wait(pause),
            LastBatch::Empty => self.sleep()? || self.wake_up.wait(pause),
        };
        if is_woken {
            self.wake_up.clear();
        }
        Ok(())
    }

    fn batch(
        &mut self,
        now_ns: u64,
        connections: &mut Connections,
        sink: &mut impl DatagramSink,
    ) -> usize {
        let (mut datagrams, mut messages) = (0, 0);
        let (mut is_full, mut has_failed) = (false, false);
        let is_sample = self.samples_all || self.sampling.is_sample(now_ns);
        for _ in 0..self.sockets.len() {
            if BATCH_DATAGRAMS_MAX < messages + MESSAGES {
                is_full = true;
                break;
            }
            let socket = &self.sockets[self.next];
            self.next = (self.next + 1) % self.sockets.len();
            match self.messages.receive(socket.as_raw_fd(), is_sample) {
                Ok(count) => {
                    datagrams += self.messages.hand_over(count, &mut self.counts, is_sample, sink);
                    messages += count;
                    is_full |= count == MESSAGES;
                }
                Err(Errno::AGAIN) => {}
                Err(_) => {
                    self.counts.receive_errors += 1;
                    has_failed = true;
                }
            }
        }
        if is_sample {
            sink.samples_end();
        }
        if let Some(streams) = &mut self.streams {
            let events = streams.read(now_ns, connections, sink);
            (datagrams, messages) = (datagrams + events, messages + events);
            is_full |= events == STREAM_EVENTS;
        }
        self.since_wait += messages;
        self.last = match (is_full, has_failed || 0 < datagrams) {
            (true, _) => LastBatch::Full,
            // A socket that fails at once is not polled at once.
            (false, true) => LastBatch::Short,
            (false, false) => LastBatch::Empty,
        };
        if self.last != LastBatch::Full {
            self.pace.record(self.since_wait);
            self.since_wait = 0;
        }
        datagrams
    }

    fn take_counts(&mut self) -> ReceiveCounts {
        std::mem::take(&mut self.counts)
    }
}

/// Reads the connections that epoll names.
struct StreamReader<'s> {
    epoll: &'s OwnedFd,
    ready: Vec<epoll::Event>,
    buffer: Vec<u8>,
}

impl<'s> StreamReader<'s> {
    fn new(epoll: &'s OwnedFd) -> Self {
        let buffer = vec![0; DATAGRAM_BYTES_MAX + DATAGRAM_SLACK_BYTES];
        Self { epoll, ready: Vec::with_capacity(STREAM_EVENTS), buffer }
    }

    /// Puts every pending connection under epoll's eyes; closing takes it away again.
    fn arm(&self, connections: &mut Connections) {
        while let Some(slot) = connections.take_pending() {
            let Some(fd) = connections.fd(slot) else { continue };
            let data = epoll::EventData::new_u64(slot.into());
            if let Err(error) = epoll::add(self.epoll, fd, data, epoll::EventFlags::IN) {
                connections.remove(slot, Some(error));
            }
        }
    }

    /// Reads each ready connection once; returns how many there were.
    fn read(
        &mut self,
        now_ns: u64,
        connections: &mut Connections,
        sink: &mut impl DatagramSink,
    ) -> usize {
        self.arm(connections);
        self.ready.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.ready);
        // A failure is seen by the wait, which polls the same descriptor.
        epoll::wait(self.epoll, spare, Some(&timespec(Duration::ZERO))).ok();
        for event in &self.ready {
            let data = event.data;
            let slot = u32::try_from(data.u64()).expect("arm() gave a slot");
            let Some(fd) = connections.fd(slot) else { continue };
            let buffer = &mut self.buffer[..DATAGRAM_BYTES_MAX];
            match recv(fd, buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => connections.remove(slot, None),
                Ok((len, _)) => connections.read(slot, &self.buffer, len, now_ns, sink),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => connections.remove(slot, Some(error)),
            }
        }
        self.ready.len()
    }
}

/// The address in a name, if it is one of IP.
fn sender_of(name: &Name) -> Option<IpAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => rest.get(2..6)?.try_into().ok().map(|octets: [u8; 4]| octets.into()),
        libc::AF_INET6 => rest.get(6..22)?.try_into().ok().map(|octets: [u8; 16]| octets.into()),
        _ => None,
    }
}

/// A message header without anything.
pub(crate) fn empty_header() -> libc::msghdr {
    #[expect(unsafe_code, reason = "the header has private padding on some targets")]
    // SAFETY:
    // - null pointers and zero lengths are valid values of every field.
    unsafe {
        std::mem::zeroed()
    }
}

/// The headers that `recvmmsg` fills, and the buffers they point to.
///
/// A datagram stands behind the head of its buffer; the head takes the control message of a train.
struct Messages {
    /// Each points to its element of `vectors`, which never grows and so never moves.
    headers: Vec<libc::mmsghdr>,
    #[expect(dead_code, reason = "owned for the pointers in `headers`")]
    vectors: Vec<libc::iovec>,
    buffers: Mapping,
    /// Addresses of senders, where they are asked for.
    names: Vec<Name>,
    /// Whether the headers point to them.
    has_names: bool,
    /// Room for a control message per datagram, bytes; 0 where no trains come.
    control_bytes: usize,
}

impl Messages {
    fn new(has_trains: bool) -> io::Result<Self> {
        let control_bytes = if has_trains { train::CONTROL_BYTES } else { 0 };
        let buffers = Mapping::new(MESSAGES * BUFFER_STRIDE_BYTES)?;
        let mut vectors: Vec<libc::iovec> = (0..MESSAGES)
            .map(|index| libc::iovec {
                iov_base: buffers
                    .at(index * BUFFER_STRIDE_BYTES + BUFFER_HEAD_BYTES)
                    .as_ptr()
                    .cast(),
                iov_len: DATAGRAM_BYTES_MAX,
            })
            .collect();
        let header = |(index, vector): (usize, &mut libc::iovec)| {
            let mut header = libc::mmsghdr { msg_hdr: empty_header(), msg_len: 0 };
            header.msg_hdr.msg_iov = &raw mut *vector;
            header.msg_hdr.msg_iovlen = 1;
            if has_trains {
                header.msg_hdr.msg_control =
                    buffers.at(index * BUFFER_STRIDE_BYTES).as_ptr().cast();
            }
            header
        };
        let headers = vectors.iter_mut().enumerate().map(header).collect();
        let names = vec![[0; NAME_BYTES]; MESSAGES];
        Ok(Self { headers, vectors, buffers, names, has_names: false, control_bytes })
    }

    /// Takes up to [`MESSAGES`] datagrams of the socket `fd`, without waiting; with their senders if
    /// they are asked for.
    fn receive(&mut self, fd: i32, with_senders: bool) -> Result<usize, Errno> {
        if with_senders || self.has_names {
            for (header, name) in self.headers.iter_mut().zip(&mut self.names) {
                // The last call left its own length.
                let (name, length) = if with_senders {
                    (name.as_mut_ptr(), NAME_BYTES)
                } else {
                    (std::ptr::null_mut(), 0)
                };
                header.msg_hdr.msg_name = name.cast();
                header.msg_hdr.msg_namelen = libc::socklen_t::try_from(length).unwrap_or(0);
            }
            self.has_names = with_senders;
        }
        let count = libc::c_uint::try_from(self.headers.len()).expect("MESSAGES is small");
        if 0 < self.control_bytes {
            // The last call left what it wrote.
            for header in &mut self.headers {
                header.msg_hdr.msg_controllen = self.control_bytes as _;
            }
        }
        #[expect(unsafe_code, reason = "no safe crate offers recvmmsg")]
        // SAFETY:
        // - `headers` is valid for reading and writing `count` elements: its own length;
        // - each header's one iovec lies in `vectors`, owned and never touched again, and points to
        //   its own DATAGRAM_BYTES_MAX bytes of `buffers`, to which no slice exists during
        //   `&mut self`; so does its control data, CONTROL_BYTES in the head, or it is null with length
        //   zero;
        // - each name is null with length zero, or its own NAME_BYTES of `names`, to which nothing else
        //   refers during `&mut self`; the null timeout means none.
        let result = unsafe {
            libc::recvmmsg(
                fd,
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(result)
            .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    }

    /// Hands the datagrams of the first `count` messages to `sink`, samples with their senders; returns
    /// how many there were.
    fn hand_over(
        &self,
        count: usize,
        counts: &mut ReceiveCounts,
        is_sample: bool,
        sink: &mut impl DatagramSink,
    ) -> usize {
        let mut datagrams = 0;
        let mut together = ArrayVec::<Datagram<'_>, DATAGRAMS_AT_ONCE>::new();
        for (index, message) in self.headers[..count].iter().enumerate() {
            let len = message.msg_len as usize;
            assert!(len <= DATAGRAM_BYTES_MAX, "the kernel wrote {len} bytes into a buffer");
            let is_cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            counts.datagrams_truncated += u64::from(is_cut || len == DATAGRAM_BYTES_MAX);
            #[expect(unsafe_code, reason = "slice over a kernel-filled buffer")]
            // SAFETY:
            // - not written while borrowed: the kernel writes only during `receive`, which takes
            //   `&mut self`.
            let buffer =
                unsafe { self.buffers.slice(index * BUFFER_STRIDE_BYTES, BUFFER_STRIDE_BYTES) };
            let (head, buffer) = buffer.split_at(BUFFER_HEAD_BYTES);
            if is_sample && self.control_bytes == 0 {
                sink.sampled(sender_of(&self.names[index]), &buffer[..len]);
            }
            if 0 < self.control_bytes {
                // Another type on other targets.
                let control: usize = message.msg_hdr.msg_controllen as _;
                let control = &head[..control.min(self.control_bytes)];
                let datagram_bytes = train::datagram_bytes(control);
                datagrams += train::hand_over(buffer, len, datagram_bytes, sink);
            } else {
                together.push(Datagram { buffer, len });
                if together.is_full() || index + 1 == count {
                    datagrams += together.len();
                    sink.datagrams(&together);
                    together.clear();
                }
            }
        }
        datagrams
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use floe_core::limits::TOP_BATCHES_EACH;

    use super::*;
    use crate::sys::{self, UdpOffload};

    #[derive(Default)]
    struct Kept {
        lengths: Vec<usize>,
    }

    impl DatagramSink for Kept {
        fn begin_batch(&mut self, _now_ns: u64) {}
        fn datagram(&mut self, _buffer: &[u8], len: usize) {
            self.lengths.push(len);
        }
        fn lines(&mut self, _buffer: &[u8], _len: usize) {}
        fn receive_counts(&mut self, _counts: &ReceiveCounts) {}
        fn end_batch(&mut self) {}
    }

    fn sockets(count: usize) -> Vec<Arc<UdpSocket>> {
        (0..count).map(|_| Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap())).collect()
    }

    fn send(socket: &UdpSocket, count: usize) {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..count {
            sender.send_to(b"a:1|c", socket.local_addr().unwrap()).unwrap();
        }
    }

    #[test]
    fn batch_is_bounded_and_the_next_begins_with_the_next_socket() {
        let (sockets, wake_up) = (sockets(5), WakeUp::new().unwrap());
        for socket in &sockets {
            send(socket, 140);
        }
        let mut receiver = Recvmmsg::new(&sockets, &wake_up, None, 1 << 20, false).unwrap();
        let mut kept = Kept::default();
        assert_eq!(receiver.batch(0, &mut Connections::none(), &mut kept), BATCH_DATAGRAMS_MAX);
        assert_eq!((receiver.next, receiver.last), (2, LastBatch::Full));
        // Two arrays of the next two, then one of the fifth and what the first left, and so on.
        let mut total = BATCH_DATAGRAMS_MAX;
        while receiver.last != LastBatch::Empty {
            total += receiver.batch(0, &mut Connections::none(), &mut kept);
        }
        assert_eq!((total, kept.lengths.len()), (700, 700));
    }

    #[derive(Default)]
    struct Samples(Vec<(Option<IpAddr>, Vec<u8>)>, usize);

    impl DatagramSink for Samples {
        fn begin_batch(&mut self, _now_ns: u64) {}
        fn datagram(&mut self, _buffer: &[u8], _len: usize) {
            self.1 += 1;
        }
        fn lines(&mut self, _buffer: &[u8], _len: usize) {}
        fn receive_counts(&mut self, _counts: &ReceiveCounts) {}
        fn end_batch(&mut self) {}
        fn sampled(&mut self, sender: Option<IpAddr>, datagram: &[u8]) {
            self.0.push((sender, datagram.to_vec()));
        }
    }

    #[test]
    fn samples_have_their_senders_and_are_handed_over_like_others() {
        let (sockets, wake_up) = (sockets(1), WakeUp::new().unwrap());
        let receiver = Recvmmsg::new(&sockets, &wake_up, None, 1 << 20, false).unwrap();
        let mut receiver = receiver.sampling_all(true);
        let local = Some(IpAddr::from([127, 0, 0, 1]));
        let mut samples = Samples::default();
        send(&sockets[0], 2);
        receiver.batch(0, &mut Connections::none(), &mut samples);
        send(&sockets[0], 3);
        assert_eq!(receiver.window(&mut samples), 3);
        assert_eq!(samples.0, vec![(local, b"a:1|c".to_vec()); 5]);
        assert_eq!(samples.1, 5);
        // One batch in so many otherwise.
        let mut receiver = receiver.sampling_all(false);
        for _ in 0..TOP_BATCHES_EACH {
            send(&sockets[0], 1);
            receiver.batch(0, &mut Connections::none(), &mut samples);
        }
        assert_eq!((samples.0.len(), samples.1), (6, 5 + TOP_BATCHES_EACH as usize));
        let six = [[10, 0, 0, 0, 0, 0, 0, 0].as_slice(), &[0; 15], &[1], &[0; 4]].concat();
        let name: Name = six.try_into().unwrap();
        assert_eq!(sender_of(&name), Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])));
        assert_eq!(sender_of(&[0; NAME_BYTES]), None);
    }

    #[test]
    fn cut_datagrams_are_counted() {
        let mut messages = Messages::new(false).unwrap();
        messages.headers[0].msg_len = 65_536;
        messages.headers[1].msg_len = 10;
        messages.headers[1].msg_hdr.msg_flags = libc::MSG_TRUNC;
        messages.headers[2].msg_len = 65_535;
        let (mut counts, mut kept) = (ReceiveCounts::default(), Kept::default());
        messages.hand_over(3, &mut counts, false, &mut kept);
        assert_eq!(counts, ReceiveCounts { datagrams_truncated: 2, ..Default::default() });
        assert_eq!(kept.lengths, [65_536, 10, 65_535]);
    }

    #[test]
    fn train_comes_as_one_message_and_is_many_datagrams() {
        let sockets = sockets(1);
        sys::set_udp_offload(&sockets[0], UdpOffload::Joined).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sys::set_udp_offload(&sender, UdpOffload::Cut(7)).unwrap();
        let mut messages = Messages::new(true).unwrap();
        let (mut counts, mut kept) = (ReceiveCounts::default(), Kept::default());
        // Twice, for the kernel overwrites the length of the control data.
        for _ in 0..2 {
            let target = sockets[0].local_addr().unwrap();
            sender.send_to(&[b'a'; 66], target).unwrap();
            assert_eq!(messages.receive(sockets[0].as_raw_fd(), false), Ok(1));
            assert_eq!(messages.hand_over(1, &mut counts, false, &mut kept), 10);
        }
        assert_eq!(kept.lengths, [[7; 9].as_slice(), &[3]].concat().repeat(2));
        assert_eq!(counts, ReceiveCounts::default());
    }

    #[test]
    fn failing_descriptor_is_an_error_with_its_number() {
        let wake_up = WakeUp::new().unwrap();
        let mut messages = Messages::new(false).unwrap();
        assert_eq!(messages.receive(wake_up.as_fd().as_raw_fd(), false), Err(Errno::NOTSOCK));
    }
}
