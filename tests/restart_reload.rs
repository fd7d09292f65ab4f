//! A changed configuration is read again without a restart: on SIGHUP, and when the file is written
//! in place, replaced by a rename, or exchanged behind a symbolic link. What can change does, what
//! cannot is said, a broken file changes nothing, and nothing of the open interval is lost.
//! Method: the built binary, its file rewritten under it, recording carbons.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use support::carbon::{Point, Protocol, RecordingCarbon, series};
use support::daemon::{Daemon, Ingest, Launch, send};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(20);
const APPLIED: &str = "configuration applied";
const REFUSED: &str = "configuration refused: the old one goes on";

/// A daemon from a `config.js` that the test rewrites.
struct Site {
    folder: tempfile::TempDir,
    daemon: Daemon,
    head: String,
}

impl Site {
    fn start(ingest: Ingest, keys: &str) -> Self {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let head = format!(
            "port: {}, address: '127.0.0.1', mgmt_port: {}, mgmt_address: '127.0.0.1'",
            ports::free(),
            ports::free()
        );
        let text = format!("{{ {head}, {keys} }}");
        let daemon = Launch::under(folder.path(), ingest).config("config.js", &text).start();
        Self { folder, daemon, head }
    }

    fn text(&self, keys: &str) -> String {
        format!("{{ {}, {keys} }}\n", self.head)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("config.js")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).expect("the test's folder is writable");
    }

    fn replace(&self, text: &str) {
        let new = self.folder.path().join("new.js");
        std::fs::write(&new, text).expect("the test's folder is writable");
        std::fs::rename(&new, self.path()).expect("the test's folder is writable");
    }

    fn said(&self, what: &str) -> usize {
        self.daemon.output().matches(what).count()
    }

    fn await_said(&self, what: &str, times: usize) {
        wait::until(what, BOUND, || (times <= self.said(what)).then_some(()));
    }

    fn send(&self, lines: &[&str]) {
        send(self.daemon.udp(), lines);
    }
}

fn graphite(carbon: &RecordingCarbon) -> String {
    format!("graphiteHost: '127.0.0.1', graphitePort: {}", carbon.port())
}

fn total(points: &[Point], name: &str) -> f64 {
    series(points, name).values().sum()
}

#[test]
fn ten_rewrites_under_load_lose_no_value_and_end_nothing() {
    for ingest in Ingest::BOTH {
        let carbon = RecordingCarbon::start();
        let keys = format!("{}, flushInterval: 1000, floe: {{ books: true }}", graphite(&carbon));
        let mut site = Site::start(ingest, &keys);
        let mut sent = 0;
        for round in 0..10 {
            for _ in 0..100 {
                site.send(&["load.hits:1|c\nload.time:5|ms", "load.hits:1|c"]);
                sent += 2;
                wait::pause(Duration::from_millis(1));
            }
            let threshold = 50 + round;
            if round % 2 == 0 {
                site.write(&site.text(&format!("{keys}, percentThreshold: {threshold}")));
                site.await_said(APPLIED, round / 2 + 1);
            } else {
                // Half of it is not there yet.
                site.replace(&site.text(&keys)[..40]);
                site.await_said(REFUSED, round / 2 + 1);
            }
        }
        site.daemon.drain(Signal::TERM);
        let points = carbon.take_points(Protocol::Text);
        assert_eq!(total(&points, "stats_counts.load.hits"), f64::from(sent), "{ingest:?}");
        assert_eq!(total(&points, "stats.timers.load.time.count"), f64::from(sent / 2));
        assert_eq!(total(&points, "stats_counts.statsd.packets_received"), f64::from(sent));
        assert_eq!(total(&points, "stats.statsd.floe.reloads_applied"), 5.0);
        assert_eq!(total(&points, "stats.statsd.floe.reloads_refused"), 5.0);
        let last = series(&points, "stats.timers.load.time.upper_58");
        assert!(!last.is_empty(), "the last good file holds");
    }
}

