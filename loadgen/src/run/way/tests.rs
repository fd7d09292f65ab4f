//! The proof by points that are made up, and the waits by times that are.

use super::*;
use crate::cli::{Arguments, Task};
use crate::received::Point;
use crate::sink::Protocol;
use std::ffi::OsString;
use std::net::UdpSocket;

const NUMBER: i64 = 1_795_000_000;

fn names() -> Names {
    Names { counter: "counter".to_owned(), gauge: "gauge".to_owned() }
}

fn received(points: &[(&str, i64, i64)]) -> Received {
    let mut received = Received::default();
    received.connections = 1;
    for &(name, timestamp, value) in points {
        received.record(name, Point { timestamp, value: value as f64 });
    }
    received
}

#[test]
fn the_interval_is_that_of_two_flushes_with_lines_of_this_search() {
    // What the daemon kept from before, the last search's number in it, and a flush without lines.
    let mut points = vec![("counter", 4, 7), ("gauge", 4, NUMBER - 1), ("counter", 7, 0)];
    assert_eq!(names().stage(NUMBER, &received(&points)), Stage::Sent);
    points.extend([("gauge", 20, NUMBER), ("counter", 20, 3)]);
    assert_eq!(names().stage(NUMBER, &received(&points)), Stage::Through(20));
    points.extend([("gauge", 30, NUMBER), ("counter", 30, 50)]);
    let proven = Stage::Proven { since: 20, interval_s: 10 };
    assert_eq!(names().stage(NUMBER, &received(&points)), proven);
}

#[test]
fn a_proof_that_fails_says_how_far_it_came() {
    let silent = Received::default();
    assert!(names().why_not(Stage::Sent, &silent).starts_with("nobody connected to it"));
    for (points, stage, words) in [
        (&[][..], Stage::Sent, "no point came"),
        (&[("other", 1, 1)], Stage::Sent, "neither gauge nor counter"),
        (&[("counter", 1, 1)], Stage::Sent, "not what was sent (gauge)"),
        (&[("gauge", 1, 1)], Stage::Through(1), "gauge came, but counter did not"),
        (&[("gauge", 1, 1), ("counter", 1, 1)], Stage::Through(1), "with two flushes"),
    ] {
        let why = names().why_not(stage, &received(points));
        assert!(why.contains(words), "{why}");
    }
}

/// Tries to prove the way from `target`, with no time for a flush.
fn prove(target: &str, refused: &mut Refused) -> String {
    let sink = "--sink=text=127.0.0.1:0";
    let line = ["loadgen", "search", sink, "--settle=0s", "--target", target].map(OsString::from);
    let Task::Search(load, _) = Arguments::read(&line).unwrap().into_task().unwrap() else {
        panic!("a search was asked for");
    };
    let sink = Sink::bind(load.sinks[0].0, load.sinks[0].1).unwrap();
    let cut = Way::prove(&sink, &load, Duration::ZERO, refused, &Stop::default());
    let Err(Cut::Failed(error)) = cut else { panic!("{cut:?}") };
    format!("{error:#}").replace(&sink.address().to_string(), "SINK")
}

#[test]
fn a_sink_that_nothing_reaches_ends_the_search_before_its_first_round() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = receiver.local_addr().unwrap().to_string();
    let why = prove(&target, &mut Refused::default());
    assert!(why.starts_with("cannot judge by the text sink SINK: within "), "{why}");
    assert!(why.contains(&format!("udp:{target}, nobody connected to it")), "{why}");
}

/// A flush that is on its way when the interval is over is not lost.
#[test]
fn a_wait_is_longer_than_the_interval_whatever_settle_says() {
    let sink = Sink::bind(Protocol::Text, "127.0.0.1:0".parse().unwrap()).unwrap();
    for (settle_s, patience_s) in [(0, 11), (1, 11), (5, 15)] {
        let (interval, settle) = (Duration::from_secs(10), Duration::from_secs(settle_s));
        let way = Way { sink: &sink, names: names(), since: 0, interval, settle };
        assert_eq!(way.patience(), Duration::from_secs(patience_s));
    }
}

/// A daemon that flushes every 10 s and delivers after 3.
#[test]
fn lines_are_late_until_an_interval_and_the_time_to_settle_brought_none() {
    let s = Duration::from_secs;
    let mut tide = Tide::new(100.0, s(15));
    assert_eq!(tide.look(s(3), 60.0), Standing::Coming);
    assert_eq!(tide.look(s(13), 90.0), Standing::Coming);
    let mut whole = Tide { ..tide };
    assert_eq!(whole.look(s(23), 100.0), Standing::Over { missing: 0.0 });
    // 10 were lost: the next flush has none.
    assert_eq!(tide.look(s(23), 90.0), Standing::Coming);
    assert_eq!(tide.look(s(27), 90.0), Standing::Coming);
    assert_eq!(tide.look(s(28), 90.0), Standing::Over { missing: 10.0 });
}

#[test]
fn a_round_whose_lines_do_not_end_is_not_followed_by_another() {
    let mut tide = Tide::new(1e6, Duration::from_secs(15));
    let mut standings = (1..=10).map(|flush| {
        let elapsed = Duration::from_secs(10 * flush);
        (flush, tide.look(elapsed, flush as f64))
    });
    let end = standings.find(|(_, standing)| *standing != Standing::Coming);
    assert_eq!(end, Some((8, Standing::Endless)));
}
