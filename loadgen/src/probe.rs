//! Latency from a datagram to Graphite, by numbered probes.
//!
//! Beside `sender`: a thread of its own sends one gauge every few milliseconds whose value is a sequence
//! number, and remembers when. The sink notes when a number comes for the first time. The time between
//! is the latency; **it contains the wait for the flush**, so for one interval length it is spread over
//! that length by the nature of the thing. What is not waiting shows in the youngest probe of each
//! flush: it was sent last before the values were taken, at most one probe distance earlier.
//!
//! The keys go round in a circle, so that a gauge is not overwritten within an interval: 1,024 keys, one
//! every 10 ms, are good for 10 s. A probe that is overwritten is never seen, and counted so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use crate::clock::{self, Stopwatch};
use crate::naming::Naming;
use crate::refused::Refused;
use crate::socket::Socket;
use crate::stop::Stop;
use crate::target::Target;
use crate::workload::Kind;

/// Keys that are used in turn.
const KEYS: u64 = 1_024;

/// Most probes of a run: at 10 ms that is four days.
const PROBES_MAX: u64 = 1 << 25;

/// Longest latency told apart.
const LATENCY_MAX: Duration = Duration::from_secs(3_600);

/// A thread that sends probes until it is told to end.
#[derive(Debug)]
pub(crate) struct Probe {
    thread: JoinHandle<Result<Sent>>,
    is_ending: Arc<AtomicBool>,
}

/// What a probe sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// When, by sequence number less one, since the stopwatch started.
    at: Vec<Duration>,
    /// Datagrams, or writes to a stream; each with one line.
    pub(crate) datagrams: u64,
    pub(crate) refused: Refused,
}

impl Sent {
    pub(crate) fn lines(&self) -> u64 {
        self.at.len() as u64
    }
}

impl Probe {
    /// Starts to send to `target` once every `every`.
    pub(crate) fn start(
        target: &Target,
        key_prefix: &str,
        every: Duration,
        stopwatch: Stopwatch,
        stop: &Stop,
    ) -> Result<Probe> {
        let mut socket = Socket::connect(target, None)?;
        let feed = if target.is_stream() { "\n" } else { "" };
        let key_prefix = key_prefix.to_owned();
        let is_ending = Arc::new(AtomicBool::new(false));
        let (ending, stop) = (Arc::clone(&is_ending), stop.clone());
        let send = move || {
            let mut sent = Sent::default();
            // Relaxed: the thread is joined before anything it made is read.
            while !ending.load(Ordering::Relaxed) && sent.lines() < PROBES_MAX {
                let number = sent.lines() + 1;
                let line = format!("{}:{number}|g{feed}", key(&key_prefix, number));
                let at = stopwatch.elapsed();
                let taken = socket.send_one(line.as_bytes(), &stop);
                if let Some(failure) = taken.failure {
                    return Err(failure.context("cannot send a probe"));
                }
                if taken.bytes < line.len() {
                    break;
                }
                sent.at.push(at);
                sent.datagrams += 1;
                clock::pause(every);
            }
            sent.refused = socket.into_refused();
            Ok(sent)
        };
        let thread = thread::Builder::new()
            .name("probe".to_owned())
            .spawn(send)
            .context("cannot start the probe's thread")?;
        Ok(Probe { thread, is_ending })
    }

    pub(crate) fn end(self) -> Result<Sent> {
        self.is_ending.store(true, Ordering::Relaxed);
        self.thread.join().expect("a probe never panics")
    }
}

fn key(prefix: &str, number: u64) -> String {
    format!("{prefix}.probe.n{:04}", number % KEYS)
}

/// Notes when probes arrive; the sink calls it for every point.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// What the names of probes begin with.
    prefix: String,
    stopwatch: Stopwatch,
    /// First arrival by sequence number, with the timestamp of the point.
    first: BTreeMap<u64, (Duration, i64)>,
}

impl Arrivals {
    pub(crate) fn new(naming: &Naming, key_prefix: &str, stopwatch: Stopwatch) -> Arrivals {
        let prefix = format!("{}{key_prefix}.probe.n", naming.prefix(Kind::Gauge));
        Arrivals { prefix, stopwatch, first: BTreeMap::new() }
    }

