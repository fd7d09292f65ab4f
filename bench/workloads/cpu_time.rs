//! CPU time of the calling thread.
//!
//! What a line costs is stated in CPU time: on a machine that others use too, wall time tells how
//! busy they were. Reading it is a system call of some 200 ns, so that it is read around passes of
//! a hundred microseconds and more, never around a line.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CPU time the calling thread has used.
#[must_use]
pub fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).expect("CPU time starts at zero");
    let ns = u64::try_from(now.tv_nsec).expect("the kernel keeps tv_nsec within 0..1e9");
    seconds * 1_000_000_000 + ns
}

/// CPU time of `count` calls of `pass`: what criterion's `iter_custom` is given.
pub fn passes<R>(count: u64, mut pass: impl FnMut() -> R) -> Duration {
    let start_ns = cpu_ns();
    for _ in 0..count {
        black_box(pass());
    }
    Duration::from_nanos(cpu_ns() - start_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time() {
        let mut calls = 0_u64;
        let spent = passes(3, || {
            calls += 1;
            (0..100_000_u64).fold(calls, |sum, number| black_box(sum ^ number))
        });
        assert_eq!(calls, 3);
        assert!(Duration::ZERO < spent);
    }
}
