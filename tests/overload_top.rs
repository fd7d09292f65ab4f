//! Claim: `floe top` names at once the prefixes, names and senders that bring most lines, new names and
//! bad lines, within its switches. Method: the built daemon on both receive paths, senders on different
//! addresses of loopback, its answer as JSON and on the console.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use support::console::Console;
use support::daemon::{Daemon, Ingest, Launch, floe_output, text_of};
use support::{settings, wait};

mod support;

const BOUND: Duration = Duration::from_secs(30);

fn start(folder: &Path, ingest: Ingest, top: &str) -> Daemon {
    let text = format!("{}\n[ingest]\nworkers = 2\n[top]\n{top}\n", settings::toml(60_000, &[]));
    Launch::under(folder, ingest).config("floe.toml", &text).start()
}

fn top(spool: &Path) -> Value {
    let spool = spool.to_str().expect("temporary folders have plain names");
    let output = floe_output(["top", "--json", "--spool", spool]);
    assert!(output.status.success(), "{}", text_of(&output));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// What heads a list, how often, and its example.
fn first<'v>(top: &'v Value, thing: &str, order: &str) -> (&'v str, u64, &'v Value) {
    let entry = &top[thing][order][0];
    (entry["what"].as_str().unwrap_or(""), entry["count"].as_u64().unwrap_or(0), &entry["example"])
}

fn sender_at(last: u8) -> UdpSocket {
    UdpSocket::bind((IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).expect("loopback is a network")
}

/// One sender of good lines, one of bad ones.
fn send(daemon: &Daemon) -> u64 {
    let (good, bad) = (sender_at(2), sender_at(3));
    for number in 0..50 {
        let text = format!("web.hits:1|c\nweb.hits:1|c\nweb.user.{number}:1|c\ndb.load:1|g");
        good.send_to(text.as_bytes(), daemon.udp()).expect("loopback takes the datagram");
        bad.send_to(b"app.x:\x1b[2J|c", daemon.udp()).expect("loopback takes the datagram");
    }
    100
}

#[test]
fn every_sender_is_told_with_what_it_brings() {
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let daemon = start(folder.path(), ingest, "senders = \"all\"");
        let sent = send(&daemon);
        let spool = &daemon.ready().spool;
        let told = wait::until("every sample", BOUND, || {
            Some(top(spool)).filter(|told| told["sampled_datagrams"] == sent)
        });
        assert_eq!(first(&told, "prefixes", "lines"), ("web", 150, &Value::Null));
        assert_eq!(first(&told, "names", "lines"), ("web.hits", 100, &Value::Null));
        assert_eq!(first(&told, "senders", "lines"), ("127.0.0.2", 200, &Value::Null));
        assert_eq!(first(&told, "prefixes", "new"), ("web", 51, &Value::Null));
        assert_eq!(first(&told, "senders", "new"), ("127.0.0.2", 52, &Value::Null));
        let example = Value::from("app.x:\\x1b[2J|c");
        assert_eq!(first(&told, "senders", "bad"), ("127.0.0.3", 50, &example));
        assert_eq!(first(&told, "names", "bad"), ("app.x", 50, &example));
        assert_eq!((&told["sampled_lines"], &told["bad_lines"]), (&200.into(), &50.into()));
        let console = Console::connect(daemon.ready().mgmt).ask("top\n", "END\n\n");
        assert!(
            console.contains("senders with most bad lines\n  100 %  50  127.0.0.3"),
            "{console}"
        );
    }
}

#[test]
fn addresses_and_examples_can_be_switched_off() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let daemon = start(folder.path(), Ingest::Recvmmsg, "senders = \"off\"\nexamples = false");
    let spool = &daemon.ready().spool;
    let told = wait::until("a sample of each", BOUND, || {
        send(&daemon);
        let told = top(spool);
        (told["bad_lines"] != 0 && told["sampled_lines"] != 0).then_some(told)
    });
    assert_eq!(told["senders"]["lines"], Value::Array(Vec::new()));
    assert_eq!(first(&told, "names", "bad").2, &Value::Null);
}

#[test]
fn windows_find_who_sends_much_on_both_paths() {
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let daemon = start(folder.path(), ingest, "");
        let (loud, quiet) = (sender_at(4), sender_at(5));
        let spool = &daemon.ready().spool;
        let told = wait::until("samples", BOUND, || {
            for number in 0..5_000 {
                loud.send_to(b"loud.hits:1|c", daemon.udp()).expect("loopback takes the datagram");
                if number % 100 == 0 {
                    quiet.send_to(b"q:1|c", daemon.udp()).expect("loopback takes the datagram");
                }
            }
            let told = top(spool);
            (100 < told["sampled_lines"].as_u64()?).then_some(told)
        });
        assert_eq!(first(&told, "senders", "lines").0, "127.0.0.4", "{told:#}");
        assert_eq!(first(&told, "prefixes", "lines").0, "loud", "{told:#}");
        assert_eq!(told["sampling"], "sampled");
    }
}

#[test]
fn without_a_daemon_there_is_nobody_to_ask() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let spool = folder.path().to_str().expect("temporary folders have plain names");
    let output = floe_output(["top", "--spool", spool]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text_of(&output).contains("no daemon runs on"), "{}", text_of(&output));
}
