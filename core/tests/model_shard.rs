//! Claim: whatever samples and flips arrive in whatever order, a shard gives back exactly what a
//! plain map would hold, each value in the interval it was recorded in.
//!
//! Method: random programs of samples, flips and collections run on a shard and on a `BTreeMap`;
//! what each collection yields must be equal. A second test runs writer and coordinator on two
//! threads and checks that totals are exact.

#![allow(missing_docs, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use floe_core::books::{Cause, Page};
use floe_core::budget::{Budgets, Ledger};
use floe_core::limits::{KEY_BYTES_MAX, SLOT_IDLE_FLIPS_CROWDED, SUB_TABLES, SWEEP_EVERY_NS};
use floe_core::name::KeyHasher;
use floe_core::sample::{Kind, Sample, SampleSink, Tally, Value};
use floe_core::series::{gauge, timer};
use floe_core::shard::{SealedValue, ShardReader, ShardWriter, shard, shard_within};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Sample(String, Kind, i32, bool),
    Flip,
}

#[derive(Clone, Debug, PartialEq)]
enum Expected {
    Counter(f64),
    Timer(Vec<u64>, u64),
    Gauge(Vec<(u64, bool)>),
    Set(BTreeSet<Vec<u8>>),
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..40_u32).prop_map(|number| format!("k{number}")),
        (0..40_u32).prop_map(|number| format!("a.key.longer.than.thirty.two.bytes.{number}")),
        (0..3_000_u32).prop_map(|number| format!("many.{number}")),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let kind =
        prop_oneof![Just(Kind::Counter), Just(Kind::Timer), Just(Kind::Gauge), Just(Kind::Set)];
    prop_oneof![
        40 => (key(), kind, -50..50_i32, any::<bool>())
            .prop_map(|(key, kind, number, is_signed)| Step::Sample(key, kind, number, is_signed)),
        1 => Just(Step::Flip),
    ]
}

/// A model series: what the shard must give back.
fn model(map: &mut BTreeMap<(Kind, String), Expected>, step: &Step) {
    let Step::Sample(key, kind, number, is_signed) = step else { return };
    let entry = map.entry((*kind, key.clone()));
    let value = f64::from(*number);
    match kind {
        Kind::Counter => {
            let Expected::Counter(sum) = entry.or_insert(Expected::Counter(0.0)) else { return };
            *sum += value;
        }
        Kind::Timer => {
            let Expected::Timer(values, weight) = entry.or_insert(Expected::Timer(vec![], 0))
            else {
                return;
            };
            values.push(value.abs().to_bits());
            *weight += 2;
        }
        Kind::Gauge => {
            let Expected::Gauge(operations) = entry.or_insert(Expected::Gauge(vec![])) else {
                return;
            };
            if !is_signed {
                operations.clear();
            }
            operations.push((value.to_bits(), *is_signed));
        }
        Kind::Set => {
            let Expected::Set(members) = entry.or_insert(Expected::Set(BTreeSet::new())) else {
                return;
            };
            members.insert(number.to_string().into_bytes());
        }
    }
}

fn record(writer: &mut ShardWriter, step: &Step) {
    let Step::Sample(key, kind, number, is_signed) = step else { return };
    let value = f64::from(*number);
    let member = number.to_string();
    let value = match kind {
        Kind::Counter => Value::Counter(value),
        Kind::Timer => Value::Timer { value: value.abs(), weight: 2.0 },
        Kind::Gauge => Value::Gauge { value, is_signed: *is_signed },
        Kind::Set => Value::Set(member.as_bytes()),
    };
    let sample = Sample { key: key.as_bytes(), value };
    let mut batch = writer.batch();
    if number % 3 == 0 {
        batch.sample_cleaned(sample);
    } else {
        batch.sample(sample);
    }
    batch.finish(10, Tally { lines: 1, accepted: 1, rejected: 0 });
}

/// Counts one of a name, in a batch of its own.
fn count(writer: &mut ShardWriter, key: &str) {
    let mut batch = writer.batch();
    batch.sample(Sample { key: key.as_bytes(), value: Value::Counter(1.0) });
    batch.finish(1, Tally { lines: 1, accepted: 1, rejected: 0 });
}

fn flip(writer: &mut ShardWriter, reader: &mut ShardReader) -> (Vec<(String, SealedValue)>, Page) {
    reader.request();
    assert!(!reader.is_acknowledged(), "the worker has not looked yet");
    assert!(writer.begin_batch(1));
    assert!(reader.is_acknowledged());
    writer.end_batch();
    let mut found = Vec::new();
    let page = reader
        .collect(|key, value| found.push((String::from_utf8_lossy(key).into_owned(), value)))
        .expect("acknowledged");
    assert!(reader.collect(|_, _| ()).is_none(), "a generation is collected once");
    (found, page)
}

