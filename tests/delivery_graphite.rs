//! What reaches a real Graphite, read back from the render API and from the whisper files: the
//! packet that was caught on a statsd host, the points of an outage, and two backends alike.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;

use support::carbon::Protocol;
use support::daemon::{Ingest, Launch, send};
use support::graphite::{Graphite, READ_BOUND, Series};
use support::settings::{self, Backend};
use support::wait;

mod support;

/// The payload as tcpdump showed it: `frozone.statsd.test:1|c`.
const FROZONE: [u8; 23] = [
    0x66, 0x72, 0x6f, 0x7a, 0x6f, 0x6e, 0x65, 0x2e, 0x73, 0x74, 0x61, 0x74, 0x73, 0x64, 0x2e, 0x74,
    0x65, 0x73, 0x74, 0x3a, 0x31, 0x7c, 0x63,
];
/// How far into a second a datagram is sent, so that it falls well inside one interval.
const INTO_SECOND: Duration = Duration::from_millis(300);
const OUTAGE_INTERVALS: u64 = 5;
/// The counter of [`mixed_lines`].
const HITS: &str = "stats_counts.two.hits";

/// Values by timestamp by name.
type Tree = BTreeMap<String, Series>;

#[test]
fn the_frozone_packet_reaches_graphite_on_io_uring() {
    the_frozone_packet_reaches_graphite(Ingest::IoUring);
}

#[test]
fn the_frozone_packet_reaches_graphite_on_recvmmsg() {
    the_frozone_packet_reaches_graphite(Ingest::Recvmmsg);
}

#[test]
fn the_kept_capture_holds_the_frozone_packet() {
    let capture = include_bytes!("packets/frozone.pcap");
    assert!(capture.ends_with(&FROZONE), "the capture's last bytes are the payload");
}

#[test]
fn every_point_of_an_outage_arrives_on_io_uring() {
    every_point_of_an_outage_arrives(Ingest::IoUring);
}

#[test]
fn every_point_of_an_outage_arrives_on_recvmmsg() {
    every_point_of_an_outage_arrives(Ingest::Recvmmsg);
}

#[test]
fn a_text_and_a_pickle_backend_have_the_same_points() {
    let (one, other) = (Graphite::carbon_only("1s:1h"), Graphite::carbon_only("1s:1h"));
    let backends = [
        Backend { name: "a", port: one.text_port(), protocol: Protocol::Text },
        Backend { name: "b", port: other.pickle_port(), protocol: Protocol::Pickle },
    ];
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = Launch::under(folder.path(), Ingest::IoUring)
        .config("floe.toml", &settings::toml(1000, &backends))
        .start();
    for round in 0..3 {
        wait::next_second(INTO_SECOND);
        send(daemon.udp(), mixed_lines(round));
    }
    daemon.drain(Signal::TERM);
    let trees = || (tree(&one), tree(&other));
    let total = |tree: &Tree| tree.get(HITS).map_or(0.0, |hits| hits.values().sum());
    let are_whole = |(one, other): &(Tree, Tree)| total(one) == 6.0 && one == other;
    let found = wait::try_until(READ_BOUND, || Some(trees()).filter(are_whole));
    let (first, second) = found.unwrap_or_else(trees);
    assert_eq!(first, second, "left: text, right: pickle");
    assert_eq!(total(&first), 1.0 + 2.0 + 3.0, "the points are those sent: {first:?}");
    // A third is a double without a short decimal: both protocols carry it whole.
    assert!(first["stats.gauges.two.third"].values().any(|value| *value == 1.0 / 3.0));
}

/// The file of the issue with real ports: each backend has a namespace of its own.
#[test]
fn backends_with_their_own_namespaces_have_the_same_values() {
    let (one, other) = (Graphite::carbon_only("1s:1h"), Graphite::carbon_only("1s:1h"));
    let config = format!(
        r#"
port = 0
mgmt_port = 0
flushInterval = 1000
percentThreshold = [90, 99]

[spool]
path = "spool"
archive_age = "6h"
archive_bytes = "1GiB"

[[backends]]
name = "a"
address = "127.0.0.1:{}"
protocol = "text"            # or "pickle"

[[backends]]
name = "b"
address = "127.0.0.1:{}"
protocol = "pickle"
[backends.graphite]          # the reference's `graphite` block, for this backend
legacyNamespace = false
globalPrefix = "stats"
"#,
        one.text_port(),
        other.pickle_port()
    );
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = Launch::under(folder.path(), Ingest::Recvmmsg)
        .config("floe.toml", &config)
        .without_spool_flag()
        .start();
    wait::next_second(INTO_SECOND);
    send(daemon.udp(), mixed_lines(4));
    daemon.drain(Signal::TERM);
    let pairs = [
        (HITS, "stats.counters.two.hits.count"),
        ("stats.two.hits", "stats.counters.two.hits.rate"),
        ("stats.gauges.two.third", "stats.gauges.two.third"),
        ("stats.timers.two.latency.sum_90", "stats.timers.two.latency.sum_90"),
        ("stats.timers.two.latency.upper_99", "stats.timers.two.latency.upper_99"),
        ("stats.sets.two.users.count", "stats.sets.two.users.count"),
    ];
    for (name, name_in_b) in pairs {
        let both = || (one.whisper(name), other.whisper(name_in_b));
        let are_there = |(one, other): &(Series, Series)| !one.is_empty() && one == other;
        let found = wait::try_until(READ_BOUND, || Some(both()).filter(are_there));
        let (first, second) = found.unwrap_or_else(both);
        assert_eq!(first, second, "{name} in a, {name_in_b} in b");
        assert!(!first.is_empty(), "{name} has points");
    }
}

