//! Claims: a real carbon that is full stops reading (`USE_FLOW_CONTROL`, its default); it is waited for, and
//! no other backend waits with it; it is sent every point, once. Method: carbon-cache with room for a part
//! of an interval and a slow disk, beside a carbon of the test's own. What finds it full carbon itself throws
//! away, and says so of each point: that is all that may be missing.

use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::carbon::Protocol;
use support::daemon::{Ingest, Launch, send};
use support::faulty_carbon::FaultyCarbon;
use support::graphite::{Cache, Graphite};
use support::settings::{self, Backend};
use support::wait;

mod support;

const BOUND: Duration = Duration::from_secs(120);

/// Series of the interval that is too much.
const NAMES: usize = 1_500;

/// Twice as many lines come: carbon is full after two thirds.
const CACHE: Cache = Cache { points_max: Some(2_000), updates_per_s_max: Some(120) };

/// What carbon says of each point that it throws away; then it stops reading, and reads on when it has written
/// a twentieth of what it holds.
const IS_FULL: &str = "MetricCache is full";

/// About a thousand bytes, so that what carbon reads at once, 64 KiB, is few points; a component of a file's
/// name has 255 bytes at the most.
fn name(index: usize) -> String {
    let part = "x".repeat(230);
    format!("flow.{part}.{part}.{part}.{part}.{index}")
}

/// Points of the interval in files below `prefix`: a counter of 1 in a second is 1 there and there.
fn points(carbon: &Graphite, prefix: &str) -> usize {
    let names: Vec<String> = (0..NAMES).map(|index| format!("{prefix}.{}", name(index))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let files = carbon.whisper_all(&names);
    files.values().filter(|series| series.values().eq([&1.0])).count()
}

#[test]
fn a_carbon_that_pauses_its_senders_is_waited_for_and_holds_up_no_other() {
    let full = Graphite::carbon_within("1s:5m", CACHE);
    let good = FaultyCarbon::start(&[]);
    let backends = [
        Backend { name: "full", port: full.text_port(), protocol: Protocol::Text },
        Backend { name: "good", port: good.port(), protocol: Protocol::Text },
    ];
    let text = format!("deleteIdleStats = true\n{}", settings::toml(1_000, &backends));
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon =
        Launch::under(folder.path(), Ingest::Recvmmsg).config("floe.toml", &text).start();
    let spool = daemon.ready().spool.clone();

    let second = wait::next_second(Duration::from_millis(200));
    send(daemon.udp(), (0..NAMES).map(|index| format!("{}:1|c", name(index))));
    let marker = format!("stats_counts.{}", name(NAMES - 1));
    wait::until("the interval at the other one", BOUND, || {
        good.series(&marker).contains_key(&(second + 1)).then_some(())
    });
    wait::until("a full carbon", BOUND, || full.carbon_output().contains(IS_FULL).then_some(()));
    let second = wait::next_second(Duration::from_millis(300));
    send(daemon.udp(), ["flow.hits:1|c"]);
    wait::until("the next interval at the other one", BOUND, || {
        good.series("stats_counts.flow.hits").contains_key(&(second + 1)).then_some(())
    });
    let books = Books::of(&spool);
    let acknowledged = books.of_backend("full", "rows_acknowledged");
    assert!(acknowledged < NAMES as u64, "all the while carbon does not read on: {books:?}");

    // It reads on whenever it has written some, and in the end it has been sent all.
    wait::until("an empty queue", BOUND, || {
        let books = Books::of(&spool);
        (books.of_backend("full", "rows_pending") == 0).then_some(())
    });
    wait::until("every point in its file, or thrown away", BOUND, || {
        let there: usize =
            ["stats", "stats_counts"].map(|prefix| points(&full, prefix)).iter().sum();
        let thrown_away = full.carbon_output().matches(IS_FULL).count();
        (2 * NAMES <= there + thrown_away).then_some(())
    });
    let books = Books::of(&spool);
    for count in ["rows_resent", "segments_weak"] {
        assert_eq!(books.of_backend("full", count), 0, "waiting is no failure: {books:?}");
    }
    daemon.drain(Signal::TERM);
}
