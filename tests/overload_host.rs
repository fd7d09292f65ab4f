//! Claim: what the host loses before a datagram comes to floe's socket stands in the books as the
//! kernel counts it, and as the sender knows it. Method: in a network of the test's own, so that no
//! count is anybody else's, fragments whose rest never comes, datagrams with a wrong checksum, and a
//! burst at a daemon that is halted; `floe books` is held against what was sent and against
//! `/proc/net/snmp`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use support::books::{Books, kernel_drops};
use support::daemon::{Ingest, Launch, sender};
use support::{network, settings, wait};

mod support;

/// An unfinished datagram is given up after 30 s where the test may not change that.
const BOUND: Duration = Duration::from_secs(90);

/// Number of UDP among protocols, and of a socket that brings its own IP header.
const UDP: u8 = 17;
const RAW: i32 = 255;

/// The flag of a fragment that others follow.
const MORE_FRAGMENTS: u16 = 0x2000;

/// An IP packet of loopback with a UDP header: the datagram is said to be of `udp_bytes`.
fn packet(number: u16, flags: u16, port: u16, udp_bytes: u16, checksum: u16) -> Vec<u8> {
    let payload = b"never.seen:1|c\n\n";
    let here = Ipv4Addr::LOCALHOST.octets();
    let bytes = u16::try_from(20 + 8 + payload.len()).expect("a small packet");
    let ip_words = [0x4500, bytes, number, flags, 0x4000 | u16::from(UDP), 0];
    let udp_words = [4_000, port, udp_bytes, checksum];
    let ip = ip_words.iter().flat_map(|word| word.to_be_bytes()).chain(here).chain(here);
    ip.chain(udp_words.iter().flat_map(|word| word.to_be_bytes())).chain(*payload).collect()
}

/// A count of `/proc/net/snmp`.
fn kernel(protocol: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").expect("the kernel has a table");
    let of_protocol = |line: &&str| line.split(':').next() == Some(protocol);
    let lines: Vec<&str> = text.lines().filter(of_protocol).collect();
    let columns = lines[0].split_whitespace().zip(lines[1].split_whitespace());
    let found =
        columns.filter(|(title, _)| *title == field).find_map(|(_, number)| number.parse().ok());
    found.expect("the kernel counts it")
}

#[test]
fn what_the_host_loses_is_told_as_the_kernel_and_the_sender_know_it() {
    if !network::is_inside("what_the_host_loses_is_told_as_the_kernel_and_the_sender_know_it") {
        return;
    }
    // Only sooner: without it the kernel waits for the rest for 30 s.
    drop(std::fs::write("/proc/sys/net/ipv4/ipfrag_time", "1"));
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let text = format!(
        "{}\n[ingest]\nworkers = 1\nreceive_buffer = \"4KiB\"\n",
        settings::toml(1_000, &[])
    );
    let daemon = Launch::under(folder.path(), Ingest::IoUring).config("floe.toml", &text).start();
    let port = daemon.udp().port();
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)));
    let raw = raw.expect("we are root in here");
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
    let send = |packet: &[u8]| raw.send_to(packet, &here).expect("loopback takes it");
    for number in 0..3 {
        send(&packet(100 + number, MORE_FRAGMENTS, port, 64, 0));
    }
    for number in 0..2 {
        send(&packet(200 + number, 0, port, 24, 0x1234));
    }
    daemon.halt();
    let socket = sender();
    let sent = 100;
    for _ in 0..sent {
        socket.send_to(b"burst:1|c", daemon.udp()).expect("loopback takes it");
    }
    let dropped = kernel_drops(port);
    daemon.signal(Signal::CONT);
    assert!(0 < dropped && dropped < sent, "some found room: {dropped}");
    // What the kernel counts itself: the fragments, and errors of both sorts.
    let counted = || (kernel("Ip", "ReasmFails"), kernel("Udp", "InErrors"));
    wait::until("all that is lost", BOUND, || (counted() == (3, 2 + dropped)).then_some(()));
    let told = [3, 2 + dropped, dropped].map(Some);
    let names = ["ip_reassembly_failures", "udp_in_errors", "udp_receive_buffer_errors"];
    let books = wait::until("a flush that has read them", BOUND, || {
        let books = Books::of(&folder.path().join("spool"));
        (names.map(|name| books.of_host(name)) == told).then_some(books)
    });
    assert_eq!(books.count("datagrams_dropped.kernel"), dropped);
    assert_eq!(books.count("datagrams_received") + dropped, sent);
}
