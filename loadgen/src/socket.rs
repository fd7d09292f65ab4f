//! One sending socket: UDP or Unix datagrams many at a time, or the bytes of a stream.
//!
//! The near end of the wire, used by `sender` and `probe`. The only module of the load generator with
//! `unsafe`: `sendmmsg` and the `UDP_SEGMENT` option have no safe wrapper in the libraries used here.
//!
//! A UDP socket that is connected hears about a closed port (`ECONNREFUSED`) at a later send. That send
//! took nothing; it is counted and tried again, and the datagram before it is what got lost. Within a
//! `sendmmsg` the kernel keeps the error to itself and only takes fewer: then one datagram is sent at a
//! time, until the errors are seen or there are none.
//!
//! A Unix datagram waits where the receiver's queue is full, as a stream does. That wait is cut into
//! pieces, so that a user who wants to end is heard.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow};
use socket2::SockRef;

use crate::clock;
use crate::compose::{BATCH_DATAGRAMS_MAX, Batch};
use crate::refused::Refused;
use crate::stop::{ASK_EVERY, Stop};
use crate::target::Target;

/// Send buffer asked for; the kernel caps it at `net.core.wmem_max`.
const SEND_BUFFER_BYTES: usize = 4 << 20;

/// `UDP_SEGMENT` of linux/udp.h.
const UDP_SEGMENT: libc::c_int = 103;

/// Most segments of one offloaded send (the kernel's `UDP_MAX_SEGMENTS` of older kernels).
const SEGMENTS_MAX: usize = 64;

/// Most bytes of one offloaded send: an IP packet's payload, with room for headers.
const SEGMENTED_BYTES_MAX: usize = 65_000;

/// Refused or full sends in a row before the sender gives up.
const RETRIES_MAX: u32 = 10_000;

/// What failed where a timeout cannot be set.
const TIMEOUT: &str = "cannot set SO_SNDTIMEO";

/// What became of a send: all of it left, unless it failed, or was stopped while the daemon did not read.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Datagrams that left, or writes that were begun.
    pub(crate) sends: usize,
    pub(crate) bytes: usize,
    pub(crate) failure: Option<Error>,
}

/// One sending socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Datagram(DatagramSocket),
    Tcp(TcpStream),
    UnixStream(UnixStream),
}

impl Socket {
    /// Connects to `target`; `segment_bytes` turns segmentation offload on, and every datagram but the
    /// last then has exactly that size.
    pub(crate) fn connect(target: &Target, segment_bytes: Option<usize>) -> Result<Socket> {
        let reach = || format!("cannot reach {target}");
        match target {
            Target::Udp(address) => {
                DatagramSocket::connect(*address, segment_bytes).map(Socket::Datagram)
            }
            Target::UnixDatagram(path) => {
                let socket = UnixDatagram::unbound().context("cannot make a Unix socket")?;
                socket.connect(path).map_err(|error| of_kind(error, "unix")).with_context(reach)?;
                socket.set_write_timeout(Some(ASK_EVERY)).context(TIMEOUT)?;
                Ok(Socket::Datagram(DatagramSocket::new(socket.into(), false)))
            }
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).with_context(reach)?;
                stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
                stream.set_write_timeout(Some(ASK_EVERY)).context(TIMEOUT)?;
                Ok(Socket::Tcp(stream))
            }
            Target::UnixStream(path) => {
                let stream = UnixStream::connect(path)
                    .map_err(|error| of_kind(error, "unixgram"))
                    .with_context(reach)?;
                stream.set_write_timeout(Some(ASK_EVERY)).context(TIMEOUT)?;
                Ok(Socket::UnixStream(stream))
            }
        }
    }

    /// Sends `datagrams` of `batch`.
    pub(crate) fn send(&mut self, batch: &Batch, datagrams: Range<usize>, stop: &Stop) -> Taken {
        match self {
            Socket::Datagram(socket) => socket.send(batch, datagrams, stop),
            Socket::Tcp(stream) => write(stream, batch.slice(datagrams), stop),
            Socket::UnixStream(stream) => write(stream, batch.slice(datagrams), stop),
        }
    }

    /// Sends the bytes of one datagram.
    pub(crate) fn send_one(&mut self, bytes: &[u8], stop: &Stop) -> Taken {
        match self {
            Socket::Datagram(socket) => socket.send_all(&[bytes], stop),
            Socket::Tcp(stream) => write(stream, bytes, stop),
            Socket::UnixStream(stream) => write(stream, bytes, stop),
        }
    }

    /// Sends that were refused so far.
    pub(crate) fn refused(&self) -> Refused {
        match self {
            Socket::Datagram(socket) => socket.refused,
            Socket::Tcp(_) | Socket::UnixStream(_) => Refused::default(),
        }
    }

    /// Sends that were refused, with what the last one met.
    pub(crate) fn into_refused(self) -> Refused {
        match self {
            Socket::Datagram(socket) => socket.into_refused(),
            Socket::Tcp(_) | Socket::UnixStream(_) => Refused::default(),
        }
    }
}

