//! Names and lines: what the clients of the benchmarks send.
//!
//! A name has one kind for good, by its number: of 50 names in a row 30 are counters, 15 timers, 4
//! gauges and 1 a set. A line of `Shape::Mix` is 29 bytes long whatever its kind.

use std::io::Write;

use floe_core::sample::Kind;

use crate::random::Random;

/// What the lines of a workload look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `name:123|c`, 29 bytes.
    Counter,
    /// Counters, timers, gauges and sets, 29 bytes.
    Mix,
    /// The mix, counters and timers with a sample rate; 29 or 34 bytes.
    Rate,
    /// Counters with two tags behind the type, 54 bytes: they take the general path of the parser.
    Tagged,
    /// Counters with a key of 120 bytes: longer than the parser's window and a slot's key.
    Long,
    /// Timers with values of seven digits, so that few are equal; 33 bytes.
    Timing,
}

impl Shape {
    /// The kind of name `index`.
    #[must_use]
    pub const fn kind(self, index: u32) -> Kind {
        match self {
            Self::Counter | Self::Tagged | Self::Long => Kind::Counter,
            Self::Timing => Kind::Timer,
            Self::Mix | Self::Rate => match index % 50 {
                0..30 => Kind::Counter,
                30..45 => Kind::Timer,
                45..49 => Kind::Gauge,
                _ => Kind::Set,
            },
        }
    }

    /// Appends a line about name `index`, without a newline, its value drawn from `random`.
    pub fn push_line(self, index: u32, random: &mut Random, out: &mut Vec<u8>) {
        let value = 100 + random.below(900);
        let kind = self.kind(index);
        let (type_text, digits) = match kind {
            Kind::Counter => ("c", 10),
            Kind::Timer => ("ms", 9),
            Kind::Gauge => ("g", 10),
            Kind::Set => ("s", 10),
        };
        let app = index % 97;
        let end = match self {
            Self::Rate if matches!(kind, Kind::Counter | Kind::Timer) => "|@0.5",
            Self::Tagged => "|#env:production,zone:eu1",
            _ => "",
        };
        let written = match self {
            Self::Long => {
                write!(out, "fleet.app{app:02}.n{index:0107}:{value}|{type_text}")
            }
            Self::Timing => {
                let thousandths = random.below(1_000);
                let name = format_args!("fleet.app{app:02}.n{index:09}");
                write!(out, "{name}:{value}.{thousandths:03}|{type_text}")
            }
            _ => write!(out, "fleet.app{app:02}.n{index:0digits$}:{value}|{type_text}{end}"),
        };
        written.expect("writing to a vector does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(shape: Shape, index: u32) -> String {
        let mut out = Vec::new();
        shape.push_line(index, &mut Random::new(1), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_have_the_lengths_their_shapes_promise() {
        for index in [0, 31, 46, 49, 999_949] {
            assert_eq!(line(Shape::Mix, index).len(), 29);
            assert_eq!(line(Shape::Counter, index).len(), 29);
            assert_eq!(line(Shape::Tagged, index).len(), 54);
            assert_eq!(line(Shape::Timing, index).len(), 33);
            assert_eq!(line(Shape::Long, index).find(':'), Some(120));
        }
        assert_eq!(line(Shape::Rate, 0).len(), 34);
        assert_eq!(line(Shape::Rate, 46).len(), 29);
    }

    #[test]
    fn mix_is_60_30_8_2() {
        let mut counts = [0; 4];
        for index in 0..1_000 {
            counts[Shape::Mix.kind(index) as usize] += 1;
        }
        assert_eq!(counts, [600, 300, 80, 20]);
    }

    #[test]
    fn equal_seeds_give_equal_lines() {
        assert_eq!(line(Shape::Mix, 12_345), line(Shape::Mix, 12_345));
        assert_ne!(line(Shape::Mix, 12_345), line(Shape::Mix, 12_395));
    }
}
