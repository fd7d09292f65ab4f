//! Received buffers, held back for a moment so that the sink gets several datagrams at once.
//!
//! A sink that reads many small datagrams together can ask the cache for the series of the last while
//! it reads the first. At most `DATAGRAMS_AT_ONCE` buffers are held; all are back before the batch
//! ends. Trains are handed over one by one: each is many datagrams.

use arrayvec::ArrayVec;
use floe_core::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_SLACK_BYTES, DATAGRAMS_AT_ONCE};
use floe_core::line::Datagram;
use io_uring::types::RecvMsgOut;

use super::buffers::{BufferRing, Lease};
use super::recv::Completion;
use crate::ingest::{DatagramSink, ReceiveCounts, train};

/// What the kernel writes before a payload of `RecvMsgMulti`: a header and the control message.
pub(super) const TRAIN_HEAD_BYTES: usize = 16 + train::CONTROL_BYTES;

/// Stands for the buffer of an empty datagram that used none.
static EMPTY: [u8; DATAGRAM_SLACK_BYTES] = [0; DATAGRAM_SLACK_BYTES];

/// Buffers received and not handed over yet, each with what the kernel wrote into it, bytes.
pub(super) struct Held<'h> {
    received: ArrayVec<(Lease, usize), DATAGRAMS_AT_ONCE>,
    /// What was asked of the kernel, where trains may come.
    header: Option<&'h libc::msghdr>,
}

impl<'h> Held<'h> {
    /// Holds nothing. `header`: what the receives were armed with, where trains may come.
    pub(super) fn new(header: Option<&'h libc::msghdr>) -> Self {
        Self { received: ArrayVec::new(), header }
    }

    /// Takes what a completion received, if it did; returns the number of datagrams handed over.
    pub(super) fn take(
        &mut self,
        completion: &Completion,
        buffers: &mut BufferRing,
        counts: &mut ReceiveCounts,
        sink: &mut impl DatagramSink,
    ) -> usize {
        let len = usize::try_from(completion.result).ok();
        let Some(id) = completion.buffer else {
            // An empty datagram needs no buffer, and the kernel keeps it.
            if len != Some(0) {
                return 0;
            }
            let before = self.hand_over(buffers, counts, sink);
            sink.datagram(&EMPTY, 0);
            return before + 1;
        };
        let lease = buffers.lease(id);
        let Some(len) = len else {
            buffers.release(lease);
            return 0;
        };
        self.received.push((lease, len));
        if self.received.is_full() { self.hand_over(buffers, counts, sink) } else { 0 }
    }

    /// Hands all that is held to `sink`, and the buffers back; returns the number of datagrams.
    pub(super) fn hand_over(
        &mut self,
        buffers: &mut BufferRing,
        counts: &mut ReceiveCounts,
        sink: &mut impl DatagramSink,
    ) -> usize {
        let count = match self.header {
            None => self.hand_over_datagrams(buffers, counts, sink),
            Some(header) => {
                let trains = self.received.iter().map(|(lease, len)| {
                    hand_over_train(buffers.read(lease), *len, header, counts, sink)
                });
                trains.sum()
            }
        };
        for (lease, _) in self.received.drain(..) {
            buffers.release(lease);
        }
        count
    }

    fn hand_over_datagrams(
        &self,
        buffers: &BufferRing,
        counts: &mut ReceiveCounts,
        sink: &mut impl DatagramSink,
    ) -> usize {
        let mut datagrams = ArrayVec::<Datagram<'_>, DATAGRAMS_AT_ONCE>::new();
        for (lease, len) in &self.received {
            assert!(*len <= DATAGRAM_BYTES_MAX, "the kernel wrote {len} bytes into a buffer");
            counts.datagrams_truncated += u64::from(*len == DATAGRAM_BYTES_MAX);
            datagrams.push(Datagram { buffer: buffers.read(lease), len: *len });
        }
        sink.datagrams(&datagrams);
        datagrams.len()
    }
}

