//! Claims: a worker does not allocate between its first batch and the end of its drain, on any
//! receive path, reads of connections included; parser and shard do not allocate for series they know, whatever their kind, flips
//! included. Method: an allocator that counts per thread, asked by the sink.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use crossbeam_utils::sync::Parker;
use floe_core::config;
use floe_core::config::settings::{IngestMode, Listener, StreamLimits};
use floe_core::interval::{BookEntries, Interval};
use floe_core::limits::DATAGRAM_SLACK_BYTES;
use floe_core::line::LineParser;
use floe_core::name::KeyHasher;
use floe_core::shard::shard;
use floe_io::ingest::intake::{Intake, IntakeInbox, IntakeSettings};
use floe_io::ingest::stream::connections::StreamInbox;
use floe_io::ingest::worker::{ReceiveOptions, StreamPlan, WorkerPlan, WorkerSignals, spawn};
use floe_io::ingest::{DatagramSink, ReceiveCounts, udp};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[expect(unsafe_code, reason = "an allocator that counts is an allocator")]
// SAFETY:
// - every call is passed on to `System` unchanged, which upholds the contract;
// - the counter is a const-initialised thread local without destructor: it never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY:
        // - the layout is valid: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY:
        // - pointer and layout belong to an allocation of `System`: all of ours are.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Notes the thread's allocations at its first and at its latest batch.
struct Meter {
    first: Option<u64>,
    last: u64,
    datagrams: usize,
    report_at: usize,
    received: Sender<()>,
}

impl DatagramSink for Meter {
    fn begin_batch(&mut self, _now_ns: u64) {
        self.first.get_or_insert(ALLOCATIONS.get());
    }

    fn datagram(&mut self, _buffer: &[u8], _len: usize) {
        self.datagrams += 1;
        if self.datagrams == self.report_at {
            self.received.try_send(()).expect("sent once into room for one");
        }
    }

    fn lines(&mut self, _buffer: &[u8], _len: usize) {}
    fn receive_counts(&mut self, _counts: &ReceiveCounts) {}

    fn end_batch(&mut self) {
        self.last = ALLOCATIONS.get();
    }
}

#[test]
fn worker_allocates_nothing_after_its_start() {
    let default = ReceiveOptions::default();
    let paths = [
        default,
        ReceiveOptions { forgo_min_wait: true, ..default },
        ReceiveOptions { mode: IngestMode::Recvmmsg, ..default },
    ];
    for options in paths {
        let listener =
            Listener { address: "127.0.0.1".into(), port: 0, is_dual_stack_default: false };
        let opened = [udp::open(&listener, 1, 1 << 20).unwrap()];
        let signals = Arc::new(WorkerSignals::new().unwrap());
        let plan = WorkerPlan {
            index: 0,
            cpu: None,
            sockets: udp::sockets_of(&opened, 0, 1),
            receive_buffer_bytes: opened[0].receive_buffer_bytes,
            options,
            signals: Arc::clone(&signals),
            streams: None,
        };
        let (received_sender, received) = bounded(1);
        let (started_sender, _started) = bounded(1);
        let meter =
            Meter { first: None, last: 0, datagrams: 0, report_at: 200, received: received_sender };
        let thread = spawn(plan, meter, started_sender).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..200 {
            let datagram = if n % 10 == 0 { &b""[..] } else { b"a:1|c" };
            sender.send_to(datagram, opened[0].local_address).unwrap();
            signals.wake();
        }
        received.recv_timeout(Duration::from_secs(30)).unwrap();
        signals.stop();
        let meter = thread.join().unwrap();
        assert_eq!(meter.datagrams, 200, "{options:?}");
        assert_eq!(Some(meter.last), meter.first, "{options:?}: allocations of the thread");
        assert!(0 < meter.last, "{options:?}: the start allocates, and is counted");
    }
}

/// Notes the thread's allocations at the first and at the latest of the lines it is handed.
struct StreamMeter {
    reads: usize,
    warm_reads: usize,
    first: u64,
    last: u64,
    received: Sender<()>,
}

impl DatagramSink for StreamMeter {
    fn begin_batch(&mut self, _now_ns: u64) {}
    fn datagram(&mut self, _buffer: &[u8], _len: usize) {}

    fn lines(&mut self, _buffer: &[u8], _len: usize) {
        self.reads += 1;
        self.last = ALLOCATIONS.get();
        if self.reads <= self.warm_reads {
            self.first = self.last;
        }
        self.received.send(()).expect("the test waits for it");
    }

    fn receive_counts(&mut self, _counts: &ReceiveCounts) {}
    fn end_batch(&mut self) {}
}

