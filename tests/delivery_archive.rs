//! Without any Graphite: every interval goes to the archive in the spool, `floe query` prints what
//! arrived, and `floe segment` shows and verifies the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;

use support::daemon::{Daemon, Ingest, Launch, floe, floe_output, send, text_of};
use support::{ports, settings, wait};

mod support;

const QUERY_BOUND: Duration = Duration::from_secs(15);

/// One line of `floe query --json`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    value: f64,
    time: u64,
}

#[test]
fn query_prints_name_value_and_time_on_io_uring() {
    query_prints_name_value_and_time(Ingest::IoUring);
}

#[test]
fn query_prints_name_value_and_time_on_recvmmsg() {
    query_prints_name_value_and_time(Ingest::Recvmmsg);
}

fn query_prints_name_value_and_time(ingest: Ingest) {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let daemon = start(folder.path(), ingest);
    let sent_in = wait::next_second(Duration::from_millis(300));
    send(daemon.udp(), ["cold.hits:3|c\ncold.hits:4|c", "cold.level:1.5|g"]);
    let spool = folder.path().join("spool");
    let rows = wait::until("the interval to reach the archive", QUERY_BOUND, || {
        let rows = query(&spool, &["**"]);
        rows.iter()
            .any(|row| row.name == "stats_counts.cold.hits" && row.value == 7.0)
            .then_some(rows)
    });
    let hits = rows.iter().find(|row| row.name == "stats_counts.cold.hits" && row.value == 7.0);
    assert_eq!(hits.map(|row| row.time), Some(sent_in + 1), "the grid end of the interval");
    let level = rows.iter().find(|row| row.name == "stats.gauges.cold.level");
    assert_eq!(level.map(|row| row.value), Some(1.5), "{rows:?}");
    drop(daemon);
}

#[test]
fn query_reads_the_spool_of_a_stopped_daemon() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let spool = archive_with_hits(folder.path(), 5);
    let plain = run_query(&spool, &["stats_counts.*.hits"]);
    let text = text_of(&plain);
    let line = text.lines().find(|line| line.contains("stats_counts.cold.hits"));
    let line = line.unwrap_or_else(|| panic!("the name is printed:\n{text}"));
    assert!(line.split_whitespace().any(|word| word == "5"), "the value stands beside it: {line}");
}

/// The service manager's directory is taken, the start line says so, and a query finds it too.
#[test]
fn state_directory_is_the_spool_and_the_start_line_says_where_and_how_much() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let spool = folder.path().join("state");
    let mut daemon = Launch::under(folder.path(), Ingest::Recvmmsg)
        .config("floe.toml", &settings::one_text_backend(1000, ports::free()))
        .without_spool_flag()
        .environment("STATE_DIRECTORY", &spool)
        .start();
    assert_eq!(daemon.ready().spool, spool);
    send(daemon.udp(), ["cold.hits:5|c"]);
    daemon.drain(Signal::TERM);
    let output = daemon.output();
    let line = output.lines().find(|line| line.contains("daemon started"));
    let line = line.unwrap_or_else(|| panic!("a start line:\n{output}"));
    let place = format!("spool={}", spool.display());
    for word in
        [&place, r#"archive_age="6h""#, r#"archive_bytes="1GiB""#, r#"backlog_bytes="8GiB""#]
    {
        assert!(line.contains(word), "{word}: {line}");
    }
    let mut query = floe();
    query.env("STATE_DIRECTORY", &spool).args(["query", "stats_counts.cold.hits"]);
    let found = query.output().expect("the built binary runs");
    assert!(text_of(&found).starts_with("stats_counts.cold.hits 5 "), "{}", text_of(&found));
}

#[test]
fn a_single_star_stays_within_one_component() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let spool = archive_with_hits(folder.path(), 5);
    assert!(!query(&spool, &["stats_counts.*.hits"]).is_empty(), "one star, one component");
    assert!(query(&spool, &["stats_counts.*"]).is_empty(), "one star does not cross the dot");
    assert!(!query(&spool, &["stats_counts.**"]).is_empty(), "two stars do");
    assert!(query(&spool, &["nothing.of.this.name"]).is_empty(), "no match prints nothing");
}

