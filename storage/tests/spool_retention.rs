//! Claim: caps hold, the newest archived segment stays, and every row that expires is counted.
//! Method: small caps, given times, and exporters that acknowledge behind the ingest half's back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fs;
use std::path::Path;

use floe_storage::{Expired, Queue, Spool, SpoolOptions, Writer};
use support::{open, options, rows, timestamps};

const T: u64 = 1_700_000_000;

fn segment_bytes() -> u64 {
    Writer::new().encode(&rows(T), 1).unwrap().len() as u64
}

fn expired(segments: u64) -> Expired {
    let bytes = segment_bytes() * segments;
    Expired { segments, rows: 5 * segments, rows_too_old: 0, bytes }
}

/// The same, all of it over the age of its queue.
fn too_old(segments: u64) -> Expired {
    let expired = expired(segments);
    Expired { rows_too_old: expired.rows, ..expired }
}

/// Commits segments at T, T + 10, ...
fn fill(spool: &mut Spool, count: u64) {
    for index in 0..count {
        spool.commit(&[rows(T + 10 * index)]).unwrap();
    }
}

fn with_caps(path: &Path, change: impl FnOnce(&mut SpoolOptions)) -> Spool {
    let mut options = options(path, &["a", "b"]);
    change(&mut options);
    Spool::open(options).unwrap().0
}

fn acknowledge_oldest(spool: &Path, backend: &str, count: usize) {
    let queue = Queue::open(spool, backend).unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    for name in &names[..count] {
        assert!(queue.acknowledge(name).unwrap());
    }
}

#[test]
fn archive_is_cut_by_age() {
    let spool = tempfile::tempdir().unwrap();
    let mut half = with_caps(spool.path(), |options| options.archive_age_ms = 20_000);
    fill(&mut half, 5);
    let retired = half.retain(T + 40);
    assert_eq!(retired.archive, expired(2), "exactly at the age stays");
    assert!(retired.backends.is_empty() && retired.error.is_none());
    assert_eq!(timestamps(&spool.path().join("archive")), [T + 20, T + 30, T + 40]);
    assert_eq!(timestamps(&spool.path().join("backends/a")).len(), 5);
}

#[test]
fn archive_is_cut_by_bytes() {
    let spool = tempfile::tempdir().unwrap();
    let mut half =
        with_caps(spool.path(), |options| options.archive_bytes = 3 * segment_bytes() - 1);
    fill(&mut half, 5);
    assert_eq!(half.retain(T).archive, expired(3));
    assert_eq!(timestamps(&spool.path().join("archive")), [T + 30, T + 40]);
}

#[test]
fn newest_segment_of_the_archive_stays_whatever_the_caps() {
    let spool = tempfile::tempdir().unwrap();
    let mut half = with_caps(spool.path(), |options| {
        options.archive_bytes = 0;
        options.archive_age_ms = 0;
    });
    fill(&mut half, 3);
    assert_eq!(half.retain(u64::MAX).archive, expired(2));
    assert_eq!(half.retain(u64::MAX).archive, expired(0));
    assert_eq!(timestamps(&spool.path().join("archive")), [T + 20]);
}

#[test]
fn backlog_is_cut_by_age_and_counted_per_backend() {
    let spool = tempfile::tempdir().unwrap();
    let mut half = with_caps(spool.path(), |options| options.backends[1].backlog_age_ms = 15_000);
    fill(&mut half, 4);
    let retired = half.retain(T + 30);
    assert_eq!(retired.backends, [("b".to_owned(), too_old(2))]);
    assert_eq!(retired.segment_count(), 2);
    assert_eq!(timestamps(&spool.path().join("backends/b")), [T + 20, T + 30]);
    assert_eq!(timestamps(&spool.path().join("backends/a")).len(), 4);
}

#[test]
fn backlog_is_cut_by_bytes() {
    let spool = tempfile::tempdir().unwrap();
    let mut half =
        with_caps(spool.path(), |options| options.backends[0].backlog_bytes = 2 * segment_bytes());
    fill(&mut half, 3);
    assert_eq!(half.retain(T).backends, [("a".to_owned(), expired(1))]);
    assert_eq!(timestamps(&spool.path().join("backends/a")), [T + 10, T + 20]);
}

#[test]
fn backlog_after_a_restart_is_cut_as_before() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    fill(&mut half, 3);
    drop(half);
    let mut half =
        with_caps(spool.path(), |options| options.backends[0].backlog_bytes = segment_bytes());
    assert_eq!(half.retain(T).backends, [("a".to_owned(), expired(2))]);
}

