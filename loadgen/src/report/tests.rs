//! The report in both forms, from made-up rounds.

use super::*;
use crate::compose::{End, Packing};
use crate::ledger::{Difference, Tally};
use crate::pacer::{Pacing, lag_histogram};
use crate::process::{Thread, UdpSocket};
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
        lines: 1_000,
        datagrams: 100,
        bytes: 20_000,
        elapsed: Duration::from_secs(2),
        lag,
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
    Usage { pid: 7, window: Duration::from_secs(2), figures, is_drained: true }
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
    let mut sent = Sent::new(&Keys::new(&shape()));
    sent.bad = 10;
    let (plan, round, usage) = (plan("127.0.0.1:8125"), round(), usage());
    read(&Report {
        seed: 42,
        plan: &plan,
        round: &round,
        sent: &sent,
        refused: 0,
        usage: Some(&usage),
        moments: &[Moment { lines: 3, figures: Some(usage.figures.clone()), ..Moment::default() }],
        latency: Some(&latency()),
        statements,
    })
}

fn text(statements: &[Statement]) -> String {
    with(statements, |report| {
        let mut out = Vec::new();
        report.write_text(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    })
}

#[test]
fn the_text_tells_rates_and_verdict() {
    let text = text(&[("text sink".to_owned(), Ok(short(0)))]);
    assert!(text.contains("1000 lines (10 bad) in 100 datagrams, 20000 bytes"), "{text}");
    assert!(text.contains("500 lines/s, 50 datagrams/s, 10000 bytes/s"), "{text}");
    assert!(text.contains("600 lines/s asked for; lag p50 2.0 µs"), "{text}");
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
    assert!(text.contains("lost 3 lines"), "{text}");
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
