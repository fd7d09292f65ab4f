//! The books of a spool over several runs, with queues that others empty.

use std::collections::BTreeMap;

use floe_core::books::identity::identities;
use floe_storage::history;

use super::*;
use crate::export::accounts::{BackendAccounts, Count, Told};

pub(super) type Totals = BTreeMap<String, u64>;

/// The totals of the newest commit; every identity of them holds.
pub(super) fn totals(path: &Path) -> Totals {
    let totals = history::newest_totals(path).unwrap().unwrap().counts;
    let broken: Vec<String> = identities(&totals)
        .into_iter()
        .filter(|identity| !identity.holds())
        .map(|identity| format!("{}: {identity}", identity.name))
        .collect();
    assert!(broken.is_empty(), "{broken:?}");
    totals
}

pub(super) fn of(totals: &Totals, backend: &str, words: &[&str]) -> Vec<u64> {
    let count = |word: &&str| totals.get(&format!("backend.{backend}.{word}")).copied();
    words.iter().map(|word| count(word).unwrap_or(0)).collect()
}

/// Takes the oldest segment out of the queue of `a`, as an exporter does; returns its rows.
fn take(path: &Path) -> u64 {
    let queue = path.join("backends/a");
    let mut names: Vec<_> = fs::read_dir(&queue).unwrap().map(|entry| entry.unwrap()).collect();
    names.sort_by_key(fs::DirEntry::file_name);
    let rows = floe_storage::reader::read_header(&names[0].path()).unwrap().row_count;
    fs::remove_file(names[0].path()).unwrap();
    u64::from(rows)
}

/// As [`take`], and counts it.
fn deliver(path: &Path, accounts: &BackendAccounts) -> u64 {
    accounts.settle(|| {
        let rows = take(path);
        accounts.add(Count::RowsAcknowledged, rows);
        rows
    })
}

/// A coordinator over one worker that knows the backend `a`.
pub(super) fn with_backend(path: &Path, told: Told) -> Coordinator {
    let mut coordinator = coordinator(path, 1);
    coordinator.parts.accounts = Arc::new(AccountRegistry::telling(told));
    coordinator.go_on_with(path, &["a"], "statsd");
    coordinator
}

const QUEUE: [&str; 4] = ["rows_spooled", "rows_acknowledged", "rows_pending", "rows_untold"];

#[test]
fn books_go_on_where_the_last_run_was_cut_short() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut first = with_backend(path, Told::All);
    for timestamp_s in [1_010, 1_020, 1_030] {
        first.receive(0, "c:1|c\nc:2|c\nbad");
        first.tick(timestamp_s);
    }
    let accounts = first.parts.accounts.account("a", 0);
    let rows = totals(path)["rows_spooled"];
    assert_eq!(of(&totals(path), "a", &QUEUE), [rows, 0, rows, 0]);
    let delivered = deliver(path, &accounts);
    first.tick(1_040);
    let rows = totals(path)["rows_spooled"];
    assert_eq!(of(&totals(path), "a", &QUEUE), [rows, delivered, rows - delivered, 0]);
    // Delivered behind the last segment, and received in the open interval: told by nobody.
    let untold = deliver(path, &accounts);
    first.receive(0, "c:4|c");
    drop(first);

    let mut second = with_backend(path, Told::All);
    second.receive(0, "c:1|c");
    second.tick(1_050);
    let told = totals(path);
    assert_eq!(told["starts"], 2);
    assert_eq!((told["datagrams_received"], told["values_rejected.syntax"]), (4, 3));
    assert_eq!((told["values_spooled"], told["values_open"]), (7, 0));
    let rows = told["rows_spooled"];
    assert_eq!(of(&told, "a", &QUEUE), [rows, delivered, rows - delivered - untold, untold]);
    assert_eq!(told["accounting_broken"], 0);
    let asked = second.totals();
    assert_eq!(of(&asked, "a", &QUEUE), of(&told, "a", &QUEUE));
}

#[test]
fn rows_that_nobody_accounts_for_break_the_books_once() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = with_backend(directory.path(), Told::All);
    coordinator.tick(1_010);
    let mut missing = take(directory.path());
    for (timestamp_s, broken) in [(1_020, 1), (1_030, 1)] {
        coordinator.tick(timestamp_s);
        let totals = history::newest_totals(directory.path()).unwrap().unwrap().counts;
        assert_eq!(totals["accounting_broken"], broken, "at {timestamp_s}");
    }
    missing += take(directory.path());
    coordinator.tick(1_040);
    assert_eq!(coordinator.counts.accounting_broken, 2, "off by more");
    coordinator.parts.accounts.account("a", 0).add(Count::RowsAcknowledged, missing);
    coordinator.tick(1_050);
    assert_eq!(coordinator.counts.accounting_broken, 2, "and right again");
    totals(directory.path());
}

#[test]
fn what_another_process_delivers_is_untold() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = with_backend(directory.path(), Told::Retention);
    coordinator.tick(1_010);
    let taken = take(directory.path());
    coordinator.tick(1_020);
    let told = totals(directory.path());
    let rows = told["rows_spooled"];
    assert_eq!(of(&told, "a", &QUEUE), [rows, 0, rows - taken, taken]);
    assert_eq!(told["accounting_broken"], 0);
}

