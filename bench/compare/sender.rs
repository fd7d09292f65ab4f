//! The sender: one thread on its own CPU, one source port, from a pool made beforehand.
//!
//! *Plain*: `sendmmsg` of up to 64 datagrams, each of which the kernel carries to the receiver's
//! socket on this CPU; about 1 µs per datagram, the sender's limit. *Segmented* (`UDP_SEGMENT`): one
//! call carries up to 64 datagrams as one buffer that the kernel cuts, for receivers that a plain
//! sender does not saturate; the datagrams are of one length. *Paced*: spins until the next few are
//! due, for a sender that sleeps sends bunches and hides loss.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::Context;
use floe_bench::datagrams::Datagrams;
use floe_io::clock::{NS_PER_S, duration_ns, monotonic_ns};
use floe_io::cpu;
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use rustix::thread::gettid;

use super::probe::schedstat;

/// Datagrams of one call at the most.
const BATCH: usize = 64;

/// Most bytes of one segmented call: a UDP payload over IPv4.
const SEGMENTED_BYTES_MAX: usize = 65_507;

/// A paced batch holds what is due in this time; of datagrams that the kernel cuts, in a longer one, for
/// few of them are cheaper than plain ones.
const PACED_BATCH_NS: u64 = 20_000;
const SEGMENTED_BATCH_NS: u64 = 100_000;

/// How fast datagrams are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// As fast as the sender can.
    Flood,
    /// Datagrams per second.
    Paced(u32),
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'d> {
    /// The pool, gone through again and again.
    pub(crate) datagrams: &'d Datagrams,
    /// How fast.
    pub(crate) rate: Rate,
    /// Whether `UDP_SEGMENT` is used.
    pub(crate) is_segmented: bool,
    /// For how long.
    pub(crate) time: Duration,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Datagrams.
    pub(crate) datagrams: u64,
    /// Time from the first to the last, ns.
    pub(crate) ns: u64,
    /// Time the sender was ready and had no CPU, ns: others were busy on it.
    pub(crate) delay_ns: u64,
}

/// Sends `order` to `port` from a thread on `cpu`.
///
/// # Errors
/// The kernel's: nobody listens, or the CPU is not ours.
pub(crate) fn send(port: u16, cpu: usize, order: Order<'_>) -> anyhow::Result<Sent> {
    send_watched(port, cpu, order, || {})
}

/// The same; calls `watch` between two batches.
///
/// # Errors
/// As [`send`].
pub(crate) fn send_watched(
    port: u16,
    cpu: usize,
    order: Order<'_>,
    watch: impl FnMut() + Send,
) -> anyhow::Result<Sent> {
    let sent = std::thread::scope(|scope| {
        let body = move || {
            cpu::pin(cpu)?;
            run(port, order, watch)
        };
        let thread =
            std::thread::Builder::new().name("sender".to_owned()).spawn_scoped(scope, body)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the sender panicked")))
    });
    sent.with_context(|| format!("sending to port {port}"))
}

fn run(port: u16, order: Order<'_>, mut watch: impl FnMut()) -> io::Result<Sent> {
    let socket = connect(port, order)?;
    let batch = batch_of(order);
    let delay_ns = own_delay_ns();
    let start_ns = monotonic_ns();
    let end_ns = start_ns + duration_ns(order.time);
    let mut sent = Sent::default();
    loop {
        let mut now_ns = monotonic_ns();
        if let Rate::Paced(per_s) = order.rate {
            let due_ns = start_ns + (sent.datagrams * NS_PER_S) / u64::from(per_s.max(1));
            while now_ns < due_ns.min(end_ns) {
                std::hint::spin_loop();
                now_ns = monotonic_ns();
            }
        }
        if end_ns <= now_ns {
            sent.ns = now_ns - start_ns;
            sent.delay_ns = own_delay_ns().saturating_sub(delay_ns);
            return Ok(sent);
        }
        let pool = order.datagrams.len();
        let at = usize::try_from(sent.datagrams).expect("64-bit") % pool;
        let range = at..(at + batch).min(pool);
        let count = if order.is_segmented {
            send_segmented(&socket, order.datagrams, range)?
        } else {
            send_plain(&socket, order.datagrams, range)?
        };
        sent.datagrams += count as u64;
        watch();
    }
}

/// Time this thread has waited for a CPU, ns; 0 where the kernel does not tell.
fn own_delay_ns() -> u64 {
    let id = u32::try_from(gettid().as_raw_nonzero().get()).expect("thread ids are positive");
    schedstat(std::process::id(), id).map_or(0, |(_, delay_ns)| delay_ns)
}

fn batch_of(order: Order<'_>) -> usize {
    let (most, batch_ns) = if order.is_segmented {
        let len = order.datagrams.payloads(0..1).len().max(1);
        (BATCH.min(SEGMENTED_BYTES_MAX / len), SEGMENTED_BATCH_NS)
    } else {
        (BATCH, PACED_BATCH_NS)
    };
    match order.rate {
        Rate::Flood => most,
        Rate::Paced(per_s) => {
            let due = u64::from(per_s) * batch_ns / NS_PER_S;
            usize::try_from(due).map_or(most, |due| due.clamp(1, most))
        }
    }
}

