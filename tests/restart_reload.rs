//! A changed configuration is read again without a restart: on SIGHUP, and when the file is written
//! in place, replaced by a rename, or exchanged behind a symbolic link. What can change does, what
//! cannot is said, a broken file changes nothing, and nothing of the open interval is lost.
//! Method: the built binary, its file rewritten under it, recording carbons.

use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use support::carbon::{Point, Protocol, RecordingCarbon, series};
use support::console::Console;
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

/// Files beside the configuration that others write all the time, until this is dropped.
struct Noise {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Noise {
    fn in_folders(folders: &[&Path]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for folder in folders {
            for name in ["one", "two"] {
                let (path, other) = (folder.join(name), folder.join(format!("{name}.old")));
                let seen = Arc::clone(&end);
                threads.push(std::thread::spawn(move || {
                    while !seen.load(Ordering::Relaxed) {
                        std::fs::write(&path, "line\n").expect("the test's folder is writable");
                        std::fs::rename(&path, &other).expect("the test's folder is writable");
                    }
                }));
            }
        }
        Self { end, threads }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            thread.join().ok();
        }
    }
}

/// Starts a daemon behind `wrapper` in a folder with `noise`, changes its file, and stops it.
fn reload_and_stop_beside_noise(noise: impl FnOnce(&[&Path]) -> Noise, wrapper: &[&str]) {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let text = |prefix: &str| format!("port = 0\nmgmt_port = 0\nprefixStats = \"{prefix}\"\n");
    // Two directories are to be watched, one after the other.
    let (link, real) = (folder.path().join("floe.toml"), folder.path().join("real"));
    std::fs::create_dir(&real).expect("the test's folder is writable");
    std::fs::write(real.join("floe.toml"), text("one")).expect("the test's folder is writable");
    symlink("real/floe.toml", &link).expect("the test's folder is writable");
    let noise = noise(&[folder.path(), &real]);
    let wrapper: Vec<String> = wrapper.iter().map(|word| (*word).to_owned()).collect();
    let launch = Launch::under(folder.path(), Ingest::Recvmmsg).config_at(&link);
    let mut daemon = launch.wrapped(&wrapper).start();
    std::fs::write(real.join("floe.toml"), text("two")).expect("the test's folder is writable");
    wait::until(APPLIED, BOUND, || daemon.output().contains(APPLIED).then_some(()));
    daemon.signal(Signal::TERM);
    let status = daemon.wait_exit(BOUND);
    assert!(status.success(), "{status}: {}", daemon.output());
    drop(noise);
}

/// A log, a cache.
#[test]
fn others_who_write_beside_the_file_all_the_time_delay_neither_a_reload_nor_the_stop() {
    reload_and_stop_beside_noise(Noise::in_folders, &[]);
}

