//! Claims: a peer that vanishes, so that packets to it go nowhere, and a name server that never answers,
//! cost their own backend time and no other anything; what was owed arrives once they are back, and a stop
//! waits for neither. Method: the built daemon in a network of the test's own, in which peers come and go
//! with their routes and the name server is the test; that one backend does not hold up another is judged
//! by the order of events: what the other gets while the first is still at its first attempt. Where the
//! kernel grants no such network that is said.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use support::books::Books;
use support::daemon::{Daemon, Ingest, Launch, send};
use support::faulty_carbon::{Fault, FaultyCarbon};
use support::name_server::{self, NameServer};
use support::peers::Peers;
use support::{network, wait};

mod support;

const BOUND: Duration = Duration::from_secs(90);
const HITS: &str = "stats_counts.network.hits";
const NAME: &str = "carbon.floe.test";
const PORT: u16 = 2003;

/// The values that are owed, by time.
type Owed = BTreeMap<u64, f64>;

/// A daemon with a backend `bad` at `address`, and one that works.
struct Site {
    daemon: Daemon,
    good: FaultyCarbon,
    owed: Owed,
}

impl Site {
    fn start(folder: &Path, address: &str, keys: &str) -> Self {
        let good = FaultyCarbon::start(&[]);
        let text = format!(
            "port = 0\nmgmt_port = 0\nflushInterval = 1000\n\n\
             [[backends]]\nname = \"bad\"\naddress = \"{address}\"\n{keys}\n\n\
             [[backends]]\nname = \"good\"\naddress = \"127.0.0.1:{}\"\n",
            good.port()
        );
        let daemon = Launch::under(folder, Ingest::Recvmmsg).config("floe.toml", &text).start();
        Self { daemon, good, owed: Owed::new() }
    }

    /// One more interval, which the backend that works has in the end.
    fn interval(&mut self) {
        let second = wait::next_second(Duration::from_millis(300));
        let amount = 1.0 + self.owed.len() as f64;
        send(self.daemon.udp(), [format!("network.hits:{amount}|c")]);
        self.owed.insert(second + 1, amount);
        self.wait_at(&self.good);
    }

    fn wait_at(&self, carbon: &FaultyCarbon) {
        let has_all = || {
            let mut series = carbon.series(HITS);
            series.retain(|_, value| *value != 0.0);
            (series == self.owed).then_some(())
        };
        wait::try_until(BOUND, has_all)
            .unwrap_or_else(|| panic!("{:?} of {:?}", carbon.series(HITS), self.owed));
    }

    /// Whether the bad one has failed so far; it is said once.
    fn has_failed(&self) -> bool {
        self.daemon.output().contains("segment not delivered backend=\"bad\"")
    }

    fn books(&self) -> Books {
        Books::of(&self.daemon.ready().spool)
    }

    fn wait_delivered(&self) -> Books {
        wait::until("an empty queue", BOUND, || {
            let books = self.books();
            (books.of_backend("bad", "rows_pending") == 0).then_some(books)
        })
    }
}

fn peers(count: usize) -> Peers {
    Peers::new(count).expect("we are root in here")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the machine has a temporary folder")
}

#[test]
fn a_peer_that_vanishes_in_the_middle_is_waited_for_and_holds_up_no_other() {
    if !network::is_inside("a_peer_that_vanishes_in_the_middle_is_waited_for_and_holds_up_no_other")
    {
        return;
    }
    let (peers, folder) = (peers(1), folder());
    peers.appear().expect("we are root in here");
    let address = format!("{}:{PORT}", peers.addresses()[0]);
    let listener = TcpListener::bind(&address).expect("the peer is here");
    let bad = FaultyCarbon::start_with(listener, &[Fault::NeverRead]);
    let mut site = Site::start(folder.path(), &address, "stall = \"1h\"");
    site.interval();
    wait::until("a connection", BOUND, || (bad.accepted().len() == 1).then_some(()));
    peers.vanish().expect("we are root in here");
    // It reads and closes now, and nothing of that arrives.
    bad.heal();
    for _ in 0..4 {
        site.interval();
    }
    assert_eq!(bad.accepted().len(), 1, "all the while the first attempt goes on");
    assert_eq!(site.books().of_backend("bad", "rows_acknowledged"), 0);
    assert!(!site.has_failed(), "{}", site.daemon.output());
    peers.appear().expect("we are root in here");
    site.wait_at(&bad);
    let books = site.wait_delivered();
    assert_eq!(books.of_backend("bad", "rows_resent"), 0, "waiting is no failure: {books:?}");
    site.daemon.drain(Signal::TERM);
}

