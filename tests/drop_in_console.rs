//! The admin console as scripts, health checks and people use it: every command and reply of the
//! reference daemon, values at any moment of a long interval, deletes at once, and limits that keep
//! one client from harming the others.
//!
//! The built binary is asked over TCP, on both ingest paths where data is involved. The interval is
//! a minute wherever a flush is not part of the claim.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use support::carbon::{Protocol, RecordingCarbon, series};
use support::console::Console;
use support::daemon::{Daemon, Ingest, Launch, send};
use support::settings;
use support::wait;

mod support;

const BOUND: Duration = Duration::from_secs(20);

/// A daemon from a `config.js` with a minute's interval, `more` added to it.
fn from_config_js(ingest: Ingest, more: &str) -> (TempDir, Daemon) {
    let (mgmt, port) = (support::ports::free(), support::ports::free());
    let text = format!(
        "{{ port: {port}, address: '127.0.0.1', mgmt_port: {mgmt}, flushInterval: 60000,\n\
         backends: ['./backends/graphite']{more} }}\n"
    );
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let daemon = Launch::under(folder.path(), ingest).config("config.js", &text).start();
    (folder, daemon)
}

/// A daemon from a TOML file of our own.
fn from_toml(ingest: Ingest, more: &str) -> (TempDir, Daemon) {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let text = format!("{}{more}", settings::toml(60_000, &[]));
    let daemon = Launch::under(folder.path(), ingest).config("floe.toml", &text).start();
    (folder, daemon)
}

