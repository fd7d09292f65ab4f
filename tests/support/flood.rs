//! Floods: a daemon of small budgets is given more than it may keep, no faster than it takes it.

use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use super::console::Console;
use super::daemon::{Daemon, sender};
use super::wait;

const BOUND: Duration = Duration::from_secs(60);

/// Bytes of lines in one datagram: the socket's buffer holds many of them.
const DATAGRAM_BYTES: usize = 8_000;

/// Datagrams on their way at once.
const AT_ONCE: usize = 192;

/// Counters that are there before a bomb of names.
pub(crate) const KNOWN: usize = 100;

/// Rounds of a bomb, each with every known counter once.
pub(crate) const BOMB_ROUNDS: usize = 30;

/// New names of a round, a quarter of each kind.
pub(crate) const BOMB_NAMES: usize = 4_000;

/// Values of one timer, and then of many.
pub(crate) const TIMES: [u32; 2] = [600_000, 400_000];

/// Connections that never end a line.
pub(crate) const CONNECTIONS: usize = 200;

/// A file of small budgets, with so much for the values of timers and of sets.
pub(crate) fn budgets(values: &str) -> String {
    format!(
        "[ingest]\nworkers = 2\n[series]\nmax = 20000\n[memory]\n\
         timer_bytes_max = \"{values}\"\nset_bytes_max = \"{values}\"\n"
    )
}

/// A file with a server of streams beside that of datagrams, and small budgets.
pub(crate) fn with_streams() -> String {
    let streams = "servers = [{ server = \"udp\", address = \"127.0.0.1\", port = 0 }, \
                   { server = \"tcp\", address = \"127.0.0.1\", port = 0 }]\n\
                   mgmt_port = 0\nflushInterval = 1000\n[streams]\nconnections_max = 200\n";
    format!("{streams}{}", budgets("1MiB"))
}

/// Sends lines packed into datagrams.
pub(crate) struct Flood<'d> {
    daemon: &'d Daemon,
    console: Console,
    sockets: Vec<UdpSocket>,
    packed: String,
    sent: u64,
}

impl<'d> Flood<'d> {
    pub(crate) fn of(daemon: &'d Daemon) -> Self {
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

    pub(crate) fn count(&self, name: &str) -> u64 {
        let stats = self.console.ask("stats\n", "END\n\n");
        let prefix = format!("floe.{name}: ");
        let line = stats.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    fn known(&mut self) {
        (0..KNOWN).for_each(|number| self.line(&format!("known.n{number}:1|c")));
    }

    /// Counters that stay, and beside them new names of every kind.
    pub(crate) fn names(&mut self) {
        self.known();
        self.send();
        self.settle();
        for round in 0..BOMB_ROUNDS {
            self.known();
            for number in 0..BOMB_NAMES {
                let kind = ["c", "ms", "s", "g"][number % 4];
                self.line(&format!("bomb.with.a.rather.long.name.{round}.{number}:1|{kind}"));
            }
        }
    }

    /// One timer, then many: what a name and what all of them may hold.
    pub(crate) fn times(&mut self) {
        let [one, many] = TIMES;
        (0..one).for_each(|number| self.line(&format!("t:{}|ms", number % 1_000)));
        (0..many).for_each(|number| self.line(&format!("many.t{}:0.{number}|ms", number % 4_000)));
    }

    /// One set of long members, then many sets.
    pub(crate) fn members(&mut self) {
        let tail = "m".repeat(190);
        for number in 0..150_000_u32 {
            self.line(&format!("s:{number:010}{tail}|s"));
        }
        (0..100_000_u32)
            .for_each(|number| self.line(&format!("many.s{}:{number}|s", number % 2_000)));
    }

    /// Connections that never end a line; returns them, each past its limit.
    pub(crate) fn endless_lines(&mut self) -> Vec<TcpStream> {
        let piece = vec![b'x'; 60_000];
        let connections: Vec<TcpStream> = (0..CONNECTIONS)
            .map(|_| {
                let to = self.daemon.ready().tcp[0];
                let mut stream = TcpStream::connect(to).expect("the daemon accepts");
                stream.write_all(&piece).expect("the daemon reads");
                stream
            })
            .collect();
        wait::until("every connection", BOUND, || {
            (self.count("connections_accepted") == CONNECTIONS as u64).then_some(())
        });
        // Past the limit: each line is dropped, and its memory given back.
        for mut stream in &connections {
            stream.write_all(&piece).expect("the daemon reads");
        }
        wait::until("every line to be dropped", BOUND, || {
            (self.count("lines_dropped.too_long") == CONNECTIONS as u64).then_some(())
        });
        connections
    }

    /// The rest, and two flushes: reading, statistics and rows are part of the peak.
    pub(crate) fn finish(mut self) -> Peak {
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
pub(crate) struct Peak {
    resident: u64,
    ceiling: u64,
}

impl Peak {
    pub(crate) fn of(daemon: &Daemon) -> Self {
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

    pub(crate) fn assert_below(&self) {
        assert!(self.resident <= self.ceiling, "{self:?} MiB");
    }
}

/// The ceiling that `floe check` tells, MiB.
pub(crate) fn ceiling_of(check: &str) -> u64 {
    let line = check.lines().find_map(|line| line.strip_prefix("memory ceiling"));
    line.and_then(|rest| rest.trim().strip_suffix(" MiB")?.parse().ok())
        .unwrap_or_else(|| panic!("no ceiling in\n{check}"))
}
