//! The segment format, version 2: a fixed header of 64 bytes, then the body.
//!
//! Constraints: a reader refuses every damaged file before it looks at the body; a reader of one
//! version recognises files of any other and leaves them alone; the body stays aligned to 16 bytes
//! when the whole file is read into a buffer so aligned.
//!
//! All integers are little-endian.
//!
//! | offset | bytes | field | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `floe.seg` |
//! | 8 | 4 | format version | 2 |
//! | 12 | 4 | part index | this part of the interval, from 0 |
//! | 16 | 8 | schema hash | FNV-1a, 64 bits, of `SCHEMA` |
//! | 24 | 8 | timestamp | end of the interval, seconds since the epoch |
//! | 32 | 8 | flush interval | ms |
//! | 40 | 8 | body length | bytes; the file is exactly 64 more |
//! | 48 | 4 | part count | parts of the interval |
//! | 52 | 4 | row count | series in this part, books not counted |
//! | 56 | 4 | body CRC | CRC-32C (Castagnoli) of the body |
//! | 60 | 4 | header CRC | CRC-32C of bytes 0 to 59 |
//! | 64 | .. | body | `floe_core::row::Rows` as rkyv 0.8 lays it out |
//!
//! Every version, past and future, keeps magic, version and header CRC where they are: a file with
//! the magic and a right header CRC but another version or schema hash is *unknown*, not damaged.
//! Version 1, which had no totals, is still read (`crate::version_1`) and never written.
//!
//! Operations: a segment is written once and never changed (`crate::writer`). Read order:
//! length, header CRC, version, body CRC, body (`crate::reader`). Recovery: `crate::recovery`.
//! This module touches no file.

use floe_core::give_way::{BYTES_BETWEEN, give_way};

use crate::error::SegmentError;

/// First bytes of every segment file.
pub const MAGIC: [u8; 8] = *b"floe.seg";

/// The version this code writes. It reads this one and the one before it.
pub const FORMAT_VERSION: u32 = 2;

/// The version before, and what its headers bear for its schema.
pub(crate) const VERSION_1: u32 = 1;
const VERSION_1_SCHEMA_HASH: u64 = 0x5925_37a5_0cb0_38f9;

/// Length of the header; a multiple of 16, so that it does not disturb the body's alignment.
pub const HEADER_BYTES: usize = 64;

/// Alignment of the buffer a segment is read into; no archived type here wants more than 8.
pub const BODY_ALIGNMENT: usize = 16;

/// The body as text: layout flags of rkyv, then every struct with its fields in order. A test
/// compares it with `core/src/row.rs`; a change here is a new [`FORMAT_VERSION`].
pub const SCHEMA: &str = "rkyv 0.8 little_endian aligned pointer_width_32
NameColumn bytes:Vec<u8> ends:Vec<u32>
TimerColumns value_counts:Vec<u64> counts:Vec<f64> deviations:Vec<f64> uppers:Vec<f64> \
lowers:Vec<f64> sums:Vec<f64> sums_squares:Vec<f64> means:Vec<f64> medians:Vec<f64> \
thresholds:Vec<ThresholdColumns> histogram_rules:Vec<HistogramRule> \
histogram_rule_indexes:Vec<u32> bin_ends:Vec<u32> bin_counts:Vec<u64>
ThresholdColumns suffix:String is_upper:bool counts:Vec<u64> means:Vec<f64> boundaries:Vec<f64> \
sums:Vec<f64> sums_squares:Vec<f64>
HistogramRule bin_names:Vec<String>
BookColumns names:NameColumn values:Vec<f64> are_points:bool
TotalColumns names:NameColumn counts:Vec<u64>
Rows timestamp_s:u64 flush_interval_ms:u64 part_index:u32 series_count:u64 \
processing_time_ms:u64 prefix_stats:String calculated_timer_metrics:Vec<String> names:NameColumn \
counters:Vec<f64> timers:TimerColumns gauges:Vec<f64> sets:Vec<u64> books:BookColumns \
totals:TotalColumns
";

