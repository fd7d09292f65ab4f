//! floe on disk: segments, and the spool that holds them until every backend has them.
//!
//! Sits between the coordinator, which commits the rows of an interval, and the exporter, which
//! sends them. The directory is the queue and unlink is the acknowledgement: there is no ledger
//! that could go out of step with the files. docs/segments.md tells the same from outside.
//!
//! Touches files only: opens no socket, knows no carbon, reads no clock.

/// The 64-byte header: every number of the on-disk format.
pub mod format;
/// File names whose order is the order of the queue.
pub mod segment;
/// What can go wrong, with which file, and whether to try again.
pub mod error;
mod columns;
mod version_1;
mod layout;
mod disk;
/// Who stands in the door of the disk: debug builds only.
#[cfg(debug_assertions)]
pub mod faults;
/// Places at which a test lets the process abort: debug builds only.
pub mod crash_point;
/// One ingest half and one export half per spool.
pub mod lock;
/// Rows into bytes into a published file.
pub mod writer;
/// The ingest half: commits intervals.
pub mod spool;
/// The export half: one backend's queue.
pub mod queue;
/// The read side of the archive, for `query`.
pub mod archive;
/// A file back into rows that may be trusted.
pub mod reader;
/// The books of a spool as its files tell them.
pub mod history;
/// What a start does about the traces of a sudden stop.
pub mod recovery;
/// What goes when age or space say so.
pub mod retention;

pub use archive::Archive;
pub use crash_point::CrashPoint;
pub use disk::Space;
pub use error::{ColumnsError, EncodeError, SegmentError, SpoolError};
pub use format::Header;
pub use lock::ExportLock;
pub use queue::{Quarantined, Queue};
pub use reader::{Reader, Segment};
pub use recovery::{Abandoned, RecoveryReport};
pub use retention::{Expired, Retired};
pub use segment::SegmentName;
pub use spool::{BackendLimits, Committed, Kept, QueueState, Refused, Spool, SpoolOptions, Usage};
pub use writer::Writer;
