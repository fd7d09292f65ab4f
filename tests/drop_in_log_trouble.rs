//! A log that is in trouble costs lines of the log alone: a pipe that nobody reads, standard streams
//! that are closed, a syslog that comes and goes. And texts that come from outside, configurations
//! among them, are shown in one line each. Method: the built binary, its standard streams in files,
//! sockets of the test in the places of syslog and the journal.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use support::daemon::{DRAIN_BOUND, floe, floe_output, send, text_of};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(20);

/// A daemon with a `config.js` in a folder of its own; killed if the test fails before its end.
struct Running {
    folder: tempfile::TempDir,
    port: u16,
    mgmt_port: u16,
    child: Option<Child>,
}

impl Running {
    fn prepared(keys: &str) -> Self {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let (port, mgmt_port) = (ports::free(), ports::free());
        let running = Self { folder, port, mgmt_port, child: None };
        running.rewrite(keys);
        running
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rewrite(&self, keys: &str) {
        let (port, mgmt_port) = (self.port, self.mgmt_port);
        let text = format!(
            "{{ port: {port}, address: '127.0.0.1', mgmt_port: {mgmt_port}
             , mgmt_address: '127.0.0.1', flushInterval: 1000, backends: [], {keys} }}\n"
        );
        fs::write(self.path("config.js"), text).expect("the test's folder is writable");
    }

    /// Standard output in `out`, standard error in `error`, unless `adjust` says otherwise.
    fn start(&mut self, adjust: impl Fn(&mut Command)) {
        let mut command = floe();
        command.args(self.arguments()).stdin(Stdio::null()).current_dir(self.folder.path());
        command.stdout(self.file("out")).stderr(self.file("error"));
        adjust(&mut command);
        self.spawn(command);
    }

    fn arguments(&self) -> Vec<PathBuf> {
        let flag = PathBuf::from;
        let [config, spool, ready] =
            ["config.js", "spool", "ready.json"].map(|name| self.path(name));
        vec![config, flag("--spool"), spool, flag("--ready-file"), ready]
    }

    fn spawn(&mut self, mut command: Command) {
        self.child = Some(command.spawn().expect("the binary was built"));
        let ready = self.path("ready.json");
        wait::until("the ready file", BOUND, || ready.exists().then_some(()));
    }

    fn file(&self, name: &str) -> File {
        File::create(self.path(name)).expect("the test's folder is writable")
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("it was made at the start")
    }

    fn wait_text(&self, name: &str, part: &str) {
        wait::until(part, BOUND, || self.text(name).contains(part).then_some(()));
    }

    fn send<P: AsRef<[u8]>>(&self, payloads: impl IntoIterator<Item = P>) {
        send(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), payloads);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it was started");
        let id = i32::try_from(child.id()).expect("process ids fit 31 bits");
        kill_process(Pid::from_raw(id).expect("not 0"), signal).expect("it runs");
    }

    /// SIGTERM, and the promise of the drain.
    fn stop(&mut self) {
        self.signal(Signal::TERM);
        let child = self.child.as_mut().expect("it was started");
        let status = wait::until("the end of the drain", DRAIN_BOUND, || {
            child.try_wait().expect("a child of ours")
        });
        assert_eq!(status.code(), Some(0));
    }

    /// Segments in the archive.
    fn segments(&self) -> usize {
        fs::read_dir(self.path("spool/archive")).map_or(0, Iterator::count)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn assert_one_line_each(text: &str) {
    for line in text.lines() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

/// A log daemon of the test.
fn listening(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("the test's folder is writable");
    socket.set_read_timeout(Some(BOUND)).expect("a socket of ours");
    socket
}

/// The first message with `part` in it.
fn heard(socket: &UnixDatagram, part: &str) -> String {
    let mut buffer = [0; 8_192];
    loop {
        let len = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {part:?}: {error}"));
        let text = String::from_utf8(buffer[..len].to_vec()).expect("text");
        if text.contains(part) {
            return text;
        }
    }
}

#[test]
fn a_stdout_that_nobody_reads_stops_nothing() {
    let mut daemon = Running::prepared("debug: true, dumpMessages: true");
    daemon.start(|command| {
        command.stdout(Stdio::piped());
    });
    let line = format!("{}:x|c\n", "long".repeat(200));
    wait::until("a pipe that is full, and three flushes behind it", BOUND, || {
        // Some 100 lines fill a pipe.
        daemon.send(vec![line.repeat(40); 20]);
        let filled = daemon.segments();
        wait::try_until(Duration::from_secs(4), || (filled + 3 <= daemon.segments()).then_some(()))
    });
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, daemon.mgmt_port)).expect("it listens");
    stream.set_read_timeout(Some(BOUND)).expect("a socket of ours");
    stream.write_all(b"health\n").expect("it reads");
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"health: up\n");
    daemon.stop();
}

