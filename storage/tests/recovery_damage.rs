//! Claim: damaged segments go to quarantine and are counted, and everything else stays where it is.
//! Method: a committed segment is damaged in place, then the spool is opened.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fs;
use std::path::Path;

use floe_storage::{Queue, Reader, RecoveryReport, SegmentName};
use support::{entries, only, open, overwrite, rows, seal};

/// Commits one segment, lets `damage` change its bytes behind all links, opens again.
fn after(spool: &Path, damage: impl FnOnce(&mut Vec<u8>)) -> RecoveryReport {
    let (mut half, _) = open(spool, &["a", "b"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    drop(half);
    let path = only(&spool.join("archive"));
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    overwrite(&path, &bytes);
    open(spool, &["a", "b"]).1
}

fn assert_quarantined(spool: &Path, report: &RecoveryReport, rows: Option<u64>) {
    let backends: Vec<_> =
        report.quarantined.iter().map(|link| (link.backend.as_deref(), link.rows)).collect();
    assert_eq!(backends, [(None, rows), (Some("a"), rows), (Some("b"), rows)]);
    for directory in ["archive", "backends/a", "backends/b"] {
        assert_eq!(entries(&spool.join(directory)), [""; 0]);
    }
    only(&spool.join("quarantine"));
    assert_eq!((report.failed, report.archived), (0, 0));
}

#[test]
fn truncated_segment_is_quarantined_with_all_its_links() {
    let spool = tempfile::tempdir().unwrap();
    let report = after(spool.path(), |bytes| bytes.truncate(100));
    assert_quarantined(spool.path(), &report, Some(5));
    assert_eq!(report.quarantined[0].reason, "file of 100 bytes, the header says 64 + 816");
}

#[test]
fn appended_garbage_is_quarantined() {
    let spool = tempfile::tempdir().unwrap();
    let report = after(spool.path(), |bytes| bytes.push(0));
    assert_quarantined(spool.path(), &report, Some(5));
}

#[test]
fn zero_length_segment_is_quarantined_with_unknown_rows() {
    let spool = tempfile::tempdir().unwrap();
    let report = after(spool.path(), Vec::clear);
    assert_quarantined(spool.path(), &report, None);
}

#[test]
fn flipped_header_bit_is_quarantined_with_unknown_rows() {
    let spool = tempfile::tempdir().unwrap();
    let report = after(spool.path(), |bytes| bytes[52] ^= 4);
    assert_quarantined(spool.path(), &report, None);
}

#[test]
fn segment_under_a_wrong_name_is_quarantined() {
    let spool = tempfile::tempdir().unwrap();
    let report = after(spool.path(), |bytes| {
        bytes[24..32].copy_from_slice(&1_700_000_001_u64.to_le_bytes());
        seal(bytes);
    });
    assert_quarantined(spool.path(), &report, Some(5));
}

#[test]
fn timestamp_of_a_quarantined_segment_is_remembered() {
    let spool = tempfile::tempdir().unwrap();
    after(spool.path(), Vec::clear);
    let (half, report) = open(spool.path(), &["a", "b"]);
    assert_eq!(report.quarantined, []);
    assert_eq!(half.newest_timestamp_s(), Some(1_700_000_000));
}

#[test]
fn flipped_body_bit_is_found_at_first_use() {
    let spool = tempfile::tempdir().unwrap();
    let report = after(spool.path(), |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(report.quarantined, []);
    let queue = Queue::open(spool.path(), "a").unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    let error = Reader::new().read(&queue.path(&names[0])).unwrap_err();
    assert!(error.is_damage());

    let quarantined = queue.quarantine(&names[0]).unwrap();
    assert_eq!(quarantined.rows, Some(5));
    assert!(quarantined.path.starts_with(spool.path().join("quarantine")));
    queue.list(&mut names).unwrap();
    assert_eq!(names, []);

    // The other backend finds the same file there already.
    let queue = Queue::open(spool.path(), "b").unwrap();
    queue.list(&mut names).unwrap();
    assert_eq!(queue.quarantine(&names[0]).unwrap(), quarantined);
    only(&spool.path().join("quarantine"));
}

#[test]
fn another_file_of_the_same_name_keeps_its_place_in_quarantine() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    let queue = Queue::open(spool.path(), "a").unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    let occupied = spool.path().join("quarantine").join(names[0].to_string());
    fs::write(&occupied, "older").unwrap();
    let quarantined = queue.quarantine(&names[0]).unwrap();
    assert_ne!(quarantined.path, occupied);
    assert_eq!(fs::read(&occupied).unwrap(), b"older");
    assert!(quarantined.path.exists());
}

#[test]
fn unknown_version_is_left_untouched_and_counted_once() {
    let spool = tempfile::tempdir().unwrap();
    let report = after(spool.path(), |bytes| {
        bytes[8..12].copy_from_slice(&3_u32.to_le_bytes());
        seal(bytes);
    });
    assert_eq!((report.unknown, report.archived), (1, 0));
    assert_eq!(report.quarantined, []);
    for directory in ["archive", "backends/a", "backends/b"] {
        only(&spool.path().join(directory));
    }
}

#[test]
fn unknown_version_never_expires() {
    let spool = tempfile::tempdir().unwrap();
    after(spool.path(), |bytes| {
        bytes[16] ^= 1;
        seal(bytes);
    });
    let (mut half, report) = open(spool.path(), &["a", "b"]);
    assert_eq!(report.unknown, 1);
    assert_eq!(half.retain(u64::MAX).segment_count(), 0);
    assert_eq!(half.relieve(u64::MAX).segment_count(), 0);
    only(&spool.path().join("backends/a"));
}

#[test]
fn foreign_names_are_ignored_and_counted() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    drop(half);
    let queue_path = spool.path().join("backends/a");
    fs::write(queue_path.join("core.1234"), "x").unwrap();
    fs::write(queue_path.join("1.seg"), "x").unwrap();
    fs::write(spool.path().join("backends/stray"), "x").unwrap();
    let (_half, report) = open(spool.path(), &["a"]);
    assert_eq!(report.foreign, 3);
    assert_eq!(report.quarantined, []);
    let mut names =
        vec![SegmentName::parse(&entries(&spool.path().join("archive"))[0]).unwrap(); 3];
    Queue::open(spool.path(), "a").unwrap().list(&mut names).unwrap();
    assert_eq!(names.len(), 1, "the list is replaced, foreign names are not in it");
    assert!(queue_path.join("core.1234").exists());
}

#[test]
fn directory_with_a_segment_name_is_left_and_counted_as_failed() {
    let spool = tempfile::tempdir().unwrap();
    drop(open(spool.path(), &["a"]));
    let name = "01700000000-01700000000123-000000000007-00001.seg";
    let path = spool.path().join("backends/a").join(name);
    fs::create_dir(&path).unwrap();
    let (_half, report) = open(spool.path(), &["a"]);
    assert!(path.is_dir());
    assert_eq!(report.backlogs[0].segments, 0);
    assert_eq!(report.failed, 1);
    assert!(report.first_failure.is_some());
}
