//! Claim: a stop at any instruction of a commit leaves either the whole segment or none.
//! Method: the state of `tmp/` and of the queues after such a stop is made by hand, then the spool
//! is opened.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use floe_storage::format::FORMAT_VERSION;
use floe_storage::{Reader, Spool};
use support::{entries, only, open, parts, rows, seal, timestamps};

/// A spool with one committed segment, whose links are all moved back to `tmp/`.
fn unpublished(spool: &Path) -> PathBuf {
    drop(committed(spool));
    let archived = only(&spool.join("archive"));
    let tmp = spool.join("tmp").join(archived.file_name().unwrap());
    fs::rename(&archived, &tmp).unwrap();
    for backend in ["a", "b"] {
        fs::remove_file(only(&spool.join("backends").join(backend))).unwrap();
    }
    tmp
}

fn committed(path: &Path) -> Spool {
    let (mut spool, _) = open(path, &["a", "b"]);
    spool.commit(&[rows(1_700_000_000)]).unwrap();
    spool
}

#[test]
fn complete_tmp_file_is_published_everywhere() {
    let spool = tempfile::tempdir().unwrap();
    let tmp = unpublished(spool.path());
    let (_spool, report) = open(spool.path(), &["a", "b"]);
    assert_eq!((report.published, report.torn), (1, 0));
    assert!(!tmp.exists());
    for directory in ["backends/a", "backends/b", "archive"] {
        let path = only(&spool.path().join(directory));
        let mut reader = Reader::new();
        assert_eq!(reader.read(&path).unwrap().header.timestamp_s, 1_700_000_000);
    }
    assert_eq!(report.archived, 1);
    assert_eq!(report.backlogs[1].rows, 5);
}

#[test]
fn half_published_segment_is_published_to_the_rest() {
    let spool = tempfile::tempdir().unwrap();
    let tmp = unpublished(spool.path());
    fs::hard_link(&tmp, spool.path().join("backends/a").join(tmp.file_name().unwrap())).unwrap();
    let (_spool, report) = open(spool.path(), &["a", "b"]);
    assert_eq!(report.published, 1);
    assert!(!tmp.exists());
    only(&spool.path().join("backends/a"));
    only(&spool.path().join("backends/b"));
    only(&spool.path().join("archive"));
}

#[test]
fn tmp_file_torn_at_any_length_is_removed_and_counted() {
    let spool = tempfile::tempdir().unwrap();
    let tmp = unpublished(spool.path());
    let whole = fs::read(&tmp).unwrap();
    for length in [0, 1, 63, 64, 65, whole.len() / 2, whole.len() - 1] {
        fs::write(&tmp, &whole[..length]).unwrap();
        let (spool_half, report) = open(spool.path(), &["a", "b"]);
        assert_eq!((report.published, report.torn), (0, 1), "{length} bytes");
        assert_eq!(entries(&spool.path().join("tmp")), [""; 0]);
        assert_eq!(entries(&spool.path().join("backends/a")), [""; 0]);
        assert_eq!(spool_half.newest_timestamp_s(), None, "it was never promised to anybody");
    }
}

#[test]
fn tmp_file_with_a_zeroed_tail_is_removed() {
    let spool = tempfile::tempdir().unwrap();
    let tmp = unpublished(spool.path());
    let mut bytes = fs::read(&tmp).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0);
    fs::write(&tmp, &bytes).unwrap();
    let (_spool, report) = open(spool.path(), &["a", "b"]);
    assert_eq!((report.published, report.torn), (0, 1));
}

#[test]
fn complete_parts_survive_a_torn_one() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&parts(1_700_000_000, 3)).unwrap();
    drop(half);
    let queue = spool.path().join("backends/a");
    for (index, name) in entries(&queue).iter().enumerate() {
        let tmp = spool.path().join("tmp").join(name);
        let bytes = fs::read(queue.join(name)).unwrap();
        let length = if index == 2 { bytes.len() - 1 } else { bytes.len() };
        fs::remove_file(queue.join(name)).unwrap();
        fs::remove_file(spool.path().join("archive").join(name)).unwrap();
        fs::write(tmp, &bytes[..length]).unwrap();
    }
    let (_half, report) = open(spool.path(), &["a"]);
    assert_eq!((report.published, report.torn), (2, 1));
    assert_eq!(timestamps(&queue), [1_700_000_000; 2]);
}

#[test]
fn tmp_file_of_an_unknown_version_is_left() {
    let spool = tempfile::tempdir().unwrap();
    let tmp = unpublished(spool.path());
    let mut bytes = fs::read(&tmp).unwrap();
    bytes[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    seal(&mut bytes);
    fs::write(&tmp, &bytes).unwrap();
    let (half, report) = open(spool.path(), &["a", "b"]);
    assert_eq!((report.published, report.torn, report.unknown), (0, 0, 1));
    assert_eq!(half.newest_timestamp_s(), Some(1_700_000_000), "it will be published one day");
    assert_eq!(fs::read(&tmp).unwrap(), bytes);
}

#[test]
fn foreign_tmp_file_is_left() {
    let spool = tempfile::tempdir().unwrap();
    drop(committed(spool.path()));
    let foreign = spool.path().join("tmp/notes.txt");
    fs::write(&foreign, "mine").unwrap();
    let (_spool, report) = open(spool.path(), &["a", "b"]);
    assert_eq!((report.foreign, report.torn), (1, 0));
    assert!(foreign.exists());
}

#[test]
fn tmp_file_that_cannot_be_published_is_left_for_the_next_start() {
    let spool = tempfile::tempdir().unwrap();
    let tmp = unpublished(spool.path());
    let in_the_way = spool.path().join("archive").join(tmp.file_name().unwrap());
    // A directory under the name of a segment: neither that segment nor anything to remove.
    fs::create_dir(&in_the_way).unwrap();
    let (half, report) = open(spool.path(), &["a", "b"]);
    assert_eq!((report.published, report.torn), (0, 0));
    assert!(report.failed > 0);
    assert_eq!(half.newest_timestamp_s(), Some(1_700_000_000));
    drop(half);
    assert!(tmp.exists());
    fs::remove_dir(&in_the_way).unwrap();
    let (_half, report) = open(spool.path(), &["a", "b"]);
    assert_eq!((report.published, report.failed), (1, 0));
    only(&spool.path().join("backends/b"));
}
