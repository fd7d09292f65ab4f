//! `floe segment show|verify FILE...`: segment files looked at from outside.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::anyhow;
use floe_core::row::ArchivedRows;
use floe_storage::{Header, Reader};

use super::Failure;

/// Prints header and rows of each file; goes on behind a damaged one.
pub(super) fn show(files: &[PathBuf], out: &mut dyn Write) -> Result<(), Failure> {
    let mut reader = Reader::new();
    let mut refused = 0;
    for path in files {
        writeln!(out, "{}", path.display()).map_err(Failure::failed)?;
        match reader.read(path) {
            Ok(segment) => {
                show_header(&segment.header, out).map_err(Failure::failed)?;
                show_rows(segment.rows, out).map_err(Failure::failed)?;
            }
            Err(error) => {
                refused += 1;
                writeln!(out, "  not readable: {error}").map_err(Failure::failed)?;
            }
        }
    }
    outcome(refused, files.len())
}

/// Checks each file as the exporter would, and says so.
pub(super) fn verify(files: &[PathBuf], out: &mut dyn Write) -> Result<(), Failure> {
    let mut reader = Reader::new();
    let mut refused = 0;
    for path in files {
        let result = match reader.read(path) {
            Ok(segment) => {
                let Header { row_count, body_bytes, .. } = segment.header;
                writeln!(out, "{}: whole, {row_count} rows, {body_bytes} bytes", path.display())
            }
            Err(error) => {
                refused += 1;
                writeln!(out, "{}: refused: {error}", path.display())
            }
        };
        result.map_err(Failure::failed)?;
    }
    outcome(refused, files.len())
}

fn outcome(refused: usize, files: usize) -> Result<(), Failure> {
    if refused == 0 {
        return Ok(());
    }
    Err(Failure::failed(anyhow!("{refused} of {files} segment files refused")))
}

fn show_header(header: &Header, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  timestamp       {} s", header.timestamp_s)?;
    writeln!(out, "  flush interval  {} ms", header.flush_interval_ms)?;
    writeln!(out, "  part            {} of {}", header.part_index + 1, header.part_count)?;
    writeln!(out, "  rows            {}", header.row_count)?;
    writeln!(out, "  body            {} bytes, crc32c {:08x}", header.body_bytes, header.body_crc)
}

fn show_rows(rows: &ArchivedRows, out: &mut dyn Write) -> io::Result<()> {
    let name = |row: usize| {
        let bytes = rows.names.name(row).unwrap_or_default();
        String::from_utf8_lossy(bytes).escape_debug().to_string()
    };
    let mut row = 0;
    for total in rows.counters.iter() {
        writeln!(out, "  counter  {}  {}", name(row), total.to_native())?;
        row += 1;
    }
    let timers = &rows.timers;
    for (count, (lower, upper)) in
        timers.counts.iter().zip(timers.lowers.iter().zip(timers.uppers.iter()))
    {
        let (count, lower, upper) = (count.to_native(), lower.to_native(), upper.to_native());
        writeln!(out, "  timer    {}  count {count}, {lower} to {upper}", name(row))?;
        row += 1;
    }
    for value in rows.gauges.iter() {
        writeln!(out, "  gauge    {}  {}", name(row), value.to_native())?;
        row += 1;
    }
    for count in rows.sets.iter() {
        writeln!(out, "  set      {}  {}", name(row), count.to_native())?;
        row += 1;
    }
    for (entry, value) in rows.books.values.iter().enumerate() {
        let bytes = rows.books.names.name(entry).unwrap_or_default();
        let name = String::from_utf8_lossy(bytes);
        writeln!(out, "  book     {name}  {}", value.to_native())?;
    }
    for (name, count) in rows.totals.to_map() {
        writeln!(out, "  total    {name}  {count}")?;
    }
    Ok(())
}