#[test]
fn reading_connections_allocates_nothing_once_their_memory_has_grown() {
    const CONNECTIONS: usize = 20;
    const ROUNDS: usize = 30;
    for mode in [IngestMode::Auto, IngestMode::Recvmmsg] {
        let signals = Arc::new(WorkerSignals::new().unwrap());
        let inbox = Arc::new(StreamInbox::new(CONNECTIONS));
        let plan = WorkerPlan {
            index: 0,
            cpu: None,
            sockets: Vec::new(),
            receive_buffer_bytes: 1 << 20,
            options: ReceiveOptions { mode, ..ReceiveOptions::default() },
            signals: Arc::clone(&signals),
            streams: Some(StreamPlan {
                inbox: Arc::clone(&inbox),
                limits: StreamLimits::default(),
            }),
        };
        // Room for all: a send that blocks or grows would be an allocation of the thread.
        let (received_sender, received) = bounded(CONNECTIONS * ROUNDS);
        let (started_sender, _started) = bounded(1);
        let warm_reads = 2 * CONNECTIONS;
        let meter =
            StreamMeter { reads: 0, warm_reads, first: 0, last: 0, received: received_sender };
        let thread = spawn(plan, meter, started_sender).unwrap();
        let mut clients: Vec<UnixStream> = Vec::new();
        for _ in 0..CONNECTIONS {
            let (client, server) = UnixStream::pair().unwrap();
            inbox.put(server.into()).unwrap();
            clients.push(client);
        }
        signals.wake();
        for round in 0..ROUNDS {
            for client in &mut clients {
                // One read each, and every line but the first is shared by two reads.
                let end = if round == 0 { "" } else { "rest:1|c\n" };
                client.write_all(format!("{end}a line that goes on with the ").as_bytes()).unwrap();
            }
            for _ in clients.iter().filter(|_| round != 0) {
                received.recv_timeout(Duration::from_secs(30)).unwrap();
            }
        }
        signals.stop();
        let meter = thread.join().unwrap();
        assert_eq!(meter.reads, CONNECTIONS * (ROUNDS - 1), "{mode:?}");
        assert_eq!(meter.last, meter.first, "{mode:?}: allocations of the thread");
        assert!(0 < meter.first, "{mode:?}: the start allocates, and is counted");
    }
}

/// Lines of every kind over 200 names, in datagrams of ordinary size.
fn datagrams() -> Vec<Vec<u8>> {
    let lines: Vec<String> = (0..2_000)
        .map(|number| {
            let name = number % 50;
            match number % 5 {
                0 => format!("some.counter.{name}:1|c|@0.5"),
                1 => format!("some.timer.with.a.name.longer.than.a.slot.{name}:{number}|ms"),
                2 => format!("some.gauge.{name}:+{number}|g"),
                3 => format!("some.set.{name}:member{}|s", number % 7),
                _ => format!("some rewritten/key {name}:1|c|#tag:value"),
            }
        })
        .collect();
    let packed = lines.chunks(40).map(|chunk| chunk.join("\n").into_bytes());
    packed
        .map(|mut datagram| {
            datagram.resize(datagram.len() + DATAGRAM_SLACK_BYTES, 0);
            datagram
        })
        .collect()
}

#[test]
fn parser_and_shard_allocate_nothing_for_series_they_know() {
    const WARM_INTERVALS: u64 = 4;
    const INTERVALS: u64 = 12;
    let hasher = KeyHasher::default();
    let (writer, reader) = shard(0, hasher.clone());
    let mut readers = [reader];
    let settings = config::without_file().settings;
    let mut interval = Interval::new(settings, &hasher, &readers);
    let parker = Parker::new();
    let settings = IntakeSettings { parser: LineParser::new(true), side: None };
    let inbox = IntakeInbox::default();
    let mut intake = Intake::new(settings, inbox, writer, parker.unparker().clone());
    let datagrams = datagrams();
    let mut allocations = 0;
    for second in 0..INTERVALS {
        let before = ALLOCATIONS.get();
        intake.begin_batch(second);
        for datagram in &datagrams {
            intake.datagram(datagram, datagram.len() - DATAGRAM_SLACK_BYTES);
        }
        intake.end_batch();
        if WARM_INTERVALS <= second {
            allocations += ALLOCATIONS.get() - before;
        } else {
            assert!(0 < second || before < ALLOCATIONS.get(), "new series allocate, and count");
        }
        readers[0].request();
        let before = ALLOCATIONS.get();
        intake.begin_batch(second);
        allocations += ALLOCATIONS.get() - before;
        interval.collect(&mut readers);
        assert_eq!(interval.page().values_recorded, 2_000);
        interval.close(second, &BookEntries::default());
    }
    assert_eq!(allocations, 0);
}
