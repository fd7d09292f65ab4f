//! The one door through which a spool changes its disk.
//!
//! Every file that is made, written, synced, linked or unlinked, and every look at the free space,
//! passes here. So a test can stand in the door (`faults`, debug builds only): it sees each
//! operation before it is done and may refuse it, which makes disks that are full, fail to sync, or
//! lose at a power cut what was never synced. A release build has the plain system calls.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use floe_core::give_way::{BYTES_BETWEEN, give_way};

#[cfg(debug_assertions)]
use crate::faults::{self, Operation};

/// Tells whoever stands in the door; ends the function if it is refused.
macro_rules! pass {
    ($operation:expr) => {
        #[cfg(debug_assertions)]
        faults::ask(&$operation)?;
    };
}

/// Room on a file system, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for us: what is set aside for root is not.
    pub available: u64,
    /// Size of the file system.
    pub total: u64,
}

/// Makes the file `path` (mode 0600), which must not be there.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    pass!(Operation::Create(path));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Writes all of `bytes`.
pub(crate) fn write(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    #[cfg(debug_assertions)]
    if let Err(error) = faults::ask(&Operation::Write(path, bytes)) {
        // A disk that becomes full takes the beginning.
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(error);
    }
    #[cfg(debug_assertions)]
    if faults::is_write_short() {
        return faults::Short(file).write_all(bytes);
    }
    let _ = path;
    // By pieces: nobody else gets the CPU while the kernel copies.
    bytes.chunks(BYTES_BETWEEN).try_for_each(|piece| {
        give_way();
        file.write_all(piece)
    })
}

/// Waits until the bytes of `file` are on the disk.
pub(crate) fn sync_data(file: &File, path: &Path) -> io::Result<()> {
    pass!(Operation::SyncFile(path));
    let _ = path;
    file.sync_data()
}

/// One more name for the file `from`.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    pass!(Operation::Link { from, to });
    fs::hard_link(from, to)
}

/// Removes a link; `false` if it was gone already.
pub(crate) fn unlink(path: &Path) -> io::Result<bool> {
    pass!(Operation::Unlink(path));
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until the names in `path` are on the disk: without it they are lost at power-off.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    pass!(Operation::SyncDirectory(path));
    File::open(path).and_then(|file| file.sync_all())
}

/// The room on the file system of `path`.
pub(crate) fn space(path: &Path) -> io::Result<Space> {
    #[cfg(debug_assertions)]
    if let Some(space) = faults::space() {
        return Ok(space);
    }
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space { available: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}
