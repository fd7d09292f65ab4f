//! Claim: a worker does not allocate between its first batch and the end of its drain, on any
//! receive path. Method: an allocator that counts per thread, asked by the sink.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use floe_core::config::settings::{IngestMode, Listener};
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
