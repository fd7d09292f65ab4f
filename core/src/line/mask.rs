//! Where the bytes of a datagram stand that end a key, a value or a line: its *stops*.
//!
//! First stage of the parser. Whole datagrams are classified before anything is decided about them,
//! 64 bytes at a time, and several small ones behind each other: each then costs no call, and none
//! waits for the bits of its own. A stop is every byte that may not stand in a key as it is, the delimiters
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
//! Limits: `DATAGRAM_BYTES_MAX` bytes a datagram, of a buffer that is readable for
//! `DATAGRAM_SLACK_BYTES` more; at most `DATAGRAMS_AT_ONCE` together, and none behind more than
//! `OFFSETS_TOGETHER_MAX` offsets. Not done here: grammar.

mod portable;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use arrayvec::ArrayVec;

use super::Datagram;
use crate::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_SLACK_BYTES, DATAGRAMS_AT_ONCE};

/// Bytes that one block of bits describes.
const BLOCK_BYTES: usize = 64;

/// Offsets written at once, at the most.
const OFFSETS_AT_ONCE: usize = 16;

/// Stops of the lines that are read fastest: a colon, a pipe and a newline. As many times the end of
/// the datagram stands behind its stops.
pub(super) const STOPS_OF_LINE: usize = 3;

/// Offsets after which no further datagram is classified together with those before: the walk shall
/// find them in the nearest cache.
const OFFSETS_TOGETHER_MAX: usize = 512;

/// Offsets of datagrams classified together, behind them of one of stops alone, of the newlines behind
/// it, and room to write in vain.
const OFFSETS_MAX: usize =
    OFFSETS_TOGETHER_MAX + DATAGRAM_BYTES_MAX + STOPS_OF_LINE + OFFSETS_AT_ONCE;

const _: () = assert!(BLOCK_BYTES <= DATAGRAM_SLACK_BYTES, "the last block reads into the slack");
const _: () = assert!(DATAGRAM_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(STOPS_OF_LINE <= OFFSETS_AT_ONCE);
const _: () = assert!(OFFSETS_MAX <= u32::MAX as usize);

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

/// The stops of some datagrams, in memory that is kept from one time to the next.
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

    /// Classifies the first of `datagrams`, at least one; [`Index::stops`] has as many.
    ///
    /// # Panics
    /// If one is above [`DATAGRAM_BYTES_MAX`] or its slack is missing: both belong to whoever owns the
    /// buffer, not to the sender.
    #[inline]
    pub(super) fn build(&mut self, datagrams: &[Datagram<'_>]) {
        debug_assert!(!datagrams.is_empty(), "the caller goes on behind those that were taken");
        let found = &mut self.found;
        match self.classifier {
            Classifier::Portable => portable::classify(datagrams, self.key_set, found),
            #[cfg(target_arch = "x86_64")]
            Classifier::Avx2(detected) => {
                avx2::classify(detected, datagrams, self.key_set, found);
            }
            #[cfg(target_arch = "x86_64")]
            Classifier::Avx512(detected) => {
                avx512::classify(detected, datagrams, self.key_set, found);
            }
        }
    }

    /// For each datagram of the last `build` the offsets of its stops, ascending, and [`STOPS_OF_LINE`]
    /// times its end, where its last newline is or might be.
    #[inline]
    pub(super) fn stops(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        let mut start = 0;
        self.found.ends.iter().map(move |end| {
            let run = start..*end as usize;
            start = run.end;
            self.found.offsets.get(run).unwrap_or_default()
        })
    }
}

/// What a classifier fills.
#[derive(Debug)]
struct Found {
    /// Offsets of the stops, ascending, of one datagram behind the other.
    offsets: Box<[u32; OFFSETS_MAX]>,
    /// Where those of each datagram end.
    ends: ArrayVec<u32, DATAGRAMS_AT_ONCE>,
}

impl Found {
    fn new() -> Self {
        // By way of a vector: an array in a box would be made on the stack.
        let offsets = vec![0; OFFSETS_MAX].into_boxed_slice().try_into();
        Self { offsets: offsets.expect("made of that length"), ends: ArrayVec::new() }
    }

    /// Takes what `classify` says of every block of the first datagrams, a bit for each byte, the first
    /// one lowest; `list` writes the offsets of the lowest bits of a block that begins at some byte, and
    /// says of how many.
    // Always inline: it becomes part of code that is compiled for the CPU's own instructions.
    #[inline(always)]
    fn fill(
        &mut self,
        datagrams: &[Datagram<'_>],
        classify: impl Fn(&[u8; BLOCK_BYTES]) -> u64,
        list: impl Fn(u64, u32, &mut [u32; OFFSETS_AT_ONCE]) -> usize,
    ) {
        self.ends.clear();
        let mut count = 0;
        for datagram in datagrams {
            count = self.add(count, datagram, &classify, &list);
            self.ends.push(offset(count));
            if OFFSETS_TOGETHER_MAX < count || self.ends.is_full() {
                break;
            }
        }
    }

    /// Takes the stops of a datagram and its end, when there are `count` before it; returns how many
    /// there are then.
    #[inline(always)]
    fn add(
        &mut self,
        mut count: usize,
        Datagram { buffer, len }: &Datagram<'_>,
        classify: impl Fn(&[u8; BLOCK_BYTES]) -> u64,
        list: impl Fn(u64, u32, &mut [u32; OFFSETS_AT_ONCE]) -> usize,
    ) -> usize {
        assert!(*len <= DATAGRAM_BYTES_MAX, "the buffers hold the largest datagram");
        assert!(len + DATAGRAM_SLACK_BYTES <= buffer.len(), "the slack lies behind the datagram");
        let (chunks, _) = buffer.as_chunks();
        let Some((full, [last, ..])) = chunks.split_at_checked(len / BLOCK_BYTES) else {
            return count;
        };
        let mut start = 0;
        for chunk in full {
            count = self.push(count, start, classify(chunk), &list);
            start += BLOCK_BYTES;
        }
        let inside = (1_u64 << (len % BLOCK_BYTES)) - 1;
        count = self.push(count, start, classify(last) & inside, &list);
        if let Some(behind) = self.run_from(count) {
            *behind = [offset(*len); STOPS_OF_LINE];
        }
        count + STOPS_OF_LINE
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

/// An offset in a datagram or in the list of them, as it is kept.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most OFFSETS_MAX")]
const fn offset(at: usize) -> u32 {
    at as u32
}

#[cfg(test)]
mod tests;
