//! Claims: the units of `packaging/` do under a real systemd what their lines say: ready when it receives,
//! no privilege and io_uring all the same, sockets that systemd opens or keeps over a restart without the
//! loss of a datagram, the watchdog, the drain. Method: a machine of its own whose PID 1 is the systemd of
//! this one (`support/systemd.rs`), the built binary in it, senders and a carbon in its network.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::books::Books;
use support::carbon::{Protocol, RecordingCarbon, series};
use support::daemon::{send, sender, text_of};
use support::systemd::Machine;
use support::{settings, wait};

mod support;

const BOUND: Duration = Duration::from_secs(30);
const FLOE: &str = "floe.service";
const SPOOL: &str = "/var/lib/floe";
const CONFIG: &str = "/etc/floe/floe.toml";
const PORT: u16 = 8125;

fn target() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, PORT).into()
}

/// Names a configuration as an administrator does.
fn configure(machine: &Machine, text: &str) {
    machine.write("/etc/default/floe", &format!("FLOE_CONFIG={CONFIG}\n"));
    machine.write(CONFIG, text);
}

/// Intervals of a second, the port of the socket unit, and a carbon where one listens.
fn config(carbon: Option<u16>) -> String {
    let text = carbon
        .map_or_else(|| settings::toml(1_000, &[]), |port| settings::one_text_backend(1_000, port));
    text.replacen("port = 0", &format!("port = {PORT}\naddress = \"::\""), 1)
}

fn start(machine: &Machine, unit: &str) {
    machine.systemctl(&["start", unit]);
    assert_eq!(machine.show(unit, "ActiveState"), "active");
    assert_eq!(machine.show(unit, "StatusText"), "receiving");
}

fn send_within(machine: &Machine, count: usize) -> u64 {
    machine.with_network(|| send(target(), vec!["kept.hits:1|c"; count]));
    count as u64
}

/// What came to the sockets, by the books.
fn came(books: &Books) -> u64 {
    books.count("datagrams_received") + books.count("datagrams_dropped.kernel")
}

/// Waits until the books say that all of `sent` came to the sockets, and no more.
fn wait_received(machine: &Machine, sent: u64) -> Books {
    let spool = machine.path(SPOOL);
    let books = wait::try_until(BOUND, || Books::try_of(&spool).ok().filter(|it| sent <= came(it)));
    let books = books.unwrap_or_else(|| Books::of(&spool));
    assert_eq!(came(&books), sent, "{books:?}");
    books
}

/// A line of `/proc/PID/status` of the unit's main process.
fn of_status(machine: &Machine, unit: &str, key: &str) -> String {
    let pid = machine.show(unit, "MainPID");
    let status = machine.tell(&["cat", &format!("/proc/{pid}/status")]);
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{status}")).split_whitespace().next().unwrap_or("").to_owned()
}

fn assert_confined(machine: &Machine, unit: &str, user: &str) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(of_status(machine, unit, set), "0000000000000000", "{unit}: {set}");
    }
    assert_eq!(of_status(machine, unit, "NoNewPrivs"), "1", "{unit}");
    assert_eq!(of_status(machine, unit, "Seccomp"), "2", "{unit}: filtered");
    let owner = machine.tell(&["stat", "--format", "%U %a", SPOOL]);
    assert_eq!(owner.trim(), format!("{user} 700"), "{unit}");
    let uid = machine.tell(&["id", "--user", user]);
    assert_eq!(of_status(machine, unit, "Uid"), uid.trim(), "{unit}");
}

/// 2.0 and better is systemd's own word "OK"; that of the unit as it is loaded, drop-ins included.
fn assert_scored(machine: &Machine, unit: &str) {
    let text = machine.tell(&["systemd-analyze", "security", "--no-pager", unit]);
    let level = text.lines().find_map(|line| line.split_once("exposure level for "));
    let level = level.and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level <= 2.0), "{unit}: {text}");
}

