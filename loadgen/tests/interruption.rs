//! Ctrl-C and SIGTERM end a run early and leave its report; the second signal leaves nothing. Method: run the
//! built binary, play the daemon by hand, and send the signal once the run is known to be on its way.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn loadgen(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn receiver() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn receive(socket: &UdpSocket, datagrams: usize) {
    for _ in 0..datagrams {
        socket.recv(&mut [0; 2_000]).unwrap();
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn r4_a_run_that_is_interrupted_leaves_its_report() {
    for (number, status, name) in [(Signal::INT, 130, "SIGINT"), (Signal::TERM, 143, "SIGTERM")] {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.html");
        let (socket, target) = receiver();
        let html = page.to_str().unwrap();
        let arguments = ["--target", &target, "--duration", "60m", "--rate", "500", "--html", html];
        let child = loadgen(&[&arguments[..], &["--packing", "single", "--json"]].concat());
        receive(&socket, 3);
        signal(&child, number);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&report["verdict"], &report["interrupted_by"]),
            (&"interrupted".into(), &name.into())
        );
        assert!(3 <= report["lines"].as_u64().unwrap(), "{report}");
        assert!(std::fs::read_to_string(page).unwrap().contains(&format!("interrupted by {name}")));
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told, format!("loadgen: interrupted by {name}\n"));
    }
}

/// The first round has 50 datagrams: with the sixtieth the second one is on its way.
#[test]
fn r4_a_search_that_is_interrupted_tells_its_rounds() {
    let (socket, target) = receiver();
    let pid = std::process::id().to_string();
    let arguments = ["search", "--target", &target, "--pid", &pid, "--from", "50", "--round", "1s"];
    let child = loadgen(&[&arguments[..], &["--packing", "single", "--json"]].concat());
    receive(&socket, 60);
    signal(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["interrupted_by"], &report["lines_per_s"]),
        (&"SIGINT".into(), &Value::Null)
    );
    assert_eq!(report["rounds"][0]["offered_lines_per_s"], 50, "{report}");
    assert_eq!(report["failure"], Value::Null);
}

/// A Graphite that never answers: the first signal has to wait for it, the second one does not.
#[test]
fn r4_the_second_signal_ends_the_process() {
    let (socket, target) = receiver();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let web = format!("http://{}", silent.local_addr().unwrap());
    let mut child = loadgen(&["--target", &target, "--lines", "1", "--graphite", &web]);
    receive(&socket, 1);
    let _connection = silent.accept().unwrap();
    let mut signals = 0;
    while child.try_wait().unwrap().is_none() {
        signal(&child, Signal::INT);
        signals += 1;
        // Two that come before the first is taken are one.
        thread::park_timeout(Duration::from_millis(20));
    }
    assert!(2 <= signals);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(output.stdout.is_empty());
}
