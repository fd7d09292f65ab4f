//! Targets that are named, absent, late, stuck or gone: everything handed to a tap is accounted for.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::AtomicBool;

use floe_core::limits::{REPEATER_PENDING_BYTES_MAX, REPEATER_PENDING_DATAGRAMS_MAX};

use super::*;
use crate::ingest::tap::Tap;

const BOUND: Duration = Duration::from_secs(20);

fn start(protocol: RepeaterProtocol, targets: &[String]) -> (Repeater, Tap) {
    let settings = RepeaterSettings { protocol, targets: targets.to_vec() };
    let repeater = Repeater::start(&settings).unwrap();
    let tap = repeater.tap().writer();
    (repeater, tap)
}

fn push(tap: &mut Tap, datagrams: &[&[u8]]) {
    datagrams.iter().for_each(|datagram| tap.push(datagram));
    tap.hand_over();
}

/// The sum of all entries whose name holds `part`.
fn count(accounts: &RepeaterAccounts, part: &str) -> u64 {
    let entries = accounts.read().into_iter();
    entries.filter(|(name, _)| name.contains(part)).map(|(_, count)| count).sum()
}

fn await_count(accounts: &RepeaterAccounts, part: &str, wanted: u64) {
    let until_ns = monotonic_ns() + crate::clock::duration_ns(BOUND);
    while count(accounts, part) < wanted {
        assert!(monotonic_ns() < until_ns, "{part} in {:?}", accounts.read());
        std::thread::yield_now();
    }
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let len = socket.recv(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

#[test]
fn names_and_both_families_are_reached_from_the_first_datagram_on() {
    for (protocol, bound, host) in [
        (RepeaterProtocol::Udp4, "127.0.0.1:0", "127.0.0.1"),
        (RepeaterProtocol::Udp4, "127.0.0.1:0", "localhost"),
        (RepeaterProtocol::Udp6, "[::1]:0", "[::1]"),
    ] {
        let sink = UdpSocket::bind(bound).unwrap();
        sink.set_read_timeout(Some(BOUND)).unwrap();
        let target = format!("{host}:{}", sink.local_addr().unwrap().port());
        let (repeater, mut tap) = start(protocol, &[target]);
        let large = vec![0xff; 60_000];
        let sent: [&[u8]; 4] = [b"a:1|c\n", b"", &large, b"\n\n"];
        push(&mut tap, &sent);
        for datagram in sent {
            assert_eq!(receive(&sink), datagram, "{host}");
        }
        await_count(&repeater.accounts(), "sent", 4);
        assert_eq!(count(&repeater.accounts(), "dropped"), 0);
    }
}

#[test]
fn a_datagram_target_that_is_down_costs_nobody_else_anything() {
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(BOUND)).unwrap();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let targets = [
        gone.to_string(),
        "nobody.invalid:8125".to_owned(),
        sink.local_addr().unwrap().to_string(),
    ];
    let (repeater, mut tap) = start(RepeaterProtocol::Udp4, &targets);
    for number in 0..100_u32 {
        push(&mut tap, &[&number.to_le_bytes()]);
        assert_eq!(receive(&sink), number.to_le_bytes());
    }
    let accounts = repeater.accounts();
    // The kernel takes datagrams for a closed port, as it does for the reference daemon.
    await_count(&accounts, "sent", 200);
    assert_eq!(count(&accounts, "nobody_invalid_8125.datagrams_dropped.unresolved"), 100);
    // It comes up: the same socket reaches it.
    let back = UdpSocket::bind(gone).unwrap();
    back.set_read_timeout(Some(BOUND)).unwrap();
    push(&mut tap, &[b"again:1|c"]);
    assert_eq!(receive(&back), b"again:1|c");
}

#[test]
fn one_target_named_twice_gets_everything_twice_under_one_name() {
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(BOUND)).unwrap();
    let target = sink.local_addr().unwrap().to_string();
    let (repeater, mut tap) = start(RepeaterProtocol::Udp4, &[target.clone(), target]);
    push(&mut tap, &[b"a:1|c"]);
    assert_eq!((receive(&sink), receive(&sink)), (b"a:1|c".to_vec(), b"a:1|c".to_vec()));
    await_count(&repeater.accounts(), "sent", 2);
    let entries = repeater.accounts().read();
    assert_eq!(entries.iter().filter(|(name, _)| name.ends_with("sent")).count(), 1);
}