/// What is wrong with the path of a Unix socket; one of the other kind is reached by `word`.
fn of_kind(error: io::Error, word: &str) -> Error {
    if error.raw_os_error() != Some(libc::EPROTOTYPE) {
        return Error::new(error);
    }
    let kind = if word == "unix" { "a stream" } else { "for datagrams" };
    anyhow!("the socket is {kind}: say {word}:PATH")
}

fn write(stream: &mut impl io::Write, bytes: &[u8], stop: &Stop) -> Taken {
    let mut taken = Taken { sends: 1, ..Taken::default() };
    while taken.bytes < bytes.len() {
        let error = match stream.write(&bytes[taken.bytes..]) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                taken.bytes += count;
                continue;
            }
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock if !stop.is_asked() => {}
            io::ErrorKind::WouldBlock => break,
            _ => {
                taken.failure = Some(Error::new(error).context("the connection broke"));
                break;
            }
        }
    }
    taken
}

/// A connected socket that sends many datagrams in one system call.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: OwnedFd,
    is_udp: bool,
    /// Datagrams per message: above 1 with segmentation offload.
    datagrams_per_message: usize,
    refused: Refused,
    /// Messages that are to be sent one by one, since the kernel took fewer than it was given.
    singly: usize,
    /// Refusals that it kept to itself meanwhile, whose cause is that of the next one.
    untold: u64,
}

