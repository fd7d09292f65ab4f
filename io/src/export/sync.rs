//! The door through which `departures` gets its atomics, so that a loom test can replace them.

pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
pub(super) use std::thread::yield_now;
