//! The witness: a sender that knows what it sent, and when.
//!
//! Every datagram is the same text: one hit, a weight of seven, one time of three, and its number as
//! a gauge. So what carbon has of one must fit what it has of the others, whatever was lost: half a
//! datagram shows. It shares no code with the daemon, nor with `loadgen`.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use floe_io::clock::{monotonic_ns, wall_ms};

use crate::compare::probe::{pause, wait_for};

/// What one datagram adds to `witness.weight`.
pub(crate) const WEIGHT: u64 = 7;

/// What one datagram adds to the sum of `witness.time`.
pub(crate) const TIME: u64 = 3;

/// Sockets it sends from in turn, so that each worker gets its share.
const SOCKETS: usize = 8;

/// Between two bursts.
const SLOT_NS: u64 = 2_000_000;

/// Slots that are made up for when the sender was late.
const SLOTS_BEHIND_MAX: u64 = 10;

/// Datagrams of one burst of a flood.
const FLOOD_BURST: u64 = 64;

/// A rate without pauses.
pub(crate) const FLOOD: u32 = u32::MAX;

/// Sends until it is dropped.
#[derive(Debug)]
pub(crate) struct Sender {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Datagrams a second; 0 = silent.
    rate: AtomicU32,
    /// Whether the rate of 0 was seen: nothing is sent any more.
    is_silent: AtomicBool,
    is_ending: AtomicBool,
    sent: AtomicU64,
    /// Wall clock in ms after each burst, and all that was sent until then.
    log: Mutex<Vec<(u64, u64)>>,
}

impl Sender {
    /// Silent at first; to `port` of loopback.
    ///
    /// # Errors
    /// The kernel's, when there is no socket.
    pub(crate) fn start(port: u16) -> anyhow::Result<Self> {
        let sockets: Vec<UdpSocket> = (0..SOCKETS)
            .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("witness".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, &sockets, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sends `rate` datagrams a second from now on.
    pub(crate) fn send_at(&self, rate: u32) {
        self.shared.is_silent.store(false, Ordering::SeqCst);
        self.shared.rate.store(rate, Ordering::SeqCst);
    }

    /// Falls silent; when this returns the last datagram has been sent.
    ///
    /// # Errors
    /// When its thread does not answer.
    pub(crate) fn silence(&self) -> anyhow::Result<()> {
        self.shared.rate.store(0, Ordering::SeqCst);
        wait_for("the sender's silence", || {
            self.shared.is_silent.load(Ordering::SeqCst).then_some(())
        })
    }

    /// Datagrams sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Most datagrams that can have left between two times of the wall clock, ms.
    pub(crate) fn sent_between(&self, from_ms: u64, to_ms: u64) -> u64 {
        let log = self.shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        between(&log, from_ms, to_ms)
    }
}

/// The log has a burst's end: what was logged just before `from` was sent before it.
fn between(log: &[(u64, u64)], from_ms: u64, to_ms: u64) -> u64 {
    let before = log.partition_point(|(ms, _)| *ms < from_ms);
    let until = log.partition_point(|(ms, _)| *ms <= to_ms);
    let sent = |count: usize| if count == 0 { 0 } else { log[count - 1].1 };
    // The burst that was on its way at `to` is logged behind it.
    sent((until + 1).min(log.len())) - sent(before.min(until))
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It may have panicked, which was said.
            thread.join().ok();
        }
    }
}

fn run(shared: &Shared, sockets: &[UdpSocket], to: SocketAddr) {
    let mut due_ns = monotonic_ns();
    let (mut number, mut turn, mut text) = (0_u64, 0, String::new());
    // Fractions of a datagram that a slot is short of, in datagrams times ns.
    let mut rest = 0_u64;
    while !shared.is_ending.load(Ordering::SeqCst) {
        let rate = shared.rate.load(Ordering::SeqCst);
        let now_ns = monotonic_ns();
        let count = if rate == FLOOD {
            due_ns = now_ns;
            FLOOD_BURST
        } else {
            due_ns = (due_ns + SLOT_NS).max(now_ns.saturating_sub(SLOTS_BEHIND_MAX * SLOT_NS));
            rest += u64::from(rate) * SLOT_NS;
            let count = rest / 1_000_000_000;
            rest %= 1_000_000_000;
            count
        };
        for _ in 0..count {
            text.clear();
            text += "witness.hits:1|c\nwitness.weight:7|c\nwitness.time:3|ms\nwitness.last:";
            text += &(number + 1).to_string();
            text += "|g";
            turn = (turn + 1) % sockets.len();
            number += u64::from(sockets[turn].send_to(text.as_bytes(), to).is_ok());
        }
        if 0 < count {
            shared.sent.store(number, Ordering::SeqCst);
            let mut log = shared.log.lock().unwrap_or_else(PoisonError::into_inner);
            match log.last_mut() {
                Some((ms, sent)) if *ms == wall_ms() => *sent = number,
                _ => log.push((wall_ms(), number)),
            }
        }
        if rate == 0 {
            shared.is_silent.store(true, Ordering::SeqCst);
        }
        let left_ns = due_ns.saturating_sub(monotonic_ns());
        if 0 < left_ns {
            pause(Duration::from_nanos(left_ns));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_on_its_way_at_the_end_is_among_what_left_between() {
        let log = [(10, 5), (12, 9), (20, 12), (30, 20)];
        assert_eq!(between(&log, 12, 20), 20 - 5);
        assert_eq!(between(&log, 13, 14), 12 - 9);
        assert_eq!(between(&log, 0, 5), 5);
        assert_eq!(between(&log, 31, 40), 0);
        assert_eq!(between(&[], 0, 9), 0);
    }

    #[test]
    fn silent_sender_sends_nothing_and_a_loud_one_what_it_says() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let sender = Sender::start(socket.local_addr().unwrap().port()).unwrap();
        sender.send_at(1_000);
        wait_for("ten datagrams", || (10 <= sender.sent()).then_some(())).unwrap();
        sender.silence().unwrap();
        let mut bytes = [0; 200];
        for number in 1..=sender.sent() {
            let length = socket.recv(&mut bytes).unwrap();
            let text = std::str::from_utf8(&bytes[..length]).unwrap();
            assert!(text.starts_with("witness.hits:1|c\n"), "{text}");
            assert!(text.ends_with(&format!("\nwitness.last:{number}|g")), "{text}");
        }
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut bytes).is_err(), "nothing beyond what it says");
        assert_eq!(sender.sent_between(0, u64::MAX), sender.sent());
    }
}