#[test]
fn closed_standard_streams_end_nothing() {
    let mut daemon = Running::prepared("dumpMessages: true");
    let mut command = Command::new("sh");
    let binary = floe().get_program().to_owned();
    command.args(["-c", r#"exec "$@" <&- >&- 2>&-"#, "sh"]).arg(binary).args(daemon.arguments());
    command.current_dir(daemon.folder.path());
    daemon.spawn(command);
    daemon.send(["a:1|c", "bad"]);
    wait::until("a flush", BOUND, || (0 < daemon.segments()).then_some(()));
    daemon.stop();
    // An error has nowhere to go, and its exit code says it all the same.
    let mut command = Command::new("sh");
    let binary = floe().get_program().to_owned();
    command
        .args(["-c", r#"exec "$@" <&- >&- 2>&-"#, "sh"])
        .arg(binary)
        .args(["check", "absent.js"]);
    assert_eq!(command.status().expect("a shell").code(), Some(2));
    let mut piped = floe();
    piped.args(["check", "absent.js"]).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the binary was built");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("a child of ours").code(), Some(2));
}

#[test]
fn a_syslog_that_comes_and_goes_is_found_and_told_what_it_missed() {
    let mut daemon = Running::prepared("log: { backend: 'syslog', application: 'metrics' }");
    let path = daemon.path("log.sock");
    daemon.start(|command| {
        command.env("FLOE_SYSLOG_SOCKET", &path);
    });
    daemon.wait_text("error", "log refused: standard error is used until it is taken again");
    daemon.wait_text("error", "daemon started");
    for _ in 0..2 {
        let syslog = listening(&path);
        daemon.send(["bad"]);
        let missed = heard(&syslog, "log taken again: lines are missing");
        assert!(missed.starts_with("<132>") && missed.contains(" metrics["), "{missed}");
        assert!(missed.contains("lost=0 on_stderr="), "{missed}");
        let next = heard(&syslog, "values rejected");
        assert!(next.starts_with("<134>"), "{next}");
        fs::remove_file(&path).expect("ours");
        drop(syslog);
        let before = daemon.text("error").len();
        daemon.send(["bad"]);
        wait::until("a line on standard error", BOUND, || {
            daemon.text("error")[before..].contains("values rejected").then_some(())
        });
    }
    daemon.stop();
    assert_one_line_each(&daemon.text("error"));
    assert_eq!(daemon.text("out"), "");
}

#[test]
fn the_journal_gets_fields_and_stands_in_for_the_stream_it_reads() {
    for (keys, stream) in [
        ("log: { backend: 'journald', application: 'metrics' }", None),
        ("log: { application: 'metrics' }", Some("out")),
        ("log: { backend: 'stderr', application: 'metrics' }", Some("error")),
    ] {
        let mut daemon = Running::prepared(keys);
        let path = daemon.path("journal.sock");
        let journal = listening(&path);
        let [out, error] = ["out", "error"].map(|name| daemon.file(name));
        let read = if stream == Some("out") { &out } else { &error };
        let place = read.metadata().expect("a file of ours");
        let place = format!("{}:{}", place.dev(), place.ino());
        daemon.start(|command| {
            command.stdout(out.try_clone().expect("ours")).stderr(error.try_clone().expect("ours"));
            command.env("FLOE_JOURNAL_SOCKET", &path).env("JOURNAL_STREAM", &place);
        });
        let started = heard(&journal, "daemon started");
        for field in ["PRIORITY=6", "SYSLOG_IDENTIFIER=metrics", "FLOE_VERSION="] {
            assert!(started.lines().any(|line| line.starts_with(field)), "{field}: {started}");
        }
        let message = started.lines().find(|line| line.starts_with("MESSAGE=")).expect("one");
        assert!(message.contains("daemon started version="), "{message}");
        daemon.stop();
        assert_eq!((daemon.text("out"), daemon.text("error")), (String::new(), String::new()));
    }
}

#[test]
fn a_stream_that_the_journal_does_not_read_stays_a_stream() {
    let mut daemon = Running::prepared("log: { backend: 'stderr' }");
    daemon.start(|command| {
        command.env("JOURNAL_STREAM", "8:1");
    });
    daemon.wait_text("error", "daemon started");
    daemon.stop();
}

#[test]
fn a_reload_moves_the_log_and_changes_its_level() {
    let mut daemon = Running::prepared("log: { backend: 'stdout' }");
    let path = daemon.path("log.sock");
    let syslog = listening(&path);
    daemon.start(|command| {
        command.env("FLOE_SYSLOG_SOCKET", &path);
    });
    daemon.wait_text("out", "daemon started");
    daemon.rewrite("log: { backend: 'syslog' }, debug: true");
    daemon.signal(Signal::HUP);
    let debug = heard(&syslog, "interval spooled");
    assert!(debug.starts_with("<135>"), "{debug}");
    daemon.rewrite("log: { backend: 'stderr', format: 'json', level: 'LOG_WARNING' }");
    daemon.signal(Signal::HUP);
    daemon.rewrite("log: { backend: 'stderr', format: 'json' }");
    daemon.signal(Signal::HUP);
    daemon.wait_text("error", "\"message\":\"configuration ");
    daemon.stop();
    assert!(!daemon.text("out").contains("daemon stopped"));
    assert!(daemon.text("error").contains("\"message\":\"daemon stopped\""));
}

#[test]
fn rust_log_wins_and_an_unreadable_one_is_said() {
    for (variable, part, is_debug) in [
        ("debug", "DEBUG interval spooled", true),
        ("", "INFO daemon started", false),
        ("floe=nonsense=1", "WARN RUST_LOG not understood: log.level is used", false),
    ] {
        let mut daemon = Running::prepared("log: { level: 'LOG_INFO' }");
        daemon.start(|command| {
            command.env("RUST_LOG", variable);
        });
        daemon.wait_text("out", part);
        wait::until("a flush", BOUND, || (0 < daemon.segments()).then_some(()));
        daemon.stop();
        assert_eq!(daemon.text("out").contains("DEBUG"), is_debug, "{variable:?}");
    }
}

/// Whoever reaches the console could otherwise fill a disk.
#[test]
fn a_site_that_is_called_too_often_is_summed_up() {
    let mut daemon = Running::prepared("debug: true");
    daemon.start(|_| {});
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, daemon.mgmt_port)).expect("it listens");
    stream.set_read_timeout(Some(BOUND)).expect("a socket of ours");
    for round in 0..200 {
        let (command, reply) = match round % 2 {
            0 => ("health down\n", "health: down\n"),
            _ => ("health up\n", "health: up\n"),
        };
        stream.write_all(command.as_bytes()).expect("it reads");
        let mut answer = vec![0; reply.len()];
        stream.read_exact(&mut answer).expect("it answers");
        assert_eq!(answer, reply.as_bytes());
    }
    daemon.stop();
    let log = daemon.text("out");
    assert_eq!(log.matches("health switched by the console").count(), 64, "{log}");
    let told = log.lines().find(|line| line.contains("log lines left out")).expect("said");
    assert!(told.contains("lines=136 site=\"io/src/admin/reply.rs:"), "{told}");
}

#[test]
fn texts_of_a_configuration_are_shown_in_one_line_each() {
    let hostile = r#"'ev\u001b[2J\nil\u202e': 1, 'graphiteHost\u0007': 'x\r\ny'"#;
    let mut daemon = Running::prepared(hostile);
    daemon.start(|_| {});
    daemon.wait_text("out", "daemon started");
    assert_one_line_each(&daemon.text("out"));
    assert!(!daemon.text("out").contains('\u{202e}'));
    // A broken file at a reload, and both said by `floe check`.
    let path = daemon.path("config.js");
    let path = path.to_str().expect("temporary folders have plain names");
    assert_one_line_each(&text_of(&floe_output(["check", path])));
    fs::write(path, "{ port: 'a\\u001b[2J\\nb', \u{1b}[2J\u{7}\n }").expect("writable");
    daemon.signal(Signal::HUP);
    daemon.wait_text("out", "configuration refused: the old one goes on");
    let checked = floe_output(["check", path]);
    assert_eq!(checked.status.code(), Some(2));
    let said = text_of(&checked);
    assert_one_line_each(&said);
    assert_eq!(said.lines().count(), 1, "{said}");
    daemon.stop();
    assert_one_line_each(&daemon.text("out"));
}

#[test]
fn the_limit_of_open_files_is_raised_and_named_where_it_is_too_low() {
    let mut daemon = Running::prepared("");
    let limited = |limits: &str, arguments: Vec<PathBuf>| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!(r#"{limits} && exec "$@""#), "sh"]);
        command.arg(floe().get_program()).args(arguments).stdin(Stdio::null());
        command
    };
    daemon.spawn(limited("ulimit -Sn 100 && ulimit -Hn 1000", daemon.arguments()));
    let id = daemon.child.as_ref().expect("it was started").id();
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).expect("it runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let numbers: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["1000", "1000"], "soft and hard");
    daemon.stop();
    let output = limited("ulimit -n 12", daemon.arguments()).output().expect("a shell");
    assert_eq!(output.status.code(), Some(1));
    let said = text_of(&output);
    let last = said.lines().last().expect("an error");
    assert!(last.starts_with("floe: ") && last.contains("ulimit -n"), "{said}");
}

/// The reference has no directory of its own either: relative paths start where it was started.
#[test]
fn the_working_directory_stays_and_relative_paths_start_there() {
    let mut daemon = Running::prepared("keyFlush: { interval: 200, log: 'keys.log' }");
    daemon.start(|_| {});
    let id = daemon.child.as_ref().expect("it was started").id();
    let directory = fs::read_link(format!("/proc/{id}/cwd")).expect("it runs");
    assert_eq!(directory, daemon.folder.path().canonicalize().expect("a folder of ours"));
    daemon.send(["a:1|c"]);
    wait::until("rows of keyFlush", BOUND, || {
        fs::read_to_string(daemon.path("keys.log")).ok().filter(|rows| rows.contains("key=a"))
    });
    daemon.stop();
}
