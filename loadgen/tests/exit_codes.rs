//! The exit status of the built binary is 0 only for explained books (or none to check), 1 for a run that
//! failed or has something left to explain, 2 for wrong usage. Method: run it, and play the daemon by hand.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(arguments: &[&str]) -> Output {
    loadgen(arguments).output().unwrap()
}

fn receiver() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn frozone() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/packets/frozone.pcap")
}

/// Runs one counter line against a text sink, and delivers what a daemon would for the one datagram,
/// the counter changed by `off_by`.
fn run_one_counter(settle: &str, off_by: i64) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let (socket, target) = receiver();
    let mut command = loadgen(&["--lines", "1", "--names", "1", "--mix", "c=1", "--json"]);
    command.args(["--target", &target, "--settle", settle, "--sink", "text=127.0.0.1:0"]);
    let child = command.arg("--sink-ready-file").arg(&ready).spawn().unwrap();

    let mut buffer = [0; 2_000];
    let length = socket.recv(&mut buffer).unwrap();
    let line = std::str::from_utf8(&buffer[..length]).unwrap();
    let (key, value) = line.split_once(':').unwrap();
    let amount: i64 = value.strip_suffix("|c").unwrap().parse().unwrap();
    // The sink was announced before the first datagram left.
    let ready = std::fs::read_to_string(&ready).unwrap();
    let mut stream = TcpStream::connect(ready.trim().strip_prefix("text=").unwrap()).unwrap();
    writeln!(stream, "stats_counts.{key} {} 1000", amount + off_by).unwrap();
    for (counter, value) in
        [("metrics_received", 1), ("packets_received", 1), ("bad_lines_seen", 0)]
    {
        writeln!(stream, "stats_counts.statsd.{counter} {value} 1000").unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    child.wait_with_output().unwrap()
}