/// What the header bears for [`SCHEMA`].
pub const SCHEMA_HASH: u64 = fnv1a(SCHEMA.as_bytes());

const HEADER_CRC_OFFSET: usize = 60;

const _: () = assert!(HEADER_BYTES.is_multiple_of(BODY_ALIGNMENT));
const _: () = assert!(HEADER_CRC_OFFSET + 4 == HEADER_BYTES);

/// The header of one segment; magic and schema hash are implied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`FORMAT_VERSION`], or the one before it.
    pub format_version: u32,
    /// This part of the interval, from 0.
    pub part_index: u32,
    /// Parts of the interval.
    pub part_count: u32,
    /// End of the interval, seconds since the epoch.
    pub timestamp_s: u64,
    /// Nominal length of the interval, ms.
    pub flush_interval_ms: u64,
    /// Series in this part.
    pub row_count: u32,
    /// Length of the body.
    pub body_bytes: u64,
    /// CRC-32C of the body.
    pub body_crc: u32,
}

impl Header {
    /// The 64 bytes as they stand in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let is_version_1 = self.format_version == VERSION_1;
        let schema_hash = if is_version_1 { VERSION_1_SCHEMA_HASH } else { SCHEMA_HASH };
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.format_version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.part_index.to_le_bytes());
        bytes[16..24].copy_from_slice(&schema_hash.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.timestamp_s.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.flush_interval_ms.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.part_count.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.row_count.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc(&bytes[..HEADER_CRC_OFFSET]);
        bytes[HEADER_CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header back.
    ///
    /// # Errors
    /// In this order: [`SegmentError::NotASegment`] without the magic,
    /// [`SegmentError::HeaderChecksum`] when damaged, [`SegmentError::UnknownVersion`] and
    /// [`SegmentError::UnknownSchema`] when whole but not ours.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, SegmentError> {
        if bytes[0..8] != MAGIC {
            return Err(SegmentError::NotASegment);
        }
        let recorded = u32_at(bytes, HEADER_CRC_OFFSET);
        let computed = crc(&bytes[..HEADER_CRC_OFFSET]);
        if recorded != computed {
            return Err(SegmentError::HeaderChecksum { recorded, computed });
        }
        let version = u32_at(bytes, 8);
        let expected_hash = match version {
            FORMAT_VERSION => SCHEMA_HASH,
            VERSION_1 => VERSION_1_SCHEMA_HASH,
            _ => return Err(SegmentError::UnknownVersion { version }),
        };
        let schema_hash = u64_at(bytes, 16);
        if schema_hash != expected_hash {
            return Err(SegmentError::UnknownSchema { schema_hash });
        }
        Ok(Self {
            format_version: version,
            part_index: u32_at(bytes, 12),
            timestamp_s: u64_at(bytes, 24),
            flush_interval_ms: u64_at(bytes, 32),
            body_bytes: u64_at(bytes, 40),
            part_count: u32_at(bytes, 48),
            row_count: u32_at(bytes, 52),
            body_crc: u32_at(bytes, 56),
        })
    }
}

/// CRC-32C (Castagnoli), as in both fields of the header.
#[must_use]
pub fn crc(bytes: &[u8]) -> u32 {
    bytes.chunks(BYTES_BETWEEN).fold(0, |crc, piece| {
        give_way();
        crc32c::crc32c_append(crc, piece)
    })
}

fn u32_at(bytes: &[u8; HEADER_BYTES], offset: usize) -> u32 {
    let field = bytes[offset..].first_chunk().expect("every field ends within the header");
    u32::from_le_bytes(*field)
}

fn u64_at(bytes: &[u8; HEADER_BYTES], offset: usize) -> u64 {
    let field = bytes[offset..].first_chunk().expect("every field ends within the header");
    u64::from_le_bytes(*field)
}

