//! What a fault is, and all of them.

use std::time::Duration;

use floe_bench::random::Random;
use floe_io::clock::wall_ms;

use super::world::{INTERVAL_MS, Settings, World};
use super::{backend_faults, disk_faults, hostile_faults, point_faults, process_faults};
use crate::compare::probe::pause;

/// Datagrams a second of the witness: far below what a daemon carries that shares its CPUs.
pub(crate) const RATE: u32 = 2_000;

/// What the machine must have for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    None,
    /// Mounts of our own.
    Mounts,
    /// A network of our own, and mounts.
    Network,
    /// Python, to filter system calls.
    Python,
    /// A floe that can take over.
    TakeOver,
    /// A C compiler, for a wall clock of the daemon's own.
    Compiler,
    /// A disk in a file, which can be copied.
    Image,
    /// A debug build of floe, which makes faults of its own.
    FaultPoints,
}

/// One way to go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// Its name on the command line and in records.
    pub(crate) name: &'static str,
    /// What is done.
    pub(crate) what: &'static str,
    /// What may be lost.
    pub(crate) allows: &'static str,
    /// What it needs.
    pub(crate) need: Need,
    /// A world of its own, with these settings.
    pub(crate) own_world: Option<fn(&mut Random) -> Settings>,
    /// Does it, and heals it.
    pub(crate) body: fn(&mut Scene<'_>) -> anyhow::Result<Outcome>,
}

/// What a fault is done to.
#[derive(Debug)]
pub(crate) struct Scene<'w> {
    /// The daemon and what is around it.
    pub(crate) world: &'w mut World,
    /// Chance.
    pub(crate) random: &'w mut Random,
    /// How much longer than in a short round faults last.
    pub(crate) scale: u32,
}

impl Scene<'_> {
    /// A random time between two, in ms, longer in long rounds.
    pub(crate) fn spell(&mut self, least_ms: u32, most_ms: u32) -> Duration {
        let most_ms = most_ms.saturating_mul(self.scale).max(least_ms);
        Duration::from_millis(u64::from(least_ms + self.random.below(most_ms - least_ms + 1)))
    }

    /// The witness speaks for a random while, so that the fault meets any place of an interval.
    pub(crate) fn warm_up(&mut self) {
        self.world.sender.send_at(RATE);
        let time = u64::from(self.random.below(1_200));
        pause(Duration::from_millis(300 + time));
    }
}

/// What may be lost by a fault that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// Nothing, and the kernel drops nothing.
    Nothing,
    /// What the kernel dropped at the socket, to the datagram.
    Dropped,
    /// The open interval, what the sockets held, and what was sent while nobody listened: sent
    /// between these times of the wall clock, ms.
    Crash {
        /// Begin of the open interval.
        from_ms: u64,
        /// When the next run was ready.
        to_ms: u64,
    },
    /// As [`Allowed::Crash`]; carbons may have what the disk had not kept yet.
    PowerCut {
        /// Begin of the open interval.
        from_ms: u64,
        /// When the next run was ready.
        to_ms: u64,
    },
    /// What came behind the signal and nobody read.
    Drain {
        /// The signal, ms.
        from_ms: u64,
        /// When the next run was ready.
        to_ms: u64,
    },
    /// So many datagrams at carbon `a`, with segments that were destroyed from outside.
    Destroyed(u64),
}

impl Allowed {
    /// After a kill at `killed_ms`; the run after it was ready at `ready_ms`.
    pub(crate) fn crash(killed_ms: u64, ready_ms: u64) -> Self {
        /// An interval is on the disk this long after its end at the latest, ms.
        const COMMIT_MS: u64 = 250;
        let from_ms = killed_ms.saturating_sub(COMMIT_MS) / INTERVAL_MS * INTERVAL_MS;
        Self::Crash { from_ms, to_ms: ready_ms }
    }
}

/// Looks at the world once it has settled; returns what does not hold.
pub(crate) type Later = Box<dyn FnOnce(&World) -> anyhow::Result<Vec<String>>>;

/// A fault that was done and healed.
pub(crate) struct Outcome {
    /// What may be lost.
    pub(crate) allowed: Allowed,
    /// What already does not hold.
    pub(crate) failures: Vec<String>,
    /// What is to be looked at once all has settled.
    pub(crate) later: Vec<Later>,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outcome").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

impl Outcome {
    /// Nothing but `allowed` may be lost.
    pub(crate) fn new(allowed: Allowed) -> Self {
        Self { allowed, failures: Vec::new(), later: Vec::new() }
    }

    /// Wants `condition` to hold; `text` says what does not.
    pub(crate) fn ensure(mut self, condition: bool, text: impl Into<String>) -> Self {
        if !condition {
            self.failures.push(text.into());
        }
        self
    }

    /// Looks at the world later.
    pub(crate) fn later(
        mut self,
        look: impl FnOnce(&World) -> anyhow::Result<Vec<String>> + 'static,
    ) -> Self {
        self.later.push(Box::new(look));
        self
    }

    /// Wants every interval from now on to be at carbon `b` within an interval of its end.
    pub(crate) fn b_is_on_time_from(self, from_ms: u64) -> Self {
        self.later(move |world| Ok(late_at_b(world, from_ms, wall_ms())))
    }
}

/// Intervals that carbon `b` had later than an interval after their end.
fn late_at_b(world: &World, from_ms: u64, to_ms: u64) -> Vec<String> {
    let arrivals = world.carbons[1].ledger().arrivals_from(from_ms / 1_000 + 1);
    let late = arrivals.iter().filter(|(time, came_ms)| {
        *time * 1_000 <= to_ms && INTERVAL_MS < came_ms.saturating_sub(*time * 1_000)
    });
    let late = late.map(|(time, came_ms)| {
        format!("carbon b had interval {time} {} ms after its end", came_ms - time * 1_000)
    });
    late.take(1).collect()
}

/// All faults.
pub(crate) fn all() -> Vec<Fault> {
    [
        &process_faults::FAULTS[..],
        &backend_faults::FAULTS,
        &disk_faults::FAULTS,
        &point_faults::FAULTS,
        &hostile_faults::FAULTS,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_says_what_it_allows() {
        let all = all();
        let names: BTreeSet<&str> = all.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|fault| !fault.what.is_empty() && !fault.allows.is_empty()));
    }

    #[test]
    fn kill_right_behind_a_tick_may_cost_the_interval_that_is_written() {
        assert_eq!(Allowed::crash(5_600, 6_000), Allowed::Crash { from_ms: 5_000, to_ms: 6_000 });
        assert_eq!(Allowed::crash(5_100, 6_000), Allowed::Crash { from_ms: 4_000, to_ms: 6_000 });
    }
}
