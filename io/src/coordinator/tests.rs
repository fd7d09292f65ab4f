//! The coordinator's flows on a real spool and real shards, without sockets: the workers here have
//! ended, so that the coordinator answers for them and every step is on one thread.

use std::fs;
use std::path::Path;

use crossbeam_channel::bounded;
use floe_core::config;
use floe_core::config::settings::{BackendSettings, NamespaceSettings};
use floe_core::interval::Deletable;
use floe_core::limits::{DATAGRAM_SLACK_BYTES, INTERVALS_WAITING_BYTES_MAX, INTERVALS_WAITING_MAX};
use floe_core::line::LineParser;
use floe_core::name::KeyHasher;
use floe_core::row::{Rows, TimerColumns};
use floe_core::shard::shard;
use floe_storage::{Archive, BackendLimits, Reader, SpoolOptions};
use tempfile::TempDir;

use super::reload::Reload;
use super::request::Stats;
use super::*;
use crate::ingest::intake::{IntakeInbox, IntakeSettings};

mod books;
mod clock;
// Whoever stands in the door of the disk exists in debug builds alone.
#[cfg(debug_assertions)]
mod disk;
#[cfg(debug_assertions)]
mod parts;

fn options(path: &Path) -> SpoolOptions {
    SpoolOptions {
        path: path.to_owned(),
        backends: Vec::new(),
        archive_age_ms: u64::MAX,
        archive_bytes: u64::MAX,
        reserve_bytes: Some(0),
        run_id: 1,
    }
}

fn backend(name: &str) -> BackendSettings {
    BackendSettings {
        backlog_age_ms: u64::MAX,
        backlog_bytes: u64::MAX,
        ..BackendSettings::new(name, "127.0.0.1:1", NamespaceSettings::default())
    }
}

/// A coordinator over `workers` workers whose threads end at once.
fn coordinator(path: &Path, workers: u16) -> Coordinator {
    let settings = config::without_file().settings;
    let hasher = KeyHasher::default();
    let parker = Parker::new();
    let mut handles = Vec::new();
    let mut readers = Vec::new();
    for index in 0..workers {
        let (writer, reader) = shard(index, hasher.clone());
        let own =
            IntakeSettings { parser: LineParser::new(settings.key_name_sanitize), side: None };
        let inbox = IntakeInbox::default();
        let intake = Intake::new(own, inbox, writer, parker.unparker().clone());
        let thread = std::thread::spawn(move || intake);
        handles.push(WorkerHandle { signals: Arc::new(WorkerSignals::new().unwrap()), thread });
        readers.push(reader);
    }
    let interval = Interval::new(settings.clone(), &hasher, &readers);
    let parts = Parts {
        settings,
        readers,
        interval,
        spool: Spool::open(options(path)).unwrap().0,
        backlog: Arc::default(),
        sockets: Vec::new(),
        parker,
        acceptor: None,
        side: SideBooks::default(),
        accounts: Arc::new(AccountRegistry::default()),
        quarantined: Vec::new(),
        handed: None,
        has_flushed: Arc::default(),
    };
    let mut coordinator = Coordinator::new(parts, handles);
    coordinator.workers.iter_mut().for_each(Worker::join);
    coordinator
}

impl Coordinator {
    fn receive(&mut self, worker: usize, text: &str) {
        let mut buffer = text.as_bytes().to_vec();
        buffer.resize(text.len() + DATAGRAM_SLACK_BYTES, b'#');
        let intake = self.workers[worker].intake.as_mut().unwrap();
        intake.begin_batch(monotonic_ns());
        intake.datagram(&buffer, text.len());
        intake.end_batch();
    }

    /// Goes on with these backends and another prefix.
    fn go_on_with(&mut self, path: &Path, backends: &[&str], prefix_stats: &str) {
        let mut settings = self.parts.settings.clone();
        settings.backends = backends.iter().map(|name| backend(name)).collect();
        settings.prefix_stats = prefix_stats.to_owned();
        let limits = settings.backends.iter().map(|backend| BackendLimits {
            name: backend.name.clone(),
            backlog_age_ms: u64::MAX,
            backlog_bytes: u64::MAX,
        });
        let spool = SpoolOptions { backends: limits.collect(), ..options(path) };
        let (asker, answer) = bounded(1);
        let reload = Reload { settings, spool, side: SideBooks::default() };
        assert_eq!(self.answer(vec![Request::Reload(Box::new(reload), asker)]), Then::GoOn);
        answer.recv().unwrap().unwrap();
    }

