//! A repeater, a console backend or `keyFlush` whose other end is slow, stuck or exchanged while
//! datagrams come costs nobody a value, and what it costs itself is counted. Method: the built
//! binary, a pipe that nobody reads, a target that does not read, a file rewritten under traffic.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use support::carbon::{Protocol, RecordingCarbon, series};
use support::daemon::{DRAIN_BOUND, Ingest, Launch, floe, send};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(20);

/// Datagrams on their way to a sink whose buffer holds 256.
const AHEAD_MAX: u32 = 128;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the machine has a temporary folder")
}

/// Killed if the test fails before its end.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The console's answer to `stats`.
fn stats(mgmt_port: u16) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, mgmt_port)).expect("it listens");
    stream.set_read_timeout(Some(BOUND)).expect("a socket of ours");
    stream.write_all(b"stats\nquit\n").expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    text
}

/// The number behind `name` in `stats`; 0 where it is not there.
fn stat(stats: &str, name: &str) -> u64 {
    let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.map_or(0, |number| number.parse().expect("a number"))
}

#[test]
fn a_stdout_that_nobody_reads_costs_printed_flushes_alone() {
    for ingest in Ingest::BOTH {
        let (folder, carbon) = (folder(), RecordingCarbon::start());
        let (port, mgmt_port) = (ports::free(), ports::free());
        let config = format!(
            "{{ port: {port}, address: '127.0.0.1', mgmt_port: {mgmt_port}
             , mgmt_address: '127.0.0.1', graphiteHost: '127.0.0.1', graphitePort: {}
             , backends: ['./backends/console', './backends/graphite'], flushInterval: 1000
             , keyFlush: {{ interval: 100 }}, dumpMessages: true, floe: {{ books: true }} }}",
            carbon.port()
        );
        let path = folder.path().join("config.js");
        std::fs::write(&path, config).expect("the test's folder is writable");
        let mut command = floe();
        command.arg(&path).arg("--spool").arg(folder.path().join("spool"));
        command.args(["--ingest", ingest.flag()]).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut daemon = Killed(command.spawn().expect("the binary was built"));
        wait::until("the console", BOUND, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, mgmt_port)).ok()
        });
        let mut sent = 0;
        let text = wait::until("a flush that could not be printed", BOUND, || {
            // The rows of keyFlush alone fill the pipe.
            for number in 0..50 {
                send(
                    SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    [format!("stuck.{number}.{}:1|c\nstuck.all:1|c", "k".repeat(100))],
                );
                sent += 1;
            }
            Some(stats(mgmt_port)).filter(|text| 0 < stat(text, "floe.console.flushes_dropped"))
        });
        assert!(text.contains("floe.console.flushes_dropped"), "{text}");
        let id = i32::try_from(daemon.0.id()).expect("process ids fit 31 bits");
        kill_process(Pid::from_raw(id).expect("not 0"), Signal::TERM).expect("it runs");
        let status = wait::until("the end", DRAIN_BOUND, || daemon.0.try_wait().expect("ours"));
        assert!(status.success(), "{status}");
        let points = carbon.take_points(Protocol::Text);
        let total: f64 = series(&points, "stats_counts.stuck.all").values().sum();
        assert_eq!(total, f64::from(sent), "{ingest:?}");
    }
}

