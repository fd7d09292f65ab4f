//! Tags: from the line to the name that Carbon reads.
//!
//! Whoever chooses a key and its tags can neither leave the name space of the configuration nor make a
//! name that Carbon's index cannot take apart.

use floe_core::config::settings::{LegacyNamespace, NamespaceSettings};
use floe_core::limits::DATAGRAM_BYTES_MAX;
use floe_core::line::LineParser;
use floe_core::namespace::Namespace;
use floe_core::point::for_each_point;
use floe_core::row::{ArchivedRows, NameColumn, Rows};
use floe_io::export::carbon_line::LineBuffer;
use floe_storage::Writer;
use floe_storage::format::HEADER_BYTES;
use rkyv::rancor;
use rkyv::util::AlignedVec;

use super::{Reader, Target, claim, equal, parse_datagram};
use crate::carbon::{read_lines, read_series};
use crate::line_model::Found;
use crate::line_model::{model, parse};

/// The tag grammar is the datagram's; the corpus makes the difference.
pub(super) const TARGET: Target = Target {
    name: "tags",
    about: "a tagged key is a series that Carbon can take apart, under the configured prefix",
    grammar: parse_datagram::GRAMMAR,
    reader: || Box::new(Tags::new()),
};

struct Tags {
    parsers: [(bool, LineParser); 2],
    namespaces: [Namespace; 2],
    writer: Writer,
}

impl Tags {
    fn new() -> Self {
        let other = NamespaceSettings {
            legacy: LegacyNamespace::New,
            global_suffix: "suffix".to_owned(),
            ..NamespaceSettings::default()
        };
        Self {
            parsers: [(true, LineParser::new(true)), (false, LineParser::new(false))],
            namespaces: [Namespace::new(&NamespaceSettings::default()), Namespace::new(&other)],
            writer: Writer::new(),
        }
    }

    /// Ships a gauge of each key as an exporter does, and reads it as Carbon does.
    fn check_names(&mut self, keys: &[Vec<u8>]) -> Result<(), String> {
        let mut names = NameColumn::default();
        keys.iter().for_each(|key| names.push(key));
        let rows = Rows {
            timestamp_s: 1,
            flush_interval_ms: 10_000,
            part_index: 1,
            series_count: keys.len() as u64,
            names,
            gauges: vec![1.0; keys.len()],
            ..Rows::default()
        };
        let Ok(bytes) = self.writer.encode(&rows, 2) else { return Ok(()) };
        let mut body = AlignedVec::<16>::new();
        body.extend_from_slice(&bytes[HEADER_BYTES..]);
        let rows = rkyv::access::<ArchivedRows, rancor::Error>(&body)
            .map_err(|error| error.to_string())?;
        for namespace in &self.namespaces {
            let mut lines = LineBuffer::new(1);
            for_each_point(rows, namespace, |name, value| lines.push(name, value));
            let points = read_lines(lines.as_bytes())?;
            equal("points", &(points.len() as u64), &lines.tally().written)?;
            for point in points {
                let (metric, tags) = read_series(&point.name)?;
                claim(metric.starts_with("stats.gauges."), || {
                    format!("{metric:?} left its place")
                })?;
                let semicolons = point.name.matches(';').count();
                equal("tags", &tags.len(), &semicolons)?;
            }
        }
        Ok(())
    }
}

impl Reader for Tags {
    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let lines = &input[..input.len().min(DATAGRAM_BYTES_MAX)];
        let mut keys = Vec::new();
        for (sanitize, parser) in &mut self.parsers {
            let (found, tally) = parse(parser, lines, 0);
            equal("lines with tags", &(&found, tally), &(&model(*sanitize, lines).0, tally))?;
            for found in found {
                match found {
                    Found::Counter { key, .. }
                    | Found::Timer { key, .. }
                    | Found::Gauge { key, .. }
                    | Found::Set { key, .. } => keys.push(key),
                    Found::Reject { .. } => {}
                }
            }
        }
        let has_newline = keys.iter().any(|key| key.contains(&b'\n'));
        claim(!has_newline, || "a key of two lines".to_owned())?;
        // A datagram of colons is tens of thousands of values of one key.
        keys.dedup();
        self.check_names(&keys)
    }
}
