//! The export half: one backend's queue, which is a directory of links.
//!
//! The exporter lists it, reads the first name, sends it, and acknowledges by unlinking: a crash
//! between the two sends the same points again, with the same timestamps. The ingest half may run
//! in the same process or in another one; nothing here needs its lock. Names whose file is gone
//! (expired) are no error.

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
        let queue = Self { directory: layout.backend(backend), quarantine: layout.quarantine() };
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

    /// The directory that is the queue.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
