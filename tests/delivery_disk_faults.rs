//! Claims: while the disk takes nothing (full, read-only, no descriptors) each backend that is up gets
//! every interval from memory, once; what lay in queues is not sent twice though it cannot be removed;
//! when the disk is back everything returns to it, a backend that was away misses nothing, and the
//! books say that no row was dropped. Method: the built daemon with a spool on a file system of the
//! test's own, two recording carbons as judges, one of them away for a part. Disks that fail in other
//! ways are the subject of `delivery_disk_errors.rs`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use support::books::Books;
use support::carbon::{Point, Protocol, RecordingCarbon, series, settled};
use support::daemon::{Daemon, Ingest, Launch, send};
use support::mount::{self, Mount};
use support::settings::{Backend, toml};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(20);
const HITS: &str = "stats_counts.kept.hits";

fn start(folder: &Path, ports: [u16; 2]) -> Daemon {
    let backend = |name, port| Backend { name, port, protocol: Protocol::Text };
    let text = toml(1000, &[backend("here", ports[0]), backend("away", ports[1])]);
    Launch::under(folder, Ingest::Recvmmsg).config("floe.toml", &text).start()
}

/// Sends `count` hits, and waits until `carbon` has all of `points` and these.
fn send_and_receive(
    daemon: &Daemon,
    carbon: &RecordingCarbon,
    points: &mut Vec<Point>,
    count: u64,
) {
    let before: f64 = series(points, HITS).values().sum();
    send(daemon.udp(), (0..count).map(|_| "kept.hits:1|c"));
    wait::until("the hits at carbon", BOUND, || {
        points.extend(carbon.take_points(Protocol::Text));
        let now: f64 = series(points, HITS).values().sum();
        (before + count as f64 <= now).then_some(())
    });
}

fn wait_for(spool: &Path, what: &str, is_so: impl Fn(&Books) -> bool) -> Books {
    let mut last = None;
    let found = wait::try_until(BOUND, || {
        let books = Books::of(spool);
        let is_so = is_so(&books);
        last = Some(books);
        is_so.then_some(())
    });
    let books = last.expect("there are books");
    assert!(found.is_some(), "not {what}: {books:?}");
    books
}

/// The same, up to a moment with nothing on its way to the disk: a commit that fails behind its first
/// link is made again, and what was sent is sent again.
fn commit_whole(daemon: &Daemon, carbon: &RecordingCarbon, points: &mut Vec<Point>, count: u64) {
    send_and_receive(daemon, carbon, points, count);
    wait_for(&daemon.ready().spool.clone(), "a whole commit", |books| {
        0 < books.count("rows_snapshotted") && books.count("rows_waiting") == 0
    });
}

/// Sets a soft limit of the daemon, which has inherited our hard one; gives the one before.
fn set_limit(daemon: &Daemon, resource: Resource, current: Option<u64>) -> Option<u64> {
    let id = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
    let maximum = getrlimit(resource).maximum;
    let before = prlimit(id, resource, Rlimit { current, maximum });
    before.expect("the daemon is ours").current
}

/// Writes until nothing fits any more.
fn fill(path: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("it is new");
    for size in [64 << 10, 4_096, 1] {
        while match file.write(&vec![b'x'; size]) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull);
                false
            }
        } {}
    }
}

/// Everything is on the disk again, nothing was dropped, and both backends have `hits` of the same.
fn check_end(mut daemon: Daemon, here: &[Point], away: &RecordingCarbon, hits: u64) {
    let spool = daemon.ready().spool.clone();
    let books = wait_for(&spool, "delivered to both", |books| {
        books.count("rows_waiting") == 0
            && books.count("spool_degraded") == 0
            && books.count("values_open") == 0
            && books.of_backend("away", "rows_pending") == 0
    });
    assert!(0 < books.count("spool_failures"), "{books:?}");
    for cause in ["disk_full", "read_only", "descriptors", "io_error", "oversize"] {
        assert_eq!(books.count(&format!("rows_dropped.{cause}")), 0, "{books:?}");
    }
    daemon.drain(Signal::TERM);
    away.wait_idle(BOUND);
    let away = settled(&away.take_points(Protocol::Text), HITS);
    assert_eq!(away.values().sum::<f64>(), hits as f64);
    // Each interval once: what was had from memory got no link.
    let here = series(here, HITS);
    for (time, value) in &away {
        assert_eq!(here.get(time).copied().unwrap_or(0.0), *value, "at {time}");
    }
}

#[test]
fn a_full_disk_costs_no_row() {
    if !mount::is_possible("io/src/coordinator/tests/disk.rs covers it in memory") {
        return;
    }
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let small = Mount::tmpfs(folder.path(), Some(16)).expect("root may mount");
    let here = RecordingCarbon::start();
    let away_port = ports::free();
    let daemon = start(small.path(), [here.port(), away_port]);
    let spool = daemon.ready().spool.clone();
    let mut points = Vec::new();
    send_and_receive(&daemon, &here, &mut points, 3);
    let ballast = small.path().join("ballast");
    fill(&ballast);
    for _ in 0..3 {
        send_and_receive(&daemon, &here, &mut points, 5);
    }
    let books = wait_for(&spool, "degraded", |books| books.count("spool_degraded") == 1);
    assert!(0 < books.of_backend("here", "rows_from_memory"), "{books:?}");
    assert_eq!(books.of_backend("away", "rows_expired"), 0, "memory comes first: {books:?}");
    assert!(daemon.output().contains("segment refused"), "{}", daemon.output());
    fs::remove_file(&ballast).expect("it is ours");
    wait_for(&spool, "back on the disk", |books| books.count("rows_waiting") == 0);
    assert!(daemon.output().contains("spool writable again"), "{}", daemon.output());
    let away = RecordingCarbon::start_on(away_port);
    send_and_receive(&daemon, &here, &mut points, 2);
    check_end(daemon, &points, &away, 20);
}

