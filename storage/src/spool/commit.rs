//! One commit: room, files, links, directories; and what is taken back when one of them fails.

use std::borrow::Borrow;
use std::path::PathBuf;

use floe_core::row::Rows;

use super::Spool;
use crate::crash_point::CrashPoint;
use crate::disk;
use crate::error::{EncodeError, SpoolError};
use crate::layout;
use crate::retention::{Entry, Index, Retired};
use crate::segment::{NameParts, SegmentName};
use crate::writer;

/// Further tries of one commit on a full disk; each frees more of the archive.
const FULL_RETRIES_MAX: u32 = 4;

/// Freed beyond what a commit needs: names, blocks, rounding, bytes.
const RELIEF_SLACK_BYTES: u64 = 64 << 10;

/// The reserve by default: this part of the file system, and at most that many bytes.
const RESERVE_DIVISOR: u64 = 20;
const RESERVE_BYTES_MAX: u64 = 256 << 20;

/// A commit that is on the disk.
#[derive(Debug, Default)]
pub struct Committed {
    /// Length of all files.
    pub bytes: u64,
    /// Files, one per part; each backend's queue got as many links.
    pub files: u64,
    /// Rows in them, books not counted.
    pub rows: u64,
    /// Names of the files, in the order of the parts.
    pub names: Vec<SegmentName>,
    /// What had to leave the archive because the disk was full.
    pub relieved: Retired,
    /// Links of an earlier try within this commit that did not come back: these backends have the
    /// part from there, and got no further link.
    pub kept: Vec<Kept>,
}

/// A link of a failed try that could not be taken back, for its exporter was quicker, or the disk
/// refuses to remove it: the backend has the part, or gets it from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Part of the interval, from 0.
    pub part: usize,
    /// Whose queue.
    pub backend: String,
    /// Rows of the part.
    pub rows: u64,
}

/// A commit that failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// Why.
    pub error: SpoolError,
    /// What did not come back. Whoever makes the commit again, or sends the interval otherwise, leaves
    /// these out, or they are sent twice.
    pub kept: Vec<Kept>,
    /// What left the archive in vain.
    pub relieved: Box<Retired>,
}

/// What a commit that is under way has made.
#[derive(Debug, Default)]
struct Traces {
    entries: Vec<Entry>,
    /// Links made: part and directory, the archive behind the queues.
    links: Vec<(usize, usize)>,
    /// Whether every queue is to get every part.
    is_for_all: bool,
}

/// What commits that failed have left behind and could not remove, or not for good. A start would
/// publish it beside what has become of the interval since, so nothing is committed before it is gone.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    paths: Vec<PathBuf>,
    /// Something was removed, and a power cut may bring it back.
    is_unsynced: bool,
}

impl Spool {
    /// Puts all parts of one interval on the disk and into every queue.
    ///
    /// On a full disk, segments that only the archive holds give way, oldest first. A file whose sync
    /// fails is written once more, anew.
    ///
    /// # Errors
    /// [`SpoolError::Io`] (see [`SpoolError::is_retryable`]), [`SpoolError::Reserve`] and
    /// [`SpoolError::Encode`]; nothing of the interval is left then, unless an exporter was quicker
    /// ([`Spool::commit_to`] says so).
    /// # Panics
    /// If the parts are not numbered from 0 or do not bear one timestamp.
    /// # Cost
    /// One statvfs, one fdatasync per part, one fsync per directory.
    pub fn commit(&mut self, parts: &[Rows]) -> Result<Committed, SpoolError> {
        self.commit_to(parts, |_, _| true).map_err(|refused| refused.error)
    }

