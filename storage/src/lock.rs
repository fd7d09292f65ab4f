//! One ingest half and one export half per spool: `ingest.lock` and `export.lock`.
//!
//! The lock is the kernel's (`flock`) on a file held open for life, so it vanishes with its holder
//! however that ends; the file stays. Its content, the holder's process id, only serves the message
//! for the second comer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::SpoolError;
use crate::layout::{self, FileId};

/// Longest content of a lock file that is looked at, bytes.
const PID_BYTES_MAX: usize = 16;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock `path`, without waiting.
    pub(crate) fn acquire(path: &Path) -> Result<Self, SpoolError> {
        let file = OpenOptions::new()
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
        let lock = Self { file };
        lock.tell_holder();
        Ok(lock)
    }

    /// The lock `path` as another process of ours holds it: `file` is a duplicate of its descriptor,
    /// so both hold it until both let go.
    pub(crate) fn shared(path: &Path, file: OwnedFd) -> Result<Self, SpoolError> {
        let lock = Self { file: File::from(file) };
        if !lock.is_at(path) {
            return Err(SpoolError::Locked { path: path.to_owned(), holder: holder(&lock.file) });
        }
        // Of a process that does not hold it this is an attempt of our own.
        match lock.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&lock.file);
                return Err(SpoolError::Locked { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(SpoolError::io("lock", path)(error)),
        }
        lock.tell_holder();
        Ok(lock)
    }

    /// A duplicate of its descriptor.
    pub(crate) fn duplicate(&self) -> std::io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }

    /// Writes our process id into the file.
    pub(crate) fn tell_holder(&self) {
        // A full disk must not keep the daemon from starting: without the pid the lock holds too.
        let pid = std::process::id().to_string();
        // Not by the cursor: a holder that shares the lock shares that too.
        let written = self.file.set_len(0).and_then(|()| self.file.write_all_at(pid.as_bytes(), 0));
        if let Err(error) = written {
            tracing::debug!(%error, "lock holder not recorded");
        }
    }

    /// Whether `path` still names the file that is locked.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let ids = (self.file.metadata(), fs::symlink_metadata(path));
        matches!(ids, (Ok(held), Ok(named)) if FileId::of(&held) == FileId::of(&named))
    }
}

/// The pid in a lock file, if there is one.
fn holder(file: &File) -> Option<u32> {
    let mut text = [0; PID_BYTES_MAX];
    let bytes = file.read_at(&mut text, 0).ok()?;
    str::from_utf8(text.get(..bytes)?).ok()?.trim().parse().ok()
}

/// `export.lock`: whoever holds it sends the queues of this spool.
#[derive(Debug)]
pub struct ExportLock {
    path: PathBuf,
    lock: Mutex<Lock>,
}

impl ExportLock {
    /// Takes the lock, without waiting; makes the spool directory where it is missing.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] while another export half runs; [`SpoolError::Io`].
    pub fn acquire(spool: &Path) -> Result<Self, SpoolError> {
        layout::create_directory(spool)?;
        let path = spool.join("export.lock");
        let lock = Mutex::new(Lock::acquire(&path)?);
        Ok(Self { path, lock })
    }

    /// Makes sure that the queues are still ours to send: where the spool was removed and made again,
    /// they are whoever's has the lock by now, or else ours. A lock that is not there is nobody's.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] where another export half was quicker; [`SpoolError::Io`].
    /// # Cost
    /// Two looks at a file.
    pub fn keep(&self) -> Result<(), SpoolError> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if fs::symlink_metadata(&self.path).is_ok() && !lock.is_at(&self.path) {
            *lock = Lock::acquire(&self.path)?;
        }
        Ok(())
    }
}
