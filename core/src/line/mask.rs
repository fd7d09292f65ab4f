//! Where the delimiters of a datagram stand: one bit per byte, 64 bytes per block.
//!
//! First stage of the parser. The whole datagram is classified before anything is decided about it:
//! newlines, colons, pipes, and the bytes that may not stand in a key as they are (`unclean`). The
//! walk over the lines then works on these bits alone and looks at a byte only to read a number.
//!
//! The idea: a byte belongs to the key set if the entry of its low half in one table of 16 and the
//! entry of its high half in another share a bit. AVX2 looks up 32 bytes at once; the portable path
//! compares, in loops that a compiler turns into vector code where it can. Both give the same bits
//! for any content, and both mask the tail: the bits never depend on what lies behind the datagram.
//! A block is complete before it is stored: a short datagram is walked at once, and a CPU waits for
//! bits that were stored and then changed (10 ns per datagram).
//!
//! Limits: [`DATAGRAM_BYTES_MAX`] bytes, of a buffer that is readable for [`DATAGRAM_SLACK_BYTES`]
//! more. Not done here: grammar.

use crate::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_SLACK_BYTES};

/// Bytes that one block of bits describes.
const BLOCK_BYTES: usize = 64;

/// Blocks of the largest datagram, one for the newline behind its last byte, and one that stays
/// empty, so that a window that begins in the last block finds a neighbour.
const BLOCKS_MAX: usize = DATAGRAM_BYTES_MAX / BLOCK_BYTES + 2;

const _: () = assert!(BLOCK_BYTES <= DATAGRAM_SLACK_BYTES, "the last block reads into the slack");
const _: () = assert!(DATAGRAM_BYTES_MAX.is_multiple_of(BLOCK_BYTES));

/// The classes of 64 bytes: bit 0 is the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// `\n`, and the end of the datagram.
    pub(super) newline: u64,
    /// `:`.
    pub(super) colon: u64,
    /// `|`.
    pub(super) pipe: u64,
    /// Bytes that a key must be rewritten for.
    pub(super) unclean: u64,
}

/// The bytes that may stand in a key as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeySet {
    /// `A-Z a-z 0-9 _ - . ; =`: what key cleaning leaves.
    Sanitized,
    /// Every ASCII byte: keys are kept, and only their encoding is checked.
    Raw,
}

/// Which code classifies. Both give the same blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Classifier {
    /// Comparisons, on any CPU.
    Portable,
    /// 32 bytes at once; holds the proof that the CPU can.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Detected),
}

impl Classifier {
    /// The fastest one that this CPU runs.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(detected) = avx2::Detected::ask() {
            return Self::Avx2(detected);
        }
        Self::Portable
    }
}

/// The blocks of one datagram, in memory that is kept from datagram to datagram.
#[derive(Debug)]
pub(super) struct Index {
    blocks: Box<[Block]>,
    key_set: KeySet,
    classifier: Classifier,
}

impl Index {
    pub(super) fn new(key_set: KeySet, classifier: Classifier) -> Self {
        let blocks = vec![Block::default(); BLOCKS_MAX].into_boxed_slice();
        Self { blocks, key_set, classifier }
    }

    /// Classifies the first `len` bytes of `buffer`, and puts a newline behind them.
    ///
    /// # Panics
    /// If `len` is above [`DATAGRAM_BYTES_MAX`] or the slack is missing: both belong to whoever
    /// owns the buffer, not to the sender.
    #[inline]
    pub(super) fn build(&mut self, buffer: &[u8], len: usize) {
        assert!(len <= DATAGRAM_BYTES_MAX, "the buffers hold the largest datagram");
        assert!(len + DATAGRAM_SLACK_BYTES <= buffer.len(), "the slack lies behind the datagram");
        let (chunks, _) = buffer.as_chunks();
        let Some((full, [last, ..])) = chunks.split_at_checked(len / BLOCK_BYTES) else { return };
        let chunks = Chunks { full, last, last_bytes: len % BLOCK_BYTES };
        match self.classifier {
            Classifier::Portable => portable::classify(&chunks, self.key_set, &mut self.blocks),
            #[cfg(target_arch = "x86_64")]
            Classifier::Avx2(detected) => {
                avx2::classify(detected, &chunks, self.key_set, &mut self.blocks);
            }
        }
    }

    /// The classes of the 64 bytes from `at` on; `at` lies in the datagram of the last `build`.
    #[inline]
    pub(super) fn window(&self, at: usize) -> Block {
        let shift = at % BLOCK_BYTES;
        let Some([here, next]) = self.blocks.get(at / BLOCK_BYTES..).and_then(<[_]>::first_chunk)
        else {
            return Block::default();
        };
        // A shift by 64 is not defined, hence two steps where `shift` is 0.
        let join = |here: u64, next: u64| (here >> shift) | ((next << 1) << (63 - shift));
        Block {
            newline: join(here.newline, next.newline),
            colon: join(here.colon, next.colon),
            pipe: join(here.pipe, next.pipe),
            unclean: join(here.unclean, next.unclean),
        }
    }

