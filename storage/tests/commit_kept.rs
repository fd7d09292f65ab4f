//! Claim: of a commit that fails when its first links have been seen, no exporter that has taken one
//! gets the same rows again: the error names what did not come back, a further try within the same
//! commit leaves it out, and nothing is committed while traces are left. Method: disks that refuse
//! one operation, with an exporter that is quicker (`floe_storage::faults`).
#![cfg(debug_assertions)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use floe_storage::faults::{self, Operation};
use floe_storage::{Kept, Queue, Spool};
use support::{entries, only, open, parts, segments, timestamps};

const T: u64 = 1_700_000_000;
const ROWS: u64 = 5;

fn refused() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(5))
}

/// As an exporter of `queue` does that has sent its oldest segment.
fn take_oldest(queue: &Path) {
    // Not by way of the door, in which we stand.
    fs::remove_file(queue.join(&entries(queue)[0])).unwrap();
}

fn kept_by_a() -> Vec<Kept> {
    vec![Kept { part: 0, backend: "a".to_owned(), rows: ROWS }]
}

/// Commits what `kept` leaves of the interval.
fn commit_the_rest(half: &mut Spool, kept: &[Kept]) {
    let is_wanted = |part: usize, backend: &str| {
        !kept.iter().any(|kept| kept.part == part && kept.backend == backend)
    };
    assert_eq!(half.commit_to(&parts(T, 2), is_wanted).unwrap().kept, []);
}

#[test]
fn a_link_that_was_taken_before_the_commit_failed_is_not_made_again() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    let [a, b] = ["a", "b"].map(|name| spool.path().join("backends").join(name));
    let (queue, into) = (a.clone(), b.clone());
    let disk = move |operation: &Operation<'_>| match operation {
        Operation::Link { to, .. } if to.starts_with(&into) => {
            take_oldest(&queue);
            refused()
        }
        _ => Ok(()),
    };
    let interval = parts(T, 2);
    let error = faults::with(disk, || half.commit_to(&interval, |_, _| true)).unwrap_err();
    assert_eq!(error.kept, kept_by_a());
    assert!(error.to_string().starts_with("cannot link "), "{error}");
    for directory in [&a, &b, &spool.path().join("tmp"), &spool.path().join("archive")] {
        assert_eq!(entries(directory), [""; 0], "{}", directory.display());
    }
    commit_the_rest(&mut half, &error.kept);
    let in_a: Vec<u32> = segments(&a).iter().map(|name| name.part()).collect();
    assert_eq!(in_a, [1], "the first part is with its exporter");
    assert_eq!((segments(&b).len(), entries(&spool.path().join("archive")).len()), (2, 2));
    let state = half.queue_state("a").unwrap();
    assert_eq!((state.rows_pending, state.rows_left, state.rows_unannounced), (ROWS, ROWS, ROWS));
}

#[test]
fn a_further_try_within_the_commit_leaves_out_what_was_taken() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    let queue = spool.path().join("backends/a");
    let mut is_first = true;
    let disk = move |operation: &Operation<'_>| match operation {
        Operation::SyncDirectory(_) if std::mem::take(&mut is_first) => {
            take_oldest(&queue);
            refused()
        }
        _ => Ok(()),
    };
    let committed = faults::with(disk, || half.commit_to(&parts(T, 1), |_, _| true)).unwrap();
    assert_eq!(committed.kept, kept_by_a());
    assert_eq!(timestamps(&spool.path().join("backends/a")), [0; 0]);
    assert_eq!(timestamps(&spool.path().join("backends/b")), [T]);
    assert_eq!(timestamps(&spool.path().join("archive")), [T]);
    let state = half.queue_state("a").unwrap();
    assert_eq!((state.rows_pending, state.rows_unannounced), (0, ROWS));
}

