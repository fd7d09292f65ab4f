//! Claims: sockets that the service manager opens, or keeps over a restart, are read as our own would be:
//! what comes while no daemon runs waits in them, and what did not fit is in the books, to the
//! datagram, also over kill -9. Sockets that nobody asked for are refused. Method: the built binary
//! behind a small launcher that does what systemd does: `LISTEN_FDS` from descriptor 3 on, and a
//! `NOTIFY_SOCKET` that takes descriptors.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};

use support::books::Books;
use support::daemon::{Ingest, Launch, Ready, floe, sender};
use support::{settings, wait};

mod support;

const BOUND: Duration = Duration::from_secs(20);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the machine has a temporary folder")
}

/// A daemon that was started with sockets, at most three, as systemd passes them.
struct Activated {
    folder: PathBuf,
    child: Child,
}

impl Activated {
    fn spawn(folder: &Path, sockets: &[&OwnedFd], names: &str, extra: &[(&str, &Path)]) -> Self {
        assert!(matches!(sockets.len(), 1..=3), "as many as there are standard streams");
        std::fs::remove_file(folder.join("ready.json")).ok();
        // The shell moves its standard streams to 3, 4 and 5, and becomes the daemon.
        let moves = ["3<&0", "4<&1", "5<&2"][..sockets.len()].join(" ");
        let script = format!(
            "exec {moves}; exec 0</dev/null 1>>log 2>&1; \
             LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names} exec \"$@\"",
            sockets.len()
        );
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg("sh").arg(floe().get_program());
        command.args(["floe.toml", "--spool", "spool", "--ready-file", "ready.json"]);
        command.current_dir(folder).env("NO_COLOR", "1").envs(extra.iter().copied());
        let mut streams = sockets.iter().map(|socket| {
            Stdio::from(socket.try_clone().expect("the test may open another descriptor"))
        });
        command.stdin(streams.next().unwrap_or_else(Stdio::null));
        command.stdout(streams.next().unwrap_or_else(Stdio::null));
        command.stderr(streams.next().unwrap_or_else(Stdio::null));
        let child = command.spawn().expect("sh is part of every system");
        Self { folder: folder.to_owned(), child }
    }

    fn start(folder: &Path, sockets: &[&OwnedFd], names: &str, extra: &[(&str, &Path)]) -> Self {
        let mut daemon = Self::spawn(folder, sockets, names, extra);
        let path = folder.join("ready.json");
        let ready = wait::try_until(BOUND, || {
            assert!(daemon.child.try_wait().expect("ours").is_none(), "{}", daemon.log());
            serde_json::from_slice::<Ready>(&std::fs::read(&path).ok()?).ok()
        });
        assert!(ready.is_some(), "not ready: {}", daemon.log());
        daemon
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), signal).expect("it lives");
    }

    fn wait(&mut self) -> ExitStatus {
        let end = wait::try_until(BOUND, || self.child.try_wait().expect("a child of ours"));
        end.unwrap_or_else(|| panic!("it does not end: {}", self.log()))
    }

    fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::KILL);
            self.child.wait().ok();
        }
    }
}

/// Sockets that share a port, as a socket unit with `ReusePort=` opens them.
fn shared_udp<const N: usize>() -> (SocketAddr, [OwnedFd; N]) {
    let bind = |port: u16| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
        let socket = socket.expect("the machine has IPv4");
        socket.set_reuse_port(true).expect("Linux has the option");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        socket.bind(&address.into()).expect("the port is free");
        // As systemd leaves them.
        socket.set_nonblocking(true).expect("sockets have the option");
        socket
    };
    let first = bind(0);
    let address = first.local_addr().expect("it is bound").as_socket().expect("of IPv4");
    let mut all = vec![OwnedFd::from(first)];
    all.extend((1..N).map(|_| bind(address.port()).into()));
    (address, all.try_into().expect("as many as were made"))
}

fn write_config(folder: &Path, udp: u16, rest: &str) {
    let text = settings::toml(1_000, &[]).replacen("port = 0\n", "", 1);
    let server = format!("[[servers]]\nserver = \"udp\"\naddress = \"127.0.0.1\"\nport = {udp}\n");
    std::fs::write(folder.join("floe.toml"), text + rest + &server).expect("the folder is ours");
}

