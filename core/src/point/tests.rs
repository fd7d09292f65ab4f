//! Claims: rows become the reference daemon's points, name for name and digit for digit. Method:
//! small rows, archived in memory, against lines recorded from the reference daemon.

use std::collections::BTreeSet;

use super::for_each_point;
use crate::config::settings::{LegacyNamespace, NamespaceSettings};
use crate::namespace::Namespace;
use crate::number_text::push_number;
use crate::row::{ArchivedRows, HistogramRule, NameColumn, Rows, ThresholdColumns, TimerColumns};

fn names(names: &[&str]) -> NameColumn {
    let mut column = NameColumn::default();
    for name in names {
        column.push(name.as_bytes());
    }
    column
}

fn lines(rows: &Rows, settings: &NamespaceSettings) -> Vec<String> {
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(rows).unwrap();
    let archived = rkyv::access::<ArchivedRows, rkyv::rancor::Error>(&bytes).unwrap();
    let mut lines = Vec::new();
    for_each_point(archived, &Namespace::new(settings), |name, value| {
        let mut line = name.to_vec();
        line.push(b' ');
        push_number(&mut line, value);
        lines.push(String::from_utf8(line).unwrap());
    });
    lines
}

/// `lines`, without the two points of the flush itself.
fn series_lines(rows: &Rows, settings: &NamespaceSettings) -> Vec<String> {
    let mut lines = lines(rows, settings);
    lines.truncate(lines.len() - 2);
    lines
}

fn empty(flush_interval_ms: u64) -> Rows {
    Rows { flush_interval_ms, prefix_stats: "statsd".into(), ..Rows::default() }
}

/// Golden `naming`, all cases: counter `a.b` 4, timer `a.b` 10 and 20, gauge `a.b` 3, set `a.b`.
fn one_of_each(key: &str) -> Rows {
    Rows {
        series_count: 8,
        processing_time_ms: 1,
        names: names(&[key, key, key, key]),
        counters: vec![4.0],
        timers: TimerColumns {
            value_counts: vec![2],
            counts: vec![2.0],
            deviations: vec![5.0],
            uppers: vec![20.0],
            lowers: vec![10.0],
            sums: vec![30.0],
            sums_squares: vec![500.0],
            means: vec![15.0],
            medians: vec![15.0],
            thresholds: vec![ThresholdColumns {
                suffix: "90".into(),
                is_upper: true,
                counts: vec![2],
                means: vec![15.0],
                boundaries: vec![20.0],
                sums: vec![30.0],
                sums_squares: vec![500.0],
            }],
            histogram_rules: Vec::new(),
            histogram_rule_indexes: vec![0],
            bin_ends: vec![0],
            bin_counts: Vec::new(),
        },
        gauges: vec![3.0],
        sets: vec![1],
        ..empty(500)
    }
}

/// Golden `timers`: `t` = 450 120 553 994 334 844 675 496 101 7, with the given thresholds.
fn timer_of_ten(thresholds: Vec<ThresholdColumns>) -> Rows {
    Rows {
        names: names(&["t"]),
        timers: TimerColumns {
            value_counts: vec![10],
            counts: vec![10.0],
            deviations: vec![308.930_477_615_919_24],
            uppers: vec![994.0],
            lowers: vec![7.0],
            sums: vec![4574.0],
            sums_squares: vec![3_046_528.0],
            means: vec![457.4],
            medians: vec![473.0],
            thresholds,
            histogram_rules: Vec::new(),
            histogram_rule_indexes: vec![0],
            bin_ends: vec![0],
            bin_counts: Vec::new(),
        },
        ..empty(500)
    }
}

fn upper(suffix: &str, count: u64, mean: f64, boundary: f64, sum: f64) -> ThresholdColumns {
    ThresholdColumns {
        suffix: suffix.into(),
        is_upper: true,
        counts: vec![count],
        means: vec![mean],
        boundaries: vec![boundary],
        sums: vec![sum],
        sums_squares: vec![2_058_492.0],
    }
}

#[test]
fn legacy_names_stand_in_the_order_of_the_reference() {
    let rows = one_of_each("a.b");
    let ignored = NamespaceSettings {
        global_prefix: "gp".into(),
        prefix_counter: "pc".into(),
        prefix_timer: "pt".into(),
        prefix_gauge: "pg".into(),
        prefix_set: "ps".into(),
        ..NamespaceSettings::default()
    };
    assert_eq!(
        lines(&rows, &ignored),
        [
            "stats.a.b 8",
            "stats_counts.a.b 4",
            "stats.timers.a.b.count_90 2",
            "stats.timers.a.b.mean_90 15",
            "stats.timers.a.b.upper_90 20",
            "stats.timers.a.b.sum_90 30",
            "stats.timers.a.b.sum_squares_90 500",
            "stats.timers.a.b.std 5",
            "stats.timers.a.b.upper 20",
            "stats.timers.a.b.lower 10",
            "stats.timers.a.b.count 2",
            "stats.timers.a.b.count_ps 4",
            "stats.timers.a.b.sum 30",
            "stats.timers.a.b.sum_squares 500",
            "stats.timers.a.b.mean 15",
            "stats.timers.a.b.median 15",
            "stats.gauges.a.b 3",
            "stats.sets.a.b.count 1",
            "statsd.numStats 8",
            "stats.statsd.processing_time 1",
        ]
    );
}

