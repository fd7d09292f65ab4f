//! The books: what was sent, held against what was received, name by name.
//!
//! [`Sent`] is filled by `stock` as datagrams leave; [`compare`] holds it against one witness. All sent
//! values are integers whose sums are exact doubles, so counters, timer counts, timer sums and gauges must
//! be equal to the last digit. A set is only bounded, because a member counts once in each interval it was
//! seen in: `distinct <= sum over the intervals <= lines`, and no interval above `distinct`; where
//! everything fell into one interval these bounds are one number.
//!
//! It does not look at percentiles, rates or means: the golden vectors do.

use crate::naming::Naming;
use crate::received::{Point, Received};
use crate::workload::{Keys, Kind, Line, SET_MEMBERS};

/// Differences kept word for word; further ones are counted.
const DIFFERENCES_KEPT_MAX: usize = 50;

/// The daemon's own counters that are held against the books.
pub(crate) const OWN_COUNTERS: [&str; 3] =
    ["metrics_received", "packets_received", "bad_lines_seen"];

const MEMBER_WORDS: usize = SET_MEMBERS as usize / 64;

/// All that was sent to one timer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct TimerSent {
    /// Values, each counted as often as its sample rate says; 0 means never sent.
    count: u64,
    sum_ms: u64,
    lower_ms: u32,
    upper_ms: u32,
}

/// All that was sent to one set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SetSent {
    members: [u64; MEMBER_WORDS],
    lines: u64,
}

/// All that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) lines: u64,
    pub(crate) bad: u64,
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    /// 0 means never sent: amounts are at least 1.
    counters: Vec<u64>,
    timers: Vec<TimerSent>,
    gauges: Vec<Option<i64>>,
    sets: Vec<SetSent>,
}

impl Sent {
    pub(crate) fn new(keys: &Keys) -> Sent {
        Sent {
            lines: 0,
            bad: 0,
            datagrams: 0,
            bytes: 0,
            counters: vec![0; keys.count(Kind::Counter) as usize],
            timers: vec![TimerSent::default(); keys.count(Kind::Timer) as usize],
            gauges: vec![None; keys.count(Kind::Gauge) as usize],
            sets: vec![SetSent::default(); keys.count(Kind::Set) as usize],
        }
    }

    /// Enters one line.
    pub(crate) fn record(&mut self, line: Line) {
        self.record_times(line, 1);
    }

    /// Enters one line that was sent `times` times. A gauge has the value of the last time: whoever
    /// repeats lines repeats all of them in their order, beginning with one that sets the gauge.
    pub(crate) fn record_times(&mut self, line: Line, times: u64) {
        if times == 0 {
            return;
        }
        self.lines += times;
        match line {
            Line::Counter { index, amount } => {
                self.counters[index as usize] += u64::from(amount) * times;
            }
            Line::Timer { index, value_ms, weight } => {
                let timer = &mut self.timers[index as usize];
                let is_first = timer.count == 0;
                timer.lower_ms = if is_first { value_ms } else { timer.lower_ms.min(value_ms) };
                timer.upper_ms = timer.upper_ms.max(value_ms);
                timer.count += u64::from(weight) * times;
                timer.sum_ms += u64::from(value_ms) * times;
            }
            Line::GaugeSet { index, value } => {
                self.gauges[index as usize] = Some(i64::from(value));
            }
            Line::GaugeDelta { index, delta } => {
                let gauge = &mut self.gauges[index as usize];
                *gauge = Some(gauge.unwrap_or(0) + i64::from(delta));
            }
            Line::Set { index, member } => {
                let set = &mut self.sets[index as usize];
                set.members[member as usize / 64] |= 1 << (member % 64);
                set.lines += times;
            }
            Line::Bad => self.bad += times,
        }
    }

    /// Adds the books of another sender of the same run; no gauge is in both.
    pub(crate) fn merge(&mut self, other: &Sent) {
        self.lines += other.lines;
        self.bad += other.bad;
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        for (ours, theirs) in self.counters.iter_mut().zip(&other.counters) {
            *ours += theirs;
        }
        for (ours, theirs) in self.timers.iter_mut().zip(&other.timers) {
            if 0 < theirs.count {
                let is_first = ours.count == 0;
                ours.lower_ms =
                    if is_first { theirs.lower_ms } else { ours.lower_ms.min(theirs.lower_ms) };
                ours.upper_ms = ours.upper_ms.max(theirs.upper_ms);
                ours.count += theirs.count;
                ours.sum_ms += theirs.sum_ms;
            }
        }
        for (ours, theirs) in self.gauges.iter_mut().zip(&other.gauges) {
            *ours = ours.or(*theirs);
        }
        for (ours, theirs) in self.sets.iter_mut().zip(&other.sets) {
            ours.lines += theirs.lines;
            for (ours, theirs) in ours.members.iter_mut().zip(theirs.members) {
                *ours |= theirs;
            }
        }
    }
}

/// One thing that does not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) name: String,
    pub(crate) sent: String,
    pub(crate) received: String,
}

/// Names compared and names that agree, of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) names: u64,
    pub(crate) explained: u64,
}

