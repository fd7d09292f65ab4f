//! A thread that may be stuck in somebody else's pipe when the daemon ends.
//!
//! Standard output may be a pipe that nobody reads. Whoever writes there has a thread of its own,
//! and the end waits for it for a while, not for ever: left alone, it ends with the process.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

/// A thread, and how to know that it has ended.
#[derive(Debug)]
pub(crate) struct SideThread {
    /// Disconnected when the thread ends.
    end: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl SideThread {
    /// Starts `work` on a thread called `name`.
    ///
    /// # Errors
    /// The kernel's, when it refuses a thread.
    pub(crate) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (running, end) = bounded(0);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            work();
            drop(running);
        })?;
        Ok(Self { end, thread: Some(thread) })
    }

    /// Waits for its end for `limit` at the most; whether it has ended.
    pub(crate) fn join_within(&mut self, limit: Duration) -> bool {
        let has_ended = self.end.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected);
        if has_ended && let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        has_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_waited_for_and_a_stuck_thread_is_left_alone() {
        let (release, stuck) = bounded::<()>(0);
        let mut thread =
            SideThread::start("stuck", move || assert!(stuck.recv().is_err())).unwrap();
        assert!(!thread.join_within(Duration::from_millis(10)));
        drop(release);
        assert!(thread.join_within(Duration::from_secs(20)));
        assert!(thread.join_within(Duration::ZERO), "again");
    }
}
