//! A shard: the part of the map one worker owns.
//!
//! The worker parses a datagram into a `ShardBatch`, which hashes each key once, asks the cache
//! for its slot, and applies the values a few lines later. The coordinator asks for a flip, waits
//! for the acknowledgement and collects the sealed generation. Nobody waits for anybody on the data
//! plane, and memory is allocated only for a series not seen before and while pools grow.
//!
//! `flip` holds the argument why this is sound, `table` where the slots are, `payload` who owns
//! what a slot points to.

/// The hand-over of an interval's values.
pub mod flip;
mod payload;
mod table;

use arrayvec::ArrayVec;
use crossbeam_utils::CachePadded;

use self::flip::{Generations, ReaderFlip, WriterFlip, generation_index};
use self::payload::{into_payload, payload_mut, take_payload};
use self::table::{Table, TableReader, table};
use crate::books::{Cause, Page, RejectExample};
use crate::limits::{KEY_BYTES_MAX, SAMPLE_BATCH_MAX, SLOT_IDLE_FLIPS_MAX, SUB_TABLES};
use crate::name::KeyHasher;
use crate::sample::{Kind, Reason, Sample, SampleSink, Tally, Value};
use crate::series::gauge::{self, GaugeOperation};
use crate::series::pool::{Chain, Chunk, ChunkPool, HomeQueue};
use crate::series::set::{SetHome, SetMembers};
use crate::series::timer::{self, Recorded};
use crate::sync::{Arc, UnsafeCell};

/// The two pages of a worker's books, one per generation.
#[derive(Debug, Default)]
struct Pages([CachePadded<UnsafeCell<Page>>; 2]);

#[expect(unsafe_code, reason = "pages follow the flip, like every value")]
// SAFETY: the page of an epoch is touched by the worker while the epoch is its own, and by the
// coordinator once it is sealed; the flip orders the two.
unsafe impl Sync for Pages {}

/// The worker's side of a shard.
#[derive(Debug)]
pub struct ShardWriter {
    flip: WriterFlip,
    table: Table,
    pages: Arc<Pages>,
    hasher: KeyHasher,
    chunks: ChunkPool,
    sets: SetHome,
    batch_time_ns: u64,
    /// The sub-table that is looked through next for idle slots.
    sweep_next: usize,
    /// Sub-tables still to be looked through since the last flip.
    sweep_left: usize,
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

/// Makes both sides of the shard of worker `index`.
#[must_use]
pub fn shard(index: u16, hasher: KeyHasher) -> (ShardWriter, ShardReader) {
    let (writer_flip, reader_flip) = flip::flip();
    let (table, table_reader) = table();
    let pages = Arc::new(Pages::default());
    let chunks_home = HomeQueue::default();
    let sets_home = SetHome::default();
    let writer = ShardWriter {
        flip: writer_flip,
        table,
        pages: Arc::clone(&pages),
        hasher,
        chunks: ChunkPool::new(index, chunks_home.clone()),
        sets: sets_home.clone(),
        batch_time_ns: 0,
        sweep_next: 0,
        sweep_left: 0,
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
        self.sweep_left = SUB_TABLES;
        self.flip.acknowledge();
        true
    }

    /// The tail of a batch: looks through one sub-table for idle slots, each once a flip.
    ///
    /// A quiet worker has fewer batches between two flips than there are sub-tables: it goes on
    /// where it was, so that every sub-table gets its turn.
    pub fn end_batch(&mut self) {
        if self.sweep_left != 0 {
            let oldest = self.flip.epoch().saturating_sub(SLOT_IDLE_FLIPS_MAX);
            self.table.evict(self.sweep_next, oldest);
            self.sweep_next = (self.sweep_next + 1) % SUB_TABLES;
            self.sweep_left -= 1;
        }
    }

    /// Gathers the samples of one datagram.
    pub fn batch<'d>(&mut self) -> ShardBatch<'_, 'd> {
        ShardBatch { shard: self, pending: ArrayVec::new(), newest_key: None }
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

    fn apply(&mut self, hash: u64, sample: &Sample<'_>) {
        let epoch = self.flip.epoch();
        let recorded = match self.table.slot(hash, sample.value.kind(), sample.key) {
            Ok(slot) => {
                let recorder = Recorder {
                    values: &slot.generations,
                    epoch,
                    chunks: &mut self.chunks,
                    sets: &self.sets,
                    hasher: &self.hasher,
                    batch_time_ns: self.batch_time_ns,
                };
                Ok(recorder.record(&sample.value))
            }
            Err(cause) => Err(cause),
        };
        self.enter(recorded);
    }

    #[inline]
    fn enter(&mut self, recorded: Result<Switch, Cause>) {
        let page = self.page();
        match recorded {
            Ok(switch) => {
                page.values_recorded += 1;
                match switch {
                    Switch::None => {}
                    Switch::TimerSketched => page.timers_sketched += 1,
                    Switch::SetEstimated => page.sets_estimated += 1,
                }
            }
            Err(cause) => page.values_dropped[cause as usize] += 1,
        }
    }
}

/// Whether a value made its series pass an exact budget.
#[derive(Clone, Copy, Debug)]
enum Switch {
    None,
    TimerSketched,
    SetEstimated,
}

/// Records one value under the worker's epoch.
struct Recorder<'a> {
    values: &'a Generations,
    epoch: u32,
    chunks: &'a mut ChunkPool,
    sets: &'a SetHome,
    hasher: &'a KeyHasher,
    batch_time_ns: u64,
}

