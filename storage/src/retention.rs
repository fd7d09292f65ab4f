//! What goes when age or space say so: from the archive in the order of time, from a backend's
//! queue as *expired*, counted row by row.
//!
//! Runs after each interval, in the ingest half, which alone adds segments and so knows what lies
//! in each directory without listing it: an `Index` per directory. Queues shrink behind its back
//! when exporters acknowledge; it notices when an unlink finds nothing, or lists the names once
//! before it lets go for lack of space.
//!
//! The newest segment of the archive is never removed, nor the one committed last, which is another
//! where the clock was set back: their names remember the last timestamps used across a restart. A segment's bytes are free when its last link is gone, so space is accounted
//! by file, not by name. Files of unknown versions and foreign names are not in the index: they
//! are never removed.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::crash_point::CrashPoint;
use crate::error::SpoolError;
use crate::layout;
use crate::segment::SegmentName;

/// Links removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Segments.
    pub segments: u64,
    /// Their rows.
    pub rows: u64,
    /// Of these, rows of a queue that were over its age; the others gave way for want of space.
    pub rows_too_old: u64,
    /// Their lengths; free once no other link is left.
    pub bytes: u64,
}

/// What one pass removed.
#[derive(Debug, Default)]
pub struct Retired {
    /// From the archive: no loss for a backend.
    pub archive: Expired,
    /// From queues: lost for that backend. Only backends that lost something.
    pub backends: Vec<(String, Expired)>,
    /// The first failure; what could not be removed is tried again at the next pass.
    pub error: Option<SpoolError>,
}

/// Age and size a directory may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    pub(crate) age_ms: u64,
    pub(crate) bytes: u64,
}

/// One segment of a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) name: SegmentName,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

/// What lies in one directory, oldest first.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) directory: PathBuf,
    entries: VecDeque<Entry>,
    bytes: u64,
    rows: u64,
    /// Rows whose link went without our doing, since this index was made.
    rows_left: u64,
    /// Rows whose commit failed, and whose link did not come back: an exporter was quicker, or the
    /// disk refused.
    rows_unannounced: u64,
}

impl Expired {
    fn add(&mut self, entry: &Entry) {
        self.segments += 1;
        self.rows += entry.rows;
        self.bytes += entry.bytes;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.segments += other.segments;
        self.rows += other.rows;
        self.rows_too_old += other.rows_too_old;
        self.bytes += other.bytes;
    }
}

impl Retired {
    pub(crate) fn backend(&mut self, name: &str) -> &mut Expired {
        let index = self.backends.iter().position(|(backend, _)| backend == name);
        let index = index.unwrap_or_else(|| {
            self.backends.push((name.to_owned(), Expired::default()));
            self.backends.len() - 1
        });
        &mut self.backends[index].1
    }

    /// Segments removed, wherever.
    #[must_use]
    pub fn segment_count(&self) -> u64 {
        self.archive.segments
            + self.backends.iter().map(|(_, expired)| expired.segments).sum::<u64>()
    }

    pub(crate) fn fail(&mut self, error: SpoolError) {
        self.error.get_or_insert(error);
    }
}

