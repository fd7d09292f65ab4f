//! Claims: `floe --take-over` puts a new daemon in the place of the one that runs, under load, without
//! losing a datagram, a line of a stream, or the open interval; no timestamp is used twice; whatever
//! goes wrong before the old one has stopped leaves it serving. Method: the built binary again and
//! again, senders of our own that count, a carbon that records, `floe books` from the spool.
#![expect(clippy::print_stderr, reason = "what was sent, and what could not be done, is said")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::carbon::{Point, Protocol, RecordingCarbon};
use support::daemon::{Daemon, Ingest, Launch, send, sender};
use support::{settings, wait};

mod support;

const BOUND: Duration = Duration::from_secs(20);
const UPGRADES: usize = 4;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the machine has a temporary folder")
}

/// UDP, TCP and a Unix socket, and one backend.
fn config(folder: &Path, flush_ms: u32, carbon: u16) -> String {
    let socket = folder.join("floe.sock");
    let backends = settings::one_text_backend(flush_ms, carbon).replacen("port = 0\n", "", 1);
    let server = |kind: &str, rest: &str| format!("[[servers]]\nserver = {kind:?}\n{rest}\n");
    [
        backends,
        server("udp", "address = \"127.0.0.1\"\nport = 0"),
        server("tcp", "address = \"127.0.0.1\"\nport = 0"),
        server("tcp", &format!("socket = {:?}", socket.display().to_string())),
    ]
    .concat()
}

fn launch(folder: &Path, ingest: Ingest, config: &str) -> Launch {
    Launch::under(folder, ingest).config("floe.toml", config)
}

/// Starts a daemon in the place of `before`, which ends.
fn take_over(before: &mut Daemon, launch: Launch) -> Daemon {
    let after = launch.argument("--take-over").start();
    let status = before.wait_exit(BOUND);
    assert!(status.success(), "{status}: {}\n{}", before.output(), after.output());
    assert_eq!(after.ready().udp, before.ready().udp, "{}", after.output());
    assert_eq!(after.ready().tcp, before.ready().tcp);
    assert_eq!(after.ready().mgmt, before.ready().mgmt);
    after
}

/// A thread that sends until it is told to end, and how often it did.
struct Sending {
    end: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sending {
    fn start(mut send: impl FnMut(u64) + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let mut sent = 0;
            while !seen.load(Ordering::Relaxed) {
                send(sent);
                sent += 1;
            }
            sent
        });
        Self { end, thread }
    }

    fn udp(to: SocketAddr) -> Self {
        let socket = sender();
        Self::start(move |number| {
            let text = format!("load.hits:1|c\nload.size:{}|ms\nload.who:{}|s", 3, number % 50);
            socket.send_to(text.as_bytes(), to).expect("somebody always listens");
            if number % 16 == 0 {
                // A burst, then time for others: this machine is shared.
                wait::pause(Duration::from_millis(1));
            }
        })
    }

    fn stream(mut stream: impl std::io::Write + Send + 'static) -> Self {
        Self::start(move |number| {
            // Cut where a hand-over may find half a line.
            let text = format!("load.lines:1|c\nload.last:{number}|g\n");
            let (first, rest) = text.as_bytes().split_at(text.len() * (number % 7) as usize / 7);
            for part in [first, rest] {
                stream.write_all(part).expect("the connection lives on");
            }
            if number % 16 == 0 {
                wait::pause(Duration::from_millis(1));
            }
        })
    }

    fn end(self) -> u64 {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().expect("it sends")
    }
}

/// The values of one series by time; a point that came twice came with one value.
fn series(points: &[Point], name: &str) -> BTreeMap<u64, f64> {
    let mut series = BTreeMap::new();
    for point in points.iter().filter(|point| point.name == name) {
        let time = point.time.parse().expect("timestamps are whole seconds");
        let before = series.insert(time, point.number());
        assert!(before.is_none_or(|value| value == point.number()), "{name} at {time} twice");
    }
    series
}

fn sum(points: &[Point], name: &str) -> f64 {
    series(points, name).values().sum()
}

#[test]
fn upgrades_under_load_lose_nothing_on_io_uring() {
    upgrades_under_load_lose_nothing(|_| Ingest::IoUring);
}

#[test]
fn upgrades_under_load_lose_nothing_on_recvmmsg() {
    upgrades_under_load_lose_nothing(|_| Ingest::Recvmmsg);
}

