//! A second daemon on the same spool or the same port ends within a second, names the first, and
//! costs the first nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::carbon::{Protocol, RecordingCarbon, series};
use support::daemon::{Daemon, Ingest, Launch, send};
use support::{settings, wait};

mod support;

const REFUSAL_BOUND: Duration = Duration::from_secs(1);
const DELIVERY_BOUND: Duration = Duration::from_secs(20);

#[test]
fn a_second_daemon_on_the_spool_is_refused_on_io_uring() {
    a_second_daemon_on_the_spool_is_refused(Ingest::IoUring);
}

#[test]
fn a_second_daemon_on_the_spool_is_refused_on_recvmmsg() {
    a_second_daemon_on_the_spool_is_refused(Ingest::Recvmmsg);
}

#[test]
fn a_second_daemon_on_the_port_is_refused_on_io_uring() {
    a_second_daemon_on_the_port_is_refused(Ingest::IoUring);
}

#[test]
fn a_second_daemon_on_the_port_is_refused_on_recvmmsg() {
    a_second_daemon_on_the_port_is_refused(Ingest::Recvmmsg);
}

fn a_second_daemon_on_the_spool_is_refused(ingest: Ingest) {
    let first = First::start(ingest);
    let own = tempfile::tempdir().expect("the machine has a temporary folder");
    let spool = first.folder.path().join("spool");
    let spool = spool.to_str().expect("temporary folders have plain names");
    let second = Launch::under(own.path(), ingest)
        .config("floe.toml", &settings::toml(1000, &[]))
        .without_spool_flag()
        .argument("--spool")
        .argument(spool)
        .spawn();
    let said = first.outlives(second);
    assert!(said.contains(spool), "the spool is named: {said}");
    assert!(said.contains(&first.daemon.id().to_string()), "the first is named: {said}");
    first.drain_and_check();
}

fn a_second_daemon_on_the_port_is_refused(ingest: Ingest) {
    let first = First::start(ingest);
    let port = first.daemon.udp().port();
    let own = tempfile::tempdir().expect("the machine has a temporary folder");
    let config = settings::toml(1000, &[]).replacen("port = 0", &format!("port = {port}"), 1);
    let second = Launch::under(own.path(), ingest).config("floe.toml", &config).spawn();
    let said = first.outlives(second);
    assert!(said.contains(&format!(":{port}")), "the address is named: {said}");
    let first_pid = format!("floe (pid {})", first.daemon.id());
    assert!(said.contains(&first_pid), "the first is named: {said}");
    first.drain_and_check();
}

/// The daemon that was there first.
struct First {
    daemon: Daemon,
    carbon: RecordingCarbon,
    folder: tempfile::TempDir,
}

/// Sent before, during and after the second daemon's attempt, from sockets of their own, so that
/// the kernel would spread them over every socket bound to the port.
const SENDERS: u32 = 100;

impl First {
    fn start(ingest: Ingest) -> Self {
        let carbon = RecordingCarbon::start();
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let daemon = launch(folder.path(), ingest, carbon.port()).start();
        send_from_many(daemon.udp());
        Self { daemon, carbon, folder }
    }

    /// Sends while `second` starts; gives what it said when it was refused.
    fn outlives(&self, mut second: Daemon) -> String {
        send_from_many(self.daemon.udp());
        let status = second.wait_exit(REFUSAL_BOUND);
        let said = second.output();
        assert!(!status.success(), "the second ended with {status}: {said}");
        assert_eq!(status.code(), Some(1), "a refused start is a failure, not wrong usage: {said}");
        send_from_many(self.daemon.udp());
        said
    }

    fn drain_and_check(mut self) {
        assert!(self.daemon.exited().is_none(), "the first still runs");
        self.daemon.drain(Signal::TERM);
        self.carbon.wait_idle(DELIVERY_BOUND);
        let points = self.carbon.take_points(Protocol::Text);
        let total: f64 = series(&points, "stats_counts.first.hits").values().sum();
        assert_eq!(total, f64::from(3 * SENDERS), "the first has every datagram");
    }
}

fn launch(folder: &Path, ingest: Ingest, carbon_port: u16) -> Launch {
    Launch::under(folder, ingest)
        .config("floe.toml", &settings::one_text_backend(1000, carbon_port))
}

fn send_from_many(to: SocketAddr) {
    for _ in 0..SENDERS {
        send(to, ["first.hits:1|c"]);
    }
}

/// A supervisor that starts floe again and again must not fill the spool with empty intervals: each
/// would use up a timestamp of the intervals to come.
#[test]
fn a_start_that_fails_leaves_no_interval_behind() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let config =
        settings::toml(1000, &[]).replacen("mgmt_port = 0", &format!("mgmt_port = {port}"), 1);
    let mut daemon =
        Launch::under(folder.path(), Ingest::IoUring).config("floe.toml", &config).spawn();
    let status = daemon.wait_exit(REFUSAL_BOUND);
    assert_eq!(status.code(), Some(1), "{}", daemon.output());
    assert!(daemon.output().contains("mgmt_port"), "the setting is named: {}", daemon.output());
    let archive = std::fs::read_dir(folder.path().join("spool/archive"));
    assert_eq!(archive.expect("the spool was made").count(), 0, "{}", daemon.output());
}

