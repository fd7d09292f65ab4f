//! What a ring may be asked for, said to the kernel before the ring takes its first request.
//!
//! What a ring carries passes by seccomp, which sees `io_uring_enter` and not what is in the queue.
//! So each ring is made disabled, is told the few operations that `recv` uses, and is enabled only
//! then: a ring that fell into other hands could still receive, poll and cancel, but neither open,
//! write, connect nor send. The kernel keeps what it was told for the life of the ring.
//!
//! It costs one look at a bitmap per request, and a multishot is one request for thousands of
//! datagrams. A kernel that takes no restrictions (a seccomp profile may refuse them) serves as well
//! without; the log says so once per ring.

use std::io;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode};
use tracing::warn;

/// `IOSQE_BUFFER_SELECT`: the only flag that a request of ours has.
const BUFFER_SELECT: u8 = 1 << 5;

/// `IORING_UNREGISTER_PBUF_RING`: the buffers are taken back at the end.
const UNREGISTER_BUFFERS: u8 = 23;

/// `IORING_REGISTER_SYNC_CANCEL`: what is still armed at the end is taken back.
const SYNC_CANCEL: u8 = 24;

/// Restricts a ring that was made disabled and enables it, on the thread that will use it.
///
/// Everything that is registered with the ring for its life is registered before.
/// # Errors
/// The kernel's, when it does not enable the ring.
pub(super) fn restrict_and_enable(ring: &IoUring) -> io::Result<()> {
    if let Err(error) = restrict(ring) {
        warn!(%error, "the kernel takes no restrictions of a ring, going on without them");
    }
    ring.submitter().register_enable_rings()
}

fn restrict(ring: &IoUring) -> io::Result<()> {
    ring.submitter().register_restrictions(&mut [
        Restriction::sqe_op(opcode::RecvMulti::CODE),
        Restriction::sqe_op(opcode::RecvMsgMulti::CODE),
        Restriction::sqe_op(opcode::PollAdd::CODE),
        Restriction::sqe_op(opcode::AsyncCancel2::CODE),
        Restriction::sqe_flags_allowed(BUFFER_SELECT),
        Restriction::register_op(UNREGISTER_BUFFERS),
        Restriction::register_op(SYNC_CANCEL),
    ])
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use io_uring::types::Fd;

    use super::*;
    use crate::ring::probe::{RingFlags, build};

    /// The result of one request, on a ring that takes it or does not.
    fn result_of(ring: &mut IoUring, entry: &io_uring::squeue::Entry) -> i32 {
        #[expect(unsafe_code, reason = "a request refers to descriptors and memory by number")]
        // SAFETY: the requests of these tests refer to no memory, and to a descriptor that is open.
        unsafe { ring.submission().push(entry) }.unwrap();
        // Newer kernels end the submission with the error, all of them give a completion.
        drop(ring.submit_and_wait(1));
        ring.completion().next().expect("every request is answered").result()
    }

    fn disabled() -> Option<IoUring> {
        build(RingFlags::SingleIssuer).ok()
    }

    #[test]
    fn a_restricted_ring_refuses_what_receiving_does_not_need() {
        let Some(mut ring) = disabled() else { return };
        restrict_and_enable(&ring).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let fd = Fd(reader.as_raw_fd());
        for refused in [
            opcode::Nop::new().build(),
            opcode::Close::new(fd).build(),
            opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
            opcode::Fsync::new(fd).build(),
            opcode::PollAdd::new(fd, 0).build().flags(io_uring::squeue::Flags::IO_LINK),
        ] {
            assert_eq!(result_of(&mut ring, &refused), -libc::EACCES, "{refused:?}");
        }
        assert!(ring.submitter().register_eventfd(0).is_err(), "no other registration either");
        let nothing_there = opcode::AsyncCancel::new(7).build();
        assert_eq!(result_of(&mut ring, &nothing_there), -libc::ENOENT, "and serves on");
    }

    #[test]
    fn a_ring_that_takes_no_restrictions_is_enabled_without() {
        let Some(mut ring) = disabled() else { return };
        restrict(&ring).unwrap();
        let error = restrict(&ring).expect_err("a ring is restricted once");
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        // As at a kernel that refuses: logged, and enabled.
        restrict_and_enable(&ring).unwrap();
        assert_eq!(result_of(&mut ring, &opcode::AsyncCancel::new(7).build()), -libc::ENOENT);
    }

    #[test]
    fn a_ring_takes_nothing_before_it_is_enabled() {
        let Some(ring) = disabled() else { return };
        let error = ring.submitter().submit_and_wait(1).expect_err("the ring is disabled");
        assert_eq!(error.raw_os_error(), Some(libc::EBADFD));
    }
}