impl Index {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            entries: VecDeque::new(),
            bytes: 0,
            rows: 0,
            rows_left: 0,
            rows_unannounced: 0,
        }
    }

    /// Adds a segment at its place: the newest, unless the clock went back.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let place = self.entries.partition_point(|other| other.name < entry.name);
        self.entries.insert(place, entry);
        self.bytes += entry.bytes;
        self.rows += entry.rows;
    }

    pub(crate) fn remove(&mut self, name: SegmentName) -> Option<Entry> {
        let place = self.entries.binary_search_by_key(&name, |entry| entry.name).ok()?;
        let entry = self.entries.remove(place)?;
        self.bytes -= entry.bytes;
        self.rows -= entry.rows;
        Some(entry)
    }

    pub(crate) fn oldest(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(crate) fn newest(&self) -> Option<&Entry> {
        self.entries.back()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows that left since the index was made, and not by [`Index::expire`].
    pub(crate) fn rows_left(&self) -> u64 {
        self.rows_left
    }

    /// Rows of failed commits whose links could not be taken back.
    pub(crate) fn rows_unannounced(&self) -> u64 {
        self.rows_unannounced
    }

    /// A link of a commit that failed is taken back; `false` where that came too late. One that is
    /// gone already was taken for good; one that cannot be removed is there for good.
    pub(crate) fn take_back(&mut self, entry: &Entry) -> bool {
        match layout::unlink(&self.path(entry.name)) {
            Ok(true) => return true,
            Ok(false) => self.rows_left += entry.rows,
            Err(error) => {
                let path = self.path(entry.name);
                tracing::debug!(%error, path = %path.display(), "link of a failed commit stays");
                self.insert(*entry);
            }
        }
        self.rows_unannounced += entry.rows;
        false
    }

    /// Removes a link that nobody needs any more; `false` if it had left by itself.
    pub(crate) fn withdraw(&mut self, name: SegmentName) -> Result<bool, SpoolError> {
        let path = self.path(name);
        let was_there = layout::unlink(&path).map_err(SpoolError::io("unlink", &path))?;
        if let Some(entry) = self.remove(name)
            && !was_there
        {
            self.rows_left += entry.rows;
        }
        Ok(was_there)
    }

    pub(crate) fn path(&self, name: SegmentName) -> PathBuf {
        self.directory.join(name.to_string())
    }

    /// Forgets what is no longer in the directory.
    pub(crate) fn refresh(&mut self) -> Result<(), SpoolError> {
        let mut names = Vec::with_capacity(self.entries.len());
        layout::list_segments(&self.directory, &mut names)
            .map_err(SpoolError::io("list", &self.directory))?;
        names.sort_unstable();
        let rows_before = self.rows;
        self.entries.retain(|entry| names.binary_search(&entry.name).is_ok());
        self.bytes = self.entries.iter().map(|entry| entry.bytes).sum();
        self.rows = self.entries.iter().map(|entry| entry.rows).sum();
        self.rows_left += rows_before - self.rows;
        Ok(())
    }

    /// Removes the link `name`; counts it in `expired` if it was still there.
    pub(crate) fn expire(
        &mut self,
        name: SegmentName,
        expired: &mut Expired,
    ) -> Result<(), SpoolError> {
        let path = self.path(name);
        let was_there = layout::unlink(&path).map_err(SpoolError::io("unlink", &path))?;
        CrashPoint::ExpireUnlinked.reach();
        match self.remove(name) {
            Some(entry) if was_there => expired.add(&entry),
            Some(entry) => self.rows_left += entry.rows,
            None => {}
        }
        Ok(())
    }

    /// Removes from a queue what is over its caps.
    pub(crate) fn cap_queue(
        &mut self,
        caps: Caps,
        now_s: u64,
        expired: &mut Expired,
    ) -> Result<(), SpoolError> {
        let mut is_fresh = false;
        while let Some(oldest) = self.oldest().copied() {
            let is_old = is_too_old(oldest.name, caps, now_s);
            if !is_old {
                if self.bytes <= caps.bytes {
                    return Ok(());
                }
                // Acknowledged segments still count here; only after a look may one be let go.
                if !is_fresh {
                    self.refresh()?;
                    is_fresh = true;
                    continue;
                }
            }
            let rows_before = expired.rows;
            self.expire(oldest.name, expired)?;
            if is_old {
                expired.rows_too_old += expired.rows - rows_before;
            }
        }
        Ok(())
    }

    /// The segment that was committed last: the newest, unless the clock went back.
    pub(crate) fn last_committed(&self) -> Option<SegmentName> {
        let names = self.entries.iter().map(|entry| entry.name);
        names.max_by_key(|name| (name.run_id(), name.sequence(), name.part()))
    }

    /// Removes from the archive what is over its caps, except the newest segment and the last.
    pub(crate) fn cap_archive(
        &mut self,
        caps: Caps,
        now_s: u64,
        expired: &mut Expired,
    ) -> Result<(), SpoolError> {
        let last = self.last_committed();
        let mut place = 0;
        while place + 1 < self.len() {
            let name = self.entries[place].name;
            if self.bytes <= caps.bytes && !is_too_old(name, caps, now_s) {
                return Ok(());
            }
            if last == Some(name) {
                place += 1;
            } else {
                self.expire(name, expired)?;
            }
        }
        Ok(())
    }

    /// Whether [`Index::relieve_archive`] would free `bytes`.
    pub(crate) fn can_relieve_archive(&self, bytes: u64) -> bool {
        let last = self.last_committed();
        let mut freed = 0;
        let older = self.entries.iter().take(self.len().saturating_sub(1));
        let mut removable =
            older.filter(|entry| last != Some(entry.name) && self.is_only(entry.name));
        removable.any(|entry| {
            freed += entry.bytes;
            bytes <= freed
        })
    }

    /// Whether a file has no link but the one here.
    fn is_only(&self, name: SegmentName) -> bool {
        !link_count(&self.path(name)).is_ok_and(|count| 1 < count)
    }

    /// Segments, each with its length.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = (SegmentName, u64)> {
        self.entries.iter().map(|entry| (entry.name, entry.bytes))
    }

    /// Removes the oldest segments that nobody but the archive holds, until `bytes` are free;
    /// never the newest or the last. Returns the bytes freed.
    pub(crate) fn relieve_archive(
        &mut self,
        bytes: u64,
        expired: &mut Expired,
    ) -> Result<u64, SpoolError> {
        let before = expired.bytes;
        let last = self.last_committed();
        let mut place = 0;
        while place + 1 < self.len() && expired.bytes - before < bytes {
            let name = self.entries[place].name;
            if last == Some(name) || !self.is_only(name) {
                place += 1;
            } else {
                self.expire(name, expired)?;
            }
        }
        Ok(expired.bytes - before)
    }
}

fn link_count(path: &std::path::Path) -> io::Result<u64> {
    Ok(fs::symlink_metadata(path)?.nlink())
}

/// A timestamp in the future is never too old.
fn is_too_old(name: SegmentName, caps: Caps, now_s: u64) -> bool {
    caps.age_ms < now_s.saturating_sub(name.timestamp_s()).saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use crate::segment::NameParts;

    use super::*;

    #[test]
    fn a_link_of_a_failed_commit_that_does_not_come_back_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = Index::new(directory.path().to_owned());
        let entry = |sequence, rows| {
            let name = NameParts { timestamp_s: 1, run_id: 2, sequence, part: 0 };
            Entry { name: SegmentName::new(name).unwrap(), bytes: 0, rows }
        };
        let (there, taken, stuck) = (entry(1, 3), entry(2, 4), entry(3, 5));
        fs::write(index.path(there.name), "").unwrap();
        // Not even root can unlink a directory.
        fs::create_dir(index.path(stuck.name)).unwrap();
        assert!(index.take_back(&there));
        assert!(!index.take_back(&taken) && !index.take_back(&stuck));
        assert!(!index.path(there.name).exists());
        assert_eq!((index.rows_left(), index.rows_unannounced(), index.rows()), (4, 9, 5));
    }
}
