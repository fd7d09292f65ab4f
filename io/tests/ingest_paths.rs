//! Claims: what is sent to a worker's sockets arrives at its sink byte for byte and once, on every
//! receive path; a wake-up begins a batch; a stop loses nothing that was sent before.
//! Method: real workers on loopback sockets, a sink that records into a channel, waits with a bound.
#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it by panicking")]

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use floe_core::config::settings::{IngestMode, Listener};
use floe_core::limits::DATAGRAM_SLACK_BYTES;
use floe_io::ingest::udp::{self, OpenListener};
use floe_io::ingest::worker::{
    ReceiveOptions, ReceivePath, StartError, Started, WorkerPlan, WorkerSignals, spawn,
};
use floe_io::ingest::{DatagramSink, ReceiveCounts};
use floe_io::ring::probe::Refusal;
use floe_io::sys::UdpOffload;
use floe_io::{cpu, sys};

/// Bound of every wait: never reached but by a failure.
const LIMIT: Duration = Duration::from_secs(30);

const EPERM: i32 = 1;

/// What the sink of a worker has seen.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Begin(u64),
    Datagram(Vec<u8>),
    End,
}

/// Records into a channel; every batch passes the gate first.
struct Recorder {
    seen: Sender<Seen>,
    gate: Arc<Mutex<()>>,
    counts: ReceiveCounts,
}

impl DatagramSink for Recorder {
    fn begin_batch(&mut self, now_ns: u64) {
        drop(self.gate.lock().unwrap());
        self.seen.send(Seen::Begin(now_ns)).unwrap();
    }

    fn datagram(&mut self, buffer: &[u8], len: usize) {
        assert!(len + DATAGRAM_SLACK_BYTES <= buffer.len());
        self.seen.send(Seen::Datagram(buffer[..len].to_vec())).unwrap();
    }

    fn lines(&mut self, _buffer: &[u8], _len: usize) {}
    fn receive_counts(&mut self, counts: &ReceiveCounts) {
        assert_ne!(*counts, ReceiveCounts::default());
        self.counts.buffers_exhausted += counts.buffers_exhausted;
        self.counts.receive_errors += counts.receive_errors;
        self.counts.datagrams_truncated += counts.datagrams_truncated;
    }

    fn end_batch(&mut self) {
        self.seen.send(Seen::End).unwrap();
    }
}

/// A worker under test.
struct Subject {
    listeners: Vec<OpenListener>,
    signals: Arc<WorkerSignals>,
    seen: Receiver<Seen>,
    started: Receiver<Result<Started, StartError>>,
    thread: JoinHandle<Recorder>,
}

impl Subject {
    fn start(options: ReceiveOptions, addresses: &[&str]) -> Self {
        Self::start_behind(Arc::new(Mutex::new(())), options, addresses)
    }

    fn start_behind(gate: Arc<Mutex<()>>, options: ReceiveOptions, addresses: &[&str]) -> Self {
        Self::start_with(WorkerSignals::new().unwrap(), gate, options, addresses)
    }

    fn start_with(
        signals: WorkerSignals,
        gate: Arc<Mutex<()>>,
        options: ReceiveOptions,
        addresses: &[&str],
    ) -> Self {
        let listener = |address: &&str| Listener {
            address: (*address).into(),
            port: 0,
            is_dual_stack_default: *address == "::",
        };
        let settings: Vec<Listener> = addresses.iter().map(listener).collect();
        let listeners = udp::open_all(&settings, 1, 4 << 20).unwrap();
        if options.has_trains {
            udp::coalesce_all(&listeners, true).unwrap();
        }
        let signals = Arc::new(signals);
        let (seen_sender, seen) = bounded(1 << 16);
        let (started_sender, started) = bounded(1);
        let plan = WorkerPlan {
            index: 3,
            cpu: cpu::inherited().unwrap().first().copied(),
            sockets: udp::sockets_of(&listeners, 0, 1),
            receive_buffer_bytes: listeners[0].receive_buffer_bytes,
            options,
            signals: Arc::clone(&signals),
            streams: None,
        };
        let counts = ReceiveCounts::default();
        let recorder = Recorder { seen: seen_sender, gate, counts };
        let thread = spawn(plan, recorder, started_sender).unwrap();
        Self { listeners, signals, seen, started, thread }
    }

    fn started(&self) -> Started {
        self.started.recv_timeout(LIMIT).unwrap().unwrap()
    }

