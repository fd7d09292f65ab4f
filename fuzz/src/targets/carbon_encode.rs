//! Both encoders for Carbon: whatever the names and values, Carbon reads back as many points as were
//! written, the same by both protocols, and none of them harms another.
//!
//! An input is a timestamp of four bytes, then points: the length of the name, one byte (255: sixteen
//! times the next), the name, and the eight bytes of its value.

use floe_io::export::carbon_line::LineBuffer;
use floe_io::export::carbon_pickle::FrameBuffer;

use super::{Reader, Target, claim, equal};
use crate::carbon::{Point, read_frames, read_lines};
use crate::mutate::Grammar;

pub(super) const TARGET: Target = Target {
    name: "carbon_encode",
    about: "Carbon reads as many points as were written, the same by text and pickle, no poison",
    grammar: Grammar {
        words: &[
            ";",
            "=",
            ";a=b",
            ";=",
            ";a=",
            ";a=~",
            "~",
            "!",
            "^",
            " ",
            ".",
            "..",
            "{",
            "\"}",
            "{a=\"b\"}",
            "\u{85}",
            "\u{a0}",
            "\u{1680}",
            "\u{2003}",
            "\u{2028}",
            "\u{202f}",
            "\u{205f}",
            "\u{3000}",
            "\u{1c}",
            "é",
        ],
        delimiters: b".;= ",
    },
    reader: || Box::new(Encoders),
};

struct Encoders;

/// The points of an input; what is cut off at its end is none.
fn points(mut input: &[u8]) -> Vec<(&[u8], f64)> {
    let mut points = Vec::new();
    while let Some((length, rest)) = input.split_first() {
        let (length, rest) = match (length, rest.split_first()) {
            (255, Some((sixteens, rest))) => (16 * usize::from(*sixteens), rest),
            _ => (usize::from(*length), rest),
        };
        let Some((name, rest)) = rest.split_at_checked(length) else { break };
        let Some((value, rest)) = rest.split_first_chunk() else { break };
        points.push((name, f64::from_le_bytes(*value)));
        input = rest;
    }
    points
}

/// The same, with values by their bits.
fn by_bits(points: &[Point]) -> Vec<(&str, u64, u64)> {
    // Text knows no negative zero.
    let bits = |value: f64| (value + 0.0).to_bits();
    points.iter().map(|point| (&*point.name, bits(point.value), point.timestamp_s)).collect()
}

impl Reader for Encoders {
    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let (timestamp, rest) = input
            .split_first_chunk()
            .map_or((1, input), |(bytes, rest)| (u64::from(u32::from_le_bytes(*bytes)), rest));
        let points = points(rest);
        for timestamp_s in [timestamp, timestamp << 8] {
            let mut lines = LineBuffer::new(timestamp_s);
            let mut frames = FrameBuffer::new(timestamp_s);
            for (name, value) in &points {
                lines.push(name, *value);
                frames.push(name, *value);
            }
            frames.close_frame();
            equal("tallies", &frames.tally(), &lines.tally())?;
            let tally = lines.tally();
            let refused: u64 = tally.refused.iter().sum();
            equal("points told", &(tally.written + refused), &(points.len() as u64))?;
            let (text, pickled) = (read_lines(lines.as_bytes())?, read_frames(frames.as_bytes())?);
            equal("points that Carbon read", &(text.len() as u64), &tally.written)?;
            equal("text and pickle", &by_bits(&text), &by_bits(&pickled))?;
            let is_timely = text.iter().all(|point| point.timestamp_s == timestamp_s);
            claim(is_timely, || "another timestamp".to_owned())?;
        }
        Ok(())
    }
}