/// Sends `count` datagrams from as many sockets as spread over every worker's.
fn send_spread(to: SocketAddr, count: usize) -> u64 {
    let sockets: Vec<UdpSocket> = (0..16).map(|_| sender()).collect();
    for number in 0..count {
        sockets[number % 16].send_to(b"kept.hits:1|c", to).expect("the socket is open");
    }
    count as u64
}

#[test]
fn sockets_of_a_socket_unit_are_read_from_their_first_datagram_to_their_last() {
    for ingest in Ingest::BOTH {
        let folder = folder();
        let (to, [one, two]) = shared_udp();
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let tcp_port = tcp.local_addr().expect("it is bound").port();
        let tcp = OwnedFd::from(tcp);
        write_config(
            folder.path(),
            to.port(),
            &format!(
                "[ingest]\nworkers = 2\nmode = \"{}\"\nreceive_buffer = \"16KiB\"\n\
                 [[servers]]\nserver = \"tcp\"\naddress = \"127.0.0.1\"\nport = {tcp_port}\n",
                ingest.flag()
            ),
        );
        // Before there is a daemon, while it runs, and after each end.
        let mut sent = send_spread(to, 10);
        let mut waiting = TcpStream::connect(("127.0.0.1", tcp_port)).expect("it listens");
        std::io::Write::write_all(&mut waiting, b"kept.lines:1|c\n").expect("it is queued");
        for round in 0..3 {
            let sockets = [&one, &two, &tcp];
            let daemon = Activated::start(folder.path(), &sockets, "u:u:t", &[]);
            sent += send_spread(to, 10);
            if round == 1 {
                // What it has counted so far is in a segment.
                wait::next_second(Duration::from_millis(300));
                wait::next_second(Duration::from_millis(300));
                daemon.signal(Signal::KILL);
                drop(daemon);
            } else {
                daemon.stop();
            }
            // More than the sockets hold: the rest is dropped, and counted once.
            sent += send_spread(to, 2_000);
        }
        Activated::start(folder.path(), &[&one, &two, &tcp], "u:u:t", &[]).stop();
        let books = Books::of(&folder.path().join("spool"));
        let (received, dropped) =
            (books.count("datagrams_received"), books.count("datagrams_dropped.kernel"));
        assert!(1_000 < dropped, "{books:?}");
        assert_eq!(received + dropped, sent, "{ingest:?}: {books:?}");
        assert_eq!(books.count("values_spooled"), received + 1, "{books:?}");
    }
}

#[test]
fn a_socket_that_nobody_asked_for_is_refused_and_named() {
    let folder = folder();
    let (to, [one]) = shared_udp();
    let (other, [two]) = shared_udp();
    write_config(folder.path(), to.port(), "");
    let mut daemon = Activated::spawn(folder.path(), &[&one, &two], "here:there", &[]);
    let status = daemon.wait();
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    let said = format!("the service manager gave udp {other} (name \"there\"");
    assert!(daemon.log().contains(&said), "{}", daemon.log());
}

#[test]
fn sockets_of_another_process_are_not_taken() {
    let folder = folder();
    let mut daemon = Launch::under(folder.path(), Ingest::Recvmmsg)
        .config("floe.toml", &settings::toml(1_000, &[]))
        .environment("LISTEN_PID", "1")
        .environment("LISTEN_FDS", "3")
        .start();
    daemon.drain(Signal::TERM);
}

/// The other end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn listen(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("the folder is ours");
        socket.set_read_timeout(Some(BOUND)).expect("sockets have the option");
        Self { socket, path }
    }

    /// Everything said until `READY=1`, and the descriptors that were left.
    fn until_ready(&self) -> (String, Vec<OwnedFd>) {
        let (mut said, mut fds) = (String::new(), Vec::new());
        while !said.contains("READY=1") {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut text = [0; 512];
            let mut data = [IoSliceMut::new(&mut text)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(&self.socket, &mut data, &mut control, flags);
            let got = got.unwrap_or_else(|error| panic!("{error} after {said:?}"));
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(some) = message {
                    fds.extend(some);
                }
            }
            said.push_str(&String::from_utf8_lossy(&text[..got.bytes]));
            said.push('\n');
        }
        (said, fds)
    }
}

