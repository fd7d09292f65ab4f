//! A worker under load while its coordinator flushes: how long one batch takes at the longest.
//!
//! The worker has a thread and a CPU of its own and feeds itself, a datagram per batch, without a
//! pause. A batch is measured in CPU time: page faults, cache misses, interrupts and whatever else
//! the flush makes the worker do are in it, and what other programs take of the CPU is not. By the
//! clock it has all of that, and what the worker waits for asleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_utils::sync::{Parker, Unparker};
use floe_core::interval::{BookEntries, Interval};
use floe_core::name::KeyHasher;
use floe_core::row::Rows;
use floe_core::shard::ShardReader;
use floe_io::clock::monotonic_ns;
use floe_io::cpu;
use floe_io::ingest::DatagramSink;
use floe_io::ingest::intake::Intake;

use crate::cpu_time::cpu_ns;
use crate::datagrams::Datagrams;
use crate::flushing::Disk;
use crate::pipeline::{settings, worker};

/// Longest time between two looks at what the worker says.
const LOOK: Duration = Duration::from_millis(10);

/// What the worker says, and is told.
#[derive(Debug, Default)]
struct Said {
    /// Times it has fed itself all datagrams.
    passes: AtomicU64,
    /// CPU time of its longest batch since this was last set to 0.
    longest_cpu_ns: AtomicU64,
    /// Time by the clock of its longest batch since then, which may be another one.
    longest_wall_ns: AtomicU64,
    is_stopped: AtomicBool,
}

/// The longest batch of a flush, ns.
#[derive(Clone, Copy, Debug)]
pub struct Longest {
    /// CPU time of the worker's thread.
    pub cpu_ns: u64,
    /// Time by the clock.
    pub wall_ns: u64,
}

/// A worker that runs, and its coordinator, which is the caller.
#[derive(Debug)]
pub struct Felt {
    said: Arc<Said>,
    thread: Option<JoinHandle<()>>,
    parker: Parker,
    readers: [ShardReader; 1],
    interval: Interval,
    disk: Disk,
    timestamp_s: u64,
    names: usize,
}

impl Felt {
    /// A worker that feeds itself `datagrams` of `names` on the last CPU; the caller is where the kernel
    /// puts it, which is another one.
    ///
    /// `None` on a machine without a CPU for each of them.
    ///
    /// # Panics
    /// If the CPUs cannot be had.
    #[must_use]
    pub fn new(datagrams: Datagrams, names: u32) -> Option<Self> {
        let cpus = cpu::inherited().ok().filter(|cpus| 1 < cpus.len())?;
        let &last = cpus.last()?;
        let hasher = KeyHasher::default();
        let parker = Parker::new();
        let (intake, reader) = worker(0, &hasher, parker.unparker().clone());
        let readers = [reader];
        let interval = Interval::new(settings(), &hasher, &readers);
        let said = Arc::new(Said::default());
        let (saying, coordinator) = (Arc::clone(&said), parker.unparker().clone());
        let thread = std::thread::spawn(move || {
            cpu::pin(last).expect("the CPU is one of the inherited mask");
            work(intake, &datagrams, &saying, &coordinator);
        });
        let (thread, disk, names) = (Some(thread), Disk::new(), names as usize);
        let mut felt =
            Self { said, thread, parker, readers, interval, disk, timestamp_s: 0, names };
        // Names are new in the first, and buffers find their sizes.
        for _ in 0..2 {
            felt.flush();
        }
        Some(felt)
    }

    /// One flush, written, of everything that the worker has; its longest batch meanwhile.
    ///
    /// # Panics
    /// If a name is missing.
    pub fn flush(&mut self) -> Longest {
        let seen = self.said.passes.load(Ordering::Relaxed);
        // The pass that goes on now may have begun before the flush before.
        while self.said.passes.load(Ordering::Relaxed) < seen + 2 {
            self.parker.park_timeout(LOOK);
        }
        self.said.longest_cpu_ns.store(0, Ordering::Relaxed);
        self.said.longest_wall_ns.store(0, Ordering::Relaxed);
        self.readers[0].request();
        while !self.readers[0].is_acknowledged() {
            self.parker.park_timeout(LOOK);
        }
        self.interval.collect(&mut self.readers);
        self.timestamp_s += 10;
        let parts = self.interval.close(self.timestamp_s, &BookEntries::default());
        self.disk.commit(&parts);
        let rows: usize = parts.iter().map(Rows::row_count).sum();
        assert!(self.names < rows, "a row per name, beside the daemon's own");
        self.interval.reuse(parts);
        self.disk.retain();
        Longest {
            cpu_ns: self.said.longest_cpu_ns.load(Ordering::Relaxed),
            wall_ns: self.said.longest_wall_ns.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Felt {
    fn drop(&mut self) {
        self.said.is_stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the worker does not panic");
        }
    }
}

fn work(mut intake: Intake, datagrams: &Datagrams, said: &Said, coordinator: &Unparker) {
    while !said.is_stopped.load(Ordering::Relaxed) {
        for (buffer, len) in datagrams.iter() {
            let (start_ns, start_cpu_ns) = (monotonic_ns(), cpu_ns());
            intake.begin_batch(start_cpu_ns);
            intake.datagram(buffer, len);
            intake.end_batch();
            said.longest_cpu_ns.fetch_max(cpu_ns() - start_cpu_ns, Ordering::Relaxed);
            said.longest_wall_ns.fetch_max(monotonic_ns() - start_ns, Ordering::Relaxed);
        }
        said.passes.fetch_add(1, Ordering::Relaxed);
        coordinator.unpark();
    }
}
