//! The samples of one datagram, or of the lines of one read, on their way from the parser into the table.
//!
//! Each key is hashed once and its slot is asked of the cache; the value is applied a few lines
//! later, when the slot has come. Samples are applied in the order of the wire: gauges depend on
//! it.

use arrayvec::ArrayVec;

use super::ShardWriter;
use crate::books::{Cause, RejectExample};
use crate::limits::{KEY_BYTES_MAX, SAMPLE_BATCH_MAX};
use crate::sample::{Reason, Sample, SampleSink, Tally};

/// Samples between the request for a payload and its use.
const PAYLOAD_AHEAD: usize = 8;

/// The samples of one datagram, applied a few lines after their slots were asked for.
#[derive(Debug)]
pub struct ShardBatch<'s, 'd> {
    shard: &'s mut ShardWriter,
    pending: ArrayVec<(u64, Sample<'d>), SAMPLE_BATCH_MAX>,
    /// The newest key of the datagram and its hash: the values of one line share the key.
    newest_key: Option<(&'d [u8], u64)>,
}

impl<'s> ShardBatch<'s, '_> {
    pub(super) fn new(shard: &'s mut ShardWriter) -> Self {
        Self { shard, pending: ArrayVec::new(), newest_key: None }
    }

    fn apply_pending(&mut self) {
        let epoch = self.shard.flip.epoch();
        for (at, (hash, sample)) in self.pending.iter().enumerate() {
            if let Some((ahead, _)) = self.pending.get(at + PAYLOAD_AHEAD) {
                self.shard.table.prefetch_payload(*ahead, epoch);
            }
            self.shard.apply(*hash, sample);
        }
        self.pending.clear();
    }

    /// Applies what is pending and enters the lines of a stream into the books.
    pub fn finish_lines(mut self, bytes: usize, tally: Tally) {
        self.apply_pending();
        let now_ns = self.shard.batch_time_ns;
        let page = self.shard.page();
        page.enter_lines(bytes, tally);
        page.newest_input_ns = now_ns;
    }

    /// Applies what is pending and enters the datagram into the books.
    pub fn finish(mut self, bytes: usize, tally: Tally) {
        self.apply_pending();
        let now_ns = self.shard.batch_time_ns;
        let page = self.shard.page();
        page.enter_datagram(bytes, tally);
        page.newest_input_ns = now_ns;
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
        // What came before it on the wire goes first.
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
