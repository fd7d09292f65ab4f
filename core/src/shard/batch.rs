//! The samples of one datagram, of several, or of the lines of one read, on their way from the parser
//! into the table.
//!
//! Each key is hashed once and its slot is asked of the cache; the value is applied some lines
//! later, when the slot has come. Samples wait by kind, so that a run of applications is one loop
//! without a branch on the kind, which nobody could foresee. Samples of one series are applied in the
//! order of the wire, since those of one kind are: gauges depend on it.

use arrayvec::ArrayVec;

use super::record::{Recorder, Switch};
use super::slot::Head;
use super::{ShardWriter, flip::Generations};
use crate::books::{Cause, RejectExample};
use crate::limits::{KEY_BYTES_MAX, SAMPLE_BATCH_MAX};
use crate::sample::{Kind, Reason, Sample, SampleSink, Tally, Value};

/// A value on its way to its series.
#[derive(Debug)]
struct Keyed<'d, V> {
    head: Head,
    key: &'d [u8],
    value: V,
}

type Pending<'d, V> = ArrayVec<Keyed<'d, V>, SAMPLE_BATCH_MAX>;

/// A timer's value and its weight.
#[derive(Clone, Copy, Debug)]
struct Timing {
    value: f64,
    weight: f64,
}

/// What a gauge is set to, or changed by.
#[derive(Clone, Copy, Debug)]
struct Level {
    value: f64,
    is_signed: bool,
}

/// The samples of one datagram, applied some lines after their slots were asked for.
#[derive(Debug)]
pub struct ShardBatch<'s, 'd> {
    shard: &'s mut ShardWriter,
    counters: Pending<'d, f64>,
    timers: Pending<'d, Timing>,
    gauges: Pending<'d, Level>,
    sets: Pending<'d, &'d [u8]>,
}

impl<'s, 'd> ShardBatch<'s, 'd> {
    // Always inline: the lists are five KiB, which no call should copy.
    #[inline(always)]
    pub(super) fn new(shard: &'s mut ShardWriter) -> Self {
        Self {
            shard,
            counters: ArrayVec::new(),
            timers: ArrayVec::new(),
            gauges: ArrayVec::new(),
            sets: ArrayVec::new(),
        }
    }

    #[inline]
    fn apply_pending(&mut self) {
        // Most datagrams of one line leave three lists empty.
        if !self.counters.is_empty() {
            self.apply_counters();
        }
        if !self.timers.is_empty() {
            self.apply_timers();
        }
        if !self.gauges.is_empty() {
            self.apply_gauges();
        }
        if !self.sets.is_empty() {
            self.apply_sets();
        }
    }

    fn apply_counters(&mut self) {
        self.shard.apply(Kind::Counter, &self.counters, |recorder, series, amount| {
            recorder.counter(series, *amount)
        });
        self.counters.clear();
    }

    fn apply_timers(&mut self) {
        self.shard.apply(Kind::Timer, &self.timers, |recorder, series, timing| {
            recorder.timer(series, timing.value, timing.weight)
        });
        self.timers.clear();
    }

    fn apply_gauges(&mut self) {
        self.shard.apply(Kind::Gauge, &self.gauges, |recorder, series, level| {
            recorder.gauge(series, level.value, level.is_signed)
        });
        self.gauges.clear();
    }

    fn apply_sets(&mut self) {
        self.shard.apply(Kind::Set, &self.sets, |recorder, series, member| {
            recorder.member(series, member)
        });
        self.sets.clear();
    }

    /// Keeps a value until it is applied; its slot is asked of the cache now.
    #[inline]
    fn push(&mut self, hash: u64, key: &'d [u8], value: Value<'d>) {
        let head = Head::of(hash, value.kind(), key);
        self.shard.table.prefetch(head);
        match value {
            Value::Counter(value) => {
                if self.counters.is_full() {
                    self.apply_counters();
                }
                self.counters.push(Keyed { head, key, value });
            }
            Value::Timer { value, weight } => {
                if self.timers.is_full() {
                    self.apply_timers();
                }
                self.timers.push(Keyed { head, key, value: Timing { value, weight } });
            }
            Value::Gauge { value, is_signed } => {
                if self.gauges.is_full() {
                    self.apply_gauges();
                }
                self.gauges.push(Keyed { head, key, value: Level { value, is_signed } });
            }
            Value::Set(value) => {
                if self.sets.is_full() {
                    self.apply_sets();
                }
                self.sets.push(Keyed { head, key, value });
            }
        }
    }

