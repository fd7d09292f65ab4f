//! Carbon's pickle protocol: frames of points as a Python list.
//!
//! The second output buffer beside [`crate::export::carbon_line`], with the same gate in front. We
//! only ever write pickles, never load one.
//!
//! # Format
//! A frame is a length, 4 bytes big-endian, and a pickle of protocol 2 of that length:
//!
//! | bytes | meaning |
//! |---|---|
//! | `80 02` | protocol 2 |
//! | `5D 28` | empty list, mark |
//! | per point: `58` len u32 LE, name | text, UTF-8 |
//! | `4A` i32 LE, or `8A 05` and 5 bytes LE from 2^31 on | timestamp, s |
//! | `47` f64 BE | value |
//! | `86 86` | (timestamp, value), then (name, that) |
//! | `65 2E` | append all, stop |
//!
//! A frame holds at most 500 points and 256 KiB: Carbon closes the connection above 1 MiB
//! (docs/references.md C2).

use floe_core::limits::{GRAPHITE_LINE_BYTES_MAX, PICKLE_FRAME_BYTES_MAX, PICKLE_FRAME_POINTS_MAX};

use super::name_filter::{NameFilter, PointTally, Timestamp};

const FRAME_START: &[u8] = b"\0\0\0\0\x80\x02](";
const FRAME_END: &[u8] = b"e.";

/// Length of the length, bytes.
const LENGTH_BYTES: usize = 4;

/// Greatest size of one point, bytes: name, and at most 23 bytes around it.
const POINT_BYTES_MAX: usize = GRAPHITE_LINE_BYTES_MAX;

/// A frame is closed as soon as another point might pass the limit.
const FRAME_BYTES_FULL: usize = PICKLE_FRAME_BYTES_MAX - POINT_BYTES_MAX - FRAME_END.len();

/// Frames ready to be sent, and one that is being filled.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    filter: NameFilter,
    timestamp: Option<Timestamp>,
    /// Where the open frame begins; equals `bytes.len()` when none is open.
    frame_start: usize,
    frame_points: usize,
}

impl FrameBuffer {
    /// An empty buffer whose points bear `timestamp_s`, seconds since the epoch.
    #[must_use]
    pub fn new(timestamp_s: u64) -> Self {
        Self {
            bytes: Vec::new(),
            filter: NameFilter::default(),
            timestamp: Timestamp::new(timestamp_s),
            frame_start: 0,
            frame_points: 0,
        }
    }

    /// Appends one point, or counts why not.
    #[inline]
    pub fn push(&mut self, name: &[u8], value: f64) {
        let Some((name, timestamp)) = self.filter.admit(name, value, self.timestamp) else {
            return;
        };
        if self.frame_points == 0 {
            self.bytes.extend_from_slice(FRAME_START);
        }
        let name_bytes = u32::try_from(name.len()).expect("a name is at most 4,096 bytes");
        self.bytes.push(b'X');
        self.bytes.extend_from_slice(&name_bytes.to_le_bytes());
        self.bytes.extend_from_slice(name);
        match i32::try_from(timestamp.seconds()) {
            Ok(seconds) => {
                self.bytes.push(b'J');
                self.bytes.extend_from_slice(&seconds.to_le_bytes());
            }
            // The fifth byte keeps the sign positive.
            Err(_) => {
                self.bytes.extend_from_slice(b"\x8a\x05");
                self.bytes.extend_from_slice(&timestamp.seconds().to_le_bytes());
                self.bytes.push(0);
            }
        }
        self.bytes.push(b'G');
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self.bytes.extend_from_slice(b"\x86\x86");
        self.frame_points += 1;
        let frame_bytes = self.bytes.len() - self.frame_start;
        if self.frame_points == PICKLE_FRAME_POINTS_MAX || frame_bytes > FRAME_BYTES_FULL {
            self.close_frame();
        }
    }

    /// Ends the open frame, if there is one.
    pub fn close_frame(&mut self) {
        if self.frame_points == 0 {
            return;
        }
        self.bytes.extend_from_slice(FRAME_END);
        let pickle_bytes = self.bytes.len() - self.frame_start - LENGTH_BYTES;
        let length = u32::try_from(pickle_bytes).expect("a frame is at most 256 KiB");
        self.bytes[self.frame_start..][..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        self.frame_start = self.bytes.len();
        self.frame_points = 0;
    }

    /// Whole frames, in the order of their points; without the open one.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.frame_start]
    }

    /// Takes the whole frames away; keeps the open one, the memory and the tally.
    pub fn clear(&mut self) {
        self.bytes.drain(..self.frame_start);
        self.frame_start = 0;
    }

