//! Claim: several workers, a coordinator that flushes, and questions in between: every value is in
//! exactly one interval, a question shows what is there and takes nothing, and a deletion takes what
//! it says and nothing else.
//!
//! Method: the real shards and the real interval on shuttle's threads, which run one at a time and
//! change at random where the test lets them, over many schedules; what comes out is compared with
//! plain sums. Between two such points a thread is alone: the atomics within are loom's matter
//! (`loom_flip.rs`, `loom_shard.rs`). Who waits in the daemon looks again here, another thread's turn
//! later: a lost wake-up is not seen (`io/tests/loom_wake_up.rs`).

#![allow(missing_docs, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use floe_core::config::settings::Settings;
use floe_core::interval::{BookEntries, Deletable, Interval};
use floe_core::name::KeyHasher;
use floe_core::row::Rows;
use floe_core::sample::{Sample, SampleSink, Tally, Value};
use floe_core::shard::{ShardReader, ShardWriter, shard};
use shuttle::rand::Rng;
use shuttle::thread;

const WORKERS: u16 = 3;
const DATAGRAMS: u32 = 5;
const LINES: u32 = 5;
/// Flips of the coordinator, each with something to do behind it.
const FLIPS: u32 = 8;
const SCHEDULES: usize = 150;

/// One worker's life: batches of one datagram each, as `io/src/ingest/worker.rs` has them.
fn work(mut writer: ShardWriter, number: u16, is_stopping: &AtomicBool) -> ShardWriter {
    let mut left = DATAGRAMS;
    while 0 < left || !is_stopping.load(Ordering::Relaxed) {
        writer.begin_batch(u64::from(left));
        thread::yield_now();
        if 0 < left {
            let member = format!("{number}.{left}");
            let mut batch = writer.batch();
            batch.sample(Sample { key: b"hits", value: Value::Counter(1.0) });
            batch.sample(Sample { key: b"doomed", value: Value::Counter(1.0) });
            batch.sample(Sample { key: b"took", value: Value::Timer { value: 2.0, weight: 1.0 } });
            batch.sample(Sample { key: b"users", value: Value::Set(member.as_bytes()) });
            let value = Value::Gauge { value: 1.0, is_signed: true };
            batch.sample(Sample { key: b"level", value });
            batch.finish(50, Tally { lines: LINES.into(), accepted: LINES.into(), rejected: 0 });
            left -= 1;
        }
        thread::yield_now();
        writer.end_batch();
        thread::yield_now();
    }
    writer
}

/// The coordinator, and what the intervals that it closed hold.
struct Coordinator {
    readers: Vec<ShardReader>,
    interval: Interval,
    timestamp_s: u64,
    /// Sums over closed intervals, by key; of the gauge the last value.
    sums: BTreeMap<String, f64>,
}

impl Coordinator {
    fn flip(&mut self) {
        self.readers.iter_mut().for_each(ShardReader::request);
        while !self.readers.iter_mut().all(ShardReader::is_acknowledged) {
            thread::yield_now();
        }
        self.interval.collect(&mut self.readers);
    }

    /// A flush, a question, or a deletion, whichever comes.
    fn act(&mut self) {
        self.flip();
        match shuttle::rand::thread_rng().gen_range(0..3) {
            0 => self.close(),
            1 => {
                let hits = |interval: &Interval| counter(interval, b"hits");
                let shown = hits(&self.interval);
                assert!(shown <= f64::from(u32::from(WORKERS) * DATAGRAMS));
                assert_eq!(hits(&self.interval), shown, "a question takes nothing");
            }
            _ => {
                let there = counter(&self.interval, b"doomed");
                self.interval.delete(Deletable::Counters, &[b"doomed".to_vec()]);
                *self.sums.entry("deleted".to_owned()).or_default() += there;
                assert_eq!(counter(&self.interval, b"doomed"), 0.0);
            }
        }
    }

    fn close(&mut self) {
        self.timestamp_s += 1;
        let parts = self.interval.close(self.timestamp_s, &BookEntries::default());
        for rows in &parts {
            self.add(rows);
        }
        self.interval.reuse(parts);
    }

    fn add(&mut self, rows: &Rows) {
        let timers = &rows.timers;
        let small = |count: &u64| f64::from(u32::try_from(*count).expect("a few members"));
        let sets: Vec<f64> = rows.sets.iter().map(small).collect();
        let columns = [&rows.counters, &timers.sums, &rows.gauges, &sets];
        let values = columns.into_iter().flatten();
        let names = (0..rows.names.len()).map(|row| rows.names.name(row).expect("one per row"));
        for (name, value) in names.zip(values) {
            let name = String::from_utf8_lossy(name).into_owned();
            let is_gauge = name == "level";
            let sum = self.sums.entry(name).or_default();
            *sum = if is_gauge { *value } else { *sum + value };
        }
    }
}

/// What a question shows of a counter.
fn counter(interval: &Interval, key: &[u8]) -> f64 {
    let view = interval.counters();
    view.iter().find(|(name, _)| &name[..] == key).map_or(0.0, |(_, value)| *value)
}

fn settings() -> Settings {
    Settings { prefix_stats: "own".into(), ..floe_core::config::without_file().settings }
}

fn run() {
    let hasher = KeyHasher::default();
    let both = (0..WORKERS).map(|index| shard(index, hasher.clone()));
    let (writers, readers): (Vec<_>, Vec<_>) = both.unzip();
    let interval = Interval::new(settings(), &hasher, &readers);
    let is_stopping = Arc::new(AtomicBool::new(false));
    let workers = (0..WORKERS).zip(writers).map(|(number, writer)| {
        let is_stopping = Arc::clone(&is_stopping);
        thread::spawn(move || work(writer, number, &is_stopping))
    });
    let workers: Vec<_> = workers.collect();
    let mut coordinator = Coordinator { readers, interval, timestamp_s: 0, sums: BTreeMap::new() };
    (0..FLIPS).for_each(|_| coordinator.act());
    is_stopping.store(true, Ordering::Relaxed);
    let joined = workers.into_iter().map(|worker| worker.join().expect("it does not panic"));
    let mut writers: Vec<ShardWriter> = joined.collect();
    // The drain: what a stopped worker was still asked for, then one last flip.
    for _ in 0..3 {
        for writer in &mut writers {
            writer.begin_batch(0);
        }
        coordinator.interval.collect(&mut coordinator.readers);
        coordinator.readers.iter_mut().for_each(ShardReader::request);
    }
    coordinator.close();
    let sent = f64::from(u32::from(WORKERS) * DATAGRAMS);
    let sum = |name: &str| coordinator.sums.get(name).copied().unwrap_or(0.0);
    assert_eq!(sum("hits"), sent);
    assert_eq!(sum("doomed") + sum("deleted"), sent);
    assert_eq!(sum("took"), 2.0 * sent);
    assert_eq!(sum("users"), sent);
    assert_eq!(sum("level"), sent);
    assert_eq!(sum("own.metrics_received"), sent * f64::from(LINES));
    assert_eq!(coordinator.interval.pages_unbalanced(), 0);
}

#[test]
fn every_value_is_in_one_interval_whatever_is_asked_meanwhile() {
    shuttle::check_random(run, SCHEDULES);
}

/// Few changes of thread, at the worst places: what chance alone seldom finds.
#[test]
fn every_value_is_in_one_interval_under_rare_preemption() {
    shuttle::check_pct(run, SCHEDULES, 3);
}
