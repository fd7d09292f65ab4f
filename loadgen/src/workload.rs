//! The lines of a run: an endless stream that depends on the settings and the seed alone.
//!
//! Between `random` and `compose`. Every line comes twice: as the bytes a client would send, and as a
//! [`Line`] that says what the daemon is expected to make of it. The two are written side by side here
//! and nowhere else, so the ledger never parses what was sent.
//!
//! All values are integers, and the sample rates have reciprocals that are exact doubles: every sum is
//! exact in whatever order it is added up, so the ledger may demand equality. A gauge belongs to one
//! sender, because only one socket keeps its operations in order, and its first line always sets it.

use std::io::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use crate::random::Xoshiro256;

/// Distinct members a set may have; below any daemon's switch to an estimate.
pub(crate) const SET_MEMBERS: u32 = 256;

/// Longest text behind the base of a key: tags, value, type and rate of any line made here.
pub(crate) const LINE_TAIL_BYTES_MAX: usize = 80;

/// Sample rates with their reciprocals, each of which is an exact double (`1.0 / 0.1 == 10.0`).
const RATES: [(&str, u32); 4] = [("0.5", 2), ("0.25", 4), ("0.125", 8), ("0.1", 10)];

/// Lines of which each is exactly one bad value: no value, no type, no number, a broken rate,
/// a negative time.
const BAD_TAILS: [&str; 8] = ["", ":1", ":abc|c", ":|c", ":1|c|0.1", ":1|c|@x", ":-5|ms", ":inf|g"];