#[test]
fn upgrades_from_one_receive_path_to_the_other_lose_nothing() {
    upgrades_under_load_lose_nothing(|number| Ingest::BOTH[number % 2]);
}

fn upgrades_under_load_lose_nothing(ingest: impl Fn(usize) -> Ingest) {
    let (carbon, folder) = (RecordingCarbon::start(), folder());
    let config = config(folder.path(), 1_000, carbon.port());
    let mut daemon = launch(folder.path(), ingest(0), &config).start();
    let spool = daemon.ready().spool.clone();
    let (udp, tcp) = (daemon.udp(), daemon.ready().tcp[0]);
    let udp: Vec<Sending> = (0..3).map(|_| Sending::udp(udp)).collect();
    let unix = UnixStream::connect(folder.path().join("floe.sock")).expect("it listens");
    let mut streams = vec![Sending::stream(unix)];
    streams.extend((0..2).map(|_| {
        let stream = TcpStream::connect(tcp).expect("it listens");
        stream.set_nodelay(true).expect("TCP has the option");
        Sending::stream(stream)
    }));
    for number in 1..=UPGRADES {
        // At another place of the interval each time.
        wait::next_second(Duration::from_millis(230 * number as u64 % 1_000));
        // More workers, fewer, and as many as before.
        let workers = ["1", "3", "2"][number % 3];
        let launch = launch(folder.path(), ingest(number), &config);
        daemon = take_over(&mut daemon, launch.argument("--workers").argument(workers));
    }
    wait::next_second(Duration::from_millis(300));
    let lines: u64 = streams.into_iter().map(Sending::end).sum();
    let sent: u64 = udp.into_iter().map(Sending::end).sum();
    daemon.drain(Signal::TERM);
    carbon.wait_idle(BOUND);

    let books = Books::of(&spool);
    let dropped = books.count("datagrams_dropped.kernel");
    assert_eq!(books.count("datagrams_dropped.unread"), 0, "{books:?}");
    let received = books.count("datagrams_received");
    assert_eq!(received + dropped, sent, "{books:?}\n{}", daemon.output());
    assert_eq!(books.count("values_recorded"), 3 * received + 2 * lines, "{books:?}");
    assert_eq!(books.count("values_rejected.syntax"), 0, "{books:?}");
    assert_eq!(books.count("lines_dropped.unfinished"), 0, "{books:?}");
    assert_eq!(books.count("starts"), UPGRADES as u64 + 1);
    assert_eq!(books.of_backend("a", "rows_found"), 0, "{books:?}");
    let points = carbon.take_points(Protocol::Text);
    for (name, expected) in [
        ("stats_counts.load.hits", received),
        ("stats_counts.load.lines", lines),
        ("stats.timers.load.size.count", received),
        ("stats.timers.load.size.sum", 3 * received),
        ("stats.statsd.floe.datagrams_received", received),
        ("stats.statsd.floe.datagrams_dropped.kernel", dropped),
    ] {
        assert_eq!(sum(&points, name), expected as f64, "{name}");
    }
    // Members that both daemons have seen are one: none is counted twice.
    let members = series(&points, "stats.sets.load.who.count");
    assert_eq!(members.values().copied().fold(0.0, f64::max), 50.0, "{members:?}");
    // No interval is missing but those that were merged into the next because a tick was late.
    let times: Vec<u64> = series(&points, "stats_counts.load.hits").into_keys().collect();
    let missing = times[times.len() - 1] - times[0] + 1 - times.len() as u64;
    assert!(missing <= books.count("ticks_merged"), "{times:?}: {books:?}");
    eprintln!("{sent} datagrams, {lines} times two lines, {dropped} dropped by the kernel");
}

