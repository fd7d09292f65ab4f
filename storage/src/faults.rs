//! Faults for tests, in debug builds only: who stands in the door of the disk, and crash points.
//!
//! `with` lets a test see every change of the disk that its thread makes, before it is made, and
//! refuse it. Nothing of this exists in a build without debug assertions
//! (docs/decisions/020-faults-in-debug-builds.md).

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;

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
    WATCH.with_borrow_mut(|watch| watch.as_mut().map_or(Ok(()), |watch| watch(operation)))
}

pub(crate) fn space() -> Option<Space> {
    SPACE.get()
}
