//! Targets of the receive path: 1, 9 and 11, and the parts of 2 and 3 that need a socket.

use super::feeds::{Feed, Plan, figures};
use super::measurement::Measurement;
use super::spread::{Spread, differences, ratios};
use super::table::figure;
use super::target::{Bound, Target};
use crate::contestants::Contestant;
use crate::contestants::floe::Ingest;

const FLOE: Contestant = Contestant::Floe(Ingest::IoUring);
const FLOE_RECVMMSG: Contestant = Contestant::Floe(Ingest::Recvmmsg);

/// Lines per second that target 2 asks for.
const TWENTY_MILLION: f64 = 20e6;

/// What each target needs, and whose figures make its ratios.
const NEEDS: [(u32, Feed, &[Contestant]); 6] = [
    (1, Feed::SingleFlood, &[Contestant::BareRing, FLOE, Contestant::BareRecvmmsg]),
    (2, Feed::PackedFlood, &[Contestant::BareRing, FLOE, Contestant::BareRecvmmsg]),
    (2, Feed::PackedTwentyMillion, &[Contestant::BareRing, FLOE]),
    (3, Feed::PackedMillionNames, &[Contestant::BareRing, FLOE]),
    (9, Feed::Light, &[Contestant::BareSleep, FLOE]),
    (11, Feed::SingleFlood, &[FLOE, FLOE_RECVMMSG]),
];

/// Whether a target compares `contestant` with another one by `feed`.
pub(crate) fn is_compared(contestant: Contestant, feed: Feed) -> bool {
    NEEDS.iter().any(|(_, needed, who)| *needed == feed && who.contains(&contestant))
}

/// Adds to `plan` what the targets of `numbers` need.
pub(crate) fn plan(numbers: &[u32], plan: &mut Plan) {
    for (number, feed, contestants) in NEEDS {
        if numbers.contains(&number) {
            let planned = plan.entry(feed).or_default();
            let new = contestants.iter().filter(|each| !planned.contains(each));
            let new: Vec<_> = new.copied().collect();
            planned.extend(new);
        }
    }
}

/// The figures of a run, asked for by contestant and feed.
struct Figures<'m>(&'m [Measurement]);

impl Figures<'_> {
    fn datagram_ns(&self, feed: Feed, contestant: Contestant) -> Vec<(u32, f64)> {
        figures(self.0, feed, contestant, Measurement::datagram_ns)
    }

    fn line_ns(&self, feed: Feed, contestant: Contestant) -> Vec<(u32, f64)> {
        figures(self.0, feed, contestant, Measurement::line_ns)
    }

    fn median(
        &self,
        feed: Feed,
        contestant: Contestant,
        of: impl Fn(&Measurement) -> f64,
    ) -> Option<f64> {
        let values = figures(self.0, feed, contestant, of);
        Some(Spread::of(values.into_iter().map(|(_, value)| value))?.median)
    }

    /// `floe 512 ns, bare-io_uring 480 ns`: medians of the cost per datagram.
    fn costs(&self, feed: Feed, contestants: &[Contestant]) -> String {
        let costs = contestants.iter().filter_map(|&contestant| {
            let median = self.median(feed, contestant, Measurement::datagram_ns)?;
            Some(format!("{} {} ns", contestant.name(), figure(median)))
        });
        costs.collect::<Vec<_>>().join(", ")
    }
}

/// Target 1.
pub(crate) fn single(measurements: &[Measurement]) -> Vec<Target> {
    let run = Figures(measurements);
    let feed = Feed::SingleFlood;
    let floe = run.datagram_ns(feed, FLOE);
    let offered = run.median(feed, FLOE, Measurement::offered_per_s);
    let offered = offered.map_or_else(String::new, |rate| {
        format!("; the sender offered {} M datagrams/s", figure(rate / 1e6))
    });
    let costs = run.costs(feed, &[FLOE, Contestant::BareRing, Contestant::BareRecvmmsg]);
    let against = |contestant| ratios(&floe, &run.datagram_ns(feed, contestant));
    vec![
        Target::new(
            1,
            "one line per datagram: worker's CPU per datagram against the bare multishot loop",
            (Bound::AtMost(1.1), "×"),
            against(Contestant::BareRing),
        )
        .note(format!("{costs}{offered}")),
        Target::new(
            1,
            "and below the bare recvmmsg loop",
            (Bound::AtMost(1.0), "×"),
            against(Contestant::BareRecvmmsg),
        ),
    ]
}