#[test]
fn new_names_bear_kind_rate_count_and_suffix() {
    let settings = NamespaceSettings {
        legacy: LegacyNamespace::New,
        global_suffix: "web01".into(),
        ..NamespaceSettings::default()
    };
    let lines: BTreeSet<_> = lines(&one_of_each("a.b"), &settings).into_iter().collect();
    for expected in [
        "stats.counters.a.b.count.web01 4",
        "stats.counters.a.b.rate.web01 8",
        "stats.gauges.a.b.web01 3",
        "stats.sets.a.b.count.web01 1",
        "stats.statsd.numStats.web01 8",
        "stats.statsd.processing_time.web01 1",
        "stats.timers.a.b.count_ps.web01 4",
        "stats.timers.a.b.sum_squares_90.web01 500",
    ] {
        assert!(lines.contains(expected), "{expected} in {lines:?}");
    }
    assert_eq!(lines.len(), 20);
}

#[test]
fn suffix_stands_before_the_tags() {
    let settings = NamespaceSettings {
        legacy: LegacyNamespace::New,
        global_suffix: "h1".into(),
        prefix_counter: "cnt".into(),
        ..NamespaceSettings::default()
    };
    let lines = lines(&one_of_each("n;env=prod;host=a"), &settings);
    assert_eq!(lines[0], "stats.cnt.n.rate.h1;env=prod;host=a 8");
    assert_eq!(lines[1], "stats.cnt.n.count.h1;env=prod;host=a 4");
    assert_eq!(lines[3], "stats.timers.n.mean_90.h1;env=prod;host=a 15");
    assert_eq!(lines[16], "stats.gauges.n.h1;env=prod;host=a 3");
    assert_eq!(lines[17], "stats.sets.n.count.h1;env=prod;host=a 1");
}

#[test]
fn counts_are_left_out_without_flush_counts() {
    let settings = NamespaceSettings { flush_counts: false, ..NamespaceSettings::default() };
    let lines = lines(&one_of_each("a.b"), &settings);
    assert_eq!(lines[0], "stats.a.b 8");
    assert_eq!(lines[1], "stats.timers.a.b.count_90 2");
}

#[test]
fn two_raw_keys_may_share_one_name() {
    let rows =
        Rows { names: names(&["a b", "a_b", ""]), counters: vec![1.0, 2.0, 3.0], ..empty(500) };
    assert_eq!(
        series_lines(&rows, &NamespaceSettings::default()),
        [
            "stats.a_b 2",
            "stats_counts.a_b 1",
            "stats.a_b 4",
            "stats_counts.a_b 2",
            "stats. 6",
            "stats_counts. 3",
        ]
    );
}

#[test]
fn idle_timer_sends_its_two_counts_only() {
    let mut rows = timer_of_ten(vec![upper("90", 0, 0.0, 0.0, 0.0)]);
    rows.timers.value_counts = vec![0];
    rows.timers.counts = vec![0.0];
    assert_eq!(
        series_lines(&rows, &NamespaceSettings::default()),
        ["stats.timers.t.count 0", "stats.timers.t.count_ps 0"]
    );
}

#[test]
fn filter_applies_to_idle_timers() {
    let mut rows = timer_of_ten(Vec::new());
    rows.timers.value_counts = vec![0];
    rows.timers.counts = vec![0.0];
    rows.calculated_timer_metrics =
        ["count_ps", "mean", "sum_squares_percent"].map(String::from).to_vec();
    assert_eq!(series_lines(&rows, &NamespaceSettings::default()), ["stats.timers.t.count_ps 0"]);
}

#[test]
fn threshold_that_selects_nothing_is_left_out() {
    let rows = timer_of_ten(vec![
        upper("4", 0, 0.0, 0.0, 0.0),
        upper("90", 9, 397.777_777_777_777_77, 844.0, 3580.0),
    ]);
    assert_eq!(
        series_lines(&rows, &NamespaceSettings::default())[..6],
        [
            "stats.timers.t.count_90 9",
            "stats.timers.t.mean_90 397.77777777777777",
            "stats.timers.t.upper_90 844",
            "stats.timers.t.sum_90 3580",
            "stats.timers.t.sum_squares_90 2058492",
            "stats.timers.t.std 308.93047761591924",
        ]
    );
}

