//! Stopping loses nothing: SIGTERM and SIGINT empty the sockets, flush the open interval, deliver
//! or keep it, and end with code 0 within three seconds; a successor delivers what was kept and
//! never uses a timestamp twice.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::carbon::{Point, Protocol, RecordingCarbon, series};
use support::daemon::{DRAIN_BOUND, Daemon, Ingest, Launch, send};
use support::{ports, settings, wait};

mod support;

const STOPS: usize = 20;
/// What is sent this long before the signal is owed.
const BEFORE_SIGNAL: Duration = Duration::from_millis(50);
const DELIVERY_BOUND: Duration = Duration::from_secs(20);
/// Enough, and close enough together, that one falls into the few milliseconds of a drain.
const REPEATED_SIGNALS: usize = 10;
const BETWEEN_SIGNALS: Duration = Duration::from_millis(1);

#[test]
fn twenty_sigterms_lose_nothing_on_io_uring() {
    stops_lose_nothing(Ingest::IoUring, Signal::TERM, STOPS);
}

#[test]
fn twenty_sigterms_lose_nothing_on_recvmmsg() {
    stops_lose_nothing(Ingest::Recvmmsg, Signal::TERM, STOPS);
}

#[test]
fn sigint_drains_like_sigterm_on_io_uring() {
    stops_lose_nothing(Ingest::IoUring, Signal::INT, 2);
}

#[test]
fn sigint_drains_like_sigterm_on_recvmmsg() {
    stops_lose_nothing(Ingest::Recvmmsg, Signal::INT, 2);
}

/// Each stop is a daemon of its own; the interval is so long that every signal falls inside one.
fn stops_lose_nothing(ingest: Ingest, signal: Signal, stops: usize) {
    for stop in 0..stops {
        let carbon = RecordingCarbon::start();
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let mut daemon = start(folder.path(), ingest, 10_000, carbon.port());
        send_mix(daemon.udp());
        wait::pause(BEFORE_SIGNAL);
        daemon.drain(signal);
        carbon.wait_idle(DELIVERY_BOUND);
        assert_mix(stop, &carbon.take_points(Protocol::Text));
    }
}

#[test]
fn repeated_sigterm_does_not_cut_the_drain_short() {
    repeated_stops_lose_nothing(Signal::TERM);
}

#[test]
fn sigint_doubled_by_a_parent_does_not_cut_the_drain_short() {
    repeated_stops_lose_nothing(Signal::INT);
}

/// `timeout` and service managers send their signals twice in one breath.
fn repeated_stops_lose_nothing(signal: Signal) {
    for stop in 0..5 {
        let carbon = RecordingCarbon::start();
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let mut daemon = start(folder.path(), Ingest::Recvmmsg, 10_000, carbon.port());
        send_mix(daemon.udp());
        wait::pause(BEFORE_SIGNAL);
        for _ in 0..REPEATED_SIGNALS {
            daemon.signal(signal);
            wait::pause(BETWEEN_SIGNALS);
        }
        let status = daemon.wait_exit(DRAIN_BOUND);
        assert!(status.success(), "drained with {status}:\n{}", daemon.output());
        carbon.wait_idle(DELIVERY_BOUND);
        assert_mix(stop, &carbon.take_points(Protocol::Text));
    }
}

#[test]
fn what_no_backend_took_waits_for_the_next_start() {
    let port = ports::free();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut sent = BTreeMap::new();
    let mut daemon = start(folder.path(), Ingest::Recvmmsg, 1000, port);
    for amount in [5, 6, 7] {
        let second = wait::next_second(Duration::from_millis(300));
        send(daemon.udp(), [format!("kept.hits:{amount}|c")]);
        sent.insert(second + 1, f64::from(amount));
    }
    daemon.drain(Signal::TERM);
    let carbon = RecordingCarbon::start_on(port);
    let mut daemon = start(folder.path(), Ingest::Recvmmsg, 1000, port);
    let is_all = |points: &[Point]| 18.0 <= total(points, "stats_counts.kept.hits");
    let points = carbon.wait_points("the kept intervals", DELIVERY_BOUND, Protocol::Text, is_all);
    assert_eq!(nonzero(&points, "stats_counts.kept.hits"), sent, "each with its own timestamp");
    daemon.drain(Signal::TERM);
}

#[test]
fn a_killed_daemon_keeps_its_closed_intervals() {
    let port = ports::free();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = start(folder.path(), Ingest::IoUring, 1000, port);
    let second = wait::next_second(Duration::from_millis(300));
    send(daemon.udp(), ["kept.hits:5|c"]);
    // The interval is closed at second + 1; half a second later its segment is on disk.
    wait::next_second(Duration::from_millis(700));
    daemon.kill();
    let carbon = RecordingCarbon::start_on(port);
    let mut daemon = start(folder.path(), Ingest::IoUring, 1000, port);
    let is_all = |points: &[Point]| 5.0 <= total(points, "stats_counts.kept.hits");
    let points = carbon.wait_points("the closed interval", DELIVERY_BOUND, Protocol::Text, is_all);
    let expected = BTreeMap::from([(second + 1, 5.0)]);
    assert_eq!(nonzero(&points, "stats_counts.kept.hits"), expected);
    daemon.drain(Signal::TERM);
}

