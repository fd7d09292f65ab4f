//! Claims: whatever a backend does to its connections, it has everything once it behaves, each name and
//! timestamp with one value; the books say so for each backend; and no other backend waits for it.
//! Method: the built daemon between a sender that knows what is owed and carbons that fail by a script.
//! That one backend does not hold up another is judged by the order of events: what the other gets
//! while the first still holds its connection.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::daemon::{Daemon, Ingest, Launch, send};
use support::faulty_carbon::{Fault, FaultyCarbon};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(40);
/// Counters of each interval: a few kilobytes of lines.
const NAMES: u64 = 50;
/// Shortest pause between two attempts.
const BACKOFF: Duration = Duration::from_millis(200);

/// A daemon with the backends `(name, port, further keys)`.
fn start(folder: &Path, backends: &[(&str, u16, &str)]) -> Daemon {
    let mut text = "port = 0\nmgmt_port = 0\nflushInterval = 1000\n".to_owned();
    for (name, port, keys) in backends {
        text.push_str(&format!(
            "\n[[backends]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\n{keys}\n"
        ));
    }
    Launch::under(folder, Ingest::IoUring).config("floe.toml", &text).start()
}

/// What is owed: the value of each of [`NAMES`] counters at each timestamp.
type Owed = BTreeMap<u64, u64>;

/// Sends an interval's worth, another value each time.
fn send_interval(daemon: &Daemon, owed: &mut Owed) {
    let amount = 3 + 2 * owed.len() as u64;
    let second = wait::next_second(Duration::from_millis(300));
    send(daemon.udp(), (0..NAMES).map(|index| format!("fault.hits.{index}:{amount}|c")));
    owed.insert(second + 1, amount);
}

fn name(index: u64) -> String {
    format!("stats_counts.fault.hits.{index}")
}

/// Whether `carbon` has all that is owed of each name.
fn has_all(carbon: &FaultyCarbon, owed: &Owed) -> bool {
    let values = carbon.values();
    owed.iter().all(|(time, amount)| {
        let has = |index| {
            values.get(&(name(index), *time)).is_some_and(|all| all == &[amount.to_string()])
        };
        (0..NAMES).all(has)
    })
}

fn wait_for_all(carbon: &FaultyCarbon, owed: &Owed) {
    wait::until("everything that is owed", BOUND, || has_all(carbon, owed).then_some(()));
    for index in 0..NAMES {
        let mut series = carbon.series(&name(index));
        series.retain(|_, value| *value != 0.0);
        let amounts: BTreeMap<u64, f64> =
            owed.iter().map(|(time, amount)| (*time, *amount as f64)).collect();
        assert_eq!(series, amounts, "{index}");
    }
}

/// Waits until nothing is pending, with all identities of the books holding.
fn wait_for_books(spool: &Path, backend: &str) -> Books {
    wait::until("an empty queue", BOUND, || {
        let books = Books::of(spool);
        let is_sent = books.of_backend(backend, "rows_acknowledged") != 0;
        (is_sent && books.of_backend(backend, "rows_pending") == 0).then_some(books)
    })
}

#[test]
fn connections_that_break_off_anywhere_lose_nothing() {
    let script = [
        Fault::ResetAfter(1),
        Fault::CloseAfter(0),
        Fault::ResetAfter(700),
        Fault::CloseAfter(1_500),
        Fault::ResetAfter(2_500),
        Fault::None,
        Fault::CloseAfter(3_000),
        Fault::ResetAfter(0),
        Fault::None,
    ];
    let (bad, good) = (FaultyCarbon::start(&script), FaultyCarbon::start(&[]));
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = start(folder.path(), &[("bad", bad.port(), ""), ("good", good.port(), "")]);
    let spool = daemon.ready().spool.clone();
    let mut owed = Owed::new();
    for _ in 0..4 {
        send_interval(&daemon, &mut owed);
    }
    wait_for_all(&good, &owed);
    wait_for_all(&bad, &owed);
    let books = wait_for_books(&spool, "bad");
    assert!(0 < books.of_backend("bad", "rows_resent"), "{books:?}");
    assert_eq!(books.of_backend("good", "rows_resent"), 0, "{books:?}");
    for backend in ["bad", "good"] {
        assert_eq!(books.of_backend(backend, "rows_spooled"), books.count("rows_spooled"));
        assert_eq!(books.of_backend(backend, "segments_weak"), 0, "{books:?}");
    }
    assert!(script.len() < bad.accepted().len(), "the whole script was played");
    daemon.drain(Signal::TERM);
}

