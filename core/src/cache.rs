//! The cache, asked ahead.
//!
//! A series is somewhere in a hundred megabytes: what a line needs is asked of the cache as soon as its
//! place is known, and used some lines later. Prefetching reads nothing and changes nothing; where the
//! CPU has no such instruction it is left out.

/// Bytes of a line of the cache.
const LINE_BYTES: usize = 64;

/// Asks for the `bytes` bytes from `first` on, which may be any address.
#[inline(always)]
pub(crate) fn prefetch_lines(first: *const u8, bytes: usize) {
    for offset in (0..bytes).step_by(LINE_BYTES) {
        prefetch_line(first.wrapping_add(offset));
    }
}

#[inline(always)]
fn prefetch_line(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(unsafe_code, reason = "a prefetch is an intrinsic")]
        // SAFETY: a prefetch reads nothing architecturally and cannot fault.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
