//! The face of the daemon beside its data: the admin port.

/// The admin interface on `mgmt_port`.
pub mod console;
