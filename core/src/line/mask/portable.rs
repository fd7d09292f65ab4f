//! The classifier for every CPU.
//!
//! A comparison of 64 bytes gives 64 times 0 or 1; a multiplication then moves the ones of eight bytes
//! into one.

use super::super::key;
use super::{BLOCK_BYTES, Datagram, Found, KeySet, list};

pub(super) fn classify(datagrams: &[Datagram<'_>], key_set: KeySet, found: &mut Found) {
    match key_set {
        KeySet::Sanitized => {
            found.fill(datagrams, |chunk| bits(chunk, |byte| !key::is_clean(byte)), list);
        }
        KeySet::Raw => found.fill(datagrams, |chunk| bits(chunk, is_raw_stop), list),
    }
}

const fn is_raw_stop(byte: u8) -> bool {
    (byte == b'\n') | (byte == b':') | (byte == b'|') | !byte.is_ascii()
}

#[inline]
fn bits(chunk: &[u8; BLOCK_BYTES], is_in: impl Fn(u8) -> bool) -> u64 {
    let flags = chunk.map(|byte| u8::from(is_in(byte)));
    let (words, _) = flags.as_chunks::<8>();
    words.iter().rev().fold(0, |bits, word| bits << 8 | gather(u64::from_le_bytes(*word)))
}

/// The lowest bits of eight bytes as one byte; the other bits are 0.
///
/// Byte `i` adds `1 << (8 * i)` times the factor, whose bit `56 - 7 * i` lands on bit `56 + i`; no two
/// products of the rest meet there.
#[inline]
const fn gather(flags: u64) -> u64 {
    flags.wrapping_mul(0x0102_0408_1020_4080) >> 56
}
