//! Sets: distinct members, exact up to a budget, then estimated.
//!
//! A member is kept as a 128-bit keyed hash of its bytes (two independent 64-bit hashes under seeds
//! of this process): sixteen bytes whatever the member's length, no allocation per member, and the
//! chance that two of a million members fall together is below 2^-88. Beyond
//! `SET_MEMBERS_EXACT_MAX` members per worker and generation the hashes go on in a HyperLogLog
//! (4,096 registers: standard error 1.6 %). The switch is counted by the shard.

use cardinality_estimator::CardinalityEstimator;
use crossbeam_queue::ArrayQueue;
use hashbrown::HashTable;

use crate::limits::{SET_MEMBERS_EXACT_MAX, SET_MEMBERS_HOME_MAX, SET_MEMBERS_KEPT_MAX};
use crate::series::pool::HOME_QUEUE_CHAINS_MAX;
use crate::sync::Arc;

/// The 128-bit hash of a member.
pub type Member = u128;

type Estimator = CardinalityEstimator<u64>;

/// The members of one set in one generation.
#[derive(Debug, Default)]
pub struct SetMembers {
    exact: HashTable<Member>,
    estimate: Option<Box<Estimator>>,
    /// The next one of an emptied set's chain.
    next: Option<Box<SetMembers>>,
}

#[expect(clippy::cast_possible_truncation, reason = "half of the hash is the table's hash")]
fn table_hash(member: &Member) -> u64 {
    *member as u64
}

impl SetMembers {
    /// Adds a member; `true` if this one made the set pass its exact budget.
    pub fn insert(&mut self, member: Member) -> bool {
        if let Some(estimate) = &mut self.estimate {
            estimate.insert_hash(table_hash(&member));
            return false;
        }
        self.exact
            .entry(table_hash(&member), |known| *known == member, table_hash)
            .or_insert(member);
        if self.exact.len() <= SET_MEMBERS_EXACT_MAX {
            return false;
        }
        self.switch_to_estimate();
        true
    }

    fn switch_to_estimate(&mut self) -> &mut Estimator {
        let exact = std::mem::take(&mut self.exact);
        self.estimate.get_or_insert_with(|| {
            let mut estimate = Box::new(Estimator::new());
            for member in &exact {
                estimate.insert_hash(table_hash(member));
            }
            estimate
        })
    }

    /// Adds the members another worker, or an earlier flip of the interval, has seen.
    pub fn merge(&mut self, other: &Self) {
        if let Some(theirs) = &other.estimate {
            self.switch_to_estimate().merge(theirs);
        }
        for member in &other.exact {
            self.insert(*member);
        }
    }

    /// Distinct members: exact, or estimated beyond the budget.
    #[must_use]
    pub fn count(&self) -> u64 {
        let count = match &self.estimate {
            Some(estimate) => estimate.estimate(),
            None => self.exact.len(),
        };
        count as u64
    }

    /// Whether [`Self::count`] is exact.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.estimate.is_none()
    }

    /// Empties the set, keeping a table of ordinary size for the next generation.
    pub fn clear(&mut self) {
        self.estimate = None;
        if SET_MEMBERS_KEPT_MAX < self.exact.capacity() {
            self.exact = HashTable::new();
        } else {
            self.exact.clear();
        }
    }
}

/// Emptied sets, linked: the newest first. Dropping it frees them one by one, without recursion.
#[derive(Debug, Default)]
struct SetChain {
    head: Option<Box<SetMembers>>,
}

impl SetChain {
    fn push(&mut self, mut members: Box<SetMembers>) {
        members.next = self.head.take();
        self.head = Some(members);
    }

    fn pop(&mut self) -> Option<Box<SetMembers>> {
        let mut members = self.head.take()?;
        self.head = members.next.take();
        Some(members)
    }
}

impl Drop for SetChain {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// Chains of emptied sets on their way home to the worker that allocated them, as chunks go
/// (`pool.rs`): an entry is a whole interval's worth.
#[derive(Clone, Debug)]
pub struct SetHome(Arc<ArrayQueue<SetChain>>);

impl Default for SetHome {
    fn default() -> Self {
        Self(Arc::new(ArrayQueue::new(HOME_QUEUE_CHAINS_MAX)))
    }
}

/// The worker's side: takes sets out.
#[derive(Debug)]
pub struct SetPool {
    free: SetChain,
    returned: SetHome,
}

impl SetPool {
    /// A pool fed by `returned`.
    #[must_use]
    pub fn new(returned: SetHome) -> Self {
        Self { free: SetChain::default(), returned }
    }

