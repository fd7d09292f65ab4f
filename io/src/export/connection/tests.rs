//! Claims: a segment counts as delivered only when the peer has read all of it. Method: scripted
//! peers on the loopback, one per way in which a Carbon can end a connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::export::error::Fault;

/// More than loopback buffers take while the peer does not read.
const LARGE: usize = 32 << 20;

fn impatient() -> Patience {
    Patience {
        stall: Duration::from_millis(200),
        weak_close: Duration::from_millis(20),
        ..Patience::default()
    }
}

/// A peer that does `script` with the first connection it gets.
fn peer<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, std::thread::spawn(move || script(listener.accept().unwrap().0)))
}

fn send(
    address: SocketAddr,
    bytes: &[u8],
    awaited: Awaited,
    patience: Patience,
) -> Result<Delivery, ExportError> {
    let stop = Stop::new().unwrap();
    let mut connection = Connection::open(&[address], patience, &stop)?;
    connection.write_all(bytes)?;
    connection.finish(awaited)
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Holds a connection until the test lets go.
fn held_peer() -> (SocketAddr, bounded_let_go::LetGo, JoinHandle<()>) {
    let (let_go, held) = bounded_let_go::pair();
    let (address, thread) = peer(move |stream| {
        held.wait();
        drop(stream);
    });
    (address, let_go, thread)
}

/// A peer that waits until its test is over.
mod bounded_let_go {
    use super::{Receiver, bounded};

    pub(super) struct LetGo(
        #[expect(dead_code, reason = "dropped to let go")] crossbeam_channel::Sender<()>,
    );
    pub(super) struct Held(Receiver<()>);

    pub(super) fn pair() -> (LetGo, Held) {
        let (sender, receiver) = bounded(0);
        (LetGo(sender), Held(receiver))
    }

    impl Held {
        pub(super) fn wait(self) {
            assert!(self.0.recv().is_err(), "nothing is ever sent");
        }
    }
}

#[test]
fn peer_that_reads_all_and_closes_has_acknowledged() {
    let payload = vec![b'x'; LARGE];
    let (address, peer) = peer(|mut stream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    });
    let delivery = send(address, &payload, Awaited::Close, Patience::default()).unwrap();
    assert_eq!(delivery, Delivery::Closed);
    assert!(peer.join().unwrap() == payload);
}

#[test]
fn words_from_the_peer_are_ignored() {
    let (address, peer) = peer(|mut stream| {
        stream.write_all(&[b'!'; 100_000]).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap()
    });
    let delivery = send(address, b"a 1 1\n", Awaited::Close, Patience::default()).unwrap();
    assert_eq!((delivery, peer.join().unwrap()), (Delivery::Closed, 6));
}

#[test]
fn refused_connection_is_the_fault_of_the_backend() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = send(address, b"a 1 1\n", Awaited::Close, Patience::default()).unwrap_err();
    assert!(matches!(error, ExportError::Connect { .. }), "{error}");
    assert_eq!(error.fault(), Fault::Backend);
}

#[test]
fn next_address_is_tried_when_one_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = listener.local_addr().unwrap();
    drop(listener);
    let (address, peer) = peer(|mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    let stop = Stop::new().unwrap();
    let mut connection =
        Connection::open(&[refusing, address], Patience::default(), &stop).unwrap();
    connection.write_all(b"a 1 1\n").unwrap();
    assert_eq!(connection.sent_bytes(), 6);
    assert_eq!(connection.finish(Awaited::Close).unwrap(), Delivery::Closed);
    assert_eq!(peer.join().unwrap(), 6);
}

#[test]
fn peer_that_closes_without_reading_has_not_acknowledged() {
    // Whether our bytes arrive before or after its close is the kernel's choice: neither counts.
    for _ in 0..50 {
        let (address, peer) = peer(drop);
        let error = send(address, b"a 1 1\n", Awaited::Close, Patience::default()).unwrap_err();
        assert_eq!(error.fault(), Fault::Backend, "{error}");
        peer.join().unwrap();
    }
}