#[test]
fn peers_that_are_nowhere_are_tried_in_turn_and_hold_up_neither_another_nor_the_stop() {
    if !network::is_inside(
        "peers_that_are_nowhere_are_tried_in_turn_and_hold_up_neither_another_nor_the_stop",
    ) {
        return;
    }
    // A name with so many addresses that one attempt, five seconds for each, outlasts the test.
    let (peers, folder) = (peers(30), folder());
    let hosts: String =
        peers.addresses().iter().map(|address| format!("{address} {NAME}\n")).collect();
    let file = folder.path().join("hosts");
    fs::write(&file, format!("127.0.0.1 localhost\n{hosts}")).expect("the folder is writable");
    network::lay_over(&file, "/etc/hosts");
    let mut site = Site::start(folder.path(), &format!("{NAME}:{PORT}"), "");
    for _ in 0..4 {
        site.interval();
    }
    assert!(!site.has_failed(), "the first attempt goes on: {}", site.daemon.output());
    let books = site.books();
    assert_eq!(books.of_backend("bad", "rows_pending"), books.count("rows_spooled"), "{books:?}");
    assert_eq!(books.of_backend("bad", "rows_resent"), 0, "{books:?}");
    site.daemon.drain(Signal::TERM);
    // Of several that are there one is enough.
    peers.appear().expect("we are root in here");
    let listener = TcpListener::bind((peers.addresses()[29].as_str(), PORT));
    let bad = FaultyCarbon::start_with(listener.expect("the peer is here"), &[]);
    let owed = site.owed;
    let mut next = Site::start(folder.path(), &format!("{NAME}:{PORT}"), "");
    next.owed = owed;
    next.wait_at(&bad);
    next.wait_delivered();
    next.daemon.drain(Signal::TERM);
}

#[test]
fn a_name_server_that_never_answers_holds_up_neither_another_backend_nor_the_stop() {
    if !network::is_inside(
        "a_name_server_that_never_answers_holds_up_neither_another_backend_nor_the_stop",
    ) {
        return;
    }
    let folder = folder();
    let (resolver, hosts) = (folder.path().join("resolv.conf"), folder.path().join("hosts"));
    fs::write(&resolver, name_server::RESOLVER).expect("the folder is writable");
    fs::write(&hosts, "127.0.0.1 localhost\n").expect("the folder is writable");
    network::lay_over(&resolver, "/etc/resolv.conf");
    network::lay_over(&hosts, "/etc/hosts");
    let server = NameServer::start().expect("the port is ours in here");
    let bad = FaultyCarbon::start(&[]);
    let mut site = Site::start(folder.path(), &format!("{NAME}:{}", bad.port()), "");
    site.interval();
    assert!(0 < server.asked(), "the name is asked for");
    assert!(!site.has_failed(), "the first look-up goes on: {}", site.daemon.output());
    for _ in 0..3 {
        site.interval();
    }
    wait::until("an end of the patience", BOUND, || site.has_failed().then_some(()));
    assert!(site.daemon.output().contains(&format!("cannot resolve {NAME}:{}", bad.port())));
    assert_eq!(bad.accepted().len(), 0);
    // It has recovered: what was asked long ago is answered, and there is an address.
    server.set(true);
    site.wait_at(&bad);
    // It hangs again: the address serves on.
    server.set(false);
    for _ in 0..4 {
        site.interval();
        site.wait_at(&bad);
    }
    site.wait_delivered();
    site.interval();
    site.daemon.drain(Signal::TERM);
}
