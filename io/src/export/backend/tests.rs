//! Claims: every committed segment reaches its Carbon once it can, in the stated order, and nothing
//! leaves the queue before. Method: real spools, real threads, scripted Carbons on the loopback;
//! tests wait on what the Carbons report, never for a time.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use floe_core::config::settings::{NamespaceSettings, Protocol};
use floe_core::row::Rows;
use floe_storage::{BackendLimits, Queue, Spool, SpoolOptions};
use tempfile::TempDir;

use super::*;
use crate::backlog::Backlog;
use crate::export::exporter::{Exporter, OwnBooks};
use crate::export::name_filter::Refusal;
use crate::export::registry::AccountRegistry;

mod choices;
mod memory;
mod removed;

/// Bound of every wait: far beyond what a loaded machine needs.
const LIMIT: Duration = Duration::from_secs(30);

fn impatient() -> Patience {
    Patience {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(100),
        weak_close: Duration::from_millis(10),
        backoff_first: Duration::from_millis(1),
        backoff_last: Duration::from_millis(20),
        scan: Duration::from_secs(1),
    }
}

/// What a Carbon does with one connection, after it has read `Some` bytes or to the end.
#[derive(Clone, Copy)]
enum Script {
    /// Reads all, closes.
    Take,
    /// Closes without reading.
    CloseEarly,
    /// Reads all, resets.
    Reset,
    /// Reads all, resets if it holds points of this timestamp, else closes.
    ResetAt(u64),
    /// Never reads, never closes.
    Hold,
}

/// A Carbon that follows a script: one entry per connection, then `Take` for ever.
struct Carbon {
    address: SocketAddr,
    /// What each connection that was read to the end carried.
    payloads: Receiver<Vec<u8>>,
}

