//! What the kernel dropped before a worker could read it, per socket.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use crate::sys::{SocketDrops, socket_drops};

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
}
