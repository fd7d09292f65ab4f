//! The helper scripts that ship with the reference daemon go on working: its shell health check, for
//! Nagios and for Keepalived, and its Nagios check of a value. They come from the npm package, unchanged.
//!
//! The shell check wants `nc`. Where the machine has none, a few lines of Python stand in for it: what
//! they do, writing standard input and printing what comes back, is all that the script uses.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use support::console::Console;
use support::daemon::{Daemon, Ingest, Launch, send, text_of};
use support::{ports, reference};

mod support;

const NC: &str = "#!/usr/bin/env python3
import socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
peer.sendall(sys.stdin.buffer.read())
peer.shutdown(socket.SHUT_WR)
while data := peer.recv(65536):
    sys.stdout.buffer.write(data)
";

/// A daemon from a `config.js`, and the port of its console.
fn start(folder: &Path) -> (Daemon, u16, SocketAddr) {
    let (port, mgmt_port) = (ports::free(), ports::free());
    let config = format!(
        "{{ port: {port}, mgmt_port: {mgmt_port}, graphiteHost: '127.0.0.1', graphitePort: {} }}",
        ports::free()
    );
    let daemon =
        Launch::under(folder, Ingest::IoUring).config("config.js", &config).start_on(mgmt_port);
    (daemon, mgmt_port, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Runs a script of the reference daemon's `utils/`, with an `nc` on its path.
fn run(folder: &Path, interpreter: &str, script: &str, arguments: &[&str]) -> Output {
    let tools = folder.join("tools");
    let path = std::env::var("PATH").unwrap_or_default();
    if std::env::split_paths(&path).all(|directory| !directory.join("nc").exists()) {
        std::fs::create_dir_all(&tools).expect("the test's folder is writable");
        std::fs::write(tools.join("nc"), NC).expect("the test's folder is writable");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(tools.join("nc"), mode).expect("the test's folder is writable");
    }
    let packed = reference::script(script);
    let text = std::fs::read_to_string(packed).expect("the package has its helper scripts");
    let unpacked = folder.join(script);
    std::fs::write(&unpacked, text.replace('\r', "")).expect("the test's folder is writable");
    Command::new(interpreter)
        .arg(unpacked)
        .args(arguments)
        .env("PATH", format!("{}:{path}", tools.display()))
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot run {interpreter}: {error}; apt-get install {interpreter}")
        })
}

#[test]
fn the_shell_health_check_tells_up_from_down() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let (_daemon, mgmt_port, _) = start(folder.path());
    let port = mgmt_port.to_string();
    let check = |arguments: &[&str]| {
        let arguments = [&["-P", &port], arguments].concat();
        let output = run(folder.path(), "bash", "check_statsd_health", &arguments);
        (output.status.code(), text_of(&output))
    };
    let says = |word: &str| format!("Statsd '127.0.0.1:{port}' responded: 'health: {word}'\n");
    assert_eq!(check(&[]), (Some(0), says("up")));
    assert_eq!(check(&["-k"]), (Some(0), says("up")));
    let console = Console::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, mgmt_port)));
    console.ask("health down\n", "health: down\n");
    assert_eq!(check(&[]), (Some(2), says("down")));
    assert_eq!(check(&["-k"]), (Some(1), says("down")));
}

#[test]
fn the_nagios_check_reads_the_values_of_stats() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let (_daemon, mgmt_port, udp) = start(folder.path());
    send(udp, ["bad", "worse:x|c", "a:1|c"]);
    let port = mgmt_port.to_string();
    for (metric, warning, code, says) in [
        ("messages.bad_lines_seen", "5", 0, "OK: messages.bad_lines_seen = 2"),
        ("messages.bad_lines_seen", "1", 1, "WARNING: messages.bad_lines_seen value 2 exceeds"),
        ("messages.last_msg_seen", "60", 0, "OK: messages.last_msg_seen = "),
        ("graphite.flush_length", "60", 0, "OK: graphite.flush_length = 0"),
        ("uptime", "600", 0, "OK: uptime = "),
        ("no.such.value", "1", 2, "CRITICAL: metric no.such.value wasn't found"),
    ] {
        let arguments =
            ["--port", &port, "--metric", metric, "--warning", warning, "--crit", "9999999999"];
        let output = run(folder.path(), "perl", "check_statsd.pl", &arguments);
        let text = text_of(&output);
        assert_eq!(output.status.code(), Some(code), "{metric}: {text}");
        assert!(text.contains(says), "{metric}: {text}");
    }
}
