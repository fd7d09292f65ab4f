//! Who has had what, whatever the order in which disk and backends take it.

use super::*;

fn rows(timestamp_s: u64, part_index: u32) -> Rows {
    let mut rows = Rows { timestamp_s, part_index, counters: vec![1.0], ..Rows::default() };
    rows.names.push(b"c");
    rows
}

fn backlog(intervals: &[u64]) -> Backlog {
    let backlog = Backlog::default();
    for timestamp_s in intervals {
        backlog.push(vec![rows(*timestamp_s, 0), rows(*timestamp_s, 1)], 7);
    }
    backlog
}

fn listed(backlog: &Backlog, backend: &str) -> Vec<(u64, u32)> {
    let mut names = Vec::new();
    backlog.list(backend, false, &mut names);
    names.iter().map(|name| (name.timestamp_s(), name.part())).collect()
}

fn first(backlog: &Backlog, backend: &str) -> SegmentName {
    let mut names = Vec::new();
    backlog.list(backend, false, &mut names);
    names[0]
}

fn on_disk(part: u32) -> SegmentName {
    SegmentName::new(NameParts { timestamp_s: 10, run_id: 5, sequence: 0, part }).unwrap()
}

/// The first try of every interval here.
const TRY: Try = Try { run_id: 5, sequence: 0 };

fn both() -> Vec<String> {
    vec!["a".to_owned(), "b".to_owned()]
}

#[test]
fn nothing_is_offered_before_the_disk_has_refused_it_nor_while_it_is_tried() {
    let backlog = backlog(&[10, 20]);
    assert!(listed(&backlog, "a").is_empty() && backlog.is_trying());
    backlog.offer_all(false);
    assert!(!backlog.is_trying());
    assert_eq!(listed(&backlog, "a"), [(10, 0), (10, 1), (20, 0), (20, 1)]);
    backlog.begin_commit(TRY).unwrap();
    assert_eq!(listed(&backlog, "a"), [(20, 0), (20, 1)]);
    assert_eq!(backlog.amounts(), (4, 14, backlog.amounts().2));
}

#[test]
fn what_a_backend_has_had_is_not_offered_again_and_wants_no_link() {
    let backlog = backlog(&[10]);
    backlog.offer_all(false);
    let name = first(&backlog, "a");
    assert_eq!(backlog.take("a", name).unwrap().part_count, 2);
    backlog.let_go("a");
    backlog.take("a", name).unwrap();
    assert_eq!(backlog.settle("a", name), Some(Fate::Held));
    assert_eq!(listed(&backlog, "a"), [(10, 1)]);
    assert_eq!(listed(&backlog, "b"), [(10, 0), (10, 1)]);
    let begun = backlog.begin_commit(TRY).unwrap();
    assert_eq!((begun.wanted_by("a"), begun.wanted_by("b")), ((1, 1), (2, 2)));
    assert!(!begun.is_wanted(0, "a") && begun.is_wanted(1, "a") && begun.is_wanted(0, "b"));
}

#[test]
fn a_part_that_reaches_the_disk_while_it_is_sent_is_acknowledged_there() {
    let backlog = backlog(&[10]);
    backlog.offer_all(false);
    let name = first(&backlog, "a");
    backlog.take("a", name).unwrap();
    let begun = backlog.begin_commit(TRY).unwrap();
    let left = backlog.committed(&begun, &[on_disk(0), on_disk(1)]);
    assert!(left.had_meanwhile.is_empty());
    assert_eq!(backlog.settle("a", name), Some(Fate::Committed(on_disk(0))));
    assert_eq!((backlog.len(), backlog.settle("a", name)), (0, None));
}

#[test]
fn a_part_that_was_had_during_its_commit_has_a_link_too_many() {
    let backlog = backlog(&[10]);
    backlog.offer_all(false);
    let name = first(&backlog, "a");
    backlog.take("a", name).unwrap();
    let begun = backlog.begin_commit(TRY).unwrap();
    assert_eq!(backlog.settle("a", name), Some(Fate::Held));
    let left = backlog.committed(&begun, &[on_disk(0), on_disk(1)]);
    assert_eq!(left.had_meanwhile, [("a".to_owned(), on_disk(0), 1)]);
    assert_eq!(left.parts.len(), 2);
}