    /// Takes a point if it is a probe; gauges are sent again with every flush.
    pub(crate) fn note(&mut self, name: &str, value: f64, timestamp: i64) {
        if !name.starts_with(&self.prefix) || !(1.0..=exact(PROBES_MAX)).contains(&value) {
            return;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        let number = value as u64;
        let at = self.stopwatch.elapsed();
        self.first.entry(number).or_insert((at, timestamp));
    }

    /// Holds the arrivals against what was sent.
    pub(crate) fn latency(&self, sent: &Sent, every: Duration) -> Latency {
        let mut latency = Latency::new(sent.lines(), every);
        let mut youngest: BTreeMap<i64, u64> = BTreeMap::new();
        for (number, &(at, timestamp)) in &self.first {
            let place = usize::try_from(number - 1).unwrap_or(usize::MAX);
            let Some(sent_at) = sent.at.get(place) else { continue };
            let ns = nanoseconds(at.saturating_sub(*sent_at));
            latency.all.saturating_record(ns);
            youngest.entry(timestamp).and_modify(|known| *known = ns.min(*known)).or_insert(ns);
        }
        for ns in youngest.into_values() {
            latency.youngest.saturating_record(ns);
        }
        latency
    }
}

/// How long probes took, in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Latency {
    /// Probes sent; those seen are in `all`.
    pub(crate) probes: u64,
    /// Between two probes.
    pub(crate) every: Duration,
    pub(crate) all: Histogram<u64>,
    /// Of the youngest probe of each flush.
    pub(crate) youngest: Histogram<u64>,
}

impl Latency {
    pub(crate) fn new(probes: u64, every: Duration) -> Latency {
        let empty = || {
            Histogram::new_with_max(nanoseconds(LATENCY_MAX), 3)
                .expect("the bounds are those of the crate")
        };
        Latency { probes, every, all: empty(), youngest: empty() }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn exact(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::tests::legacy;
    use std::net::UdpSocket;

    #[test]
    fn every_probe_has_a_number_and_a_time() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let target = Target::Udp(socket.local_addr().unwrap());
        let every = Duration::from_millis(1);
        let stop = Stop::default();
        let probe = Probe::start(&target, "loadgen", every, Stopwatch::start(), &stop).unwrap();
        let mut buffer = [0; 100];
        for number in 1..=5 {
            let length = socket.recv(&mut buffer).unwrap();
            let expected = format!("loadgen.probe.n{number:04}:{number}|g");
            assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
        }
        let sent = probe.end().unwrap();
        assert!(5 <= sent.lines());
        assert!(sent.at.is_sorted());
        assert_eq!(sent.datagrams, sent.lines());
    }

    #[test]
    fn only_the_first_arrival_of_a_probe_counts() {
        let stopwatch = Stopwatch::start();
        let mut arrivals = Arrivals::new(&legacy(), "loadgen", stopwatch);
        let name = "stats.gauges.loadgen.probe.n0001";
        arrivals.note(name, 1.0, 1_000);
        let first = arrivals.first[&1];
        arrivals.note(name, 1.0, 1_010);
        assert_eq!(arrivals.first[&1], first);
        for (name, value) in [("stats.gauges.loadgen.g.n0001", 2.0), (name, 0.0), (name, 1e300)] {
            arrivals.note(name, value, 1_010);
        }
        assert_eq!(arrivals.first.len(), 1);
    }

    #[test]
    fn latency_is_from_the_send_to_the_first_arrival() {
        let ms = Duration::from_millis;
        let mut arrivals = Arrivals::new(&legacy(), "loadgen", Stopwatch::start());
        let sent =
            Sent { at: vec![ms(0), ms(10), ms(20), ms(30)], datagrams: 4, ..Sent::default() };
        // Number 4 was overwritten; 1 and 2 are of one flush, 3 of the next; 9 was never sent.
        arrivals.first = BTreeMap::from([
            (1, (ms(105), 1_000)),
            (2, (ms(105), 1_000)),
            (3, (ms(205), 1_001)),
            (9, (ms(205), 1_001)),
        ]);
        let latency = arrivals.latency(&sent, ms(10));
        assert_eq!((latency.probes, latency.all.len()), (4, 3));
        let is_near = |ns: u64, expected: u64| ns.abs_diff(expected * 1_000_000) < 200_000;
        assert!(is_near(latency.all.min(), 95) && is_near(latency.all.max(), 185));
        assert_eq!(latency.youngest.len(), 2);
        assert!(is_near(latency.youngest.min(), 95));
    }
}
