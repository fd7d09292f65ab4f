//! Datagrams that hurt a statsd, from a `config.js` as the reference daemon reads it: the inputs
//! that kill the reference become bad lines or ordinary keys, the largest datagram is counted to
//! its last line, rubbish is shortened in the log, and several listeners feed one state.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::carbon::{Point, Protocol, RecordingCarbon, series};
use support::daemon::{Daemon, Ingest, Launch, send};
use support::ports;

mod support;

const FLUSH_BOUND: Duration = Duration::from_secs(15);
/// The most that UDP over IPv4 carries.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Far below one such datagram, above the lines of a start.
const LOG_BYTES_MAX: usize = 20_000;
const BAD_LINES: &str = "stats_counts.statsd.bad_lines_seen";

#[test]
fn inputs_that_kill_the_reference_are_harmless_on_io_uring() {
    inputs_that_kill_the_reference_are_harmless(Ingest::IoUring);
}

#[test]
fn inputs_that_kill_the_reference_are_harmless_on_recvmmsg() {
    inputs_that_kill_the_reference_are_harmless(Ingest::Recvmmsg);
}

#[test]
fn the_largest_datagram_is_counted_whole_on_io_uring() {
    the_largest_datagram_is_counted_whole(Ingest::IoUring);
}

#[test]
fn the_largest_datagram_is_counted_whole_on_recvmmsg() {
    the_largest_datagram_is_counted_whole(Ingest::Recvmmsg);
}

#[test]
fn a_datagram_of_colons_fills_no_log() {
    let carbon = RecordingCarbon::start();
    let mut site = Site::start(Ingest::Recvmmsg, &carbon, "");
    let colons = ":".repeat(DATAGRAM_BYTES_MAX);
    for round in 1..=3 {
        // One at a time: a socket's default buffer holds no more of this size.
        send(site.udp(), [&colons]);
        wait_total(&carbon, BAD_LINES, 1.0);
        let written = site.daemon.output().len();
        assert!(written < LOG_BYTES_MAX, "{written} bytes of log after {round} such datagrams");
    }
    send(site.udp(), ["after.hits:1|c"]);
    wait_total(&carbon, "stats_counts.after.hits", 1.0);
    site.stop();
}

#[test]
fn several_listeners_feed_one_state() {
    for ingest in Ingest::BOTH {
        let carbon = RecordingCarbon::start();
        let (one, other) = (ports::free(), ports::free());
        let servers = format!(
            ", servers: [ {{ server: './servers/udp', address: '127.0.0.1', port: {one} }},\n\
             {{ server: './servers/udp', address: '127.0.0.1', port: {other} }} ]\n"
        );
        let mut site = Site::start(ingest, &carbon, &servers);
        send(SocketAddr::from((Ipv4Addr::LOCALHOST, one)), ["both.hits:3|c"]);
        send(SocketAddr::from((Ipv4Addr::LOCALHOST, other)), ["both.hits:4|c"]);
        let points = wait_total(&carbon, "stats_counts.both.hits", 7.0);
        assert_eq!(total(&points, "stats_counts.both.hits"), 7.0, "{ingest:?}");
        site.stop();
    }
}

/// Where the machine has no IPv6 the daemon must say so instead of listening on nothing.
#[test]
fn an_ipv6_listener_receives_or_is_refused_by_name() {
    for ingest in Ingest::BOTH {
        let carbon = RecordingCarbon::start();
        let port = ports::free();
        let servers = format!(
            ", servers: [ {{ server: './servers/udp', address: '::1', address_ipv6: true, port: \
             {port} }} ]\n"
        );
        let Ok(socket) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) else {
            let folder = tempfile::tempdir().expect("the machine has a temporary folder");
            let config = config(ports::free(), ports::free(), &carbon, &servers);
            let mut daemon = launch(folder.path(), ingest, &config).spawn();
            assert_eq!(daemon.wait_exit(FLUSH_BOUND).code(), Some(1), "{}", daemon.output());
            assert!(daemon.output().contains("::1"), "{}", daemon.output());
            continue;
        };
        let mut site = Site::start(ingest, &carbon, &servers);
        socket.send_to(b"six.hits:6|c", (Ipv6Addr::LOCALHOST, port)).expect("loopback takes it");
        let points = wait_total(&carbon, "stats_counts.six.hits", 6.0);
        assert_eq!(total(&points, "stats_counts.six.hits"), 6.0, "{ingest:?}");
        site.stop();
    }
}