impl Recorder<'_> {
    #[inline]
    fn record(self, value: &Value<'_>) -> Switch {
        match *value {
            Value::Counter(amount) => {
                let before = self.values.load(self.epoch).map_or(0.0, f64::from_bits);
                self.values.store(self.epoch, (before + amount).to_bits());
                Switch::None
            }
            Value::Timer { value, weight } => self.record_timer(value, weight),
            Value::Gauge { value, is_signed } => {
                let time_ns = self.batch_time_ns;
                self.record_gauge(GaugeOperation { time_ns, value, is_signed });
                Switch::None
            }
            Value::Set(member) => self.record_member(member),
        }
    }

    #[expect(unsafe_code, reason = "chunks hang on payloads")]
    fn record_timer(self, value: f64, weight: f64) -> Switch {
        let Some(payload) = self.values.load(self.epoch) else {
            let chunk = timer::start(value, weight, self.chunks);
            self.values.store(self.epoch, into_payload(chunk));
            return Switch::None;
        };
        // SAFETY: a timer's payload is a chunk; the epoch is the worker's, who is calling; the
        // borrow ends with the call.
        let newest = unsafe { payload_mut::<Chunk>(payload) };
        match timer::record(newest, value, weight, self.chunks) {
            Recorded::InPlace | Recorded::Sketched(false) => Switch::None,
            Recorded::Sketched(true) => Switch::TimerSketched,
            Recorded::Full => {
                // SAFETY: as above, and the payload is replaced by the chunk made of it.
                let full = unsafe { take_payload::<Chunk>(payload) };
                let chunk = timer::extend(full, value, weight, self.chunks);
                self.values.store(self.epoch, into_payload(chunk));
                Switch::None
            }
        }
    }

    #[expect(unsafe_code, reason = "chunks hang on payloads")]
    fn record_gauge(self, operation: GaugeOperation) {
        let Some(payload) = self.values.load(self.epoch) else {
            let chunk = gauge::start(operation, self.chunks);
            self.values.store(self.epoch, into_payload(chunk));
            return;
        };
        // SAFETY: a gauge's payload is a chunk; the epoch is the worker's, who is calling; the
        // borrow ends with the call.
        let newest = unsafe { payload_mut::<Chunk>(payload) };
        if !gauge::record(newest, operation, self.chunks) {
            // SAFETY: as above, and the payload is replaced by the chunk made of it.
            let full = unsafe { take_payload::<Chunk>(payload) };
            let chunk = gauge::extend(full, operation, self.chunks);
            self.values.store(self.epoch, into_payload(chunk));
        }
    }

    #[expect(unsafe_code, reason = "member tables hang on payloads")]
    fn record_member(self, member: &[u8]) -> Switch {
        let member = self.hasher.member(member);
        let passed = match self.values.load(self.epoch) {
            Some(payload) => {
                // SAFETY: a set's payload is its members; the epoch is the worker's, who is calling;
                // the borrow ends with the statement.
                unsafe { payload_mut::<SetMembers>(payload) }.insert(member)
            }
            None => {
                let mut members = self.sets.take();
                let passed = members.insert(member);
                self.values.store(self.epoch, into_payload(members));
                passed
            }
        };
        if passed { Switch::SetEstimated } else { Switch::None }
    }
}

