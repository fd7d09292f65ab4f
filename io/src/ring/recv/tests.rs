//! Claims: a ring loses nothing that waits in its socket, returns every buffer, and rests at errors.
//! Method: real rings on loopback sockets where the kernel gives one; completions made by hand.

use std::io::Write;
use std::os::unix::net::UnixStream;

use floe_core::config::settings::StreamLimits;

use super::*;
use crate::ingest::stream::connections::StreamInbox;
use crate::ring::probe::{Refusal, attempt};

fn source(socket: &UdpSocket) -> Source<'_> {
    Source { fd: socket.as_fd(), multishot: Multishot::Armed, errors_in_a_row: 0 }
}

fn failed(errno: i32) -> Completion {
    Completion { result: -errno, buffer: None, has_more: false }
}

#[test]
fn enobufs_and_empty_datagrams_are_re_armed_without_limit() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut source, mut counts) = (source(&socket), ReceiveCounts::default());
    for _ in 0..100 {
        source.record(&failed(libc::ENOBUFS), 0, &mut counts);
        assert_eq!(source.multishot, Multishot::Ended);
        source.record(&failed(0), 0, &mut counts);
        assert_eq!(source.multishot, Multishot::Ended);
    }
    assert_eq!(counts, ReceiveCounts { buffers_exhausted: 100, ..Default::default() });
}

#[test]
fn socket_that_only_fails_rests() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut source, mut counts) = (source(&socket), ReceiveCounts::default());
    for _ in 1..ERRORS_MAX {
        source.record(&failed(libc::EFAULT), 5, &mut counts);
        assert_eq!(source.multishot, Multishot::Ended);
    }
    source.record(&failed(libc::EFAULT), 5, &mut counts);
    assert_eq!(source.multishot, Multishot::Resting { until_ns: 5 + REST_NS });
    assert_eq!(counts.receive_errors, u64::from(ERRORS_MAX));
}

#[test]
fn datagram_between_errors_keeps_a_socket_awake() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut source, mut counts) = (source(&socket), ReceiveCounts::default());
    for _ in 0..100 {
        source.record(&failed(libc::ENOMEM), 0, &mut counts);
        let datagram = Completion { result: 5, buffer: Some(0), has_more: true };
        source.record(&datagram, 0, &mut counts);
    }
    assert_eq!(source.multishot, Multishot::Ended);
    assert_eq!(counts.receive_errors, 100);
}

/// Keeps datagrams and counts.
#[derive(Default)]
struct Kept {
    datagrams: Vec<Vec<u8>>,
    lines: Vec<Vec<u8>>,
}

impl DatagramSink for Kept {
    fn begin_batch(&mut self, _now_ns: u64) {}
    fn datagram(&mut self, buffer: &[u8], len: usize) {
        self.datagrams.push(buffer[..len].to_vec());
    }
    fn lines(&mut self, buffer: &[u8], len: usize) {
        self.lines.push(buffer[..len].to_vec());
    }
    fn receive_counts(&mut self, _counts: &ReceiveCounts) {}
    fn end_batch(&mut self) {}
}

/// Where the kernel gives no ring at all, or no memory for one of this size, there is nothing to
/// test; where it does, the flags asked for must be possible.
fn with_ring(flags: RingFlags, test: impl FnOnce(&mut RingReceive<'_>, &UdpSocket)) {
    if IoUring::new(8).is_err() {
        return;
    }
    let sockets = [Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap())];
    let bytes = crate::sys::set_receive_buffer_bytes(&sockets[0], 4 << 20).unwrap();
    let wake_up = WakeUp::new().unwrap();
    let ring = attempt(
        |_| RingReceive::build(flags, &sockets, &wake_up, bytes, false),
        || !wake_up.wait(Duration::from_millis(100)),
    );
    let mut ring = match ring {
        Err(Refusal::OutOfMemory) => return,
        ring => ring.unwrap(),
    };
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(sockets[0].local_addr().unwrap()).unwrap();
    test(&mut ring, &sender);
}

#[test]
fn more_datagrams_than_buffers_end_the_multishot_and_lose_nothing() {
    for flags in [RingFlags::DeferTaskrun, RingFlags::SingleIssuer] {
        with_ring(flags, |ring, sender| {
            let sent: Vec<Vec<u8>> = (0..300).map(|n| format!("k{n}:1|c").into()).collect();
            for datagram in &sent {
                sender.send(datagram).unwrap();
            }
            let mut kept = Kept::default();
            ring.arm(0);
            // All 256 buffers and the completion that says that there are no more.
            ring.enter(257, Duration::from_secs(30), 0).unwrap();
            assert_eq!(ring.batch(0, &mut Connections::none(), &mut kept), 256);
            let counts = ring.take_counts();
            assert_eq!(counts, ReceiveCounts { buffers_exhausted: 1, ..Default::default() });
            assert_eq!(ring.sources[0].multishot, Multishot::Ended);
            receive_until(ring, &mut kept, sent.len());
            assert_eq!(kept.datagrams, sent);
        });
    }
}

