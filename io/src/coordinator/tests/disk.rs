//! Disks that are full, read-only, out of descriptors, or that fail to sync.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use floe_storage::Space;
use floe_storage::faults::{self, Operation};

use super::books::{of, totals, with_backend};
use super::*;
use crate::backlog::Fate;
use crate::export::accounts::{Count, Told};

/// A file system of 100 GB with this much free, for this thread.
fn free(available: u64) {
    faults::set_space(Some(Space { available, total: 100_000_000_000 }));
}

const PLENTY: u64 = 50_000_000_000;

/// What an exporter does that delivers from memory everything it is offered.
fn deliver_all(coordinator: &Coordinator, backend: &str) -> u64 {
    let accounts = coordinator.parts.accounts.account(backend, 0);
    let mut names = Vec::new();
    coordinator.parts.backlog.list(backend, false, &mut names);
    let mut delivered = 0;
    for name in names {
        let rows = coordinator.parts.backlog.take(backend, name).unwrap().rows.row_count() as u64;
        accounts.settle(|| {
            let fate = coordinator.parts.backlog.settle(backend, name);
            assert_eq!(fate, Some(Fate::Held));
            accounts.add(Count::RowsAcknowledged, rows);
            accounts.add(Count::RowsFromMemory, rows);
        });
        delivered += rows;
    }
    delivered
}

/// Whether a file goes with this name: the archive's is removed last.
fn is_last_link(path: &Path) -> bool {
    path.exists() && path.to_string_lossy().contains("/archive/")
}

/// Goes on with these backends and the reserve of the default.
fn keep_reserve(coordinator: &mut Coordinator, path: &Path) {
    let backends = coordinator.parts.spool.backends().to_vec();
    let options = SpoolOptions { backends, reserve_bytes: None, ..options(path) };
    coordinator.parts.spool.apply(options).unwrap();
}

fn queued(path: &Path, backend: &str) -> usize {
    fs::read_dir(path.join("backends").join(backend)).unwrap().count()
}

#[test]
fn on_a_full_disk_backends_are_served_from_memory_and_get_no_link_later() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut coordinator = with_backend(path, Told::All);
    coordinator.go_on_with(path, &["a", "b"], "statsd");
    keep_reserve(&mut coordinator, path);
    free(1 << 20);
    coordinator.receive(0, "c:1|c");
    coordinator.tick(1_010);
    let now = coordinator.totals();
    assert_eq!((now["spool_degraded"], queued(path, "a")), (1, 0));
    assert!(0 < now["waiting_bytes"]);
    assert!(coordinator.retry.wait_ms() <= 150, "tried again before the next tick");
    let delivered = deliver_all(&coordinator, "a");
    assert_eq!(delivered, now["rows_waiting"]);
    free(PLENTY);
    coordinator.spool_waiting(false);
    assert_eq!(coordinator.retry.wait_ms(), u64::MAX);
    coordinator.receive(0, "c:2|c");
    coordinator.tick(1_020);
    assert_eq!(spooled(path), [(1_010, 1.0), (1_020, 2.0)]);
    assert_eq!((queued(path, "a"), queued(path, "b")), (1, 2));
    let told = totals(path);
    assert_eq!((told["accounting_broken"], told["spool_degraded"]), (0, 0));
    let words = ["rows_from_memory", "rows_acknowledged"];
    assert_eq!(of(&told, "a", &words), [delivered, delivered]);
    assert_eq!(
        of(&told, "a", &["rows_spooled"])[0] + delivered,
        of(&told, "b", &["rows_spooled"])[0]
    );
    assert_eq!(book(path, 0, "spool_degraded"), Some(0.0), "closed before the refusal");
    faults::set_space(None);
}

/// An archive of three intervals of `names` names, with the reserve of the default.
fn with_archive(path: &Path, names: u32) -> Coordinator {
    let mut coordinator = coordinator(path, 1);
    keep_reserve(&mut coordinator, path);
    for number in 1..=3 {
        for name in 0..names {
            coordinator.receive(0, &format!("some.name.that.is.long.enough.{name}:1|c"));
        }
        coordinator.receive(0, &format!("c:{number}|c"));
        coordinator.tick(1_000 + 10 * number);
    }
    coordinator
}

#[test]
fn the_archive_gives_way_to_the_reserve_before_anything_waits() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut coordinator = with_archive(path, 4_000);
    // Just below the reserve of 256 MiB and what a commit needs.
    free(256 << 20);
    coordinator.receive(0, "c:4|c");
    coordinator.tick(1_040);
    assert_eq!(spooled(path).first(), Some(&(1_030, 3.0)), "the newest stays");
    faults::set_space(None);
    assert!(coordinator.is_refused, "a directory of the test does not free what `free` says");
    coordinator.spool_waiting(false);
    assert_eq!(spooled(path), [(1_030, 3.0), (1_040, 4.0)]);
    let told = totals(path);
    assert_eq!(told["archive.segments_expired_disk_full"], 2);
    assert!(8_000 < told["archive.rows_expired_disk_full"]);
}