impl DatagramSocket {
    fn new(socket: OwnedFd, is_udp: bool) -> DatagramSocket {
        // A smaller buffer than asked for only means more waiting.
        drop(SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER_BYTES));
        let refused = Refused::default();
        DatagramSocket { socket, is_udp, datagrams_per_message: 1, refused, singly: 0, untold: 0 }
    }

    /// Connects a UDP socket to `target`; `segment_bytes` as for [`Socket::connect`].
    pub(crate) fn connect(
        target: SocketAddr,
        segment_bytes: Option<usize>,
    ) -> Result<DatagramSocket> {
        let local: SocketAddr = match target {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(local).context("cannot make a UDP socket")?;
        socket.connect(target).with_context(|| format!("cannot reach {target}"))?;
        let mut socket = DatagramSocket::new(socket.into(), true);
        if let Some(segment_bytes) = segment_bytes {
            socket.datagrams_per_message =
                (SEGMENTED_BYTES_MAX / segment_bytes).clamp(1, SEGMENTS_MAX);
            set_segment(&socket.socket, segment_bytes).context("cannot set UDP_SEGMENT (--gso)")?;
        }
        Ok(socket)
    }

    /// Sends `datagrams` of `batch`, at most [`BATCH_DATAGRAMS_MAX`] of them at a time.
    pub(crate) fn send(&mut self, batch: &Batch, datagrams: Range<usize>, stop: &Stop) -> Taken {
        let mut slices: [&[u8]; BATCH_DATAGRAMS_MAX] = [&[]; BATCH_DATAGRAMS_MAX];
        let mut whole = Taken::default();
        let mut first = datagrams.start;
        while first < datagrams.end {
            let (begin, mut count, mut bytes) = (first, 0, 0);
            while first < datagrams.end && count < slices.len() {
                let last = (first + self.datagrams_per_message).min(datagrams.end);
                slices[count] = batch.slice(first..last);
                bytes += slices[count].len();
                count += 1;
                first = last;
            }
            let taken = self.send_all(&slices[..count], stop);
            whole.bytes += taken.bytes;
            whole.sends += (taken.sends * self.datagrams_per_message).min(first - begin);
            whole.failure = taken.failure;
            if taken.bytes < bytes {
                break;
            }
        }
        whole
    }

    /// Sends all `messages`; counts messages.
    fn send_all(&mut self, messages: &[&[u8]], stop: &Stop) -> Taken {
        let mut taken = Taken::default();
        let mut retries = 0;
        while taken.sends < messages.len() {
            let mut rest = &messages[taken.sends..];
            if 0 < self.singly {
                rest = &rest[..1];
            }
            // A paced sender mostly has one: it need not pay for an array of headers.
            let sent = match rest.len() {
                1 => send_messages::<1>(&self.socket, rest),
                _ => send_messages::<BATCH_DATAGRAMS_MAX>(&self.socket, rest),
            };
            match sent {
                Ok(count) => {
                    self.note_taken(count, rest.len());
                    taken.bytes += rest[..count].iter().map(|message| message.len()).sum::<usize>();
                    taken.sends += count;
                    retries = 0;
                }
                Err(error) if !self.is_udp && error.kind() == io::ErrorKind::WouldBlock => {
                    if stop.is_asked() {
                        break;
                    }
                }
                Err(error) => {
                    retries += 1;
                    if let Err(failure) = self.after_error(error, retries) {
                        taken.failure = Some(failure);
                        break;
                    }
                }
            }
        }
        taken
    }

    /// Looks at how many of `offered` messages the kernel took.
    fn note_taken(&mut self, count: usize, offered: usize) {
        if !self.is_udp {
            return;
        }
        self.singly = self.singly.saturating_sub(count);
        if self.singly == 0 {
            self.untold = 0;
        }
        if count < offered {
            self.singly = BATCH_DATAGRAMS_MAX;
            self.untold = 1;
        }
    }

    /// # Errors
    /// Where it makes no sense to try again.
    fn after_error(&mut self, error: io::Error, retries: u32) -> Result<()> {
        if RETRIES_MAX <= retries {
            return Err(Error::new(error).context(format!("cannot send, tried {retries} times")));
        }
        match error.raw_os_error() {
            Some(libc::EINTR) => return Ok(()),
            Some(libc::EAGAIN | libc::ENOBUFS) => {
                clock::pause(Duration::from_micros(100));
                return Ok(());
            }
            Some(libc::EMSGSIZE | libc::EINVAL) => {
                return Err(anyhow!(
                    "cannot send: {error}; the datagram is too large for the route, lower --packing"
                ));
            }
            _ => {}
        }
        match self.refused.of(&error) {
            Some(count) if self.is_udp => {
                // Without a route every try fails, and the datagram is the same one.
                if retries == 1 || error.kind() == io::ErrorKind::ConnectionRefused {
                    *count += 1 + std::mem::take(&mut self.untold);
                } else {
                    clock::pause(Duration::from_micros(100));
                }
                self.singly = BATCH_DATAGRAMS_MAX;
                Ok(())
            }
            _ => Err(Error::new(error).context("cannot send")),
        }
    }

    /// Sends that were refused, with what the last one met: nobody has heard of it yet.
    pub(crate) fn into_refused(mut self) -> Refused {
        if let Ok(Some(error)) = SockRef::from(&self.socket).take_error()
            && let Some(count) = self.refused.of(&error)
        {
            *count += 1 + self.untold;
        }
        self.refused
    }
}

fn set_segment(socket: &OwnedFd, segment_bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(segment_bytes).map_err(io::Error::other)?;
    let size = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "UDP_SEGMENT has no safe wrapper")]
    // SAFETY:
    // - the descriptor is open: `socket` is borrowed for the call;
    // - `optval` is valid for `optlen` bytes: both describe `value`, which outlives the call;
    // - the kernel only reads it.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            UDP_SEGMENT,
            (&raw const value).cast(),
            size,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the first of `messages`, as many as the kernel takes at once; says how many it took.
