//! Settings: read from text, checked once, trusted everywhere.

/// The checked settings.
pub mod settings;
