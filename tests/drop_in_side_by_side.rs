//! The reference daemon and floe, fed the same traffic through a repeater, send Graphite the same:
//! name by name and value by value, interval by interval.
//!
//! Method: a floe in front repeats every datagram to both. Two load generators (single and packed
//! lines of all kinds, sampled, tagged and bad) and a client with fractions send, from several
//! sockets, and rest around each multiple of the flush interval, so that both daemons put each line
//! into the same interval. The reference's flushes lie on a grid that begins with its second of
//! start, so it is started on a multiple too. `packets_received` is compared like every value: a
//! lost datagram is a difference. Names whose values depend on the clock are compared as names.
//!
//! `FLOE_SIDE_BY_SIDE_SECONDS` sets how long traffic is sent: 600 is the long run of
//! `.ci/side_by_side.sh`. The report is left in `target/side-by-side/report.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use support::carbon::{Point, Protocol, RecordingCarbon};
use support::daemon::{Daemon, Ingest, Launch};
use support::process::Process;
use support::{loadgen, ports, reference, venv, wait};

mod support;

/// Traffic of a run that nobody asked to be longer.
const SECONDS_DEFAULT: u64 = 16;
/// From here on intervals are ten seconds long, as in most installations.
const SECONDS_LONG: u64 = 120;
const STARTS_MAX: usize = 6;
/// Node's way from its start to the line that takes the time: well below the half second that
/// rounding forgives.
const NODE_START: Duration = Duration::from_millis(200);
const CLOCK_DEPENDENT: [&str; 6] = [
    "timestamp_lag",
    "calculationtime",
    "flush_length",
    "flush_time",
    "last_flush",
    "processing_time",
];
/// Lines of the fractional client: sums whose last digit depends on the order of addition, gauge
/// changes, set members of any bytes, several values of a key, keys to be cleaned, bad lines.
const FRACTIONS: [&str; 12] = [
    "frac.count:0.1|c\nfrac.count:0.2|c|@0.3\nfrac.count:1e-3|c\nfrac.count:-7.7|c",
    "frac.time:0.1|ms\nfrac.time:2.25|ms|@0.7\nfrac.time:19.999|ms\nfrac.time:3e2|ms",
    "frac.level:17.3|g",
    "frac.level:+0.1|g\nfrac.level:-3.7|g",
    "frac.users:ann|s\nfrac.users:b\u{f6}b|s\nfrac.users: |s\nfrac.users:|s",
    "frac.many:1|c:2.5|c:7|ms:3|g",
    "frac a/b  c!:1|c\n  frac.blank:1|c",
    "frac.tagged;zone=a;rack=7:1|c\nfrac.tagged:2|c|#zone:b",
    "frac.odd:0x1F|c\nfrac.odd:+4|c\nfrac.odd: 5 |c\nfrac.odd:1|unknown\r",
    "frac.bad\nfrac.bad:1\nfrac.bad:nan|c\nfrac.bad:1|c|@-1\nfrac.bad:-1|ms",
    "",
    "\n\n\nfrac.after.blank:1|c\n",
];

/// The values of one interval by name; a name can come twice only by a fault.
type Interval = BTreeMap<String, Vec<String>>;

/// A machine that stands still for a third of a second at a flush moves a line into another interval,
/// so a short run that differs is made once more. A long one is not: its report is the claim.
#[test]
fn graphite_gets_the_same_from_the_reference_and_from_floe() {
    let seconds = std::env::var("FLOE_SIDE_BY_SIDE_SECONDS")
        .ok()
        .map_or(SECONDS_DEFAULT, |text| text.parse().expect("a number of seconds"));
    let is_long = SECONDS_LONG <= seconds;
    let interval = Duration::from_secs(if is_long { 10 } else { 2 });
    let mut outcome = run_side_by_side(seconds, interval);
    if outcome.is_err() && !is_long {
        outcome = run_side_by_side(seconds, interval);
    }
    outcome.unwrap_or_else(|report| panic!("{report}"));
}

