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

/// Records values under the worker's epoch.
pub(super) struct Recorder<'a> {
    pub(super) epoch: u32,
    pub(super) chunks: &'a mut ChunkPool,
    pub(super) sets: &'a mut SetPool,
    pub(super) hasher: &'a KeyHasher,
    pub(super) batch_time_ns: u64,
}

impl Recorder<'_> {
    #[inline]
    pub(super) fn counter(&self, series: &Generations, amount: f64) -> Switch {
        let before = series.load(self.epoch).map_or(0.0, f64::from_bits);
        series.store(self.epoch, (before + amount).to_bits());
        Switch::None
    }

    #[expect(unsafe_code, reason = "chunks hang on payloads")]
    #[inline]
    pub(super) fn timer(&mut self, series: &Generations, value: f64, weight: f64) -> Switch {
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
    #[inline]
    pub(super) fn gauge(&mut self, series: &Generations, value: f64, is_signed: bool) -> Switch {
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
    pub(super) fn member(&mut self, series: &Generations, member: &[u8]) -> Switch {
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
