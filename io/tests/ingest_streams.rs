//! Claims: connections are read line by line on both receive paths, none of what a client may do
//! harms another, and what is queued at a stop is taken. Method: a worker on its thread with an
//! acceptor before it, real TCP and Unix connections, a sink that records.
#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use floe_core::config::settings::{IngestMode, StreamLimits, StreamListener};
use floe_core::limits::DATAGRAM_SLACK_BYTES;
use floe_io::clock::monotonic_ns;
use floe_io::ingest::stream::acceptor::{Acceptor, AcceptorCounts, StreamWorker};
use floe_io::ingest::stream::connections::StreamInbox;
use floe_io::ingest::stream::listener::{OpenStream, StreamAddress};
use floe_io::ingest::worker::{ReceiveOptions, StreamPlan, WorkerPlan, WorkerSignals, spawn};
use floe_io::ingest::{DatagramSink, ReceiveCounts};

/// Bound of every wait: never reached but by a failure.
const LIMIT: Duration = Duration::from_secs(30);

/// Records lines into a channel and adds counts up.
struct Recorder {
    lines: Sender<Vec<u8>>,
    counts: Sender<ReceiveCounts>,
}

impl DatagramSink for Recorder {
    fn begin_batch(&mut self, _now_ns: u64) {}

    fn datagram(&mut self, _buffer: &[u8], _len: usize) {
        panic!("there is no UDP socket");
    }

    fn lines(&mut self, buffer: &[u8], len: usize) {
        assert!(len + DATAGRAM_SLACK_BYTES <= buffer.len());
        for line in buffer[..len].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.lines.send(line.to_vec()).unwrap();
        }
    }

    fn receive_counts(&mut self, counts: &ReceiveCounts) {
        self.counts.send(*counts).unwrap();
    }

    fn end_batch(&mut self) {}
}

/// A worker that reads streams.
struct Subject {
    address: SocketAddr,
    inbox: Arc<StreamInbox>,
    signals: Arc<WorkerSignals>,
    acceptor: Acceptor,
    accepted: Arc<AcceptorCounts>,
    lines: Receiver<Vec<u8>>,
    counts: Receiver<ReceiveCounts>,
    thread: JoinHandle<Recorder>,
}

impl Subject {
    fn start(mode: IngestMode, limits: StreamLimits) -> Self {
        let tcp = StreamListener::Tcp { address: Some("127.0.0.1".into()), port: 0 };
        let stream = OpenStream::open(&tcp).unwrap();
        let StreamAddress::Tcp(address) = stream.address().clone() else { panic!("TCP") };
        Self::start_at(mode, limits, stream, address)
    }

