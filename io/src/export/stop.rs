//! The orderly stop of the exporters, and the only way in which they wait.
//!
//! One `Stop` is shared by all backends. Before it is requested a wait ends at its own time or
//! when the stop comes; afterwards it ends at the stop's deadline at the latest. The event is
//! never cleared: it wakes every backend, however many there are.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::clock::monotonic_ns;
use crate::sys::{WakeUp, timespec};

/// Not requested yet.
const NEVER: u64 = u64::MAX;

/// A request to stop, with the time by which to have stopped.
#[derive(Debug)]
pub(crate) struct Stop {
    event: WakeUp,
    deadline_ns: AtomicU64,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The file descriptor is ready.
    Ready,
    /// The time is over.
    TimeOver,
    /// The stop was requested during this wait: times have to be looked at anew.
    StopRequested,
    /// The stop's deadline has passed.
    StopOver,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { event: WakeUp::new()?, deadline_ns: AtomicU64::new(NEVER) })
    }

    /// Asks all backends to be done by `deadline_ns` of the monotonic clock.
    pub(crate) fn request(&self, deadline_ns: u64) {
        // Release: pairs with the Acquire in `deadline_ns`. The event below orders it for waiters.
        self.deadline_ns.store(deadline_ns.min(NEVER - 1), Ordering::Release);
        self.event.wake();
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.deadline_ns() != NEVER
    }

    /// Whether the time given to the stop has passed.
    pub(crate) fn is_over(&self) -> bool {
        self.deadline_ns() <= monotonic_ns()
    }

    /// The earlier of `until_ns` and the stop's deadline.
    pub(crate) fn bound(&self, until_ns: u64) -> u64 {
        until_ns.min(self.deadline_ns())
    }

    /// Waits until `fd`, where given, is ready for `flags`, `until_ns` has come or the stop
    /// interferes.
    pub(crate) fn wait(
        &self,
        fd: Option<BorrowedFd<'_>>,
        flags: PollFlags,
        until_ns: u64,
    ) -> io::Result<Waited> {
        let is_requested = self.is_requested();
        loop {
            let now_ns = monotonic_ns();
            if self.deadline_ns() <= now_ns {
                return Ok(Waited::StopOver);
            }
            let left_ns = self.bound(until_ns).saturating_sub(now_ns);
            let event = self.event.as_fd();
            let mut fds = [
                PollFd::from_borrowed_fd(event, PollFlags::IN),
                PollFd::from_borrowed_fd(fd.unwrap_or(event), flags),
            ];
            // The event stays set: after the request it would end every wait at once.
            let watched = usize::from(is_requested)..1 + usize::from(fd.is_some());
            match poll(&mut fds[watched], Some(&timespec(Duration::from_nanos(left_ns)))) {
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            if !fds[1].revents().is_empty() {
                return Ok(Waited::Ready);
            }
            if !is_requested && self.is_requested() {
                return Ok(Waited::StopRequested);
            }
            if until_ns <= monotonic_ns() {
                return Ok(Waited::TimeOver);
            }
        }
    }

    fn deadline_ns(&self) -> u64 {
        // Acquire: pairs with the Release in `request`.
        self.deadline_ns.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NS_PER_S;

    /// A file descriptor that never becomes ready.
    fn silent() -> WakeUp {
        WakeUp::new().unwrap()
    }

    #[test]
    fn wait_ends_at_its_time_when_nothing_happens() {
        let stop = Stop::new().unwrap();
        let until_ns = monotonic_ns() + 1_000_000;
        let waited = stop.wait(Some(silent().as_fd()), PollFlags::IN, until_ns).unwrap();
        assert_eq!(waited, Waited::TimeOver);
        assert!(monotonic_ns() >= until_ns);
    }

    #[test]
    fn request_ends_a_running_wait_and_bounds_the_next() {
        let stop = Stop::new().unwrap();
        let hour_ns = monotonic_ns() + 3_600 * NS_PER_S;
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| stop.wait(Some(silent().as_fd()), PollFlags::IN, hour_ns));
            stop.request(monotonic_ns() + 50_000_000);
            let waited = waiting.join().unwrap().unwrap();
            // The wait may have begun after the request: then it lasts to the deadline.
            assert!(matches!(waited, Waited::StopRequested | Waited::StopOver));
        });
        let waited = stop.wait(Some(silent().as_fd()), PollFlags::IN, hour_ns).unwrap();
        assert_eq!(waited, Waited::StopOver);
        assert!(stop.is_over());
    }

    #[test]
    fn wait_for_time_alone_is_no_spin_during_a_stop() {
        let stop = Stop::new().unwrap();
        stop.request(monotonic_ns() + 3_600 * NS_PER_S);
        let until_ns = monotonic_ns() + 5_000_000;
        assert_eq!(stop.wait(None, PollFlags::IN, until_ns).unwrap(), Waited::TimeOver);
        assert!(monotonic_ns() >= until_ns);
    }

    #[test]
    fn ready_descriptor_ends_a_wait_during_a_stop() {
        let stop = Stop::new().unwrap();
        stop.request(monotonic_ns() + 3_600 * NS_PER_S);
        let ready = WakeUp::new().unwrap();
        ready.wake();
        let waited = stop.wait(Some(ready.as_fd()), PollFlags::IN, u64::MAX).unwrap();
        assert_eq!(waited, Waited::Ready);
    }
}
