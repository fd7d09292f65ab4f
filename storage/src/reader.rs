//! A file back into rows that may be trusted.
//!
//! The exporter's side of a segment, and `query`'s. Read order: length, header CRC, version, body
//! CRC, rkyv's validation, columns. Nothing looks at a byte that the step before has not vouched
//! for: a checksum catches what rkyv's validation would take for other values. The file is read
//! into one aligned buffer that is reused, not mapped: whoever truncates a mapped file ends its
//! readers with SIGBUS.
//!
//! Limits: a body of `SEGMENT_PART_BYTES_MAX`; the length is checked before memory is asked for. A
//! segment of the version before is read into memory twice more (`crate::version_1`).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use floe_core::give_way::{BYTES_BETWEEN, give_way};
use floe_core::limits::SEGMENT_PART_BYTES_MAX;
use floe_core::row::ArchivedRows;
use rkyv::rancor;
use rkyv::util::AlignedVec;

use crate::columns;
use crate::error::SegmentError;
use crate::format::{self, BODY_ALIGNMENT, HEADER_BYTES, Header, VERSION_1};
use crate::segment::SegmentName;
use crate::version_1;

/// Reads segments, one at a time, into a buffer that it keeps.
pub struct Reader {
    buffer: AlignedVec<BODY_ALIGNMENT>,
    /// The body of a segment of version 1, as this version has it.
    upgraded: AlignedVec<BODY_ALIGNMENT>,
}

/// One segment, as it lies in the reader's buffer.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    /// Its header.
    pub header: Header,
    /// Its rows: columns of equal lengths, offsets ascending and in range.
    pub rows: &'a ArchivedRows,
}

impl std::fmt::Debug for Segment<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Segment").field("header", &self.header).finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader with an empty buffer; it grows to the largest segment seen.
    #[must_use]
    pub fn new() -> Self {
        Self { buffer: AlignedVec::new(), upgraded: AlignedVec::new() }
    }

    /// Reads and checks the segment `path`.
    ///
    /// # Errors
    /// [`SegmentError::is_damage`] tells whether the file belongs into quarantine,
    /// [`SegmentError::is_unknown`] whether it waits for another version,
    /// [`SegmentError::is_vanished`] whether it was acknowledged or expired meanwhile.
    pub fn read<'a>(&'a mut self, path: &Path) -> Result<Segment<'a>, SegmentError> {
        let mut file = File::open(path)?;
        let (header, bytes) = checked_header(&mut file)?;
        let body_bytes = bytes.file - HEADER_BYTES;
        if self.buffer.len() < body_bytes {
            self.buffer.resize(body_bytes, 0);
        }
        let body = &mut self.buffer[..body_bytes];
        read_exact(&mut file, body, &header)?;
        let body = &self.buffer[..body_bytes];
        let computed = format::crc(body);
        if computed != header.body_crc {
            return Err(SegmentError::BodyChecksum { recorded: header.body_crc, computed });
        }
        let body = if header.format_version == VERSION_1 {
            version_1::upgrade(body, &mut self.upgraded).map_err(SegmentError::Body)?;
            &self.upgraded
        } else {
            body
        };
        let rows = rkyv::access::<ArchivedRows, rancor::Error>(body).map_err(SegmentError::Body)?;
        columns::check(rows)?;
        check_agreement(&header, rows)?;
        Ok(Segment { header, rows })
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reader").field("buffer_bytes", &self.buffer.len()).finish()
    }
}

/// Reads and checks the header of `path`, and that the file has the length it says; the body is
/// not looked at.
///
/// # Errors
/// As [`Reader::read`], short of those about the body.
pub fn read_header(path: &Path) -> Result<Header, SegmentError> {
    Ok(checked_header(&mut File::open(path)?)?.0)
}

/// Rows of a segment that may be damaged in its body or its length; `None` where not even the
/// header holds.
///
/// Serves the books: rows lost with a damaged file are counted where that is possible.
#[must_use]
pub fn row_count_of_damaged(path: &Path) -> Option<u64> {
    let mut bytes = [0; HEADER_BYTES];
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).ok()?;
    Header::decode(&bytes).ok().map(|header| u64::from(header.row_count))
}

/// Checks that a file found as `name` is that segment.
pub(crate) fn check_name(header: &Header, name: SegmentName) -> Result<(), SegmentError> {
    if header.timestamp_s != name.timestamp_s() {
        return Err(SegmentError::Disagreement { field: "timestamp in the file name" });
    }
    if header.part_index != name.part() {
        return Err(SegmentError::Disagreement { field: "part in the file name" });
    }
    Ok(())
}

/// Length of a whole file, known to be a header and at most one part's body.
struct CheckedLength {
    file: usize,
}

fn checked_header(file: &mut File) -> Result<(Header, CheckedLength), SegmentError> {
    let file_bytes = file.metadata()?.len();
    if file_bytes < HEADER_BYTES as u64 {
        return Err(SegmentError::TooShort { file_bytes });
    }
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact(&mut bytes)?;
    let header = Header::decode(&bytes)?;
    let length = usize::try_from(file_bytes).unwrap_or(usize::MAX);
    let is_as_said = header.body_bytes == file_bytes - HEADER_BYTES as u64;
    if !is_as_said || SEGMENT_PART_BYTES_MAX < length - HEADER_BYTES {
        return Err(SegmentError::Length { file_bytes, body_bytes: header.body_bytes });
    }
    Ok((header, CheckedLength { file: length }))
}

/// Reads the body; a file that shrank since its length was taken is a damaged one.
fn read_exact(file: &mut File, body: &mut [u8], header: &Header) -> Result<(), SegmentError> {
    let read = body.chunks_mut(BYTES_BETWEEN).try_for_each(|piece| {
        give_way();
        file.read_exact(piece)
    });
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(SegmentError::Length {
            file_bytes: file.metadata()?.len(),
            body_bytes: header.body_bytes,
        }),
        other => Ok(other?),
    }
}

fn check_agreement(header: &Header, rows: &ArchivedRows) -> Result<(), SegmentError> {
    let disagreement = |field| Err(SegmentError::Disagreement { field });
    if header.timestamp_s != rows.timestamp_s.to_native() {
        return disagreement("timestamp");
    }
    if header.flush_interval_ms != rows.flush_interval_ms.to_native() {
        return disagreement("flush interval");
    }
    if header.part_index != rows.part_index.to_native() {
        return disagreement("part index");
    }
    if header.row_count as usize != rows.row_count() {
        return disagreement("row count");
    }
    Ok(())
}