#[test]
fn what_the_interval_and_the_catalogue_hold_goes_along() {
    for ingest in Ingest::BOTH {
        let (carbon, folder) = (RecordingCarbon::start(), folder());
        let config = config(folder.path(), 4_000, carbon.port());
        let mut daemon = launch(folder.path(), ingest, &config).start();
        let udp = daemon.udp();
        send(udp, ["idle.hits:5|c", "kept.level:7|g", "kept.level:+2|g"]);
        carbon.wait_points("the first flush", BOUND, Protocol::Text, |points| {
            sum(points, "stats_counts.idle.hits") == 5.0
        });
        carbon.take_points(Protocol::Text);
        send(udp, ["part.hits:1|c", "part.time:4|ms", "part.who:a|s", "kept.level:+1|g"]);
        let mut daemon = take_over(&mut daemon, launch(folder.path(), ingest, &config));
        send(udp, ["part.hits:2|c", "part.time:8|ms", "part.who:a|s", "part.who:b|s"]);
        send(udp, ["kept.level:-3|g"]);
        let points = carbon.wait_points("the next flush", BOUND, Protocol::Text, |points| {
            !series(points, "stats_counts.part.hits").is_empty()
        });
        for (name, expected) in [
            ("stats_counts.part.hits", 3.0),
            ("stats.timers.part.time.count", 2.0),
            ("stats.timers.part.time.sum", 12.0),
            ("stats.timers.part.time.lower", 4.0),
            ("stats.sets.part.who.count", 2.0),
            ("stats.gauges.kept.level", 7.0),
            ("stats_counts.idle.hits", 0.0),
        ] {
            let found = series(&points, name);
            assert_eq!(found.values().next(), Some(&expected), "{name}: {found:?}");
        }
        daemon.drain(Signal::TERM);
    }
}

#[test]
fn with_nothing_to_take_over_it_starts_as_ever() {
    let (carbon, folder) = (RecordingCarbon::start(), folder());
    let config = config(folder.path(), 1_000, carbon.port());
    let mut daemon =
        launch(folder.path(), Ingest::IoUring, &config).argument("--take-over").start();
    assert!(daemon.output().contains("nothing to take over"), "{}", daemon.output());
    // A daemon that was killed left its control socket behind.
    daemon.kill();
    let mut daemon =
        launch(folder.path(), Ingest::IoUring, &config).argument("--take-over").start();
    assert!(daemon.output().contains("nothing to take over"), "{}", daemon.output());
    send(daemon.udp(), ["a.hits:1|c"]);
    daemon.drain(Signal::TERM);
}

/// A daemon that serves, and is asked by whoever wants its place.
struct Serving {
    daemon: Daemon,
    carbon: RecordingCarbon,
    folder: tempfile::TempDir,
    sent: f64,
}

impl Serving {
    fn start() -> Self {
        let (carbon, folder) = (RecordingCarbon::start(), folder());
        let config = config(folder.path(), 1_000, carbon.port());
        let daemon = launch(folder.path(), Ingest::IoUring, &config).start();
        Self { daemon, carbon, folder, sent: 0.0 }
    }

    fn send(&mut self) {
        send(self.daemon.udp(), ["on.hits:1|c"]);
        self.sent += 1.0;
    }

    /// The first step of a successor that speaks for itself.
    fn ask(&self, form: u32) -> UnixStream {
        let mut stream = UnixStream::connect(self.daemon.ready().spool.join("control.sock"))
            .expect("the daemon answers");
        let question = format!("take-over 1 {form} both 4711\n");
        stream.write_all(question.as_bytes()).expect("it reads");
        stream
    }