    /// Applies what is pending and enters the lines of a stream into the books.
    pub fn finish_lines(&mut self, bytes: usize, tally: Tally) {
        self.apply_pending();
        let now_ns = self.shard.batch_time_ns;
        let page = self.shard.page();
        page.enter_lines(bytes, tally);
        page.newest_input_ns = now_ns;
    }

    /// Enters a datagram into the books whose samples are applied later, at the latest by
    /// [`ShardBatch::apply`].
    #[inline]
    pub fn enter(&mut self, bytes: usize, tally: Tally) {
        let now_ns = self.shard.batch_time_ns;
        let page = self.shard.page();
        page.enter_datagram(bytes, tally);
        page.newest_input_ns = now_ns;
    }

    /// Applies what is pending of all datagrams entered.
    pub fn apply(mut self) {
        self.apply_pending();
    }

    /// Applies what is pending and enters the datagram into the books.
    pub fn finish(&mut self, bytes: usize, tally: Tally) {
        self.apply_pending();
        let now_ns = self.shard.batch_time_ns;
        let page = self.shard.page();
        page.enter_datagram(bytes, tally);
        page.newest_input_ns = now_ns;
    }
}

impl ShardWriter {
    /// Records `pending`, all of one kind, in its order.
    #[inline]
    fn apply<V>(
        &mut self,
        kind: Kind,
        pending: &[Keyed<'_, V>],
        record: impl Fn(&mut Recorder<'_>, &Generations, &V) -> Switch,
    ) {
        let epoch = self.flip.epoch();
        if kind != Kind::Counter {
            for Keyed { head, .. } in pending {
                self.table.prefetch_payload(*head, epoch);
            }
        }
        let mut recorder = Recorder {
            epoch,
            chunks: &mut self.chunks,
            sets: &mut self.sets,
            hasher: &self.hasher,
            batch_time_ns: self.batch_time_ns,
        };
        let mut dropped = ArrayVec::<Cause, SAMPLE_BATCH_MAX>::new();
        let mut switched = 0;
        for Keyed { head, key, value } in pending {
            match self.table.slot(*head, key) {
                Ok(slot) => {
                    let switch = record(&mut recorder, &slot.generations, value);
                    switched += u64::from(switch == Switch::Done);
                }
                Err(cause) => dropped.push(cause),
            }
        }
        let page = self.page();
        page.values_recorded += (pending.len() - dropped.len()) as u64;
        match kind {
            Kind::Timer => page.timers_sketched += switched,
            Kind::Set => page.sets_estimated += switched,
            Kind::Counter | Kind::Gauge => {}
        }
        for cause in dropped {
            page.values_dropped[cause as usize] += 1;
        }
    }
}

impl<'d> SampleSink<'d> for ShardBatch<'_, 'd> {
    #[inline]
    fn sample(&mut self, Sample { key, value }: Sample<'d>) {
        if KEY_BYTES_MAX < key.len() {
            return self.shard.drop_value(Cause::KeyTooLong);
        }
        let hash = self.shard.hasher.key(key);
        self.push(hash, key, value);
    }

    fn sample_cleaned(&mut self, Sample { key, value }: Sample<'_>) {
        // What came before it on the wire goes first.
        self.apply_pending();
        if KEY_BYTES_MAX < key.len() {
            return self.shard.drop_value(Cause::KeyTooLong);
        }
        let hash = self.shard.hasher.key(key);
        let mut alone = ShardBatch::new(self.shard);
        alone.push(hash, key, value);
        alone.apply_pending();
    }

    fn reject(&mut self, reason: Reason, line: &[u8]) {
        let page = self.shard.page();
        page.values_rejected[reason as usize] += 1;
        page.first_reject.get_or_insert_with(|| RejectExample::new(reason, line));
    }
}
