//! What the service manager is told: systemd's notifications, where it listens for them.
//!
//! Each call is a datagram to `$NOTIFY_SOCKET`, and nothing without it. A daemon whose manager does
//! not listen any more goes on: failures are of no interest.

use std::time::Duration;

use sd_notify::NotifyState;

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

/// The coordinator is alive.
pub(crate) fn tell_alive() {
    sd_notify::notify(&[NotifyState::Watchdog]).ok();
}

/// Whether the manager wants to hear [`tell_alive`]; within this time.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}