/// Carbon's flow control looks like this, and so does a relay that hangs.
#[test]
fn a_backend_that_stops_reading_is_waited_for_and_holds_up_no_other() {
    let (bad, good) = (FaultyCarbon::start(&[Fault::NeverRead]), FaultyCarbon::start(&[]));
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let backends = [("bad", bad.port(), "stall = \"1h\""), ("good", good.port(), "")];
    let mut daemon = start(folder.path(), &backends);
    let spool = daemon.ready().spool.clone();
    let mut owed = Owed::new();
    for _ in 0..4 {
        send_interval(&daemon, &mut owed);
        // All the while the other one holds its first connection, and nothing was read from it.
        wait_for_all(&good, &owed);
    }
    assert_eq!((bad.accepted().len(), bad.lines().len()), (1, 0));
    let books = Books::of(&spool);
    assert_eq!(books.of_backend("bad", "rows_acknowledged"), 0, "{books:?}");
    bad.heal();
    wait_for_all(&bad, &owed);
    let books = wait_for_books(&spool, "bad");
    assert_eq!(books.of_backend("bad", "rows_resent"), 0, "waiting is no failure: {books:?}");
    daemon.drain(Signal::TERM);
}

#[test]
fn a_reader_of_one_byte_a_second_has_everything_in_the_end() {
    let bad = FaultyCarbon::start(&[Fault::Slow(1)]);
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = start(folder.path(), &[("bad", bad.port(), "stall = \"1s\"")]);
    let spool = daemon.ready().spool.clone();
    let mut owed = Owed::new();
    send_interval(&daemon, &mut owed);
    // Its kernel has taken all of it three times: there is no more to be had from such a peer.
    wait::until("a weak acknowledgement", BOUND, || {
        (0 < Books::of(&spool).of_backend("bad", "segments_weak")).then_some(())
    });
    send_interval(&daemon, &mut owed);
    bad.heal();
    wait_for_all(&bad, &owed);
    let books = wait_for_books(&spool, "bad");
    assert!(2 <= books.of_backend("bad", "segments_resent"), "{books:?}");
    daemon.drain(Signal::TERM);
}

#[test]
fn attempts_are_at_least_a_fifth_of_a_second_apart_and_grow_rarer() {
    let bad = FaultyCarbon::start(&[Fault::ResetAfter(0)]);
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let started = wait::now();
    let mut daemon = start(folder.path(), &[("bad", bad.port(), "")]);
    let mut owed = Owed::new();
    send_interval(&daemon, &mut owed);
    let attempts = wait::until("five attempts", BOUND, || {
        Some(bad.accepted().len()).filter(|attempts| 5 <= *attempts)
    });
    // Delays of at least 0.2, 0.4, 0.8 s ...: so much time must have passed at least.
    let least = BACKOFF * (2_u32.pow(u32::try_from(attempts).expect("a few") - 1) - 1);
    assert!(least <= wait::now() - started, "{attempts} attempts");
    bad.heal();
    send_interval(&daemon, &mut owed);
    wait_for_all(&bad, &owed);
    daemon.drain(Signal::TERM);
}

#[test]
fn a_backend_that_is_refused_or_does_not_answer_gets_everything_later() {
    let refusing = ports::free();
    // The kernel answers nobody for a listener whose queue is full.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .expect("the machine has sockets");
    silent.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    silent.listen(0).expect("a bound socket listens");
    let silent = TcpListener::from(silent);
    let silent_port = silent.local_addr().expect("it is bound").port();
    let filling = TcpStream::connect((Ipv4Addr::LOCALHOST, silent_port)).expect("the first fits");
    let good = FaultyCarbon::start(&[]);

    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let backends =
        [("refusing", refusing, ""), ("silent", silent_port, ""), ("good", good.port(), "")];
    let mut daemon = start(folder.path(), &backends);
    let spool = daemon.ready().spool.clone();
    let mut owed = Owed::new();
    for backend in ["refusing", "silent"] {
        wait::until(backend, BOUND, || {
            send_interval(&daemon, &mut owed);
            wait_for_all(&good, &owed);
            let log = daemon.output();
            let mut failures = log.lines().filter(|line| line.contains("segment not delivered"));
            failures.any(|line| line.contains(&format!("\"{backend}\""))).then_some(())
        });
    }
    let log = daemon.output();
    assert!(log.contains("Connection refused"), "{log}");
    assert!(log.contains("timed out"), "{log}");
    drop(filling);
    let backends = [
        ("refusing", FaultyCarbon::start_on(refusing, &[])),
        ("silent", FaultyCarbon::start_with(silent, &[])),
    ];
    for (backend, carbon) in &backends {
        wait_for_all(carbon, &owed);
        wait_for_books(&spool, backend);
    }
    daemon.drain(Signal::TERM);
}
