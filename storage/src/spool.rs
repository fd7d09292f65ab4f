//! The ingest half: commits the rows of an interval, and keeps the spool within its caps.
//!
//! Driven by the coordinator. `Spool::commit` returns when every part of the interval lies on
//! the disk under a name in every backend's queue and in the archive; after an error nothing of it
//! is left but what an exporter has taken meanwhile, which the error says, and the same call may be
//! made again for the rest: it writes new files with the same timestamps.
//!
//! One holder per spool (`ingest.lock`). Reads no clock: the caller gives run id and time.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::SpoolError;
use crate::layout::{self, FileId, Layout};
use crate::lock::Lock;
use crate::recovery::{self, Abandoned, Commit, RecoveryReport};
use crate::retention::{Caps, Expired, Index, Retired};
use crate::segment::{RUN_ID_MAX, SegmentName};
use crate::writer::Writer;

mod commit;

use self::commit::Leftovers;
pub use self::commit::{Committed, Kept, Refused};

/// What a spool is and may use.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Its directory; made if missing.
    pub path: PathBuf,
    /// The configured backends.
    pub backends: Vec<BackendLimits>,
    /// Oldest segment of the archive, ms.
    pub archive_age_ms: u64,
    /// Most bytes in the archive; 0 keeps only the newest segment.
    pub archive_bytes: u64,
    /// Bytes of the file system to be left free; `None` = 5 % of it, at most 256 MiB.
    pub reserve_bytes: Option<u64>,
    /// Start of this run, ms since the epoch.
    pub run_id: u64,
}

/// What one backend's queue may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendLimits {
    /// Name of the backend and of its directory: `[a-z0-9_-]+`.
    pub name: String,
    /// Oldest segment kept for it, ms.
    pub backlog_age_ms: u64,
    /// Most bytes kept for it.
    pub backlog_bytes: u64,
}

/// The ingest half of a spool.
#[derive(Debug)]
pub struct Spool {
    layout: Layout,
    backends: Vec<BackendLimits>,
    archive_caps: Caps,
    archive: Index,
    reserve_bytes: Option<u64>,
    /// One per backend, same order.
    queues: Vec<Index>,
    run_id: u64,
    next_sequence: u64,
    newest_timestamp_s: Option<u64>,
    last_timestamp_s: Option<u64>,
    writer: Writer,
    leftovers: Leftovers,
    lock: Lock,
}

/// What the spool occupies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files, each counted once however many links it has.
    pub files: u64,
    /// Their lengths.
    pub bytes: u64,
}

/// What lies in one backend's queue, and what left it, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Rows not yet acknowledged, by the names in the directory.
    pub rows_pending: u64,
    /// Rows whose link went without this half's doing since the queue was opened: acknowledged or
    /// put away by an exporter.
    pub rows_left: u64,
    /// Rows of commits that failed behind the link, which did not come back: they left or lie there,
    /// and were never counted as committed.
    pub rows_unannounced: u64,
}

impl Spool {
    /// Opens the spool: locks it, makes its directories (mode 0700), recovers.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] while another ingest half runs, [`SpoolError::Io`] where directories
    /// cannot be made or listed. Damaged files are no errors: see the report.
    pub fn open(options: SpoolOptions) -> Result<(Self, RecoveryReport), SpoolError> {
        layout::create_directory(&options.path)?;
        let lock = Lock::acquire(&Layout::new(&options.path).ingest_lock())?;
        Self::open_locked(options, lock)
    }

    /// Opens the spool of a process that commits nothing meanwhile and has lent us its lock
    /// ([`Spool::share_lock`]).
    ///
    /// # Errors
    /// As [`Spool::open`]; [`SpoolError::Locked`] if `lock` is not that of this spool.
    pub fn open_shared(
        options: SpoolOptions,
        lock: OwnedFd,
    ) -> Result<(Self, RecoveryReport), SpoolError> {
        let lock = Lock::shared(&Layout::new(&options.path).ingest_lock(), lock)?;
        Self::open_locked(options, lock)
    }

