//! Chunks: where timer values and gauge operations lie between arrival and flush.
//!
//! A worker takes chunks from its own pool, fills them and links them into chains; at the flip a
//! chain changes hands whole, the coordinator reads it and sends its chunks home through a bounded
//! queue. So a buffer is freed by the thread that allocated it (never by the coordinator, which is
//! where mimalloc grows), and a steady load allocates nothing.
//!
//! A chunk is two cache lines: first touch of a series costs one, and a timer of a thousand values
//! wastes less than one chunk.

use std::ptr;

use crate::cache::prefetch_lines;
use crate::sync::Arc;
use crossbeam_queue::ArrayQueue;

/// 64-bit words of a chunk: twelve values, or six operations of two words. With the four words of
/// the head that makes 128 bytes.
pub const CHUNK_WORDS: usize = 12;

const _: () = assert!(size_of::<Chunk>() == 128);

/// A run of words of one series.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Chunk {
    next: Option<Box<Chunk>>,
    /// Running weight of the whole chain (timers): the newest chunk has the total.
    pub(crate) weight: f64,
    /// What a timer keeps beyond its exact budget; in the newest chunk only.
    pub(crate) overflow: Option<Box<super::timer::Overflow>>,
    /// Words in older chunks of the chain.
    older_words: u32,
    /// Words in this chunk.
    len: u16,
    /// Worker whose pool this chunk belongs to.
    home: u16,
    words: [u64; CHUNK_WORDS],
}

impl Chunk {
    fn fresh(home: u16) -> Box<Self> {
        Box::new(Self {
            next: None,
            weight: 0.0,
            overflow: None,
            older_words: 0,
            len: 0,
            home,
            words: [0; CHUNK_WORDS],
        })
    }

    /// Words of this chunk alone, oldest first.
    pub(crate) fn words(&self) -> &[u64] {
        self.words.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Words of the chain this chunk is the newest of.
    pub(crate) fn chain_words(&self) -> u32 {
        self.older_words + u32::from(self.len)
    }

    /// Words of the chain that are older than those of this chunk.
    pub(crate) fn older_words(&self) -> usize {
        self.older_words as usize
    }

    /// Whether `count` more words fit here.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        usize::from(self.len) + count <= CHUNK_WORDS
    }

    /// Appends a word; the caller has asked [`Self::has_room`].
    pub(crate) fn push(&mut self, word: u64) {
        self.words[usize::from(self.len)] = word;
        self.len += 1;
    }

    /// The newest word, to be rewritten in place.
    pub(crate) fn newest_mut(&mut self) -> Option<&mut u64> {
        self.words.get_mut(usize::from(self.len).checked_sub(1)?)
    }

    /// Forgets the words of this chunk and hands over the older ones.
    pub(crate) fn clear(&mut self) -> Chain {
        self.len = 0;
        self.older_words = 0;
        Chain { head: self.next.take() }
    }
}

/// Chunks linked newest first. Dropping it frees them one by one, without recursion.
#[derive(Debug, Default)]
pub struct Chain {
    head: Option<Box<Chunk>>,
}

impl Chain {
    pub(crate) fn of(head: Box<Chunk>) -> Self {
        Self { head: Some(head) }
    }

    /// The newest chunk.
    pub(crate) fn newest(&self) -> Option<&Chunk> {
        self.head.as_deref()
    }

    /// Takes the newest chunk off.
    pub(crate) fn pop(&mut self) -> Option<Box<Chunk>> {
        let mut chunk = self.head.take()?;
        self.head = chunk.next.take();
        Some(chunk)
    }

    /// Asks the cache for the newest chunk, which is popped some time later.
    #[inline]
    pub(crate) fn prefetch(&self) {
        if let Some(chunk) = &self.head {
            prefetch_lines(ptr::from_ref(&**chunk).cast(), size_of::<Chunk>());
        }
    }

    fn push(&mut self, mut chunk: Box<Chunk>) {
        chunk.next = self.head.take();
        self.head = Some(chunk);
    }

    /// Chunks of the chain, newest first.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        std::iter::successors(self.head.as_deref(), |chunk| chunk.next.as_deref())
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// Chains on their way home: one queue per worker, bounded.
///
/// One entry is a whole interval's worth of chunks, so a handful of places is plenty; a full queue
/// leaves the chain with the coordinator until the next flush.
#[derive(Debug, Clone)]
pub struct HomeQueue(Arc<ArrayQueue<Chain>>);

/// Places in a [`HomeQueue`].
pub const HOME_QUEUE_CHAINS_MAX: usize = 8;

impl Default for HomeQueue {
    fn default() -> Self {
        Self(Arc::new(ArrayQueue::new(HOME_QUEUE_CHAINS_MAX)))
    }
}

/// The worker's side: takes chunks out.
#[derive(Debug)]
pub struct ChunkPool {
    free: Chain,
    returned: HomeQueue,
    home: u16,
    /// Chunks handed out since the flip: the memory one generation holds.
    lent: usize,
}

impl ChunkPool {
    /// A pool for worker `home`, fed by `returned`.
    #[must_use]
    pub fn new(home: u16, returned: HomeQueue) -> Self {
        Self { free: Chain::default(), returned, home, lent: 0 }
    }

