//! Exporters: segments of the spool become points at a Carbon.
//!
//! The last leg of the flow. Each backend has a thread of its own that reads its queue in the
//! spool, and nothing else: worker memory is out of reach from here.

/// All backends of a spool.
pub mod exporter;
mod backend;
mod delivery;
mod source;
/// What Carbon may see of a name.
pub mod name_filter;
/// Carbon's plaintext protocol.
pub mod carbon_line;
/// Carbon's pickle protocol.
pub mod carbon_pickle;
/// The console backend: flushes printed to stdout.
pub mod console;
pub(crate) mod resolver;
mod connection;
pub(crate) mod pace;
mod stop;
/// Why a segment was not delivered.
pub mod error;
mod departures;
mod sync;
/// The accounts of one backend.
pub mod accounts;
/// The accounts of all backends.
pub mod registry;

pub use accounts::BackendAccounts;
pub use error::{ExportError, Fault};
pub use exporter::{Exporter, StartError};