    /// The first byte of a class at or behind `from` and before `limit`; `limit` if there is none.
    pub(super) fn next(&self, class: impl Fn(&Block) -> u64, from: usize, limit: usize) -> usize {
        let mut skip = !0 << (from % BLOCK_BYTES);
        let first = from / BLOCK_BYTES;
        for (index, block) in self.blocks.iter().enumerate().skip(first) {
            let start = index * BLOCK_BYTES;
            if limit <= start {
                break;
            }
            let bits = class(block) & skip;
            if bits != 0 {
                return limit.min(start + bits.trailing_zeros() as usize);
            }
            skip = !0;
        }
        limit
    }
}

/// A datagram as the classifiers take it.
struct Chunks<'d> {
    full: &'d [[u8; BLOCK_BYTES]],
    /// The end of the datagram, and slack.
    last: &'d [u8; BLOCK_BYTES],
    /// Bytes of `last` that belong to the datagram: fewer than a block.
    last_bytes: usize,
}

impl Block {
    /// What the first `bytes` bytes of the block say, and a newline behind them.
    #[inline]
    const fn ended_at(self, bytes: usize) -> Self {
        let end = 1_u64 << bytes;
        let inside = end - 1;
        Self {
            newline: self.newline & inside | end,
            colon: self.colon & inside,
            pipe: self.pipe & inside,
            unclean: self.unclean & inside,
        }
    }
}

mod portable;
#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! The classifier for CPUs with AVX2: 32 bytes per instruction.

    use std::arch::x86_64::{
        __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8,
        _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_setzero_si256,
        _mm256_shuffle_epi8, _mm256_srli_epi16,
    };

    use super::{BLOCK_BYTES, Block, Chunks, KeySet};

    /// A byte is clean if `low[byte & 15] & high[byte >> 4]` is not 0.
    #[derive(Clone, Copy, Debug)]
    struct Halves {
        low: [u8; 16],
        high: [u8; 16],
    }

    impl Halves {
        /// The look-up tables of a set.
        ///
        /// One bit per group of high halves that allow the same low halves: 1 = row 2 (`-` `.`),
        /// 2 = row 3 (digits, `;`, `=`), 4 = rows 4 and 6 (`A`-`O`, `a`-`o`), 8 = rows 5 and 7
        /// (`P`-`Z`, `p`-`z`), 16 = the rest of row 5 (`_`).
        const fn of(key_set: KeySet) -> Self {
            match key_set {
                KeySet::Sanitized => Self {
                    low: [10, 14, 14, 14, 14, 14, 14, 14, 14, 14, 12, 6, 4, 7, 5, 20],
                    high: [0, 0, 1, 2, 4, 8 | 16, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0],
                },
                KeySet::Raw => {
                    Self { low: [1; 16], high: [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0] }
                }
            }
        }
    }

    /// The proof that this CPU has AVX2: there is no other way to make one than to ask it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) struct Detected(());

    impl Detected {
        pub(super) fn ask() -> Option<Self> {
            is_x86_feature_detected!("avx2").then_some(Self(()))
        }
    }

    /// Classifies `chunks`.
    #[inline]
    pub(super) fn classify(
        _: Detected,
        chunks: &Chunks<'_>,
        key_set: KeySet,
        blocks: &mut [Block],
    ) {
        #[expect(unsafe_code, reason = "calls code compiled for AVX2")]
        // SAFETY:
        // - the CPU has AVX2: the caller holds a `Detected`, which only `Detected::ask` makes, after it
        //   has asked the CPU.
        unsafe {
            classify_detected(chunks, key_set, blocks);
        }
    }

    #[target_feature(enable = "avx2")]
    fn classify_detected(chunks: &Chunks<'_>, key_set: KeySet, blocks: &mut [Block]) {
        let halves = match key_set {
            KeySet::Sanitized => const { &Halves::of(KeySet::Sanitized) },
            KeySet::Raw => const { &Halves::of(KeySet::Raw) },
        };
        let low = table(&halves.low);
        let high = table(&halves.high);
        let mut blocks = blocks.iter_mut();
        for (chunk, found) in chunks.full.iter().zip(&mut blocks) {
            *found = block(chunk, low, high);
        }
        let end = block(chunks.last, low, high).ended_at(chunks.last_bytes);
        for (end, found) in [end, Block::default()].into_iter().zip(blocks) {
            *found = end;
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn block(chunk: &[u8; BLOCK_BYTES], low: __m256i, high: __m256i) -> Block {
        let (first, second) = load(chunk);
        Block {
            newline: join(equal(first, b'\n'), equal(second, b'\n')),
            colon: join(equal(first, b':'), equal(second, b':')),
            pipe: join(equal(first, b'|'), equal(second, b'|')),
            unclean: join(unclean(first, low, high), unclean(second, low, high)),
        }
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
    fn equal(bytes: __m256i, byte: u8) -> u32 {
        bits(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte.cast_signed())))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn unclean(bytes: __m256i, low: __m256i, high: __m256i) -> u32 {
        let nibble = _mm256_set1_epi8(15);
        let low = _mm256_shuffle_epi8(low, _mm256_and_si256(bytes, nibble));
        let rows = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble);
        let high = _mm256_shuffle_epi8(high, rows);
        bits(_mm256_cmpeq_epi8(_mm256_and_si256(low, high), _mm256_setzero_si256()))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn bits(bytes: __m256i) -> u32 {
        _mm256_movemask_epi8(bytes).cast_unsigned()
    }

    #[inline]
    fn join(first: u32, second: u32) -> u64 {
        u64::from(first) | u64::from(second) << 32
    }
}

#[cfg(test)]
mod tests;
