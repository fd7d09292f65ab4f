//! One interval flushed and timed: collected, closed, and written.

use std::hint::black_box;

use floe_core::row::Rows;
use floe_io::clock::monotonic_ns;
use floe_storage::{BackendLimits, Spool, SpoolOptions};

use crate::cpu_time::cpu_ns;
use crate::datagrams::Datagrams;
use crate::pipeline::Pipeline;

/// How far a flush goes within the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extends {
    /// The sealed generation lies in the open interval.
    Collected,
    /// Rows are there.
    Closed,
    /// And written to a spool.
    Written,
}

/// Where the intervals of a benchmark are written.
#[derive(Debug)]
pub struct Disk {
    _directory: tempfile::TempDir,
    spool: Spool,
}

impl Disk {
    /// A fresh spool with one backend.
    ///
    /// # Panics
    /// If the temporary directory is not writable.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let backends = vec![BackendLimits {
            name: "graphite".to_owned(),
            backlog_age_ms: u64::MAX,
            backlog_bytes: 1,
        }];
        let options = SpoolOptions {
            path: directory.path().to_owned(),
            backends,
            archive_age_ms: u64::MAX,
            archive_bytes: 0,
            reserve_bytes: Some(0),
            run_id: 1,
        };
        let (spool, _) = Spool::open(options).expect("a fresh spool opens");
        Self { _directory: directory, spool }
    }
}

impl Disk {
    /// Commits an interval.
    ///
    /// # Panics
    /// If the disk refuses it.
    pub fn commit(&mut self, parts: &[Rows]) {
        let committed = self.spool.commit(parts).expect("the temporary directory has room");
        assert_eq!(committed.files, parts.len() as u64, "a file per part");
    }

    /// Removes all but the newest interval.
    pub fn retain(&mut self) {
        self.spool.retain(0);
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

/// One interval: fed outside the time, flushed within; returns the time, ns.
///
/// Wall time where it is written, for the disk's time is not CPU time; else CPU time.
///
/// # Panics
/// If a line of the workload is missing, or the disk is full.
pub fn interval(
    pipeline: &mut Pipeline,
    datagrams: &Datagrams,
    extends: Extends,
    disk: &mut Disk,
) -> u64 {
    pipeline.feed(datagrams);
    pipeline.seal();
    // The disk's time is not CPU time.
    let now_ns = if extends == Extends::Written { monotonic_ns } else { cpu_ns };
    let start_ns = now_ns();
    pipeline.collect();
    if extends == Extends::Collected {
        let spent_ns = now_ns() - start_ns;
        let lines = datagrams.line_count() * pipeline.worker_count() as u64;
        assert_eq!(pipeline.page().values_recorded, lines, "a value per line");
        let parts = pipeline.close();
        pipeline.reuse(parts);
        return spent_ns;
    }
    let parts = pipeline.close();
    if extends == Extends::Written {
        disk.commit(&parts);
    }
    let spent_ns = now_ns() - start_ns;
    pipeline.reuse(black_box(parts));
    if extends == Extends::Written {
        disk.retain();
    }
    spent_ns
}