    fn open_locked(
        options: SpoolOptions,
        lock: Lock,
    ) -> Result<(Self, RecoveryReport), SpoolError> {
        let SpoolOptions { path, backends, archive_age_ms, archive_bytes, reserve_bytes, run_id } =
            options;
        let layout = Layout::new(&path);
        let names: Vec<String> = backends.iter().map(|backend| backend.name.clone()).collect();
        create_directories(&layout, &names)?;
        let recovered = recovery::recover(&layout, &names)?;
        let first = first_commit(run_id, recovered.newest_commit);
        let spool = Self {
            layout,
            backends,
            archive_caps: Caps { age_ms: archive_age_ms, bytes: archive_bytes },
            archive: recovered.archive,
            reserve_bytes,
            queues: recovered.queues,
            run_id: first.run_id,
            next_sequence: first.sequence,
            newest_timestamp_s: recovered.newest_timestamp_s,
            last_timestamp_s: recovered.last_timestamp_s,
            writer: Writer::new(),
            leftovers: Leftovers::default(),
            lock,
        };
        Ok((spool, recovered.report))
    }

    /// Goes on with other backends and caps; path and run id stay.
    ///
    /// A new backend's queue is made, or taken up as it lies, before it gets its first link. One that
    /// is left out gets no further links, and what lies in its queue stays there: its segments are
    /// in the result, as those of [`RecoveryReport::abandoned`](crate::RecoveryReport) at a start.
    ///
    /// # Errors
    /// [`SpoolError::Io`] where a queue cannot be made or listed; nothing has changed then.
    pub fn apply(&mut self, options: SpoolOptions) -> Result<Vec<Abandoned>, SpoolError> {
        let names: Vec<String> =
            options.backends.iter().map(|backend| backend.name.clone()).collect();
        create_directories(&self.layout, &names)?;
        let mut added = Vec::new();
        for name in names.iter().filter(|name| self.place_of(name).is_none()) {
            added.push((name.clone(), recovery::index_of(&self.layout.backend(name))?));
        }
        let before = std::mem::replace(&mut self.backends, options.backends);
        let queues = std::mem::take(&mut self.queues);
        let mut known: Vec<(String, Index)> =
            before.into_iter().map(|limits| limits.name).zip(queues).chain(added).collect();
        for name in names {
            // Each name is known from before, or was added above.
            if let Some(at) = known.iter().position(|(other, _)| *other == name) {
                self.queues.push(known.swap_remove(at).1);
            }
        }
        self.archive_caps = Caps { age_ms: options.archive_age_ms, bytes: options.archive_bytes };
        self.reserve_bytes = options.reserve_bytes;
        let left = known.into_iter().filter_map(|(backend, mut index)| {
            index.refresh().ok()?;
            let segments = index.len() as u64;
            (segments != 0).then_some(Abandoned { backend, segments })
        });
        Ok(left.collect())
    }

    /// The lock of this spool, for a process of ours that goes on with it.
    ///
    /// # Errors
    /// The kernel's, when the process is out of file descriptors.
    pub fn share_lock(&self) -> std::io::Result<OwnedFd> {
        self.lock.duplicate()
    }

    /// Says in the lock file that it is us again who hold it.
    pub fn tell_holder(&self) {
        self.lock.tell_holder();
    }

    /// Whose queues get a link to each segment.
    #[must_use]
    pub fn backends(&self) -> &[BackendLimits] {
        &self.backends
    }

    /// Whether something of a commit that failed is still in `tmp/` or in a queue: a start would
    /// publish it, whatever has become of the interval meanwhile.
    #[must_use]
    pub fn has_leftovers(&self) -> bool {
        !self.leftovers.is_empty()
    }

