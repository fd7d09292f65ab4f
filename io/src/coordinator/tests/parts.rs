//! A commit of several parts that is cut short behind any of its steps, and what the books of the next
//! run make of it: a commit whose last part is whole has its rows spooled, of any other they are found.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use floe_storage::faults::{self, Operation};

use super::books::{of, totals, with_backend};
use super::*;
use crate::export::accounts::Told;

const PARTS: u32 = 3;

/// Three parts of one row.
fn interval(timestamp_s: u64) -> Vec<Rows> {
    let part = |part_index| {
        let mut rows = Rows {
            timestamp_s,
            part_index,
            flush_interval_ms: 10_000,
            series_count: 1,
            counters: vec![1.0],
            ..Rows::default()
        };
        rows.names.push(b"c");
        rows
    };
    (0..PARTS).map(part).collect()
}

/// Names of 1020 in a directory of the spool.
fn parts_in(path: &Path, directory: &str) -> Vec<fs::DirEntry> {
    let entries = fs::read_dir(path.join(directory)).unwrap().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("00000001020")).collect()
}

/// Commits [`interval`] on a disk on which nothing happens any more from operation `at` on, as when
/// the process is killed there; returns whether it was killed.
fn commit_until(coordinator: &mut Coordinator, at: usize) -> bool {
    coordinator.parts.backlog.push(interval(1_020), 0);
    coordinator.counts.rows_snapshotted += u64::from(PARTS);
    let is_killed = Rc::new(Cell::new(false));
    let (seen, mut done) = (Rc::clone(&is_killed), 0);
    let disk = move |_: &Operation<'_>| {
        done += 1;
        if at < done {
            seen.set(true);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    };
    faults::with(disk, || coordinator.spool_waiting(false));
    is_killed.get()
}

/// What recovery does with the queue of `a`.
fn recover(path: &Path) {
    let limits =
        BackendLimits { name: "a".into(), backlog_age_ms: u64::MAX, backlog_bytes: u64::MAX };
    let options = SpoolOptions { backends: vec![limits], ..options(path) };
    let (_, report) = Spool::open(options).unwrap();
    assert_eq!((report.failed, report.quarantined.len()), (0, 0));
}

/// Kills behind `at` operations; `is_taken`: an exporter has had the first part by then, if it could.
fn cut_at(at: usize, is_taken: bool) -> bool {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut first = with_backend(path, Told::All);
    first.receive(0, "c:1|c");
    first.tick(1_010);
    let before = totals(path)["rows_spooled"];
    let is_killed = commit_until(&mut first, at);
    drop(first);
    let in_queue = parts_in(path, "backends/a");
    if is_taken && let Some(link) = in_queue.first() {
        fs::remove_file(link.path()).unwrap();
    }
    recover(path);
    let in_queue = parts_in(path, "backends/a").len() as u64;
    let in_archive = parts_in(path, "archive").len() as u64;

    let mut second = with_backend(path, Told::All);
    second.receive(0, "c:2|c");
    second.tick(1_030);
    // Every identity holds.
    let told = totals(path);
    assert_eq!(told["accounting_broken"], 0, "at {at}");
    let words = ["rows_spooled", "rows_found", "rows_pending", "rows_untold"];
    let [spooled, found, pending, untold] = of(&told, "a", &words)[..] else { panic!("{told:?}") };
    let newest = pending - in_queue - before;
    let is_whole = in_archive == u64::from(PARTS);
    let of_the_commit = if is_whole { u64::from(PARTS) } else { 0 };
    assert_eq!(told["rows_spooled"], before + of_the_commit + newest, "at {at}");
    assert_eq!(spooled, told["rows_spooled"], "at {at}");
    assert_eq!(found, if is_whole { 0 } else { in_queue }, "at {at}");
    assert_eq!(untold, if is_whole { u64::from(PARTS) - in_queue } else { 0 }, "at {at}");
    is_killed
}

#[test]
fn a_commit_of_several_parts_that_was_cut_short_at_any_step_leaves_books_that_balance() {
    for is_taken in [false, true] {
        let steps = (0..).take_while(|at| cut_at(*at, is_taken)).count();
        // Per part a file made, written, synced, two links and a name removed; three directories.
        assert_eq!(steps, 6 * PARTS as usize + 3);
    }
}
