//! Claim: names that were made to meet under one secret do not meet under another, and where they do
//! meet they cost themselves alone.
//!
//! Method: with a secret that is known, names are made that agree in all 64 bits of their hash; they
//! flood a shard of that secret, and one whose secret is its own. Counted are probes, of a plain model
//! of open addressing and of the shard by what it drops; no time is measured. Families of names that
//! differ where a weak hash would not look are held against chance.

#![allow(missing_docs, reason = "a test")]

use std::collections::{BTreeMap, HashSet};
use std::hash::Hasher;

use floe_core::books::Cause;
use floe_core::limits::PROBE_GROUPS_MAX;
use floe_core::name::KeyHasher;
use floe_core::sample::{Sample, SampleSink, Tally, Value};
use floe_core::shard::{SealedValue, shard};
use foldhash::{SharedSeed, fast};

static KNOWN: SharedSeed = SharedSeed::from_u64(0x0123_4567_89ab_cdef);

fn known() -> KeyHasher {
    KeyHasher::with_secret([1, 2, 3], &KNOWN)
}

/// Names of 32 bytes that meet under [`KNOWN`]: their last word is the factor that makes a product
/// nothing, whatever stands before it.
fn meeting(count: u64) -> Vec<Vec<u8>> {
    // Of one times the secret both halves folded are the secret.
    let mut hasher = fast::FoldHasher::with_seed(0, &KNOWN);
    hasher.write_u128(1);
    let secret = hasher.finish();
    let name = |number: u64| {
        let number = number.to_le_bytes();
        [&b"service.requests"[..], &number[..], &secret.to_le_bytes()[..]].concat()
    };
    (0..count).map(name).collect()
}

/// An index made of few bits of a hash.
fn bits(hash: u64) -> usize {
    usize::try_from(hash).expect("few bits")
}

/// Probes per name of a plain table, five eighths full at the end, without any bound.
fn probes(hasher: &KeyHasher, names: &[Vec<u8>]) -> f64 {
    let size = (names.len() * 8 / 5).next_power_of_two();
    let (mut taken, mut probes) = (vec![false; size], 0_u64);
    for name in names {
        let mut at = bits(hasher.key(name) % size as u64);
        probes += 1;
        while taken[at] {
            at = (at + 1) % size;
            probes += 1;
        }
        taken[at] = true;
    }
    probes as f64 / names.len() as f64
}

/// Floods a shard, beside 100 honest names; returns what it dropped, by the longest way to a slot, and
/// the sum over the honest ones.
fn flood(hasher: KeyHasher, names: &[Vec<u8>]) -> (u64, f64) {
    let (mut writer, mut reader) = shard(0, hasher);
    let mut record = |key: &[u8]| {
        let mut batch = writer.batch();
        batch.sample(Sample { key, value: Value::Counter(1.0) });
        batch.finish(key.len(), Tally { lines: 1, accepted: 1, rejected: 0 });
    };
    for (number, name) in names.iter().enumerate() {
        record(name);
        record(format!("honest.{}", number % 100).as_bytes());
    }
    reader.request();
    writer.begin_batch(1);
    let mut honest = 0.0;
    let page = reader.collect(|key, value| {
        if let (true, SealedValue::Counter(sum)) = (key.starts_with(b"honest."), value) {
            honest += sum;
        }
    });
    let page = page.expect("the generation is sealed");
    assert!(page.is_balanced());
    (page.values_dropped[Cause::ProbeLimit as usize], honest)
}

#[test]
fn names_made_to_meet_under_a_known_secret_do_meet() {
    let names = meeting(5_000);
    let hashes: HashSet<u64> = names.iter().map(|name| known().key(name)).collect();
    assert_eq!(hashes.len(), 1, "all 64 bits agree");
    assert!(2_000.0 < probes(&known(), &names), "each name would pass all before it");
}

#[test]
fn they_do_not_meet_under_a_secret_that_is_unknown() {
    let names = meeting(5_000);
    for _ in 0..20 {
        let hasher = KeyHasher::default();
        let hashes: HashSet<u64> = names.iter().map(|name| hasher.key(name)).collect();
        assert_eq!(hashes.len(), names.len());
        let probes = probes(&hasher, &names);
        assert!(probes < 3.0, "{probes} probes a name");
    }
}

#[test]
fn names_that_meet_cost_themselves_alone() {
    let names = meeting(5_000);
    let (dropped, honest) = flood(known(), &names);
    let taken = names.len() as u64 - dropped;
    assert!(taken <= 16 * u64::from(PROBE_GROUPS_MAX), "{taken} of them are in the table");
    assert_eq!(honest, 5_000.0);
    let (dropped, honest) = flood(KeyHasher::default(), &names);
    assert_eq!((dropped, honest), (0, 5_000.0), "and nothing is dropped where they do not meet");
}

/// Names of 1 to 64 bytes that differ in one place, in few bits, in the order of their words, or are
/// the opposite of each other.
fn families() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    const NAMES: u64 = 16_384;
    let numbers = || 0..NAMES;
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let text = |text: String| text.into_bytes();
    let opposite = |number: u64| if number.is_multiple_of(2) { number } else { !(number - 1) };
    BTreeMap::from([
        ("number behind", numbers().map(|n| text(format!("stats.host.cpu.{n:05}"))).collect()),
        ("number in front", numbers().map(|n| text(format!("{n:05}.stats.host.cpu"))).collect()),
        (
            "number in both",
            numbers().map(|n| text(format!("{n:05}.host.cpu.idle.{n:05}"))).collect(),
        ),
        ("short", numbers().map(|n| text(format!("a{n}"))).collect()),
        ("long", numbers().map(|n| text(format!("{}.{n}", "host.".repeat(10)))).collect()),
        ("high bits", numbers().map(|n| words(&[1, 2, n << 50, 3])).collect()),
        ("high bits of the factor", numbers().map(|n| words(&[1, 2, 3, n << 50])).collect()),
        ("first word and last", numbers().map(|n| words(&[n << 32, 2, 3, n << 32])).collect()),
        ("words swapped", numbers().map(|n| words(&[7, 7, n % 128, n / 128])).collect()),
        ("halves alike", numbers().map(|n| words(&[n, n << 20, n, n << 20])).collect()),
        ("opposite words", numbers().map(|n| words(&[5, 6, opposite(n), opposite(n)])).collect()),
        (
            "opposite first words",
            numbers().map(|n| words(&[opposite(n), opposite(n), 5, 6])).collect(),
        ),
    ])
}

/// Pairs of names that meet in the 8 bits that choose a sub-table and 12 of those that choose the slot.
fn pairs_that_meet(hasher: &KeyHasher, names: &[Vec<u8>]) -> u64 {
    let mut places = vec![0_u64; 1 << 20];
    for name in names {
        let hash = hasher.key(name);
        places[bits(hash >> 44 & 0xff000 | hash & 0xfff)] += 1;
    }
    places.iter().map(|count| count * count.saturating_sub(1) / 2).sum()
}

#[test]
fn names_that_differ_little_meet_no_more_often_than_by_chance() {
    // By chance 16,384 names in 2^20 places: 128 pairs, 11.3 the deviation of a random one.
    for (family, names) in families() {
        let distinct: HashSet<&Vec<u8>> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{family}");
        for _ in 0..20 {
            let pairs = pairs_that_meet(&KeyHasher::default(), &names);
            assert!(pairs < 1_000, "{family}: {pairs} pairs meet");
        }
    }
}
