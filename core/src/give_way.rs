//! Places in long work where the thread lets a worker on its CPU go first.
//!
//! A kernel without preemption leaves a thread on the CPU until its next tick, 4 ms later, whoever is
//! woken meanwhile. What flushes and delivers a million series therefore passes one of these places
//! every fraction of a millisecond. What happens there is the process's choice and is made by whoever
//! knows where its threads run (`floe_io::placement`): without a choice, nothing.

use std::sync::OnceLock;

static WAY: OnceLock<fn()> = OnceLock::new();

/// Series that are visited between two places.
pub(crate) const SERIES_BETWEEN: usize = 1_024;

/// Bytes that are copied, written or summed between two places.
pub const BYTES_BETWEEN: usize = 256 << 10;

/// Called by threads beside the workers, every fraction of a millisecond of work.
pub fn give_way() {
    if let Some(way) = WAY.get() {
        way();
    }
}

/// Chooses what [`give_way`] does in this process; the first choice holds.
pub fn choose(way: fn()) {
    // A second daemon in one process, as tests have them, chooses the same.
    WAY.set(way).ok();
}
