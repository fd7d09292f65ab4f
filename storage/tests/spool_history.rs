//! Claim: the books of a spool are those of its newest commit that is whole, and its queues hold what
//! a start will find in them. Method: spools are committed to, then parts of them are damaged or taken
//! away as a kill or an exporter would.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fs;
use std::path::Path;

use floe_core::row::{Rows, TotalColumns};
use floe_storage::history::{QueueFound, newest_totals, queues};
use floe_storage::{Queue, QueueState};
use support::{names, open, parts, rows, segments};

/// The parts of an interval whose totals count `count`, in the last part alone.
fn counted(timestamp_s: u64, part_count: u32, count: u64) -> Vec<Rows> {
    let mut parts = parts(timestamp_s, part_count);
    for part in &mut parts {
        part.totals = TotalColumns::default();
    }
    let totals = TotalColumns { names: names(&["count"]), counts: vec![count] };
    parts.last_mut().unwrap().totals = totals;
    parts
}

fn count(spool: &Path) -> Option<u64> {
    newest_totals(spool).unwrap().map(|totals| totals.counts["count"])
}

fn found(spool: &Path) -> Vec<(String, u64, u64)> {
    let each = queues(spool).unwrap().into_iter();
    each.map(|QueueFound { backend, segments, rows }| (backend, segments, rows)).collect()
}

#[test]
fn totals_are_those_of_the_newest_commit_though_the_clock_went_back() {
    let spool = tempfile::tempdir().unwrap();
    assert!(newest_totals(spool.path()).is_err(), "no spool");
    let (mut half, _) = open(spool.path(), &["a"]);
    assert_eq!(count(spool.path()), None, "nothing was committed");
    half.commit(&counted(2_000, 1, 7)).unwrap();
    half.commit(&counted(1_000, 1, 8)).unwrap();
    assert_eq!(count(spool.path()), Some(8));
    drop(half);
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&counted(500, 3, 9)).unwrap();
    let totals = newest_totals(spool.path()).unwrap().unwrap();
    assert_eq!((totals.segment.timestamp_s(), totals.segment.part()), (500, 2));
}

#[test]
fn a_commit_without_its_last_part_tells_nothing() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&counted(1_000, 2, 7)).unwrap();
    half.commit(&counted(2_000, 2, 8)).unwrap();
    let last = segments(&spool.path().join("archive")).last().unwrap().to_string();
    for directory in ["archive", "backends/a"] {
        fs::remove_file(spool.path().join(directory).join(&last)).unwrap();
    }
    assert_eq!(count(spool.path()), Some(7));
}

#[test]
fn a_damaged_segment_is_passed_over_and_one_link_is_enough() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&counted(1_000, 1, 7)).unwrap();
    half.commit(&counted(2_000, 1, 8)).unwrap();
    let newest = segments(&spool.path().join("archive")).last().unwrap().to_string();
    fs::remove_file(spool.path().join("archive").join(&newest)).unwrap();
    assert_eq!(count(spool.path()), Some(8), "the queue has it");
    let path = spool.path().join("backends/a").join(newest);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(count(spool.path()), Some(7));
}

#[test]
fn a_commit_cut_short_counts_in_every_queue_as_the_start_will_publish_it() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    half.commit(&[rows(1_000)]).unwrap();
    half.commit(&counted(2_000, 1, 8)).unwrap();
    drop(half);
    let name = segments(&spool.path().join("archive"))[1].to_string();
    // Linked into `a` alone.
    fs::rename(spool.path().join("archive").join(&name), spool.path().join("tmp").join(&name))
        .unwrap();
    fs::remove_file(spool.path().join("backends/b").join(&name)).unwrap();
    let torn = spool.path().join("tmp").join(name.replace("-00000.seg", "-00001.seg"));
    fs::write(&torn, b"floe.seg").unwrap();
    let expected = [("a".to_owned(), 2, 10), ("b".to_owned(), 2, 10)];
    assert_eq!(found(spool.path()), expected);
    assert_eq!(count(spool.path()), Some(8));
    drop(open(spool.path(), &["a", "b"]));
    assert_eq!((found(spool.path()), count(spool.path())), (expected.to_vec(), Some(8)));
}

#[test]
fn a_queue_says_what_lies_in_it_and_what_left_by_another_hand() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    for timestamp_s in [1_000, 2_000, 3_000] {
        half.commit(&[rows(timestamp_s)]).unwrap();
    }
    let queue = Queue::open(spool.path(), "a").unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    let state =
        |rows_pending, rows_left| QueueState { rows_pending, rows_left, rows_unannounced: 0 };
    assert_eq!(half.queue_state("a"), Some(state(15, 0)));
    assert!(queue.acknowledge(&names[0]).unwrap());
    assert_eq!(half.queue_state("a"), Some(state(10, 5)));
    assert!(queue.acknowledge(&names[1]).unwrap());
    // Two by age: one that is there, and one that left meanwhile.
    let retired = half.retain(u64::MAX / 2);
    assert_eq!(retired.backends.len(), 1);
    assert_eq!(retired.backends[0].1.rows, 5);
    assert_eq!(half.queue_state("a"), Some(state(0, 10)));
    assert_eq!(half.queue_state("b"), None, "not one of ours");
}
