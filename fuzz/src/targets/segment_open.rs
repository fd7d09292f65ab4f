//! Segments: any file is opened or refused, and what is opened can be shipped.
//!
//! Checksums would end nearly every changed file at the first step, so each input is read twice: as it
//! is, and with its header made to fit its body, so that what lies behind the checksums is met too.

use std::fs;

use floe_core::config::settings::{LegacyNamespace, NamespaceSettings};
use floe_core::namespace::Namespace;
use floe_core::point::for_each_point;
use floe_core::row::ArchivedRows;
use floe_io::export::carbon_line::LineBuffer;
use floe_io::export::carbon_pickle::FrameBuffer;
use floe_storage::format::{FORMAT_VERSION, HEADER_BYTES, Header, crc};
use floe_storage::{Reader as SegmentReader, SegmentError};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use tempfile::TempDir;

use super::{Reader, Target, claim, equal};
use crate::carbon::{read_frames, read_lines};
use crate::mutate::Grammar;

pub(super) const TARGET: Target = Target {
    name: "segment_open",
    about: "a changed segment is opened or refused, with repaired checksums too; what opens ships",
    grammar: Grammar {
        words: &["floe.seg", "\0\0\0\0", "\u{1}\0\0\0", "stats"],
        delimiters: b"\0",
    },
    reader: || Box::new(Segments::new()),
};

struct Segments {
    folder: TempDir,
    reader: SegmentReader,
    namespaces: [Namespace; 2],
}

impl Segments {
    fn new() -> Self {
        let other = NamespaceSettings { legacy: LegacyNamespace::New, ..Default::default() };
        Self {
            // In memory where that can be had: on a disk each file would be written out.
            folder: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .expect("the machine has a temporary folder"),
            reader: SegmentReader::new(),
            namespaces: [Namespace::new(&NamespaceSettings::default()), Namespace::new(&other)],
        }
    }

    /// Opens a file of these bytes, and ships what it holds; whether it opened.
    fn open(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let path = self.folder.path().join("fuzzed.seg");
        fs::write(&path, bytes).map_err(|error| error.to_string())?;
        let segment = match self.reader.read(&path) {
            Ok(segment) => segment,
            Err(error) => return refused(&error).map(|()| false),
        };
        equal("rows", &segment.rows.row_count(), &(segment.header.row_count as usize))?;
        for namespace in &self.namespaces {
            let timestamp_s = segment.rows.timestamp_s.to_native();
            let mut lines = LineBuffer::new(timestamp_s);
            let mut frames = FrameBuffer::new(timestamp_s);
            for_each_point(segment.rows, namespace, |name, value| {
                lines.push(name, value);
                frames.push(name, value);
            });
            frames.close_frame();
            let text = read_lines(lines.as_bytes())?;
            equal("points", &(text.len() as u64), &lines.tally().written)?;
            equal("points pickled", &read_frames(frames.as_bytes())?.len(), &text.len())?;
        }
        Ok(true)
    }
}

/// Every refusal is one of damage or of another version: what it is decides where the file goes.
fn refused(error: &SegmentError) -> Result<(), String> {
    let is_sorted = error.is_damage() || error.is_unknown();
    claim(is_sorted, || format!("neither damaged nor unknown: {error}"))
}

/// `bytes` with a header that fits the body; `None` where there is none.
///
/// The version is the one that the header has. What the body says of itself is taken from it where it
/// can be read as the newest version.
fn repaired(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, body) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let format_version = if head[8] == 1 { 1 } else { FORMAT_VERSION };
    let fallback = Header {
        format_version,
        part_index: 0,
        part_count: 1,
        timestamp_s: 1_700_000_000,
        flush_interval_ms: 10_000,
        row_count: 5,
        body_bytes: 0,
        body_crc: 0,
    };
    let mut header = Header::decode(head).unwrap_or(fallback);
    (header.body_bytes, header.body_crc) = (body.len() as u64, crc(body));
    let mut aligned = AlignedVec::<16>::new();
    aligned.extend_from_slice(body);
    if format_version == FORMAT_VERSION
        && let Ok(rows) = rkyv::access::<ArchivedRows, rancor::Error>(&aligned)
    {
        header.part_index = rows.part_index.to_native();
        header.part_count = header.part_index.saturating_add(1);
        header.timestamp_s = rows.timestamp_s.to_native();
        header.flush_interval_ms = rows.flush_interval_ms.to_native();
        header.row_count = u32::try_from(rows.row_count()).ok()?;
    }
    Some([&header.encode(), body].concat())
}

impl Reader for Segments {
    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        self.open(input)?;
        match repaired(input) {
            Some(bytes) => self.open(&bytes).map(drop),
            None => Ok(()),
        }
    }
}
