//! Claim: a commit is whole or leaves nothing, and queues, archive and readers go together.
//! Method: commits into spools whose directories are looked at, taken away or replaced by files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;

use floe_storage::{Archive, EncodeError, Queue, Reader, Spool, SpoolError};
use support::{entries, only, open, options, parts, rows, timestamps};

#[test]
fn commit_links_one_file_into_every_queue_and_the_archive() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    let committed = half.commit(&[rows(1_700_000_000)]).unwrap();
    let path = only(&spool.path().join("archive"));
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((committed.files, committed.rows, committed.bytes), (1, 5, metadata.len()));
    assert_eq!(metadata.nlink(), 3);
    assert_eq!(fs::metadata(only(&spool.path().join("backends/b"))).unwrap().ino(), metadata.ino());
    assert_eq!(entries(&spool.path().join("tmp")), [""; 0]);
    let usage = half.usage().unwrap();
    assert_eq!((usage.files, usage.bytes), (1, metadata.len()));
}

#[test]
fn parts_of_an_interval_stay_together_and_in_order() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&parts(1_700_000_000, 3)).unwrap();
    half.commit(&parts(1_700_000_010, 2)).unwrap();
    let queue = Queue::open(spool.path(), "a").unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    let mut reader = Reader::new();
    let seen: Vec<_> = names
        .iter()
        .map(|name| {
            let header = reader.read(&queue.path(name)).unwrap().header;
            (header.timestamp_s, header.part_index, header.part_count)
        })
        .collect();
    let (first, second) = (1_700_000_000, 1_700_000_010);
    assert_eq!(seen, [(first, 0, 3), (first, 1, 3), (first, 2, 3), (second, 0, 2), (second, 1, 2)]);
}

#[test]
fn commit_of_no_parts_writes_nothing() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    assert_eq!(half.commit(&[]).unwrap().files, 0);
    assert_eq!(entries(&spool.path().join("archive")), [""; 0]);
    assert_eq!(half.newest_timestamp_s(), None);
}

#[test]
fn failed_link_leaves_no_trace_and_the_same_commit_succeeds_later() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    // Linked last: both queues have their links by then.
    let archive = spool.path().join("archive");
    fs::remove_dir(&archive).unwrap();
    fs::write(&archive, "in the way").unwrap();
    let interval = parts(1_700_000_000, 2);
    let error = half.commit(&interval).unwrap_err();
    assert!(matches!(error, SpoolError::Io { operation: "link", .. }), "{error}");
    assert!(error.is_retryable());
    assert_eq!(error.errno(), Some(20), "ENOTDIR");
    assert!(error.path().unwrap().starts_with(&archive));
    for directory in ["tmp", "backends/a", "backends/b"] {
        assert_eq!(entries(&spool.path().join(directory)), [""; 0], "{directory}");
    }
    assert_eq!(half.newest_timestamp_s(), None);

    fs::remove_file(&archive).unwrap();
    assert_eq!(half.commit(&interval).unwrap().files, 2);
    assert_eq!(entries(&spool.path().join("backends/b")).len(), 2);
    assert_eq!(entries(&archive).len(), 2);
}

#[test]
fn failed_write_is_reported_with_its_path() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &[]);
    fs::remove_dir(spool.path().join("tmp")).unwrap();
    fs::write(spool.path().join("tmp"), "not a directory").unwrap();
    let error = half.commit(&[rows(1_700_000_000)]).unwrap_err();
    assert!(error.to_string().ends_with("not a directory"), "{error}");
    assert!(error.path().unwrap().starts_with(spool.path().join("tmp")));
    assert!(error.is_retryable());
}

#[test]
fn part_that_cannot_be_encoded_takes_its_interval_with_it() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    let mut interval = parts(1_700_000_000, 2);
    interval[1].counters.push(1.0);
    let error = half.commit(&interval).unwrap_err();
    assert!(!error.is_retryable());
    let SpoolError::Encode { part_index: 1, source: EncodeError::Columns(_) } = error else {
        panic!("{error}")
    };
    for directory in ["tmp", "backends/a", "archive"] {
        assert_eq!(entries(&spool.path().join(directory)), [""; 0], "{directory}");
    }
}

#[test]
fn timestamp_too_large_for_a_name_is_refused() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&[rows(99_999_999_999)]).unwrap();
    let error = half.commit(&[rows(100_000_000_000)]).unwrap_err();
    assert!(!error.is_retryable());
    assert!(
        error.to_string().ends_with("timestamp 100000000000 does not fit its field"),
        "{error}"
    );
}

#[test]
fn vanished_queue_is_made_again_by_the_next_commit() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    let directory = spool.path().join("backends/a");
    let queue = Queue::open(spool.path(), "a").unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    assert_eq!(names, []);
    half.commit(&[rows(1_700_000_010)]).unwrap();
    assert_eq!(timestamps(&directory), [1_700_000_010]);
    assert_eq!(half.retain(u64::MAX).backends[0].1.segments, 1, "only what was there expired");
}

