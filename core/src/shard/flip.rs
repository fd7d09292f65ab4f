//! The flip: how an interval's values change hands without a lock, a wait or a reset.
//!
//! One worker writes a shard, one coordinator reads it. Every value has two *generations*. The
//! worker writes the generation of its current *epoch* (`epoch & 1`), the coordinator reads the
//! other one. The whole protocol is two words:
//!
//! ```text
//!   coordinator                          worker, at the head of every batch
//!   ───────────                          ─────────────────────────────────
//!   published := e + 1   (Release) ────▶ p := published         (Acquire)
//!                                        if p is new: epoch := p, from now on write p's generation
//!   wait for e + 1       (Acquire) ◀──── acknowledged := p      (Release)
//!   read generation e
//! ```
//!
//! **Why the coordinator sees every value of epoch `e`.** The worker stores values (relaxed) and
//! then `acknowledged` (Release); the coordinator loads `acknowledged` (Acquire) before it reads.
//! So all stores of epoch `e` happen before all reads of it.
//!
//! **Why nothing changes under the coordinator.** After the acknowledgement the worker writes only
//! generation `(e + 1) & 1`. It comes back to `e`'s generation in epoch `e + 2` alone, and `e + 2`
//! is published only when reading is over: `ReaderFlip::request` does nothing until the sealed
//! generation was finished, and a `Sealed` borrows the reader, so the compiler
//! refuses a request while one is read. The Release store of `e + 2` and the worker's Acquire load
//! order the reads before the new writes.
//!
//! **Why nobody resets.** A value carries the *stamp* of the epoch that wrote it. The first touch
//! under a new stamp overwrites, later ones add; the coordinator passes over a value whose stamp is
//! not the sealed epoch. Only the worker ever writes, and an idle series costs nothing.
//!
//! **Why the worker never waits.** It loads one word per batch and stores one word per flip. A
//! worker that is asleep must be woken by other means (the eventfd of its ring); until then the
//! coordinator waits, and the values stay where they are.
//!
//! Stamps are `u32` and start at 1, so that a slot never touched (stamp 0) matches no epoch. At one
//! flip a second they last for 136 years; wrapping is not handled.
//!
//! `core/tests/loom_flip.rs` compiles this file against loom and explores every interleaving.

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};

/// First epoch: no stamp of a fresh slot equals it.
pub const EPOCH_FIRST: u32 = 1;

/// The two words worker and coordinator share, each on its own cache line.
#[derive(Debug)]
struct FlipWords {
    /// Written by the coordinator: the epoch the worker shall write.
    published: CachePadded<AtomicU32>,
    /// Written by the worker: the epoch it writes.
    acknowledged: CachePadded<AtomicU32>,
}

/// The worker's side.
#[derive(Debug)]
pub struct WriterFlip {
    words: Arc<FlipWords>,
    epoch: u32,
}

/// The coordinator's side.
#[derive(Debug)]
pub struct ReaderFlip {
    words: Arc<FlipWords>,
    published: u32,
    /// The newest epoch whose generation has been read.
    finished: u32,
}

/// A generation the worker has left: readable until [`Sealed::finish`].
#[derive(Debug)]
pub struct Sealed<'a> {
    epoch: u32,
    /// Keeps [`ReaderFlip::request`] out while the generation is read.
    flip: &'a mut ReaderFlip,
}

/// Makes the two sides of one flip.
#[must_use]
pub fn flip() -> (WriterFlip, ReaderFlip) {
    let words = Arc::new(FlipWords {
        published: CachePadded::new(AtomicU32::new(EPOCH_FIRST)),
        acknowledged: CachePadded::new(AtomicU32::new(EPOCH_FIRST)),
    });
    let writer = WriterFlip { words: Arc::clone(&words), epoch: EPOCH_FIRST };
    (writer, ReaderFlip { words, published: EPOCH_FIRST, finished: EPOCH_FIRST - 1 })
}