    /// Looks into the queue of `backend`; `None` where it is not one of ours, or cannot be listed.
    ///
    /// # Cost
    /// One listing of the directory.
    pub fn queue_state(&mut self, backend: &str) -> Option<QueueState> {
        let place = self.place_of(backend)?;
        let queue = self.queues.get_mut(place)?;
        queue.refresh().ok()?;
        Some(QueueState {
            rows_pending: queue.rows(),
            rows_left: queue.rows_left(),
            rows_unannounced: queue.rows_unannounced(),
        })
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.backends.iter().position(|limits| limits.name == name)
    }

    /// Highest timestamp that any segment of the spool bears or bore in this run, seconds since
    /// the epoch. Whoever uses it again destroys a point: whisper has one slot for both.
    #[must_use]
    pub fn newest_timestamp_s(&self) -> Option<u64> {
        self.newest_timestamp_s
    }

    /// Timestamp of the newest commit, seconds since the epoch: the highest of all, unless the clock
    /// was set back and followed. Whoever goes on with the spool goes on behind this one.
    #[must_use]
    pub fn last_timestamp_s(&self) -> Option<u64> {
        self.last_timestamp_s
    }

    /// Run id that names of this run bear.
    #[must_use]
    pub fn run_id(&self) -> u64 {
        self.run_id
    }

    /// Sequence that the names of the next try at a commit will bear.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The spool's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.layout.root
    }

    /// Applies the caps on archive and queues.
    ///
    /// `now_s`: seconds since the epoch. Rows removed from a queue are lost for that backend and
    /// reported as such.
    pub fn retain(&mut self, now_s: u64) -> Retired {
        let mut retired = Retired::default();
        for (limits, queue) in self.backends.iter().zip(&mut self.queues) {
            let caps = Caps { age_ms: limits.backlog_age_ms, bytes: limits.backlog_bytes };
            let mut expired = Expired::default();
            if let Err(error) = queue.cap_queue(caps, now_s, &mut expired) {
                retired.fail(error);
            }
            if expired.segments != 0 {
                *retired.backend(&limits.name) = expired;
            }
        }
        let result = self.archive.cap_archive(self.archive_caps, now_s, &mut retired.archive);
        if let Err(error) = result {
            retired.fail(error);
        }
        retired
    }

    /// Whether [`Spool::relieve`] can free `bytes`: what would not be enough should stay.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if a queue cannot be listed.
    pub fn can_relieve(&mut self, bytes: u64) -> Result<bool, SpoolError> {
        self.queues.iter_mut().try_for_each(Index::refresh)?;
        let kept = [self.archive.newest().map(|newest| newest.name), self.archive.last_committed()];
        let all = self.queues.iter().chain([&self.archive]).flat_map(Index::lengths);
        let lengths: BTreeMap<SegmentName, u64> =
            all.filter(|(name, _)| !kept.contains(&Some(*name))).collect();
        Ok(bytes <= lengths.values().sum())
    }

    /// Frees `bytes` where the disk is full: first what only the archive holds, then the oldest
    /// segments with all their links, which is a loss for the backends named in the result.
    ///
    /// The newest segment of the archive stays, and the last.
    pub fn relieve(&mut self, bytes: u64) -> Retired {
        let mut retired = Retired::default();
        let mut freed = match self.archive.relieve_archive(bytes, &mut retired.archive) {
            Ok(freed) => freed,
            Err(error) => {
                retired.fail(error);
                return retired;
            }
        };
        for queue in &mut self.queues {
            if let Err(error) = queue.refresh() {
                retired.fail(error);
            }
        }
        while freed < bytes {
            let oldest = self.queues.iter().filter_map(Index::oldest).min_by_key(|e| e.name);
            let Some(oldest) = oldest.copied() else { break };
            match self.remove_everywhere(oldest.name, &mut retired) {
                Ok(true) => freed += oldest.bytes,
                Ok(false) => {}
                Err(error) => {
                    retired.fail(error);
                    break;
                }
            }
        }
        retired
    }

    /// What the spool occupies now, each file counted once. Walks all directories.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if one of them cannot be listed.
    pub fn usage(&self) -> Result<Usage, SpoolError> {
        let backends = self.layout.backends();
        let mut directories =
            vec![self.layout.tmp(), self.layout.archive(), self.layout.quarantine()];
        for entry in fs::read_dir(&backends).map_err(SpoolError::io("list", &backends))? {
            directories.push(entry.map_err(SpoolError::io("list", &backends))?.path());
        }
        let mut usage = Usage::default();
        let mut seen = HashSet::new();
        for directory in directories.iter().filter(|directory| directory.is_dir()) {
            for entry in fs::read_dir(directory).map_err(SpoolError::io("list", directory))? {
                // Files come and go meanwhile: one that is gone occupies nothing.
                let Ok(metadata) = entry.and_then(|entry| entry.metadata()) else { continue };
                if metadata.is_file() && seen.insert(FileId::of(&metadata)) {
                    usage.files += 1;
                    usage.bytes += metadata.len();
                }
            }
        }
        Ok(usage)
    }

    /// Makes the directories again that somebody removed under a running daemon, so that only what
    /// lay in them is lost. A lock whose file went, with them or alone, holds nothing: it is taken anew,
    /// unless somebody else has it by now.
    fn restore(&mut self) -> Result<(), SpoolError> {
        layout::create_directory(&self.layout.root)?;
        let lock_path = self.layout.ingest_lock();
        if !self.lock.is_at(&lock_path) {
            self.lock = Lock::acquire(&lock_path)?;
        }
        let names: Vec<String> = self.backends.iter().map(|limits| limits.name.clone()).collect();
        create_directories(&self.layout, &names)?;
        for index in self.queues.iter_mut().chain([&mut self.archive]) {
            index.refresh()?;
        }
        tracing::warn!(spool = %self.layout.root.display(), "removed directories or lock made again");
        Ok(())
    }

    /// Removes all links of a segment; whether its space is free now.
    fn remove_everywhere(
        &mut self,
        name: SegmentName,
        retired: &mut Retired,
    ) -> Result<bool, SpoolError> {
        for (limits, queue) in self.backends.iter().zip(&mut self.queues) {
            let mut expired = Expired::default();
            queue.expire(name, &mut expired)?;
            if expired.segments != 0 {
                retired.backend(&limits.name).merge(expired);
            }
        }
        let is_newest = self.archive.newest().is_some_and(|newest| newest.name == name);
        if is_newest || self.archive.last_committed() == Some(name) {
            return Ok(false);
        }
        self.archive.expire(name, &mut retired.archive)?;
        Ok(true)
    }
}

