//! The report in both forms, from made-up rounds.

use super::*;
use std::time::Duration;

use super::origin::tests::origin;
use crate::compose::{End, Packing};
use crate::ledger::{Difference, Tally};
use crate::pacer::{Pacing, lag_histogram};
use crate::process::{Figures, Thread, UdpSocket};
use crate::sender::Manner;
use crate::target::Target;
use crate::workload::{Keys, tests::shape};

fn plan(target: &str) -> Plan {
    Plan {
        target: Target::read(target).unwrap(),
        packing: Packing { datagram_bytes_max: 1_400, is_single: false, end: End::Bare },
        senders: 2,
        sockets: 3,
        rotation_lines: None,
        manner: Manner { pacing: Pacing::Spin, burst: 1, quiet: None, is_stream: false },
    }
}

fn round() -> Round {
    let mut lag = lag_histogram();
    for ns in [1_000, 2_000, 3_000_000] {
        lag.record(ns).unwrap();
    }
    Round {
        offered: Some(600),
        lines_max: u64::MAX,
        lines: 1_000,
        datagrams: 100,
        bytes: 20_000,
        elapsed: Duration::from_secs(2),
        due: 1_200,
        lag,
        failures: Vec::new(),
    }
}

fn usage() -> Usage {
    let thread =
        |id, name: &str, cpu_ns| Thread { id, name: name.to_owned(), cpu_ns, switches: [3, 4] };
    let socket = UdpSocket {
        inode: 9,
        address: "127.0.0.1:8125".parse().unwrap(),
        queue_bytes: 0,
        drops: 20,
    };
    let figures = Figures {
        threads: vec![thread(7, "idle", 0), thread(8, "worker-0", 80_000)],
        sockets: vec![socket],
        resident_bytes: 40 << 20,
    };
    let (window, is_drained) = (Duration::from_secs(2), Some(true));
    Usage { pid: 7, window, figures, why_unknown: None, is_drained }
}

/// 100 probes 10 ms apart, of which 90 were seen after 1 to 90 ms.
fn latency() -> Latency {
    let mut latency = Latency::new(100, Duration::from_millis(10));
    for ms in 1..=90 {
        latency.all.record(ms * 1_000_000).unwrap();
    }
    latency.youngest.record(1_000_000).unwrap();
    latency
}

fn short(count: usize) -> Comparison {
    let difference = |number: usize| Difference {
        name: format!("stats_counts.n{number}"),
        sent: "25".to_owned(),
        received: "24".to_owned(),
    };
    Comparison {
        tallies: [Tally { names: 20, explained: 20 - count as u64 }; 4],
        differences: (0..count).map(difference).collect(),
        difference_count: count as u64,
        lines_lost: 3,
        ..Comparison::default()
    }
}

