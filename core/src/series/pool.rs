//! Chunks: where timer values and gauge operations lie between arrival and flush.
//!
//! A worker takes chunks from its own pool, fills them and links them into chains; at the flip a
//! chain changes hands whole, the coordinator reads it and sends its chunks home through a bounded
//! queue. So a buffer is freed by the thread that allocated it (never by the coordinator, which is
//! where mimalloc grows), and a steady load allocates nothing.
//!
//! A chunk is one cache line, for memory is what a timer costs: a line touched for each value, and
//! written out and read back once an interval. Most values fit into 32 bits without loss, integers
//! and halves up to 16,777,216 among them; a chunk holds ten of those or five doubles. Weights are kept
//! from the first value on that stands for more than itself (docs/decisions/018-chunks-of-a-line.md).

use std::ptr;

use crate::cache::prefetch_lines;
use crate::limits::{CHUNKS_PER_GENERATION_MAX, SKETCH_BYTES_MAX};
use crate::sync::Arc;
use crossbeam_queue::ArrayQueue;

/// 32-bit cells of a chunk. With the head that makes 64 bytes.
pub const CHUNK_CELLS: usize = 10;

/// Cells of a double.
const CELLS_WIDE: usize = 2;

const _: () = assert!(size_of::<Chunk>() == 64);

/// How the cells of a chunk are used. Along a chain a form only grows: a newer chunk can hold whatever
/// an older one could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form(u8);

impl Form {
    /// One cell a value, each of weight 1.
    pub(crate) const NARROW: Self = Self(0);
    /// Two cells a value.
    pub(crate) const WIDE: Self = Self(1);
    /// The first two cells are the running weight of the chain.
    const WEIGHTED: Self = Self(2);

    /// Values of a chunk of each form.
    const CAPACITIES: [u8; 4] = [10, 5, 8, 4];

    /// The least that holds this value without loss.
    fn of(value: f64, weight: f64) -> Self {
        let is_weighted = !is_one(weight);
        Self(u8::from(narrow(value).is_none()) | u8::from(is_weighted) << 1)
    }

    #[inline]
    const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline]
    fn capacity(self) -> u8 {
        Self::CAPACITIES[usize::from(self.0 & 3)]
    }

    /// Cells before the first value.
    #[inline]
    const fn first_cell(self) -> usize {
        if self.has(Self::WEIGHTED) { CELLS_WIDE } else { 0 }
    }
}

/// A run of values of one series.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Chunk {
    next: Option<Box<Chunk>>,
    /// What a timer keeps beyond its exact budget; in the newest chunk only.
    pub(crate) overflow: Option<Box<super::timer::Overflow>>,
    /// Values in older chunks of the chain.
    older: u32,
    /// Values in this chunk.
    len: u8,
    form: Form,
    /// Worker whose pool this chunk belongs to.
    home: u16,
    cells: [u32; CHUNK_CELLS],
}

impl Chunk {
    fn fresh(home: u16) -> Box<Self> {
        Box::new(Self {
            next: None,
            overflow: None,
            older: 0,
            len: 0,
            form: Form::NARROW,
            home,
            cells: [0; CHUNK_CELLS],
        })
    }

    /// Values of this chunk alone, oldest first.
    #[inline]
    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = f64> {
        let first = self.form.first_cell();
        let (narrow_end, wide_end) = if self.form.has(Form::WIDE) {
            (first, first + CELLS_WIDE * usize::from(self.len))
        } else {
            (first + usize::from(self.len), first)
        };
        let narrow = self.cells.get(first..narrow_end).unwrap_or_default();
        let wide = self.cells.get(first..wide_end).unwrap_or_default();
        let narrow = narrow.iter().map(|cell| f64::from(f32::from_bits(*cell)));
        narrow.chain(wide.as_chunks().0.iter().map(|cells| joined(*cells)))
    }

    /// Values of the chain this chunk is the newest of.
    pub(crate) fn chain_values(&self) -> u32 {
        self.older + u32::from(self.len)
    }

    /// Values of the chain that are older than those of this chunk.
    pub(crate) fn older_values(&self) -> usize {
        self.older as usize
    }

