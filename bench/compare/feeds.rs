//! The feeds, and rounds of them: every contestant in turn, then the next feed, then the next round.
//!
//! Contestants whose figures make a ratio are fed by turns ([`super::turns`]), the others within seconds
//! of each other, each round in fresh processes or threads, so that a neighbour on the host that comes
//! and goes disturbs all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use floe_bench::datagrams::{Datagrams, Extent, Packing};
use floe_bench::lines::Shape;
use floe_bench::{NAMES_LARGE, NAMES_SMALL};

use super::measurement::{Measurement, feed, warm_up};
use super::probe::await_quiet;
use super::sender::{Order, Rate};
use super::spread::Spread;
use super::{say, turns};
use crate::contestants::{Contestant, Site};

/// Datagrams per second of the light load (target 9).
const LIGHT_PER_S: u32 = 50_000;

/// Datagrams per second of 46 lines that make a little over 20 million lines (target 2).
const TWENTY_MILLION_PER_S: u32 = 440_000;

/// What a plain sender must have flooded with to be asked for a rate, as a multiple of it.
const SPARE: f64 = 1.1;

/// Lines per name of the small pools: 20, of the large ones 2.
const SMALL_POOL_LINES: u32 = 20 * NAMES_SMALL;
const LARGE_POOL_LINES: u32 = 2 * NAMES_LARGE;

/// Times that a disturbed feed is tried.
const ATTEMPTS: u32 = 4;

/// One way of feeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feed {
    /// One line per datagram, as fast as the sender can.
    SingleFlood,
    /// 46 lines per datagram, as fast as the sender can.
    PackedFlood,
    /// One line per datagram, 50,000 of them a second.
    Light,
    /// 46 lines per datagram, 20 million lines a second; by a `UDP_SEGMENT` sender where a plain one, which
    /// has flooded before, has not so many.
    PackedTwentyMillion,
    /// 46 lines per datagram over 1,000,000 names, as fast as the sender can.
    PackedMillionNames,
}

impl Feed {
    /// The word for it in records.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SingleFlood => "single_flood",
            Self::PackedFlood => "packed_flood",
            Self::Light => "light",
            Self::PackedTwentyMillion => "packed_20m",
            Self::PackedMillionNames => "packed_million_names",
        }
    }

    pub(crate) const fn pool(self) -> Pool {
        match self {
            Self::SingleFlood | Self::Light => Pool::Single,
            Self::PackedFlood | Self::PackedTwentyMillion => Pool::Packed,
            Self::PackedMillionNames => Pool::PackedMillionNames,
        }
    }

    const fn rate(self) -> Rate {
        match self {
            Self::Light => Rate::Paced(LIGHT_PER_S),
            Self::PackedTwentyMillion => Rate::Paced(TWENTY_MILLION_PER_S),
            _ => Rate::Flood,
        }
    }
}

/// Datagrams made beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pool {
    /// One line each, 10,000 names.
    Single,
    /// 46 lines each, 10,000 names.
    Packed,
    /// 300 lines each, 10,000 names: more than a receiver takes of what one sender can send.
    Jumbo,
    /// 300 lines each, 1,000,000 names.
    JumboMillionNames,
    /// One line each, 1,000,000 names, once each.
    SingleMillionNames,
    /// 46 lines each, 1,000,000 names.
    PackedMillionNames,
    /// 46 lines each, 1,000,000 counters, once each.
    CountersMillionNames,
}

impl Pool {
    /// Its names.
    pub(crate) const fn names(self) -> u32 {
        match self {
            Self::Single | Self::Packed | Self::Jumbo => NAMES_SMALL,
            _ => NAMES_LARGE,
        }
    }

