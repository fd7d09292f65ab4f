//! The face of the daemon beside its data: today the admin port.

/// The admin interface on `mgmt_port`.
pub mod console;
