//! The table of a shard, on one thread.

use super::*;
use crate::limits::{PROBE_GROUPS_MAX, SLAB_SLOTS, SUB_TABLES};

/// Keys with these hashes, all in sub-table 0, touched under `epoch`.
fn fill(table: &mut Table, hashes: impl Iterator<Item = u32>, epoch: u32) -> usize {
    hashes
        .filter(|&hash| {
            let key = format!("{epoch}.{hash}.{}", table.index.len(0));
            let slot = slot_of(table, hash.into(), &key);
            slot.is_ok_and(|slot| {
                slot.generations.store(epoch, 1);
                true
            })
        })
        .count()
}

#[expect(unsafe_code, reason = "one thread")]
fn slot_of<'t>(table: &'t mut Table, hash: u64, key: &str) -> Result<&'t Slot, Cause> {
    let head = Head::of(hash, Kind::Counter, key.as_bytes());
    // SAFETY: the group was found just now.
    let spot = unsafe { table.seek(table.near(head), head) };
    // SAFETY: the spot was found just now.
    unsafe { table.slot(spot, head, key.as_bytes()) }
}

/// Spreads numbers evenly, as a hash does.
fn hash_of(number: u64) -> u64 {
    let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

#[test]
fn keys_made_to_meet_are_dropped_beyond_the_probe_bound_and_grow_nothing_without_end() {
    let (mut table, _reader) = table(Arc::default());
    let taken = fill(&mut table, std::iter::repeat_n(7, 10_000), 5);
    assert_eq!(taken, 8 * PROBE_GROUPS_MAX as usize);
    assert!(table.index.groups(0) < 8 * 2 * PROBE_GROUPS_MAX as usize);
    assert_eq!(fill(&mut table, [u32::MAX].into_iter(), 5), 1, "others find their place");
    for number in 0..taken {
        let before = table.series_count();
        assert!(slot_of(&mut table, 7, &format!("5.7.{number}")).is_ok());
        assert_eq!(table.series_count(), before, "{number} is known");
    }
}

#[test]
fn a_shrunken_table_still_finds_keys_that_meet() {
    let (mut table, _reader) = table(Arc::default());
    // Two clusters, far apart in a large table and one run in a small one.
    fill(&mut table, (0..2_000).map(|number| u32::MAX / 2 + u32::MAX / 4_000 * number), 1);
    fill(&mut table, std::iter::repeat_n(u32::MAX / 100, 100), 9);
    fill(&mut table, std::iter::repeat_n(u32::MAX / 25, 100), 9);
    let groups = table.index.groups(0);
    assert_eq!(table.evict(0, 8), 2_000);
    assert!(table.index.groups(0) < groups);
    assert_eq!(table.series_count(), 200);
    for number in 0..200 {
        let hash = if number < 100 { u32::MAX / 100 } else { u32::MAX / 25 };
        let key = format!("9.{hash}.{}", 2_000 + number);
        assert!(slot_of(&mut table, hash.into(), &key).is_ok());
        assert_eq!(table.series_count(), 200, "{key} is known");
    }
}

#[test]
fn a_full_shard_refuses_new_series_and_knows_the_old_ones() {
    let (mut table, _reader) = table(Arc::default());
    assert_eq!(fill(&mut table, [1, 2].into_iter(), 5), 2);
    table.slots.pretend_sets(SERIES_PER_SHARD_MAX);
    assert_eq!(fill(&mut table, [3].into_iter(), 5), 0);
    assert!(slot_of(&mut table, 1, "5.1.0").is_ok());
}

#[test]
fn sub_tables_grow_one_after_the_other_and_stay_half_full() {
    let (mut table, _reader) = table(Arc::default());
    let groups = |table: &Table| (0..SUB_TABLES).map(|index| table.index.groups(index)).collect();
    let mut before: Vec<usize> = groups(&table);
    let mut window_end = 40_000;
    for number in 1..=400_000_u64 {
        assert!(slot_of(&mut table, hash_of(number), &number.to_string()).is_ok());
        if number == window_end {
            let now: Vec<usize> = groups(&table);
            let grown = now.iter().zip(&before).filter(|(now, before)| now != before).count();
            // All of them would be 256; a share of a fiftieth of a half is 13.
            assert!(number == 40_000 || grown < 40, "{grown} at {number}");
            (before, window_end) = (now, window_end + window_end / 50);
        }
    }
    let entries: usize = 8 * before.iter().sum::<usize>();
    assert!(entries < 400_000 * 2, "{entries} entries for 400,000 series");
    assert_eq!(table.series_count(), 400_000);
}

#[test]
fn nearly_every_series_is_where_it_likely_is() {
    let (mut table, _reader) = table(Arc::default());
    for number in 0..100_000 {
        assert!(slot_of(&mut table, hash_of(number), &number.to_string()).is_ok());
    }
    let elsewhere = (0..100_000).filter(|&number| {
        let key = number.to_string();
        let head = Head::of(hash_of(number), Kind::Counter, key.as_bytes());
        #[expect(unsafe_code, reason = "one thread")]
        // SAFETY: the group was found just now.
        let likely = unsafe { table.index.likely(table.near(head), head) };
        #[expect(unsafe_code, reason = "one thread")]
        // SAFETY: the test is the worker.
        let identity = unsafe { table.slots.slot(likely).identity() };
        !identity.is_of(head, key.as_bytes())
    });
    assert!(elsewhere.count() < 3_000, "one in thirty");
}

#[test]
fn one_key_of_four_kinds_is_found_at_once_for_each() {
    let (mut table, _reader) = table(Arc::default());
    let heads = Kind::ALL.map(|kind| Head::of(77, kind, b"key"));
    let slots = heads.map(|head| {
        #[expect(unsafe_code, reason = "one thread")]
        // SAFETY: the group was found just now.
        let spot = unsafe { table.seek(table.near(head), head) };
        #[expect(unsafe_code, reason = "one thread")]
        // SAFETY: the spot was found just now.
        let slot = unsafe { table.slot(spot, head, b"key") };
        slot.map(std::ptr::from_ref)
    });
    for (head, slot) in heads.into_iter().zip(slots) {
        #[expect(unsafe_code, reason = "one thread")]
        // SAFETY: the group was found just now.
        let likely = unsafe { table.index.likely(table.near(head), head) };
        assert_eq!(Ok(table.slots.at(likely)), slot);
    }
}

#[test]
fn a_few_idle_series_are_not_worth_a_copy() {
    let (mut table, _reader) = table(Arc::default());
    fill(&mut table, (0..20).map(|number| number << 20), 1);
    fill(&mut table, (0..80).map(|number| number << 20), 9);
    assert_eq!(table.evict(0, 8), 0);
    fill(&mut table, (0..10).map(|number| number << 20), 1);
    assert_eq!((table.evict(0, 8), table.series_count()), (30, 80));
}

#[test]
fn series_that_left_give_their_slots_to_others_and_empty_slabs_go() {
    let (mut table, _reader) = table(Arc::default());
    let many = u32::try_from(4 * SLAB_SLOTS).expect("small");
    let spread = |number: u32| number.wrapping_mul(0x9E37_79B9);
    fill(&mut table, (0..10).map(spread), 9);
    fill(&mut table, (0..many).map(spread), 1);
    assert_eq!(table.slots.slabs(), 5);
    assert_eq!(table.evict(0, 8), 4 * SLAB_SLOTS);
    assert_eq!(
        (table.slots.slabs(), table.series_count()),
        (1, 10),
        "what is left is in the first"
    );
    fill(&mut table, (0..1_000).map(spread), 9);
    assert_eq!((table.slots.slabs(), table.series_count()), (1, 1_010));
    fill(&mut table, (0..many).map(spread), 9);
    assert_eq!((table.slots.slabs(), table.series_count()), (5, 1_010 + 4 * SLAB_SLOTS));
}
