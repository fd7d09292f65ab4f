//! Claim: an interval closes into exactly the rows that the reference daemon would send, whatever
//! the delete switches, the number of workers and the moments of flips within it; at any moment it
//! shows what it holds; what is deleted on demand is gone at once; and no reload loses a value.
//!
//! Method: random programs of samples, flips, looks, deletes, reloads and closes run on shards with
//! an interval, and on plain maps that know nothing of workers and flips (docs/references.md S5, S6
//! and S8).

#![allow(missing_docs, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};

use floe_core::config::settings::{IdleSettings, Settings, Threshold};
use floe_core::interval::view::NumberView;
use floe_core::interval::{BookEntries, Deletable, Interval};
use floe_core::name::KeyHasher;
use floe_core::row::Rows;
use floe_core::sample::{Kind, Sample, SampleSink, Tally, Value};
use floe_core::shard::{ShardReader, ShardWriter, shard};
use proptest::prelude::*;

const WORKERS: usize = 3;
const INTERVAL_S: u64 = 10;
const OWN: [&str; 3] = ["bad_lines_seen", "metrics_received", "packets_received"];

#[derive(Clone, Debug)]
enum Step {
    /// Worker, key, kind, number, whether a gauge's number is signed.
    Sample(usize, String, Kind, i32, bool),
    /// All workers seal what they have; nothing is sent.
    Flip,
    /// The console shows everything.
    Look,
    /// The console deletes what the argument means.
    Delete(Deletable, String),
    /// The daemon goes on with other settings.
    Apply(Applied),
    /// A tick, after so many ticks that were missed.
    Close(u64),
}

/// What a reload changes here.
#[derive(Clone, Debug)]
struct Applied {
    idle: IdleSettings,
    prefix_stats: &'static str,
    interval_s: u64,
    thresholds: usize,
}

impl Applied {
    fn settings(&self) -> Settings {
        let mut settings = floe_core::config::without_file().settings;
        settings.idle = self.idle;
        settings.flush_interval_ms = self.interval_s * 1_000;
        settings.prefix_stats = self.prefix_stats.into();
        let threshold =
            |number: u32| Threshold { percent: f64::from(number), suffix: number.to_string() };
        settings.thresholds = (50..).take(self.thresholds).map(threshold).collect();
        settings
    }
}

/// What a flush sends of a timer: raw values, weight, sum, lower, upper.
type TimerRow = (u64, f64, f64, f64, f64);

/// Timers at a look: values in order of size, and their number.
type Shown = BTreeMap<String, (Vec<f64>, u64)>;

#[derive(Debug, Default, PartialEq)]
struct Flushed {
    counters: BTreeMap<String, f64>,
    timers: BTreeMap<String, TimerRow>,
    gauges: BTreeMap<String, f64>,
    sets: BTreeMap<String, u64>,
}

/// The reference daemon's tables.
#[derive(Debug)]
struct Model {
    idle: IdleSettings,
    counters: BTreeMap<String, f64>,
    timers: BTreeMap<String, (Vec<f64>, f64)>,
    gauges: BTreeMap<String, f64>,
    gauge_flushes_left: BTreeMap<String, u32>,
    sets: BTreeMap<String, BTreeSet<i32>>,
    previous_s: Option<u64>,
    prefix: &'static str,
    /// Length of the open interval, and of the ones after it.
    interval_s: u64,
    next_interval_s: u64,
}

impl Model {
    fn new(idle: IdleSettings) -> Self {
        Self {
            idle,
            prefix: "statsd",
            interval_s: INTERVAL_S,
            next_interval_s: INTERVAL_S,
            counters: OWN.map(|name| (format!("statsd.{name}"), 0.0)).into(),
            timers: BTreeMap::new(),
            gauges: BTreeMap::new(),
            gauge_flushes_left: BTreeMap::new(),
            sets: BTreeMap::new(),
            previous_s: None,
        }
    }

