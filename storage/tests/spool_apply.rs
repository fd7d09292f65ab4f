//! Claim: a running spool goes on with other backends and caps: a new queue is there before its
//! first link, one that is left out keeps what it has and gets no more, and one that comes back is
//! taken up as it lies.
//! Method: spools are committed to, given other options, and looked at from outside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use floe_storage::{Abandoned, SpoolOptions};
use support::{HOUR_MS, only, open, options, overwrite, rows, seal, timestamps};

const START_S: u64 = 1_700_000_000;

fn queue(spool: &Path, backend: &str) -> PathBuf {
    spool.join("backends").join(backend)
}

#[test]
fn a_new_backend_gets_the_next_interval_and_one_left_out_keeps_its_queue() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut spool, _) = open(path, &["a", "b"]);
    spool.commit(&[rows(START_S)]).unwrap();
    let left = spool.apply(options(path, &["c", "b"])).unwrap();
    assert_eq!(left, [Abandoned { backend: "a".to_owned(), segments: 1 }]);
    assert!(queue(path, "c").is_dir());
    spool.commit(&[rows(START_S + 10)]).unwrap();
    assert_eq!(timestamps(&queue(path, "a")), [START_S]);
    assert_eq!(timestamps(&queue(path, "b")), [START_S, START_S + 10]);
    assert_eq!(timestamps(&queue(path, "c")), [START_S + 10]);
}

#[test]
fn a_backend_that_comes_back_has_what_it_left_and_its_caps_hold_for_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut spool, _) = open(path, &["a"]);
    spool.commit(&[rows(START_S)]).unwrap();
    spool.apply(options(path, &[])).unwrap();
    spool.commit(&[rows(START_S + 10)]).unwrap();
    assert!(spool.apply(options(path, &["a"])).unwrap().is_empty());
    spool.commit(&[rows(START_S + 20)]).unwrap();
    assert_eq!(timestamps(&queue(path, "a")), [START_S, START_S + 20]);
    let retired = spool.retain(START_S + 6 * HOUR_MS / 1_000 + 1);
    let (backend, expired) = &retired.backends[0];
    assert_eq!((backend.as_str(), expired.segments, expired.rows), ("a", 1, 5));
}

#[test]
fn new_caps_hold_from_the_next_look_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut spool, _) = open(path, &["a"]);
    for later_s in [0, 10, 20] {
        spool.commit(&[rows(START_S + later_s)]).unwrap();
    }
    let mut tight = SpoolOptions { archive_age_ms: 15_000, ..options(path, &["a"]) };
    tight.backends[0].backlog_age_ms = 5_000;
    spool.apply(tight).unwrap();
    let retired = spool.retain(START_S + 20);
    assert_eq!((retired.archive.segments, retired.backends[0].1.segments), (1, 2));
    assert_eq!(timestamps(&path.join("archive")), [START_S + 10, START_S + 20]);
    assert_eq!(timestamps(&queue(path, "a")), [START_S + 20]);
}

#[test]
fn a_queue_taken_up_keeps_unknown_versions_and_lets_damaged_files_expire() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut spool, _) = open(path, &["new", "torn"]);
    spool.commit(&[rows(START_S)]).unwrap();
    spool.apply(options(path, &[])).unwrap();
    // Two files of their own instead of two links to one.
    let (unknown, torn) = (only(&queue(path, "new")), only(&queue(path, "torn")));
    let mut bytes = fs::read(&unknown).unwrap();
    fs::remove_file(&unknown).unwrap();
    fs::remove_file(&torn).unwrap();
    fs::write(&torn, &bytes[..bytes.len() - 1]).unwrap();
    // The version: docs/segments.md.
    bytes[8] = 99;
    seal(&mut bytes);
    overwrite(&unknown, &bytes);
    spool.apply(options(path, &["new", "torn"])).unwrap();
    let retired = spool.retain(START_S + 1_000 * HOUR_MS);
    assert!(unknown.exists(), "another version of floe reads it");
    assert!(!torn.exists());
    let (backend, expired) = &retired.backends[0];
    assert_eq!((backend.as_str(), expired.segments, expired.rows), ("torn", 1, 5));
    assert_eq!(retired.backends.len(), 1);
}

#[test]
fn a_queue_that_cannot_be_made_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut spool, _) = open(path, &["a"]);
    fs::write(queue(path, "b"), "in the way").unwrap();
    assert!(spool.apply(options(path, &["b"])).is_err());
    spool.commit(&[rows(START_S)]).unwrap();
    assert_eq!(timestamps(&queue(path, "a")), [START_S]);
    fs::remove_file(queue(path, "b")).unwrap();
    assert_eq!(spool.apply(options(path, &["b"])).unwrap().len(), 1);
}
