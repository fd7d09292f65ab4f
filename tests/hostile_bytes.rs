//! Nothing from the network reaches a log, a terminal, a file name or a Graphite line unescaped.
//! Method: the built binary with `keyNameSanitize: false`, the setting that lets most through, on both
//! receive paths; keys, tags, members and whole lines of bytes that mean something to one of those
//! places; then every place is read byte by byte.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::carbon::{Protocol, RecordingCarbon, series};
use support::console::Console;
use support::daemon::{Ingest, Launch, send};
use support::ports;

mod support;

const BOUND: Duration = Duration::from_secs(15);

/// Bytes that a terminal, a log, a file system or Carbon could take for its own.
const HOSTILE: [&[u8]; 14] = [
    b"\x1b[2J",
    b"\x1b]0;title\x07",
    b"\r",
    b"\0",
    b"\x08\x7f",
    b"\xff\xfe",
    b"\xc2\x9b2J",
    b" 1 1\rb 2 2",
    b"../../etc/passwd",
    b"%s%n",
    b"\xe2\x80\xa8",
    b"\xe3\x80\x80",
    b"$(id)`id`",
    b"{\"k\":\"v\"}",
];

/// Every hostile text in every place of a line; two that are good come last.
fn datagrams() -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    for text in HOSTILE {
        for (before, behind) in [
            (&b"a"[..], &b"b:1|c"[..]),
            (b"tagged:2|g|#k", b":v"),
            (b"tagged:3|g|#k:", b""),
            (b"members:", b"|s"),
            (b"bad:", b"|c"),
            (b"bad:1|", b""),
            (b"bad", b""),
        ] {
            datagrams.push([before, text, behind].concat());
        }
    }
    datagrams.push(b"last.one:1|c\nlast.two:7|g".to_vec());
    datagrams
}

fn config(carbon: &RecordingCarbon, port: u16, mgmt_port: u16, protocol: &str) -> String {
    format!(
        "{{ graphitePort: {0}, graphitePicklePort: {0}, graphiteHost: '127.0.0.1', graphiteProtocol: '{protocol}'
         , port: {port}, address: '127.0.0.1', mgmt_port: {mgmt_port}, mgmt_address: '127.0.0.1'
         , flushInterval: 1000, backends: ['./backends/graphite'], keyNameSanitize: false
         , keyFlush: {{ interval: 500, percent: 100, log: 'keys.log' }} }}\n",
        carbon.port()
    )
}

fn nothing_hostile_gets_through(ingest: Ingest, protocol: Protocol, word: &str) {
    let carbon = RecordingCarbon::start();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let (port, mgmt_port) = (ports::free(), ports::free());
    let mut daemon = Launch::under(folder.path(), ingest)
        .config("config.js", &config(&carbon, port, mgmt_port, word))
        .start_on(mgmt_port);
    send(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), datagrams());
    let points = carbon.wait_points("stats.gauges.last.two", BOUND, protocol, |points| {
        !series(points, "stats.gauges.last.two").is_empty()
    });
    for point in &points {
        assert!(point.name.starts_with("stats"), "{:?} left its name space", point.name);
        let is_harmful = |each: char| each.is_control() || each.is_whitespace();
        assert!(!point.name.contains(is_harmful), "{:?}", point.name);
        assert!(!(point.name.ends_with("\"}") && point.name.contains('{')), "{:?}", point.name);
    }
    let console = Console::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, mgmt_port)));
    for command in ["counters\n", "gauges\n", "timers\n", "stats\n"] {
        assert_plain(command, &console.ask(command, "END\n\n"));
    }
    let hostile = HOSTILE.map(|text| String::from_utf8_lossy(text).replace(['\n', ' '], "_"));
    let answer = console.ask(&format!("delgauges {}\n", hostile.join(" ")), "END\n\n");
    assert_plain("delgauges", &answer);
    daemon.drain(Signal::TERM);
    let log = daemon.output();
    assert_plain("the log", &log);
    let told = log.matches("values rejected").count();
    assert!((1..=4).contains(&told), "{told} lines for bad values:\n{log}");
    let keys = fs::read_to_string(folder.path().join("keys.log")).unwrap_or_default();
    assert_plain("keyFlush.log", &keys);
    let files = files_under(folder.path());
    assert!(files.iter().any(|name| name.ends_with(".seg")), "{files:?}");
    for name in files {
        let is_plain = |each: char| each.is_ascii_alphanumeric() || "-_.".contains(each);
        assert!(name.chars().all(is_plain), "a file is called {name:?}");
    }
}

/// Lines of text, and nothing else.
fn assert_plain(place: &str, text: &str) {
    for line in text.split('\n') {
        assert!(!line.chars().any(char::is_control), "{place}: {line:?}");
    }
}

/// Names of all files and folders under `folder`.
fn files_under(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        names.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        if path.is_dir() {
            names.extend(files_under(&path));
        }
    }
    names
}

#[test]
fn nothing_hostile_gets_through_io_uring_and_text() {
    nothing_hostile_gets_through(Ingest::IoUring, Protocol::Text, "text");
}

#[test]
fn nothing_hostile_gets_through_recvmmsg_and_pickle() {
    nothing_hostile_gets_through(Ingest::Recvmmsg, Protocol::Pickle, "pickle");
}
