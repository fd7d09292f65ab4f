//! TCP and Unix stream servers beside UDP, as `servers` names them: one state behind all of them, on
//! both receive paths, and nothing a client does costs another client a line. Method: the built
//! binary from a `config.js` and from TOML, real connections, a recording carbon.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::carbon::{Point, Protocol, RecordingCarbon, series};
use support::daemon::{Daemon, Ingest, Launch, send};
use support::{ports, settings, wait};

mod support;

const BOUND: Duration = Duration::from_secs(20);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the machine has a temporary folder")
}

fn total(points: &[Point], name: &str) -> f64 {
    series(points, name).values().sum()
}

/// The points up to those in which the counts of `name` add up to `expected`.
fn wait_total(carbon: &RecordingCarbon, name: &str, expected: f64) -> Vec<Point> {
    let mut points = Vec::new();
    wait::until(name, BOUND, || {
        points.extend(carbon.take_points(Protocol::Text));
        (expected <= total(&points, name)).then_some(())
    });
    points
}

fn toml_with(carbon: &RecordingCarbon, servers: &str) -> String {
    format!("{}\n{servers}", settings::one_text_backend(1_000, carbon.port()))
}

fn start(folder: &Path, ingest: Ingest, text: &str) -> Daemon {
    Launch::under(folder, ingest).config("floe.toml", text).start()
}

const TCP: &str = "[[servers]]\nserver = \"tcp\"\naddress = \"127.0.0.1\"\nport = 0\n";

#[test]
fn servers_of_every_kind_feed_one_state() {
    for ingest in Ingest::BOTH {
        let (carbon, folder) = (RecordingCarbon::start(), folder());
        let (udp, tcp, mgmt) = (ports::free(), ports::free(), ports::free());
        let config = format!(
            "{{ graphiteHost: '127.0.0.1', graphitePort: {}, flushInterval: 1000
             , mgmt_port: {mgmt}, mgmt_address: '127.0.0.1'
             , servers: [ {{ server: './servers/udp', address: '127.0.0.1', port: {udp} }}
                        , {{ server: './servers/tcp', port: {tcp} }}
                        , {{ server: './servers/tcp', socket: 'floe.sock', socket_mod: '0750' }} ] }}",
            carbon.port()
        );
        let mut daemon = Launch::under(folder.path(), ingest).config("config.js", &config).start();
        let socket = folder.path().join("floe.sock");
        let mode = std::fs::metadata(&socket).expect("the socket is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o750);
        send(SocketAddr::from((Ipv4Addr::LOCALHOST, udp)), ["all.hits:1|c"]);
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, tcp)).unwrap();
        connection.write_all("all.hits:2|c\nall.caf\u{e9}:1|c\n".as_bytes()).unwrap();
        let mut local = UnixStream::connect(&socket).unwrap();
        local.write_all(b"all.hits:4|c\n").unwrap();
        let points = wait_total(&carbon, "stats_counts.all.hits", 7.0);
        assert_eq!(total(&points, "stats_counts.all.hits"), 7.0, "{ingest:?}");
        assert_eq!(total(&points, "stats_counts.all.caf"), 1.0, "cleaned as text, not as 7 bits");
        daemon.drain(Signal::TERM);
        assert!(!socket.exists(), "the socket goes with the daemon");
    }
}

#[test]
fn lines_sent_before_a_stop_are_counted() {
    for ingest in Ingest::BOTH {
        let (carbon, folder) = (RecordingCarbon::start(), folder());
        let mut daemon = start(folder.path(), ingest, &toml_with(&carbon, TCP));
        let address = daemon.ready().tcp[0];
        assert!(daemon.ready().udp.is_empty(), "streams alone");
        let mut clients: Vec<TcpStream> =
            (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
        for client in &mut clients {
            let lines = "stop.hits:1|c\n".repeat(500) + "stop.hits:1|c unfinished";
            client.write_all(lines.as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        }
        daemon.drain(Signal::TERM);
        let points = carbon.take_points(Protocol::Text);
        assert_eq!(total(&points, "stats_counts.stop.hits"), 20_000.0, "{ingest:?}");
        let unfinished = total(&points, "stats.statsd.floe.lines_dropped.unfinished");
        assert_eq!(unfinished, 40.0, "{ingest:?}");
        let accepted = total(&points, "stats.statsd.floe.connections_accepted");
        assert_eq!(accepted, 40.0, "{ingest:?}");
    }
}

#[test]
fn a_stale_socket_is_taken_over_and_a_second_daemon_is_not_let_in() {
    let folder = folder();
    let socket = folder.path().join("floe.sock");
    let servers = format!(
        "port = 0\nmgmt_port = 0\n[[servers]]\nserver = \"tcp\"\nsocket = \"{}\"\n",
        socket.display()
    )
    .replace("port = 0\nmgmt", "mgmt");
    let mut daemon = start(folder.path(), Ingest::IoUring, &servers);
    let other = tempfile::tempdir().unwrap();
    let mut second =
        Launch::under(other.path(), Ingest::IoUring).config("floe.toml", &servers).spawn();
    assert_eq!(second.wait_exit(BOUND).code(), Some(1), "{}", second.output());
    assert!(second.output().contains("another server answers there"), "{}", second.output());
    assert!(UnixStream::connect(&socket).is_ok(), "the first goes on");
    daemon.kill();
    assert!(socket.exists(), "left by the kill");
    let mut daemon = start(folder.path(), Ingest::Recvmmsg, &servers);
    assert!(UnixStream::connect(&socket).is_ok());
    daemon.drain(Signal::TERM);
}