/// Feeds both for `seconds`; the report is an error if anything differs or was lost on the way.
fn run_side_by_side(seconds: u64, interval: Duration) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut theirs = Side::reference(folder.path(), interval);
    let mut ours = Side::floe(folder.path(), interval);
    let (mut front, address) = front(folder.path(), [theirs.port, ours.port]);
    // Both have flushed once, so no interval of the comparison is anybody's first.
    for side in [&mut theirs, &mut ours] {
        side.await_flush(interval);
    }
    let sent = send(address, Duration::from_secs(seconds), interval);
    front.drain(Signal::TERM);
    let end = grid_after(wait::wall(), interval);
    for side in [&mut theirs, &mut ours] {
        side.await_time(end, interval);
    }
    let report = compare(&theirs.intervals(end), &ours.intervals(end), interval);
    let text = report.text(seconds, interval, &sent);
    let place = venv::target_folder().join("side-by-side");
    std::fs::create_dir_all(&place).expect("target/ is writable");
    std::fs::write(place.join("report.txt"), &text).expect("target/ is writable");
    let is_whole = seconds / interval.as_secs() <= report.intervals;
    // What was sent is what was compared: nothing was lost on the way to both.
    let is_all = report.packets == sent.datagrams as f64;
    if report.differences.is_empty() && is_whole && is_all { Ok(()) } else { Err(text) }
}

/// The comparison itself: what is missing, other, doubled or off the grid is a difference, other
/// digits of the same number and other values of the clock are none.
#[test]
fn a_comparison_finds_every_kind_of_difference() {
    let interval = |values: &[(&str, &str)]| -> Interval {
        let mut interval = Interval::new();
        for (name, value) in values {
            interval.entry((*name).to_owned()).or_default().push((*value).to_owned());
        }
        interval
    };
    let side = |last: Interval| BTreeMap::from([(2, Interval::new()), (4, last)]);
    let of = |theirs: &[(&str, &str)], ours: &[(&str, &str)]| {
        let (theirs, ours) = (side(interval(theirs)), side(interval(ours)));
        compare(&theirs, &ours, Duration::from_secs(2)).differences.len()
    };
    assert_eq!(of(&[("a", "1"), ("b", "2")], &[("a", "1.0"), ("b", "2")]), 0);
    assert_eq!(of(&[("a", "1"), ("s.flush_time", "2")], &[("a", "1"), ("s.flush_time", "3")]), 0);
    assert_eq!(of(&[("a", "1")], &[("a", "1.0000000000000002")]), 1);
    assert_eq!(of(&[("a", "1"), ("b", "2")], &[("a", "1")]), 1);
    assert_eq!(of(&[("a", "1")], &[("a", "1"), ("s.flush_time", "2")]), 1);
    assert_eq!(of(&[("a", "1")], &[("a", "1"), ("a", "1")]), 1);
    let off_grid = BTreeMap::from([(2, Interval::new()), (5, Interval::new())]);
    assert_eq!(compare(&off_grid, &off_grid, Duration::from_secs(2)).differences.len(), 1);
}

/// One of the two daemons, with the carbon it sends to.
struct Side {
    label: &'static str,
    carbon: RecordingCarbon,
    port: u16,
    points: Vec<Point>,
    running: Running,
}

/// Kept for its end, and for what it wrote.
enum Running {
    Reference(Process),
    Floe(Daemon),
}

impl Side {
    /// The reference, started so that its flushes fall on multiples of `interval`.
    fn reference(folder: &Path, interval: Duration) -> Self {
        reference::folder();
        for _ in 0..STARTS_MAX {
            let (carbon, port) = (RecordingCarbon::start(), ports::free());
            let path = folder.join("reference.js");
            let text = config(port, ports::free(), interval, carbon.port());
            std::fs::write(&path, text).expect("the test's folder is writable");
            let start = grid_after(wait::wall() + NODE_START, interval);
            wait::pause(Duration::from_secs(start).saturating_sub(wait::wall() + NODE_START));
            let running = Process::start("the reference", reference::daemon(&path));
            let running = Running::Reference(running);
            let mut side = Self { label: "reference", carbon, port, points: Vec::new(), running };
            let first = side.await_flush(interval);
            if first.is_multiple_of(interval.as_secs()) {
                return side;
            }
        }
        panic!("the reference did not start on a multiple of {interval:?} in {STARTS_MAX} tries");
    }

    fn floe(folder: &Path, interval: Duration) -> Self {
        let (carbon, port, mgmt_port) = (RecordingCarbon::start(), ports::free(), ports::free());
        let folder = folder.join("floe");
        std::fs::create_dir(&folder).expect("the test's folder is writable");
        let text = config(port, mgmt_port, interval, carbon.port());
        let daemon =
            Launch::under(&folder, Ingest::IoUring).config("config.js", &text).start_on(mgmt_port);
        Self { label: "floe", carbon, port, points: Vec::new(), running: Running::Floe(daemon) }
    }

    fn output(&self) -> String {
        match &self.running {
            Running::Reference(process) => process.output(),
            Running::Floe(daemon) => daemon.output(),
        }
    }

