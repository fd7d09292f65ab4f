//! Contestants are ordinary daemons: none may have a receive buffer over `net.core.rmem_max`.
//!
//! Root has `CAP_NET_ADMIN`, and with it as large a buffer as is asked for: what a burst is lost at would
//! then say nothing of a daemon that a service manager starts. Capabilities belong to a thread, and a
//! process inherits those of the thread that makes it: sockets and processes of contestants are made by a
//! thread that has given this one up, for good.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities,
};

/// Runs `body` on a thread without the capability; what it spawns has none either.
///
/// # Errors
/// The kernel's, when the capability cannot be given up, and those of `body`.
pub(crate) fn as_ordinary<T: Send>(body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            give_up()?;
            body()
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("starting a contestant panicked")))
    })
}

/// Gives the capability up, for this thread and whoever it starts.
fn give_up() -> io::Result<()> {
    let CapabilitySets { effective, permitted, inheritable } = capabilities(None)?;
    // Of root a program started gets all that is in the bounding set.
    match remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN) {
        // Who may not change the set is not root, and starts programs with what it has itself.
        Ok(()) | Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let without = |set: CapabilitySet| set - CapabilitySet::NET_ADMIN;
    let sets = CapabilitySets {
        effective: without(effective),
        permitted: without(permitted),
        inheritable: without(inheritable),
    };
    Ok(set_capabilities(None, sets)?)
}

/// Whether process `pid` may have a larger buffer than an ordinary one; none where the kernel does not say.
pub(crate) fn is_ordinary(pid: u32) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    Some(!CapabilitySet::from_bits_retain(effective).contains(CapabilitySet::NET_ADMIN))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;

    use floe_core::limits::RECEIVE_BUFFER_BYTES_DEFAULT;
    use floe_io::sys::set_receive_buffer_bytes;

    use super::*;

    #[test]
    fn buffers_of_contestants_are_within_rmem_max() {
        let granted = as_ordinary(|| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            set_receive_buffer_bytes(&socket, RECEIVE_BUFFER_BYTES_DEFAULT)
        });
        let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
        // The kernel accounts twice what it grants.
        assert!(granted.unwrap() <= 2 * most.trim().parse::<usize>().unwrap());
    }

    #[test]
    fn what_an_ordinary_thread_starts_is_ordinary_and_this_thread_stays_as_it_was() {
        let before = capabilities(None).unwrap();
        let mut command = Command::new("cat");
        command.stdin(std::process::Stdio::piped());
        let mut child = as_ordinary(|| command.spawn()).unwrap();
        assert_eq!(is_ordinary(child.id()), Some(true));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(capabilities(None).unwrap(), before);
        let has_it = before.effective.contains(CapabilitySet::NET_ADMIN);
        assert_eq!(is_ordinary(std::process::id()), Some(!has_it));
    }

    #[test]
    fn process_that_is_gone_says_nothing() {
        assert_eq!(is_ordinary(u32::MAX), None);
    }
}