#[test]
fn units_start_unprivileged_and_receive_by_io_uring() {
    let Some(machine) = Machine::boot(&[FLOE, "statsd.service", "floe.socket"]) else { return };
    configure(&machine, &config(None));
    let config_js = format!("{{ port: {PORT}, mgmt_port: 8126, flushInterval: 1000 }}\n");
    machine.write("/etc/statsd/localConfig.js", &config_js);
    let mut sent = 0;
    for (unit, user) in [(FLOE, "floe"), ("statsd.service", "_statsd")] {
        if user == "_statsd" {
            // A machine that had the other unit before: systemd hands the spool over.
            fs::remove_dir_all(machine.path(SPOOL)).expect("the daemon before has ended");
            sent = 0;
        }
        start(&machine, unit);
        sent += send_within(&machine, 10);
        wait_received(&machine, sent);
        assert_confined(&machine, unit, user);
        assert_scored(&machine, unit);
        let log = machine.journal(unit, "short");
        assert!(log.contains("ingest=\"io_uring\""), "{log}");
        assert!(!log.contains("refused") && !log.contains("restrictions of a ring"), "{log}");
        machine.systemctl(&["stop", unit]);
        assert_eq!(machine.show(unit, "Result"), "success");
    }
    let said = machine.run(&["systemd-analyze", "verify", FLOE, "statsd.service", "floe.socket"]);
    assert!(said.status.success() && !text_of(&said).contains("packaging"), "{}", text_of(&said));
}

#[test]
fn a_filter_without_io_uring_leaves_recvmmsg() {
    let Some(machine) = Machine::boot(&[FLOE]) else { return };
    configure(&machine, &config(None));
    let unit = fs::read_to_string(machine.path("/etc/systemd/system/floe.service"));
    let unit = unit.expect("it was installed");
    let without =
        unit.replace("SystemCallFilter=io_uring_setup io_uring_enter io_uring_register", "");
    assert_ne!(unit, without, "the unit names the calls of io_uring");
    let mut sent = 0;
    // Refused by the unit; left to what systemd calls @system-service, which has them since 251.
    for (unit, is_refused) in [
        (unit + "\n[Service]\nSystemCallFilter=~io_uring_setup\n", true),
        (without, machine.version() < 251),
    ] {
        machine.write("/etc/systemd/system/floe.service", &unit);
        machine.systemctl(&["daemon-reload"]);
        start(&machine, FLOE);
        let call = machine.show(FLOE, "InvocationID");
        let log = machine.journal_of_start(&call);
        let (said, ingest) = if is_refused {
            ("io_uring refused (EPERM), using recvmmsg", "ingest=\"recvmmsg\"")
        } else {
            ("receive buffer granted", "ingest=\"io_uring\"")
        };
        assert!(log.contains(said) && log.contains(ingest), "{log}");
        sent += send_within(&machine, 10);
        wait_received(&machine, sent);
        machine.systemctl(&["stop", FLOE]);
    }
}

#[test]
fn what_comes_before_the_service_starts_it_and_is_received() {
    let Some(machine) = Machine::boot(&[FLOE, "floe.socket"]) else { return };
    // Sockets that a worker lacks it does without; here each has one.
    configure(&machine, &(config(None) + "[ingest]\nworkers = 2\n"));
    machine.systemctl(&["start", "floe.socket"]);
    assert_eq!(machine.show(FLOE, "ActiveState"), "inactive");
    let mut sent = send_within(&machine, 10);
    for _ in 0..2 {
        wait::until("the service", BOUND, || {
            (machine.show(FLOE, "ActiveState") == "active").then_some(())
        });
        wait_received(&machine, sent);
        assert_eq!(sockets_of_main(&machine), 2, "none is there twice");
        machine.systemctl(&["restart", FLOE]);
        sent += send_within(&machine, 10);
        wait_received(&machine, sent);
        assert_eq!(sockets_of_main(&machine), 2, "none is there twice");
        machine.systemctl(&["stop", FLOE]);
        // The socket unit goes on, and starts it again.
        sent += send_within(&machine, 10);
    }
    let books = wait_received(&machine, sent);
    assert_eq!(books.count("datagrams_dropped.kernel"), 0, "{books:?}");
}