/// Receives until `kept` holds `count` datagrams; an idle limit may pass a few times.
fn receive_until(ring: &mut RingReceive<'_>, kept: &mut Kept, count: usize) {
    let mut empty_batches = 0;
    while kept.datagrams.len() < count {
        ring.wait(0, &mut Connections::none()).unwrap();
        empty_batches += u32::from(ring.batch(0, &mut Connections::none(), kept) == 0);
        assert!(empty_batches < 10, "{} of {count} datagrams", kept.datagrams.len());
    }
}

#[test]
fn wake_up_ends_the_sleep_and_stays_armed() {
    with_ring(RingFlags::DeferTaskrun, |ring, _sender| {
        let mut kept = Kept::default();
        ring.arm(0);
        for _ in 0..3 {
            ring.wake_up.wake();
            ring.enter(1, Duration::from_secs(30), 0).unwrap();
            assert_eq!(ring.batch(0, &mut Connections::none(), &mut kept), 0);
            assert!(ring.is_wake_up_armed);
            assert!(!ring.wake_up.clear(), "cleared by the batch");
        }
    });
}

#[test]
fn worker_waits_for_one_completion_after_arming_and_for_many_else() {
    let after_arming = Sleep { want: 1, min_wait_us: 0 };
    let paced = |pace: &Pace| Sleep { want: WANT, min_wait_us: pace.current_us() };
    with_ring(RingFlags::DeferTaskrun, |ring, sender| {
        let mut kept = Kept::default();
        assert_eq!(ring.arm(0), after_arming);
        assert_eq!(ring.arm(0), paced(&ring.pace));
        // An empty datagram ends the multishot, another one does not.
        for (datagram, ends) in [(&b"a:1|c"[..], false), (b"", true)] {
            sender.send(datagram).unwrap();
            ring.enter(1, Duration::from_secs(30), 0).unwrap();
            assert_eq!(ring.batch(0, &mut Connections::none(), &mut kept), 1);
            let sleep = ring.arm(0);
            assert_eq!(sleep, if ends { after_arming } else { paced(&ring.pace) });
        }
        assert!((200..=4_000).contains(&paced(&ring.pace).min_wait_us), "a wait of its bounds");
    });
}

#[test]
fn cancelled_ring_hands_over_what_it_has_received_and_keeps_no_request() {
    with_ring(RingFlags::DeferTaskrun, |ring, sender| {
        let mut kept = Kept::default();
        sender.send(b"a:1|c").unwrap();
        ring.arm(0);
        ring.enter(1, Duration::from_secs(30), 0).unwrap();
        ring.cease();
        assert!(!ring.is_ceased());
        for _ in 0..100 {
            ring.wait(0, &mut Connections::none()).unwrap();
            ring.batch(0, &mut Connections::none(), &mut kept);
            if ring.is_ceased() {
                break;
            }
        }
        assert!(ring.is_ceased());
        assert_eq!(kept.datagrams, [b"a:1|c"]);
        assert_eq!(ring.take_counts(), ReceiveCounts::default());
    });
}

#[test]
fn every_buffer_comes_back_over_many_rounds() {
    with_ring(RingFlags::DeferTaskrun, |ring, sender| {
        let mut kept = Kept::default();
        for round in 1..=20 {
            for _ in 0..100 {
                sender.send(&[b'x'; 30]).unwrap();
            }
            receive_until(ring, &mut kept, 100 * round);
        }
        assert!(kept.datagrams.iter().all(|datagram| *datagram == [b'x'; 30]));
    });
}

#[test]
fn connections_that_fill_the_queue_leave_room_for_the_sockets() {
    let entries = SUBMISSION_ENTRIES as usize;
    for count in [entries - 2, entries - 1, entries, entries + 1, 3 * entries] {
        with_ring(RingFlags::DeferTaskrun, |ring, sender| {
            let inbox = Arc::new(StreamInbox::new(count));
            let mut connections = Connections::new(Arc::clone(&inbox), StreamLimits::default());
            let mut clients: Vec<UnixStream> = Vec::new();
            for _ in 0..count {
                let (client, server) = UnixStream::pair().unwrap();
                inbox.put(server.into()).unwrap();
                clients.push(client);
            }
            connections.begin_batch(0);
            let mut kept = Kept::default();
            for client in &mut clients {
                client.write_all(b"a:1|c\n").unwrap();
            }
            sender.send(b"a:1|c").unwrap();
            for _ in 0..100 {
                ring.wait(0, &mut connections).unwrap();
                ring.batch(0, &mut connections, &mut kept);
                if (kept.lines.len(), kept.datagrams.len()) == (count, 1) {
                    break;
                }
            }
            assert_eq!((kept.lines.len(), kept.datagrams.len()), (count, 1));
            assert_eq!(ring.streams_armed, count);
            drop(clients);
            for _ in 0..100 {
                if inbox.open() == 0 {
                    break;
                }
                ring.wait(0, &mut connections).unwrap();
                ring.batch(0, &mut connections, &mut kept);
            }
            assert_eq!((inbox.open(), ring.streams_armed), (0, 0), "all ends were seen");
        });
    }
}
