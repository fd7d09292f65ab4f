//! The two halves as two processes over one spool: `floe ingest` receives and spools, `floe export`
//! delivers; either may end without a loss.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::carbon::{Point, Protocol, RecordingCarbon, series};
use support::daemon::{Daemon, Ingest, Launch, send};
use support::{settings, wait};

mod support;

const DELIVERY_BOUND: Duration = Duration::from_secs(20);
const HITS: &str = "stats_counts.split.hits";

#[test]
fn the_exporting_half_delivers_what_the_other_spools() {
    let carbon = RecordingCarbon::start();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut ingest = start_ingest(folder.path(), &carbon);
    let mut export = start_export(folder.path(), &carbon);
    let sent_in = wait::next_second(Duration::from_millis(300));
    send(ingest.udp(), ["split.hits:3|c", "split.hits:4|c"]);
    let points = wait_total(&carbon, 7.0);
    assert_eq!(nonzero(&points), BTreeMap::from([(sent_in + 1, 7.0)]), "{points:?}");
    let mut seen = BTreeSet::new();
    let told_twice: Vec<_> =
        points.iter().filter(|point| !seen.insert((&point.name, &point.time))).collect();
    assert!(told_twice.is_empty(), "two values in one slot: {told_twice:?}");
    let expired = "stats.statsd.floe.backend.a.rows_expired";
    assert!(points.iter().any(|point| point.name == expired), "told by the ingest half");
    // The ingest half sees that links are gone, and the other half alone knows how.
    let spool = ingest.ready().spool.clone();
    let books = wait::until("the delivery in the books", DELIVERY_BOUND, || {
        Some(Books::of(&spool)).filter(|books| 0 < books.of_backend("a", "rows_untold"))
    });
    assert_eq!(books.source(), "daemon");
    assert_eq!(books.of_backend("a", "rows_acknowledged"), 0, "{books:?}");
    ingest.drain(Signal::TERM);
    export.drain(Signal::TERM);
}

#[test]
fn a_killed_exporter_costs_nothing() {
    let carbon = RecordingCarbon::start();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut ingest = start_ingest(folder.path(), &carbon);
    let mut export = start_export(folder.path(), &carbon);
    send(ingest.udp(), ["split.hits:1|c"]);
    let before = wait_total(&carbon, 1.0);
    export.kill();
    let mut expected = nonzero(&before);
    for amount in [20, 21] {
        let second = wait::next_second(Duration::from_millis(300));
        send(ingest.udp(), [format!("split.hits:{amount}|c")]);
        expected.insert(second + 1, f64::from(amount));
    }
    ingest.drain(Signal::TERM);
    let mut export = start_export(folder.path(), &carbon);
    let after =
        carbon.wait_points("the spooled intervals", DELIVERY_BOUND, Protocol::Text, |new| {
            let mut all = nonzero(&before);
            all.extend(nonzero(new));
            all == expected
        });
    // A segment that was on its way at the kill comes twice, with the same values.
    let mut all = nonzero(&before);
    all.extend(nonzero(&after));
    assert_eq!(all, expected);
    export.drain(Signal::TERM);
}

fn start_ingest(folder: &Path, carbon: &RecordingCarbon) -> Daemon {
    launch(folder, carbon).subcommand("ingest").start()
}

fn start_export(folder: &Path, carbon: &RecordingCarbon) -> Daemon {
    launch(folder, carbon).subcommand("export").spawn()
}

fn launch(folder: &Path, carbon: &RecordingCarbon) -> Launch {
    Launch::under(folder, Ingest::Recvmmsg)
        .config("floe.toml", &settings::one_text_backend(1000, carbon.port()))
}

fn wait_total(carbon: &RecordingCarbon, total: f64) -> Vec<Point> {
    carbon.wait_points("the counter's total", DELIVERY_BOUND, Protocol::Text, |points| {
        total <= series(points, HITS).values().sum()
    })
}

fn nonzero(points: &[Point]) -> BTreeMap<u64, f64> {
    let hits = points.iter().filter(|point| point.name == HITS && point.number() != 0.0);
    hits.map(|point| (point.time.parse().expect("whole seconds"), point.number())).collect()
}

#[test]
fn exporting_without_a_backend_is_wrong_settings() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut export = Launch::under(folder.path(), Ingest::Recvmmsg)
        .config("floe.toml", &settings::toml(1000, &[]))
        .subcommand("export")
        .spawn();
    let status = export.wait_exit(DELIVERY_BOUND);
    assert_eq!(status.code(), Some(2), "{}", export.output());
    assert!(export.output().contains("[[backends]]"), "it says what to set: {}", export.output());
    assert!(!folder.path().join("spool").exists(), "nothing was made");
}
