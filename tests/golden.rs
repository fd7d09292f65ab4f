//! Every recorded case of the reference daemon, replayed against the built binary on both ingest
//! paths: what Graphite receives is the same, name by name and number by number.
//!
//! The files under `golden/` were recorded from the reference daemon (its version stands in each
//! header). A case is a configuration, datagrams, and the lines of the flush that follows them.
//! Lines are compared as a multiset; values as text or as equal doubles; `expect_names_only` asks
//! for a number under that name. Every `must` case passes, and the `optional` ones that fail are
//! exactly those of `golden/deviations.json`, each with its reason. A failing case is tried once
//! more, since a flush may fall between two of its datagrams. `FLOE_TEST_CASES` selects cases by a
//! part of their name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use support::carbon::{self, Point, Protocol, RecordingCarbon};
use support::config_js::{Style, write_config};
use support::daemon::{Daemon, Ingest, Launch};
use support::difference::line_differences;
use support::{hex, ports, wait};

mod support;

const FILES: [&str; 8] =
    ["counters", "gauges", "idle", "naming", "parsing", "sets", "tags", "timers"];
/// Daemons at once: they spend their time waiting for the next flush.
const JOBS: usize = 12;
const TRIES: usize = 2;

#[derive(Deserialize)]
struct File {
    kind: String,
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
struct Case {
    name: String,
    level: Level,
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    carbon: Option<String>,
    #[serde(default = "yes")]
    first_flush: bool,
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(flatten)]
    only_step: Option<Step>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Must,
    Optional,
}

