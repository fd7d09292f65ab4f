//! One interval fed to a pipeline and timed: alone, or on several threads at once.
//!
//! Between two passes, outside the time, the shard is flipped, collected and its interval closed, so
//! that chunks and sets go home as they do in the daemon.

use std::sync::Barrier;

use floe_core::row::Rows;
use floe_io::clock::monotonic_ns;
use floe_io::cpu;

use crate::cpu_time::cpu_ns;
use crate::datagrams::Datagrams;
use crate::pipeline::Pipeline;

/// What one interval took to feed; the flush behind it is not in it.
#[derive(Clone, Copy, Debug)]
pub struct Fed {
    /// Monotonic time of its start, ns.
    pub start_ns: u64,
    /// Monotonic time of its end, ns.
    pub end_ns: u64,
    /// CPU time of the feeding thread, ns.
    pub cpu_ns: u64,
}

/// Feeds one interval; its flush comes after the time.
pub fn feed(pipeline: &mut Pipeline, datagrams: &Datagrams) -> Fed {
    let (start_ns, start_cpu_ns) = (monotonic_ns(), cpu_ns());
    pipeline.feed(datagrams);
    let fed = Fed { start_ns, end_ns: monotonic_ns(), cpu_ns: cpu_ns() - start_cpu_ns };
    let parts = pipeline.flush();
    pipeline.reuse(parts);
    fed
}

/// A pipeline that has seen all names.
///
/// # Panics
/// If a line or a name of the workload is missing.
#[must_use]
pub fn warm(names: u32, datagrams: &Datagrams) -> Pipeline {
    let mut pipeline = Pipeline::new();
    pipeline.feed(datagrams);
    pipeline.seal();
    pipeline.collect();
    assert_eq!(pipeline.page().values_recorded, datagrams.line_count(), "a value per line");
    let rows: usize = pipeline.close().iter().map(Rows::row_count).sum();
    assert_eq!(rows, names as usize + 3, "a row per name, and three of the daemon's own");
    pipeline
}

/// One pass of all pipelines at once, each on a thread and a CPU of its own.
///
/// # Panics
/// If a CPU is not one of the inherited mask.
pub fn feed_together(
    pipelines: &mut [Pipeline],
    datagrams: &Datagrams,
    cpus: &[usize],
) -> Vec<Fed> {
    let start = Barrier::new(pipelines.len());
    let start = &start;
    std::thread::scope(|scope| {
        let threads: Vec<_> = pipelines
            .iter_mut()
            .zip(cpus)
            .map(|(pipeline, &cpu)| {
                scope.spawn(move || {
                    cpu::pin(cpu).expect("the CPU is one of the inherited mask");
                    start.wait();
                    feed(pipeline, datagrams)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no feed panics")).collect()
    })
}

/// From the first start to the last end, ns.
#[must_use]
pub fn wall_ns(fed: &[Fed]) -> u64 {
    let first_ns = fed.iter().map(|each| each.start_ns).min().unwrap_or(0);
    fed.iter().map(|each| each.end_ns).max().unwrap_or(0) - first_ns
}

/// CPU time of the thread that used most, ns.
#[must_use]
pub fn longest_cpu_ns(fed: &[Fed]) -> u64 {
    fed.iter().map(|each| each.cpu_ns).max().unwrap_or(0)
}