    fn sender(&self, listener: usize) -> UdpSocket {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        // `::` takes IPv4 as well.
        let port = self.listeners[listener].local_address.port();
        sender.connect(("127.0.0.1", port)).unwrap();
        sender
    }

    /// Small datagrams that a socket holds: 832 bytes of accounting each.
    fn capacity(&self) -> usize {
        (self.listeners[0].receive_buffer_bytes / 1_024).min(4_000)
    }

    fn datagrams(&self, count: usize) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        while datagrams.len() < count {
            if let Seen::Datagram(datagram) = self.seen.recv_timeout(LIMIT).unwrap() {
                datagrams.push(datagram);
            }
        }
        datagrams
    }

    /// Stops the worker; returns what it saw since and what it counted.
    fn stop(self) -> (Vec<Seen>, ReceiveCounts) {
        self.signals.stop();
        let recorder = self.thread.join().unwrap();
        let counts = recorder.counts;
        drop(recorder);
        (self.seen.iter().collect(), counts)
    }
}

/// Every way to receive: the ring, the ring on an older kernel, and without it, with trains and without
/// them. Where this kernel
/// refuses the ring the others are those without it, which `ring_is_taken_where_the_kernel_gives_one`
/// tells apart.
fn paths() -> [ReceiveOptions; 5] {
    let default = ReceiveOptions::default();
    [
        default,
        ReceiveOptions { forgo_min_wait: true, ..default },
        ReceiveOptions { mode: IngestMode::Recvmmsg, ..default },
        ReceiveOptions { has_trains: true, ..default },
        ReceiveOptions { has_trains: true, mode: IngestMode::Recvmmsg, ..default },
    ]
}

fn only_datagrams(seen: Vec<Seen>) -> Vec<Vec<u8>> {
    let datagram = |seen| if let Seen::Datagram(datagram) = seen { Some(datagram) } else { None };
    seen.into_iter().filter_map(datagram).collect()
}

#[test]
fn datagrams_of_every_size_arrive_byte_for_byte_and_once() {
    let packed = "some.key:12|ms|@0.5\n".repeat(70).into_bytes();
    let largest: Vec<u8> = (0..65_507_u32).map(|n| n.to_le_bytes()[0]).collect();
    let sizes = [b"a:1|c".to_vec(), packed, vec![], largest, b"b:2|g".to_vec(), vec![], vec![0]];
    for options in paths() {
        let subject = Subject::start(options, &["127.0.0.1"]);
        let sender = subject.sender(0);
        let mut sent = Vec::new();
        for _ in 0..10 {
            for datagram in &sizes {
                assert_eq!(sender.send(datagram).unwrap(), datagram.len());
                sent.push(datagram.clone());
            }
            let arrived = subject.datagrams(sizes.len());
            assert!(arrived == sizes, "{options:?}");
        }
        let (rest, counts) = subject.stop();
        assert_eq!(only_datagrams(rest), Vec::<Vec<u8>>::new(), "{options:?}");
        assert_eq!((counts.datagrams_truncated, counts.receive_errors), (0, 0), "{options:?}");
    }
}

#[test]
fn trains_are_received_datagram_by_datagram() {
    for options in paths() {
        let subject = Subject::start(options, &["127.0.0.1", "::"]);
        let mut count = 0;
        for listener in [0, 1] {
            let sender = subject.sender(listener);
            // Length of a datagram and of all together: whole ones, a shorter last one, the largest
            // train, one datagram alone.
            for (bytes, total) in [(30, 1_920), (30, 1_921), (1_400, 65_507), (1, 64), (30, 30)] {
                sys::set_udp_offload(&sender, UdpOffload::Cut(bytes)).unwrap();
                let train: Vec<u8> = (0..total).map(|n: u32| n.to_le_bytes()[0] ^ 5).collect();
                sender.send(&train).unwrap();
                let datagrams: Vec<&[u8]> = train.chunks(bytes.into()).collect();
                assert!(subject.datagrams(datagrams.len()) == datagrams, "{options:?} {bytes}");
                count += datagrams.len();
                // In between, datagrams that are no train.
                sys::set_udp_offload(&sender, UdpOffload::Cut(0)).unwrap();
                for plain in [&b""[..], b"a:1|c", b""] {
                    sender.send(plain).unwrap();
                    assert_eq!(subject.datagrams(1), [plain], "{options:?} {bytes}");
                }
            }
        }
        assert_eq!(count, 2 * (64 + 65 + 47 + 64 + 1), "{options:?}");
        let (rest, counts) = subject.stop();
        assert_eq!(only_datagrams(rest), Vec::<Vec<u8>>::new(), "{options:?}");
        assert_eq!((counts.datagrams_truncated, counts.receive_errors), (0, 0), "{options:?}");
    }
}