/// One witness held against the books.
#[derive(Debug, Clone, Default)]
pub(crate) struct Comparison {
    /// In the order of [`Kind::ALL`].
    pub(crate) tallies: [Tally; 4],
    /// The first differences.
    pub(crate) differences: Vec<Difference>,
    pub(crate) difference_count: u64,
    /// Sent minus received, by the daemon's own `metrics_received`.
    pub(crate) lines_lost: i64,
    /// Sent minus received, by the daemon's own `packets_received`; none over a stream.
    pub(crate) datagrams_lost: Option<i64>,
    pub(crate) points: u64,
    pub(crate) repeats: u64,
    pub(crate) refused: u64,
}

impl Comparison {
    /// True where nothing is left to explain.
    pub(crate) fn is_explained(&self) -> bool {
        self.difference_count == 0
    }

    fn differ(&mut self, name: String, sent: String, received: String) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_KEPT_MAX {
            self.differences.push(Difference { name, sent, received });
        }
    }

    fn expect_equal(&mut self, name: String, sent: f64, received: Option<f64>) -> bool {
        let is_equal = received == Some(sent);
        if !is_equal {
            let received = received.map_or("nothing".to_owned(), |value| value.to_string());
            self.differ(name, sent.to_string(), received);
        }
        is_equal
    }
}

/// What the books are read with.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) keys: Keys,
    pub(crate) naming: Naming,
    /// Other clients send to the same daemon: its own counters may say more than was sent here.
    pub(crate) is_shared: bool,
    /// The lines went over a stream: in how many pieces the daemon reads it is nobody's promise.
    pub(crate) is_stream: bool,
}

/// Holds `received` against `sent`.
pub(crate) fn compare(terms: &Terms, sent: &Sent, received: &Received) -> Comparison {
    let mut result = Comparison {
        points: received.points,
        repeats: received.repeats,
        refused: received.refused,
        ..Comparison::default()
    };
    // First, because it explains the differences below it.
    if 0 < received.refused {
        let refused = received.refused.to_string();
        result.differ("lines and frames carbon would refuse".to_owned(), "0".to_owned(), refused);
    }
    own_counters(&mut result, terms, sent, received);
    counters(&mut result, terms, sent, received);
    timers(&mut result, terms, sent, received);
    gauges(&mut result, terms, sent, received);
    sets(&mut result, terms, sent, received);
    conflicts(&mut result, terms, received);
    strangers(&mut result, terms, sent, received);
    result
}

fn own_counters(result: &mut Comparison, terms: &Terms, sent: &Sent, received: &Received) {
    let mut check = |counter: &str, expected: u64| {
        let name = terms.naming.own_counter(counter);
        let points = received.points(&name);
        let got = sum(points);
        let is_surplus = terms.is_shared && exact(expected) < got;
        let is_uncounted = terms.is_stream && counter == "packets_received";
        if !is_surplus && !is_uncounted {
            result.expect_equal(name, exact(expected), (!points.is_empty()).then_some(got));
        }
        difference(expected, got)
    };
    let lines_lost = check("metrics_received", sent.lines);
    let datagrams_lost = check("packets_received", sent.datagrams);
    check("bad_lines_seen", sent.bad);
    result.lines_lost = lines_lost;
    result.datagrams_lost = (!terms.is_stream).then_some(datagrams_lost);
}

/// Name of one key's point under `terms`.
fn name(terms: &Terms, kind: Kind, index: u32, derived: &str) -> String {
    let keys = &terms.keys;
    terms.naming.name(kind, &keys.base(kind, index), derived, keys.tags(kind, index).as_deref())
}

fn tally(result: &mut Comparison, kind: Kind, is_explained: bool) {
    let tally = &mut result.tallies[kind as usize];
    tally.names += 1;
    tally.explained += u64::from(is_explained);
}

fn counters(result: &mut Comparison, terms: &Terms, sent: &Sent, received: &Received) {
    for (index, &total) in (0u32..).zip(&sent.counters).filter(|(_, total)| 0 < **total) {
        let name = name(terms, Kind::Counter, index, "");
        let points = received.points(&name);
        let got = (!points.is_empty()).then(|| sum(points));
        let is_equal = result.expect_equal(name, exact(total), got);
        tally(result, Kind::Counter, is_equal);
    }
}

fn timers(result: &mut Comparison, terms: &Terms, sent: &Sent, received: &Received) {
    for (index, timer) in (0u32..).zip(&sent.timers).filter(|(_, timer)| 0 < timer.count) {
        let derived = |derived: &str| {
            let name = name(terms, Kind::Timer, index, derived);
            let points = received.points(&name);
            (name, points)
        };
        let (name, points) = derived("count");
        let got = (!points.is_empty()).then(|| sum(points));
        let mut is_equal = result.expect_equal(name, exact(timer.count), got);
        // These may be switched off (`calculatedTimerMetrics`), and are absent from idle intervals.
        let folded = [
            ("sum", exact(timer.sum_ms), sum as fn(&[Point]) -> f64),
            ("lower", f64::from(timer.lower_ms), lower),
            ("upper", f64::from(timer.upper_ms), upper),
        ];
        for (what, expected, fold) in folded {
            let (name, points) = derived(what);
            if !points.is_empty() {
                is_equal &= result.expect_equal(name, expected, Some(fold(points)));
            }
        }
        tally(result, Kind::Timer, is_equal);
    }
}

