//! What the kernel dropped before a worker could read it, per socket.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use rustix::net::{RecvFlags, recv};

use crate::clock::monotonic_ns;
use crate::sys::{SocketDrops, socket_drops};

/// Longest time that unread datagrams are taken out of one socket, ns: a sender may go on for ever.
const TAKE_UNREAD_NS_MAX: u64 = 50_000_000;

/// The drops of one socket, read at every tick.
#[derive(Debug)]
pub struct SocketBook {
    name: String,
    socket: Arc<UdpSocket>,
    drops: SocketDrops,
    total: u64,
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
        Self { name, socket, drops: SocketDrops::default(), total: 0 }
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
        self.total += socket_drops(&*self.socket).map_or(0, |reading| self.drops.record(reading));
        self.total
    }

    /// Takes out what lies in the socket unread and returns how many datagrams it was: for a socket
    /// that nobody will read any more. What comes behind it is lost with the socket, as is what comes
    /// to a daemon that does not run.
    pub(super) fn take_unread(&mut self) -> u64 {
        let deadline_ns = monotonic_ns() + TAKE_UNREAD_NS_MAX;
        let mut datagrams = 0;
        // One byte: the rest of a datagram goes with it.
        while recv(&*self.socket, &mut [0; 1], RecvFlags::DONTWAIT).is_ok() {
            datagrams += 1;
            if deadline_ns < monotonic_ns() {
                break;
            }
        }
        datagrams
    }
}
