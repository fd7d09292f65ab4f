//! Claim: sent = received + dropped by the socket, to the datagram, while the daemon runs and after
//! its end. Method: the built daemon with sockets of the smallest buffer is halted under a burst, or
//! ended under load; the sender's own count and the kernel's `/proc/net/udp` are held against `floe
//! books`.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use support::books::{Books, kernel_drops};
use support::daemon::{DRAIN_BOUND, Daemon, Ingest, Launch, sender};
use support::{settings, wait};

mod support;

/// A test at a time: each floods the machine, and another's sender would not come to its end.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

const BOUND: Duration = Duration::from_secs(20);
/// Sockets the burst comes from: both workers get their share.
const SENDERS: u64 = 16;
const DATAGRAMS_EACH: u64 = 200;

/// A daemon whose sockets hold a few datagrams.
fn start(folder: &Path, ingest: Ingest, flush_ms: u32) -> Daemon {
    let text = format!(
        "{}\n[ingest]\nworkers = 2\nreceive_buffer = \"4KiB\"\n",
        settings::toml(flush_ms, &[])
    );
    Launch::under(folder, ingest).config("floe.toml", &text).start()
}

/// Sends more than the sockets hold; returns how many datagrams left.
fn burst(daemon: &Daemon) -> u64 {
    let senders: Vec<UdpSocket> = (0..SENDERS).map(|_| sender()).collect();
    let mut sent = 0;
    for _ in 0..DATAGRAMS_EACH {
        for socket in &senders {
            socket.send_to(b"burst.hits:1|c", daemon.udp()).expect("loopback takes the datagram");
            sent += 1;
        }
    }
    sent
}

/// Sends as fast as it can until it is refused; returns how many datagrams the sockets were given.
///
/// On loopback the refusal of a datagram is there when its send returns, and the next send says so.
fn send_until_refused(daemon: &Daemon) -> JoinHandle<u64> {
    let (socket, to) = (sender(), daemon.udp());
    socket.connect(to).expect("loopback has a route");
    std::thread::spawn(move || {
        let mut sent = 0;
        while socket.send(b"burst.hits:1|c").is_ok() {
            sent += 1;
        }
        // The one that was refused was none of theirs.
        sent - 1
    })
}

#[test]
fn a_stop_under_load_accounts_for_every_datagram() {
    let _alone = alone();
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let mut daemon = start(folder.path(), ingest, 1000);
        let spool = daemon.ready().spool.clone();
        let senders = [0; 2].map(|_| send_until_refused(&daemon));
        wait::until("some of the load", BOUND, || {
            (1_000 < Books::of(&spool).count("datagrams_received")).then_some(())
        });
        daemon.signal(Signal::TERM);
        let status = daemon.wait_exit(DRAIN_BOUND);
        assert!(status.success(), "{status}:\n{}", daemon.output());
        let sent: u64 = senders.into_iter().map(|sender| sender.join().expect("it sends")).sum();
        let books = Books::of(&spool);
        assert_eq!(arrived(&books), sent, "{ingest:?}: {books:?}");
    }
}

fn arrived(books: &Books) -> u64 {
    ["datagrams_received", "datagrams_dropped.kernel", "datagrams_dropped.unread"]
        .iter()
        .map(|name| books.count(name))
        .sum()
}

