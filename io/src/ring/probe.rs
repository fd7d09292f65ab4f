//! Builds a ring, or says why the kernel refuses.
//!
//! Runs once per worker on the worker's own thread: with `SINGLE_ISSUER` the thread that builds the
//! ring is the only one that may use it. Tried in order: `SINGLE_ISSUER | DEFER_TASKRUN` (Linux 6.1)
//! and `SINGLE_ISSUER` (6.0). There is no third attempt, for a kernel that knows neither has no
//! multishot receive. `ENOMEM` is retried for about a second: rings of a process that has just ended
//! stay charged to the user's memlock limit for a while (docs/references.md K2).
//! A refusal is no failure: the worker receives by `recvmmsg` then.

use std::fmt;
use std::io;

use io_uring::IoUring;

/// Submission queue entries: requests a worker can queue between two waits.
pub(crate) const SUBMISSION_ENTRIES: u32 = 64;

/// Completion queue entries: at least one per buffer, so that data never overflow it. The ends of
/// thousands of connections at once may: the kernel keeps what has no room.
const COMPLETION_ENTRIES: u32 = 4_096;

/// Pauses between attempts at `ENOMEM`: ten of 100 ms.
const MEMORY_RETRIES: u32 = 10;

const _: () = assert!(super::buffers::BUFFER_COUNT as u32 <= COMPLETION_ENTRIES);

/// Why the kernel refuses a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// `EPERM`: a seccomp profile, or `kernel.io_uring_disabled`.
    NotPermitted,
    /// `EACCES`: a security module.
    AccessDenied,
    /// `ENOSYS`: a kernel built without it, or a seccomp profile.
    NotImplemented,
    /// `ENOMEM` for about a second: the memlock limit.
    OutOfMemory,
    /// `EINVAL` for every set of flags: a kernel before 6.0.
    TooOld,
    /// Any other error number.
    Other(i32),
}

impl Refusal {
    /// The refusal that an error number stands for.
    #[must_use]
    pub fn from_errno(errno: i32) -> Self {
        match errno {
            libc::EPERM => Self::NotPermitted,
            libc::EACCES => Self::AccessDenied,
            libc::ENOSYS => Self::NotImplemented,
            libc::ENOMEM => Self::OutOfMemory,
            libc::EINVAL => Self::TooOld,
            other => Self::Other(other),
        }
    }

    /// What the log says when the worker goes on by `recvmmsg`.
    #[must_use]
    pub fn fallback_message(self) -> String {
        format!("io_uring refused ({}), using recvmmsg; {}", self.name(), self.advice())
    }

    fn name(self) -> String {
        match self {
            Self::NotPermitted => "EPERM".into(),
            Self::AccessDenied => "EACCES".into(),
            Self::NotImplemented => "ENOSYS".into(),
            Self::OutOfMemory => "ENOMEM".into(),
            Self::TooOld => "EINVAL".into(),
            Self::Other(errno) => format!("error {errno}"),
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::NotPermitted => {
                "likely a container seccomp profile or kernel.io_uring_disabled, \
                 see docs/operations/io_uring.md"
            }
            Self::AccessDenied => "likely a security module, see docs/operations/io_uring.md",
            Self::NotImplemented => {
                "likely a kernel without it or a seccomp profile, see docs/operations/io_uring.md"
            }
            Self::OutOfMemory => {
                "raise the memlock limit (LimitMEMLOCK=64M in the unit file), \
                 see docs/operations/io_uring.md"
            }
            Self::TooOld => "it needs Linux 6.0 or later, see docs/operations/io_uring.md",
            Self::Other(_) => "see docs/operations/io_uring.md",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring refused ({}); {}", self.name(), self.advice())
    }
}

impl std::error::Error for Refusal {}

/// A set of set-up flags, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RingFlags {
    /// Completions are worked off only when the worker asks for them: Linux 6.1.
    DeferTaskrun,
    /// One thread submits: Linux 6.0.
    SingleIssuer,
}