impl Carbon {
    fn start(script: &[Script]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, payloads) = bounded(64);
        let script = script.to_vec();
        // Ends with the test process: it blocks in accept.
        std::thread::spawn(move || serve(&listener, script, &sender));
        Self { address, payloads }
    }

    fn payload(&self) -> String {
        String::from_utf8(self.payloads.recv_timeout(LIMIT).unwrap()).unwrap()
    }

    /// Timestamp of the next payload: which segment it was.
    fn timestamp(&self) -> u64 {
        self.payload().lines().next().unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn serve(listener: &TcpListener, script: Vec<Script>, payloads: &Sender<Vec<u8>>) {
    let mut held: Vec<TcpStream> = Vec::new();
    for step in script.into_iter().chain(std::iter::repeat(Script::Take)) {
        let (mut stream, _) = listener.accept().unwrap();
        match step {
            Script::CloseEarly => {}
            Script::Hold => held.push(stream),
            Script::Take | Script::Reset | Script::ResetAt(_) => {
                let mut payload = Vec::new();
                if stream.read_to_end(&mut payload).is_err() {
                    continue;
                }
                let is_reset = match step {
                    Script::ResetAt(timestamp_s) => {
                        payload.ends_with(format!(" {timestamp_s}\n").as_bytes())
                    }
                    _ => matches!(step, Script::Reset),
                };
                if is_reset {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
                drop(stream);
                if payloads.send(payload).is_err() {
                    return;
                }
            }
        }
    }
}

/// A spool with the queues of some backends.
struct Store {
    path: PathBuf,
    /// Where it is the store's own.
    _directory: Option<TempDir>,
    spool: Spool,
    backlog: Arc<Backlog>,
}

impl Store {
    fn new(backends: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let store = Self::at(directory.path(), backends);
        Self { _directory: Some(directory), ..store }
    }

    fn at(path: &Path, backends: &[&str]) -> Self {
        let limits = |name: &&str| BackendLimits {
            name: (*name).into(),
            backlog_age_ms: u64::MAX,
            backlog_bytes: u64::MAX,
        };
        let (spool, _) = Spool::open(SpoolOptions {
            path: path.to_owned(),
            backends: backends.iter().map(limits).collect(),
            archive_age_ms: u64::MAX,
            archive_bytes: u64::MAX,
            reserve_bytes: Some(0),
            run_id: 1,
        })
        .unwrap();
        Self { path: path.to_owned(), _directory: None, spool, backlog: Arc::default() }
    }

    fn commit(&mut self, timestamp_s: u64) {
        self.spool.commit(&[rows(timestamp_s)]).unwrap();
    }

    fn queued(&self, backend: &str) -> Vec<SegmentName> {
        let mut names = Vec::new();
        Queue::open(&self.path, backend).unwrap().list(&mut names).unwrap();
        names
    }

    fn export(&self, backends: &[BackendSettings]) -> Exporting {
        self.export_with(backends, impatient())
    }

    fn export_with(&self, backends: &[BackendSettings], patience: Patience) -> Exporting {
        let registry = Arc::new(AccountRegistry::default());
        let spool = &self.path;
        let books = OwnBooks::ByExporter;
        let backlog = Arc::clone(&self.backlog);
        let exporter =
            Exporter::start_with(spool, backends, &registry, &backlog, books, Some(patience))
                .unwrap();
        let accounts = backends.iter().map(|backend| registry.account(&backend.name, 0)).collect();
        Exporting { exporter, accounts }
    }
}

/// A running exporter and the accounts of its backends, in configured order.
struct Exporting {
    exporter: Exporter,
    accounts: Vec<Arc<BackendAccounts>>,
}

impl Exporting {
    fn accounts(&self) -> &[Arc<BackendAccounts>] {
        &self.accounts
    }

    fn stop(self, patience: Duration) {
        self.exporter.stop(patience);
    }
}

/// One gauge and, since this is part 0, the points of the flush.
fn rows(timestamp_s: u64) -> Rows {
    let mut rows = Rows {
        timestamp_s,
        flush_interval_ms: 10_000,
        series_count: 1,
        prefix_stats: "statsd".into(),
        gauges: vec![0.5],
        ..Rows::default()
    };
    rows.names.push(b"temperature;room=1");
    rows
}

fn backend(name: &str, address: SocketAddr) -> BackendSettings {
    BackendSettings {
        backlog_age_ms: u64::MAX,
        backlog_bytes: u64::MAX,
        ..BackendSettings::new(name, &address.to_string(), NamespaceSettings::default())
    }
}

/// Waits until the accounts of the first backend say so.
fn wait_for(exporter: &Exporting, count: Count, number: u64) {
    let (_sender, never) = bounded::<()>(0);
    for _ in 0..3_000 {
        if exporter.accounts()[0].count(count) >= number {
            return;
        }
        never.recv_timeout(Duration::from_millis(10)).unwrap_err();
    }
    panic!("{count:?} is {}, not {number}", exporter.accounts()[0].count(count));
}

#[test]
fn small_segment_arrives_byte_for_byte() {
    let mut store = Store::new(&["main"]);
    let carbon = Carbon::start(&[]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    store.commit(1_700_000_000);
    let start_s = exporter.accounts()[0].link().last_flush_s;
    let payload = carbon.payload();
    let expected = format!(
        "stats.gauges.temperature;room=1 0.5 1700000000\n\
         statsd.numStats 1 1700000000\n\
         stats.statsd.processing_time 0 1700000000\n\
         stats.statsd.graphiteStats.calculationtime 0 1700000000\n\
         stats.statsd.graphiteStats.last_exception 0 1700000000\n\
         stats.statsd.graphiteStats.last_flush {start_s} 1700000000\n\
         stats.statsd.graphiteStats.flush_time 0 1700000000\n\
         stats.statsd.graphiteStats.flush_length 0 1700000000\n"
    );
    // Formatting may take a millisecond on a busy machine.
    let lines: Vec<_> = payload.lines().filter(|line| !line.contains("calculationtime")).collect();
    let expected: Vec<_> =
        expected.lines().filter(|line| !line.contains("calculationtime")).collect();
    assert_eq!(lines, expected);
    assert!(payload.contains("stats.statsd.graphiteStats.calculationtime "));
    wait_for(&exporter, Count::SegmentsAcknowledged, 1);
    let accounts = &exporter.accounts()[0];
    assert_eq!(accounts.count(Count::PointsAcknowledged), 8);
    assert_eq!(accounts.count(Count::BytesAcknowledged), payload.len() as u64);
    assert_eq!(accounts.link().flush_length_bytes, payload.len() as u64);
    assert!(store.queued("main").is_empty());
}

#[test]
fn newest_interval_goes_first_then_the_backlog_from_its_oldest() {
    let mut store = Store::new(&["main"]);
    for timestamp_s in [100, 110, 120, 130] {
        store.commit(timestamp_s);
    }
    let carbon = Carbon::start(&[]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    let order: Vec<_> = (0..4).map(|_| carbon.timestamp()).collect();
    assert_eq!(order, [130, 100, 110, 120]);
    store.commit(140);
    assert_eq!(carbon.timestamp(), 140);
    wait_for(&exporter, Count::SegmentsAcknowledged, 5);
    assert!(store.queued("main").is_empty());
    assert_eq!(exporter.accounts()[0].count(Count::SegmentsResent), 0);
}

#[test]
fn what_an_earlier_run_may_have_sent_carries_no_points_of_this_one() {
    let mut store = Store::new(&["main"]);
    store.commit(100);
    let carbon = Carbon::start(&[]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    assert!(!carbon.payload().contains("graphiteStats"));
    store.commit(110);
    assert!(carbon.payload().contains("graphiteStats"));
    wait_for(&exporter, Count::SegmentsAcknowledged, 2);
}

#[test]
fn segment_is_sent_again_until_it_is_read_and_closed() {
    let mut store = Store::new(&["main"]);
    let carbon = Carbon::start(&[Script::CloseEarly, Script::Reset, Script::CloseEarly]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    store.commit(100);
    // Byte for byte, the exporter's own points included: one slot of Graphite gets one value.
    assert_eq!(carbon.payload(), carbon.payload());
    wait_for(&exporter, Count::SegmentsAcknowledged, 1);
    let accounts = &exporter.accounts()[0];
    assert_eq!(accounts.count(Count::SegmentsResent), 3);
    assert_eq!(accounts.count(Count::ConnectionErrors), 3);
    assert_eq!(accounts.count(Count::SegmentsWeak), 0);
    assert_eq!(accounts.count(Count::PointsAcknowledged), 8);
    assert!(accounts.link().last_exception_s > 0);
}

#[test]
fn segment_that_is_never_taken_does_not_keep_the_others_back() {
    let mut store = Store::new(&["main"]);
    for timestamp_s in [100, 110, 120] {
        store.commit(timestamp_s);
    }
    let carbon = Carbon::start(&[Script::ResetAt(100); 64]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    wait_for(&exporter, Count::SegmentsAcknowledged, 2);
    let left = store.queued("main");
    assert_eq!(left.iter().map(SegmentName::timestamp_s).collect::<Vec<_>>(), [100]);
}

#[test]
fn carbon_that_is_down_is_tried_until_it_is_up() {
    let mut store = Store::new(&["main"]);
    store.commit(100);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let exporter = store.export(&[backend("main", address)]);
    wait_for(&exporter, Count::ConnectionErrors, 3);
    assert_eq!(store.queued("main").len(), 1);
    let listener = TcpListener::bind(address).unwrap();
    let (sender, payloads) = bounded(1);
    std::thread::spawn(move || serve(&listener, Vec::new(), &sender));
    assert!(!payloads.recv_timeout(LIMIT).unwrap().is_empty());
    wait_for(&exporter, Count::SegmentsAcknowledged, 1);
}

#[test]
fn third_silence_is_a_weak_acknowledgement_and_a_close_ends_the_weakness() {
    let mut store = Store::new(&["main"]);
    let carbon = Carbon::start(&[Script::Hold, Script::Hold, Script::Hold, Script::Hold]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    store.commit(100);
    wait_for(&exporter, Count::SegmentsAcknowledged, 1);
    let accounts = &exporter.accounts()[0];
    assert_eq!(accounts.count(Count::SegmentsWeak), 1);
    assert_eq!(accounts.count(Count::SegmentsResent), 2);
    assert_eq!(accounts.count(Count::PointsAcknowledged), 8);
    // The next silence is believed at once.
    store.commit(110);
    wait_for(&exporter, Count::SegmentsWeak, 2);
    assert_eq!(accounts.count(Count::SegmentsResent), 2);
    store.commit(120);
    assert_eq!(carbon.timestamp(), 120);
    wait_for(&exporter, Count::SegmentsAcknowledged, 3);
    assert_eq!(accounts.count(Count::SegmentsWeak), 2);
}

#[test]
fn silence_of_a_peer_that_has_closed_before_is_no_acknowledgement() {
    let mut store = Store::new(&["main"]);
    let mut script = [Script::Hold; 6];
    script[0] = Script::Take;
    let carbon = Carbon::start(&script);
    let exporter = store.export(&[backend("main", carbon.address)]);
    for (timestamp_s, acknowledged) in [(100, 1), (110, 2)] {
        store.commit(timestamp_s);
        assert_eq!(carbon.timestamp(), timestamp_s);
        wait_for(&exporter, Count::SegmentsAcknowledged, acknowledged);
    }
    let accounts = &exporter.accounts()[0];
    assert_eq!(accounts.count(Count::SegmentsWeak), 0);
    assert_eq!(accounts.count(Count::SegmentsResent), 5);
}

/// The segment that is live changes from one silent attempt to the next.
#[test]
fn silences_in_a_row_count_whichever_segments_they_are_of() {
    let mut store = Store::new(&["main"]);
    let carbon = Carbon::start(&[Script::Hold; 64]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    for attempts in 1..=2 {
        store.commit(100 + attempts);
        wait_for(&exporter, Count::ConnectionErrors, attempts);
    }
    store.commit(103);
    wait_for(&exporter, Count::SegmentsWeak, 1);
    wait_for(&exporter, Count::SegmentsAcknowledged, 3);
}

#[test]
fn written_needs_no_close() {
    let mut store = Store::new(&["main"]);
    store.commit(100);
    let carbon = Carbon::start(&[Script::Hold]);
    let mut settings = backend("main", carbon.address);
    settings.acknowledgement = Acknowledgement::Written;
    let exporter = store.export(&[settings]);
    wait_for(&exporter, Count::SegmentsAcknowledged, 1);
    assert_eq!(exporter.accounts()[0].count(Count::SegmentsWeak), 0);
    assert_eq!(exporter.accounts()[0].count(Count::ConnectionErrors), 0);
}

#[test]
fn backend_that_hangs_delays_no_other() {
    let mut store = Store::new(&["hung", "main"]);
    let hung = Carbon::start(&[Script::Hold; 64]);
    let carbon = Carbon::start(&[]);
    let backends = [backend("hung", hung.address), backend("main", carbon.address)];
    let patience = Patience { stall: Duration::from_secs(3_600), ..impatient() };
    let exporter = store.export_with(&backends, patience);
    for timestamp_s in [100, 110, 120] {
        store.commit(timestamp_s);
        assert_eq!(carbon.timestamp(), timestamp_s);
    }
    assert_eq!(exporter.accounts()[0].count(Count::SegmentsAcknowledged), 0);
    assert_eq!(store.queued("hung").len(), 3);
    exporter.stop(Duration::ZERO);
    assert!(store.queued("main").is_empty());
}

#[test]
fn stop_delivers_what_is_queued() {
    let mut store = Store::new(&["main"]);
    let carbon = Carbon::start(&[]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    for timestamp_s in 100..120 {
        store.commit(timestamp_s);
    }
    exporter.stop(LIMIT);
    assert!(store.queued("main").is_empty());
    assert_eq!(carbon.payloads.try_iter().count(), 20);
}

#[test]
fn stop_leaves_what_cannot_be_delivered_within_its_deadline() {
    let mut store = Store::new(&["hung", "down"]);
    store.commit(100);
    let hung = Carbon::start(&[Script::Hold; 64]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let down = listener.local_addr().unwrap();
    drop(listener);
    let backends = [backend("hung", hung.address), backend("down", down)];
    let patience = Patience {
        stall: Duration::from_secs(3_600),
        backoff_first: Duration::from_secs(3_600),
        backoff_last: Duration::from_secs(3_600),
        ..impatient()
    };
    let exporter = store.export_with(&backends, patience);
    let start_ns = monotonic_ns();
    exporter.stop(Duration::from_millis(100));
    let took_ms = (monotonic_ns() - start_ns) / 1_000_000;
    assert!((100..10_000).contains(&took_ms), "{took_ms}");
    assert_eq!(store.queued("hung").len(), 1);
    assert_eq!(store.queued("down").len(), 1);
}

#[test]
fn damaged_segment_is_put_away_and_the_queue_goes_on() {
    let mut store = Store::new(&["main"]);
    for timestamp_s in [100, 110] {
        store.commit(timestamp_s);
    }
    let queue = Queue::open(&store.path, "main").unwrap();
    let path = queue.path(&store.queued("main")[1]);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let carbon = Carbon::start(&[]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    assert_eq!(carbon.timestamp(), 100);
    wait_for(&exporter, Count::SegmentsAcknowledged, 1);
    let accounts = &exporter.accounts()[0];
    assert_eq!(accounts.count(Count::SegmentsQuarantined), 1);
    assert_eq!(accounts.count(Count::RowsQuarantined), 1);
    assert_eq!(accounts.count(Count::ConnectionErrors), 0);
    assert!(store.queued("main").is_empty());
}

#[test]
fn books_of_the_backend_are_points_when_asked_for() {
    let mut store = Store::new(&["main"]);
    let carbon = Carbon::start(&[]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    for timestamp_s in [100, 110] {
        let mut rows = rows(timestamp_s);
        rows.books.are_points = true;
        rows.gauges[0] = f64::INFINITY;
        store.spool.commit(&[rows]).unwrap();
        wait_for(&exporter, Count::SegmentsAcknowledged, (timestamp_s - 90) / 10);
    }
    let first = carbon.payload();
    let second = carbon.payload();
    assert!(first.contains("stats.statsd.floe.backend.main.segments_acknowledged 0 100\n"));
    assert!(second.contains("stats.statsd.floe.backend.main.segments_acknowledged 1 110\n"));
    assert!(second.contains("stats.statsd.floe.backend.main.points_refused.not_finite 1 110\n"));
    assert!(!second.contains("temperature"));
    assert_eq!(exporter.accounts()[0].refused(Refusal::NotFinite), 2);
}

#[test]
fn pickle_backend_sends_frames_with_its_own_points() {
    let mut store = Store::new(&["main"]);
    let carbon = Carbon::start(&[]);
    let mut settings = backend("main", carbon.address);
    settings.protocol = Protocol::Pickle;
    settings.namespace.global_suffix = "web01".into();
    let exporter = store.export(&[settings]);
    store.commit(1_700_000_000);
    let payload = carbon.payloads.recv_timeout(LIMIT).unwrap();
    let length = u32::from_be_bytes(*payload.first_chunk().unwrap());
    assert_eq!(length as usize, payload.len() - 4);
    let points: Vec<(String, (u64, f64))> =
        serde_pickle::from_slice(&payload[4..], serde_pickle::DeOptions::new()).unwrap();
    assert_eq!(points.len(), 8);
    assert_eq!(points[0], ("stats.gauges.temperature.web01;room=1".into(), (1_700_000_000, 0.5)));
    assert!(points.iter().all(|point| point.0.contains(".web01")));
    wait_for(&exporter, Count::SegmentsAcknowledged, 1);
}

#[test]
fn large_segment_is_sent_in_chunks_without_loss() {
    let mut store = Store::new(&["main"]);
    let mut rows = Rows { part_index: 0, ..rows(100) };
    rows.names = floe_core::row::NameColumn::default();
    rows.gauges.clear();
    for index in 0..40_000_u32 {
        rows.names.push(format!("machine.{index}.temperature").as_bytes());
        rows.gauges.push(f64::from(index));
    }
    rows.series_count = 40_000;
    let carbon = Carbon::start(&[]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    store.spool.commit(&[rows]).unwrap();
    let payload = carbon.payload();
    for (index, line) in payload.lines().take(40_000).enumerate() {
        assert_eq!(line, format!("stats.gauges.machine.{index}.temperature {index} 100"));
    }
    assert_eq!(payload.lines().count(), 40_007);
    wait_for(&exporter, Count::PointsAcknowledged, 40_007);
}

#[test]
fn second_exporter_on_one_spool_is_refused() {
    let store = Store::new(&["main"]);
    let carbon = Carbon::start(&[]);
    let backends = [backend("main", carbon.address)];
    let first = store.export(&backends);
    let start = || {
        let (spool, books) = (&store.path, OwnBooks::ByExporter);
        Exporter::start(spool, &backends, &Arc::default(), &Arc::default(), books)
    };
    assert!(start().is_err());
    drop(first);
    assert!(start().is_ok());
}
