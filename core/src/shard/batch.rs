//! The samples of one datagram, of several, or of the lines of one read, on their way from the parser
//! into the table.
//!
//! Each key is hashed once and its slot is asked of the cache; the value is applied some lines
//! later, when the slot has come. Samples wait by kind, so that a run of applications is one loop
//! without a branch on the kind, which nobody could foresee. Samples of one series are applied in the
//! order of the wire, since those of one kind are: gauges depend on it.

use arrayvec::ArrayVec;

use super::record::{self, Number, Recorder, Switch};
use super::slot::Head;
use super::table::{Near, Spot};
use super::{ShardWriter, flip::Generations};
use crate::books::{Cause, RejectExample};
use crate::limits::{KEY_BYTES_MAX, SAMPLE_BATCH_MAX};
use crate::sample::{Kind, Reason, Sample, SampleSink, Tally, Value};

/// A value on its way to its series.
#[derive(Debug)]
struct Keyed<'d, V> {
    /// Where it is looked for first.
    near: Near,
    /// Where it likely is, once it has been sought.
    spot: Spot,
    head: Head,
    key: &'d [u8],
    value: V,
}

type Pending<'d, V> = ArrayVec<Keyed<'d, V>, SAMPLE_BATCH_MAX>;

/// Kinds whose values are numbers: the first of [`Kind::ALL`].
const NUMBER_KINDS: usize = 3;

/// The samples of one datagram, applied some lines after their slots were asked for.
#[derive(Debug)]
pub struct ShardBatch<'s, 'd> {
    shard: &'s mut ShardWriter,
    /// By kind.
    numbers: [Pending<'d, Number>; NUMBER_KINDS],
    members: Pending<'d, &'d [u8]>,
}

impl<'s, 'd> ShardBatch<'s, 'd> {
    // Always inline: the lists are six KiB, which no call should copy.
    #[inline(always)]
    pub(super) fn new(shard: &'s mut ShardWriter) -> Self {
        let numbers = [ArrayVec::new(), ArrayVec::new(), ArrayVec::new()];
        Self { shard, numbers, members: ArrayVec::new() }
    }

    #[inline]
    fn apply_pending(&mut self) {
        // The slots of all kinds are asked for before the first is looked at.
        for list in &mut self.numbers {
            self.shard.seek(list);
        }
        self.shard.seek(&mut self.members);
        let [_, timers, gauges] = &self.numbers;
        self.shard.seek_payloads(timers);
        self.shard.seek_payloads(gauges);
        self.shard.seek_payloads(&self.members);
        // Most datagrams of one line leave three lists empty.
        for kind in [Kind::Counter, Kind::Timer, Kind::Gauge] {
            if !self.numbers[kind as usize].is_empty() {
                self.apply_numbers(kind);
            }
        }
        if !self.members.is_empty() {
            self.apply_members();
        }
    }

    /// Applies the numbers of one kind, whose list is full.
    #[inline(never)]
    fn apply_full(&mut self, kind: Kind) {
        let list = &mut self.numbers[kind as usize];
        self.shard.seek(list);
        if kind != Kind::Counter {
            self.shard.seek_payloads(list);
        }
        self.apply_numbers(kind);
    }

    #[inline(never)]
    fn apply_numbers(&mut self, kind: Kind) {
        let list = &mut self.numbers[kind as usize];
        match kind {
            Kind::Timer => self.shard.apply(kind, list, record::timer),
            Kind::Gauge => self.shard.apply(kind, list, record::gauge),
            Kind::Counter | Kind::Set => self.shard.apply(kind, list, record::counter),
        }
        list.clear();
    }

    #[inline(never)]
    fn apply_members(&mut self) {
        self.shard.apply(Kind::Set, &self.members, record::member);
        self.members.clear();
    }

    /// Keeps a value until it is applied; its slot is asked of the cache now.
    #[inline]
    fn push(&mut self, hash: u64, key: &'d [u8], value: Value<'d>) {
        let (kind, number) = match value {
            Value::Counter(value) => {
                (Kind::Counter, Number { value, weight: 1.0, is_signed: false })
            }
            Value::Timer { value, weight } => {
                (Kind::Timer, Number { value, weight, is_signed: false })
            }
            Value::Gauge { value, is_signed } => {
                (Kind::Gauge, Number { value, weight: 1.0, is_signed })
            }
            Value::Set(value) => {
                let head = Head::of(hash, Kind::Set, key);
                let near = self.shard.table.near(head);
                if self.members.is_full() {
                    self.shard.seek(&mut self.members);
                    self.apply_members();
                }
                return self.members.push(Keyed { near, spot: Spot::NONE, head, key, value });
            }
        };
        self.push_number(Head::of(hash, kind, key), key, kind, number);
    }