    fn start_at(
        mode: IngestMode,
        limits: StreamLimits,
        stream: OpenStream,
        address: SocketAddr,
    ) -> Self {
        let signals = Arc::new(WorkerSignals::new().unwrap());
        let inbox = Arc::new(StreamInbox::new(limits.connections_max));
        let (lines_sender, lines) = bounded(1 << 18);
        let (counts_sender, counts) = bounded(1 << 18);
        let (started_sender, started) = bounded(1);
        let plan = WorkerPlan {
            index: 0,
            cpu: None,
            sockets: Vec::new(),
            receive_buffer_bytes: 1 << 20,
            options: ReceiveOptions { mode, ..ReceiveOptions::default() },
            signals: Arc::clone(&signals),
            streams: Some(StreamPlan { inbox: Arc::clone(&inbox), limits }),
        };
        let recorder = Recorder { lines: lines_sender, counts: counts_sender };
        let thread = spawn(plan, recorder, started_sender).unwrap();
        started.recv_timeout(LIMIT).unwrap().unwrap();
        let worker = StreamWorker { inbox: Arc::clone(&inbox), signals: Arc::clone(&signals) };
        let acceptor =
            Acceptor::start(vec![Arc::new(stream)], vec![worker], limits.connections_max).unwrap();
        let accepted = acceptor.counts();
        Self { address, inbox, signals, acceptor, accepted, lines, counts, thread }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn line(&self) -> String {
        String::from_utf8_lossy(&self.lines.recv_timeout(LIMIT).unwrap()).into_owned()
    }

    /// Waits until the counts, added up, satisfy `is_met`.
    fn await_counts(&self, is_met: impl Fn(&ReceiveCounts) -> bool) -> ReceiveCounts {
        let mut total = ReceiveCounts::default();
        while !is_met(&total) {
            add(&mut total, &self.counts.recv_timeout(LIMIT).unwrap());
        }
        total
    }

    /// The acceptor's accepted, refused and failed, once `count` are accepted: it counts a connection
    /// after a worker has it.
    fn await_accepted(&self, count: u64) -> [u64; 3] {
        let end_ns = monotonic_ns() + u64::try_from(LIMIT.as_nanos()).unwrap();
        loop {
            let counts = self.accepted.read().map(|(_, count)| count);
            if count <= counts[0] || end_ns < monotonic_ns() {
                return counts;
            }
            std::thread::yield_now();
        }
    }

    /// Stops acceptor and worker as the daemon does; the lines and counts since.
    fn stop(self) -> (Vec<Vec<u8>>, ReceiveCounts) {
        drop(self.acceptor);
        self.signals.stop();
        drop(self.thread.join().unwrap());
        let mut total = ReceiveCounts::default();
        self.counts.iter().for_each(|counts| add(&mut total, &counts));
        assert_eq!(self.inbox.open(), 0, "every connection was given back");
        (self.lines.iter().collect(), total)
    }
}

fn add(total: &mut ReceiveCounts, more: &ReceiveCounts) {
    total.buffers_exhausted += more.buffers_exhausted;
    total.receive_errors += more.receive_errors;
    total.stream_reads += more.stream_reads;
    total.lines_unfinished += more.lines_unfinished;
    total.lines_too_long += more.lines_too_long;
    total.connections_reset += more.connections_reset;
    total.connections_idle += more.connections_idle;
}

fn on_both_paths(claim: impl Fn(IngestMode)) {
    claim(IngestMode::IoUring);
    claim(IngestMode::Recvmmsg);
}

#[test]
fn lines_split_over_writes_arrive_whole_and_bytes_are_as_sent() {
    on_both_paths(|mode| {
        let subject = Subject::start(mode, StreamLimits::default());
        let mut client = subject.connect();
        client.write_all(b"first:1|c\nspl").unwrap();
        assert_eq!(subject.line(), "first:1|c");
        client.write_all(b"it:1").unwrap();
        client.write_all("2|c\ncaf\u{e9}:1|c\npartial".as_bytes()).unwrap();
        assert_eq!(subject.line(), "split:12|c");
        assert_eq!(subject.line(), "caf\u{e9}:1|c");
        drop(client);
        let counts = subject.await_counts(|counts| counts.lines_unfinished == 1);
        assert_eq!((counts.connections_reset, counts.lines_too_long), (0, 0));
    });
}

#[test]
fn hundreds_of_connections_are_read_each_in_its_order() {
    on_both_paths(|mode| {
        let subject = Subject::start(mode, StreamLimits::default());
        let mut clients: Vec<TcpStream> = (0..300).map(|_| subject.connect()).collect();
        for round in 0..3 {
            for (index, client) in clients.iter_mut().enumerate() {
                client.write_all(format!("k{index}:{round}|g\n").as_bytes()).unwrap();
            }
        }
        let mut seen = vec![0; clients.len()];
        for _ in 0..900 {
            let line = subject.line();
            let (key, rest) = line.split_once(':').unwrap();
            let index: usize = key[1..].parse().unwrap();
            assert_eq!(rest, format!("{}|g", seen[index]), "in the order of the client");
            seen[index] += 1;
        }
        assert!(seen.iter().all(|count| *count == 3));
    });
}

#[test]
fn a_megabyte_without_a_newline_is_dropped_and_the_next_line_taken() {
    on_both_paths(|mode| {
        let subject = Subject::start(mode, StreamLimits::default());
        let mut client = subject.connect();
        client.write_all(&vec![b'x'; 1 << 20]).unwrap();
        client.write_all(b"\ngood:1|c\n").unwrap();
        assert_eq!(subject.line(), "good:1|c");
        let (lines, counts) = subject.stop();
        assert_eq!((lines.len(), counts.lines_too_long), (0, 1));
    });
}

#[test]
fn a_reset_ends_its_connection_alone() {
    on_both_paths(|mode| {
        let subject = Subject::start(mode, StreamLimits::default());
        let (mut healthy, mut rude) = (subject.connect(), subject.connect());
        rude.write_all(b"rude:1|c\nunfinished").unwrap();
        assert_eq!(subject.line(), "rude:1|c");
        socket2::SockRef::from(&rude).set_linger(Some(Duration::ZERO)).unwrap();
        drop(rude);
        let counts = subject.await_counts(|counts| counts.connections_reset == 1);
        assert_eq!(counts.lines_unfinished, 1);
        healthy.write_all(b"healthy:1|c\n").unwrap();
        assert_eq!(subject.line(), "healthy:1|c");
    });
}

#[test]
fn beyond_the_cap_a_connection_is_closed_and_room_is_given_again() {
    on_both_paths(|mode| {
        let limits = StreamLimits { connections_max: 2, ..StreamLimits::default() };
        let subject = Subject::start(mode, limits);
        let (mut first, second) = (subject.connect(), subject.connect());
        first.write_all(b"first:1|c\n").unwrap();
        assert_eq!(subject.line(), "first:1|c");
        let mut third = subject.connect();
        assert_eq!(third.read(&mut [0; 8]).unwrap_or(0), 0, "closed at once");
        drop(second);
        // The place is free once the worker has seen the close.
        let line = (0..200).find_map(|_| {
            let mut again = subject.connect();
            again.write_all(b"again:1|c\n").ok();
            subject.lines.recv_timeout(Duration::from_millis(150)).ok()
        });
        assert_eq!(line.as_deref(), Some(&b"again:1|c"[..]));
        let [accepted, refused, failed] = subject.await_accepted(3);
        assert!(3 <= accepted && 1 <= refused && failed == 0, "{accepted} {refused} {failed}");
    });
}

#[test]
fn a_silent_connection_is_closed_and_a_talking_one_is_not() {
    on_both_paths(|mode| {
        let limits = StreamLimits { idle_ms: 1, ..StreamLimits::default() };
        let subject = Subject::start(mode, limits);
        let mut silent = subject.connect();
        assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0, "closed by the sweep");
        let counts = subject.await_counts(|counts| counts.connections_idle == 1);
        assert_eq!(counts.connections_reset, 0);
        let limits = StreamLimits { idle_ms: 0, ..limits };
        let subject = Subject::start(mode, limits);
        let mut patient = subject.connect();
        patient.write_all(b"a:1|c\n").unwrap();
        assert_eq!(subject.line(), "a:1|c");
        let (_, counts) = subject.stop();
        assert_eq!(counts.connections_idle, 0);
    });
}