/// What a kill inside a commit leaves: one file whole but not yet linked, one torn.
#[test]
fn a_start_publishes_what_a_kill_left_whole_and_removes_what_it_left_torn() {
    let port = ports::free();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = start(folder.path(), Ingest::Recvmmsg, 1000, port);
    let second = wait::next_second(Duration::from_millis(300));
    send(daemon.udp(), ["kept.hits:5|c"]);
    wait::next_second(Duration::from_millis(700));
    daemon.kill();
    let spool = folder.path().join("spool");
    let prefix = format!("{:011}-", second + 1);
    let entries = fs::read_dir(spool.join("archive")).expect("the spool has an archive");
    let names = entries.map(|entry| entry.expect("the archive is readable").file_name());
    let name =
        names.filter_map(|name| name.into_string().ok()).find(|name| name.starts_with(&prefix));
    let name = name.expect("the closed interval is in the archive");
    let whole = spool.join("tmp").join(&name);
    fs::rename(spool.join("archive").join(&name), &whole).expect("the test owns the spool");
    fs::remove_file(spool.join("backends/a").join(&name)).expect("it was queued");
    let bytes = fs::read(&whole).expect("the segment is readable");
    let torn = spool.join("tmp").join(name.replace("-00000.seg", "-00001.seg"));
    fs::write(&torn, &bytes[..bytes.len() - 9]).expect("the test owns the spool");
    let carbon = RecordingCarbon::start_on(port);
    let mut daemon = start(folder.path(), Ingest::Recvmmsg, 1000, port);
    let is_all = |points: &[Point]| 5.0 <= total(points, "stats_counts.kept.hits");
    let points = carbon.wait_points("the closed interval", DELIVERY_BOUND, Protocol::Text, is_all);
    assert_eq!(nonzero(&points, "stats_counts.kept.hits"), BTreeMap::from([(second + 1, 5.0)]));
    daemon.drain(Signal::TERM);
    assert!(daemon.output().contains("published=1 torn=1"), "{}", daemon.output());
    assert!(!whole.exists() && !torn.exists(), "nothing stays in tmp/");
    assert!(spool.join("archive").join(&name).exists(), "the archive has it again");
}

#[test]
fn a_successor_never_reuses_a_timestamp() {
    const RUNS: u32 = 4;
    let carbon = RecordingCarbon::start();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    for run in 1..=RUNS {
        let mut daemon = start(folder.path(), Ingest::Recvmmsg, 1000, carbon.port());
        send(daemon.udp(), [format!("again.hits:{run}|c")]);
        daemon.drain(Signal::TERM);
    }
    carbon.wait_idle(DELIVERY_BOUND);
    let points = carbon.take_points(Protocol::Text);
    let hits = points.iter().filter(|point| point.name == "stats_counts.again.hits");
    let mut by_time: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for point in hits {
        by_time.entry(&point.time).or_default().push(&point.value);
    }
    assert!(by_time.values().all(|values| values.len() == 1), "one value per slot: {by_time:?}");
    assert_eq!(total(&points, "stats_counts.again.hits"), f64::from(RUNS * (RUNS + 1) / 2));
}

fn start(folder: &Path, ingest: Ingest, flush_ms: u32, carbon_port: u16) -> Daemon {
    Launch::under(folder, ingest)
        .config("floe.toml", &settings::one_text_backend(flush_ms, carbon_port))
        .start()
}

/// 200 datagrams of every kind from one socket, some packed.
fn send_mix(to: SocketAddr) {
    send(
        to,
        (0..50).flat_map(|index| {
            [
                "last.hits:1|c\nlast.hits:2|c".to_owned(),
                format!("last.level:{index}|g"),
                format!("last.latency:{index}|ms"),
                format!("last.users:{index}|s"),
            ]
        }),
    );
}

fn assert_mix(stop: usize, points: &[Point]) {
    for (name, expected) in [
        ("stats_counts.last.hits", 150.0),
        ("stats.timers.last.latency.count", 50.0),
        ("stats.timers.last.latency.sum", 1225.0),
        ("stats.sets.last.users.count", 50.0),
    ] {
        assert_eq!(total(points, name), expected, "{name} after stop {stop}: {points:?}");
    }
    let level = series(points, "stats.gauges.last.level");
    let last = level.last_key_value().map(|(_, value)| *value);
    assert_eq!(last, Some(49.0), "the gauge after stop {stop}: {level:?}");
}

fn total(points: &[Point], name: &str) -> f64 {
    series(points, name).values().sum()
}

fn nonzero(points: &[Point], name: &str) -> BTreeMap<u64, f64> {
    series(points, name).into_iter().filter(|(_, value)| *value != 0.0).collect()
}