#[test]
fn a_link_that_cannot_be_removed_is_its_queues_and_not_made_again() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    let [a, b] = ["a", "b"].map(|name| spool.path().join("backends").join(name));
    let (keeps, into) = (a.clone(), b.clone());
    let disk = move |operation: &Operation<'_>| match operation {
        Operation::Link { to, .. } if to.starts_with(&into) => refused(),
        Operation::Unlink(path) if path.starts_with(&keeps) => refused(),
        _ => Ok(()),
    };
    let interval = parts(T, 2);
    let error = faults::with(disk, || half.commit_to(&interval, |_, _| true)).unwrap_err();
    assert_eq!(error.kept, kept_by_a());
    let stuck = only(&a);
    commit_the_rest(&mut half, &error.kept);
    let names: Vec<_> = segments(&a).iter().map(|name| name.part()).collect();
    assert_eq!(names, [0, 1], "each part once");
    assert!(stuck.exists());
    let state = half.queue_state("a").unwrap();
    assert_eq!((state.rows_pending, state.rows_left, state.rows_unannounced), (2 * ROWS, 0, ROWS));
}

#[test]
fn nothing_is_committed_while_traces_of_a_failed_commit_are_left() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    let tmp = spool.path().join("tmp");
    let without_removal = |operation: &Operation<'_>| match operation {
        Operation::SyncFile(_) | Operation::Unlink(_) => refused(),
        _ => Ok(()),
    };
    for _ in 0..2 {
        let result = faults::with(without_removal, || half.commit(&parts(T, 1)));
        assert!(result.is_err());
        // The file and the one that was to replace it; the next commit does not begin.
        assert!(half.has_leftovers());
        assert!(entries(&tmp).len() <= 2, "{:?}", entries(&tmp));
    }
    half.commit(&parts(T, 1)).unwrap();
    assert!(!half.has_leftovers());
    assert_eq!(entries(&tmp), [""; 0]);
    assert_eq!(timestamps(&spool.path().join("archive")), [T]);
}

#[test]
fn a_commit_that_is_not_for_every_queue_is_not_finished_by_a_start() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a", "b"]);
    // Nothing happens any more once the file is whole, as when the process is killed there.
    let mut is_dead = false;
    let disk = move |operation: &Operation<'_>| {
        is_dead |= matches!(operation, Operation::Link { .. });
        if is_dead { refused() } else { Ok(()) }
    };
    let result = faults::with(disk, || half.commit_to(&parts(T, 1), |_, backend| backend != "a"));
    assert!(result.is_err());
    drop(half);
    let tmp = spool.path().join("tmp");
    assert_eq!(entries(&tmp).len(), 1, "whole, and of nobody knows whom");
    let (_half, report) = open(spool.path(), &["a", "b"]);
    assert_eq!((report.published, report.torn, report.foreign), (0, 1, 0));
    for directory in [tmp, spool.path().join("backends/a"), spool.path().join("archive")] {
        assert_eq!(entries(&directory), [""; 0], "{}", directory.display());
    }
}

#[test]
fn what_is_sent_once_at_the_most_is_taken_out_for_good_and_not_while_it_is_committed() {
    let spool = tempfile::tempdir().unwrap();
    let (mut half, _) = open(spool.path(), &["a"]);
    half.commit(&parts(T, 2)).unwrap();
    let queue = Queue::open(spool.path(), "a").unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    let unfinished = queue.tmp().join(names[0].to_string());
    fs::hard_link(queue.path(&names[0]), &unfinished).unwrap();
    let mut finished = names.clone();
    queue.retain_finished(&mut finished).unwrap();
    assert_eq!(finished, names[1..]);

    let seen = Rc::new(RefCell::new(Vec::<(&str, PathBuf)>::new()));
    let log = Rc::clone(&seen);
    let disk = move |operation: &Operation<'_>| {
        log.borrow_mut().push(match operation {
            Operation::Unlink(path) => ("unlink", (*path).to_owned()),
            Operation::SyncDirectory(path) => ("sync", (*path).to_owned()),
            other => panic!("{other:?}"),
        });
        Ok(())
    };
    let was_there = faults::with(disk, || queue.take_out(&names[1]));
    assert!(was_there.unwrap());
    let directory = queue.directory().to_owned();
    let expected =
        [("unlink", queue.path(&names[1])), ("sync", directory), ("sync", queue.tmp().to_owned())];
    assert_eq!(*seen.borrow(), expected);
    assert!(!queue.take_out(&names[1]).unwrap());
}
