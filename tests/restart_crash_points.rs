//! Claim: wherever in a segment's life the process ends, each segment that had a name in the spool is
//! delivered after the restart, to every backend, perhaps twice and never with two values, and
//! nothing is invented. Method: the built daemon aborts itself at each named point
//! (`FLOE_CRASH_AT`, debug builds alone: docs/decisions/020-faults-in-debug-builds.md), is started
//! again, and what two recording carbons have is held against the archive.
#![cfg(debug_assertions)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;

use support::books::{Books, archived};
use support::carbon::{Point, Protocol, RecordingCarbon, settled};
use support::daemon::{Daemon, Ingest, Launch, sender};
use support::settings::{Backend, one_text_backend, toml};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(30);
const HITS: &str = "stats_counts.crash.hits";
const BETWEEN_DATAGRAMS: Duration = Duration::from_millis(5);
/// Daemons at once: mostly they wait for the end of a second.
const AT_ONCE: usize = 6;
/// Each point so often, an occasion later each time.
const REPEATS: u32 = 3;

/// Every point, and the occasion on which the process aborts there: not the first one, so that a
/// segment stands before the one in trouble.
const POINTS: [(&str, u32); 12] = [
    ("tmp-created", 2),
    ("tmp-written", 2),
    ("tmp-synced", 2),
    // Passed once for each of two queues and the archive: the first of the second segment.
    ("linked-first", 4),
    ("linked-all", 2),
    ("tmp-unlinked", 2),
    ("dirs-synced", 2),
    ("sent-half", 2),
    ("sent-all", 3),
    ("fin-received", 2),
    ("acked-unlinked", 3),
    ("expire-unlinked", 1),
];

fn launch(folder: &Path, ports: [u16; 2]) -> Launch {
    let backend = |name, port| Backend { name, port, protocol: Protocol::Text };
    let mut text = toml(1000, &[backend("a", ports[0]), backend("b", ports[1])]);
    // Last in the file, so it is that of `b`: which loses by it only where expiring is the point.
    text.push_str("backlog_age = \"PATIENCE\"\n");
    let is_impatient = folder.ends_with("expire-unlinked");
    let text = text.replace("PATIENCE", if is_impatient { "1s" } else { "6h" });
    Launch::under(folder, Ingest::Recvmmsg).config("floe.toml", &text)
}

/// Sends until the daemon has ended; every interval holds another number.
fn send_until_it_ends(daemon: &mut Daemon) {
    let (to, socket) = (daemon.udp(), sender());
    let ended = wait::try_until(BOUND, || {
        for _ in 0..10 {
            // Refused once nobody listens.
            drop(socket.send_to(b"crash.hits:1|c", to));
            wait::pause(BETWEEN_DATAGRAMS);
        }
        daemon.exited()
    });
    let status = ended.unwrap_or_else(|| panic!("it did not abort:\n{}", daemon.output()));
    assert!(!status.success());
}

fn segments(spool: &Path) -> BTreeSet<String> {
    ["archive", "backends/a", "backends/b"]
        .iter()
        .flat_map(|place| std::fs::read_dir(spool.join(place)).expect("it is a spool"))
        .map(|entry| entry.expect("it is readable").file_name().to_string_lossy().into_owned())
        .collect()
}