/// What waits in the socket is taken by the ring in one go, or left to `recvmmsg` at the stop.
#[test]
fn many_trains_at_once_are_taken_apart() {
    for options in paths() {
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let subject = Subject::start_behind(Arc::clone(&gate), options, &["127.0.0.1"]);
        let sender = subject.sender(0);
        sys::set_udp_offload(&sender, UdpOffload::Cut(20)).unwrap();
        let datagrams: Vec<Vec<u8>> =
            (0..3_000).map(|n| format!("key.of.series:{n:04}|c").into_bytes()).collect();
        for train in datagrams.chunks(10) {
            sender.send(&train.concat()).unwrap();
        }
        drop(closed);
        assert!(subject.datagrams(3_000) == datagrams, "{options:?}");
        subject.stop();
    }
}

#[test]
fn ring_is_taken_where_the_kernel_gives_one() {
    let subject = Subject::start(ReceiveOptions::default(), &["127.0.0.1"]);
    let started = subject.started();
    let is_taken = started.path == ReceivePath::IoUring;
    // A small memlock limit has room for a small ring alone.
    let is_given =
        started.refusal != Some(Refusal::OutOfMemory) && io_uring::IoUring::new(8).is_ok();
    assert_eq!(is_taken, is_given, "{started:?}");
    assert_eq!(started.refusal.is_none(), is_taken, "{started:?}");
    assert_eq!(started.worker, 3);
    assert_eq!(started.cpu, cpu::inherited().unwrap().first().copied());
    assert_eq!(subject.thread.thread().name(), Some("ingest-3"));
    subject.stop();
}

#[test]
fn refused_ring_falls_back_and_receives() {
    let options = ReceiveOptions { refuse_ring_with: Some(EPERM), ..Default::default() };
    let subject = Subject::start(options, &["127.0.0.1"]);
    let started = subject.started();
    assert_eq!(started.path, ReceivePath::Recvmmsg);
    assert_eq!(started.refusal, Some(Refusal::NotPermitted));
    subject.sender(0).send(b"a:1|c").unwrap();
    assert_eq!(subject.datagrams(1), [b"a:1|c"]);
    subject.stop();
}

#[test]
fn refused_ring_is_an_error_where_the_settings_demand_it() {
    let options = ReceiveOptions {
        mode: IngestMode::IoUring,
        refuse_ring_with: Some(EPERM),
        ..Default::default()
    };
    let subject = Subject::start(options, &["127.0.0.1"]);
    let error = subject.started.recv_timeout(LIMIT).unwrap().unwrap_err();
    assert!(matches!(error, StartError::RingRefused(Refusal::NotPermitted)));
    assert!(error.to_string().ends_with(", or set ingest to \"auto\""), "{error}");
    assert_eq!(subject.stop().0, []);
}

#[test]
fn recvmmsg_by_choice_is_no_refusal() {
    let options = ReceiveOptions { mode: IngestMode::Recvmmsg, ..Default::default() };
    let subject = Subject::start(options, &["127.0.0.1"]);
    let started = subject.started();
    assert_eq!((started.path, started.refusal), (ReceivePath::Recvmmsg, None));
    subject.stop();
}

#[test]
fn wake_up_begins_a_batch_without_traffic() {
    for options in paths() {
        let subject = Subject::start(options, &["127.0.0.1"]);
        let mut previous_ns = 0;
        // The first batch comes unasked.
        for _ in 0..20 {
            let Seen::Begin(now_ns) = subject.seen.recv_timeout(LIMIT).unwrap() else {
                panic!("{options:?}: a batch begins");
            };
            assert!(previous_ns < now_ns, "{options:?}");
            previous_ns = now_ns;
            assert_eq!(subject.seen.recv_timeout(LIMIT).unwrap(), Seen::End);
            subject.signals.wake();
        }
        subject.stop();
    }
}

