//! Free ports for programs that must be told a number: carbon, graphite-web, and any daemon that
//! runs from a `config.js`.
//!
//! Numbers lie below the kernel's ephemeral range, so that no outgoing connection takes one
//! between the look and the use. Each test process starts at a place of its own in the range.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, OnceLock, PoisonError};

const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A port on which neither TCP nor UDP was bound on loopback a moment ago. A number is given out
/// once per test process until the whole range was used.
pub(crate) fn free() -> u16 {
    static NEXT: OnceLock<Mutex<u32>> = OnceLock::new();
    let next = NEXT.get_or_init(|| Mutex::new(std::process::id().wrapping_mul(389) % COUNT));
    let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..COUNT {
        let port = u16::try_from(FIRST + *next).expect("the range ends below 65,536");
        *next = (*next + 1) % COUNT;
        if is_free(port) {
            return port;
        }
    }
    panic!("no free port in {FIRST}..{}", FIRST + COUNT);
}

fn is_free(port: u16) -> bool {
    let local = (Ipv4Addr::LOCALHOST, port);
    UdpSocket::bind(local).is_ok() && TcpListener::bind(local).is_ok()
}
