//! Claim: a restart finds what the last run left: timestamps, backlogs, names behind the old ones,
//! and one holder per spool.
//! Method: spools are opened, left and opened again; a second process is this program itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use floe_storage::{ExportLock, Spool, SpoolError, SpoolOptions};
use support::{entries, only, open, options, rows, segments, timestamps};

#[test]
fn newest_timestamp_survives_a_restart() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, report) = open(spool.path(), &["a"]);
    assert_eq!(half.newest_timestamp_s(), None);
    assert_eq!(report.archived, 0);
    for timestamp_s in [1_700_000_000, 1_700_000_020, 1_700_000_010] {
        half.commit(&[rows(timestamp_s)]).unwrap();
    }
    assert_eq!(half.newest_timestamp_s(), Some(1_700_000_020));
    drop(half);
    let (half, report) = open(spool.path(), &["a"]);
    assert_eq!(half.newest_timestamp_s(), Some(1_700_000_020));
    assert_eq!(report.archived, 3);
    assert_eq!((report.backlogs[0].segments, report.backlogs[0].rows), (3, 15));
}

/// The clock was set back after the second commit, and followed.
#[test]
fn the_timestamp_of_the_last_commit_survives_a_clock_that_was_set_back() {
    let spool = tempfile::tempdir().unwrap();
    let bare = SpoolOptions { archive_age_ms: 0, archive_bytes: 0, ..options(spool.path(), &[]) };
    let (mut half, _) = Spool::open(bare.clone()).unwrap();
    assert_eq!(half.last_timestamp_s(), None);
    for timestamp_s in [1_700_003_600, 1_700_003_610, 1_700_000_010, 1_700_000_020] {
        half.commit(&[rows(timestamp_s)]).unwrap();
        half.retain(1_700_000_020);
        assert_eq!(half.last_timestamp_s(), Some(timestamp_s));
    }
    assert_eq!(timestamps(&spool.path().join("archive")), [1_700_000_020, 1_700_003_610]);
    half.relieve(u64::MAX);
    drop(half);
    let (half, _) = Spool::open(bare).unwrap();
    assert_eq!(half.last_timestamp_s(), Some(1_700_000_020));
    assert_eq!(half.newest_timestamp_s(), Some(1_700_003_610));
}

#[test]
fn newest_timestamp_survives_an_archive_of_no_bytes_and_no_age() {
    let spool = tempfile::tempdir().unwrap();
    let bare = SpoolOptions { archive_age_ms: 0, archive_bytes: 0, ..options(spool.path(), &[]) };
    let (mut half, _) = Spool::open(bare.clone()).unwrap();
    half.commit(&[rows(1_700_000_000)]).unwrap();
    half.commit(&[rows(1_700_000_010)]).unwrap();
    assert_eq!(half.retain(1_800_000_000).archive.segments, 1);
    drop(half);
    let (half, _) = Spool::open(bare).unwrap();
    assert_eq!(half.newest_timestamp_s(), Some(1_700_000_010));
    assert_eq!(timestamps(&spool.path().join("archive")), [1_700_000_010]);
}

#[test]
fn timestamps_of_abandoned_backends_count() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["old"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    drop(half);
    fs::remove_file(only(&spool.path().join("archive"))).unwrap();
    let (half, _) = open(spool.path(), &[]);
    assert_eq!(half.newest_timestamp_s(), Some(1_700_000_000));
}

#[test]
fn names_of_a_later_run_sort_behind_even_if_the_clock_went_back() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    half.commit(&[rows(1_700_000_000)]).unwrap();
    drop(half);
    let queue = spool.path().join("backends/a");
    let earlier = segments(&queue);
    let options = SpoolOptions { run_id: 5, ..options(spool.path(), &["a"]) };
    let (mut half, _) = Spool::open(options).unwrap();
    half.commit(&[rows(1_700_000_000)]).unwrap();
    let later = segments(&queue);
    assert_eq!(later[..2], earlier[..]);
    assert_eq!(later.len(), 3);
    assert!(later[2].run_id() > later[1].run_id());
}

#[test]
fn names_never_repeat_even_at_the_greatest_run_id() {
    let spool = tempfile::tempdir().unwrap();
    let options = SpoolOptions { run_id: u64::MAX, ..options(spool.path(), &["a"]) };
    for run in 1..=3 {
        let (mut half, _) = Spool::open(options.clone()).unwrap();
        half.commit(&[rows(1_700_000_000)]).unwrap();
        let names = segments(&spool.path().join("backends/a"));
        assert_eq!(names.len(), run);
        assert_eq!(names[run - 1].sequence(), run as u64 - 1);
    }
}

