//! Claims: a backlog goes in the order that the backend asks for, the newest interval before all of it;
//! what outgrows a cap goes by that cap's name in the books, row by row, and nothing else goes; a backend
//! that is sent to once at the most never gets a line twice, and what broke off is counted. Method: the
//! built daemon between a sender and carbons that fail by a script.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::daemon::{Daemon, Ingest, Launch, send};
use support::faulty_carbon::{Fault, FaultyCarbon};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(30);
const HITS: &str = "stats_counts.order.hits";

fn start(folder: &Path, port: u16, keys: &str) -> Daemon {
    let text = format!(
        "port = 0\nmgmt_port = 0\nflushInterval = 1000\n\n\
         [[backends]]\nname = \"a\"\naddress = \"127.0.0.1:{port}\"\n{keys}\n"
    );
    Launch::under(folder, Ingest::Recvmmsg).config("floe.toml", &text).start()
}

/// Sends one value into an interval of its own; returns the interval's timestamp.
fn send_interval(daemon: &Daemon) -> u64 {
    let second = wait::next_second(Duration::from_millis(300));
    send(daemon.udp(), ["order.hits:1|c"]);
    second + 1
}

/// Timestamps in the order in which they came.
fn order(carbon: &FaultyCarbon) -> Vec<u64> {
    let lines = carbon.lines();
    let hits = lines.iter().filter_map(|line| line.strip_prefix(HITS)?.strip_prefix(' '));
    let times = hits.filter_map(|fields| fields.strip_prefix("1 ")?.parse().ok());
    times.collect()
}

fn rows(books: &Books, words: &[&str]) -> u64 {
    words.iter().map(|word| books.of_backend("a", word)).sum()
}

/// A backlog of several intervals, left by a daemon that has ended; what follows are the timestamps.
fn backlog(folder: &Path, port: u16, keys: &str) -> Vec<u64> {
    let mut daemon = start(folder, port, keys);
    let times = (0..5).map(|_| send_interval(&daemon)).collect();
    daemon.drain(Signal::TERM);
    times
}

#[test]
fn a_backlog_goes_oldest_or_newest_first_behind_the_newest_interval() {
    for keys in ["order = \"oldest\"", "order = \"newest\""] {
        let port = ports::free();
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let mut times = backlog(folder.path(), port, keys);
        let carbon = FaultyCarbon::start_on(port, &[]);
        let mut daemon = start(folder.path(), port, keys);
        wait::until("the backlog", BOUND, || (times.len() <= order(&carbon).len()).then_some(()));
        if keys.contains("newest") {
            times.reverse();
        } else {
            // The newest interval, which has one of the five or none, goes before them.
            let newest = order(&carbon)[0];
            times.sort_by_key(|time| (*time != newest, *time));
        }
        assert_eq!(order(&carbon), times, "{keys}");
        daemon.drain(Signal::TERM);
    }
}

#[test]
fn what_outgrows_the_bytes_of_a_queue_is_counted_as_that() {
    let port = ports::free();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = start(folder.path(), port, "backlog_bytes = \"16KiB\"");
    let spool = daemon.ready().spool.clone();
    let mut times = BTreeSet::new();
    let expired = wait::until("an expiry", BOUND, || {
        times.insert(send_interval(&daemon));
        Some(Books::of(&spool)).filter(|books| 2 <= books.of_backend("a", "segments_expired"))
    });
    assert_eq!(rows(&expired, &["rows_expired"]), rows(&expired, &["rows_expired_bytes"]));
    deliver_the_rest(&mut daemon, port, &spool, &times);
}

#[test]
fn what_outgrows_the_age_of_a_queue_is_counted_as_that() {
    let port = ports::free();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = start(folder.path(), port, "backlog_age = \"3s\"");
    let spool = daemon.ready().spool.clone();
    let mut times = BTreeSet::new();
    let expired = wait::until("an expiry", BOUND, || {
        times.insert(send_interval(&daemon));
        Some(Books::of(&spool)).filter(|books| 2 <= books.of_backend("a", "segments_expired"))
    });
    assert_eq!(rows(&expired, &["rows_expired"]), rows(&expired, &["rows_expired_age"]));
    deliver_the_rest(&mut daemon, port, &spool, &times);
}

/// The backend comes up: it gets what has not expired, no more and no less.
fn deliver_the_rest(daemon: &mut Daemon, port: u16, spool: &Path, times: &BTreeSet<u64>) {
    let carbon = FaultyCarbon::start_on(port, &[]);
    let books = wait::until("an empty queue", BOUND, || {
        let books = Books::of(spool);
        let is_sent = rows(&books, &["rows_acknowledged"]) != 0;
        (is_sent && rows(&books, &["rows_pending"]) == 0).then_some(books)
    });
    let causes = ["rows_expired_age", "rows_expired_bytes", "rows_expired_disk_full"];
    assert_eq!(rows(&books, &causes), rows(&books, &["rows_expired"]), "{books:?}");
    let all = ["rows_acknowledged", "rows_expired"];
    assert_eq!(rows(&books, &all), rows(&books, &["rows_spooled"]), "{books:?}");
    daemon.drain(Signal::TERM);
    let came: BTreeSet<u64> = order(&carbon).into_iter().collect();
    assert!(came.is_subset(times), "{came:?} of {times:?}");
    let newest = times.iter().rev().take(came.len()).copied().collect::<BTreeSet<u64>>();
    assert_eq!(came, newest, "the oldest are those that expired");
}

#[test]
fn without_redelivery_no_line_comes_twice_and_what_broke_off_is_counted() {
    let script = [
        Fault::None,
        Fault::ResetAfter(150),
        Fault::CloseAfter(0),
        Fault::None,
        Fault::CloseAfter(60),
        Fault::None,
    ];
    let carbon = FaultyCarbon::start(&script);
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = start(folder.path(), carbon.port(), "redelivery = \"never\"");
    let spool = daemon.ready().spool.clone();
    wait::until("the whole script", BOUND, || {
        send_interval(&daemon);
        (script.len() < carbon.accepted().len()).then_some(())
    });
    let books = wait::until("an empty queue", BOUND, || {
        let books = Books::of(&spool);
        (rows(&books, &["rows_pending", "rows_in_flight"]) == 0).then_some(books)
    });
    assert_eq!(books.of_backend("a", "segments_unconfirmed"), 3, "{books:?}");
    let all = ["rows_acknowledged", "rows_unconfirmed"];
    assert_eq!(rows(&books, &all), rows(&books, &["rows_spooled"]), "{books:?}");
    assert_eq!(rows(&books, &["rows_resent", "segments_resent"]), 0, "{books:?}");
    let lines = carbon.lines();
    let distinct: BTreeSet<&String> = lines.iter().collect();
    assert_eq!(distinct.len(), lines.len(), "{lines:?}");
    daemon.drain(Signal::TERM);
}