#[test]
fn files_too_damaged_to_tell_their_rows_break_nothing() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = with_backend(directory.path(), Told::All);
    coordinator.tick(1_010);
    let accounts = coordinator.parts.accounts.account("a", 0);
    let taken = take(directory.path());
    accounts.add(Count::SegmentsUnreadable, 1);
    coordinator.tick(1_020);
    coordinator.tick(1_030);
    let told = totals(directory.path());
    let rows = told["rows_spooled"];
    assert_eq!(of(&told, "a", &QUEUE), [rows, 0, rows - taken, taken]);
    assert_eq!(told["accounting_broken"], 0);
}

#[test]
fn a_backend_that_leaves_and_comes_back_keeps_its_books() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut coordinator = with_backend(path, Told::All);
    coordinator.tick(1_010);
    coordinator.tick(1_020);
    let accounts = coordinator.parts.accounts.account("a", 0);
    let delivered = deliver(path, &accounts);
    let rows = coordinator.counts.rows_spooled;
    coordinator.go_on_with(path, &["b"], "statsd");
    coordinator.tick(1_030);
    let told = totals(path);
    assert_eq!(of(&told, "a", &["rows_spooled", "rows_acknowledged"]), [rows, delivered]);
    assert!(!told.contains_key("backend.a.rows_pending"), "its queue is not ours");
    let rows_b = told["rows_spooled"] - rows;
    assert_eq!(of(&told, "b", &QUEUE), [rows_b, 0, rows_b, 0]);
    // Somebody delivers it meanwhile.
    let untold = take(path);
    coordinator.go_on_with(path, &["a", "b"], "statsd");
    coordinator.tick(1_040);
    let told = totals(path);
    let both = told["rows_spooled"] - rows - rows_b;
    assert_eq!(of(&told, "a", &QUEUE), [rows + both, delivered, both, untold]);
    assert_eq!(of(&told, "b", &QUEUE), [rows_b + both, 0, rows_b + both, 0]);
    assert_eq!(told["accounting_broken"], 0);
}

#[test]
fn rows_of_an_older_floe_are_found() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut coordinator = with_backend(path, Told::All);
    coordinator.tick(1_010);
    drop(coordinator);
    // The archive and with it all totals are gone, the queue is not.
    let queue = path.join("backends/a");
    for entry in fs::read_dir(path.join("archive")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let name = fs::read_dir(&queue).unwrap().next().unwrap().unwrap().path();
    let golden = include_bytes!(
        "../../../../storage/fixtures/v1/01700000000-01700000000123-000000000000-00000.seg"
    );
    fs::remove_file(name).unwrap();
    fs::write(queue.join("01700000000-01700000000123-000000000000-00000.seg"), golden).unwrap();
    let mut coordinator = with_backend(path, Told::All);
    coordinator.tick(1_700_000_010);
    let told = totals(path);
    assert_eq!(of(&told, "a", &["rows_found", "rows_pending", "rows_untold"]), [5, 8, 0]);
    assert_eq!(told["starts"], 1);
}

#[test]
fn intervals_that_waited_when_the_run_was_cut_short_are_dropped_by_that_cause() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut first = with_backend(path, Told::All);
    let refusing = Refusing::new(path);
    first.receive(0, "c:1|c");
    first.tick(1_010);
    first.receive(0, "c:1|c\nd:1|c");
    first.tick(1_020);
    refusing.end();
    first.spool_waiting(false);
    assert_eq!(totals(path)["rows_waiting"], 0);
    drop(first);
    // As if it had been killed between the two commits.
    for directory in ["archive", "backends/a"] {
        let mut paths: Vec<_> = fs::read_dir(path.join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        fs::remove_file(paths.last().unwrap()).unwrap();
    }
    let lost = totals(path);
    assert_eq!((lost["rows_waiting"], lost["values_waiting"]), (6, 2));
    let mut second = with_backend(path, Told::All);
    second.tick(1_030);
    let told = totals(path);
    assert_eq!(
        (told["rows_dropped.process_ended"], told["values_unspooled.process_ended"]),
        (6, 2)
    );
    assert_eq!((told["rows_waiting"], told["accounting_broken"]), (0, 0));
}

#[test]
fn rows_dropped_for_want_of_memory_are_in_the_books() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = with_backend(directory.path(), Told::All);
    let refusing = Refusing::new(directory.path());
    for number in 1..=INTERVALS_WAITING_MAX as u64 + 1 {
        coordinator.receive(0, "c:1|c");
        coordinator.tick(10 * number);
    }
    let asked = coordinator.totals();
    assert!(identities(&asked).iter().all(floe_core::books::identity::Identity::holds));
    refusing.end();
    coordinator.tick(10_000);
    let told = totals(directory.path());
    assert_eq!((told["rows_dropped.io_error"], told["values_unspooled.io_error"]), (4, 1));
    assert_eq!(told["rows_snapshotted"], told["rows_spooled"] + 4);
    assert_eq!(told["accounting_broken"], 0);
}
