//! Claims: a disk that fails at any one operation of a commit (EIO from open, write, sync, link, the
//! sync of a directory, or when what was delivered is removed) costs no row: the backend that is up
//! gets each interval from memory, once, and when the disk is back the one that was away misses
//! nothing. A disk that takes writes in pieces is no fault at all. When memory is used up what is lost
//! is in `rows_dropped.io_error`, to the value. Method: the built daemon, told by a file which
//! operations its disk refuses (`FLOE_DISK_FAULTS`, debug builds alone:
//! docs/decisions/020-faults-in-debug-builds.md); two recording carbons as judges. A short write of the
//! kernel's own making comes from a file system with less room than a segment needs.
#![cfg(debug_assertions)]

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use support::books::{Books, archived};
use support::carbon::{Point, Protocol, RecordingCarbon, series, settled};
use support::daemon::{Daemon, Ingest, Launch, send};
use support::mount::{self, Mount};
use support::settings::{Backend, toml};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(30);
const HITS: &str = "stats_counts.kept.hits";
/// Daemons at once: mostly they wait for the end of a second.
const AT_ONCE: usize = 4;
const CAUSES: [&str; 5] = ["disk_full", "read_only", "descriptors", "io_error", "oversize"];

/// A daemon whose disk is told to fail, and the carbon that is always up.
struct Scene {
    daemon: Daemon,
    /// What the daemon's disk refuses stands here.
    faults: PathBuf,
    here: RecordingCarbon,
    points: Vec<Point>,
    away_port: u16,
    sent: u64,
}

impl Scene {
    /// `here`: further settings of the backend that is up; `spool`: of the spool.
    fn start(folder: &Path, here_settings: &str, spool: &str) -> Self {
        let here = RecordingCarbon::start();
        let away_port = ports::free();
        let backend = |name, port| Backend { name, port, protocol: Protocol::Text };
        // The one that is up last, so that what follows is of it.
        let backends = toml(1000, &[backend("away", away_port), backend("here", here.port())]);
        let text = format!("{backends}{here_settings}\n[spool]\n{spool}\n");
        let faults = folder.join("faults");
        let daemon = Launch::under(folder, Ingest::Recvmmsg)
            .config("floe.toml", &text)
            .environment("FLOE_DISK_FAULTS", &faults)
            .start();
        Self { daemon, faults, here, points: Vec::new(), away_port, sent: 0 }
    }

    /// The disk fails so from now on; whole or not at all.
    fn fail(&self, faults: &str) {
        let whole = self.faults.with_extension("new");
        fs::write(&whole, faults).expect("the folder is the test's");
        fs::rename(&whole, &self.faults).expect("the folder is the test's");
    }

    fn heal(&self) {
        fs::remove_file(&self.faults).expect("it failed");
    }

    fn spool(&self) -> PathBuf {
        self.daemon.ready().spool.clone()
    }

    fn send(&mut self, count: u64) {
        send(self.daemon.udp(), (0..count).map(|_| "kept.hits:1|c"));
        self.sent += count;
    }

    /// Sends `count` hits, and waits until the carbon that is up has them all.
    fn send_and_receive(&mut self, count: u64) {
        self.send(count);
        let came = wait::try_until(BOUND, || {
            self.points.extend(self.here.take_points(Protocol::Text));
            (self.sent as f64 <= series(&self.points, HITS).values().sum()).then_some(())
        });
        let told = || (series(&self.points, HITS), Books::of(&self.spool()));
        assert!(came.is_some(), "of {}: {:?}\n{}", self.sent, told(), self.daemon.output());
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&Books) -> bool) -> Books {
        let spool = self.spool();
        let mut last = None;
        let found = wait::try_until(BOUND, || {
            let books = Books::of(&spool);
            let is_so = is_so(&books);
            last = Some(books);
            is_so.then_some(())
        });
        let books = last.expect("there are books");
        assert!(found.is_some(), "not {what}: {books:?}\n{}", self.daemon.output());
        books
    }

    /// The other carbon comes back and gets what it has missed; both have the same, each once.
    fn end(mut self) -> Books {
        let away = RecordingCarbon::start_on(self.away_port);
        let books = self.wait_for("delivered to both", |books| {
            books.count("rows_waiting") == 0
                && books.count("spool_degraded") == 0
                && books.count("values_open") == 0
                && ["here", "away"].iter().all(|name| books.of_backend(name, "rows_pending") == 0)
        });
        self.daemon.drain(Signal::TERM);
        away.wait_idle(BOUND);
        let away = settled(&away.take_points(Protocol::Text), HITS);
        self.points.extend(self.here.take_points(Protocol::Text));
        let nonzero = |points: Vec<(u64, f64)>| -> Vec<(u64, f64)> {
            points.into_iter().filter(|(_, value)| *value != 0.0).collect()
        };
        // Not settled by time: a point that came twice would count twice.
        let here = self.points.iter().filter(|point| point.name == HITS);
        let here = here.map(|point| {
            let time = point.time.parse().expect("whole seconds");
            (time, point.number())
        });
        let mut here = nonzero(here.collect());
        here.sort_by_key(|(time, _)| *time);
        assert_eq!(here, nonzero(away.into_iter().collect()), "{}", self.daemon.output());
        books
    }
}

fn none_dropped(books: &Books) {
    for cause in CAUSES {
        assert_eq!(books.count(&format!("rows_dropped.{cause}")), 0, "{books:?}");
    }
}