fn the_frozone_packet_reaches_graphite(ingest: Ingest) {
    let graphite = Graphite::start("1s:1h");
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let daemon = Launch::under(folder.path(), ingest)
        .config("floe.toml", &settings::one_text_backend(1000, graphite.text_port()))
        .start();
    let sent_in = wait::next_second(INTO_SECOND);
    send(daemon.udp(), [FROZONE]);
    // The interval that is open at second s ends at s + 1, which is its points' timestamp.
    let expected = (sent_in + 1, 1.0);
    for path in ["stats_counts.frozone.statsd.test", "stats.frozone.statsd.test"] {
        await_values(&[expected], path, "render", || graphite.render(path, 10));
        await_values(&[expected], path, "whisper", || graphite.whisper(path));
    }
}

fn every_point_of_an_outage_arrives(ingest: Ingest) {
    const PATH: &str = "stats_counts.outage.hits";
    let mut graphite = Graphite::start("1s:1h");
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let daemon = Launch::under(folder.path(), ingest)
        .config("floe.toml", &settings::one_text_backend(1000, graphite.text_port()))
        .start();
    let mut expected = Vec::new();
    let mut send_in_next_second = |amount: u64| {
        let second = wait::next_second(INTO_SECOND);
        send(daemon.udp(), [format!("outage.hits:{amount}|c")]);
        expected.push((second + 1, amount as f64));
    };
    send_in_next_second(1);
    graphite.stop_carbon();
    for amount in 0..OUTAGE_INTERVALS {
        send_in_next_second(10 + amount);
    }
    graphite.start_carbon();
    send_in_next_second(2);
    await_values(&expected, PATH, "render", || graphite.render(PATH, 10));
    await_values(&expected, PATH, "whisper", || graphite.whisper(PATH));
    let series = graphite.whisper(PATH);
    let (first, last) = (expected[0].0, expected[expected.len() - 1].0);
    let missing: Vec<u64> = (first..=last).filter(|time| !series.contains_key(time)).collect();
    assert!(missing.is_empty(), "no slot between is empty, but {missing:?} are: {series:?}");
}

/// Waits until the values other than 0 (idle intervals) are exactly `expected`, by timestamp.
fn await_values(expected: &[(u64, f64)], path: &str, reader: &str, read: impl Fn() -> Series) {
    let nonzero =
        || -> Vec<(u64, f64)> { read().into_iter().filter(|(_, value)| *value != 0.0).collect() };
    let found = wait::try_until(READ_BOUND, || Some(nonzero()).filter(|found| found == expected))
        .unwrap_or_else(nonzero);
    assert_eq!(found, expected, "{reader}: left is what {path} shows, right what was sent");
}

/// The same mix of kinds in every round; counts and timers differ by `round`.
fn mixed_lines(round: u32) -> Vec<String> {
    vec![
        format!("two.hits:{}|c\ntwo.third:0.{}|g", round + 1, "3".repeat(16)),
        format!("two.latency:{}|ms\ntwo.latency:250.5|ms|@0.5", 10 * (round + 1)),
        format!("two.users:ann|s\ntwo.users:bob{round}|s\ntwo.users:ann|s"),
    ]
}

/// The whisper tree without the points that tell of the delivery itself.
fn tree(graphite: &Graphite) -> Tree {
    let names = graphite.whisper_names();
    // The reference's graphiteStats tell of that one delivery.
    let is_shared = |name: &&str| !name.contains("graphiteStats");
    let shared: Vec<&str> = names.iter().map(String::as_str).filter(is_shared).collect();
    graphite.whisper_all(&shared)
}