fn connect(port: u16, order: Order<'_>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    if order.is_segmented {
        segment(&socket, order.datagrams.payloads(0..1).len())?;
    }
    Ok(socket)
}

fn send_plain(socket: &UdpSocket, pool: &Datagrams, range: Range<usize>) -> io::Result<usize> {
    let slices: Vec<[IoSlice<'_>; 1]> =
        range.map(|index| [IoSlice::new(pool.payloads(index..index + 1))]).collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        slices.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let pairs = slices.iter().zip(&mut controls);
    let mut headers: Vec<MMsgHdr<'_>> =
        pairs.map(|(slice, control)| MMsgHdr::new(slice, control)).collect();
    match sendmmsg(socket, &mut headers, SendFlags::empty()) {
        Ok(count) => Ok(count),
        Err(Errno::INTR | Errno::NOBUFS) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn send_segmented(socket: &UdpSocket, pool: &Datagrams, range: Range<usize>) -> io::Result<usize> {
    // All datagrams of one call are of one length, but the last, which may be shorter.
    let len = pool.payloads(range.start..range.start + 1).len();
    let same = range.clone().take_while(|at| pool.payloads(*at..at + 1).len() == len).count();
    let count = same.max(1);
    let payload = pool.payloads(range.start..range.start + count);
    match socket.send(payload) {
        Ok(_) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

/// Sets `UDP_SEGMENT`: what is sent is cut into datagrams of `bytes`.
fn segment(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).expect("a datagram is below 64 KiB");
    let len = libc::socklen_t::try_from(size_of_val(&bytes)).expect("4");
    #[expect(unsafe_code, reason = "no safe crate offers UDP_SEGMENT")]
    // SAFETY:
    // - the value pointer is valid for reading `len` bytes: it is the local c_int of that size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const bytes).cast(),
            len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use floe_bench::datagrams::{Extent, Packing};
    use floe_bench::lines::Shape;

    use super::*;

    fn order(datagrams: &Datagrams, rate: Rate, is_segmented: bool) -> Order<'_> {
        let time = Duration::from_millis(20);
        Order { datagrams, rate, is_segmented, time }
    }

    /// Sends, and takes in what the socket holds; returns what was sent and what came.
    fn received(packing: Packing, rate: Rate, is_segmented: bool) -> (u64, Vec<Vec<u8>>) {
        let extent = Extent { names: 100, lines: 1_000 };
        let datagrams = Datagrams::new(Shape::Mix, packing, extent);
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        floe_io::sys::set_receive_buffer_bytes(&receiver, 8 << 20).unwrap();
        let port = receiver.local_addr().unwrap().port();
        let cpu = cpu::inherited().unwrap()[0];
        let sent = send(port, cpu, order(&datagrams, rate, is_segmented)).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let mut buffer = [0; 65_536];
        let mut came = Vec::new();
        while let Ok(len) = receiver.recv(&mut buffer) {
            came.push(buffer[..len].to_vec());
        }
        let pool: Vec<&[u8]> = datagrams.iter().map(|(buffer, len)| &buffer[..len]).collect();
        let expected = (0..came.len()).map(|at| pool[at % pool.len()]);
        assert!(came.iter().zip(expected).all(|(came, sent)| came == sent), "as in the pool");
        (sent.datagrams, came)
    }

    #[test]
    fn paced_datagrams_arrive_as_in_the_pool() {
        for packing in [Packing::Single, Packing::Packed] {
            let (sent, came) = received(packing, Rate::Paced(20_000), false);
            // 20 ms hold 400 at the most, or a machine busy with other things sends fewer.
            assert!(0 < sent && sent <= 401, "{sent}");
            assert_eq!(came.len() as u64, sent);
        }
    }

    #[test]
    fn segmented_buffers_arrive_as_datagrams_of_the_pool() {
        for packing in [Packing::Single, Packing::Packed] {
            let (sent, came) = received(packing, Rate::Paced(20_000), true);
            assert_eq!(came.len() as u64, sent);
            assert!(0 < sent);
        }
    }

    #[test]
    fn paced_batches_hold_what_is_due_in_20_us() {
        let extent = Extent { names: 10, lines: 10 };
        let datagrams = Datagrams::new(Shape::Mix, Packing::Single, extent);
        let batches = [50_000, 400_000, 10_000_000]
            .map(|rate| batch_of(order(&datagrams, Rate::Paced(rate), false)));
        assert_eq!(batches, [1, 8, 64]);
        assert_eq!(batch_of(order(&datagrams, Rate::Flood, false)), 64);
    }

    #[test]
    fn segmented_batches_hold_what_is_due_in_100_us_and_fits_into_one_payload() {
        let extent = Extent { names: 100, lines: 1_000 };
        let datagrams = Datagrams::new(Shape::Mix, Packing::Packed, extent);
        let batches = [5_000, 440_000, 10_000_000]
            .map(|rate| batch_of(order(&datagrams, Rate::Paced(rate), true)));
        // 47 of 1,379 bytes.
        assert_eq!(batches, [1, 44, 47]);
        assert_eq!(batch_of(order(&datagrams, Rate::Flood, true)), 47);
    }
}