/// Turns a sealed value into the model's terms.
fn seen(value: SealedValue, hasher: &KeyHasher, expected: &Expected) -> (Kind, Expected) {
    match value {
        SealedValue::Counter(sum) => (Kind::Counter, Expected::Counter(sum)),
        SealedValue::Timer(chain) => {
            let (values, weight) = timer::values(&chain);
            let mut values: Vec<u64> = values.into_iter().map(f64::to_bits).collect();
            let mut wanted = Vec::new();
            if let Expected::Timer(values, _) = expected {
                wanted.clone_from(values);
            }
            values.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(values, wanted);
            let Expected::Timer(values, _) = expected else { panic!("a timer was recorded") };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            (Kind::Timer, Expected::Timer(values.clone(), weight as u64))
        }
        SealedValue::Gauge(chain) => {
            let operations = gauge::operations(&chain);
            let plain = operations.iter().map(|each| (each.value.to_bits(), each.is_signed));
            (Kind::Gauge, Expected::Gauge(plain.collect()))
        }
        SealedValue::Set(members) => {
            let Expected::Set(wanted) = expected else { panic!("a set was recorded") };
            assert_eq!(members.count(), wanted.len() as u64);
            let mut same = members;
            for member in wanted {
                same.insert(hasher.member(member));
            }
            assert_eq!(same.count(), wanted.len() as u64, "the members are the model's");
            (Kind::Set, Expected::Set(wanted.clone()))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_equals_a_plain_map(steps in prop::collection::vec(step(), 0..3_000)) {
        let hasher = KeyHasher::default();
        let (mut writer, mut reader) = shard(0, hasher.clone());
        let mut map = BTreeMap::new();
        let mut recorded = 0_u64;
        writer.begin_batch(0);
        for step in steps.iter().chain([&Step::Flip, &Step::Flip]) {
            if !matches!(step, Step::Flip) {
                record(&mut writer, step);
                model(&mut map, step);
                recorded += 1;
                continue;
            }
            let (found, page) = flip(&mut writer, &mut reader);
            prop_assert_eq!(page.datagrams_received, recorded);
            prop_assert_eq!(page.values_recorded, recorded);
            prop_assert!(page.is_balanced());
            recorded = 0;
            prop_assert_eq!(found.len(), map.len(), "as many series as the model has");
            for (key, value) in found {
                let kind = match &value {
                    SealedValue::Counter(_) => Kind::Counter,
                    SealedValue::Timer(_) => Kind::Timer,
                    SealedValue::Gauge(_) => Kind::Gauge,
                    SealedValue::Set(_) => Kind::Set,
                };
                let expected = map.remove(&(kind, key)).expect("the model knows the series");
                prop_assert_eq!(seen(value, &hasher, &expected), (kind, expected));
            }
            prop_assert!(map.is_empty());
        }
    }
}

/// Samples of one datagram are gathered before they are applied, rewritten ones are not: they are
/// recorded in the order of the wire all the same, and under their own keys, however many there are.
#[test]
fn a_datagram_is_recorded_in_the_order_of_the_wire() {
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    let text = "aaaaaaaa";
    let gauge = |value, is_signed| Value::Gauge { value, is_signed };
    let mut batch = writer.batch();
    batch.sample(Sample { key: b"g", value: gauge(5.0, false) });
    batch.sample_cleaned(Sample { key: b"g", value: gauge(7.0, false) });
    batch.sample(Sample { key: b"g", value: gauge(1.0, true) });
    for round in 0..40 {
        for len in 1..=text.len() {
            // Keys that begin at the same byte are not the same key.
            let key = &text.as_bytes()[..len];
            batch.sample(Sample { key, value: Value::Counter(f64::from(round)) });
        }
    }
    batch.sample_cleaned(Sample { key: b"g", value: gauge(2.0, true) });
    batch.finish(1, Tally { lines: 324, accepted: 324, rejected: 0 });
    // Another datagram, whose keys come in another order, means the same series.
    for len in (1..=text.len()).rev() {
        let mut batch = writer.batch();
        batch.sample(Sample { key: &text.as_bytes()[..len], value: Value::Counter(20.0) });
        batch.finish(1, Tally { lines: 1, accepted: 1, rejected: 0 });
    }
    let (found, page) = flip(&mut writer, &mut reader);
    assert!(page.is_balanced());
    assert_eq!(found.len(), text.len() + 1);
    for (key, value) in found {
        match value {
            SealedValue::Counter(sum) => assert_eq!(sum, 800.0, "{key}"),
            SealedValue::Gauge(chain) => {
                let values: Vec<f64> =
                    gauge::operations(&chain).iter().map(|each| each.value).collect();
                assert_eq!(values, [7.0, 1.0, 2.0]);
            }
            SealedValue::Timer(_) | SealedValue::Set(_) => panic!("none was sent"),
        }
    }
}

/// What the coordinator of the two-thread test has found.
#[derive(Debug, Default, PartialEq)]
struct Totals {
    counted: f64,
    timed: f64,
    operations: usize,
    recorded: u64,
    misplaced: usize,
}

impl Totals {
    fn collect(&mut self, reader: &mut ShardReader) {
        let page = reader.collect(|key, value| {
            // Each key names its kind: a key that was freed under the reader would not.
            let kind = match value {
                SealedValue::Counter(sum) => {
                    self.counted += sum;
                    'c'
                }
                SealedValue::Timer(chain) => {
                    self.timed += timer::values(&chain).1;
                    't'
                }
                SealedValue::Gauge(chain) => {
                    self.operations += gauge::operations(&chain).len();
                    'g'
                }
                SealedValue::Set(_) => 's',
            };
            let wanted = format!("{kind}.a.wandering.key.that.does.not.fit.");
            self.misplaced += usize::from(!key.starts_with(wanted.as_bytes()));
        });
        self.recorded += page.map_or(0, |page| page.values_recorded);
    }
}

/// Two threads: a worker records and flips when asked, a coordinator collects as fast as it can.
/// Growth, eviction and collection overlap, and no value is lost or doubled.
#[test]
fn totals_are_exact_while_another_thread_collects() {
    const ROUNDS: u32 = 3_000;
    const KEYS: u32 = 20_000;
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    let worker = std::thread::spawn(move || {
        let (mut flips, mut evicted, mut now_ns) = (0, 0, 0);
        for round in 0..ROUNDS {
            flips += u32::from(writer.begin_batch(now_ns));
            for number in 0..20 {
                // Keys wander, so that tables grow and old slots fall idle.
                let number = (round * 7 + number) % KEYS;
                let key = |kind| format!("{kind}.a.wandering.key.that.does.not.fit.{number}");
                let [counter, timer, gauge] = ["c", "t", "g"].map(key);
                let mut batch = writer.batch();
                batch.sample(Sample { key: counter.as_bytes(), value: Value::Counter(1.0) });
                let value = Value::Timer { value: 1.0, weight: 1.0 };
                batch.sample(Sample { key: timer.as_bytes(), value });
                let value = Value::Gauge { value: 1.0, is_signed: true };
                batch.sample(Sample { key: gauge.as_bytes(), value });
                batch.finish(1, Tally { lines: 3, accepted: 3, rejected: 0 });
            }
            let before = writer.series_count();
            for _ in 0..64 {
                now_ns += SWEEP_EVERY_NS;
                flips += u32::from(writer.begin_batch(now_ns));
                writer.end_batch();
            }
            evicted += before - writer.series_count();
        }
        (writer, flips, evicted)
    });
    let mut totals = Totals::default();
    while !worker.is_finished() {
        reader.request();
        totals.collect(&mut reader);
        std::thread::yield_now();
    }
    let (mut writer, flips, evicted) = worker.join().expect("the worker does not panic");
    for _ in 0..2 {
        writer.begin_batch(0);
        totals.collect(&mut reader);
        reader.request();
    }
    writer.begin_batch(0);
    totals.collect(&mut reader);
    let each = ROUNDS * 20;
    let wanted = Totals {
        counted: f64::from(each),
        timed: f64::from(each),
        operations: each as usize,
        recorded: u64::from(each) * 3,
        misplaced: 0,
    };
    assert_eq!(totals, wanted);
    // A machine that never ran both threads at once has flipped too rarely to evict anything.
    assert!(evicted != 0 || flips < 200, "{flips} flips and nothing was evicted");
}

#[test]
fn new_names_in_one_batch_are_recorded_whatever_grows() {
    let keys: Vec<String> = (0..50_000).map(|number| format!("name.{number}")).collect();
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    let mut batch = writer.batch();
    for (number, key) in keys.iter().enumerate() {
        batch.sample(Sample { key: key.as_bytes(), value: Value::Counter(1.0) });
        // Again while its first value is still on its way, and long after.
        for again in [number, number / 2] {
            batch.sample(Sample { key: keys[again].as_bytes(), value: Value::Counter(1.0) });
        }
    }
    batch.finish(1, Tally { lines: 150_000, accepted: 150_000, rejected: 0 });
    writer.end_batch();
    reader.request();
    writer.begin_batch(0);
    let mut sums = BTreeMap::new();
    reader.collect(|key, value| {
        if let SealedValue::Counter(sum) = value {
            assert_eq!(sums.insert(String::from_utf8_lossy(key).into_owned(), sum), None);
        }
    });
    let sum = |number: usize| if number < 25_000 { 4.0 } else { 2.0 };
    assert_eq!(sums, keys.iter().cloned().zip((0..50_000).map(sum)).collect());
}

/// Keys that are not touched leave the shard; the others stay.
#[test]
fn idle_series_leave_and_come_back() {
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    for number in 0..10_000 {
        count(&mut writer, &format!("a.key.that.does.not.fit.into.its.slot.{number}"));
    }
    assert_eq!(writer.series_count(), 10_000);
    for round in 0..80 {
        flip(&mut writer, &mut reader);
        count(&mut writer, "steady");
        for batch in 0..256 {
            writer.begin_batch((256 * round + batch) * SWEEP_EVERY_NS);
            writer.end_batch();
        }
    }
    assert!(writer.series_count() < 200, "{} are left", writer.series_count());
    count(&mut writer, "a.key.that.does.not.fit.into.its.slot.7");
    let (found, _) = flip(&mut writer, &mut reader);
    assert_eq!(found.len(), 2);
}

/// A quiet worker has a handful of batches between two flips, and still looks through all of its
/// shard.
#[test]
fn idle_series_leave_a_quiet_shard_too() {
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    for number in 0..10_000 {
        count(&mut writer, &format!("once.{number}"));
    }
    for batch in 0..400 {
        flip(&mut writer, &mut reader);
        writer.begin_batch(batch * SWEEP_EVERY_NS);
        writer.end_batch();
    }
    assert_eq!(writer.series_count(), 0);
}

/// A shard that is nearly full looks through all of its sub-tables at each flip. One behind the other
/// they would hold up its datagrams just when the flush wants the CPU too.
#[test]
fn r4_a_nearly_full_shard_does_not_look_at_all_sub_tables_at_once() {
    const SERIES: usize = 10_000;
    let budgets = Budgets { series_max: Some(SERIES), ..Budgets::default() };
    let ledger = Arc::new(Ledger::new(&budgets, 1));
    let (mut writer, mut reader) = shard_within(0, KeyHasher::default(), ledger);
    for number in 0..SERIES - 10 {
        count(&mut writer, &format!("idle.{number}"));
    }
    for _ in 0..SLOT_IDLE_FLIPS_CROWDED + 1 {
        flip(&mut writer, &mut reader);
    }
    let before = writer.series_count();
    let batches = |writer: &mut ShardWriter, now_ns| {
        for _ in 0..SUB_TABLES {
            writer.begin_batch(now_ns);
            writer.end_batch();
        }
        before - writer.series_count()
    };
    let left = batches(&mut writer, SWEEP_EVERY_NS + 1);
    assert!(0 < left && left < 4 * SERIES / SUB_TABLES, "one sub-table, and {left} left");
    assert_eq!(batches(&mut writer, 2 * SWEEP_EVERY_NS), left, "not before its time");
    assert!(left < batches(&mut writer, 2 * SWEEP_EVERY_NS + 1));
}

/// A key beyond the limit is dropped with its value and counted; the longest one allowed is kept.
#[test]
fn a_key_that_is_too_long_is_dropped_and_counted() {
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    let key = vec![b'k'; KEY_BYTES_MAX + 1];
    let mut batch = writer.batch();
    for key in [&key[..], &key[1..]] {
        batch.sample(Sample { key, value: Value::Counter(1.0) });
        batch.sample_cleaned(Sample { key, value: Value::Counter(1.0) });
    }
    batch.finish(1, Tally { lines: 4, accepted: 4, rejected: 0 });
    let (found, page) = flip(&mut writer, &mut reader);
    let [(found, SealedValue::Counter(sum))] = &found[..] else { panic!("one series") };
    assert_eq!((found.len(), *sum), (KEY_BYTES_MAX, 2.0));
    assert_eq!((page.values_recorded, page.values_dropped[Cause::KeyTooLong as usize]), (2, 2));
    assert!(page.is_balanced());
}