/// What the daemon keeps for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Timer,
    Gauge,
    Set,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Counter, Kind::Timer, Kind::Gauge, Kind::Set];

    /// The type letters of the wire, also the second part of every key.
    pub(crate) fn letters(self) -> &'static str {
        match self {
            Kind::Counter => "c",
            Kind::Timer => "ms",
            Kind::Gauge => "g",
            Kind::Set => "s",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Weights of the kinds among the good lines, in the order of [`Kind::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mix {
    pub(crate) weights: [u32; 4],
}

impl FromStr for Mix {
    type Err = anyhow::Error;

    /// Reads `c=60,ms=30,g=8,s=2`; a kind that is not named has weight 0.
    fn from_str(text: &str) -> Result<Mix> {
        let mut weights = [0u32; 4];
        for part in text.split(',') {
            let (letters, weight) =
                part.split_once('=').with_context(|| format!("{part:?} is not KIND=WEIGHT"))?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.letters() == letters.trim());
            let kind =
                kind.with_context(|| format!("{letters:?} is none of the kinds c, ms, g, s"))?;
            let weight: u32 =
                weight.trim().parse().with_context(|| format!("weight {weight:?} is no number"))?;
            if 1_000_000 < weight {
                bail!("weight {weight} is above 1000000");
            }
            weights[kind.index()] = weight;
        }
        if weights == [0; 4] {
            bail!("all weights are 0");
        }
        Ok(Mix { weights })
    }
}

/// What a workload looks like.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
    /// Distinct keys, over all kinds.
    pub(crate) names: u32,
    pub(crate) mix: Mix,
    /// Percent of the counter and timer lines that carry a sample rate.
    pub(crate) sampled_percent: u32,
    /// Percent of the keys that carry tags.
    pub(crate) tagged_percent: u32,
    /// Percent of the lines that are bad.
    pub(crate) bad_percent: u32,
    /// First part of every key.
    pub(crate) key_prefix: String,
    /// Streams of lines: one per socket.
    pub(crate) streams: u32,
}

impl Shape {
    /// The weights of one stream's kinds: gauges have none where the stream owns no gauge.
    fn weights(&self, stream: u32, gauges: u32) -> Result<[u32; 4]> {
        let mut weights = self.mix.weights;
        if gauges <= stream {
            weights[Kind::Gauge.index()] = 0;
        }
        if weights == [0; 4] {
            bail!("{} sockets share {gauges} gauges, and each gauge needs one", self.streams);
        }
        Ok(weights)
    }

    /// # Errors
    /// Where the mix has nothing but gauges and there are fewer of them than streams.
    pub(crate) fn check(&self) -> Result<()> {
        // The last stream owns the fewest gauges.
        let gauges = Keys::new(self).count(Kind::Gauge);
        self.weights(self.streams - 1, gauges).map(drop)
    }
}

/// The keys of a run: how many of each kind, and the text of each.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    counts: [u32; 4],
    prefix: String,
    tagged_percent: u32,
}

impl Keys {
    /// Shares the names out by the weights; every kind with a weight has at least one.
    pub(crate) fn new(shape: &Shape) -> Keys {
        let total: u64 = shape.mix.weights.iter().map(|&weight| u64::from(weight)).sum();
        let counts = shape.mix.weights.map(|weight| {
            let share = u64::from(shape.names) * u64::from(weight) / total.max(1);
            let share = u32::try_from(share).expect("a share of a 32-bit number");
            if weight == 0 { 0 } else { share.max(1) }
        });
        let mut keys =
            Keys { counts, prefix: shape.key_prefix.clone(), tagged_percent: shape.tagged_percent };
        // What rounding left over goes to the first kind in use.
        let used: u32 = keys.counts.iter().sum();
        if let Some(first) = keys.counts.iter_mut().find(|count| 0 < **count) {
            *first += shape.names.saturating_sub(used);
        }
        keys
    }

    pub(crate) fn count(&self, kind: Kind) -> u32 {
        self.counts[kind.index()]
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn any_tagged(&self) -> bool {
        0 < self.tagged_percent
    }

    /// The part of the key before its tags.
    pub(crate) fn base(&self, kind: Kind, index: u32) -> String {
        format!("{}.{}.n{index:06}", self.prefix, kind.letters())
    }

    /// The tags as Graphite shows them, sorted by tag: `env=prod;host=h3`.
    pub(crate) fn tags(&self, kind: Kind, index: u32) -> Option<String> {
        self.is_tagged(kind, index).then(|| format!("env=prod;host=h{}", index % 7))
    }

    fn is_tagged(&self, kind: Kind, index: u32) -> bool {
        // The multiplication scatters the tagged keys; 61 is prime to 100.
        (index % 100 * 61 + self.counts[kind.index()]) % 100 < self.tagged_percent
    }
}

/// What the daemon is expected to make of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Adds `amount`, the sample rate already worked in.
    Counter {
        index: u32,
        amount: u32,
    },
    /// One value that counts `weight` times.
    Timer {
        index: u32,
        value_ms: u32,
        weight: u32,
    },
    GaugeSet {
        index: u32,
        value: u32,
    },
    GaugeDelta {
        index: u32,
        delta: i32,
    },
    Set {
        index: u32,
        member: u32,
    },
    /// One bad value.
    Bad,
}

/// The text of every key before its tags, shared by the streams of a run.
#[derive(Debug, Clone)]
pub(crate) struct Bases([Arc<[String]>; 4]);

impl Bases {
    pub(crate) fn new(keys: &Keys) -> Bases {
        Bases(
            Kind::ALL
                .map(|kind| (0..keys.count(kind)).map(|index| keys.base(kind, index)).collect()),
        )
    }
}

/// The stream of lines of one socket.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    random: Xoshiro256,
    keys: Keys,
    bases: Bases,
    weights: [u32; 4],
    weight_total: u32,
    gauge_is_set: Vec<bool>,
    sampled_percent: u32,
    bad_percent: u32,
    stream: u32,
    streams: u32,
}

impl Workload {
    /// A stream whose keys' texts are made here.
    ///
    /// # Errors
    /// As [`Workload::with_bases`].
    #[cfg(test)]
    pub(crate) fn new(shape: &Shape, stream: u32) -> Result<Workload> {
        Workload::with_bases(shape, stream, Bases::new(&Keys::new(shape)))
    }

    /// Stream `stream` (`0..shape.streams`).
    ///
    /// # Errors
    /// As [`Shape::check`], for this stream.
    pub(crate) fn with_bases(shape: &Shape, stream: u32, bases: Bases) -> Result<Workload> {
        let keys = Keys::new(shape);
        let gauges = keys.count(Kind::Gauge);
        let weights = shape.weights(stream, gauges)?;
        let weight_total = weights.iter().sum();
        Ok(Workload {
            random: Xoshiro256::new(shape.seed, u64::from(stream)),
            gauge_is_set: vec![false; gauges as usize],
            keys,
            bases,
            weights,
            weight_total,
            sampled_percent: shape.sampled_percent,
            bad_percent: shape.bad_percent,
            stream,
            streams: shape.streams,
        })
    }

    /// Appends the next line to `out`, without its line feed, and says what it means.
    pub(crate) fn next_line(&mut self, out: &mut Vec<u8>) -> Line {
        if self.random.chance(self.bad_percent) {
            return self.bad(out);
        }
        match self.kind() {
            Kind::Counter => self.counter(out),
            Kind::Timer => self.timer(out),
            Kind::Gauge => self.gauge(out),
            Kind::Set => self.set(out),
        }
    }

    fn kind(&mut self) -> Kind {
        let mut drawn = self.random.below(self.weight_total);
        for kind in Kind::ALL {
            let weight = self.weights[kind.index()];
            if drawn < weight {
                return kind;
            }
            drawn -= weight;
        }
        unreachable!("the weights add up to weight_total")
    }

    fn bad(&mut self, out: &mut Vec<u8>) -> Line {
        let tail = BAD_TAILS[self.random.below(8) as usize];
        let index = self.random.below(1_000);
        append(out, format_args!("{}.bad.n{index:06}{tail}", self.keys.prefix));
        Line::Bad
    }

    fn counter(&mut self, out: &mut Vec<u8>) -> Line {
        let index = self.random.below(self.keys.count(Kind::Counter));
        let value = 1 + self.random.below(100);
        let (rate, weight) = self.rate();
        self.write(out, Kind::Counter, index, format_args!("{value}"), rate);
        Line::Counter { index, amount: value * weight }
    }

    fn timer(&mut self, out: &mut Vec<u8>) -> Line {
        let index = self.random.below(self.keys.count(Kind::Timer));
        let value_ms = self.random.below(10_000);
        let (rate, weight) = self.rate();
        self.write(out, Kind::Timer, index, format_args!("{value_ms}"), rate);
        Line::Timer { index, value_ms, weight }
    }

    fn gauge(&mut self, out: &mut Vec<u8>) -> Line {
        // Gauge i belongs to stream i % streams.
        let owned = (self.keys.count(Kind::Gauge) - self.stream).div_ceil(self.streams);
        let index = self.random.below(owned) * self.streams + self.stream;
        let is_set = &mut self.gauge_is_set[index as usize];
        if *is_set && self.random.chance(30) {
            let step = 1 + self.random.below(50);
            let delta = i32::try_from(step).expect("at most 50");
            let delta = if self.random.chance(50) { -delta } else { delta };
            self.write(out, Kind::Gauge, index, format_args!("{delta:+}"), None);
            return Line::GaugeDelta { index, delta };
        }
        *is_set = true;
        let value = self.random.below(1_000_000);
        self.write(out, Kind::Gauge, index, format_args!("{value}"), None);
        Line::GaugeSet { index, value }
    }

    fn set(&mut self, out: &mut Vec<u8>) -> Line {
        let index = self.random.below(self.keys.count(Kind::Set));
        let member = self.random.below(SET_MEMBERS);
        self.write(out, Kind::Set, index, format_args!("user{member}"), None);
        Line::Set { index, member }
    }

    fn rate(&mut self) -> (Option<&'static str>, u32) {
        if !self.random.chance(self.sampled_percent) {
            return (None, 1);
        }
        let (text, weight) = RATES[self.random.below(4) as usize];
        (Some(text), weight)
    }

    /// Writes key, value, type, rate and tags; tags in either of their two places, at random.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        kind: Kind,
        index: u32,
        value: std::fmt::Arguments<'_>,
        rate: Option<&str>,
    ) {
        out.extend_from_slice(self.bases.0[kind.index()][index as usize].as_bytes());
        let is_tagged = self.keys.is_tagged(kind, index);
        let is_in_key = is_tagged && self.random.chance(50);
        let host = index % 7;
        if is_in_key {
            append(out, format_args!(";env=prod;host=h{host}"));
        }
        append(out, format_args!(":{value}|{}", kind.letters()));
        if let Some(rate) = rate {
            append(out, format_args!("|@{rate}"));
        }
        if is_tagged && !is_in_key {
            append(out, format_args!("|#env:prod,host:h{host}"));
        }
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every write");
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn shape() -> Shape {
        Shape {
            seed: 42,
            names: 100,
            mix: Mix { weights: [60, 30, 8, 2] },
            sampled_percent: 20,
            tagged_percent: 30,
            bad_percent: 5,
            key_prefix: "loadgen".to_owned(),
            streams: 1,
        }
    }

    fn lines(shape: &Shape, stream: u32, count: usize) -> Vec<(String, Line)> {
        let mut workload = Workload::new(shape, stream).unwrap();
        let mut out = Vec::new();
        let next = |_| {
            out.clear();
            let line = workload.next_line(&mut out);
            (String::from_utf8(out.clone()).unwrap(), line)
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn one_seed_gives_one_stream() {
        assert_eq!(lines(&shape(), 0, 2_000), lines(&shape(), 0, 2_000));
    }

    #[test]
    fn another_seed_gives_another_stream() {
        let other = Shape { seed: 43, ..shape() };
        assert_ne!(lines(&shape(), 0, 100), lines(&other, 0, 100));
    }

    #[test]
    fn the_text_says_what_the_line_means() {
        let keys = Keys::new(&shape());
        for (text, line) in lines(&shape(), 0, 5_000) {
            let rate = RATES.into_iter().find(|(rate, _)| {
                text.ends_with(&format!("|@{rate}")) || text.contains(&format!("|@{rate}|#"))
            });
            let weight = rate.map_or(1, |(_, weight)| weight);
            let (kind, index, value) = match line {
                Line::Counter { index, amount } => {
                    assert_eq!(amount % weight, 0);
                    (Kind::Counter, index, (amount / weight).to_string())
                }
                Line::Timer { index, value_ms, weight: expected } => {
                    assert_eq!(weight, expected);
                    (Kind::Timer, index, value_ms.to_string())
                }
                Line::GaugeSet { index, value } => (Kind::Gauge, index, value.to_string()),
                Line::GaugeDelta { index, delta } => (Kind::Gauge, index, format!("{delta:+}")),
                Line::Set { index, member } => (Kind::Set, index, format!("user{member}")),
                Line::Bad => {
                    assert!(BAD_TAILS.iter().any(|tail| text.ends_with(tail)));
                    assert!(text.starts_with("loadgen.bad."));
                    continue;
                }
            };
            assert!(text.starts_with(&keys.base(kind, index)), "{text}");
            assert!(text.contains(&format!(":{value}|{}", kind.letters())), "{text}");
            assert_eq!(keys.tags(kind, index).is_some(), text.contains("env"), "{text}");
            assert!(text.len() <= keys.base(kind, index).len() + LINE_TAIL_BYTES_MAX);
        }
    }

    #[test]
    fn a_gauge_is_set_before_it_is_moved() {
        let mut seen = std::collections::HashSet::new();
        for (_, line) in lines(&Shape { mix: "g=1".parse().unwrap(), ..shape() }, 0, 3_000) {
            match line {
                Line::GaugeSet { index, .. } => drop(seen.insert(index)),
                Line::GaugeDelta { index, .. } => assert!(seen.contains(&index)),
                Line::Bad => {}
                other => panic!("{other:?} in a mix of gauges"),
            }
        }
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn each_gauge_belongs_to_one_sender() {
        let shape = Shape { streams: 3, mix: "g=1".parse().unwrap(), names: 10, ..shape() };
        for sender in 0..3 {
            for (_, line) in lines(&shape, sender, 500) {
                if let Line::GaugeSet { index, .. } | Line::GaugeDelta { index, .. } = line {
                    assert_eq!(index % 3, sender);
                    assert!(index < 10);
                }
            }
        }
    }

    #[test]
    fn a_sender_without_a_gauge_sends_the_other_kinds() {
        let shape = Shape { streams: 2, names: 2, mix: "c=1,g=1".parse().unwrap(), ..shape() };
        let lines = lines(&shape, 1, 200);
        assert!(lines.iter().all(|(_, line)| matches!(line, Line::Counter { .. } | Line::Bad)));
        let only_gauges = Shape { names: 1, mix: "g=1".parse().unwrap(), ..shape };
        assert!(Workload::new(&only_gauges, 1).is_err());
    }

    #[test]
    fn the_names_are_shared_out_in_full() {
        let keys = Keys::new(&Shape { names: 10_001, ..shape() });
        assert_eq!(Kind::ALL.map(|kind| keys.count(kind)).iter().sum::<u32>(), 10_001);
        let keys = Keys::new(&Shape { names: 1, ..shape() });
        assert_eq!(Kind::ALL.map(|kind| keys.count(kind)), [1, 1, 1, 1]);
    }

    #[test]
    fn the_mix_is_read_and_nonsense_refused() {
        assert_eq!("c=60,ms=30,g=8,s=2".parse::<Mix>().unwrap().weights, [60, 30, 8, 2]);
        assert_eq!("ms=1".parse::<Mix>().unwrap().weights, [0, 1, 0, 0]);
        for wrong in ["", "c", "c=", "x=1", "c=-1", "c=0", "c=1000001"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_reciprocals_of_the_rates_are_exact() {
        for (text, weight) in RATES {
            assert_eq!(1.0 / text.parse::<f64>().unwrap(), f64::from(weight));
        }
    }
}
