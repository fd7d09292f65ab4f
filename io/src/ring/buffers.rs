//! The provided-buffer ring: memory lent to the kernel, which writes each datagram into the next
//! buffer and tells its id in the completion.
//!
//! The kernel and we share a ring of descriptors (address, length, id). We append at the tail, it
//! takes from the head. A completion hands one buffer back to us: that is a `Lease`. Whoever
//! holds the lease may read the buffer; `BufferRing::release` takes the lease by value, and
//! `BufferRing::publish` makes all buffers released since the last call visible to the kernel by
//! one `Release` store of the tail, once per batch.
//!
//! A buffer is in exactly one of three states: *lent* (appended, the kernel may write), *leased*
//! (ours to read) or *returning* (released, not yet published). `is_lent` keeps the first apart
//! from the others, and a completion for a buffer that is not lent stops the process: reading on
//! would be reading memory that the kernel writes.
//!
//! Limits: `BUFFER_COUNT` buffers, each with room for `DATAGRAM_BYTES_MAX` bytes and what the kernel
//! may write before them, so no datagram is ever cut. The
//! stride is an odd number of cache lines: an even one would crowd the first lines of all buffers
//! into a few cache sets (docs/references.md K4). Untouched pages cost nothing.
//! No incremental consumption (`IOU_PBUF_RING_INC`): it cuts datagrams silently.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use floe_core::limits::{BATCH_DATAGRAMS_MAX, DATAGRAM_BYTES_MAX, DATAGRAM_SLACK_BYTES};
use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::sys::Mapping;

/// Buffers of one ring: 256 re-armed without loss or cost, 16,384 cost 30 % in cache misses
/// (docs/references.md K3).
pub(crate) const BUFFER_COUNT: u16 = 256;

/// Room in each buffer for what comes before a datagram, bytes: a header and a control message.
pub(crate) const BUFFER_HEAD_BYTES: usize = CACHE_LINE_BYTES;

/// Distance between two buffers, bytes; a line more than is used, to make the number of lines odd.
pub(crate) const BUFFER_STRIDE_BYTES: usize =
    BUFFER_HEAD_BYTES + DATAGRAM_BYTES_MAX + DATAGRAM_SLACK_BYTES + CACHE_LINE_BYTES;

/// The only buffer group of a ring.
pub(crate) const BUFFER_GROUP: u16 = 0;

const CACHE_LINE_BYTES: usize = 64;
const DESCRIPTORS_BYTES: usize = BUFFER_COUNT as usize * size_of::<BufRingEntry>();

const _: () = assert!(BUFFER_COUNT.is_power_of_two() && BUFFER_COUNT <= 32_768);
const _: () = assert!(BUFFER_COUNT as usize <= BATCH_DATAGRAMS_MAX);
const _: () = assert!(BUFFER_STRIDE_BYTES.is_multiple_of(CACHE_LINE_BYTES));
const _: () = assert!((BUFFER_STRIDE_BYTES / CACHE_LINE_BYTES) % 2 == 1);
const _: () = assert!(BUFFER_STRIDE_BYTES <= u32::MAX as usize);

/// The right to read one buffer until it is released.
///
/// Neither `Copy` nor `Clone`: each completion makes one, each release ends one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease that is not released takes its buffer out of circulation"]
pub(crate) struct Lease {
    id: u16,
}

/// The descriptors and the buffers behind them, in one mapping each.
#[derive(Debug)]
pub(crate) struct BufferRing {
    descriptors: Mapping,
    buffers: Mapping,
    /// Buffers ever appended, modulo 65,536; the kernel sees it as of the last publication.
    tail: u16,
    is_lent: [bool; BUFFER_COUNT as usize],
    /// Bytes the kernel may write into each.
    lent_bytes: u32,
}