    /// Counts anew at a flip: what was lent belongs to the coordinator now.
    pub(crate) fn start_generation(&mut self) {
        self.lent = 0;
    }

    /// Chunks lent in this generation.
    pub(crate) fn lent(&self) -> usize {
        self.lent
    }

    /// Counts `chunks` as lent, without the memory they would take.
    #[cfg(test)]
    pub(crate) fn lend(&mut self, chunks: usize) {
        self.lent += chunks;
    }

    /// An empty chunk; allocates only while the pool grows to its working size.
    pub(crate) fn take(&mut self) -> Box<Chunk> {
        self.lent += 1;
        let chunk = match self.free.pop() {
            Some(chunk) => Some(chunk),
            None => {
                self.free = self.returned.0.pop().unwrap_or_default();
                self.free.pop()
            }
        };
        let Some(mut chunk) = chunk else { return Chunk::fresh(self.home) };
        // The next one may have been read on another core since: it is asked for now.
        self.free.prefetch();
        chunk.len = 0;
        chunk.older_words = 0;
        chunk.weight = 0.0;
        chunk
    }

    /// A chunk in front of `head`: the chain goes on in it.
    pub(crate) fn extend(&mut self, head: Box<Chunk>) -> Box<Chunk> {
        let mut chunk = self.take();
        chunk.weight = head.weight;
        chunk.older_words = head.chain_words();
        chunk.next = Some(head);
        chunk
    }

    /// Takes back a chain that never left the worker.
    pub(crate) fn give_back(&mut self, mut chain: Chain) {
        while let Some(chunk) = chain.pop() {
            self.lent = self.lent.saturating_sub(1);
            self.free.push(chunk);
        }
    }
}

/// The coordinator's side: sorts read chunks by home and sends them there.
#[derive(Debug)]
pub struct ChunkHomes {
    queues: Vec<HomeQueue>,
    waiting: Vec<Chain>,
}

impl ChunkHomes {
    /// One queue per worker, index = worker index.
    #[must_use]
    pub fn new(queues: Vec<HomeQueue>) -> Self {
        let waiting = queues.iter().map(|_| Chain::default()).collect();
        Self { queues, waiting }
    }

    /// Takes a chunk that has been read.
    pub(crate) fn put(&mut self, mut chunk: Box<Chunk>) {
        chunk.overflow = None;
        if let Some(chain) = self.waiting.get_mut(usize::from(chunk.home)) {
            chain.push(chunk);
        }
    }

    /// Sends everything home; what finds its queue full waits for the next call.
    pub(crate) fn send(&mut self) {
        for (queue, waiting) in self.queues.iter().zip(&mut self.waiting) {
            if waiting.head.is_none() {
                continue;
            }
            if let Err(refused) = queue.0.push(std::mem::take(waiting)) {
                *waiting = refused;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_home_and_is_used_again() {
        let queue = HomeQueue::default();
        let mut pool = ChunkPool::new(0, queue.clone());
        let mut homes = ChunkHomes::new(vec![queue]);
        let mut chunk = pool.take();
        chunk.push(7);
        let address = std::ptr::from_ref(&*chunk);
        homes.put(chunk);
        homes.send();
        let again = pool.take();
        assert_eq!(std::ptr::from_ref(&*again), address);
        assert!(again.words().is_empty());
    }

    #[test]
    fn what_is_lent_is_counted_per_generation() {
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let head = pool.take();
        let head = pool.extend(head);
        assert_eq!(pool.lent(), 2);
        pool.give_back(Chain::of(head));
        assert_eq!(pool.lent(), 0);
        let kept = pool.take();
        pool.start_generation();
        assert_eq!(pool.lent(), 0);
        drop(kept);
    }

    #[test]
    fn a_chain_knows_its_words_and_drops_without_recursion() {
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let mut head = pool.take();
        for word in 0..1_000_000_u64 {
            if !head.has_room(1) {
                head = pool.extend(head);
            }
            head.push(word);
        }
        assert_eq!(head.chain_words(), 1_000_000);
        let chain = Chain::of(head);
        assert_eq!(chain.chunks().map(|chunk| chunk.words().len()).sum::<usize>(), 1_000_000);
        drop(chain);
    }

    #[test]
    fn a_full_queue_keeps_the_chain_for_the_next_flush() {
        let queue = HomeQueue::default();
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let mut homes = ChunkHomes::new(vec![queue.clone()]);
        for _ in 0..=HOME_QUEUE_CHAINS_MAX {
            homes.put(pool.take());
            homes.send();
        }
        let came_home = std::iter::from_fn(|| queue.0.pop()).count();
        homes.send();
        assert_eq!((came_home, queue.0.len()), (HOME_QUEUE_CHAINS_MAX, 1));
    }
}
