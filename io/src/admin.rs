//! The face of the daemon beside its data: the admin console, and the control socket in the spool.
//!
//! `console` has the port and its connections, `connection` is one of them, `command` cuts what it
//! sends into commands, `reply` writes what it gets, `asking` is the way to the coordinator, and
//! `face` is what the console knows by itself. `control` answers commands of the daemon's own user.

mod asking;
/// Bytes of a connection become commands.
pub mod command;
mod connection;
/// The admin console on `mgmt_port`.
pub mod console;
/// What the console shows without asking anybody.
pub mod face;
mod reply;
/// What the daemon answers to commands of its own user.
pub mod control;