/// Builds a ring on the calling thread, which alone may use it; it takes no request before it is
/// enabled (`super::restrict`).
pub(crate) fn build(flags: RingFlags) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_r_disabled().setup_cqsize(COMPLETION_ENTRIES);
    if flags == RingFlags::DeferTaskrun {
        builder.setup_defer_taskrun();
    }
    builder.build(SUBMISSION_ENTRIES)
}

/// Makes attempts with fewer and fewer flags, and with pauses where memory is short.
///
/// `pause` waits about 100 ms and says whether to go on.
pub(crate) fn attempt<T>(
    mut make: impl FnMut(RingFlags) -> io::Result<T>,
    mut pause: impl FnMut() -> bool,
) -> Result<T, Refusal> {
    let mut retries = 0;
    for flags in [RingFlags::DeferTaskrun, RingFlags::SingleIssuer] {
        loop {
            let error = match make(flags) {
                Ok(ring) => return Ok(ring),
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            if error == libc::EINVAL {
                break;
            }
            if error != libc::ENOMEM || retries == MEMORY_RETRIES || !pause() {
                return Err(Refusal::from_errno(error));
            }
            retries += 1;
        }
    }
    Err(Refusal::TooOld)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn refusals_other_than_einval_and_enomem_end_the_attempts_at_once() {
        let cases = [
            (libc::EPERM, Refusal::NotPermitted),
            (libc::EACCES, Refusal::AccessDenied),
            (libc::ENOSYS, Refusal::NotImplemented),
            (libc::EMFILE, Refusal::Other(libc::EMFILE)),
        ];
        for (number, refusal) in cases {
            let mut attempts = 0;
            let result = attempt::<()>(
                |_| {
                    attempts += 1;
                    Err(errno(number))
                },
                || panic!("no pause"),
            );
            assert_eq!((result, attempts), (Err(refusal), 1));
        }
    }

    #[test]
    fn einval_is_answered_with_fewer_flags() {
        let mut tried = Vec::new();
        let result = attempt(
            |flags| {
                tried.push(flags);
                if flags == RingFlags::SingleIssuer { Ok(flags) } else { Err(errno(libc::EINVAL)) }
            },
            || panic!("no pause"),
        );
        assert_eq!(result, Ok(RingFlags::SingleIssuer));
        assert_eq!(tried, [RingFlags::DeferTaskrun, RingFlags::SingleIssuer]);
        let refused = attempt::<()>(|_| Err(errno(libc::EINVAL)), || panic!("no pause"));
        assert_eq!(refused, Err(Refusal::TooOld));
    }

    #[test]
    fn enomem_is_retried_ten_times() {
        let mut pauses = 0;
        let refused = attempt::<()>(
            |_| Err(errno(libc::ENOMEM)),
            || {
                pauses += 1;
                true
            },
        );
        assert_eq!((refused, pauses), (Err(Refusal::OutOfMemory), 10));

        let mut failures = 3;
        let built = attempt(
            |flags| {
                failures -= 1;
                if failures == 0 { Ok(flags) } else { Err(errno(libc::ENOMEM)) }
            },
            || true,
        );
        assert_eq!(built, Ok(RingFlags::DeferTaskrun));
    }

    #[test]
    fn pause_that_says_stop_ends_the_retries() {
        let refused = attempt::<()>(|_| Err(errno(libc::ENOMEM)), || false);
        assert_eq!(refused, Err(Refusal::OutOfMemory));
    }

    #[test]
    fn message_names_cause_fallback_and_page() {
        assert_eq!(
            Refusal::NotPermitted.fallback_message(),
            "io_uring refused (EPERM), using recvmmsg; likely a container seccomp profile or \
             kernel.io_uring_disabled, see docs/operations/io_uring.md"
        );
        assert_eq!(
            Refusal::Other(24).to_string(),
            "io_uring refused (error 24); see docs/operations/io_uring.md"
        );
    }
}
