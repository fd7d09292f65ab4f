//! A parsed line: what the parser hands to the shard.
//!
//! Sits between `line` and `shard`. The parser owns the grammar, the shard owns the arithmetic;
//! this file is the only thing both know. Nothing here allocates.

use std::ops::AddAssign;

/// The four kinds of series the wire knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// `c`, and every type the reference daemon does not know.
    Counter = 0,
    /// `ms`.
    Timer = 1,
    /// `g`.
    Gauge = 2,
    /// `s`.
    Set = 3,
}

impl Kind {
    /// All kinds in row order: the order of the rows of a segment.
    pub const ALL: [Self; 4] = [Self::Counter, Self::Timer, Self::Gauge, Self::Set];
}

/// The value of one sample, with the sample rate already applied where the reference applies it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'d> {
    /// `value * (1 / rate)`: multiplied by the reciprocal, as the reference daemon does.
    Counter(f64),
    /// `value` in the sender's unit (ms by convention), `weight` = `1 / rate`: counts, never sums.
    Timer {
        /// The raw value, at least 0.
        value: f64,
        /// How many events this one stands for.
        weight: f64,
    },
    /// A gauge operation.
    Gauge {
        /// The number as sent, sign included.
        value: f64,
        /// First character was `+` or `-`: added to a gauge that is known and not zero.
        is_signed: bool,
    },
    /// A member of a set, verbatim (invalid UTF-8 already replaced, empty already `0`).
    Set(&'d [u8]),
}

impl Value<'_> {
    /// The kind of series this value goes to.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Timer { .. } => Kind::Timer,
            Self::Gauge { .. } => Kind::Gauge,
            Self::Set(_) => Kind::Set,
        }
    }
}

/// One accepted value of one line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'d> {
    /// Sanitised name bytes, tags included as `;k=v`. Never holds a newline.
    pub key: &'d [u8],
    /// The value.
    pub value: Value<'d>,
}

/// Why a value was refused. A closed list: it labels counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No value, no type, or an empty field where one must stand.
    Syntax = 0,
    /// The value is not a number, or a negative time.
    Value = 1,
    /// The sample rate is not a number, negative or zero.
    Rate = 2,
    /// The value, or the value over its rate, is not finite.
    NotFinite = 3,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Syntax, Self::Value, Self::Rate, Self::NotFinite];

    /// The word used in logs, points and docs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Value => "value",
            Self::Rate => "rate",
            Self::NotFinite => "not_finite",
        }
    }
}

/// Takes what the parser finds in one datagram, in the order of the wire.
///
/// Implemented by the shard and by the recorders of tests and benchmarks.
pub trait SampleSink<'d> {
    /// An accepted value whose key and member are borrowed from the datagram: they live as long as
    /// it does, so the sink may gather a batch and prefetch.
    fn sample(&mut self, sample: Sample<'d>);

    /// The same for what most lines are: a number of at least 0, without sign and rate.
    ///
    /// `kind` is not [`Kind::Set`]. A sink that has a shorter way for it takes it.
    #[inline]
    fn number(&mut self, key: &'d [u8], kind: Kind, number: f64) {
        let value = match kind {
            Kind::Counter | Kind::Set => Value::Counter(number),
            Kind::Timer => Value::Timer { value: number, weight: 1.0 },
            Kind::Gauge => Value::Gauge { value: number, is_signed: false },
        };
        self.sample(Sample { key, value });
    }

    /// An accepted value whose key or member had to be rewritten: they live for this call only.
    fn sample_cleaned(&mut self, sample: Sample<'_>);

    /// A refused value. `line` is the whole line it stood in, for a shortened, escaped log line.
    fn reject(&mut self, reason: Reason, line: &[u8]);
}

/// What one datagram held, or several together, counted by the parser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Non-empty lines: the reference's `metrics_received`.
    pub lines: u64,
    /// Accepted values.
    pub accepted: u64,
    /// Refused values: the reference's `bad_lines_seen`.
    pub rejected: u64,
}

impl AddAssign for Tally {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
    }
}