#[derive(Clone, Deserialize)]
struct Step {
    datagrams: Vec<Datagram>,
    expect_lines: Vec<String>,
    #[serde(default)]
    expect_names_only: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Datagram {
    Text(String),
    Hex { hex: String },
    Repeat { repeat: Vec<(String, usize)> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deviation {
    name: String,
    reason: String,
    /// The number in `docs/protocol.md`.
    deviation: u32,
}

fn yes() -> bool {
    true
}

#[test]
fn recorded_cases_hold_on_io_uring() {
    check_all(Ingest::IoUring);
}

#[test]
fn recorded_cases_hold_on_recvmmsg() {
    check_all(Ingest::Recvmmsg);
}

#[test]
fn every_deviation_has_its_reason_and_no_case_that_must_hold_has_one() {
    let musts: BTreeSet<String> = load_cases()
        .into_iter()
        .filter(|case| case.level == Level::Must)
        .map(|case| case.name)
        .collect();
    for deviation in load_deviations() {
        assert!(!musts.contains(&deviation.name), "{} must hold", deviation.name);
        assert!(20 <= deviation.reason.len(), "{} needs a reason", deviation.name);
        assert!(1 <= deviation.deviation, "deviations are numbered from 1");
    }
}

/// Runs every case on `ingest`. Both tests of this file together use both styles for each case.
fn check_all(ingest: Ingest) {
    let selected = std::env::var("FLOE_TEST_CASES").ok();
    let cases: Vec<(usize, Case)> = load_cases()
        .into_iter()
        .enumerate()
        .filter(|(_, case)| selected.as_ref().is_none_or(|part| case.name.contains(part)))
        .collect();
    let next = AtomicUsize::new(0);
    let failures: Mutex<BTreeMap<String, (Level, Vec<String>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..JOBS.min(cases.len()) {
            scope.spawn(|| {
                while let Some((index, case)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let style = if (index + ingest as usize).is_multiple_of(2) {
                        Style::Json
                    } else {
                        Style::Example
                    };
                    let differences = check_with_retry(case, ingest, style);
                    if !differences.is_empty() {
                        let mut failures = failures.lock().expect("no job panics with the lock");
                        failures.insert(case.name.clone(), (case.level, differences));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no job panics with the lock");
    let checked: BTreeSet<&str> = cases.iter().map(|(_, case)| case.name.as_str()).collect();
    judge(&failures, &checked);
}

/// Fails with every difference at once: a `must` case that failed, an `optional` one that failed
/// unannounced, and one announced to fail that passed.
fn judge(failures: &BTreeMap<String, (Level, Vec<String>)>, checked: &BTreeSet<&str>) {
    let announced: BTreeSet<String> =
        load_deviations().into_iter().map(|deviation| deviation.name).collect();
    let mut report = String::new();
    for (name, (level, differences)) in failures {
        if *level == Level::Optional && announced.contains(name) {
            continue;
        }
        let what = if *level == Level::Must { "must" } else { "optional, not announced" };
        report.push_str(&format!("\nFAIL {name} ({what})\n     "));
        report.push_str(&differences.join("\n     "));
    }
    for name in announced.iter().filter(|name| checked.contains(name.as_str())) {
        if !failures.contains_key(name) {
            report.push_str(&format!("\nPASSED {name}, which deviations.json says fails"));
        }
    }
    assert!(report.is_empty(), "of {} cases:{report}", checked.len());
}

fn check_with_retry(case: &Case, ingest: Ingest, style: Style) -> Vec<String> {
    let mut differences = Vec::new();
    for _ in 0..TRIES {
        let attempt =
            std::panic::catch_unwind(|| run_case(case, ingest, style)).unwrap_or_else(|panic| {
                vec![
                    panic.downcast::<String>().map_or_else(|_| "panicked".to_owned(), |text| *text),
                ]
            });
        if attempt.is_empty() {
            return attempt;
        }
        differences = attempt;
    }
    differences
}

/// Plays one case on a daemon of its own and gives the differences.
fn run_case(case: &Case, ingest: Ingest, style: Style) -> Vec<String> {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let (port, mgmt_port) = (ports::free(), ports::free());
    let carbon = RecordingCarbon::start();
    let config = effective_config(case, port, mgmt_port, carbon.port());
    let flush_ms = config["flushInterval"].as_f64().expect("every case sets flushInterval");
    let bound = Duration::from_secs(3) + Duration::from_secs_f64(2.6 * flush_ms / 1000.0);
    let protocol = match case.carbon.as_deref() {
        Some("pickle") => Protocol::Pickle,
        _ => Protocol::Text,
    };
    let started_at = wait::wall().as_secs_f64();
    let mut daemon = Launch::under(folder.path(), ingest)
        .config("config.js", &write_config(&config, style))
        .start_on(mgmt_port);
    if case.first_flush {
        carbon.next_flush(bound);
    } else {
        wait::pause(Duration::from_millis(100));
    }
    let socket = support::daemon::sender();
    let mut differences = Vec::new();
    let steps = if case.steps.is_empty() {
        std::slice::from_ref(case.only_step.as_ref().expect("a case has steps or is one"))
    } else {
        &case.steps
    };
    for (index, step) in steps.iter().enumerate() {
        send_step(&socket, step, port);
        let Some(chunks) = carbon.next_flush(bound) else {
            differences.push(format!("step {}: no flush arrived\n{}", index + 1, daemon.output()));
            break;
        };
        let found = check_flush(step, &chunks, protocol, started_at);
        differences.extend(found.into_iter().map(|text| format!("step {}: {text}", index + 1)));
    }
    if let Some(status) = Daemon::exited(&mut daemon) {
        differences.push(format!("the daemon ended with {status}:\n{}", daemon.output()));
    }
    differences
}

fn send_step(socket: &UdpSocket, step: &Step, port: u16) {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for (index, datagram) in step.datagrams.iter().enumerate() {
        socket.send_to(&datagram.bytes(), to).expect("loopback takes the datagram");
        if index % 64 == 63 {
            // The reference daemon, whose speed the recordings have, reads slower than we send.
            wait::pause(Duration::from_millis(5));
        }
    }
}

impl Datagram {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Hex { hex } => hex::bytes(hex),
            Self::Repeat { repeat } => {
                repeat.iter().flat_map(|(text, times)| text.repeat(*times).into_bytes()).collect()
            }
        }
    }
}

fn check_flush(
    step: &Step,
    chunks: &[Vec<u8>],
    protocol: Protocol,
    started_at: f64,
) -> Vec<String> {
    let (mut points, mut differences) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let (read, problems) = carbon::parse(protocol, chunk);
        points.extend(read);
        differences.extend(problems);
    }
    let near = started_at - 2.0..=wait::wall().as_secs_f64() + 2.0;
    for point in &points {
        if !carbon::number(&point.time)
            .is_some_and(|time| near.contains(&time) && time.fract() == 0.0)
        {
            differences.push(format!("timestamp {} of {} is off", point.time, point.name));
        }
    }
    differences.extend(compare(step, &points));
    differences
}

/// Names that only must be there with a number, then the lines.
fn compare(step: &Step, points: &[Point]) -> Vec<String> {
    let mut differences = Vec::new();
    let mut got: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for point in points {
        got.entry(&point.name).or_default().push(&point.value);
    }
    for name in &step.expect_names_only {
        match got.remove(name.as_str()) {
            None => differences.push(format!("- {name} <any number>")),
            Some(values) if carbon::number(values[0]).is_none() => {
                differences.push(format!("! {name} {} is not a number", values[0]));
            }
            Some(_) => {}
        }
    }
    differences.extend(line_differences(&step.expect_lines, got));
    differences
}

/// The case's settings over the ones every case has; `$ABSENT` takes a key away.
fn effective_config(case: &Case, port: u16, mgmt_port: u16, carbon: u16) -> Map<String, Value> {
    let mut config = Map::new();
    config.insert("graphitePort".to_owned(), carbon.into());
    config.insert("graphitePicklePort".to_owned(), carbon.into());
    config.insert("graphiteHost".to_owned(), "127.0.0.1".into());
    config.insert("address".to_owned(), "127.0.0.1".into());
    config.insert("port".to_owned(), port.into());
    config.insert("mgmt_address".to_owned(), "127.0.0.1".into());
    config.insert("mgmt_port".to_owned(), mgmt_port.into());
    config.insert("backends".to_owned(), vec!["./backends/graphite"].into());
    for (key, value) in &case.config {
        config.insert(key.clone(), value.clone());
    }
    config.retain(|_, value| value != "$ABSENT");
    let text = serde_json::to_string(&config).expect("a map of JSON values prints");
    assert!(!text.contains("\"$"), "a case of these files needs no further places: {text}");
    config
}

fn golden_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

fn load_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in FILES {
        let path = golden_folder().join(name).with_extension("json");
        let text = std::fs::read_to_string(&path).expect("the golden files are in the repository");
        let file: File = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{} is not as expected: {error}", path.display()));
        assert_eq!(file.kind, "flush", "{name} holds flush cases");
        cases.extend(file.cases);
    }
    assert_eq!(cases.len(), 100, "the recorded cases are all there");
    cases
}

fn load_deviations() -> Vec<Deviation> {
    let text = std::fs::read_to_string(golden_folder().join("deviations.json"))
        .expect("the deviations are in the repository");
    serde_json::from_str(&text).expect("deviations.json is a list of name, reason, deviation")
}