    fn add(&mut self, key: &str, kind: Kind, number: i32, is_signed: bool) {
        for name in ["metrics_received", "packets_received"] {
            *self.counters.entry(format!("{}.{name}", self.prefix)).or_default() += 1.0;
        }
        let value = f64::from(number);
        let key = key.to_owned();
        match kind {
            Kind::Counter => *self.counters.entry(key).or_default() += value,
            Kind::Timer => {
                let (values, weight) = self.timers.entry(key).or_default();
                values.push(value.abs());
                *weight += 2.0;
            }
            Kind::Gauge => {
                let gauge = self.gauges.entry(key.clone()).or_default();
                *gauge = if *gauge != 0.0 && is_signed { *gauge + value } else { value };
                if self.idle.delete_gauges {
                    self.gauge_flushes_left.insert(key, self.idle.gauges_max_ttl);
                }
            }
            Kind::Set => {
                self.sets.entry(key).or_default().insert(number);
            }
        }
    }

    fn shown(&self) -> Shown {
        let timers = self.timers.iter().map(|(key, (values, _))| {
            let mut values = values.clone();
            values.sort_by(f64::total_cmp);
            let total = values.len() as u64;
            (key.clone(), (values, total))
        });
        timers.collect()
    }

    /// Keys that were deleted.
    fn delete(&mut self, kind: Deletable, argument: &str) -> BTreeSet<String> {
        let folder = argument.strip_suffix('*').filter(|folder| folder.ends_with('.'));
        let is_meant =
            |key: &String| key == argument || folder.is_some_and(|folder| key.starts_with(folder));
        match kind {
            Deletable::Counters => taken(&mut self.counters, is_meant),
            Deletable::Timers => taken(&mut self.timers, is_meant),
            Deletable::Gauges => {
                taken(&mut self.gauge_flushes_left, is_meant);
                taken(&mut self.gauges, is_meant)
            }
        }
    }

    fn enter_own(&mut self) {
        for name in OWN {
            self.counters.entry(format!("{}.{name}", self.prefix)).or_default();
        }
    }

    /// What was counted stays where it is; a gauge keeps the lifetime it has.
    fn apply(&mut self, applied: &Applied) {
        if self.prefix != applied.prefix_stats {
            self.enter_own();
            self.prefix = applied.prefix_stats;
            self.enter_own();
        }
        self.idle = applied.idle;
        if !self.idle.delete_gauges {
            self.gauge_flushes_left.clear();
        }
        self.next_interval_s = applied.interval_s;
    }

    fn close(&mut self, timestamp_s: u64) -> Flushed {
        // Unless they were deleted, they are there.
        self.enter_own();
        if let Some(previous_s) = self.previous_s.replace(timestamp_s) {
            let lag = (timestamp_s - previous_s) as f64 - self.interval_s as f64;
            let key = format!("{}.timestamp_lag", self.prefix);
            self.gauges.insert(key, lag);
        }
        let timer = |(values, weight): &(Vec<f64>, f64)| {
            let lower = values.iter().copied().reduce(f64::min).unwrap_or(0.0);
            let upper = values.iter().copied().reduce(f64::max).unwrap_or(0.0);
            (values.len() as u64, *weight, values.iter().sum::<f64>() + 0.0, lower, upper)
        };
        let flushed = Flushed {
            counters: self.counters.clone(),
            timers: self.timers.iter().map(|(key, each)| (key.clone(), timer(each))).collect(),
            gauges: self.gauges.clone(),
            sets: self.sets.iter().map(|(key, each)| (key.clone(), each.len() as u64)).collect(),
        };
        self.forget();
        flushed
    }

    fn forget(&mut self) {
        let idle = self.idle;
        self.interval_s = self.next_interval_s;
        self.counters.retain(|key, total| {
            *total = 0.0;
            !idle.delete_counters || OWN.iter().any(|word| key.contains(word))
        });
        self.timers.values_mut().for_each(|timer| *timer = (Vec::new(), 0.0));
        self.sets.values_mut().for_each(BTreeSet::clear);
        if idle.delete_timers {
            self.timers.clear();
        }
        if idle.delete_sets {
            self.sets.clear();
        }
        for (key, left) in &mut self.gauge_flushes_left {
            *left -= 1;
            if *left == 0 {
                self.gauges.remove(key);
            }
        }
        self.gauge_flushes_left.retain(|_, left| *left != 0);
    }
}

/// Takes out what `is_meant` says; returns its keys.
fn taken<V>(map: &mut BTreeMap<String, V>, is_meant: impl Fn(&String) -> bool) -> BTreeSet<String> {
    let keys: BTreeSet<String> = map.keys().filter(|key| is_meant(key)).cloned().collect();
    map.retain(|key, _| !keys.contains(key));
    keys
}

