//! The classifier for CPUs with AVX-512 and its second set of byte instructions: 64 bytes per
//! instruction, and the offsets of a block in one.
//!
//! The look-ups are those of `avx2`. The gain is in the list: an instruction gathers the numbers of
//! the bits that are set, where others need three per bit (docs/decisions/014-stops-as-a-list.md).

use std::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm512_add_epi32, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_castsi512_si128, _mm512_cvtepu8_epi32, _mm512_loadu_si512, _mm512_maskz_compress_epi8,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_shuffle_epi8, _mm512_srli_epi16,
    _mm512_storeu_si512, _mm512_testn_epi8_mask,
};

use super::avx2::Halves;
use super::{BLOCK_BYTES, Datagram, Found, KeySet, OFFSETS_AT_ONCE};

/// The number of each byte in its block.
const NUMBERS: [u8; BLOCK_BYTES] = {
    let mut numbers = [0; BLOCK_BYTES];
    let (mut rest, mut number) = (numbers.as_mut_slice(), 0);
    while let [first, others @ ..] = rest {
        *first = number;
        number += 1;
        rest = others;
    }
    numbers
};

/// The proof that this CPU has the instructions: there is no other way to make one than to ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Detected(());

impl Detected {
    pub(super) fn ask() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi2")
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
    #[expect(unsafe_code, reason = "calls code compiled for AVX-512")]
    // SAFETY:
    // - the CPU has the instructions: the caller holds a `Detected`, which only `Detected::ask`
    //   makes, after it has asked the CPU.
    unsafe {
        classify_detected(datagrams, key_set, found);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi1,popcnt")]
fn classify_detected(datagrams: &[Datagram<'_>], key_set: KeySet, found: &mut Found) {
    let halves = Halves::of_set(key_set);
    let low = table(&halves.low);
    let high = table(&halves.high);
    let numbers = load(&NUMBERS);
    found.fill(
        datagrams,
        |chunk| stops(load(chunk), low, high),
        |bits, start, offsets| list(bits, start, numbers, offsets),
    );
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn stops(bytes: __m512i, low: __m512i, high: __m512i) -> u64 {
    let nibble = _mm512_set1_epi8(15);
    let low = _mm512_shuffle_epi8(low, _mm512_and_si512(bytes, nibble));
    let rows = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
    let high = _mm512_shuffle_epi8(high, rows);
    _mm512_testn_epi8_mask(low, high)
}

/// Writes `start` plus the number of each of the lowest bits that are set.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
fn list(bits: u64, start: u32, numbers: __m512i, offsets: &mut [u32; OFFSETS_AT_ONCE]) -> usize {
    let set = _mm512_castsi512_si128(_mm512_maskz_compress_epi8(bits, numbers));
    let start = _mm512_set1_epi32(start.cast_signed());
    let all = _mm512_add_epi32(_mm512_cvtepu8_epi32(set), start);
    #[expect(unsafe_code, reason = "vector store")]
    // SAFETY:
    // - in bounds: the array has exactly the 64 bytes that are written;
    // - alignment: the unaligned store asks for none.
    unsafe {
        _mm512_storeu_si512(offsets.as_mut_ptr().cast(), all);
    }
    OFFSETS_AT_ONCE
}

#[inline]
#[target_feature(enable = "avx512f")]
fn table(entries: &[u8; 16]) -> __m512i {
    #[expect(unsafe_code, reason = "vector load")]
    // SAFETY:
    // - in bounds: the array has exactly the 16 bytes that are read;
    // - alignment: the unaligned load asks for none.
    let quarter = unsafe { _mm_loadu_si128(entries.as_ptr().cast()) };
    _mm512_broadcast_i32x4(quarter)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(chunk: &[u8; BLOCK_BYTES]) -> __m512i {
    #[expect(unsafe_code, reason = "vector load")]
    // SAFETY:
    // - in bounds: the array has exactly the 64 bytes that are read;
    // - alignment: the unaligned load asks for none.
    unsafe {
        _mm512_loadu_si512(chunk.as_ptr().cast())
    }
}