impl BufferRing {
    /// Maps the memory; nothing is lent before [`BufferRing::register`].
    ///
    /// `head_bytes`: what the kernel writes before each datagram, at most `BUFFER_HEAD_BYTES`.
    pub(crate) fn new(head_bytes: usize) -> io::Result<Self> {
        assert!(head_bytes <= BUFFER_HEAD_BYTES, "a head of {head_bytes} bytes");
        let lent_bytes = u32::try_from(head_bytes + DATAGRAM_BYTES_MAX).expect("asserted above");
        Ok(Self {
            descriptors: Mapping::new(DESCRIPTORS_BYTES)?,
            buffers: Mapping::new(usize::from(BUFFER_COUNT) * BUFFER_STRIDE_BYTES)?,
            tail: 0,
            is_lent: [false; BUFFER_COUNT as usize],
            lent_bytes,
        })
    }

    /// Makes the ring known to the kernel and lends all buffers.
    ///
    /// The caller keeps `self` until the io_uring is closed or the group unregistered.
    pub(crate) fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.descriptors.at(0).as_ptr() as u64;
        #[expect(unsafe_code, reason = "hands memory to the kernel")]
        // SAFETY:
        // - valid for BUFFER_COUNT descriptors, page-aligned: `descriptors` is a mapping of that
        //   size;
        // - valid until the ring is destroyed: RingReceive owns both, and declares the ring first,
        //   so that it is dropped first; its `drop` unregisters the group before that.
        unsafe { submitter.register_buf_ring_with_flags(address, BUFFER_COUNT, BUFFER_GROUP, 0) }?;
        self.lend_all();
        Ok(())
    }

    /// Lends every buffer for the first time.
    pub(crate) fn lend_all(&mut self) {
        assert_eq!(self.tail, 0, "lent once");
        for id in 0..BUFFER_COUNT {
            self.append(id);
        }
        self.publish();
    }

    /// The lease of the buffer a completion names.
    ///
    /// # Panics
    /// If the kernel names a buffer it does not have: its memory could be written under us.
    pub(crate) fn lease(&mut self, id: u16) -> Lease {
        let is_lent = self.is_lent.get_mut(usize::from(id));
        assert!(is_lent.is_some_and(std::mem::take), "the kernel returned buffer {id}, not lent");
        Lease { id }
    }

    /// The buffer with its slack; the datagram is its first bytes, the rest is unspecified.
    pub(crate) fn read(&self, lease: &Lease) -> &[u8] {
        let offset = usize::from(lease.id) * BUFFER_STRIDE_BYTES;
        #[expect(unsafe_code, reason = "slice over a kernel-filled buffer")]
        // SAFETY:
        // - not written while borrowed: the lease says that the kernel gave this buffer back, and
        //   it gets it again only by `publish` after `release`, which need `&mut self`; no lease
        //   exists for a buffer that is lent, asserted in `lease`.
        unsafe {
            self.buffers.slice(offset, BUFFER_STRIDE_BYTES)
        }
    }

    /// Takes a buffer back; the kernel sees it with the next publication.
    pub(crate) fn release(&mut self, lease: Lease) {
        self.append(lease.id);
    }

    /// Shows all released buffers to the kernel.
    pub(crate) fn publish(&mut self) {
        let base = self.descriptors.at(0).as_ptr().cast_const().cast::<BufRingEntry>();
        #[expect(unsafe_code, reason = "the address of the tail inside the first descriptor")]
        // SAFETY:
        // - the pointer is the first descriptor of the ring, alive and zero-initialised.
        let tail = unsafe { BufRingEntry::tail(base) };
        #[expect(unsafe_code, reason = "the tail is shared with the kernel")]
        // SAFETY:
        // - valid for reads and writes while the reference lives: inside `descriptors`, owned;
        // - aligned for AtomicU16: byte 14 of a 16-byte descriptor on a page boundary;
        // - no unsynchronised access: we are its only writer, and `append` sets other fields.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: pairs with the kernel's acquire load of the tail in its buffer selection; the
        // descriptors written by `append` are visible before the count that covers them.
        tail.store(self.tail, Ordering::Release);
    }

    /// Writes the descriptor of buffer `id` at the tail.
    // Always inline: the call and what it saves cost twice as much as the rest, for every datagram.
    #[inline(always)]
    fn append(&mut self, id: u16) {
        let slot = usize::from(self.tail % BUFFER_COUNT);
        let address = self.buffers.at(usize::from(id) * BUFFER_STRIDE_BYTES).as_ptr() as u64;
        let entry = self.descriptors.at(slot * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        #[expect(unsafe_code, reason = "a descriptor in memory shared with the kernel")]
        // SAFETY:
        // - valid and aligned: `slot` is below BUFFER_COUNT, descriptors are 16 bytes on a page;
        // - not read by the kernel meanwhile: it reads only below the published tail, and at most
        //   BUFFER_COUNT buffers are ever appended and not consumed;
        // - no other reference: `&mut self`, and none outlives a call.
        let entry = unsafe { &mut *entry.as_ptr() };
        // Field by field: the tail itself lies in the unused field of descriptor 0.
        entry.set_addr(address);
        entry.set_len(self.lent_bytes);
        entry.set_bid(id);
        self.is_lent[usize::from(id)] = true;
        self.tail = self.tail.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent() -> BufferRing {
        let mut ring = BufferRing::new(0).unwrap();
        ring.lend_all();
        ring
    }

    fn published_tail(ring: &BufferRing) -> u16 {
        #[expect(unsafe_code, reason = "reads descriptors that no kernel knows of")]
        // SAFETY:
        // - this ring was never registered, so nobody writes it during the test.
        let bytes = unsafe { ring.descriptors.slice(14, 2) };
        u16::from_ne_bytes(bytes.try_into().unwrap())
    }

    #[test]
    fn tail_is_published_once_per_batch_and_counts_beyond_the_ring() {
        let mut ring = lent();
        assert_eq!(published_tail(&ring), 256);
        for id in [7, 3] {
            let lease = ring.lease(id);
            ring.release(lease);
        }
        assert_eq!(published_tail(&ring), 256);
        ring.publish();
        assert_eq!(published_tail(&ring), 258);
    }

    #[test]
    fn refilling_the_first_slot_keeps_the_tail() {
        let mut ring = lent();
        let lease = ring.lease(9);
        ring.release(lease);
        assert_eq!(published_tail(&ring), 256, "slot 0 was rewritten, the tail was not");
    }

    #[test]
    fn tail_wraps_at_65_536() {
        let mut ring = lent();
        for _ in 256..65_536 {
            let lease = ring.lease(1);
            ring.release(lease);
        }
        ring.publish();
        assert_eq!(published_tail(&ring), 0);
        let lease = ring.lease(1);
        ring.release(lease);
        ring.publish();
        assert_eq!(published_tail(&ring), 1);
    }

    #[test]
    fn leased_buffer_is_read_with_its_slack() {
        let mut ring = lent();
        let (first, last) = (ring.lease(0), ring.lease(BUFFER_COUNT - 1));
        assert_eq!(ring.read(&first).len(), BUFFER_STRIDE_BYTES);
        let distance = ring.read(&last).as_ptr() as usize - ring.read(&first).as_ptr() as usize;
        assert_eq!(distance, 255 * BUFFER_STRIDE_BYTES);
        let needed = BUFFER_HEAD_BYTES + DATAGRAM_BYTES_MAX + DATAGRAM_SLACK_BYTES;
        assert!(needed <= BUFFER_STRIDE_BYTES);
        ring.release(last);
        ring.release(first);
    }

    #[test]
    #[should_panic(expected = "returned buffer 4, not lent")]
    fn second_lease_of_a_buffer_stops_the_process() {
        let mut ring = lent();
        let first = ring.lease(4);
        let second = ring.lease(4);
        assert_ne!(first, second);
    }

    #[test]
    #[should_panic(expected = "returned buffer 256, not lent")]
    fn unknown_buffer_stops_the_process() {
        drop(lent().lease(BUFFER_COUNT));
    }
}
