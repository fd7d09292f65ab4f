//! Claims: whatever the wall clock does, nothing that was sent is lost, and with intervals of a second
//! and more no timestamp is used twice, over restarts too, but for what lies behind a step back that
//! lasted and was followed; a process that stood still comes back with one flush; every step is in the
//! books and in the log. Method: the built daemon under a wall clock of the test's making, and stopped
//! by SIGSTOP; the carbon's record held against what was sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::carbon::{Protocol, RecordingCarbon};
use support::clock_shim::ClockShim;
use support::daemon::{Daemon, Ingest, Launch, send};
use support::{settings, wait};

mod support;

const BOUND: Duration = Duration::from_secs(30);
const HOUR_S: i64 = 3_600;
/// The daemon's own: it is there in every flush.
const EVERY_FLUSH: &str = "statsd.numStats";
const HITS: &str = "stats_counts.clock.hits";

/// What came from a daemon under a clock.
struct Watched {
    carbon: RecordingCarbon,
    /// Timestamps of all flushes, in the order in which they came.
    flushes: Vec<u64>,
    hits: f64,
}

impl Watched {
    fn new() -> Self {
        Self { carbon: RecordingCarbon::start(), flushes: Vec::new(), hits: 0.0 }
    }

    fn launch(&self, folder: &Path, ingest: Ingest, flush_ms: u32) -> Launch {
        let text = settings::one_text_backend(flush_ms, self.carbon.port());
        Launch::under(folder, ingest).config("floe.toml", &text)
    }

    /// Takes what has come.
    fn look(&mut self) {
        for point in self.carbon.take_points(Protocol::Text) {
            if point.name == EVERY_FLUSH {
                self.flushes.push(point.time.parse().expect("whole seconds"));
            } else if point.name == HITS {
                self.hits += point.number();
            }
        }
    }

    /// Waits for flushes of which `is_enough` says yes.
    fn wait(&mut self, what: &str, is_enough: impl Fn(&[u64]) -> bool) {
        wait::until(what, BOUND, || {
            self.carbon.wait_idle(BOUND);
            self.look();
            is_enough(&self.flushes).then_some(())
        });
    }

    /// Waits until all of `sent` values have come.
    fn wait_hits(&mut self, sent: u32) {
        wait::until("everything that was sent", BOUND, || {
            self.carbon.wait_idle(BOUND);
            self.look();
            (f64::from(sent) <= self.hits).then_some(())
        });
        assert_eq!(self.hits, f64::from(sent));
    }

    fn assert_each_once(&self) {
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for time in &self.flushes {
            *counts.entry(*time).or_default() += 1;
        }
        assert!(counts.values().all(|count| *count == 1), "a timestamp twice: {:?}", self.flushes);
    }

    /// How often a flush bore a timestamp before that of the flush before it.
    fn steps_back(&self) -> usize {
        self.flushes.windows(2).filter(|pair| pair[1] <= pair[0]).count()
    }
}

fn hit(daemon: &Daemon) {
    send(daemon.udp(), ["clock.hits:1|c"]);
}

fn books(daemon: &Daemon) -> Books {
    Books::of(&daemon.ready().spool)
}

#[test]
fn a_clock_set_forward_by_an_hour_is_one_late_flush() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let clock = ClockShim::under(folder.path());
    let mut watched = Watched::new();
    let mut daemon = clock.over(watched.launch(folder.path(), Ingest::IoUring, 1000)).start();
    hit(&daemon);
    watched.wait_hits(1);
    clock.set(HOUR_S);
    let set_at = clock.seconds();
    hit(&daemon);
    watched.wait("three flushes behind the step", |flushes| {
        3 <= flushes.iter().filter(|time| set_at <= **time).count()
    });
    watched.wait_hits(2);
    let between = |time: &&u64| set_at - 3_600 + 2 < **time && **time < set_at - 1;
    assert_eq!(watched.flushes.iter().find(between), None, "no flush is made up for");
    watched.assert_each_once();
    let told = books(&daemon);
    assert_eq!((told.count("clock_steps"), told.count("clock_steps_followed")), (1, 0));
    assert!(3_590 < told.count("ticks_merged"), "{told:?}");
    assert!(daemon.output().contains("clock set step_ms="), "{}", daemon.output());
    daemon.drain(Signal::TERM);
}