    /// Weight of the chain this chunk is the newest of, with what is in its sketch.
    pub(crate) fn chain_weight(&self) -> f64 {
        self.overflow.as_ref().map_or(0.0, |overflow| overflow.weight) + self.kept_weight()
    }

    /// The part of it whose values are kept.
    #[inline]
    pub(crate) fn kept_weight(&self) -> f64 {
        if self.form.has(Form::WEIGHTED) {
            let [low, high, ..] = self.cells;
            return joined([low, high]);
        }
        self.chain_values().into()
    }

    /// Appends a value and its weight; `false` if there is no room, or none of the form it takes.
    #[inline]
    pub(crate) fn push(&mut self, value: f64, weight: f64) -> bool {
        if self.form != Form::NARROW {
            return self.push_by_form(value, weight);
        }
        if let Some(narrow) = narrow(value)
            && is_one(weight)
            && let Some(cell) = self.cells.get_mut(usize::from(self.len))
        {
            *cell = narrow.to_bits();
            self.len += 1;
            return true;
        }
        false
    }

    #[inline(never)]
    fn push_by_form(&mut self, value: f64, weight: f64) -> bool {
        let has_room = self.has_room(1) && self.form.has(Form::of(value, weight));
        if has_room {
            if self.form.has(Form::WEIGHTED) {
                self.set_weight(self.kept_weight() + weight);
            }
            self.put(usize::from(self.len), value);
            self.len += 1;
        }
        has_room
    }

    /// Whether so many more values fit here.
    pub(crate) fn has_room(&self, count: u8) -> bool {
        self.len + count <= self.form.capacity()
    }

    /// The newest value, to be rewritten in place.
    pub(crate) fn change_newest(&mut self, change: impl FnOnce(f64) -> f64) {
        let newest = self.values().next_back();
        if let Some(newest) = newest {
            self.put(usize::from(self.len) - 1, change(newest));
        }
    }

    /// Forgets the values of this chunk and hands over the older ones.
    pub(crate) fn clear(&mut self) -> Chain {
        self.len = 0;
        self.older = 0;
        Chain { head: self.next.take() }
    }

    fn set_weight(&mut self, weight: f64) {
        let [low, high, ..] = &mut self.cells;
        [*low, *high] = split(weight);
    }

    /// Writes the value numbered `at`, which the form can hold.
    fn put(&mut self, at: usize, value: f64) {
        let first = self.form.first_cell();
        if self.form.has(Form::WIDE) {
            let cells = self.cells.get_mut(first + CELLS_WIDE * at..);
            if let Some(cells) = cells.and_then(<[_]>::first_chunk_mut) {
                *cells = split(value);
            }
        } else if let (Some(cell), Some(narrow)) = (self.cells.get_mut(first + at), narrow(value)) {
            *cell = narrow.to_bits();
        }
    }
}

/// The value in 32 bits, if they hold it to the last bit.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
fn narrow(value: f64) -> Option<f32> {
    let narrow = value as f32;
    (f64::from(narrow).to_bits() == value.to_bits()).then_some(narrow)
}

#[inline]
fn is_one(weight: f64) -> bool {
    weight.to_bits() == 1_f64.to_bits()
}

/// The double in two cells.
#[inline]
fn joined([low, high]: [u32; CELLS_WIDE]) -> f64 {
    f64::from_bits(u64::from(low) | u64::from(high) << 32)
}

