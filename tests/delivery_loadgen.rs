//! `loadgen`, the independent witness, sends to the built daemon and acts as its carbon: every
//! counter total, gauge, set and timer count must be explained, in both packings, on both paths,
//! by text and by pickle.
//!
//! The million lines of a release build are in `.ci/40-loadgen.sh`; here the unoptimised binaries
//! take a tenth of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use support::carbon::Protocol;
use support::daemon::{Ingest, Launch};
use support::process::Process;
use support::{loadgen, ports, settings, wait};

mod support;

const LINES: &str = "100000";
const NAMES: &str = "10000";
const RUN_BOUND: Duration = Duration::from_secs(90);
const SINK_BOUND: Duration = Duration::from_secs(15);

#[test]
fn packed_lines_by_text_are_explained_on_io_uring() {
    every_line_is_explained(Ingest::IoUring, Protocol::Text, ["--packing", "packed"], "50000");
}

#[test]
fn packed_lines_by_pickle_are_explained_on_recvmmsg() {
    every_line_is_explained(Ingest::Recvmmsg, Protocol::Pickle, ["--packing", "packed"], "50000");
}

#[test]
fn single_lines_by_pickle_are_explained_on_io_uring() {
    every_line_is_explained(Ingest::IoUring, Protocol::Pickle, ["--packing", "single"], "20000");
}

#[test]
fn single_lines_by_text_are_explained_on_recvmmsg() {
    every_line_is_explained(Ingest::Recvmmsg, Protocol::Text, ["--packing", "single"], "20000");
}

/// The capture of long ago, replayed as it was: the daemon counts its one datagram.
#[test]
fn the_replayed_capture_reaches_carbon() {
    let carbon = support::carbon::RecordingCarbon::start();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = Launch::under(folder.path(), Ingest::IoUring)
        .config("floe.toml", &settings::one_text_backend(1000, carbon.port()))
        .start();
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packets/frozone.pcap");
    let mut command = Command::new(loadgen::binary());
    command.args(["--target", &daemon.udp().to_string(), "--replay"]).arg(capture);
    let mut replay = Process::start("loadgen", command);
    let status = replay.wait_exit(RUN_BOUND);
    assert!(status.success(), "{}", replay.output());
    let is_counted = |points: &[support::carbon::Point]| {
        points
            .iter()
            .any(|point| point.name == "stats_counts.frozone.statsd.test" && point.number() == 1.0)
    };
    carbon.wait_points("the counter of the capture", SINK_BOUND, Protocol::Text, is_counted);
    daemon.drain(Signal::TERM);
}

fn every_line_is_explained(ingest: Ingest, protocol: Protocol, packing: [&str; 2], rate: &str) {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let (ready, sink_ready) = (folder.path().join("ready.json"), folder.path().join("sink"));
    let udp_port = ports::free();
    let word = match protocol {
        Protocol::Text => "text",
        Protocol::Pickle => "pickle",
    };
    let mut command = Command::new(loadgen::binary());
    command
        .args(["--target", &format!("127.0.0.1:{udp_port}"), "--lines", LINES, "--names", NAMES])
        .args(["--rate", rate, "--sampled", "20", "--tagged", "10", "--bad", "2"])
        // Other tests want the cores too.
        .args(["--pacing", "sleep"])
        .args(packing)
        .args(["--sink", &format!("{word}=127.0.0.1:0"), "--settle", "30s"])
        .arg("--sink-ready-file")
        .arg(&sink_ready)
        .arg("--start-file")
        .arg(&ready);
    let mut witness = Process::start("loadgen", command);
    let sink_port = wait::until("loadgen's sink", SINK_BOUND, || port_in(&sink_ready));
    let backend = settings::Backend { name: "sink", port: sink_port, protocol };
    let config =
        settings::toml(1000, &[backend]).replacen("port = 0", &format!("port = {udp_port}"), 1);
    let mut daemon = Launch::under(folder.path(), ingest).config("floe.toml", &config).start();
    let status = witness.wait_exit(RUN_BOUND);
    assert!(status.success(), "{}\nfloe said:\n{}", witness.output(), daemon.output());
    daemon.drain(Signal::TERM);
}

/// The port of the first line `text=127.0.0.1:40001`.
fn port_in(ready_file: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(ready_file).ok()?;
    text.lines().next()?.rsplit(':').next()?.trim().parse().ok()
}