    /// What became of all points pushed so far.
    #[must_use]
    pub fn tally(&self) -> PointTally {
        self.filter.tally
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    type Points = Vec<(String, (u64, f64))>;

    /// Takes frames apart: length and pickle of each.
    fn pickles(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut pickles = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let (pickle, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
            pickles.push(pickle);
            bytes = rest;
        }
        assert!(bytes.is_empty());
        pickles
    }

    fn points(bytes: &[u8]) -> Points {
        pickles(bytes)
            .into_iter()
            .flat_map(|pickle| {
                serde_pickle::from_slice::<Points>(pickle, serde_pickle::DeOptions::new()).unwrap()
            })
            .collect()
    }

    #[test]
    fn one_point_has_the_bytes_of_the_specification() {
        let mut buffer = FrameBuffer::new(1_700_000_000);
        buffer.push(b"a.b", 0.5);
        buffer.close_frame();
        let mut expected = b"\0\0\0\x1e\x80\x02](X\x03\0\0\0a.bJ".to_vec();
        expected.extend_from_slice(&1_700_000_000_i32.to_le_bytes());
        expected.push(b'G');
        expected.extend_from_slice(&0.5_f64.to_be_bytes());
        expected.extend_from_slice(b"\x86\x86e.");
        assert_eq!(buffer.as_bytes(), expected);
    }

    #[test]
    fn another_implementation_reads_the_points_back() {
        for timestamp_s in [1, 2_147_483_647, 2_147_483_648, 4_294_967_295] {
            let mut buffer = FrameBuffer::new(timestamp_s);
            buffer.push(b"stats.n;env=prod", 1.428_571_428_571_428_6);
            buffer.push("caf\u{e9}".as_bytes(), -1e300);
            buffer.close_frame();
            assert_eq!(
                points(buffer.as_bytes()),
                [
                    ("stats.n;env=prod".to_owned(), (timestamp_s, 1.428_571_428_571_428_6)),
                    ("caf\u{e9}".to_owned(), (timestamp_s, -1e300)),
                ]
            );
        }
    }

    #[test]
    fn frames_keep_to_500_points() {
        let mut buffer = FrameBuffer::new(1);
        for index in 0..PICKLE_FRAME_POINTS_MAX * 2 + 1 {
            buffer.push(format!("n{index}").as_bytes(), 1.0);
        }
        assert_eq!(pickles(buffer.as_bytes()).len(), 2);
        buffer.close_frame();
        assert_eq!(pickles(buffer.as_bytes()).len(), 3);
        let points = points(buffer.as_bytes());
        assert_eq!(points.len(), 1001);
        assert!(points.iter().enumerate().all(|(index, point)| point.0 == format!("n{index}")));
    }

    #[test]
    fn frames_keep_to_256_kib() {
        let name = "ab.".repeat(1_300);
        let mut buffer = FrameBuffer::new(u64::from(u32::MAX));
        for _ in 0..499 {
            buffer.push(name.as_bytes(), 1.0);
        }
        buffer.close_frame();
        let pickles = pickles(buffer.as_bytes());
        assert!(pickles.len() > 1);
        assert!(pickles.iter().all(|pickle| pickle.len() <= PICKLE_FRAME_BYTES_MAX));
        assert_eq!(points(buffer.as_bytes()).len(), 499);
    }

    #[test]
    fn refused_points_open_no_frame() {
        let mut buffer = FrameBuffer::new(1);
        buffer.push(b"a", f64::NAN);
        buffer.push(b"", 1.0);
        buffer.close_frame();
        assert_eq!(buffer.as_bytes(), b"");
        assert_eq!(buffer.tally().refused.iter().sum::<u64>(), 2);
    }

    #[test]
    fn clearing_keeps_the_open_frame() {
        let mut buffer = FrameBuffer::new(1);
        for index in 0..=PICKLE_FRAME_POINTS_MAX {
            buffer.push(format!("n{index}").as_bytes(), 1.0);
        }
        buffer.clear();
        assert_eq!(buffer.as_bytes(), b"");
        buffer.close_frame();
        assert_eq!(points(buffer.as_bytes()), [("n500".to_owned(), (1, 1.0))]);
    }

    #[test]
    fn python_reads_the_points_back() {
        let program = "\
import pickle, struct, sys
data = sys.stdin.buffer.read()
while data:
    length, = struct.unpack('!L', data[:4])
    for name, (timestamp, value) in pickle.loads(data[4:4 + length]):
        assert type(name) is str and type(timestamp) is int and type(value) is float
        print(ascii(name), timestamp, repr(value))
    data = data[4 + length:]
";
        let mut buffer = FrameBuffer::new(2_147_483_648);
        buffer.push(b"stats.n;env=prod", 1.428_571_428_571_428_6);
        buffer.push("caf\u{e9} \u{1F980}".as_bytes(), 3.0);
        buffer.close_frame();
        buffer.push(b"second.frame", -0.5);
        buffer.close_frame();
        let mut python = Command::new("python3")
            .args(["-c", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(buffer.as_bytes()).unwrap();
        let output = python.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "'stats.n;env=prod' 2147483648 1.4285714285714286\n\
             'caf\\xe9_\\U0001f980' 2147483648 3.0\n\
             'second.frame' 2147483648 -0.5\n"
        );
    }
}