/// Target 2 at the socket.
pub(crate) fn packed(measurements: &[Measurement]) -> Vec<Target> {
    let run = Figures(measurements);
    let (flood, paced) = (Feed::PackedFlood, Feed::PackedTwentyMillion);
    let accepted = figures(measurements, paced, FLOE, Measurement::lines_per_s);
    let lost = figures(measurements, paced, FLOE, |each| each.loss() * 100.0);
    let most_lost = lost.iter().map(|(_, lost)| *lost).fold(0.0, f64::max);
    let offered = run.median(paced, FLOE, Measurement::offered_lines_per_s).unwrap_or(f64::NAN);
    let at_most = run.median(flood, FLOE, Measurement::offered_lines_per_s).unwrap_or(f64::NAN);
    let flooded = run.median(flood, FLOE, Measurement::lines_per_s).unwrap_or(f64::NAN);
    let flood_lost = run.median(flood, FLOE, |each| each.loss() * 100.0).unwrap_or(f64::NAN);
    let is_segmented =
        measurements.iter().any(|each| each.feed == paced.name() && each.is_segmented);
    let sender =
        if is_segmented { " by a UDP_SEGMENT sender, for a plain one has less" } else { "" };
    // Of a slower sender that lost nothing it is not known what would have been taken.
    let is_asked = most_lost != 0.0 || TWENTY_MILLION <= offered;
    let accepted = Spread::of(accepted.into_iter().map(|(_, rate)| rate / 1e6));
    vec![
        beyond_bare(2, "10,000 names", 30.0, &run, flood),
        Target::new(
            2,
            "packed, 10,000 names: lines accepted per second without loss",
            // The last datagram is read a little after it was sent.
            (Bound::AtLeast(TWENTY_MILLION / 1e6), "M/s"),
            accepted,
        )
        .only_if(most_lost == 0.0)
        .asked_if(is_asked)
        .note(format!(
            "offered {} M/s{sender}, at most {} % lost; flooded with {} M/s: {} M/s taken in, {} % lost",
            figure(offered / 1e6),
            figure(most_lost),
            figure(at_most / 1e6),
            figure(flooded / 1e6),
            figure(flood_lost),
        )),
    ]
}

/// Target 3 at the socket.
pub(crate) fn million(measurements: &[Measurement]) -> Target {
    let run = Figures(measurements);
    beyond_bare(3, "1,000,000 names", 65.0, &run, Feed::PackedMillionNames)
}

/// What a line costs the worker beyond what a bare loop pays for receiving it.
fn beyond_bare(number: u32, names: &str, limit_ns: f64, run: &Figures<'_>, feed: Feed) -> Target {
    let costs = [FLOE, Contestant::BareRing].map(|contestant| {
        let median = run.median(feed, contestant, Measurement::line_ns).unwrap_or(f64::NAN);
        format!("{} {} ns/line", contestant.name(), figure(median))
    });
    Target::new(
        number,
        &format!("packed, {names}: CPU per line beyond the bare loop's, at the socket"),
        (Bound::AtMost(limit_ns), "ns"),
        differences(&run.line_ns(feed, FLOE), &run.line_ns(feed, Contestant::BareRing)),
    )
    .note(costs.join(", "))
}

/// Target 9.
pub(crate) fn light(measurements: &[Measurement]) -> Target {
    let run = Figures(measurements);
    let feed = Feed::Light;
    let measured =
        ratios(&run.datagram_ns(feed, FLOE), &run.datagram_ns(feed, Contestant::BareSleep));
    Target::new(
        9,
        "50,000 single-line datagrams/s: CPU per datagram against the bare loop that sleeps 1 ms",
        (Bound::AtMost(1.2), "×"),
        measured,
    )
    .note(run.costs(feed, &[FLOE, Contestant::BareSleep]))
}

