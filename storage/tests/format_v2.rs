//! Claim: version 2 of the format is what its fixtures are, version 1 is still read, and the reader refuses everything else.
//! Method: the bytes of one golden segment are pinned and must be written and read as ever; single
//! bits of it are flipped, all headers bit by bit, bodies at random.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fs;

use floe_core::row::{ArchivedRows, NameColumn, Rows, TotalColumns};
use floe_storage::format::{self, HEADER_BYTES};
use floe_storage::{ColumnsError, EncodeError, Reader, SegmentError, Writer};
use proptest::prelude::*;
use support::{rows, seal};

/// `support::rows(1_700_000_000)` as format version 2 has it.
const GOLDEN: &[u8] =
    include_bytes!("../fixtures/v2/01700000000-01700000000123-000000000000-00000.seg");

/// The same as format version 1 had it, without totals.
const GOLDEN_V1: &[u8] =
    include_bytes!("../fixtures/v1/01700000000-01700000000123-000000000000-00000.seg");

fn read_bytes(bytes: &[u8]) -> Result<Rows, SegmentError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("any name");
    fs::write(&path, bytes).unwrap();
    Reader::new().read(&path).map(|segment| to_rows(segment.rows))
}

fn to_rows(rows: &ArchivedRows) -> Rows {
    rkyv::deserialize::<Rows, rkyv::rancor::Error>(rows).unwrap()
}

/// A golden segment with another body, checksums made right.
fn with_body(golden: &[u8], body: &[u8]) -> Vec<u8> {
    let mut file = golden[..HEADER_BYTES].to_vec();
    file.extend_from_slice(body);
    file[40..48].copy_from_slice(&(body.len() as u64).to_le_bytes());
    file[56..60].copy_from_slice(&format::crc(body).to_le_bytes());
    seal(&mut file);
    file
}

/// The bytes of a body that the writer would refuse.
fn body_of(rows: &Rows) -> Vec<u8> {
    rkyv::to_bytes::<rkyv::rancor::Error>(rows).unwrap().to_vec()
}

#[test]
fn golden_segment_is_written_as_ever() {
    let mut writer = Writer::new();
    let expected = rows(1_700_000_000);
    assert_eq!(writer.encode(&expected, 1).unwrap(), GOLDEN);
}

#[test]
fn golden_segment_stays_readable() {
    assert_eq!(read_bytes(GOLDEN).unwrap(), rows(1_700_000_000));
}

#[test]
fn golden_segment_of_version_1_stays_readable() {
    let expected = Rows { totals: TotalColumns::default(), ..rows(1_700_000_000) };
    let directory = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
    fs::write(&old, GOLDEN_V1).unwrap();
    fs::write(&new, GOLDEN).unwrap();
    let mut reader = Reader::new();
    for _ in 0..2 {
        let segment = reader.read(&old).unwrap();
        assert_eq!((segment.header.format_version, to_rows(segment.rows)), (1, expected.clone()));
        let segment = reader.read(&new).unwrap();
        assert_eq!(
            (segment.header.format_version, to_rows(segment.rows)),
            (2, rows(1_700_000_000))
        );
    }
}

#[test]
fn header_of_the_golden_segment_tells_its_numbers() {
    let header = floe_storage::Header::decode(GOLDEN.first_chunk().unwrap()).unwrap();
    assert_eq!(header.timestamp_s, 1_700_000_000);
    assert_eq!(header.flush_interval_ms, 10_000);
    assert_eq!((header.part_index, header.part_count), (0, 1));
    assert_eq!(header.row_count, 5);
    assert_eq!(header.body_bytes, (GOLDEN.len() - HEADER_BYTES) as u64);
    assert_eq!(header.body_crc, format::crc(&GOLDEN[HEADER_BYTES..]));
}

#[test]
fn writer_and_reader_are_reused_from_large_to_small() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let (mut writer, mut reader) = (Writer::new(), Reader::new());
    let mut large = Rows { timestamp_s: 1, ..Rows::default() };
    for index in 0..10_000 {
        large.names.push(format!("counter.{index}").as_bytes());
        large.counters.push(f64::from(index));
    }
    for expected in [rows(1), large, rows(2), Rows::default()] {
        fs::write(&path, writer.encode(&expected, 1).unwrap()).unwrap();
        assert_eq!(to_rows(reader.read(&path).unwrap().rows), expected);
    }
}

