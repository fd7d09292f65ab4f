//! The open interval as one daemon hands it to its successor.
//!
//! Everything that a flush would read or keep goes along: totals, raw values, members, sketches, what
//! each gauge stands at and how long it lives, which series exist, and the page of the books. The
//! successor adds what its own workers have received meanwhile, so that one interval over two
//! processes is the sum of both, to the last digit.
//!
//! The form is no file format: it is read once, by the process that asked for it, which knows
//! `HANDED_FORMAT` of the other side before it asks. Members of sets are hashes under the
//! daemon's secret, so the successor needs that too ([`crate::name::Secret`]).

use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::Interval;
use crate::books::Page;
use crate::row::NameColumn;
use crate::series::pool::{Chain, ChunkPool, HomeQueue};
use crate::series::set::SetMembers;
use crate::series::timer::{Overflow, chain_of};

/// Number of the form below: another one for every change of it, and of what its fields mean.
pub const HANDED_FORMAT: u32 = 3;

/// The bytes of a handed interval, aligned as reading it in place asks for.
pub type HandedBytes = AlignedVec;

/// Home of chunks that belong to no worker: they are freed when they have been read.
const HOMELESS: u16 = u16::MAX;

/// The open interval cannot be handed over, or not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandedError {
    /// It is larger than the form can be, or not of it.
    #[error("the open interval cannot be laid out or read: {0}")]
    Layout(#[source] rancor::Error),
    /// Its columns do not belong together.
    #[error("the open interval that was handed over does not hold together: {0}")]
    Columns(&'static str),
}

/// The interval as it travels. Names and columns of one kind have the same length.
#[derive(Archive, Serialize, Deserialize, Debug, Default, PartialEq)]
struct Handed {
    page: Vec<u64>,
    newest_input_ns: u64,
    own_bases: Vec<u64>,
    previous_timestamp_s: Option<u64>,
    pages_unbalanced: u64,
    counters: NameColumn,
    totals: Vec<f64>,
    gauges: NameColumn,
    gauge_values: Vec<Option<f64>>,
    gauge_flushes_left: Vec<Option<u32>>,
    timers: NameColumn,
    /// Per timer: number of chains.
    timer_chains: Vec<u32>,
    /// Per chain: number of values, and what they stand for.
    chain_values: Vec<u32>,
    chain_weights: Vec<f64>,
    /// Of all chains, oldest first.
    values: Vec<f64>,
    overflows: Vec<HandedOverflow>,
    sets: NameColumn,
    /// Per set: number of exact members.
    set_members: Vec<u32>,
    /// High and low half of each member of all sets.
    members: Vec<[u64; 2]>,
    estimates: Vec<HandedEstimate>,
}

/// What a chain keeps beyond its exact budget.
#[derive(Archive, Serialize, Deserialize, Debug, Default, PartialEq)]
struct HandedOverflow {
    /// Its number among all chains.
    chain: u32,
    count: u64,
    /// Weight, sum, sum of squares, lower, upper.
    numbers: [f64; 5],
    sketch: Vec<u8>,
}

/// A set that is beyond its exact budget.
#[derive(Archive, Serialize, Deserialize, Debug, Default, PartialEq)]
struct HandedEstimate {
    /// Its number among the sets.
    set: u32,
    registers: Vec<u8>,
}

/// A count as it travels; what is larger than any budget is cut and does not fit its column then.
fn short(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Interval {
    /// The open interval for a successor that knows `HANDED_FORMAT`.
    ///
    /// # Shape
    /// Bytes for [`Interval::adopt`]. The interval stays as it is: what is not taken can be closed.
    /// # Errors
    /// [`HandedError::Layout`] beyond 2 GiB.
    pub fn to_handed(&self) -> Result<AlignedVec, HandedError> {
        let mut handed = Handed {
            page: self.page.to_words(),
            newest_input_ns: self.page.newest_input_ns,
            own_bases: self.own_bases.to_vec(),
            previous_timestamp_s: self.previous_timestamp_s,
            pages_unbalanced: self.pages_unbalanced,
            ..Handed::default()
        };
        for (key, total) in self.counters.iter() {
            handed.counters.push(key);
            handed.totals.push(*total);
        }
        for (key, gauge) in self.gauges.iter() {
            handed.gauges.push(key);
            handed.gauge_values.push(gauge.value);
            handed.gauge_flushes_left.push(gauge.flushes_left);
        }
        for (key, chains) in self.timers.iter() {
            handed.timers.push(key);
            handed.timer_chains.push(short(chains.len()));
            chains.iter().for_each(|chain| handed.push_chain(chain));
        }
        for (key, set) in self.sets.iter() {
            handed.sets.push(key);
            handed.push_set(set.members.as_deref());
        }
        rkyv::to_bytes::<rancor::Error>(&handed).map_err(HandedError::Layout)
    }

    /// Takes up an interval that [`Interval::to_handed`] has laid out, before anything was added to
    /// this one, whose hasher has the secret of the daemon that did.
    ///
    /// # Errors
    /// [`HandedError`]; the interval is then as good as new, or holds a part of the other one.
    pub fn adopt(&mut self, bytes: &AlignedVec) -> Result<(), HandedError> {
        let handed =
            rkyv::from_bytes::<Handed, rancor::Error>(bytes).map_err(HandedError::Layout)?;
        let mut page = Page::of_words(&handed.page).ok_or(HandedError::Columns("books"))?;
        page.newest_input_ns = handed.newest_input_ns;
        self.page = page;
        let bases = handed.own_bases.as_slice().try_into();
        self.own_bases = bases.map_err(|_| HandedError::Columns("own counters"))?;
        self.previous_timestamp_s = handed.previous_timestamp_s;
        self.pages_unbalanced = handed.pages_unbalanced;
        let mut totals = handed.totals.iter();
        for (key, total) in handed.counters.iter().zip(totals.by_ref()) {
            *self.counters.state(key) = *total;
        }
        for (index, key) in handed.gauges.iter().enumerate() {
            let state = self.gauges.state(key);
            state.value = handed.gauge_values.get(index).copied().flatten();
            state.flushes_left = handed.gauge_flushes_left.get(index).copied().flatten();
        }
        let mut chains = handed.chains()?;
        for (key, count) in handed.timers.iter().zip(&handed.timer_chains) {
            let of_timer: Vec<Chain> = chains.by_ref().take(*count as usize).collect();
            self.held_bytes += of_timer.iter().map(Chain::bytes).sum::<usize>();
            self.timers.state(key).extend(of_timer);
        }
        let mut members = handed.members.iter();
        let mut estimates = handed.estimates.iter().peekable();
        for (index, key) in handed.sets.iter().enumerate() {
            let state = self.sets.state(key);
            state.home = usize::from(HOMELESS);
            let count = handed.set_members.get(index).copied().unwrap_or(0) as usize;
            let exact = members.by_ref().take(count);
            let exact = exact.map(|[high, low]| u128::from(*high) << 64 | u128::from(*low));
            let registers = estimates
                .next_if(|it| it.set as usize == index)
                .map(|estimate| estimate.registers.as_slice());
            let taken = SetMembers::of_parts(exact, registers);
            state.members = taken.ok_or(HandedError::Columns("sets"))?.map(Box::new);
            self.held_bytes += state.members.as_ref().map_or(0, |members| members.bytes());
        }
        self.counters.settle();
        self.gauges.settle();
        self.timers.settle();
        self.sets.settle();
        Ok(())
    }
}

impl Handed {
    fn push_chain(&mut self, chain: &Chain) {
        let chunks: Vec<_> = chain.chunks().collect();
        let before = self.values.len();
        self.values.extend(chunks.iter().rev().flat_map(|chunk| chunk.values()));
        let overflow = chain.newest().and_then(|chunk| chunk.overflow.as_deref());
        if let Some(overflow) = overflow {
            let Overflow { sketch, count, weight, sum, sum_squares, lower, upper } = overflow;
            self.overflows.push(HandedOverflow {
                chain: short(self.chain_values.len()),
                count: *count,
                numbers: [*weight, *sum, *sum_squares, *lower, *upper],
                sketch: sketch.to_java_bytes(),
            });
        }
        self.chain_values.push(short(self.values.len() - before));
        // The overflow has its own weight.
        self.chain_weights.push(chain.newest().map_or(0.0, |chunk| chunk.kept_weight()));
    }

    fn push_set(&mut self, members: Option<&SetMembers>) {
        let before = self.members.len();
        let index = short(self.set_members.len());
        if let Some(members) = members {
            #[expect(clippy::cast_possible_truncation, reason = "the halves of a member")]
            self.members.extend(members.exact().map(|it| [(it >> 64) as u64, it as u64]));
            let registers = members.registers();
            self.estimates.extend(
                registers.map(|all| HandedEstimate { set: index, registers: all.to_vec() }),
            );
        }
        self.set_members.push(short(self.members.len() - before));
    }

    /// All chains, built anew.
    fn chains(&self) -> Result<impl Iterator<Item = Chain>, HandedError> {
        let (mut pool, mut at) = (ChunkPool::new(HOMELESS, HomeQueue::default()), 0);
        let mut overflows = self.overflows.iter().peekable();
        let mut chains = Vec::with_capacity(self.chain_values.len());
        for (index, (count, weight)) in
            self.chain_values.iter().zip(&self.chain_weights).enumerate()
        {
            let end = at + *count as usize;
            let values = self.values.get(at..end).ok_or(HandedError::Columns("timer values"))?;
            at = end;
            let overflow = match overflows.next_if(|overflow| overflow.chain as usize == index) {
                Some(overflow) => {
                    Some(overflow.taken().ok_or(HandedError::Columns("timer sketches"))?)
                }
                None => None,
            };
            chains.extend(chain_of(values, *weight, overflow, &mut pool));
        }
        Ok(chains.into_iter())
    }
}

impl HandedOverflow {
    fn taken(&self) -> Option<Overflow> {
        let decoded = sketches_ddsketch::DDSketch::from_java_bytes(&self.sketch).ok()?;
        let [weight, sum, sum_squares, lower, upper] = self.numbers;
        let mut overflow = Overflow::default();
        // A sketch of another configuration could not be merged with ours later either.
        overflow.sketch.merge(&decoded).ok()?;
        Some(Overflow { count: self.count, weight, sum, sum_squares, lower, upper, ..overflow })
    }
}
