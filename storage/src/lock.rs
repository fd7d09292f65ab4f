//! One ingest half and one export half per spool: `ingest.lock` and `export.lock`.
//!
//! The lock is the kernel's (`flock`) on a file held open for life, so it vanishes with its holder
//! however that ends; the file stays. Its content, the holder's process id, only serves the message
//! for the second comer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::SpoolError;
use crate::layout::{self, FileId};

/// Longest content of a lock file that is looked at, bytes.
const PID_BYTES_MAX: u64 = 16;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock `path`, without waiting.
    pub(crate) fn acquire(path: &Path) -> Result<Self, SpoolError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(SpoolError::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SpoolError::Locked { path: path.to_owned(), holder: holder(&file) });
            }
            Err(TryLockError::Error(error)) => return Err(SpoolError::io("lock", path)(error)),
        }
        // A full disk must not keep the daemon from starting: without the pid the lock holds too.
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        if let Err(error) = written {
            tracing::debug!(%error, path = %path.display(), "lock holder not recorded");
        }
        Ok(Self { file })
    }

    /// Whether `path` still names the file that is locked.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let ids = (self.file.metadata(), fs::symlink_metadata(path));
        matches!(ids, (Ok(held), Ok(named)) if FileId::of(&held) == FileId::of(&named))
    }
}

/// The pid in a lock file, if there is one.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// `export.lock`: whoever holds it sends the queues of this spool.
#[derive(Debug)]
pub struct ExportLock {
    _lock: Lock,
}

impl ExportLock {
    /// Takes the lock, without waiting; makes the spool directory where it is missing.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] while another export half runs; [`SpoolError::Io`].
    pub fn acquire(spool: &Path) -> Result<Self, SpoolError> {
        layout::create_directory(spool)?;
        Ok(Self { _lock: Lock::acquire(&spool.join("export.lock"))? })
    }
}
