//! What a backend may ask for: the order of its backlog, and to be sent to once at the most.

use super::*;

#[test]
fn newest_first_works_a_backlog_off_against_the_order_of_time() {
    let mut store = Store::new(&["main"]);
    for timestamp_s in [100, 110, 120, 130] {
        store.commit(timestamp_s);
    }
    let carbon = Carbon::start(&[]);
    let order = BacklogOrder::NewestFirst;
    let exporter = store.export(&[BackendSettings { order, ..backend("main", carbon.address) }]);
    let order: Vec<_> = (0..4).map(|_| carbon.timestamp()).collect();
    assert_eq!(order, [130, 120, 110, 100]);
    wait_for(&exporter, Count::SegmentsAcknowledged, 4);
}

#[test]
fn the_newest_commit_is_live_though_the_clock_was_set_back() {
    let mut store = Store::new(&["main"]);
    for timestamp_s in [3_700, 3_710, 110] {
        store.commit(timestamp_s);
    }
    let carbon = Carbon::start(&[]);
    let order = BacklogOrder::NewestFirst;
    let exporter = store.export(&[BackendSettings { order, ..backend("main", carbon.address) }]);
    let order: Vec<_> = (0..3).map(|_| carbon.timestamp()).collect();
    assert_eq!(order, [110, 3_710, 3_700]);
    wait_for(&exporter, Count::SegmentsAcknowledged, 3);
}

/// Each connection but the last breaks off in another way.
#[test]
fn without_redelivery_each_segment_is_sent_once_at_the_most_and_counted() {
    let mut store = Store::new(&["main"]);
    for timestamp_s in [100, 110, 120, 130] {
        store.commit(timestamp_s);
    }
    let carbon = Carbon::start(&[Script::CloseEarly, Script::Reset, Script::Hold]);
    let redelivery = Redelivery::Never;
    let exporter =
        store.export(&[BackendSettings { redelivery, ..backend("main", carbon.address) }]);
    wait_for(&exporter, Count::SegmentsAcknowledged, 2);
    let accounts = &exporter.accounts()[0];
    assert_eq!(accounts.count(Count::SegmentsUnconfirmed), 2);
    assert_eq!(accounts.count(Count::RowsUnconfirmed), 2);
    // What the peer's kernel has is all that one attempt can tell.
    assert_eq!(accounts.count(Count::SegmentsWeak), 1);
    assert_eq!(accounts.count(Count::RowsAcknowledged), 2);
    assert_eq!(accounts.count(Count::SegmentsResent), 0);
    assert_eq!(accounts.read().rows_in_flight, 0);
    assert!(store.queued("main").is_empty());
    let sent: Vec<u64> = (0..2).map(|_| carbon.timestamp()).collect();
    assert_eq!(sent, [100, 120], "the first and the third were not read to their end");
}

#[test]
fn without_redelivery_nothing_leaves_the_queue_before_there_is_a_connection() {
    let mut store = Store::new(&["main"]);
    store.commit(100);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let redelivery = Redelivery::Never;
    let exporter = store.export(&[BackendSettings { redelivery, ..backend("main", address) }]);
    wait_for(&exporter, Count::ConnectionErrors, 3);
    assert_eq!(store.queued("main").len(), 1);
    assert_eq!(exporter.accounts()[0].count(Count::RowsUnconfirmed), 0);
}

#[test]
fn without_redelivery_a_segment_is_not_sent_before_its_commit_has_ended() {
    let mut store = Store::new(&["main"]);
    store.commit(100);
    let name = store.queued("main")[0];
    let spool = store.path.as_path();
    // As a commit leaves it that has come no further than its links.
    let unfinished = spool.join("tmp").join(name.to_string());
    std::fs::hard_link(spool.join("archive").join(name.to_string()), &unfinished).unwrap();
    let carbon = Carbon::start(&[]);
    let redelivery = Redelivery::Never;
    let exporter =
        store.export(&[BackendSettings { redelivery, ..backend("main", carbon.address) }]);
    store.commit(110);
    assert_eq!(carbon.timestamp(), 110);
    assert_eq!(store.queued("main"), [name]);
    std::fs::remove_file(&unfinished).unwrap();
    assert_eq!(carbon.timestamp(), 100);
    wait_for(&exporter, Count::SegmentsAcknowledged, 2);
}

#[test]
fn without_redelivery_memory_gives_nothing_that_the_disk_may_have() {
    let store = Store::new(&["main"]);
    store.backlog.push(vec![rows(100)], 0);
    store.backlog.offer_all(true);
    let carbon = Carbon::start(&[]);
    let redelivery = Redelivery::Never;
    let exporter =
        store.export(&[BackendSettings { redelivery, ..backend("main", carbon.address) }]);
    store.backlog.push(vec![rows(110)], 0);
    store.backlog.offer_all(false);
    let both = [carbon.timestamp(), carbon.timestamp()];
    assert_eq!(both, [110, 100]);
    wait_for(&exporter, Count::RowsFromMemory, 2);
}