#[test]
fn nothing_gives_way_where_all_of_it_would_not_be_enough() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut coordinator = with_archive(path, 0);
    // Somebody else has filled the disk.
    free(0);
    coordinator.receive(0, "c:4|c");
    coordinator.tick(1_040);
    coordinator.parts.settings.spool.memory_bytes = Some(0);
    coordinator.receive(0, "c:5|c");
    coordinator.tick(1_050);
    let kept = [(1_010, 1.0), (1_020, 2.0), (1_030, 3.0)];
    assert_eq!(spooled(path), kept, "not when memory is used up either");
    faults::set_space(None);
    coordinator.spool_waiting(false);
    let told = totals(path);
    assert_eq!(told["archive.segments_expired_disk_full"], 0);
    assert_eq!(spooled(path).len(), 4, "the newest waited in memory");
}

#[test]
fn only_when_memory_is_used_up_does_a_full_disk_cost_the_oldest_segments() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut coordinator = with_backend(path, Told::All);
    for number in 1..=4 {
        coordinator.receive(0, &format!("c:{number}|c"));
        coordinator.tick(1_000 + 10 * number);
    }
    let is_full = Rc::new(Cell::new(true));
    let seen = Rc::clone(&is_full);
    let disk = move |operation: &Operation<'_>| match operation {
        // Room for one more segment comes by unlinking alone.
        Operation::Unlink(path) if is_last_link(path) => {
            seen.set(false);
            Ok(())
        }
        Operation::Write(..) if seen.replace(true) => Err(io::Error::from_raw_os_error(28)),
        _ => Ok(()),
    };
    faults::with(disk, || {
        coordinator.receive(0, "c:5|c");
        coordinator.tick(1_050);
        assert_eq!(queued(path, "a"), 4, "nothing is lost while memory lasts");
        assert_eq!(coordinator.parts.backlog.len(), 1);
        coordinator.parts.settings.spool.memory_bytes = Some(0);
        coordinator.receive(0, "c:6|c");
        coordinator.tick(1_060);
    });
    assert_eq!(queued(path, "a"), 4, "one less, one more");
    assert_eq!(coordinator.parts.backlog.len(), 1, "the newest waits whatever its size");
    coordinator.spool_waiting(false);
    let told = totals(path);
    assert_eq!((told["rows_waiting"], told["accounting_broken"]), (0, 0));
    assert!(0 < of(&told, "a", &["rows_expired"])[0]);
    assert_eq!(told["rows_snapshotted"], told["rows_spooled"], "no row was dropped");
}

#[test]
fn each_refusal_has_its_cause_and_loses_nothing_before_the_bound() {
    for (errno, word) in [
        (libc::ENOSPC, "disk_full"),
        (libc::EDQUOT, "disk_full"),
        (libc::EROFS, "read_only"),
        (libc::EMFILE, "descriptors"),
        (libc::EIO, "io_error"),
    ] {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        let mut coordinator = with_backend(path, Told::All);
        let refuse = move |operation: &Operation<'_>| match operation {
            Operation::Create(_) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        };
        coordinator.receive(0, "c:1|c");
        faults::with(refuse, || coordinator.tick(1_010));
        assert_eq!(coordinator.parts.backlog.len(), 1);
        coordinator.parts.settings.spool.memory_bytes = Some(0);
        coordinator.receive(0, "c:2|c");
        faults::with(refuse, || coordinator.tick(1_020));
        coordinator.spool_waiting(false);
        let told = totals(path);
        let dropped = told[&format!("rows_dropped.{word}")];
        assert!(0 < dropped, "{word}");
        assert_eq!(told["rows_snapshotted"], told["rows_spooled"] + dropped, "{word}");
        assert_eq!(told[&format!("values_unspooled.{word}")], 1, "{word}");
        assert_eq!(of(&coordinator.totals(), "a", &["rows_dropped"]), [dropped], "{word}");
    }
}

#[test]
fn what_every_backend_has_had_is_given_up_first_and_is_no_loss() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut coordinator = with_backend(path, Told::All);
    let refusing = Refusing::new(path);
    coordinator.receive(0, "c:1|c");
    coordinator.tick(1_010);
    coordinator.receive(0, "c:2|c");
    coordinator.tick(1_020);
    let delivered = deliver_all(&coordinator, "a");
    coordinator.parts.settings.spool.memory_bytes = Some(0);
    coordinator.receive(0, "c:3|c");
    coordinator.tick(1_030);
    refusing.end();
    coordinator.spool_waiting(false);
    let told = totals(path);
    assert_eq!((told["rows_shipped"], told["values_shipped"]), (delivered, 2));
    assert_eq!(told["rows_dropped.io_error"], 0);
    assert_eq!(spooled(path), [(1_030, 3.0)], "the archive misses the others");
}

