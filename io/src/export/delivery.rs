//! One attempt at one segment: its points, formatted and sent over one connection.
//!
//! The payload is never in memory as a whole: it is formatted in chunks, each written before the
//! next is made. Nothing here decides about retries; that is `super::backend`.

use floe_core::config::settings::{BackendSettings, Protocol};
use floe_core::give_way::give_way;
use floe_core::namespace::Namespace;
use floe_core::point::for_each_point;
use floe_core::row::ArchivedRows;
use floe_storage::CrashPoint;

use super::accounts::{LinkState, Reading, Told};
use super::carbon_line::LineBuffer;
use super::carbon_pickle::FrameBuffer;
use super::connection::{Awaited, Connection, Delivery};
use super::error::ExportError;
use super::exporter::OwnBooks;
use super::name_filter::PointTally;
use crate::clock::monotonic_ns;

/// Bytes formatted between two writes.
const CHUNK_BYTES: usize = 256 << 10;

/// How points are written for one backend.
#[derive(Debug)]
pub(crate) struct Format {
    /// Word in `<prefixStats>.floe.backend.<name>.`.
    pub(crate) backend: String,
    pub(crate) protocol: Protocol,
    pub(crate) namespace: Namespace,
    /// Who makes points of this backend's accounts.
    pub(crate) own_books: OwnBooks,
}

/// What the exporter itself has to say in a segment's name: its link and its books, as they stood at
/// the first attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnPoints {
    pub(crate) link: LinkState,
    /// The accounts, and as they were when points were last made of them.
    pub(crate) books: (Reading, Reading),
    /// How long the formatting took that was first done to its end, ms.
    pub(crate) formatting_ms: Option<u64>,
}

/// One attempt: how it ended, and what it had written by then.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) result: Result<Delivery, ExportError>,
    pub(crate) tally: PointTally,
    pub(crate) bytes: u64,
}

/// The last chunk, which of most segments is the only one; in debug builds by halves, so that a crash
/// can come in between.
fn write_last(connection: &mut Connection<'_>, bytes: &[u8]) -> Result<(), ExportError> {
    let half = if cfg!(debug_assertions) { bytes.len() / 2 } else { 0 };
    let (first, second) = bytes.split_at(half);
    connection.write_all(first)?;
    CrashPoint::SentHalf.reach();
    connection.write_all(second)
}

/// Either output buffer.
enum Payload {
    Text(LineBuffer),
    Pickle(FrameBuffer),
}

impl Payload {
    fn new(protocol: Protocol, timestamp_s: u64) -> Self {
        match protocol {
            Protocol::Text => Self::Text(LineBuffer::new(timestamp_s)),
            Protocol::Pickle => Self::Pickle(FrameBuffer::new(timestamp_s)),
        }
    }

    #[inline]
    fn push(&mut self, name: &[u8], value: f64) {
        match self {
            Self::Text(lines) => lines.push(name, value),
            Self::Pickle(frames) => frames.push(name, value),
        }
    }

    fn close(&mut self) {
        if let Self::Pickle(frames) = self {
            frames.close_frame();
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(lines) => lines.as_bytes(),
            Self::Pickle(frames) => frames.as_bytes(),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Text(lines) => lines.clear(),
            Self::Pickle(frames) => frames.clear(),
        }
    }

    fn tally(&self) -> PointTally {
        match self {
            Self::Text(lines) => lines.tally(),
            Self::Pickle(frames) => frames.tally(),
        }
    }
}

impl Format {
    pub(crate) fn new(settings: &BackendSettings, own_books: OwnBooks) -> Self {
        Self {
            backend: settings.name.clone(),
            protocol: settings.protocol,
            namespace: Namespace::new(&settings.namespace),
            own_books,
        }
    }

    /// Sends all points of `rows` and waits for what `awaited` says.
    ///
    /// `own`: the exporter's own points, behind those of the segment and with its timestamp; part 0
    /// carries them, unless an earlier run may have sent others.
    pub(crate) fn deliver(
        &self,
        rows: &ArchivedRows,
        own: Option<&mut OwnPoints>,
        mut connection: Connection<'_>,
        awaited: Awaited,
    ) -> Attempt {
        let mut payload = Payload::new(self.protocol, rows.timestamp_s.to_native());
        let start_ns = monotonic_ns();
        let mut written_ns = 0;
        let mut result = Ok(());
        for_each_point(rows, &self.namespace, |name, value| {
            // After a failure the rest is skipped: the segment is sent again as a whole.
            if result.is_err() {
                return;
            }
            payload.push(name, value);
            if CHUNK_BYTES <= payload.as_bytes().len() {
                let write_ns = monotonic_ns();
                result = connection.write_all(payload.as_bytes());
                give_way();
                payload.clear();
                written_ns += monotonic_ns() - write_ns;
            }
        });
        if result.is_ok()
            && let Some(own) = own
        {
            let formatting_ns = (monotonic_ns() - start_ns).saturating_sub(written_ns);
            let formatting_ms = *own.formatting_ms.get_or_insert(formatting_ns / 1_000_000);
            self.push_own(rows, own, formatting_ms, &mut payload);
        }
        payload.close();
        let result = result.and_then(|()| write_last(&mut connection, payload.as_bytes()));
        let (tally, bytes) = (payload.tally(), connection.sent_bytes());
        Attempt { result: result.and_then(|()| connection.finish(awaited)), tally, bytes }
    }

    /// `graphiteStats`, and the accounts where books are points.
    #[expect(clippy::cast_precision_loss, reason = "Graphite's values are doubles")]
    fn push_own(
        &self,
        rows: &ArchivedRows,
        own: &OwnPoints,
        formatting_ms: u64,
        payload: &mut Payload,
    ) {
        let prefix_stats = rows.prefix_stats.as_str();
        let names = self.namespace.graphite_stats_names(prefix_stats);
        for (name, value) in [
            (names.calculation_time, formatting_ms),
            (names.last_exception, own.link.last_exception_s),
            (names.last_flush, own.link.last_flush_s),
            (names.flush_time, own.link.flush_time_ms),
            (names.flush_length, own.link.flush_length_bytes),
        ] {
            payload.push(&name, value as f64);
        }
        if !rows.books.are_points || self.own_books == OwnBooks::InSegments {
            return;
        }
        let mut name = Vec::new();
        for (word, difference) in own.books.0.since(&own.books.1, Told::Delivery) {
            let book = format!("floe.backend.{}.{word}", self.backend);
            self.namespace.internal_name(prefix_stats, book.as_bytes(), &mut name);
            payload.push(&name, difference as f64);
        }
    }
}