#[test]
fn what_all_have_had_goes_first_and_what_is_being_sent_last() {
    let backlog = backlog(&[10, 20, 30]);
    backlog.offer_all(false);
    for backend in both() {
        for part in 0..2 {
            let parts = NameParts { timestamp_s: 30, run_id: 0, sequence: 2, part };
            if backend == "b" || part == 0 {
                let name = SegmentName::new(parts).unwrap();
                backlog.take(&backend, name).unwrap();
                assert_eq!(backlog.settle(&backend, name), Some(Fate::Held));
            }
        }
    }
    let name = first(&backlog, "a");
    backlog.take("a", name).unwrap();
    // Nothing is had by all: the second is the oldest that nobody is sending.
    let lost = vec![("a".to_owned(), 2), ("b".to_owned(), 2)];
    let dropped = Dropped { rows_lost: 2, rows_shipped: 0, values: 7, lost_by: lost };
    assert_eq!(backlog.give_up_one(&both()), dropped);
    let dropped =
        Dropped { rows_lost: 1, rows_shipped: 1, values: 7, lost_by: vec![("a".to_owned(), 1)] };
    assert_eq!(backlog.give_up_one(&both()), dropped);
    assert_eq!(backlog.at_stake(&both()), (1, 2));
    backlog.give_up_one(&both());
    assert_eq!(backlog.settle("a", name), Some(Fate::Dropped), "there was nothing else to give up");
}

#[test]
fn without_backends_nobody_has_had_anything() {
    let backlog = backlog(&[10]);
    assert_eq!(backlog.at_stake(&[]), (1, 2));
    assert_eq!(backlog.give_up_one(&[]).rows_lost, 2);
}

#[test]
fn what_must_not_be_had_twice_is_not_taken_while_the_disk_may_have_it() {
    let backlog = backlog(&[10]);
    backlog.offer_all(false);
    let name = first(&backlog, "a");
    backlog.take("a", name).unwrap();
    let begun = backlog.begin_commit(TRY).unwrap();
    assert_eq!(backlog.settle_beforehand("a", name), Some(Fate::BeingCommitted));
    assert_eq!(backlog.settle_beforehand("a", name), None, "let go");
    backlog.offer_all(true);
    let mut names = Vec::new();
    backlog.list("a", true, &mut names);
    assert!(names.is_empty(), "the disk has not removed what it refused");
    assert_eq!(listed(&backlog, "b"), [(10, 0), (10, 1)], "others may");
    backlog.take("a", name).unwrap();
    assert_eq!(backlog.settle_beforehand("a", name), Some(Fate::BeingCommitted));
    backlog.offer_all(false);
    backlog.take("a", name).unwrap();
    assert_eq!(backlog.settle_beforehand("a", name), Some(Fate::Held));
    assert_eq!(listed(&backlog, "a"), [(10, 1)]);
    assert!(begun.is_wanted(0, "a") && !backlog.begin_commit(TRY).unwrap().is_wanted(0, "a"));
}

#[test]
fn what_a_backend_has_from_a_failed_commit_is_had() {
    let backlog = backlog(&[10]);
    backlog.begin_commit(TRY).unwrap();
    backlog.had_from_disk(1, "a");
    backlog.had_from_disk(1, "a");
    backlog.offer_all(false);
    assert_eq!((listed(&backlog, "a"), listed(&backlog, "b").len()), (vec![(10, 0)], 2));
    assert_eq!(backlog.begin_commit(TRY).unwrap().wanted_by("a"), (1, 1));
}

/// The link of a commit that failed is gone before its exporter has had the whole segment.
#[test]
fn what_was_had_from_a_link_that_was_taken_back_is_had() {
    let named = |sequence, part| {
        SegmentName::new(NameParts { timestamp_s: 10, run_id: 5, sequence, part }).unwrap()
    };
    let backlog = backlog(&[10, 20]);
    backlog.begin_commit(Try { run_id: 5, sequence: 3 }).unwrap();
    let held = {
        backlog.offer_all(false);
        first(&backlog, "a")
    };
    for sequence in [3, 4] {
        assert_eq!(backlog.present_name(named(sequence, 0)), Some(held));
    }
    let another_run = NameParts { timestamp_s: 10, run_id: 6, sequence: 3, part: 0 };
    let another_run = SegmentName::new(another_run).unwrap();
    for name in [named(2, 0), named(3, 2), another_run] {
        assert_eq!(
            (backlog.present_name(name), backlog.settle_taken_back("a", name)),
            (None, None)
        );
    }
    assert_eq!(backlog.settle_taken_back("a", named(3, 0)), Some(Fate::Held));
    assert_eq!(listed(&backlog, "a")[0], (10, 1));
    let begun = backlog.begin_commit(Try { run_id: 5, sequence: 5 }).unwrap();
    assert!(!begun.is_wanted(0, "a") && begun.is_wanted(0, "b"));
    backlog.committed(&begun, &[named(5, 0), named(5, 1)]);
    assert_eq!(backlog.settle_taken_back("b", named(3, 0)), Some(Fate::Committed(named(5, 0))));
    assert_eq!(backlog.settle_taken_back("b", named(5, 0)), None, "it is the one");
    assert_eq!(backlog.present_name(held), Some(named(5, 0)));
    assert_eq!(backlog.present_name(named(4, 1)), Some(named(5, 1)));
    assert_eq!(backlog.present_name(named(5, 0)), None);
}
