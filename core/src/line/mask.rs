//! Where the delimiters of a datagram stand, and which of its bytes no key may hold as they are.
//!
//! First stage of the parser. The whole datagram is classified before anything is decided about it,
//! 64 bytes at a time: delimiters (newlines, colons, pipes), and the bytes that may not stand in a
//! key as they are (`unclean`). The bits of the delimiters become a list of offsets at once; the
//! walk over the lines then goes along that list, and looks at a byte only to tell one delimiter
//! from another and to read a number.
//!
//! The idea: a byte belongs to the key set if the entry of its low half in one table of 16 and the
//! entry of its high half in another share a bit. AVX2 looks up 32 bytes at once, AVX-512 64; the
//! portable path compares, in loops that a compiler turns into vector code where it can. All give the
//! same bits for any content, and mask the tail: the bits never depend on what lies behind the
//! datagram. Offsets are written eight or sixteen at a time, however many there are: a loop that ended
//! with the bits would end unforeseen in nearly every block, at twenty cycles each.
//!
//! Limits: `DATAGRAM_BYTES_MAX` bytes, of a buffer that is readable for `DATAGRAM_SLACK_BYTES`
//! more. Not done here: grammar.

mod portable;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_SLACK_BYTES};

/// Bytes that one block of bits describes.
const BLOCK_BYTES: usize = 64;

/// Bytes that a window of unclean bits speaks of at the least: 64 bits, less those of its first byte
/// that lie before it.
const WINDOW_BYTES: usize = 64 - 7;

/// Bits for each byte of the largest datagram, for the block of the newline behind it, and for the
/// windows that begin in them.
const UNCLEAN_BYTES_MAX: usize = DATAGRAM_BYTES_MAX / 8 + 2 * size_of::<u64>();

/// Offsets written at once, at the most.
const OFFSETS_AT_ONCE: usize = 16;

/// Delimiters of a regular line at the most: a colon, two pipes and its newline.
const DELIMITERS_OF_LINE: usize = 4;

/// Offsets of a datagram of delimiters alone, of the newline behind it, and room to write in vain.
const OFFSETS_MAX: usize = DATAGRAM_BYTES_MAX + 1 + OFFSETS_AT_ONCE;

const _: () = assert!(BLOCK_BYTES <= DATAGRAM_SLACK_BYTES, "the last block reads into the slack");
const _: () = assert!(DATAGRAM_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(DELIMITERS_OF_LINE <= OFFSETS_AT_ONCE);

/// The bytes that may stand in a key as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeySet {
    /// `A-Z a-z 0-9 _ - . ; =`: what key cleaning leaves.
    Sanitized,
    /// Every ASCII byte: keys are kept, and only their encoding is checked.
    Raw,
}

/// Which code classifies. All find the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Classifier {
    /// Comparisons, on any CPU.
    Portable,
    /// 32 bytes at once; holds the proof that the CPU can.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Detected),
    /// 64 bytes at once; likewise.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Detected),
}

impl Classifier {
    /// The fastest one that this CPU runs.
    pub(super) fn detect() -> Self {
        Self::supported().last().unwrap_or(Self::Portable)
    }

    /// All that this CPU runs, the fastest one last.
    fn supported() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vectored =
            [avx2::Detected::ask().map(Self::Avx2), avx512::Detected::ask().map(Self::Avx512)];
        #[cfg(not(target_arch = "x86_64"))]
        let vectored = [];
        std::iter::once(Self::Portable).chain(vectored.into_iter().flatten())
    }
}

/// The delimiters and unclean bytes of one datagram, in memory that is kept from one to the next.
#[derive(Debug)]
pub(super) struct Index {
    found: Found,
    key_set: KeySet,
    classifier: Classifier,
}

impl Index {
    pub(super) fn new(key_set: KeySet, classifier: Classifier) -> Self {
        let found = Found::new();
        Self { found, key_set, classifier }
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
            Classifier::Portable => portable::classify(&chunks, self.key_set, &mut self.found),
            #[cfg(target_arch = "x86_64")]
            Classifier::Avx2(detected) => {
                avx2::classify(detected, &chunks, self.key_set, &mut self.found);
            }
            #[cfg(target_arch = "x86_64")]
            Classifier::Avx512(detected) => {
                avx512::classify(detected, &chunks, self.key_set, &mut self.found);
            }
        }
    }

    /// Offsets of four delimiters of the last `build`, ascending, from the one numbered `first` on.
    ///
    /// The newline behind the datagram stands for every one that is not there.
    #[inline]
    pub(super) fn delimiters(&self, first: usize) -> [usize; DELIMITERS_OF_LINE] {
        let offsets = run(&self.found.offsets, first).copied().unwrap_or_default();
        offsets.map(|offset| offset as usize)
    }

    /// Whether a key may hold the bytes from `start` to `end` of the last `build` as they are.
    #[inline]
    pub(super) fn is_clean(&self, start: usize, end: usize) -> bool {
        let mut start = start;
        loop {
            let clean = self.unclean_from(start).trailing_zeros() as usize;
            let count = end - start;
            if count <= WINDOW_BYTES {
                return count <= clean;
            }
            if clean < WINDOW_BYTES {
                return false;
            }
            start += WINDOW_BYTES;
        }
    }

    /// The unclean ones of the [`WINDOW_BYTES`] bytes from `at` on, and of some more.
    #[inline]
    fn unclean_from(&self, at: usize) -> u64 {
        let word = run(&self.found.unclean, at / 8).copied().unwrap_or_default();
        u64::from_le_bytes(word) >> (at % 8)
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

/// The classes of 64 bytes: bit 0 is the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Block {
    /// `\n`, `:` and `|`.
    delimiter: u64,
    /// Bytes that a key must be rewritten for.
    unclean: u64,
}