    /// All steps of such a successor before the point of no return: it has the sockets.
    fn ask_for_all(&self, form: u32) -> UnixStream {
        let stream = self.ask(form);
        message(&stream);
        skip_descriptors(&stream);
        say(&stream, r#"{"sockets":[0,1,2]}"#);
        message(&stream);
        skip_descriptors(&stream);
        stream
    }

    /// The old daemon has ended; what it had is in the spool, and the next one delivers it.
    fn check_next(self) {
        let config = config(self.folder.path(), 1_000, self.carbon.port());
        let mut next = launch(self.folder.path(), Ingest::Recvmmsg, &config).start();
        next.drain(Signal::TERM);
        self.check();
    }

    fn wait_said(&self, what: &str) {
        let output = || self.daemon.output();
        wait::try_until(BOUND, || output().contains(what).then_some(()))
            .unwrap_or_else(|| panic!("{what:?} not said: {}", output()));
    }

    /// It still serves, and nothing is missing.
    fn goes_on(mut self) {
        self.send();
        let status = self.daemon.exited();
        assert!(status.is_none(), "{status:?}: {}", self.daemon.output());
        let spool = self.daemon.ready().spool.clone();
        assert_eq!(Books::of(&spool).source(), "daemon");
        self.daemon.drain(Signal::TERM);
        self.check();
    }

    fn check(&self) {
        self.carbon.wait_idle(BOUND);
        let points = self.carbon.take_points(Protocol::Text);
        let hits = sum(&points, "stats_counts.on.hits");
        assert_eq!(hits, self.sent, "{}", self.daemon.output());
        let books = Books::of(&self.daemon.ready().spool);
        assert_eq!(books.count("datagrams_received") as f64, self.sent);
    }
}

/// Reads one message: its length, then its bytes.
fn message(mut stream: &UnixStream) -> String {
    let mut length = [0; 8];
    stream.read_exact(&mut length).expect("an answer");
    let mut body = vec![0; usize::try_from(u64::from_le_bytes(length)).expect("short")];
    stream.read_exact(&mut body).expect("all of it");
    String::from_utf8(body).expect("JSON is text")
}

fn say(mut stream: &UnixStream, text: &str) {
    stream.write_all(&(text.len() as u64).to_le_bytes()).expect("it reads");
    stream.write_all(text.as_bytes()).expect("it reads");
}

/// Takes one byte per message of descriptors; the descriptors themselves go where they came from.
fn skip_descriptors(mut stream: &UnixStream) {
    stream.read_exact(&mut [0]).expect("descriptors");
}

#[test]
fn a_successor_that_goes_away_at_any_step_before_the_last_leaves_the_old_one_serving() {
    for steps in 0..3 {
        let mut serving = Serving::start();
        serving.send();
        let stream = serving.ask(1);
        if 0 < steps {
            assert!(message(&stream).contains("\"pid\""));
            skip_descriptors(&stream);
        }
        if 1 < steps {
            say(&stream, r#"{"sockets":[0,1,2]}"#);
            assert!(message(&stream).contains("Yes"));
            skip_descriptors(&stream);
            serving.send();
        }
        drop(stream);
        serving.wait_said("not handed over: going on");
        serving.goes_on();
    }
}

#[test]
fn a_successor_that_dies_with_the_interval_in_its_hands_costs_what_it_received_alone() {
    let mut serving = Serving::start();
    serving.send();
    let stream = serving.ask_for_all(1);
    serving.send();
    say(&stream, "\"Ready\"");
    assert!(message(&stream).contains("connections"));
    drop(stream);
    let status = serving.daemon.wait_exit(BOUND);
    assert_eq!(status.code(), Some(1), "{}", serving.daemon.output());
    assert!(
        serving.daemon.output().contains("the successor was lost"),
        "{}",
        serving.daemon.output()
    );
    serving.check_next();
}

#[test]
fn a_successor_of_another_form_gets_a_segment_and_a_longer_first_interval() {
    let mut serving = Serving::start();
    serving.send();
    let stream = serving.ask_for_all(999);
    say(&stream, "\"Ready\"");
    message(&stream);
    assert_eq!(message(&stream), "", "no line had begun");
    let state = message(&stream);
    assert!(state.contains("\"has_interval\":false"), "{state}");
    assert!(state.contains("\"base\":null"), "{state}");
    say(&stream, "\"Taken\"");
    let status = serving.daemon.wait_exit(BOUND);
    assert!(status.success(), "{status}: {}", serving.daemon.output());
    serving.check_next();
}

/// Starts a successor that is refused; gives what it said.
fn refused(serving: &Serving, launch: Launch) -> String {
    let mut second = launch.argument("--take-over").spawn();
    let status = second.wait_exit(BOUND);
    let said = second.output();
    assert_eq!(status.code(), Some(1), "{said}\n{}", serving.daemon.output());
    said
}

#[test]
fn a_successor_that_cannot_bind_what_is_new_is_refused_and_the_old_one_goes_on() {
    let mut serving = Serving::start();
    serving.send();
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let config = config(serving.folder.path(), 1_000, serving.carbon.port())
        + &format!("[[servers]]\nserver = \"tcp\"\naddress = \"127.0.0.1\"\nport = {port}\n");
    let said = refused(&serving, launch(serving.folder.path(), Ingest::IoUring, &config));
    assert!(said.contains(&format!("cannot bind tcp 127.0.0.1:{port}")), "{said}");
    serving.wait_said("not handed over: going on");
    serving.goes_on();
}

#[test]
fn a_changed_set_of_listeners_is_taken_as_it_is_asked_for() {
    let mut serving = Serving::start();
    serving.send();
    let (udp, tcp) = (serving.daemon.ready().udp[0], serving.daemon.ready().tcp[0]);
    let config =
        settings::one_text_backend(1_000, serving.carbon.port()).replacen("port = 0\n", "", 1)
            + &format!(
                "[[servers]]\nserver = \"udp\"\naddress = \"127.0.0.1\"\nport = {}\n\
             [[servers]]\nserver = \"udp\"\naddress = \"127.0.0.2\"\nport = 0\n",
                udp.port()
            );
    let next = launch(serving.folder.path(), Ingest::IoUring, &config).argument("--take-over");
    let next = next.start();
    let status = serving.daemon.wait_exit(BOUND);
    assert!(status.success(), "{status}: {}", serving.daemon.output());
    assert_eq!(next.ready().udp[0], udp);
    assert!(TcpStream::connect(tcp).is_err(), "nobody listens there any more");
    assert!(!serving.folder.path().join("floe.sock").exists());
    send(next.ready().udp[1], ["on.hits:1|c"]);
    serving.sent += 1.0;
    serving.daemon = next;
    serving.goes_on();
}

#[test]
fn another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can start a daemon as somebody else");
        return;
    }
    let (carbon, folder) = (RecordingCarbon::start(), folder());
    let config =
        config(folder.path(), 1_000, carbon.port()).replace("floe.sock", "spool/floe.sock");
    let spool = folder.path().join("spool");
    std::fs::create_dir(&spool).expect("the folder is ours");
    for path in [folder.path(), &spool] {
        std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).expect("we are root");
    }
    let mut daemon = launch(folder.path(), Ingest::Recvmmsg, &config)
        .argument("--user")
        .argument("65534:65534")
        .start();
    let mut second =
        launch(folder.path(), Ingest::Recvmmsg, &config).argument("--take-over").spawn();
    let status = second.wait_exit(BOUND);
    let said = second.output();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("it runs as user 65534, this is user 0"), "{said}");
    assert!(daemon.exited().is_none());
    // What root has begun to write, its user could not.
    assert!(!folder.path().join("ready.json.tmp").exists(), "a refused start leaves nothing");
    let mut next = launch(folder.path(), Ingest::Recvmmsg, &config)
        .argument("--user")
        .argument("65534:65534")
        .argument("--take-over")
        .start();
    assert!(daemon.wait_exit(BOUND).success(), "{}", daemon.output());
    next.drain(Signal::TERM);
}