#[test]
fn a_read_only_file_system_costs_no_row_and_no_resend() {
    if !mount::is_possible("io/src/coordinator/tests/disk.rs covers it in memory") {
        return;
    }
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let here = RecordingCarbon::start();
    let away_port = ports::free();
    let daemon = start(folder.path(), [here.port(), away_port]);
    let spool = daemon.ready().spool.clone();
    let mut points = Vec::new();
    send_and_receive(&daemon, &here, &mut points, 3);
    wait_for(&spool, "queued", |books| 0 < books.of_backend("away", "rows_pending"));
    let over = Mount::over_itself(&spool).expect("root may mount");
    over.read_only().expect("root may remount");
    send_and_receive(&daemon, &here, &mut points, 5);
    let away = RecordingCarbon::start_on(away_port);
    // From the disk and from memory, all while nothing can be removed.
    let mut seen = Vec::new();
    wait::until("what was queued", BOUND, || {
        seen.extend(away.take_points(Protocol::Text));
        (series(&seen, HITS).values().sum::<f64>() == 8.0).then_some(())
    });
    // Two more intervals: what was delivered is not delivered again.
    for _ in 0..2 {
        send_and_receive(&daemon, &here, &mut points, 1);
    }
    wait::until("the newest", BOUND, || {
        seen.extend(away.take_points(Protocol::Text));
        (10.0 <= series(&seen, HITS).values().sum::<f64>()).then_some(())
    });
    assert_eq!(series(&seen, HITS).values().sum::<f64>(), 10.0, "each once");
    assert!(daemon.output().contains("delivered, but cannot be removed"), "{}", daemon.output());
    over.writable().expect("root may remount");
    let books = wait_for(&spool, "back on the disk", |books| {
        books.count("rows_waiting") == 0 && books.of_backend("away", "rows_pending") == 0
    });
    assert!(0 < books.of_backend("away", "rows_from_memory"), "{books:?}");
    assert_eq!(books.of_backend("away", "rows_resent"), 0, "{books:?}");
    drop(over);
    let mut daemon = daemon;
    daemon.drain(Signal::TERM);
    seen.extend(away.take_points(Protocol::Text));
    assert_eq!(series(&seen, HITS).values().sum::<f64>(), 10.0, "each once, to the end");
}

#[test]
fn a_commit_without_descriptors_costs_no_row() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let here = RecordingCarbon::start();
    let away_port = ports::free();
    let daemon = start(folder.path(), [here.port(), away_port]);
    let mut points = Vec::new();
    commit_whole(&daemon, &here, &mut points, 3);
    // Below what is open: nothing more can be.
    let before = set_limit(&daemon, Resource::Nofile, Some(4));
    send(daemon.udp(), (0..5).map(|_| "kept.hits:1|c"));
    wait::until("a refused segment", BOUND, || {
        let output = daemon.output();
        (output.contains("segment refused") && output.contains("Too many open files")).then_some(())
    });
    set_limit(&daemon, Resource::Nofile, before);
    send_and_receive(&daemon, &here, &mut points, 2);
    wait::until("all of it", BOUND, || {
        points.extend(here.take_points(Protocol::Text));
        (series(&points, HITS).values().sum::<f64>() == 10.0).then_some(())
    });
    let away = RecordingCarbon::start_on(away_port);
    check_end(daemon, &points, &away, 10);
}

/// The kernel cuts the write short at the limit, then refuses the rest, with a signal that would end a
/// process that did not know it.
#[test]
fn a_limit_on_the_size_of_files_costs_no_row() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let here = RecordingCarbon::start();
    let away_port = ports::free();
    let daemon = start(folder.path(), [here.port(), away_port]);
    let spool = daemon.ready().spool.clone();
    let mut points = Vec::new();
    commit_whole(&daemon, &here, &mut points, 3);
    // Less than any segment with books is long.
    let before = set_limit(&daemon, Resource::Fsize, Some(1_000));
    for _ in 0..2 {
        send_and_receive(&daemon, &here, &mut points, 5);
    }
    let books = wait_for(&spool, "degraded", |books| books.count("spool_degraded") == 1);
    assert!(0 < books.of_backend("here", "rows_from_memory"), "{books:?}");
    assert!(daemon.output().contains("File too large"), "{}", daemon.output());
    set_limit(&daemon, Resource::Fsize, before);
    wait_for(&spool, "back on the disk", |books| books.count("rows_waiting") == 0);
    let away = RecordingCarbon::start_on(away_port);
    send_and_receive(&daemon, &here, &mut points, 2);
    check_end(daemon, &points, &away, 15);
}
