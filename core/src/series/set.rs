//! Sets: distinct members, exact up to a budget, then estimated.
//!
//! A member is kept as a 128-bit keyed hash of its bytes (two independent 64-bit hashes under seeds
//! of this process): sixteen bytes whatever the member's length, no allocation per member, and the
//! chance that two of a million members fall together is below 2^-88. Beyond
//! `SET_MEMBERS_EXACT_MAX` members per worker and generation the hashes go on in a fine estimate
//! (standard error 0.57 %), and where there is no memory left for a table in a coarse one (1.6 %). The
//! switch is counted by the shard.

use crossbeam_queue::ArrayQueue;
use hashbrown::HashTable;

use crate::limits::{SET_MEMBERS_EXACT_MAX, SET_MEMBERS_HOME_MAX, SET_MEMBERS_KEPT_MAX};
use crate::series::estimate::{COARSE_BYTES, Estimate, FINE_BYTES};
use crate::series::pool::HOME_QUEUE_CHAINS_MAX;
use crate::sync::Arc;

/// The 128-bit hash of a member.
pub type Member = u128;

/// Bytes of a member's place in a table: the hash, its control byte, and what is free beside it.
const MEMBER_BYTES: usize = 20;

/// Members that the first growth makes room for, at the least.
const GROWTH_MEMBERS_MIN: usize = 4;

/// Bytes of an empty set.
const SET_BYTES: usize = 2 * size_of::<SetMembers>();

const _: () = assert!(
    FINE_BYTES < MEMBER_BYTES * SET_MEMBERS_EXACT_MAX / 2,
    "a set that outgrows its table has had room for a fine estimate"
);

/// The members of one set in one generation.
#[derive(Debug, Default)]
pub struct SetMembers {
    exact: HashTable<Member>,
    estimate: Option<Estimate>,
    /// The next one of an emptied set's chain.
    next: Option<Box<SetMembers>>,
}

#[expect(clippy::cast_possible_truncation, reason = "half of the hash is the table's hash")]
fn table_hash(member: &Member) -> u64 {
    *member as u64
}

/// An estimate of these members.
fn estimate_of(exact: &HashTable<Member>, mut estimate: Estimate) -> Estimate {
    exact.iter().for_each(|member| estimate.insert(table_hash(member)));
    estimate
}

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in.
    Kept,
    /// It is in, and made the set pass its exact budget, or that of all sets.
    Switched,
    /// It is not in: there is no memory left even for an estimate.
    Refused,
}

/// What sets may still grow by: half of the bytes are for tables, a quarter is for the
/// first members of sets, the rest for estimates.
#[derive(Clone, Copy, Debug)]
pub struct SetRoom {
    exact_bytes: usize,
    /// Of these, what is left for sets that have no table yet.
    reserved_bytes: usize,
    estimates: usize,
}

impl SetRoom {
    /// Room of so many bytes, and for one estimate at least: a flood of members of one name needs no
    /// more.
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        let estimates = (bytes / 4 / COARSE_BYTES).max(1);
        Self { exact_bytes: bytes - bytes / 4, reserved_bytes: bytes / 4, estimates }
    }
}

impl SetMembers {
    /// Adds a member; `true` if this one made the set pass its exact budget.
    pub fn insert(&mut self, member: Member) -> bool {
        self.insert_within(member, &mut SetRoom::of(usize::MAX)) == Inserted::Switched
    }

    /// Adds a member; what the set grows by is taken from `room`. A table that finds none goes on as
    /// an estimate.
    pub fn insert_within(&mut self, member: Member, room: &mut SetRoom) -> Inserted {
        if let Some(estimate) = &mut self.estimate {
            estimate.insert(table_hash(&member));
            return Inserted::Kept;
        }
        if self.exact.len() == self.exact.capacity()
            && self.exact.find(table_hash(&member), |known| *known == member).is_none()
        {
            let bytes = MEMBER_BYTES * (self.exact.capacity() + 1).max(GROWTH_MEMBERS_MIN);
            let reserved_bytes = if self.exact.capacity() == 0 { 0 } else { room.reserved_bytes };
            if room.exact_bytes < bytes + reserved_bytes {
                if room.estimates == 0 {
                    return Inserted::Refused;
                }
                room.estimates -= 1;
                self.switch_to(Estimate::coarse()).insert(table_hash(&member));
                return Inserted::Switched;
            }
            room.exact_bytes -= bytes;
        }
        self.exact
            .entry(table_hash(&member), |known| *known == member, table_hash)
            .or_insert(member);
        if self.exact.len() <= SET_MEMBERS_EXACT_MAX {
            return Inserted::Kept;
        }
        self.switch_to(Estimate::fine());
        Inserted::Switched
    }