#[test]
fn a_stop_goes_before_a_successor_that_takes_its_time() {
    let mut serving = Serving::start();
    serving.send();
    let stream = serving.ask_for_all(1);
    serving.send();
    // It is held, and drains all the same.
    serving.daemon.drain(Signal::TERM);
    serving.check();
    drop(stream);
}

#[test]
fn two_successors_at_once_are_one_and_the_other_is_told() {
    let mut serving = Serving::start();
    serving.send();
    let held = serving.ask(1);
    message(&held);
    let waiting = serving.ask(1);
    let third = serving.ask(1);
    let answer = message(&third);
    assert!(answer.contains("taken over already"), "{answer}");
    drop((held, waiting));
    serving.wait_said("not handed over: going on");
    serving.goes_on();
}

#[test]
fn floe_ingest_hands_over_to_floe_ingest_alone() {
    let (carbon, folder) = (RecordingCarbon::start(), folder());
    let config = config(folder.path(), 1_000, carbon.port());
    let ingest = |name| launch(folder.path(), Ingest::IoUring, &config).subcommand(name);
    let mut daemon = ingest("ingest").start();
    send(daemon.udp(), ["on.hits:1|c"]);
    let mut other = launch(folder.path(), Ingest::IoUring, &config).argument("--take-over").spawn();
    let status = other.wait_exit(BOUND);
    assert_eq!(status.code(), Some(1), "{}", other.output());
    assert!(other.output().contains("started by another command"), "{}", other.output());
    let mut daemon = take_over(&mut daemon, ingest("ingest"));
    send(daemon.udp(), ["on.hits:1|c"]);
    let spool: PathBuf = daemon.ready().spool.clone();
    daemon.drain(Signal::TERM);
    assert_eq!(Books::of(&spool).count("values_spooled"), 2);
    let mut export = ingest("export").argument("--take-over").spawn();
    assert_eq!(export.wait_exit(BOUND).code(), Some(2), "{}", export.output());
}
