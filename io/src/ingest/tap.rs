//! Copies of raw datagrams on their way to a thread of their own.
//!
//! The repeater and `dumpMessages` want every datagram as it came, before it is parsed, and neither
//! may hold up a worker. A worker copies datagrams into a batch and hands the batch over when it
//! is full or the worker's own batch ends; the reader gives it back when it has read it. Nothing is
//! allocated after the start. Where no batch is free the reader is behind: the datagram is left out
//! *for the tap alone*, and counted.
//!
//! Limits: `TAP_BATCHES` batches of `TAP_BATCH_BYTES` for all workers of a tap together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use floe_core::limits::{TAP_BATCH_BYTES, TAP_BATCH_DATAGRAMS, TAP_BATCHES};

use crate::sys::WakeUp;

/// Datagrams of one batch.
#[derive(Debug)]
pub(crate) struct TapBatch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl TapBatch {
    fn new() -> Box<Self> {
        let bytes = Vec::with_capacity(TAP_BATCH_BYTES);
        Box::new(Self { bytes, ends: Vec::with_capacity(TAP_BATCH_DATAGRAMS) })
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= TAP_BATCH_BYTES && self.ends.len() < TAP_BATCH_DATAGRAMS
    }

    /// The datagrams, in the order in which they came.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// What the ends of a tap share.
#[derive(Debug)]
struct Shared {
    free: ArrayQueue<Box<TapBatch>>,
    /// As many places as there are batches: never full.
    full: ArrayQueue<Box<TapBatch>>,
    filled: WakeUp,
    left_out: Arc<AtomicU64>,
}

/// The reader's end.
#[derive(Debug)]
pub(crate) struct TapReader(Arc<Shared>);

/// One worker's end. Dropped, it hands over what it holds.
#[derive(Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    current: Option<Box<TapBatch>>,
}

/// A tap with its memory.
///
/// # Errors
/// The kernel's, when the process is out of file descriptors.
pub(crate) fn tap() -> std::io::Result<TapReader> {
    tap_of(TAP_BATCHES)
}

/// The same of so many batches.
///
/// # Errors
/// As [`tap`].
pub(crate) fn tap_of(batches: usize) -> std::io::Result<TapReader> {
    let free = ArrayQueue::new(batches);
    while free.push(TapBatch::new()).is_ok() {}
    let full = ArrayQueue::new(batches);
    let (filled, left_out) = (WakeUp::new()?, Arc::default());
    Ok(TapReader(Arc::new(Shared { free, full, filled, left_out })))
}

impl TapReader {
    /// An end for a worker.
    pub(crate) fn writer(&self) -> Tap {
        Tap { shared: Arc::clone(&self.0), current: None }
    }

    /// A second reader's handle: batches go to whoever takes them first.
    pub(crate) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Set when a batch was handed over.
    pub(crate) fn filled(&self) -> &WakeUp {
        &self.0.filled
    }

    /// The next batch.
    pub(crate) fn take(&self) -> Option<Box<TapBatch>> {
        self.0.full.pop()
    }

    /// A batch that has been read.
    pub(crate) fn give_back(&self, mut batch: Box<TapBatch>) {
        batch.bytes.clear();
        batch.ends.clear();
        // There are as many places as batches.
        drop(self.0.free.push(batch));
    }

    /// The count behind [`Self::left_out`], which outlives the tap's memory.
    pub(crate) fn left_out_count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.left_out)
    }

    /// Datagrams left out since the start.
    pub(crate) fn left_out(&self) -> u64 {
        self.0.left_out.load(Ordering::Relaxed)
    }
}

impl Tap {
    /// Copies one datagram.
    pub(crate) fn push(&mut self, datagram: &[u8]) {
        self.push_parts(&[], datagram);
    }

    /// Copies one datagram behind a head of a few bytes.
    pub(crate) fn push_parts(&mut self, head: &[u8], datagram: &[u8]) {
        let bytes = head.len() + datagram.len();
        if self.current.as_ref().is_some_and(|batch| !batch.has_room(bytes)) {
            self.hand_over();
        }
        if self.current.is_none() {
            self.current = self.shared.free.pop();
        }
        match &mut self.current {
            Some(batch) => {
                batch.bytes.extend_from_slice(head);
                batch.bytes.extend_from_slice(datagram);
                batch.ends.push(batch.bytes.len());
            }
            None => {
                self.shared.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Hands over what was copied.
    pub(crate) fn hand_over(&mut self) {
        if let Some(batch) = self.current.take() {
            // There are as many places as batches.
            drop(self.shared.full.push(batch));
            self.shared.filled.wake();
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.hand_over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(reader: &TapReader) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        while let Some(batch) = reader.take() {
            datagrams.extend(batch.datagrams().map(<[u8]>::to_vec));
            reader.give_back(batch);
        }
        datagrams
    }

    #[test]
    fn datagrams_come_out_as_they_went_in() {
        let reader = tap().unwrap();
        let mut writer = reader.writer();
        let large = vec![b'x'; 65_507];
        let sent: [&[u8]; 5] = [b"a:1|c", b"", &large, b"bad\n\n", &[0xff, 0]];
        sent.iter().for_each(|datagram| writer.push(datagram));
        assert!(reader.take().is_none(), "not handed over yet");
        writer.hand_over();
        assert!(reader.filled().clear());
        assert_eq!(take_all(&reader), sent);
    }

    #[test]
    fn a_reader_that_is_behind_costs_datagrams_of_the_tap_and_memory_comes_back() {
        let reader = tap().unwrap();
        let mut writer = reader.writer();
        let datagram = [b'd'; 1_024];
        let room = TAP_BATCHES * TAP_BATCH_BYTES / datagram.len();
        for _ in 0..room + 7 {
            writer.push(&datagram);
        }
        writer.hand_over();
        assert_eq!(reader.left_out(), 7);
        assert_eq!(take_all(&reader).len(), room);
        writer.push(&datagram);
        drop(writer);
        assert_eq!((take_all(&reader).len(), reader.left_out()), (1, 7));
    }
}