fn with_unix_server(folder: &Path) -> String {
    let socket = folder.join("floe.sock");
    let text = settings::toml(1_000, &[]).replacen("port = 0\n", "", 1);
    let server = |kind: &str, rest: &str| format!("[[servers]]\nserver = {kind:?}\n{rest}\n");
    text + "[ingest]\nworkers = 1\n"
        + &server("udp", "address = \"127.0.0.1\"\nport = 0")
        + &server("tcp", &format!("socket = {:?}", socket.display().to_string()))
}

#[test]
fn sockets_left_in_the_store_take_datagrams_until_the_next_daemon_reads_them() {
    for is_killed in [false, true] {
        let folder = folder();
        let manager = Manager::listen(folder.path());
        let notify: &Path = &manager.path;
        let config = with_unix_server(folder.path());
        let mut daemon = Launch::under(folder.path(), Ingest::IoUring)
            .without_ingest_flag()
            .config("floe.toml", &config)
            .environment("NOTIFY_SOCKET", notify)
            .environment("FDSTORE", "4")
            .start();
        let (said, stored) = manager.until_ready();
        assert!(said.contains("FDSTORE=1\nFDNAME=floe\n"), "{said}");
        assert_eq!(stored.len(), 2, "UDP and Unix: {said}");
        let to = daemon.udp();
        let mut sent = send_spread(to, 10);
        if is_killed {
            wait::next_second(Duration::from_millis(300));
            wait::next_second(Duration::from_millis(300));
            daemon.kill();
        } else {
            daemon.drain(Signal::TERM);
        }
        let socket = folder.path().join("floe.sock");
        let mut local = std::os::unix::net::UnixStream::connect(&socket).expect("it still listens");
        std::io::Write::write_all(&mut local, b"kept.lines:1|c\n").expect("it is queued");
        sent += send_spread(to, 10);
        let sockets: Vec<&OwnedFd> = stored.iter().collect();
        let extra = [("NOTIFY_SOCKET", notify), ("FDSTORE", Path::new("4"))];
        let next = Activated::start(folder.path(), &sockets, "floe:floe", &extra);
        sent += send_spread(to, 10);
        next.stop();
        let books = Books::of(&folder.path().join("spool"));
        assert_eq!(books.count("datagrams_received"), sent, "{books:?}");
        assert_eq!(books.count("values_spooled"), sent + 1, "{books:?}");
        assert_eq!(books.count("datagrams_dropped.kernel"), 0, "{books:?}");
    }
}

#[test]
fn a_stored_socket_that_nobody_asks_for_any_more_is_let_go() {
    let folder = folder();
    let (to, [one]) = shared_udp();
    let (_, [old]) = shared_udp();
    write_config(folder.path(), to.port(), "");
    Activated::start(folder.path(), &[&old, &one], "floe:floe", &[]).stop();
}

#[test]
fn a_store_that_is_too_small_is_said_and_the_drain_is_as_ever() {
    let folder = folder();
    let manager = Manager::listen(folder.path());
    let mut daemon = Launch::under(folder.path(), Ingest::IoUring)
        .config("floe.toml", &with_unix_server(folder.path()))
        .environment("NOTIFY_SOCKET", &manager.path)
        .environment("FDSTORE", "1")
        .start();
    let (said, stored) = manager.until_ready();
    assert_eq!(stored.len(), 0, "{said}");
    assert!(daemon.output().contains("raise FileDescriptorStoreMax="), "{}", daemon.output());
    let to = daemon.udp();
    daemon.drain(Signal::TERM);
    assert!(!folder.path().join("floe.sock").exists());
    let socket = sender();
    socket.connect(to).expect("loopback");
    socket.send(b"a:1|c").ok();
    assert!(socket.send(b"a:1|c").is_err(), "nobody listens");
}