///
/// # Panics
/// Where there are more than `N`.
fn send_messages<const N: usize>(socket: &OwnedFd, messages: &[&[u8]]) -> io::Result<usize> {
    const NO_PART: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut parts = [NO_PART; N];
    let mut headers = [empty_header(); N];
    assert!(messages.len() <= N, "callers send a batch at a time");
    for ((message, part), header) in messages.iter().zip(&mut parts).zip(&mut headers) {
        part.iov_base = message.as_ptr().cast_mut().cast();
        part.iov_len = message.len();
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
    }
    let count = libc::c_uint::try_from(messages.len()).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "sendmmsg has no safe wrapper")]
    // SAFETY:
    // - the descriptor is open: `socket` is borrowed for the call;
    // - `msgvec` is valid for `count` headers: `headers` outlives the call, and `count` was asserted
    //   to be within it;
    // - each of these headers points to one element of `parts`, which is neither moved nor resized
    //   after its address was taken and outlives the call;
    // - each part is valid for reading: it is a slice of `messages`, borrowed for the call;
    // - names and control data are null with length 0, as `empty_header` leaves them.
    let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

/// A message without parts, name and control data.
fn empty_header() -> libc::mmsghdr {
    #[expect(unsafe_code, reason = "msghdr has private padding on some systems")]
    // SAFETY:
    // - all zeroes is a value of `mmsghdr`: it holds integers and raw pointers only.
    unsafe {
        std::mem::zeroed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    fn receiver(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn receive(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 65_536];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    /// What left, where all of it did.
    fn all_left(taken: Taken) -> (usize, usize) {
        assert!(taken.failure.is_none(), "{:?}", taken.failure);
        (taken.sends, taken.bytes)
    }

    fn batch(payloads: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for payload in payloads {
            batch.push(payload.as_bytes());
        }
        batch
    }

    #[test]
    fn a_batch_arrives_datagram_by_datagram() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let receiver = receiver(address);
            let mut sender = DatagramSocket::connect(receiver.local_addr().unwrap(), None).unwrap();
            let batch = batch(&["a:1|c", "", "b:2|ms\nc:3|g"]);
            all_left(sender.send(&batch, 0..3, &Stop::default()));
            let got: Vec<Vec<u8>> = (0..3).map(|_| receive(&receiver)).collect();
            assert_eq!(got, [b"a:1|c".to_vec(), b"".to_vec(), b"b:2|ms\nc:3|g".to_vec()]);
        }
    }

    #[test]
    fn a_unix_socket_of_the_other_kind_says_how_it_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let (stream, datagrams) = (folder.path().join("stream"), folder.path().join("datagrams"));
        let _listener = UnixListener::bind(&stream).unwrap();
        let _receiver = UnixDatagram::bind(&datagrams).unwrap();
        for (target, words) in [
            (Target::UnixDatagram(stream), "the socket is a stream: say unix:PATH"),
            (Target::UnixStream(datagrams), "the socket is for datagrams: say unixgram:PATH"),
            (Target::UnixStream(folder.path().join("absent")), "No such file or directory"),
        ] {
            let told = format!("{:#}", Socket::connect(&target, None).unwrap_err());
            assert!(told.starts_with(&format!("cannot reach {target}: {words}")), "{told}");
        }
    }

    #[test]
    fn more_datagrams_than_one_call_takes_arrive_in_order() {
        let receiver = receiver("127.0.0.1:0");
        let mut sender = DatagramSocket::connect(receiver.local_addr().unwrap(), None).unwrap();
        let mut batch = Batch::default();
        for number in 0..150u8 {
            batch.push(&[number]);
        }
        all_left(sender.send(&batch, 3..150, &Stop::default()));
        for number in 3..150 {
            assert_eq!(receive(&receiver), [number]);
        }
    }

    #[test]
    fn segmentation_offload_cuts_at_the_segment_size() {
        let receiver = receiver("127.0.0.1:0");
        let mut sender = DatagramSocket::connect(receiver.local_addr().unwrap(), Some(8)).unwrap();
        let batch = batch(&["a:1|c\n\n\n", "bb:2|c\n\n", "ccc:3|c\n"]);
        assert_eq!(all_left(sender.send(&batch, 0..3, &Stop::default())), (3, 24));
        let got: Vec<Vec<u8>> = (0..3).map(|_| receive(&receiver)).collect();
        let expected = [b"a:1|c\n\n\n".to_vec(), b"bb:2|c\n\n".to_vec(), b"ccc:3|c\n".to_vec()];
        assert_eq!(got, expected);
    }

    #[test]
    fn a_unix_datagram_socket_takes_a_batch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut sender = Socket::connect(&Target::UnixDatagram(path), None).unwrap();
        let taken = sender.send(&batch(&["a:1|c", "b:2|c"]), 0..2, &Stop::default());
        assert_eq!(all_left(taken), (2, 10));
        let mut buffer = [0; 100];
        for expected in [b"a:1|c", b"b:2|c"] {
            let length = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected);
        }
    }

    #[test]
    fn a_stream_takes_the_bytes_in_one_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (unix, tcp) =
            (UnixListener::bind(&path).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let targets = [Target::UnixStream(path), Target::Tcp(tcp.local_addr().unwrap())];
        for target in targets {
            let mut sender = Socket::connect(&target, None).unwrap();
            let stop = Stop::default();
            let taken = sender.send(&batch(&["a:1|c\n", "b:2|c\n"]), 0..2, &stop);
            assert_eq!(all_left(taken), (1, 12));
            assert_eq!(all_left(sender.send_one(b"c:3|c\n", &stop)), (1, 6));
            drop(sender);
            let mut text = String::new();
            match target {
                Target::Tcp(_) => tcp.accept().unwrap().0.read_to_string(&mut text).unwrap(),
                _ => unix.accept().unwrap().0.read_to_string(&mut text).unwrap(),
            };
            assert_eq!(text, "a:1|c\nb:2|c\nc:3|c\n");
        }
    }

    #[test]
    fn nobody_at_the_target_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent");
        for target in [Target::UnixStream(path.clone()), Target::UnixDatagram(path)] {
            let error = Socket::connect(&target, None).unwrap_err().to_string();
            assert!(error.contains(&target.to_string()), "{error}");
        }
    }

    #[test]
    fn a_closed_port_is_counted_and_does_not_stop_the_run() {
        // An address of its own: no other test can take the port meanwhile.
        let closed = receiver("127.0.0.2:0").local_addr().unwrap();
        let mut sender = DatagramSocket::connect(closed, None).unwrap();
        let batch = batch(&["a:1|c"]);
        for _ in 0..20 {
            all_left(sender.send(&batch, 0..1, &Stop::default()));
        }
        assert!(0 < sender.into_refused().closed_port);
    }

    /// The only datagram, and a batch of which `sendmmsg` tells no error.
    #[test]
    fn r4_a_refusal_is_heard_of_however_it_is_sent() {
        for count in [1, 64] {
            let closed = receiver("127.0.0.2:0").local_addr().unwrap();
            let mut sender = DatagramSocket::connect(closed, None).unwrap();
            let batch = batch(&vec!["a:1|c"; count]);
            all_left(sender.send(&batch, 0..count, &Stop::default()));
            let refused = sender.into_refused().closed_port;
            assert!((1..=count as u64).contains(&refused), "{refused} of {count}");
        }
    }

    #[test]
    fn r4_a_unix_socket_whose_reader_went_away_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut sender = Socket::connect(&Target::UnixDatagram(path), None).unwrap();
        drop(receiver);
        let taken = sender.send_one(b"a:1|c", &Stop::default());
        assert_eq!((taken.sends, taken.bytes), (0, 0));
        assert!(taken.failure.unwrap().to_string().contains("cannot send"));
        assert_eq!(sender.into_refused().total(), 0);
    }

    #[test]
    fn r4_a_full_unix_socket_hears_the_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _receiver = UnixDatagram::bind(&path).unwrap();
        let mut sender = Socket::connect(&Target::UnixDatagram(path), None).unwrap();
        let stop = Stop::default();
        stop.ask();
        let batch = batch(&["a:1|c"; 100]);
        let mut left = 0;
        loop {
            let taken = sender.send(&batch, 0..100, &stop);
            assert!(taken.failure.is_none());
            left += taken.sends;
            if taken.sends < 100 {
                break;
            }
        }
        assert!(0 < left);
    }

    #[test]
    fn a_datagram_too_large_is_an_error_that_says_so() {
        let receiver = receiver("127.0.0.1:0");
        let mut sender = DatagramSocket::connect(receiver.local_addr().unwrap(), None).unwrap();
        let mut batch = Batch::default();
        batch.push(&vec![b'a'; 65_508]);
        let taken = sender.send(&batch, 0..1, &Stop::default());
        let error = taken.failure.unwrap().to_string();
        assert!(error.contains("--packing"), "{error}");
    }
}
