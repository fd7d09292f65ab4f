//! Claim: resident memory stays below the ceiling that the start prints, whatever arrives, what was
//! there goes on exactly, and every budget says what it cut off. Method: the built daemon with small
//! budgets under each kind of flood, its peak by the kernel's own figure (`VmHWM`). The limit here is
//! `memory.limit`; how that of a cgroup is read is tested in `io/src/memory_limit.rs`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::console::Console;
use support::daemon::{Daemon, Ingest, Launch, floe, floe_output, sender, text_of};
use support::{settings, wait};

mod support;

const BOUND: Duration = Duration::from_secs(60);

/// Bytes of lines in one datagram: the socket's buffer holds many of them.
const DATAGRAM_BYTES: usize = 8_000;

/// Datagrams on their way at once.
const AT_ONCE: usize = 192;

/// A file of small budgets, with so much for the values of timers and of sets.
fn budgets(values: &str) -> String {
    format!(
        "[ingest]\nworkers = 2\n[series]\nmax = 20000\n[memory]\n\
         timer_bytes_max = \"{values}\"\nset_bytes_max = \"{values}\"\n"
    )
}

fn start(folder: &Path, ingest: Ingest, values: &str) -> Daemon {
    let text = format!("{}\n{}", settings::toml(1_000, &[]), budgets(values));
    Launch::under(folder, ingest).config("floe.toml", &text).start()
}

/// Sends lines packed into datagrams, no faster than they are taken.
struct Flood<'d> {
    daemon: &'d Daemon,
    console: Console,
    sockets: Vec<UdpSocket>,
    packed: String,
    sent: u64,
}

impl<'d> Flood<'d> {
    fn of(daemon: &'d Daemon) -> Self {
        let console = Console::connect(daemon.ready().mgmt);
        let sockets = (0..8).map(|_| sender()).collect();
        Self { daemon, console, sockets, packed: String::new(), sent: 0 }
    }

    fn line(&mut self, line: &str) {
        self.packed.push_str(line);
        self.packed.push('\n');
        if DATAGRAM_BYTES < self.packed.len() {
            self.send();
        }
    }

    fn send(&mut self) {
        let socket = &self.sockets[usize::try_from(self.sent).expect("few") % self.sockets.len()];
        let sent = socket.send_to(self.packed.as_bytes(), self.daemon.udp());
        assert_eq!(sent.expect("loopback takes the datagram"), self.packed.len());
        self.packed.clear();
        self.sent += 1;
        if self.sent.is_multiple_of(AT_ONCE as u64) {
            self.settle();
        }
    }

    /// Waits until everything sent has been received.
    fn settle(&self) {
        wait::until("the datagrams", BOUND, || {
            let received = self.count("datagrams_received");
            assert_eq!(self.count("datagrams_dropped.kernel"), 0, "the test is too fast");
            (received == self.sent).then_some(())
        });
    }