#[test]
fn removed_spool_is_made_again_and_locked_by_the_next_commit() {
    let parent = tempfile::tempdir().unwrap();
    let spool = parent.path().join("spool");
    let (mut half, _) = open(&spool, &["a"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    fs::remove_dir_all(&spool).unwrap();
    half.commit(&[rows(1_700_000_010)]).unwrap();
    for directory in ["backends/a", "archive"] {
        assert_eq!(timestamps(&spool.join(directory)), [1_700_000_010], "{directory}");
    }
    let refused = Spool::open(options(&spool, &["a"])).unwrap_err();
    assert!(matches!(refused, SpoolError::Locked { .. }), "{refused}");
    assert_eq!(half.retain(u64::MAX).backends[0].1.segments, 1, "only what was there expired");
}

#[test]
fn removed_spool_that_another_has_taken_is_left_to_it() {
    let parent = tempfile::tempdir().unwrap();
    let spool = parent.path().join("spool");
    let (mut half, _) = open(&spool, &["a"]);
    fs::remove_dir_all(&spool).unwrap();
    let (mut other, _) = open(&spool, &["a"]);
    let refused = half.commit(&[rows(1_700_000_000)]).unwrap_err();
    assert!(matches!(refused, SpoolError::Locked { .. }), "{refused}");
    for directory in ["backends/a", "archive", "tmp"] {
        assert_eq!(entries(&spool.join(directory)), [""; 0], "{directory}");
    }
    other.commit(&[rows(1_700_000_010)]).unwrap();
    assert_eq!(timestamps(&spool.join("archive")), [1_700_000_010]);
}

#[test]
fn r5_a_removed_lock_is_taken_again_by_the_next_commit() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    fs::remove_file(spool.path().join("ingest.lock")).unwrap();
    half.commit(&[rows(1_700_000_010)]).unwrap();
    let refused = Spool::open(options(spool.path(), &["a"])).unwrap_err();
    assert!(matches!(refused, SpoolError::Locked { .. }), "{refused}");
    assert_eq!(timestamps(&spool.path().join("archive")), [1_700_000_000, 1_700_000_010]);
}

#[test]
fn spool_that_is_a_file_is_refused_as_that() {
    let parent = tempfile::tempdir().unwrap();
    let spool = parent.path().join("spool");
    fs::write(&spool, "not a directory").unwrap();
    let error = Spool::open(options(&spool, &["a"])).unwrap_err();
    let said = format!("cannot create directory {}: not a directory", spool.display());
    assert_eq!(error.to_string(), said);
}

#[test]
fn acknowledge_takes_one_link_and_is_idempotent() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    let queue = Queue::open(spool.path(), "a").unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    assert!(queue.acknowledge(&names[0]).unwrap());
    assert!(!queue.acknowledge(&names[0]).unwrap());
    assert_eq!(entries(queue.directory()), [""; 0]);
    assert_eq!(timestamps(&spool.path().join("backends/b")), [1_700_000_000]);
    assert_eq!(timestamps(&spool.path().join("archive")), [1_700_000_000]);
}

#[test]
fn segment_acknowledged_while_it_is_read_stays_readable() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    let queue = Queue::open(spool.path(), "a").unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    let mut reader = Reader::new();
    let segment = reader.read(&queue.path(&names[0])).unwrap();
    queue.acknowledge(&names[0]).unwrap();
    fs::remove_file(only(&spool.path().join("archive"))).unwrap();
    assert_eq!(segment.rows.names.name(4), Some(&b"users"[..]));
    assert!(reader.read(&queue.path(&names[0])).unwrap_err().is_vanished());
}

#[test]
fn archive_is_listed_in_order_from_a_time_on_without_a_lock() {
    let spool = tempfile::tempdir().unwrap();
    let archive = Archive::new(spool.path());
    assert_eq!(archive.list(0).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let (mut half, _) = open(spool.path(), &[]);
    for timestamp_s in [1_700_000_010, 1_700_000_000, 1_700_000_020] {
        half.commit(&[rows(timestamp_s)]).unwrap();
    }
    let since = |since_s| -> Vec<u64> {
        archive.list(since_s).unwrap().iter().map(|name| name.timestamp_s()).collect()
    };
    assert_eq!(since(0), [1_700_000_000, 1_700_000_010, 1_700_000_020]);
    assert_eq!(since(1_700_000_010), [1_700_000_010, 1_700_000_020]);
    assert_eq!(since(1_700_000_021), [0; 0]);
    let newest = archive.list(1_700_000_020).unwrap()[0];
    assert!(Reader::new().read(&archive.path(&newest)).is_ok());
}