fn console(daemon: &Daemon) -> Console {
    let port = daemon.ready().mgmt.port();
    Console::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

#[test]
fn every_command_is_answered_as_by_the_reference() {
    for ingest in Ingest::BOTH {
        let (_folder, daemon) = from_config_js(ingest, "");
        let console = console(&daemon);
        console.expect("gauges\n", "{}\nEND\n\n");
        console.expect("timers\n", "{}\nEND\n\n");
        let lines =
            ["a:1|c\na.b:2|c\na.c.d:3|c", "load:0.5|g\nb.c:-2|g\nd:1e21|g", "t:3|ms\nt:2|ms"];
        send(daemon.udp(), lines);
        console.expect(
            "counters\n",
            "{\n  'statsd.bad_lines_seen': 0,\n  'statsd.packets_received': 3,\n  \
             'statsd.metrics_received': 8,\n  a: 1,\n  'a.b': 2,\n  'a.c.d': 3\n}\nEND\n\n",
        );
        // Gauges of one moment are listed by name here, by arrival there.
        console.expect("gauges\n", "{ 'b.c': -2, d: 1e+21, load: 0.5 }\nEND\n\n");
        console.expect("timers\n", "{ t: [ 3, 2 ] }\nEND\n\n");
        console.expect(
            "delcounters a nope a.*\n",
            "deleted: a\nmetric nope not found\ndeleted: a.b\ndeleted: a.c.d\nEND\n\n",
        );
        console.expect("deltimers t\n", "deleted: t\nEND\n\n");
        console.expect("delgauges *\n", "metric * not found\nEND\n\n");
        console.expect("delgauges b.* d\n", "deleted: b.c\ndeleted: d\nEND\n\n");
        console.expect("delgauges\n", "END\n\n");
        console.expect("gauges\n", "{ load: 0.5 }\nEND\n\n");
        console.expect("timers\n", "{}\nEND\n\n");
        console.expect("health\n", "health: up\n");
        console.expect("health DOWN now\n", "health: down\n");
        console.expect("Health\n", "ERROR\n");
        console.expect("\r\n", "ERROR\n");
        console.send("quit\n");
        assert_eq!(console.rest(), "");
    }
}

#[test]
fn values_are_those_of_this_moment() {
    for ingest in Ingest::BOTH {
        let (_folder, daemon) = from_config_js(ingest, "");
        let console = console(&daemon);
        for round in 1..=40 {
            // Several senders, so that several workers have a part.
            for _ in 0..3 {
                send(daemon.udp(), ["sum:1|c", "level:+1|g", "time:7|ms"]);
            }
            let sum = 3 * round;
            let counters = console.ask("counters\n", "END\n\n");
            assert!(counters.contains(&format!("  sum: {sum}\n")), "round {round}: {counters}");
            let packets = format!("'statsd.packets_received': {},", 3 * sum);
            assert!(counters.contains(&packets), "round {round}: {counters}");
            console.expect("gauges\n", &format!("{{ level: {sum} }}\nEND\n\n"));
        }
        let timers = console.ask("timers\n", "END\n\n");
        assert!(timers.contains("7, 7, 7") && timers.contains("... 20 more items"), "{timers}");
    }
}

#[test]
fn what_is_deleted_is_gone_from_the_next_flush_but_for_the_daemons_own() {
    for ingest in Ingest::BOTH {
        let carbon = RecordingCarbon::start();
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let text = settings::one_text_backend(1_000, carbon.port());
        let daemon = Launch::under(folder.path(), ingest).config("floe.toml", &text).start();
        let console = console(&daemon);
        send(daemon.udp(), ["gone:1|c\ngone.too:1|g\nkept:1|c"]);
        carbon.wait_points("the first values", BOUND, Protocol::Text, |points| {
            !series(points, "stats.gauges.gone.too").is_empty()
        });
        let reply = console.ask("delcounters gone statsd.packets_received\n", "END\n\n");
        assert_eq!(reply, "deleted: gone\ndeleted: statsd.packets_received\nEND\n\n");
        console.expect("delgauges gone.*\n", "deleted: gone.too\nEND\n\n");
        // A flush that was on its way may still bear them.
        carbon.wait_points("two flushes without them", BOUND, Protocol::Text, |points| {
            let newest = |name| series(points, name).into_keys().last();
            let kept = newest("stats_counts.kept");
            let gone = ["stats_counts.gone", "stats.gauges.gone.too"].map(newest);
            gone.iter().all(|gone| gone.map_or(Some(1), |at| Some(at + 2)) <= kept)
                && newest("stats_counts.statsd.packets_received") == kept
        });
    }
}

#[test]
fn stats_are_the_references_and_with_our_own_file_the_books() {
    let (_folder, daemon) = from_config_js(Ingest::Recvmmsg, ", graphiteHost: '127.0.0.1'");
    let of_reference = console(&daemon).ask("stats\r\n", "END\n\n");
    let names: Vec<&str> =
        of_reference.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    assert_eq!(
        names,
        [
            "uptime",
            "messages.last_msg_seen",
            "messages.bad_lines_seen",
            "graphite.last_flush",
            "graphite.last_exception",
            "graphite.flush_time",
            "graphite.flush_length",
        ]
    );
    let number = |text: &str, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{name} is missing: {text}")).parse().expect("a number")
    };
    let now_s = wait::wall().as_secs();
    assert!(number(&of_reference, "graphite.last_exception").abs_diff(now_s) < 60, "none yet");
    assert!(number(&of_reference, "messages.last_msg_seen") < 60, "counted from the start");

    let (_folder, daemon) = from_toml(Ingest::IoUring, "");
    let console = console(&daemon);
    for round in 1..=3 {
        send(daemon.udp(), ["a:1|c\nbad"]);
        let stats = console.ask("stats\n", "END\n\n");
        assert_eq!(number(&stats, "messages.bad_lines_seen"), round);
        assert_eq!(number(&stats, "floe.datagrams_received"), round);
        assert_eq!(number(&stats, "floe.values_recorded"), round);
        assert_eq!(number(&stats, "floe.datagrams_dropped.kernel"), 0);
    }
}