/// Hands the datagrams of a train to `sink`, of which the kernel wrote `len` bytes in all.
fn hand_over_train(
    buffer: &[u8],
    len: usize,
    header: &libc::msghdr,
    counts: &mut ReceiveCounts,
    sink: &mut impl DatagramSink,
) -> usize {
    let Ok(message) = RecvMsgOut::parse(&buffer[..len], header) else {
        // Shorter than what the kernel writes before any payload.
        counts.receive_errors += 1;
        return 0;
    };
    let (payload, datagram_bytes) =
        (message.payload_data().len(), train::datagram_bytes(message.control_data()));
    assert!(payload <= DATAGRAM_BYTES_MAX, "the kernel wrote {payload} bytes into a buffer");
    let is_cut = message.is_payload_truncated() || payload == DATAGRAM_BYTES_MAX;
    counts.datagrams_truncated += u64::from(is_cut);
    train::hand_over(&buffer[TRAIN_HEAD_BYTES..], payload, datagram_bytes, sink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::recvmmsg::empty_header;

    #[derive(Default)]
    struct Kept {
        datagrams: Vec<Vec<u8>>,
        calls: Vec<usize>,
    }

    impl DatagramSink for Kept {
        fn begin_batch(&mut self, _now_ns: u64) {}
        fn datagram(&mut self, buffer: &[u8], len: usize) {
            self.datagrams.push(buffer[..len].to_vec());
        }
        fn datagrams(&mut self, datagrams: &[Datagram<'_>]) {
            self.calls.push(datagrams.len());
            datagrams.iter().for_each(|datagram| self.datagram(datagram.buffer, datagram.len));
        }
        fn lines(&mut self, _buffer: &[u8], _len: usize) {}
        fn receive_counts(&mut self, _counts: &ReceiveCounts) {}
        fn end_batch(&mut self) {}
    }

    /// Takes `completions` and hands all over; returns what came of it, and the number of datagrams.
    fn handed_over(completions: &[Completion]) -> (Kept, ReceiveCounts, usize) {
        let mut buffers = BufferRing::new(0).unwrap();
        buffers.lend_all();
        let (mut held, mut counts, mut kept) =
            (Held::new(None), ReceiveCounts::default(), Kept::default());
        let mut count = 0;
        for completion in completions {
            count += held.take(completion, &mut buffers, &mut counts, &mut kept);
        }
        count += held.hand_over(&mut buffers, &mut counts, &mut kept);
        // Every buffer came back: a second lease of one that is out would stop the process.
        for completion in completions {
            count += held.take(completion, &mut buffers, &mut counts, &mut Kept::default());
            count += held.hand_over(&mut buffers, &mut counts, &mut Kept::default());
        }
        (kept, counts, count / 2)
    }

    fn received(id: u16, len: i32) -> Completion {
        Completion { result: len, buffer: Some(id), has_more: true }
    }

    #[test]
    fn datagrams_are_handed_over_together_in_their_order() {
        let completions: Vec<Completion> = (0..70).map(|id| received(id, i32::from(id))).collect();
        let (kept, counts, count) = handed_over(&completions);
        assert_eq!((count, kept.datagrams.len()), (70, 70));
        assert!(kept.datagrams.iter().enumerate().all(|(at, datagram)| datagram.len() == at));
        assert_eq!(kept.calls, [32, 32, 6]);
        assert_eq!(counts, ReceiveCounts::default());
    }

    #[test]
    fn datagram_as_long_as_its_buffer_counts_as_truncated() {
        let (kept, counts, count) = handed_over(&[received(0, 65_535), received(1, 65_536)]);
        assert_eq!((count, kept.datagrams[1].len()), (2, 65_536));
        assert_eq!(counts.datagrams_truncated, 2, "once in each of two rounds");
    }

    #[test]
    fn empty_datagram_counts_with_and_without_a_buffer_and_keeps_its_place() {
        let without = Completion { result: 0, buffer: None, has_more: false };
        let (kept, counts, count) =
            handed_over(&[received(1, 3), without, received(7, 0), received(2, 2)]);
        let lengths: Vec<usize> = kept.datagrams.iter().map(Vec::len).collect();
        assert_eq!((lengths, count), (vec![3, 0, 0, 2], 4));
        assert_eq!(counts, ReceiveCounts::default());
    }

    #[test]
    fn buffer_of_a_failed_receive_comes_back_and_is_no_datagram() {
        let failed = |buffer| Completion { result: -libc::EFAULT, buffer, has_more: false };
        let (kept, _, count) = handed_over(&[failed(Some(3)), failed(None)]);
        assert_eq!((kept.datagrams.len(), count), (0, 0));
    }

    /// What the kernel wrote of a train, as its header has it.
    fn received_train(payload_bytes: u32, flags: u32) -> Vec<u8> {
        let words = [0, 0, payload_bytes, flags];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.resize(TRAIN_HEAD_BYTES, 0);
        bytes.extend([b'a'; 9]);
        bytes
    }

    #[test]
    fn cut_and_broken_trains_are_counted() {
        let mut header = empty_header();
        header.msg_controllen = train::CONTROL_BYTES as _;
        let (mut counts, mut kept) = (ReceiveCounts::default(), Kept::default());
        let mut taken = |bytes: &[u8]| {
            let len = bytes.len();
            let mut buffer = bytes.to_vec();
            buffer.resize(len + DATAGRAM_SLACK_BYTES, b'x');
            hand_over_train(&buffer, len, &header, &mut counts, &mut kept)
        };
        let truncated = u32::try_from(libc::MSG_TRUNC).unwrap();
        assert_eq!(taken(&received_train(9, 0)), 1);
        assert_eq!(taken(&received_train(20, truncated)), 1);
        assert_eq!(taken(&received_train(9, 0)[..TRAIN_HEAD_BYTES - 1]), 0);
        assert_eq!(kept.datagrams, [b"aaaaaaaaa", b"aaaaaaaaa"]);
        let expected =
            ReceiveCounts { datagrams_truncated: 1, receive_errors: 1, ..Default::default() };
        assert_eq!(counts, expected);
    }
}
