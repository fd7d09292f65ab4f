//! Loops and floe fed by turns: all of them run, one is fed for a quarter of a second, then the next.
//!
//! The host's other guests make the same program half as fast for seconds at a time. Fed one after the
//! other for a second each, two contestants of equal cost differed by up to 40 %; by turns both have the
//! same good and bad moments, and the median of their ratios stands within 2 %
//! (docs/decisions/015-feeding-by-turns.md). Who is not fed sleeps, and flushes what it has once a
//! second: so does who is fed.

use std::collections::BTreeMap;
use std::time::Duration;

use floe_bench::NAMES_SMALL;
use floe_bench::datagrams::Datagrams;

use super::feeds::{Effort, Feed, order, turned, undisturbed};
use super::measurement::{Measurement, feed, warm_up};
use super::probe::await_quiet;
use super::receiving::is_compared;
use crate::contestants::{Contestant, Running, Site};

/// One turn, at the most.
const TURN: Duration = Duration::from_millis(250);

/// Whether `contestant` runs while others are fed by `kind`: a target compares it with them, and it costs
/// next to nothing meanwhile.
///
/// The flush of a million names would cost something, and who is in no target's ratio would be company
/// that a run for that target alone does not have: the loop that sleeps wakes a thousand times a second.
pub(crate) fn takes_turns(contestant: Contestant, kind: Feed) -> bool {
    is_compared(contestant, kind) && kind.pool().names() == NAMES_SMALL
}

/// Feeds `contestants` by turns, for `effort.time` each; who fails has its reason.
pub(crate) fn run(
    contestants: &[Contestant],
    kind: Feed,
    effort: Effort,
    site: &Site,
    pool: &Datagrams,
    round: u32,
) -> Vec<(Contestant, anyhow::Result<Measurement>)> {
    let mut results: BTreeMap<Contestant, anyhow::Result<Measurement>> = BTreeMap::new();
    let mut running = Vec::new();
    for &contestant in contestants {
        match started(contestant, kind, site, pool) {
            Ok(started) => running.push((contestant, started)),
            Err(error) => drop(results.insert(contestant, Err(error))),
        }
    }
    if effort.rate_max.is_none() {
        await_quiet();
    }
    let turns = u32::try_from(effort.time.as_nanos().div_ceil(TURN.as_nanos())).unwrap_or(u32::MAX);
    let effort = Effort { time: effort.time / turns.max(1), ..effort };
    for turn in 0..turns {
        for (contestant, running) in turned(&running, round + turn) {
            if matches!(results.get(contestant), Some(Err(_))) {
                continue;
            }
            let turn = || feed(running, site, order(kind, effort, pool), || {});
            let measured = undisturbed(*contestant, kind, effort, turn);
            let result = match (results.remove(contestant), measured) {
                (Some(Ok(before)), Ok(measured)) => Ok(before.and(&measured)),
                (_, measured) => measured,
            };
            results.insert(*contestant, result);
        }
    }
    results.into_iter().collect()
}

fn started(
    contestant: Contestant,
    kind: Feed,
    site: &Site,
    pool: &Datagrams,
) -> anyhow::Result<Running> {
    let running = contestant.start(site)?;
    warm_up(&running, site, pool, kind.pool().names())?;
    Ok(running)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::floe::Ingest;

    #[test]
    fn who_is_in_no_ratio_and_a_million_names_are_fed_alone() {
        let floe = Contestant::Floe(Ingest::IoUring);
        assert!(takes_turns(floe, Feed::Light) && takes_turns(Contestant::BareSleep, Feed::Light));
        assert!(!takes_turns(Contestant::BareSleep, Feed::SingleFlood));
        assert!(!takes_turns(floe, Feed::PackedMillionNames));
        assert!(!takes_turns(Contestant::Reference, Feed::Light));
        assert!(!takes_turns(Contestant::Peer(0), Feed::SingleFlood));
    }
}