/// The samples of one datagram, applied a few lines after their slots were asked for.
#[derive(Debug)]
pub struct ShardBatch<'s, 'd> {
    shard: &'s mut ShardWriter,
    pending: ArrayVec<(u64, Sample<'d>), SAMPLE_BATCH_MAX>,
    /// The newest key of the datagram and its hash: the values of one line share the key.
    newest_key: Option<(&'d [u8], u64)>,
}

impl ShardBatch<'_, '_> {
    fn apply_pending(&mut self) {
        for (hash, sample) in &self.pending {
            self.shard.apply(*hash, sample);
        }
        self.pending.clear();
    }

    /// Applies what is pending and enters the datagram into the books.
    pub fn finish(mut self, bytes: usize, tally: Tally) {
        self.apply_pending();
        self.shard.page().enter_datagram(bytes, tally);
    }
}

impl<'d> SampleSink<'d> for ShardBatch<'_, 'd> {
    #[inline]
    fn sample(&mut self, sample: Sample<'d>) {
        // A line of thousands of values calls thousands of times with the very same key.
        let hash = match self.newest_key {
            Some((key, hash)) if std::ptr::eq(key, sample.key) => hash,
            _ if KEY_BYTES_MAX < sample.key.len() => {
                return self.shard.enter(Err(Cause::KeyTooLong));
            }
            _ => {
                let hash = self.shard.hasher.key(sample.key);
                self.shard.table.prefetch(hash);
                self.newest_key = Some((sample.key, hash));
                hash
            }
        };
        if self.pending.is_full() {
            self.apply_pending();
        }
        self.pending.push((hash, sample));
    }

    fn sample_cleaned(&mut self, sample: Sample<'_>) {
        // In the order of the wire: gauges depend on it.
        self.apply_pending();
        if KEY_BYTES_MAX < sample.key.len() {
            return self.shard.enter(Err(Cause::KeyTooLong));
        }
        let hash = self.shard.hasher.key(sample.key);
        self.shard.apply(hash, &sample);
    }

    fn reject(&mut self, reason: Reason, line: &[u8]) {
        let page = self.shard.page();
        page.values_rejected[reason as usize] += 1;
        page.first_reject.get_or_insert_with(|| RejectExample::new(reason, line));
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

    /// Takes every value of the sealed generation, once, and the worker's books of it.
    ///
    /// `None` if the worker has not acknowledged yet, or the generation was collected before.
    ///
    /// # Cost
    /// One pass over all slots of the shard; the worker goes on meanwhile.
    pub fn collect(&mut self, mut visit: impl FnMut(&[u8], SealedValue)) -> Option<Page> {
        let sealed = self.flip.sealed()?;
        let epoch = sealed.epoch();
        self.table.for_each(epoch, |kind, key, payload| visit(key, sealed_value(kind, payload)));
        #[expect(unsafe_code, reason = "the page of a sealed epoch")]
        // SAFETY: the epoch is sealed: the worker writes the other page.
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
