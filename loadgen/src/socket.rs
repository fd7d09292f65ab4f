//! A connected UDP socket that sends many datagrams in one system call.
//!
//! The near end of the wire, used by `sender`. The only module of the load generator with `unsafe`:
//! `sendmmsg` and the `UDP_SEGMENT` option have no safe wrapper in the libraries used here.
//!
//! A datagram socket that is connected hears about a closed port (`ECONNREFUSED`) at a later send. That
//! send took nothing; it is counted and tried again, and the datagram before it is what got lost.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::clock;
use crate::compose::{BATCH_DATAGRAMS_MAX, Batch};

/// Send buffer asked for; the kernel caps it at `net.core.wmem_max`.
const SEND_BUFFER_BYTES: usize = 4 << 20;

/// `UDP_SEGMENT` of linux/udp.h.
const UDP_SEGMENT: libc::c_int = 103;

/// Most segments of one offloaded send (the kernel's `UDP_MAX_SEGMENTS` of older kernels).
const SEGMENTS_MAX: usize = 64;

/// Most bytes of one offloaded send: an IP packet's payload, with room for headers.
const SEGMENTED_BYTES_MAX: usize = 65_000;

/// Refused or full sends in a row before the run is given up.
const RETRIES_MAX: u32 = 10_000;

/// One sending socket.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: UdpSocket,
    /// Datagrams per message: above 1 with segmentation offload.
    datagrams_per_message: usize,
    /// Sends that reported an earlier datagram as refused.
    pub(crate) refused: u64,
}

impl DatagramSocket {
    /// Connects a socket to `target`; `segment_bytes` turns segmentation offload on, and every datagram
    /// then has exactly that size.
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
        // A smaller buffer than asked for only means more waiting.
        drop(socket2::SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER_BYTES));
        let mut datagrams_per_message = 1;
        if let Some(segment_bytes) = segment_bytes {
            datagrams_per_message = (SEGMENTED_BYTES_MAX / segment_bytes).clamp(1, SEGMENTS_MAX);
            set_segment(&socket, segment_bytes).context("cannot set UDP_SEGMENT (--gso)")?;
        }
        Ok(DatagramSocket { socket, datagrams_per_message, refused: 0 })
    }

    /// Sends every datagram of `batch`.
    pub(crate) fn send(&mut self, batch: &Batch) -> Result<()> {
        let mut slices = Vec::with_capacity(BATCH_DATAGRAMS_MAX);
        let mut first = 0;
        while first < batch.datagrams() {
            let last = (first + self.datagrams_per_message).min(batch.datagrams());
            slices.push(batch.slice(first, last));
            first = last;
        }
        let mut sent = 0;
        let mut retries = 0;
        while sent < slices.len() {
            match send_messages(&self.socket, &slices[sent..]) {
                Ok(count) => {
                    sent += count;
                    retries = 0;
                }
                Err(error) => {
                    retries += 1;
                    self.after_error(&error, retries)?;
                }
            }
        }
        Ok(())
    }

    fn after_error(&mut self, error: &io::Error, retries: u32) -> Result<()> {
        if RETRIES_MAX <= retries {
            bail!("cannot send: {error}; tried {retries} times");
        }
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECONNREFUSED) => self.refused += 1,
            Some(libc::EAGAIN | libc::ENOBUFS) => clock::pause(Duration::from_micros(100)),
            Some(libc::EMSGSIZE | libc::EINVAL) => {
                bail!(
                    "cannot send: {error}; the datagram is too large for the route, lower --packing"
                )
            }
            _ => bail!("cannot send: {error}"),
        }
        Ok(())
    }
}

fn set_segment(socket: &UdpSocket, segment_bytes: usize) -> io::Result<()> {
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
fn send_messages(socket: &UdpSocket, messages: &[&[u8]]) -> io::Result<usize> {
    let mut parts: Vec<libc::iovec> = messages
        .iter()
        .map(|message| libc::iovec {
            iov_base: message.as_ptr().cast_mut().cast(),
            iov_len: message.len(),
        })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = parts.iter_mut().map(header).collect();
    let count = libc::c_uint::try_from(headers.len()).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "sendmmsg has no safe wrapper")]
    // SAFETY:
    // - the descriptor is open: `socket` is borrowed for the call;
    // - `msgvec` is valid for `count` headers: both come from `headers`, which outlives the call;
    // - each header points to one element of `parts`, which is neither moved nor resized after
    //   `header` took its address and outlives the call;
    // - each part is valid for reading: it is a slice of `messages`, borrowed for the call;
    // - names and control data are null with length 0, as `header` leaves them.
    let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

/// A message of the one part `part`, without name and control data.
fn header(part: &mut libc::iovec) -> libc::mmsghdr {
    #[expect(unsafe_code, reason = "msghdr has private padding on some systems")]
    // SAFETY:
    // - all zeroes is a value of `mmsghdr`: it holds integers and raw pointers only.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = part;
    header.msg_hdr.msg_iovlen = 1;
    header
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_batch_arrives_datagram_by_datagram() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let receiver = receiver(address);
            let mut sender = DatagramSocket::connect(receiver.local_addr().unwrap(), None).unwrap();
            let mut batch = Batch::default();
            for payload in ["a:1|c", "", "b:2|ms\nc:3|g"] {
                batch.push(payload.as_bytes());
            }
            sender.send(&batch).unwrap();
            let got: Vec<Vec<u8>> = (0..3).map(|_| receive(&receiver)).collect();
            assert_eq!(got, [b"a:1|c".to_vec(), b"".to_vec(), b"b:2|ms\nc:3|g".to_vec()]);
        }
    }

    #[test]
    fn segmentation_offload_cuts_at_the_segment_size() {
        let receiver = receiver("127.0.0.1:0");
        let mut sender = DatagramSocket::connect(receiver.local_addr().unwrap(), Some(8)).unwrap();
        let mut batch = Batch::default();
        for payload in ["a:1|c\n\n\n", "bb:2|c\n\n", "ccc:3|c\n"] {
            batch.push(payload.as_bytes());
        }
        sender.send(&batch).unwrap();
        let got: Vec<Vec<u8>> = (0..3).map(|_| receive(&receiver)).collect();
        let expected = [b"a:1|c\n\n\n".to_vec(), b"bb:2|c\n\n".to_vec(), b"ccc:3|c\n".to_vec()];
        assert_eq!(got, expected);
    }

    #[test]
    fn a_closed_port_is_counted_and_does_not_stop_the_run() {
        // An address of its own: no other test can take the port meanwhile.
        let closed = receiver("127.0.0.2:0").local_addr().unwrap();
        let mut sender = DatagramSocket::connect(closed, None).unwrap();
        let mut batch = Batch::default();
        batch.push(b"a:1|c");
        for _ in 0..20 {
            sender.send(&batch).unwrap();
        }
        assert!(0 < sender.refused);
    }

    #[test]
    fn a_datagram_too_large_is_an_error_that_says_so() {
        let receiver = receiver("127.0.0.1:0");
        let mut sender = DatagramSocket::connect(receiver.local_addr().unwrap(), None).unwrap();
        let mut batch = Batch::default();
        batch.push(&vec![b'a'; 65_508]);
        let error = sender.send(&batch).unwrap_err().to_string();
        assert!(error.contains("--packing"), "{error}");
    }
}