    /// As [`Spool::commit`], into the queues that want it: `is_wanted(part, backend)`. The archive
    /// has every part.
    ///
    /// # Errors
    /// As [`Spool::commit`], with the links that did not come back.
    pub fn commit_to<R: Borrow<Rows>>(
        &mut self,
        parts: &[R],
        is_wanted: impl Fn(usize, &str) -> bool,
    ) -> Result<Committed, Refused> {
        let parts: Vec<&Rows> = parts.iter().map(Borrow::borrow).collect();
        for (index, part) in parts.iter().enumerate() {
            assert_eq!(part.part_index as usize, index, "parts are numbered in order");
            assert_eq!(part.timestamp_s, parts[0].timestamp_s, "an interval has one timestamp");
        }
        let mut wanted: Vec<Vec<bool>> = (0..parts.len())
            .map(|part| self.backends.iter().map(|limits| is_wanted(part, &limits.name)).collect())
            .collect();
        let mut kept = Vec::new();
        let mut relieved = Retired::default();
        let (mut retry_count, mut is_rewritten) = (0, false);
        loop {
            let mut traces = Traces::default();
            if let Err(error) = self.settle_leftovers() {
                return Err(Refused { error, kept, relieved: relieved.into() });
            }
            let result = self.ensure_room(&parts, &mut relieved);
            let result = result.and_then(|()| self.publish(&parts, &wanted, &mut traces));
            let Err(error) = result else {
                let committed = self.committed(&traces.entries, &wanted, relieved);
                return Ok(Committed { kept, ..committed });
            };
            for (part, place) in self.roll_back(&traces) {
                wanted[part][place] = false;
                let (backend, rows) =
                    (self.backends[place].name.clone(), traces.entries[part].rows);
                kept.push(Kept { part, backend, rows });
            }
            if error.is_sync_failure() && !std::mem::replace(&mut is_rewritten, true) {
                // What a second sync of the same file says is worth nothing: a new file.
                continue;
            }
            // For a reserve the archive has been asked already, as a whole.
            let has_been_asked = error.missing_bytes().is_some();
            if !error.is_full() || has_been_asked || retry_count == FULL_RETRIES_MAX {
                return Err(Refused { error, kept, relieved: relieved.into() });
            }
            retry_count += 1;
            let freed = self.archive.relieve_archive(bytes_of(&parts), &mut relieved.archive);
            if !freed.is_ok_and(|bytes| 0 < bytes) {
                return Err(Refused { error, kept, relieved: relieved.into() });
            }
        }
    }

    /// Removes the link of `backend` to `name`, which it has had otherwise; `false` if it was gone:
    /// then it counts as one that left the queue.
    ///
    /// # Errors
    /// [`SpoolError::Io`]; the link stays, and will be sent again.
    pub fn withdraw(&mut self, backend: &str, name: SegmentName) -> Result<bool, SpoolError> {
        let place = self.place_of(backend);
        let Some(queue) = place.and_then(|place| self.queues.get_mut(place)) else {
            return Ok(true);
        };
        queue.withdraw(name)
    }

    /// Lets go of what only the archive holds until the commit fits beside the reserve; of nothing where
    /// that would not be enough, for somebody else has filled the disk.
    fn ensure_room(&mut self, parts: &[&Rows], relieved: &mut Retired) -> Result<(), SpoolError> {
        let needed = bytes_of(parts);
        // A file system that does not tell is asked by writing.
        let Ok(before) = disk::space(&self.layout.root) else { return Ok(()) };
        let reserve = self.reserve_bytes;
        let reserve = reserve.unwrap_or((before.total / RESERVE_DIVISOR).min(RESERVE_BYTES_MAX));
        let missing = reserve.saturating_add(needed).saturating_sub(before.available);
        if reserve == 0 || missing == 0 {
            return Ok(());
        }
        if self.archive.can_relieve_archive(missing) {
            self.archive.relieve_archive(missing, &mut relieved.archive)?;
        }
        let space = disk::space(&self.layout.root).unwrap_or(before);
        if reserve.saturating_add(needed) <= space.available {
            return Ok(());
        }
        let path = self.layout.root.clone();
        Err(SpoolError::Reserve { path, available: space.available, needed, reserve })
    }

    /// Writes all parts, then links all parts: a reader that sees one soon sees all. `traces` says
    /// what may exist, also after an error.
    fn publish(
        &mut self,
        parts: &[&Rows],
        wanted: &[Vec<bool>],
        traces: &mut Traces,
    ) -> Result<(), SpoolError> {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let part_count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let tmp = self.layout.tmp();
        // Whoever has the lock by now, has the spool: made again, it may look like ours.
        if !tmp.is_dir() || !self.lock.is_at(&self.layout.ingest_lock()) {
            self.restore()?;
        }
        traces.is_for_all = wanted.iter().flatten().all(|is_wanted| *is_wanted);
        for part in parts {
            let encode_error = |source| SpoolError::Encode { part_index: part.part_index, source };
            let name = self.name(part, sequence).map_err(encode_error)?;
            let bytes = self.writer.encode(part, part_count).map_err(encode_error)?;
            let entry = Entry { name, bytes: bytes.len() as u64, rows: part.row_count() as u64 };
            traces.entries.push(entry);
            writer::write_file(&self.layout.unfinished(name, traces.is_for_all), bytes)?;
        }
        for (part, (entry, wanted)) in traces.entries.iter().zip(wanted).enumerate() {
            let source = self.layout.unfinished(entry.name, traces.is_for_all);
            for (place, directory) in self.directories() {
                if wanted.get(place) == Some(&false) {
                    continue;
                }
                writer::link_into(&source, &directory.directory, entry.name)?;
                traces.links.push((part, place));
                CrashPoint::LinkedFirst.reach();
            }
        }
        CrashPoint::LinkedAll.reach();
        for entry in &traces.entries {
            let source = self.layout.unfinished(entry.name, traces.is_for_all);
            layout::unlink(&source).map_err(SpoolError::io("unlink", &source))?;
        }
        CrashPoint::TmpUnlinked.reach();
        for (_, directory) in self.directories() {
            layout::sync_directory(&directory.directory)?;
        }
        layout::sync_directory(&tmp)?;
        CrashPoint::DirsSynced.reach();
        Ok(())
    }