#[test]
fn every_way_of_changing_a_file_is_seen() {
    let mut site = Site::start(Ingest::IoUring, "flushInterval: 60000");
    site.write(&site.text("flushInterval: 60000, deleteIdleStats: true"));
    site.await_said(APPLIED, 1);
    site.replace(&site.text("flushInterval: 60000"));
    site.await_said(APPLIED, 2);
    std::fs::remove_file(site.path()).unwrap();
    site.await_said(REFUSED, 1);
    site.write(&site.text("flushInterval: 60000, debug: true"));
    site.await_said(APPLIED, 3);
    site.daemon.signal(Signal::HUP);
    site.await_said("nothing has changed", 1);
    site.daemon.drain(Signal::TERM);
}

#[test]
fn a_link_exchanged_on_the_way_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let version = |name: &str, keys: &str| {
        let directory = folder.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("floe.toml"), format!("port = 0\nmgmt_port = 0\n{keys}"))
            .unwrap();
    };
    version("..v1", "prefixStats = \"one\"\n");
    symlink("..v1", folder.path().join("..data")).unwrap();
    symlink("..data/floe.toml", folder.path().join("floe.toml")).unwrap();
    let path = folder.path().join("floe.toml");
    let mut daemon = Launch::under(folder.path(), Ingest::Recvmmsg).config_at(&path).start();
    for (name, prefix) in [("..v2", "two"), ("..v3", "three")] {
        version(name, &format!("prefixStats = \"{prefix}\"\n"));
        symlink(name, folder.path().join("..tmp")).unwrap();
        std::fs::rename(folder.path().join("..tmp"), folder.path().join("..data")).unwrap();
        let times = if prefix == "two" { 1 } else { 2 };
        wait::until(prefix, BOUND, || {
            (times <= daemon.output().matches(APPLIED).count()).then_some(())
        });
    }
    daemon.drain(Signal::TERM);
}

#[test]
fn backends_come_and_go() {
    for ingest in Ingest::BOTH {
        let (first, second) = (RecordingCarbon::start(), RecordingCarbon::start());
        let own = |name: &str, carbon: &RecordingCarbon| {
            format!("{{ name: '{name}', address: '127.0.0.1:{}' }}", carbon.port())
        };
        let keys = |backends: &[String]| {
            format!("flushInterval: 1000, floe: {{ backends: [{}] }}", backends.join(", "))
        };
        let mut site = Site::start(ingest, &keys(&[own("first", &first)]));
        site.send(&["come.hits:1|c"]);
        first.wait_points("points", BOUND, Protocol::Text, |points| {
            total(points, "stats_counts.come.hits") == 1.0
        });
        site.write(&site.text(&keys(&[own("first", &first), own("second", &second)])));
        site.await_said(APPLIED, 1);
        site.send(&["come.hits:2|c"]);
        for carbon in [&first, &second] {
            carbon.wait_points("points", BOUND, Protocol::Text, |points| {
                total(points, "stats_counts.come.hits") == 2.0
            });
        }
        site.write(&site.text(&keys(&[own("second", &second)])));
        site.await_said(APPLIED, 2);
        first.take_points(Protocol::Text);
        site.send(&["come.hits:4|c"]);
        second.wait_points("points", BOUND, Protocol::Text, |points| {
            total(points, "stats_counts.come.hits") == 4.0
        });
        site.daemon.drain(Signal::TERM);
        let left = first.take_points(Protocol::Text);
        assert_eq!(
            total(&left, "stats_counts.come.hits"),
            0.0,
            "{ingest:?}: the first gets no more"
        );
    }
}

