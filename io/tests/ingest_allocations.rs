//! Claims: a worker does not allocate between its first batch and the end of its drain, on any
//! receive path; parser and shard do not allocate for series they know, whatever their kind, flips
//! included. Method: an allocator that counts per thread, asked by the sink.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use crossbeam_utils::sync::Parker;
use floe_core::config;
use floe_core::config::settings::{IngestMode, Listener};
use floe_core::interval::{BookEntries, Interval};
use floe_core::limits::DATAGRAM_SLACK_BYTES;
use floe_core::line::LineParser;
use floe_core::name::KeyHasher;
use floe_core::shard::shard;
use floe_io::ingest::intake::{Intake, IntakeInbox, IntakeSettings};
use floe_io::ingest::worker::{ReceiveOptions, WorkerPlan, WorkerSignals, spawn};
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
            sockets: udp::sockets_of(&opened, 0),
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
