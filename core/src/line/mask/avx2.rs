//! The classifier for CPUs with AVX2: 32 bytes per instruction.
//!
//! A byte's two halves are looked up in two tables of 16, as the head of `mask` says. Gives the
//! same bits as `portable` for any content. What needs the instructions is safe code under
//! `target_feature`; only the loads, and the one call from code compiled for any CPU, are not.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8,
    _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_srli_epi16,
};

use super::{BLOCK_BYTES, Datagram, Found, KeySet, list};

/// A byte is clean if `low[byte & 15] & high[byte >> 4]` is not 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halves {
    pub(super) low: [u8; 16],
    pub(super) high: [u8; 16],
}

impl Halves {
    /// The look-up tables of a set.
    pub(super) fn of_set(key_set: KeySet) -> &'static Self {
        match key_set {
            KeySet::Sanitized => const { &Self::of(KeySet::Sanitized) },
            KeySet::Raw => const { &Self::of(KeySet::Raw) },
        }
    }

    /// One bit per group of high halves that allow the same low halves: 1 = row 2 (`-` `.`),
    /// 2 = row 3 (digits, `;`, `=`), 4 = rows 4 and 6 (`A`-`O`, `a`-`o`), 8 = rows 5 and 7
    /// (`P`-`Z`, `p`-`z`), 16 = the rest of row 5 (`_`).
    const fn of(key_set: KeySet) -> Self {
        match key_set {
            KeySet::Sanitized => Self {
                low: [10, 14, 14, 14, 14, 14, 14, 14, 14, 14, 12, 6, 4, 7, 5, 20],
                high: [0, 0, 1, 2, 4, 8 | 16, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0],
            },
            // 1 = rows 0 and 3 (all but newline and colon), 2 = row 7 (all but the pipe), 4 = the
            // other rows of ASCII.
            KeySet::Raw => Self {
                low: [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 7, 5, 7, 7, 7],
                high: [1, 4, 4, 1, 4, 4, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0],
            },
        }
    }
}

/// The proof that this CPU has AVX2 and what came with it: there is no other way to make one than to ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Detected(());

impl Detected {
    pub(super) fn ask() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("popcnt");
        has_all.then_some(Self(()))
    }
}

/// Classifies the first of `datagrams`.
#[inline]
pub(super) fn classify(
    _: Detected,
    datagrams: &[Datagram<'_>],
    key_set: KeySet,
    found: &mut Found,
) {
    #[expect(unsafe_code, reason = "calls code compiled for AVX2 and what comes with it")]
    // SAFETY:
    // - the CPU has the instructions: the caller holds a `Detected`, which only `Detected::ask`
    //   makes, after it has asked the CPU.
    unsafe {
        classify_detected(datagrams, key_set, found);
    }
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn classify_detected(datagrams: &[Datagram<'_>], key_set: KeySet, found: &mut Found) {
    let halves = Halves::of_set(key_set);
    let low = table(&halves.low);
    let high = table(&halves.high);
    found.fill(datagrams, |chunk| stops(chunk, low, high), list);
}

#[inline]
#[target_feature(enable = "avx2")]
fn stops(chunk: &[u8; BLOCK_BYTES], low: __m256i, high: __m256i) -> u64 {
    let (first, second) = load(chunk);
    let (first, second) = (stops_of_half(first, low, high), stops_of_half(second, low, high));
    u64::from(first) | u64::from(second) << 32
}

#[inline]
#[target_feature(enable = "avx2")]
fn table(entries: &[u8; 16]) -> __m256i {
    #[expect(unsafe_code, reason = "vector load")]
    // SAFETY:
    // - in bounds: the array has exactly the 16 bytes that are read;
    // - alignment: the unaligned load asks for none.
    let half = unsafe { _mm_loadu_si128(entries.as_ptr().cast()) };
    _mm256_broadcastsi128_si256(half)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(chunk: &[u8; BLOCK_BYTES]) -> (__m256i, __m256i) {
    let (first, second) = chunk.split_at(32);
    #[expect(unsafe_code, reason = "vector load")]
    // SAFETY:
    // - in bounds: `first` has 32 bytes, as many as are read;
    // - alignment: the unaligned load asks for none.
    let first = unsafe { _mm256_loadu_si256(first.as_ptr().cast()) };
    #[expect(unsafe_code, reason = "vector load")]
    // SAFETY:
    // - in bounds: `second` has the other 32 of the 64 bytes, as many as are read;
    // - alignment: the unaligned load asks for none.
    let second = unsafe { _mm256_loadu_si256(second.as_ptr().cast()) };
    (first, second)
}

#[inline]
#[target_feature(enable = "avx2")]
fn stops_of_half(bytes: __m256i, low: __m256i, high: __m256i) -> u32 {
    let nibble = _mm256_set1_epi8(15);
    let low = _mm256_shuffle_epi8(low, _mm256_and_si256(bytes, nibble));
    let rows = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble);
    let high = _mm256_shuffle_epi8(high, rows);
    let is_stop = _mm256_cmpeq_epi8(_mm256_and_si256(low, high), _mm256_setzero_si256());
    _mm256_movemask_epi8(is_stop).cast_unsigned()
}
