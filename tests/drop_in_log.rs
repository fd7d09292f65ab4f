//! Where the log goes and in which form, what the process shows of itself, and what the service
//! manager hears. Method: the built binary, its standard output and error apart, sockets of the test
//! in the places of syslog and systemd.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use support::daemon::{Ingest, Launch, floe, send};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(20);

/// Everything an attacker would like to see in a terminal.
const HOSTILE: &[u8] = b"\x1b[2J\x07evil\r:x|c\xff\xfe";

/// The largest datagram, each of whose values is bad.
const COLONS: &[u8] = &[b':'; 65_507];

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the machine has a temporary folder")
}

/// A `config.js` with `keys`, and its UDP port.
fn config(folder: &Path, keys: &str) -> (std::path::PathBuf, u16) {
    let (port, mgmt_port) = (ports::free(), ports::free());
    let text = format!(
        "{{ port: {port}, address: '127.0.0.1', mgmt_port: {mgmt_port}, mgmt_address: '127.0.0.1'
         , flushInterval: 1000, {keys} }}\n"
    );
    let path = folder.join("config.js");
    std::fs::write(&path, text).expect("the test's folder is writable");
    (path, port)
}

/// Runs a daemon until its ready file is there, sends `lines`, waits for two flushes, stops it; its
/// standard output and error.
fn run(folder: &Path, keys: &str, lines: &[&[u8]], adjust: impl Fn(&mut Command)) -> [String; 2] {
    let (path, port) = config(folder, keys);
    let ready = folder.join("ready.json");
    let mut command = floe();
    command.arg(&path).arg("--spool").arg(folder.join("spool")).arg("--ready-file").arg(&ready);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    adjust(&mut command);
    let mut child = Stopped(command.spawn().expect("the binary was built"));
    wait::until("the ready file", BOUND, || ready.exists().then_some(()));
    send(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), lines);
    wait::pause(Duration::from_millis(2_200));
    child.signal(Signal::TERM);
    let [mut out, mut error] = [String::new(), String::new()];
    let streams = (child.0.stdout.take(), child.0.stderr.take());
    streams.0.expect("piped").read_to_string(&mut out).expect("text");
    streams.1.expect("piped").read_to_string(&mut error).expect("text");
    let status = child.0.wait().expect("a child of ours");
    assert_eq!(status.code(), Some(0), "{out}{error}");
    [out, error]
}

/// Killed if the test fails before its end.
struct Stopped(Child);

impl Stopped {
    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.0.id()).expect("process ids fit 31 bits");
        kill_process(Pid::from_raw(id).expect("not 0"), signal).expect("it runs");
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The log holds no control character but its own newlines, and one line for many bad lines.
fn assert_harmless(log: &str) {
    for line in log.lines() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.len() < 1_000, "{line:?}");
    }
    let told = log.matches("values rejected").count();
    assert!((1..=3).contains(&told), "{told} lines for bad lines:\n{log}");
}

#[test]
fn a_config_js_logs_to_stdout_and_toml_to_stderr() {
    let folder = folder();
    let bad: Vec<&[u8]> = [vec![HOSTILE; 300], vec![COLONS; 3]].concat();
    let [out, error] = run(folder.path(), "backends: []", &bad, |_| {});
    assert!(out.contains("daemon started") && out.contains("daemon stopped"), "{out}");
    assert_eq!(error, "");
    assert_harmless(&out);
    let keys = "backends: [], log: { backend: 'stderr' }";
    let [out, error] = run(folder.path(), keys, &bad, |_| {});
    assert_eq!(out, "");
    assert!(error.contains("daemon started"), "{error}");
}

#[test]
fn json_lines_are_objects() {
    let folder = folder();
    let keys = "backends: [], log: { format: 'json' }";
    let bad: Vec<&[u8]> = [vec![HOSTILE; 300], vec![COLONS; 3]].concat();
    let [out, _] = run(folder.path(), keys, &bad, |_| {});
    assert_harmless(&out);
    for line in out.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect("an object per line");
        assert!(object["level"].is_string() && object["timestamp"].is_string(), "{line}");
    }
    let started = out.lines().find(|line| line.contains("daemon started")).expect("said");
    let object: serde_json::Value = serde_json::from_str(started).expect("an object");
    assert_eq!(object["message"], "daemon started");
    assert!(object["fields"]["udp"].as_str().expect("a field").starts_with("127.0.0.1:"));
}

#[test]
fn levels_leave_out_and_debug_brings_in() {
    let folder = folder();
    let keys = "backends: [], log: { level: 'LOG_WARNING' }";
    let [out, _] = run(folder.path(), keys, &[b"a:1|c"], |_| {});
    assert!(!out.contains("INFO"), "{out}");
    let keys = "backends: [], debug: true, log: { level: 'LOG_WARNING' }";
    let [out, _] = run(folder.path(), keys, &[b"a:1|c"], |_| {});
    assert!(out.contains("DEBUG interval spooled"), "{out}");
}

