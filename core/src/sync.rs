//! The one door through which atomics and cells come in.
//!
//! Everything in `core` that is shared between threads imports from here, so that the loom tests
//! (`core/tests/loom_flip.rs`) can compile the very same source against loom's types.

pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

pub use std::cell::UnsafeCell;
