//! Claims: after kill -9 the books are in the spool, whatever was delivered and unlinked; the next run
//! goes on where they stand; what a backend got is what they say. Method: the built daemon, killed
//! with one backend up and one away; `floe books` from the files held against the sender's count, the
//! files of the queue and what the carbons recorded.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::carbon::{Protocol, RecordingCarbon, series};
use support::daemon::{Daemon, Ingest, Launch, floe_output, send, sender, text_of};
use support::settings::{Backend, toml};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(20);
const DATAGRAMS: u64 = 20;
const KILLS: usize = 6;
const BETWEEN_DATAGRAMS: Duration = Duration::from_millis(1);

fn start(folder: &Path, ingest: Ingest, ports: [u16; 2]) -> Daemon {
    let backend = |name, port| Backend { name, port, protocol: Protocol::Text };
    let text = toml(1000, &[backend("here", ports[0]), backend("away", ports[1])]);
    Launch::under(folder, ingest).config("floe.toml", &text).start()
}

/// Sends, and waits until all of it is in segments; `total` is what was sent in all.
fn send_and_spool(daemon: &Daemon, spool: &Path, total: u64) {
    send(
        daemon.udp(),
        (0..DATAGRAMS).map(|index| format!("kept.hits:1|c\nkept.number.{index}:1|c")),
    );
    let mut last = None;
    let spooled = wait::try_until(BOUND, || {
        let books = Books::of(spool);
        assert_eq!(books.source(), "daemon");
        let is_all = books.count("values_spooled") == 2 * total;
        last = Some(books);
        is_all.then_some(())
    });
    assert!(spooled.is_some(), "not {} values in segments but {last:?}", 2 * total);
}

fn segments(spool: &Path, backend: &str) -> usize {
    let entries = fs::read_dir(spool.join("backends").join(backend)).expect("it has a queue");
    entries.count()
}

#[test]
fn the_books_survive_kill_9_and_the_next_run_goes_on_with_them() {
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let here = RecordingCarbon::start();
        let away_port = ports::free();
        let mut daemon = start(folder.path(), ingest, [here.port(), away_port]);
        let spool = daemon.ready().spool.clone();
        for round in 1..=2 {
            send_and_spool(&daemon, &spool, round * DATAGRAMS);
        }
        wait::until("a delivery", BOUND, || {
            (2 * DATAGRAMS < Books::of(&spool).of_backend("here", "rows_acknowledged"))
                .then_some(())
        });
        daemon.kill();

        let books = Books::of(&spool);
        assert_eq!((books.source(), books.count("starts")), ("spool", 1));
        assert_eq!(books.count("datagrams_received"), 2 * DATAGRAMS);
        assert_eq!(books.count("lines_received"), 4 * DATAGRAMS);
        assert_eq!(books.count("values_spooled"), 4 * DATAGRAMS);
        let rows = books.count("rows_spooled");
        assert_eq!(books.of_backend("away", "rows_pending"), rows, "{books:?}");
        assert_eq!(books.of_backend("here", "rows_spooled"), rows, "{books:?}");
        assert_eq!(books.of_backend("away", "segments_spooled"), segments(&spool, "away") as u64);
        let text = text_of(&floe_output(["books", "--spool", spool.to_str().expect("plain")]));
        assert!(text.contains("\n  holds   backend.away: "), "{text}");

        let away = RecordingCarbon::start_on(away_port);
        let mut daemon = start(folder.path(), ingest, [here.port(), away_port]);
        send_and_spool(&daemon, &spool, 3 * DATAGRAMS);
        daemon.drain(Signal::TERM);
        let books = Books::of(&spool);
        assert_eq!((books.source(), books.count("starts")), ("spool", 2));
        assert_eq!(books.count("datagrams_received"), 3 * DATAGRAMS);
        for (name, carbon) in [("here", &here), ("away", &away)] {
            carbon.wait_idle(BOUND);
            let points = carbon.take_points(Protocol::Text);
            let hits: f64 = series(&points, "stats_counts.kept.hits").values().sum();
            assert_eq!(hits, 3.0 * DATAGRAMS as f64, "{name}");
            assert_eq!(books.of_backend(name, "rows_pending"), 0, "{name}: {books:?}");
            assert_eq!(books.of_backend(name, "rows_found"), 0, "{name}: {books:?}");
            assert_eq!(books.of_backend(name, "rows_spooled"), books.count("rows_spooled"));
            // The deliveries behind the last segment of each run: nobody was left to tell of them.
            let untold = books.of_backend(name, "rows_untold");
            assert!(untold < books.count("rows_spooled"), "{name}: {books:?}");
        }
    }
}