#[test]
fn a_repeater_target_that_does_not_read_costs_that_target_alone() {
    for ingest in Ingest::BOTH {
        let folder = folder();
        let (port, mgmt_port) = (ports::free(), ports::free());
        let stuck = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let fine = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let ports = [&stuck, &fine].map(|listener| listener.local_addr().expect("bound").port());
        let config = format!(
            "{{ port: {port}, address: '127.0.0.1', mgmt_port: {mgmt_port}
             , mgmt_address: '127.0.0.1', backends: ['./backends/repeater']
             , repeaterProtocol: 'tcp', repeater: [{{ host: '127.0.0.1', port: {} }}
             , {{ host: '127.0.0.1', port: {} }}], floe: {{ books: true }} }}",
            ports[0], ports[1]
        );
        let mut daemon =
            Launch::under(folder.path(), ingest).config("config.js", &config).start_on(mgmt_port);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        send(address, ["first:1|c"]);
        let (mut connection, _) = fine.accept().expect("the repeater connects");
        connection.set_read_timeout(Some(BOUND)).expect("a socket of ours");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            connection.read_to_end(&mut bytes).expect("ends with the daemon");
            bytes
        });
        let line = format!("large:1|c\n{}", "x".repeat(30_000));
        let mut sent = 1;
        let text = wait::until("datagrams dropped for the stuck one", BOUND, || {
            send(address, (0..20).map(|_| line.as_bytes()));
            sent += 20;
            let name =
                format!("floe.repeater.127_0_0_1_{}.datagrams_dropped.pending_full", ports[0]);
            Some(stats(mgmt_port)).filter(|text| 0 < stat(text, &name))
        });
        let other = format!("floe.repeater.127_0_0_1_{}.datagrams_dropped", ports[1]);
        assert_eq!(stat(&text, &format!("{other}.pending_full")), 0, "{text}");
        wait::until("all of them received", BOUND, || {
            let text = stats(mgmt_port);
            let received = stat(&text, "floe.datagrams_received");
            (received + stat(&text, "floe.datagrams_dropped.kernel") == sent).then_some(())
        });
        let text = stats(mgmt_port);
        let arrived = stat(&text, "floe.datagrams_received")
            - stat(&text, "floe.repeater.datagrams_dropped.tap_full");
        daemon.drain(Signal::TERM);
        let bytes = reader.join().expect("reads to the end");
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b"1|c"));
        assert_eq!(lines.count() as u64, arrived, "{ingest:?}\n{text}");
        drop(stuck);
    }
}

#[test]
fn no_datagram_is_lost_or_doubled_while_taps_are_exchanged() {
    for ingest in Ingest::BOTH {
        let folder = folder();
        let (port, mgmt_port) = (ports::free(), ports::free());
        let sink = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        let target = sink.local_addr().expect("bound").port();
        let text = |keys: &str| {
            format!(
                "{{ port: {port}, address: '127.0.0.1', mgmt_port: {mgmt_port}
                 , mgmt_address: '127.0.0.1', backends: ['./backends/repeater']
                 , repeater: [{{ host: '127.0.0.1', port: {target} }}], {keys} }}"
            )
        };
        let launch = Launch::under(folder.path(), ingest);
        let mut daemon = launch.config("config.js", &text("debug: false")).start_on(mgmt_port);
        let collected = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&collected);
        let collector = std::thread::spawn(move || {
            let (mut numbers, mut buffer) = (Vec::new(), [0; 64]);
            while let Ok(len) = sink.recv(&mut buffer) {
                match std::str::from_utf8(&buffer[..len]).expect("text").parse::<u32>() {
                    Ok(number) => numbers.push(number),
                    Err(_) => break,
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            numbers
        });
        let mut sent: u32 = 0;
        let mut traffic = |batches: u32| {
            for _ in 0..batches {
                send(
                    SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    (sent..sent + 10).map(|number| number.to_string()),
                );
                sent += 10;
                wait::pause(Duration::from_millis(1));
                // On a busy machine it is the collector who is late.
                wait::until("the collector to keep up", BOUND, || {
                    (sent - collected.load(Ordering::Relaxed) <= AHEAD_MAX).then_some(())
                });
            }
        };
        // Other taps beside the repeater's, other targets, and back.
        let extra = ports::free();
        let keys = [
            "dumpMessages: true".to_owned(),
            "keyFlush: { interval: 50, log: 'keys.log' }".to_owned(),
            format!(
                "repeater: [{{ host: '127.0.0.1', port: {target} }}
                 , {{ host: '127.0.0.1', port: {extra} }}]"
            ),
            "keyNameSanitize: false".to_owned(),
            "debug: false".to_owned(),
        ];
        for (reloads, keys) in keys.into_iter().enumerate() {
            traffic(50);
            std::fs::write(folder.path().join("config.js"), text(&keys)).expect("writable");
            daemon.signal(Signal::HUP);
            traffic(100);
            wait::until("the reload", BOUND, || {
                let applied = daemon.output().matches("configuration applied").count();
                (reloads < applied).then_some(())
            });
        }
        daemon.drain(Signal::TERM);
        let end = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        end.send_to(b"end", ("127.0.0.1", target)).expect("loopback takes it");
        let mut numbers = collector.join().expect("ends at the last word");
        numbers.sort_unstable();
        let output = daemon.output();
        assert_eq!(numbers, (0..sent).collect::<Vec<_>>(), "{ingest:?}\n{output}");
    }
}
