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

pub(crate) fn run(plan: &Plan, share: Share) -> (Round, Sent, Refused) {
    let shape = Shape { streams: plan.senders * plan.sockets, ..shape() };
    let mut fleet = Fleet::prepare(plan, &shape).unwrap();
    let round = fleet.run(share, &Stop::default(), &mut |_| {});
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
        assert_eq!((round.lines, sent.lines, refused.total()), (1_000, 1_000, 0));
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
    // What is due in 30 ms, however late the thread starts and ends.
    assert!(0 < round.lines && round.lines <= 1_500, "{}", round.lines);
}

/// The clock of a round runs before its threads do: a microsecond is over when they begin, and 1,000
/// lines were due.
#[test]
fn a_thread_that_starts_after_the_end_sends_a_datagram_of_what_was_due() {
    let (target, datagrams) = receiver(1);
    let duration_max = Some(Duration::from_micros(1));
    let share = Share { duration_max, rate: Some(1_000_000_000), ..share(u64::MAX) };
    let (round, ..) = run(&plan(target), share);
    drop(datagrams.join().unwrap());
    assert!(0 < round.lines && round.lines <= round.due && round.due <= 1_000, "{round:?}");
}

#[test]
fn a_run_with_rests_sends_all_its_lines() {
    let (target, datagrams) = receiver(500);
    let mut plan = plan(target);
    plan.manner.quiet =
        Some(Quiet::new(Duration::from_millis(20), Duration::from_millis(8)).unwrap());
    let (round, sent, _) = run(&plan, share(500));
    drop(datagrams.join().unwrap());
    assert_eq!((round.lines, sent.lines), (500, 500));
}

/// A rest that began with the last multiple of the interval, seconds ago at the most, and lasts for more
/// than a quarter of an hour.
#[test]
fn nothing_leaves_during_a_rest() {
    let (target, _datagrams) = receiver(0);
    let mut plan = plan(target);
    let interval = Duration::from_secs(crate::clock::unix_time().as_secs());
    plan.manner.quiet = Some(Quiet::new(interval, Duration::from_secs(1_000)).unwrap());
    let stop = Stop::default();
    let mut fleet = prepared(&plan);
    for duration_max in [Some(Duration::from_millis(20)), None] {
        let share = Share { duration_max, ..share(500) };
        let mut looks = 0;
        let round = fleet.run(share, &stop, &mut |_| {
            looks += 1;
            if looks == 3 {
                stop.ask();
            }
        });
        assert_eq!((round.lines, round.failures.len()), (0, 0));
    }
}

#[test]
fn a_second_round_goes_on_where_the_first_one_ended() {
    let (target, datagrams) = receiver(700);
    let plan = Plan { rotation_lines: Some(250), ..plan(target) };
    let mut fleet = Fleet::prepare(&plan, &shape()).unwrap();
    let mut looks = Vec::new();
    let short = Share { duration_max: Some(Duration::from_millis(20)), ..share(u64::MAX) };
    let stop = Stop::default();
    let round = fleet.run(short, &stop, &mut |at| looks.push(at));
    let second = fleet.run(share(700), &stop, &mut |_| {});
    drop(datagrams.join().unwrap());
    assert_eq!(looks.last().unwrap().lines, round.lines);
    assert_eq!(fleet.close().0.lines, round.lines + second.lines);
}

fn prepared(plan: &Plan) -> Fleet {
    Fleet::prepare(plan, &Shape { streams: plan.senders * plan.sockets, ..shape() }).unwrap()
}

/// One line a second, of which a packed datagram has dozens: the next one is a minute ahead.
#[test]
fn r4_a_user_who_wants_to_end_is_heard_by_senders_that_wait() {
    for quiet in [None, Some(Quiet::new(Duration::from_secs(4_000), Duration::from_secs(1_999)))] {
        let (target, _datagrams) = receiver(0);
        let mut plan = plan(target);
        plan.manner.quiet = quiet.transpose().unwrap();
        let mut fleet = prepared(&plan);
        let stop = Stop::default();
        let share = Share { rate: Some(1), ..share(u64::MAX) };
        let round = fleet.run(share, &stop, &mut |_| stop.ask());
        assert_eq!((round.lines, round.failures.len()), (0, 0));
    }
}

