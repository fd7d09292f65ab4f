//! The arithmetic of a slot: one value is recorded under the worker's epoch.
//!
//! Stands between `table`, which finds the slot, and `series`, which knows the four kinds. A
//! counter is added up in the payload itself; a timer, gauge or set hangs there as a box, made at
//! the first value of a generation and used in place from then on. Allocates for nothing else.

use super::flip::Generations;
use super::payload::{into_payload, payload_mut, take_payload};
use crate::books::Cause;
use crate::name::KeyHasher;
use crate::series::gauge::{self, GaugeOperation};
use crate::series::pool::{Chunk, ChunkPool};
use crate::series::set::{Inserted, SetMembers, SetPool};
use crate::series::timer::{self, Recorded};

/// What a value did beside being recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    None,
    /// It made its series pass its exact budget.
    Done,
    /// It was not recorded: there is no memory left even for less than all of it.
    Refused(Cause),
}

/// A number on its way to a counter, timer or gauge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    pub(super) value: f64,
    /// How many events it stands for, of a timer.
    pub(super) weight: f64,
    /// Whether it began with a sign, of a gauge.
    pub(super) is_signed: bool,
}

/// Records values under the worker's epoch.
pub(super) struct Recorder<'a> {
    pub(super) epoch: u32,
    pub(super) chunks: &'a mut ChunkPool,
    pub(super) sets: &'a mut SetPool,
    pub(super) hasher: &'a KeyHasher,
    pub(super) batch_time_ns: u64,
}

// Functions and not methods, so that they are named where one is chosen by kind; always inline, for
// each stands in the loop over known names and in the way of those beyond a budget.

/// Adds to a counter.
#[inline(always)]
pub(super) fn counter(
    recorder: &mut Recorder<'_>,
    series: &Generations,
    number: &Number,
) -> Switch {
    let before = series.load(recorder.epoch).map_or(0.0, f64::from_bits);
    series.store(recorder.epoch, (before + number.value).to_bits());
    Switch::None
}

/// Keeps the value of a timer.
#[inline(always)]
pub(super) fn timer(recorder: &mut Recorder<'_>, series: &Generations, number: &Number) -> Switch {
    recorder.timer(series, number.value, number.weight)
}

/// Keeps the operation of a gauge.
#[inline(always)]
pub(super) fn gauge(recorder: &mut Recorder<'_>, series: &Generations, number: &Number) -> Switch {
    recorder.gauge(series, number.value, number.is_signed)
}

/// Keeps the member of a set.
pub(super) fn member(recorder: &mut Recorder<'_>, series: &Generations, member: &&[u8]) -> Switch {
    recorder.member(series, member)
}

impl Recorder<'_> {
    #[expect(unsafe_code, reason = "chunks hang on payloads")]
    #[inline(always)]
    fn timer(&mut self, series: &Generations, value: f64, weight: f64) -> Switch {
        let Some(payload) = series.load(self.epoch) else {
            if self.chunks.is_empty() {
                return Switch::Refused(Cause::TimerLimit);
            }
            let chunk = self.chunks.start(value, weight);
            series.store(self.epoch, into_payload(chunk));
            return Switch::None;
        };
        // SAFETY:
        // - type: a timer's payload is a chunk, stored by this function alone;
        // - owner: the epoch is the worker's, who is calling;
        // - alone: the last use of the borrow stands before the payload is taken below.
        let newest = unsafe { payload_mut::<Chunk>(payload) };
        match timer::record(newest, value, weight, self.chunks) {
            Recorded::InPlace | Recorded::Sketched(false) => Switch::None,
            Recorded::Sketched(true) => Switch::Done,
            Recorded::Refused => Switch::Refused(Cause::TimerLimit),
            Recorded::Full => {
                // SAFETY:
                // - type and owner: those of the borrow above, which has ended;
                // - once: the payload is replaced by the chunk made of it, below.
                let full = unsafe { take_payload::<Chunk>(payload) };
                let chunk = self.chunks.extend(full, value, weight);
                series.store(self.epoch, into_payload(chunk));
                Switch::None
            }
        }
    }

    #[expect(unsafe_code, reason = "chunks hang on payloads")]
    #[inline(always)]
    fn gauge(&mut self, series: &Generations, value: f64, is_signed: bool) -> Switch {
        let operation = GaugeOperation { time_ns: self.batch_time_ns, value, is_signed };
        let Some(payload) = series.load(self.epoch) else {
            if self.chunks.is_empty() {
                return Switch::Refused(Cause::TimerLimit);
            }
            let chunk = gauge::start(operation, self.chunks);
            series.store(self.epoch, into_payload(chunk));
            return Switch::None;
        };
        // SAFETY:
        // - type: a gauge's payload is a chunk, stored by this function alone;
        // - owner: the epoch is the worker's, who is calling;
        // - alone: the last use of the borrow stands before the payload is taken below.
        let newest = unsafe { payload_mut::<Chunk>(payload) };
        if !gauge::record(newest, operation, self.chunks) {
            // SAFETY:
            // - type and owner: those of the borrow above, which has ended;
            // - once: the payload is replaced by the chunk made of it, below.
            let full = unsafe { take_payload::<Chunk>(payload) };
            let chunk = gauge::extend(full, operation, self.chunks);
            series.store(self.epoch, into_payload(chunk));
        }
        Switch::None
    }

    #[expect(unsafe_code, reason = "member tables hang on payloads")]
    fn member(&mut self, series: &Generations, member: &[u8]) -> Switch {
        let member = self.hasher.member(member);
        let inserted = match series.load(self.epoch) {
            Some(payload) => {
                // SAFETY:
                // - type: a set's payload is its members, stored by this function alone;
                // - owner: the epoch is the worker's, who is calling;
                // - alone: the borrow ends with the statement.
                let members = unsafe { payload_mut::<SetMembers>(payload) };
                members.insert_within(member, self.sets.room())
            }
            None if self.sets.is_empty() => Inserted::Refused,
            None => {
                let mut members = self.sets.take();
                let inserted = members.insert_within(member, self.sets.room());
                series.store(self.epoch, into_payload(members));
                inserted
            }
        };
        match inserted {
            Inserted::Kept => Switch::None,
            Inserted::Switched => Switch::Done,
            Inserted::Refused => Switch::Refused(Cause::SetLimit),
        }
    }
}