fn gauges(result: &mut Comparison, terms: &Terms, sent: &Sent, received: &Received) {
    for (index, gauge) in (0u32..).zip(&sent.gauges) {
        let Some(value) = gauge else { continue };
        let name = name(terms, Kind::Gauge, index, "");
        let got = received.points(&name).last().map(|point| point.value);
        #[expect(clippy::cast_precision_loss, reason = "a gauge stays far below 2^53")]
        let is_equal = result.expect_equal(name, *value as f64, got);
        tally(result, Kind::Gauge, is_equal);
    }
}

fn sets(result: &mut Comparison, terms: &Terms, sent: &Sent, received: &Received) {
    for (index, set) in (0u32..).zip(&sent.sets).filter(|(_, set)| 0 < set.lines) {
        let name = name(terms, Kind::Set, index, "");
        let points = received.points(&name);
        let distinct: u32 = set.members.iter().map(|word| word.count_ones()).sum();
        let distinct = f64::from(distinct);
        let (total, most) = (sum(points), upper(points));
        let is_within = distinct <= total && total <= exact(set.lines) && most <= distinct;
        if !is_within {
            let sent = format!("{distinct} distinct in {} lines", set.lines);
            let intervals = points.iter().filter(|point| 0.0 < point.value).count();
            let got = format!("sum {total}, most {most} in {intervals} intervals");
            result.differ(name, sent, got);
        }
        tally(result, Kind::Set, is_within);
    }
}

/// Two values for one name and timestamp: one of them is gone.
fn conflicts(result: &mut Comparison, terms: &Terms, received: &Received) {
    let (conflicts, count) = received.conflicts();
    let part = format!(".{}.", terms.keys.prefix());
    let own = OWN_COUNTERS.map(|counter| terms.naming.own_counter(counter));
    let is_ours = |name: &String| name.contains(&part) || own.contains(name);
    for conflict in conflicts.iter().filter(|conflict| is_ours(&conflict.name)) {
        let name = format!("{} at {}, two values", conflict.name, conflict.timestamp);
        result.differ(name, conflict.first.to_string(), conflict.second.to_string());
    }
    // Whose the others are was not kept: none of them can be explained.
    let others = count - conflicts.len() as u64;
    if 0 < others {
        result.differ(
            "further points with two values".to_owned(),
            "0".to_owned(),
            others.to_string(),
        );
    }
}

/// Names under our key prefix that nothing was sent to. Gauges of an earlier run are sent on by every
/// daemon and do not count, nor do the zeros of idle series.
fn strangers(result: &mut Comparison, terms: &Terms, sent: &Sent, received: &Received) {
    for kind in [Kind::Counter, Kind::Timer, Kind::Set] {
        let ours = format!("{}{}.", terms.naming.prefix(kind), terms.keys.prefix());
        for (name, points) in received.series() {
            let Some(rest) = name.strip_prefix(&ours) else { continue };
            if !is_known(sent, kind, rest) && points.iter().any(|point| point.value != 0.0) {
                result.differ(name.to_owned(), "nothing".to_owned(), sum(points).to_string());
            }
        }
    }
}

/// True where `rest` begins as the key of a series of `kind` that was sent to: `c.n000017`.
fn is_known(sent: &Sent, kind: Kind, rest: &str) -> bool {
    let mut parts = rest.split(['.', ';']);
    if parts.next() != Some(kind.letters()) {
        return false;
    }
    let digits = parts.next().and_then(|part| part.strip_prefix('n'));
    let Some(index) = digits.and_then(|digits| digits.parse::<usize>().ok()) else { return false };
    match kind {
        Kind::Counter => sent.counters.get(index).is_some_and(|&total| 0 < total),
        Kind::Timer => sent.timers.get(index).is_some_and(|timer| 0 < timer.count),
        Kind::Gauge => sent.gauges.get(index).is_some_and(Option::is_some),
        Kind::Set => sent.sets.get(index).is_some_and(|set| 0 < set.lines),
    }
}

fn sum(points: &[Point]) -> f64 {
    // Not `Iterator::sum`, whose empty sum of doubles is -0.
    points.iter().fold(0.0, |sum, point| sum + point.value)
}

fn lower(points: &[Point]) -> f64 {
    points.iter().map(|point| point.value).fold(f64::INFINITY, f64::min)
}

fn upper(points: &[Point]) -> f64 {
    points.iter().map(|point| point.value).fold(0.0, f64::max)
}

/// A sum as a double: exact, since every total stays far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "totals stay far below 2^53")]
fn exact(total: u64) -> f64 {
    total as f64
}

/// `sent` minus `got`, whole.
#[expect(clippy::cast_possible_truncation, reason = "a sum of counts; `as` saturates")]
fn difference(sent: u64, got: f64) -> i64 {
    (exact(sent) - got) as i64
}

#[cfg(test)]
mod tests;