    /// Waits for one more flush and gives its time.
    fn await_flush(&mut self, interval: Duration) -> u64 {
        let bound = interval * 3 + Duration::from_secs(5);
        let Some(chunks) = self.carbon.next_flush(bound) else {
            panic!("no flush of {}:\n{}", self.label, self.output());
        };
        let mut last = 0;
        for chunk in chunks {
            let (points, problems) = support::carbon::parse(Protocol::Text, &chunk);
            assert!(problems.is_empty(), "{}: {problems:?}", self.label);
            last = points.iter().map(time).max().unwrap_or(last);
            self.points.extend(points);
        }
        last
    }

    /// Waits until a flush behind `end` has come: the one at `end` is then complete.
    fn await_time(&mut self, end: u64, interval: Duration) {
        while self.await_flush(interval) <= end {}
    }

    /// The intervals up to `end`.
    fn intervals(&self, end: u64) -> BTreeMap<u64, Interval> {
        let mut intervals: BTreeMap<u64, Interval> = BTreeMap::new();
        for point in self.points.iter().filter(|point| time(point) <= end) {
            let interval = intervals.entry(time(point)).or_default();
            interval.entry(point.name.clone()).or_default().push(point.value.clone());
        }
        intervals
    }
}

fn time(point: &Point) -> u64 {
    point.time.parse().expect("timestamps are whole seconds")
}

/// The next whole multiple of `interval`, in seconds since the epoch.
fn grid_after(now: Duration, interval: Duration) -> u64 {
    (now.as_secs() / interval.as_secs() + 1) * interval.as_secs()
}

/// The same `config.js` for both, but for the ports.
fn config(port: u16, mgmt_port: u16, interval: Duration, carbon: u16) -> String {
    format!(
        "{{ port: {port}, address: '127.0.0.1', mgmt_port: {mgmt_port}, mgmt_address: '127.0.0.1'
         , graphiteHost: '127.0.0.1', graphitePort: {carbon}, backends: ['./backends/graphite']
         , flushInterval: {}, percentThreshold: [50, 90, 99.9, -10]
         , deleteGauges: true, gaugesMaxTTL: 3
         , histogram: [{{ metric: 'frac', bins: [0.2, 5, 'inf'] }}] }}\n",
        interval.as_millis()
    )
}

