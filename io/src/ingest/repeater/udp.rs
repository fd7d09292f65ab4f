//! A target reached by datagrams.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::resolve::Target as Resolved;
use super::tcp::is_passing;
use super::{Cause, TargetAccounts};
use crate::clock::{duration_ns, monotonic_ns};
use crate::ingest::tap::TapBatch;
use crate::sys::timespec;

/// How long the datagrams of one batch may wait for room in the socket, all together.
const BATCH_PATIENCE: Duration = Duration::from_millis(100);

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
        socket.set_nonblocking(true)?;
        Ok(Self { socket, is_ipv6, resolved: Resolved::new(address), accounts })
    }

    /// Whether its name has an address.
    pub(super) fn is_known(&mut self, now_ns: u64) -> bool {
        self.address(now_ns).is_some()
    }

    fn address(&mut self, now_ns: u64) -> Option<SocketAddr> {
        let is_ipv6 = self.is_ipv6;
        let fits = |address: &&SocketAddr| address.is_ipv6() == is_ipv6;
        self.resolved.addresses(now_ns).iter().find(fits).copied()
    }

    /// Sends every datagram of a batch; waits for room until `end_ns` at the most, if there is one.
    pub(super) fn send(&mut self, batch: &TapBatch, now_ns: u64, end_ns: Option<u64>) {
        let Some(address) = self.address(now_ns) else {
            let datagrams = batch.datagrams().count() as u64;
            return self.accounts.add_dropped(Cause::Unresolved, datagrams);
        };
        let until_ns = (now_ns + duration_ns(BATCH_PATIENCE)).min(end_ns.unwrap_or(u64::MAX));
        for datagram in batch.datagrams() {
            let mut sent = self.socket.send_to(datagram, address);
            while matches!(&sent, Err(error) if is_passing(error)) && self.waits(until_ns) {
                sent = self.socket.send_to(datagram, address);
            }
            match sent {
                Ok(_) => self.accounts.add_sent(1),
                Err(_) => self.accounts.add_dropped(Cause::SendFailed, 1),
            }
        }
    }

    /// Waits for room in the socket; false when it is too late for that.
    fn waits(&self, until_ns: u64) -> bool {
        let rest = Duration::from_nanos(until_ns.saturating_sub(monotonic_ns()));
        let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
        // An interrupted wait is one more attempt.
        !rest.is_zero() && poll(&mut fds, Some(&timespec(rest))) != Ok(0)
    }
}