    /// Queues, then the archive, each with its place.
    fn directories(&self) -> impl Iterator<Item = (usize, &Index)> {
        self.queues.iter().chain([&self.archive]).enumerate()
    }

    fn name(&self, part: &Rows, sequence: u64) -> Result<SegmentName, EncodeError> {
        let parts = NameParts {
            timestamp_s: part.timestamp_s,
            run_id: self.run_id,
            sequence,
            part: part.part_index,
        };
        SegmentName::new(parts)
            .ok_or(EncodeError::OutOfRange { field: "timestamp", value: part.timestamp_s })
    }

    fn committed(
        &mut self,
        entries: &[Entry],
        wanted: &[Vec<bool>],
        relieved: Retired,
    ) -> Committed {
        let mut committed = Committed { relieved, ..Committed::default() };
        for (entry, wanted) in entries.iter().zip(wanted) {
            committed.files += 1;
            committed.bytes += entry.bytes;
            committed.rows += entry.rows;
            committed.names.push(entry.name);
            self.newest_timestamp_s = self.newest_timestamp_s.max(Some(entry.name.timestamp_s()));
            self.last_timestamp_s = Some(entry.name.timestamp_s());
            let queues = self.queues.iter_mut().zip(wanted).filter(|(_, is_wanted)| **is_wanted);
            for index in queues.map(|(queue, _)| queue).chain([&mut self.archive]) {
                index.insert(*entry);
            }
        }
        committed
    }

    /// Removes every trace of a failed commit, the links first: what has no name in `tmp/` any more
    /// is no longer being committed. Returns the links that did not come back, as part and queue.
    fn roll_back(&mut self, traces: &Traces) -> Vec<(usize, usize)> {
        let mut kept = Vec::new();
        for (part, entry) in traces.entries.iter().enumerate() {
            for (place, queue) in self.queues.iter_mut().enumerate() {
                if !traces.links.contains(&(part, place)) {
                    // It may have been made though the call said otherwise.
                    self.leftovers.unlink(queue.path(entry.name));
                } else if queue.take_back(entry) {
                    self.leftovers.is_unsynced = true;
                } else {
                    kept.push((part, place));
                }
            }
            self.leftovers.unlink(self.archive.path(entry.name));
            self.leftovers.unlink(self.layout.unfinished(entry.name, traces.is_for_all));
        }
        if let Err(error) = self.settle_leftovers() {
            tracing::debug!(%error, "traces of a commit left");
        }
        kept
    }

    /// Removes what is left of commits that failed, for good.
    fn settle_leftovers(&mut self) -> Result<(), SpoolError> {
        self.leftovers.remove()?;
        if self.leftovers.is_unsynced {
            let tmp = self.layout.tmp();
            let directories = self.directories().map(|(_, index)| index.directory.as_path());
            // One that is gone was removed under us, with all that lay in it.
            for directory in directories.chain([tmp.as_path()]).filter(|path| path.exists()) {
                layout::sync_directory(directory)?;
            }
            self.leftovers.is_unsynced = false;
        }
        Ok(())
    }
}

impl Leftovers {
    /// Removes `path`, now or later; what is not there is no leftover.
    fn unlink(&mut self, path: PathBuf) {
        let error = match layout::unlink(&path) {
            Ok(was_there) => {
                self.is_unsynced |= was_there;
                return;
            }
            Err(error) => error,
        };
        // A read-only file system refuses to remove what was never there.
        if path.symlink_metadata().is_ok() {
            tracing::debug!(%error, path = %path.display(), "trace of a commit left");
            self.paths.push(path);
        }
    }

    /// Tries again.
    fn remove(&mut self) -> Result<(), SpoolError> {
        let mut result = Ok(());
        let is_unsynced = &mut self.is_unsynced;
        self.paths.retain(|path| {
            let Err(error) = layout::unlink(path) else {
                *is_unsynced = true;
                return false;
            };
            let is_there = path.symlink_metadata().is_ok();
            if is_there {
                result = Err(SpoolError::io("unlink", path)(error));
            }
            is_there
        });
        result
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.is_unsynced
    }
}

/// What the files of `parts` will occupy, about.
fn bytes_of(parts: &[&Rows]) -> u64 {
    let columns: u64 = parts.iter().map(|part| part.column_bytes() as u64).sum();
    columns + RELIEF_SLACK_BYTES * parts.len().max(1) as u64
}