#[test]
fn every_flipped_bit_of_the_header_is_refused() {
    for bit in 0..HEADER_BYTES * 8 {
        let mut file = GOLDEN.to_vec();
        file[bit / 8] ^= 1 << (bit % 8);
        let error = read_bytes(&file).unwrap_err();
        assert!(error.is_damage(), "bit {bit}: {error}");
    }
}

proptest! {
    #[test]
    fn any_flipped_bit_is_refused(bit in 0..GOLDEN.len() * 8) {
        let mut file = GOLDEN.to_vec();
        file[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read_bytes(&file).unwrap_err().is_damage());
    }

    #[test]
    fn any_flipped_bit_of_version_1_is_refused(bit in 0..GOLDEN_V1.len() * 8) {
        let mut file = GOLDEN_V1.to_vec();
        file[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read_bytes(&file).unwrap_err().is_damage());
    }

    #[test]
    fn any_other_length_is_refused(length in 0..2 * GOLDEN.len()) {
        prop_assume!(length != GOLDEN.len());
        let mut file = GOLDEN.to_vec();
        file.resize(length, 0);
        prop_assert!(read_bytes(&file).unwrap_err().is_damage());
    }

    // A body whose checksum holds is still not trusted: whoever writes one cannot crash a reader.
    #[test]
    fn any_forged_body_is_read_or_refused(
        golden in prop::sample::select(vec![GOLDEN_V1, GOLDEN]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut body = golden[HEADER_BYTES..].to_vec();
        for (offset, byte) in changes {
            let offset = offset.index(body.len());
            body[offset] = byte;
        }
        match read_bytes(&with_body(golden, &body)) {
            Ok(rows) => prop_assert_eq!(rows.names.len(), rows.row_count()),
            Err(error) => prop_assert!(error.is_damage()),
        }
    }
}

#[test]
fn length_is_checked_before_memory_is_asked_for() {
    let mut file = GOLDEN.to_vec();
    file[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
    seal(&mut file);
    let error = read_bytes(&file).unwrap_err();
    assert!(matches!(error, SegmentError::Length { body_bytes: u64::MAX, .. }), "{error}");
}

#[test]
fn file_above_the_limit_of_a_part_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let mut header = GOLDEN[..HEADER_BYTES].to_vec();
    let body_bytes = (64_u64 << 20) + 1;
    header[40..48].copy_from_slice(&body_bytes.to_le_bytes());
    seal(&mut header);
    fs::write(&path, &header).unwrap();
    // A hole: no bytes are written.
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(64 + body_bytes).unwrap();
    let error = Reader::new().read(&path).unwrap_err();
    assert!(matches!(error, SegmentError::Length { .. }), "{error}");
}

#[test]
fn header_that_contradicts_its_body_is_refused() {
    for (offset, field) in
        [(12, "part index"), (24, "timestamp"), (32, "flush interval"), (52, "row count")]
    {
        let mut file = GOLDEN.to_vec();
        file[offset] ^= 1;
        seal(&mut file);
        let error = read_bytes(&file).unwrap_err();
        let SegmentError::Disagreement { field: found } = error else { panic!("{error}") };
        assert_eq!(found, field);
    }
}

/// One broken invariant of the columns, and what is said about it.
type Breakage = (fn(&mut Rows), ColumnsError);

fn length(column: &'static str, found: usize, expected: usize) -> ColumnsError {
    ColumnsError::Length { column, found, expected }
}

fn breakages() -> Vec<Breakage> {
    vec![
        (|rows| rows.counters.push(1.0), length("names", 5, 6)),
        (|rows| _ = rows.gauges.pop(), length("names", 5, 4)),
        (|rows| _ = rows.timers.counts.pop(), length("timer counts", 1, 2)),
        (|rows| _ = rows.timers.deviations.pop(), length("timer deviations", 1, 2)),
        (|rows| _ = rows.timers.uppers.pop(), length("timer uppers", 1, 2)),
        (|rows| _ = rows.timers.lowers.pop(), length("timer lowers", 1, 2)),
        (|rows| _ = rows.timers.sums.pop(), length("timer sums", 1, 2)),
        (|rows| rows.timers.sums_squares.push(0.0), length("timer sums_squares", 3, 2)),
        (|rows| rows.timers.means.clear(), length("timer means", 0, 2)),
        (|rows| rows.timers.medians.clear(), length("timer medians", 0, 2)),
        (|rows| rows.timers.bin_ends.clear(), length("timer bin_ends", 0, 2)),
        (
            |rows| rows.timers.histogram_rule_indexes.clear(),
            length("timer histogram_rule_indexes", 0, 2),
        ),
        (|rows| rows.timers.thresholds[0].counts.clear(), length("threshold counts", 0, 2)),
        (|rows| rows.timers.thresholds[0].means.clear(), length("threshold means", 0, 2)),
        (|rows| rows.timers.thresholds[0].boundaries.clear(), length("threshold boundaries", 0, 2)),
        (|rows| rows.timers.thresholds[0].sums.clear(), length("threshold sums", 0, 2)),
        (
            |rows| rows.timers.thresholds[0].sums_squares.clear(),
            length("threshold sums_squares", 0, 2),
        ),
        (|rows| rows.books.values.clear(), length("books", 0, 2)),
        (|rows| rows.totals.counts.clear(), length("totals", 0, 2)),
        (|rows| rows.names.ends.swap(1, 2), ColumnsError::Offsets { column: "names" }),
        (|rows| rows.names.bytes.push(b'x'), ColumnsError::Offsets { column: "names" }),
        (|rows| rows.names.ends[4] = u32::MAX, ColumnsError::Offsets { column: "names" }),
        (|rows| rows.books.names.bytes.clear(), ColumnsError::Offsets { column: "books" }),
        (|rows| rows.totals.names.bytes.clear(), ColumnsError::Offsets { column: "totals" }),
        (|rows| rows.timers.bin_ends[0] = 3, ColumnsError::Offsets { column: "timer bin_ends" }),
        (|rows| rows.timers.histogram_rule_indexes[1] = 2, ColumnsError::HistogramRule { row: 1 }),
        (|rows| rows.timers.bin_ends[0] = 1, ColumnsError::HistogramRule { row: 0 }),
        (
            |rows| _ = rows.timers.histogram_rules[0].bin_names.pop(),
            ColumnsError::HistogramRule { row: 1 },
        ),
    ]
}

#[test]
fn columns_that_do_not_fit_are_never_written() {
    for (break_it, expected) in breakages() {
        let mut rows = rows(1_700_000_000);
        break_it(&mut rows);
        let error = Writer::new().encode(&rows, 1).unwrap_err();
        let EncodeError::Columns(found) = error else { panic!("{error}") };
        assert_eq!(found, expected);
    }
}

#[test]
fn columns_that_do_not_fit_are_never_read() {
    for (break_it, expected) in breakages() {
        let mut rows = rows(1_700_000_000);
        break_it(&mut rows);
        let error = read_bytes(&with_body(GOLDEN, &body_of(&rows))).unwrap_err();
        let SegmentError::Columns(found) = error else { panic!("{error}") };
        assert_eq!(found, expected);
    }
}

#[test]
fn part_above_64_mebibytes_is_refused() {
    let mut names = NameColumn::default();
    let name = [b'n'; 1 << 16];
    for _ in 0..1024 {
        names.push(&name);
    }
    let rows = Rows { counters: vec![0.0; names.len()], names, ..Rows::default() };
    let error = Writer::new().encode(&rows, 1).unwrap_err();
    assert!(matches!(error, EncodeError::TooLarge { bytes } if bytes > 64 << 20), "{error}");
}

#[test]
fn missing_file_has_vanished() {
    let directory = tempfile::tempdir().unwrap();
    let error = Reader::new().read(&directory.path().join("gone")).unwrap_err();
    assert!(error.is_vanished());
}
