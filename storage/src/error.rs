//! What can go wrong on disk: with which file, for which cause, and whether trying again can help.
//!
//! `SpoolError` is for operations on the spool, `SegmentError` for one file's content,
//! `EncodeError` for rows that cannot become a segment, `ColumnsError` for columns that do not
//! fit together.

use std::io;
use std::path::{Path, PathBuf};

use floe_core::limits::SEGMENT_PART_BYTES_MAX;

/// An operation on the spool that did not succeed; the spool is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Somebody else holds this half of the spool.
    #[error(
        "cannot lock {}: held by process {}; stop it or set another spool path",
        path.display(), holder.map_or("unknown".to_owned(), |pid| pid.to_string())
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The holder's process id, where the lock file tells it.
        holder: Option<u32>,
    },
    /// A system call failed; `source` carries the errno.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried: `write`, `link`, ...
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file system has room, but not beside the reserve that is to stay free.
    #[error(
        "no room in {}: {available} bytes are free, {needed} are needed beside a reserve of {reserve}",
        path.display()
    )]
    Reserve {
        /// The spool.
        path: PathBuf,
        /// Bytes free.
        available: u64,
        /// Bytes of the commit.
        needed: u64,
        /// Bytes to be left free.
        reserve: u64,
    },
    /// The rows cannot become a segment; trying again yields the same.
    #[error("cannot make a segment of part {part_index}: {source}")]
    Encode {
        /// Which part of the interval.
        part_index: u32,
        /// Why not.
        source: EncodeError,
    },
}

impl SpoolError {
    /// Whether the same call can succeed later: space, permissions and devices come back.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Locked { .. } | Self::Reserve { .. } => true,
            Self::Encode { .. } => false,
            Self::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::CrossesDevices
                    | io::ErrorKind::Unsupported
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidFilename
            ),
        }
    }

    /// Whether the file system has no room, or the user's share of it, or none beside the reserve.
    #[must_use]
    pub fn is_full(&self) -> bool {
        if matches!(self, Self::Reserve { .. }) {
            return true;
        }
        self.kind().is_some_and(|kind| {
            matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        })
    }

    /// Bytes that have to become free before it can go on, where that is known.
    #[must_use]
    pub fn missing_bytes(&self) -> Option<u64> {
        match self {
            Self::Reserve { available, needed, reserve, .. } => {
                Some(reserve.saturating_add(*needed).saturating_sub(*available))
            }
            _ => None,
        }
    }

    /// The system's error number, where a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The file or directory concerned.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Locked { path, .. } | Self::Reserve { path, .. } | Self::Io { path, .. } => {
                Some(path)
            }
            Self::Encode { .. } => None,
        }
    }

    /// Whether the disk could not say that it has the bytes: the same file is never asked again.
    pub(crate) fn is_sync_failure(&self) -> bool {
        matches!(self, Self::Io { operation: "sync", .. })
    }

    fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// For `map_err`: names the operation and the path.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}

/// Rows that cannot become a segment: a fault of the code that made them, counted, never a panic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The columns do not fit together.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    /// The part is too large.
    #[error("body of {bytes} bytes is above {SEGMENT_PART_BYTES_MAX}; split the interval")]
    TooLarge {
        /// Length of the body.
        bytes: usize,
    },
    /// A number does not fit its field of the name or the header.
    #[error("{field} {value} does not fit its field")]
    OutOfRange {
        /// Which number.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The serialiser gave up.
    #[error("cannot serialise: {0}")]
    Serialise(#[from] rkyv::rancor::Error),
}

/// Columns that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnsError {
    /// A column is shorter or longer than its rows.
    #[error("column {column} has {found} entries, expected {expected}")]
    Length {
        /// Which column.
        column: &'static str,
        /// Its entries.
        found: usize,
        /// Entries it must have.
        expected: usize,
    },
    /// Offsets descend or do not end where the column ends.
    #[error("offsets of column {column} are out of order or out of range")]
    Offsets {
        /// Which column.
        column: &'static str,
    },
    /// A timer row names a histogram rule that is not there, or has more bins than its rule.
    #[error("timer row {row} does not fit its histogram rule")]
    HistogramRule {
        /// Index among the timer rows.
        row: usize,
    },
}

/// A file that yields no rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The file cannot be read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// Not even a header's length.
    #[error("{file_bytes} bytes are too few for a segment")]
    TooShort {
        /// Length of the file.
        file_bytes: u64,
    },
    /// The magic is missing.
    #[error("not a segment: the first bytes are not floe.seg")]
    NotASegment,
    /// The header is damaged.
    #[error("header checksum {computed:08x}, recorded {recorded:08x}")]
    HeaderChecksum {
        /// As the file says.
        recorded: u32,
        /// As its bytes say.
        computed: u32,
    },
    /// A whole file of another format version.
    #[error("format version {version} is not known here")]
    UnknownVersion {
        /// As the header says.
        version: u32,
    },
    /// A whole file with other columns.
    #[error("schema {schema_hash:016x} is not known here")]
    UnknownSchema {
        /// As the header says.
        schema_hash: u64,
    },
    /// Truncated, or with something appended; or longer than any segment is.
    #[error("file of {file_bytes} bytes, the header says 64 + {body_bytes}")]
    Length {
        /// Length of the file.
        file_bytes: u64,
        /// Length of the body as the header says.
        body_bytes: u64,
    },
    /// The body is damaged.
    #[error("body checksum {computed:08x}, recorded {recorded:08x}")]
    BodyChecksum {
        /// As the header says.
        recorded: u32,
        /// As the body says.
        computed: u32,
    },
    /// The checksum holds, yet the body is no `Rows`.
    #[error("body is not valid: {0}")]
    Body(rkyv::rancor::Error),
    /// The checksum holds, yet the columns do not fit together.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    /// Header and body, or name and header, say different things.
    #[error("header and content disagree about the {field}")]
    Disagreement {
        /// About what.
        field: &'static str,
    },
}

impl SegmentError {
    /// Whether the content is at fault: the file belongs into quarantine.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Io(_)) && !self.is_unknown()
    }

    /// Whether another version of floe can read it: the file stays where it is.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::UnknownVersion { .. } | Self::UnknownSchema { .. })
    }

    /// Whether the file went away between listing and reading: acknowledged or expired.
    #[must_use]
    pub fn is_vanished(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io_error(errno: i32) -> SpoolError {
        SpoolError::io("write", Path::new("/spool/tmp/x"))(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn full_disk_is_retryable_and_names_errno_and_path() {
        let error = io_error(28);
        assert!(error.is_full());
        assert!(error.is_retryable());
        assert_eq!(error.errno(), Some(28));
        assert_eq!(error.path(), Some(Path::new("/spool/tmp/x")));
        assert!(error.to_string().starts_with("cannot write /spool/tmp/x: "));
    }

    #[test]
    fn quota_is_full_and_read_only_is_not() {
        assert!(io_error(122).is_full());
        assert!(!io_error(30).is_full());
        assert!(io_error(30).is_retryable());
    }

    #[test]
    fn link_across_devices_is_not_retryable() {
        assert!(!io_error(18).is_retryable());
    }

    #[test]
    fn unknown_is_neither_damage_nor_vanished() {
        let unknown = SegmentError::UnknownVersion { version: 9 };
        assert!(unknown.is_unknown() && !unknown.is_damage() && !unknown.is_vanished());
        let vanished = SegmentError::Io(io::Error::from(io::ErrorKind::NotFound));
        assert!(vanished.is_vanished() && !vanished.is_damage());
        assert!(SegmentError::NotASegment.is_damage());
    }
}