#[test]
fn woken_batches_come_long_before_the_idle_limit() {
    for options in paths() {
        let subject = Subject::start(options, &["127.0.0.1"]);
        assert!(matches!(subject.seen.recv_timeout(LIMIT).unwrap(), Seen::Begin(_)));
        assert_eq!(subject.seen.recv_timeout(LIMIT).unwrap(), Seen::End);
        let before_ns = floe_io::clock::monotonic_ns();
        for _ in 0..30 {
            subject.signals.wake();
            while subject.seen.recv_timeout(LIMIT).unwrap() != Seen::End {}
        }
        // Thirty sleeps of an idle worker would be a minute; a wake-up takes about 2 ms.
        let elapsed_ns = floe_io::clock::monotonic_ns() - before_ns;
        assert!(elapsed_ns < 20_000_000_000, "{options:?}: {elapsed_ns} ns");
        subject.stop();
    }
}

#[test]
fn single_datagrams_come_long_before_the_idle_limit() {
    for options in paths() {
        let subject = Subject::start(options, &["127.0.0.1"]);
        let sender = subject.sender(0);
        let before_ns = floe_io::clock::monotonic_ns();
        for _ in 0..30 {
            sender.send(b"a:1|c").unwrap();
            assert_eq!(subject.datagrams(1), [b"a:1|c"]);
        }
        let elapsed_ns = floe_io::clock::monotonic_ns() - before_ns;
        assert!(elapsed_ns < 20_000_000_000, "{options:?}: {elapsed_ns} ns");
        subject.stop();
    }
}

#[test]
fn idle_workers_sleep_for_a_second_and_more() {
    std::thread::scope(|scope| {
        for options in paths() {
            scope.spawn(move || {
                let subject = Subject::start(options, &["127.0.0.1"]);
                while subject.seen.recv_timeout(LIMIT).unwrap() != Seen::End {}
                // The sleep begins after the first batch; another one would end the silence early.
                let silence = subject.seen.recv_timeout(Duration::from_secs(1));
                assert!(silence.is_err(), "{options:?}: {silence:?}");
                subject.stop();
            });
        }
    });
}

#[test]
fn stop_drains_what_was_sent_before_it() {
    for options in paths() {
        let gate = Arc::new(Mutex::new(()));
        // Closed before the worker starts: nothing is received until it opens.
        let closed = gate.lock().unwrap();
        let subject =
            Subject::start_behind(Arc::clone(&gate), options, &["127.0.0.1", "127.0.0.1"]);
        let senders = [subject.sender(0), subject.sender(1)];
        let mut sent = Vec::new();
        for n in 0..2 * subject.capacity() {
            let datagram = format!("key.{n}:{n}|c").into_bytes();
            senders[n % 2].send(&datagram).unwrap();
            sent.push(datagram);
        }
        subject.signals.stop();
        drop(closed);
        let (seen, _) = subject.stop();
        assert_eq!(seen.last(), Some(&Seen::End));
        assert!(matches!(seen[seen.len() - 2], Seen::Begin(_)), "the last batch is empty");
        let mut arrived = only_datagrams(seen);
        arrived.sort();
        sent.sort();
        assert!(arrived == sent, "{options:?}: {} of {}", arrived.len(), sent.len());
    }
}

#[test]
fn stop_during_traffic_loses_nothing_sent_before_it() {
    for options in paths() {
        let subject = Subject::start(options, &["127.0.0.1"]);
        let sender = subject.sender(0);
        let sent: Vec<Vec<u8>> =
            (0..subject.capacity()).map(|n| format!("k{n}:1|c").into_bytes()).collect();
        for datagram in &sent {
            sender.send(datagram).unwrap();
        }
        let drops = sys::socket_drops(&*subject.listeners[0].sockets[0]).unwrap();
        let (seen, _) = subject.stop();
        assert_eq!(drops, 0);
        assert!(only_datagrams(seen) == sent, "{options:?}: in order, once each");
    }
}

#[test]
fn full_socket_arrives_in_order() {
    for options in paths() {
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let subject = Subject::start_behind(Arc::clone(&gate), options, &["127.0.0.1"]);
        let sender = subject.sender(0);
        let sent: Vec<Vec<u8>> =
            (0..subject.capacity()).map(|n| format!("k{n}:1|c").into_bytes()).collect();
        for datagram in &sent {
            sender.send(datagram).unwrap();
        }
        drop(closed);
        assert!(subject.datagrams(sent.len()) == sent, "{options:?}");
        subject.stop();
    }
}