/// Run id and sequence of a new run: behind every commit in the spool, even if the clock was set
/// back meanwhile, so that no name is ever used twice.
fn first_commit(run_id: u64, newest: Option<Commit>) -> Commit {
    let run_id = run_id.min(RUN_ID_MAX);
    match newest {
        Some(newest) if newest.run_id == RUN_ID_MAX => {
            Commit { run_id: RUN_ID_MAX, sequence: newest.sequence + 1 }
        }
        Some(newest) => Commit { run_id: run_id.max(newest.run_id + 1), sequence: 0 },
        None => Commit { run_id, sequence: 0 },
    }
}

/// Makes what is missing, and makes it last.
fn create_directories(layout: &Layout, backends: &[String]) -> Result<(), SpoolError> {
    for directory in [layout.tmp(), layout.archive(), layout.quarantine(), layout.backends()] {
        layout::create_directory(&directory)?;
    }
    for backend in backends {
        layout::create_directory(&layout.backend(backend))?;
    }
    layout::sync_directory(&layout.backends())?;
    layout::sync_directory(&layout.root)?;
    // The spool's own name. Its parent may be closed to us; then it existed before.
    let parent = layout.root.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Err(error) = layout::sync_directory(parent.unwrap_or(Path::new("."))) {
        tracing::debug!(%error, "parent of the spool not synced");
    }
    Ok(())
}