fn refused_at(operation: &str) {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    // Nothing may come twice then, whatever the disk has of it.
    let mut scene = Scene::start(folder.path(), "redelivery = \"never\"", "");
    scene.send_and_receive(3);
    scene.wait_for("whole", |books| {
        0 < books.count("rows_snapshotted") && books.of_backend("here", "rows_pending") == 0
    });
    scene.fail(&format!("{operation} 5\n"));
    // What was removed may come back as long as directories cannot be synced: a backend that must
    // not get it twice then waits.
    let is_served = operation != "sync-directory";
    for _ in 0..2 {
        if is_served {
            scene.send_and_receive(5);
        } else {
            scene.send(5);
        }
    }
    let books = scene.wait_for("degraded", |books| books.count("spool_degraded") == 1);
    assert!(!is_served || 0 < books.of_backend("here", "rows_from_memory"), "{books:?}");
    let output = scene.daemon.output();
    assert!(output.contains("Input/output error"), "{operation}: {output}");
    scene.heal();
    scene.wait_for("back on the disk", |books| {
        books.count("rows_waiting") == 0 && books.count("spool_degraded") == 0
    });
    assert!(scene.daemon.output().contains("spool writable again"));
    scene.send_and_receive(2);
    let (spool, sent) = (scene.spool(), scene.sent);
    none_dropped(&scene.end());
    let in_archive: f64 = archived(&spool, HITS).values().sum();
    assert_eq!(in_archive, sent as f64, "{operation}: the archive has everything, too");
}

#[test]
fn an_error_at_any_operation_of_a_commit_costs_no_row() {
    let operations = ["create", "write", "sync-file", "link", "sync-directory"];
    for operations in operations.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            for operation in operations {
                scope.spawn(move || refused_at(operation));
            }
        });
    }
}

/// The removal of a delivered link fails, and so does that of the commit's own name.
#[test]
fn a_disk_that_removes_nothing_costs_no_row_and_no_resend() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut scene = Scene::start(folder.path(), "", "");
    scene.send_and_receive(3);
    scene.fail("unlink 5\n");
    for _ in 0..2 {
        scene.send_and_receive(5);
    }
    scene.wait_for("degraded", |books| books.count("spool_degraded") == 1);
    scene.heal();
    scene.wait_for("back on the disk", |books| {
        books.count("rows_waiting") == 0 && books.of_backend("here", "rows_pending") == 0
    });
    let books = scene.end();
    none_dropped(&books);
    assert_eq!(books.of_backend("here", "rows_resent"), 0, "{books:?}");
}

#[test]
fn a_disk_that_takes_writes_in_pieces_is_no_fault() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut scene = Scene::start(folder.path(), "", "");
    scene.fail("write short\n");
    for _ in 0..3 {
        scene.send_and_receive(5);
    }
    let books = scene.end();
    none_dropped(&books);
    assert_eq!(books.count("spool_failures"), 0, "{books:?}");
}

#[test]
fn a_write_that_the_kernel_cuts_short_costs_no_row() {
    if !mount::is_possible("io/src/coordinator/tests/disk.rs covers it in memory") {
        return;
    }
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let small = Mount::tmpfs(folder.path(), Some(16)).expect("root may mount");
    let mut scene = Scene::start(small.path(), "", "reserve_bytes = 0\narchive_bytes = 0");
    scene.send_and_receive(3);
    let ballast = small.path().join("ballast");
    // A page is left, and a segment needs more: the kernel takes a page of it, then nothing.
    fill_but(&ballast, 4_096);
    for _ in 0..2 {
        scene.send_and_receive(5);
    }
    scene.wait_for("degraded", |books| books.count("spool_degraded") == 1);
    fs::remove_file(&ballast).expect("it is ours");
    scene.wait_for("back on the disk", |books| books.count("rows_waiting") == 0);
    let books = scene.end();
    none_dropped(&books);
    assert!(0 < books.count("spool_failures"), "{books:?}");
}

/// Writes until nothing fits any more, then gives `spare` bytes back.
fn fill_but(path: &Path, spare: u64) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("it is new");
    let chunk = vec![b'x'; 4_096];
    while match file.write(&chunk) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            false
        }
    } {}
    let length = file.metadata().expect("it is ours").len();
    file.set_len(length - spare).expect("it is ours");
}

#[test]
fn beyond_memory_what_is_lost_is_counted_by_its_cause_to_the_value() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut scene = Scene::start(folder.path(), "", "memory_bytes = 1");
    scene.send_and_receive(3);
    scene.wait_for("whole", |books| books.count("rows_waiting") == 0);
    scene.fail("sync-file 5\n");
    // It may be pushed out before any exporter has looked.
    scene.send(4);
    // The newest waits whatever its size; each pushes the one before it out.
    scene.wait_for("dropped", |books| 0 < books.count("values_unspooled.io_error"));
    scene.send(5);
    scene.wait_for("closed", |books| books.count("values_open") == 0);
    scene.heal();
    scene.wait_for("back on the disk", |books| books.count("rows_waiting") == 0);
    let away = RecordingCarbon::start_on(scene.away_port);
    let books = scene.wait_for("delivered", |books| {
        books.of_backend("away", "rows_pending") == 0 && books.count("values_open") == 0
    });
    let sent = scene.sent;
    scene.daemon.drain(Signal::TERM);
    away.wait_idle(BOUND);
    let had: f64 = settled(&away.take_points(Protocol::Text), HITS).values().sum();
    let unspooled = books.count("values_unspooled.io_error") + books.count("values_shipped");
    assert!(0 < books.of_backend("away", "rows_dropped"), "{books:?}");
    assert!(0 < books.count("rows_dropped.io_error"), "{books:?}");
    assert_eq!(had + unspooled as f64, sent as f64, "{books:?}");
    let others = CAUSES.iter().filter(|cause| **cause != "io_error");
    for cause in others {
        assert_eq!(books.count(&format!("rows_dropped.{cause}")), 0, "{books:?}");
    }
}