/// What a classifier fills.
#[derive(Debug)]
struct Found {
    /// Offsets of the delimiters, ascending.
    offsets: Box<[u32; OFFSETS_MAX]>,
    /// How many of them count.
    offset_count: usize,
    /// A bit for each byte, set for the unclean ones.
    unclean: Box<[u8; UNCLEAN_BYTES_MAX]>,
}

impl Found {
    fn new() -> Self {
        // By way of vectors: an array in a box would be made on the stack.
        let offsets = vec![0; OFFSETS_MAX].into_boxed_slice().try_into();
        let unclean = vec![0; UNCLEAN_BYTES_MAX].into_boxed_slice().try_into();
        Self {
            offsets: offsets.expect("made of that length"),
            offset_count: 0,
            unclean: unclean.expect("made of that length"),
        }
    }

    /// Takes what `classify` says of every block of a datagram; `list` writes the offsets of the lowest
    /// bits of a block that begins at some byte, and says of how many.
    // Always inline: it becomes part of code that is compiled for the CPU's own instructions.
    #[inline(always)]
    fn fill(
        &mut self,
        chunks: &Chunks<'_>,
        classify: impl Fn(&[u8; BLOCK_BYTES]) -> Block,
        list: impl Fn(u64, u32, &mut [u32; OFFSETS_AT_ONCE]) -> usize,
    ) {
        self.offset_count = 0;
        let mut start = 0;
        for chunk in chunks.full {
            self.push(start, classify(chunk), &list);
            start += BLOCK_BYTES;
        }
        let inside = (1_u64 << chunks.last_bytes) - 1;
        let last = classify(chunks.last);
        let newline = inside + 1;
        let last =
            Block { delimiter: last.delimiter & inside | newline, unclean: last.unclean & inside };
        self.push(start, last, &list);
        self.put_unclean(start + BLOCK_BYTES, 0);
        let end = offset(start + chunks.last_bytes);
        if let Some(behind) = run_mut(&mut self.offsets, self.offset_count) {
            *behind = [end; DELIMITERS_OF_LINE];
        }
    }

    /// Takes the block that begins at byte `start`.
    #[inline(always)]
    fn push(
        &mut self,
        start: usize,
        block: Block,
        list: impl Fn(u64, u32, &mut [u32; OFFSETS_AT_ONCE]) -> usize,
    ) {
        self.put_unclean(start, block.unclean);
        let bits = block.delimiter;
        let count = bits.count_ones() as usize;
        let first = self.offset_count;
        self.offset_count += count;
        let at_once = run_mut(&mut self.offsets, first);
        let listed = at_once.map_or(0, |at_once| list(bits, offset(start), at_once));
        if listed < count {
            let places = self.offsets.get_mut(first..self.offset_count).unwrap_or_default();
            list_each(bits, offset(start), places);
        }
    }

    /// Notes the unclean ones of the 64 bytes from `start` on.
    #[inline(always)]
    fn put_unclean(&mut self, start: usize, bits: u64) {
        if let Some(place) = run_mut(&mut self.unclean, start / 8) {
            *place = bits.to_le_bytes();
        }
    }
}

/// `N` of `all` from `first` on, which is never later than where they are the last ones: said here, so
/// that the compiler need not look.
#[inline(always)]
fn run<T, const N: usize, const ALL: usize>(all: &[T; ALL], first: usize) -> Option<&[T; N]> {
    all.get(first.min(ALL - N)..).and_then(<[_]>::first_chunk)
}

/// The same, to be written.
#[inline(always)]
fn run_mut<T, const N: usize, const ALL: usize>(
    all: &mut [T; ALL],
    first: usize,
) -> Option<&mut [T; N]> {
    all.get_mut(first.min(ALL - N)..).and_then(<[_]>::first_chunk_mut)
}

/// Lists eight bits, with instructions of any CPU.
#[inline(always)]
fn list(bits: u64, start: u32, offsets: &mut [u32; OFFSETS_AT_ONCE]) -> usize {
    let (eight, _) = offsets.split_at_mut(8);
    list_each(bits, start, eight);
    eight.len()
}

/// Writes `start` plus the number of each of the lowest bits that are set, as many as there are places.
#[inline(always)]
fn list_each(mut bits: u64, start: u32, places: &mut [u32]) {
    for place in places {
        *place = start + bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
    }
}

/// An offset in a datagram, as it is kept.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most DATAGRAM_BYTES_MAX")]
const fn offset(at: usize) -> u32 {
    at as u32
}

#[cfg(test)]
mod tests;
