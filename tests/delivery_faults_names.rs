//! Claims: a backend's name is looked up again at each connection; while nobody can say where it is, the
//! last good address serves on, and a backend whose name was never known waits without harm to others.
//! Method: the built daemon in a mount namespace of its own, where `/etc/hosts` and `/etc/resolv.conf`
//! are files of the test, so that the C library's own look-up finds what the test says. Where the
//! kernel grants no such namespace that is said.
#![expect(clippy::print_stderr, reason = "what could not be done is said")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::daemon::{Daemon, Ingest, Launch, send};
use support::faulty_carbon::FaultyCarbon;
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(60);
const NAME: &str = "carbon.floe.test";
const HITS: &str = "stats_counts.name.hits";

/// Hosts and resolver configuration of the daemon under test.
struct Names {
    hosts: PathBuf,
    resolver: PathBuf,
}

impl Names {
    /// Nobody answers for names that the hosts file has not: no name server runs on the loopback.
    fn under(folder: &Path) -> Self {
        let names = Self { hosts: folder.join("hosts"), resolver: folder.join("resolv.conf") };
        let dead = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
        fs::write(&names.resolver, dead).expect("the folder is writable");
        names.set(None);
        names
    }

    /// In place: the mount is of the file, not of its name.
    fn set(&self, address: Option<&str>) {
        let line = address.map_or_else(String::new, |address| format!("{address} {NAME}\n"));
        fs::write(&self.hosts, format!("127.0.0.1 localhost\n{line}")).expect("it is writable");
    }

    /// What goes before a command so that it sees these files: as root, or as one in a namespace of
    /// users. `None` where the kernel grants neither.
    fn wrapper(&self) -> Option<Vec<String>> {
        let (hosts, resolver) = (self.hosts.display(), self.resolver.display());
        let script = format!(
            "mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf && \
             exec \"$0\" \"$@\""
        );
        let ways: [&[&str]; 2] =
            [&["unshare", "--mount"], &["unshare", "--map-root-user", "--mount"]];
        ways.into_iter().find_map(|way| {
            let shell = ["sh", "-c", script.as_str()];
            let words: Vec<String> =
                way.iter().chain(&shell).map(|word| (*word).to_owned()).collect();
            let output = Command::new(&words[0]).args(&words[1..]).arg("true").output().ok()?;
            output.status.success().then_some(words)
        })
    }
}

fn start(folder: &Path, wrapper: &[String], port: u16, others_port: u16) -> Daemon {
    let text = format!(
        "port = 0\nmgmt_port = 0\nflushInterval = 1000\n\n\
         [[backends]]\nname = \"named\"\naddress = \"{NAME}:{port}\"\n\n\
         [[backends]]\nname = \"other\"\naddress = \"127.0.0.1:{others_port}\"\n"
    );
    let launch = Launch::under(folder, Ingest::Recvmmsg).config("floe.toml", &text);
    launch.wrapped(wrapper).start()
}

#[test]
fn a_name_that_moves_or_is_not_known_is_followed_and_holds_up_no_other() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let names = Names::under(folder.path());
    let Some(wrapper) = names.wrapper() else {
        eprintln!("no mount namespace is granted here: names that change are not tested");
        return;
    };
    // One port on two addresses, so that the name alone decides.
    let port = ports::free();
    let listen = |address: &str| {
        let listener = TcpListener::bind((address, port)).expect("a port of the loopback is free");
        FaultyCarbon::start_with(listener, &[])
    };
    let (one, two) = (listen("127.0.0.1"), listen("127.0.0.2"));
    let other = FaultyCarbon::start(&[]);
    let mut daemon = start(folder.path(), &wrapper, port, other.port());
    let mut owed = BTreeMap::new();
    let mut interval = |daemon: &Daemon| {
        let second = wait::next_second(Duration::from_millis(300));
        send(daemon.udp(), ["name.hits:1|c"]);
        owed.insert(second + 1, 1.0);
        (second + 1, owed.clone())
    };
    let has = |carbon: &FaultyCarbon, time| carbon.series(HITS).contains_key(&time);
    let wait_at = |carbon: &FaultyCarbon, time| {
        wait::until("the interval", BOUND, || has(carbon, time).then_some(()));
    };

    // Unknown from the start: it waits, and the other one does not.
    let (unknown, _) = interval(&daemon);
    wait_at(&other, unknown);
    wait::until("the failure in the log", BOUND, || {
        daemon.output().contains(&format!("cannot resolve {NAME}:{port}")).then_some(())
    });
    names.set(Some("127.0.0.1"));
    wait_at(&one, unknown);
    // It moves: the next connection goes there.
    names.set(Some("127.0.0.2"));
    let (moved, _) = interval(&daemon);
    wait_at(&two, moved);
    // Nobody knows it any more: the last good address serves on.
    names.set(None);
    let (forgotten, owed) = interval(&daemon);
    wait_at(&two, forgotten);
    assert!(!has(&one, moved) && !has(&one, forgotten));

    let spool = daemon.ready().spool.clone();
    wait::until("an empty queue", BOUND, || {
        (Books::of(&spool).of_backend("named", "rows_pending") == 0).then_some(())
    });
    daemon.drain(Signal::TERM);
    let mut came = one.series(HITS);
    came.extend(two.series(HITS));
    came.retain(|_, value| *value != 0.0);
    assert_eq!(came, owed);
}
