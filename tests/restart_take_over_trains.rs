//! Claims: a successor may have another `ingest.udp_gro` than the daemon before it, and every datagram is
//! one all the same; sockets that have given trains go on giving them, and that is said. Method: the built
//! binary again and again under a sender with `UDP_SEGMENT` (loadgen), which counts its datagrams.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::carbon::RecordingCarbon;
use support::daemon::{Daemon, Ingest, Launch};
use support::process::Process;
use support::{loadgen, settings, wait};

mod support;

const BOUND: Duration = Duration::from_secs(60);

/// What is said where the setting is not what the sockets have.
const STAYS: &str = "udp_gro stays on";

#[test]
fn trains_turned_on_and_off_by_take_overs_are_read_datagram_by_datagram() {
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let carbon = RecordingCarbon::start();
        let launch = |has_trains: bool| {
            let text = settings::one_text_backend(1_000, carbon.port());
            let (head, backends) = text.split_once("\n[[").expect("there is a backend");
            let text = format!("{head}\n[ingest]\nudp_gro = {has_trains}\n\n[[{backends}");
            Launch::under(folder.path(), ingest).config("floe.toml", &text)
        };
        let mut daemon = launch(false).start();
        let mut command = Command::new(loadgen::binary());
        command.args(["--target", &daemon.udp().to_string(), "--gso", "--packing", "single"]);
        command.args(["--rate", "20k", "--duration", "8s", "--names", "50"]);
        // Once a millisecond what is due, in trains of twenty.
        command.args(["--pacing", "sleep", "--burst", "20", "--json"]);
        let mut load = Process::start("loadgen", command);
        let received =
            |daemon: &Daemon| Books::of(&daemon.ready().spool).count("datagrams_received");
        for (has_trains, is_said) in [(true, false), (false, true), (true, false), (false, true)] {
            let before = received(&daemon);
            wait::until("load", BOUND, || (before + 1_000 < received(&daemon)).then_some(()));
            let next = launch(has_trains).argument("--take-over").start();
            let status = daemon.wait_exit(BOUND);
            assert!(status.success(), "{status}: {}\n{}", daemon.output(), next.output());
            daemon = next;
            assert_eq!(daemon.output().contains(STAYS), is_said, "{}", daemon.output());
        }
        load.wait_exit(BOUND);
        let report = load.output();
        let report = &report[report.find('{').expect("the report is JSON")..];
        let report: serde_json::Value =
            serde_json::from_str(report.trim_end()).expect("the report is JSON");
        let (sent, lines) = (report["datagrams"].as_u64(), report["lines"].as_u64());
        let spool = daemon.ready().spool.clone();
        daemon.drain(Signal::TERM);
        let books = Books::of(&spool);
        assert_eq!(books.count("datagrams_dropped.kernel"), 0, "{books:?}");
        assert_eq!(Some(books.count("datagrams_received")), sent, "{ingest:?}: {books:?}");
        assert_eq!(Some(books.count("values_recorded")), lines, "{ingest:?}: {books:?}");
    }
}