#[test]
fn a_clock_that_stays_set_back_is_followed_and_no_restart_uses_a_timestamp_again() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let clock = ClockShim::under(folder.path());
    let mut watched = Watched::new();
    let start = |watched: &Watched| {
        clock.over(watched.launch(folder.path(), Ingest::IoUring, 1000)).start()
    };
    let mut daemon = start(&watched);
    hit(&daemon);
    watched.wait_hits(1);
    clock.set(-HOUR_S);
    hit(&daemon);
    let followed = clock.seconds() + 600;
    watched.wait("flushes behind the step", |flushes| {
        2 <= flushes.iter().filter(|time| **time < followed).count()
    });
    let told = books(&daemon);
    assert_eq!((told.count("clock_steps"), told.count("clock_steps_followed")), (1, 1));
    // Each stop uses up the timestamp of its partial interval, and lies within one of the next start.
    for _ in 0..3 {
        hit(&daemon);
        daemon.drain(Signal::TERM);
        daemon = start(&watched);
    }
    hit(&daemon);
    watched.wait_hits(6);
    let told = books(&daemon);
    assert_eq!((told.count("clock_steps"), told.count("clock_steps_followed")), (1, 1));
    watched.assert_each_once();
    assert_eq!(watched.steps_back(), 1, "{:?}", watched.flushes);
    daemon.drain(Signal::TERM);
}

#[test]
fn a_clock_that_was_set_back_between_two_runs_is_followed_and_counted() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let clock = ClockShim::under(folder.path());
    let mut watched = Watched::new();
    let start = |watched: &Watched| {
        clock.over(watched.launch(folder.path(), Ingest::Recvmmsg, 1000)).start()
    };
    let mut daemon = start(&watched);
    hit(&daemon);
    daemon.drain(Signal::TERM);
    clock.set(-HOUR_S);
    let mut daemon = start(&watched);
    hit(&daemon);
    watched.wait_hits(2);
    watched.assert_each_once();
    let told = books(&daemon);
    assert_eq!((told.count("clock_steps"), told.count("clock_steps_followed")), (1, 1));
    daemon.drain(Signal::TERM);
}

#[test]
fn a_clock_that_is_put_right_again_soon_has_cost_nothing() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let clock = ClockShim::under(folder.path());
    let mut watched = Watched::new();
    // Two intervals are far longer than the test's own steps take.
    let launch = watched.launch(folder.path(), Ingest::Recvmmsg, 10_000);
    let mut daemon = clock.over(launch).start();
    for (seconds, steps) in [(-HOUR_S, 1), (0, 2)] {
        hit(&daemon);
        clock.set(seconds);
        wait::until("the step in the books", BOUND, || {
            (books(&daemon).count("clock_steps") == steps).then_some(())
        });
    }
    watched.wait_hits(2);
    assert_eq!(books(&daemon).count("clock_steps_followed"), 0);
    watched.assert_each_once();
    assert_eq!(watched.steps_back(), 0, "{:?}", watched.flushes);
    daemon.drain(Signal::TERM);
}

#[test]
fn a_daemon_that_was_stopped_comes_back_with_one_flush() {
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let mut watched = Watched::new();
        let mut daemon = watched.launch(folder.path(), ingest, 1000).start();
        hit(&daemon);
        watched.wait_hits(1);
        daemon.halt();
        let stopped_at = wait::wall().as_secs();
        for _ in 0..6 {
            hit(&daemon);
            wait::next_second(Duration::ZERO);
        }
        let resumed_at = wait::wall().as_secs();
        daemon.signal(Signal::CONT);
        watched.wait_hits(7);
        let is_behind = |flushes: &[u64]| flushes.iter().any(|time| resumed_at + 2 <= *time);
        watched.wait("flushes of the time after", is_behind);
        watched.assert_each_once();
        assert_eq!(watched.steps_back(), 0, "{:?}", watched.flushes);
        let of_the_stop = watched.flushes.iter().filter(|time| {
            // The second of the stop itself may have been flushed before it.
            (stopped_at + 1..resumed_at).contains(time)
        });
        assert_eq!(of_the_stop.count(), 0, "stopped at {stopped_at}: {:?}", watched.flushes);
        let told = books(&daemon);
        let missing: u64 = watched.flushes.windows(2).map(|pair| pair[1] - pair[0] - 1).sum();
        assert!(resumed_at - stopped_at - 1 <= missing, "{:?}", watched.flushes);
        assert!(missing <= told.count("ticks_merged"), "{told:?}");
        assert_eq!((told.count("clock_steps"), told.count("clock_steps_followed")), (0, 0));
        daemon.drain(Signal::TERM);
    }
}
