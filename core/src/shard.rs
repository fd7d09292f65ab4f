//! A shard: the part of the map one worker owns.
//!
//! The worker parses a datagram into a `ShardBatch`, which hashes each key once, asks the cache
//! for its slot, and applies the values a few lines later. The coordinator asks for a flip, waits
//! for the acknowledgement and collects the sealed generation. Nobody waits for anybody on the data
//! plane, and memory is allocated only for a series not seen before and while pools grow.
//!
//! `batch` is where samples come in, `table` finds their slots by `index`, `slots` are where they lie,
//! `slot` is one of them, `record` adds their values, `payload` says who owns what a slot points to, `marks` is what the coordinator
//! remembers of slots, and `flip` holds the argument why the hand-over is sound.

mod batch;
mod table;
mod index;
mod slots;
mod slot;
mod marks;
mod record;
mod payload;
/// The hand-over of an interval's values.
pub mod flip;

use crossbeam_utils::CachePadded;

pub use self::batch::ShardBatch;
use self::flip::{ReaderFlip, WriterFlip, generation_index};
pub use self::marks::Mark;
use self::payload::take_payload;
use self::table::{Table, TableReader, table};
use crate::books::{Cause, Page};
use crate::budget::Ledger;
use crate::limits::{
    SLOT_IDLE_FLIPS_CROWDED, SLOT_IDLE_FLIPS_MAX, SUB_TABLES, SUB_TABLES_SWEPT_PER_FLIP,
    SWEEP_EVERY_NS,
};
use crate::name::KeyHasher;
use crate::sample::Kind;
use crate::series::pool::{Chain, Chunk, ChunkPool, HomeQueue};
use crate::series::set::{SetHome, SetMembers, SetPool};
use crate::sync::{Arc, UnsafeCell};

/// The two pages of a worker's books, one per generation.
#[derive(Debug, Default)]
struct Pages([CachePadded<UnsafeCell<Page>>; 2]);

#[expect(unsafe_code, reason = "pages follow the flip, like every value")]
// SAFETY:
// - no race: the page of an epoch is touched by the worker while the epoch is its own, and by the
//   coordinator once it is sealed; the flip orders the two.
unsafe impl Sync for Pages {}

/// The worker's side of a shard.
#[derive(Debug)]
pub struct ShardWriter {
    flip: WriterFlip,
    table: Table,
    pages: Arc<Pages>,
    hasher: KeyHasher,
    chunks: ChunkPool,
    sets: SetPool,
    batch_time_ns: u64,
    /// The sub-table that is looked through next for idle slots.
    sweep_next: usize,
    /// Sub-tables still to be looked through since the last flip.
    sweep_left: usize,
    /// When the next one may be, monotonic, ns.
    sweep_due_ns: u64,
}

/// The coordinator's side of a shard.
#[derive(Debug)]
pub struct ShardReader {
    flip: ReaderFlip,
    table: TableReader,
    pages: Arc<Pages>,
    chunks_home: HomeQueue,
    sets_home: SetHome,
}

/// One sealed value on its way to the interval; boxes change owner here.
#[derive(Debug)]
pub enum SealedValue {
    /// Sum of the generation.
    Counter(f64),
    /// Values of the generation.
    Timer(Chain),
    /// Operations of the generation.
    Gauge(Chain),
    /// Members of the generation.
    Set(Box<SetMembers>),
}

/// Makes both sides of a shard without budgets of series: for tests and benchmarks.
#[must_use]
pub fn shard(index: u16, hasher: KeyHasher) -> (ShardWriter, ShardReader) {
    shard_within(index, hasher, Arc::default())
}

/// Makes both sides of the shard of worker `index`, under the budgets of `ledger`.
#[must_use]
pub fn shard_within(
    index: u16,
    hasher: KeyHasher,
    ledger: Arc<Ledger>,
) -> (ShardWriter, ShardReader) {
    let (writer_flip, reader_flip) = flip::flip();
    let (chunks, set_bytes) = (ledger.chunks_per_generation(), ledger.set_bytes_per_generation());
    let (table, table_reader) = table(ledger);
    let pages = Arc::new(Pages::default());
    let chunks_home = HomeQueue::default();
    let sets_home = SetHome::default();
    let writer = ShardWriter {
        flip: writer_flip,
        table,
        pages: Arc::clone(&pages),
        hasher,
        chunks: ChunkPool::within(chunks, index, chunks_home.clone()),
        sets: SetPool::within(set_bytes, sets_home.clone()),
        batch_time_ns: 0,
        sweep_next: 0,
        sweep_left: 0,
        sweep_due_ns: 0,
    };
    let reader =
        ShardReader { flip: reader_flip, table: table_reader, pages, chunks_home, sets_home };
    (writer, reader)
}

impl ShardWriter {
    /// The head of a batch: takes over a new epoch if the coordinator asks for one.
    ///
    /// `now_ns`: monotonic, the time gauge operations of this batch bear. Returns `true` at a flip:
    /// the coordinator may be waiting and should be woken.
    pub fn begin_batch(&mut self, now_ns: u64) -> bool {
        self.batch_time_ns = now_ns;
        if self.flip.observe().is_none() {
            return false;
        }
        *self.page() = Page::default();
        self.chunks.start_generation();
        self.sets.start_generation();
        self.sweep_left =
            if self.table.is_crowded() { SUB_TABLES } else { SUB_TABLES_SWEPT_PER_FLIP };
        self.flip.acknowledge();
        true
    }