#[test]
fn abandoned_backend_is_reported_and_left() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    drop(half);
    let (mut half, report) = open(spool.path(), &["a"]);
    let abandoned: Vec<_> =
        report.abandoned.iter().map(|one| (one.backend.as_str(), one.segments)).collect();
    assert_eq!(abandoned, [("b", 1)]);
    half.commit(&[rows(1_700_000_010)]).unwrap();
    half.retain(u64::MAX);
    assert_eq!(timestamps(&spool.path().join("backends/b")), [1_700_000_000]);
    drop(half);
    let (_half, report) = open(spool.path(), &["a", "b"]);
    assert_eq!(report.abandoned, []);
    assert_eq!(report.backlogs[1].segments, 1);
}

#[test]
fn directories_are_closed_to_others() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("deep/spool");
    let (mut half, _) = open(&path, &["a"]);
    half.commit(&[rows(1_700_000_000)]).unwrap();
    assert_eq!(half.path(), path);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for directory in ["", "tmp", "archive", "quarantine", "backends", "backends/a"] {
        assert_eq!(mode(&path.join(directory)), 0o700, "{directory}");
    }
    assert_eq!(mode(&only(&path.join("archive"))), 0o600);
    assert_eq!(mode(&path.join("ingest.lock")), 0o600);
}

#[test]
fn second_handle_is_refused_and_told_the_holder() {
    let spool = tempfile::tempdir().unwrap();
    let (half, _) = open(spool.path(), &[]);
    let error = Spool::open(options(spool.path(), &[])).unwrap_err();
    let SpoolError::Locked { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(*holder, Some(std::process::id()));
    assert!(error.to_string().contains(&format!("held by process {};", std::process::id())));
    drop(half);
    Spool::open(options(spool.path(), &[])).unwrap();
}

#[test]
fn second_opener_touches_nothing() {
    let spool = tempfile::tempdir().unwrap();
    let (_half, _) = open(spool.path(), &[]);
    let torn = spool.path().join("tmp/01700000000-01700000000123-000000000007-00001.seg");
    fs::write(&torn, "being written").unwrap();
    Spool::open(options(spool.path(), &["new"])).unwrap_err();
    assert!(torn.exists());
    assert_eq!(entries(&spool.path().join("backends")), [""; 0]);
}

#[test]
fn lock_file_without_a_pid_is_refused_all_the_same() {
    let spool = tempfile::tempdir().unwrap();
    let (_half, _) = open(spool.path(), &[]);
    fs::write(spool.path().join("ingest.lock"), "not a number").unwrap();
    let error = Spool::open(options(spool.path(), &[])).unwrap_err();
    assert!(error.to_string().contains("held by process unknown"), "{error}");
}

#[test]
fn ingest_and_export_halves_do_not_exclude_each_other() {
    let parent = tempfile::tempdir().unwrap();
    let spool = parent.path().join("spool");
    let export = ExportLock::acquire(&spool).unwrap();
    let (_half, _) = open(&spool, &[]);
    assert!(matches!(ExportLock::acquire(&spool), Err(SpoolError::Locked { .. })));
    drop(export);
    ExportLock::acquire(&spool).unwrap();
}

/// The parent starts this same test once more as the other process.
#[test]
fn lock_of_another_process_holds_until_it_dies() {
    const CHILD: &str = "FLOE_TEST_HELD_SPOOL";
    if let Some(path) = std::env::var_os(CHILD) {
        let (_half, _) = open(Path::new(&path), &[]);
        std::io::stdout().write_all(b"\nheld\n").unwrap();
        // Blocks until the parent kills this process.
        std::io::stdin().lines().for_each(drop);
        return;
    }
    let spool = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lock_of_another_process_holds_until_it_dies", "--nocapture"])
        .env(CHILD, spool.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    assert!(stdout.lines().any(|line| line.unwrap() == "held"), "the child opened the spool");
    let error = Spool::open(options(spool.path(), &[])).unwrap_err();
    let SpoolError::Locked { holder, .. } = error else { panic!("{error}") };
    assert_eq!(holder, Some(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    Spool::open(options(spool.path(), &[])).unwrap();
}