    /// The same for a number: without a branch on the kind.
    #[inline(always)]
    fn push_number(&mut self, head: Head, key: &'d [u8], kind: Kind, value: Number) {
        let near = self.shard.table.near(head);
        if self.numbers[kind as usize].is_full() {
            self.apply_full(kind);
        }
        self.numbers[kind as usize].push(Keyed { near, spot: Spot::NONE, head, key, value });
    }

    /// A number whose key is short or long.
    #[inline(never)]
    fn push_odd_number(&mut self, key: &'d [u8], kind: Kind, value: Number) {
        if KEY_BYTES_MAX < key.len() {
            return self.shard.drop_value(Cause::KeyTooLong);
        }
        let head = Head::of(self.shard.hasher.key(key), kind, key);
        self.push_number(head, key, kind, value);
    }

    /// Applies what is pending and enters the lines of a stream into the books.
    pub fn finish_lines(&mut self, bytes: usize, tally: Tally) {
        self.apply_pending();
        let now_ns = self.shard.batch_time_ns;
        let page = self.shard.page();
        page.enter_lines(bytes, tally);
        page.newest_input_ns = now_ns;
    }

    /// Applies what is pending and enters the datagram into the books.
    #[inline]
    pub fn finish(&mut self, bytes: usize, tally: Tally) {
        self.finish_datagrams(1, bytes, tally);
    }

    /// The same for several datagrams of `bytes` bytes together.
    // By reference: handed over by value, the lists would be copied.
    pub fn finish_datagrams(&mut self, datagrams: usize, bytes: usize, tally: Tally) {
        self.apply_pending();
        let now_ns = self.shard.batch_time_ns;
        let page = self.shard.page();
        page.enter_datagrams(datagrams, bytes, tally);
        page.newest_input_ns = now_ns;
    }
}

impl ShardWriter {
    /// Finds where the series of `pending` likely are; their slots are asked of the cache.
    #[inline]
    #[expect(unsafe_code, reason = "the groups are of this table")]
    fn seek<V>(&self, pending: &mut Pending<'_, V>) {
        for Keyed { near, spot, head, .. } in pending {
            // SAFETY: `push` asked this table for it, within this batch.
            *spot = unsafe { self.table.seek(*near, *head) };
        }
    }

    /// Asks the cache for what the slots of `pending` point to, which has been sought.
    #[inline]
    #[expect(unsafe_code, reason = "spots are slots of the table")]
    fn seek_payloads<V>(&self, pending: &Pending<'_, V>) {
        let epoch = self.flip.epoch();
        for Keyed { spot, .. } in pending {
            // SAFETY: `seek` found it, within this batch.
            unsafe { self.table.prefetch_payload(*spot, epoch) };
        }
    }

    /// Records `pending`, all of one kind, in its order; it has been sought.
    #[inline]
    #[expect(unsafe_code, reason = "spots are slots of the table")]
    fn apply<V>(
        &mut self,
        kind: Kind,
        pending: &Pending<'_, V>,
        record: impl Fn(&mut Recorder<'_>, &Generations, &V) -> Switch,
    ) {
        let mut recorder = Recorder {
            epoch: self.flip.epoch(),
            chunks: &mut self.chunks,
            sets: &mut self.sets,
            hasher: &self.hasher,
            batch_time_ns: self.batch_time_ns,
        };
        let mut dropped = ArrayVec::<Cause, SAMPLE_BATCH_MAX>::new();
        let (mut switched, mut folded) = (0, 0);
        for Keyed { spot, head, key, value, .. } in pending {
            // SAFETY: `seek` found it, within this batch.
            let found = unsafe { self.table.slot(*spot, *head, key) };
            let switch = match found {
                Ok(slot) => record(&mut recorder, &slot.generations, value),
                Err(cause) => match self.table.overflow_slot(&self.hasher, kind, key, cause) {
                    Some(slot) => {
                        let switch = record(&mut recorder, &slot.generations, value);
                        folded += u64::from(!matches!(switch, Switch::Refused(_)));
                        switch
                    }
                    None => Switch::Refused(cause),
                },
            };
            match switch {
                Switch::None => {}
                Switch::Done => switched += 1,
                Switch::Refused(cause) => dropped.push(cause),
            }
        }
        let page = self.page();
        page.values_folded += folded;
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

    #[inline(always)]
    fn number(&mut self, key: &'d [u8], kind: Kind, number: f64) {
        let number = Number { value: number, weight: 1.0, is_signed: false };
        match self.shard.hasher.ordinary_key(key) {
            Some(hash) => self.push_number(Head::inline(hash, kind, key), key, kind, number),
            None => self.push_odd_number(key, kind, number),
        }
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