#[test]
fn a_ready_file_that_cannot_be_written_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    std::fs::create_dir(folder.path().join("ready.json.tmp")).expect("the folder is ours");
    let mut daemon = Launch::under(folder.path(), Ingest::Recvmmsg)
        .config("floe.toml", &settings::toml(1000, &[]))
        .spawn();
    let status = daemon.wait_exit(REFUSAL_BOUND);
    assert_eq!(status.code(), Some(1), "{}", daemon.output());
    assert!(daemon.output().contains("ready.json"), "{}", daemon.output());
    assert!(!folder.path().join("spool").exists(), "nothing was made");
}

/// A configuration with a TCP server at `tcp` and a Unix socket at `socket`.
fn with_servers(mgmt: u16, tcp: u16, socket: &Path) -> String {
    let text = settings::toml(1000, &[]).replacen("port = 0\n", "", 1);
    let text = text.replacen("mgmt_port = 0", &format!("mgmt_port = {mgmt}"), 1);
    let server = |rest: &str| format!("[[servers]]\nserver = \"tcp\"\n{rest}\n");
    let tcp = server(&format!("address = \"127.0.0.1\"\nport = {tcp}"));
    text + &tcp + &server(&format!("socket = {:?}", socket.display().to_string()))
}

#[test]
fn a_second_daemon_on_a_stream_or_the_admin_port_is_refused_and_names_the_first() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let own = tempfile::tempdir().expect("the machine has a temporary folder");
    let (socket, other) = (folder.path().join("a.sock"), own.path().join("b.sock"));
    let config = with_servers(0, 0, &socket);
    let first = Launch::under(folder.path(), Ingest::Recvmmsg).config("floe.toml", &config);
    let mut first_daemon = first.start();
    let (tcp, mgmt) = (first_daemon.ready().tcp[0].port(), first_daemon.ready().mgmt.port());
    for (config, what) in [
        (with_servers(0, tcp, &other), format!("tcp 127.0.0.1:{tcp}")),
        (with_servers(0, 0, &socket), socket.display().to_string()),
        (with_servers(mgmt, 0, &other), format!(":{mgmt}")),
    ] {
        let mut second =
            Launch::under(own.path(), Ingest::Recvmmsg).config("floe.toml", &config).spawn();
        let status = second.wait_exit(REFUSAL_BOUND);
        let said = second.output();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(&what), "{what} is named: {said}");
        assert!(said.contains(&format!("floe (pid {})", first_daemon.id())), "{said}");
    }
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok(), "the first still listens");
    first_daemon.drain(Signal::TERM);
}

/// Others come again and again, on the port and on the spool, while senders go on.
#[test]
fn the_first_loses_nothing_under_load_while_others_try() {
    let carbon = RecordingCarbon::start();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut first = launch(folder.path(), Ingest::IoUring, carbon.port()).start();
    let (to, spool) = (first.udp(), first.ready().spool.clone());
    let (end, ended) = std::sync::mpsc::sync_channel::<()>(0);
    let sending = std::thread::spawn(move || {
        let (socket, mut sent) = (support::daemon::sender(), 0_u64);
        let going_on = Err(std::sync::mpsc::TryRecvError::Empty);
        while ended.try_recv() == going_on {
            for _ in 0..16 {
                sent += u64::from(socket.send_to(b"first.hits:1|c", to).is_ok());
            }
            wait::pause(Duration::from_millis(1));
        }
        sent
    });
    let taken = settings::toml(1000, &[]).replacen("port = 0", &format!("port = {}", to.port()), 1);
    for _ in 0..4 {
        let own = tempfile::tempdir().expect("the machine has a temporary folder");
        let on_port = Launch::under(own.path(), Ingest::IoUring).config("floe.toml", &taken);
        let on_spool = Launch::under(own.path(), Ingest::IoUring)
            .config("other.toml", &settings::toml(1000, &[]))
            .without_spool_flag()
            .argument("--spool")
            .argument(spool.to_str().expect("temporary folders have plain names"));
        for second in [on_port, on_spool] {
            let mut second = second.spawn();
            assert_eq!(second.wait_exit(REFUSAL_BOUND).code(), Some(1), "{}", second.output());
        }
    }
    drop(end);
    let sent = sending.join().expect("it sends");
    first.drain(Signal::TERM);
    carbon.wait_idle(DELIVERY_BOUND);
    let books = Books::of(&spool);
    let dropped = books.count("datagrams_dropped.kernel");
    assert_eq!(books.count("datagrams_received") + dropped, sent, "{books:?}");
    let points = carbon.take_points(Protocol::Text);
    let total: f64 = series(&points, "stats_counts.first.hits").values().sum();
    assert_eq!(total, (sent - dropped) as f64);
}
