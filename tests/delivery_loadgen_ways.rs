//! `loadgen` beyond plain UDP: over TCP and a Unix socket, from many source ports with datagrams that
//! go round, with probes and the kernel's figures of the daemon, and as a search; and its page. Method: the built
//! binaries; the report as JSON is what is judged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use support::carbon::Protocol;
use support::daemon::{Daemon, Ingest, Launch};
use support::process::Process;
use support::{loadgen, ports, settings, wait};

mod support;

const RUN_BOUND: Duration = Duration::from_secs(90);
const SINK_BOUND: Duration = Duration::from_secs(15);

/// A daemon with three servers, and where loadgen's sink is expected.
struct Site {
    folder: tempfile::TempDir,
    daemon: Daemon,
    udp: String,
    tcp: String,
    unix: String,
    sink: u16,
}

impl Site {
    fn start() -> Site {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let (udp, tcp, sink) = (ports::free(), ports::free(), ports::free());
        let unix = folder.path().join("floe.sock");
        let server = |kind: &str, rest: &str| format!("[[servers]]\nserver = {kind:?}\n{rest}\n");
        let address = |port: u16| format!("address = \"127.0.0.1\"\nport = {port}");
        let servers = [
            server("udp", &address(udp)),
            server("tcp", &address(tcp)),
            server("tcp", &format!("socket = {:?}", unix.display().to_string())),
        ];
        let backend = settings::Backend { name: "sink", port: sink, protocol: Protocol::Text };
        let toml = settings::toml(1_000, &[backend]).replacen("port = 0\n", "", 1);
        let config = format!("{toml}\n{}", servers.concat());
        let daemon =
            Launch::under(folder.path(), Ingest::IoUring).config("floe.toml", &config).start();
        Site {
            daemon,
            udp: format!("127.0.0.1:{udp}"),
            tcp: format!("tcp:127.0.0.1:{tcp}"),
            unix: format!("unix:{}", unix.display()),
            sink,
            folder,
        }
    }