#[test]
fn every_datagram_is_received_or_dropped_and_counted() {
    let _alone = alone();
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let mut daemon = start(folder.path(), ingest, 1000);
        let (port, spool) = (daemon.udp().port(), daemon.ready().spool.clone());
        daemon.halt();
        let mut sent = burst(&daemon);
        daemon.signal(Signal::CONT);
        // Loopback delivers or drops within the call that sends.
        let dropped = kernel_drops(port);
        assert!(0 < dropped && dropped < sent, "{dropped} of {sent}");
        let books = wait::until("the rest of the burst", BOUND, || {
            Some(Books::of(&spool)).filter(|books| sent <= arrived(books))
        });
        assert_eq!(books.source(), "daemon");
        assert_eq!(arrived(&books), sent, "{ingest:?}: {books:?}");
        assert_eq!(books.count("datagrams_dropped.kernel"), dropped, "{ingest:?}: {books:?}");
        assert_eq!(books.count("values_accepted"), sent - dropped, "{ingest:?}: {books:?}");
        // The host is looked at once a second.
        wait::until("the host's count", BOUND, || {
            let errors = Books::of(&spool).of_host("udp_receive_buffer_errors");
            errors.is_none_or(|errors| dropped <= errors).then_some(())
        });

        // The last burst comes when the daemon is told to end: the last segment has it.
        daemon.halt();
        sent += burst(&daemon);
        let dropped = kernel_drops(port);
        daemon.signal(Signal::TERM);
        daemon.signal(Signal::CONT);
        let status = daemon.wait_exit(DRAIN_BOUND);
        let log = daemon.output();
        assert!(status.success(), "{status}:\n{log}");
        let books = Books::of(&spool);
        assert_eq!(books.source(), "spool");
        assert_eq!(arrived(&books), sent, "{ingest:?}: {books:?}");
        assert_eq!(books.count("datagrams_dropped.kernel"), dropped, "{ingest:?}: {books:?}");
        // Once for each of the two intervals with a burst in it.
        assert_eq!(log.matches("datagrams dropped by the kernel").count(), 2, "{log}");
    }
}

/// Sends as fast as it can until it is told to end; returns how many datagrams left.
fn flood(to: SocketAddr, end: Receiver<()>) -> JoinHandle<u64> {
    let socket = sender();
    socket.connect(to).expect("loopback has a route");
    std::thread::spawn(move || {
        let mut sent = 0;
        while end.try_recv() == Err(TryRecvError::Empty) {
            socket.send(b"burst.hits:1|c").expect("the daemon listens");
            sent += 1;
        }
        sent
    })
}

/// Timestamps of all flushes so far.
fn flushes(spool: &Path) -> BTreeSet<u64> {
    let entries = std::fs::read_dir(spool.join("archive")).expect("the spool has an archive");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.split('-').next()?.parse().ok()).collect()
}

/// How much is taken in then is a matter of measurement: docs/benchmarks.md has it.
#[test]
fn under_a_flood_flushes_stay_on_their_grid_and_the_loss_is_exact() {
    let _alone = alone();
    const INTERVAL_S: u64 = 2;
    for ingest in Ingest::BOTH {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let mut daemon = start(folder.path(), ingest, 2_000);
        let (port, spool) = (daemon.udp().port(), daemon.ready().spool.clone());
        let floods = [0; 2].map(|_| {
            let (told, end) = sync_channel(1);
            (told, flood(daemon.udp(), end))
        });
        let before = flushes(&spool).len();
        wait::until("three flushes", BOUND, || (before + 3 <= flushes(&spool).len()).then_some(()));
        let sent: u64 = floods
            .map(|(told, flood)| {
                told.send(()).expect("it floods until it is told");
                flood.join().expect("it sends")
            })
            .iter()
            .sum();
        let dropped = kernel_drops(port);
        assert!(0 < dropped && dropped < sent, "{dropped} of {sent}");
        let books = wait::until("the rest of the flood", BOUND, || {
            Some(Books::of(&spool)).filter(|books| sent <= arrived(books))
        });
        assert_eq!(arrived(&books), sent, "{ingest:?}: {books:?}");
        assert_eq!(books.count("datagrams_dropped.kernel"), dropped, "{ingest:?}: {books:?}");
        assert_eq!(books.count("values_accepted"), sent - dropped, "{ingest:?}: {books:?}");
        assert_eq!(books.count("ticks_merged"), 0, "{ingest:?}: {books:?}");
        let flushes: Vec<u64> = flushes(&spool).into_iter().collect();
        assert!(flushes.iter().all(|time| time.is_multiple_of(INTERVAL_S)), "{flushes:?}");
        assert!(flushes.windows(2).all(|pair| pair[1] - pair[0] == INTERVAL_S), "{flushes:?}");

        // The load is over: what comes now is taken.
        sender().send_to(b"burst.hits:1|c", daemon.udp()).expect("loopback takes the datagram");
        wait::until("the datagram behind the flood", BOUND, || {
            (sent < Books::of(&spool).count("datagrams_received") + dropped).then_some(())
        });
        assert_eq!(kernel_drops(port), dropped);
        daemon.drain(Signal::TERM);
    }
}
