//! The witness: sends so many lines a second from several sockets, and knows how many left.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::Context;
use floe_io::clock::{NS_PER_S, monotonic_ns};

use crate::compare::probe::pause;

/// Sockets it sends from in turn, so that each worker gets its share.
const SOCKETS: usize = 8;

/// Between two bursts.
const SLOT_NS: u64 = 1_000_000;

/// A burst is at most so many times what a slot is due: what was missed is made up for, but not at
/// once, for no socket holds that.
const BURST_MAX: u64 = 3;

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Datagrams.
    pub(crate) datagrams: u64,
    /// Lines in them.
    pub(crate) lines: u64,
    /// From the first to the last, ns.
    pub(crate) ns: u64,
}

/// Sends to `port` of loopback what `compose` writes, a datagram at a time, `per_s` lines a second, until
/// it writes none; it returns its lines.
///
/// # Errors
/// The kernel's.
pub(crate) fn send(
    port: u16,
    per_s: u64,
    mut compose: impl FnMut(&mut Vec<u8>) -> u64,
) -> anyhow::Result<Sent> {
    let sockets: Vec<UdpSocket> = (0..SOCKETS).map(|_| connect(port)).collect::<Result<_, _>>()?;
    let mut sent = Sent::default();
    let mut datagram = Vec::new();
    let start_ns = monotonic_ns();
    let slot_lines = (per_s * SLOT_NS / NS_PER_S).max(1);
    let mut slot_ns = start_ns;
    loop {
        let due = lines_due(monotonic_ns() - start_ns, per_s);
        let most = due.min(sent.lines + BURST_MAX * slot_lines);
        while sent.lines <= most {
            datagram.clear();
            let lines = compose(&mut datagram);
            if lines == 0 {
                sent.ns = monotonic_ns() - start_ns;
                return Ok(sent);
            }
            let turn = usize::try_from(sent.datagrams).expect("64-bit") % SOCKETS;
            sockets[turn].send(&datagram).with_context(|| format!("sending to port {port}"))?;
            sent.datagrams += 1;
            sent.lines += lines;
        }
        slot_ns = (slot_ns + SLOT_NS).max(monotonic_ns().saturating_sub(SLOT_NS));
        pause(Duration::from_nanos(slot_ns.saturating_sub(monotonic_ns())));
    }
}

fn connect(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    Ok(socket)
}

/// Lines that have to have left after `ns`.
fn lines_due(ns: u64, per_s: u64) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(per_s) / u128::from(NS_PER_S)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_composed_is_sent_and_no_faster_than_it_is_due() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut left = 20_u64;
        let sent = send(socket.local_addr().unwrap().port(), 1_000, |datagram| {
            if left == 0 {
                return 0;
            }
            left -= 1;
            datagram.extend_from_slice(format!("a:{left}|c\nb:1|c").as_bytes());
            2
        })
        .unwrap();
        assert_eq!((sent.datagrams, sent.lines), (20, 40));
        // 38 of them have to wait for their time.
        assert!(38 * NS_PER_S / 1_000 <= sent.ns, "{sent:?}");
        let mut bytes = [0; 64];
        for number in (0..20).rev() {
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], format!("a:{number}|c\nb:1|c").as_bytes());
        }
    }

    #[test]
    fn what_is_due_is_the_rate() {
        assert_eq!(lines_due(0, 5), 0);
        assert_eq!(lines_due(60 * NS_PER_S, 333_334), 20_000_040);
    }
}