#[test]
fn a_connection_that_is_not_read_keeps_bounded_memory_and_what_it_has_is_accounted_for() {
    for datagram in [vec![b'd'; 1_000], Vec::new()] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let (repeater, mut tap) = start(RepeaterProtocol::Tcp, &[target]);
        let accounts = repeater.accounts();
        let mut pushed = 0;
        // Nobody reads: the kernel's buffers fill, then ours.
        while count(&accounts, "pending_full") == 0 {
            for _ in 0..64 {
                tap.push(&datagram);
            }
            tap.hand_over();
            pushed += 64;
            std::thread::yield_now();
        }
        drop(tap);
        let before_ns = monotonic_ns();
        drop(repeater);
        assert!(monotonic_ns() - before_ns < 4 * END_NS, "the end is bounded");
        let told = count(&accounts, "sent") + count(&accounts, "dropped");
        assert_eq!(told, pushed, "{:?}", accounts.read());
        let waiting = count(&accounts, "disconnected");
        let most = REPEATER_PENDING_BYTES_MAX / (datagram.len() + 1);
        assert!(waiting <= most.min(REPEATER_PENDING_DATAGRAMS_MAX) as u64, "{waiting}");
        assert_ne!(waiting, 0);
    }
}

#[test]
fn a_connection_that_breaks_within_a_datagram_costs_that_one_and_no_line_is_torn() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let (repeater, mut tap) = start(RepeaterProtocol::Tcp, &[target]);
    let accounts = repeater.accounts();
    let line = vec![b'x'; 60_000];
    let mut pushed = 0;
    while count(&accounts, "pending_full") == 0 {
        push(&mut tap, &[&line]);
        pushed += 1;
        std::thread::yield_now();
    }
    let (first, _) = listener.accept().unwrap();
    drop(first);
    let (mut second, _) = listener.accept().unwrap();
    second.set_read_timeout(Some(BOUND)).unwrap();
    drop(tap);
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        second.read_to_end(&mut bytes).unwrap();
        bytes
    });
    drop(repeater);
    let bytes = reader.join().unwrap();
    assert!(!bytes.is_empty());
    assert_eq!(bytes.len() % (line.len() + 1), 0, "whole lines alone");
    assert!(bytes.chunks(line.len() + 1).all(|one| one[line.len()] == b'\n'));
    assert_eq!(count(&accounts, "sent") + count(&accounts, "dropped"), pushed);
}

/// Whether or not the thread ever finds its tap empty.
#[test]
fn a_target_that_comes_up_is_connected_to_under_full_load() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let target = format!("127.0.0.1:{port}");
    let (repeater, mut tap) = start(RepeaterProtocol::Tcp, &[target]);
    let accounts = repeater.accounts();
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_over);
    let flood = std::thread::spawn(move || {
        let mut pushed = 0;
        while !seen.load(Ordering::Relaxed) {
            for _ in 0..256 {
                tap.push(b"flood:1|c");
            }
            tap.hand_over();
            pushed += 256;
        }
        pushed
    });
    await_count(&accounts, "pending_full", 1);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    connection.set_read_timeout(Some(BOUND)).unwrap();
    let mut bytes = [0; 20];
    connection.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"flood:1|c\nflood:1|c\n");
    is_over.store(true, Ordering::Relaxed);
    let pushed: u64 = flood.join().unwrap();
    drop(repeater);
    // What the tap left out reached no target.
    assert_eq!(count(&accounts, "sent") + count(&accounts, "dropped"), pushed);
}