#[test]
fn wrong_usage_is_status_2() {
    for wrong in [&["--rate", "0"][..], &["--target", "x"], &["--unknown"], &["--bad", "101"]] {
        let output = output(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(!output.stderr.is_empty(), "{wrong:?}");
        assert!(output.stdout.is_empty(), "{wrong:?}");
    }
}

#[test]
fn help_and_version_are_status_0() {
    for option in ["--help", "--version"] {
        assert_eq!(output(&[option]).status.code(), Some(0));
    }
}

#[test]
fn a_run_begins_once_the_start_file_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let start = directory.path().join("start");
    let (socket, target) = receiver();
    let mut command = loadgen(&["--lines", "1", "--target", &target]);
    let mut child = command.arg("--start-file").arg(&start).spawn().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(socket.recv(&mut [0; 2_000]).is_err(), "it sent before the start");
    assert!(child.try_wait().unwrap().is_none());
    std::fs::write(&start, "").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(0 < socket.recv(&mut [0; 2_000]).unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_run_without_a_witness_is_status_0_and_says_it_was_not_checked() {
    let (_socket, target) = receiver();
    let output = output(&["--target", &target, "--lines", "10", "--bad", "100"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("10 lines (10 bad)"), "{text}");
    assert!(text.contains("not checked"), "{text}");
}

#[test]
fn explained_books_are_status_0_and_end_the_wait() {
    let output = run_one_counter("10m", 0);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "explained");
    assert_eq!(report["witnesses"][0]["counters"]["explained"], 1);
}

#[test]
fn a_missing_increment_is_status_1_with_the_name() {
    let output = run_one_counter("1s", -1);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "not explained");
    let difference = &report["witnesses"][0]["differences"][0];
    assert_eq!(difference["name"], "stats_counts.loadgen.c.n000000");
    assert_eq!(report["witnesses"][0]["difference_count"], 1);
}

#[test]
fn a_graphite_that_does_not_answer_is_status_1() {
    let (_socket, target) = receiver();
    // An address of its own: no other test can take the port meanwhile.
    let listener = std::net::TcpListener::bind("127.0.0.4:0").unwrap();
    let web = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output =
        output(&["--target", &target, "--lines", "1", "--graphite", &web, "--settle", "0s"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("does not answer"), "{text}");
}

#[test]
fn a_sink_address_that_is_taken_is_status_1() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sink = format!("text={}", listener.local_addr().unwrap());
    let output = output(&["--lines", "1", "--sink", &sink]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot bind the text sink"));
}

#[test]
fn a_replay_sends_the_bytes_of_the_capture() {
    let (socket, target) = receiver();
    let file = frozone();
    let output = output(&["--target", &target, "--replay", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut buffer = [0; 2_000];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"frozone.statsd.test:1|c");
}

#[test]
fn a_replay_of_what_is_no_capture_is_status_1() {
    let directory = tempfile::tempdir().unwrap();
    let whole = std::fs::read(frozone()).unwrap();
    let cut = directory.path().join("cut.pcap");
    std::fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    for file in [cut.as_path(), &directory.path().join("absent")] {
        let output = output(&["--replay", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("loadgen: cannot re"));
    }
}

/// Nobody else drops what is sent to the target, so "0 dropped" would not be a measurement.
#[test]
fn r4_the_pid_is_that_of_a_process_that_receives_there() {
    let (_receiver, target) = receiver();
    let mut other =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pid = other.id().to_string();
    let arguments = ["--target", &target, "--pid", &pid];
    let found = [
        output(&[&["search"][..], &arguments, &["--to", "10k"]].concat()),
        output(&[&arguments[..], &["--lines", "10"]].concat()),
    ];
    drop(other.stdin.take());
    other.wait().unwrap();
    for found in found {
        let told = String::from_utf8_lossy(&found.stderr);
        assert_eq!(found.status.code(), Some(1), "{told}");
        assert!(told.contains("has no UDP socket at port"), "{told}");
        assert!(found.stdout.is_empty());
    }
}

#[test]
fn r4_a_run_to_a_port_where_nobody_listens_is_status_1_with_its_report() {
    // An address of its own: no other test can take the port meanwhile.
    let closed = UdpSocket::bind("127.0.0.5:0").unwrap().local_addr().unwrap().to_string();
    let file = frozone();
    for arguments in [
        &["--lines", "5000", "--rate", "max", "--packing", "single"][..],
        &["--lines", "50", "--packing", "single"],
        &["--replay", file.to_str().unwrap()],
    ] {
        let output = output(&[&["--target", &closed, "--json"][..], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let refused = report["refused_by_cause"]["closed_port"].as_u64().unwrap();
        assert!(0 < refused && report["refused_sends"] == refused, "{report}");
        let told = String::from_utf8(output.stderr).unwrap();
        let message = format!("loadgen: {refused} sends to udp:{closed} were refused: ");
        assert!(told.starts_with(&message), "{told}");
    }
}

/// The sink alone would only say that everything is lost.
#[test]
fn r4_a_search_at_a_port_where_nobody_listens_says_so() {
    let closed = UdpSocket::bind("127.0.0.6:0").unwrap().local_addr().unwrap().to_string();
    let arguments = ["search", "--target", &closed, "--sink", "text=127.0.0.1:0", "--settle", "0s"];
    let rest = ["--from", "100", "--to", "100", "--round", "50ms", "--packing", "single", "--json"];
    let output = output(&[&arguments[..], &rest].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(0 < report["refused_by_cause"]["closed_port"].as_u64().unwrap(), "{report}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("were refused: nobody listens"));
}

/// A daemon whose flushes are 10 s apart by their timestamps, and come whenever nothing is sent for a
/// moment or 20 lines are there. The search gives it no time of its own (`--settle 0s`).
#[test]
fn a_search_waits_for_the_flush_whatever_settle_says() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let (socket, target) = receiver();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut command = loadgen(&["search", "--sink", "text=127.0.0.1:0", "--settle", "0s"]);
    command.args(["--target", &target, "--from", "200", "--to", "200", "--round", "50ms"]);
    command.args(["--packing", "single", "--json", "--sink-ready-file"]).arg(&ready);
    let mut child = command.spawn().unwrap();
    let (mut stream, mut proof, mut lines, mut timestamp) = (None, String::new(), 0, 1_000);
    while child.try_wait().unwrap().is_none() {
        let mut buffer = [0; 2_000];
        if let Ok(length) = socket.recv(&mut buffer) {
            let line = std::str::from_utf8(&buffer[..length]).unwrap();
            lines += 1;
            if let Some(value) = line.strip_prefix("loadgen.search:") {
                value.strip_suffix("|g").unwrap().clone_into(&mut proof);
                // A flush for each line of the proof, which come one by one.
            } else if lines < 20 {
                continue;
            }
        } else if lines == 0 {
            continue;
        }
        let stream = stream.get_or_insert_with(|| {
            let ready = std::fs::read_to_string(&ready).unwrap();
            TcpStream::connect(ready.trim().strip_prefix("text=").unwrap()).unwrap()
        });
        timestamp += 10;
        let own = format!("stats_counts.statsd.metrics_received {lines} {timestamp}");
        // At the end nobody listens any more.
        drop(writeln!(stream, "stats.gauges.loadgen.search {proof} {timestamp}\n{own}"));
        lines = 0;
    }
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["failure"], &report["interval_s"]), (&Value::Null, &10.into()));
    let rounds = report["rounds"].as_array().unwrap();
    assert!(0.0 < rounds[0]["lines_per_s"].as_f64().unwrap(), "{report:#}");
    // Whether the rate was reached is the machine's affair.
    assert!(rounds.iter().all(|round| round["lost_percent"] == 0.0), "{report:#}");
}

#[test]
fn r4_a_page_that_cannot_be_written_ends_a_run_before_it_begins() {
    let (_socket, target) = receiver();
    let output = output(&["--target", &target, "--duration", "60m", "--html", "/absent/page.html"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("loadgen: cannot write /absent/page.html"), "{told}");
}

#[test]
fn r4_a_connection_that_breaks_is_status_1_with_its_report() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp:{}", listener.local_addr().unwrap());
    let child = loadgen(&["--target", &target, "--duration", "60m", "--json"]).spawn().unwrap();
    drop(listener.accept().unwrap());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["failures"][0].as_str().unwrap().contains("the connection broke"), "{report}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("sender 1 gave up after"));
}