fn inputs_that_kill_the_reference_are_harmless(ingest: Ingest) {
    const BAD: [&str; 4] = ["a:1|c|@ 0.1", "a:1|c|@+0.1", "a:1|c|@Infinity", "a:1|c|@\t"];
    const ORDINARY: [(&str, &str); 5] = [
        ("constructor:1|ms", "stats.timers.constructor.count"),
        ("__proto__:1|ms", "stats.timers.__proto__.count"),
        ("toString:1|s", "stats.sets.toString.count"),
        ("__proto__:1|c", "stats_counts.__proto__"),
        ("hasOwnProperty:1|g", "stats.gauges.hasOwnProperty"),
    ];
    let carbon = RecordingCarbon::start();
    let mut site = Site::start(ingest, &carbon, "");
    let mut datagrams: Vec<&[u8]> = BAD.iter().map(|line| line.as_bytes()).collect();
    datagrams.extend(ORDINARY.iter().map(|(line, _)| line.as_bytes()));
    // Not text in any encoding, and nothing at all; the last is the sign that all were read.
    datagrams.extend([&b"\xff\xfe\x00\x80"[..], b"", b"after.hits:1|c"]);
    send(site.udp(), datagrams);
    let points = wait_total(&carbon, "stats_counts.after.hits", 1.0);
    for (line, name) in ORDINARY {
        assert!(1.0 <= total(&points, name), "{line} is an ordinary key");
    }
    assert_eq!(total(&points, BAD_LINES), 5.0, "four bad rates and one line without a type");
    assert_eq!(total(&points, "stats_counts.a"), 0.0, "a line with a bad rate counts nothing");
    site.stop();
}

fn the_largest_datagram_is_counted_whole(ingest: Ingest) {
    const LINE: &str = "big.hits:1|c\n";
    const { assert!(DATAGRAM_BYTES_MAX.is_multiple_of(LINE.len())) };
    let carbon = RecordingCarbon::start();
    let mut site = Site::start(ingest, &carbon, "");
    let lines = DATAGRAM_BYTES_MAX / LINE.len();
    send(site.udp(), [LINE.repeat(lines)]);
    let points = wait_total(&carbon, "stats_counts.big.hits", 1.0);
    assert_eq!(total(&points, "stats_counts.big.hits"), lines as f64);
    assert_eq!(total(&points, BAD_LINES), 0.0, "the last line ends with the datagram");
    site.stop();
}

/// A daemon on a `config.js` with one-second intervals.
struct Site {
    daemon: Daemon,
    port: u16,
    /// Removed with its files when the site goes.
    _folder: tempfile::TempDir,
}

impl Site {
    fn start(ingest: Ingest, carbon: &RecordingCarbon, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let (port, mgmt_port) = (ports::free(), ports::free());
        let daemon = launch(folder.path(), ingest, &config(port, mgmt_port, carbon, more))
            .start_on(mgmt_port);
        Self { daemon, port, _folder: folder }
    }

    fn udp(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn stop(&mut self) {
        assert!(self.daemon.exited().is_none(), "it still runs:\n{}", self.daemon.output());
        // The reference daemon, for which the harness runs too, dies of the signal instead.
        if std::env::var_os("FLOE_TEST_COMMAND").is_none() {
            self.daemon.drain(Signal::TERM);
        }
    }
}

fn config(port: u16, mgmt_port: u16, carbon: &RecordingCarbon, more: &str) -> String {
    format!(
        "{{\n  graphitePort: {}\n, graphiteHost: '127.0.0.1'\n, port: {port}\n\
         , address: '127.0.0.1'\n, mgmt_port: {mgmt_port}\n, mgmt_address: '127.0.0.1'\n\
         , flushInterval: 1000\n, backends: ['./backends/graphite']\n{more}}}\n",
        carbon.port()
    )
}

fn launch(folder: &Path, ingest: Ingest, config: &str) -> Launch {
    Launch::under(folder, ingest).config("config.js", config)
}

fn wait_total(carbon: &RecordingCarbon, name: &str, least: f64) -> Vec<Point> {
    carbon.wait_points(name, FLUSH_BOUND, Protocol::Text, |points| least <= total(points, name))
}

fn total(points: &[Point], name: &str) -> f64 {
    series(points, name).values().sum()
}
