//! Faults for tests, in debug builds only: who stands in the door of the disk, and crash points.
//!
//! `with` lets a test see every change of the disk that its thread makes, before it is made, and
//! refuse it. A process of its own is told by a file, which `FLOE_DISK_FAULTS` names and which is read
//! anew at each operation: a line each, the operation and the error number, as in `sync-file 5`; or
//! `write short`, which makes the disk take every write in pieces. While the file is not there the
//! disk is sound. Nothing of this exists in a build without debug assertions
//! (docs/decisions/020-faults-in-debug-builds.md).

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::disk::Space;

/// A change of the disk that is about to be made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// A new file.
    Create(&'a Path),
    /// All bytes of the file; refused, half of them are written.
    Write(&'a Path, &'a [u8]),
    /// `fdatasync` of a file.
    SyncFile(&'a Path),
    /// A further name.
    Link {
        /// Of this file.
        from: &'a Path,
        /// The new name.
        to: &'a Path,
    },
    /// A name less.
    Unlink(&'a Path),
    /// `fsync` of a directory.
    SyncDirectory(&'a Path),
}

impl Operation<'_> {
    const fn word(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Write(..) => "write",
            Self::SyncFile(_) => "sync-file",
            Self::Link { .. } => "link",
            Self::Unlink(_) => "unlink",
            Self::SyncDirectory(_) => "sync-directory",
        }
    }
}

/// Most bytes that a disk takes at once which takes writes in pieces.
const PIECE_BYTES: usize = 1_000;

type Watch = Box<dyn FnMut(&Operation<'_>) -> io::Result<()>>;

thread_local! {
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
    static SPACE: Cell<Option<Space>> = const { Cell::new(None) };
}

/// Lets `watch` see, and refuse, what this thread does to disks while `work` runs.
pub fn with<T>(
    watch: impl FnMut(&Operation<'_>) -> io::Result<()> + 'static,
    work: impl FnOnce() -> T,
) -> T {
    let before = WATCH.replace(Some(Box::new(watch)));
    let result = work();
    WATCH.set(before);
    result
}

/// Lets every file system have this room for this thread, until told otherwise.
pub fn set_space(space: Option<Space>) {
    SPACE.set(space);
}

pub(crate) fn ask(operation: &Operation<'_>) -> io::Result<()> {
    WATCH.with_borrow_mut(|watch| watch.as_mut().map_or(Ok(()), |watch| watch(operation)))?;
    match told_of(operation.word()).and_then(|fault| fault.parse().ok()) {
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Ok(()),
    }
}

/// What the file of faults says of an operation.
fn told_of(word: &str) -> Option<String> {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("FLOE_DISK_FAULTS").map(PathBuf::from));
    let text = std::fs::read_to_string(file.as_ref()?).ok()?;
    let mut faults = text.lines().filter_map(|line| line.split_once(' '));
    faults.find(|(operation, _)| *operation == word).map(|(_, fault)| fault.to_owned())
}

/// Whether the disk takes writes in pieces.
pub(crate) fn is_write_short() -> bool {
    told_of("write").is_some_and(|fault| fault == "short")
}

/// A file of which every write takes a piece alone.
pub(crate) struct Short<'f>(pub(crate) &'f mut std::fs::File);

impl Write for Short<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(PIECE_BYTES)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

pub(crate) fn space() -> Option<Space> {
    SPACE.get()
}