    fn tick(&mut self, timestamp_s: u64) {
        self.flip();
        self.close(Tick { timestamp_s, merged: 0 }, false);
    }
}

/// Lets commits fail as on a disk that refuses them: root is not held back by modes.
struct Refusing<'a>(&'a Path);

impl<'a> Refusing<'a> {
    fn new(spool: &'a Path) -> Self {
        fs::rename(spool.join("tmp"), spool.join("tmp.away")).unwrap();
        fs::write(spool.join("tmp"), "in the way").unwrap();
        Self(spool)
    }

    fn end(self) {
        fs::remove_file(self.0.join("tmp")).unwrap();
        fs::rename(self.0.join("tmp.away"), self.0.join("tmp")).unwrap();
    }
}

/// What the archive holds: timestamp and value of the counter `c`, in queue order.
fn spooled(path: &Path) -> Vec<(u64, f64)> {
    let archive = Archive::new(path);
    let mut reader = Reader::new();
    let each = archive.list(0).unwrap().into_iter().map(|name| {
        let segment = reader.read(&archive.path(&name)).unwrap();
        let rows = &segment.rows;
        let at = (0..rows.counters.len()).find(|&at| rows.names.name(at) == Some(b"c"));
        (rows.timestamp_s.to_native(), at.map_or(0.0, |at| rows.counters[at].to_native()))
    });
    each.collect()
}

/// The book entry `name` of the segment at `index` of the archive.
fn book(path: &Path, index: usize, name: &str) -> Option<f64> {
    let archive = Archive::new(path);
    let mut reader = Reader::new();
    let segment = reader.read(&archive.path(&archive.list(0).unwrap()[index])).unwrap();
    let books = &segment.rows.books;
    let at = (0..books.names.len()).find(|&at| books.names.name(at) == Some(name.as_bytes()))?;
    Some(books.values[at].to_native())
}

#[test]
fn a_tick_spools_what_all_workers_have_seen() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = coordinator(directory.path(), 3);
    for worker in 0..3 {
        coordinator.receive(worker, "c:2|c\nbad");
    }
    coordinator.tick(1_010);
    coordinator.receive(1, "c:5|c");
    coordinator.tick(1_020);
    assert_eq!(spooled(directory.path()), [(1_010, 6.0), (1_020, 5.0)]);
    let first = |name| book(directory.path(), 0, name);
    assert_eq!(first("datagrams_received"), Some(3.0));
    assert_eq!(first("values_rejected.syntax"), Some(3.0));
    assert_eq!(first("segments_spooled"), None, "named by backend");
    assert_eq!(book(directory.path(), 1, "rows_spooled"), Some(4.0), "c and three of our own");
}

#[test]
fn a_worker_that_ends_is_answered_for_and_keeps_nobody_waiting() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = coordinator(directory.path(), 1);
    coordinator.receive(0, "c:2|c");
    let intake = coordinator.workers[0].intake.take().unwrap();
    coordinator.workers[0].thread = Some(std::thread::spawn(move || intake));
    coordinator.tick(1_010);
    coordinator.tick(1_020);
    assert_eq!(spooled(directory.path()), [(1_010, 2.0), (1_020, 0.0)]);
}

#[test]
fn refused_intervals_wait_in_memory_and_are_spooled_in_order() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = coordinator(directory.path(), 1);
    let refusing = Refusing::new(directory.path());
    for number in 1..=3 {
        coordinator.receive(0, &format!("c:{number}|c"));
        coordinator.tick(1_000 + 10 * number);
    }
    assert_eq!((coordinator.parts.backlog.len(), coordinator.is_refused), (3, true));
    assert!(spooled(directory.path()).is_empty());
    refusing.end();
    coordinator.receive(0, "c:4|c");
    coordinator.tick(1_040);
    assert_eq!((coordinator.parts.backlog.len(), coordinator.is_refused), (0, false));
    let all = [(1_010, 1.0), (1_020, 2.0), (1_030, 3.0), (1_040, 4.0)];
    assert_eq!(spooled(directory.path()), all);
    let failures: Vec<_> =
        (0..4).map(|index| book(directory.path(), index, "spool_failures").unwrap()).collect();
    assert_eq!(failures, [0.0, 1.0, 1.0, 1.0], "each tick tells of the one before it");
}

