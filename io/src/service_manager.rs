//! What the service manager is told: systemd's notifications, where it listens for them.
//!
//! Each call is a datagram to `$NOTIFY_SOCKET`, and nothing without it. A daemon whose manager does
//! not listen any more goes on: failures are of no interest.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;

use crate::clock::duration_ns;
use crate::given::{GivenSockets, STORE_NAME};
use crate::sys::inherited;

/// Descriptors of one message; the kernel's limit is 253.
const FDS_AT_ONCE: usize = 128;

/// How many descriptors systemd keeps: it says so from version 254 on, before that the unit does.
const STORE_PLACES: &str = "FDSTORE";

/// Everything listens; `status` is shown by `systemctl status`.
pub fn tell_ready(status: &str) {
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]).ok();
}

/// The configuration is being read again; [`tell_ready`] ends that.
pub fn tell_reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        sd_notify::notify(&[NotifyState::Reloading, now]).ok();
    }
}

/// The drain has begun.
pub fn tell_stopping() {
    sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("draining")]).ok();
}

/// Sockets that the manager has opened for us, or kept over a restart (`$LISTEN_FDS`).
///
/// # Errors
/// What the environment says cannot be.
pub fn given_sockets() -> io::Result<GivenSockets> {
    let listed = sd_notify::listen_fds_with_names()?;
    let mut sockets = Vec::with_capacity(listed.len());
    for (number, name) in listed {
        let closed = || io::Error::other(format!("descriptor {number} of LISTEN_FDS is not open"));
        sockets.push((inherited(number).ok_or_else(closed)?, name));
    }
    Ok(GivenSockets::new(sockets))
}

/// How many sockets the manager keeps for us over a restart; 0 where it keeps none, or does not say.
#[must_use]
pub fn store_places() -> usize {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return 0;
    }
    std::env::var(STORE_PLACES).ok().and_then(|places| places.parse().ok()).unwrap_or(0)
}

/// Leaves `sockets` with the manager: it holds them while nobody else does, and gives them to the next
/// daemon. What it has of an earlier one, and is not among them, it lets go: nobody reads that any more.
///
/// # Errors
/// The kernel's: nobody takes the message.
pub(crate) fn store(sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let manager = notify_socket()?;
    manager.send(format!("FDSTOREREMOVE=1\nFDNAME={STORE_NAME}\n").as_bytes())?;
    let state = format!("FDSTORE=1\nFDNAME={STORE_NAME}\n");
    for some in sockets.chunks(FDS_AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(some)) {
            return Err(io::Error::other("descriptors do not fit"));
        }
        let data = [IoSlice::new(state.as_bytes())];
        sendmsg(&manager, &data, &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// A socket whose other end is the manager's.
fn notify_socket() -> io::Result<UnixDatagram> {
    let place = std::env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?;
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// Tells that its owner is alive, as often as the manager wants to hear it; never where it does not.
///
/// It has no thread: whoever hangs does not tell.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// A quarter of what the manager waits (`$WATCHDOG_USEC`); `None` = it does not.
    period: Option<Duration>,
    told_ns: Option<u64>,
}

impl Watchdog {
    /// As the environment asks for it.
    pub(crate) fn of_environment() -> Self {
        Self { period: sd_notify::watchdog_enabled().map(|limit| limit / 4), told_ns: None }
    }

    /// The owner is alive.
    pub(crate) fn tell_alive(&mut self, now_ns: u64) {
        let Some(period) = self.period else { return };
        if self.told_ns.is_none_or(|told_ns| told_ns + duration_ns(period) <= now_ns) {
            self.told_ns = Some(now_ns);
            sd_notify::notify(&[NotifyState::Watchdog]).ok();
        }
    }

    /// Longest time until the next [`Watchdog::tell_alive`], ms.
    pub(crate) fn wait_ms(&self) -> u64 {
        let ms = |period: Duration| u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        self.period.map_or(u64::MAX, |period| ms(period).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_is_told_twice_within_what_the_manager_waits() {
        let mut watchdog = Watchdog { period: Some(Duration::from_millis(500)), told_ns: None };
        assert_eq!(watchdog.wait_ms(), 500);
        let mut told = Vec::new();
        for now_ms in (0..2_000).step_by(250) {
            let now_ns = duration_ns(Duration::from_millis(now_ms));
            watchdog.tell_alive(now_ns);
            told.extend(watchdog.told_ns.filter(|told_ns| *told_ns == now_ns));
        }
        assert_eq!(told.len(), 4, "every half second");
        let silent = Watchdog { period: None, told_ns: None };
        assert_eq!(silent.wait_ms(), u64::MAX);
    }
}