fn crash_at(point: &str, occasion: u32) {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let folder = folder.path().join(point);
    std::fs::create_dir(&folder).expect("it is ours");
    let a = RecordingCarbon::start();
    let b_port = ports::free();
    let is_expiring = point == "expire-unlinked";
    // `b` is away where its segments are to expire.
    let b = (!is_expiring).then(|| RecordingCarbon::start_on(b_port));
    let ports = [a.port(), b_port];
    let mut daemon =
        launch(&folder, ports).environment("FLOE_CRASH_AT", format!("{point}:{occasion}")).start();
    let spool = daemon.ready().spool.clone();
    send_until_it_ends(&mut daemon);
    let at_crash = segments(&spool);
    assert!(!at_crash.is_empty(), "{point}: nothing had a name");

    let mut daemon = launch(&folder, ports).start();
    let after = segments(&spool);
    let lost: Vec<_> = at_crash.difference(&after).collect();
    let archive: BTreeSet<String> = std::fs::read_dir(spool.join("archive"))
        .expect("it is a spool")
        .map(|entry| entry.expect("it is readable").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(at_crash.is_subset(&archive), "{point}: {lost:?}");
    wait::until("both queues to be delivered", BOUND, || {
        let books = Books::of(&spool);
        let pending = |backend| books.of_backend(backend, "rows_pending");
        (pending("a") == 0 && (is_expiring || pending("b") == 0)).then_some(())
    });
    daemon.drain(Signal::TERM);
    let expected = archived(&spool, HITS);
    assert!(!expected.is_empty(), "{point}: nothing was committed");
    for carbon in [Some(a), b].into_iter().flatten() {
        carbon.wait_idle(BOUND);
        let points: Vec<Point> = carbon.take_whole_lines();
        assert_eq!(settled(&points, HITS), expected, "{point}");
    }
}

#[test]
fn every_segment_is_delivered_wherever_the_process_ends() {
    let cases: Mutex<Vec<(&str, u32)>> = Mutex::default();
    for repeat in 0..REPEATS {
        let later = POINTS.iter().map(|(point, occasion)| (*point, occasion + repeat));
        cases.lock().expect("nobody has it").extend(later);
    }
    let next = || cases.lock().expect("a panic ends the test").pop();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((point, occasion)) = next() {
                    crash_at(point, occasion);
                }
            });
        }
    });
}

/// Its only backend must get nothing twice: what it lacks at the most is the one segment that it had
/// taken out when the process ended.
fn crash_without_redelivery(point: &str, occasion: u32) {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let carbon = RecordingCarbon::start();
    let text = format!("{}redelivery = \"never\"\n", one_text_backend(1000, carbon.port()));
    let launch = || Launch::under(folder.path(), Ingest::Recvmmsg).config("floe.toml", &text);
    let mut daemon = launch().environment("FLOE_CRASH_AT", format!("{point}:{occasion}")).start();
    let spool = daemon.ready().spool.clone();
    send_until_it_ends(&mut daemon);
    let mut daemon = launch().start();
    wait::until("the queue to be delivered", BOUND, || {
        (Books::of(&spool).of_backend("a", "rows_pending") == 0).then_some(())
    });
    daemon.drain(Signal::TERM);
    let mut expected = archived(&spool, HITS);
    carbon.wait_idle(BOUND);
    let (mut missing, points) = (expected.len(), carbon.take_whole_lines());
    for point in points.iter().filter(|point| point.name == HITS) {
        let time = point.time.parse().expect("whole seconds");
        let value = expected.remove(&time);
        assert_eq!(value, Some(point.number()), "{point:?} twice, or of nobody");
        missing -= 1;
    }
    assert!(missing <= 1, "{point}: {expected:?}");
}

#[test]
fn no_end_within_a_commit_sends_twice_what_must_be_sent_once() {
    let of_a_commit = POINTS.iter().take_while(|(point, _)| *point != "sent-half");
    std::thread::scope(|scope| {
        for (point, occasion) in of_a_commit {
            scope.spawn(|| crash_without_redelivery(point, *occasion));
        }
    });
}

#[test]
fn without_the_variable_nothing_aborts() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let carbon = RecordingCarbon::start();
    let mut daemon = launch(folder.path(), [carbon.port(), ports::free()])
        .environment("FLOE_CRASH_AT", "no-such-point")
        .start();
    let spool = daemon.ready().spool.clone();
    wait::until("a segment at carbon", BOUND, || {
        (0 < Books::of(&spool).of_backend("a", "segments_acknowledged")).then_some(())
    });
    daemon.drain(Signal::TERM);
}