/// Sends one value after the other until it is told to end; returns how many were sent.
fn send_on(to: SocketAddr, end: Receiver<()>) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let socket = sender();
        let mut sent = 0;
        while end.recv_timeout(BETWEEN_DATAGRAMS) == Err(RecvTimeoutError::Timeout) {
            sent += u64::from(socket.send_to(b"kept.hits:1|c", to).is_ok());
        }
        sent
    })
}

#[test]
fn after_many_kills_the_books_are_what_carbon_has() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let carbon = RecordingCarbon::start();
    let ports = [carbon.port(), ports::free()];
    let mut sent = 0;
    let mut told = [0; 3];
    for kill in 0..KILLS {
        let mut daemon = start(folder.path(), Ingest::BOTH[kill % 2], ports);
        let spool = daemon.ready().spool.clone();
        let (end, ended) = sync_channel(0);
        let sending = send_on(daemon.udp(), ended);
        // At another place of the interval each time.
        wait::next_second(Duration::from_millis(200 + 130 * kill as u64));
        wait::next_second(Duration::from_millis(130 * kill as u64));
        daemon.kill();
        drop(end);
        sent += sending.join().expect("it sends");
        let books = Books::of(&spool);
        let now =
            ["datagrams_received", "values_spooled", "rows_spooled"].map(|name| books.count(name));
        assert!(told.iter().zip(now).all(|(before, now)| *before <= now), "{told:?}, {books:?}");
        assert!(now[0] <= sent, "{sent} sent: {books:?}");
        told = now;
    }
    let mut daemon = start(folder.path(), Ingest::Recvmmsg, ports);
    let spool = daemon.ready().spool.clone();
    daemon.drain(Signal::TERM);
    carbon.wait_idle(BOUND);
    let points = carbon.take_points(Protocol::Text);
    let hits: f64 = series(&points, "stats_counts.kept.hits").values().sum();
    let books = Books::of(&spool);
    assert!(0.0 < hits);
    assert_eq!(hits, books.count("values_spooled") as f64, "{books:?}");
    // A run that was killed before its first segment left nothing.
    let starts = books.count("starts");
    assert!(1 < starts && starts <= KILLS as u64 + 1, "{books:?}");
    assert_eq!(books.of_backend("here", "rows_pending"), 0, "{books:?}");
    assert_eq!(books.of_backend("away", "rows_pending"), books.count("rows_spooled"), "{books:?}");
    assert_eq!(books.of_backend("away", "rows_untold"), 0, "nothing left: {books:?}");
}

#[test]
fn rows_that_leave_a_queue_by_another_hand_break_the_books_and_are_told_once() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let ports = [ports::free(), ports::free()];
    let mut daemon = start(folder.path(), Ingest::Recvmmsg, ports);
    let spool = daemon.ready().spool.clone();
    send_and_spool(&daemon, &spool, DATAGRAMS);
    let queue = spool.join("backends/away");
    let stolen = fs::read_dir(&queue).expect("it has a queue").next().expect("nobody takes it");
    fs::remove_file(stolen.expect("it is readable").path()).expect("the test owns the spool");
    wait::until("the next flush", BOUND, || {
        let output = floe_output(["books", "--spool", spool.to_str().expect("plain")]);
        let text = text_of(&output);
        let is_seen =
            text.contains("\n  BROKEN  backend.away: ") && output.status.code() == Some(1);
        (is_seen
            && text.lines().any(|line| {
                let mut words = line.split_whitespace();
                (words.next(), words.next()) == (Some("accounting_broken"), Some("1"))
            }))
        .then_some(())
    });
    // Two more flushes find the same.
    let second = wait::next_second(Duration::from_millis(500));
    wait::until("two more flushes", BOUND, || (second + 2 < wait::wall().as_secs()).then_some(()));
    let output = daemon.output();
    assert_eq!(output.matches("books not balanced").count(), 1, "{output}");
    assert!(output.contains("books=\"backend.away\""), "both sides: {output}");
    daemon.drain(Signal::TERM);
}