    /// The tail of a batch: looks through one sub-table for idle slots, a few of them each flip and
    /// never two close together.
    ///
    /// A quiet worker has fewer batches between two flips than that: it goes on where it was, so that
    /// every sub-table gets its turn.
    pub fn end_batch(&mut self) {
        self.table.end_batch();
        if self.sweep_left != 0 && self.sweep_due_ns <= self.batch_time_ns {
            self.sweep();
        }
    }

    #[cold]
    fn sweep(&mut self) {
        let is_crowded = self.table.is_crowded();
        let flips = if is_crowded { SLOT_IDLE_FLIPS_CROWDED } else { SLOT_IDLE_FLIPS_MAX };
        let oldest = self.flip.epoch().saturating_sub(flips);
        self.table.evict(self.sweep_next, oldest);
        Table::free_retired();
        self.sweep_next = (self.sweep_next + 1) % SUB_TABLES;
        self.sweep_left -= 1;
        self.sweep_due_ns = self.batch_time_ns + SWEEP_EVERY_NS;
    }

    /// Gathers the samples of one datagram.
    #[inline(always)]
    pub fn batch<'d>(&mut self) -> ShardBatch<'_, 'd> {
        ShardBatch::new(self)
    }

    /// This worker's books of the current generation.
    #[expect(unsafe_code, reason = "the page of the worker's own epoch")]
    pub fn page(&mut self) -> &mut Page {
        let index = generation_index(self.flip.epoch());
        // SAFETY:
        // - not shared: the coordinator reads only pages of sealed epochs, and this one is not;
        // - not aliased here: the borrow is of `&mut self`.
        unsafe { &mut *self.pages.0[index].get() }
    }

    /// Series in this shard.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.table.series_count()
    }

    fn drop_value(&mut self, cause: Cause) {
        self.page().values_dropped[cause as usize] += 1;
    }
}

impl ShardReader {
    /// Asks the worker to leave its generation; the worker must be woken if it sleeps.
    pub fn request(&mut self) {
        self.flip.request();
    }

    /// Whether the worker has left the generation that was asked for.
    pub fn is_acknowledged(&mut self) -> bool {
        self.flip.sealed().is_some()
    }

    /// Series of a kind that the worker has, about: it may take new ones meanwhile.
    #[must_use]
    pub fn series_of(&self, kind: Kind) -> usize {
        self.table.series_of(kind)
    }

    /// Series of all kinds and bytes of long keys that the worker holds, about.
    pub(crate) fn held(&self) -> (usize, usize) {
        self.table.held()
    }

    /// The budgets of this shard, and of all it shares them with.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        self.table.ledger()
    }

    /// Takes every value of the sealed generation, once, and the worker's books of it.
    ///
    /// `None` if the worker has not acknowledged yet, or the generation was collected before.
    ///
    /// # Cost
    /// One pass over all slots of the shard; the worker goes on meanwhile.
    pub fn collect(&mut self, mut visit: impl FnMut(&[u8], SealedValue)) -> Option<Page> {
        self.collect_marked(|_, key, value| visit(key, value))
    }

    /// The same for a visitor that remembers something of each series: its mark is as the visitor
    /// left it, or the default.
    pub fn collect_marked(
        &mut self,
        mut visit: impl FnMut(&mut Mark, &[u8], SealedValue),
    ) -> Option<Page> {
        let sealed = self.flip.sealed()?;
        let epoch = sealed.epoch();
        self.table.for_each(epoch, |mark, kind, key, payload| {
            visit(mark, key, sealed_value(kind, payload));
        });
        #[expect(unsafe_code, reason = "the page of a sealed epoch")]
        // SAFETY:
        // - not written meanwhile: the epoch is sealed, so the worker writes the other page;
        // - not taken twice: a copy, and `sealed` is held until it is made.
        let page = unsafe { *self.pages.0[generation_index(epoch)].get() };
        sealed.finish();
        Some(page)
    }

    /// Where this shard's chunks go when they have been read.
    #[must_use]
    pub fn chunks_home(&self) -> HomeQueue {
        self.chunks_home.clone()
    }

    /// Where this shard's sets go when they have been read.
    #[must_use]
    pub fn sets_home(&self) -> SetHome {
        self.sets_home.clone()
    }
}

#[expect(unsafe_code, reason = "boxes hang on payloads")]
fn sealed_value(kind: Kind, payload: u64) -> SealedValue {
    match kind {
        Kind::Counter => SealedValue::Counter(f64::from_bits(payload)),
        // SAFETY: a timer's payload is a chunk; the generation is sealed and collected once.
        Kind::Timer => SealedValue::Timer(Chain::of(unsafe { take_payload::<Chunk>(payload) })),
        // SAFETY: a gauge's payload is a chunk; the generation is sealed and collected once.
        Kind::Gauge => SealedValue::Gauge(Chain::of(unsafe { take_payload::<Chunk>(payload) })),
        // SAFETY: a set's payload is its members; the generation is sealed and collected once.
        Kind::Set => SealedValue::Set(unsafe { take_payload::<SetMembers>(payload) }),
    }
}
