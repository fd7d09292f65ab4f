//! What the kernel dropped before a worker could read it, per socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use rustix::net::{RecvFlags, recv};

use crate::clock::monotonic_ns;
use crate::sys::{SocketDrops, cookie_of, socket_drops};

/// Longest time that unread datagrams are taken out of one socket, ns: a sender may go on for ever.
const TAKE_UNREAD_NS_MAX: u64 = 50_000_000;

/// The drops of one socket, read at every tick.
#[derive(Debug)]
pub struct SocketBook {
    name: String,
    /// `None` = closed.
    socket: Option<Arc<UdpSocket>>,
    drops: SocketDrops,
    total: u64,
    /// What the kernel knows it by, over processes, until it boots again; 0 = it does not say.
    cookie: u64,
    /// Somebody else holds it too and goes on with it: nothing is taken out at the end.
    is_kept: bool,
}

impl SocketBook {
    /// The book of the socket that worker `worker` reads at `address`.
    #[must_use]
    pub fn new(socket: Arc<UdpSocket>, address: SocketAddr, worker: usize) -> Self {
        let host = match address.ip() {
            any if any.is_unspecified() => "any".to_owned(),
            host => host.to_string().replace(['.', ':'], "_"),
        };
        let name = format!("udp_{host}_{}.worker_{worker}", address.port());
        let cookie = cookie_of(&*socket);
        let drops = SocketDrops::default();
        Self { name, socket: Some(socket), drops, total: 0, cookie, is_kept: false }
    }

    /// What the kernel knows it by.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Leaves the socket to somebody else who holds it, or will.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Whether it is left to somebody else.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Counts on behind `reading`, which another process has counted to.
    pub(super) fn go_on_after(&mut self, reading: u32) {
        self.drops = SocketDrops::after(reading);
    }

    /// How far the kernel's counter has been entered into the books.
    pub(super) fn reading(&self) -> u32 {
        self.drops.seen()
    }

    /// Name below `kernel_drops.`: `udp_any_8125.worker_0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Datagrams dropped since the start.
    pub fn drops(&mut self) -> u64 {
        // The option exists on every kernel with io_uring, and on those we fall back on since 4.12;
        // elsewhere the count stays 0.
        let reading = self.socket.as_ref().and_then(|socket| socket_drops(&**socket).ok());
        self.total += reading.map_or(0, |reading| self.drops.record(reading));
        self.total
    }

    /// Takes nothing more from anybody: whoever sends from now on is refused, as if nobody listened.
    ///
    /// A connected socket takes datagrams of its peer alone, and nobody sends from the address and
    /// port of a socket of ours. To be called when all workers have ended.
    pub(super) fn refuse(&self) {
        if self.is_kept {
            return;
        }
        let Some(mut peer) = self.socket.as_ref().and_then(|socket| socket.local_addr().ok())
        else {
            return;
        };
        if peer.ip().is_unspecified() {
            peer.set_ip(match peer {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        // Refused itself, it costs exactness: what comes while `close` counts is lost uncounted.
        self.socket.as_ref().map(|socket| socket.connect(peer).ok());
    }

    /// Takes out what lies in the socket unread, reads its drops for the last time and closes it;
    /// returns how many datagrams it was.
    pub(super) fn close(&mut self) -> u64 {
        let deadline_ns = monotonic_ns() + TAKE_UNREAD_NS_MAX;
        let mut datagrams = 0;
        if let Some(socket) = self.socket.as_ref().filter(|_| !self.is_kept) {
            // One byte: the rest of a datagram goes with it.
            while recv(&**socket, &mut [0; 1], RecvFlags::DONTWAIT).is_ok() {
                datagrams += 1;
                if deadline_ns < monotonic_ns() {
                    break;
                }
            }
        }
        self.drops();
        self.socket = None;
        datagrams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_socket_at_the_end_is_counted_and_what_comes_later_is_refused() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            // A machine without the other family has nothing to show.
            let Ok(socket) = UdpSocket::bind(address) else { continue };
            let at = socket.local_addr().unwrap();
            let mut book = SocketBook::new(Arc::new(socket), at, 0);
            let host = if at.ip().is_unspecified() { "127.0.0.1" } else { &at.ip().to_string() };
            let sender = match host.parse().unwrap() {
                IpAddr::V4(_) => UdpSocket::bind("127.0.0.1:0"),
                IpAddr::V6(_) => UdpSocket::bind("[::1]:0"),
            };
            let sender = sender.unwrap();
            sender.connect((host, at.port())).unwrap();
            for _ in 0..5 {
                sender.send(b"a:1|c").unwrap();
            }
            sender.send(b"").unwrap();
            book.refuse();
            sender.send(b"too late").unwrap();
            let error = sender.send(b"told so").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
            assert_eq!((book.close(), book.drops()), (6, 0), "{address}");
            assert_eq!(book.close(), 0, "again");
            UdpSocket::bind(at).unwrap();
        }
    }
}
