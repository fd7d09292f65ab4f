//! A target's addresses, looked up again now and then without ever waiting.

use std::net::SocketAddr;

use crate::clock::NS_PER_S;
use crate::export::resolver::Resolver;

/// Time between two look-ups of a name that has an address, and of one that has none, ns.
const KNOWN_NS: u64 = 30 * NS_PER_S;
const UNKNOWN_NS: u64 = NS_PER_S;

/// `host:port`, and what it means.
pub(super) struct Target {
    resolver: Resolver,
    /// Not looked up again before this, ns.
    next_ns: u64,
}

impl Target {
    pub(super) fn new(address: &str) -> Self {
        Self { resolver: Resolver::new(address), next_ns: 0 }
    }

    /// The addresses known now.
    pub(super) fn addresses(&mut self, now_ns: u64) -> &[SocketAddr] {
        let is_due = self.next_ns <= now_ns;
        let addresses = self.resolver.known(is_due);
        if is_due {
            self.next_ns = now_ns + if addresses.is_empty() { UNKNOWN_NS } else { KNOWN_NS };
        }
        addresses
    }
}