#[test]
fn filter_keeps_what_is_listed_and_all_bins() {
    let lower = ThresholdColumns {
        suffix: "top10".into(),
        is_upper: false,
        counts: vec![1],
        means: vec![994.0],
        boundaries: vec![994.0],
        sums: vec![994.0],
        sums_squares: vec![988_036.0],
    };
    let mut rows = timer_of_ten(vec![upper("90", 9, 397.777_777_777_777_77, 844.0, 3580.0), lower]);
    rows.calculated_timer_metrics =
        ["count", "median", "upper_percent", "lower_percent", "histogram"].map(String::from).into();
    rows.timers.histogram_rules =
        vec![HistogramRule { bin_names: vec!["bin_500".into(), "bin_inf".into()] }];
    rows.timers.histogram_rule_indexes = vec![1];
    rows.timers.bin_ends = vec![2];
    rows.timers.bin_counts = vec![6, 4];
    assert_eq!(
        series_lines(&rows, &NamespaceSettings::default()),
        [
            "stats.timers.t.upper_90 844",
            "stats.timers.t.lower_top10 994",
            "stats.timers.t.count 10",
            "stats.timers.t.median 473",
            "stats.timers.t.histogram.bin_500 6",
            "stats.timers.t.histogram.bin_inf 4",
        ]
    );
}

#[test]
fn fractional_threshold_is_kept_by_its_whole_part_and_percent() {
    let mut rows = timer_of_ten(vec![
        upper("99_5", 10, 457.4, 994.0, 4574.0),
        upper("75", 8, 1.0, 675.0, 1.0),
    ]);
    rows.calculated_timer_metrics =
        ["upper_percent", "mean_99_percent", "upper_75"].map(String::from).into();
    assert_eq!(
        series_lines(&rows, &NamespaceSettings::default()),
        ["stats.timers.t.mean_99_5 457.4", "stats.timers.t.upper_75 675"]
    );
}

#[test]
fn bins_belong_to_their_own_row() {
    let mut rows = timer_of_ten(Vec::new());
    rows.names = names(&["none", "t", "u"]);
    let timers = &mut rows.timers;
    timers.value_counts = vec![1, 1, 1];
    for column in [
        &mut timers.counts,
        &mut timers.deviations,
        &mut timers.uppers,
        &mut timers.lowers,
        &mut timers.sums,
        &mut timers.sums_squares,
        &mut timers.means,
        &mut timers.medians,
    ] {
        *column = vec![1.0, 2.0, 3.0];
    }
    timers.histogram_rules = vec![
        HistogramRule { bin_names: vec!["bin_5".into()] },
        HistogramRule { bin_names: vec!["bin_0_01".into(), "bin_inf".into()] },
    ];
    timers.histogram_rule_indexes = vec![0, 2, 1];
    timers.bin_ends = vec![0, 2, 3];
    timers.bin_counts = vec![7, 8, 9];
    let lines: Vec<_> = series_lines(&rows, &NamespaceSettings::default())
        .into_iter()
        .filter(|line| line.contains("histogram"))
        .collect();
    assert_eq!(
        lines,
        [
            "stats.timers.t.histogram.bin_0_01 7",
            "stats.timers.t.histogram.bin_inf 8",
            "stats.timers.u.histogram.bin_5 9",
        ]
    );
}

#[test]
fn later_parts_have_no_points_of_the_flush() {
    let rows = Rows { part_index: 1, names: names(&["a"]), gauges: vec![1.0], ..empty(500) };
    assert_eq!(lines(&rows, &NamespaceSettings::default()), ["stats.gauges.a 1"]);
}

#[test]
fn books_are_points_when_asked_for() {
    let mut rows = empty(500);
    rows.books.names = names(&["datagrams_received", "values_rejected.rate"]);
    rows.books.values = vec![12.0, 1.0];
    let quiet = ["statsd.numStats 0", "stats.statsd.processing_time 0"];
    assert_eq!(lines(&rows, &NamespaceSettings::default()), quiet);
    rows.books.are_points = true;
    assert_eq!(
        lines(&rows, &NamespaceSettings::default())[2..],
        ["stats.statsd.floe.datagrams_received 12", "stats.statsd.floe.values_rejected.rate 1"]
    );
}

#[test]
fn column_shorter_than_its_names_yields_not_a_number() {
    let mut rows = one_of_each("a.b");
    rows.timers.medians.clear();
    rows.timers.thresholds[0].counts.clear();
    rows.timers.bin_ends.clear();
    rows.timers.histogram_rule_indexes = vec![9];
    let lines = lines(&rows, &NamespaceSettings::default());
    assert!(lines.contains(&"stats.timers.a.b.median NaN".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("_90")), "{lines:?}");
}