    /// Bytes that the members take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        MEMBER_BYTES * self.exact.capacity() + self.estimate.as_ref().map_or(0, Estimate::bytes)
    }

    /// Goes on in `empty`, unless it has an estimate already.
    fn switch_to(&mut self, empty: Estimate) -> &mut Estimate {
        let exact = std::mem::take(&mut self.exact);
        self.estimate.get_or_insert_with(|| estimate_of(&exact, empty))
    }

    /// Adds the members another worker, or an earlier flip of the interval, has seen.
    pub fn merge(&mut self, other: &Self) {
        if let Some(theirs) = &other.estimate {
            match &mut self.estimate {
                Some(ours) => ours.merge(theirs),
                None => {
                    self.switch_to(theirs.clone());
                }
            }
        }
        for member in &other.exact {
            self.insert(*member);
        }
    }

    /// A set of these members and of an estimate's `registers`, as [`SetMembers::registers`] gives
    /// them; `Some(None)` is no set at all, `None` if they are none.
    pub(crate) fn of_parts(
        exact: impl Iterator<Item = Member>,
        registers: Option<&[u8]>,
    ) -> Option<Option<Self>> {
        let mut members = Self::default();
        if let Some(registers) = registers {
            members.estimate = Some(Estimate::of_registers(registers)?);
        }
        let mut is_empty = registers.is_none();
        for member in exact {
            is_empty = false;
            members.insert(member);
        }
        Some((!is_empty).then_some(members))
    }

    /// The members that are kept exactly.
    pub(crate) fn exact(&self) -> impl Iterator<Item = Member> {
        self.exact.iter().copied()
    }

    /// The estimate beyond the exact budget, where there is one.
    pub(crate) fn registers(&self) -> Option<&[u8]> {
        self.estimate.as_ref().map(Estimate::registers)
    }

    /// Distinct members: exact, or estimated beyond the budget.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.estimate {
            Some(estimate) => estimate.count(),
            None => self.exact.len() as u64,
        }
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
    /// Bytes that the sets of a generation may take.
    bytes_max: usize,
    /// What is left of them.
    room: SetRoom,
}

impl SetPool {
    /// A pool fed by `returned`, without a budget of its own.
    #[must_use]
    pub fn new(returned: SetHome) -> Self {
        Self::within(usize::MAX, returned)
    }

    /// The same with `bytes_max` for a generation.
    #[must_use]
    pub fn within(bytes_max: usize, returned: SetHome) -> Self {
        Self { free: SetChain::default(), returned, bytes_max, room: SetRoom::of(bytes_max) }
    }

    /// Counts anew at a flip: what was filled belongs to the coordinator now.
    pub(crate) fn start_generation(&mut self) {
        self.room = SetRoom::of(self.bytes_max);
    }

    /// Whether no set is given out any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.room.exact_bytes < SET_BYTES
    }

    /// What sets may still grow by in this generation.
    pub(crate) fn room(&mut self) -> &mut SetRoom {
        &mut self.room
    }

    /// An empty set; allocates only while the pool grows to its working size.
    pub(crate) fn take(&mut self) -> Box<SetMembers> {
        if self.free.head.is_none() {
            self.free = self.returned.0.pop().unwrap_or_default();
        }
        let members = self.free.pop().unwrap_or_default();
        let bytes = SET_BYTES + members.bytes();
        self.room.exact_bytes = self.room.exact_bytes.saturating_sub(bytes);
        members
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
        assert!(error < 0.02, "three standard errors and more, found {error}");
    }

    #[test]
    fn sets_beyond_the_room_of_all_go_on_as_estimates_and_then_not_at_all() {
        let mut room = SetRoom::of(10_000 * MEMBER_BYTES);
        let mut sets: Vec<SetMembers> = (0..400).map(|_| SetMembers::default()).collect();
        let mut ends = [0; 3];
        for number in 0..500 {
            for set in &mut sets {
                ends[set.insert_within(member(number), &mut room) as usize] += 1;
            }
        }
        let bytes: usize = sets.iter().map(SetMembers::bytes).sum();
        assert!(bytes <= 10_000 * MEMBER_BYTES && 0 < bytes, "{bytes}");
        let [kept, switched, refused] = ends;
        assert!(0 < switched && 0 < refused && kept + switched + refused == 400 * 500, "{ends:?}");
        let known: Vec<u64> = sets.iter().map(SetMembers::count).collect();
        for set in &mut sets {
            set.insert_within(member(0), &mut room);
        }
        assert_eq!(sets.iter().map(SetMembers::count).collect::<Vec<_>>(), known, "no growth");
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