/// The daemon in front, which sends everything on to `targets`.
fn front(folder: &Path, targets: [u16; 2]) -> (Daemon, SocketAddr) {
    let (port, mgmt_port) = (ports::free(), ports::free());
    let targets = targets.map(|port| format!("{{ host: '127.0.0.1', port: {port} }}")).join(", ");
    let text = format!(
        "{{ port: {port}, address: '127.0.0.1', mgmt_port: {mgmt_port}, mgmt_address: '127.0.0.1'
         , backends: ['./backends/repeater'], repeater: [{targets}] }}\n"
    );
    let folder = folder.join("front");
    std::fs::create_dir(&folder).expect("the test's folder is writable");
    let daemon =
        Launch::under(&folder, Ingest::IoUring).config("config.js", &text).start_on(mgmt_port);
    (daemon, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// What all clients together have sent.
#[derive(Default)]
struct Sent {
    lines: u64,
    datagrams: u64,
    clients: u64,
}

/// Sends for `length`: two load generators, and the client of fractions beside them.
fn send(to: SocketAddr, length: Duration, interval: Duration) -> Sent {
    let margin = interval.mul_f64(0.15);
    let loads = [
        ("single", ["--rate", "1200", "--packing", "single"], "4", "600"),
        ("packed", ["--rate", "800", "--packing", "packed=512"], "3", "400"),
    ];
    let mut running: Vec<Process> = loads
        .iter()
        .map(|(prefix, pace, senders, names)| {
            let mut command = Command::new(loadgen::binary());
            command.args(["--target", &to.to_string(), "--key-prefix", prefix, "--json"]);
            command.args(["--duration", &format!("{}s", length.as_secs())]).args(pace);
            command.args(["--senders", senders, "--names", names, "--mix", "c=50,ms=30,g=12,s=8"]);
            command.args(["--sampled", "20", "--tagged", "15", "--bad", "3", "--pacing", "sleep"]);
            command.args(["--interval", &format!("{}ms", interval.as_millis())]);
            command.args(["--margin", &format!("{}ms", margin.as_millis())]);
            Process::start("loadgen", command)
        })
        .collect();
    let mut sent = Sent { clients: 8, ..Sent::default() };
    let end = wait::now() + length;
    let socket = support::daemon::sender();
    while wait::now() + interval < end {
        // In the middle of an interval, away from every flush.
        let middle = Duration::from_secs(grid_after(wait::wall(), interval)) + interval / 2;
        wait::pause(middle.saturating_sub(wait::wall()));
        for datagram in FRACTIONS {
            socket.send_to(datagram.as_bytes(), to).expect("loopback takes the datagram");
            sent.datagrams += 1;
            sent.lines += datagram.split('\n').filter(|line| !line.is_empty()).count() as u64;
        }
    }
    for load in &mut running {
        let status = load.wait_exit(length + interval * 2 + Duration::from_secs(10));
        let output = load.output();
        assert!(status.success(), "{output}");
        let report: serde_json::Value = serde_json::from_str(&output).expect("a report in JSON");
        let count = |key: &str| report[key].as_u64().expect("a count");
        sent.lines += count("lines");
        sent.datagrams += count("datagrams");
    }
    sent
}

/// What a comparison found.
#[derive(Default)]
struct Report {
    intervals: u64,
    values: u64,
    clock_values: u64,
    names: BTreeSet<String>,
    /// Received by floe, by its own counter.
    packets: f64,
    lines: f64,
    bad_values: f64,
    differences: Vec<String>,
    /// Equal as numbers, written differently.
    other_texts: u64,
}

/// Compares all intervals that both have, but for those before the second of either.
fn compare(
    theirs: &BTreeMap<u64, Interval>,
    ours: &BTreeMap<u64, Interval>,
    interval: Duration,
) -> Report {
    let mut report = Report::default();
    let second = |side: &BTreeMap<u64, Interval>| side.keys().copied().nth(1).unwrap_or(u64::MAX);
    let first = second(theirs).max(second(ours));
    let times: BTreeSet<u64> =
        theirs.keys().chain(ours.keys()).copied().filter(|time| first <= *time).collect();
    let nothing = Interval::new();
    for time in times {
        report.intervals += 1;
        if !time.is_multiple_of(interval.as_secs()) {
            report.differences.push(format!("{time} is not on the grid"));
        }
        let (theirs, ours) =
            (theirs.get(&time).unwrap_or(&nothing), ours.get(&time).unwrap_or(&nothing));
        let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for name in names {
            report.compare(time, name, theirs.get(name), ours.get(name));
        }
        let count = |name: &str| {
            let values = ours.get(&format!("stats_counts.statsd.{name}"));
            values.and_then(|values| values[0].parse::<f64>().ok()).unwrap_or(0.0)
        };
        report.packets += count("packets_received");
        report.lines += count("metrics_received");
        report.bad_values += count("bad_lines_seen");
    }
    report
}

impl Report {
    fn compare(
        &mut self,
        time: u64,
        name: &str,
        theirs: Option<&Vec<String>>,
        ours: Option<&Vec<String>>,
    ) {
        let (Some(theirs), Some(ours)) = (theirs, ours) else {
            self.differences.push(format!("{time} {name}: reference {theirs:?}, floe {ours:?}"));
            return;
        };
        self.names.insert(name.to_owned());
        let is_clock = CLOCK_DEPENDENT.iter().any(|end| name.ends_with(end));
        if is_clock && theirs.len() == ours.len() {
            self.clock_values += 1;
            return;
        }
        self.values += 1;
        if theirs == ours {
            return;
        }
        let numbers = |values: &[String]| -> Vec<Option<f64>> {
            values.iter().map(|value| support::carbon::number(value)).collect()
        };
        if numbers(theirs) == numbers(ours) {
            self.other_texts += 1;
        } else {
            self.differences.push(format!("{time} {name}: reference {theirs:?}, floe {ours:?}"));
        }
    }

    fn text(&self, seconds: u64, interval: Duration, sent: &Sent) -> String {
        let mut text = String::new();
        let lines = [
            format!("reference: statsd {} from npm", reference::version()),
            format!("flush interval: {} s", interval.as_secs()),
            format!("traffic: {seconds} s from {} sockets", sent.clients),
            format!("sent: {} lines in {} datagrams", sent.lines, sent.datagrams),
            format!(
                "received by floe: {} datagrams, {} lines, of which {} values bad",
                self.packets, self.lines, self.bad_values
            ),
            format!("intervals compared: {}", self.intervals),
            format!("names compared: {}", self.names.len()),
            format!("values compared: {}", self.values),
            format!("values equal but written differently: {}", self.other_texts),
            format!("values of the clock, compared by name: {}", self.clock_values),
            format!("differences: {}", self.differences.len()),
        ];
        for line in lines.iter().chain(self.differences.iter().take(200)) {
            writeln!(text, "{line}").expect("writing to a string does not fail");
        }
        text
    }
}