/// Calls `read` with a report of `statements`.
fn with<T>(statements: &[Statement], read: impl Fn(&Report<'_>) -> T) -> T {
    with_usage(statements, Ok(usage()), read)
}

fn with_usage<T>(
    statements: &[Statement],
    usage: Result<Usage, String>,
    read: impl Fn(&Report<'_>) -> T,
) -> T {
    let mut sent = Sent::new(&Keys::new(&shape()));
    sent.bad = 10;
    let (plan, round) = (plan("127.0.0.1:8125"), round());
    let figures = usage.as_ref().ok().map(|usage| usage.figures.clone());
    read(&Report {
        origin: &origin(&[]),
        seed: 42,
        plan: &plan,
        round: &round,
        sent: &sent,
        refused: Refused::default(),
        usage: Some(&usage),
        moments: &[Moment { lines: 3, figures, ..Moment::default() }],
        latency: Some(&latency()),
        statements,
        interrupted: None,
    })
}

fn text(statements: &[Statement]) -> String {
    with(statements, text_of)
}

fn text_of(report: &Report<'_>) -> String {
    let mut out = Vec::new();
    report.write_text(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_text_tells_rates_and_verdict() {
    let text = text(&[("text sink".to_owned(), Ok(short(0)))]);
    assert!(text.contains("1000 lines (10 bad) in 100 datagrams, 20000 bytes"), "{text}");
    assert!(text.contains("500 lines/s, 50 datagrams/s, 10000 bytes/s"), "{text}");
    assert!(text.contains("behind at the end; p50 2.0 µs"), "{text}");
    assert!(text.contains("counters 20 of 20 explained"), "{text}");
    assert!(text.ends_with("verdict    explained\n"), "{text}");
}

#[test]
fn the_text_shows_the_first_differences_and_their_number() {
    let text = text(&[("text sink".to_owned(), Ok(short(12)))]);
    assert!(text.contains("stats_counts.n0                "), "{text}");
    assert!(text.contains("stats_counts.n9"), "{text}");
    assert!(!text.contains("stats_counts.n10"), "{text}");
    assert!(text.contains("10 of 12 differences shown"), "{text}");
    assert!(text.contains("0 refused; 3 lines lost\n"), "{text}");
    assert!(text.ends_with("verdict    not explained\n"), "{text}");
}

/// 80 of 100 datagrams were taken, so 800 of 1,000 lines, for 80 µs.
#[test]
fn the_daemons_time_is_shared_out_over_what_it_took() {
    let text = text(&[]);
    assert!(text.contains("20 datagrams dropped"), "{text}");
    assert!(text.contains("100.0 ns per line,   1000.0 ns per datagram"), "{text}");
    assert!(text.contains("127.0.0.1:8125 dropped 20 (20.000 %)"), "{text}");
    assert!(!text.contains("idle"), "{text}");
    let json = with(&[], |report| report.to_json());
    assert_eq!(json["daemon"]["threads"][1]["cpu_ns_per_line"], 100.0);
    assert_eq!(json["daemon"]["threads"][1]["cpu_ns"], 80_000);
    assert_eq!(json["daemon"]["sockets"][0]["drops"], 20);
    assert_eq!(json["daemon"]["drops"], 20);
    assert_eq!(
        (&json["moments"][0]["lines"], &json["moments"][0]["drops"]),
        (&3.into(), &20.into())
    );
}

#[test]
fn the_latency_says_what_it_contains() {
    let text = text(&[]);
    assert!(text.contains("100 probes, 90 seen; with the wait for the flush: p50 45"), "{text}");
    assert!(text.contains("youngest of each of 1 flushes"), "{text}");
    let json = with(&[], |report| report.to_json());
    assert_eq!((&json["latency"]["probes"], &json["latency"]["seen"]), (&100.into(), &90.into()));
    assert!(89.0 < json["latency"]["ms_max"].as_f64().unwrap());
}

#[test]
fn a_run_without_a_witness_is_not_checked() {
    assert!(text(&[]).ends_with("verdict    not checked\n"));
}

#[test]
fn the_json_has_pace_and_every_witness() {
    let statements = [
        ("text sink".to_owned(), Ok(short(1))),
        ("graphite".to_owned(), Err("does not answer".to_owned())),
    ];
    let json = with(&statements, |report| report.to_json());
    assert_eq!(json["verdict"], "not explained");
    assert_eq!((&json["lines_per_s"], &json["offered_lines_per_s"]), (&500.0.into(), &600.into()));
    assert!(3.0 <= json["lag_ms_max"].as_f64().unwrap());
    assert_eq!((&json["senders"], &json["sockets"]), (&2.into(), &6.into()));
    assert_eq!(json["witnesses"][0]["counters"]["explained"], 19);
    assert_eq!(json["witnesses"][0]["differences"][0]["received"], "24");
    assert_eq!(json["witnesses"][1]["error"], "does not answer");
}

#[test]
fn r4_lines_of_others_are_not_a_negative_loss() {
    let surplus = Comparison { lines_lost: -7, datagrams_lost: Some(0), ..short(1) };
    let text = text(&[("text sink".to_owned(), Ok(surplus))]);
    assert!(text.contains("0 refused; 7 lines too many, 0 datagrams lost\n"), "{text}");
}

#[test]
fn times_are_shown_with_few_digits() {
    for (ns, shown) in [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_500, "1.5 µs"),
        (2_000_000, "2.00 ms"),
        (3 << 30, "3.22 s"),
    ] {
        assert_eq!(show_ns(ns), shown);
    }
}

/// 600 lines/s over 2 s are 1,200 lines, and 1,000 left.
#[test]
fn r4_a_rate_that_was_not_kept_is_said_to_be_missed() {
    let text = text(&[]);
    let pace =
        "pace       NOT KEPT: 83.33 % of the 600 lines/s asked for; the sender is too slow\n";
    assert!(text.contains(pace), "{text}");
    assert!(text.contains("lag        333.33 ms (200 lines) behind at the end"), "{text}");
    let json = with(&[], |report| report.to_json());
    assert_eq!((&json["offered_percent"], &json["offered_kept"]), (&83.33.into(), &false.into()));
    assert_eq!(json["behind_lines"], 200);
    assert!(with(&[], |report| page::of_run(report).unwrap()).contains("NOT KEPT"));
}

#[test]
fn nobody_is_behind_by_lines_that_were_not_asked_for() {
    let (words, json) = with(&[], |report| {
        let round = Round { lines_max: 1_000, ..round() };
        let report = Report { round: &round, ..*report };
        (text_of(&report), report.to_json())
    });
    assert!(words.contains("lag        333.33 ms behind at the end; "), "{words}");
    assert_eq!(json["behind_lines"], 0);
}

#[test]
fn a_rate_of_which_nothing_was_due_was_neither_kept_nor_missed() {
    let (words, json) = with(&[], |report| {
        let round = Round { lines: 0, due: 0, ..round() };
        let report = Report { round: &round, ..*report };
        (text_of(&report), report.to_json())
    });
    let pace = "pace       nothing was due yet at the 600 lines/s asked for\ndaemon";
    assert!(words.contains(pace), "{words}");
    for name in ["offered_percent", "offered_kept", "behind_lines", "lag_ms_max"] {
        assert_eq!(json[name], Value::Null, "{name}");
    }
}

#[test]
fn r4_what_has_no_meaning_without_a_rate_is_not_told() {
    let (words, json) = with(&[], |report| {
        let round = Round { offered: None, due: 1_000, ..round() };
        let report = Report { round: &round, ..*report };
        (text_of(&report), report.to_json())
    });
    assert!(words.contains("pace       as fast as the sender can\ndaemon"), "{words}");
    for name in ["offered_lines_per_s", "offered_percent", "behind_ms", "lag_ms_max"] {
        assert_eq!(json[name], Value::Null, "{name}");
    }
}

#[test]
fn r4_a_report_of_an_interrupted_run_says_so() {
    let statements = [("text sink".to_owned(), Ok(short(1)))];
    let interrupted = Some(Signal::Terminate);
    let (words, json, page) = with(&statements, |report| {
        let report = Report { interrupted, ..*report };
        assert!(matches!(report.outcome(), Outcome::Interrupted(Signal::Terminate)));
        (text_of(&report), report.to_json(), page::of_run(&report).unwrap())
    });
    assert!(words.starts_with("interrupted by SIGTERM: "), "{words}");
    assert!(words.contains("verdict    interrupted: what is missing above may still"), "{words}");
    assert_eq!(
        (&json["verdict"], &json["interrupted_by"]),
        (&"interrupted".into(), &"SIGTERM".into())
    );
    assert!(page.contains("interrupted by SIGTERM"));
}

#[test]
fn r4_drops_that_were_not_measured_are_not_zero() {
    let mut unknown = usage();
    unknown.figures.sockets.clear();
    unknown.why_unknown = Some("the target is not on this machine");
    unknown.is_drained = None;
    let (words, json) = with_usage(&[], Ok(unknown), |report| (text_of(report), report.to_json()));
    assert!(words.contains("drops not known: the target is not on this machine\n"), "{words}");
    let daemon = &json["daemon"];
    assert_eq!((&daemon["drops"], &daemon["drained"]), (&Value::Null, &Value::Null));
    assert_eq!(daemon["drops_not_known"], "the target is not on this machine");
    assert_eq!(json["moments"][0]["drops"], Value::Null);
}

#[test]
fn r4_failures_and_refusals_are_told_and_end_a_run_badly() {
    let failures = vec!["sender 1 gave up after 7 lines: gone".to_owned()];
    let round = Round { failures, ..round() };
    let refused = Refused { closed_port: 9, unreachable: 0 };
    let told = |report: &Report<'_>| match report.outcome() {
        Outcome::Failed(why) => (why, text_of(report)),
        other => panic!("{other:?}"),
    };
    let (why, words) = with(&[], |report| told(&Report { round: &round, ..*report }));
    assert_eq!(why, "sender 1 gave up after 7 lines: gone");
    assert!(words.contains("failed     sender 1 gave up after 7 lines: gone\n"), "{words}");
    let (why, words) = with(&[], |report| told(&Report { refused, ..*report }));
    assert!(why.starts_with("9 sends to udp:127.0.0.1:8125 were refused: nobody listens"), "{why}");
    assert!(words.contains("refused    9 sends: nobody listens at the port (9)\n"), "{words}");
    let gone = || Err("/proc/7 is gone (--pid)".to_owned());
    let (why, words) = with_usage(&[], gone(), told);
    assert_eq!(why, "/proc/7 is gone (--pid)");
    assert!(words.contains("daemon     not known: /proc/7 is gone (--pid)\n"), "{words}");
}