/// A double as two cells.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half, on purpose")]
fn split(value: f64) -> [u32; CELLS_WIDE] {
    let bits = value.to_bits();
    [bits as u32, (bits >> 32) as u32]
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

    /// Values that the chunks hold.
    pub(crate) fn values_kept(&self) -> usize {
        self.newest().map_or(0, |chunk| chunk.chain_values() as usize)
    }

    /// Bytes that the chunks take, at the most: those of the largest form hold four values.
    pub(crate) fn bytes(&self) -> usize {
        let sketch = self.newest().and_then(|chunk| chunk.overflow.as_ref());
        size_of::<Chunk>() * (1 + self.values_kept() / 4) + sketch.map_or(0, |_| SKETCH_BYTES_MAX)
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
    /// Chunks of one generation at the most.
    lent_max: usize,
    /// Sketches that this generation may still begin.
    sketches_left: usize,
}

impl ChunkPool {
    /// A pool for worker `home`, fed by `returned`, of the largest budget.
    #[must_use]
    pub fn new(home: u16, returned: HomeQueue) -> Self {
        Self::within(CHUNKS_PER_GENERATION_MAX, home, returned)
    }

    /// The same with `chunks` for a generation.
    #[must_use]
    pub fn within(chunks: usize, home: u16, returned: HomeQueue) -> Self {
        let lent_max = chunks;
        let mut pool =
            Self { free: Chain::default(), returned, home, lent: 0, lent_max, sketches_left: 0 };
        pool.start_generation();
        pool
    }

    /// Counts anew at a flip: what was lent belongs to the coordinator now.
    pub(crate) fn start_generation(&mut self) {
        self.lent = 0;
        self.sketches_left = sketches_of(self.lent_max);
    }

    /// Whether series that have a chunk take no more of them: a quarter of the budget is left for
    /// those that have none, and for sketches.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.lent_max - self.lent_max / 4 <= self.lent
    }

    /// The same for gauges, whose operations lie in memory three times while they are put in order.
    #[inline]
    pub(crate) fn is_spent_for_gauges(&self) -> bool {
        self.lent_max / 4 <= self.lent
    }

    /// Whether no series gets a chunk any more.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.lent_max - self.lent_max / 8 <= self.lent
    }

    /// Takes the permission for one more sketch, if there is one.
    pub(crate) fn take_sketch(&mut self) -> bool {
        let has_one = self.sketches_left != 0;
        self.sketches_left -= usize::from(has_one);
        has_one
    }

    /// Chunks lent in this generation.
    #[cfg(test)]
    pub(crate) fn lent(&self) -> usize {
        self.lent
    }

    /// Counts `chunks` as lent, without the memory they would take.
    #[cfg(test)]
    pub(crate) fn lend(&mut self, chunks: usize) {
        self.lent += chunks;
    }

    /// An empty chunk; allocates only while the pool grows to its working size.
    pub(crate) fn take(&mut self, form: Form) -> Box<Chunk> {
        self.lent += 1;
        let chunk = match self.free.pop() {
            Some(chunk) => Some(chunk),
            None => {
                self.free = self.returned.0.pop().unwrap_or_default();
                self.free.pop()
            }
        };
        let mut chunk = chunk.unwrap_or_else(|| Chunk::fresh(self.home));
        // The next one may have been read on another core since: it is asked for now.
        self.free.prefetch();
        chunk.len = 0;
        chunk.older = 0;
        chunk.form = form;
        chunk
    }

    /// A chunk of values with its first one.
    pub(crate) fn start(&mut self, value: f64, weight: f64) -> Box<Chunk> {
        let form = Form::of(value, weight);
        let mut chunk = self.take(form);
        if form.has(Form::WEIGHTED) {
            chunk.set_weight(0.0);
        }
        chunk.push(value, weight);
        chunk
    }

    /// A chunk in front of `head`, of the form that takes this value too; the chain goes on in it.
    pub(crate) fn extend(&mut self, head: Box<Chunk>, value: f64, weight: f64) -> Box<Chunk> {
        let form = head.form.with(Form::of(value, weight));
        let mut chunk = self.take(form);
        if form.has(Form::WEIGHTED) {
            chunk.set_weight(head.kept_weight());
        }
        chunk.older = head.chain_values();
        chunk.next = Some(head);
        chunk.push(value, weight);
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

/// Sketches that fit into an eighth of a budget of so many chunks; one at least, for a flood of values
/// of one name needs no more.
const fn sketches_of(chunks: usize) -> usize {
    let sketches = chunks / 8 * size_of::<Chunk>() / SKETCH_BYTES_MAX;
    if sketches == 0 { 1 } else { sketches }
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
        let chunk = pool.start(7.0, 2.0);
        let address = std::ptr::from_ref(&*chunk);
        homes.put(chunk);
        homes.send();
        let again = pool.start(0.1, 1.0);
        assert_eq!(std::ptr::from_ref(&*again), address);
        assert_eq!((again.values().collect(), again.chain_weight()), (vec![0.1], 1.0));
    }

    #[test]
    fn what_is_lent_is_counted_per_generation() {
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let head = pool.start(1.0, 1.0);
        let head = pool.extend(head, 1.0, 1.0);
        assert_eq!(pool.lent(), 2);
        pool.give_back(Chain::of(head));
        assert_eq!(pool.lent(), 0);
        let kept = pool.take(Form::NARROW);
        pool.start_generation();
        assert_eq!(pool.lent(), 0);
        drop(kept);
    }

    /// A chain of `values` with their weights, and how many chunks it took.
    fn chain_of(values: &[(f64, f64)]) -> (Chain, usize) {
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let (first, rest) = values.split_first().unwrap();
        let mut head = pool.start(first.0, first.1);
        for &(value, weight) in rest {
            if !head.push(value, weight) {
                head = pool.extend(head, value, weight);
            }
        }
        (Chain::of(head), pool.lent())
    }

    #[test]
    fn every_value_comes_back_bit_by_bit_in_its_order_whatever_came_before() {
        let numbers = [0.0, -0.0, 1.0, 0.5, 0.1, 1e-45, 1e-46, 16_777_216.0, 16_777_217.0, 3.4e38];
        let numbers = numbers.into_iter().chain([3.5e38, f64::MAX, f64::MIN_POSITIVE, 5e-324]);
        let all: Vec<(f64, f64)> =
            numbers.flat_map(|number| [(number, 1.0), (7.0, 1.0), (number, 10.0)]).collect();
        for start in 0..all.len() {
            let values = [&all[start..], &all[..start]].concat();
            let (chain, _) = chain_of(&values);
            let mut found: Vec<f64> =
                chain.chunks().flat_map(|chunk| chunk.values().rev()).collect();
            found.reverse();
            let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            let sent = values.iter().map(|(value, _)| *value).collect();
            assert_eq!(bits(found), bits(sent), "{start}");
            let weight = values.iter().fold(0.0, |sum, (_, weight)| sum + weight);
            assert_eq!(chain.newest().unwrap().chain_weight(), weight);
        }
    }

    #[test]
    fn a_chunk_holds_ten_short_values_and_five_doubles() {
        for (value, weight, chunks) in
            [(320.0, 1.0, 4), (320.5, 1.0, 4), (0.1, 1.0, 8), (320.0, 10.0, 5), (0.1, 10.0, 10)]
        {
            assert_eq!(chain_of(&[(value, weight); 40]).1, chunks, "{value} {weight}");
        }
    }

    #[test]
    fn a_weight_is_the_sum_in_the_order_of_the_wire() {
        let weights = [1.0, 1.0, 1.0 / 0.3, 1.0, 1.0 / 0.7];
        let values: Vec<_> =
            weights.iter().cycle().take(1_000).map(|weight| (5.0, *weight)).collect();
        let sum = values.iter().fold(0.0, |sum, (_, weight)| sum + weight);
        assert_eq!(chain_of(&values).0.newest().unwrap().chain_weight(), sum);
    }

    #[test]
    fn a_chain_knows_its_values_and_drops_without_recursion() {
        let (chain, _) = chain_of(&vec![(3.0, 1.0); 1_000_000]);
        assert_eq!(chain.newest().unwrap().chain_values(), 1_000_000);
        assert_eq!(chain.chunks().map(|chunk| chunk.values().count()).sum::<usize>(), 1_000_000);
        drop(chain);
    }

    #[test]
    fn a_full_queue_keeps_the_chain_for_the_next_flush() {
        let queue = HomeQueue::default();
        let mut pool = ChunkPool::new(0, HomeQueue::default());
        let mut homes = ChunkHomes::new(vec![queue.clone()]);
        for _ in 0..=HOME_QUEUE_CHAINS_MAX {
            homes.put(pool.take(Form::NARROW));
            homes.send();
        }
        let came_home = std::iter::from_fn(|| queue.0.pop()).count();
        homes.send();
        assert_eq!((came_home, queue.0.len()), (HOME_QUEUE_CHAINS_MAX, 1));
    }
}