#[test]
fn since_leaves_out_older_points() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let spool = archive_with_hits(folder.path(), 5);
    let times = |arguments: &[&str]| -> Vec<u64> {
        query(&spool, arguments).into_iter().map(|row| row.time).collect()
    };
    let all = times(&["stats_counts.cold.hits"]);
    let recent = times(&["stats_counts.cold.hits", "--since", "5m"]);
    assert_eq!(all, recent, "the run is younger than five minutes");
    wait::until("the points to be older than one second", QUERY_BOUND, || {
        times(&["**", "--since", "1s"]).is_empty().then_some(())
    });
    assert_eq!(times(&["stats_counts.cold.hits"]), all, "the archive still has them");
}

#[test]
fn an_unreadable_since_is_wrong_usage() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let spool = archive_with_hits(folder.path(), 5);
    let output = run_query(&spool, &["**", "--since", "yesterday"]);
    assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
    assert!(text_of(&output).contains("yesterday"), "the value is named: {}", text_of(&output));
}

#[test]
fn segments_of_the_archive_show_and_verify() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let spool = archive_with_hits(folder.path(), 5);
    let files = segments(&spool);
    let verify = floe_output(["segment".as_ref(), "verify".as_ref()].into_iter().chain(os(&files)));
    assert!(verify.status.success(), "{}", text_of(&verify));
    let show = floe_output(["segment".as_ref(), "show".as_ref()].into_iter().chain(os(&files)));
    assert!(show.status.success(), "{}", text_of(&show));
    assert!(text_of(&show).contains("cold.hits"), "the series is shown: {}", text_of(&show));
}

#[test]
fn a_damaged_segment_fails_verification_by_name() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let spool = archive_with_hits(folder.path(), 5);
    let whole = fs::read(&segments(&spool)[0]).expect("the segment is readable");
    for (what, bytes) in [
        ("a flipped byte in the body", flipped(&whole, whole.len() - 1)),
        ("a flipped byte in the header", flipped(&whole, 9)),
        ("a torn tail", whole[..whole.len() - 8].to_vec()),
        ("an empty file", Vec::new()),
    ] {
        let path = folder.path().join("damaged.seg");
        fs::write(&path, bytes).expect("the temporary folder is writable");
        let output = floe_output(["segment".as_ref(), "verify".as_ref(), path.as_os_str()]);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", text_of(&output));
        assert!(text_of(&output).contains("damaged.seg"), "{what}: {}", text_of(&output));
    }
}

fn start(folder: &Path, ingest: Ingest) -> Daemon {
    Launch::under(folder, ingest).config("floe.toml", &settings::toml(1000, &[])).start()
}

/// Runs a daemon that counts `hits` under `cold.hits` and drains; gives its spool.
fn archive_with_hits(folder: &Path, hits: u32) -> PathBuf {
    let mut daemon = start(folder, Ingest::Recvmmsg);
    send(daemon.udp(), [format!("cold.hits:{hits}|c")]);
    daemon.drain(Signal::TERM);
    let spool = folder.join("spool");
    assert_eq!(daemon.ready().spool, spool, "the ready file says where the spool is");
    spool
}

fn run_query(spool: &Path, arguments: &[&str]) -> Output {
    let spool = spool.to_str().expect("temporary folders have plain names");
    floe_output(["query"].iter().chain(arguments).chain(["--spool", spool].iter()))
}

fn query(spool: &Path, arguments: &[&str]) -> Vec<Row> {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let output = run_query(spool, &arguments);
    assert!(output.status.success(), "{}", text_of(&output));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
        })
        .collect()
}

fn segments(spool: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(spool.join("archive")).expect("the spool has an archive");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the archive is readable").path())
        .filter(|path| path.extension() == Some("seg".as_ref()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "the archive holds segments");
    files
}

fn os(files: &[PathBuf]) -> impl Iterator<Item = &std::ffi::OsStr> {
    files.iter().map(|path| path.as_os_str())
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes
}