/// A peer that never reads: the senders hang in their writes when the user has had enough. What the
/// peer finds in its buffers then is what the books say.
#[test]
fn r4_a_user_who_wants_to_end_is_heard_by_senders_whose_peer_does_not_read() {
    use std::io::Read as _;
    let folder = tempfile::tempdir().unwrap();
    let stream = folder.path().join("stream");
    let listener = std::os::unix::net::UnixListener::bind(&stream).unwrap();
    let mut plan = plan(Target::UnixStream(stream));
    plan.packing.end = End::LineFeed;
    for rotation_lines in [None, Some(1_000)] {
        let mut fleet = prepared(&Plan { rotation_lines, ..plan.clone() });
        let (mut peer, _) = listener.accept().unwrap();
        let stop = Stop::default();
        let (mut lines, mut same) = (0, 0);
        // Three looks in a row without a line: the buffers are full.
        let mut watch = |look: Look| {
            same = if look.lines == lines && 0 < lines { same + 1 } else { 0 };
            lines = look.lines;
            if same == 3 {
                stop.ask();
            }
        };
        let round = fleet.run(Share { rate: None, ..share(u64::MAX) }, &stop, &mut watch);
        let (sent, _) = fleet.close();
        let mut text = Vec::new();
        peer.read_to_end(&mut text).unwrap();
        let came = text.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!((round.lines, sent.lines, round.bytes), (came, came, text.len() as u64));
    }
}

#[test]
fn r4_a_sender_that_fails_leaves_its_books_and_says_why() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = plan(Target::Tcp(listener.local_addr().unwrap()));
    plan.packing.end = End::LineFeed;
    let mut fleet = prepared(&plan);
    drop(listener.accept().unwrap());
    let round = fleet.run(share(u64::MAX), &Stop::default(), &mut |_| {});
    assert_eq!(round.failures.len(), 1);
    assert!(round.failures[0].starts_with("sender 1 gave up after "), "{:?}", round.failures);
    assert!(round.failures[0].contains("the connection broke"), "{:?}", round.failures);
    assert_eq!(fleet.close().0.lines, round.lines);
}

/// Nobody listens: every datagram is refused, whether they leave one by one or many at a time.
#[test]
fn r4_refused_sends_are_counted_and_the_run_goes_on() {
    for rate in [Some(100_000), None] {
        // An address of its own: no other test can take the port meanwhile.
        let closed = std::net::UdpSocket::bind("127.0.0.3:0").unwrap().local_addr().unwrap();
        let mut plan = plan(Target::Udp(closed));
        plan.packing.is_single = true;
        let (round, sent, refused) = run(&plan, Share { rate, ..share(1_000) });
        assert_eq!((round.lines, sent.lines, round.failures.len()), (1_000, 1_000, 0));
        // A refusal that comes late may hide behind another.
        assert!((1..=1_000).contains(&refused.closed_port), "{refused} at {rate:?}");
        assert_eq!(refused.unreachable, 0);
    }
}

#[test]
fn r4_a_rate_that_no_sender_reaches_is_said_to_be_missed() {
    let (target, _datagrams) = receiver(0);
    let duration_max = Some(Duration::from_millis(100));
    let share = Share { duration_max, rate: Some(100_000_000_000), ..share(u64::MAX) };
    let (round, ..) = run(&plan(target), share);
    let kept = round.kept().unwrap();
    assert!(!kept.is_reached() && kept.percent < 98.0, "{kept:?}");
    // 100 ms and more were due, and less than 98 % of that left.
    assert!(Duration::from_millis(2) <= kept.behind, "{kept:?}");
    assert_eq!(kept.behind_lines, round.due - round.lines);
}

/// A packed datagram has dozens of lines: the part of it that is due leaves at the end.
#[test]
fn what_is_due_at_the_end_leaves_whether_it_fills_a_datagram_or_not() {
    let ms = Duration::from_millis;
    for (rate, duration, is_single, due) in
        [(3, ms(1_000), false, 3), (100, ms(50), false, 5), (20, ms(50), true, 1)]
    {
        for rotation_lines in [None, Some(100)] {
            let (target, datagrams) = receiver(due);
            let mut plan = Plan { rotation_lines, ..plan(target) };
            plan.packing.is_single = is_single;
            let share = Share { duration_max: Some(duration), rate: Some(rate), ..share(u64::MAX) };
            let (round, sent, _) = run(&plan, share);
            assert_eq!((round.lines, sent.lines, round.due), (due as u64, due as u64, due as u64));
            drop(datagrams.join().unwrap());
        }
    }
}

/// What is due after the end is not what the sender owes.
#[test]
fn r4_what_is_not_due_yet_is_not_behind() {
    let (target, _datagrams) = receiver(0);
    let duration_max = Some(Duration::from_millis(30));
    let (round, ..) = run(&plan(target), Share { duration_max, rate: Some(1), ..share(u64::MAX) });
    let kept = round.kept().unwrap();
    assert_eq!((round.lines, kept.percent, kept.behind_lines), (0, 100.0, 0));
    let round = Round { offered: None, ..round };
    assert_eq!(round.kept(), None);
}
