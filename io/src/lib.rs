//! floe at its sockets: rings, ingestion, the coordinator, exporters.

/// The only place that reads clocks.
pub mod clock;
/// Segments of the spool become points at a Carbon.
pub mod export;