    /// Runs loadgen with `words`; gives its report, after it said that it did well.
    fn run(&self, words: &[&str]) -> Value {
        let mut command = Command::new(loadgen::binary());
        // Other tests want the cores too.
        command.args(words).args(["--json", "--pacing", "sleep", "--settle", "30s"]);
        let sink = format!("text=127.0.0.1:{}", self.sink);
        command.args(["--sink", &sink, "--pid", &self.daemon.id().to_string()]);
        command.arg("--sink-ready-file").arg(self.path("sink"));
        let mut run = Process::start("loadgen", command);
        let status = run.wait_exit(RUN_BOUND);
        let output = run.output();
        assert!(status.success(), "{output}\nfloe said:\n{}", self.daemon.output());
        let report = &output[output.find('{').expect("the report is JSON")..];
        let end = report.rfind('}').expect("the report is JSON");
        serde_json::from_str(&report[..=end]).expect("the report is JSON")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

/// Every kind of socket in turn, to one daemon: each run's keys are its own, so each is explained.
#[test]
fn lines_over_streams_are_explained() {
    let mut site = Site::start();
    for (target, prefix) in [(&site.tcp, "tcp"), (&site.unix, "unix")] {
        // The run before is still in the daemon's own counters of an interval that comes late.
        let report = site.run(&[
            "--target",
            target,
            "--key-prefix",
            prefix,
            "--lines",
            "30000",
            "--names",
            "1000",
            "--rate",
            "60000",
            "--sampled",
            "20",
            "--tagged",
            "10",
            "--sockets",
            "3",
            "--shared",
        ]);
        assert_eq!(report["verdict"], "explained", "{report:#}");
        assert_eq!(report["lines"], 30_000);
        assert_eq!(report["sockets"], 3);
    }
    site.daemon.drain(Signal::TERM);
}

/// 50,000 lines out of a pool of 2,000, over twelve source ports, cut exactly at the last line.
#[test]
fn datagrams_that_go_round_are_explained_and_probes_timed() {
    let mut site = Site::start();
    let page = site.path("report.html").display().to_string();
    let report = site.run(&[
        "--html",
        &page,
        "--target",
        &site.udp,
        "--lines",
        "50000",
        "--names",
        "500",
        "--rate",
        "50000",
        "--pool",
        "2000",
        "--senders",
        "3",
        "--sockets",
        "4",
        "--bad",
        "2",
        "--latency",
    ]);
    assert_eq!(report["verdict"], "explained", "{report:#}");
    assert_eq!((&report["lines"], &report["sockets"]), (&50_000.into(), &12.into()));
    assert_eq!(report["offered_lines_per_s"], 50_000);
    let latency = &report["latency"];
    assert!(0 < latency["seen"].as_u64().expect("a number"), "{latency}");
    assert!(latency["seen"].as_u64() <= latency["probes"].as_u64(), "{latency}");
    let figures = &report["daemon"];
    assert_eq!((&figures["drops"], &figures["drained"]), (&0.into(), &true.into()), "{figures}");
    let threads = figures["threads"].as_array().expect("a list");
    let is_worker = |thread: &&Value| thread["name"].as_str().expect("a name").contains("ingest");
    let worker = threads.iter().find(is_worker).expect("a worker among the threads");
    assert!(0 < worker["cpu_ns"].as_u64().expect("a number"), "{worker}");
    assert!(!figures["sockets"].as_array().expect("a list").is_empty());
    let page = std::fs::read_to_string(page).expect("the page was written");
    assert!(5 <= page.matches("<svg ").count(), "rate, lag, CPU, drops, latency");
    site.daemon.drain(Signal::TERM);
}

/// Low rates, so that the machine's load does not matter: each holds, and the highest one ends it.
#[test]
fn a_search_ends_with_a_rate_that_held() {
    let mut site = Site::start();
    let file = site.path("workload.toml");
    std::fs::write(&file, "names = 100\npacking = \"single\"\nrate = 7\n")
        .expect("the folder is writable");
    let file = file.display().to_string();
    let report = site.run(&[
        "search",
        "--target",
        &site.udp,
        "--workload",
        &file,
        "--from",
        "500",
        "--to",
        "1000",
        "--round",
        "300ms",
        "--loss",
        "50",
    ]);
    assert_eq!((&report["lines_per_s"], &report["above"]), (&1_000.into(), &Value::Null));
    assert_eq!(report["rounds"].as_array().expect("a list").len(), 3, "{report:#}");
    assert_eq!(report["judged_by"], "kernel drops and the sink");
    site.daemon.drain(Signal::TERM);
}

#[test]
fn the_sink_is_announced_before_the_first_line() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let ready = folder.path().join("sink");
    let mut command = Command::new(loadgen::binary());
    command.args(["--sink", "text=127.0.0.1:0", "--start-file"]).arg(folder.path().join("never"));
    command.arg("--sink-ready-file").arg(&ready);
    let mut run = Process::start("loadgen", command);
    let text = wait::until("the ready file", SINK_BOUND, || std::fs::read_to_string(&ready).ok());
    assert!(text.starts_with("text=127.0.0.1:"), "{text}");
    run.kill();
}

/// Every option that loadgen has is on its page, and every one on the page is there.
#[test]
fn the_page_knows_the_options_of_the_binary() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/loadgen.md");
    let page = options_in(&std::fs::read_to_string(page).expect("the page is there"));
    let mut known = BTreeSet::new();
    for words in [&["--help"][..], &["search", "--help"]] {
        let help = Command::new(loadgen::binary()).args(words).output().expect("the binary runs");
        known.extend(options_in(&String::from_utf8_lossy(&help.stdout)));
    }
    for general in ["--help", "--version"] {
        known.remove(general);
    }
    let others = ["--help", "--release", "--package", "--spool", "--ready-file"];
    let page: BTreeSet<String> =
        page.into_iter().filter(|option| !others.contains(&option.as_str())).collect();
    assert_eq!(known, page, "left: the binary; right: docs/loadgen.md");
}

#[test]
fn the_workload_of_the_page_is_taken() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/loadgen.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let text = page.split("```").find(|block| block.contains("# workload.toml\n"));
    let text = text.expect("the page shows a file").strip_prefix("text").expect("no language");
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let file = folder.path().join("workload.toml");
    std::fs::write(&file, text).expect("the folder is writable");
    let mut command = Command::new(loadgen::binary());
    command.args(["--lines", "0", "--workload"]).arg(&file);
    let mut run = Process::start("loadgen", command);
    assert!(run.wait_exit(RUN_BOUND).success(), "{}", run.output());
}

/// The words of `text` that look like long options.
fn options_in(text: &str) -> BTreeSet<String> {
    let is_part = |char: char| char.is_ascii_lowercase() || char == '-';
    text.split(|char: char| !is_part(char))
        .filter(|word| word.starts_with("--") && 3 < word.len())
        .map(str::to_owned)
        .collect()
}