#[test]
fn all_listeners_of_a_worker_are_read() {
    for options in paths() {
        let addresses = ["127.0.0.1"; 9];
        let subject = Subject::start(options, &addresses);
        for index in 0..addresses.len() {
            subject.sender(index).send(format!("s{index}").as_bytes()).unwrap();
        }
        let mut arrived = subject.datagrams(addresses.len());
        arrived.sort();
        let expected: Vec<Vec<u8>> = (0..9).map(|index| format!("s{index}").into_bytes()).collect();
        assert_eq!(arrived, expected, "{options:?}");
        subject.stop();
    }
}

#[test]
fn overflowing_socket_loses_exactly_what_the_kernel_counts() {
    for options in paths() {
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let subject = Subject::start_behind(Arc::clone(&gate), options, &["127.0.0.1"]);
        let socket = Arc::clone(&subject.listeners[0].sockets[0]);
        sys::set_receive_buffer_bytes(&*socket, 65_536).unwrap();
        let sender = subject.sender(0);
        for _ in 0..1_000 {
            sender.send(b"a:1|c").unwrap();
        }
        let dropped = sys::socket_drops(&*socket).unwrap() as usize;
        assert!((1..1_000).contains(&dropped));
        drop(closed);
        let (seen, _) = subject.stop();
        assert_eq!(only_datagrams(seen).len(), 1_000 - dropped, "{options:?}: the books balance");
    }
}

#[test]
fn held_worker_is_ready_and_leaves_the_sockets_alone_until_it_begins() {
    for options in paths() {
        for begins in [true, false] {
            let signals = WorkerSignals::held().unwrap();
            let subject = Subject::start_with(signals, Arc::default(), options, &["127.0.0.1"]);
            subject.started();
            assert_eq!(subject.signals.began_ns(), None);
            // A wake-up is no permission.
            subject.signals.wake();
            subject.sender(0).send(b"a:1|c").unwrap();
            let socket = Arc::clone(&subject.listeners[0].sockets[0]);
            if begins {
                // The reader before it has some of them, and it the rest.
                assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 5);
                subject.sender(0).send(b"b:1|c").unwrap();
                subject.signals.begin();
                assert_eq!(subject.datagrams(1), [b"b:1|c"], "{options:?}");
                assert!(subject.signals.began_ns().is_some());
                subject.stop();
            } else {
                let (seen, _) = subject.stop();
                assert_eq!(seen, [], "{options:?}: not even a batch");
                socket.set_nonblocking(true).unwrap();
                assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 5, "it is still there");
            }
        }
    }
}

#[test]
fn workers_of_a_listener_share_its_flows() {
    for options in paths() {
        let settings =
            Listener { address: "127.0.0.1".into(), port: 0, is_dual_stack_default: false };
        let opened = [udp::open(&settings, 3, 1 << 20).unwrap()];
        let (seen_sender, seen) = bounded(1 << 16);
        let (started_sender, _started) = bounded(3);
        let mut workers = Vec::new();
        for (index, cpu) in cpu::plan(Some(3), None).unwrap().into_iter().enumerate() {
            let signals = Arc::new(WorkerSignals::new().unwrap());
            let plan = WorkerPlan {
                index,
                cpu: Some(cpu),
                sockets: udp::sockets_of(&opened, index, 3),
                receive_buffer_bytes: opened[0].receive_buffer_bytes,
                options,
                signals: Arc::clone(&signals),
                streams: None,
            };
            let gate = Arc::new(Mutex::new(()));
            let counts = ReceiveCounts::default();
            let recorder = Recorder { seen: seen_sender.clone(), gate, counts };
            workers.push((signals, spawn(plan, recorder, started_sender.clone()).unwrap()));
        }
        drop(seen_sender);
        let mut sent = Vec::new();
        for n in 0..60 {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let datagram = format!("flow.{n}:1|c").into_bytes();
            sender.send_to(&datagram, opened[0].local_address).unwrap();
            sent.push(datagram);
        }
        for (signals, thread) in workers {
            signals.stop();
            drop(thread.join().unwrap());
        }
        let mut arrived = only_datagrams(seen.iter().collect());
        arrived.sort();
        sent.sort();
        assert_eq!(arrived, sent, "{options:?}");
    }
}
