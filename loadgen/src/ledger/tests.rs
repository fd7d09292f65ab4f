//! The ledger against books that are off by one thing each.

use super::*;
use crate::naming::tests::legacy;
use crate::workload::{Shape, tests::shape};

/// One timestamp per interval of the imagined daemon.
const TIMES: [i64; 3] = [1_000, 1_010, 1_020];

fn terms() -> Terms {
    let shape = Shape { names: 8, mix: "c=1,ms=1,g=1,s=1".parse().unwrap(), ..shape() };
    let keys = Keys::new(&Shape { tagged_percent: 0, ..shape });
    Terms { keys, naming: legacy(), is_shared: false, is_stream: false }
}

fn sent(terms: &Terms) -> Sent {
    let mut sent = Sent::new(&terms.keys);
    for line in [
        Line::Counter { index: 0, amount: 5 },
        Line::Counter { index: 0, amount: 20 },
        Line::Counter { index: 1, amount: 7 },
        Line::Timer { index: 0, value_ms: 30, weight: 1 },
        Line::Timer { index: 0, value_ms: 10, weight: 4 },
        Line::GaugeSet { index: 0, value: 100 },
        Line::GaugeDelta { index: 0, delta: -30 },
        Line::Set { index: 0, member: 3 },
        Line::Set { index: 0, member: 200 },
        Line::Set { index: 0, member: 3 },
        Line::Bad,
    ] {
        sent.record(line);
    }
    sent.datagrams = 2;
    sent
}

/// What a right daemon delivers for [`sent`], with the named points replaced.
fn received(changes: &[(&str, i64, f64)]) -> Received {
    let mut points = vec![
        ("stats_counts.loadgen.c.n000000", TIMES[0], 5.0),
        ("stats_counts.loadgen.c.n000000", TIMES[1], 20.0),
        ("stats_counts.loadgen.c.n000000", TIMES[2], 0.0),
        ("stats_counts.loadgen.c.n000001", TIMES[1], 7.0),
        ("stats.timers.loadgen.ms.n000000.count", TIMES[0], 1.0),
        ("stats.timers.loadgen.ms.n000000.count", TIMES[1], 4.0),
        ("stats.timers.loadgen.ms.n000000.lower", TIMES[0], 30.0),
        ("stats.timers.loadgen.ms.n000000.lower", TIMES[1], 10.0),
        ("stats.timers.loadgen.ms.n000000.upper", TIMES[0], 30.0),
        ("stats.timers.loadgen.ms.n000000.upper", TIMES[1], 10.0),
        ("stats.timers.loadgen.ms.n000000.sum", TIMES[0], 30.0),
        ("stats.timers.loadgen.ms.n000000.sum", TIMES[1], 10.0),
        ("stats.gauges.loadgen.g.n000000", TIMES[0], 100.0),
        ("stats.gauges.loadgen.g.n000000", TIMES[1], 70.0),
        ("stats.sets.loadgen.s.n000000.count", TIMES[0], 1.0),
        ("stats.sets.loadgen.s.n000000.count", TIMES[1], 2.0),
        ("stats_counts.statsd.metrics_received", TIMES[0], 11.0),
        ("stats_counts.statsd.packets_received", TIMES[0], 2.0),
        ("stats_counts.statsd.bad_lines_seen", TIMES[0], 1.0),
    ];
    for &(name, time, value) in changes {
        match points.iter_mut().find(|point| (point.0, point.1) == (name, time)) {
            Some(point) => point.2 = value,
            None => points.push((name, time, value)),
        }
    }
    let mut received = Received::default();
    for (name, timestamp, value) in points {
        received.record(name, Point { timestamp, value });
    }
    received
}

fn compared(changes: &[(&str, i64, f64)]) -> Comparison {
    let terms = terms();
    compare(&terms, &sent(&terms), &received(changes))
}

/// The only difference there is, as (name, sent, received).
fn only(comparison: &Comparison) -> (&str, &str, &str) {
    assert_eq!(comparison.difference_count, 1, "{:?}", comparison.differences);
    let difference = &comparison.differences[0];
    (&difference.name, &difference.sent, &difference.received)
}