/// Shards and interval, driven by one thread.
struct Subject {
    writers: Vec<ShardWriter>,
    readers: Vec<ShardReader>,
    interval: Interval,
    now_ns: u64,
}

impl Subject {
    fn new(settings: Settings) -> Self {
        let hasher = KeyHasher::default();
        let both = (0_u16..).take(WORKERS).map(|index| shard(index, hasher.clone()));
        let (writers, readers): (Vec<_>, Vec<_>) = both.unzip();
        let interval = Interval::new(settings, &hasher, &readers);
        Self { writers, readers, interval, now_ns: 0 }
    }

    fn add(&mut self, worker: usize, key: &str, kind: Kind, number: i32, is_signed: bool) {
        // Every sample is a batch of its own, so that the order over workers is that of time.
        self.now_ns += 1;
        let writer = &mut self.writers[worker];
        assert!(!writer.begin_batch(self.now_ns), "nobody has asked for a flip");
        let value = f64::from(number);
        let member = number.to_string();
        let value = match kind {
            Kind::Counter => Value::Counter(value),
            Kind::Timer => Value::Timer { value: value.abs(), weight: 2.0 },
            Kind::Gauge => Value::Gauge { value, is_signed },
            Kind::Set => Value::Set(member.as_bytes()),
        };
        let mut batch = writer.batch();
        batch.sample(Sample { key: key.as_bytes(), value });
        batch.finish(10, Tally { lines: 1, accepted: 1, rejected: 0 });
        writer.end_batch();
    }

    fn flip(&mut self) {
        self.readers.iter_mut().for_each(ShardReader::request);
        for writer in &mut self.writers {
            assert!(writer.begin_batch(self.now_ns));
        }
        self.interval.collect(&mut self.readers);
    }

    /// Counters, gauges, and per timer its values and their number.
    fn look(&mut self) -> (BTreeMap<String, f64>, BTreeMap<String, f64>, Shown) {
        self.flip();
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let numbers =
            |view: NumberView| view.iter().map(|(key, value)| (text(key), *value)).collect();
        let timers = self.interval.timers();
        let timers = timers.iter().map(|(key, timer)| {
            let mut values = timer.first.to_vec();
            values.sort_by(f64::total_cmp);
            (text(key), (values, timer.total))
        });
        (numbers(self.interval.counters()), numbers(self.interval.gauges()), timers.collect())
    }

    fn delete(&mut self, kind: Deletable, argument: &str) -> BTreeSet<String> {
        self.flip();
        let deleted = self.interval.delete(kind, &[argument.as_bytes().to_vec()]).remove(0);
        let keys: BTreeSet<String> =
            deleted.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        assert_eq!(keys.len(), deleted.len(), "each is named once");
        keys
    }

    fn apply(&mut self, applied: &Applied) {
        self.flip();
        self.interval.apply(applied.settings());
    }

    fn close(&mut self, timestamp_s: u64) -> Vec<Rows> {
        self.flip();
        self.interval.close(timestamp_s, &BookEntries::default())
    }
}

fn flushed(rows: &Rows) -> Flushed {
    let mut found = Flushed::default();
    let name = |index| {
        String::from_utf8_lossy(rows.names.name(index).expect("a name per row")).into_owned()
    };
    let mut next = 0;
    let mut names = |count: usize| {
        next += count;
        (next - count..next).map(name)
    };
    let timers = &rows.timers;
    for (key, total) in names(rows.counters.len()).zip(&rows.counters) {
        assert!(found.counters.insert(key, *total).is_none(), "one row per series");
    }
    for (row, key) in names(timers.counts.len()).enumerate() {
        let columns = [&timers.counts, &timers.sums, &timers.lowers, &timers.uppers];
        let [weight, sum, lower, upper] = columns.map(|column| column[row]);
        let timer = (timers.value_counts[row], weight, sum, lower, upper);
        assert!(found.timers.insert(key, timer).is_none(), "one row per series");
    }
    for (key, value) in names(rows.gauges.len()).zip(&rows.gauges) {
        assert!(found.gauges.insert(key, *value).is_none(), "one row per series");
    }
    for (key, count) in names(rows.sets.len()).zip(&rows.sets) {
        assert!(found.sets.insert(key, *count).is_none(), "one row per series");
    }
    assert_eq!(rows.series_count, rows.names.len() as u64);
    found
}