impl WriterFlip {
    /// Looks at the published epoch: called at the head of every batch, between two datagrams.
    ///
    /// Returns the new epoch if it changed. The caller prepares what it writes under it and then
    /// calls [`Self::acknowledge`]; until then the coordinator does not read.
    pub fn observe(&mut self) -> Option<u32> {
        // Acquire: pairs with the Release in ReaderFlip::request; the coordinator's reads of the
        // generation we are about to write again happened before.
        let published = self.words.published.load(Ordering::Acquire);
        if published == self.epoch {
            return None;
        }
        self.epoch = published;
        Some(published)
    }

    /// Tells the coordinator that the old generation is left for good.
    pub fn acknowledge(&self) {
        // Release: pairs with the Acquire in ReaderFlip::sealed; every value of the old epoch was
        // stored before.
        self.words.acknowledged.store(self.epoch, Ordering::Release);
    }

    /// The epoch values are stamped with.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
}

impl ReaderFlip {
    /// Asks the worker to leave its generation.
    ///
    /// While an earlier request is unanswered, or the generation it sealed is not yet read, this
    /// does nothing: each generation is read before its place is written again.
    pub fn request(&mut self) {
        if self.finished + 1 != self.published {
            return;
        }
        self.published = self.published.checked_add(1).expect("u32 epochs last for 136 years");
        // Release: pairs with the Acquire in WriterFlip::observe; our reads of the generation that
        // is written next are over.
        self.words.published.store(self.published, Ordering::Release);
    }

    /// The generation the worker left, once it has acknowledged and until it is finished.
    pub fn sealed(&mut self) -> Option<Sealed<'_>> {
        if self.finished + 1 == self.published {
            return None;
        }
        // Acquire: pairs with the Release in WriterFlip::acknowledge.
        if self.words.acknowledged.load(Ordering::Acquire) != self.published {
            return None;
        }
        Some(Sealed { epoch: self.published - 1, flip: self })
    }
}

impl Sealed<'_> {
    /// The epoch whose values may be read.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Says that the generation has been read: it is not given out again, and the next request may
    /// come.
    pub fn finish(self) {
        self.flip.finished = self.epoch;
    }
}

/// The two generations of one value: 64 bits of payload each, and the stamp of the epoch that
/// wrote it.
#[derive(Debug)]
#[repr(C)]
pub struct Generations {
    payloads: [AtomicU64; 2],
    stamps: [AtomicU32; 2],
}

impl Default for Generations {
    fn default() -> Self {
        Self {
            payloads: [AtomicU64::new(0), AtomicU64::new(0)],
            stamps: [AtomicU32::new(0), AtomicU32::new(0)],
        }
    }
}

/// Which of the two generations `epoch` writes.
#[must_use]
pub const fn generation_index(epoch: u32) -> usize {
    (epoch & 1) as usize
}

impl Generations {
    /// The payload written under `epoch`, if one was.
    ///
    /// Relaxed throughout: worker and coordinator are ordered by the flip, never by a value.
    #[inline]
    #[must_use]
    pub fn load(&self, epoch: u32) -> Option<u64> {
        let index = generation_index(epoch);
        (self.stamps[index].load(Ordering::Relaxed) == epoch)
            .then(|| self.payloads[index].load(Ordering::Relaxed))
    }

    /// Stores `payload` under `epoch`. Only the worker calls this.
    #[inline]
    pub fn store(&self, epoch: u32, payload: u64) {
        let index = generation_index(epoch);
        self.payloads[index].store(payload, Ordering::Relaxed);
        self.stamps[index].store(epoch, Ordering::Relaxed);
    }

    /// Forgets that this value was ever touched. Only the worker calls this, and not before both
    /// generations have been read.
    pub(super) fn forget(&self) {
        for stamp in &self.stamps {
            stamp.store(0, Ordering::Relaxed);
        }
    }

    /// The latest epoch this value was touched in; 0 = never.
    #[inline]
    #[must_use]
    pub fn newest_stamp(&self) -> u32 {
        let [even, odd] = &self.stamps;
        even.load(Ordering::Relaxed).max(odd.load(Ordering::Relaxed))
    }
}
