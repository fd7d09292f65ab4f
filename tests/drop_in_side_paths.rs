//! What the reference does with datagrams and flushes beside sending them to Graphite: the repeater
//! sends each on byte for byte, `keyFlush` writes how often keys occurred, `dumpMessages` logs lines,
//! and the console backend prints flushes. Method: the built binary from a `config.js`, with real
//! sockets, files and pipes.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use support::carbon::{Protocol, RecordingCarbon, series};
use support::daemon::{Daemon, Ingest, Launch, send};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(20);

/// A daemon with `keys` in its `config.js`, and where it listens.
fn start(folder: &tempfile::TempDir, ingest: Ingest, keys: &str) -> (Daemon, SocketAddr) {
    let (port, mgmt_port) = (ports::free(), ports::free());
    let config = format!(
        "{{ port: {port}, address: '127.0.0.1', mgmt_port: {mgmt_port}, mgmt_address: '127.0.0.1'
         , {keys} }}\n"
    );
    let daemon = Launch::under(folder.path(), ingest).config("config.js", &config).start();
    (daemon, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the machine has a temporary folder")
}

fn await_text(daemon: &Daemon, text: &str) -> String {
    wait::until(text, BOUND, || Some(daemon.output()).filter(|output| output.contains(text)))
}

#[test]
fn the_repeater_sends_each_datagram_byte_for_byte() {
    for ingest in Ingest::BOTH {
        let (folder, sink) = (folder(), UdpSocket::bind("127.0.0.1:0").unwrap());
        sink.set_read_timeout(Some(BOUND)).unwrap();
        let port = sink.local_addr().unwrap().port();
        let keys = format!(
            "backends: ['./backends/repeater'], repeater: [{{ host: '127.0.0.1', port: {port} }}]"
        );
        let (mut daemon, address) = start(&folder, ingest, &keys);
        let large = vec![b'x'; 60_000];
        let sent: [&[u8]; 6] =
            [b"a:1|c", b"", b"bad", b"b:2|g\nc:3|ms\n", &[0xff, 0, b'\n'], &large];
        let mut buffer = vec![0; 65_536];
        for datagram in sent {
            send(address, [datagram]);
            let len = sink.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], datagram, "{ingest:?}");
        }
        daemon.drain(Signal::TERM);
    }
}

#[test]
fn over_tcp_a_newline_stands_behind_each_datagram_and_an_absent_target_gets_what_waits() {
    for ingest in Ingest::BOTH {
        let folder = folder();
        let port = ports::free();
        let keys = format!(
            "backends: ['./backends/repeater'], repeaterProtocol: 'tcp'
             , repeater: [{{ host: '127.0.0.1', port: {port} }}]"
        );
        let (mut daemon, address) = start(&folder, ingest, &keys);
        // Nobody listens yet: what is sent now waits.
        send(address, ["a:1|c\nb:2|g", "c:3|c\n"]);
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(BOUND)).unwrap();
        let mut bytes = vec![0; 19];
        connection.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, b"a:1|c\nb:2|g\nc:3|c\n\n");
        drop(connection);
        // What comes now may still go into the closed one, the next ones come by a new connection.
        listener.set_nonblocking(true).unwrap();
        let (mut connection, _) = wait::until("a new connection", BOUND, || {
            send(address, ["d:4|c"]);
            listener.accept().ok()
        });
        connection.set_nonblocking(false).unwrap();
        connection.set_read_timeout(Some(BOUND)).unwrap();
        let mut line = [0; 6];
        connection.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"d:4|c\n");
        daemon.drain(Signal::TERM);
    }
}