/// Target 11.
pub(crate) fn recvmmsg(measurements: &[Measurement]) -> Target {
    let run = Figures(measurements);
    let feed = Feed::SingleFlood;
    let measured = ratios(&run.datagram_ns(feed, FLOE_RECVMMSG), &run.datagram_ns(feed, FLOE));
    Target::new(
        11,
        "floe's recvmmsg path: CPU per datagram against its io_uring path",
        (Bound::AtMost(1.25), "×"),
        measured,
    )
    .note(run.costs(feed, &[FLOE_RECVMMSG, FLOE]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::table;
    use crate::compare::target::Verdict;

    fn measured(contestant: Contestant, feed: Feed, cpu_ns: u64, lost: u64) -> Measurement {
        Measurement {
            datagrams_sent: 500,
            lines_sent: 23_000,
            datagrams_lost: lost,
            ..table::tests::measured(contestant.name(), feed, 0, cpu_ns)
        }
    }

    #[test]
    fn plan_of_a_target_has_both_sides_of_its_ratio_once() {
        let mut planned = Plan::new();
        plan(&[1, 11], &mut planned);
        let single = &planned[&Feed::SingleFlood];
        assert_eq!(planned.len(), 1);
        assert_eq!(single, &[Contestant::BareRing, FLOE, Contestant::BareRecvmmsg, FLOE_RECVMMSG]);
    }

    #[test]
    fn cost_beyond_the_bare_loop_is_a_difference_per_line() {
        let measurements = [
            measured(FLOE, Feed::PackedFlood, 1_150_000, 0),
            measured(Contestant::BareRing, Feed::PackedFlood, 230_000, 0),
        ];
        let row = &packed(&measurements)[0];
        assert_eq!(row.verdict, Verdict::Missed);
        assert!((row.measured.unwrap().median - 40.0).abs() < 1e-9);
    }

    #[test]
    fn twenty_million_lines_with_a_single_loss_do_not_count() {
        let row = |lost| {
            let measurement = measured(FLOE, Feed::PackedTwentyMillion, 1, lost);
            packed(&[measurement])[1].verdict
        };
        assert_eq!((row(0), row(1)), (Verdict::Holds, Verdict::Missed));
    }

    #[test]
    fn a_sender_with_less_than_twenty_million_lines_says_nothing_unless_some_are_lost() {
        let row = |lost| {
            let measurement = measured(FLOE, Feed::PackedTwentyMillion, 1, lost);
            let slow = Measurement { sending_ns: 10 * measurement.sending_ns, ..measurement };
            packed(&[slow])[1].verdict
        };
        assert_eq!((row(0), row(1)), (Verdict::NotShown, Verdict::Missed));
    }

    #[test]
    fn row_says_that_its_sender_was_no_plain_one() {
        let note = |is_segmented| {
            let plain = measured(FLOE, Feed::PackedTwentyMillion, 1, 0);
            packed(&[Measurement { is_segmented, ..plain }])[1].note.clone()
        };
        assert!(note(true).contains("M/s by a UDP_SEGMENT sender"), "{}", note(true));
        assert!(!note(false).contains("UDP_SEGMENT"), "{}", note(false));
    }

    #[test]
    fn ratios_of_the_receive_path_pair_the_right_two() {
        let measurements = [
            measured(FLOE, Feed::SingleFlood, 1_000, 0),
            measured(FLOE_RECVMMSG, Feed::SingleFlood, 1_200, 0),
            measured(Contestant::BareRing, Feed::SingleFlood, 800, 0),
            measured(FLOE, Feed::Light, 3_000, 0),
            measured(Contestant::BareSleep, Feed::Light, 2_000, 0),
        ];
        let median = |row: &Target| row.measured.map(|spread| spread.median);
        assert_eq!(median(&recvmmsg(&measurements)), Some(1.2));
        assert_eq!(median(&light(&measurements)), Some(1.5));
        let rows = single(&measurements);
        assert_eq!((median(&rows[0]), rows[1].verdict), (Some(1.25), Verdict::NotShown));
    }
}