/// Descriptors of the main process that are UDP sockets at the port.
fn sockets_of_main(machine: &Machine) -> usize {
    let pid = machine.show(FLOE, "MainPID");
    let table = machine.tell(&["cat", "/proc/net/udp", "/proc/net/udp6"]);
    let at_port = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = fields.get(1)?.ends_with(&format!(":{PORT:04X}"));
        is_ours.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    });
    let at_port: Vec<String> = at_port.collect();
    let opened = machine.tell(&["find", &format!("/proc/{pid}/fd"), "-printf", "%l\n"]);
    opened.lines().filter(|link| at_port.iter().any(|one| one == link)).count()
}

/// Sends from as many sockets as spread over every worker's until `end`, and says how many.
fn load(machine: &Machine, end: &AtomicBool) -> u64 {
    machine.with_network(|| {
        let sockets: Vec<UdpSocket> = (0..16).map(|_| sender()).collect();
        let mut sent = 0;
        while !end.load(Ordering::Relaxed) {
            for socket in &sockets {
                socket.send_to(b"kept.hits:1|c", target()).expect("the socket is open");
                sent += 1;
            }
            // 1,000 a second: what one restart leaves waiting fits into small buffers too.
            wait::pause(Duration::from_millis(16));
        }
        sent
    })
}

#[test]
fn restarts_under_load_lose_nothing() {
    for with_socket_unit in [false, true] {
        let Some(machine) = Machine::boot(&[FLOE, "floe.socket"]) else { return };
        let carbon = machine.with_network(RecordingCarbon::start);
        configure(&machine, &(config(Some(carbon.port())) + "[ingest]\nworkers = 2\n"));
        if with_socket_unit {
            machine.systemctl(&["start", "floe.socket"]);
        }
        start(&machine, FLOE);
        let end = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let sending = scope.spawn(|| load(&machine, &end));
            for _ in 0..3 {
                let before = machine.show(FLOE, "MainPID");
                machine.systemctl(&["restart", FLOE]);
                assert_ne!(machine.show(FLOE, "MainPID"), before);
            }
            end.store(true, Ordering::Relaxed);
            sending.join().expect("the sender does not panic")
        });
        let books = wait_received(&machine, sent);
        assert_eq!(books.count("starts"), 4, "{books:?}");
        let received = books.count("datagrams_received");
        machine.systemctl(&["stop", FLOE]);
        carbon.wait_idle(BOUND);
        let points = carbon.take_points(Protocol::Text);
        let sum: f64 = series(&points, "stats_counts.kept.hits").values().sum();
        assert_eq!(sum, received as f64, "{}", machine.journal(FLOE, "short"));
    }
}

/// Started again by systemd, with another main process.
fn wait_started_again(machine: &Machine, before: &str) {
    wait::until("another daemon", BOUND, || {
        let is_other = machine.show(FLOE, "MainPID") != before;
        (is_other && machine.show(FLOE, "ActiveState") == "active").then_some(())
    });
}

#[test]
fn a_daemon_that_is_killed_or_hangs_is_started_again_and_its_sockets_are_kept() {
    let Some(machine) = Machine::boot(&[FLOE]) else { return };
    configure(&machine, &config(None));
    machine.drop_in(FLOE, "[Service]\nWatchdogSec=3\n");
    start(&machine, FLOE);
    let mut sent = send_within(&machine, 10);
    for (signal, result) in [("KILL", "status=9/KILL"), ("STOP", "Watchdog timeout")] {
        wait_received(&machine, sent);
        // What it has counted so far is in a segment.
        wait::next_second(Duration::from_millis(300));
        wait::next_second(Duration::from_millis(300));
        let before = machine.show(FLOE, "MainPID");
        machine.systemctl(&["kill", "--kill-who=main", &format!("--signal={signal}"), FLOE]);
        if signal == "KILL" {
            // One that hangs may wake up for a moment when it is ended, and take them along.
            sent += send_within(&machine, 10);
        }
        wait_started_again(&machine, &before);
        let log = machine.journal(FLOE, "short");
        assert!(log.contains(result), "{log}");
        sent += send_within(&machine, 10);
    }
    wait_received(&machine, sent);
    assert_eq!(machine.show(FLOE, "NRestarts"), "2");
}