#[test]
fn config_shows_the_file_and_what_start_and_flush_add() {
    let more = ", graphite: { legacyNamespace: false }, percentThreshold: [90, 95], note: \"it's\"";
    let (_folder, daemon) = from_config_js(Ingest::Recvmmsg, more);
    let mgmt = daemon.ready().mgmt.port();
    let port = daemon.udp().port();
    console(&daemon).expect(
        "config\n",
        &format!(
            "\nport: {port}\naddress: 127.0.0.1\nmgmt_port: {mgmt}\nflushInterval: 60000\n\
             backends > 0: ./backends/graphite\ngraphite > legacyNamespace: false\n\
             percentThreshold > 0: 90\npercentThreshold > 1: 95\nnote: it's\ngaugesMaxTTL: 1\n\
             deleteIdleStats: false\n"
        ),
    );

    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let text = settings::toml(100, &[]);
    let daemon = Launch::under(folder.path(), Ingest::Recvmmsg).config("floe.toml", &text).start();
    let console = console(&daemon);
    wait::until("the first flush", BOUND, || {
        let config = console.ask("config\nhealth\n", "health: up\n");
        config.ends_with("deleteGauges: false\nhealth: up\n").then_some(())
    });
}

#[test]
fn health_is_what_the_file_says_until_it_is_switched_for_everybody() {
    let (_folder, daemon) = from_config_js(Ingest::Recvmmsg, ", healthStatus: 'down'");
    // As the shell health check and the proxy send it.
    for command in ["health\n\n", "health\r\n", "health"] {
        console(&daemon).expect(command, "health: down\n");
    }
    console(&daemon).expect("health up\n", "health: up\n");
    console(&daemon).expect("health\n", "health: up\n");
}

#[test]
fn a_reload_shows_in_config_and_health() {
    let (folder, daemon) = from_config_js(Ingest::Recvmmsg, ", healthStatus: 'down', note: 'old'");
    let console = console(&daemon);
    send(daemon.udp(), ["kept:1|g"]);
    console.expect("gauges\n", "{ kept: 1 }\nEND\n\n");
    let path = folder.path().join("config.js");
    let text = std::fs::read_to_string(&path).expect("the test wrote it");
    let text = text.replace("'old'", "'new'").replace("'down'", "'up'");
    std::fs::write(&path, text).expect("the test's folder is writable");
    daemon.signal(Signal::HUP);
    let config = wait::until("the new configuration", BOUND, || {
        let config = console.ask("config\nhelp\n", "quit\n\n");
        config.contains("note: new\n").then_some(config)
    });
    assert!(!config.contains("note: old"), "{config}");
    wait::until("the new health", BOUND, || {
        (console.ask("health\n", "\n") == "health: up\n").then_some(())
    });
    console.expect("gauges\n", "{ kept: 1 }\nEND\n\n");
}

#[test]
fn it_listens_as_the_reference_does_with_its_file_and_on_loopback_with_ours() {
    let (_folder, daemon) = from_config_js(Ingest::Recvmmsg, "");
    let port = daemon.ready().mgmt.port();
    console(&daemon).expect("health\n", "health: up\n");
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let both = Console::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        both.expect("health\n", "health: up\n");
    }
    let (_folder, daemon) = from_toml(Ingest::Recvmmsg, "");
    assert_eq!(daemon.ready().mgmt.ip(), Ipv4Addr::LOCALHOST);
}

#[test]
fn names_from_clients_cannot_drive_a_terminal() {
    let (_folder, daemon) = from_config_js(Ingest::Recvmmsg, ", keyNameSanitize: false");
    let console = console(&daemon);
    send(daemon.udp(), [&b"a\x1b[2J:1|g\nit's:2|g\n\xc3\xa9:3|g\nf\xff:4|g"[..]]);
    console.expect("gauges\n", "{ 'a\\x1B[2J': 1, 'f\u{fffd}': 4, \"it's\": 2, 'é': 3 }\nEND\n\n");
    console.expect(
        "delgauges é a\x1b[2J no\x07pe\n",
        "deleted: é\ndeleted: a\\u{1b}[2J\nmetric no\\u{7}pe not found\nEND\n\n",
    );
}

