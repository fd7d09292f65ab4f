//! Series: what one (kind, key) gathers during an interval.
//!
//! The worker records into chunks it owns; at the flip they change hands, and the coordinator reads
//! them. A counter is a plain sum and lives in its slot.

/// Chunks and their way between worker and coordinator.
pub mod pool;
/// Timers: raw values, then a sketch beyond the exact budget.
pub mod timer;
/// Gauges: operations in the order of their batches.
pub mod gauge;
/// How many different hashes there were, about.
pub mod estimate;
/// Sets: distinct members, then an estimate beyond the exact budget.
pub mod set;
