//! Claim: resident memory stays below the ceiling that the start prints, whatever arrives, what was
//! there goes on exactly, and every budget says what it cut off. Method: the built daemon with small
//! budgets under each kind of flood, its peak by the kernel's own figure (`VmHWM`). The limit here is
//! `memory.limit`; `tests/memory_cgroup.rs` has the kernel's.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::process::Signal;

use support::books::Books;
use support::daemon::{Daemon, Ingest, Launch, floe, floe_output, text_of};
use support::flood::{
    BOMB_NAMES, BOMB_ROUNDS, Flood, KNOWN, Peak, TIMES, budgets, ceiling_of, with_streams,
};
use support::settings;

mod support;

fn start(folder: &Path, ingest: Ingest, values: &str) -> Daemon {
    let text = format!("{}\n{}", settings::toml(1_000, &[]), budgets(values));
    Launch::under(folder, ingest).config("floe.toml", &text).start()
}

/// Sums of the points whose names fit `glob`.
fn sums(spool: &Path, glob: &str) -> BTreeMap<String, f64> {
    let spool = spool.to_str().expect("temporary folders have plain names");
    let output = floe_output(["query", glob, "--json", "--spool", spool]);
    assert!(output.status.success(), "{}", text_of(&output));
    let mut sums = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let point: serde_json::Value = serde_json::from_str(line).expect("it prints JSON");
        let name = point["name"].as_str().expect("a point has a name").to_owned();
        *sums.entry(name).or_default() += point["value"].as_f64().expect("and a value");
    }
    sums
}

#[test]
fn a_bomb_of_names_leaves_memory_and_known_series_alone() {
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let mut daemon = start(folder.path(), ingest, "16MiB");
        let mut flood = Flood::of(&daemon);
        flood.names();
        let values = (BOMB_NAMES * BOMB_ROUNDS) as u64;
        let peak = flood.finish();
        let books = Books::of(&daemon.ready().spool);
        let dropped = books.count("values_dropped.series_limit");
        assert!(0 < dropped && dropped <= values / 4, "gauges alone: {books:?}");
        assert!(values / 2 < books.count("values_folded"), "{books:?}");
        let spool = daemon.ready().spool.clone();
        daemon.drain(Signal::TERM);
        let log = daemon.output();
        for said in ["counted under __overflow__", "values dropped", "cause=\"series_limit\""] {
            assert!(log.contains(said), "{log}");
        }
        let known = sums(&spool, "stats_counts.known.*");
        assert_eq!(known.len(), KNOWN);
        assert!(known.values().all(|sum| *sum == 1.0 + BOMB_ROUNDS as f64), "{known:?}");
        let counters: f64 = sums(&spool, "stats_counts.bomb.**").values().sum();
        assert_eq!(counters, values as f64 / 4.0, "totals stay right");
        peak.assert_below();
    }
}

#[test]
fn a_flood_of_timer_values_is_counted_exactly_in_bounded_memory() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = start(folder.path(), Ingest::IoUring, "1MiB");
    let mut flood = Flood::of(&daemon);
    flood.times();
    let peak = flood.finish();
    let books = Books::of(&daemon.ready().spool);
    assert!(0 < books.count("timers_sketched"), "{books:?}");
    let recorded = books.count("values_recorded");
    let dropped = books.count("values_dropped.timer_limit");
    assert_eq!(recorded + dropped, u64::from(TIMES[0] + TIMES[1]), "{books:?}");
    let spool = daemon.ready().spool.clone();
    daemon.drain(Signal::TERM);
    let counts: f64 = sums(&spool, "stats.timers.**.count").values().sum();
    assert_eq!(counts, recorded as f64, "each value is in a count");
    assert_eq!(sums(&spool, "stats.timers.t.count")["stats.timers.t.count"], f64::from(TIMES[0]));
    peak.assert_below();
}

#[test]
fn a_flood_of_long_members_is_estimated_in_bounded_memory() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = start(folder.path(), Ingest::Recvmmsg, "1MiB");
    let mut flood = Flood::of(&daemon);
    flood.members();
    let peak = flood.finish();
    let books = Books::of(&daemon.ready().spool);
    assert!(0 < books.count("sets_estimated"), "{books:?}");
    daemon.drain(Signal::TERM);
    peak.assert_below();
}

#[test]
fn connections_that_never_end_a_line_hold_no_more_than_their_limit() {
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let daemon =
            Launch::under(folder.path(), ingest).config("floe.toml", &with_streams()).start();
        let connections = Flood::of(&daemon).endless_lines();
        Peak::of(&daemon).assert_below();
        drop(connections);
    }
}

#[test]
fn a_ceiling_beyond_the_limit_refuses_the_start_unless_it_is_overridden() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let path = folder.path().join("floe.toml");
    let run = |memory: &str, command: &[&str]| {
        let text = format!("{}\n[ingest]\nworkers = 1\n{memory}", settings::toml(1_000, &[]));
        std::fs::write(&path, text).expect("the test's folder is writable");
        let mut floe = floe();
        floe.args(command).arg(&path);
        if command.is_empty() {
            floe.arg("--spool").arg(folder.path().join("spool"));
        }
        floe.output().expect("the built binary runs")
    };
    let configured = "[series]\nmax = 1000000\n[memory]\nlimit = \"256MiB\"\n";
    for command in [&[][..], &["check"]] {
        let output = run(configured, command);
        assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
        assert!(text_of(&output).contains("limit of 256 MiB"), "{}", text_of(&output));
    }
    assert!(!folder.path().join("spool").exists(), "nothing was touched");
    let warned = run(&format!("{configured}over_limit = \"warn\"\n"), &["check"]);
    assert!(warned.status.success() && text_of(&warned).contains("exceeded"), "{warned:?}");
    // What is left open is fitted.
    let fitted = run("[memory]\nlimit = \"512MiB\"\n", &["check"]);
    let text = text_of(&fitted);
    assert!(fitted.status.success() && !text.contains("exceeded"), "{text}");
    assert!(ceiling_of(&text) <= 512, "{text}");
}
