//! What a completion belongs to: the 64 bits each request carries through the kernel.
//!
//! The kind stands in the upper half, the index of the socket in the lower one.

/// The request behind a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The multishot receive of a socket, by its index in the worker.
    Receive(u32),
    /// The multishot receive of a connection, by its slot in the worker.
    Stream(u32),
    /// The multishot poll of the wake-up.
    WakeUp,
    /// The cancellation at the drain.
    Cancel,
}

const RECEIVE: u32 = 1;
const WAKE_UP: u32 = 2;
const CANCEL: u32 = 3;
const STREAM: u32 = 4;

impl Request {
    /// The bits given to the kernel.
    pub(crate) const fn encode(self) -> u64 {
        let (kind, index) = match self {
            Self::Receive(index) => (RECEIVE, index),
            Self::Stream(slot) => (STREAM, slot),
            Self::WakeUp => (WAKE_UP, 0),
            Self::Cancel => (CANCEL, 0),
        };
        (kind as u64) << 32 | index as u64
    }

    /// The request of a completion; `None` for bits we never gave.
    pub(crate) fn decode(bits: u64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves, one after the other")]
        let (kind, index) = ((bits >> 32) as u32, bits as u32);
        match (kind, index) {
            (RECEIVE, index) => Some(Self::Receive(index)),
            (STREAM, slot) => Some(Self::Stream(slot)),
            (WAKE_UP, 0) => Some(Self::WakeUp),
            (CANCEL, 0) => Some(Self::Cancel),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_known_again() {
        let requests = [
            Request::Receive(0),
            Request::Receive(u32::MAX),
            Request::Stream(7),
            Request::WakeUp,
            Request::Cancel,
        ];
        for request in requests {
            assert_eq!(Request::decode(request.encode()), Some(request));
        }
    }

    #[test]
    fn foreign_bits_are_no_request() {
        for bits in [0, 1, u64::MAX, Request::WakeUp.encode() + 1, Request::Cancel.encode() + 1] {
            assert_eq!(Request::decode(bits), None);
        }
    }
}