    /// Makes it.
    pub(crate) fn make(self) -> Datagrams {
        let small = Extent { names: NAMES_SMALL, lines: SMALL_POOL_LINES };
        let large = Extent { names: NAMES_LARGE, lines: LARGE_POOL_LINES };
        let once = Extent { names: NAMES_LARGE, lines: NAMES_LARGE };
        let (shape, packing, extent) = match self {
            Self::Single => (Shape::Mix, Packing::Single, small),
            Self::Packed => (Shape::Mix, Packing::Packed, small),
            Self::Jumbo => (Shape::Mix, Packing::Jumbo, small),
            Self::JumboMillionNames => (Shape::Mix, Packing::Jumbo, large),
            Self::SingleMillionNames => (Shape::Mix, Packing::Single, once),
            Self::PackedMillionNames => (Shape::Mix, Packing::Packed, large),
            Self::CountersMillionNames => (Shape::Counter, Packing::Packed, once),
        };
        Datagrams::new(shape, packing, extent)
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Effort {
    /// Times that everything is measured.
    pub(crate) rounds: u32,
    /// Length of one feed.
    pub(crate) time: Duration,
    /// Datagrams per second at the most, where the machine shall not be flooded.
    pub(crate) rate_max: Option<u32>,
    /// Whether a `UDP_SEGMENT` sender feeds.
    pub(crate) is_segmented: bool,
}

impl Effort {
    fn rate(self, feed: Feed) -> Rate {
        match (feed.rate(), self.rate_max) {
            (rate, None) => rate,
            (Rate::Flood, Some(most)) => Rate::Paced(most),
            (Rate::Paced(rate), Some(most)) => Rate::Paced(rate.min(most)),
        }
    }
}

/// What is to be fed, and to whom.
pub(crate) type Plan = BTreeMap<Feed, Vec<Contestant>>;

/// Runs all rounds; a contestant that fails is left out of the feed, and its failure noted.
///
/// # Errors
/// None of a contestant's.
pub(crate) fn run(
    plan: &Plan,
    effort: Effort,
    site: &Site,
    failures: &mut Vec<String>,
) -> Vec<Measurement> {
    let mut measurements = Vec::new();
    let mut pools: BTreeMap<Pool, Datagrams> = BTreeMap::new();
    let mut failed: Vec<(Feed, Contestant)> = Vec::new();
    for round in 0..effort.rounds {
        for (&kind, contestants) in plan {
            let is_segmented = is_beyond_plain(kind, &measurements);
            let effort = Effort { is_segmented, ..effort };
            let pool = pools.entry(kind.pool()).or_insert_with(|| kind.pool().make());
            let left = contestants.iter().filter(|each| !failed.contains(&(kind, **each)));
            let (by_turns, alone): (Vec<_>, Vec<_>) =
                left.copied().partition(|each| turns::takes_turns(*each, kind));
            let mut results = turns::run(&by_turns, kind, effort, site, pool, round);
            results.extend(turned(&alone, round).map(|&contestant| {
                let one = || one(contestant, kind, effort, site, pool);
                (contestant, undisturbed(contestant, kind, effort, one))
            }));
            for (contestant, result) in results {
                match result {
                    Ok(measurement) => {
                        let measurement = Measurement {
                            contestant: contestant.name().to_owned(),
                            feed: kind.name().to_owned(),
                            round,
                            ..measurement
                        };
                        say(&progress(&measurement));
                        measurements.push(measurement);
                    }
                    Err(error) => {
                        failed.push((kind, contestant));
                        let text = format!("{}, {}: {error:#}", contestant.name(), kind.name());
                        say(&text);
                        failures.push(text);
                    }
                }
            }
        }
    }
    measurements
}

/// Whether a plain sender has too little to offer for `kind`: as its floods of the first round say, so that
/// all rounds are alike.
fn is_beyond_plain(kind: Feed, measurements: &[Measurement]) -> bool {
    let (Feed::PackedTwentyMillion, Rate::Paced(asked_per_s)) = (kind, kind.rate()) else {
        return false;
    };
    let flood = Feed::PackedFlood.name();
    let floods = measurements.iter().filter(|each| each.round == 0 && each.feed == flood);
    let offered = Spread::of(floods.map(Measurement::offered_per_s));
    offered.is_some_and(|offered| offered.median < SPARE * f64::from(asked_per_s))
}

/// Every other round goes the other way, so that nobody is always behind the same one.
pub(crate) fn turned<T>(contestants: &[T], round: u32) -> impl Iterator<Item = &T> {
    let last = contestants.len().wrapping_sub(1);
    let is_reversed = round % 2 == 1;
    (0..contestants.len())
        .map(move |index| &contestants[if is_reversed { last - index } else { index }])
}

/// One feed; again while others were busy on the sender's CPU, which says nothing of the figure.
pub(crate) fn undisturbed(
    contestant: Contestant,
    kind: Feed,
    effort: Effort,
    feed: impl Fn() -> anyhow::Result<Measurement>,
) -> anyhow::Result<Measurement> {
    // A test or a trial on a machine that does other things takes what comes.
    let attempts = if effort.rate_max.is_some() { 1 } else { ATTEMPTS };
    for _ in 1..attempts {
        let measurement = feed()?;
        if !measurement.is_disturbed() {
            return Ok(measurement);
        }
        say(&format!("disturbed, once more: {}, {}", contestant.name(), kind.name()));
        await_quiet();
    }
    feed()
}

/// What the sender is told.
pub(crate) fn order(kind: Feed, effort: Effort, datagrams: &Datagrams) -> Order<'_> {
    Order {
        datagrams,
        rate: effort.rate(kind),
        is_segmented: effort.is_segmented,
        time: effort.time,
    }
}

/// Starts a contestant, feeds it, and ends it.
fn one(
    contestant: Contestant,
    kind: Feed,
    effort: Effort,
    site: &Site,
    pool: &Datagrams,
) -> anyhow::Result<Measurement> {
    if effort.rate_max.is_none() {
        await_quiet();
    }
    let running = contestant.start(site)?;
    warm_up(&running, site, pool, kind.pool().names())?;
    feed(&running, site, order(kind, effort, pool), || {})
}

fn progress(measurement: &Measurement) -> String {
    format!(
        "round {}  {:<20} {:<14} {:>7.2} M lines/s  {:>8.1} ns/line  {:.3} % lost",
        measurement.round + 1,
        measurement.feed,
        measurement.contestant,
        measurement.lines_per_s() / 1e6,
        measurement.line_ns(),
        100.0 * measurement.loss(),
    )
}

/// The figures of a contestant in a feed, by round.
pub(crate) fn figures(
    measurements: &[Measurement],
    feed: Feed,
    contestant: Contestant,
    figure: impl Fn(&Measurement) -> f64,
) -> Vec<(u32, f64)> {
    let those = measurements
        .iter()
        .filter(|each| each.feed == feed.name() && each.contestant == contestant.name());
    those.map(|each| (each.round, figure(each))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::table;

    #[test]
    fn every_other_round_goes_the_other_way() {
        for (round, expected) in [(0, [1, 2, 3]), (1, [3, 2, 1]), (2, [1, 2, 3])] {
            assert!(turned(&[1, 2, 3], round).copied().eq(expected));
        }
        assert_eq!(turned::<u8>(&[], 1).count(), 0);
    }

    #[test]
    fn a_limit_of_the_rate_paces_floods_and_slows_pacers() {
        let effort =
            |rate_max| Effort { rounds: 1, time: Duration::ZERO, rate_max, is_segmented: false };
        assert_eq!(effort(None).rate(Feed::SingleFlood), Rate::Flood);
        assert_eq!(effort(Some(5_000)).rate(Feed::SingleFlood), Rate::Paced(5_000));
        assert_eq!(effort(Some(5_000)).rate(Feed::Light), Rate::Paced(5_000));
        assert_eq!(effort(Some(90_000)).rate(Feed::Light), Rate::Paced(LIGHT_PER_S));
    }

    #[test]
    fn twenty_million_lines_come_segmented_where_a_plain_flood_has_too_few() {
        // Floods come first.
        assert!(Feed::PackedFlood < Feed::PackedTwentyMillion);
        let flood = |per_s: u64, round| Measurement {
            datagrams_sent: per_s,
            sending_ns: 1_000_000_000,
            ..table::tests::measured("floe", Feed::PackedFlood, round, 1)
        };
        let is_segmented = |kind, floods: &[Measurement]| is_beyond_plain(kind, floods);
        let paced = Feed::PackedTwentyMillion;
        assert!(is_segmented(paced, &[flood(387_000, 0), flood(900_000, 1)]));
        assert!(!is_segmented(paced, &[flood(490_000, 0), flood(387_000, 1)]));
        assert!(!is_segmented(Feed::PackedMillionNames, &[flood(387_000, 0)]));
        assert!(!is_segmented(paced, &[]));
    }

    #[test]
    fn datagrams_of_the_segmented_feed_are_of_one_length() {
        let pool = Feed::PackedTwentyMillion.pool().make();
        let mut lens: Vec<usize> = pool.iter().map(|(_, len)| len).collect();
        assert!(lens.pop() < lens.first().copied(), "the last one holds what is left");
        assert!(lens.iter().all(|len| *len == 46 * 30 - 1));
    }

    #[test]
    fn pools_hold_every_name() {
        for pool in [Pool::Single, Pool::Packed] {
            assert_eq!(pool.make().line_count(), u64::from(SMALL_POOL_LINES));
        }
        assert_eq!(Pool::Packed.make().len(), 200_000_usize.div_ceil(46));
    }
}
