//! The fleet against a receiver that keeps every datagram.

use super::*;
use crate::pacer::Pacing;
use crate::sender::Quiet;
use crate::workload::tests::shape;
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

/// A datagram with its sender.
pub(crate) type Datagram = (SocketAddr, Vec<u8>);

/// A receiver that reads until `lines` lines have come, and gives the datagrams.
pub(crate) fn receiver(lines: usize) -> (Target, thread::JoinHandle<Vec<Datagram>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let target = Target::Udp(socket.local_addr().unwrap());
    let read = move || {
        let mut datagrams = Vec::new();
        let mut buffer = vec![0; 65_536];
        let mut seen = 0;
        while seen < lines {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let datagram = buffer[..length].to_vec();
            let parts = datagram.split(|&byte| byte == b'\n');
            seen += parts.filter(|part| !part.is_empty()).count();
            datagrams.push((from, datagram));
        }
        datagrams
    };
    (target, thread::spawn(read))
}

pub(crate) fn plan(target: Target) -> Plan {
    let packing = Packing { datagram_bytes_max: 1_400, is_single: false, end: End::Bare };
    let manner =
        Manner { pacing: Pacing::Spin, burst: 1, quiet: None, is_stream: target.is_stream() };
    Plan { target, packing, senders: 1, sockets: 1, rotation_lines: None, manner }
}

pub(crate) fn share(lines_max: u64) -> Share {
    Share { lines_max, duration_max: None, rate: Some(50_000) }
}

pub(crate) fn run(plan: &Plan, share: Share) -> (Round, Sent, u64) {
    let shape = Shape { streams: plan.senders * plan.sockets, ..shape() };
    let mut fleet = Fleet::prepare(plan, &shape).unwrap();
    let round = fleet.run(share, &mut |_| {}).unwrap();
    let (sent, refused) = fleet.close();
    (round, sent, refused)
}

#[test]
fn every_sender_sends_its_share_and_the_books_add_up() {
    for rotation_lines in [None, Some(300)] {
        let (target, datagrams) = receiver(1_000);
        let plan = Plan { senders: 3, rotation_lines, ..plan(target) };
        let (round, sent, refused) = run(&plan, share(1_000));
        let datagrams = datagrams.join().unwrap();
        let bytes: usize = datagrams.iter().map(|(_, datagram)| datagram.len()).sum();
        assert_eq!((round.lines, sent.lines, refused), (1_000, 1_000, 0));
        assert_eq!(
            (sent.datagrams, sent.bytes),
            (datagrams.len() as u64, bytes as u64),
            "{rotation_lines:?}"
        );
    }
}

#[test]
fn every_socket_of_a_sender_has_a_port_of_its_own() {
    let (target, datagrams) = receiver(1_000);
    let plan = Plan { senders: 2, sockets: 4, ..plan(target) };
    let (round, ..) = run(&plan, share(1_000));
    let datagrams = datagrams.join().unwrap();
    let ports: BTreeSet<SocketAddr> = datagrams.iter().map(|(from, _)| *from).collect();
    assert_eq!((ports.len(), round.lines), (8, 1_000));
}

#[test]
fn a_paced_run_is_never_faster_than_its_rate() {
    for pacing in [Pacing::Spin, Pacing::Sleep] {
        let (target, datagrams) = receiver(500);
        let mut plan = plan(target);
        plan.manner.pacing = pacing;
        let (round, ..) = run(&plan, Share { rate: Some(10_000), ..share(500) });
        drop(datagrams.join().unwrap());
        assert!(Duration::from_millis(50) <= round.elapsed);
        assert_eq!(round.offered, Some(10_000));
        assert!(!round.lag.is_empty());
    }
}

#[test]
fn a_run_ends_with_its_duration() {
    let (target, datagrams) = receiver(1);
    let duration_max = Some(Duration::from_millis(30));
    let (round, ..) = run(&plan(target), Share { duration_max, ..share(u64::MAX) });
    drop(datagrams.join().unwrap());
    assert!(0 < round.lines && round.lines <= 50_000 * 10);
}

#[test]
fn a_run_with_rests_sends_all_its_lines() {
    let (target, datagrams) = receiver(500);
    let mut plan = plan(target);
    plan.manner.quiet =
        Some(Quiet::new(Duration::from_millis(20), Duration::from_millis(8)).unwrap());
    let (round, ..) = run(&plan, share(500));
    drop(datagrams.join().unwrap());
    // 10 ms of sending take at least two spells of 4 ms with a rest of 16 ms between them.
    assert!(Duration::from_millis(20) <= round.elapsed);
}

#[test]
fn a_second_round_goes_on_where_the_first_one_ended() {
    let (target, datagrams) = receiver(700);
    let plan = Plan { rotation_lines: Some(250), ..plan(target) };
    let mut fleet = Fleet::prepare(&plan, &shape()).unwrap();
    let mut looks = Vec::new();
    // Whole datagrams only: a cut one ends the stock.
    let round = fleet
        .run(
            Share { duration_max: Some(Duration::from_millis(20)), ..share(u64::MAX) },
            &mut |at| {
                looks.push(at);
            },
        )
        .unwrap();
    let second = fleet.run(share(700), &mut |_| {}).unwrap();
    drop(datagrams.join().unwrap());
    assert_eq!(looks.last().unwrap().lines, round.lines);
    assert_eq!(fleet.close().0.lines, round.lines + second.lines);
}