#[test]
fn what_is_queued_at_the_stop_is_taken() {
    on_both_paths(|mode| {
        let subject = Subject::start(mode, StreamLimits::default());
        let mut clients: Vec<TcpStream> = (0..100).map(|_| subject.connect()).collect();
        for client in &mut clients {
            client.write_all(b"queued:1|c\nqueued:1|c\n").unwrap();
        }
        let (lines, counts) = subject.stop();
        assert_eq!(lines.len(), 200);
        assert_eq!((counts.connections_reset, counts.lines_unfinished), (0, 0));
    });
}

#[test]
fn a_burst_of_newcomers_is_refused_by_the_cap_alone() {
    on_both_paths(|mode| {
        let limits = StreamLimits { connections_max: 600, ..StreamLimits::default() };
        let subject = Subject::start(mode, limits);
        // Faster than a worker takes them, and each with a line already.
        let clients: Vec<TcpStream> = (0..600)
            .map(|_| {
                let mut client = subject.connect();
                client.write_all(b"a:1|c\n").unwrap();
                client
            })
            .collect();
        for _ in 0..clients.len() {
            assert_eq!(subject.line(), "a:1|c");
        }
        let [accepted, refused, _] = subject.await_accepted(600);
        assert_eq!((accepted, refused), (600, 0));
        let (_, counts) = subject.stop();
        assert_eq!(counts.connections_reset, 0);
    });
}

#[test]
fn a_short_limit_holds_wherever_the_reads_end() {
    on_both_paths(|mode| {
        let limits = StreamLimits { line_bytes_max: 64, ..StreamLimits::default() };
        let subject = Subject::start(mode, limits);
        let mut client = subject.connect();
        let long = format!("{}:1|c\n", "x".repeat(100));
        client.write_all(format!("a:1|c\n{long}b:1|c\n{long}").as_bytes()).unwrap();
        assert_eq!((subject.line(), subject.line()), ("a:1|c".to_owned(), "b:1|c".to_owned()));
        let (lines, counts) = subject.stop();
        assert_eq!((lines.len(), counts.lines_too_long), (0, 2));
    });
}

#[test]
fn peers_that_vanish_are_asked_for() {
    let subject = Subject::start(IngestMode::Auto, StreamLimits::default());
    let mut client = subject.connect();
    client.write_all(b"a:1|c\n").unwrap();
    assert_eq!(subject.line(), "a:1|c");
    // The kernel lists the timer of our side of the connection: 2 is keep-alive.
    let port = format!(":{:04X}", client.local_addr().unwrap().port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let row = table.lines().find(|row| row.split_whitespace().nth(2).unwrap().ends_with(&port));
    let timer = row.unwrap().split_whitespace().nth(5).unwrap();
    assert!(timer.starts_with("02:"), "{timer}");
}

#[test]
fn a_unix_socket_is_read_like_a_port() {
    on_both_paths(|mode| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floe.sock");
        let unix = StreamListener::Unix { path: path.clone(), mode: None };
        let stream = OpenStream::open(&unix).unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let subject = Subject::start_at(mode, StreamLimits::default(), stream, nowhere);
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"a:1|c\nb:2|g\n").unwrap();
        assert_eq!((subject.line(), subject.line()), ("a:1|c".to_owned(), "b:2|g".to_owned()));
        subject.stop();
        assert!(!path.exists(), "the socket goes with the daemon");
    });
}

#[test]
fn a_fast_sender_loses_nothing() {
    on_both_paths(|mode| {
        let subject = Subject::start(mode, StreamLimits::default());
        let mut client = subject.connect();
        let sender = std::thread::spawn(move || {
            for block in 0..2_000 {
                let lines: String = (0..100).map(|n| format!("k{block}.{n}:1|c\n")).collect();
                client.write_all(lines.as_bytes()).unwrap();
            }
        });
        for block in 0..2_000 {
            for n in 0..100 {
                assert_eq!(subject.line(), format!("k{block}.{n}:1|c"));
            }
        }
        sender.join().unwrap();
    });
}