#[test]
fn beyond_the_bound_the_oldest_interval_is_dropped_and_counted() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = coordinator(directory.path(), 1);
    let refusing = Refusing::new(directory.path());
    let intervals = INTERVALS_WAITING_MAX as u64 + 2;
    for number in 1..=intervals {
        coordinator.receive(0, &format!("c:{number}|c"));
        coordinator.tick(10 * number);
    }
    assert_eq!(coordinator.parts.backlog.len(), INTERVALS_WAITING_MAX);
    refusing.end();
    coordinator.tick(10 * (intervals + 1));
    let kept = spooled(directory.path());
    assert_eq!(kept.len(), INTERVALS_WAITING_MAX + 1);
    assert_eq!(kept.first(), Some(&(30, 3.0)), "the two oldest are gone");
    let dropped: f64 = (0..kept.len())
        .map(|index| book(directory.path(), index, "rows_dropped.io_error").unwrap())
        .sum();
    // Four rows in the first interval, five in the second, which has a timestamp lag.
    assert_eq!(dropped, 9.0);
}

#[test]
fn waiting_intervals_are_bounded_by_bytes_too_but_the_newest_stays() {
    let directory = TempDir::new().unwrap();
    let coordinator = coordinator(directory.path(), 1);
    // Zeroed and never touched: the pages cost nothing.
    let interval = |bytes: usize| vec![Rows { counters: vec![0.0; bytes / 8], ..Rows::default() }];
    let bytes_max = INTERVALS_WAITING_BYTES_MAX;
    coordinator.parts.backlog.push(interval(bytes_max + 8), 0);
    assert!(!coordinator.is_memory_used_up(), "alone it waits whatever its size");
    coordinator.parts.backlog.push(interval(8), 0);
    assert!(coordinator.is_memory_used_up());
    coordinator.parts.backlog.give_up_one(&[]);
    coordinator.parts.backlog.push(interval(bytes_max - 8), 0);
    assert!(!coordinator.is_memory_used_up());
}

#[test]
fn an_interval_that_cannot_be_encoded_keeps_nothing_back() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = coordinator(directory.path(), 1);
    let timers = TimerColumns { counts: vec![1.0], ..TimerColumns::default() };
    let broken = Rows { timestamp_s: 1_000, timers, ..Rows::default() };
    coordinator.parts.backlog.push(vec![broken], 0);
    coordinator.receive(0, "c:2|c");
    coordinator.tick(1_010);
    assert_eq!(spooled(directory.path()), [(1_010, 2.0)]);
    assert_eq!((coordinator.parts.backlog.len(), coordinator.counts.spool_failures), (0, 1));
}

#[test]
fn a_drain_spools_what_waits_and_the_open_interval_under_its_grid_end() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = coordinator(directory.path(), 2);
    let refusing = Refusing::new(directory.path());
    coordinator.receive(0, "c:1|c");
    coordinator.tick(1_010);
    refusing.end();
    coordinator.receive(0, "c:2|c");
    coordinator.receive(1, "c:3|c");
    let next = coordinator.grid.take_partial(wall_ms()).timestamp_s;
    coordinator.drain();
    let found = spooled(directory.path());
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], (1_010, 1.0));
    assert_eq!((found[1].0 % 10, found[1].1), (0, 5.0));
    assert!(next < found[1].0, "a timestamp of its own");
}

#[test]
fn whoever_asks_sees_everything_up_to_the_question_and_takes_nothing_away() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = coordinator(directory.path(), 2);
    coordinator.receive(0, "c:1|c\ng:4|g\nx.a:1|c\nx.b:1|c\nt:3|ms\nbad");
    coordinator.receive(1, "c:2|c");
    let (counters, counted) = bounded(1);
    let (timers, timed) = bounded(1);
    let (asker, deleted) = bounded(1);
    let names = vec![b"x.*".to_vec(), b"nope".to_vec()];
    let gone = bounded(1).0;
    assert_eq!(
        coordinator.answer(vec![
            Request::Counters(counters),
            Request::Delete { kind: Deletable::Counters, names, asker },
            Request::Gauges(gone),
            Request::Timers(timers),
        ]),
        Then::GoOn
    );
    let view = counted.recv().unwrap();
    let entries: Vec<(&[u8], f64)> = view.iter().map(|(key, value)| (key, *value)).collect();
    assert_eq!(entries[3..], [(&b"c"[..], 3.0), (&b"x.a"[..], 1.0), (&b"x.b"[..], 1.0)]);
    assert_eq!(timed.recv().unwrap().len(), 1);
    let names: Vec<usize> = deleted.recv().unwrap().iter().map(Vec::len).collect();
    assert_eq!(names, [2, 0]);
    coordinator.tick(1_010);
    assert_eq!(spooled(directory.path()), [(1_010, 3.0)]);
    assert!(coordinator.parts.has_flushed.load(Ordering::Relaxed));
    assert_eq!(coordinator.answer(vec![Request::Stop]), Then::Drain);
}