#[test]
fn a_file_that_failed_to_sync_is_never_synced_again() {
    for failures in [1, 2] {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        let mut coordinator = with_backend(path, Told::All);
        let synced = Rc::new(std::cell::RefCell::new(Vec::new()));
        let seen = Rc::clone(&synced);
        let disk = move |operation: &Operation<'_>| match operation {
            Operation::SyncFile(path) => {
                let mut seen = seen.borrow_mut();
                seen.push(path.to_path_buf());
                let is_bad = seen.len() <= failures;
                if is_bad { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
            }
            _ => Ok(()),
        };
        coordinator.receive(0, "c:1|c");
        faults::with(disk, || coordinator.tick(1_010));
        assert_eq!(coordinator.parts.backlog.len(), failures - 1, "written anew at once, but once");
        coordinator.spool_waiting(false);
        let synced = synced.borrow();
        assert!(synced[0] != synced[1], "another file: {synced:?}");
        assert_eq!(spooled(path), [(1_010, 1.0)]);
        assert_eq!(queued(path, "a"), 1);
    }
}

#[test]
fn a_stop_on_a_full_disk_lets_the_oldest_give_way_to_the_newest() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut coordinator = with_backend(path, Told::All);
    for number in 1..=3 {
        coordinator.receive(0, &format!("c:{number}|c"));
        coordinator.tick(1_000 + 10 * number);
    }
    let room = Rc::new(Cell::new(0));
    let disk = move |operation: &Operation<'_>| match operation {
        Operation::Unlink(path) if is_last_link(path) => {
            room.set(room.get() + 1);
            Ok(())
        }
        Operation::Write(..) if room.get() == 0 => Err(io::Error::from_raw_os_error(28)),
        Operation::Write(..) => {
            room.set(room.get() - 1);
            Ok(())
        }
        _ => Ok(()),
    };
    coordinator.receive(0, "c:4|c");
    faults::with(disk, || coordinator.drain());
    let values: Vec<f64> = spooled(path).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values.last(), Some(&4.0));
    assert!(values.len() < 4, "{values:?}");
}

/// The exporter of `a` has acknowledged its link when that of `b` fails, or when the directories do.
#[test]
fn what_was_delivered_from_a_commit_that_failed_is_not_delivered_again() {
    type Behind = fn(&Operation<'_>) -> bool;
    let link: Behind = |operation| matches!(operation, Operation::Link { to, .. } if to.to_string_lossy().contains("/b/"));
    let sync: Behind = |operation| matches!(operation, Operation::SyncDirectory(_));
    for (fails, waiting) in [(link, 1), (sync, 0)] {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        let mut coordinator = with_backend(path, Told::All);
        coordinator.go_on_with(path, &["a", "b"], "statsd");
        let accounts = coordinator.parts.accounts.account("a", 0);
        let queue = path.join("backends/a");
        let mut is_first = true;
        let disk = move |operation: &Operation<'_>| {
            if !fails(operation) || !std::mem::take(&mut is_first) {
                return Ok(());
            }
            let link = fs::read_dir(&queue).unwrap().next().unwrap().unwrap().path();
            let rows = floe_storage::reader::read_header(&link).unwrap().row_count;
            accounts.settle(|| {
                fs::remove_file(&link).unwrap();
                accounts.add(Count::RowsAcknowledged, u64::from(rows));
            });
            Err(io::Error::from_raw_os_error(libc::EIO))
        };
        coordinator.receive(0, "c:1|c");
        faults::with(disk, || coordinator.tick(1_010));
        assert_eq!(coordinator.parts.backlog.len(), waiting);
        assert_eq!(deliver_all(&coordinator, "a"), 0, "nothing is offered to it");
        coordinator.spool_waiting(false);
        assert_eq!((queued(path, "a"), queued(path, "b")), (0, 1));
        assert_eq!(spooled(path), [(1_010, 1.0)]);
        coordinator.receive(0, "c:2|c");
        coordinator.tick(1_020);
        let told = totals(path);
        assert_eq!(told["accounting_broken"], 0);
        let [found, had] = of(&told, "a", &["rows_found", "rows_acknowledged"])[..] else {
            panic!("{told:?}")
        };
        assert!(0 < had && found == had, "{found} of {had}");
        let [a, b] = ["a", "b"].map(|name| of(&told, name, &["rows_spooled"])[0]);
        assert_eq!(a + had, b);
        assert_eq!(of(&coordinator.totals(), "a", &["rows_untold"]), [0]);
    }
}