#[test]
fn books_that_balance_are_explained() {
    let comparison = compared(&[]);
    assert!(comparison.is_explained(), "{:?}", comparison.differences);
    assert_eq!(
        comparison.tallies.map(|tally| (tally.names, tally.explained)),
        [(2, 2), (1, 1), (1, 1), (1, 1)]
    );
    assert_eq!((comparison.lines_lost, comparison.datagrams_lost), (0, Some(0)));
}

#[test]
fn nothing_received_is_a_difference_for_every_name() {
    let terms = terms();
    let comparison = compare(&terms, &sent(&terms), &Received::default());
    assert_eq!(comparison.tallies.map(|tally| tally.explained), [0; 4]);
    // Two counters, a timer, a gauge, a set and three of the daemon's own.
    assert_eq!(comparison.difference_count, 8);
    assert_eq!(comparison.lines_lost, 11);
}

#[test]
fn a_single_missing_increment_is_found() {
    let comparison = compared(&[("stats_counts.loadgen.c.n000000", TIMES[1], 19.0)]);
    assert_eq!(only(&comparison), ("stats_counts.loadgen.c.n000000", "25", "24"));
    assert_eq!(comparison.tallies[0], Tally { names: 2, explained: 1 });
}

#[test]
fn an_increment_too_many_is_found() {
    let comparison = compared(&[("stats_counts.loadgen.c.n000000", TIMES[2], 1.0)]);
    assert_eq!(only(&comparison), ("stats_counts.loadgen.c.n000000", "25", "26"));
}

#[test]
fn a_wrong_gauge_is_found() {
    let comparison = compared(&[("stats.gauges.loadgen.g.n000000", TIMES[1], 100.0)]);
    assert_eq!(only(&comparison), ("stats.gauges.loadgen.g.n000000", "70", "100"));
}

#[test]
fn a_lost_timer_value_is_found() {
    let comparison = compared(&[("stats.timers.loadgen.ms.n000000.count", TIMES[0], 0.0)]);
    assert_eq!(only(&comparison), ("stats.timers.loadgen.ms.n000000.count", "5", "4"));
}

#[test]
fn a_timer_value_that_changed_on_the_way_is_found() {
    for derived in ["lower", "upper", "sum"] {
        let name = format!("stats.timers.loadgen.ms.n000000.{derived}");
        let comparison = compared(&[(&name, TIMES[0], 9.0)]);
        assert_eq!(only(&comparison).0, name);
    }
}

#[test]
fn a_set_outside_its_bounds_is_found() {
    let name = "stats.sets.loadgen.s.n000000.count";
    // Below the distinct members over all intervals.
    assert_eq!(only(&compared(&[(name, TIMES[0], 0.0), (name, TIMES[1], 1.0)])).0, name);
    // One interval above the distinct members.
    assert_eq!(only(&compared(&[(name, TIMES[0], 0.0), (name, TIMES[1], 3.0)])).0, name);
    // More members than lines.
    assert_eq!(only(&compared(&[(name, TIMES[0], 2.0), (name, TIMES[1], 2.0)])).0, name);
}

#[test]
fn a_set_of_one_interval_must_be_exact() {
    let name = "stats.sets.loadgen.s.n000000.count";
    assert!(compared(&[(name, TIMES[0], 0.0)]).is_explained());
    assert!(!compared(&[(name, TIMES[0], 0.0), (name, TIMES[1], 1.0)]).is_explained());
}

#[test]
fn two_values_for_one_timestamp_are_found() {
    let terms = terms();
    let mut received = received(&[]);
    let timestamp = TIMES[0];
    // The total still balances: the first value was merely overwritten on the way to 5.
    received.record("stats_counts.loadgen.c.n000000", Point { timestamp, value: 4.0 });
    received.record("stats_counts.loadgen.c.n000000", Point { timestamp, value: 5.0 });
    let comparison = compare(&terms, &sent(&terms), &received);
    assert_eq!(comparison.difference_count, 2);
    assert_eq!(
        comparison.differences[0],
        Difference {
            name: "stats_counts.loadgen.c.n000000 at 1000, two values".to_owned(),
            sent: "5".to_owned(),
            received: "4".to_owned(),
        }
    );
}