#[test]
fn a_dump_of_many_series_is_whole_and_health_does_not_wait_for_those_who_do_not_take_it() {
    const SERIES: usize = 20_000;
    let (_folder, mut daemon) = from_config_js(Ingest::IoUring, "");
    let all: Vec<String> = (0..SERIES).map(|number| format!("some.long.name.{number}")).collect();
    for names in all.chunks(50) {
        let mut lines = String::new();
        for name in names {
            writeln!(lines, "{name}:1|c").expect("a String takes all");
        }
        send(daemon.udp(), [lines]);
    }
    let taker = console(&daemon);
    let dump = wait::until("every series", BOUND, || {
        let dump = taker.ask("counters\n", "END\n\n");
        (SERIES + 3 + 4 <= dump.lines().count()).then_some(dump)
    });
    let listed: BTreeSet<&str> = dump
        .lines()
        .filter_map(|line| line.strip_prefix("  '")?.strip_suffix("': 1,"))
        .chain(dump.lines().filter_map(|line| line.strip_prefix("  '")?.strip_suffix("': 1")))
        .collect();
    assert_eq!(listed, all.iter().map(String::as_str).collect());
    // More than ever fits between us, asked for by more clients than may hold a dump.
    let greedy: Vec<Console> = (0..4).map(|_| console(&daemon)).collect();
    for client in &greedy {
        client.send("counters\n".repeat(20));
    }
    for _ in 0..10 {
        console(&daemon).expect("health\n", "health: up\n");
    }
    // The stop waits for none of them.
    daemon.drain(Signal::TERM);
}

#[test]
fn hostile_bytes_get_an_error_and_end_no_one_else() {
    let (_folder, mut daemon) = from_config_js(Ingest::Recvmmsg, "");
    let honest = console(&daemon);
    let flood = console(&daemon);
    // It may be sent away before it has said all.
    flood.stream().write_all(&vec![b'x'; 1 << 20]).ok();
    let word = flood.rest();
    assert!(word.is_empty() || word == "ERROR line too long\n", "{word}");
    for bytes in [&b"\0\0\0\n"[..], b"\xff\xfe\n", b"GET / HTTP/1.1\r\n", b"counters;\n"] {
        let hostile = console(&daemon);
        hostile.send(bytes);
        assert_eq!(hostile.ask("", "\n"), "ERROR\n");
    }
    for _ in 0..50 {
        // Gone before the answer.
        console(&daemon).send("counters\nstats\n");
    }
    let many = "delcounters ".to_owned() + &"a ".repeat(10_000) + "a\n";
    let reply = honest.ask(&many, "END\n\n");
    assert_eq!(reply.lines().filter(|line| *line == "metric a not found").count(), 10_001);
    honest.expect("health\n", "health: up\n");
    daemon.drain(Signal::TERM);
}

#[test]
fn connections_are_limited_and_a_place_is_free_again_when_one_leaves() {
    const CONNECTIONS_MAX: usize = 64;
    let (_folder, daemon) = from_config_js(Ingest::Recvmmsg, "");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, daemon.ready().mgmt.port()));
    let mut guests: Vec<Console> = (0..CONNECTIONS_MAX).map(|_| console(&daemon)).collect();
    for guest in &guests {
        guest.expect("health\n", "health: up\n");
    }
    assert_eq!(Console::connect(address).rest(), "ERROR too many connections\n");
    guests.pop().expect("there are 64").send("quit\n");
    // Who comes and goes at once keeps the place no longer than its thread needs to see it. Once: in
    // the loop it would take the place before every newcomer.
    drop(TcpStream::connect(address).expect("the port is open"));
    wait::until("a place", BOUND, || {
        let newcomer = console(&daemon);
        newcomer.send("health\n");
        (newcomer.ask("", "\n") == "health: up\n").then_some(())
    });
    guests[0].expect("health\n", "health: up\n");
}
