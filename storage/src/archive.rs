//! The read side of the archive: what `query` looks at.
//!
//! Works beside a running daemon and takes no lock: segments never change, and a name whose file
//! expired between listing and reading is one to skip (`crate::SegmentError::is_vanished`).

use std::io;
use std::path::{Path, PathBuf};

use crate::layout::{self, Layout};
use crate::segment::SegmentName;

/// The archive of one spool.
#[derive(Clone, Debug)]
pub struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// The archive of the spool at `spool`; touches nothing.
    #[must_use]
    pub fn new(spool: &Path) -> Self {
        Self { directory: Layout::new(spool).archive() }
    }

    /// The segments with a timestamp of `since_s` or later, oldest first.
    ///
    /// # Errors
    /// Those of reading the directory; [`io::ErrorKind::NotFound`] where there is no archive.
    pub fn list(&self, since_s: u64) -> io::Result<Vec<SegmentName>> {
        let mut names = Vec::new();
        // A wrong path is worth an error to whoever asks; an empty list would hide it.
        std::fs::metadata(&self.directory)?;
        layout::list_segments(&self.directory, &mut names)?;
        names.retain(|name| since_s <= name.timestamp_s());
        names.sort_unstable();
        Ok(names)
    }

    /// Where `name` lies.
    #[must_use]
    pub fn path(&self, name: &SegmentName) -> PathBuf {
        self.directory.join(name.to_string())
    }
}