#[test]
fn a_chain_of_two_counts_at_both_ends() {
    let (first_carbon, second_carbon) = (RecordingCarbon::start(), RecordingCarbon::start());
    let (first_folder, second_folder) = (folder(), folder());
    let graphite = |carbon: &RecordingCarbon| {
        format!("flushInterval: 1000, graphiteHost: '127.0.0.1', graphitePort: {}", carbon.port())
    };
    let (mut second, second_address) =
        start(&second_folder, Ingest::IoUring, &graphite(&second_carbon));
    let keys = format!(
        "{}, backends: ['./backends/graphite', './backends/repeater']
         , repeater: [{{ host: '127.0.0.1', port: {} }}], floe: {{ books: true }}",
        graphite(&first_carbon),
        second_address.port()
    );
    let (mut first, address) = start(&first_folder, Ingest::Recvmmsg, &keys);
    for _ in 0..50 {
        send(
            address,
            (0..20).map(|number| format!("chain.hits:{number}|c\nchain.time:{number}|ms")),
        );
        wait::pause(Duration::from_millis(2));
    }
    first.drain(Signal::TERM);
    second.drain(Signal::TERM);
    for (carbon, what) in [(&first_carbon, "first"), (&second_carbon, "second")] {
        let points = carbon.take_points(Protocol::Text);
        let total = |name: &str| series(&points, name).values().sum::<f64>();
        assert_eq!(total("stats_counts.chain.hits"), 9_500.0, "{what}");
        assert_eq!(total("stats.timers.chain.time.count"), 1_000.0, "{what}");
        assert_eq!(total("stats_counts.statsd.packets_received"), 1_000.0, "{what}");
        if what == "first" {
            let sent = format!("repeater.127_0_0_1_{}.datagrams_sent", second_address.port());
            let name = format!("stats.statsd.floe.{sent}");
            // The books of the last interval are written before its datagrams have left.
            assert!(0.0 < total(&name), "{name}");
        }
    }
}

#[test]
fn key_flush_writes_the_most_frequent_keys_of_good_and_bad_lines() {
    for ingest in Ingest::BOTH {
        let folder = folder();
        let log = folder.path().join("keys.log");
        let keys = format!(
            "backends: [], keyFlush: {{ interval: 300, percent: 60, log: '{}' }}",
            log.display()
        );
        let (mut daemon, address) = start(&folder, ingest, &keys);
        send(address, ["often:1|c\nsome times:x|c\noften:2|g\nsome times:1|c\nonce:1|c\noften"]);
        let text = wait::until("rows", BOUND, || {
            std::fs::read_to_string(&log).ok().filter(|text| text.contains("key="))
        });
        let rows: Vec<&str> = text.lines().map(|row| row.split_once(") ").unwrap().1).collect();
        assert_eq!(rows, ["count=3 key=often", "count=2 key=some_times"], "{text}");
        let date = text.lines().next().unwrap().split(" count=").next().unwrap();
        assert!(date.contains(" GMT+") || date.contains(" GMT-"), "{date}");
        daemon.drain(Signal::TERM);
    }
}

#[test]
fn dumped_lines_are_escaped() {
    for ingest in Ingest::BOTH {
        let folder = folder();
        let (mut daemon, address) = start(&folder, ingest, "backends: [], dumpMessages: true");
        send(address, ["dumped:1|c\nodd \x1b[2J:x"]);
        let output = await_text(&daemon, "line received: odd \\x1b[2J:x");
        assert!(output.contains("line received: dumped:1|c\n"), "{output}");
        daemon.drain(Signal::TERM);
    }
}

#[test]
fn the_console_backend_prints_what_graphite_would_get() {
    for ingest in Ingest::BOTH {
        let folder = folder();
        let keys = "backends: ['./backends/console'], flushInterval: 1000, percentThreshold: [90]";
        let (mut daemon, address) = start(&folder, ingest, keys);
        send(address, ["hits:3|c\nload:1.5|g\nrender:20|ms:10|ms\nvisitors:ann|s:bob|s"]);
        let output = await_text(&daemon, "hits: 3\n");
        let flush = output.split("Flushing stats at  ").find(|text| text.contains("hits: 3\n"));
        let flush = flush.unwrap();
        for part in [
            "timers: { render: [ 10, 20 ] }",
            "gauges: { load: 1.5",
            "render: {\n      count_90: 2,",
            "median: 15",
            "sets: { visitors: 2 }",
            "pctThreshold: [ 90 ]",
            "hits: 3",
        ] {
            assert!(flush.contains(part), "{part} in\n{flush}");
        }
        daemon.drain(Signal::TERM);
    }
}