/// Each look of the daemon at the folder makes the trace longer, which is a reason for another look.
#[test]
#[expect(clippy::print_stderr, reason = "what could not be done is said")]
fn r5_a_trace_of_the_daemon_beside_its_file_delays_neither_a_reload_nor_the_stop() {
    let is_possible =
        std::process::Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !is_possible.is_ok_and(|output| output.status.success()) {
        return eprintln!(
            "NOT TRIED: a daemon under strace, which this machine has not or forbids"
        );
    }
    for _ in 0..5 {
        // The tracer is no parent of it: signals reach the daemon itself.
        let wrapper = ["strace", "-D", "-f", "-o", "trace"];
        reload_and_stop_beside_noise(|_| Noise::in_folders(&[]), &wrapper);
    }
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

#[test]
fn a_backend_left_out_keeps_its_queue_and_has_it_delivered_when_it_is_back() {
    for ingest in Ingest::BOTH {
        let live = RecordingCarbon::start();
        let own =
            |name: &str, port: u16| format!("{{ name: '{name}', address: '127.0.0.1:{port}' }}");
        let keys = |backends: &[String]| {
            format!("flushInterval: 1000, floe: {{ backends: [{}] }}", backends.join(", "))
        };
        let with_dead = keys(&[own("live", live.port()), own("dead", ports::free())]);
        let mut site = Site::start(ingest, &with_dead);
        site.send(&["left.hits:3|c"]);
        live.wait_points("points", BOUND, Protocol::Text, |points| {
            total(points, "stats_counts.left.hits") == 3.0
        });
        site.write(&site.text(&keys(&[own("live", live.port())])));
        site.await_said("queue without a backend left where it is", 1);
        let returned = RecordingCarbon::start();
        site.write(&site.text(&keys(&[own("live", live.port()), own("dead", returned.port())])));
        let points = returned.wait_points("its queue", BOUND, Protocol::Text, |points| {
            total(points, "stats_counts.left.hits") == 3.0
        });
        site.daemon.drain(Signal::TERM);
        assert!(!points.is_empty(), "{ingest:?}");
    }
}

#[test]
fn another_repeater_gets_what_the_one_before_does_not() {
    for ingest in Ingest::BOTH {
        let carbon = RecordingCarbon::start();
        let targets = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let keys = |target: &UdpSocket| {
            let port = target.local_addr().unwrap().port();
            format!(
                "{}, flushInterval: 1000, repeater: [{{ host: '127.0.0.1', port: {port} }}]
                 , backends: ['./backends/graphite', './backends/repeater']
                 , floe: {{ books: true }}",
                graphite(&carbon)
            )
        };
        let mut site = Site::start(ingest, &keys(&targets[0]));
        let mut sent = 0;
        for round in 0..6_usize {
            for _ in 0..50 {
                site.send(&["repeated.hits:1|c"]);
                sent += 1;
            }
            site.write(&site.text(&keys(&targets[(round + 1) % 2])));
            site.await_said(APPLIED, round + 1);
        }
        site.daemon.drain(Signal::TERM);
        let points = carbon.take_points(Protocol::Text);
        assert_eq!(total(&points, "stats_counts.repeated.hits"), f64::from(sent), "{ingest:?}");
        assert_eq!(targets.iter().map(received).sum::<i32>(), sent, "each datagram goes on once");
    }
}

/// Datagrams that wait in a socket.
fn received(socket: &UdpSocket) -> i32 {
    socket.set_nonblocking(true).expect("a socket can be asked without waiting");
    let mut datagrams = 0;
    while socket.recv(&mut [0; 64]).is_ok() {
        datagrams += 1;
    }
    datagrams
}

#[test]
fn health_typed_at_the_console_survives_a_reload_that_is_about_something_else() {
    let mut site = Site::start(Ingest::IoUring, "healthStatus: 'up'");
    let mgmt = site.daemon.ready().mgmt;
    let console = Console::connect(mgmt);
    console.expect("health down\n", "health: down\n");
    site.write(&site.text("healthStatus: 'up', prefixStats: 'other'"));
    site.await_said(APPLIED, 1);
    console.expect("health\n", "health: down\n");
    site.write(&site.text("healthStatus: 'down', prefixStats: 'other'"));
    site.await_said(APPLIED, 2);
    site.write(&site.text("healthStatus: 'up', prefixStats: 'other'"));
    site.await_said(APPLIED, 3);
    console.expect("health\n", "health: up\n");
    site.daemon.drain(Signal::TERM);
}

#[test]
fn a_flag_wins_over_the_file_at_a_reload_too() {
    let folder = tempfile::tempdir().unwrap();
    let text = |keys: &str| format!("port = 0\nmgmt_port = 0\n{keys}");
    let mut daemon = Launch::under(folder.path(), Ingest::Recvmmsg)
        .config("floe.toml", &text("ingest = \"auto\"\n"))
        .start();
    let other = text("ingest = \"io_uring\"\nprefixStats = \"other\"\n");
    std::fs::write(folder.path().join("floe.toml"), other).unwrap();
    wait::until(APPLIED, BOUND, || daemon.output().contains(APPLIED).then_some(()));
    let output = daemon.output();
    assert!(
        !output.contains("needs a restart"),
        "the flag says recvmmsg before and after: {output}"
    );
    daemon.drain(Signal::TERM);
}

#[test]
fn both_halves_on_their_own_take_a_new_backend() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (RecordingCarbon::start(), RecordingCarbon::start());
    let text = |carbons: &[(&str, &RecordingCarbon)]| {
        let each = carbons.iter().map(|(name, carbon)| {
            format!("[[backends]]\nname = \"{name}\"\naddress = \"127.0.0.1:{}\"\n", carbon.port())
        });
        format!("port = 0\nmgmt_port = 0\nflushInterval = 1000\n{}", each.collect::<String>())
    };
    let path = folder.path().join("floe.toml");
    std::fs::write(&path, text(&[("first", &first)])).unwrap();
    let launch =
        |half| Launch::under(folder.path(), Ingest::IoUring).config_at(&path).subcommand(half);
    let mut ingest = launch("ingest").start();
    // Without a console: its ready file says less.
    let mut export = launch("export").spawn();
    let is_started = || export.output().contains("daemon started").then_some(());
    wait::until("the export half", BOUND, is_started);
    std::fs::write(&path, text(&[("first", &first), ("second", &second)])).unwrap();
    for half in [&ingest, &export] {
        wait::until(APPLIED, BOUND, || half.output().contains(APPLIED).then_some(()));
    }
    send(ingest.udp(), ["both.hits:5|c"]);
    for carbon in [&first, &second] {
        carbon.wait_points("points", BOUND, Protocol::Text, |points| {
            total(points, "stats_counts.both.hits") == 5.0
        });
    }
    ingest.drain(Signal::TERM);
    export.drain(Signal::TERM);
}

#[test]
fn a_pipe_is_read_once_and_its_end_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("floe.toml");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let writer = {
        let path = path.clone();
        std::thread::spawn(move || std::fs::write(path, "port = 0\nmgmt_port = 0\n").unwrap())
    };
    let mut daemon = Launch::under(folder.path(), Ingest::IoUring).config_at(&path).start();
    writer.join().unwrap();
    daemon.signal(Signal::HUP);
    wait::until(REFUSED, BOUND, || daemon.output().contains("not a regular file").then_some(()));
    daemon.drain(Signal::TERM);
}