#[test]
fn conflicts_of_other_names_do_not_count_unless_there_are_too_many_to_tell() {
    let terms = terms();
    let mut received = received(&[]);
    for number in 0..=100 {
        received.record("stats.other", Point { timestamp: 1, value: f64::from(number) });
    }
    assert!(compare(&terms, &sent(&terms), &received).is_explained());
    received.record("stats.other", Point { timestamp: 1, value: -1.0 });
    let comparison = compare(&terms, &sent(&terms), &received);
    assert_eq!(only(&comparison), ("further points with two values", "0", "1"));
}

#[test]
fn the_same_point_again_is_no_difference() {
    let terms = terms();
    let mut received = received(&[]);
    let point = Point { timestamp: TIMES[0], value: 5.0 };
    received.record("stats_counts.loadgen.c.n000000", point);
    let comparison = compare(&terms, &sent(&terms), &received);
    assert!(comparison.is_explained());
    assert_eq!(comparison.repeats, 1);
}

#[test]
fn a_bad_line_that_was_not_counted_is_found() {
    let comparison = compared(&[("stats_counts.statsd.bad_lines_seen", TIMES[0], 0.0)]);
    assert_eq!(only(&comparison), ("stats_counts.statsd.bad_lines_seen", "1", "0"));
}

#[test]
fn lost_lines_are_counted_by_the_daemons_own_word() {
    let comparison = compared(&[("stats_counts.statsd.metrics_received", TIMES[0], 8.0)]);
    assert_eq!(comparison.lines_lost, 3);
    assert!(!comparison.is_explained());
}

#[test]
fn a_shared_daemon_may_have_received_more_but_not_less() {
    let shared = Terms { is_shared: true, ..terms() };
    let name = "stats_counts.statsd.metrics_received";
    let more = received(&[(name, TIMES[0], 12.0)]);
    assert!(compare(&shared, &sent(&shared), &more).is_explained());
    assert!(!compare(&terms(), &sent(&shared), &more).is_explained());
    let less = received(&[(name, TIMES[0], 10.0)]);
    assert!(!compare(&shared, &sent(&shared), &less).is_explained());
}

#[test]
fn a_name_that_nothing_was_sent_to_is_found() {
    for name in [
        "stats_counts.loadgen.bad.n000001",
        "stats_counts.loadgen.c.n000009",
        "stats_counts.loadgen.g.n000000",
        "stats.timers.loadgen.ms.n000001.count",
        "stats.sets.loadgen.s.x.count",
    ] {
        assert_eq!(only(&compared(&[(name, TIMES[0], 2.0)])), (name, "nothing", "2"));
        assert!(compared(&[(name, TIMES[0], 0.0)]).is_explained());
    }
    assert!(compared(&[("stats_counts.other.thing", TIMES[0], 2.0)]).is_explained());
}

#[test]
fn what_carbon_would_refuse_is_found() {
    let terms = terms();
    let mut received = received(&[]);
    received.refused = 2;
    assert_eq!(only(&compare(&terms, &sent(&terms), &received)).2, "2");
}

#[test]
fn the_books_of_two_senders_add_up() {
    let terms = terms();
    let mut first = Sent::new(&terms.keys);
    let mut second = Sent::new(&terms.keys);
    first.record(Line::Counter { index: 0, amount: 5 });
    second.record(Line::Counter { index: 0, amount: 20 });
    second.record(Line::Counter { index: 1, amount: 7 });
    first.record(Line::Timer { index: 0, value_ms: 30, weight: 1 });
    second.record(Line::Timer { index: 0, value_ms: 10, weight: 4 });
    first.record(Line::GaugeSet { index: 0, value: 70 });
    first.record(Line::Set { index: 0, member: 3 });
    second.record(Line::Set { index: 0, member: 200 });
    second.record(Line::Set { index: 0, member: 3 });
    second.record(Line::Bad);
    second.record(Line::Bad);
    first.datagrams = 1;
    second.datagrams = 1;
    // One line fewer and one bad line more than in `sent`: a delta is missing here.
    first.merge(&second);
    let name = "stats_counts.statsd.bad_lines_seen";
    let mut received = received(&[(name, TIMES[0], 2.0)]);
    received.record("stats.gauges.loadgen.g.n000001", Point { timestamp: 1, value: 1.0 });
    let comparison = compare(&terms, &first, &received);
    assert!(comparison.is_explained(), "{:?}", comparison.differences);
}