#[test]
fn another_interval_begins_with_the_next_flush_and_no_timestamp_comes_twice() {
    let carbon = RecordingCarbon::start();
    let keys = |ms: u32| format!("{}, flushInterval: {ms}", graphite(&carbon));
    let mut site = Site::start(Ingest::IoUring, &keys(1_000));
    let mut points = Vec::new();
    for (applied, ms) in [(1, 2_000), (2, 1_000)] {
        site.write(&site.text(&keys(ms)));
        site.await_said(APPLIED, applied);
        let known = points.len();
        wait::until("three flushes", BOUND, || {
            points.extend(carbon.take_points(Protocol::Text));
            (3 <= series(&points[known..], "statsd.numStats").len()).then_some(())
        });
    }
    site.daemon.drain(Signal::TERM);
    points.extend(carbon.take_points(Protocol::Text));
    let flushes: Vec<&Point> =
        points.iter().filter(|point| point.name == "statsd.numStats").collect();
    let times = series(&points, "statsd.numStats");
    assert_eq!(times.len(), flushes.len(), "no timestamp twice");
    let times: Vec<u64> = times.into_keys().collect();
    let steps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.contains(&2), "{steps:?}");
    assert!(steps.iter().all(|step| *step == 1 || *step == 2), "{steps:?}");
}

#[test]
fn switches_hold_at_once_and_what_cannot_change_is_said() {
    for ingest in Ingest::BOTH {
        let carbon = RecordingCarbon::start();
        let keys = format!("{}, flushInterval: 1000", graphite(&carbon));
        let mut site = Site::start(ingest, &keys);
        let udp = site.daemon.udp();
        site.send(&["idle.hits:1|c\nkept key:1|c"]);
        carbon.wait_points("points", BOUND, Protocol::Text, |points| {
            total(points, "stats_counts.idle.hits") == 1.0
        });
        let other = format!(
            "{{ port: {}, address: '127.0.0.1', mgmt_port: 1, {keys}, deleteIdleStats: true
             , prefixStats: 'other', keyNameSanitize: false, title: false, healthStatus: 'down' }}",
            ports::free()
        );
        site.write(&other);
        site.await_said(APPLIED, 1);
        let output = site.daemon.output();
        let warning = output.lines().find(|line| line.contains("configuration needs a restart"));
        let warning = warning.unwrap_or_else(|| panic!("{output}"));
        for key in ["servers", "mgmt_port", "mgmt_address"] {
            assert!(warning.contains(key), "{warning}");
        }
        // Beyond the flush that was open.
        carbon.wait_points("points", BOUND, Protocol::Text, |points| {
            !series(points, "other.numStats").is_empty()
        });
        carbon.take_points(Protocol::Text);
        send(udp, ["odd key:1|c"]);
        let points = carbon.wait_points("points", BOUND, Protocol::Text, |points| {
            total(points, "stats_counts.odd_key") == 1.0
        });
        assert!(series(&points, "stats.idle.hits").is_empty(), "idle series are not sent any more");
        assert_eq!(site.daemon.udp(), udp);
        site.daemon.drain(Signal::TERM);
    }
}

#[test]
fn without_watching_only_the_signal_reloads() {
    let mut site = Site::start(Ingest::IoUring, "automaticConfigReload: false");
    site.write(&site.text("automaticConfigReload: false, debug: true"));
    // As long as two looks at the file would take, had it been watched.
    wait::pause(Duration::from_secs(5));
    assert_eq!(site.said(APPLIED), 0);
    site.daemon.signal(Signal::HUP);
    site.await_said(APPLIED, 1);
    site.daemon.drain(Signal::TERM);
}

#[test]
fn without_a_file_the_signal_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // The port of no configuration may be taken on this machine: any TOML stands for a start
    // without, but for the file.
    let path: &Path = folder.path();
    let mut daemon = Launch::under(path, Ingest::IoUring)
        .config("floe.toml", "port = 0\nmgmt_port = 0\n")
        .start();
    daemon.signal(Signal::HUP);
    wait::until("an answer", BOUND, || {
        daemon.output().contains("nothing has changed").then_some(())
    });
    daemon.drain(Signal::TERM);
}