#[test]
fn sockets_of_an_earlier_configuration_leave_the_store() {
    let Some(machine) = Machine::boot(&[FLOE]) else { return };
    let config = config(None) + "[ingest]\nworkers = 2\n";
    configure(&machine, &config);
    start(&machine, FLOE);
    assert_eq!(machine.show(FLOE, "NFileDescriptorStore"), "2");
    let other = PORT + 1;
    machine.write(CONFIG, &config.replace(&PORT.to_string(), &other.to_string()));
    for _ in 0..2 {
        machine.systemctl(&["restart", FLOE]);
        assert_eq!(machine.show(FLOE, "NFileDescriptorStore"), "2");
    }
    machine.with_network(|| UdpSocket::bind(("::", PORT))).expect("nobody has the first port");
    machine.systemctl(&["stop", FLOE]);
    machine.with_network(|| UdpSocket::bind(("::", other))).expect("nor the other after a stop");
}

#[test]
fn a_reload_is_told_and_a_stop_leaves_the_open_interval_on_the_disk() {
    let Some(machine) = Machine::boot(&[FLOE]) else { return };
    configure(&machine, &config(None));
    start(&machine, FLOE);
    let before = machine.show(FLOE, "MainPID");
    // Ten minutes: whatever comes now is in the open interval when it stops.
    machine.write(CONFIG, &config(None).replace("1000", "600000"));
    machine.systemctl(&["reload", FLOE]);
    wait::until("the reload", BOUND, || {
        machine.journal(FLOE, "short").contains("configuration applied").then_some(())
    });
    assert_eq!(machine.show(FLOE, "MainPID"), before);
    assert_eq!(machine.show(FLOE, "ActiveState"), "active");
    wait::next_second(Duration::from_millis(300));
    wait::next_second(Duration::from_millis(300));
    let sent = send_within(&machine, 10);
    machine.systemctl(&["stop", FLOE]);
    assert_eq!(machine.show(FLOE, "Result"), "success", "within TimeoutStopSec");
    let books = Books::of(&machine.path(SPOOL));
    assert_eq!((books.source(), books.count("values_spooled")), ("spool", sent), "{books:?}");
}

#[test]
fn the_limit_of_memory_is_seen_through_the_sandbox() {
    let Some(machine) = Machine::boot(&[FLOE]) else { return };
    if !machine.limits_memory() {
        return support::mount::say("NOT TRIED: no cgroup of ours limits memory on this machine");
    }
    configure(&machine, &config(None));
    machine.drop_in(FLOE, "[Service]\nMemoryMax=1G\n");
    start(&machine, FLOE);
    let log = machine.journal(FLOE, "short");
    assert!(log.contains("limit=\"1024 MiB\""), "{log}");
}

#[test]
fn a_configuration_that_is_refused_is_not_tried_again_but_a_port_in_use_is() {
    let Some(machine) = Machine::boot(&[FLOE]) else { return };
    configure(&machine, "no_such_key = 1\n");
    let said = machine.run(&["systemctl", "start", FLOE]);
    assert!(!said.status.success());
    assert_eq!(machine.show(FLOE, "ActiveState"), "failed");
    assert_eq!(machine.show(FLOE, "NRestarts"), "0");
    let log = machine.journal(FLOE, "short");
    assert!(log.contains("no_such_key"), "{log}");
    // Somebody else has the port for longer than systemd's own limit of starts, which is five.
    let other = machine.with_network(|| UdpSocket::bind(("::", PORT)).expect("nobody has it"));
    machine.write(CONFIG, &config(None));
    machine.systemctl(&["start", "--no-block", FLOE]);
    wait::until("the sixth start", BOUND, || {
        let count: u32 = machine.show(FLOE, "NRestarts").parse().ok()?;
        (6 <= count).then_some(())
    });
    drop(other);
    wait::until("the service", BOUND, || {
        (machine.show(FLOE, "ActiveState") == "active").then_some(())
    });
}
