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

mod portable;
#[cfg(target_arch = "x86_64")]
mod avx2;

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

#[cfg(test)]
mod tests;
