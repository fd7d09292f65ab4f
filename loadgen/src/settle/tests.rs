//! End to end in one process: the real sender and the real sink, with a statsd of a few lines between
//! them that can be told to make one mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::*;
use crate::fleet::Plan;
use crate::fleet::tests::{Datagram, plan, receiver, run, share};
use crate::naming::tests::legacy;
use crate::sink::Protocol;
use crate::workload::{Keys, Shape, tests::shape};

const LINES: u64 = 3_000;

/// Aggregates datagrams as the reference documents it, for the well-formed lines of this workload.
fn aggregate(datagrams: &[Datagram]) -> BTreeMap<String, f64> {
    let mut points: BTreeMap<String, f64> = BTreeMap::new();
    let mut members: BTreeSet<(String, String)> = BTreeSet::new();
    let mut add = |name: String, value: f64| *points.entry(name).or_insert(0.0) += value;
    let mut gauges: BTreeMap<String, f64> = BTreeMap::new();
    let mut timers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (_, datagram) in datagrams {
        add("stats_counts.statsd.packets_received".to_owned(), 1.0);
        let text = std::str::from_utf8(datagram).unwrap();
        for line in text.lines().filter(|line| !line.is_empty()) {
            add("stats_counts.statsd.metrics_received".to_owned(), 1.0);
            if line.starts_with("loadgen.bad.") {
                add("stats_counts.statsd.bad_lines_seen".to_owned(), 1.0);
                continue;
            }
            let (body, behind) = line.split_once("|#").unwrap_or((line, ""));
            let (key, value) = body.split_once(':').unwrap();
            let mut tags = behind.replace(':', "=").replace(',', ";");
            let (base, in_key) = key.split_once(';').unwrap_or((key, ""));
            if tags.is_empty() {
                in_key.clone_into(&mut tags);
            }
            let tags = if tags.is_empty() { tags } else { format!(";{tags}") };
            let fields: Vec<&str> = value.split('|').collect();
            let number = || fields[0].parse::<f64>().unwrap();
            let rate = fields.get(2).map_or(1.0, |rate| rate[1..].parse().unwrap());
            match fields[1] {
                "c" => add(format!("stats_counts.{base}{tags}"), number() * (1.0 / rate)),
                "ms" => {
                    add(format!("stats.timers.{base}.count{tags}"), 1.0 / rate);
                    timers.entry(format!("{base}|{tags}")).or_default().push(number());
                }
                "g" => {
                    let gauge = gauges.entry(format!("stats.gauges.{base}{tags}")).or_insert(0.0);
                    let is_delta = fields[0].starts_with(['+', '-']) && *gauge != 0.0;
                    *gauge = number() + if is_delta { *gauge } else { 0.0 };
                }
                "s" => {
                    let name = format!("stats.sets.{base}.count{tags}");
                    if members.insert((name.clone(), fields[0].to_owned())) {
                        add(name, 1.0);
                    }
                }
                other => panic!("type {other:?} in {line:?}"),
            }
        }
    }
    points.extend(gauges);
    for (key, values) in timers {
        let (base, tags) = key.split_once('|').unwrap();
        let mut name = |derived: &str, value: f64| {
            points.insert(format!("stats.timers.{base}.{derived}{tags}"), value);
        };
        name("sum", values.iter().sum());
        name("lower", values.iter().copied().fold(f64::INFINITY, f64::min));
        name("upper", values.iter().copied().fold(0.0, f64::max));
    }
    points
}

fn deliver(points: &BTreeMap<String, f64>, timestamp: i64, to: SocketAddr) {
    let mut stream = TcpStream::connect(to).unwrap();
    for (name, value) in points {
        writeln!(stream, "{name} {value} {timestamp}").unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the sink closes once it has read all");
}

/// Sends a workload, lets `mistake` change the points, and gives the sink's statement.
fn statement(mistake: impl FnOnce(&mut BTreeMap<String, f64>)) -> Comparison {
    let shape = Shape { streams: 2, ..shape() };
    let sink = Sink::bind(Protocol::Text, "127.0.0.1:0".parse().unwrap()).unwrap();
    let (target, datagrams) = receiver(usize::try_from(LINES).unwrap());
    let (_, sent, _) = run(&Plan { senders: 2, ..plan(target) }, share(LINES));
    let mut points = aggregate(&datagrams.join().unwrap());
    mistake(&mut points);
    deliver(&points, 1_700_000_000, sink.address());
    let terms =
        Terms { keys: Keys::new(&shape), naming: legacy(), is_shared: false, is_stream: false };
    let patience = Patience { settle: Duration::ZERO, confirm: Duration::ZERO };
    let mut statements = settle(&[Witness::Sink(sink)], &terms, &sent, patience, &Stop::default());
    assert_eq!(statements.len(), 1);
    statements.remove(0).1.unwrap()
}

fn named<'a>(points: &'a mut BTreeMap<String, f64>, prefix: &str) -> (&'a String, &'a mut f64) {
    points.iter_mut().find(|(name, _)| name.starts_with(prefix)).unwrap()
}

#[test]
fn a_right_daemon_is_explained_in_full() {
    let comparison = statement(|_| {});
    assert!(comparison.is_explained(), "{:?}", comparison.differences);
    assert!(comparison.tallies.iter().all(|tally| 0 < tally.names));
    assert_eq!(comparison.lines_lost, 0);
}

#[test]
fn one_mistake_is_one_difference() {
    for prefix in [
        "stats_counts.loadgen.c.",
        "stats_counts.statsd.bad_lines_seen",
        "stats.timers.loadgen.ms.",
        "stats.gauges.loadgen.g.",
        "stats.sets.loadgen.s.",
    ] {
        let mut wrong = String::new();
        let comparison = statement(|points| {
            let (name, value) = named(points, prefix);
            *value -= 1.0;
            wrong.clone_from(name);
        });
        assert_eq!(comparison.difference_count, 1, "{:?}", comparison.differences);
        assert_eq!(comparison.differences[0].name, wrong);
    }
}

#[test]
fn a_name_that_never_came_is_a_difference() {
    let comparison = statement(|points| {
        let name = named(points, "stats.gauges.loadgen.g.").0.clone();
        points.remove(&name);
    });
    assert_eq!(comparison.difference_count, 1);
    assert_eq!(comparison.differences[0].received, "nothing");
}

#[test]
fn r4_a_user_who_wants_to_end_waits_for_nothing() {
    let sink = Sink::bind(Protocol::Text, "127.0.0.1:0".parse().unwrap()).unwrap();
    let keys = Keys::new(&shape());
    let mut sent = Sent::new(&keys);
    sent.lines = 1;
    let terms = Terms { keys, naming: legacy(), is_shared: false, is_stream: false };
    let stop = Stop::default();
    stop.ask();
    // Without the wish the test would not end.
    let patience = Patience { settle: Duration::MAX, confirm: Duration::ZERO };
    let statements = settle(&[Witness::Sink(sink)], &terms, &sent, patience, &stop);
    assert!(!is_explained(&statements));
}

#[test]
fn no_witness_leaves_nothing_to_explain() {
    assert!(is_explained(&[]));
}

#[test]
fn a_witness_that_does_not_answer_explains_nothing() {
    assert!(!is_explained(&[("graphite".to_owned(), Err("down".to_owned()))]));
}