/// FNV-1a with 64 bits: `const`, stable for ever, and no defence against anyone is needed.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        format_version: FORMAT_VERSION,
        part_index: 0x0102_0304,
        part_count: 0x1112_1314,
        timestamp_s: 0x2122_2324_2526_2728,
        flush_interval_ms: 0x3132_3334_3536_3738,
        row_count: 0x4142_4344,
        body_bytes: 0x5152_5354_5556_5758,
        body_crc: 0x6162_6364,
    };

    #[test]
    fn checksum_is_castagnoli() {
        assert_eq!(crc(b"123456789"), 0xE306_9283);
        assert_eq!(crc(b""), 0);
    }

    #[test]
    fn every_field_stands_where_the_table_says() {
        let bytes = HEADER.encode();
        assert_eq!(bytes.len(), 64);
        assert_eq!(bytes[0..8], *b"floe.seg");
        assert_eq!(bytes[8..12], [2, 0, 0, 0]);
        assert_eq!(bytes[12..16], [0x04, 0x03, 0x02, 0x01]);
        assert_eq!(bytes[16..24], SCHEMA_HASH.to_le_bytes());
        assert_eq!(bytes[24..32], [0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21]);
        assert_eq!(bytes[32..40], [0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31]);
        assert_eq!(bytes[40..48], [0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51]);
        assert_eq!(bytes[48..52], [0x14, 0x13, 0x12, 0x11]);
        assert_eq!(bytes[52..56], [0x44, 0x43, 0x42, 0x41]);
        assert_eq!(bytes[56..60], [0x64, 0x63, 0x62, 0x61]);
        assert_eq!(bytes[60..64], crc(&bytes[..60]).to_le_bytes());
    }

    #[test]
    fn header_survives_the_round_trip() {
        for format_version in [VERSION_1, FORMAT_VERSION] {
            let header = Header { format_version, ..HEADER };
            assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        }
    }

    #[test]
    fn another_version_is_unknown_only_while_the_checksum_holds() {
        let mut bytes = HEADER.encode();
        bytes[8] = 3;
        assert!(matches!(Header::decode(&bytes), Err(SegmentError::HeaderChecksum { .. })));
        let crc = crc(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Header::decode(&bytes), Err(SegmentError::UnknownVersion { version: 3 })));
    }

    #[test]
    fn another_schema_is_unknown() {
        let mut bytes = HEADER.encode();
        bytes[16..24].copy_from_slice(&7_u64.to_le_bytes());
        let crc = crc(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        let error = Header::decode(&bytes).unwrap_err();
        assert!(matches!(error, SegmentError::UnknownSchema { schema_hash: 7 }));
        assert!(error.is_unknown());
    }

    #[test]
    fn schema_says_what_the_row_module_declares() {
        let mut declared = String::from("rkyv 0.8 little_endian aligned pointer_width_32\n");
        let mut is_inside = false;
        for line in include_str!("../../core/src/row.rs").lines() {
            if let Some(name) = line.strip_prefix("pub struct ") {
                is_inside = true;
                declared.push_str(name.trim_end_matches(" {"));
            } else if is_inside && line == "}" {
                is_inside = false;
                declared.push('\n');
            } else if let Some(field) = line.strip_prefix("    pub ").filter(|_| is_inside) {
                declared.push(' ');
                declared.push_str(&field.trim_end_matches(',').replace(": ", ":"));
            }
        }
        assert_eq!(SCHEMA, declared);
    }

    #[test]
    fn schema_hashes_are_pinned() {
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(SCHEMA_HASH, 0x4b14_46f6_cdcb_7b26);
        let totals_of_2 =
            ["TotalColumns names:NameColumn counts:Vec<u64>\n", " totals:TotalColumns"];
        let schema_1 =
            totals_of_2.iter().fold(SCHEMA.to_owned(), |text, one| text.replace(one, ""));
        assert_eq!(VERSION_1_SCHEMA_HASH, fnv1a(schema_1.as_bytes()));
    }
}
