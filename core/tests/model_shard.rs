//! Claim: whatever samples and flips arrive in whatever order, a shard gives back exactly what a
//! plain map would hold, each value in the interval it was recorded in.
//!
//! Method: random programs of samples, flips and collections run on a shard and on a `BTreeMap`;
//! what each collection yields must be equal. A second test runs writer and coordinator on two
//! threads and checks that totals are exact.

#![allow(missing_docs, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};

use floe_core::books::Page;
use floe_core::name::KeyHasher;
use floe_core::sample::{Kind, Sample, SampleSink, Tally, Value};
use floe_core::series::{gauge, timer};
use floe_core::shard::{SealedValue, ShardReader, ShardWriter, shard};
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

fn record(writer: &mut ShardWriter, step: &Step, is_cleaned: bool) {
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
    if is_cleaned {
        batch.sample_cleaned(sample);
    } else {
        batch.sample(sample);
    }
    batch.finish(10, Tally { lines: 1, accepted: 1, rejected: 0 });
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
    fn a_shard_equals_a_plain_map(steps in prop::collection::vec(step(), 0..3_000), is_cleaned: bool) {
        let hasher = KeyHasher::default();
        let (mut writer, mut reader) = shard(0, hasher.clone());
        let mut map = BTreeMap::new();
        let mut recorded = 0_u64;
        writer.begin_batch(0);
        for step in steps.iter().chain([&Step::Flip, &Step::Flip]) {
            if !matches!(step, Step::Flip) {
                record(&mut writer, step, is_cleaned);
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

/// Two threads: a worker records and flips when asked, a coordinator collects as fast as it can.
/// Growth, eviction and collection overlap, and no increment is lost or doubled.
#[test]
fn totals_are_exact_while_another_thread_collects() {
    const ROUNDS: u32 = 400;
    const KEYS: u32 = 5_000;
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    let worker = std::thread::spawn(move || {
        writer.begin_batch(0);
        for round in 0..ROUNDS {
            writer.begin_batch(u64::from(round));
            for number in 0..100 {
                // Keys wander, so that tables grow and old slots fall idle.
                let key = format!("wandering.key.{}", (round * 7 + number) % KEYS);
                let mut batch = writer.batch();
                batch.sample(Sample { key: key.as_bytes(), value: Value::Counter(1.0) });
                let value = Value::Timer { value: 1.0, weight: 1.0 };
                batch.sample(Sample { key: key.as_bytes(), value });
                batch.finish(1, Tally { lines: 2, accepted: 2, rejected: 0 });
            }
            writer.end_batch();
        }
        writer
    });
    let (mut counted, mut timed, mut recorded) = (0.0, 0.0, 0);
    let mut collect = |reader: &mut ShardReader| {
        let page = reader.collect(|_, value| match value {
            SealedValue::Counter(sum) => counted += sum,
            SealedValue::Timer(chain) => timed += timer::values(&chain).1,
            SealedValue::Gauge(_) | SealedValue::Set(_) => panic!("none was sent"),
        });
        recorded += page.map_or(0, |page| page.values_recorded);
    };
    while !worker.is_finished() {
        reader.request();
        collect(&mut reader);
        std::thread::yield_now();
    }
    let mut writer = worker.join().expect("the worker does not panic");
    for _ in 0..2 {
        writer.begin_batch(0);
        collect(&mut reader);
        reader.request();
        writer.begin_batch(0);
        collect(&mut reader);
    }
    let expected = f64::from(ROUNDS * 100);
    assert_eq!((counted, timed), (expected, expected));
    assert_eq!(recorded, u64::from(ROUNDS) * 200);
}

/// Keys that are not touched leave the shard; the others stay.
#[test]
fn idle_series_leave_and_come_back() {
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    let send = |writer: &mut ShardWriter, key: &str| {
        let mut batch = writer.batch();
        batch.sample(Sample { key: key.as_bytes(), value: Value::Counter(1.0) });
        batch.finish(1, Tally { lines: 1, accepted: 1, rejected: 0 });
    };
    for number in 0..10_000 {
        send(&mut writer, &format!("a.key.that.does.not.fit.into.its.slot.{number}"));
    }
    assert_eq!(writer.series_count(), 10_000);
    for _ in 0..80 {
        flip(&mut writer, &mut reader);
        send(&mut writer, "steady");
        for _ in 0..256 {
            writer.end_batch();
        }
    }
    assert!(writer.series_count() < 200, "{} are left", writer.series_count());
    send(&mut writer, "a.key.that.does.not.fit.into.its.slot.7");
    let (found, _) = flip(&mut writer, &mut reader);
    assert_eq!(found.len(), 2);
}

/// A quiet worker has a handful of batches between two flips, and still looks through all of its
/// shard.
#[test]
fn idle_series_leave_a_quiet_shard_too() {
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    for number in 0..10_000 {
        let key = format!("once.{number}");
        let mut batch = writer.batch();
        batch.sample(Sample { key: key.as_bytes(), value: Value::Counter(1.0) });
        batch.finish(1, Tally { lines: 1, accepted: 1, rejected: 0 });
    }
    for _ in 0..200 {
        flip(&mut writer, &mut reader);
        writer.end_batch();
    }
    assert_eq!(writer.series_count(), 0);
}
