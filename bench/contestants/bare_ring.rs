//! The bare multishot loop over io_uring: one `RecvMulti`, a ring of provided buffers, and a wait
//! that sleeps `min_wait` and then takes all there is (docs/references.md K3).
//!
//! Independent of floe's own ring on purpose: it is the yardstick.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use rustix::io::Errno;

use super::bare_loop::{BUFFER_BYTES, IDLE_LIMIT, Post, newlines};

/// Provided buffers.
const BUFFERS: u16 = 1_024;

/// Completions a wait asks for.
const WANT: usize = 32;

/// The sleep before a wait takes fewer, µs.
const MIN_WAIT_US: u32 = 200;

/// The only buffer group.
const GROUP: u16 = 0;

/// Memory on a page boundary.
#[repr(C, align(4096))]
#[derive(Clone)]
struct PageOfDescriptors([u8; 4096]);

/// Descriptors and buffers that are shared with the kernel.
struct Buffers {
    /// Reached by `entries` alone once the kernel knows it.
    _pages: Vec<PageOfDescriptors>,
    /// Reached by `start` alone.
    _memory: Vec<[u8; BUFFER_BYTES]>,
    entries: *mut BufRingEntry,
    start: *mut [u8; BUFFER_BYTES],
    tail: u16,
}

impl Buffers {
    fn new() -> Self {
        let bytes = usize::from(BUFFERS) * size_of::<BufRingEntry>();
        let mut pages = vec![PageOfDescriptors([0; 4096]); bytes.div_ceil(4096)];
        // Written, not merely reserved: the page faults come before the measurement.
        let mut memory = vec![[1_u8; BUFFER_BYTES]; BUFFERS.into()];
        let (entries, start) = (pages.as_mut_ptr().cast(), memory.as_mut_ptr());
        Self { _pages: pages, _memory: memory, entries, start, tail: 0 }
    }

    fn register(&mut self, ring: &IoUring) -> io::Result<()> {
        let submitter = ring.submitter();
        #[expect(unsafe_code, reason = "hands memory to the kernel")]
        // SAFETY:
        // - BUFFERS descriptors on a page boundary: `pages` has room for as many;
        // - valid until the ring is closed: `run` declares the buffers first, so they go last, and takes
        //   the group back before.
        unsafe { submitter.register_buf_ring_with_flags(self.entries as u64, BUFFERS, GROUP, 0) }?;
        (0..BUFFERS).for_each(|id| self.lend(id));
        self.publish();
        Ok(())
    }

    /// Appends buffer `id`; the kernel sees it with the next publication.
    fn lend(&mut self, id: u16) {
        let entry = self.entries.wrapping_add(usize::from(self.tail % BUFFERS));
        #[expect(unsafe_code, reason = "a descriptor in memory shared with the kernel")]
        // SAFETY:
        // - in bounds and aligned: one of BUFFERS descriptors of `pages`;
        // - not read by the kernel: it lies above the published tail;
        // - no other reference: `&mut self`, and this one ends with the function.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.start.wrapping_add(usize::from(id)) as u64);
        entry.set_len(u32::try_from(BUFFER_BYTES).expect("2 KiB"));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        #[expect(unsafe_code, reason = "the address of the tail inside the first descriptor")]
        // SAFETY:
        // - the pointer is the first descriptor of the ring, alive.
        let tail = unsafe { BufRingEntry::tail(self.entries) };
        #[expect(unsafe_code, reason = "the tail is shared with the kernel")]
        // SAFETY:
        // - alive and aligned: byte 14 of a descriptor on a page boundary;
        // - we are its only writer; `lend` sets other fields.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: pairs with the kernel's acquire load; the descriptors come before the count.
        tail.store(self.tail, Ordering::Release);
    }

    /// Newlines in the first `len` bytes of buffer `id`, which the kernel has given back.
    fn newlines(&self, id: u16, len: usize) -> u64 {
        assert!(id < BUFFERS && len <= BUFFER_BYTES, "the kernel names a buffer it was given");
        let start = self.start.wrapping_add(usize::from(id)).cast::<u8>();
        #[expect(unsafe_code, reason = "slice over a kernel-filled buffer")]
        // SAFETY:
        // - in bounds: asserted above; initialised in `new`;
        // - not written meanwhile: its completion was seen, and `lend` comes after this.
        let datagram = unsafe { std::slice::from_raw_parts(start, len) };
        newlines(datagram)
    }
}

/// Receives until it is told to stop.
pub(crate) fn run(post: &Post) -> io::Result<()> {
    let mut buffers = Buffers::new();
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(4_096)
        .build(64)?;
    buffers.register(&ring)?;
    let result = receive(&mut ring, &mut buffers, post);
    // After this the kernel knows no buffer of ours, whatever becomes of the closing ring. Both fail
    // only where there is nothing to take back.
    let limit = Timespec::from(IDLE_LIMIT);
    ring.submitter().register_sync_cancel(Some(limit), CancelBuilder::any()).ok();
    ring.submitter().unregister_buf_ring(GROUP).ok();
    result
}

fn receive(ring: &mut IoUring, buffers: &mut Buffers, post: &Post) -> io::Result<()> {
    let mut is_armed = false;
    let limit = Timespec::from(IDLE_LIMIT);
    let arguments = SubmitArgs::new().timespec(&limit).min_wait_usec(MIN_WAIT_US);
    post.tell_ready();
    while !post.counts.has_to_stop() {
        if !is_armed {
            arm(ring, post)?;
            is_armed = true;
        }
        match ring.submitter().submit_with_args(WANT, &arguments) {
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        let (mut datagrams, mut found) = (0, 0);
        for completion in ring.completion() {
            is_armed &= cqueue::more(completion.flags());
            if let Some(id) = cqueue::buffer_select(completion.flags()) {
                let len = usize::try_from(completion.result()).unwrap_or(0);
                datagrams += 1;
                found += buffers.newlines(id, len);
                buffers.lend(id);
            } else if completion.result() != -libc::ENOBUFS {
                return Err(io::Error::from_raw_os_error(-completion.result()));
            }
        }
        buffers.publish();
        post.counts.add(datagrams, found);
    }
    Ok(())
}

fn arm(ring: &mut IoUring, post: &Post) -> io::Result<()> {
    let receive = opcode::RecvMulti::new(Fd(post.socket.as_raw_fd()), GROUP).build();
    #[expect(unsafe_code, reason = "hands a request to the kernel")]
    // SAFETY:
    // - the socket stays open until the ring is gone: `post` outlives `run`;
    // - the request holds no pointer; its buffers are known by their group.
    let pushed = unsafe { ring.submission().push(&receive) };
    pushed.map_err(|_| io::Error::other("the submission queue is full"))
}

/// Errors of a wait that mean nothing.
fn is_passing(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN))
}
