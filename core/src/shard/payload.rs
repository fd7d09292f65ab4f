//! Owned values behind the 64-bit payload of a slot.
//!
//! A counter's payload is its sum; a timer's, gauge's and set's is a pointer to a box. The box
//! belongs to whoever may touch the generation it stands in: to the worker while the epoch is its
//! own, to the coordinator once the generation is sealed. The worker never looks at the payload of
//! a generation it has left (a stamp that is not its epoch's is overwritten, never read), the
//! coordinator takes each sealed payload exactly once; so every box has one owner at every moment.

use std::ptr;

use crate::cache::prefetch_lines;
use crate::series::pool::Chunk;

/// Gives a box away as a payload.
pub(super) fn into_payload<T>(value: Box<T>) -> u64 {
    Box::into_raw(value).expose_provenance() as u64
}

/// Takes the box back.
///
/// # Safety
/// - `payload` came from [`into_payload`] with the same `T`;
/// - it is taken once, and nobody borrows it by [`payload_mut`] meanwhile;
/// - the caller's thread owns the generation it stood in.
#[expect(unsafe_code, reason = "a box travels through an atomic word")]
pub(super) unsafe fn take_payload<T>(payload: u64) -> Box<T> {
    let pointer = ptr::with_exposed_provenance_mut(address(payload));
    // SAFETY: all three obligations are passed on to the caller.
    unsafe { Box::from_raw(pointer) }
}

/// Borrows the box in place.
///
/// # Safety
/// As [`take_payload`], and the borrow ends before the payload is taken or borrowed again.
#[expect(unsafe_code, reason = "a box is used in place through an atomic word")]
pub(super) unsafe fn payload_mut<'a, T>(payload: u64) -> &'a mut T {
    let pointer = ptr::with_exposed_provenance_mut::<T>(address(payload));
    // SAFETY: passed on to the caller; a box is never null and always aligned.
    unsafe { &mut *pointer }
}

/// Asks the cache for what lies behind a payload: a chunk, or the head of a set.
#[inline(always)]
pub(super) fn prefetch_payload(payload: u64) {
    prefetch_lines(ptr::without_provenance(address(payload)), size_of::<Chunk>());
}

#[expect(clippy::cast_possible_truncation, reason = "it was a usize before")]
const fn address(payload: u64) -> usize {
    payload as usize
}

const _: () = assert!(size_of::<usize>() == size_of::<u64>(), "payloads carry pointers");
