//! Where the bytes of a datagram stand that end a key, a value or a line: its *stops*.
//!
//! First stage of the parser. The whole datagram is classified before anything is decided about it,
//! 64 bytes at a time. A stop is every byte that may not stand in a key as it is, the delimiters
//! (newline, colon, pipe) among them. The bits of the stops become a list of offsets at once; the
//! walk over the lines then goes along that list, and looks at a byte only to tell one stop from
//! another and to read a number. A key is clean if the first stop behind its beginning is its colon.
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

/// Offsets written at once, at the most.
const OFFSETS_AT_ONCE: usize = 16;

/// Stops of the lines that are read fastest: a colon, a pipe and a newline. As many times the end of
/// the datagram stands behind its stops.
pub(super) const STOPS_OF_LINE: usize = 3;

/// Offsets of a datagram of stops alone, of the newlines behind it, and room to write in vain.
const OFFSETS_MAX: usize = DATAGRAM_BYTES_MAX + STOPS_OF_LINE + OFFSETS_AT_ONCE;

const _: () = assert!(BLOCK_BYTES <= DATAGRAM_SLACK_BYTES, "the last block reads into the slack");
const _: () = assert!(DATAGRAM_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(STOPS_OF_LINE <= OFFSETS_AT_ONCE);

/// The bytes that may stand in a key as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeySet {
    /// `A-Z a-z 0-9 _ - . ; =`: what key cleaning leaves.
    Sanitized,
    /// Every ASCII byte that delimits nothing: keys are kept, and only their encoding is checked.
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

/// The stops of one datagram, in memory that is kept from one to the next.
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

    /// Offsets of the stops of the last `build`, ascending, and [`STOPS_OF_LINE`] times the end of the
    /// datagram, where its last newline is or might be.
    #[inline]
    pub(super) fn stops(&self) -> &[u32] {
        self.found.offsets.get(..self.found.count + STOPS_OF_LINE).unwrap_or_default()
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

/// What a classifier fills.
#[derive(Debug)]
struct Found {
    /// Offsets of the stops, ascending.
    offsets: Box<[u32; OFFSETS_MAX]>,
    /// How many of them count.
    count: usize,
}

impl Found {
    fn new() -> Self {
        // By way of a vector: an array in a box would be made on the stack.
        let offsets = vec![0; OFFSETS_MAX].into_boxed_slice().try_into();
        Self { offsets: offsets.expect("made of that length"), count: 0 }
    }

    /// Takes what `classify` says of every block of a datagram, a bit for each byte, the first one
    /// lowest; `list` writes the offsets of the lowest bits of a block that begins at some byte, and
    /// says of how many.
    // Always inline: it becomes part of code that is compiled for the CPU's own instructions.
    #[inline(always)]
    fn fill(
        &mut self,
        chunks: &Chunks<'_>,
        classify: impl Fn(&[u8; BLOCK_BYTES]) -> u64,
        list: impl Fn(u64, u32, &mut [u32; OFFSETS_AT_ONCE]) -> usize,
    ) {
        let (mut count, mut start) = (0, 0);
        for chunk in chunks.full {
            count = self.push(count, start, classify(chunk), &list);
            start += BLOCK_BYTES;
        }
        let inside = (1_u64 << chunks.last_bytes) - 1;
        count = self.push(count, start, classify(chunks.last) & inside, &list);
        let end = offset(start + chunks.last_bytes);
        if let Some(behind) = self.run_from(count) {
            *behind = [end; STOPS_OF_LINE];
        }
        self.count = count;
    }

    /// Takes the stops of the block that begins at byte `start`, when there are `count` before it;
    /// returns how many there are then.
    #[inline(always)]
    fn push(
        &mut self,
        count: usize,
        start: usize,
        bits: u64,
        list: impl Fn(u64, u32, &mut [u32; OFFSETS_AT_ONCE]) -> usize,
    ) -> usize {
        let more = bits.count_ones() as usize;
        let listed = self.run_from(count).map_or(0, |at_once| list(bits, offset(start), at_once));
        if listed < more {
            let places = self.offsets.get_mut(count..count + more).unwrap_or_default();
            list_each(bits, offset(start), places);
        }
        count + more
    }

    /// `N` places from `first` on, which is never later than where they are the last ones: said here,
    /// so that the compiler need not look.
    #[inline(always)]
    fn run_from<const N: usize>(&mut self, first: usize) -> Option<&mut [u32; N]> {
        self.offsets.get_mut(first.min(OFFSETS_MAX - N)..).and_then(<[_]>::first_chunk_mut)
    }
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
