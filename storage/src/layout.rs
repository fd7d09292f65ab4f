//! Where things lie in a spool, and the few operations on directories.
//!
//! ```text
//! <spool>/ingest.lock  export.lock
//!         tmp/                 being written
//!         backends/<name>/     one queue per backend: links to segments
//!         archive/             one more link to each segment
//!         quarantine/          damaged files
//! ```
//! Directories are made with mode 0700 and files with 0600: names of series may be confidential.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::SpoolError;
use crate::segment::SegmentName;

/// Behind the name of a segment in `tmp/` that is not for every queue.
const FOR_SOME_SUFFIX: &str = ".some";

/// Tries at finding a free name in `quarantine/`.
const QUARANTINE_NAMES_MAX: u32 = 1_000;

/// The paths of one spool.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The spool itself.
    pub(crate) root: PathBuf,
}

/// A file, whatever its name: two links to one file have equal ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn ingest_lock(&self) -> PathBuf {
        self.root.join("ingest.lock")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The name of a segment while it is being committed. `is_for_all`: to every queue, so that a start
    /// that finds it whole can finish the commit; of the others it would not know for whom they are.
    pub(crate) fn unfinished(&self, name: SegmentName, is_for_all: bool) -> PathBuf {
        let suffix = if is_for_all { "" } else { FOR_SOME_SUFFIX };
        self.tmp().join(format!("{name}{suffix}"))
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(crate) fn backends(&self) -> PathBuf {
        self.root.join("backends")
    }

    pub(crate) fn backend(&self, name: &str) -> PathBuf {
        self.backends().join(name)
    }
}

/// Makes `path` and what is missing above it, mode 0700; one that exists is left as it is.
pub(crate) fn create_directory(path: &Path) -> Result<(), SpoolError> {
    let result = DirBuilder::new().recursive(true).mode(0o700).create(path);
    result.map_err(|error| {
        // `File exists` about a path that is to exist would puzzle whoever reads it.
        let is_other = error.kind() == io::ErrorKind::AlreadyExists && !path.is_dir();
        let source = if is_other { io::ErrorKind::NotADirectory.into() } else { error };
        SpoolError::io("create directory", path)(source)
    })
}

/// Waits until the names in `path` are on the disk: without it they are lost at power-off.
pub(crate) fn sync_directory(path: &Path) -> Result<(), SpoolError> {
    disk::sync_directory(path).map_err(SpoolError::io("sync", path))
}

/// Appends the segments in `directory` to `out`, in no particular order; returns the number of
/// other entries. A directory that is not there holds nothing.
pub(crate) fn list_segments(directory: &Path, out: &mut Vec<SegmentName>) -> io::Result<u64> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut foreign_count = 0;
    for entry in entries {
        match entry?.file_name().to_str().and_then(SegmentName::parse) {
            Some(name) => out.push(name),
            None => foreign_count += 1,
        }
    }
    Ok(foreign_count)
}

/// Files in `tmp` of commits that were not for every queue.
pub(crate) fn list_for_some(tmp: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(tmp)? {
        let entry = entry?;
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(FOR_SOME_SUFFIX));
        if stem.and_then(SegmentName::parse).is_some() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a link; `false` if it was gone already.
pub(crate) fn unlink(path: &Path) -> io::Result<bool> {
    disk::unlink(path)
}

/// Moves `from` into the directory `quarantine`, keeping its name where that is free.
///
/// Several links to one damaged file become one: a plain rename onto another link of the same
/// file would do nothing and report success.
pub(crate) fn move_to_quarantine(from: &Path, quarantine: &Path) -> io::Result<PathBuf> {
    let name = from.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let id = FileId::of(&fs::symlink_metadata(from)?);
    for attempt in 0..QUARANTINE_NAMES_MAX {
        let mut free_name = name.to_owned();
        if attempt != 0 {
            free_name.push(format!(".{attempt}"));
        }
        let target = quarantine.join(free_name);
        match disk::link(from, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if FileId::of(&fs::symlink_metadata(&target)?) != id {
                    continue;
                }
            }
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        disk::unlink(from)?;
        return Ok(target);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