#[test]
fn syslog_gets_each_line_by_its_severity_and_a_missing_one_is_said() {
    let folder = folder();
    let path = folder.path().join("log.sock");
    let syslog = UnixDatagram::bind(&path).expect("the test's folder is writable");
    syslog.set_nonblocking(true).expect("a socket of ours");
    let keys = "backends: [], log: { backend: 'syslog', application: 'metrics' }";
    let bad: Vec<&[u8]> = [vec![HOSTILE; 300], vec![COLONS; 3]].concat();
    let [out, error] = run(folder.path(), keys, &bad, |command| {
        command.env("FLOE_SYSLOG_SOCKET", &path);
    });
    assert_eq!((out.as_str(), error.as_str()), ("", ""));
    let mut lines = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(len) = syslog.recv(&mut buffer) {
        lines.push(String::from_utf8(buffer[..len].to_vec()).expect("text"));
    }
    assert_harmless(&lines.join("\n"));
    let started = lines.iter().find(|line| line.contains("daemon started")).expect("said");
    // local0.info, then the date, then who says it.
    assert!(started.starts_with("<134>"), "{started}");
    assert!(started.contains(" metrics["), "{started}");
    let missing = folder.path().join("nobody.sock");
    let [out, error] = run(folder.path(), keys, &[b"a:1|c"], |command| {
        command.env("FLOE_SYSLOG_SOCKET", &missing);
    });
    assert_eq!(out, "");
    let missing = format!("backend=\"syslog at {}\" error=\"No such file", missing.display());
    assert!(error.contains(&missing) && error.contains("daemon stopped"), "{error}");
}

#[test]
fn a_closed_stdout_ends_nothing() {
    let folder = folder();
    let (path, port) =
        config(folder.path(), "backends: ['./backends/console'], dumpMessages: true");
    let ready = folder.path().join("ready.json");
    let mut command = floe();
    command.arg(&path).arg("--spool").arg(folder.path().join("spool"));
    command.arg("--ready-file").arg(&ready).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir(folder.path());
    let mut child = Stopped(command.spawn().expect("the binary was built"));
    wait::until("the ready file", BOUND, || ready.exists().then_some(()));
    drop((child.0.stdout.take(), child.0.stderr.take()));
    for _ in 0..3 {
        send(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), [HOSTILE, b"a:1|c"]);
        wait::pause(Duration::from_millis(1_000));
    }
    assert!(child.0.try_wait().expect("a child of ours").is_none(), "it goes on");
    child.signal(Signal::TERM);
    assert_eq!(child.0.wait().expect("a child of ours").code(), Some(0));
}

#[test]
fn the_title_is_shown_and_follows_a_reload() {
    let folder = folder();
    let (port, mgmt_port) = (ports::free(), ports::free());
    let text =
        |title: &str| format!("{{ port: {port}, mgmt_port: {mgmt_port}, backends: [], {title} }}");
    let mut daemon = Launch::under(folder.path(), Ingest::IoUring)
        .config("config.js", &text("title: 'our metrics'"))
        .start();
    let shown = || {
        let of = |name: &str| {
            let text = std::fs::read(format!("/proc/{}/{name}", daemon.id())).expect("it runs");
            String::from_utf8_lossy(&text).trim_end_matches(['\0', '\n']).to_owned()
        };
        (of("cmdline"), of("comm"))
    };
    assert_eq!(shown(), ("our metrics".to_owned(), "our metrics".to_owned()));
    for (title, expected) in
        [("title: 'x'", "x"), ("debug: false", "statsd"), ("title: false", "floe")]
    {
        std::fs::write(folder.path().join("config.js"), text(title)).unwrap();
        wait::until(expected, BOUND, || (shown().1 == expected).then_some(()));
        let (line, _) = shown();
        let is_as_expected = match expected {
            "x" => line == "x",
            "statsd" => line.starts_with("statsd ") && line.contains("config.js"),
            _ => line.contains("config.js\0--spool"),
        };
        assert!(is_as_expected, "{line:?}");
    }
    daemon.drain(Signal::TERM);
}

#[test]
fn the_service_manager_hears_of_start_reload_life_and_stop() {
    let folder = folder();
    let path = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("the test's folder is writable");
    manager.set_read_timeout(Some(BOUND)).expect("a socket of ours");
    let heard = |what: &str| {
        let mut buffer = [0; 4_096];
        loop {
            let len = manager.recv(&mut buffer).unwrap_or_else(|_| panic!("no {what}"));
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.lines().any(|line| line.starts_with(what)) {
                return text;
            }
        }
    };
    let mut daemon = Launch::under(folder.path(), Ingest::IoUring)
        .config("floe.toml", "port = 0\nmgmt_port = 0\n")
        .environment("NOTIFY_SOCKET", &path)
        .environment("WATCHDOG_USEC", "400000")
        .start();
    heard("READY=1");
    // Told in time, without an end.
    let started = wait::now();
    (0..20).for_each(|_| drop(heard("WATCHDOG=1")));
    assert!(started.elapsed() < 20 * Duration::from_millis(400), "{:?}", started.elapsed());
    daemon.signal(Signal::HUP);
    assert!(heard("RELOADING=1").contains("MONOTONIC_USEC="));
    heard("READY=1");
    daemon.signal(Signal::TERM);
    heard("STOPPING=1");
    assert_eq!(daemon.wait_exit(BOUND).code(), Some(0));
}