    /// An empty set; allocates only while the pool grows to its working size.
    pub(crate) fn take(&mut self) -> Box<SetMembers> {
        if let Some(members) = self.free.pop() {
            return members;
        }
        self.free = self.returned.0.pop().unwrap_or_default();
        self.free.pop().unwrap_or_default()
    }
}

/// The coordinator's side: gathers sets by home and sends them there.
#[derive(Debug)]
pub struct SetHomes {
    homes: Vec<(SetHome, Waiting)>,
}

/// Sets that are about to be sent home.
#[derive(Debug, Default)]
struct Waiting {
    chain: SetChain,
    /// Members that their tables have room for.
    members: usize,
}

impl SetHomes {
    /// One queue per worker, index = worker index.
    #[must_use]
    pub fn new(homes: impl Iterator<Item = SetHome>) -> Self {
        Self { homes: homes.map(|home| (home, Waiting::default())).collect() }
    }

    /// Takes a set of worker `home` that has been read; beyond `SET_MEMBERS_HOME_MAX` it is freed.
    pub(crate) fn put(&mut self, home: usize, mut members: Box<SetMembers>) {
        members.clear();
        if let Some((_, waiting)) = self.homes.get_mut(home)
            && waiting.members < SET_MEMBERS_HOME_MAX
        {
            waiting.members += members.exact.capacity();
            waiting.chain.push(members);
        }
    }

    /// Sends everything home; what finds its queue full waits for the next call.
    pub(crate) fn send(&mut self) {
        for (home, waiting) in &mut self.homes {
            let Waiting { chain, members } = std::mem::take(waiting);
            if chain.head.is_some()
                && let Err(chain) = home.0.push(chain)
            {
                *waiting = Waiting { chain, members };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads small numbers as a hash would.
    fn member(number: u64) -> Member {
        let low = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (low ^ (low >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        u128::from(mixed ^ (mixed >> 32)) | u128::from(number) << 64
    }

    #[test]
    fn members_are_counted_once() {
        let mut set = SetMembers::default();
        for number in [1, 2, 1, 3, 2] {
            set.insert(member(number));
        }
        assert_eq!((set.count(), set.is_exact()), (3, true));
    }

    #[test]
    fn the_budget_switches_to_an_estimate_once_and_stays_near() {
        let mut set = SetMembers::default();
        let count = SET_MEMBERS_EXACT_MAX as u64 * 3;
        let switches = (0..count).filter(|&number| set.insert(member(number))).count();
        assert_eq!((switches, set.is_exact()), (1, false));
        let error = (set.count() as f64 / count as f64 - 1.0).abs();
        assert!(error < 0.08, "five standard errors, found {error}");
    }

    #[test]
    fn merging_counts_shared_members_once_in_all_forms() {
        let mut small = SetMembers::default();
        let mut large = SetMembers::default();
        small.insert(member(0));
        small.insert(member(u64::MAX / 2));
        let count = SET_MEMBERS_EXACT_MAX as u64 * 2;
        for number in 0..count {
            large.insert(member(number));
        }
        let mut other = SetMembers::default();
        other.merge(&small);
        other.merge(&small);
        assert_eq!(other.count(), 2);
        let before = large.count();
        large.merge(&small);
        small.merge(&large);
        assert!(large.count().abs_diff(before) < before / 100);
        assert_eq!(small.count(), large.count());
    }

    #[test]
    fn a_cleared_set_is_exact_and_empty_again() {
        let mut set = SetMembers::default();
        for number in 0..=SET_MEMBERS_EXACT_MAX as u64 {
            set.insert(member(number));
        }
        set.clear();
        assert_eq!((set.count(), set.is_exact()), (0, true));
    }

    #[test]
    fn sets_come_home_emptied_in_any_number_and_within_a_bound() {
        let home = SetHome::default();
        let mut pool = SetPool::new(home.clone());
        let mut homes = SetHomes::new(std::iter::once(home));
        let mut lent: Vec<_> = (0..10_000).map(|_| pool.take()).collect();
        for set in &mut lent {
            set.insert(member(1));
        }
        let addresses = |sets: &[Box<SetMembers>]| -> Vec<usize> {
            let mut all: Vec<_> = sets.iter().map(|set| &raw const **set as usize).collect();
            all.sort_unstable();
            all
        };
        let first = addresses(&lent);
        lent.into_iter().for_each(|set| homes.put(0, set));
        homes.send();
        let mut again: Vec<_> = (0..10_000).map(|_| pool.take()).collect();
        assert!(again.iter().all(|set| set.count() == 0 && set.next.is_none()));
        assert_eq!(addresses(&again), first, "nothing is allocated the second time");
        let large = |mut set: Box<SetMembers>| {
            (0..SET_MEMBERS_KEPT_MAX as u64 / 2).for_each(|number| {
                set.insert(member(number));
            });
            set
        };
        again.truncate(SET_MEMBERS_HOME_MAX / (SET_MEMBERS_KEPT_MAX / 2) + 100);
        again.into_iter().for_each(|set| homes.put(0, large(set)));
        let Waiting { members, .. } = homes.homes[0].1;
        assert!(members <= SET_MEMBERS_HOME_MAX + SET_MEMBERS_KEPT_MAX, "{members}");
    }
}
