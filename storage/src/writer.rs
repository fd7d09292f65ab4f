//! Rows into bytes, and bytes into a published file.
//!
//! The coordinator's side of a segment. `Writer` serialises into one buffer that is reused, the
//! header in front: 64 bytes keep the body aligned, so file and buffer are the same bytes. Then
//! the steps of publishing, in the order that survives a kill at any instruction: write
//! `tmp/<name>`, fdatasync, link into each directory, unlink `tmp/<name>`, fsync the directories.
//! Until the first link nobody sees the segment; after it, it is whole.
//!
//! Limits: a body of `SEGMENT_PART_BYTES_MAX`. Never writes to a file twice: a failed fsync says
//! nothing about the next one, so a retry is a new file (`crate::spool`).

use std::fs;
use std::io;
use std::path::Path;

use floe_core::give_way::give_way;
use floe_core::limits::SEGMENT_PART_BYTES_MAX;
use floe_core::row::{ArchivedRows, Rows};
use rkyv::rancor;
use rkyv::util::AlignedVec;

use crate::columns;
use crate::crash_point::CrashPoint;
use crate::disk;
use crate::error::{EncodeError, SpoolError};
use crate::format::{self, BODY_ALIGNMENT, FORMAT_VERSION, HEADER_BYTES, Header};
use crate::layout::{self, FileId};
use crate::reader::Segment;
use crate::segment::SegmentName;

/// Bytes of a segment beside its columns: header, structure, books. More is no error, only slower.
const BESIDE_COLUMNS_BYTES: usize = 64 << 10;

/// Serialises rows into a buffer that it keeps.
pub struct Writer {
    buffer: AlignedVec<BODY_ALIGNMENT>,
}

impl Writer {
    /// A writer with an empty buffer; it grows to the largest part seen.
    #[must_use]
    pub fn new() -> Self {
        Self { buffer: AlignedVec::new() }
    }

    /// The whole file for `rows`, one part of `part_count`: header and body.
    ///
    /// # Errors
    /// [`EncodeError::Columns`] if the columns do not fit together, [`EncodeError::TooLarge`]
    /// above the limit of a part.
    pub fn encode(&mut self, rows: &Rows, part_count: u32) -> Result<&[u8], EncodeError> {
        self.write(rows, part_count)?;
        Ok(&self.buffer)
    }

    /// The segment that `rows`, one part of `part_count`, would be: for whoever sends it from memory.
    ///
    /// # Errors
    /// As [`Writer::encode`].
    pub fn segment(&mut self, rows: &Rows, part_count: u32) -> Result<Segment<'_>, EncodeError> {
        let header = self.write(rows, part_count)?;
        let rows = rkyv::access::<ArchivedRows, rancor::Error>(&self.buffer[HEADER_BYTES..])?;
        Ok(Segment { header, rows })
    }

    /// Fills the buffer: header and body.
    fn write(&mut self, rows: &Rows, part_count: u32) -> Result<Header, EncodeError> {
        self.buffer.clear();
        // All at once: doubling would copy tens of megabytes in the first flush of a large interval.
        self.buffer.reserve_exact(rows.column_bytes() + BESIDE_COLUMNS_BYTES);
        self.buffer.resize(HEADER_BYTES, 0);
        rkyv::api::high::to_bytes_in::<_, rancor::Error>(rows, &mut self.buffer)?;
        give_way();
        let body = &self.buffer[HEADER_BYTES..];
        if SEGMENT_PART_BYTES_MAX < body.len() {
            return Err(EncodeError::TooLarge { bytes: body.len() });
        }
        columns::check(rkyv::access::<ArchivedRows, rancor::Error>(body)?)?;
        let header = Header {
            format_version: FORMAT_VERSION,
            part_index: rows.part_index,
            part_count,
            timestamp_s: rows.timestamp_s,
            flush_interval_ms: rows.flush_interval_ms,
            row_count: u32::try_from(rows.row_count()).expect("rows of 64 MiB are below 2^32"),
            body_bytes: u64::try_from(body.len()).expect("a body is below 64 MiB"),
            body_crc: format::crc(body),
        };
        self.buffer[..HEADER_BYTES].copy_from_slice(&header.encode());
        Ok(header)
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Writer").field("buffer_bytes", &self.buffer.len()).finish()
    }
}

/// Writes a new file `path` and waits until its bytes are on the disk.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SpoolError> {
    let mut file = disk::create(path).map_err(SpoolError::io("create", path))?;
    CrashPoint::TmpCreated.reach();
    disk::write(&mut file, path, bytes).map_err(SpoolError::io("write", path))?;
    CrashPoint::TmpWritten.reach();
    disk::sync_data(&file, path).map_err(SpoolError::io("sync", path))?;
    CrashPoint::TmpSynced.reach();
    Ok(())
}

/// Links `source` into `directory` as `name`; a directory that vanished is made again.
///
/// A link that is there already is no error: a commit was cut short behind it.
pub(crate) fn link_into(
    source: &Path,
    directory: &Path,
    name: SegmentName,
) -> Result<(), SpoolError> {
    let target = directory.join(name.to_string());
    let mut result = disk::link(source, &target);
    if is(&result, io::ErrorKind::NotFound) && !directory.exists() {
        layout::create_directory(directory)?;
        if let Some(parent) = directory.parent() {
            layout::sync_directory(parent)?;
        }
        result = disk::link(source, &target);
    }
    if is(&result, io::ErrorKind::AlreadyExists) && is_same_file(source, &target) {
        return Ok(());
    }
    result.map_err(SpoolError::io("link", &target))
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let id = |path| fs::symlink_metadata(path).map(|metadata| FileId::of(&metadata));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

fn is(result: &io::Result<()>, kind: io::ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}