#[test]
fn acknowledged_segments_neither_fill_the_cap_nor_expire() {
    let spool = tempfile::tempdir().unwrap();
    let mut half =
        with_caps(spool.path(), |options| options.backends[0].backlog_bytes = 2 * segment_bytes());
    fill(&mut half, 4);
    acknowledge_oldest(spool.path(), "a", 2);
    assert_eq!(half.retain(T).backends, []);
    assert_eq!(timestamps(&spool.path().join("backends/a")), [T + 20, T + 30]);
    acknowledge_oldest(spool.path(), "a", 1);
    assert_eq!(half.retain(u64::MAX / 2_000).backends[0], ("a".to_owned(), too_old(1)));
}

#[test]
fn segment_from_the_future_does_not_expire_by_age() {
    let spool = tempfile::tempdir().unwrap();
    let mut half = with_caps(spool.path(), |options| options.backends[0].backlog_age_ms = 0);
    fill(&mut half, 2);
    assert_eq!(half.retain(0).segment_count(), 0);
}

#[test]
fn segment_older_than_its_predecessor_goes_first() {
    let spool = tempfile::tempdir().unwrap();
    let mut half =
        with_caps(spool.path(), |options| options.backends[0].backlog_bytes = 2 * segment_bytes());
    for timestamp_s in [T + 10, T + 20, T] {
        half.commit(&[rows(timestamp_s)]).unwrap();
    }
    half.retain(T);
    assert_eq!(timestamps(&spool.path().join("backends/a")), [T + 10, T + 20]);
}

#[test]
fn shared_files_are_counted_once_and_free_with_their_last_link() {
    let spool = tempfile::tempdir().unwrap();
    let mut half = with_caps(spool.path(), |options| options.archive_bytes = 0);
    fill(&mut half, 3);
    assert_eq!(half.usage().unwrap().bytes, 3 * segment_bytes());
    half.retain(T);
    assert_eq!(half.usage().unwrap().files, 3, "the queues hold them");
    acknowledge_oldest(spool.path(), "a", 3);
    assert_eq!(half.usage().unwrap().files, 3);
    acknowledge_oldest(spool.path(), "b", 3);
    assert_eq!(half.usage().unwrap().files, 1, "the archive holds the newest");
}

#[test]
fn relief_takes_from_the_archive_what_nobody_waits_for_first() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    fill(&mut half, 4);
    acknowledge_oldest(spool.path(), "a", 1);
    let queue = Queue::open(spool.path(), "a").unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    queue.acknowledge(&names[1]).unwrap();
    // Delivered: T and T + 20. Waiting: T + 10 and T + 30.
    let retired = half.relieve(2 * segment_bytes());
    assert_eq!((retired.archive, retired.backends.len()), (expired(2), 0));
    assert_eq!(timestamps(&spool.path().join("archive")), [T + 10, T + 30]);
}

#[test]
fn relief_then_takes_the_oldest_with_all_its_links() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    fill(&mut half, 3);
    acknowledge_oldest(spool.path(), "a", 1);
    let before = half.usage().unwrap().bytes;
    let retired = half.relieve(2 * segment_bytes());
    assert_eq!(before - half.usage().unwrap().bytes, 2 * segment_bytes());
    assert_eq!(retired.archive, expired(2));
    let mut backends = retired.backends;
    backends.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(backends, [("a".to_owned(), expired(1)), ("b".to_owned(), expired(2))]);
    for directory in ["archive", "backends/a", "backends/b"] {
        assert_eq!(timestamps(&spool.path().join(directory)), [T + 20]);
    }
}

#[test]
fn relief_without_end_leaves_the_newest_archived() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    fill(&mut half, 3);
    let retired = half.relieve(u64::MAX);
    assert!(retired.error.is_none());
    assert_eq!(retired.backends, [("a".to_owned(), expired(3))]);
    assert_eq!(timestamps(&spool.path().join("archive")), [T + 20]);
    assert_eq!(half.newest_timestamp_s(), Some(T + 20));
}

#[test]
fn failure_is_reported_and_tried_again_while_other_queues_go_on() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    fill(&mut half, 2);
    let (queue, aside) = (spool.path().join("backends/a"), spool.path().join("aside"));
    fs::rename(&queue, &aside).unwrap();
    fs::write(&queue, "in the way").unwrap();
    let retired = half.retain(u64::MAX);
    let error = retired.error.unwrap();
    assert_eq!(error.errno(), Some(20), "ENOTDIR");
    assert!(error.path().unwrap().starts_with(&queue));
    assert_eq!(retired.backends, [("b".to_owned(), too_old(2))]);

    fs::remove_file(&queue).unwrap();
    fs::rename(&aside, &queue).unwrap();
    let retired = half.retain(u64::MAX);
    assert!(retired.error.is_none());
    assert_eq!(retired.backends, [("a".to_owned(), too_old(2))]);
}
