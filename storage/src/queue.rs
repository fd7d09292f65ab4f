//! The export half: one backend's queue, which is a directory of links.
//!
//! The exporter lists it, reads the first name, sends it, and acknowledges by unlinking: a crash
//! between the two sends the same points again, with the same timestamps. The ingest half may run
//! in the same process or in another one; nothing here needs its lock. Names whose file is gone
//! (expired) are no error.
//!
//! A backend that must not get anything twice is served the other way round: what has a name in
//! `tmp/` is left alone, for its commit may be taken back, or be finished by the next start for all
//! queues; and `Queue::take_out` removes the link, for good, before the first byte is sent
//! (docs/decisions/025-once-at-the-most.md).

use std::io;
use std::path::{Path, PathBuf};

use crate::crash_point::CrashPoint;
use crate::error::SpoolError;
use crate::layout::{self, Layout};
use crate::reader;
use crate::segment::SegmentName;

/// One backend's queue.
#[derive(Clone, Debug)]
pub struct Queue {
    directory: PathBuf,
    tmp: PathBuf,
    quarantine: PathBuf,
}

/// A damaged file that was put away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Where it lies now.
    pub path: PathBuf,
    /// Rows lost with it; `None` where the header does not tell.
    pub rows: Option<u64>,
}

impl Queue {
    /// Opens the queue of `backend` in the spool at `spool`; makes its directories where missing.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if they cannot be made.
    pub fn open(spool: &Path, backend: &str) -> Result<Self, SpoolError> {
        let layout = Layout::new(spool);
        let queue = Self {
            directory: layout.backend(backend),
            tmp: layout.tmp(),
            quarantine: layout.quarantine(),
        };
        layout::create_directory(&queue.directory)?;
        layout::create_directory(&queue.quarantine)?;
        Ok(queue)
    }

    /// Fills `out` with the segments not yet acknowledged, oldest first.
    ///
    /// # Errors
    /// Those of reading the directory; one that vanished is an empty queue.
    pub fn list(&self, out: &mut Vec<SegmentName>) -> io::Result<()> {
        out.clear();
        layout::list_segments(&self.directory, out)?;
        out.sort_unstable();
        Ok(())
    }

    /// Removes from `listed`, which [`Queue::list`] has filled, what is still being committed.
    ///
    /// # Errors
    /// Those of reading `tmp/`.
    pub fn retain_finished(&self, listed: &mut Vec<SegmentName>) -> io::Result<()> {
        let mut unfinished = Vec::new();
        // Behind the listing: a name that was seen there, and is not seen here, has left `tmp/`.
        layout::list_segments(&self.tmp, &mut unfinished)?;
        listed.retain(|name| !unfinished.contains(name));
        Ok(())
    }

    /// Removes this queue's link before the segment is sent for the only time, so that neither a kill
    /// nor a power cut brings it back. Returns whether it was still there.
    ///
    /// # Errors
    /// Those of unlinking; the segment stays in the queue and must not be sent. A sync that fails is
    /// none: the link is gone, and only a power cut could bring it back.
    /// # Cost
    /// Two fsyncs of directories.
    pub fn take_out(&self, name: &SegmentName) -> io::Result<bool> {
        let was_there = layout::unlink(&self.path(name))?;
        for directory in [&self.directory, &self.tmp] {
            if was_there && let Err(error) = layout::sync_directory(directory) {
                tracing::debug!(%error, "taken out, a power cut may bring it back");
            }
        }
        Ok(was_there)
    }

    /// Where `name` lies in this queue.
    #[must_use]
    pub fn path(&self, name: &SegmentName) -> PathBuf {
        self.directory.join(name.to_string())
    }

    /// The backend has it: removes this queue's link. The archive's link and those of other
    /// backends stay. A reader that holds the file open reads on undisturbed.
    ///
    /// Returns whether the link was still there: `false` if it expired meanwhile, and is in the
    /// books as that.
    ///
    /// # Errors
    /// Those of unlinking; the segment stays in the queue and will be sent again.
    pub fn acknowledge(&self, name: &SegmentName) -> io::Result<bool> {
        let was_there = layout::unlink(&self.path(name))?;
        CrashPoint::AckedUnlinked.reach();
        Ok(was_there)
    }

    /// Puts a damaged segment away; only this queue's link moves.
    ///
    /// # Errors
    /// Those of linking and unlinking.
    pub fn quarantine(&self, name: &SegmentName) -> io::Result<Quarantined> {
        let path = self.path(name);
        let rows = reader::row_count_of_damaged(&path);
        let path = layout::move_to_quarantine(&path, &self.quarantine)?;
        Ok(Quarantined { path, rows })
    }

    /// Where names are while their commit is under way.
    #[must_use]
    pub fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// The directory that is the queue.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