#[test]
fn stats_are_those_since_the_start_and_ticks_tell_differences() {
    let directory = TempDir::new().unwrap();
    let mut coordinator = coordinator(directory.path(), 1);
    let stats = |coordinator: &mut Coordinator| {
        let (asker, answer) = bounded(1);
        assert_eq!(coordinator.answer(vec![Request::Stats(asker)]), Then::GoOn);
        answer.recv().unwrap()
    };
    let entry = |stats: &Stats, name: &str| {
        stats.books.iter().find(|(known, _)| known == name).map(|(_, count)| *count).unwrap()
    };
    assert_eq!(stats(&mut coordinator).newest_input_s, None);
    coordinator.receive(0, "c:1|c\nbad");
    coordinator.tick(1_010);
    coordinator.receive(0, "c:1|c\nbad");
    coordinator.tick(1_020);
    coordinator.receive(0, "c:1|c\nbad");
    for _ in 0..2 {
        let now = stats(&mut coordinator);
        assert_eq!(now.values_rejected, 3);
        assert_eq!(entry(&now, "datagrams_received"), 3);
        assert_eq!(entry(&now, "rows_spooled"), 9);
        assert!((wall_ms() / 1_000).abs_diff(now.newest_input_s.unwrap()) < 60);
    }
    coordinator.tick(1_030);
    let rows = |index| book(directory.path(), index, "rows_spooled").unwrap();
    assert_eq!([rows(0), rows(1), rows(2)], [0.0, 4.0, 5.0], "asking changes no difference");
}

#[test]
fn a_reload_takes_nothing_away_and_each_backend_is_told_what_it_got() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut coordinator = coordinator(path, 2);
    coordinator.go_on_with(path, &["a"], "one");
    coordinator.receive(0, "c:1|c");
    coordinator.tick(1_010);
    coordinator.receive(1, "c:2|c");
    coordinator.go_on_with(path, &["b"], "two");
    coordinator.receive(0, "c:4|c");
    coordinator.tick(1_020);
    coordinator.tick(1_030);
    coordinator.tick(1_040);
    let all = [(1_010, 1.0), (1_020, 6.0), (1_030, 0.0), (1_040, 0.0)];
    assert_eq!(spooled(path), all);
    let told = |name: &str| {
        [0, 1, 2, 3].map(|index| book(path, index, &format!("backend.{name}.segments_spooled")))
    };
    assert_eq!(told("a"), [Some(0.0), Some(1.0), None, None], "what it got before it left");
    assert_eq!(told("b"), [None, Some(0.0), Some(1.0), Some(1.0)]);
    let reloads = [0, 1].map(|index| book(path, index, "reloads_applied").unwrap());
    assert_eq!(reloads, [1.0, 1.0]);
}

#[test]
fn a_queue_that_cannot_be_made_is_said_and_all_else_holds() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut coordinator = coordinator(path, 1);
    fs::write(path.join("backends/b"), "in the way").unwrap();
    let mut settings = coordinator.parts.settings.clone();
    settings.prefix_stats = "other".to_owned();
    let limits =
        BackendLimits { name: "b".to_owned(), backlog_age_ms: u64::MAX, backlog_bytes: u64::MAX };
    let spool = SpoolOptions { backends: vec![limits], ..options(path) };
    let reload = Reload { settings, spool, side: SideBooks::default() };
    let (asker, answer) = bounded(1);
    coordinator.receive(0, "c:1|c");
    assert_eq!(coordinator.answer(vec![Request::Reload(Box::new(reload), asker)]), Then::GoOn);
    assert!(answer.recv().unwrap().is_err());
    coordinator.tick(1_010);
    assert_eq!(spooled(path), [(1_010, 1.0)]);
    assert_eq!(coordinator.parts.settings.prefix_stats, "other");
}
