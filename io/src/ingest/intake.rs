//! A worker's sink: parser and shard, one behind the other.
//!
//! Where a datagram leaves `io` for `core`. Nothing is decided here: the parser has the grammar, the
//! shard the arithmetic.

use crossbeam_utils::sync::Unparker;
use floe_core::line::LineParser;
use floe_core::shard::ShardWriter;

use super::{DatagramSink, ReceiveCounts};

/// Parser and shard of one worker.
#[derive(Debug)]
pub struct Intake {
    parser: LineParser,
    shard: ShardWriter,
    coordinator: Unparker,
}

impl Intake {
    /// A sink that wakes `coordinator` whenever the shard has flipped.
    #[must_use]
    pub fn new(parser: LineParser, shard: ShardWriter, coordinator: Unparker) -> Self {
        Self { parser, shard, coordinator }
    }
}

impl DatagramSink for Intake {
    fn begin_batch(&mut self, now_ns: u64) {
        if self.shard.begin_batch(now_ns) {
            self.coordinator.unpark();
        }
    }

    fn datagram(&mut self, buffer: &[u8], len: usize) {
        let mut batch = self.shard.batch();
        let tally = self.parser.datagram(buffer, len, &mut batch);
        batch.finish(len, tally);
    }

    fn receive_counts(&mut self, counts: &ReceiveCounts) {
        let page = self.shard.page();
        page.buffers_exhausted += counts.buffers_exhausted;
        page.receive_errors += counts.receive_errors;
        page.datagrams_truncated += counts.datagrams_truncated;
    }

    fn end_batch(&mut self) {
        self.shard.end_batch();
    }
}