#[test]
fn close_before_the_last_byte_is_not_clean() {
    let (closed, is_closed) = bounded(1);
    let (address, peer) = peer(move |mut stream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        drop(stream);
        closed.send(()).unwrap();
    });
    let stop = Stop::new().unwrap();
    let mut connection = Connection::open(&[address], Patience::default(), &stop).unwrap();
    connection.write_all(b"a 1 1\n").unwrap();
    is_closed.recv_timeout(Duration::from_secs(10)).unwrap();
    let outcome = connection.write_all(b"b 1 1\n").and_then(|()| connection.finish(Awaited::Close));
    assert_eq!(outcome.unwrap_err().fault(), Fault::Backend);
    peer.join().unwrap();
}

#[test]
fn reset_after_reading_is_not_clean() {
    let (address, peer) = peer(|mut stream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        reset(stream);
    });
    let error = send(address, b"a 1 1\n", Awaited::Close, Patience::default()).unwrap_err();
    assert!(matches!(error, ExportError::Broken { .. }), "{error}");
    peer.join().unwrap();
}

#[test]
fn reset_while_writing_breaks_the_connection() {
    let (address, peer) = peer(|mut stream| {
        stream.read_exact(&mut [0; 1_000]).unwrap();
        reset(stream);
    });
    let error = send(address, &vec![b'x'; LARGE], Awaited::Close, Patience::default()).unwrap_err();
    assert!(matches!(error, ExportError::Broken { .. }), "{error}");
    peer.join().unwrap();
}

#[test]
fn peer_that_never_reads_stalls() {
    let (address, let_go, peer) = held_peer();
    let error = send(address, &vec![b'x'; LARGE], Awaited::Close, impatient()).unwrap_err();
    assert!(matches!(error, ExportError::Stalled { .. }), "{error}");
    drop(let_go);
    peer.join().unwrap();
}

#[test]
fn silent_peer_whose_kernel_has_all_is_told_apart() {
    for awaited in [Awaited::Close, Awaited::BriefClose] {
        let (address, let_go, peer) = held_peer();
        let error = send(address, b"a 1 1\n", awaited, impatient()).unwrap_err();
        let ExportError::NotClosed { sent_bytes, waited_ms, .. } = error else {
            panic!("{error}");
        };
        let limit_ms = if awaited == Awaited::Close { 200 } else { 20 };
        assert!(sent_bytes == 6 && waited_ms >= limit_ms, "{sent_bytes} {waited_ms}");
        drop(let_go);
        peer.join().unwrap();
    }
}

#[test]
fn kernel_is_enough_where_written_is_asked_for() {
    let (address, let_go, peer) = held_peer();
    let delivery = send(address, b"a 1 1\n", Awaited::Kernel, impatient()).unwrap();
    assert_eq!(delivery, Delivery::Written);
    drop(let_go);
    peer.join().unwrap();
}

#[test]
fn slow_reader_is_no_stall_while_it_makes_progress() {
    let (address, peer) = peer(|mut stream| {
        let (_sender, never) = bounded::<()>(0);
        let mut chunk = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            // Each pause is far below the patience, all of them together far above it.
            assert!(never.recv_timeout(Duration::from_millis(60)).is_err());
            match stream.read(&mut chunk).unwrap() {
                0 => return total,
                bytes => total += bytes,
            }
        }
    });
    let patience = Patience { stall: Duration::from_secs(1), ..impatient() };
    let start_ns = monotonic_ns();
    let delivery = send(address, &vec![b'x'; LARGE], Awaited::Close, patience).unwrap();
    assert!(monotonic_ns() - start_ns > duration_ns(patience.stall));
    assert_eq!((delivery, peer.join().unwrap()), (Delivery::Closed, LARGE));
}

#[test]
fn stop_ends_a_stalled_write_at_its_deadline() {
    let (address, let_go, peer) = held_peer();
    let stop = Stop::new().unwrap();
    let deadline_ns = monotonic_ns() + 50_000_000;
    let mut connection = Connection::open(&[address], Patience::default(), &stop).unwrap();
    stop.request(deadline_ns);
    let error = connection.write_all(&vec![b'x'; LARGE]).unwrap_err();
    assert!(matches!(error, ExportError::Stopped), "{error}");
    assert!(monotonic_ns() >= deadline_ns);
    drop(let_go);
    peer.join().unwrap();
}
