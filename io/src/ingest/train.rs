//! Trains: datagrams of one sender that the kernel hands over as one (`UDP_GRO`).
//!
//! All datagrams of a train have the same length but for the last, which may be shorter. A control
//! message says that length; without one the payload is one datagram. Trains come from senders with
//! `UDP_SEGMENT` and from network cards that coalesce. A worker reads the datagrams of a train one by
//! one, where they lie, so that its books know datagrams alone.

use arrayvec::ArrayVec;
use floe_core::limits::DATAGRAMS_AT_ONCE;
use floe_core::line::Datagram;

use super::DatagramSink;

/// Room for the control message, bytes: `CMSG_SPACE` of an int on 64-bit machines.
pub(crate) const CONTROL_BYTES: usize = 24;

/// Level and type of the message: `SOL_UDP`, `UDP_GRO`.
const LEVEL_AND_TYPE: [i32; 2] = [libc::SOL_UDP, libc::UDP_GRO];

/// The length of the datagrams of a train; `None` where the payload is one datagram.
///
/// `control`: what the kernel wrote, which is a `cmsghdr` (length, level, type) and an int, or nothing.
pub(crate) fn datagram_bytes(control: &[u8]) -> Option<usize> {
    let words = control.get(size_of::<libc::size_t>()..)?;
    let mut words = words.chunks_exact(4).filter_map(|word| word.try_into().ok());
    let mut word = || words.next().map(i32::from_ne_bytes);
    if [word()?, word()?] != LEVEL_AND_TYPE {
        return None;
    }
    usize::try_from(word()?).ok().filter(|bytes| 0 < *bytes)
}

/// Hands the datagrams of a train to `sink`; returns how many there were.
///
/// `buffer`: the first `len` bytes are the train, with the slack of a datagram behind them.
pub(crate) fn hand_over(
    buffer: &[u8],
    len: usize,
    datagram_bytes: Option<usize>,
    sink: &mut impl DatagramSink,
) -> usize {
    let Some(datagram_bytes) = datagram_bytes.filter(|bytes| *bytes < len) else {
        sink.datagram(buffer, len);
        return 1;
    };
    let mut together = ArrayVec::<Datagram<'_>, DATAGRAMS_AT_ONCE>::new();
    let (mut at, mut datagrams) = (0, 0);
    while at < len {
        let part = datagram_bytes.min(len - at);
        together.push(Datagram { buffer: &buffer[at..], len: part });
        at += part;
        datagrams += 1;
        if together.is_full() || len <= at {
            sink.datagrams(&together);
            together.clear();
        }
    }
    datagrams
}

#[cfg(test)]
mod tests {
    use floe_core::limits::DATAGRAM_SLACK_BYTES;

    use super::*;
    use crate::ingest::ReceiveCounts;

    #[derive(Default)]
    struct Kept(Vec<Vec<u8>>);

    impl DatagramSink for Kept {
        fn begin_batch(&mut self, _now_ns: u64) {}
        fn datagram(&mut self, buffer: &[u8], len: usize) {
            assert!(len + DATAGRAM_SLACK_BYTES <= buffer.len());
            self.0.push(buffer[..len].to_vec());
        }
        fn lines(&mut self, _buffer: &[u8], _len: usize) {}
        fn receive_counts(&mut self, _counts: &ReceiveCounts) {}
        fn end_batch(&mut self) {}
    }

    fn taken_apart(train: &[u8], datagram_bytes: Option<usize>) -> Vec<Vec<u8>> {
        let mut buffer = train.to_vec();
        buffer.resize(train.len() + DATAGRAM_SLACK_BYTES, b'x');
        let mut kept = Kept::default();
        assert_eq!(hand_over(&buffer, train.len(), datagram_bytes, &mut kept), kept.0.len());
        kept.0
    }

    #[test]
    fn train_is_taken_apart_and_its_last_datagram_may_be_shorter() {
        assert_eq!(taken_apart(b"aabbc", Some(2)), [&b"aa"[..], b"bb", b"c"]);
        assert_eq!(taken_apart(b"aabb", Some(2)), [b"aa", b"bb"]);
        assert_eq!(taken_apart(b"abc", Some(1)), [b"a", b"b", b"c"]);
    }

    #[test]
    fn one_datagram_is_one_whatever_its_length() {
        for (payload, datagram_bytes) in
            [("", None), ("", Some(5)), ("abc", None), ("abc", Some(3))]
        {
            assert_eq!(taken_apart(payload.as_bytes(), datagram_bytes), [payload.as_bytes()]);
        }
        assert_eq!(taken_apart(b"abc", Some(usize::MAX)), [b"abc"]);
    }

    fn control(level: i32, kind: i32, value: i32) -> Vec<u8> {
        let mut bytes = (size_of::<libc::size_t>() + 12).to_ne_bytes().to_vec();
        bytes.extend([level, kind, value].iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn length_is_read_from_the_control_message_of_that_kind_alone() {
        let [level, kind] = LEVEL_AND_TYPE;
        let mut whole = control(level, kind, 30);
        assert_eq!(datagram_bytes(&whole), Some(30));
        whole.resize(CONTROL_BYTES, 0);
        assert_eq!(datagram_bytes(&whole), Some(30), "with its padding");
        for other in [
            control(level, kind, 0),
            control(level, kind, -1),
            control(level, kind + 1, 30),
            control(level + 1, kind, 30),
            control(level, kind, 30)[..19].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(datagram_bytes(&other), None, "{other:?}");
        }
    }
}
