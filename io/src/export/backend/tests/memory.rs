//! Segments that the disk has not taken: sent from memory, beside those of the queue.

use super::*;
use crate::backlog::Try;

/// The first try of every commit here.
const TRY: Try = Try { run_id: 1, sequence: 0 };

/// Rows of two parts of one interval.
fn interval(timestamp_s: u64) -> Vec<Rows> {
    vec![rows(timestamp_s), Rows { part_index: 1, ..rows(timestamp_s) }]
}

fn offered(store: &Store, backend: &str) -> usize {
    let mut names = Vec::new();
    store.backlog.list(backend, false, &mut names);
    names.len()
}

#[test]
fn what_memory_offers_is_sent_as_if_it_lay_in_the_queue() {
    let mut store = Store::new(&["main", "other"]);
    store.commit(100);
    store.backlog.push(interval(110), 0);
    store.backlog.push(vec![rows(120)], 0);
    store.backlog.offer_all(false);
    let carbon = Carbon::start(&[]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    let order: Vec<_> = (0..4).map(|_| carbon.timestamp()).collect();
    assert_eq!(order, [120, 100, 110, 110], "the newest first, then the oldest");
    wait_for(&exporter, Count::SegmentsAcknowledged, 4);
    let accounts = &exporter.accounts()[0];
    assert_eq!(accounts.count(Count::RowsAcknowledged), 4);
    assert_eq!(accounts.count(Count::RowsFromMemory), 3);
    assert_eq!((offered(&store, "main"), offered(&store, "other")), (0, 3));
    assert!(store.queued("main").is_empty());
}

#[test]
fn a_broken_delivery_from_memory_is_made_again() {
    let store = Store::new(&["main"]);
    store.backlog.push(vec![rows(100)], 0);
    store.backlog.offer_all(false);
    let carbon = Carbon::start(&[Script::Reset, Script::CloseEarly]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    assert_eq!((carbon.timestamp(), carbon.timestamp()), (100, 100));
    wait_for(&exporter, Count::SegmentsAcknowledged, 1);
    assert_eq!(exporter.accounts()[0].count(Count::RowsFromMemory), 1);
    assert_eq!(offered(&store, "main"), 0);
}

#[test]
fn a_queue_that_cannot_be_listed_keeps_memory_from_nobody() {
    let store = Store::new(&["main"]);
    let queue = store.path.join("backends/main");
    std::fs::remove_dir(&queue).unwrap();
    let carbon = Carbon::start(&[]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    // Its directory is opened before: only now is it none.
    std::fs::remove_dir(&queue).unwrap();
    std::fs::write(&queue, "in the way").unwrap();
    store.backlog.push(vec![rows(100)], 0);
    store.backlog.offer_all(false);
    assert_eq!(carbon.timestamp(), 100);
    wait_for(&exporter, Count::RowsFromMemory, 1);
}

#[test]
fn a_segment_that_reaches_the_disk_while_it_is_sent_leaves_the_queue() {
    let mut store = Store::new(&["main"]);
    store.backlog.push(vec![rows(100)], 0);
    store.backlog.offer_all(false);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let exporter = store.export_with(
        &[backend("main", listener.local_addr().unwrap())],
        Patience { stall: LIMIT, ..impatient() },
    );
    let (mut stream, _) = listener.accept().unwrap();
    let mut payload = [0; 1];
    stream.read_exact(&mut payload).unwrap();
    let begun = store.backlog.begin_commit(TRY).unwrap();
    let names = store.spool.commit(&[rows(100)]).unwrap().names;
    store.backlog.committed(&begun, &names);
    assert_eq!(store.queued("main"), names);
    stream.read_to_end(&mut Vec::new()).unwrap();
    drop(stream);
    wait_for(&exporter, Count::SegmentsAcknowledged, 1);
    assert!(store.queued("main").is_empty());
    assert_eq!(exporter.accounts()[0].count(Count::RowsFromMemory), 0);
}

/// Commits an interval, and waits until its exporter is in the midst of it; then takes the commit back,
/// as when a directory fails to sync. Returns the exporter's connection to `listener`.
fn take_back_in_flight(store: &mut Store, listener: &TcpListener) -> (Exporting, TcpStream) {
    store.backlog.push(vec![rows(100)], 0);
    let patient = Patience { stall: LIMIT, ..impatient() };
    let exporter = store.export_with(&[backend("main", listener.local_addr().unwrap())], patient);
    store.backlog.begin_commit(TRY).unwrap();
    let names = store.spool.commit(&[rows(100)]).unwrap().names;
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    let queue = Queue::open(&store.path, "main").unwrap();
    assert!(queue.acknowledge(&names[0]).unwrap());
    store.backlog.offer_all(false);
    (exporter, stream)
}

#[test]
fn a_segment_whose_commit_is_taken_back_while_it_is_sent_is_had() {
    let mut store = Store::new(&["main"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (exporter, mut stream) = take_back_in_flight(&mut store, &listener);
    stream.read_to_end(&mut Vec::new()).unwrap();
    drop(stream);
    wait_for(&exporter, Count::RowsFromMemory, 1);
    assert_eq!(exporter.accounts()[0].count(Count::RowsAcknowledged), 1);
    assert_eq!(offered(&store, "main"), 0);
}

#[test]
fn a_segment_whose_commit_is_taken_back_is_sent_again_with_the_same_points() {
    let mut store = Store::new(&["main"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (exporter, mut stream) = take_back_in_flight(&mut store, &listener);
    let mut first = Vec::new();
    stream.read_to_end(&mut first).unwrap();
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    let (mut stream, _) = listener.accept().unwrap();
    let mut second = Vec::new();
    stream.read_to_end(&mut second).unwrap();
    drop(stream);
    assert_eq!(second[1..], first[..], "the first byte was read before");
    wait_for(&exporter, Count::RowsFromMemory, 1);
}