    fn count(&self, name: &str) -> u64 {
        let stats = self.console.ask("stats\n", "END\n\n");
        let prefix = format!("floe.{name}: ");
        let line = stats.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// The rest, and two flushes: reading, statistics and rows are part of the peak.
    fn finish(mut self) -> Peak {
        self.send();
        self.settle();
        let before = self.count("rows_snapshotted");
        for flush in 1..=2 {
            wait::until("a flush", BOUND, || {
                (before + flush <= self.count("rows_snapshotted")).then_some(())
            });
        }
        Peak::of(self.daemon)
    }
}

/// What the kernel and the daemon say, MiB.
#[derive(Debug)]
struct Peak {
    resident: u64,
    ceiling: u64,
}

impl Peak {
    fn of(daemon: &Daemon) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id()));
        let status = status.expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        let output = daemon.output();
        let ceiling = output.split("ceiling=\"").nth(1).and_then(|rest| rest.split_once(" MiB"));
        Self {
            resident: kib.expect("the kernel tells the peak") / 1_024,
            ceiling: ceiling.expect("the start says the ceiling").0.parse().expect("a number"),
        }
    }

    fn assert_below(&self) {
        assert!(self.resident <= self.ceiling, "{self:?} MiB");
    }
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
        let known = |flood: &mut Flood<'_>| {
            (0..100).for_each(|number| flood.line(&format!("known.n{number}:1|c")));
        };
        known(&mut flood);
        flood.send();
        flood.settle();
        let rounds = 30;
        for round in 0..rounds {
            known(&mut flood);
            for number in 0..4_000 {
                let kind = ["c", "ms", "s", "g"][number % 4];
                flood.line(&format!("bomb.with.a.rather.long.name.{round}.{number}:1|{kind}"));
            }
        }
        let values = 4_000 * rounds;
        let peak = flood.finish();
        let books = Books::of(&daemon.ready().spool);
        let dropped = books.count("values_dropped.series_limit");
        assert!(0 < dropped && dropped <= values / 4, "gauges alone: {books:?}");
        assert!(values / 2 < books.count("values_folded"), "{books:?}");
        let spool = daemon.ready().spool.clone();
        daemon.drain(Signal::TERM);
        let known = sums(&spool, "stats_counts.known.*");
        assert_eq!(known.len(), 100);
        assert!(known.values().all(|sum| *sum == 1.0 + rounds as f64), "{known:?}");
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
    // One timer, then many: what a name and what all of them may hold.
    let (one, many) = (600_000_u32, 400_000_u32);
    (0..one).for_each(|number| flood.line(&format!("t:{}|ms", number % 1_000)));
    (0..many).for_each(|number| flood.line(&format!("many.t{}:0.{number}|ms", number % 4_000)));
    let peak = flood.finish();
    let books = Books::of(&daemon.ready().spool);
    assert!(0 < books.count("timers_sketched"), "{books:?}");
    let recorded = books.count("values_recorded");
    let dropped = books.count("values_dropped.timer_limit");
    assert_eq!(recorded + dropped, u64::from(one + many), "{books:?}");
    let spool = daemon.ready().spool.clone();
    daemon.drain(Signal::TERM);
    let counts: f64 = sums(&spool, "stats.timers.**.count").values().sum();
    assert_eq!(counts, recorded as f64, "each value is in a count");
    assert_eq!(sums(&spool, "stats.timers.t.count")["stats.timers.t.count"], f64::from(one));
    peak.assert_below();
}

#[test]
fn a_flood_of_long_members_is_estimated_in_bounded_memory() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = start(folder.path(), Ingest::Recvmmsg, "1MiB");
    let mut flood = Flood::of(&daemon);
    let tail = "m".repeat(190);
    for number in 0..150_000_u32 {
        flood.line(&format!("s:{number:010}{tail}|s"));
    }
    (0..100_000_u32).for_each(|number| flood.line(&format!("many.s{}:{number}|s", number % 2_000)));
    let peak = flood.finish();
    let books = Books::of(&daemon.ready().spool);
    assert!(0 < books.count("sets_estimated"), "{books:?}");
    daemon.drain(Signal::TERM);
    peak.assert_below();
}

#[test]
fn connections_that_never_end_a_line_hold_no_more_than_their_limit() {
    let streams = "servers = [{ server = \"udp\", address = \"127.0.0.1\", port = 0 }, \
                   { server = \"tcp\", address = \"127.0.0.1\", port = 0 }]\n\
                   mgmt_port = 0\nflushInterval = 1000\n[streams]\nconnections_max = 200\n";
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let text = format!("{streams}{}", budgets("1MiB"));
        let daemon = Launch::under(folder.path(), ingest).config("floe.toml", &text).start();
        let to: SocketAddr = daemon.ready().tcp[0];
        let piece = vec![b'x'; 60_000];
        let connections: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut stream = TcpStream::connect(to).expect("the daemon accepts");
                stream.write_all(&piece).expect("the daemon reads");
                stream
            })
            .collect();
        let flood = Flood::of(&daemon);
        wait::until("every connection", BOUND, || {
            (flood.count("connections_accepted") == 200).then_some(())
        });
        // Past the limit: each line is dropped, and its memory given back.
        for mut stream in &connections {
            stream.write_all(&piece).expect("the daemon reads");
        }
        wait::until("every line to be dropped", BOUND, || {
            (flood.count("lines_dropped.too_long") == 200).then_some(())
        });
        Peak::of(&daemon).assert_below();
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
    let ceiling = text.lines().find_map(|line| line.strip_prefix("memory ceiling"));
    let ceiling: u64 = ceiling
        .and_then(|rest| rest.trim().strip_suffix(" MiB")?.parse().ok())
        .unwrap_or_else(|| panic!("no ceiling in\n{text}"));
    assert!(ceiling <= 512, "{text}");
}
