//! Carbon's pickle frames, as a carbon receiver reads them.
//!
//! A frame is a length (4 bytes, big-endian) and that many bytes of pickle: any sequence of
//! `(name, (timestamp, value))`. Numbers may be text, as the reference daemon sends them. What carbon
//! skips entry by entry (wrong shape, no number, a name of bytes) is counted as refused here.
//! Frames above carbon's default of 1 MiB end the connection, as they do there.

use serde_pickle::{DeOptions, Value};

use crate::received::{Point, Received};

/// `PICKLE_RECEIVER_MAX_LENGTH` of carbon.
pub(crate) const FRAME_BYTES_MAX: usize = 1_048_576;

/// Takes every point of one frame; what cannot be read is counted as refused.
pub(crate) fn read_frame(frame: &[u8], received: &mut Received) {
    let value = serde_pickle::value_from_slice(frame, DeOptions::new().decode_strings());
    match value {
        Ok(Value::List(entries) | Value::Tuple(entries)) => {
            for entry in &entries {
                match point(entry) {
                    Some((name, point)) => received.record(name, point),
                    None => received.refused += 1,
                }
            }
        }
        Ok(_) | Err(_) => received.refused += 1,
    }
}

fn point(entry: &Value) -> Option<(&str, Point)> {
    let [Value::String(name), pair] = sequence(entry)? else { return None };
    let [timestamp, value] = sequence(pair)? else { return None };
    let timestamp = number(timestamp)?;
    if !(0.0..1e12).contains(&timestamp) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above; whisper cuts it too")]
    let timestamp = timestamp as i64;
    Some((name, Point { timestamp, value: number(value)? }))
}

fn sequence(value: &Value) -> Option<&[Value]> {
    match value {
        Value::List(items) | Value::Tuple(items) => Some(items),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "carbon makes a double of it as well")]
        Value::I64(number) => Some(*number as f64),
        Value::F64(number) => Some(*number),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Protocol 2 as docs/references.md C2 gives it, built by hand.
    pub(crate) fn protocol_2(points: &[(&str, i32, f64)]) -> Vec<u8> {
        let mut pickle = b"\x80\x02](".to_vec();
        for (name, timestamp, value) in points {
            pickle.push(b'X');
            pickle.extend_from_slice(&u32::try_from(name.len()).unwrap().to_le_bytes());
            pickle.extend_from_slice(name.as_bytes());
            pickle.push(b'J');
            pickle.extend_from_slice(&timestamp.to_le_bytes());
            pickle.push(b'G');
            pickle.extend_from_slice(&value.to_be_bytes());
            pickle.extend_from_slice(b"\x86\x86");
        }
        pickle.extend_from_slice(b"e.");
        pickle
    }

    fn read(frame: &[u8]) -> Received {
        let mut received = Received::default();
        read_frame(frame, &mut received);
        received
    }

    #[test]
    fn protocol_2_with_doubles_is_read() {
        let received = read(&protocol_2(&[("a.b", 1_000, 2.5), ("c", 1_010, -1.0)]));
        assert_eq!(received.points("a.b"), [Point { timestamp: 1_000, value: 2.5 }]);
        assert_eq!(received.points("c"), [Point { timestamp: 1_010, value: -1.0 }]);
        assert_eq!(received.refused, 0);
    }

    #[test]
    fn the_reference_daemons_protocol_0_with_text_values_is_read() {
        let frame = b"(l(S'stats.a'\n(L1700000000L\nS'2.5'\ntta(S'b'\n(L1L\nS'3'\ntta.";
        let received = read(frame);
        assert_eq!(received.points("stats.a"), [Point { timestamp: 1_700_000_000, value: 2.5 }]);
        assert_eq!(received.points("b"), [Point { timestamp: 1, value: 3.0 }]);
        assert_eq!(received.refused, 0);
    }

    #[test]
    fn an_entry_of_the_wrong_shape_is_refused_alone() {
        // A bare number, then a point with inner lists, then a pair whose value is no number.
        let frame = b"(lI5\na(S'ok'\n(lI7\naI8\nata(S'bad'\n(L1L\nS'x'\ntta.";
        let received = read(frame);
        assert_eq!(received.points("ok"), [Point { timestamp: 7, value: 8.0 }]);
        assert_eq!(received.refused, 2);
    }

    #[test]
    fn a_frame_cut_anywhere_is_refused_and_never_panics() {
        let whole = protocol_2(&[("a.b", 1_000, 2.5), ("c", 1_010, -1.0)]);
        for length in 0..whole.len() {
            let received = read(&whole[..length]);
            assert_eq!(received.points, 0, "cut at {length}");
            assert_eq!(received.refused, 1, "cut at {length}");
        }
    }
}
