//! A target reached by datagrams.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::resolve::Target as Resolved;
use super::{Cause, TargetAccounts};
use crate::ingest::tap::TapBatch;

/// How long one send may wait for room in the socket.
const SEND_LIMIT: Duration = Duration::from_millis(100);

/// One target.
pub(super) struct UdpTarget {
    socket: UdpSocket,
    is_ipv6: bool,
    resolved: Resolved,
    accounts: Arc<TargetAccounts>,
}

impl UdpTarget {
    /// A socket of its own, not connected: a target that is down must not make sends fail.
    pub(super) fn new(
        address: &str,
        is_ipv6: bool,
        accounts: Arc<TargetAccounts>,
    ) -> io::Result<Self> {
        let socket = if is_ipv6 {
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?
        } else {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?
        };
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Self { socket, is_ipv6, resolved: Resolved::new(address), accounts })
    }

    /// Sends every datagram of a batch.
    pub(super) fn send(&mut self, batch: &TapBatch, now_ns: u64) {
        let is_ipv6 = self.is_ipv6;
        let fits = |address: &&SocketAddr| address.is_ipv6() == is_ipv6;
        let address = self.resolved.addresses(now_ns).iter().find(fits).copied();
        let Some(address) = address else {
            let datagrams = batch.datagrams().count() as u64;
            return self.accounts.add_dropped(Cause::Unresolved, datagrams);
        };
        for datagram in batch.datagrams() {
            match self.socket.send_to(datagram, address) {
                Ok(_) => self.accounts.add_sent(1),
                Err(_) => self.accounts.add_dropped(Cause::SendFailed, 1),
            }
        }
    }
}