fn step() -> impl Strategy<Value = Step> {
    let kind =
        prop_oneof![Just(Kind::Counter), Just(Kind::Timer), Just(Kind::Gauge), Just(Kind::Set)];
    let key = prop_oneof![
        8 => (0..6_u32).prop_map(|number| format!("k{number}")),
        1 => Just("my.packets_received.too".to_owned()),
        1 => Just("a.key.that.does.not.fit.into.its.slot".to_owned()),
    ];
    let deletable =
        prop_oneof![Just(Deletable::Counters), Just(Deletable::Timers), Just(Deletable::Gauges)];
    let argument = prop_oneof![
        4 => (0..7_u32).prop_map(|number| format!("k{number}")),
        1 => Just("my.*".to_owned()),
        1 => Just("a.key.that.*".to_owned()),
        1 => Just("statsd.*".to_owned()),
        1 => Just("statsd.metrics_received".to_owned()),
        1 => Just("other.*".to_owned()),
        1 => Just("*".to_owned()),
    ];
    prop_oneof![
        12 => (0..WORKERS, key, kind, -5..5_i32, any::<bool>()).prop_map(
            |(worker, key, kind, number, is_signed)| {
                Step::Sample(worker, key, kind, number, is_signed)
            }
        ),
        2 => Just(Step::Flip),
        2 => Just(Step::Look),
        2 => (deletable, argument).prop_map(|(kind, argument)| Step::Delete(kind, argument)),
        2 => applied().prop_map(Step::Apply),
        2 => (0..3_u64).prop_map(Step::Close),
    ]
}

fn idle() -> impl Strategy<Value = IdleSettings> {
    (any::<[bool; 4]>(), 1..4_u32).prop_map(|(switches, gauges_max_ttl)| {
        let [delete_counters, delete_timers, delete_sets, delete_gauges] = switches;
        IdleSettings { delete_counters, delete_timers, delete_sets, delete_gauges, gauges_max_ttl }
    })
}

fn applied() -> impl Strategy<Value = Applied> {
    let prefix = prop_oneof![Just("statsd"), Just("other")];
    (idle(), prefix, 1..30_u64, 0..3_usize).prop_map(
        |(idle, prefix_stats, interval_s, thresholds)| Applied {
            idle,
            prefix_stats,
            interval_s,
            thresholds,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn an_interval_closes_as_the_reference_daemon_flushes(
        steps in prop::collection::vec(step(), 0..200),
        idle in idle(),
    ) {
        let (prefix_stats, interval_s, mut thresholds) = ("statsd", INTERVAL_S, 1);
        let first = Applied { idle, prefix_stats, interval_s, thresholds };
        let mut subject = Subject::new(first.settings());
        let mut model = Model::new(idle);
        let mut timestamp_s = 1_000;
        for step in steps.iter().chain([&Step::Close(0), &Step::Close(0), &Step::Close(0)]) {
            match step {
                Step::Sample(worker, key, kind, number, is_signed) => {
                    subject.add(*worker, key, *kind, *number, *is_signed);
                    model.add(key, *kind, *number, *is_signed);
                }
                Step::Flip => subject.flip(),
                Step::Look => {
                    let (counters, gauges, timers) = subject.look();
                    prop_assert_eq!(counters, model.counters.clone());
                    prop_assert_eq!(gauges, model.gauges.clone());
                    prop_assert_eq!(timers, model.shown());
                }
                Step::Delete(kind, argument) => {
                    let deleted = subject.delete(*kind, argument);
                    prop_assert_eq!(deleted, model.delete(*kind, argument));
                }
                Step::Apply(applied) => {
                    subject.apply(applied);
                    model.apply(applied);
                    thresholds = applied.thresholds;
                }
                Step::Close(missed) => {
                    timestamp_s += INTERVAL_S * (1 + missed);
                    let parts = subject.close(timestamp_s);
                    prop_assert_eq!(parts.len(), 1);
                    prop_assert_eq!(parts[0].timestamp_s, timestamp_s);
                    prop_assert_eq!(parts[0].flush_interval_ms, model.interval_s * 1_000);
                    prop_assert_eq!(parts[0].timers.thresholds.len(), thresholds);
                    prop_assert_eq!(flushed(&parts[0]), model.close(timestamp_s));
                }
            }
        }
        prop_assert_eq!(subject.interval.pages_unbalanced(), 0);
    }
}
